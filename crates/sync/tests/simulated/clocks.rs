//! Hosts whose clocks differ, and clocks that jump: nothing that is decided depends on them.

use std::time::Duration;

use syncline_model::Side;
use syncline_model::fold::Folding;
use syncline_store::Disk;
use syncline_sync::{Event, Options};

use crate::world::World;

const HOUR: i64 = 3600;

fn apart(left: i64, right: i64) -> World {
    let world = World::new(Folding::default(), Folding::default());
    world.shift(Side::Left, left);
    world.shift(Side::Right, right);
    world
}

/// Edits travel both ways, and what both edited is kept twice, whichever clock is ahead.
fn lives(world: &World) {
    for (name, text) in [("here", "1"), ("there", "1"), ("both", "1"), ("gone", "1")] {
        world.write(Side::Left, name, text);
    }
    world.sync(0);
    world.write(Side::Left, "here", "2");
    world.write(Side::Right, "there", "2");
    world.write(Side::Left, "both", "left");
    world.write(Side::Right, "both", "right");
    world.remove(Side::Right, "gone");
    world.sync(1);
    assert_eq!(world.look(Side::Left), world.look(Side::Right));
    let found = world.look(Side::Left);
    assert_eq!((found["here"].as_str(), found["there"].as_str()), ("2", "2"));
    assert!(!found.contains_key("gone"));
    let mut both: Vec<_> = found
        .iter()
        .filter(|(name, _)| name.starts_with("both"))
        .map(|(_, text)| text.as_str())
        .collect();
    both.sort_unstable();
    assert_eq!(both, ["left", "right"]);
    let said = world.sync(1);
    assert!(said.steps.is_empty(), "{:?}", said.steps);
}

#[test]
fn s10_clocks_that_differ_by_an_hour_decide_nothing() {
    for (left, right) in [(0, 0), (HOUR, 0), (0, HOUR), (-HOUR, 0), (0, -HOUR)] {
        lives(&apart(left, right));
    }
}

#[test]
fn s10_a_clock_that_jumps_decides_nothing() {
    for side in Side::BOTH {
        for jump in [HOUR, -HOUR] {
            let world = apart(0, 0);
            world.write(Side::Left, "text", "one");
            world.sync(0);
            world.shift(side, jump);
            // The newest edit bears the oldest time, or one in the future; it goes over all the same.
            for (on, text) in [(side, "two"), (side.other(), "six"), (side, "ten")] {
                world.write(on, "text", text);
                world.sync(0);
                for at in Side::BOTH {
                    world.assert_looks(at, &[("text", text)]);
                }
                world.pass(Duration::from_secs(1));
            }
            // It jumps back, and the same length and moment come again.
            world.shift(side, -jump);
            world.write(side, "text", "end");
            world.sync(0);
            world.assert_looks(side.other(), &[("text", "end")]);
            world.assert_settled();
        }
    }
}

/// The same while a plan is made: what it saw in that very moment is proof of nothing, however much later it is carried out.
#[test]
fn s22_s28_what_is_rewritten_within_a_tick_of_a_plans_look_is_seen_by_the_next_run() {
    let world = apart(0, 0);
    for side in Side::BOTH {
        world.disks[side].granularity(Duration::from_millis(10));
        world.write(side, "text", "old");
    }
    world.sync(0);
    world.write(Side::Left, "another", "goes over");
    let stamp = || {
        let raw = world.raw(Side::Left);
        let stat = raw.stat(&raw.top(), b"text").unwrap();
        (stat.inode, stat.size, stat.mtime, stat.ctime)
    };
    let met = std::sync::atomic::AtomicBool::new(false);
    let (report, _) = world.planned_while(&|event| match event {
        Event::Phase("scanning") => {
            Side::BOTH
                .iter()
                .for_each(|&side| world.write(side, "text", "new"));
        }
        Event::Step(step) if step.change.path.as_bytes() == b"another" => {
            let seen = stamp();
            let raw = world.raw(Side::Left);
            let file = raw.open(&raw.top(), b"text", false).unwrap();
            raw.write(&file, 0, b"wow").unwrap();
            assert_eq!(stamp(), seen, "the clock moved on: this shows nothing");
            met.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        _ => {}
    });
    assert_eq!(u8::from(report.exit), 0, "{report:?}");
    assert!(met.into_inner());
    world.assert_looks(Side::Right, &[("another", "goes over"), ("text", "new")]);
    world.sync(0);
    world.assert_looks(Side::Right, &[("another", "goes over"), ("text", "wow")]);
    world.assert_settled();
}

/// A file system's clock moves in steps. What is written in the very step in which the run looks bears the time of what it saw.
#[test]
fn s28_what_is_rewritten_within_a_tick_of_the_look_is_seen_by_the_next_run() {
    let world = apart(0, 0);
    for side in Side::BOTH {
        world.disks[side].granularity(Duration::from_millis(10));
        world.write(side, "text", "old");
    }
    world.write(Side::Left, "another", "goes over");
    world.sync(0);
    let met = std::sync::atomic::AtomicBool::new(false);
    let stamp = || {
        let raw = world.raw(Side::Left);
        let stat = raw.stat(&raw.top(), b"text").unwrap();
        (stat.inode, stat.size, stat.mtime, stat.ctime)
    };
    // Both got the same bytes; the run takes them for agreed, and one is rewritten where it stands before its clock moves on.
    let (report, _) = world.run_while(&Options::default(), &|event| match event {
        Event::Phase("scanning") => {
            Side::BOTH
                .iter()
                .for_each(|&side| world.write(side, "text", "new"));
        }
        Event::Planned { .. } => {
            let seen = stamp();
            let raw = world.raw(Side::Left);
            let file = raw.open(&raw.top(), b"text", false).unwrap();
            raw.write(&file, 0, b"wow").unwrap();
            assert_eq!(stamp(), seen, "the clock moved on: this shows nothing");
            met.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        _ => {}
    });
    assert_eq!(u8::from(report.exit), 0, "{report:?}");
    assert!(met.into_inner());
    world.assert_looks(Side::Right, &[("another", "goes over"), ("text", "new")]);
    world.sync(0);
    world.assert_looks(Side::Right, &[("another", "goes over"), ("text", "wow")]);
    world.assert_settled();
}

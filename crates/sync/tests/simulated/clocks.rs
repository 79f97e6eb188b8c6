//! Hosts whose clocks differ, and clocks that jump: nothing that is decided depends on them.

use std::time::Duration;

use syncline_model::Side;
use syncline_model::fold::Folding;

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

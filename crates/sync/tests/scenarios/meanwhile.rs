//! What others do while a run is under way, and runs that are cut short.

#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use syncline_model::Kind;
use syncline_sync::{Event, Monitor, Options, Stop};

use crate::world::{World, session_over};

#[test]
fn s24_a_lock_left_by_a_dead_process_is_no_lock() {
    let world = World::synced(&[("a", "1")]);
    std::fs::write(world.beside("state/lock"), "").unwrap();
    std::fs::write(world.beside("state/holder"), "run 0, process 1").unwrap();
    std::fs::write(world.left.at(".syncline/lock"), "").unwrap();
    world.assert_settled();
}

#[test]
fn s25_a_second_run_is_refused_and_says_by_whom() {
    let world = World::synced(&[("a", "1")]);
    world.left.write("a", "2, edited");
    let (left, right, state) = (world.left.0.clone(), world.right.0.clone(), world.beside("state"));
    let (table, env) = (world.table.clone(), world.env.clone());
    let refused = Arc::new(AtomicBool::new(false));
    let seen = refused.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("copying") = event {
            let other = session_over(&left, &right, &state, Arc::new(table.clone()), &env);
            let watch = Silent;
            let run = other.run_blocking(&watch);
            let fault = run.expect_err("a second run began");
            assert!(fault.is(Kind::Busy), "{fault:?}");
            assert!(
                fault.to_string().contains(&std::process::id().to_string()),
                "{fault}"
            );
            seen.store(true, Ordering::Relaxed);
        }
    });
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert!(refused.load(Ordering::Relaxed), "the second run was never tried");
    world.assert_settled();
}

struct Silent;
impl syncline_sync::Monitor for Silent {
    fn event(&self, _event: Event<'_>) {}
}

trait RunBlocking {
    fn run_blocking(&self, watch: &Silent) -> syncline_model::Result<syncline_sync::Report>;
}

impl RunBlocking for syncline_sync::Session {
    fn run_blocking(&self, watch: &Silent) -> syncline_model::Result<syncline_sync::Report> {
        futures::executor::block_on(self.run("sync", &Options::default(), watch, &Stop::default()))
    }
}

#[test]
fn s27_an_edit_between_scan_and_apply_survives() {
    let world = World::synced(&[("a", "1"), ("b", "1"), ("c", "1"), ("d/e", "1")]);
    world.left.write("a", "2 by left");
    world.left.remove("b");
    world.left.write("c", "2 by left, too");
    world.left.remove("d");
    world.left.write("new", "new on the left");
    let (left, right) = (world.left.clone(), world.right.clone());
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("copying") = event {
            right.write("a", "3 by right, meanwhile");
            right.write("b", "3 by right, meanwhile!");
            left.write("c", "4 by left, while it was to be copied");
            right.write("d/late", "made meanwhile");
            right.write("new", "another new one, on the right");
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    for text in [
        "2 by left",
        "3 by right, meanwhile",
        "3 by right, meanwhile!",
        "4 by left, while it was to be copied",
        "made meanwhile",
        "new on the left",
        "another new one, on the right",
    ] {
        let held = world.left.names_of(text.as_bytes()).len() + world.right.names_of(text.as_bytes()).len();
        assert!(held > 0, "{text:?} is gone");
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(world.right.read("c"), b"4 by left, while it was to be copied");
    assert_eq!(world.left.read("d/late"), b"made meanwhile");
    world.assert_settled();
}

/// Only the time of status change tells of such an edit: an editor in place, a tool that puts the time back.
#[test]
fn s27_an_edit_that_keeps_length_and_time_survives_between_scan_and_apply() {
    let world = World::synced(&[("a", "1111"), ("b", "1111"), ("keep", "1")]);
    world.left.write("a", "2222, by left");
    world.left.remove("b");
    let right = world.right.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("copying") = event {
            right.rewrite("a", "3333");
            right.rewrite("b", "4444");
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    assert_eq!(
        (world.right.read("a"), world.right.read("b")),
        (b"3333".to_vec(), b"4444".to_vec()),
        "an edit was overwritten"
    );
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    for text in ["2222, by left", "3333", "4444"] {
        assert_eq!(world.left.names_of(text.as_bytes()).len(), 1, "{text:?}");
        assert_eq!(world.right.names_of(text.as_bytes()).len(), 1, "{text:?}");
    }
    assert_eq!(world.left.read("b"), b"4444");
}

/// Bytes that come while only attributes are set are no part of what was agreed on.
#[test]
fn s27_an_edit_between_scan_and_a_change_of_attributes_travels() {
    let world = World::synced(&[("a", "1"), ("b", "1"), ("keep", "1")]);
    world.left.chmod("a", 0o600);
    world.left.set_mtime("b", (1_500_000_000, 1));
    let right = world.right.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("copying") = event {
            right.write("a", "edited meanwhile");
            right.write("b", "edited meanwhile, too");
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("a"), b"edited meanwhile");
    assert_eq!(world.left.read("b"), b"edited meanwhile, too");
    assert_eq!(world.right.mode("a"), 0o600);
    world.assert_settled();
}

#[test]
fn sr2_s27_a_file_that_is_replaced_or_removed_while_it_is_copied() {
    let world = World::synced(&[("x", "1")]);
    for n in 0..20 {
        world.left.write(&format!("f{n}"), format!("first {n}"));
    }
    std::fs::write(world.beside("outside"), "not ours").unwrap();
    let left = world.left.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("copying") = event {
            for n in 0..20 {
                match n % 4 {
                    0 => left.remove(&format!("f{n}")),
                    3 => {
                        left.remove(&format!("f{n}"));
                        left.symlink("../outside", &format!("f{n}"));
                    }
                    1 => {
                        left.write("t", format!("replaced {n}"));
                        left.rename("t", &format!("f{n}"));
                    }
                    _ => {}
                }
            }
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    for n in 0..20 {
        let name = format!("f{n}");
        assert!(n % 4 == 2 || !world.right.has(&name), "{name}: not what was seen");
        if world.right.has(&name) {
            assert_eq!(world.right.read(&name), format!("first {n}").as_bytes());
        }
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.assert_settled();
}

#[test]
fn sp6_s29_a_symlink_swapped_in_for_a_directory_leads_nowhere() {
    let world = World::synced(&[("d/e/file", "1"), ("d/e/gone", "1")]);
    let outside = world.beside("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "not ours").unwrap();
    std::fs::write(outside.join("gone"), "not ours either").unwrap();
    world.left.write("d/e/file", "2, edited");
    world.left.write("d/e/new", "new");
    world.left.remove("d/e/gone");
    let (right, target) = (world.right.clone(), outside.clone());
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("copying") = event {
            right.rename("d/e", "put-away");
            right.symlink(target.to_str().unwrap(), "d/e");
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"not ours");
    assert_eq!(std::fs::read(outside.join("gone")).unwrap(), b"not ours either");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 2);
    assert!(world.sync().exit() <= 1);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 2);
    world.assert_settled();
}

#[test]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    let world = World::new();
    for n in 0..40 {
        world.left.write(&format!("{n}"), format!("content {n}"));
    }
    let stop = Arc::new(Stop::default());
    let stopping = stop.clone();
    let watch = Stopper(move |event: &Event<'_>| {
        if let Event::Phase("copying") = event {
            stopping.request();
        }
    });
    let report = world
        .block_on(world.session.run("sync", &Options::default(), &watch, &stop))
        .unwrap();
    assert_eq!(u8::from(report.exit), 6, "{report:?}");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.assert_settled();
}

struct Stopper<F>(F);
impl<F: Fn(&Event<'_>) + Send + Sync> syncline_sync::Monitor for Stopper<F> {
    fn event(&self, event: Event<'_>) {
        self.0(&event);
    }
}

/// Asks a run to stop once both sides have been looked at.
struct Interrupts<'a>(&'a Stop);

impl Monitor for Interrupts<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Phase("comparing") = event {
            self.0.request();
        }
    }
}

#[test]
fn s22_a_plan_that_is_interrupted_is_not_written() {
    let world = World::synced(&[("a", "1")]);
    world.left.write("b", "2");
    let (stop, mut out) = (Stop::default(), Vec::new());
    let options = Options::default();
    let fault = world
        .block_on(
            world
                .session
                .write_plan(&options, &Interrupts(&stop), &stop, &mut out),
        )
        .unwrap_err();
    assert!(fault.is(Kind::Cancelled) && out.is_empty(), "{fault:?} {out:?}");
}

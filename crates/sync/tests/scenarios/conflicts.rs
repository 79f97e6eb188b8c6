//! Both sides changed it: nothing is silently decided, everything is kept, one command settles it.

use std::sync::Mutex;

use syncline_model::{Policy, Side};
use syncline_sync::{Event, Keep, Options};

use crate::world::{Ran, World, rel};

fn conflicting() -> World {
    let world = World::synced(&[("d/file.txt", "first"), ("other", "1")]);
    world.left.write("d/file.txt", "by left, longer");
    world.left.set_mtime("d/file.txt", (2_000_000_000, 0));
    world.right.write("d/file.txt", "by right");
    world.right.set_mtime("d/file.txt", (1_900_000_000, 0));
    world
}

fn resolve(world: &World, paths: Option<&[&str]>, keep: Keep) -> Ran {
    let paths: Option<Vec<_>> = paths.map(|paths| paths.iter().map(|path| rel(path)).collect());
    world.act(async |session, monitor, stop| {
        session
            .resolve(paths.as_deref(), keep, &Options::default(), monitor, stop)
            .await
    })
}

#[test]
fn both_versions_stay_and_wait_in_the_inbox() {
    let world = conflicting();
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    let names = world.left.names();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().any(|name| name.contains("(conflict ")), "{names:?}");
    for text in ["by left, longer", "by right"] {
        assert_eq!(world.left.names_of(text.as_bytes()).len(), 1);
    }
    world.assert_settled();
    let open: Vec<_> = world.session.conflicts().map(Result::unwrap).collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].conflict.path, rel("d/file.txt"));
    assert_eq!(
        world.sync().exit(),
        1,
        "an open conflict must show in the exit code"
    );
}

#[test]
fn s22_a_dry_run_of_resolve_shows_and_changes_nothing() {
    for policy in [Policy::KeepBoth, Policy::Hold] {
        let world = conflicting();
        let options = Options {
            policy,
            ..Options::default()
        };
        world.run(&options);
        let looks = || {
            (
                world.left.look(),
                world.right.look(),
                world.session.conflicts().count(),
            )
        };
        let before = looks();
        let shown = world.act(async |session, monitor, stop| {
            let dry = Options {
                dry_run: true,
                ..Options::default()
            };
            session
                .resolve(None, Keep::Side(Side::Left), &dry, monitor, stop)
                .await
        });
        assert_eq!(looks(), before, "{shown:?}");
        assert!(!shown.steps().is_empty(), "{shown:?}");
        let done = resolve(&world, None, Keep::Side(Side::Left));
        assert_eq!(shown.steps(), done.steps());
        assert_eq!(world.session.conflicts().count(), 0);
    }
}

#[test]
fn who_keeps_the_name_does_not_depend_on_the_side() {
    let keeps = |swap: bool| {
        let world = World::synced(&[("f", "first")]);
        let (a, b) = if swap {
            (&world.right, &world.left)
        } else {
            (&world.left, &world.right)
        };
        a.write("f", "version a");
        b.write("f", "version b");
        world.sync();
        world.left.read("f")
    };
    assert_eq!(keeps(false), keeps(true));
}

#[test]
fn policies_decide_and_keep_the_loser_in_the_trash() {
    let cases = [
        (Policy::Left, "by left, longer"),
        (Policy::Right, "by right"),
        (Policy::Newest, "by left, longer"),
        (Policy::Largest, "by left, longer"),
    ];
    for (policy, winner) in cases {
        let world = conflicting();
        let ran = world.run(&Options {
            policy,
            ..Options::default()
        });
        assert_eq!(ran.exit(), 0, "{policy:?}: {ran:?}");
        assert_eq!(world.left.read("d/file.txt"), winner.as_bytes(), "{policy:?}");
        assert_eq!(world.trash().len(), 1, "{policy:?}: {:?}", world.trash());
        world.assert_settled();
    }
}

#[test]
fn hold_leaves_the_path_alone_until_it_is_settled() {
    let world = conflicting();
    world.left.write("other", "2 and longer");
    let hold = Options {
        policy: Policy::Hold,
        ..Options::default()
    };
    for _ in 0..2 {
        let ran = world.run(&hold);
        assert_eq!(ran.exit(), 1, "{ran:?}");
        assert_eq!(world.left.read("d/file.txt"), b"by left, longer");
        assert_eq!(world.right.read("d/file.txt"), b"by right");
        assert_eq!(world.right.read("other"), b"2 and longer");
    }
    let ran = resolve(&world, Some(&["d/file.txt"]), Keep::Side(Side::Right));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("d/file.txt"), b"by right");
    assert_eq!(world.session.conflicts().count(), 0, "it no longer waits");
    world.assert_settled();
    assert_eq!(world.sync().exit(), 0);
}

#[test]
fn who_asks_for_both_versions_of_what_is_held_has_settled_it() {
    let world = conflicting();
    let hold = Options {
        policy: Policy::Hold,
        ..Options::default()
    };
    world.run(&hold);
    let ran = resolve(&world, None, Keep::Both);
    assert_eq!((ran.exit(), ran.report.conflicts), (0, 0), "{ran:?}");
    assert_eq!(world.left.names().len(), 4);
    assert_eq!(world.session.conflicts().count(), 0);
    assert_eq!(world.sync().exit(), 0);
}

/// A script that looks before it acts sees the exit code that acting will have, and finds it in the log.
#[test]
fn s22_a_dry_run_ends_as_the_run_will_and_the_log_tells_the_same() {
    for (policy, exit) in [
        (Policy::Left, 0),
        (Policy::Newest, 0),
        (Policy::KeepBoth, 1),
        (Policy::Hold, 1),
    ] {
        let world = conflicting();
        world.left.write("other", "changed");
        let options = Options {
            policy,
            ..Options::default()
        };
        for round in 0..2 {
            let dry = world.run(&Options {
                dry_run: true,
                ..options.clone()
            });
            let ran = world.run(&options);
            assert_eq!(
                (dry.exit(), dry.report.conflicts),
                (exit, u64::from(exit)),
                "{policy:?} {round}: {dry:?}"
            );
            assert_eq!(
                (ran.exit(), ran.report.conflicts),
                (exit, u64::from(exit)),
                "{policy:?} {round}: {ran:?}"
            );
            world.left.write("other", "changed again");
        }
        let runs = world.block_on(world.session.log()).unwrap();
        let ended: Vec<_> = runs.into_iter().map(|run| run.exit.map(u8::from)).collect();
        assert_eq!(ended[1..], [Some(exit), Some(exit)], "{policy:?}: {ended:?}");
    }
}

#[test]
fn a_conflict_is_settled_by_either_version_or_both() {
    for keep in [
        Keep::Side(Side::Left),
        Keep::Side(Side::Right),
        Keep::Newest,
        Keep::Both,
    ] {
        let world = conflicting();
        world.sync();
        let ran = resolve(&world, None, keep);
        assert_eq!(ran.exit(), 0, "{keep:?}: {ran:?}");
        match keep {
            Keep::Side(Side::Right) => assert_eq!(world.right.read("d/file.txt"), b"by right"),
            Keep::Both => assert_eq!(world.left.names().len(), 4),
            _ => assert_eq!(world.right.read("d/file.txt"), b"by left, longer"),
        }
        if keep != Keep::Both {
            assert_eq!(world.left.names(), ["d", "d/file.txt", "other"], "{keep:?}");
        }
        world.assert_settled();
        assert_eq!(world.sync().exit(), 0, "{keep:?}");
    }
}

#[test]
fn of_two_conflicts_about_one_file_the_last_decides_and_both_copies_are_listed() {
    for keep in [Keep::Side(Side::Left), Keep::Side(Side::Right), Keep::Both] {
        let world = World::synced(&[("f", "first")]);
        for round in ["one", "two"] {
            world.left.write("f", format!("left {round}"));
            world.right.write("f", format!("right {round}"));
            assert_eq!(world.sync().exit(), 1);
        }
        let copies = |world: &World| world.left.names().len() - 1;
        assert_eq!((copies(&world), world.session.conflicts().count()), (2, 2));
        let ran = resolve(&world, Some(&["f"]), keep);
        assert_eq!((ran.exit(), ran.report.conflicts), (0, 0), "{keep:?}: {ran:?}");
        match keep {
            Keep::Side(side) => {
                let expected = if side == Side::Left {
                    "left two"
                } else {
                    "right two"
                };
                assert_eq!(world.left.read("f"), expected.as_bytes());
                assert_eq!(copies(&world), 0, "{keep:?}");
            }
            _ => assert_eq!(copies(&world), 2),
        }
        world.assert_settled();
        assert_eq!(world.sync().exit(), 0);
    }
}

#[test]
fn a_resolve_that_is_taken_back_leaves_both_versions_and_the_conflict() {
    for side in Side::BOTH {
        let world = conflicting();
        world.sync();
        let before = (world.left.names(), world.left.read("d/file.txt"));
        assert_eq!(resolve(&world, None, Keep::Side(side)).exit(), 0);
        assert_eq!(world.left.names().len(), 3);
        let undone = world.undo(None);
        assert_eq!(undone.exit(), 0, "{side:?}: {undone:?}");
        assert_eq!(
            (world.left.names(), world.left.read("d/file.txt")),
            before,
            "{side:?}"
        );
        for tree in [&world.left, &world.right] {
            for text in ["by left, longer", "by right"] {
                assert_eq!(tree.names_of(text.as_bytes()).len(), 1, "{side:?}: {text}");
            }
        }
        assert_eq!(world.session.conflicts().count(), 1, "{side:?}");
        assert_eq!(world.sync().exit(), 1);
        assert_eq!(resolve(&world, None, Keep::Side(side)).exit(), 0);
        world.assert_settled();
        assert_eq!(world.sync().exit(), 0);
    }
}

#[test]
fn a_run_that_is_taken_back_leaves_no_conflict_to_be_resolved() {
    let world = conflicting();
    world.sync();
    assert_eq!(world.undo(None).exit(), 0);
    assert_eq!(world.session.conflicts().count(), 0);
    assert_eq!(world.sync().exit(), 1);
    assert_eq!(world.session.conflicts().count(), 1);
}

/// Whatever ends an undo or a resolve early: what was not done still waits.
#[test]
fn what_stops_before_it_is_done_leaves_its_conflicts_in_the_inbox() {
    let stopped = Options {
        soft_limit: Some(std::time::Duration::ZERO),
        ..Options::default()
    };
    let world = conflicting();
    world.sync();
    let before = (world.left.look(), world.right.look());
    let ran = world.act(async |session, monitor, stop| {
        session
            .resolve(None, Keep::Side(Side::Left), &stopped, monitor, stop)
            .await
    });
    assert_eq!((ran.exit(), world.session.conflicts().count()), (6, 1), "{ran:?}");
    let ran = world.act(async |session, monitor, stop| {
        let run = session.log().await?.first().map(|run| run.run.clone());
        session.undo(run.as_deref(), &stopped, monitor, stop).await
    });
    assert_eq!((ran.exit(), world.session.conflicts().count()), (6, 1), "{ran:?}");
    assert_eq!((world.left.look(), world.right.look()), before);
    assert_eq!(world.sync().exit(), 1);
}

#[test]
fn an_edit_since_a_resolve_is_left_alone_by_its_undo() {
    let world = conflicting();
    world.sync();
    let side = if world.left.read("d/file.txt") == b"by right" {
        Side::Left
    } else {
        Side::Right
    };
    let resolved = resolve(&world, None, Keep::Side(side)).report.run.unwrap();
    let text = world.left.read("d/file.txt");
    let edit = "E".repeat(text.len());
    world.left.write("d/file.txt", &edit);
    assert_eq!(world.sync().exit(), 0);
    let undone = world.undo(Some(&resolved));
    assert_eq!(undone.exit(), 2, "{undone:?}");
    for tree in [&world.left, &world.right] {
        assert_eq!(tree.read("d/file.txt"), edit.as_bytes());
    }
    assert_eq!(world.session.conflicts().count(), 0);
}

#[test]
fn a_conflict_whose_copy_was_removed_by_hand_is_no_longer_open() {
    let world = conflicting();
    world.sync();
    let copy = world
        .left
        .names()
        .into_iter()
        .find(|name| name.contains("(conflict "))
        .unwrap();
    world.right.remove(&copy);
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.assert_settled();
}

#[test]
fn s32_conflicts_of_conflicts_do_not_nest() {
    let world = World::synced(&[("f.txt", "first")]);
    for round in 0..4 {
        for name in world.left.names() {
            world.left.write(&name, format!("left {round} {name}"));
            world.right.write(&name, format!("right {round} {name}"));
        }
        let ran = world.sync();
        assert_eq!(ran.exit(), 1, "{ran:?}");
        world.assert_equal();
        let nested = world
            .left
            .names()
            .into_iter()
            .find(|name| name.matches("(conflict ").count() > 1);
        assert_eq!(nested, None);
        if round == 1 {
            break;
        }
    }
}

#[test]
fn s32_a_thousand_conflicts_are_settled_by_one_call() {
    let world = World::new();
    for n in 0..1000 {
        world.left.write(&format!("d{}/{n}", n % 10), format!("left {n}"));
        world
            .right
            .write(&format!("d{}/{n}", n % 10), format!("right {n}"));
    }
    let ran = world.sync();
    assert_eq!((ran.exit(), ran.report.conflicts), (1, 1000), "{:?}", ran.report);
    let ran = resolve(&world, None, Keep::Side(Side::Left));
    assert_eq!((ran.exit(), ran.report.conflicts), (0, 0), "{:?}", ran.report);
    assert_eq!(world.right.look().len(), 1010);
    assert_eq!(world.right.read("d3/333"), b"left 333");
    world.assert_settled();
}

#[test]
fn s14_a_file_renamed_here_and_edited_on_both_sides_stays_twice_under_its_new_name() {
    for renames in Side::BOTH {
        let world = World::synced(&[("old.txt", "first"), ("d/other", "other")]);
        world.tree(renames).rename("old.txt", "d/new.txt");
        // As if nothing else had happened to it, or it would be another file.
        let mtime = world.tree(renames).mtime("d/new.txt");
        world.tree(renames).write("d/new.txt", "FIRST");
        world.tree(renames).set_mtime("d/new.txt", mtime);
        world.tree(renames.other()).write("old.txt", "edited over there");
        let ran = world.sync();
        assert_eq!((ran.exit(), ran.report.conflicts), (1, 1), "{renames:?}: {ran:?}");
        world.assert_equal();
        let names = world.left.names();
        assert!(!names.iter().any(|name| name.starts_with("old")), "{names:?}");
        for bytes in ["FIRST", "edited over there"] {
            assert_eq!(world.left.names_of(bytes.as_bytes()).len(), 1, "{bytes}");
        }
        world.assert_settled();
    }
}

#[test]
fn s26_what_cannot_be_copied_aside_is_not_replaced() {
    for link in [false, true] {
        let world = World::synced(&[("f.txt", "first")]);
        if link {
            world.left.remove("f.txt");
            world.left.symlink("by left", "f.txt");
            world.right.remove("f.txt");
            world.right.symlink("by right", "f.txt");
        } else {
            world.left.write("f.txt", "by left");
            world.right.write("f.txt", "by the right");
        }
        let (left, right, seen) = (world.left.clone(), world.right.clone(), Mutex::new(None));
        let before = (left.look(), right.look());
        // Somebody takes the name of the copy in the last moment.
        let ran = world.run_while(&Options::default(), move |event| match event {
            Event::Conflict(conflict) => *seen.lock().unwrap() = conflict.kept.get(1).cloned(),
            Event::Phase("copying") => {
                let copy = seen.lock().unwrap().clone().unwrap().to_string();
                left.write(&copy, "taken");
                right.write(&copy, "taken");
            }
            _ => {}
        });
        assert_eq!(ran.exit(), 2, "{ran:?}");
        let now = (world.left.look(), world.right.look());
        assert_eq!(now.0[&b"f.txt"[..]], before.0[&b"f.txt"[..]], "link {link}");
        assert_eq!(now.1[&b"f.txt"[..]], before.1[&b"f.txt"[..]], "link {link}");
        assert_eq!(world.sync().exit(), 1);
        world.assert_equal();
        for what in [&before.0, &before.1].map(|look| look[&b"f.txt"[..]].what.clone()) {
            let found = world.left.look().into_values().filter(|node| node.what == what);
            assert_eq!(found.count(), 1, "{what:?}");
        }
    }
}

//! Nothing is destroyed: trash, restore, undo.

#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]

use std::sync::Arc;
use std::time::Duration;

use syncline_model::{Kind, Pair, Policy};
use syncline_sync::{Options, Stop};
use syncline_testkit::mem_table::MemTable;

use crate::world::{Watch, World, rel, session_over};

#[test]
fn s19_a_path_deleted_twice_leaves_two_versions() {
    let world = World::new();
    let mut runs = Vec::new();
    for text in ["first generation", "second generation"] {
        world.left.write("d/file", text);
        assert_eq!(world.sync().exit(), 0);
        world.left.remove("d/file");
        let ran = world.sync();
        assert_eq!(ran.exit(), 0, "{ran:?}");
        runs.push(ran.report.run.unwrap());
    }
    assert_eq!(world.trash(), ["right d/file", "right d/file"]);
    for (run, text) in runs.iter().zip(["first generation", "second generation"]) {
        let ran = world.restore("d/file", Some(run));
        assert_eq!(ran.exit(), 0, "{ran:?}");
        assert_eq!(world.right.read("d/file"), text.as_bytes());
        world.sync();
        assert_eq!(world.left.read("d/file"), text.as_bytes());
    }
    world.assert_settled();
}

#[test]
fn a_directory_comes_back_from_the_trash_with_all_below_it() {
    let world = World::synced(&[("d/e/one", "1"), ("d/two", "2"), ("keep", "k")]);
    world.left.remove("d");
    assert_eq!(world.sync().exit(), 0);
    let ran = world.restore("d", None);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.names(), ["d", "d/e", "d/e/one", "d/two", "keep"]);
    world.assert_settled();
}

/// One step of each kind, from the left to the right.
fn changed_in_every_way() -> World {
    let world = World::synced(&[
        ("updated", "before"),
        ("removed", "before, too"),
        ("dir/removed", "1"),
        ("dir/sub/x", "2"),
        ("moved/inside", "3"),
        ("file", "moves alone"),
        ("mode", "4"),
    ]);
    world.left.write("updated", "after, and longer");
    world.left.remove("removed");
    world.left.remove("dir");
    world.left.rename("moved", "elsewhere");
    world.left.rename("file", "renamed");
    world.left.chmod("mode", 0o600);
    world.left.write("created/new", "brand new");
    world
}

#[test]
fn undo_takes_every_kind_of_step_back_and_can_be_undone() {
    let world = changed_in_every_way();
    let before = world.right.look();
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let after = world.right.look();
    let undone = world.undo(None);
    assert_eq!(undone.exit(), 0, "{undone:?}");
    let (mut was, mut is) = (before.clone(), world.right.look());
    // Times of directories in which something happened are not promised to an undo.
    for tree in [&mut was, &mut is] {
        tree.values_mut()
            .filter(|node| node.what == crate::world::What::Dir)
            .for_each(|node| node.mtime = (0, 0));
    }
    assert_eq!(was, is);
    let again = world.undo(None);
    assert_eq!(again.exit(), 0, "{again:?}");
    assert_eq!(
        world.right.look().into_keys().collect::<Vec<_>>(),
        after.into_keys().collect::<Vec<_>>()
    );
    assert_eq!(world.right.read("updated"), b"after, and longer");
    world.sync();
    world.assert_settled();
}

/// A dry run shows what the run then does, with what it would leave alone, and changes nothing.
#[test]
fn s22_a_dry_run_of_an_undo_or_a_restore_changes_nothing() {
    let dry = Options {
        dry_run: true,
        ..Options::default()
    };
    let world = changed_in_every_way();
    assert_eq!(world.sync().exit(), 0);
    world.right.write("created/new", "edited since the run");
    let runs = || world.block_on(world.session.log()).unwrap().len();
    let looks = || (world.left.look(), world.right.look(), runs());
    let before = looks();
    let shown = world.act(async |session, monitor, stop| session.undo(None, &dry, monitor, stop).await);
    assert_eq!(looks(), before, "{shown:?}");
    let undone = world.undo(None);
    assert_eq!(shown.exit(), undone.exit(), "{shown:?} {undone:?}");
    assert_eq!(shown.problem_paths(), undone.problem_paths());
    assert_eq!(shown.steps(), undone.steps());
    assert!(shown.steps().len() > 5, "{shown:?}");

    world.right.remove("updated");
    world.left.remove("updated");
    world.sync();
    let paths = [rel("removed"), rel("dir")];
    world.right.remove("removed");
    world.right.remove("dir");
    assert_eq!(world.sync().exit(), 0);
    let before = looks();
    let shown =
        world.act(async |session, monitor, stop| session.restore(&paths, None, &dry, monitor, stop).await);
    assert_eq!(looks(), before, "{shown:?}");
    assert_eq!(shown.exit(), 0, "{shown:?}");
    let restored = world.act(async |session, monitor, stop| {
        session
            .restore(&paths, None, &Options::default(), monitor, stop)
            .await
    });
    assert_eq!(shown.steps(), restored.steps());
    assert!(world.left.has("removed") || world.right.has("removed"));
}

/// Of an undo and a restore as of any run.
#[test]
fn the_time_limits_end_an_undo_too() {
    let world = World::synced(&[("keep", "1")]);
    for n in 0..300 {
        world.left.write(&format!("made/{n}"), "1");
    }
    assert_eq!(world.sync().exit(), 0);
    let before = world.right.look();
    let undo = |soft_limit: Option<Duration>, hard_limit: Option<Duration>| {
        let options = Options {
            soft_limit,
            hard_limit,
            ..Options::default()
        };
        world.block_on(async {
            let (watch, stop) = (Watch::default(), Stop::default());
            world.session.undo(None, &options, &watch, &stop).await
        })
    };
    let ended = undo(Some(Duration::ZERO), None).unwrap();
    assert_eq!(u8::from(ended.exit), 6, "{ended:?}");
    assert_eq!(world.right.look(), before);
    let ended = undo(None, Some(Duration::ZERO));
    assert!(
        ended.as_ref().is_err_and(|fault| fault.is(Kind::Cancelled)),
        "{ended:?}"
    );
    assert!(world.right.has("made/0") || world.right.has("made/1"));
}

#[test]
fn what_an_undo_put_back_is_carried_on_and_not_done_again() {
    let world = changed_in_every_way();
    assert_eq!(world.sync().exit(), 0);
    assert_eq!(world.undo(None).exit(), 0);
    let ran = world.sync();
    assert!(ran.exit() <= 1, "{ran:?}");
    assert_eq!(world.left.read("updated"), b"before");
    assert_eq!(world.left.read("removed"), b"before, too");
    assert_eq!(world.left.read("moved/inside"), b"3");
    assert_eq!(world.left.read("file"), b"moves alone");
    assert!(!world.left.has("created/new"));
    world.assert_settled();
}

/// The base says what the run made of two edits: were it believed after the undo, one of them would pass for what was agreed on.
#[test]
fn edits_that_an_undo_put_back_meet_again() {
    for policy in [Policy::KeepBoth, Policy::Newest, Policy::Left] {
        let world = World::synced(&[("f", "first"), ("gone", "first"), ("other", "text")]);
        world.left.write("f", "edited here");
        world.right.write("f", "edited over there, longer");
        world.left.remove("gone");
        world.right.write("gone", "edited, and so it stays");
        let options = Options {
            policy,
            ..Options::default()
        };
        world.run(&options);
        assert!(world.left.has("gone"));
        assert_eq!(world.undo(None).exit(), 0);
        assert_eq!(world.left.read("f"), b"edited here", "{policy:?}");
        assert_eq!(world.right.read("f"), b"edited over there, longer", "{policy:?}");
        assert!(!world.left.has("gone"));
        let ran = world.sync();
        assert_eq!((ran.exit(), ran.report.conflicts), (1, 1), "{policy:?}: {ran:?}");
        for text in [
            "edited here",
            "edited over there, longer",
            "edited, and so it stays",
        ] {
            assert_eq!(
                world.left.names_of(text.as_bytes()).len(),
                1,
                "{policy:?}: {text}"
            );
        }
        world.assert_settled();
    }
}

#[test]
fn after_the_undo_of_a_first_run_the_next_one_is_a_first_run_again() {
    let world = World::new();
    world.left.write("d/of the left", "left");
    world.right.write("of the right", "right");
    for tree in [&world.left, &world.right] {
        tree.write("of both", "the same");
    }
    assert_eq!(world.sync().exit(), 0);
    assert_eq!(world.undo(None).exit(), 0);
    assert!(!world.right.has("d/of the left") && !world.left.has("of the right"));
    assert_eq!(world.sync().exit(), 0);
    assert_eq!(
        world.left.names(),
        ["d", "d/of the left", "of both", "of the right"]
    );
    world.assert_settled();
}

/// What was edited since the first run is an edit of what that run agreed on, whatever an undo does beside it.
#[test]
fn an_edit_since_a_first_run_that_is_undone_is_carried_and_no_rule_overwrites_it() {
    for policy in [Policy::KeepBoth, Policy::Left, Policy::Newest] {
        let world = World::new();
        world.left.write("f", "first, and rather long");
        world.left.write("g", "first");
        assert_eq!(world.sync().exit(), 0);
        world.right.write("f", "edited since");
        world.right.set_mtime("f", (1_000_000_000, 0));
        assert_eq!(world.undo(None).exit(), 2);
        assert_eq!(world.right.read("f"), b"edited since");
        let options = Options {
            policy,
            ..Options::default()
        };
        assert_eq!(world.run(&options).exit(), 0, "{policy:?}");
        assert_eq!(world.left.read("f"), b"edited since", "{policy:?}");
        assert_eq!(world.right.read("g"), b"first", "{policy:?}");
        world.assert_settled();
    }
}

#[test]
fn undo_leaves_what_changed_since_and_lists_it() {
    let world = World::synced(&[("a", "before"), ("b", "before b")]);
    world.left.write("a", "after");
    world.left.write("b", "after b");
    world.left.write("c", "created");
    assert_eq!(world.sync().exit(), 0);
    world.right.write("a", "edited since the run");
    world.right.write("c", "edited since, too");
    let undone = world.undo(None);
    assert_eq!(undone.exit(), 2, "{undone:?}");
    let mut listed = undone.problem_paths();
    listed.sort();
    assert_eq!(listed, ["a", "c"]);
    assert_eq!(world.right.read("a"), b"edited since the run");
    assert_eq!(world.right.read("c"), b"edited since, too");
    assert_eq!(world.right.read("b"), b"before b");
    assert_eq!(world.sync().exit(), 0);
    assert_eq!(world.left.read("b"), b"before b");
    world.assert_settled();
}

#[test]
fn undo_of_a_named_run_and_the_log() {
    let world = World::synced(&[("a", "one"), ("b", "one b")]);
    world.left.write("a", "two, edited");
    let second = world.sync().report.run.unwrap();
    world.left.write("b", "three, edited");
    assert_eq!(world.sync().exit(), 0);
    let undone = world.undo(Some(&second));
    assert_eq!(undone.exit(), 0, "{undone:?}");
    assert_eq!(world.right.read("a"), b"one");
    assert_eq!(world.right.read("b"), b"three, edited");
    let log = world.block_on(world.session.log()).unwrap();
    let what: Vec<_> = log.iter().map(|run| run.what.clone()).collect();
    assert_eq!(what, ["sync", "sync", "sync", &format!("undo {second}")]);
    assert!(log.iter().all(|run| run.exit.is_some()));
}

#[test]
fn the_last_run_is_undone_though_all_happened_within_one_second() {
    for _ in 0..8 {
        let world = World::synced(&[("a", "zero")]);
        for text in ["first", "second", "third"] {
            world.left.write("a", text);
            assert_eq!(world.sync().exit(), 0);
        }
        assert_eq!(world.undo(None).exit(), 0);
        assert_eq!(world.right.read("a"), b"second");
    }
}

#[test]
fn an_emptied_trash_is_empty_and_without_trash_nothing_is_kept() {
    let world = World::synced(&[("a", "1"), ("b", "1"), ("c", "1")]);
    world.left.remove("a");
    world.sync();
    assert_eq!(world.trash().len(), 1);
    assert_eq!(world.block_on(world.session.trash_empty(None)).unwrap(), 1);
    assert_eq!(world.trash(), Vec::<String>::new());
    world.left.remove("b");
    let ran = world.run(&Options {
        trash: false,
        ..Options::default()
    });
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.trash(), Vec::<String>::new());
    world.assert_settled();
}

#[test]
fn who_leaves_takes_the_trash_of_his_own_session_alone() {
    let world = World::synced(&[("mine", "1"), ("theirs", "2")]);
    let (third, state) = (world.beside("third"), world.beside("third-state"));
    for dir in [&third, &state] {
        std::fs::create_dir(dir).unwrap();
    }
    let other = session_over(
        &world.left.0,
        &third,
        &state,
        Arc::new(MemTable::default()),
        &world.env,
    );
    let run = |session: &syncline_sync::Session| {
        let (watch, stop) = (Watch::default(), Stop::default());
        world
            .block_on(session.run("sync", &Options::default(), &watch, &stop))
            .unwrap()
    };
    run(&other);
    world.right.remove("mine");
    assert_eq!(world.sync().exit(), 0);
    std::fs::remove_file(third.join("theirs")).unwrap();
    run(&other);
    assert_eq!(world.trash(), ["left mine", "left theirs"]);
    world.block_on(other.leave(true, Pair::default())).unwrap();
    assert_eq!(world.trash(), ["left mine"]);
    assert_eq!(world.undo(None).exit(), 0);
    assert_eq!(world.left.read("mine"), b"1");
}

/// The runs that have trash at the right.
#[allow(clippy::disallowed_methods, reason = "a user of the real disk")]
fn trashed(world: &World) -> Vec<String> {
    let trash = std::fs::read_dir(world.right.at(".syncline/trash")).unwrap();
    let mut runs: Vec<_> = trash
        .map(|run| run.unwrap().file_name().into_string().unwrap())
        .collect();
    runs.sort();
    runs
}

#[test]
#[allow(clippy::disallowed_methods, reason = "trash of earlier runs, made by hand")]
fn s19_trash_older_than_thirty_days_goes_when_a_run_has_ended() {
    let world = World::synced(&[("x", "1")]);
    let (old, young) = ("20200101T000000.000Z-0001", "20200202T000000.000Z-0002");
    for (run, days) in [(old, 31), (young, 29)] {
        let dir = world.right.at(".syncline/trash").join(run);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("f"), "f").unwrap();
        let past = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 24 * 60 * 60);
        std::fs::File::open(&dir).unwrap().set_modified(past).unwrap();
    }
    world.left.write("x", "2");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let runs = trashed(&world);
    assert!(!runs.contains(&old.to_owned()), "{runs:?}");
    assert!(runs.contains(&young.to_owned()), "{runs:?}");
    assert!(runs.contains(&ran.report.run.clone().unwrap()), "{runs:?}");
}

/// Undo needs a log as long as the trash keeps what that run displaced, and no longer than trash may be kept.
#[test]
#[allow(clippy::disallowed_methods, reason = "runs of long ago, made by hand")]
fn s19_the_log_of_a_run_ends_with_its_trash() {
    let world = World::synced(&[("x", "1"), ("y", "1")]);
    let logs = || -> Vec<String> {
        let log = world.block_on(world.session.log()).unwrap();
        log.into_iter().map(|run| run.run).collect()
    };
    let rename = |from: &str, to: &str| {
        let at = |run: &str| world.beside("state/runs").join(run);
        std::fs::rename(at(from), at(to)).unwrap();
    };
    let (bare, kept) = ("20200101T000000.000Z-0001", "20200202T000000.000Z-0002");
    rename(&logs()[0], bare);
    world.left.write("x", "2");
    let run = world.sync().report.run.unwrap();
    rename(&run, kept);
    let trash = |run: &str| world.right.at(".syncline/trash").join(run);
    std::fs::rename(trash(&run), trash(kept)).unwrap();
    let mut young = Vec::new();
    for text in ["3", "4"] {
        world.left.write("y", text);
        young.push(world.sync().report.run.unwrap());
    }
    assert_eq!(logs(), [&[kept.to_owned()], &young[..]].concat());
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 60 * 60);
    std::fs::File::open(trash(kept))
        .unwrap()
        .set_modified(past)
        .unwrap();
    world.left.write("y", "5");
    assert_eq!(world.sync().exit(), 0);
    assert!(!trashed(&world).contains(&kept.to_owned()));
    let left = logs();
    assert!(
        !left.contains(&kept.to_owned()) && young.iter().all(|run| left.contains(run)),
        "{left:?}"
    );
}

#[test]
fn what_an_option_takes_back_is_said() {
    let world = World::synced(&[("x", "1")]);
    assert!(!world.sync().said.notes.iter().any(|note| note.contains("--")));
    let mut options = Options {
        durability: syncline_replica::Durability::None,
        ..Options::default()
    };
    options.classes.ctime = false;
    world.left.write("x", "2");
    let notes = world.run(&options).said.notes;
    for option in ["--durability none", "--no-ctime"] {
        let said = notes.iter().filter(|note| note.contains(option)).count();
        assert_eq!(said, 1, "{option}: {notes:?}");
    }
}

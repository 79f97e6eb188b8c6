//! Moves and renames: one step on the other side, no bytes.

use syncline_model::Clash;
use syncline_store::Table;
use syncline_sync::{Event, Options};

use crate::world::{Tree, World};

#[test]
fn s13_the_same_rename_on_both_sides_is_agreement() {
    let world = World::synced(&[("old/a", "1"), ("old/b", "2"), ("file", "3")]);
    for tree in [&world.left, &world.right] {
        tree.rename("old", "new");
        tree.rename("file", "name");
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.steps(), Vec::<String>::new());
    assert_eq!(world.left.names(), ["name", "new", "new/a", "new/b"]);
    world.assert_settled();
}

#[test]
fn s13_after_the_same_rename_on_both_sides_the_base_has_the_new_names_at_once() {
    let world = World::synced(&[("old/a", "1"), ("old/in/b", "2"), ("old/in/c", "3")]);
    let rows = || {
        world
            .table
            .scan(b"b", b"b")
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    };
    // Until what was written a moment ago is believed without reading it.
    let mut before = Vec::new();
    while before != rows() {
        before = rows();
        world.sync();
    }
    for tree in [&world.left, &world.right] {
        tree.rename("old", "new");
    }
    assert_eq!(world.sync().steps(), Vec::<String>::new());
    let names: Vec<_> = rows().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [&b"bnew/"[..], b"bnew/a", b"bnew/in/", b"bnew/in/b", b"bnew/in/c"]
    );
    world.left.remove("new/a");
    assert_eq!(world.sync().steps(), ["right remove new/a"]);
    world.assert_settled();
}

#[test]
fn s14_a_renamed_directory_is_one_step_and_an_edit_lands_under_the_new_name() {
    let world = World::new();
    for n in 0..300 {
        world
            .left
            .write(&format!("photos/{:02}/{n}.jpg", n % 10), format!("picture {n}"));
    }
    world.sync();
    world.left.rename("photos", "pictures");
    world.right.write("photos/03/3.jpg", "edited there");
    world.right.write("photos/03/new.jpg", "born there");
    let inode = world.right.inode("photos/04/4.jpg");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(
        ran.steps(),
        [
            "left create pictures/03/new.jpg",
            "left update pictures/03/3.jpg",
            "right move pictures"
        ]
    );
    assert_eq!(ran.report.right.bytes, 0);
    assert_eq!(world.left.read("pictures/03/3.jpg"), b"edited there");
    assert_eq!(world.right.inode("pictures/04/4.jpg"), inode, "it was copied");
    assert!(!world.right.has("photos"));
    world.assert_settled();
}

#[test]
fn s14_a_bare_rename_of_a_directory_is_exactly_one_move_and_no_bytes() {
    let world = World::synced(&[("a/b/one", "1"), ("a/b/two", "2"), ("x", "3")]);
    world.right.rename("a/b", "c");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.steps(), ["left move c"]);
    assert_eq!((ran.report.left.moved, ran.bytes()), (1, 0));
    assert_eq!(world.left.names(), ["a", "c", "c/one", "c/two", "x"]);
    world.assert_settled();
}

#[test]
fn renames_survive_a_chain_of_names() {
    let world = World::synced(&[
        ("log", "newest"),
        ("log.1", "middle one"),
        ("log.2", "the oldest one"),
    ]);
    world.left.remove("log.2");
    world.left.rename("log.1", "log.2");
    world.left.rename("log", "log.1");
    world.left.write("log", "brand new");
    let oldest = world.right.inode("log");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(
        ran.steps(),
        [
            "right create log",
            "right move log.1",
            "right move log.2",
            "right remove log.2"
        ]
    );
    assert_eq!(ran.bytes(), 9, "more than the new log travelled");
    assert_eq!(world.right.inode("log.1"), oldest, "it was copied");
    assert_eq!(world.trash(), ["right log.2"]);
    assert_eq!(world.right.read("log"), b"brand new");
    assert_eq!(world.right.read("log.1"), b"newest");
    assert_eq!(world.right.read("log.2"), b"middle one");
    world.assert_settled();
}

#[test]
fn two_names_exchanged_are_exchanged_there() {
    let world = World::synced(&[("a", "first"), ("b", "second"), ("d/x", "1"), ("e/y", "2")]);
    world.left.rename("a", "t");
    world.left.rename("b", "a");
    world.left.rename("t", "b");
    world.right.rename("d", "t");
    world.right.rename("e", "d");
    world.right.rename("t", "e");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(
        ran.steps(),
        ["left move d", "left move e", "right move a", "right move b"]
    );
    assert_eq!(ran.bytes(), 0);
    assert_eq!(world.right.read("a"), b"second");
    assert_eq!(world.left.read("e/x"), b"1");
    assert_eq!(world.left.read("d/y"), b"2");
    world.assert_settled();
}

#[test]
fn names_passed_round_a_circle_and_edits_under_the_old_ones() {
    let world = World::synced(&[
        ("a", "first"),
        ("b", "second one"),
        ("c", "the third"),
        ("log", "1"),
        ("log.1", "22"),
    ]);
    world.left.rename("c", "t");
    world.left.rename("b", "c");
    world.left.rename("a", "b");
    world.left.rename("t", "a");
    world.right.write("b", "edited meanwhile");
    world.left.rename("log.1", "log.2");
    world.left.rename("log", "log.1");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let steps = ran.steps();
    let moves: Vec<_> = steps.iter().filter(|step| step.contains("move")).collect();
    assert_eq!(moves.len(), 5, "{steps:?}");
    assert_eq!(ran.bytes(), 16, "only the edit travels: {steps:?}");
    assert_eq!(world.left.read("c"), b"edited meanwhile");
    assert_eq!(world.right.read("a"), b"the third");
    assert_eq!(world.right.read("b"), b"first");
    assert_eq!(world.left.names(), ["a", "b", "c", "log.1", "log.2"]);
    world.assert_settled();
    let undone = world.undo(None);
    assert_eq!(undone.exit(), 0, "{undone:?}");
    assert_eq!(world.right.read("a"), b"first");
    assert_eq!(world.right.read("b"), b"edited meanwhile");
    assert_eq!(world.right.read("c"), b"the third");
    assert_eq!(world.left.read("c"), b"second one");
    assert_eq!(world.right.names(), ["a", "b", "c", "log", "log.1"]);
}

#[test]
fn a_file_moved_and_edited_and_one_moved_into_a_new_directory() {
    let world = World::synced(&[
        ("a/file", "first version"),
        ("b", "to be moved along"),
        ("d/keep", "k"),
    ]);
    world.left.mkdir("new/deep");
    world.left.rename("a/file", "new/deep/file");
    world.left.rename("b", "new/b");
    world.right.write("a/file", "edited under its old name");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("new/deep/file"), b"edited under its old name");
    assert!(!world.right.has("a/file"));
    assert!(
        ran.steps().contains(&"right move new/b".to_owned()),
        "{:?}",
        ran.steps()
    );
    world.assert_settled();
}

#[test]
fn a_name_put_over_another_and_an_edit_of_it_over_there() {
    let world = World::synced(&[("b", "to be put over"), ("c", "moves over b")]);
    world.left.rename("c", "b");
    world.right.write("c", "edited under its old name");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.names(), ["b"]);
    assert_eq!(world.left.read("b"), b"edited under its old name");
    world.assert_settled();
}

#[test]
fn s22_names_passed_on_are_shown_as_they_are_done() {
    let world = World::synced(&[
        ("log", "1"),
        ("log.1", "12"),
        ("a", "one"),
        ("b", "other"),
        ("x/f", "in x"),
        ("y/g", "in y"),
    ]);
    for (from, to) in [
        ("log.1", "log.2"),
        ("log", "log.1"),
        ("a", "aside"),
        ("b", "a"),
        ("aside", "b"),
        ("x", "aside"),
        ("y", "x"),
        ("aside", "y"),
    ] {
        world.left.rename(from, to);
    }
    world.right.write("log", "edited over there");
    let shown = world.run(&Options {
        dry_run: true,
        ..Options::default()
    });
    let done = world.sync();
    assert_eq!(shown.steps(), done.steps());
    assert_eq!(done.exit(), 0, "{done:?}");
    assert!(
        shown
            .steps()
            .iter()
            .filter(|step| step.starts_with("right move"))
            .count()
            >= 6,
        "{:?}",
        shown.steps()
    );
    assert_eq!(world.right.read("log.1"), b"edited over there");
    world.assert_settled();
}

#[test]
fn a_directory_moved_into_one_that_was_removed_there() {
    let world = World::synced(&[("a/x", "moves"), ("b/y", "1"), ("c", "1")]);
    world.left.rename("a", "b/a");
    world.right.remove("b");
    let ran = world.sync();
    assert!(ran.exit() < 2, "{ran:?}");
    assert_eq!(world.left.names_of(b"moves").len(), 1, "{:?}", world.left.names());
    world.assert_settled();
}

#[test]
fn s15_two_directories_moved_into_each_other() {
    let world = World::synced(&[("a/x", "of a"), ("b/y", "of b")]);
    world.left.rename("a", "b/a");
    world.right.rename("b", "a/b");
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert!(
        ran.said
            .conflicts
            .iter()
            .any(|conflict| conflict.clash == Clash::Moved)
    );
    for text in ["of a", "of b"] {
        assert!(
            !world.left.names_of(text.as_bytes()).is_empty(),
            "{:?}",
            world.left.names()
        );
    }
    world.assert_settled();
}

#[test]
fn a_directory_renamed_differently_on_both_sides_loses_nothing() {
    let world = World::synced(&[("d/x", "1"), ("d/y", "2")]);
    world.left.rename("d", "left-name");
    world.right.rename("d", "right-name");
    world.right.write("right-name/x", "edited there");
    let ran = world.sync();
    assert!(ran.exit() <= 1, "{ran:?}");
    for text in ["edited there", "2"] {
        assert!(
            !world.left.names_of(text.as_bytes()).is_empty(),
            "{:?}",
            world.left.names()
        );
    }
    world.assert_settled();
}

#[test]
fn directories_nested_in_each_other_move_apart() {
    let world = World::synced(&[("a/b/c/deep", "1"), ("a/b/mid", "2"), ("a/top", "3")]);
    world.left.rename("a/b/c", "c");
    world.left.rename("a/b", "b");
    world.left.rename("a", "z");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.bytes(), 0, "{:?}", ran.steps());
    assert_eq!(world.right.names(), ["b", "b/mid", "c", "c/deep", "z", "z/top"]);
    world.assert_settled();
}

#[test]
fn s28_an_attribute_set_between_scan_and_move_is_an_edit() {
    let world = World::synced(&[("a", "1"), ("d/x", "2")]);
    world.left.rename("a", "b");
    world.left.rename("d", "e");
    let right = world.right.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Planned { .. } = event {
            right.chmod("a", 0o600);
            right.chmod("d", 0o700);
        }
    });
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.report.right.moved, 2, "{ran:?}");
    world.sync();
    for tree in [&world.left, &world.right] {
        let modes = ["b", "e"].map(|name| tree.mode(name) & 0o7777);
        assert_eq!(modes, [0o600, 0o700]);
    }
    world.assert_settled();
}

/// One run moves a thing and sets attributes on it; what somebody sets on it meanwhile is an edit, not what was looked at.
#[test]
fn s28_attributes_set_before_a_run_sets_others_are_not_overwritten() {
    let world = World::synced(&[("a", "1"), ("d/x", "2"), ("still/x", "3"), ("keep", "4")]);
    world.left.rename("a", "b");
    world.left.rename("d", "e");
    for name in ["b", "e", "still"] {
        world.left.chmod(name, 0o750);
    }
    let right = world.right.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Planned { .. } = event {
            for name in ["a", "d", "still"] {
                right.chmod(name, 0o705);
            }
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    let modes = |tree: &Tree| ["b", "e", "still"].map(|name| tree.mode(name));
    assert_eq!(modes(&world.right), [0o705; 3]);
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(modes(&world.left), modes(&world.right));
    world.assert_settled();
}

/// Both edits keep the size and put the time back. The move takes the second one along; what was to be written over it is not.
#[test]
fn s28_an_edit_between_scan_and_move_is_not_overwritten_under_the_new_name() {
    let world = World::synced(&[("a", "1"), ("keep", "2")]);
    let quietly = |tree: &Tree, name: &str, text: &str| {
        let time = tree.mtime(name);
        tree.write(name, text);
        tree.set_mtime(name, time);
    };
    world.left.rename("a", "b");
    quietly(&world.left, "b", "L");
    let right = world.right.clone();
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Planned { .. } = event {
            quietly(&right, "a", "R");
        }
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    assert_eq!(ran.report.right.moved, 1, "{ran:?}");
    assert_eq!(world.right.read("b"), b"R");
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    for tree in [&world.left, &world.right] {
        assert_eq!([tree.names_of(b"L").len(), tree.names_of(b"R").len()], [1, 1]);
    }
    world.assert_settled();
}

/// Names of one file are one file: what the run does to it under one name is nobody's edit under another.
#[test]
fn s30_attributes_of_a_file_under_one_name_do_not_hold_up_its_other_names() {
    let world = World::new();
    for (one, other) in [("edited", "edited too"), ("kept", "gone"), ("one", "two")] {
        world.left.write(one, "1");
        world.left.hard_link(one, other);
    }
    world.left.write("keep", "1");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    for (name, secs) in [
        ("edited", 1_500_000_001),
        ("kept", 1_500_000_002),
        ("one", 1_500_000_003),
    ] {
        world.left.set_mtime(name, (secs, 1));
    }
    world.right.write("edited", "2, by right");
    world.left.remove("gone");
    world.left.chmod("one", 0o600);
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert!(!world.right.has("gone"));
    for tree in [&world.left, &world.right] {
        assert_eq!(tree.read("edited too"), b"2, by right");
        assert_eq!(tree.mtime("kept"), (1_500_000_002, 1));
        assert_eq!((tree.mode("two"), tree.mtime("two")), (0o600, (1_500_000_003, 1)));
    }
    world.assert_settled();
}

/// What stands in a directory that moves comes along: a name in it is free only if it is free there now.
#[test]
fn a_directory_that_moves_into_one_that_moves_meets_what_the_other_side_made_there() {
    let world = World::synced(&[("d/x", "1"), ("b/y", "2"), ("a/z", "3")]);
    world.right.rename("d", "a/d");
    world.right.rename("b", "a/d/c");
    world.left.write("d/c", "made on the left");
    let ran = world.sync();
    assert!(ran.said.problems.is_empty(), "{ran:?}");
    assert_eq!(ran.exit(), 1, "{ran:?}");
    for tree in [&world.left, &world.right] {
        assert_eq!(tree.names_of(b"made on the left").len(), 1);
        assert_eq!(tree.read("a/d/c/y"), b"2");
        assert_eq!(tree.read("a/d/x"), b"1");
    }
    let ran = world.sync();
    assert_eq!(ran.steps(), Vec::<String>::new());
}

/// What a run that was killed leaves when it had put a directory in the place of a file and not yet brought the file's new name: nothing
/// says that what the other side made under that name is the same file.
#[test]
fn s23_another_file_under_the_new_name_of_one_that_is_gone_is_no_edit_of_it() {
    let world = World::synced(&[("a", "agreed on"), ("keep", "1")]);
    world.left.rename("a", "e");
    world.left.mkdir("a");
    world.right.write("e", "made by right");
    world.right.remove("a");
    world.right.mkdir("a");
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?} {:?}", world.trash());
    for tree in [&world.left, &world.right] {
        assert_eq!(tree.names_of(b"agreed on").len(), 1);
        assert_eq!(tree.names_of(b"made by right").len(), 1);
    }
    world.assert_settled();
}

/// By inode it is the same file on both sides.
#[test]
fn s13_a_file_renamed_alike_on_both_sides_and_edited_on_one_is_an_edit() {
    let world = World::synced(&[("a", "agreed on"), ("keep", "1")]);
    world.left.rename("a", "e");
    world.right.rename("a", "e");
    world.right.write("e", "edited by right");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    for tree in [&world.left, &world.right] {
        assert_eq!(tree.names(), ["e", "keep"]);
        assert_eq!(tree.read("e"), b"edited by right");
    }
    world.assert_settled();
}

/// As editors save: another file has its name. That is an edit, wherever the two directories went.
#[test]
fn s14_a_file_saved_anew_goes_into_a_directory_that_its_own_side_renamed() {
    let world = World::synced(&[("a/y", "1"), ("e/b", "agreed on")]);
    world.left.rename("e/b", "a/c");
    world.right.write("e/saving", "saved by right");
    world.right.rename("e/saving", "e/b");
    world.right.rename("a", "c");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    for tree in [&world.left, &world.right] {
        assert!(!tree.has("e/b"));
        assert_eq!(tree.read("c/c"), b"saved by right");
    }
    world.assert_settled();
}

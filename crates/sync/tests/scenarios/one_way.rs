//! Mirror, copy, push and pull.

use syncline_model::{Mode, Pair, Side};
use syncline_sync::{MaxDelete, Options};

use crate::world::{World, rel};

fn mode(mode: Mode) -> Options {
    Options {
        mode,
        ..Options::default()
    }
}

#[test]
fn s21_a_mirror_is_identical_afterwards_and_the_rest_is_in_the_trash() {
    let world = World::synced(&[
        ("same", "1"),
        ("edited", "1"),
        ("removed", "1"),
        ("d/moved", "some bytes"),
    ]);
    world.right.write("edited", "newer on the receiver");
    world.right.set_mtime("edited", (4_000_000_000, 0));
    world.right.write("extra/file", "only there");
    world.right.remove("removed");
    world.right.chmod("same", 0o600);
    world.left.rename("d/moved", "moved");
    world.left.symlink("same", "link");
    let before = world.left.look();
    let ran = world.run(&mode(Mode::Mirror));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.report.left.steps(), 0);
    assert_eq!(world.left.look(), before, "the source was changed");
    world.assert_equal();
    let trash = world.trash();
    for name in ["right edited", "right extra/file"] {
        assert!(trash.contains(&name.to_owned()), "{trash:?}");
    }
    let again = world.run(&mode(Mode::Mirror));
    assert_eq!(again.report.run, None, "{again:?}");
}

/// What a pull that is to make identical does.
#[test]
fn s21_a_mirror_may_come_from_the_right() {
    let world = World::synced(&[
        ("edited", "1"),
        ("removed", "1"),
        ("d/moved", "some bytes"),
        ("other", "1"),
    ]);
    world.left.write("edited", "a local edit");
    world.left.write("other", "an edit elsewhere");
    world.left.remove("removed");
    world.left.rename("d/moved", "moved");
    let pull = |only: &[&str]| Options {
        leader: Side::Right,
        writes: Pair::new(true, false),
        only: only.iter().map(|path| rel(path)).collect(),
        ..mode(Mode::Mirror)
    };
    let before = world.right.look();
    let ran = world.run(&pull(&["edited", "removed"]));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("edited"), b"1");
    assert_eq!(world.left.read("removed"), b"1");
    assert_eq!(world.left.read("other"), b"an edit elsewhere");
    assert!(
        world.trash().contains(&"left edited".to_owned()),
        "{:?}",
        world.trash()
    );
    let ran = world.run(&pull(&[]));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.look(), before, "the place was changed");
    world.assert_equal();
    assert_eq!(world.run(&pull(&[])).report.run, None);
}

#[test]
fn s21_a_mirror_of_types_and_directories_that_clash() {
    let world = World::new();
    world.left.write("a", "a file");
    world.left.write("b/inside", "a directory");
    world.right.write("a/deep/er", "a directory");
    world.right.write("b", "a file");
    let ran = world.run(&mode(Mode::Mirror));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.assert_equal();
    assert!(
        world.trash().contains(&"right a/deep/er".to_owned()),
        "{:?}",
        world.trash()
    );
    assert_eq!(world.run(&mode(Mode::Mirror)).report.run, None);
}

#[test]
fn a_copy_adds_and_updates_and_never_removes() {
    let world = World::new();
    world.left.write("new", "n");
    world.left.write("both", "from left");
    world.right.write("both", "on the right, longer");
    world.right.write("theirs", "t");
    let ran = world.run(&mode(Mode::Copy));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.names(), ["both", "new", "theirs"]);
    assert_eq!(world.right.read("both"), b"from left");
    assert_eq!(world.left.names(), ["both", "new"]);
    world.left.remove("new");
    let ran = world.run(&mode(Mode::Copy));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert!(world.right.has("new"), "a copy removed something");
    assert_eq!(world.run(&mode(Mode::Copy)).report.run, None);
}

#[test]
fn push_writes_there_alone_and_pull_here_alone() {
    let world = World::synced(&[("a", "1"), ("b", "1"), ("c", "1")]);
    world.left.write("a", "2 left");
    world.right.write("b", "2 right");
    world.left.write("c", "3 left");
    world.right.write("c", "3 right!");
    let one_way = |left, right| Options {
        writes: Pair::new(left, right),
        ..Options::default()
    };
    let before = world.left.look();
    let ran = world.run(&one_way(false, true));
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(world.left.look(), before, "push wrote here");
    assert_eq!(world.right.read("a"), b"2 left");
    assert_eq!(world.right.read("c"), b"3 right!", "a conflict does not wait");
    let before = world.right.look();
    let ran = world.run(&one_way(true, false));
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(world.right.look(), before, "pull wrote there");
    assert_eq!(world.left.read("b"), b"2 right");
    assert_eq!(world.left.read("c"), b"3 left");
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(world.left.names().len(), 4);
    world.assert_settled();
}

#[test]
fn a_mirror_of_an_emptied_source_needs_a_word() {
    let world = World::new();
    for n in 0..20 {
        world.left.write(&format!("{n}"), format!("{n}"));
    }
    world.sync();
    for n in 0..20 {
        world.left.remove(&format!("{n}"));
    }
    let ran = world.run(&mode(Mode::Mirror));
    assert_eq!(ran.exit(), 3, "{ran:?}");
    assert_eq!(world.right.names().len(), 20);
    let mut sure = mode(Mode::Mirror);
    sure.max_delete = MaxDelete::None;
    world.left.write("one", "left");
    let ran = world.run(&sure);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.names(), ["one"]);
}

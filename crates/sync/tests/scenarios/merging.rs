//! What changed goes to the other side, and nothing else happens.

#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]

use syncline_model::Side;
use syncline_sync::{Event, Options};

use crate::world::World;

#[test]
fn s01_two_filled_trees_become_their_union() {
    let world = World::new();
    for tree in [&world.left, &world.right] {
        tree.write("both/same.txt", "the same bytes");
    }
    world.left.write("both/here.txt", "left only");
    world.right.write("there/too.txt", "right only!");
    world.left.write("differs.txt", "one version");
    world.right.write("differs.txt", "the other version");
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(ran.report.conflicts, 1);
    assert_eq!(world.left.names_of(b"one version").len(), 1);
    assert_eq!(world.left.names_of(b"the other version").len(), 1);
    assert_eq!(world.left.read("there/too.txt"), b"right only!");
    assert_eq!(world.right.read("both/here.txt"), b"left only");
    assert!(
        !ran.steps()
            .iter()
            .any(|step| step.contains("create both/same.txt") || step.contains("update both/same.txt")),
        "{:?}",
        ran.steps()
    );
    world.assert_settled();
}

#[test]
fn a_first_copy_carries_everything_and_a_second_run_nothing() {
    let world = World::new();
    for n in 0..50 {
        world
            .left
            .write(&format!("d{}/f{n}", n % 5), format!("content {n}"));
    }
    world.left.write("empty", "");
    world.left.chmod("d1/f1", 0o640);
    world.left.chmod("d2", 0o711);
    world.left.set_mtime("d3/f3", (1_234_567_890, 123_456_789));
    world.left.set_mtime("d4", (1_000_000_000, 5));
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.report.right.created, 56);
    assert_eq!(ran.report.left.steps(), 0);
    assert_eq!(world.right.mtime("d4"), (1_000_000_000, 5));
    world.assert_settled();
}

#[test]
fn changes_of_both_sides_cross_in_one_run() {
    let world = World::synced(&[("a", "1"), ("b", "1"), ("c", "1"), ("d/e", "1")]);
    world.left.write("a", "2 by left");
    world.right.write("b", "2 by right");
    world.left.remove("c");
    world.right.remove("d");
    world.left.write("new/left", "l");
    world.right.write("new/right", "r");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("a"), b"2 by left");
    assert_eq!(world.left.read("b"), b"2 by right");
    assert_eq!(world.left.names(), ["a", "b", "new", "new/left", "new/right"]);
    assert_eq!(world.trash(), ["left b", "left d/e", "right a", "right c"]);
    world.assert_settled();
}

#[test]
fn s05_an_edit_beats_a_deletion() {
    let world = World::synced(&[("d/file", "first"), ("d/other", "x")]);
    world.left.remove("d/file");
    world.right.write("d/file", "edited there");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("d/file"), b"edited there");
    assert_eq!(ran.said.yielded, [("d/file".to_owned(), Side::Left)]);
    world.assert_settled();
}

#[test]
fn s06_a_deleted_directory_keeps_what_was_new_or_edited_in_it() {
    let world = World::synced(&[
        ("d/e/old", "1"),
        ("d/e/edited", "1"),
        ("d/gone", "1"),
        ("d/f/g", "1"),
        ("keep", "1"),
    ]);
    world.left.remove("d");
    world.right.write("d/e/edited", "2 there");
    world.right.write("d/e/new", "born there");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.names(), ["d", "d/e", "d/e/edited", "d/e/new", "keep"]);
    assert_eq!(world.left.read("d/e/edited"), b"2 there");
    world.assert_settled();
}

#[test]
fn s07_other_bytes_of_the_same_size_and_time_are_noticed() {
    let world = World::synced(&[("file", "aaaa"), ("x", "y")]);
    world.assert_settled();
    let time = world.left.mtime("file");
    world.left.write("file", "bbbb");
    world.left.set_mtime("file", time);
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("file"), b"bbbb");
    world.assert_settled();
}

#[test]
fn s08_an_older_version_put_back_with_its_old_time_is_a_change() {
    let world = World::new();
    world.left.write("file", "version one");
    world.left.set_mtime("file", (1_500_000_000, 1));
    world.sync();
    world.left.write("file", "version two, longer");
    world.left.set_mtime("file", (1_600_000_000, 1));
    world.sync();
    world.right.write("file", "version one");
    world.right.set_mtime("file", (1_500_000_000, 1));
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("file"), b"version one");
    assert_eq!(world.left.mtime("file"), (1_500_000_000, 1));
    world.assert_settled();
}

#[test]
fn s09_a_file_dated_in_the_future_does_not_win_for_ever() {
    let world = World::new();
    world.left.write("file", "from the future");
    world.left.set_mtime("file", (4_102_444_800, 0));
    world.sync();
    world.right.write("file", "edited today");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("file"), b"edited today");
    world.assert_settled();
}

#[test]
fn s11_a_file_against_a_directory_concerns_that_name_alone() {
    let world = World::new();
    world.left.write("name", "a file here");
    world.right.write("name/inside", "a directory there");
    world.left.write("rest/a", "1");
    world.right.write("rest/b", "2");
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(world.left.read("name/inside"), b"a directory there");
    assert_eq!(world.right.names_of(b"a file here").len(), 1);
    assert_eq!(world.left.read("rest/b"), b"2");
    assert_eq!(world.right.read("rest/a"), b"1");
    world.assert_settled();
}

#[test]
fn a_file_that_becomes_a_directory_and_back_is_a_change() {
    let world = World::synced(&[("x", "file"), ("y/inside", "1"), ("keep", "k")]);
    world.left.remove("x");
    world.left.write("x/now/deep", "dir");
    world.right.remove("y");
    world.right.write("y", "now a file");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("x/now/deep"), b"dir");
    assert_eq!(world.left.read("y"), b"now a file");
    world.assert_settled();
}

#[test]
fn s12_the_same_edit_on_both_sides_is_agreement() {
    let world = World::synced(&[("file", "first")]);
    world.left.write("file", "second, alike");
    world.right.write("file", "second, alike");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(ran.bytes(), 0);
    assert_eq!(ran.report.conflicts, 0);
    world.assert_settled();
}

#[test]
fn s16_attributes_travel_alone() {
    let world = World::synced(&[
        ("mode", "1234"),
        ("time", "1234"),
        ("dir/inside", "1"),
        ("owned", "1234"),
    ]);
    world.left.chmod("mode", 0o600);
    world.right.set_mtime("time", (1_111_111_111, 222_333_444));
    world.right.chmod("dir", 0o750);
    std::os::unix::fs::chown(world.left.at("owned"), Some(12_345), Some(54_321)).unwrap();
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(
        ran.steps(),
        [
            "left metadata dir",
            "left metadata time",
            "right metadata mode",
            "right metadata owned"
        ]
    );
    assert_eq!(ran.bytes(), 0);
    assert_eq!(world.right.mode("mode"), 0o600);
    assert_eq!(world.left.mtime("time"), (1_111_111_111, 222_333_444));
    assert_eq!(world.trash(), Vec::<String>::new());
    world.assert_settled();
}

#[test]
fn s16_attributes_of_one_side_and_bytes_of_the_other_both_arrive() {
    let world = World::synced(&[("file", "first")]);
    world.left.chmod("file", 0o700);
    world.right.write("file", "edited there");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.read("file"), b"edited there");
    assert_eq!(world.right.mode("file"), 0o700);
    world.assert_settled();
}

#[test]
fn sp11_s17_odd_names_arrive_byte_for_byte() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let long = "l".repeat(255);
    let names: &[&[u8]] = &[
        b" leading",
        b"trailing ",
        b"new\nline",
        b"tab\t",
        b"*?[]#\\",
        b"a -> b",
        b"-rf",
        b"not\xff\xfeutf8",
        long.as_bytes(),
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"Case",
        b"case",
        b"con",
        b"a:b|c",
        b"...",
        b"..a",
        b"~",
        b"$(x)",
        b"`y`",
        b"trailing\r",
        "\u{202e}rtl".as_bytes(),
        b"%2e%2e",
        b".synclin",
        b"\x01\x7f",
        b"a.~2~",
    ];
    let world = World::new();
    for (n, name) in names.iter().enumerate() {
        let path = world.left.at("d").join(OsStr::from_bytes(name));
        world.left.mkdir("d");
        std::fs::write(path, format!("{n}")).unwrap();
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.look().len(), names.len() + 1);
    world.assert_settled();
}

#[test]
fn s18_a_deleted_name_that_looks_like_a_pattern_hits_only_itself() {
    let world = World::synced(&[
        ("a[1]", "x"),
        ("a1", "x1"),
        ("README", "top"),
        ("d/README", "below"),
        ("*", "star"),
        ("other", "o"),
    ]);
    for name in ["a[1]", "README", "*"] {
        world.left.remove(name);
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.names(), ["a1", "d", "d/README", "other"]);
    world.assert_settled();
}

#[test]
fn s20_skipped_deletions_stay_skipped() {
    let world = World::synced(&[("a", "1"), ("b", "1"), ("d/c", "1"), ("stay", "1")]);
    let mut options = Options::default();
    options.skip_deletes.right = true;
    world.left.remove("a");
    world.left.remove("d");
    let first = world.run(&options);
    assert_eq!(first.exit(), 0, "{first:?}");
    assert_eq!(world.right.read("a"), b"1");
    for _ in 0..2 {
        let again = world.run(&options);
        assert_eq!(again.steps(), Vec::<String>::new());
        assert!(!world.left.has("a"), "the deleted file came back");
        assert!(!world.left.has("d"), "the deleted directory came back");
        assert_eq!(world.right.read("d/c"), b"1");
    }
    world.right.write("a", "edited there since");
    world.run(&options);
    assert_eq!(world.left.read("a"), b"edited there since");
}

#[test]
fn s22_a_dry_run_shows_what_the_run_then_does() {
    let world = World::synced(&[
        ("a", "1"),
        ("gone/x", "1"),
        ("old/f", "moved"),
        ("c", "1"),
        ("m", "1"),
    ]);
    world.left.write("a", "edited");
    world.left.remove("gone");
    world.right.rename("old", "new");
    world.left.write("c", "one");
    world.right.write("c", "other");
    world.right.chmod("m", 0o600);
    let before = (world.left.look(), world.right.look());
    let shown = world.run(&Options {
        dry_run: true,
        ..Options::default()
    });
    assert_eq!(
        (world.left.look(), world.right.look()),
        before,
        "a dry run changed something"
    );
    assert_eq!(shown.report.run, None);
    let done = world.sync();
    assert_eq!(shown.steps(), done.steps());
    assert!(shown.steps().iter().any(|step| step.contains("remove gone/x")));
    assert!(shown.steps().iter().any(|step| step.contains("move new")));
    assert_eq!(shown.said.conflicts, done.said.conflicts);
    assert_eq!(shown.exit(), done.exit());
    assert_eq!(
        (shown.report.left, shown.report.right),
        (done.report.left, done.report.right),
        "announced counts are the counts"
    );
    world.assert_settled();
}

#[test]
fn s28_what_changes_during_the_run_is_seen_by_the_next() {
    let world = World::synced(&[("a", "1"), ("d/b", "1")]);
    world.left.write("new", "triggers a run");
    let (left, right) = (world.left.clone(), world.right.clone());
    let ran = world.run_while(&Options::default(), move |event| {
        if let Event::Phase("committing") = event {
            left.write("a", "edited meanwhile");
            left.write("d/late", "made meanwhile");
            right.remove("d/b");
        }
    });
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("a"), b"edited meanwhile");
    assert_eq!(world.right.read("d/late"), b"made meanwhile");
    assert!(!world.left.has("d/b"));
    world.assert_settled();
}

#[test]
fn only_the_paths_asked_for_take_part() {
    let world = World::synced(&[("in/a", "1"), ("out/b", "1"), ("in/deep/c", "1")]);
    world.left.write("in/a", "2");
    world.left.write("in/deep/new", "n");
    world.left.write("out/b", "2");
    world.right.remove("in/deep/c");
    let only = Options {
        only: vec![crate::world::rel("in")],
        ..Options::default()
    };
    let ran = world.run(&only);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("in/a"), b"2");
    assert_eq!(world.right.read("out/b"), b"1");
    assert!(!world.left.has("in/deep/c"));
    let ran = world.sync();
    assert_eq!(ran.steps(), ["right update out/b"]);
    world.assert_settled();
}

#[test]
fn directories_on_the_way_to_the_paths_asked_for_are_not_forgotten() {
    let world = World::synced(&[("a/b/c", "1"), ("keep", "1")]);
    world.left.write("a/b/c", "2, edited");
    world.left.write("new/way/file", "n");
    let only = Options {
        only: vec![crate::world::rel("a/b/c"), crate::world::rel("new/way/file")],
        ..Options::default()
    };
    let ran = world.run(&only);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("a/b/c"), b"2, edited");
    assert_eq!(world.right.read("new/way/file"), b"n");
    world.left.remove("a");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert!(!world.right.has("a"), "a deleted directory stayed");
    world.assert_settled();
}

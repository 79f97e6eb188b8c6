//! Absence is not deletion: roots that are gone, emptied, replaced or restored, brakes, a lost base.

#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use syncline_model::Side;
use syncline_sync::{MaxDelete, Options};

use crate::world::{World, copy_all, program};

fn accept(side: Side) -> Options {
    Options {
        accept: Some(side),
        ..Options::default()
    }
}

#[track_caller]
fn assert_refused(world: &World, named: &str) {
    let before = (world.left.look(), world.right.look());
    for _ in 0..2 {
        let ran = world.sync();
        assert_eq!(ran.exit(), 3, "{ran:?}");
        let reasons = ran.report.reasons.join("\n");
        assert!(
            reasons.contains("left") && reasons.contains("right"),
            "both roots are named: {reasons}"
        );
        assert!(reasons.contains(named), "{reasons}");
        assert!(
            reasons.contains("--accept"),
            "the option that answers it is named: {reasons}"
        );
        assert_eq!(ran.report.run, None);
    }
    assert_eq!(
        before,
        (world.left.look(), world.right.look()),
        "something was changed"
    );
}

fn files(world: &World, count: usize) {
    for n in 0..count {
        world
            .left
            .write(&format!("d{}/{n}", n % 3), format!("content {n}"));
    }
    assert_eq!(world.sync().exit(), 0);
}

#[test]
fn s02_an_emptied_root_deletes_nothing() {
    let mut world = World::new();
    files(&world, 5);
    for n in 0..3 {
        world.left.remove(&format!("d{n}"));
    }
    assert_refused(&world, "empty");
    world.left.remove(".syncline");
    world.reopen();
    assert_refused(&world, "marker");
    assert_eq!(world.right.names().len(), 8);
    let ran = world.run(&accept(Side::Left));
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.names().len(), 8, "a union brings them back");
    world.assert_settled();
}

#[test]
fn s02_another_directory_in_the_place_of_a_root_deletes_nothing() {
    let mut world = World::new();
    files(&world, 5);
    std::fs::rename(&world.right.0, world.beside("put-away")).unwrap();
    std::fs::create_dir(&world.right.0).unwrap();
    world.right.write("stranger", "1");
    world.reopen();
    assert_refused(&world, "marker");
    assert_eq!(world.left.names().len(), 8);
}

#[test]
fn s02_a_root_that_is_gone_is_no_deletion() {
    let world = World::new();
    files(&world, 5);
    std::fs::rename(&world.right.0, world.beside("put-away")).unwrap();
    let ran = world.sync();
    assert_eq!(ran.exit(), 3, "{ran:?}");
    assert!(ran.report.reasons.join("\n").contains("missing"), "{ran:?}");
    std::fs::rename(world.beside("put-away"), &world.right.0).unwrap();
    world.assert_settled();
}

/// A file system mounted for the time of a test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        program("umount", &["-l".as_ref(), self.0.as_ref()]);
    }
}

fn mount_tmpfs(at: &Path, size: &str) -> Option<Mounted> {
    let options = format!("size={size}");
    let arguments: [&OsStr; 6] = [
        "-t".as_ref(),
        "tmpfs".as_ref(),
        "-o".as_ref(),
        options.as_ref(),
        "tmpfs".as_ref(),
        at.as_ref(),
    ];
    program("mount", &arguments).then(|| Mounted(at.to_owned()))
}

#[test]
fn s02_a_directory_that_becomes_a_mount_point_decides_nothing() {
    let world = World::synced(&[("d/below/file", "1"), ("rest", "1")]);
    let at = world.left.at("d");
    let Some(_mounted) = mount_tmpfs(&at, "1m") else {
        eprintln!("not root: nothing can be mounted");
        return;
    };
    world.left.write("rest", "2, edited");
    let ran = world.sync();
    assert_eq!(ran.exit(), 2, "{ran:?}");
    assert_eq!(ran.problem_paths(), ["d"]);
    assert_eq!(world.right.read("d/below/file"), b"1");
    assert_eq!(world.right.read("rest"), b"2, edited");
    drop(_mounted);
    world.assert_settled();
}

#[test]
fn s26_a_full_disk_is_a_problem_of_that_path_and_heals() {
    let mut mounted = None;
    let at = tempfile::tempdir().unwrap();
    let path = at.path();
    let world = World::prepared(|_, right| {
        mounted = mount_tmpfs(path, "2m");
        if mounted.is_some() {
            std::fs::remove_dir(&right.0).unwrap();
            std::os::unix::fs::symlink(path, &right.0).unwrap();
        }
    });
    if mounted.is_none() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    world.left.write("small", "fits");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.left.write("large", vec![7; 4 << 20]);
    world.left.write("small", "fits too");
    // One after the other: while the large one is being written there is no room for anything.
    let ran = world.run(&Options {
        jobs: 1,
        ..Options::default()
    });
    assert_eq!(ran.exit(), 2, "{ran:?}");
    assert_eq!(ran.problem_paths(), ["large"]);
    assert_eq!(world.right.read("small"), b"fits too");
    assert!(!world.right.has("large"), "half a file is visible");
    assert!(program(
        "mount",
        &["-o".as_ref(), "remount,size=16m".as_ref(), path.as_ref()]
    ));
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.assert_settled();
}

#[test]
fn s04_a_replica_restored_from_an_older_backup_is_recognised() {
    for changed in [Side::Left, Side::Right] {
        let mut world = World::new();
        files(&world, 12);
        let backup = world.beside("backup");
        copy_all(&world.left.0, &backup);
        let tree = world.tree(changed).clone();
        tree.write("d0/0", "newer than the backup");
        tree.write("born/later", "newer than the backup too");
        tree.remove("d1/1");
        assert_eq!(world.sync().exit(), 0);
        world.assert_settled();
        std::fs::rename(&world.left.0, world.beside("lost")).unwrap();
        std::fs::rename(&backup, &world.left.0).unwrap();
        world.reopen();
        assert_refused(&world, "restored");
        let ran = world.run(&accept(Side::Left));
        assert_eq!(ran.exit(), 1, "changes since {changed:?}: {ran:?}");
        assert_eq!(
            world.left.names_of(b"newer than the backup").len(),
            1,
            "the newer version is gone"
        );
        assert!(world.left.has("born/later"), "a newer file was deleted");
        assert!(world.left.has("d1/1"), "a union deletes nothing");
        world.assert_settled();
    }
}

#[test]
fn s34_a_lost_base_is_rebuilt_by_content() {
    let mut world = World::new();
    files(&world, 30);
    world.left.write("d0/0", "edited after the loss");
    world.right.write("new", "born after the loss");
    world.lose_base();
    let ran = world.sync();
    assert_eq!(ran.exit(), 1, "{ran:?}");
    assert_eq!(ran.report.left.removed + ran.report.right.removed, 0);
    assert_eq!(world.left.names_of(b"edited after the loss").len(), 1);
    assert!(world.left.has("new"));
    assert!(
        ran.bytes() < 200,
        "content travelled that both had: {}",
        ran.bytes()
    );
    world.assert_settled();
}

#[test]
fn s75_too_many_removals_wait_for_a_word() {
    let world = World::new();
    files(&world, 30);
    world.left.write("d0/0", "an edit beside it");
    for n in 0..30 {
        if n % 3 != 0 {
            world.left.remove(&format!("d{}/{n}", n % 3));
        }
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 3, "{ran:?}");
    assert!(ran.report.reasons.join("").contains("--max-delete"), "{ran:?}");
    assert_eq!(
        world.right.read("d0/0"),
        b"an edit beside it",
        "what is harmless is done"
    );
    assert_eq!(world.right.names().len(), 33, "nothing was removed");
    let again = world.sync();
    assert_eq!(again.exit(), 3, "{again:?}");
    let sure = Options {
        max_delete: MaxDelete::Count(20),
        ..Options::default()
    };
    let ran = world.run(&sure);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.names().len(), 13);
    world.assert_settled();
}

#[test]
fn s75_too_many_overwrites_wait_and_moves_do_not_count() {
    let world = World::new();
    files(&world, 30);
    for n in 0..30 {
        world
            .left
            .write(&format!("d{}/{n}", n % 3), format!("ransom {n}, encrypted"));
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 3, "{ran:?}");
    assert_eq!(world.right.read("d0/0"), b"content 0");
    let ran = world.run(&Options {
        max_delete: MaxDelete::None,
        ..Options::default()
    });
    assert_eq!(ran.exit(), 0, "{ran:?}");
    for n in 0..3 {
        world.left.rename(&format!("d{n}"), &format!("moved{n}"));
    }
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    world.assert_settled();
}

/// The root that was scanned is the one that is written to, by its handle: what came to its place meanwhile is left alone.
#[test]
fn sp12_what_is_put_in_the_place_of_a_root_between_scan_and_apply_is_left_alone() {
    let mut world = World::new();
    files(&world, 5);
    world.left.write("new", "new");
    world.left.write("d0/0", "edited");
    world.left.remove("d1");
    let (right, aside) = (world.right.0.clone(), world.beside("put-away"));
    let ran = world.run_while(&Options::default(), move |event| {
        if let syncline_sync::Event::Phase("copying") = event {
            std::fs::rename(&right, &aside).unwrap();
            std::fs::create_dir_all(right.join("d1")).unwrap();
            std::fs::write(right.join("d1/1"), "not ours").unwrap();
        }
    });
    assert!([0, 2, 3].contains(&ran.exit()), "{ran:?}");
    assert_eq!(world.right.names(), ["d1", "d1/1"]);
    assert_eq!(world.right.read("d1/1"), b"not ours");
    assert!(!world.right.has(".syncline"), "it was taken for the root");
    world.reopen();
    let before = world.left.look();
    let ran = world.sync();
    assert_eq!(ran.exit(), 3, "{ran:?}");
    assert_eq!(
        (world.left.look(), world.right.names()),
        (before, vec!["d1".to_owned(), "d1/1".to_owned()])
    );
}

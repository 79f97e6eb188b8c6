//! Everything that a directory may hold, kept as what it is.

#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]

use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use syncline_sync::Options;

use crate::world::{Tree, What, World};

#[test]
fn sp7_s30_links_are_kept_and_never_followed() {
    let world = World::new();
    std::fs::create_dir(world.beside("outside")).unwrap();
    std::fs::write(world.beside("outside/secret"), "not ours").unwrap();
    world.left.symlink("../outside", "out");
    world.left.symlink("nowhere", "dangling");
    world.left.symlink("loop", "loop");
    world.left.write("d/file", "1");
    world.left.symlink("../d", "d/up");
    world.left.set_mtime("dangling", (1_000_000_000, 7));
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(
        world.right.look()[&b"out"[..]].what,
        What::Link("../outside".into())
    );
    assert!(world.right.names().iter().all(|name| !name.contains("secret")));
    world.assert_settled();
    world.right.remove("dangling");
    world.right.symlink("elsewhere", "dangling");
    world.left.remove("loop");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(
        world.left.look()[&b"dangling"[..]].what,
        What::Link("elsewhere".into())
    );
    assert!(!world.right.has("loop"));
    world.assert_settled();
}

/// What a link leads to is carried in its place; what the other side makes of that is not written through the link, and said so.
#[test]
fn s30_nothing_is_written_through_a_link_that_is_followed() {
    let world = World::new();
    world.left.write("d/file", "1");
    world.left.symlink("d/file", "alias");
    let options = Options {
        links: syncline_model::replica::Links::Follow,
        ..Options::default()
    };
    assert_eq!(world.run(&options).exit(), 0);
    assert_eq!(world.right.look()[&b"alias"[..]].what, What::File(b"1".to_vec()));
    world.left.write("d/file", "2");
    assert_eq!(world.run(&options).exit(), 0);
    assert_eq!(world.right.read("alias"), b"2");
    world.right.write("alias", "edited over there");
    for _ in 0..2 {
        let ran = world.run(&options);
        assert_eq!(ran.exit(), 2, "{ran:?}");
        let told = |problem: &syncline_model::Problem| problem.message.contains("through a link");
        assert!(ran.said.problems.iter().any(told), "{ran:?}");
        assert_eq!(world.left.read("d/file"), b"2");
        assert_eq!(world.right.read("alias"), b"edited over there");
    }
}

#[test]
fn s30_pipes_are_made_anew() {
    let world = World::new();
    mknodat(
        CWD,
        world.left.at("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    world.left.write("rest", "1");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.look()[&b"pipe"[..]].what, What::Fifo);
    world.assert_settled();
    world.left.remove("pipe");
    world.left.write("pipe", "a file now");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.read("pipe"), b"a file now");
    world.assert_settled();
}

#[test]
fn sp8_s30_devices_of_the_other_side_are_not_made_unasked() {
    let world = World::new();
    let (null, mode) = (world.left.at("null"), Mode::from_raw_mode(0o666));
    if mknodat(CWD, &null, FileType::CharacterDevice, mode, makedev(1, 3)).is_err() {
        eprintln!("skipped: not root: no devices");
        return;
    }
    world.left.write("rest", "1");
    for _ in 0..2 {
        let ran = world.sync();
        assert_eq!(ran.exit(), 2, "{ran:?}");
        let told = |problem: &syncline_model::Problem| problem.message.contains("1 device file is not made");
        assert!(ran.said.problems.iter().any(told), "{ran:?}");
        assert_eq!(world.right.names(), ["rest"]);
    }
    assert_eq!(world.left.look()[&b"null"[..]].what, What::Device(makedev(1, 3)));
}

#[test]
fn s30_holes_stay_holes() {
    let world = World::new();
    let file = std::fs::File::create(world.left.at("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"in the middle", 32 << 20).unwrap();
    drop(file);
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let copied = world.right.at("sparse").metadata().unwrap();
    assert_eq!(copied.len(), 64 << 20);
    assert!(
        copied.blocks() * 512 < 2 << 20,
        "the holes were filled: {} blocks",
        copied.blocks()
    );
    world.assert_settled();
}

#[test]
fn s30_names_of_one_file_stay_one_file() {
    let world = World::new();
    world.left.write("d/one", "one file of three names");
    world.left.hard_link("d/one", "two");
    world.left.hard_link("d/one", "d/three");
    world.left.write("alone", "1");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.at("two").metadata().unwrap().nlink(), 3);
    assert_eq!(ran.report.right.bytes, 24, "the content travelled more than once");
    world.assert_settled();
    world.left.hard_link("two", "four");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.at("four").metadata().unwrap().nlink(), 4);
    assert_eq!(ran.bytes(), 0);
    world.assert_settled();
    world.right.write("two", "edited under one name");
    let ran = world.sync();
    assert!(ran.exit() <= 1, "{ran:?}");
    assert_eq!(world.left.read("d/one"), b"edited under one name");
    world.assert_settled();
}

#[test]
fn s30_names_of_one_file_stay_one_file_without_trash() {
    for names in [&["a/g"][..], &["a/g", "a/h", "z"][..]] {
        let world = World::new();
        world.left.write("a/f", "one file");
        for name in names {
            world.left.hard_link("a/f", name);
        }
        assert_eq!(world.sync().exit(), 0);
        world.left.write("a/f", "edited under one name");
        let ran = world.run(&Options {
            trash: false,
            ..Options::default()
        });
        assert_eq!(ran.exit(), 0, "{names:?}: {ran:?}");
        let links = world.right.at("a/f").metadata().unwrap().nlink();
        assert_eq!(links, 1 + names.len() as u64, "{names:?}: the group was parted");
        assert_eq!(world.right.read(names[0]), b"edited under one name");
        world.assert_settled();
    }
}

#[test]
fn sp8_s30_set_id_bits_of_the_other_side_are_not_trusted() {
    let world = World::new();
    world.left.write("tool", "#!/bin/sh");
    world.left.chmod("tool", 0o4755);
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.mode("tool"), 0o755);
    assert_eq!(world.left.mode("tool"), 0o4755, "the source was changed");
    let again = world.sync();
    assert_eq!(again.report.run, None, "{again:?}");
    assert_eq!(world.left.mode("tool"), 0o4755, "the source was changed");
}

#[test]
fn s31_empty_directories_come_and_go() {
    let world = World::synced(&[("d/file", "1")]);
    world.left.mkdir("empty/in/empty");
    world.right.remove("d/file");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.right.names(), ["d", "empty", "empty/in", "empty/in/empty"]);
    assert_eq!(world.left.names(), world.right.names());
    world.right.remove("empty/in/empty");
    world.left.remove("d");
    let ran = world.sync();
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(world.left.names(), ["empty", "empty/in"]);
    world.assert_settled();
}

#[test]
fn extended_attributes_travel_when_asked_for() {
    let world = World::new();
    world.left.write("file", "1");
    let set = rustix::fs::setxattr(
        world.left.at("file"),
        "user.note",
        b"mine",
        rustix::fs::XattrFlags::empty(),
    );
    if set.is_err() {
        // A file system without them: nothing to carry.
        return;
    }
    let mut options = Options::default();
    options.classes.xattrs = true;
    let ran = world.run(&options);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let mut held = [0; 16];
    let length = rustix::fs::getxattr(world.right.at("file"), "user.note", &mut held).unwrap();
    assert_eq!(&held[..length], b"mine");
    assert_eq!(world.run(&options).report.run, None);
}

/// Each is merged by its name; what both changed differently is decided as any tie, and said.
#[test]
fn s16_extended_attributes_are_merged_one_by_one() {
    let set = |tree: &Tree, name: &str, value: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(tree.at("file"), name, value.as_bytes(), flags).is_ok()
    };
    let get = |tree: &Tree, name: &str| {
        let mut held = [0; 16];
        let length = rustix::fs::getxattr(tree.at("file"), name, &mut held).ok()?;
        Some(String::from_utf8_lossy(&held[..length]).into_owned())
    };
    let world = World::new();
    world.left.write("file", "1");
    if !["user.old", "user.gone"]
        .iter()
        .all(|name| set(&world.left, name, "o"))
    {
        eprintln!("skipped: the file system of temporary files has no extended attributes");
        return;
    }
    let mut options = Options::default();
    options.classes.xattrs = true;
    assert_eq!(world.run(&options).exit(), 0);
    set(&world.left, "user.color", "red");
    set(&world.left, "user.old", "edited");
    set(&world.left, "user.both", "a");
    set(&world.right, "user.rating", "5");
    set(&world.right, "user.both", "b");
    rustix::fs::removexattr(world.right.at("file"), "user.gone").unwrap();
    let ran = world.run(&options);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    let named = |note: &String| note.contains("other attributes on both sides") && note.contains("file");
    assert!(ran.said.notes.iter().any(named), "{ran:?}");
    for tree in [&world.left, &world.right] {
        let held = ["color", "old", "rating", "both", "gone"].map(|name| get(tree, &format!("user.{name}")));
        let wanted =
            [Some("red"), Some("edited"), Some("5"), Some("b"), None].map(|value| value.map(str::to_owned));
        assert_eq!(held, wanted);
    }
    assert_eq!(world.run(&options).report.run, None);
    // An undo takes back what the run carried, and needs not be told what that was.
    set(&world.left, "user.color", "blue");
    assert_eq!(world.run(&options).exit(), 0);
    assert_eq!(get(&world.right, "user.color").as_deref(), Some("blue"));
    let undone = world.undo(None);
    assert_eq!(undone.exit(), 0, "{undone:?}");
    assert_eq!(get(&world.right, "user.color").as_deref(), Some("red"));
}

/// An access control list as the kernel keeps it: the owner, one more user, the group, the mask, everybody else.
fn acl(user: u32, perms: [u16; 5]) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (1u16, NOBODY),
        (2, user),
        (4, NOBODY),
        (0x10, NOBODY),
        (0x20, NOBODY),
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for ((tag, id), perm) in entries.into_iter().zip(perms) {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn set_acl(at: &std::path::Path, name: &str, acl: &[u8]) -> bool {
    rustix::fs::setxattr(at, name, acl, rustix::fs::XattrFlags::empty()).is_ok()
}

fn acl_of(at: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let len = rustix::fs::getxattr(at, name, &mut bytes[..]).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

#[test]
fn s16_access_control_lists_travel_with_files_and_directories() {
    let world = World::new();
    world.left.write("open/file", "1");
    world.left.write("plain", "1");
    let shared = acl(12_345, [6, 4, 4, 4, 0]);
    if !set_acl(&world.left.at("open/file"), ACCESS, &shared) {
        eprintln!("skipped: the file system of temporary files has no access control lists");
        return;
    }
    let inherited = acl(54_321, [7, 5, 5, 5, 0]);
    assert!(set_acl(&world.left.at("open"), DEFAULT, &inherited));
    let mut options = Options::default();
    options.classes.acls = true;
    let ran = world.run(&options);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(acl_of(&world.right.at("open/file"), ACCESS), Some(shared));
    assert_eq!(acl_of(&world.right.at("open"), DEFAULT), Some(inherited.clone()));
    assert_eq!(acl_of(&world.right.at("plain"), ACCESS), None);
    // A file that comes to lie in that directory has the list that it has on the other side, not what the directory hands down.
    world.left.write("plain2", "2");
    std::fs::rename(world.left.at("plain2"), world.left.at("open/plain2")).unwrap();
    // Another list, and none: only the attributes travel.
    let narrow = acl(12_345, [6, 0, 0, 4, 0]);
    assert!(set_acl(&world.right.at("open/file"), ACCESS, &narrow));
    rustix::fs::removexattr(world.left.at("open"), DEFAULT).unwrap();
    let ran = world.run(&options);
    assert_eq!(ran.exit(), 0, "{ran:?}");
    assert_eq!(acl_of(&world.left.at("open/file"), ACCESS), Some(narrow));
    assert_eq!(acl_of(&world.right.at("open"), DEFAULT), None);
    assert_eq!(acl_of(&world.right.at("open/plain2"), ACCESS), None);
    assert_eq!(ran.bytes(), 1);
    let ran = world.run(&options);
    assert_eq!(ran.steps(), Vec::<String>::new());
}

/// Two modes that nobody agreed on: neither side's others may read what the other side keeps to its owner.
#[test]
fn s16_a_file_that_is_private_on_one_side_stays_private() {
    let cases = [
        (0o600, 0o644, 0o600),
        (0o755, 0o644, 0o744),
        (0o4711, 0o700, 0o700),
    ];
    for (left, right, both) in cases {
        let world = World::new();
        for (tree, mode) in [(&world.left, left), (&world.right, right)] {
            tree.write("f", "the same");
            tree.chmod("f", mode);
        }
        assert_eq!(world.sync().exit(), 0);
        for tree in [&world.left, &world.right] {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(tree.at("f")).unwrap().permissions(),
            );
            assert_eq!(mode & 0o7777, both, "{left:o} and {right:o}");
        }
        assert_eq!(world.sync().exit(), 0);
        world.assert_settled();
    }
}

/// Whoever may not remove the files of others on one side may not on both.
#[test]
fn s16_what_protects_a_directory_on_one_side_protects_it_on_both() {
    let mode = |tree: &Tree| {
        let found = std::fs::metadata(tree.at("d")).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::mode(&found) & 0o7777
    };
    for (left, right, both) in [(0o1777, 0o777, 0o1777), (0o777, 0o1775, 0o1775)] {
        let world = World::new();
        for (tree, bits) in [(&world.left, left), (&world.right, right)] {
            tree.mkdir("d");
            tree.chmod("d", bits);
        }
        assert_eq!(world.sync().exit(), 0);
        assert_eq!(
            (mode(&world.left), mode(&world.right)),
            (both, both),
            "{left:o} and {right:o}"
        );
    }
}

//! Absence is not deletion, with the real binary: mount points that cease to be there, and parts that cannot be read.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use support::mounted::{Mounted, done, skipped};
use support::{Desk, Ended};

const NOBODY: u32 = 65_534;

fn fill(desk: &Desk, root: &str) {
    for name in ["x", "y", "d/z", "d/e/w"] {
        desk.write(&format!("{root}/{name}"), name);
    }
}

fn refused(desk: &Desk) {
    let before = (desk.tree("a"), desk.tree("b"));
    for _ in 0..2 {
        let ended = desk.ends(3, &["sync", "a", "b"]);
        for name in ["a", "b"] {
            let path = desk.path(name);
            assert!(ended.err.contains(path.to_str().unwrap()), "{}", ended.err);
        }
        assert_eq!((desk.tree("a"), desk.tree("b")), before);
    }
}

fn unmount(desk: &Desk, name: &str) {
    assert!(done("umount", &["-l", desk.path(name).to_str().unwrap()]));
}

/// The disk of a root is taken out between two runs and put in again.
#[test]
fn s2_a_root_whose_disk_is_taken_out_deletes_nothing() {
    let desk = Desk::new();
    let at = desk.dir("b");
    let Some(_mounted) = Mounted::made(&desk, 16 << 20, "mkfs.ext4", &["-q"], &at) else {
        return skipped("not root, or no mkfs.ext4: nothing can be mounted");
    };
    std::fs::remove_dir(at.join("lost+found")).unwrap();
    fill(&desk, "a");
    desk.ends(0, &["sync", "a", "b"]);
    let before = desk.tree("a");
    unmount(&desk, "b");
    refused(&desk);
    assert_eq!(desk.tree("a"), before);
    // Another disk in its place is another one.
    let other = Mounted::with(&["-t", "tmpfs", "tmpfs"], &at).unwrap();
    refused(&desk);
    desk.write("b/theirs", "of another disk");
    refused(&desk);
    drop(other);
    let image = desk.path("image");
    assert!(done(
        "mount",
        &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]
    ));
    desk.write("a/x", "edited meanwhile");
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
}

/// The disk is taken out while a run writes to it: what is here stays, the place where it was mounted is not written to.
#[test]
fn s2_a_disk_that_is_taken_out_during_a_run_deletes_nothing() {
    let desk = Desk::new();
    let at = desk.dir("b");
    let Some(_mounted) = Mounted::made(&desk, 32 << 20, "mkfs.ext4", &["-q"], &at) else {
        return skipped("not root, or no mkfs.ext4: nothing can be mounted");
    };
    std::fs::remove_dir(at.join("lost+found")).unwrap();
    fill(&desk, "a");
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/big", &"x".repeat(2 << 20));
    desk.write("b/there", "made over there");
    desk.remove("a/y");
    let here = desk.tree("a");
    let mut run = desk.start(&["sync", "a", "b", "-v", "--bandwidth", "2M"]);
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "copying"));
    unmount(&desk, "b");
    lines.for_each(drop);
    let code = run.wait().unwrap().code().unwrap();
    assert!([0, 2, 3, 4].contains(&code), "ended with {code}");
    for (name, text) in &here {
        assert_eq!(desk.tree("a").get(name), Some(text), "{name}");
    }
    assert!(
        std::fs::read_dir(&at).unwrap().next().is_none(),
        "the mount point was written to"
    );
    refused(&desk);
    let image = desk.path("image");
    assert!(done(
        "mount",
        &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]
    ));
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
    assert!(desk.read("a/there").is_some() && desk.read("b/y").is_none());
}

/// A disk below the root is taken out: one problem, nothing below it is decided, the rest goes on.
#[test]
fn s2_a_disk_below_the_root_that_is_taken_out_decides_nothing_below() {
    let desk = Desk::new();
    let at = desk.dir("b/disk");
    let Some(mounted) = Mounted::with(&["-t", "tmpfs", "tmpfs"], &at) else {
        return skipped("not root: nothing can be mounted");
    };
    fill(&desk, "a/disk");
    desk.write("a/x", "x");
    desk.ends(0, &["sync", "a", "b"]);
    let before = desk.tree("a/disk");
    drop(mounted);
    desk.write("a/x", "edited");
    for _ in 0..2 {
        let ended = desk.ends(2, &["sync", "a", "b", "--json"]);
        let problems = ended.events("problem");
        assert_eq!(problems.len(), 1, "{}", ended.out);
        assert_eq!(problems[0]["path"], "disk");
        assert_eq!(desk.tree("a/disk"), before);
        assert!(desk.tree("b/disk").is_empty(), "the mount point was filled");
        assert_eq!(desk.read("b/x").as_deref(), Some("edited"));
    }
}

/// A directory that cannot be read is one problem and exit 2: nothing below it is decided on either side, the rest goes on.
#[test]
fn s3_what_cannot_be_read_is_a_problem_and_exit_2_and_nothing_below_it_is_decided() {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let run = |desk: &Desk, words: &[&str]| -> Ended {
        if root {
            desk.run_as(NOBODY, words)
        } else {
            desk.run(words)
        }
    };
    for locked in ["a", "b"] {
        let desk = Desk::new();
        fill(&desk, "a");
        desk.dir("state");
        if root {
            for name in [
                "", "a", "a/d", "a/d/e", "a/x", "a/y", "a/d/z", "a/d/e/w", "state", "home",
            ] {
                chown(desk.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let ended = run(&desk, &["sync", "a", "b"]);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        let before = desk.tree("a");
        let other = if locked == "a" { "b" } else { "a" };
        std::fs::remove_file(desk.path(other).join("d/z")).unwrap();
        std::fs::remove_file(desk.path(locked).join("y")).unwrap();
        let dir = desk.path(&format!("{locked}/d"));
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o000)).unwrap();
        for _ in 0..2 {
            let ended = run(&desk, &["sync", "a", "b", "--json"]);
            assert_eq!(ended.code, 2, "{locked}: {}{}", ended.out, ended.err);
            let problems = ended.events("problem");
            assert_eq!(problems.len(), 1, "{locked}: {}", ended.out);
            assert_eq!(
                (&problems[0]["path"], &problems[0]["kind"]),
                (&"d".into(), &"denied".into())
            );
            assert_eq!(ended.summary()["problems"], 1);
        }
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(!desk.path(other).join("y").exists(), "the rest did not go on");
        assert_eq!(desk.read(&format!("{locked}/d/z")).as_deref(), Some("d/z"));
        assert_eq!(desk.read(&format!("{other}/d/e/w")).as_deref(), Some("d/e/w"));
        // Once it can be read again what was removed over there is a removal.
        let ended = run(&desk, &["sync", "a", "b"]);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        assert_eq!(desk.tree("a"), desk.tree("b"));
        assert_eq!(desk.tree("a").len(), before.len() - 2);
    }
}

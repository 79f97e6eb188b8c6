//! What somebody who is not root gets of a tree that root made: everything that he may make, and one word each on the rest.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use support::{Desk, Ended};

const NOBODY: u32 = 65_534;

/// Runs it as somebody who is not root: as we are, unless we are root.
fn run(desk: &Desk, words: &[&str]) -> Ended {
    if root() {
        desk.run_as(NOBODY, words)
    } else {
        desk.run(words)
    }
}

fn root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn lines<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.contains(word)).collect()
}

#[test]
fn s30_what_only_root_may_make_is_said_once_and_the_rest_arrives() {
    let desk = Desk::new();
    for n in 0..3 {
        desk.write(&format!("a/d/{n}"), "text");
    }
    let devices = root();
    for n in 0..3 {
        if devices {
            let device = desk.path(&format!("a/null{n}"));
            let made = Command::new("mknod").arg(&device).args(["c", "1", "3"]).status();
            assert!(made.unwrap().success());
            chown(desk.path(&format!("a/d/{n}")), Some(1234), Some(1234)).unwrap();
        } else {
            eprintln!("not root: no devices here, and no files of others");
        }
    }
    desk.dir("state");
    if root() {
        for name in ["", "a", "a/d", "state", "home"] {
            chown(desk.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let then = Command::new("touch")
        .args(["-d", "2001-02-03"])
        .arg(desk.path("a/d"))
        .status();
    assert!(then.unwrap().success());
    for again in [false, true] {
        let ended = run(&desk, &["sync", "a", "b"]);
        assert_eq!(
            ended.code,
            if devices { 2 } else { 0 },
            "{}{}",
            ended.out,
            ended.err
        );
        let owners = lines(&ended.out, "owners");
        assert_eq!(owners.len(), 1, "{}", ended.out);
        assert!(owners[0].contains("neither compared nor set"), "{}", ended.out);
        if devices {
            let said = lines(&ended.err, "problem");
            assert_eq!(said.len(), 1, "{}", ended.err);
            assert!(said[0].contains("3 device files are not made"), "{}", said[0]);
        }
        assert_eq!(lines(&ended.out, "create").is_empty(), again, "{}", ended.out);
    }
    // Times and modes are his to set, those of directories too.
    for name in ["d", "d/0", "d/1", "d/2"] {
        let (here, there) = (desk.path(&format!("a/{name}")), desk.path(&format!("b/{name}")));
        let (here, there) = (here.metadata().unwrap(), there.metadata().unwrap());
        assert_eq!(here.modified().unwrap(), there.modified().unwrap(), "{name}");
        assert_eq!(here.permissions().mode(), there.permissions().mode(), "{name}");
    }
    let ended = run(&desk, &["sync", "a", "b", "--no-owner", "--exclude", "null*"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert!(lines(&ended.out, "owners").is_empty(), "{}", ended.out);
}

#[test]
fn a_file_that_may_not_be_read_is_a_problem_of_the_side_where_it_lies() {
    let desk = Desk::new();
    desk.write("a/secret", "text");
    desk.write("a/open", "text");
    desk.dir("state");
    if !root() {
        eprintln!("skipped: not root, so nothing here is somebody else's");
        return;
    }
    for name in ["", "a", "a/open", "state", "home"] {
        chown(desk.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::fs::set_permissions(desk.path("a/secret"), PermissionsExt::from_mode(0o600)).unwrap();
    let ended = run(&desk, &["sync", "a", "b"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("problem left secret"), "{}", ended.err);
    assert_eq!(desk.read("b/open").as_deref(), Some("text"));
}

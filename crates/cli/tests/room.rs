//! Full, over quota, read-only: real small file systems, filled by the real binary. Needs root; says so where it is not.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::path::Path;

use support::Desk;
use support::mounted::{Mounted, done, skipped};

/// An ext4 file system of 32 MiB at `at`.
fn ext4(desk: &Desk, at: &Path) -> Option<Mounted> {
    Mounted::made(desk, 32 << 20, "mkfs.ext4", &["-q", "-F", "-m", "0"], at)
}

fn problems(err: &str) -> Vec<&str> {
    err.lines().filter(|line| line.starts_with("problem")).collect()
}

#[test]
fn s26_a_real_disk_that_fills_up_is_said_once_and_the_next_run_goes_on() {
    let desk = Desk::new();
    let small = desk.dir("small");
    let Some(_mounted) = ext4(&desk, &small) else {
        return skipped("not root, or no mkfs.ext4: nothing can be mounted");
    };
    std::fs::write(small.join("ballast"), vec![1; 14 << 20]).unwrap();
    desk.dir("small/b");
    for old in ["gone", "kept", "moves"] {
        desk.write(&format!("a/{old}"), old);
    }
    desk.ends(0, &["sync", "a", "small/b"]);
    for n in 0..300 {
        desk.write(&format!("a/d{}/{n:03}", n % 10), &format!("{n:064}").repeat(1024));
    }
    desk.remove("a/gone");
    std::fs::rename(desk.path("a/moves"), desk.path("a/moved")).unwrap();
    let ended = desk.ends(2, &["sync", "a", "small/b"]);
    let there = desk.tree("small/b");
    let whole = there.iter().filter(|(_, text)| text.len() == 64 << 10).count();
    assert!((20..300).contains(&whole), "{whole} files arrived\n{}", ended.err);
    // Nothing torn stands there, and what needed no room was done.
    let torn = |(name, text): &(&String, &String)| !name.ends_with('/') && text.len() != 64 << 10;
    let rest: Vec<_> = there.iter().filter(torn).map(|(name, _)| name.as_str()).collect();
    assert_eq!(rest, ["kept", "moved"]);
    let said = problems(&ended.err);
    assert_eq!(said.len(), 1, "{}", ended.err);
    for words in [
        "No space left on device",
        &format!("{} files wait", 300 - whole),
        "small/b",
        "make room there and run again",
    ] {
        assert!(said[0].contains(words), "{words:?} in {}", said[0]);
    }
    assert!(ended.out.contains("; 1 problem;"), "{}", ended.out);
    // Again, with the room as it is, for scripts.
    let ended = desk.ends(2, &["sync", "a", "small/b", "--json"]);
    let problem = &ended.events("problem")[..];
    assert_eq!(problem.len(), 1, "{}", ended.out);
    assert_eq!(problem[0]["kind"], "full");
    assert_eq!(ended.summary()["problems"], 1);
    let arrived = |(_, text): &(&String, &String)| text.len() == 64 << 10;
    let whole = desk.tree("small/b").iter().filter(arrived).count();
    // With room it goes on where it was.
    std::fs::remove_file(small.join("ballast")).unwrap();
    let ended = desk.ends(0, &["sync", "a", "small/b", "--json"]);
    let created = ended.summary()["right"]["created"].as_u64().unwrap();
    assert!(
        created == 300 - whole as u64,
        "{created} were made, {whole} had arrived"
    );
    assert_eq!(desk.tree("a"), desk.tree("small/b"));
}

#[test]
fn s26_a_place_that_may_only_be_read_is_said_once() {
    let desk = Desk::new();
    let small = desk.dir("small");
    let Some(_mounted) = ext4(&desk, &small) else {
        return skipped("not root, or no mkfs.ext4: nothing can be mounted");
    };
    desk.dir("small/b");
    desk.write("a/x", "x");
    desk.write("a/gone", "x");
    desk.ends(0, &["sync", "a", "small/b"]);
    let remount = |how: &str| done("mount", &["-o", how, small.to_str().unwrap()]);
    assert!(remount("remount,ro"));
    // Nothing to be done there: nothing to be said.
    let ended = desk.ends(0, &["sync", "a", "small/b"]);
    assert!(problems(&ended.err).is_empty(), "{}", ended.err);
    for n in 0..20 {
        desk.write(&format!("a/d/{n}"), "new");
    }
    desk.remove("a/gone");
    let shown = desk.ends(2, &["sync", "a", "small/b", "-n"]);
    let ended = desk.ends(2, &["sync", "a", "small/b"]);
    let said = problems(&ended.err);
    assert_eq!(problems(&shown.err), said, "what is shown is what is done");
    assert_eq!(said.len(), 1, "{}", ended.err);
    assert!(
        said[0].contains("may not be written") && said[0].contains("20 files and 2 other changes wait"),
        "{}",
        said[0]
    );
    // To fetch from there is no fault.
    assert!(remount("remount,rw"));
    desk.write("small/b/y", "y");
    assert!(remount("remount,ro"));
    desk.ends(2, &["sync", "a", "small/b"]);
    assert_eq!(desk.read("a/y").as_deref(), Some("y"));
    assert!(remount("remount,rw"));
    desk.ends(0, &["sync", "a", "small/b"]);
    assert_eq!(desk.tree("a"), desk.tree("small/b"));
}

#[test]
fn s26_a_quota_is_said_once() {
    let desk = Desk::new();
    let small = desk.dir("small");
    let options = "size=64m,usrquota_block_hardlimit=2m,mode=0777";
    let Some(_mounted) = Mounted::with(&["-t", "tmpfs", "-o", options, "tmpfs"], &small) else {
        return skipped("not root, or a kernel without quotas on tmpfs");
    };
    // Root is above quotas: somebody else runs the program.
    for n in 0..80 {
        desk.write(&format!("a/{n:02}"), &format!("{n:064}").repeat(1024));
    }
    desk.dir("small/b");
    desk.dir("state");
    let own = ["a", "state", "home", "small/b"].map(|name| desk.path(name));
    for path in &own {
        assert!(done("chown", &["-R", "65534:65534", path.to_str().unwrap()]));
    }
    let open = desk.path("");
    assert!(done("chmod", &["0777", open.to_str().unwrap()]));
    let ended = desk.run_as(65534, &["sync", "a", "small/b"]);
    assert_eq!(ended.code, 2, "{}{}", ended.out, ended.err);
    let said = problems(&ended.err);
    assert_eq!(said.len(), 1, "{}", ended.err);
    assert!(
        said[0].contains("quota") && said[0].contains("files wait"),
        "{}",
        said[0]
    );
}

#[test]
fn s19_a_run_keeps_its_own_trash_and_the_oldest_of_any_session_makes_room() {
    const EARLY: &str = "went before its time";
    let desk = Desk::new();
    let small = desk.dir("small");
    let Some(_mounted) = ext4(&desk, &small) else {
        return skipped("not root, or no mkfs.ext4: nothing can be mounted");
    };
    desk.dir("small/b");
    for name in ["one", "two"] {
        desk.write(&format!("a/{name}"), &name.repeat(2 << 20));
    }
    desk.write("a/stays", "stays");
    desk.ends(0, &["sync", "a", "small/b"]);
    desk.dir("c");
    desk.ends(0, &["sync", "c", "small/b"]);
    // More than a tenth of the disk, and yet it can be taken back.
    desk.remove("a/one");
    let ended = desk.ends(0, &["sync", "a", "small/b"]);
    assert!(
        !ended.out.contains(EARLY) && !ended.err.contains(EARLY),
        "{}{}",
        ended.out,
        ended.err
    );
    desk.ends(0, &["undo", "--of", "a", "small/b"]);
    assert!(desk.path("small/b/one").exists());
    desk.ends(0, &["sync", "a", "small/b"]);
    desk.remove("a/one");
    desk.ends(0, &["sync", "a", "small/b"]);
    // Another session fills the same trash: what the first one left there goes.
    desk.ends(0, &["sync", "c", "small/b"]);
    desk.remove("c/two");
    let ended = desk.ends(0, &["sync", "c", "small/b"]);
    assert!(
        ended.out.contains(EARLY) || ended.err.contains(EARLY),
        "{}{}",
        ended.out,
        ended.err
    );
    desk.ends(0, &["undo", "--of", "c", "small/b"]);
    assert!(desk.path("small/b/two").exists());
}

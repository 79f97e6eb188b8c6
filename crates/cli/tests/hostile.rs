//! A bucket in which somebody else may write whatever he likes, with the real binary: his objects can neither reach outside the folder
//! nor widen what its owner asked for.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use support::office::office;

/// A link and what is to lie below it, under one name, whichever came first and with that name already known as a directory or not:
/// nothing is ever written where the link leads.
#[test]
fn sp6_a_link_and_names_below_it_never_meet() {
    for (known, below_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let office = office();
        let desk = &office.desk;
        desk.write("outside/canary", "not ours");
        desk.write("mallory/x", "x");
        if known {
            desk.write("mallory/d/known", "known");
            desk.write("mallory/e/deep/known", "known");
        }
        desk.ends(0, &["-C", "mallory", "init", "s3://team/p"]);
        desk.ends(0, &["-C", "mallory", "sync"]);
        desk.ends(0, &["clone", "s3://team/p", "ben"]);
        let below = || {
            for key in ["d/canary", "d/new", "e/deep/new", "e/deep/canary"] {
                office.put(&format!("p/{key}"), b"from the bucket");
            }
        };
        if below_first {
            below();
            desk.ends(0, &["-C", "ben", "sync"]);
        }
        if known {
            desk.remove("mallory/d");
            desk.remove("mallory/e/deep");
        }
        desk.dir("mallory/e");
        for link in ["d", "e/deep"] {
            symlink(desk.path("outside"), desk.path(&format!("mallory/{link}"))).unwrap();
        }
        desk.write("mallory/y", "arrives");
        let words = ["-C", "mallory", "push", "--max-delete", "none"];
        assert!(desk.run(&words).code <= 2);
        if !below_first {
            below();
        }
        let held = office.objects("p/");
        let leads = |key: &str| held.get(key).is_some_and(|bytes| bytes.ends_with(b"/outside"));
        assert!(
            below_first || leads("p/d") && leads("p/e/deep"),
            "{:?}",
            held.keys()
        );
        for _ in 0..3 {
            let ended = desk.run(&["-C", "ben", "sync", "--max-delete", "none"]);
            assert!([0, 1, 2].contains(&ended.code), "{}{}", ended.out, ended.err);
            let outside: Vec<_> = desk.tree("outside").into_iter().collect();
            assert_eq!(outside, [("canary".to_owned(), "not ours".to_owned())]);
        }
        assert_eq!(desk.read("ben/y").as_deref(), Some("arrives"));
        assert_eq!(desk.read("ben/x").as_deref(), Some("x"));
    }
}

/// Links of a bucket are restored as the bytes that they are, wherever they lead, and nothing is read or written through them.
#[test]
fn sp7_links_of_a_bucket_are_restored_verbatim() {
    let office = office();
    let desk = &office.desk;
    desk.write("outside/secret", "not ours");
    let absolute = desk.path("outside/secret");
    let targets = [
        absolute.to_str().unwrap(),
        "../outside",
        "../../../../../../../etc/passwd",
        "/proc/self/root",
        "d/../../outside/./secret",
        "..",
        "/",
        "nowhere",
        "\u{1b}[2J\n",
    ];
    desk.dir("anna");
    for (number, target) in targets.iter().enumerate() {
        symlink(target, desk.path(&format!("anna/{number}"))).unwrap();
    }
    desk.ends(0, &["-C", "anna", "init", "s3://team/p"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    let held = office.objects("p/");
    assert!(!held.values().any(|bytes| bytes == b"not ours"), "{held:?}");
    desk.ends(0, &["clone", "s3://team/p", "ben"]);
    for (number, target) in targets.iter().enumerate() {
        let link = desk.path(&format!("ben/{number}"));
        assert_eq!(std::fs::read_link(link).unwrap().to_str(), Some(*target));
    }
    desk.ends(0, &["-C", "ben", "sync"]);
    assert_eq!(desk.tree("outside").len(), 1);
}

/// Power over this machine is not taken from a bucket: set-id bits are dropped, devices are a problem, for root too.
#[test]
fn sp8_nothing_in_a_bucket_gives_power() {
    let office = office();
    let desk = &office.desk;
    let bits = [
        ("user", 0o4755),
        ("group", 0o2755),
        ("both", 0o6755),
        ("sticky", 0o1755),
    ];
    for (name, bits) in bits {
        desk.write(&format!("mallory/{name}"), "#!/bin/sh");
        let path = desk.path(&format!("mallory/{name}"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(bits)).unwrap();
    }
    let mut devices = true;
    for (name, numbers) in [("disk", ["b", "7", "0"]), ("memory", ["c", "1", "1"])] {
        let made = Command::new("mknod")
            .arg(desk.path(&format!("mallory/{name}")))
            .args(numbers)
            .status();
        devices &= made.unwrap().success();
    }
    if !devices {
        eprintln!("not root: no devices here");
    }
    let capability = "security.capability";
    let power = [1u8, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    desk.write("mallory/ping", "#!/bin/sh");
    let able = rustix::fs::setxattr(desk.path("mallory/ping"), capability, &power, flags).is_ok();
    desk.ends(0, &["sync", "mallory", "s3://team/p", "--xattrs"]);
    desk.dir("ben");
    for _ in 0..2 {
        let ended = desk.ends(
            if devices { 2 } else { 0 },
            &["sync", "ben", "s3://team/p", "--xattrs"],
        );
        let said = ended.err.contains("2 device files are not made");
        assert_eq!(said, devices, "{}", ended.err);
    }
    for (name, bits) in bits {
        let meta = desk.path(&format!("ben/{name}")).metadata().unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, bits & 0o777, "{name}");
    }
    for name in ["disk", "memory"] {
        let path = desk.path(&format!("ben/{name}"));
        assert!(path.symlink_metadata().is_err(), "{name}");
    }
    let taken = rustix::fs::getxattr(desk.path("ben/ping"), capability, &mut [0u8; 64]);
    assert!(!able || taken.is_err());
}

/// What a bucket holds under our own names configures nothing here, and rules that it brings take nothing in that this side leaves out.
#[test]
fn sp13_nothing_in_a_bucket_widens_what_was_asked_for() {
    let office = office();
    let desk = &office.desk;
    let hostile =
        "place = \"s3://team/elsewhere\"\n[options]\nconflict = \"merge=touch hacked\"\nno_trash = true\n";
    for key in [
        "p/.syncline/repository.toml",
        "p/d/.syncline/repository.toml",
        "p/.syncline/config.toml",
        "p/.syncline/trash/x/y",
    ] {
        office.put(key, hostile.as_bytes());
    }
    office.put(
        "p/.synclineignore",
        b"!*\n!*.key\n!secret\n!.syncline/\n!.syncline/**\n",
    );
    office.put("p/other", b"other");
    desk.write("anna/id.key", "my key");
    desk.write("anna/secret", "my secret");
    desk.write("anna/.synclineignore", "*.key\n");
    desk.write("anna/x", "x");
    desk.ends(0, &["-C", "anna", "init", "s3://team/p", "--exclude", "secret"]);
    let kept = desk.read("anna/.syncline/repository.toml").unwrap();
    for _ in 0..2 {
        let ended = desk.run(&["-C", "anna", "sync"]);
        assert!(ended.code <= 1, "{}{}", ended.out, ended.err);
    }
    assert_eq!(desk.read("anna/other").as_deref(), Some("other"));
    assert_eq!(
        desk.read("anna/.syncline/repository.toml").as_deref(),
        Some(&*kept)
    );
    assert!(
        !desk.path("anna/d/.syncline").exists(),
        "a repository was made within this one"
    );
    assert!(!desk.path("anna/.syncline/config.toml").exists());
    let held = office.objects("p/");
    for mine in ["my key", "my secret"] {
        assert!(
            !held.values().any(|bytes| bytes == mine.as_bytes()),
            "{mine} was given away: {:?}",
            held.keys()
        );
    }
    assert!(office.objects("elsewhere").is_empty());
}

/// Only what lies in the tree and takes part is ever read: not what is left out, not what a link leads to outside.
#[test]
fn sr1_nothing_outside_the_tree_and_the_filter_is_given_away() {
    let office = office();
    let desk = &office.desk;
    desk.write("outside/secret", "not in the tree");
    desk.write("anna/d/private/key", "left out");
    desk.write("anna/d/x", "goes");
    symlink("../outside/secret", desk.path("anna/file")).unwrap();
    symlink("../outside", desk.path("anna/dir")).unwrap();
    symlink(desk.path("outside"), desk.path("anna/d/far")).unwrap();
    symlink("../d/private", desk.path("anna/d/near")).unwrap();
    for links in ["keep", "follow", "skip"] {
        let place = format!("s3://team/{links}");
        let ended = desk.run(&[
            "sync",
            "anna",
            &place,
            "--exclude",
            "private/",
            "--exclude",
            "near",
            "--links",
            links,
        ]);
        assert_eq!(
            ended.code,
            if links == "follow" { 2 } else { 0 },
            "{links}: {}{}",
            ended.out,
            ended.err
        );
        let held = office.objects(links);
        let holds = |text: &str| held.values().any(|bytes| bytes == text.as_bytes());
        assert!(holds("goes"), "{links}: {:?}", held.keys());
        assert!(
            !holds("not in the tree") && !holds("left out"),
            "{links}: {:?}",
            held.keys()
        );
        desk.ends(0, &["leave", "anna", &place]);
    }
}

//! Wrong uses end with 64 and say what to do; right ones that are no run end with 0.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use support::Desk;

#[test]
fn wrong_uses_end_with_64_and_say_what_to_do() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.dir("b");
    desk.dir("a/sub");
    desk.write("file", "x");
    desk.write("bad.rules", "ok\n//\n");
    for (words, said) in [
        (&["sync", "a"][..], &["one place alone", "--only"][..]),
        (&["sync", "a", "b", "c"], &["two places", "each pair"]),
        (&["sync"], &["no repository", "syncline init"]),
        (&["status"], &["no repository"]),
        (&["sync", "a", "a/sub"], &["lies within", "overlap"]),
        (&["sync", "a", "a"], &["same directory"]),
        (&["sync", "/", "a"], &["whole file system"]),
        (&["sync", "a", "file"], &["no directory"]),
        (
            &["sync", "a", "nas:docs"],
            &["store", "HOST:DIR", "ssh", "./nas:docs"],
        ),
        (
            &["sync", "a", "ssh://h/d"],
            &["ssh", "not in this release", "s3://"],
        ),
        (&["sync", "a", "gs://b"], &["gs://", "not in this release"]),
        (&["sync", "a", "rclone:r:p"], &["rclone", "not in this release"]),
        (&["sync", "a", "vol+s3://b"], &["volumes", "not in this release"]),
        (
            &["sync", "a", "s3://b/p@old"],
            &["snapshots", "not in this release"],
        ),
        (
            &["sync", "a", "s3://AKIA:CANARY@b/p"],
            &["credentials", "AWS_ACCESS_KEY_ID"],
        ),
        (&["sync", "a", "s3://b?secret_key=CANARY"], &["credentials"]),
        (&["sync", "a", "b", "--exclude", "!x"], &["--include"]),
        (
            &["sync", "a", "b", "--exclude", "a//b"],
            &["--exclude", "component"],
        ),
        (
            &["sync", "a", "b", "--filter-from", "bad.rules"],
            &["bad.rules:2"],
        ),
        (
            &["sync", "a", "b", "--filter-from", "none"],
            &["none", "not there"],
        ),
        (
            &["sync", "a", "b", "--max-delete", "many"],
            &["--max-delete", "20%"],
        ),
        (
            &["sync", "a", "b", "--conflict", "mine"],
            &["keep-both", "merge=CMD"],
        ),
        (
            &["sync", "a", "b", "--bandwidth", "fast"],
            &["--bandwidth", "10M"],
        ),
        (
            &["sync", "a", "b", "--time-limit", "soon"],
            &["--time-limit", "1h30m"],
        ),
        (&["sync", "a", "b", "--only", "../x"], &["outside"]),
        (&["sync", "a", "b", "--bogus"], &["--bogus"]),
        (&["mount", "a", "b"], &["mount"]),
        (&["log"], &["no session", "syncline sync LEFT RIGHT"]),
        (&["log", "--of", "a", "b"], &["no session of these two"]),
        (&["resolve", "--all"], &["--keep"]),
        (&["apply", "file"], &["no plan", "--plan"]),
        (&["leave", "a"], &["no repository"]),
        (&["config", "check", "--config", "none"], &["none", "not there"]),
        (&[], &["Usage"]),
    ] {
        let ended = desk.ends(64, words);
        for word in said {
            assert!(
                ended.err.contains(word),
                "{words:?} does not say {word:?}: {}",
                ended.err
            );
        }
        assert!(
            !ended.err.contains("CANARY") && !ended.out.contains("CANARY"),
            "{words:?}: {}",
            ended.err
        );
    }
    assert!(desk.tree("b").is_empty() && !desk.path("c").exists());
}

#[test]
fn places_that_are_not_there_end_with_4() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    for words in [
        &["sync", "none", "a"][..],
        &["sync", "a", "none/deeper"],
        &["clone", "none", "new"],
    ] {
        let ended = desk.ends(4, words);
        assert!(ended.err.contains("none"), "{}", ended.err);
        assert!(!desk.path("none").exists());
    }
}

#[test]
fn help_version_and_completions_are_no_failures() {
    let desk = Desk::new();
    assert_eq!(
        desk.ends(0, &["--version"]).out,
        format!("syncline {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(desk.ends(0, &["--help"]).out.contains("sync"));
    assert!(desk.ends(0, &["sync", "--help"]).out.contains("--max-delete"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(desk.ends(0, &["completions", shell]).out.contains("syncline"));
    }
}

#[test]
fn sk2_a_config_file_with_a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    desk.write(
        "c.toml",
        "[store.x]\nurl = \"s3://b\"\naccess-key-id = \"I\"\nsecret-access-key = \"CANARY\"\n",
    );
    let mode =
        |mode| std::fs::set_permissions(desk.path("c.toml"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let ended = desk.ends(4, &["config", "check", "--config", "c.toml"]);
    assert!(
        ended.err.contains("chmod 600") && !ended.err.contains("CANARY"),
        "{}",
        ended.err
    );
    mode(0o600);
    desk.ends(0, &["config", "check", "--config", "c.toml"]);
    desk.write("c.toml", "[store.x]\nurl = \"s3://b\"\n\ncolour = \"CANARY\"\n");
    let ended = desk.ends(64, &["config", "check", "--config", "c.toml"]);
    assert!(
        ended.err.contains("line 4") && ended.err.contains("colour"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("CANARY"), "{}", ended.err);
}

#[test]
fn doctor_tells_of_the_machine_and_of_places() {
    let desk = Desk::new()
        .with("AWS_SECRET_ACCESS_KEY", "CANARY")
        .with("AWS_ACCESS_KEY_ID", "CANARY");
    desk.dir("a");
    let ended = desk.ends(0, &["doctor", "a"]);
    for word in [
        "syncline",
        "state",
        "writable",
        "reachable",
        "names: exact",
        "environment",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    assert!(!ended.out.contains("CANARY"));
    let ended = desk.ends(4, &["doctor", "none", "--json"]);
    assert!(ended.events("check").iter().any(|check| check["ok"] == false));
    ended.summary();
}

#[test]
fn output_that_cannot_be_written_is_no_success() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = desk.command(&["sync", "a", "b"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(desk.tree("a"), desk.tree("b"));
    // A reader that went away is its own affair.
    desk.write("a/y", "y");
    let mut child = desk.start(&["sync", "a", "b"]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_an_option_cannot_take_is_said_with_the_option_and_a_way_on() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.dir("b");
    desk.ends(0, &["sync", "a", "b"]);
    for (words, said) in [
        (&["sync", "a", "b", "--trash", ""][..], &["--trash", "empty"][..]),
        (&["sync", "a", "b", "--trash", "s3://"], &["--trash", "no bucket"]),
        (&["sync", "a", "b", "--state", ""], &["--state"]),
        (&["sync", "a", "b", "--state", "a/x"], &["--state", "a/x"]),
        (&["sync", "", "b"], &["LEFT is empty"]),
        (&["sync", "a", ""], &["RIGHT is empty"]),
        (&["sync", "a", "b", "--only", ""], &["--only", "empty"]),
        (
            &["sync", "a", "b", "--only", "../x"],
            &["--only", "../x", "outside"],
        ),
        (&["restore", ""], &["empty PATH"]),
        (&["sync", "a", "b", "--plan", "gone/p"], &["--plan", "gone/p"]),
        (&["apply", "gone"], &["gone", "--plan"]),
        (&["-C", "gone", "sync"], &["-C", "gone"]),
        (&["undo", "gone"], &["gone", "syncline log"]),
        (&["sync", "a", "b", "--time-limit", "-1"], &["--time-limit", "-1"]),
        (&["sync", "a", "b", "--jobs", "-1"], &["--jobs", "-1"]),
        (&["sync", "a", "b", "--max-delete", "-1"], &["--max-delete", "-1"]),
        (&["sync", "a", "b", "--bandwidth", "-1"], &["--bandwidth", "-1"]),
    ] {
        let ended = desk.run(words);
        assert_eq!(ended.code, 64, "{words:?}\n{}", ended.err);
        for word in said {
            assert!(ended.err.contains(word), "{word:?} for {words:?}\n{}", ended.err);
        }
    }
    let ended = desk.ends(4, &["sync", "a", "b", "--trash", "gone/x"]);
    assert!(
        ended.err.contains("--trash") && ended.err.contains("gone/x"),
        "{}",
        ended.err
    );
}

#[test]
fn the_trash_of_a_run_that_never_was_cannot_be_emptied() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.ends(0, &["sync", "a", "b"]);
    let run = desk.ends(0, &["log", "--json"]).events("run")[0]["run"].clone();
    desk.ends(0, &["trash", "empty", run.as_str().unwrap(), "--yes"]);
    let ended = desk.ends(64, &["trash", "empty", "NOSUCHRUN", "--yes"]);
    assert!(ended.err.contains("NOSUCHRUN"), "{}", ended.err);
}

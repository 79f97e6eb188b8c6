//! Repositories on a bucket, with the real binary and an S3 server of our own.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use serde_json::json;
use support::office::office;

#[test]
fn b9_init_adopts_what_is_there_and_says_so() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "x");
    desk.write("anna/d/y", "y");
    desk.write("other/z", "z");
    let said = desk.ends(0, &["init", "s3://team/docs", "anna"]);
    assert!(said.out.contains("holds nothing"), "{}", said.out);
    desk.ends(0, &["-C", "anna", "sync"]);
    // Another prefix of the same bucket, and one that only begins alike.
    desk.ends(0, &["sync", "other", "s3://team/docs2"]);
    // A used place.
    desk.write("ben/x", "x");
    let said = desk.ends(0, &["init", "s3://team/docs", "ben"]);
    assert!(
        said.out.contains("synced before") && said.out.contains("at least"),
        "{}",
        said.out
    );
    assert!(said.out.contains("adopted"), "{}", said.out);
    let ended = desk.ends(0, &["-C", "ben", "sync", "--json"]);
    let copied = ended
        .events("step")
        .into_iter()
        .filter(|step| step["action"] != "metadata");
    assert!(
        copied
            .into_iter()
            .all(|step| step["side"] == "left" && step["path"] != "x"),
        "{}",
        ended.out
    );
    assert_eq!(desk.tree("ben"), desk.tree("anna"));
    // Twice: the same place is fine and keeps old options, another one is refused.
    desk.ends(0, &["init", "s3://team/docs", "ben", "--exclude", "*.tmp"]);
    let said = desk.ends(0, &["-C", "ben/d", "init", "s3://team/docs", "..", "--jobs", "2"]);
    assert!(said.out.contains("already"), "{}", said.out);
    let kept = desk.read("ben/.syncline/repository.toml").unwrap();
    assert!(kept.contains("*.tmp") && kept.contains("jobs = 2"), "{kept}");
    let said = desk.ends(64, &["init", "s3://team/else", "ben"]);
    assert!(
        said.err.contains("s3://team/docs") && said.err.contains("syncline leave"),
        "{}",
        said.err
    );
    // Nested: one of its own, and the outer one says so.
    let said = desk.ends(0, &["init", "s3://team/inner", "anna/d"]);
    assert!(said.out.contains("within the repository"), "{}", said.out);
    desk.ends(0, &["-C", "anna/d", "sync"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.ends(0, &["clone", "s3://team/inner", "inner"]);
    assert_eq!(desk.tree("inner").into_keys().collect::<Vec<_>>(), ["y"]);
    desk.ends(0, &["clone", "s3://team/docs", "again"]);
    assert_eq!(desk.tree("again"), desk.tree("anna"));
    assert!(!desk.path("again/d/.syncline").exists());
    // Nothing outside a prefix was touched.
    desk.ends(0, &["clone", "s3://team/docs2", "third"]);
    assert_eq!(desk.tree("third").into_keys().collect::<Vec<_>>(), ["z"]);
}

#[test]
fn push_and_pull_do_their_part_of_the_same_merge() {
    let office = office();
    let desk = &office.desk;
    for name in ["x", "y", "d/z", "gone"] {
        desk.write(&format!("anna/{name}"), name);
    }
    desk.ends(0, &["-C", "anna", "init", "s3://team"]);
    desk.ends(0, &["-C", "anna", "push", "x", "gone"]);
    desk.ends(0, &["clone", "s3://team", "ben"]);
    assert_eq!(desk.tree("ben").into_keys().collect::<Vec<_>>(), ["gone", "x"]);
    desk.ends(0, &["-C", "anna/d", "push", "z"]);
    desk.ends(0, &["-C", "anna", "push"]);
    desk.write("ben/x", "from Ben");
    desk.remove("ben/gone");
    desk.write("ben/new", "new");
    desk.ends(0, &["-C", "ben", "push"]);
    assert!(desk.read("ben/y").is_none());
    // B3: a colleague's update comes with a pull; what Anna did meanwhile waits.
    desk.write("anna/y", "from Anna");
    desk.ends(0, &["-C", "anna", "pull"]);
    assert_eq!(
        (desk.read("anna/x").as_deref(), desk.read("anna/gone")),
        (Some("from Ben"), None)
    );
    desk.ends(0, &["-C", "ben", "sync"]);
    assert_eq!(desk.read("ben/y").as_deref(), Some("y"));
    let status = desk.ends(0, &["-C", "anna", "status", "--json"]);
    let paths: Vec<_> = status
        .events("step")
        .iter()
        .map(|step| step["path"].clone())
        .collect();
    assert_eq!(paths, [json!("y")]);
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.ends(0, &["-C", "ben", "sync"]);
    assert_eq!(desk.tree("ben"), desk.tree("anna"));
    // A pass over what did not change asks for listings alone.
    let summary = desk.ends(0, &["-C", "anna", "sync", "--json"]).summary();
    let requests = &summary["requests"];
    assert!(requests["list"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(
        (&requests["put"], &requests["delete"]),
        (&json!(0), &json!(0)),
        "{summary}"
    );
    assert!(
        requests["get"].as_u64().unwrap() + requests["head"].as_u64().unwrap() <= 2,
        "{summary}"
    );
}

/// Make identical, either way, all or some paths: what stood there goes to the trash.
#[test]
fn a_mirror_is_forced_by_push_and_by_pull() {
    let office = office();
    let desk = &office.desk;
    for name in ["x", "y", "d/z"] {
        desk.write(&format!("anna/{name}"), name);
    }
    desk.ends(0, &["-C", "anna", "init", "s3://team/p"]);
    desk.ends(0, &["-C", "anna", "push"]);
    let pushed = desk.tree("anna");
    for name in ["x", "y"] {
        desk.write(&format!("anna/{name}"), "a local edit");
    }
    desk.write("anna/new", "new");
    desk.ends(0, &["-C", "anna", "pull", "y", "--mode", "mirror"]);
    assert_eq!(desk.read("anna/y").as_deref(), Some("y"));
    assert_eq!(desk.read("anna/x").as_deref(), Some("a local edit"));
    desk.ends(0, &["-C", "anna", "pull", "--mode", "mirror"]);
    assert_eq!(desk.tree("anna"), pushed);
    desk.ends(0, &["-C", "anna", "restore", "y"]);
    assert_eq!(desk.read("anna/y").as_deref(), Some("a local edit"));
    desk.ends(0, &["clone", "s3://team/p", "ben"]);
    desk.write("ben/x", "by Ben");
    desk.ends(0, &["-C", "ben", "push"]);
    desk.ends(0, &["-C", "anna", "push", "--mode", "mirror"]);
    desk.ends(0, &["-C", "ben", "pull"]);
    assert_eq!(
        (desk.tree("ben"), desk.read("ben/x").as_deref()),
        (desk.tree("anna"), Some("x"))
    );
}

#[test]
fn a_repository_that_is_kept_as_a_source_pulls_nothing_over_its_edits() {
    for mode in ["mirror", "copy"] {
        let office = office();
        let desk = &office.desk;
        desk.write("anna/x", "x");
        desk.ends(0, &["-C", "anna", "init", "s3://team/p", "--mode", mode]);
        desk.ends(0, &["-C", "anna", "sync"]);
        desk.write("anna/x", "a local edit");
        desk.write("anna/new", "new");
        let before = desk.tree("anna");
        let pulled = desk.ends(0, &["-C", "anna", "pull"]);
        assert_eq!(desk.tree("anna"), before, "{mode}");
        assert!(pulled.out.contains("nothing comes from there"), "{}", pulled.out);
        desk.ends(0, &["-C", "anna", "pull", "--mode", mode]);
        assert_eq!(desk.read("anna/x").as_deref(), Some("x"), "{mode}");
    }
}

#[test]
fn conflicts_wait_in_push_and_pull_and_are_settled_by_command() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "x");
    desk.ends(0, &["-C", "anna", "init", "s3://team/p"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.ends(0, &["clone", "s3://team/p", "ben"]);
    desk.write("anna/x", "Anna");
    desk.ends(0, &["-C", "anna", "push"]);
    desk.write("ben/x", "Ben!");
    desk.ends(1, &["-C", "ben", "push"]);
    desk.ends(1, &["-C", "ben", "pull"]);
    assert_eq!(
        (desk.tree("ben").len(), desk.read("ben/x").as_deref()),
        (1, Some("Ben!"))
    );
    desk.ends(1, &["-C", "ben", "sync"]);
    assert_eq!(desk.tree("ben").len(), 2);
    desk.ends(0, &["-C", "ben", "resolve", "x", "--keep", "both"]);
    desk.ends(0, &["-C", "ben", "sync"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    assert_eq!(desk.tree("ben"), desk.tree("anna"));
    desk.ends(0, &["leave", "ben"]);
    desk.ends(64, &["-C", "ben", "sync"]);
    assert_eq!(desk.tree("ben").len(), 2);
}

#[test]
fn sk1_keys_that_are_refused_end_with_4_and_are_not_repeated() {
    let office = office();
    let desk = office.desk.with("AWS_SECRET_ACCESS_KEY", "CANARY/CANARY");
    desk.write("a/x", "x");
    for words in [
        &["sync", "a", "s3://team/p"][..],
        &["sync", "a", "s3://team/p", "-v", "--json"],
        &["doctor", "s3://team/p"],
    ] {
        let ended = desk.ends(4, words);
        assert!(
            !ended.out.contains("CANARY") && !ended.err.contains("CANARY"),
            "{}{}",
            ended.out,
            ended.err
        );
    }
    assert!(!desk.path("a/.syncline/marker.json").exists());
}

#[test]
fn a_bucket_that_is_not_there_ends_with_4() {
    let office = office();
    let desk = &office.desk;
    desk.write("a/x", "x");
    let ended = desk.ends(4, &["sync", "a", "s3://nowhere/p"]);
    assert!(ended.err.contains("nowhere"), "{}", ended.err);
}

#[test]
fn doctor_shows_what_a_bucket_can_and_the_least_policy() {
    let office = office();
    let desk = &office.desk;
    let ended = desk.ends(0, &["doctor", "s3://team/docs"]);
    assert!(
        !ended.out.contains("--checksum"),
        "tags tell of every edit: {}",
        ended.out
    );
    for word in [
        "conditional writes",
        "listings in order",
        "s3:PutObject",
        "arn:aws:s3:::team/docs/*",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
}

#[test]
fn a_store_of_the_config_file_is_named() {
    let office = office();
    let desk = &office.desk;
    desk.write(
        "home/.config/syncline/config.toml",
        "[defaults]\nexclude-typo = 1\n",
    );
    desk.write("a/x", "x");
    assert!(desk.ends(64, &["sync", "a", "work:p"]).err.contains("line 2"));
    desk.write(
        "home/.config/syncline/config.toml",
        "[defaults]\nfilter = [{exclude = \"*.o\"}]\n[store.work]\nurl = \"s3://team/w\"\n",
    );
    desk.write("a/x.o", "o");
    desk.ends(0, &["sync", "a", "work:p"]);
    desk.ends(0, &["clone", "s3://team/w/p", "b"]);
    assert_eq!(desk.tree("b").into_keys().collect::<Vec<_>>(), ["x"]);
    desk.ends(0, &["log", "--of", "a", "work:p"]);
}

#[test]
fn sp12_s37_places_in_a_bucket_do_not_overlap() {
    let office = office();
    let desk = &office.desk;
    for (left, right, said) in [
        ("s3://team/a", "s3://team/a/", "same place"),
        ("s3://team", "s3://team/a", "within each other"),
        ("s3://team/a/b", "s3://team/a", "within each other"),
    ] {
        let ended = desk.ends(64, &["sync", left, right]);
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[test]
fn s19_trash_goes_to_a_bucket_and_comes_back_from_it() {
    let office = office();
    let desk = &office.desk;
    for name in ["keep", "x", "d/y"] {
        desk.write(&format!("anna/{name}"), name);
    }
    desk.ends(
        0,
        &["-C", "anna", "init", "s3://team/docs", "--trash", "s3://team/bin"],
    );
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.write("anna/x", "edited");
    desk.remove("anna/d");
    desk.ends(0, &["-C", "anna", "sync", "--max-delete", "none"]);
    // The repository keeps the option: nothing of it lies in the public prefix.
    desk.ends(0, &["clone", "s3://team/bin", "bin"]);
    let bin = desk.tree("bin");
    for (end, text) in [("/x", "x"), ("/d/y", "d/y")] {
        assert!(
            bin.iter().any(|(path, held)| path.ends_with(end) && held == text),
            "{bin:?}"
        );
    }
    desk.ends(0, &["-C", "anna", "restore", "d/y"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    assert_eq!(desk.read("anna/d/y").as_deref(), Some("d/y"));
}

#[test]
fn b4_interrupted_between_download_and_record_the_file_is_adopted() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "x");
    desk.write("anna/d/y", "y");
    desk.ends(0, &["-C", "anna", "init", "s3://team/docs"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    // Downloaded, and killed before any of it was recorded: the state knows nothing of what lies here.
    desk.write("ben/x", "x");
    desk.write("ben/d/y", "y");
    desk.ends(0, &["-C", "ben", "init", "s3://team/docs"]);
    let ended = desk.ends(0, &["-C", "ben", "sync", "--json"]);
    let summary = ended.summary();
    assert_eq!(summary["left"]["bytes"], 0, "{}", ended.out);
    assert_eq!(summary["right"]["bytes"], 0, "{}", ended.out);
    assert_eq!(summary["conflicts"], 0);
    let made = |step: &serde_json::Value| step["action"] != "metadata";
    assert!(!ended.events("step").iter().any(made), "{}", ended.out);
    assert_eq!(desk.tree("ben").len(), 3);
    // From now on it is known: a removal is one.
    desk.remove("ben/x");
    desk.ends(0, &["-C", "ben", "sync"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    assert_eq!(desk.read("anna/x"), None);
}

#[test]
fn b3_an_update_of_a_collaborator_is_downloaded() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "one");
    desk.ends(0, &["-C", "anna", "init", "s3://team"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.ends(0, &["clone", "s3://team", "ben"]);
    // Of the same length, so that nothing but the tag tells it.
    desk.write("ben/x", "two");
    desk.ends(0, &["-C", "ben", "push"]);
    desk.ends(0, &["-C", "anna", "pull"]);
    assert_eq!(desk.read("anna/x").as_deref(), Some("two"));
}

#[test]
fn b7_directories_deep_down_side_by_side_come_once() {
    let office = office();
    let desk = &office.desk;
    for name in ["a/b/c/x", "a/b/d/y", "a/b/d/e/z", "a/b/f", "a/c/d/e"] {
        desk.write(&format!("anna/{name}"), name);
    }
    desk.dir("anna/a/b/empty/one");
    desk.dir("anna/a/b/empty/two");
    desk.ends(0, &["-C", "anna", "init", "s3://team"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    let again = desk.ends(0, &["-C", "anna", "sync", "--json"]);
    assert!(again.events("step").is_empty(), "{}", again.out);
    desk.ends(0, &["clone", "s3://team", "ben"]);
    assert_eq!(desk.tree("anna"), desk.tree("ben"));
}

#[test]
fn leave_takes_the_marker_of_a_bucket_away_with_the_last_who_knows_it() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "x");
    std::os::unix::fs::symlink("x", desk.path("anna/link")).unwrap();
    desk.ends(0, &["sync", "anna", "s3://team/docs"]);
    // The same machine twice, and another one.
    desk.dir("second");
    desk.ends(0, &["sync", "second", "s3://team/docs"]);
    desk.dir("ben");
    fn bens<'w>(words: &[&'w str]) -> Vec<&'w str> {
        [words, &["--state", "bens-state"]].concat()
    }
    desk.ends(0, &bens(&["sync", "ben", "s3://team/docs"]));
    let said = desk.ends(0, &["leave", "anna", "s3://team/docs"]);
    assert!(said.out.contains("its marker stays"), "{}", said.out);
    let said = desk.ends(0, &["leave", "second", "s3://team/docs"]);
    assert!(said.out.contains("its marker stays"), "{}", said.out);
    // Whoever stays notices nothing.
    desk.write("ben/y", "y");
    desk.ends(0, &bens(&["sync", "ben", "s3://team/docs"]));
    let said = desk.ends(0, &bens(&["leave", "ben", "s3://team/docs"]));
    assert!(said.out.contains("its marker has gone"), "{}", said.out);
    // What it holds is whole, links and all, and whoever comes begins anew.
    let said = desk.ends(0, &["init", "s3://team/docs", "new"]);
    assert!(
        said.out.contains("at least 3 entries") && !said.out.contains("synced before"),
        "{}",
        said.out
    );
    desk.ends(0, &["-C", "new", "sync"]);
    assert_eq!(desk.tree("new"), desk.tree("ben"));
    assert!(desk.path("new/link").is_symlink());
}

#[test]
fn s22_a_plan_carries_what_its_repository_keeps() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "first");
    desk.ends(
        0,
        &[
            "init",
            "s3://team/public",
            "anna",
            "--trash",
            "s3://team/private",
            "--no-mode",
        ],
    );
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.write("anna/x", "second");
    desk.ends(0, &["-C", "anna", "sync", "--plan", "../p"]);
    desk.ends(0, &["apply", "p"]);
    desk.ends(0, &["clone", "s3://team/private", "bin"]);
    let bin = desk.tree("bin");
    let displaced = |(path, held): (&String, &String)| path.ends_with("/x") && held == "first";
    assert!(bin.iter().any(displaced), "{bin:?}");
    let again = desk.ends(0, &["-C", "anna", "sync", "--json"]);
    assert!(again.events("step").is_empty(), "{}", again.out);
    let plan = desk.read("p").unwrap();
    assert!(plan.contains("s3://team/private"), "{plan}");
    for secret in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        let secret = desk.variable(secret);
        assert!(!plan.contains(&secret), "{plan}");
    }
    desk.ends(0, &["-C", "anna", "undo"]);
    assert_eq!(desk.read("anna/x").as_deref(), Some("second"));
    desk.ends(0, &["clone", "s3://team/public", "ben"]);
    assert_eq!(desk.read("ben/x").as_deref(), Some("first"));
}

#[test]
fn s22_a_plan_of_push_or_pull_does_its_part_alone() {
    let office = office();
    let desk = &office.desk;
    desk.write("anna/x", "x");
    desk.ends(0, &["-C", "anna", "init", "s3://team"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.ends(0, &["clone", "s3://team", "ben"]);
    desk.write("ben/from-ben", "ben");
    desk.ends(0, &["-C", "ben", "push"]);
    desk.write("anna/from-anna", "anna");
    let shown = desk.ends(0, &["-C", "anna", "push", "-n", "--json"]);
    desk.ends(0, &["-C", "anna", "push", "--plan", "../p"]);
    let done = desk.ends(0, &["apply", "p", "--json"]);
    let paths = |ended: &support::Ended| {
        ended
            .events("step")
            .iter()
            .map(|step| step["path"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(&done), [json!("from-anna")]);
    assert_eq!(paths(&shown), paths(&done));
    assert_eq!(desk.read("anna/from-ben"), None);
    desk.ends(0, &["-C", "anna", "pull"]);
    assert_eq!(desk.read("anna/from-ben").as_deref(), Some("ben"));
}

/// The bytes of a small object travel when it is named, not when it is read: there too nothing new is begun.
#[test]
fn s25_the_first_ctrl_c_begins_no_new_upload() {
    let office = office();
    let desk = &office.desk;
    for number in 0..400 {
        desk.write(&format!("ben/{number:03}"), &"x".repeat(1024));
    }
    desk.ends(0, &["-C", "ben", "init", "s3://team/p"]);
    let mut run = desk.start(&["-C", "ben", "sync", "--bandwidth", "32K", "--jobs", "2"]);
    let sent = || {
        office
            .objects("p/")
            .keys()
            .filter(|key| !key.contains(".syncline"))
            .count()
    };
    while sent() == 0 {
        assert!(
            run.try_wait().unwrap().is_none(),
            "it ended before anything was sent"
        );
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(6));
    let sent = sent();
    assert!(sent < 300, "{sent} of 400 were sent");
    desk.ends(0, &["-C", "ben", "sync"]);
    assert_eq!(
        office
            .objects("p/")
            .keys()
            .filter(|key| !key.contains(".syncline"))
            .count(),
        400
    );
}

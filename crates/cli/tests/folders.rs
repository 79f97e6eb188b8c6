//! Two folders with the real binary: what a person sees and finds afterwards.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use serde_json::json;
use support::Desk;

#[test]
fn s1_the_first_run_is_a_union() {
    let desk = Desk::new();
    desk.write("a/same", "same");
    desk.write("b/same", "same");
    desk.write("a/left", "left");
    desk.write("b/d/right", "right");
    desk.write("a/both", "one");
    desk.write("b/both", "two");
    let ended = desk.ends(1, &["sync", "a", "b", "--json"]);
    let (left, right) = (desk.tree("a"), desk.tree("b"));
    assert_eq!(left, right);
    assert_eq!(
        (left["left"].as_str(), left["d/right"].as_str()),
        ("left", "right")
    );
    let both: BTreeSet<_> = left
        .iter()
        .filter(|(name, _)| name.starts_with("both"))
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(both, BTreeSet::from(["one", "two"]));
    // Written one after the other, the two may bear different times; their bytes stay where they are.
    let touched = |step: &serde_json::Value| step["path"] == "same" && step["action"] != "metadata";
    assert!(!ended.events("step").iter().any(touched), "{}", ended.out);
    assert_eq!(ended.summary()["conflicts"], 1);
    assert_eq!(ended.events("conflict")[0]["why"], "edited");
    // It stays until settled.
    desk.ends(1, &["sync", "a", "b"]);
    let waiting = desk.ends(0, &["conflicts", "--json"]).events("conflict");
    assert_eq!(waiting.len(), 1);
    // Enough to choose by: whose it is, when it was written, how large it is.
    for side in ["left", "right"] {
        let version = &waiting[0]["versions"][side];
        assert_eq!((&version["size"], &version["kind"]), (&3.into(), &"file".into()));
        assert!(
            version["time"].is_string() && version["host"].is_string(),
            "{version}"
        );
    }
    // A dry run settles nothing.
    desk.ends(0, &["resolve", "--all", "--keep", "newest", "-n"]);
    assert_eq!((desk.tree("a"), desk.tree("b")), (left, right));
    assert_eq!(desk.ends(0, &["conflicts", "--json"]).events("conflict").len(), 1);
    desk.ends(0, &["resolve", "--all", "--keep", "newest"]);
    desk.ends(0, &["sync", "a", "b"]);
}

#[test]
fn s2_a_root_that_is_empty_gone_or_another_deletes_nothing() {
    for spoil in ["empty", "gone", "marker", "other"] {
        let desk = Desk::new();
        for name in ["x", "y", "d/z"] {
            desk.write(&format!("a/{name}"), name);
        }
        desk.ends(0, &["sync", "a", "b"]);
        let before = desk.tree("a");
        match spoil {
            "empty" => {
                for name in ["x", "y", "d"] {
                    desk.remove(&format!("b/{name}"));
                }
            }
            "gone" => desk.remove("b"),
            "marker" => desk.remove("b/.syncline"),
            _ => {
                desk.remove("b");
                desk.write("b/else", "else");
            }
        }
        let ended = desk.ends(3, &["sync", "a", "b"]);
        for name in ["a", "b"] {
            assert!(
                ended.err.contains(desk.path(name).to_str().unwrap()),
                "{spoil}: {}",
                ended.err
            );
        }
        assert_eq!(desk.tree("a"), before, "{spoil}");
        let ended = desk.ends(3, &["sync", "a", "b", "--json"]);
        ended.summary();
        if spoil != "gone" {
            assert!(ended.out.contains("--accept right"), "{spoil}: {}", ended.out);
            desk.ends(0, &["sync", "a", "b", "--accept", "right"]);
            assert_eq!(desk.read("b/x").as_deref(), Some("x"), "{spoil}");
        } else {
            desk.ends(0, &["leave", "a", "b"]);
            desk.ends(0, &["sync", "a", "b"]);
        }
        assert_eq!(desk.tree("a"), desk.tree("b"), "{spoil}");
    }
}

#[test]
fn s12_both_edited_alike_is_agreement() {
    let desk = Desk::new();
    desk.write("a/x", "old");
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/x", "new text");
    desk.write("b/x", "new text");
    let ended = desk.ends(0, &["sync", "a", "b", "--json"]);
    assert!(ended.events("conflict").is_empty());
    assert_eq!(
        (
            ended.summary()["left"]["bytes"].clone(),
            ended.summary()["right"]["bytes"].clone()
        ),
        (json!(0), json!(0))
    );
    assert_eq!(desk.tree("a").len(), 1);
}

#[test]
fn s18_a_name_that_looks_like_a_pattern_hits_itself_alone() {
    let desk = Desk::new();
    for name in ["a[1]", "a1", "README", "docs/README", "*", "star", "!x"] {
        desk.write(&format!("a/{name}"), name);
    }
    desk.ends(0, &["sync", "a", "b"]);
    for name in ["a[1]", "README", "*", "!x"] {
        desk.remove(&format!("a/{name}"));
    }
    desk.ends(
        0,
        &[
            "sync",
            "a",
            "b",
            "--max-delete",
            "none",
            "--only",
            "a[1]",
            "--only",
            "*",
        ],
    );
    let names: Vec<_> = desk.tree("b").into_keys().collect();
    assert_eq!(names, ["!x", "README", "a1", "docs/", "docs/README", "star"]);
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none"]);
    let names: Vec<_> = desk.tree("b").into_keys().collect();
    assert_eq!(names, ["a1", "docs/", "docs/README", "star"]);
    desk.ends(0, &["restore", "a[1]"]);
    assert_eq!(desk.read("b/a[1]").as_deref(), Some("a[1]"));
}

#[test]
fn s22_what_a_dry_run_shows_is_what_the_run_does() {
    let desk = Desk::new();
    for number in 0..20 {
        desk.write(&format!("a/d/{number}"), &format!("file {number}"));
    }
    desk.ends(0, &["sync", "a", "b", "-n"]);
    assert!(!desk.path("b").exists());
    desk.ends(0, &["sync", "a", "b"]);
    desk.remove("a/d/1");
    desk.write("b/d/2", "edited");
    std::fs::rename(desk.path("a/d/3"), desk.path("a/moved")).unwrap();
    desk.write("a/d/4", "one");
    desk.write("b/d/4", "two");
    let before = (desk.tree("a"), desk.tree("b"));
    let shown = desk.ends(1, &["sync", "a", "b", "-n", "--json"]);
    assert_eq!((desk.tree("a"), desk.tree("b")), before);
    let done = desk.ends(1, &["sync", "a", "b", "--json"]);
    let steps = |ended: &support::Ended| {
        ended
            .events("step")
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(steps(&shown), steps(&done));
    for action in ["remove", "move", "update", "create"] {
        assert!(
            shown.out.contains(&format!("\"action\":\"{action}\"")),
            "{action}: {}",
            shown.out
        );
    }
    assert_eq!(shown.events("conflict").len(), 1);
    for count in ["left", "right", "conflicts"] {
        assert_eq!(shown.summary()[count], done.summary()[count], "{count}");
    }
    assert!(shown.summary()["run"].is_null() && done.summary()["run"].is_string());
}

#[test]
fn s25_a_second_run_ends_with_5_and_signals_stop_the_first_in_order() {
    let desk = Desk::new();
    desk.write("a/big", &"x".repeat(4 << 20));
    let mut first = desk.start(&["sync", "a", "b", "-v", "--bandwidth", "64K"]);
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "copying"));
    let ended = desk.ends(5, &["sync", "a", "b"]);
    assert!(ended.err.contains("held by"), "{}", ended.err);
    let ended = desk.ends(5, &["sync", "a", "c"]);
    assert!(
        ended.err.contains(desk.path("a").to_str().unwrap()),
        "{}",
        ended.err
    );
    let quiet = desk.ends(0, &["sync", "a", "b", "--quiet-if-locked"]);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let id = i32::try_from(first.id()).unwrap();
    let signal = |number| {
        let pid = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, number).unwrap();
    };
    let mut said = BufReader::new(first.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    signal(rustix::process::Signal::INT);
    assert!(said.any(|line| line.contains("once more drops it")));
    signal(rustix::process::Signal::TERM);
    assert_eq!(first.wait().unwrap().code(), Some(6));
    assert!(!desk.path("b/big").exists());
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
}

#[test]
fn a_time_limit_ends_with_6_and_the_next_run_goes_on() {
    let desk = Desk::new();
    for number in 0..4 {
        desk.write(&format!("a/{number}"), &"x".repeat(1 << 20));
    }
    desk.ends(
        6,
        &[
            "sync",
            "a",
            "b",
            "--bandwidth",
            "512K",
            "--time-limit",
            "0.5",
            "--jobs",
            "1",
        ],
    );
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
}

#[test]
fn after_the_soft_time_limit_nothing_new_is_begun() {
    let desk = Desk::new();
    for number in 0..4 {
        desk.write(&format!("a/{number}"), &"x".repeat(1 << 20));
    }
    desk.ends(
        6,
        &[
            "sync",
            "a",
            "b",
            "--bandwidth",
            "2M",
            "--soft-time-limit",
            "0.4",
            "--jobs",
            "1",
        ],
    );
    assert!(desk.tree("b").len() < 4);
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
}

#[test]
fn a_plan_is_carried_out_as_written_or_not_at_all() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.write("a/y", "y");
    // A plan that lies within a root is no part of itself.
    desk.ends(0, &["sync", "a", "b", "--plan", "a/first.jsonl"]);
    assert!(desk.tree("b").is_empty());
    desk.ends(0, &["apply", "a/first.jsonl"]);
    desk.remove("a/first.jsonl");
    assert_eq!(desk.tree("a"), desk.tree("b"));
    desk.write("a/x", "one");
    desk.write("a/y", "two");
    let plan = desk.ends(0, &["sync", "a", "b", "--plan", "-"]).out;
    let header: serde_json::Value = serde_json::from_str(plan.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&header["event"], &header["version"]),
        (&json!("plan"), &json!(3))
    );
    assert_eq!(header["left"], desk.path("a").to_str().unwrap());
    desk.write("plan.jsonl", &plan);
    desk.write("b/y", "meanwhile");
    let ended = desk.ends(2, &["apply", "plan.jsonl", "--json"]);
    assert_eq!(
        (desk.read("b/x").as_deref(), desk.read("b/y").as_deref()),
        (Some("one"), Some("meanwhile"))
    );
    assert_eq!(ended.events("problem")[0]["path"], "y");
    // Another place than the plan was made for.
    desk.remove("b");
    desk.write("b/else", "else");
    desk.ends(3, &["apply", "plan.jsonl"]);
    assert_eq!(desk.tree("b").len(), 1);
}

#[test]
fn sp12_s37_home_works_and_our_own_state_is_no_part_of_it() {
    let desk = Desk::new();
    desk.write("home/x", "x");
    desk.write("home/.synclineignore", "*.tmp\n");
    desk.write("home/y.tmp", "y");
    let state = desk.path("home/.local/state/syncline");
    let state = state.to_str().unwrap();
    for _ in 0..2 {
        desk.ends(0, &["sync", "~", "b", "--state", state]);
    }
    assert_eq!(
        desk.tree("b").into_keys().collect::<Vec<_>>(),
        [".local/", ".local/state/", ".synclineignore", "x"]
    );
    desk.ends(64, &["sync", state, "c", "--state", state]);
    desk.ends(64, &["sync", "home/.syncline/trash", "c"]);
    std::os::unix::fs::symlink(desk.path("home"), desk.path("link")).unwrap();
    desk.ends(64, &["sync", "home", "link"]);
    desk.ends(64, &["sync", "home", "link/new"]);
}

#[test]
fn s38_what_becomes_excluded_stays_on_both_sides() {
    let desk = Desk::new();
    for name in ["x", "log/1", "log/2"] {
        desk.write(&format!("a/{name}"), name);
    }
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/.synclineignore", "log/\n");
    desk.remove("a/log/1");
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(
        (desk.read("b/log/1"), desk.read("b/log/2")),
        (Some("log/1".into()), Some("log/2".into()))
    );
    assert_eq!(
        (desk.read("a/log/1"), desk.read("a/log/2")),
        (None, Some("log/2".into()))
    );
    desk.ends(0, &["sync", "a", "b", "--exclude", "x", "--include", "y"]);
    assert_eq!(
        (desk.read("a/x"), desk.read("b/x")),
        (Some("x".into()), Some("x".into()))
    );
}

#[test]
fn s38_a_deleted_directory_stays_where_it_holds_what_is_excluded() {
    let desk = Desk::new();
    for name in ["x", "d/file", "d/log/1"] {
        desk.write(&format!("a/{name}"), name);
    }
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/.synclineignore", "log/\n");
    desk.remove("a/d");
    for _ in 0..2 {
        desk.ends(0, &["sync", "a", "b"]);
        assert_eq!(desk.read("b/d/log/1"), Some("d/log/1".into()));
        assert_eq!(desk.read("b/d/file"), None);
    }
}

#[test]
fn json_lines_have_the_settled_shape() {
    let desk = Desk::new();
    desk.write("a/x", "12345");
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\xff");
    std::fs::write(desk.path("a").join::<&std::ffi::OsStr>(odd), "1").unwrap();
    let ended = desk.ends(0, &["sync", "a", "b", "--json"]);
    let steps = ended.events("step");
    assert!(
        steps
            .contains(&json!({"event": "step", "side": "right", "action": "create", "path": "x", "size": 5}))
    );
    assert!(
        steps
            .iter()
            .any(|step| step["path"] == json!({"bytes": "b2Rk/w=="})),
        "{}",
        ended.out
    );
    let summary = ended.summary();
    assert_eq!(
        summary["right"],
        json!({"created": 2, "updated": 0, "moved": 0, "removed": 0, "metadata": 0, "bytes": 6})
    );
    assert_eq!(
        summary["requests"],
        json!({"put": 0, "get": 0, "list": 0, "head": 0, "delete": 0})
    );
    for words in [
        &["log", "--json"][..],
        &["conflicts", "--json"],
        &["trash", "list", "--json"],
        &["doctor", "--json"],
    ] {
        desk.ends(0, words).summary();
    }
    desk.ends(4, &["sync", "none", "b", "--json"]).summary();
}

#[test]
fn quiet_says_nothing_and_sessions_are_named_or_listed() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    let ended = desk.ends(0, &["sync", "a", "b", "-q"]);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
    desk.ends(0, &["log"]);
    desk.ends(0, &["sync", "a", "c", "-q"]);
    let ended = desk.ends(64, &["log"]);
    for name in ["b", "c"] {
        assert!(
            ended.out.contains(desk.path(name).to_str().unwrap()),
            "{}",
            ended.out
        );
    }
    assert!(ended.err.contains("--of"), "{}", ended.err);
    assert_eq!(
        desk.ends(0, &["log", "--of", "./a", "a/../c"])
            .out
            .lines()
            .count(),
        1
    );
    desk.ends(64, &["log", "--of", "b", "a"]);
}

#[test]
fn undo_restore_and_the_trash() {
    let desk = Desk::new();
    desk.write("a/x", "one");
    desk.write("a/y", "y");
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/x", "two");
    desk.remove("a/y");
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(
        (desk.read("b/x").as_deref(), desk.read("b/y")),
        (Some("two"), None)
    );
    desk.ends(0, &["undo"]);
    assert_eq!(
        (desk.read("b/x").as_deref(), desk.read("b/y").as_deref()),
        (Some("one"), Some("y"))
    );
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.read("a/x").as_deref(), Some("one"));
    desk.ends(64, &["trash", "empty"]);
    assert!(
        !desk
            .ends(0, &["trash", "list", "--json"])
            .events("trash")
            .is_empty()
    );
    desk.ends(0, &["trash", "empty", "--yes"]);
    assert!(
        desk.ends(0, &["trash", "list", "--json"])
            .events("trash")
            .is_empty()
    );
}

#[test]
fn leave_ends_a_session_and_keeps_the_files() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.ends(0, &["sync", "a", "b"]);
    desk.ends(0, &["sync", "a", "c"]);
    desk.ends(0, &["leave", "a", "b"]);
    assert!(
        desk.path("a/.syncline/marker.json").exists(),
        "another session knows a by it"
    );
    assert!(!desk.path("b/.syncline/marker.json").exists());
    assert_eq!(desk.tree("b").len(), 1);
    desk.ends(0, &["sync", "a", "c"]);
    desk.ends(64, &["log", "--of", "a", "b"]);
}

#[test]
fn s59_a_problem_says_its_kind_and_what_to_do_about_it() {
    let desk = Desk::new();
    desk.write("a/good", "good");
    std::os::unix::fs::symlink("/etc/hostname", desk.path("a/out")).unwrap();
    let words = ["sync", "a", "b", "--links", "follow"];
    let ended = desk.ends(2, &[&words[..], &["--json"]].concat());
    let problems = ended.events("problem");
    assert_eq!(problems.len(), 1, "{}", ended.out);
    assert_eq!(
        (&problems[0]["path"], &problems[0]["side"], &problems[0]["kind"]),
        (&json!("out"), &json!("left"), &json!("unsupported"))
    );
    assert_eq!(problems[0]["message"], "the link leads out of the tree");
    assert_eq!(problems[0]["hint"], "rename or exclude it, then run again");
    assert_eq!(desk.read("b/good").as_deref(), Some("good"));
    let ended = desk.ends(2, &words);
    assert!(
        ended
            .err
            .contains("out: the link leads out of the tree; rename or exclude it, then run again"),
        "{}",
        ended.err
    );
}

#[test]
fn s55_edits_of_both_sides_are_merged_by_command_or_both_stay() {
    let desk = Desk::new();
    let lines = |first: &str, last: &str| format!("{first}\n2\n3\n4\n5\n6\n{last}\n");
    desk.write("a/text", &lines("1", "7"));
    desk.write("a/$(touch owned); x", &lines("1", "7"));
    desk.write("a/clash", "one\n");
    let words = [
        "sync",
        "a",
        "b",
        "--conflict",
        "merge=diff3 -m {left} {base} {right}",
    ];
    desk.ends(0, &words);
    for (tree, first, last) in [("a", "one", "7"), ("b", "1", "seven")] {
        desk.write(&format!("{tree}/text"), &lines(first, last));
        desk.write(&format!("{tree}/$(touch owned); x"), &lines(first, last));
        desk.write(&format!("{tree}/clash"), &format!("{first}{last}\n"));
    }
    // A dry run shows what the run does.
    let shown = desk.ends(1, &[&words[..], &["-n", "--json"]].concat());
    let done = desk.ends(1, &[&words[..], &["--json"]].concat());
    let steps = |ended: &support::Ended| -> BTreeSet<String> {
        ended.events("step").iter().map(ToString::to_string).collect()
    };
    assert_eq!(steps(&shown), steps(&done));
    let both = desk.tree("a");
    assert_eq!(both, desk.tree("b"));
    assert_eq!(both["text"], lines("one", "seven"));
    assert_eq!(both["$(touch owned); x"], lines("one", "seven"));
    // What the command refused is kept twice, and the reason is told.
    let kept: BTreeSet<_> = both
        .iter()
        .filter(|(name, _)| name.starts_with("clash"))
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(kept, BTreeSet::from(["one7\n", "1seven\n"]));
    let notes = done.events("note");
    assert!(
        notes.iter().any(|note| note["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("clash: not merged, both stay: "))),
        "{}",
        done.out
    );
    assert_eq!(done.summary()["conflicts"], 1);
    assert!(!desk.path("owned").exists() && !desk.path("a/owned").exists());
    // Both versions are in the trash, and nothing is left to do.
    let trash = desk.ends(0, &["trash", "list", "--json"]).events("trash");
    let sides: BTreeSet<_> = trash
        .iter()
        .filter(|item| item["path"] == "text")
        .map(|item| item["side"].to_string())
        .collect();
    assert_eq!(sides.len(), 2);
    desk.ends(0, &["resolve", "--all", "--keep", "both"]);
    let again = desk.ends(0, &[&words[..], &["--json"]].concat());
    assert!(again.events("step").is_empty(), "{}", again.out);
    // What was merged is the base of the next merge.
    desk.write("a/text", &lines("uno", "seven"));
    desk.write("b/text", &lines("one", "siete"));
    desk.ends(0, &words);
    assert_eq!(desk.read("b/text"), Some(lines("uno", "siete")));
    assert_eq!(desk.tree("a"), desk.tree("b"));
    // A command line that is none is refused before anything is done.
    desk.ends(64, &["sync", "a", "b", "--conflict", "merge=diff3 'x"]);
}

#[test]
fn s55_a_version_kept_for_merging_moves_with_its_directory() {
    let desk = Desk::new();
    desk.write("a/d/text", "1\n2\n3\n4\n5\n");
    let words = [
        "sync",
        "a",
        "b",
        "--conflict",
        "merge=diff3 -m {left} {base} {right}",
    ];
    desk.ends(0, &words);
    std::fs::rename(desk.path("a/d"), desk.path("a/e")).unwrap();
    desk.ends(0, &words);
    desk.write("a/e/text", "one\n2\n3\n4\n5\n");
    desk.write("b/e/text", "1\n2\n3\n4\nfive\n");
    desk.ends(0, &words);
    assert_eq!(desk.read("b/e/text").as_deref(), Some("one\n2\n3\n4\nfive\n"));
    assert_eq!(desk.tree("a"), desk.tree("b"));
}

#[test]
fn s19_the_trash_lies_where_it_was_asked_for_and_is_found_there() {
    let desk = Desk::new();
    for name in ["keep", "d/x", "y"] {
        desk.write(&format!("a/{name}"), "one");
    }
    std::os::unix::fs::symlink("keep", desk.path("a/link")).unwrap();
    let words = ["sync", "a", "b", "--max-delete", "none", "--trash", "bin"];
    desk.ends(0, &words);
    desk.write("a/y", "two");
    desk.remove("a/d");
    desk.remove("a/link");
    desk.ends(0, &words);
    // Nothing of it lies in the places themselves, all of it there.
    let run = desk.ends(0, &["trash", "list", "--json"]).events("trash")[0]["run"].clone();
    let run = run.as_str().unwrap();
    for tree in ["a", "b"] {
        let own = desk.path(tree).join(".syncline/trash").join(run);
        assert!(!own.exists(), "{own:?}");
    }
    let bin = desk.tree("bin");
    let ends = |name: &str, text: &str| {
        bin.iter()
            .any(|(path, held)| path.ends_with(&format!("/right/{run}/{name}")) && held == text)
    };
    assert!(ends("y", "one") && ends("d/x", "one"), "{bin:?}");
    assert_eq!(
        std::fs::metadata(desk.path("bin"))
            .map(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777)
            .unwrap(),
        0o700
    );
    let paths = |ended: &support::Ended| -> BTreeSet<String> {
        let path = |item: &serde_json::Value| item["path"].as_str().unwrap_or_default().to_owned();
        ended.events("trash").iter().map(path).collect()
    };
    let listed = desk.ends(0, &["trash", "list", "--json"]);
    assert!(
        paths(&listed).is_superset(&BTreeSet::from(["d/x".into(), "y".into()])),
        "{}",
        listed.out
    );
    // The verbs need not be told where.
    desk.ends(0, &["restore", "d/x"]);
    assert_eq!(desk.read("b/d/x").as_deref(), Some("one"));
    desk.ends(0, &["undo", run]);
    assert_eq!(desk.read("b/y").as_deref(), Some("one"));
    assert_eq!(
        std::fs::read_link(desk.path("b/link")).unwrap().to_str(),
        Some("keep")
    );
    desk.ends(0, &words);
    assert_eq!(desk.read("a/y").as_deref(), Some("one"));
    // What a run without the option displaces lies in the places again; both are found, and emptied.
    desk.write("a/y", "three");
    desk.ends(0, &["sync", "a", "b"]);
    let listed = desk.ends(0, &["trash", "list", "--json"]);
    assert!(paths(&listed).contains("y"));
    desk.ends(0, &["trash", "empty", "--yes"]);
    assert!(
        desk.ends(0, &["trash", "list", "--json"])
            .events("trash")
            .is_empty()
    );
    assert!(
        desk.tree("bin").values().all(String::is_empty),
        "{:?}",
        desk.tree("bin")
    );
    // A place within a side, or around it, is none.
    desk.ends(64, &["sync", "a", "b", "--trash", "a/bin"]);
    desk.ends(64, &["sync", "a", "b", "--trash", "."]);
}

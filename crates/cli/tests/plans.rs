//! Plans with the real binary: what is shown, what is written down, and what carrying it out comes to.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use serde_json::{Value, json};
use support::{Desk, Ended};

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0_u8; 256];
    let length = getxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

/// Steps as text, in no order.
fn steps(ended: &Ended) -> BTreeSet<String> {
    ended.events("step").iter().map(ToString::to_string).collect()
}

/// Twenty files on both sides, of which twelve are removed on the left and one is edited.
fn braked() -> Desk {
    let desk = Desk::new();
    for number in 0..20 {
        desk.write(&format!("a/d/{number}"), &format!("file {number}"));
    }
    desk.ends(0, &["sync", "a", "b"]);
    for number in 0..12 {
        desk.remove(&format!("a/d/{number}"));
    }
    desk.write("a/d/19", "an edit beside it");
    desk
}

#[test]
fn s22_a_plan_carries_the_attributes_that_were_asked_for() {
    let desk = Desk::new();
    desk.write("a/f", "f");
    let (here, there) = (desk.path("a/f"), desk.path("b/f"));
    setxattr(&here, "user.note", b"kept", XattrFlags::empty()).unwrap();
    // An access control list: owner rw, user 1234 rw, group r, mask rw, others none.
    let mut list = vec![2, 0, 0, 0];
    for (tag, bits, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 6, 1234),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(bits.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let acl = "system.posix_acl_access";
    let has_acl = setxattr(&here, acl, &list, XattrFlags::empty()).is_ok();
    desk.ends(0, &["sync", "a", "b", "--xattrs", "--acls", "--plan", "p"]);
    desk.ends(0, &["apply", "p"]);
    let both = |what: &str| {
        for path in [&here, &there] {
            assert_eq!(
                attribute(path, "user.note").as_deref(),
                Some(&b"kept"[..]),
                "{what}"
            );
            assert_eq!(attribute(path, acl).is_some(), has_acl, "{what}");
        }
    };
    both("applied");
    let again = desk.ends(0, &["sync", "a", "b", "--xattrs", "--acls", "--json"]);
    assert!(again.events("step").is_empty(), "{}", again.out);
    both("synced again");
}

#[test]
fn s22_a_plan_carries_what_is_left_alone_and_what_becomes_of_links() {
    let desk = Desk::new();
    desk.write("a/f", "f");
    desk.write("a/to", "what is pointed to");
    std::os::unix::fs::symlink("to", desk.path("a/link")).unwrap();
    let options = ["--no-mode", "--links", "follow", "--durability", "none"];
    let sync = |more: &[&'static str]| [&["sync", "a", "b"][..], &options[..], more].concat();
    std::fs::set_permissions(desk.path("a/f"), PermissionsExt::from_mode(0o600)).unwrap();
    desk.ends(0, &sync(&["--plan", "p"]));
    desk.ends(0, &["apply", "p"]);
    assert!(!desk.path("b/link").is_symlink());
    assert_eq!(desk.read("b/link").as_deref(), Some("what is pointed to"));
    let mode = |path: &str| desk.path(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_ne!(mode("b/f"), 0o600, "modes were to be left alone");
    let again = desk.ends(0, &sync(&["--json"]));
    assert!(again.events("step").is_empty(), "{}", again.out);
    // Within a plan the part that was meant is what is done: the conflict elsewhere waits on.
    desk.write("a/one/x", "left");
    desk.write("b/one/x", "right");
    desk.write("a/two/y", "new");
    desk.ends(1, &["sync", "a", "b", "--only", "one", "--conflict", "hold"]);
    desk.ends(1, &["sync", "a", "b", "--only", "two", "--plan", "p"]);
    desk.ends(1, &["apply", "p"]);
    assert_eq!(desk.read("b/two/y").as_deref(), Some("new"));
    assert_eq!(desk.ends(0, &["conflicts", "--json"]).events("conflict").len(), 1);
}

#[test]
fn s22_a_plan_carries_where_the_trash_goes() {
    let desk = Desk::new();
    desk.write("a/x", "one");
    desk.ends(0, &["sync", "a", "b"]);
    let trashed = |place: &str| {
        let found = if desk.path(place).exists() {
            desk.tree(place)
        } else {
            BTreeMap::new()
        };
        found.values().filter(|text| text.starts_with("one")).count()
    };
    desk.write("a/x", "two");
    desk.ends(0, &["sync", "a", "b", "--trash", "t", "--plan", "p"]);
    desk.ends(0, &["apply", "p"]);
    assert_eq!(desk.read("b/x").as_deref(), Some("two"));
    assert_eq!((trashed("t"), trashed("b/.syncline/trash")), (1, 0));
    // What is found there comes back.
    desk.ends(0, &["undo"]);
    assert_eq!(desk.read("b/x").as_deref(), Some("one"));
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/x", "three");
    desk.ends(0, &["sync", "a", "b", "--no-trash", "--plan", "p"]);
    let before = desk.ends(0, &["trash", "list", "--json"]).events("trash").len();
    desk.ends(0, &["apply", "p"]);
    assert_eq!(desk.read("b/x").as_deref(), Some("three"));
    assert_eq!(
        desk.ends(0, &["trash", "list", "--json"]).events("trash").len(),
        before
    );
    // What the plan says is not said otherwise.
    for option in [
        &["--no-trash"][..],
        &["--trash", "t"],
        &["--xattrs"],
        &["--links", "skip"],
    ] {
        desk.ends(64, &[&["apply", "p"][..], option].concat());
    }
}

#[test]
fn s75_what_a_brake_held_in_a_plan_waits_for_a_word() {
    let desk = braked();
    let written = desk.ends(3, &["sync", "a", "b", "--plan", "p", "--json"]);
    let said = written.summary()["reasons"][0].as_str().unwrap().to_owned();
    assert!(
        said.contains("12 of 20") && said.contains("--max-delete 12"),
        "{said}"
    );
    let plan = desk.read("p").unwrap();
    let lines: Vec<Value> = plan
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let removals: Vec<_> = lines.iter().filter(|line| line["action"] == "remove").collect();
    assert_eq!(removals.len(), 12);
    assert!(removals.iter().all(|line| line["waits"] == true), "{plan}");
    assert!(
        lines
            .iter()
            .any(|line| line["action"] == "update" && line["waits"].is_null()),
        "{plan}"
    );
    let shown = desk.ends(3, &["apply", "p", "-n", "--json"]);
    let applied = desk.ends(3, &["apply", "p", "--json"]);
    assert_eq!(applied.summary()["reasons"][0], said);
    assert_eq!(steps(&shown), steps(&applied));
    assert_eq!(desk.read("b/d/19").as_deref(), Some("an edit beside it"));
    assert_eq!(desk.tree("b").len(), 21, "nothing was removed");
    // The same file once more, with the answer: the edit stands already.
    desk.ends(3, &["apply", "p", "--max-delete", "11"]);
    desk.run(&["apply", "p", "--max-delete", "12"]);
    assert_eq!(desk.tree("b"), desk.tree("a"));
    // Who answers while the plan is written has answered.
    for number in 12..19 {
        desk.remove(&format!("a/d/{number}"));
    }
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none", "--plan", "p"]);
    desk.ends(3, &["apply", "p", "--max-delete", "0"]);
    desk.ends(0, &["apply", "p"]);
    assert_eq!(desk.tree("b").len(), 2);
}

#[test]
fn s22_s75_a_dry_run_under_a_brake_shows_what_waits_apart() {
    let desk = braked();
    let shown = desk.ends(3, &["sync", "a", "b", "-n", "--json"]);
    let waits = shown.events("waits");
    assert_eq!(waits.len(), 12, "{}", shown.out);
    assert!(
        waits
            .iter()
            .all(|step| step["action"] == "remove" && step["side"] == "right")
    );
    let words = desk.ends(3, &["sync", "a", "b", "-n"]);
    assert!(words.out.contains("waits"), "{}", words.out);
    let done = desk.ends(3, &["sync", "a", "b", "--json"]);
    assert_eq!(steps(&shown), steps(&done));
    for key in ["left", "right", "reasons"] {
        assert_eq!(shown.summary()[key], done.summary()[key], "{key}");
    }
}

#[test]
fn s22_s75_what_needs_what_a_brake_keeps_waits_too() {
    // A file in place of a directory comes after the removals in it.
    let desk = Desk::new();
    for number in 0..20 {
        desk.write(&format!("a/d/{number}"), &format!("file {number}"));
    }
    desk.ends(0, &["sync", "a", "b"]);
    desk.remove("a/d");
    desk.write("a/d", "a file now");
    desk.write("a/beside", "new");
    // What is below a directory in place of a file waits with it.
    for number in 0..20 {
        desk.write(&format!("e/{number}"), &format!("file {number}"));
    }
    desk.ends(0, &["sync", "e", "f"]);
    for number in 1..20 {
        desk.write(
            &format!("e/{number}"),
            &format!("all but one are edited: {number}"),
        );
    }
    desk.remove("e/0");
    desk.write("e/0/below", "new");
    for (left, right) in [("a", "b"), ("e", "f")] {
        let before = desk.tree(right);
        let shown = desk.ends(3, &["sync", left, right, "-n", "--json"]);
        let done = desk.ends(3, &["sync", left, right, "--json"]);
        assert_eq!(steps(&shown), steps(&done), "{}\n{}", shown.out, done.out);
        assert!(done.events("problem").is_empty(), "{}", done.out);
        let kept = before
            .iter()
            .all(|(path, text)| desk.tree(right).get(path) == Some(text));
        assert!(kept, "{:?}", desk.tree(right));
        desk.ends(0, &["sync", left, right, "--max-delete", "none"]);
        assert_eq!(desk.tree(left), desk.tree(right));
    }
}

#[test]
fn s22_a_dry_run_with_accept_is_the_union_that_the_run_is() {
    let desk = Desk::new();
    for name in ["x", "y", "z"] {
        desk.write(&format!("a/{name}"), name);
    }
    desk.ends(0, &["sync", "a", "b"]);
    desk.remove("b");
    desk.write("b/else", "else");
    let accept = ["sync", "a", "b", "--accept", "right"];
    let shown = desk.ends(0, &[&accept[..], &["-n", "--json"]].concat());
    desk.ends(0, &[&accept[..], &["--plan", "p"]].concat());
    let again = desk.ends(0, &[&accept[..], &["-n", "--json"]].concat());
    assert_eq!(steps(&shown), steps(&again));
    let done = desk.ends(0, &["apply", "p", "--json"]);
    assert_eq!(steps(&shown), steps(&done), "{}\n{}", shown.out, done.out);
    assert_eq!(desk.tree("a"), desk.tree("b"));
    assert_eq!(desk.tree("a").len(), 4);
    let settled = desk.ends(0, &["sync", "a", "b", "--json"]);
    assert!(settled.events("step").is_empty(), "{}", settled.out);
}

#[test]
fn s22_apply_n_only_shows() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.write("b/y", "y");
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    let before = (desk.tree("a"), desk.tree("b"));
    let shown = desk.ends(0, &["apply", "p", "-n", "--json"]);
    assert_eq!((desk.tree("a"), desk.tree("b")), before);
    assert!(shown.summary()["run"].is_null());
    assert_eq!(steps(&shown).len(), 2);
    let done = desk.ends(0, &["apply", "p", "--json"]);
    assert_eq!(steps(&shown), steps(&done));
    assert_eq!(desk.tree("a"), desk.tree("b"));
}

#[test]
fn s22_apply_n_shows_what_would_be_refused() {
    let desk = Desk::new();
    for name in ["edited", "removed", "taken", "left"] {
        desk.write(&format!("a/{name}"), name);
    }
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    desk.write("a/edited", "another");
    desk.remove("a/removed");
    desk.write("b/taken", "by somebody else");
    let shown = desk.ends(2, &["apply", "p", "-n", "--json"]);
    let paths = |ended: &Ended, event: &str| -> BTreeSet<String> {
        let events = ended.events(event);
        events
            .iter()
            .map(|event| event["path"].as_str().unwrap().to_owned())
            .collect()
    };
    let refused = ["edited", "removed", "taken"].map(str::to_owned);
    assert_eq!(paths(&shown, "problem"), BTreeSet::from(refused));
    assert_eq!(paths(&shown, "step"), BTreeSet::from(["left".to_owned()]));
    let done = desk.ends(2, &["apply", "p", "--json"]);
    assert_eq!(paths(&shown, "problem"), paths(&done, "problem"));
}

#[test]
fn apply_keeps_to_its_time_limits_and_so_does_a_plan() {
    let desk = Desk::new();
    for number in 0..4 {
        desk.write(&format!("a/{number}"), &"x".repeat(1 << 20));
    }
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    let paced = ["--bandwidth", "512K", "--jobs", "1"];
    let begun = Instant::now();
    desk.ends(6, &[&["apply", "p", "--time-limit", "0.5"][..], &paced].concat());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(desk.tree("b").len() < 4);
    let paced = ["--bandwidth", "2M", "--jobs", "1"];
    desk.ends(
        6,
        &[&["apply", "p", "--soft-time-limit", "0.4"][..], &paced].concat(),
    );
    assert!(desk.tree("b").len() < 4);
    desk.run(&["apply", "p"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
    desk.write("a/0", "left");
    desk.write("b/0", "right");
    let begun = Instant::now();
    let asks = [
        "sync",
        "a",
        "b",
        "--conflict",
        "merge=timeout 20 tail -f",
        "--plan",
        "q",
    ];
    desk.ends(6, &[&asks[..], &["--time-limit", "0.5"]].concat());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(!desk.path("q").exists(), "half a plan");
}

#[test]
fn a_plan_of_another_version_is_refused_by_name() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    let plan = desk.read("p").unwrap();
    let (first, rest) = plan.split_once('\n').unwrap();
    let mut header: Value = serde_json::from_str(first).unwrap();
    header["version"] = json!(2);
    desk.write("p", &format!("{header}\n{rest}"));
    let ended = desk.ends(64, &["apply", "p"]);
    for words in ["version 2", "--plan"] {
        assert!(ended.err.contains(words), "{}", ended.err);
    }
    assert!(desk.tree("b").is_empty());
}

/// A plan only notes that both sides hold the same. Later runs agree on something else, and what is edited then is an edit of that.
#[test]
fn s22_an_old_plan_puts_back_nothing_that_later_runs_agreed_on() {
    let desk = Desk::new();
    desk.write("a/f", "1");
    desk.ends(0, &["sync", "a", "b"]);
    let both = |text: &str, time: u64| {
        for root in ["a", "b"] {
            desk.write(&format!("{root}/f"), text);
            let file = std::fs::File::options()
                .append(true)
                .open(desk.path(&format!("{root}/f")))
                .unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).unwrap();
        }
    };
    both("second", 1_600_000_000);
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    both("the third", 1_700_000_000);
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/f", "second");
    desk.ends(0, &["apply", "p"]);
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!(desk.read("b/f").as_deref(), Some("second"));
}

/// The first plan between two trees that hold much alike: what is alike is agreed on when it has been carried out.
#[test]
fn s22_what_a_first_plan_agrees_on_is_remembered() {
    let desk = Desk::new();
    desk.write("a/same", "s");
    desk.write("a/new", "n");
    std::fs::create_dir(desk.path("b")).unwrap();
    std::fs::copy(desk.path("a/same"), desk.path("b/same")).unwrap();
    for name in ["a/same", "b/same"] {
        let file = std::fs::File::options()
            .append(true)
            .open(desk.path(name))
            .unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000))
            .unwrap();
    }
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    desk.ends(0, &["apply", "p"]);
    desk.remove("a/same");
    desk.ends(0, &["sync", "a", "b"]);
    assert_eq!((desk.read("a/same"), desk.read("b/same")), (None, None));
}

/// What a plan says was done already: it is not done, told, logged or taken back once more.
#[test]
fn s22_a_plan_applied_twice_does_nothing_the_second_time() {
    let desk = Desk::new();
    desk.write("a/old", "moved");
    desk.ends(0, &["sync", "a", "b"]);
    std::fs::create_dir(desk.path("a/d")).unwrap();
    std::fs::rename(desk.path("a/old"), desk.path("a/d/new")).unwrap();
    desk.write("a/more", "created");
    desk.ends(0, &["sync", "a", "b", "--plan", "p"]);
    assert!(!desk.ends(0, &["apply", "p", "--json"]).events("step").is_empty());
    for again in [&["apply", "p", "-n", "--json"][..], &["apply", "p", "--json"]] {
        let ended = desk.ends(0, again);
        assert_eq!(ended.events("step"), Vec::<serde_json::Value>::new(), "{again:?}");
    }
    // The last run that changed anything is the first one.
    desk.ends(0, &["undo"]);
    assert_eq!(desk.tree("b"), [("old".to_owned(), "moved".to_owned())].into());
}

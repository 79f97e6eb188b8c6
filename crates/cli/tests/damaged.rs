//! Our own state damaged, with the real binary: runs go on by content and delete nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Desk, Ended};
use syncline_testkit::s3_server::S3Server;

const LOST: &str = "what earlier runs agreed on";

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The state of the only session.
fn session(desk: &Desk) -> PathBuf {
    let all = std::fs::read_dir(desk.path("state/sessions")).unwrap();
    all.map(|entry| entry.unwrap().path()).next().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

fn damage(file: &Path, how: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    match how {
        "flipped" => bytes
            .iter_mut()
            .skip(middle)
            .take(20)
            .for_each(|byte| *byte ^= 0xff),
        "garbage" => bytes = b"garbage".to_vec(),
        _ => bytes.clear(),
    }
    std::fs::remove_file(file).unwrap();
    if how != "gone" {
        std::fs::write(file, bytes).unwrap();
    }
}

/// Runs until one ends well, at most twice; what the runs said.
fn twice(desk: &Desk, words: &[&str], what: &str) -> Ended {
    let first = desk.run(words);
    if first.code <= 1 {
        return first;
    }
    assert_eq!(first.code, 2, "{what}: {}{}", first.out, first.err);
    assert!(first.err.contains("run again"), "{what}: {}", first.err);
    let second = desk.run(words);
    assert!(second.code <= 1, "{what}: {}{}", second.out, second.err);
    second
}

#[test]
fn s34_tables_damaged_anywhere_are_put_aside_and_found_again_by_content() {
    let desk = Desk::new();
    for n in 0..700 {
        desk.write(&format!("a/d{}/{n}", n % 7), &format!("content {n}"));
    }
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("b/d1/1", "edited once");
    desk.ends(0, &["sync", "a", "b"]);
    let (tables, kept) = (session(&desk).join("tables"), desk.dir("kept"));
    for name in ["state", "a", "b"] {
        copy(&desk.path(name), &kept.join(name));
    }
    let names: Vec<_> = files(&tables)
        .into_iter()
        .map(|file| file.strip_prefix(&tables).unwrap().to_path_buf())
        .collect();
    let mut rebuilt = 0;
    for name in &names {
        for how in ["flipped", "garbage", "empty", "gone"] {
            let what = format!("{} {how}", name.display());
            for part in ["state", "a", "b"] {
                copy(&kept.join(part), &desk.path(part));
            }
            desk.write("a/d2/2", "edited here");
            desk.remove("b/d3/3");
            damage(&tables.join(name), how);
            let ended = twice(&desk, &["sync", "a", "b", "--max-delete", "none"], &what);
            let lost = ended.err.contains(LOST) || ended.out.contains(LOST);
            let tree = desk.tree("a");
            assert_eq!(tree, desk.tree("b"), "{what}");
            assert!(
                tree.values().any(|text| text == "edited here"),
                "{what}: the edit is gone"
            );
            let here = |n: usize| tree.values().any(|text| *text == format!("content {n}"));
            for n in (0..700).filter(|n| ![1, 2, 3].contains(n)) {
                assert!(here(n), "{what}: {n} is gone");
            }
            // Only who knows the base may pass a removal on.
            assert!(here(3) || !lost, "{what}: a removal without a base");
            if lost {
                rebuilt += 1;
                assert!(
                    session(&desk).join("tables.damaged-1").exists(),
                    "{what}: destroyed"
                );
                assert!(
                    ended.err.contains("inbox") || ended.out.contains("inbox"),
                    "{what}"
                );
                let again = desk.run(&["sync", "a", "b"]);
                assert!(again.code <= 1, "{what}: {}{}", again.out, again.err);
                assert!(!(again.err + &again.out).contains(LOST), "{what}: said twice");
            }
        }
    }
    assert!(rebuilt > names.len(), "{rebuilt} of {}", names.len() * 4);
}

#[test]
fn s34_what_is_noted_of_a_bucket_may_be_damaged_too() {
    let desk = Desk::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(S3Server::with_bucket("team")).unwrap();
    let desk = desk
        .with("AWS_ENDPOINT_URL", server.endpoint.url.clone())
        .with("AWS_ACCESS_KEY_ID", server.endpoint.id.clone())
        .with("AWS_SECRET_ACCESS_KEY", server.endpoint.secret.clone())
        .with("AWS_REGION", "us-east-1");
    for n in 0..20 {
        desk.write(&format!("a/{n}"), &format!("content {n}"));
    }
    let words = ["sync", "a", "s3://team/tree"];
    desk.ends(0, &words);
    let before = desk.tree("a");
    let table = session(&desk).join("right-bucket");
    for (number, name) in ["version", "keyspaces/0/current", "keyspaces/1/current"]
        .iter()
        .enumerate()
    {
        for how in ["garbage", "gone"] {
            let what = format!("{name} {how}");
            damage(&table.join(name), how);
            let ended = twice(&desk, &words, &what);
            assert!(
                ended.out.contains("was damaged") || ended.err.contains("was damaged"),
                "{what}: {}{}",
                ended.out,
                ended.err
            );
            assert_eq!(desk.tree("a"), before, "{what}");
            desk.ends(0, &words);
        }
        assert!(
            session(&desk)
                .join(format!("right-bucket.damaged-{}", 2 * number + 1))
                .exists()
        );
    }
}

#[test]
fn s34_a_broken_record_of_one_session_does_not_stop_another() {
    let desk = Desk::new();
    desk.write("a/x", "x");
    desk.write("a/stays", "stays");
    desk.ends(0, &["sync", "a", "b"]);
    let broken = session(&desk).join("session.json");
    desk.write("c/y", "y");
    desk.ends(0, &["sync", "c", "d"]);
    damage(&broken, "garbage");
    desk.ends(0, &["sync", "c", "d"]);
    let told = desk.run(&["doctor"]);
    assert!(told.out.contains("no record of a session"), "{}", told.out);
    let told = desk.ends(64, &["conflicts"]);
    assert!(told.err.contains("2 sessions"), "{}", told.err);
    desk.ends(0, &["leave", "c", "d"]);
    assert!(
        desk.path("c/.syncline").exists(),
        "the broken one may know the place"
    );
    // Its own places say what the record said.
    desk.remove("a/x");
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none"]);
    assert_eq!(desk.read("b/x"), None, "the base was forgotten");
    desk.ends(0, &["conflicts"]);
}

#[test]
fn s02_a_marker_that_cannot_be_read_stops_the_run_until_it_is_answered() {
    for how in ["truncated", "empty", "garbage"] {
        let desk = Desk::new();
        for name in ["x", "y"] {
            desk.write(&format!("a/{name}"), name);
        }
        desk.ends(0, &["sync", "a", "b"]);
        let marker = desk.read("b/.syncline/marker.json").unwrap();
        let text = match how {
            "truncated" => &marker[..marker.len() / 2],
            "empty" => "",
            _ => "garbage",
        };
        desk.write("b/.syncline/marker.json", text);
        desk.remove("b/y");
        for first in ["a", "new"] {
            desk.dir(first);
            let ended = desk.ends(3, &["sync", first, "b"]);
            assert!(
                ended.err.contains("marker") && ended.err.contains("--accept right"),
                "{how}: {}",
                ended.err
            );
            assert_eq!(desk.read("a/y").as_deref(), Some("y"), "{how}");
        }
        assert_eq!(
            desk.read("b/.syncline/marker.json").as_deref(),
            Some(text),
            "{how}: written without a word"
        );
        assert!(desk.run(&["doctor", "b"]).out.contains("cannot be read"), "{how}");
        desk.ends(0, &["sync", "a", "b", "--accept", "right"]);
        assert_eq!(
            desk.read("b/y").as_deref(),
            Some("y"),
            "{how}: a union brings it back"
        );
        desk.ends(0, &["sync", "a", "b"]);
        assert!(
            desk.read("b/.syncline/marker.json")
                .unwrap()
                .contains("generation"),
            "{how}"
        );
    }
}

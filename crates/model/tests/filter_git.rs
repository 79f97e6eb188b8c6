//! The filter against the real `git check-ignore`: thousands of random rules and names; skipped (and said) where there is no git.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test beside another program"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use syncline_model::filter::{Filter, file_lines};

/// Rules made of the pieces where readings differ.
fn rule() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[abc]",
        3 => Just("*".to_owned()),
        2 => Just("**".to_owned()),
        4 => Just("/".to_owned()),
        1 => Just("?".to_owned()),
        1 => Just("[ab]".to_owned()),
        1 => Just("[!a]".to_owned()),
        1 => Just("[a-b]".to_owned()),
        1 => Just("[]a]".to_owned()),
        1 => Just("[[:alpha:]-]".to_owned()),
        1 => Just("\\a".to_owned()),
        1 => Just("\\*".to_owned()),
        1 => Just("/**/".to_owned()),
        1 => Just(" ".to_owned()),
        1 => Just(".c".to_owned()),
    ];
    (
        proptest::bool::weighted(0.25),
        proptest::collection::vec(piece, 1..6),
        proptest::bool::weighted(0.25),
    )
        .prop_map(|(negated, pieces, dir)| {
            let (bang, slash) = (if negated { "!" } else { "" }, if dir { "/" } else { "" });
            format!("{bang}{}{slash}", pieces.concat())
        })
        .prop_filter("git departs from its manual here", |rule| {
            !stars_after_a_literal(rule)
        })
}

/// Git cuts off the literal beginning of a rule and then takes the `**` in `/a**` for a whole component, against its own manual ("other
/// consecutive asterisks are considered regular asterisks"). We keep to the manual.
fn stars_after_a_literal(rule: &str) -> bool {
    rule.match_indices("**").any(|(at, _)| {
        let before = rule[..at].trim_start_matches(['!', '/']);
        !before.is_empty() && !before.ends_with(['/', '*'])
    })
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]{1,2}(\\.c)?|a b|\\*|\\]|-", 1..4).prop_map(|parts| parts.join("/"))
}

/// What git says of each name that is a file (as git takes a missing path to be).
fn git_says(repository: &std::path::Path, names: &[String]) -> Vec<bool> {
    let mut child = Command::new("git")
        .current_dir(repository)
        .args([
            "-c",
            "core.quotePath=false",
            "check-ignore",
            "--no-index",
            "--stdin",
            "-z",
            "-v",
            "-n",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = names.iter().map(|name| format!("{name}\0")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let fields: Vec<&[u8]> = output.stdout.split(|&b| b == 0).collect();
    fields
        .chunks_exact(4)
        .map(|row| !row[2].is_empty() && !row[2].starts_with(b"!"))
        .collect()
}

#[test]
fn git_reads_the_same_rules_the_same_way() {
    let Ok(dir) = tempfile::tempdir() else {
        panic!("no temporary directory")
    };
    let made = Command::new("git")
        .args(["init", "-q"])
        .current_dir(dir.path())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: git is not installed");
        return;
    }
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let rules = proptest::collection::vec(rule(), 1..5);
    let names = proptest::collection::vec(name(), 60);
    let (mut compared, mut excluded, mut refused) = (0, 0, 0);
    for _ in 0..400 {
        let text = rules.new_tree(&mut runner).unwrap().current().join("\n");
        let names = names.new_tree(&mut runner).unwrap().current();
        let Ok(filter) = Filter::parse(file_lines("f", text.as_bytes())) else {
            refused += 1;
            continue;
        };
        std::io::Write::write_all(&mut file(dir.path().join(".gitignore")), text.as_bytes()).unwrap();
        let theirs = git_says(dir.path(), &names);
        assert_eq!(theirs.len(), names.len());
        for (name, theirs) in names.iter().zip(theirs) {
            assert_eq!(
                filter.excludes(name.as_bytes(), false),
                theirs,
                "rules {text:?}, name {name:?}"
            );
            compared += 1;
            excluded += u32::from(theirs);
        }
    }
    println!("filter_git compared={compared} excluded={excluded} refused_sets={refused}");
    assert!(compared > 10_000 && excluded > compared / 10);
}

fn file(path: std::path::PathBuf) -> std::fs::File {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
        .unwrap()
}

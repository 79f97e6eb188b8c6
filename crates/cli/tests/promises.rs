//! Each promise in `docs/semantics.md` names tests that exist: a name that was changed in the sources alone is found here.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that reads the sources"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Measurements that a promise may name though no test runner knows them.
const PROGRAMS: &str = "crates/rigs/src/bin";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Functions that a test runner runs: an attribute stands above them that ends in `test`, with nothing empty in between.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    source.lines().filter_map(move |line| {
        let line = line.trim();
        is_test &= !line.is_empty();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let (name, _) = line
            .trim_start_matches("pub ")
            .trim_start_matches("async ")
            .strip_prefix("fn ")?
            .split_once('(')?;
        std::mem::take(&mut is_test).then_some(name)
    })
}

/// All that a promise may name: tests, test binaries, and the rigs.
fn names() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        names.extend(tests_of(&text).map(str::to_owned));
        let within = |dir: &str| file.parent().is_some_and(|parent| parent.ends_with(dir));
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if within("tests") || within(PROGRAMS) {
            names.insert(stem);
        } else if stem == "main"
            && file
                .ancestors()
                .nth(2)
                .is_some_and(|above| above.ends_with("tests"))
        {
            let dir = file.parent().unwrap().file_name().unwrap();
            names.insert(dir.to_str().unwrap().to_owned());
        }
    }
    names
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The promises and what shows them: the rows of each table below its head.
fn promises(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.strip_suffix(" |")?.rsplit_once(" | "))
        .filter(|row| *row != ("promise", "shown by"))
        .collect()
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let (promises, names) = (promises(&text), names());
    assert!(promises.len() > 40, "where are the promises?");
    assert!(names.len() > 300, "where are the tests?");
    let lines = text.lines().filter(|line| line.starts_with("| ")).count();
    let heads = text
        .lines()
        .filter(|line| line.starts_with("| promise |"))
        .count();
    assert_eq!(promises.len() + heads, lines, "a row that cannot be read");
    let mut wrong = Vec::new();
    for (promise, shown_by) in promises {
        if quoted(shown_by).next().is_none() {
            wrong.push(format!("no test shows: {promise}"));
        }
        let unknown = quoted(shown_by).filter(|name| !names.contains(*name));
        wrong.extend(unknown.map(|name| format!("there is no test {name}, which is to show: {promise}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

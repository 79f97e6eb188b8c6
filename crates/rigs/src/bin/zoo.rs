//! `zoo`: switches known bugs back in, one after the other, and looks whether the test named for each finds it.
//!
//! Invariant: a bug counts as found only if its test passes without it and fails with it; one that is not found makes the zoo red.

#![allow(
    clippy::disallowed_methods,
    reason = "a rig stands outside: real time, real disks, another process"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use syncline_rigs::program::workspace;

/// What finds a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finder {
    /// A test: its package, its target (`lib` or the name of a test file) and its name.
    Test(&'static str, &'static str, &'static str),
    /// A rig with its arguments.
    Rig(&'static str, &'static [&'static str]),
}

use Finder::{Rig, Test};

/// Each bug, what it does, and what finds it.
const BUGS: &[(&str, &str, Finder)] = &[
    (
        "barrier-skipped",
        "no flush of bytes, names or directories",
        Rig("cut-rig", &["--cuts", "60", "--files", "300"]),
    ),
    (
        "rename-before-data",
        "names are put before the bytes are flushed",
        Rig("cut-rig", &["--cuts", "160", "--files", "600"]),
    ),
    (
        "directories-not-flushed",
        "bytes are flushed, directories are not",
        Test("syncline-sync", "simulated", "s23_what_is_flushed_one_by_one"),
    ),
    (
        "copy-named-by-side",
        "a copy is named by its side, not by its content",
        Test("syncline-model", "merge_cases", "s32_the_name_of_a_copy"),
    ),
    (
        "table-made-in-place",
        "a state table half made stays",
        Rig("kill-rig", &["--scenario", "first-copy", "--sample", "120"]),
    ),
    (
        "conflict-noted-late",
        "a killed run forgets its conflicts",
        Rig("kill-rig", &["--scenario", "keep-both", "--sample", "60"]),
    ),
    (
        "stage-not-cleared",
        "what a dead run staged stays",
        Rig("kill-rig", &["--scenario", "update-with-trash", "--sample", "40"]),
    ),
    (
        "base-named-late",
        "the base learns of a moved directory at the end",
        Rig("kill-rig", &["--scenario", "directory-rename", "--sample", "100"]),
    ),
    (
        "trash-copy-moved-first",
        "a killed undo leaves its only copy under another name",
        Rig("kill-rig", &["--scenario", "undo", "--sample", "200"]),
    ),
    (
        "killed-run-not-looked-at",
        "the last changes of a killed run are in no log",
        Test("syncline-sync", "simulation", "s19_a_killed_run"),
    ),
    (
        "root-believed",
        "an empty, other or restored root is believed",
        Test("syncline-sync", "scenarios", "s02_an_emptied_root"),
    ),
    (
        "generation-ignored",
        "a restored replica is taken for the newest",
        Test("syncline-sync", "scenarios", "s04_"),
    ),
    (
        "brake-ignored",
        "any number of removals is carried out",
        Test("syncline-sync", "scenarios", "s75_too_many_removals"),
    ),
    (
        "mount-point-believed",
        "what lies below a new mount point is deleted",
        Test("syncline-sync", "scenarios", "s02_a_directory_that_becomes"),
    ),
    (
        "edit-loses",
        "a deletion beats an edit",
        Test("syncline-sync", "scenarios", "s05_"),
    ),
    (
        "ctime-ignored",
        "a file with its old time is not looked at",
        Test("syncline-sync", "scenarios", "s07_"),
    ),
    (
        "racy-trusted",
        "a file younger than the look is believed",
        Test("syncline-sync", "scenarios", "s28_"),
    ),
    (
        "trash-overwritten",
        "one generation of trash over another",
        Test("syncline-sync", "scenarios", "s19_"),
    ),
    (
        "moves-not-followed",
        "a renamed directory is copied anew",
        Test("syncline-sync", "scenarios", "s14_a_bare_rename"),
    ),
    (
        "target-not-looked-at",
        "an edit in the last moment is overwritten",
        Test("syncline-sync", "scenarios", "s27_an_edit"),
    ),
    (
        "excluded-is-deleted",
        "what becomes excluded is deleted there",
        Test("syncline-cli", "folders", "s38_"),
    ),
    (
        "order-not-checked",
        "a name out of order is accepted",
        Test("syncline-model", "merge_laws", "input_out_of_order_is_corrupt"),
    ),
    (
        "412-read-as-failure",
        "our own success behind a lost answer fails",
        Test("syncline-testkit", "stores", "b05_our_own_success"),
    ),
];

fn main() -> Result<ExitCode> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let top = workspace()?;
    let built = build(&top)?;
    let mut without = BTreeMap::new();
    let mut green = true;
    println!("| bug | what it does | found by | |\n|---|---|---|---|");
    for (name, what, finder) in BUGS {
        if !only.is_empty() && !only.iter().any(|asked| asked == name) {
            continue;
        }
        let passes = match without.get(finder) {
            Some(passes) => *passes,
            None => run(&top, &built, *finder, None)?,
        };
        without.insert(*finder, passes);
        let found = passes && !run(&top, &built, *finder, Some(name))?;
        let said = match (passes, found) {
            (false, _) => "RED without it",
            (true, false) => "NOT FOUND",
            (true, true) => "found",
        };
        green &= found;
        println!("| {name} | {what} | `{}` | {said} |", told(*finder));
    }
    Ok(if green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn told(finder: Finder) -> String {
    match finder {
        Test(package, target, name) => format!("cargo test -p {package} --test {target} {name}"),
        Rig(rig, args) => format!("{rig} {}", args.join(" ")),
    }
}

/// Builds everything with the bugs in, but off, and returns where the rigs and the program lie.
fn build(top: &Path) -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "-p",
            "syncline-cli",
            "-p",
            "syncline-rigs",
            "--bins",
            "--features",
        ])
        .arg("syncline-rigs/zoo")
        .current_dir(top)
        .status()
        .context("cargo build")?;
    if !status.success() {
        bail!("the zoo could not be built");
    }
    let kept = top.join("target/zoo");
    std::fs::create_dir_all(&kept)?;
    for name in ["syncline", "kill-rig", "cut-rig"] {
        std::fs::copy(top.join("target/debug").join(name), kept.join(name))?;
    }
    Ok(kept)
}

/// True when the finder is content.
fn run(top: &Path, built: &Path, finder: Finder, bug: Option<&str>) -> Result<bool> {
    let mut command = match finder {
        Rig(rig, args) => {
            let mut command = Command::new(built.join(rig));
            command.args(args);
            command
        }
        Test(package, target, name) => {
            let mut command = Command::new(env!("CARGO"));
            command.args([
                "test",
                "--quiet",
                "-p",
                package,
                "--features",
                "syncline-model/zoo",
                "--test",
                target,
            ]);
            command.args(["--", name]);
            command
        }
    };
    command.env_remove("SYNCLINE_ZOO");
    if let Some(bug) = bug {
        command.env("SYNCLINE_ZOO", bug);
    }
    command.env("SYNCLINE_BIN", built.join("syncline"));
    command
        .current_dir(top)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command.status()?.success())
}

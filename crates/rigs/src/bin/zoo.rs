//! `zoo`: switches known bugs back in, one after the other, and looks whether the test named for each finds it.
//!
//! Invariant: a bug counts as found only if its test passes without it and fails with it; one that is not found makes the zoo red.

#![allow(
    clippy::disallowed_methods,
    reason = "a rig stands outside: real time, real disks, another process"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use syncline_rigs::program::workspace;

/// What finds a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finder {
    /// A test: its package, its target (the name of a test file or a program) and its name.
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
        Test("syncline-sync", "simulation", "s14_s23_a_directory_rename_killed"),
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
        "base-before-flush",
        "rows reach the base before what they say is flushed",
        Test("syncline-sync", "simulation", "s23_the_power_cut"),
    ),
    (
        "failed-sync-tried-again",
        "a flush that failed is asked once more, and believed",
        Test("syncline-sync", "simulated", "s23_a_flush_that_failed"),
    ),
    (
        "parts-tag-taken-as-md5",
        "the tag of an object that went up in parts is taken for its MD5",
        Test("syncline-replica", "bucket_tree", "b6_an_upload_of_rclone"),
    ),
    (
        "stale-listing",
        "a listing that lags behind our own writes is believed",
        Test("syncline-replica", "bucket_tree", "b10_a_listing_that_lags"),
    ),
    (
        "newest-wins",
        "of two edits the one with the later time wins",
        Test("syncline-sync", "simulated", "s10_clocks_that_differ"),
    ),
    (
        "older-is-no-edit",
        "a file with an older time than before is taken for unchanged",
        Test("syncline-sync", "simulated", "s10_a_clock_that_jumps"),
    ),
    (
        "merge-command-left-behind",
        "what a merge command started lives on when its time is over",
        Test("syncline-cli", "syncline", "s36_"),
    ),
    (
        "conflict-copy-not-awaited",
        "an original is replaced though its copy could not be made",
        Test("syncline-sync", "scenarios", "s26_what_cannot_be_copied_aside"),
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
        "last-look-without-ctime",
        "an edit that keeps length and time is overwritten in the last moment",
        Test(
            "syncline-sync",
            "scenarios",
            "s27_an_edit_that_keeps_length_and_time",
        ),
    ),
    (
        "racy-trusted",
        "a file younger than the look is believed",
        Test(
            "syncline-sync",
            "simulated",
            "s28_what_is_rewritten_within_a_tick",
        ),
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
        Test("syncline-sync", "scenarios", "s27_an_edit_between_scan_and"),
    ),
    (
        "excluded-not-listed",
        "a directory that holds what is excluded is taken for empty",
        Test("syncline-cli", "folders", "s38_a_deleted_directory_stays"),
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

/// Worlds of a simulation.
const SEEDS: &str = "300";

/// The packages whose tests and programs are used.
const PACKAGES: &[&str] = &["cli", "model", "replica", "rigs", "sync", "testkit"];

fn main() -> Result<ExitCode> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let top = workspace()?;
    let built = build(&top)?;
    let mut without = BTreeMap::new();
    let (mut found, mut all) = (0, 0);
    println!("| bug | what it does | found by | seconds | |\n|---|---|---|---|---|");
    for (name, what, finder) in BUGS {
        if !only.is_empty() && !only.iter().any(|asked| asked == name) {
            continue;
        }
        let begun = Instant::now();
        let passes = match without.get(finder) {
            Some(passes) => *passes,
            None => built.passes(*finder, None)?,
        };
        without.insert(*finder, passes);
        let said = match passes {
            false => "RED without it",
            true if built.passes(*finder, Some(name))? => "NOT FOUND",
            true => "found",
        };
        all += 1;
        found += u32::from(said == "found");
        let seconds = begun.elapsed().as_secs();
        println!("| {name} | {what} | `{}` | {seconds} | {said} |", told(*finder));
    }
    println!("\n{found} of {all} bugs were found");
    Ok(if found == all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn told(finder: Finder) -> String {
    match finder {
        Test(package, "syncline", name) => format!("cargo test -p {package} --bin syncline {name}"),
        Test(package, target, name) => format!("cargo test -p {package} --test {target} {name}"),
        Rig(rig, args) => format!("{rig} {}", args.join(" ")),
    }
}

/// Tests, rigs and the program with all bugs in them, each off until it is named.
struct Built {
    top: PathBuf,
    programs: PathBuf,
    /// Test files by name.
    tests: BTreeMap<String, PathBuf>,
}

/// Builds everything once.
fn build(top: &Path) -> Result<Built> {
    cargo(top, &["build", "--bins"])?;
    let mut arguments = vec!["test", "--no-run", "--bin", "syncline"];
    let targets: BTreeSet<&str> = BUGS
        .iter()
        .filter_map(|(_, _, finder)| match finder {
            Test(_, target, _) => Some(*target).filter(|target| *target != "syncline"),
            Rig(..) => None,
        })
        .collect();
    for target in targets {
        arguments.extend(["--test", target]);
    }
    let built = cargo(top, &arguments)?;
    let mut tests = BTreeMap::new();
    for line in built.lines() {
        let told: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let (name, path) = (told["target"]["name"].as_str(), told["executable"].as_str());
        if let (Some(name), Some(path), Some(true)) = (name, path, told["profile"]["test"].as_bool()) {
            tests.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let programs = top.join("target/zoo");
    std::fs::create_dir_all(&programs)?;
    for name in ["syncline", "kill-rig", "cut-rig"] {
        std::fs::copy(top.join("target/debug").join(name), programs.join(name))?;
    }
    Ok(Built {
        top: top.to_owned(),
        programs,
        tests,
    })
}

/// What cargo says, line by line, of building all packages with all bugs in them.
fn cargo(top: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments);
    // What the cargo that started this rig says of the rig would have build scripts run anew, and all that needs them built again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command.args([
        "--message-format=json-render-diagnostics",
        "--features",
        "syncline-rigs/zoo",
    ]);
    for package in PACKAGES {
        command.arg("-p").arg(format!("syncline-{package}"));
    }
    let output = command.current_dir(top).stderr(Stdio::inherit()).output();
    let output = output.context("cargo")?;
    if !output.status.success() {
        bail!("the zoo could not be built");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Built {
    /// True when the finder is content.
    fn passes(&self, finder: Finder, bug: Option<&str>) -> Result<bool> {
        let mut command = match finder {
            Rig(rig, args) => {
                let mut command = Command::new(self.programs.join(rig));
                command.args(args).current_dir(&self.top);
                command
            }
            Test(package, target, name) => {
                let test = self.tests.get(target).context("a test that was not built")?;
                let mut command = Command::new(test);
                let package = package.trim_start_matches("syncline-");
                command
                    .arg(name)
                    .current_dir(self.top.join("crates").join(package));
                command
            }
        };
        command.env_remove("SYNCLINE_ZOO");
        if let Some(bug) = bug {
            command.env("SYNCLINE_ZOO", bug);
        }
        command.env("SYNCLINE_BIN", self.programs.join("syncline"));
        // As many worlds as prove something: a bug that they do not show is not found.
        command.env("SYNCLINE_SEEDS", SEEDS);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command.status()?.success())
    }
}

//! Short turns of the rigs, for every commit; `make soak` takes the long ones.
//!
//! How long: `RIG_SECONDS` for each test (unless said, 40 for power cuts and at most 100 for kills, which end when every point was cut). What
//! cannot run here says why and is skipped.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::Duration;

use syncline_rigs::cut::{self, Extent, Work};
use syncline_rigs::image::Mounting;
use syncline_rigs::kill::{self, Amount, By};
use syncline_rigs::program::binary;
use syncline_rigs::scenario::{ALL, Scenario};

fn time(unless_said: u64) -> Duration {
    let asked = std::env::var("RIG_SECONDS").ok();
    Duration::from_secs(asked.and_then(|text| text.parse().ok()).unwrap_or(unless_said))
}

fn seed() -> u64 {
    let asked = std::env::var("RIG_SEED").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn killed(name: &str) {
    let scenario = Scenario::named(name).unwrap();
    let amount = (By::Trace, Amount::For(time(100)));
    let outcome = kill::rig(&binary().unwrap(), scenario, amount, seed(), None).unwrap();
    println!("{}", outcome.line(name));
    assert!(outcome.green(), "{:#?}", outcome.violations);
}

#[test]
fn s23_killed_during_a_first_copy() {
    killed("first-copy");
}

#[test]
fn s23_killed_during_an_update() {
    killed("update-with-trash");
}

#[test]
fn s23_killed_while_a_directory_moves() {
    killed("directory-rename");
}

#[test]
fn s23_killed_while_names_are_passed_on() {
    killed("names-passed-on");
}

#[test]
fn s23_killed_while_a_run_is_taken_back() {
    killed("undo");
}

#[test]
fn s23_killed_where_a_file_meets_a_directory() {
    killed("file-against-directory");
}

#[test]
fn s23_killed_while_both_versions_are_kept() {
    killed("keep-both");
}

#[test]
#[cfg(debug_assertions)]
fn s23_killed_at_changes_that_its_own_disk_counts() {
    for scenario in ALL {
        let amount = (By::Disk, Amount::For(time(100) / ALL.len() as u32));
        let outcome = kill::rig(&binary().unwrap(), scenario, amount, seed(), None).unwrap();
        println!("{}", outcome.line(scenario.name));
        assert!(outcome.green(), "{:#?}", outcome.violations);
    }
}

#[test]
fn a_rig_that_cuts_nothing_half_way_is_red() {
    let scenario = Scenario::named("update-with-trash").unwrap();
    // Nothing has happened before the first changing call.
    let outcome = kill::rig(
        &binary().unwrap(),
        scenario,
        (By::Trace, Amount::At(1)),
        seed(),
        None,
    )
    .unwrap();
    assert_eq!((outcome.points, outcome.under_way), (1, 0));
    assert!(outcome.violations.is_empty() && !outcome.green());
}

fn cut(work: Work) {
    if !syncline_rigs::is_root() {
        println!("skipped: mounting an image needs root");
        return;
    }
    let exe = binary().unwrap();
    let mut all = cut::Outcome::default();
    for mounting in Mounting::BOTH {
        let extent = Extent {
            cuts: 1000,
            peer_cuts: 20,
            time: Some(time(40) * 3 / 4),
            files: 1000,
            seed: seed(),
            place: None,
        };
        let outcome = cut::rig(&exe, mounting, work, &extent).unwrap();
        println!(
            "{}",
            outcome.line(&format!("mount={} work={}", mounting.name(), work.name()))
        );
        all.join(&outcome);
    }
    assert!(all.whole(), "{:#?}", all.violations);
    // How many fall under way depends on the machine; `make soak` wants a third of a thousand.
    let met = all.under_way > 0 && all.peer_damaged > 0;
    assert!(met, "the cuts prove nothing: {}", all.line("all"));
}

#[test]
fn s23_power_cut_during_a_first_copy() {
    cut(Work::FirstCopy);
}

#[test]
fn s23_power_cut_during_an_update() {
    cut(Work::Update);
}

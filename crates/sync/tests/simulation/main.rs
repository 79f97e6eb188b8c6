//! The whole engine on simulated disks: random trees, random edits, kills and power cuts at any call, calls that fail, a
//! user who edits between any two calls; then everything must come together by itself and nothing may be lost.
//!
//! `SYNCLINE_SEEDS=N` runs so many worlds, `SYNCLINE_SEED=x` lives through one again and tells its story.

#![allow(clippy::print_stdout, reason = "the figures of a simulation are printed")]

mod machine;
mod office;
mod user;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Met, World};

const SEEDS: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(unless_told: u64) -> u64 {
    number("SYNCLINE_SEEDS").unwrap_or(unless_told)
}

/// Too few seeds were asked for to prove anything.
fn few() -> bool {
    number("SYNCLINE_SEED").is_some() || number("SYNCLINE_SEEDS").is_some_and(|seeds| seeds < 200)
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().min(8))
}

/// Lives through one seed; every hundredth twice, which must come to the same.
fn live(seed: u64) -> (Met, Result<(), String>, Vec<String>) {
    let mut world = World::new(seed);
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.live()));
    let mut lived = lived.unwrap_or_else(|_| Err("a panic".into()));
    if let (Ok(digest), 0) = (&lived, seed % 100) {
        let again = World::new(seed).live();
        if again.as_ref() != Ok(digest) {
            lived = Err("the same seed came to another end".into());
        }
    }
    (world.met.clone(), lived.map(drop), world.story())
}

#[test]
fn s23_any_moment_of_any_run_may_be_its_last() {
    if let Some(seed) = number("SYNCLINE_SEED") {
        let (met, lived, story) = live(seed);
        println!("{}\n{met:?}", story.join("\n"));
        lived.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        return;
    }
    let seeds = seeds(SEEDS);
    let (next, total) = (AtomicU64::new(0), Mutex::new((Met::default(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let (met, lived, _) = live(seed);
                    let mut total = total.lock().expect("no panic here");
                    total.0.join(&met);
                    if let Err(why) = lived {
                        total.1.push((seed, why));
                    }
                }
            });
        }
    });
    let (met, mut failed) = total.into_inner().expect("no panic here");
    failed.sort();
    println!("{seeds} seeds: {met:#?}");
    for (seed, why) in failed.iter() {
        println!(
            "{why}\n  SYNCLINE_SEED={seed} cargo test -p syncline-sync --test simulation -- --nocapture"
        );
    }
    assert!(failed.is_empty(), "{} of {seeds} worlds failed", failed.len());
    if seeds >= 200 {
        for (what, count) in [
            ("power cuts", met.power_cuts),
            ("things lost by power cuts", met.lost),
            ("kills", met.kills),
            ("conflicts", met.conflicts),
            ("moves", met.moves),
            ("edits during runs", met.meddled),
            ("undone runs", met.undone),
            ("sessions that could not be opened", met.not_opened),
            ("runs kept after a power cut", met.kept_after_cut),
            ("worlds in which all must stand", met.all_stand),
        ] {
            assert!(count > 0, "no {what}: nothing was proved");
        }
        for kind in ["Full", "Denied", "Corrupt"] {
            assert!(
                met.faults.contains_key(kind),
                "no fault {kind}: nothing was proved"
            );
        }
    }
}

#[test]
fn s23_the_power_cut_at_any_flush_loses_nothing() {
    let [cuts, lost] = over(0..seeds(SEEDS).max(SEEDS) / 50, |seed| {
        let mut count = [0, 0];
        for at in 0.. {
            let lost = World::cut_at_flush(seed, at).map_err(|why| format!("at flush {at}: {why}"))?;
            let Some(lost) = lost else { break };
            count = [count[0] + 1, count[1] + lost];
        }
        Ok(count)
    });
    println!("the power was cut at {cuts} flushes and took {lost} names");
    assert!(cuts > 500 && lost > 500 || few(), "nothing was proved");
}

/// Kills a run at each of its changes in each of these worlds and takes it back. How often, and how many steps.
fn killed_and_taken_back(taken_back: impl Fn(u64, u64) -> Result<Option<u64>, String>) -> (u64, u64) {
    let (mut kills, mut steps) = (0, 0);
    for seed in 0..2 {
        for at in 0.. {
            let done = taken_back(seed, at);
            let done = done.unwrap_or_else(|why| panic!("seed {seed}, killed at change {at}: {why}"));
            let Some(done) = done else { break };
            (kills, steps) = (kills + 1, steps + done);
        }
    }
    println!("{kills} kills, {steps} steps taken back");
    (kills, steps)
}

#[test]
fn s19_a_killed_run_is_taken_back_whole() {
    let (kills, steps) = killed_and_taken_back(World::taken_back);
    assert!(kills > 100 && steps > 100, "nothing was proved");
}

#[test]
fn s19_a_run_killed_among_moves_of_directories_is_taken_back_whole() {
    let (kills, steps) = killed_and_taken_back(World::moves_taken_back);
    assert!(kills > 100 && steps > 100, "nothing was proved");
}

/// Does this with each seed, all cores at once; what fails is told with its seed. The sum of what it counts.
fn over<const N: usize>(
    seeds: std::ops::Range<u64>,
    what: impl Fn(u64) -> Result<[u64; N], String> + Sync,
) -> [u64; N] {
    let one = number("SYNCLINE_SEED");
    let (next, end) = (
        AtomicU64::new(one.unwrap_or(seeds.start)),
        one.map_or(seeds.end, |one| one + 1),
    );
    let total = Mutex::new(([0; N], Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what(seed)));
                    let mut total = total.lock().expect("no panic here");
                    match done.unwrap_or_else(|_| Err("a panic".into())) {
                        Ok(counts) => total
                            .0
                            .iter_mut()
                            .zip(counts)
                            .for_each(|(sum, count)| *sum += count),
                        Err(why) => total.1.push((seed, why)),
                    }
                }
            });
        }
    });
    let (sum, mut failed) = total.into_inner().expect("no panic here");
    failed.sort();
    for (seed, why) in failed.iter().take(if one.is_some() { 1 } else { 3 }) {
        println!("seed {seed}: {why}");
    }
    let failed: Vec<_> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
    sum
}

#[test]
fn s22_what_is_printed_is_what_is_done() {
    let [steps] = over(0..seeds(SEEDS), |seed| Ok([World::printed_is_done(seed)?]));
    println!("{steps} steps printed and done");
    assert!(steps > 300 || few(), "{steps} steps: nothing was proved");
}

#[test]
fn s22_a_plan_file_does_what_it_says_and_refuses_only_what_changed() {
    let [done, refused] = over(0..seeds(SEEDS), World::file_is_plan);
    println!("{done} steps of old plans done, {refused} refused");
    assert!(
        done > 300 && refused > 100 || few(),
        "{done} done, {refused} refused: nothing was proved"
    );
}

#[test]
fn s23_wherever_a_run_ends_the_next_ones_come_to_the_same_place() {
    let [cuts, elsewhere] = over(0..seeds(SEEDS), World::cut_anywhere);
    println!(
        "{cuts} runs cut short, {elsewhere} of them ended in another place for a reason that is written down"
    );
    assert!(cuts > 1000 || few(), "{cuts} runs cut short: nothing was proved");
    assert!(
        elsewhere * 500 < cuts || few(),
        "{elsewhere} of {cuts} ended in another place: the law says nothing"
    );
}

#[test]
fn s14_s23_a_directory_rename_killed_anywhere_ends_without_a_conflict() {
    let mut kills = [0, 0];
    for seed in 0..2 {
        for rows in [false, true] {
            for at in 0.. {
                let killed = World::renamed_and_killed(seed, at, rows);
                match killed.unwrap_or_else(|why| panic!("seed {seed}, killed at {at}, rows {rows}: {why}")) {
                    true => kills[usize::from(rows)] += 1,
                    false => break,
                }
            }
        }
    }
    println!("killed at {} changes of files and {} of rows", kills[0], kills[1]);
    assert!(
        kills[0] > 50 && kills[1] > 5,
        "{kills:?} kills: nothing was proved"
    );
}

/// Two people and a bucket, over which a third one writes too.
#[test]
fn s23_b1_people_with_one_bucket_lose_nothing_whatever_ends_their_runs() {
    let met = Mutex::new(office::Met::default());
    over(0..seeds(SEEDS), |seed| {
        let mut office = office::Office::new(seed);
        let lived = office.live();
        met.lock().expect("no panic here").join(&office.met);
        let again = seed % 100 == 0 && lived.is_ok();
        if again && office::Office::new(seed).live() != lived {
            return Err("the same seed came to something else".into());
        }
        lived
            .map(|_| [0])
            .map_err(|why| format!("{why}\n{}", office.story().join("\n")))
    });
    let met = met.into_inner().expect("no panic here");
    println!("{met:#?}");
    if !few() {
        let counts = [
            met.kills_at_store,
            met.kills - met.kills_at_store,
            met.power_cuts,
            met.conflicts,
            met.intruded,
        ];
        assert!(counts.iter().all(|count| *count > 20), "nothing was proved");
        for kind in [
            "Busy",
            "Lost",
            "Unanswered",
            "Cut",
            "Garbled",
            "Conflict",
            "ListBroken",
        ] {
            assert!(
                met.faults.contains_key(kind),
                "no fault {kind}: nothing was proved"
            );
        }
    }
}

//! `kill-rig`: kills the program at its system calls and prints what came of it, a line for each scenario.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use syncline_rigs::kill::{Amount, By, rig};
use syncline_rigs::program::binary;
use syncline_rigs::scenario::{ALL, Scenario};

/// Kills the program right before its changing calls, runs it again and looks whether anything is wrong.
#[derive(Debug, Parser)]
struct Typed {
    /// Only this scenario
    #[arg(long)]
    scenario: Option<String>,
    /// Who counts: the tracer from outside, or the program's own disk
    #[arg(long, value_enum, default_value_t = By::Trace)]
    by: By,
    /// So many points of each scenario instead of all
    #[arg(long, conflicts_with_all = ["seconds", "at"])]
    sample: Option<u64>,
    /// As many points as fit into this time, over all scenarios
    #[arg(long, conflicts_with = "at")]
    seconds: Option<u64>,
    /// Only this point
    #[arg(long)]
    at: Option<u64>,
    /// Which points are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the trees lie
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let typed = Typed::parse();
    let exe = binary()?;
    let scenarios: Vec<&Scenario> = match &typed.scenario {
        Some(name) => vec![Scenario::named(name)?],
        None => ALL.iter().collect(),
    };
    let share = |seconds: u64| Duration::from_secs(seconds) / scenarios.len() as u32;
    let amount = match (typed.at, typed.sample, typed.seconds) {
        (Some(at), ..) => Amount::At(at),
        (_, Some(most), _) => Amount::Sample(most),
        (_, _, Some(seconds)) => Amount::For(share(seconds)),
        _ => Amount::All,
    };
    let mut green = true;
    for scenario in scenarios {
        match rig(
            &exe,
            scenario,
            (typed.by, amount),
            typed.seed,
            typed.dir.as_deref(),
        ) {
            Ok(outcome) => {
                println!("{}", outcome.line(scenario.name));
                green &= outcome.green();
            }
            Err(error) => {
                println!("kill-rig scenario={} broken: {error:#}", scenario.name);
                green = false;
            }
        }
    }
    Ok(if green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

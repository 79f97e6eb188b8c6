//! `memory-rig`: prints how much memory a run over very many entries takes, a line for each case; red above the limit.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use syncline_rigs::memory::{Case, measure, peak, program, run};

/// Runs the engine over very many entries and prints the most memory that it had.
#[derive(Debug, Parser)]
struct Typed {
    /// Files in each tree
    #[arg(long, default_value_t = 10_000_000)]
    entries: u64,
    /// Most memory, in MiB
    #[arg(long, default_value_t = 256)]
    limit: u64,
    /// Only these cases; `unchanged` and `moved` need the state that `new` leaves
    #[arg(long)]
    case: Vec<Case>,
    /// Where state lies: several GB for ten million entries
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Bytes that a sorter holds in memory, if not as many as ever
    #[arg(long, hide = true)]
    budget: Option<usize>,
    /// Runs one case in this process
    #[arg(long, hide = true)]
    within: Option<Case>,
}

fn main() -> Result<ExitCode> {
    let typed = Typed::parse();
    let dir = match &typed.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir(),
    };
    if let Some(case) = typed.within {
        let report = run(case, typed.entries, &dir, typed.budget)?;
        println!("{} {}", peak()?, report.seconds);
        return Ok(ExitCode::SUCCESS);
    }
    let dir = tempfile::Builder::new()
        .prefix("syncline-memory-")
        .tempdir_in(dir)?;
    let cases = if typed.case.is_empty() {
        Case::ALL.to_vec()
    } else {
        typed.case
    };
    let mut green = true;
    for case in cases {
        match measure(&program()?, case, typed.entries, dir.path(), typed.budget) {
            Ok(taken) => {
                let within = taken.peak <= typed.limit << 20;
                green &= within;
                println!(
                    "memory-rig case={} entries={} peak={}MiB limit={}MiB seconds={:.0}{}",
                    case.name(),
                    typed.entries,
                    taken.peak.div_ceil(1 << 20),
                    typed.limit,
                    taken.seconds,
                    if within { "" } else { " TOO MUCH" }
                );
            }
            Err(error) => {
                green = false;
                println!("memory-rig case={} broken: {error:#}", case.name());
            }
        }
    }
    Ok(if green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

//! `cut-rig`: cuts the power of a file system under the program and prints what came of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use syncline_rigs::cut::{Extent, Outcome, Work, rig};
use syncline_rigs::image::Mounting;
use syncline_rigs::program::binary;

/// Cuts the power while the program copies or updates a tree, or the instant it has ended, and looks what is left.
#[derive(Debug, Parser)]
struct Typed {
    /// Cuts in all
    #[arg(long, default_value_t = 1000)]
    cuts: u64,
    /// Ends after about this time
    #[arg(long)]
    seconds: Option<u64>,
    /// Files in the tree
    #[arg(long, default_value_t = 1000)]
    files: usize,
    /// Which moments are drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the images lie
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let typed = Typed::parse();
    if !syncline_rigs::is_root() {
        anyhow::bail!("mounting an image needs root");
    }
    let exe = binary()?;
    let groups = (Mounting::BOTH.len() * Work::BOTH.len()) as u64;
    let extent = Extent {
        cuts: typed.cuts.div_ceil(groups),
        peer_cuts: typed.cuts.div_ceil(groups * 4).max(3),
        time: typed.seconds.map(|all| Duration::from_secs(all) / groups as u32),
        files: typed.files,
        seed: typed.seed,
        place: typed.dir,
    };
    let mut all = Outcome::default();
    for mounting in Mounting::BOTH {
        for work in Work::BOTH {
            let outcome = rig(&exe, mounting, work, &extent)?;
            let what = format!("mount={} work={}", mounting.name(), work.name());
            println!("{}", outcome.line(&what));
            all.join(&outcome);
        }
    }
    println!("{}", all.line("all"));
    Ok(if all.whole() && all.proves() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

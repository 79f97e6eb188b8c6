//! What was typed: verbs and options as `cli.md` settles them, and nothing of what they mean.
//!
//! Invariant: this is the only file that knows the spelling of the command line; the rest sees [`crate::intent`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::values::{
    Brake, ConflictRule, DurabilityWord, KeepWord, LinksWord, ModeWord, Rate, SideWord, SidesWord, Span,
};

/// Keeps one tree of files the same in two places.
///
/// A place is a directory (DIR, file:///dir), a bucket (s3://bucket/prefix) or a name of the config file (NAME:path).
#[derive(Debug, Parser)]
#[command(
    name = "syncline",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Typed {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Shared {
    /// Act as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// Read this config file (also SYNCLINE_CONFIG; else $XDG_CONFIG_HOME/syncline/config.toml)
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Keep state below DIR (also SYNCLINE_STATE; else $XDG_STATE_HOME/syncline)
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// Write one JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Write nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Answer questions with yes; never a guard
    #[arg(long, global = true)]
    pub yes: bool,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make two places the same, both ways; without places: the repository one stands in
    Sync(SyncVerb),
    /// Make DIR a repository bound to PLACE
    Init(InitVerb),
    /// Make DIR a repository bound to PLACE and pull
    Clone(CloneVerb),
    /// Bring this repository's changes to its place
    Push(PartVerb),
    /// Bring the place's changes to this repository
    Pull(PartVerb),
    /// Show what a sync of this repository would do
    Status(PartVerb),
    /// Settle conflicts
    Resolve(ResolveVerb),
    /// End a binding: its state, its markers and, when asked, its trash
    Leave(LeaveVerb),
    /// Carry out a plan that --plan FILE wrote
    Apply(ApplyVerb),
    /// List conflicts that wait to be settled
    Conflicts(Of),
    /// List runs
    Log(Of),
    /// Reverse a run, the last one if none is named
    Undo(UndoVerb),
    /// What was removed or replaced
    Trash(TrashVerb),
    /// Bring paths back from the trash
    Restore(RestoreVerb),
    /// Tell what is installed, reachable and supported, and what to do about the rest
    Doctor(DoctorVerb),
    /// The config file
    Config(ConfigVerb),
    /// Write a completion script for a shell
    Completions(CompletionsVerb),
}

/// Rules of a session, kept by `init` and `clone`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleArgs {
    /// two-way, mirror (RIGHT becomes LEFT, extras go to the trash) or copy (never removes)
    #[arg(long)]
    pub mode: Option<ModeWord>,
    /// keep-both, newest, left, right, largest, hold or merge=CMD
    #[arg(long, value_name = "RULE")]
    pub conflict: Option<ConflictRule>,
    /// Leave paths out that match (gitignore syntax; rules count in order)
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub exclude: Vec<String>,
    /// Take paths in that match
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub include: Vec<String>,
    /// Read rules from FILE (gitignore syntax)
    #[arg(long, value_name = "FILE")]
    pub filter_from: Vec<PathBuf>,
    /// Most removals and overwrites of a run on a side: N, N% or none
    #[arg(allow_hyphen_values = true, long, value_name = "N|N%|none")]
    pub max_delete: Option<Brake>,
    /// Do not carry out removals there: left, right or both
    #[arg(long, value_name = "SIDE")]
    pub skip_deletes: Option<SidesWord>,
    /// Keep the trash at PLACE
    #[arg(long, value_name = "PLACE", conflicts_with = "no_trash")]
    pub trash: Option<String>,
    /// Keep nothing of what is removed or replaced
    #[arg(long)]
    pub no_trash: bool,
    /// What done means: batch, file or none
    #[arg(long, value_name = "WHEN")]
    pub durability: Option<DurabilityWord>,
    /// Symlinks: keep, follow or skip
    #[arg(long, value_name = "HOW")]
    pub links: Option<LinksWord>,
    /// Leave owners alone
    #[arg(long)]
    pub no_owner: bool,
    /// Leave permission bits alone
    #[arg(long)]
    pub no_mode: bool,
    /// Leave times alone
    #[arg(long)]
    pub no_times: bool,
    /// Treat each name of a hard-linked file as a file of its own
    #[arg(long)]
    pub no_hard_links: bool,
    /// Do not look at times of status change
    #[arg(long)]
    pub no_ctime: bool,
    /// Carry extended attributes
    #[arg(long)]
    pub xattrs: bool,
    /// Carry POSIX ACLs
    #[arg(long)]
    pub acls: bool,
    /// Copies at once
    #[arg(allow_hyphen_values = true, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Bytes a second, such as 500K or 10M
    #[arg(allow_hyphen_values = true, long, value_name = "RATE")]
    pub bandwidth: Option<Rate>,
}

/// How this one run goes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "This run")]
pub struct RunArgs {
    /// Show what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Write the plan to FILE ("-": standard output) and do nothing else
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Begin nothing new after this time
    #[arg(allow_hyphen_values = true, long, value_name = "T")]
    pub soft_time_limit: Option<Span>,
    /// Stop at once after this time
    #[arg(allow_hyphen_values = true, long, value_name = "T")]
    pub time_limit: Option<Span>,
    /// Compare bytes even where size, times and tags say unchanged
    #[arg(long)]
    pub checksum: bool,
    /// Take that side's root as it stands: nothing is removed, the run is a union
    #[arg(long, value_name = "SIDE")]
    pub accept: Option<SideWord>,
    /// End quietly if another run holds this session
    #[arg(long)]
    pub quiet_if_locked: bool,
}

/// How a run goes that only carries out: no plan, no brakes of its own.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "This run")]
pub struct ActArgs {
    /// Show what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Begin nothing new after this time
    #[arg(allow_hyphen_values = true, long, value_name = "T")]
    pub soft_time_limit: Option<Span>,
    /// Stop at once after this time
    #[arg(allow_hyphen_values = true, long, value_name = "T")]
    pub time_limit: Option<Span>,
    /// Copies at once
    #[arg(allow_hyphen_values = true, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Bytes a second, such as 500K or 10M
    #[arg(allow_hyphen_values = true, long, value_name = "RATE")]
    pub bandwidth: Option<Rate>,
}

/// Which session is meant, where it is not the repository one stands in.
#[derive(Debug, Clone, Default, Args)]
pub struct Of {
    /// The session of these two places
    #[arg(long, num_args = 2, value_names = ["LEFT", "RIGHT"])]
    pub of: Option<Vec<OsString>>,
}

#[derive(Debug, Args)]
pub struct SyncVerb {
    /// Two places; none: the repository one stands in
    #[arg(value_name = "PLACE")]
    pub places: Vec<OsString>,
    /// Only this path and what is below it
    #[arg(long, value_name = "PATH")]
    pub only: Vec<OsString>,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct InitVerb {
    /// What DIR is to be kept the same with
    pub place: OsString,
    /// The directory; this one if not given
    pub target: Option<PathBuf>,
    #[command(flatten)]
    pub rules: RuleArgs,
}

#[derive(Debug, Args)]
pub struct CloneVerb {
    /// What DIR is to be kept the same with
    pub place: OsString,
    /// The directory; made if missing
    pub target: PathBuf,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct PartVerb {
    /// Only these paths and what is below them
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct ResolveVerb {
    /// Paths in conflict
    #[arg(value_name = "PATH", required_unless_present = "all", conflicts_with = "all")]
    pub paths: Vec<OsString>,
    /// Every conflict
    #[arg(long)]
    pub all: bool,
    /// What stays: left, right, both, newest or largest
    #[arg(long, value_name = "WHICH")]
    pub keep: KeepWord,
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
pub struct LeaveVerb {
    /// A repository's DIR, or LEFT and RIGHT
    #[arg(value_name = "DIR|LEFT RIGHT", num_args = 1..=2, required = true)]
    pub places: Vec<OsString>,
    /// Remove what the trash of both places holds of this session
    #[arg(long)]
    pub empty_trash: bool,
}

#[derive(Debug, Args)]
pub struct ApplyVerb {
    /// The plan ("-": standard input)
    pub file: PathBuf,
    /// Most removals and overwrites on a side: N, N% or none; else what the plan was made with
    #[arg(allow_hyphen_values = true, long, value_name = "N|N%|none")]
    pub max_delete: Option<Brake>,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
pub struct UndoVerb {
    /// The run, as `log` names it
    pub name: Option<String>,
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
pub struct TrashVerb {
    #[command(subcommand)]
    pub what: TrashWhat,
}

#[derive(Debug, Subcommand)]
pub enum TrashWhat {
    /// List what was removed or replaced
    List(Of),
    /// Remove it for good
    Empty {
        /// Only of this run
        #[arg(value_name = "RUN")]
        name: Option<String>,
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Debug, Args)]
pub struct RestoreVerb {
    /// Paths as they were called
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<OsString>,
    /// The run that displaced them; the newest if not given
    #[arg(long, value_name = "RUN")]
    pub from: Option<String>,
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub act: ActArgs,
}

#[derive(Debug, Args)]
pub struct DoctorVerb {
    /// Places to look at
    #[arg(value_name = "PLACE")]
    pub places: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct ConfigVerb {
    #[command(subcommand)]
    pub what: ConfigWhat,
}

#[derive(Debug, Subcommand)]
pub enum ConfigWhat {
    /// Read the config file and say what is wrong with it
    Check,
}

#[derive(Debug, Args)]
pub struct CompletionsVerb {
    /// bash, zsh, fish, elvish or powershell
    pub shell: clap_complete::Shell,
}

/// One rule or source of rules, in the order in which they were typed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterArg {
    /// `--exclude`.
    Exclude(String),
    /// `--include`.
    Include(String),
    /// `--filter-from`.
    From(PathBuf),
}

/// Reads the command line. The second value holds the filter rules across their three options, in order.
pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<(Typed, Vec<FilterArg>), Box<clap::Error>> {
    let matches = Typed::command().try_get_matches_from(line)?;
    let typed = Typed::from_arg_matches(&matches)?;
    let mut leaf = &matches;
    while let Some((_, below)) = leaf.subcommand() {
        leaf = below;
    }
    Ok((typed, filters_in_order(leaf)))
}

fn filters_in_order(leaf: &clap::ArgMatches) -> Vec<FilterArg> {
    let mut found: Vec<(usize, FilterArg)> = Vec::new();
    let kinds: [(&str, fn(String) -> FilterArg); 2] =
        [("exclude", FilterArg::Exclude), ("include", FilterArg::Include)];
    for (id, make) in kinds {
        let values = leaf
            .try_get_many::<String>(id)
            .ok()
            .flatten()
            .into_iter()
            .flatten();
        if let Ok(true) = leaf.try_contains_id(id) {
            let at = leaf.indices_of(id).into_iter().flatten();
            found.extend(at.zip(values).map(|(at, text)| (at, make(text.clone()))));
        }
    }
    if let Ok(true) = leaf.try_contains_id("filter_from") {
        let values = leaf.get_many::<PathBuf>("filter_from").into_iter().flatten();
        let at = leaf.indices_of("filter_from").into_iter().flatten();
        found.extend(
            at.zip(values)
                .map(|(at, path)| (at, FilterArg::From(path.clone()))),
        );
    }
    found.sort_by_key(|&(at, _)| at);
    found.into_iter().map(|(_, rule)| rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Result<(Typed, Vec<FilterArg>), Box<clap::Error>> {
        read(
            std::iter::once("syncline")
                .chain(words.iter().copied())
                .map(OsString::from),
        )
    }

    #[test]
    fn the_command_line_is_sound() {
        Typed::command().debug_assert();
    }

    #[test]
    fn filters_keep_their_order_across_options() {
        let typed = [
            "sync",
            "--exclude",
            "*.o",
            "a",
            "--include=keep.o",
            "b",
            "--filter-from",
            "f",
            "--exclude",
            "-x",
        ];
        let (_, rules) = line(&typed).unwrap();
        let expected = [
            FilterArg::Exclude("*.o".into()),
            FilterArg::Include("keep.o".into()),
            FilterArg::From("f".into()),
            FilterArg::Exclude("-x".into()),
        ];
        assert_eq!(rules, expected);
        assert!(line(&["log"]).unwrap().1.is_empty());
        assert!(line(&["trash", "list"]).unwrap().1.is_empty());
    }

    #[test]
    fn every_verb_reads() {
        for words in [
            &["sync"][..],
            &["sync", "a", "s3://b/c", "-n", "--json"],
            &["sync", "--only", "x", "--only", "y", "--accept", "left"],
            &["init", "s3://b", "--mode", "mirror"],
            &["clone", "s3://b", "d"],
            &["push", "a", "b"],
            &["-C", "d", "pull"],
            &["status", "--json"],
            &["resolve", "--all", "--keep", "newest"],
            &["resolve", "a", "--keep", "left", "--of", "x", "y"],
            &["leave", "d"],
            &["leave", "a", "b", "--empty-trash"],
            &["apply", "-"],
            &["conflicts", "--of", "a", "b"],
            &["log"],
            &["undo", "20260101", "-n"],
            &["trash", "list"],
            &["trash", "empty", "20260101", "--yes"],
            &["restore", "a", "--from", "20260101"],
            &["doctor", "s3://b"],
            &["config", "check"],
            &["completions", "bash"],
        ] {
            if let Err(error) = line(words) {
                panic!("{words:?}: {error}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for words in [
            &["mount", "a", "b"][..],
            &["resolve", "--keep", "left"],
            &["resolve", "a", "--all", "--keep", "left"],
            &["resolve", "a"],
            &["sync", "--watch", "a", "b"],
            &["sync", "--jobs", "0", "a", "b"],
            &["sync", "--conflict", "mine", "a", "b"],
            &["sync", "-q", "-v", "a", "b"],
            &["leave"],
            &[],
        ] {
            assert!(line(words).is_err(), "{words:?}");
        }
    }
}

//! What the command line means: paths made absolute, environment read, contradictions refused.
//!
//! Invariant: the rest of the program sees only this, never [`crate::args`]; nothing here touches a file.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use syncline_model::{Fault, Kind, Result, Side};
use syncline_sync::Keep;

use crate::args::{self, ConfigWhat, FilterArg, RuleArgs, RunArgs, Shared, TrashWhat, Typed, Verb};
use crate::kept::Kept;
use crate::place::shown;
use crate::values::{Brake, Rate};

/// What is to be done, and in which surroundings.
#[derive(Debug)]
pub struct Intent {
    /// Where and how.
    pub setting: Setting,
    /// What.
    pub act: Act,
}

/// Surroundings that every verb shares.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The directory that relative names start from.
    pub base: PathBuf,
    /// The config file, and whether it was asked for by name.
    pub config: Option<(PathBuf, bool)>,
    /// Where state lies.
    pub state: PathBuf,
    /// JSON lines instead of text.
    pub json: bool,
    /// How much is said.
    pub voice: Voice,
    /// Questions are answered with yes.
    pub yes: bool,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voice {
    /// Errors.
    Quiet,
    /// Changes and a summary.
    Normal,
    /// Phases and notes too.
    Loud,
}

/// What is to be done.
#[derive(Debug)]
pub enum Act {
    /// A run of the merge, whole or in part, or only shown.
    Run(Run),
    /// Bind a directory to a place; `first` is set by `clone`.
    Init {
        place: OsString,
        dir: PathBuf,
        kept: Kept,
        first: Option<Once>,
    },
    /// End a binding.
    Leave { which: Which, empty_trash: bool },
    /// Carry out a plan.
    Apply { file: PathBuf, once: Once },
    /// List conflicts.
    Conflicts { which: Which },
    /// Settle conflicts: these paths, or all.
    Resolve {
        which: Which,
        paths: Option<Vec<OsString>>,
        keep: Keep,
        once: Once,
    },
    /// List runs.
    Log { which: Which },
    /// Reverse a run.
    Undo {
        which: Which,
        name: Option<String>,
        once: Once,
    },
    /// List the trash.
    TrashList { which: Which },
    /// Empty the trash.
    TrashEmpty { which: Which, name: Option<String> },
    /// Bring back paths.
    Restore {
        which: Which,
        paths: Vec<OsString>,
        from: Option<String>,
        once: Once,
    },
    /// Look at the surroundings.
    Doctor { places: Vec<OsString> },
    /// Check the config file.
    ConfigCheck,
    /// Write a completion script.
    Completions(clap_complete::Shell),
}

/// A run of the merge.
#[derive(Debug)]
pub struct Run {
    /// On which session.
    pub which: Which,
    /// "sync", "push", "pull" or "status".
    pub what: &'static str,
    /// What the command line gives of what a session may keep.
    pub typed: Kept,
    /// What holds for this run.
    pub once: Once,
}

/// Which session is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The repository one stands in.
    Here,
    /// The repository one stands in, else the only session there is.
    Any,
    /// Of these two places.
    Of(OsString, OsString),
    /// The repository at this directory.
    At(PathBuf),
}

/// What holds for one run.
#[derive(Debug, Clone, Default)]
pub struct Once {
    /// Show only.
    pub dry_run: bool,
    /// Write the plan there and do nothing else.
    pub plan: Option<PathBuf>,
    /// Begin nothing new after it.
    pub soft_limit: Option<Duration>,
    /// Stop after it.
    pub hard_limit: Option<Duration>,
    /// Compare bytes.
    pub checksum: bool,
    /// Take that root as it stands.
    pub accept: Option<Side>,
    /// A second run ends quietly.
    pub quiet_if_locked: bool,
    /// Paths as typed; empty: everything.
    pub only: Vec<OsString>,
    /// Copies at once, where the verb has no rules.
    pub jobs: Option<u16>,
    /// Bytes a second, where the verb has no rules.
    pub bandwidth: Option<Rate>,
    /// The brake, where the verb has no rules.
    pub max_delete: Option<Brake>,
}

/// The environment, read once.
pub struct Surroundings {
    /// The current directory.
    pub current: PathBuf,
    /// Its variables.
    pub var: fn(&str) -> Option<OsString>,
}

/// What `typed` means.
pub fn read(typed: Typed, filters: Vec<FilterArg>, around: &Surroundings) -> Result<Intent> {
    let setting = setting(typed.shared, around)?;
    let base = setting.base.clone();
    Ok(Intent {
        act: act(typed.verb, filters, &base)?,
        setting,
    })
}

fn setting(shared: Shared, around: &Surroundings) -> Result<Setting> {
    let voice = voice(&shared);
    let base = match &shared.dir {
        Some(dir) => around.current.join(dir),
        None => around.current.clone(),
    };
    let var = |name: &str| (around.var)(name).filter(|value| !value.is_empty());
    let below = |variable: &str, home: &str| {
        let set = var(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        set.or_else(|| var("HOME").map(|dir| Path::new(&dir).join(home)))
            .map(|dir| dir.join("syncline"))
    };
    let config = match shared
        .config
        .or_else(|| var("SYNCLINE_CONFIG").map(PathBuf::from))
    {
        Some(file) => Some((base.join(file), true)),
        None => below("XDG_CONFIG_HOME", ".config").map(|dir| (dir.join("config.toml"), false)),
    };
    let state = match shared.state.or_else(|| var("SYNCLINE_STATE").map(PathBuf::from)) {
        Some(dir) => base.join(dir),
        None => below("XDG_STATE_HOME", ".local/state").ok_or_else(|| {
            Fault::new(Kind::Invalid, "there is no place for state: HOME is not set", "")
                .hint("say --state DIR or set SYNCLINE_STATE")
        })?,
    };
    Ok(Setting {
        base,
        config,
        state,
        json: shared.json,
        voice,
        yes: shared.yes,
    })
}

/// How much is to be said.
pub fn voice(shared: &Shared) -> Voice {
    match (shared.quiet, shared.verbose) {
        (true, _) => Voice::Quiet,
        (_, true) => Voice::Loud,
        _ => Voice::Normal,
    }
}

fn act(verb: Verb, filters: Vec<FilterArg>, base: &Path) -> Result<Act> {
    let rules = |args: RuleArgs| rules(args, filters, base);
    Ok(match verb {
        Verb::Sync(verb) => {
            let which = sync_places(verb.places)?;
            let once = Once {
                only: verb.only,
                ..once(verb.run, base)?
            };
            Act::Run(Run {
                which,
                what: "sync",
                typed: rules(verb.rules)?,
                once,
            })
        }
        Verb::Push(verb) => part("push", verb, rules, base)?,
        Verb::Pull(verb) => part("pull", verb, rules, base)?,
        Verb::Status(verb) => part("status", verb, rules, base)?,
        Verb::Init(verb) => {
            let dir = verb
                .target
                .map_or_else(|| base.to_path_buf(), |dir| base.join(dir));
            Act::Init {
                place: verb.place,
                dir,
                kept: rules(verb.rules)?,
                first: None,
            }
        }
        Verb::Clone(verb) => {
            let first = Some(once(verb.run, base)?);
            Act::Init {
                place: verb.place,
                dir: base.join(verb.target),
                kept: rules(verb.rules)?,
                first,
            }
        }
        Verb::Leave(verb) => Act::Leave {
            which: leave_which(verb.places, base),
            empty_trash: verb.empty_trash,
        },
        Verb::Apply(verb) => Act::Apply {
            file: file(verb.file, base),
            once: Once {
                max_delete: verb.max_delete,
                ..acting(verb.act)
            },
        },
        Verb::Conflicts(of) => Act::Conflicts { which: which(of) },
        Verb::Resolve(verb) => Act::Resolve {
            which: which(verb.of),
            paths: (!verb.all).then_some(verb.paths),
            keep: verb.keep.0,
            once: acting(verb.act),
        },
        Verb::Log(of) => Act::Log { which: which(of) },
        Verb::Undo(verb) => Act::Undo {
            which: which(verb.of),
            name: verb.name,
            once: acting(verb.act),
        },
        Verb::Trash(verb) => match verb.what {
            TrashWhat::List(of) => Act::TrashList { which: which(of) },
            TrashWhat::Empty { name, of } => Act::TrashEmpty {
                which: which(of),
                name,
            },
        },
        Verb::Restore(verb) => Act::Restore {
            which: which(verb.of),
            paths: verb.paths,
            from: verb.from,
            once: acting(verb.act),
        },
        Verb::Doctor(verb) => Act::Doctor { places: verb.places },
        Verb::Config(verb) => match verb.what {
            ConfigWhat::Check => Act::ConfigCheck,
        },
        Verb::Completions(verb) => Act::Completions(verb.shell),
    })
}

fn part(
    what: &'static str,
    verb: args::PartVerb,
    rules: impl FnOnce(RuleArgs) -> Result<Kept>,
    base: &Path,
) -> Result<Act> {
    let once = Once {
        only: verb.paths,
        ..once(verb.run, base)?
    };
    Ok(Act::Run(Run {
        which: Which::Here,
        what,
        typed: rules(verb.rules)?,
        once,
    }))
}

fn sync_places(places: Vec<OsString>) -> Result<Which> {
    for (place, name) in places.iter().zip(["LEFT", "RIGHT"]) {
        if place.is_empty() {
            return Err(Fault::new(Kind::Invalid, format!("{name} is empty"), "")
                .hint("name a directory or a bucket for each side"));
        }
    }
    let mut places = places.into_iter();
    match (places.next(), places.next(), places.next()) {
        (None, ..) => Ok(Which::Here),
        (Some(left), Some(right), None) => Ok(Which::Of(left, right)),
        (Some(one), None, _) => Err(usage("one place alone cannot be synced", &one)
            .hint("name two places; or, in a repository, say --only PATH, push PATH or pull PATH")),
        (_, _, Some(third)) => {
            Err(usage("more than two places are not in this release", &third)
                .hint("run sync once for each pair"))
        }
    }
}

fn leave_which(places: Vec<OsString>, base: &Path) -> Which {
    let mut places = places.into_iter();
    match (places.next(), places.next()) {
        (Some(left), Some(right)) => Which::Of(left, right),
        (Some(dir), None) => Which::At(base.join(dir)),
        _ => Which::Here,
    }
}

fn which(of: args::Of) -> Which {
    match of
        .of
        .map(Vec::into_iter)
        .map(|mut places| (places.next(), places.next()))
    {
        Some((Some(left), Some(right))) => Which::Of(left, right),
        _ => Which::Any,
    }
}

fn rules(args: RuleArgs, filters: Vec<FilterArg>, base: &Path) -> Result<Kept> {
    let filters = filters.into_iter().map(|rule| match rule {
        FilterArg::Exclude(text) | FilterArg::Include(text) if text.contains(['\n', '\r']) => {
            Err(usage("a pattern is one line", text.as_ref())
                .hint("give --exclude or --include once for each"))
        }
        FilterArg::Exclude(text) if text.starts_with('!') => Err(usage(
            "a pattern of --exclude does not begin with '!'",
            text.as_ref(),
        )
        .hint("say --include, or \\! for a name that begins so")),
        FilterArg::Include(text) if text.starts_with('!') => Err(usage(
            "a pattern of --include does not begin with '!'",
            text.as_ref(),
        )
        .hint("say --exclude, or \\! for a name that begins so")),
        FilterArg::From(file) => Ok(FilterArg::From(base.join(file))),
        rule => Ok(rule),
    });
    let filters = filters.collect::<Result<Vec<_>>>()?;
    Ok(Kept::typed(args, filters))
}

fn once(run: RunArgs, base: &Path) -> Result<Once> {
    let (soft_limit, hard_limit) = (run.soft_time_limit.map(|t| t.0), run.time_limit.map(|t| t.0));
    Ok(Once {
        dry_run: run.dry_run,
        plan: run.plan.map(|typed| file(typed, base)),
        soft_limit,
        hard_limit,
        checksum: run.checksum,
        accept: run.accept.map(|word| word.0),
        quiet_if_locked: run.quiet_if_locked,
        ..Once::default()
    })
}

/// A file by its path; "-" stays: a standard stream.
fn file(typed: PathBuf, base: &Path) -> PathBuf {
    if typed.as_os_str() == "-" {
        typed
    } else {
        base.join(typed)
    }
}

fn acting(act: args::ActArgs) -> Once {
    Once {
        dry_run: act.dry_run,
        soft_limit: act.soft_time_limit.map(|t| t.0),
        hard_limit: act.time_limit.map(|t| t.0),
        jobs: act.jobs,
        bandwidth: act.bandwidth,
        ..Once::default()
    }
}

fn usage(what: &str, at: &OsStr) -> Fault {
    Fault::new(Kind::Invalid, what, shown(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/home/u".into()),
            "XDG_STATE_HOME" => Some("relative".into()),
            "SYNCLINE_CONFIG" => Some("c.toml".into()),
            _ => None,
        }
    }

    fn intent(words: &[&str]) -> Result<Intent> {
        let line = std::iter::once("syncline")
            .chain(words.iter().copied())
            .map(OsString::from);
        let (typed, filters) = args::read(line).unwrap_or_else(|error| panic!("{error}"));
        read(
            typed,
            filters,
            &Surroundings {
                current: "/cur".into(),
                var: variables,
            },
        )
    }

    #[test]
    fn surroundings() {
        let setting = intent(&["log", "-C", "d"]).unwrap().setting;
        assert_eq!(setting.base, Path::new("/cur/d"));
        assert_eq!(setting.config, Some(("/cur/d/c.toml".into(), true)));
        assert_eq!(setting.state, Path::new("/home/u/.local/state/syncline"));
        let setting = intent(&["log", "--state", "s", "-q"]).unwrap().setting;
        assert_eq!(
            (setting.state.as_path(), setting.voice),
            (Path::new("/cur/s"), Voice::Quiet)
        );
    }

    #[test]
    fn two_places_or_none() {
        let which = |words: &[&str]| match intent(words).unwrap().act {
            Act::Run(run) => run.which,
            other => panic!("{other:?}"),
        };
        assert_eq!(which(&["sync"]), Which::Here);
        assert_eq!(which(&["sync", "a", "b"]), Which::Of("a".into(), "b".into()));
        for words in [&["sync", "a"][..], &["sync", "a", "b", "c"]] {
            let fault = intent(words).unwrap_err();
            assert!(fault.is(Kind::Invalid) && fault.hint.is_some());
        }
    }

    #[test]
    fn the_session_is_named_or_found() {
        let which = |words: &[&str]| match intent(words).unwrap().act {
            Act::Log { which } | Act::Leave { which, .. } => which,
            other => panic!("{other:?}"),
        };
        assert_eq!(which(&["log"]), Which::Any);
        assert_eq!(
            which(&["log", "--of", "a", "b"]),
            Which::Of("a".into(), "b".into())
        );
        assert_eq!(which(&["leave", "d"]), Which::At("/cur/d".into()));
        assert_eq!(which(&["leave", "a", "b"]), Which::Of("a".into(), "b".into()));
    }

    #[test]
    fn patterns_that_would_turn_round_are_refused() {
        for words in [
            &["sync", "a", "b", "--exclude", "!x"][..],
            &["sync", "a", "b", "--include", "!x"],
            &["sync", "a", "b", "--exclude", "x\n!y"],
        ] {
            let fault = intent(words).unwrap_err();
            assert!(fault.is(Kind::Invalid) && fault.hint.is_some(), "{words:?}");
        }
    }
}

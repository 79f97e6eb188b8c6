//! What the engine is asked for and what it tells: options, events, reports. The command line is the only reader.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use syncline_model::{
    Action, Classes, Clock, Conflict, Dice, Mode, Pair, Policy, Problem, RelPath, Result, Side, Spawn, Step,
    Time, filter::Filter, replica::Links,
};
use syncline_replica::{Durability, Replica};

/// The world outside, handed in.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub dice: Arc<dyn Dice>,
    /// Threads.
    pub spawn: Arc<dyn Spawn>,
}

pub use syncline_model::guard::MaxDelete;

/// The versions of a file that both sides edited.
#[derive(Debug, Clone, Copy)]
pub struct Versions<'a> {
    /// Where.
    pub path: &'a RelPath,
    /// What both last agreed on, where it is at hand.
    pub base: Option<&'a [u8]>,
    /// The left one.
    pub left: &'a [u8],
    /// The right one.
    pub right: &'a [u8],
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// They are one.
    Clean(Vec<u8>),
    /// They are not, and this is why.
    Refused(String),
}

/// Makes one file of two.
#[async_trait]
pub trait Merger: Send + Sync {
    /// `Err`: the run cannot go on.
    async fn merge(&self, versions: Versions<'_>) -> Result<Merged>;
}

/// All that a run depends on.
#[derive(Clone)]
pub struct Options {
    /// Which way changes travel.
    pub mode: Mode,
    /// Where changes come from, when they travel one way.
    pub leader: Side,
    /// Steps on these sides only: `push` writes to the right alone, `pull` to the left alone. Conflicts then wait.
    pub writes: Pair<bool>,
    /// Sides that would be written, but may not be: what waits for them is a problem.
    pub barred: Pair<bool>,
    /// How conflicts are settled.
    pub policy: Policy,
    /// `--conflict merge=CMD`: asked about files that both sides edited, before `policy` decides.
    pub merger: Option<Arc<dyn Merger>>,
    /// What takes part.
    pub filter: Arc<Filter>,
    /// Only these and below.
    pub only: Vec<RelPath>,
    /// Compare bytes even where tags say unchanged.
    pub checksum: bool,
    /// The brake.
    pub max_delete: MaxDelete,
    /// Take this side's root as it stands: the base is dropped, the run is a union, nothing is deleted.
    pub accept: Option<Side>,
    /// Do not carry out deletions there.
    pub skip_deletes: Pair<bool>,
    /// Keep what is displaced.
    pub trash: bool,
    /// Where it is kept if not at the sides themselves, in the words of who opened them; plans carry it, nothing else reads it.
    pub trash_place: Option<String>,
    /// When done means durable.
    pub durability: Durability,
    /// What becomes of symlinks.
    pub links: Links,
    /// Attributes wanted.
    pub classes: Classes,
    /// Copies at once.
    pub jobs: usize,
    /// Plan only.
    pub dry_run: bool,
    /// Begin nothing new after this; exit 6.
    pub soft_limit: Option<Duration>,
    /// Stop at once after this; exit 6.
    pub hard_limit: Option<Duration>,
    /// Wait for nothing: a second run on the same session ends quietly.
    pub quiet_if_locked: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::TwoWay,
            leader: Side::Left,
            writes: Pair::new(true, true),
            barred: Pair::default(),
            policy: Policy::KeepBoth,
            merger: None,
            filter: Arc::default(),
            only: Vec::new(),
            checksum: false,
            max_delete: MaxDelete::Default,
            accept: None,
            skip_deletes: Pair::default(),
            trash: true,
            trash_place: None,
            durability: Durability::Batch,
            links: Links::Keep,
            classes: Classes::default(),
            jobs: 4,
            dry_run: false,
            soft_limit: None,
            hard_limit: None,
            quiet_if_locked: false,
        }
    }
}

/// What a run says while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A phase begins: "scanning", "comparing", "planning", "copying", "removing", "committing".
    Phase(&'static str),
    /// Entries seen so far on both sides.
    Scanned(Pair<u64>),
    /// The plan is complete: steps and bytes to copy.
    Planned {
        /// Steps.
        steps: u64,
        /// Bytes to copy.
        bytes: u64,
    },
    /// A step of the plan (dry run), or one that is done.
    Step(&'a Step),
    /// A step that would be done if it were not for a brake; said where steps are only shown.
    Waits(&'a Step),
    /// Bytes copied since the last such event.
    Copied(u64),
    /// A conflict.
    Conflict(&'a Conflict),
    /// A problem.
    Problem(&'a Problem),
    /// A deletion gave way to an edit.
    Yielded {
        /// The edit.
        path: &'a RelPath,
        /// The side that had deleted it.
        side: Side,
    },
    /// Something a person should know once ("owners are not carried: not root").
    Note(&'a str),
}

/// Takes events; called from any thread.
pub trait Monitor: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Set from outside to stop a run: two steps, as Ctrl-C.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// First call: begin nothing new, end what is under way, commit. Second: drop what is under way.
    pub fn request(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// Begin nothing new.
    pub fn soft(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 1
    }
    /// Drop what is under way.
    pub fn hard(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 2
    }
}

/// How a run ended; the gravest that holds (cli.md "What comes back").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "u8")]
pub enum Exit {
    /// Done.
    Done,
    /// This run met a conflict or holds one.
    Conflict,
    /// Problems are listed; damage; steps of a plan refused.
    Partial,
    /// Stopped by a limit or a signal.
    Stopped,
    /// A guard or brake refused.
    Refused,
    /// Locked or busy.
    Busy,
    /// Cannot reach; credentials or key refused.
    Unreachable,
    /// Usage.
    Usage,
    /// Our fault.
    Bug,
}

impl Exit {
    /// The exit that bears this number.
    pub fn from_number(number: u8) -> Option<Self> {
        use Exit::{Bug, Busy, Conflict, Done, Partial, Refused, Stopped, Unreachable, Usage};
        [
            Done,
            Conflict,
            Partial,
            Refused,
            Unreachable,
            Busy,
            Stopped,
            Usage,
            Bug,
        ]
        .into_iter()
        .find(|exit| u8::from(*exit) == number)
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => 0,
            Exit::Conflict => 1,
            Exit::Partial => 2,
            Exit::Refused => 3,
            Exit::Unreachable => 4,
            Exit::Busy => 5,
            Exit::Stopped => 6,
            Exit::Usage => 64,
            Exit::Bug => 70,
        }
    }
}

/// What was done on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// New entries.
    pub created: u64,
    /// Replaced content.
    pub updated: u64,
    /// Moves; a whole directory counts once.
    pub moved: u64,
    /// To the trash.
    pub removed: u64,
    /// Attributes only.
    pub metadata: u64,
    /// Bytes of content that came to this side.
    pub bytes: u64,
}

impl Counts {
    /// Counts one step.
    pub fn add(&mut self, action: Action, bytes: u64) {
        match action {
            Action::Mkdir | Action::Create => self.created += 1,
            Action::Update => self.updated += 1,
            Action::Move => self.moved += 1,
            Action::Metadata => self.metadata += 1,
            Action::Remove => self.removed += 1,
            Action::Times => {}
        }
        self.bytes += bytes;
    }
    /// Adds what another run did.
    pub fn join(&mut self, other: &Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.moved += other.moved;
        self.removed += other.removed;
        self.metadata += other.metadata;
        self.bytes += other.bytes;
    }
    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.created + self.updated + self.moved + self.removed + self.metadata
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Name of the run; `None` when nothing was begun.
    pub run: Option<String>,
    /// How it ended.
    pub exit: Exit,
    /// Done on the left.
    pub left: Counts,
    /// Done on the right.
    pub right: Counts,
    /// Conflicts met or held.
    pub conflicts: u64,
    /// Problems.
    pub problems: u64,
    /// Why it stopped, and the option that answers it.
    pub reasons: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// A run as `log` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunInfo {
    /// Its name, which sorts by time.
    pub run: String,
    /// When it began, by this host's clock.
    #[serde(skip)]
    pub time: Time,
    /// What it was: "sync", "push", "pull", "apply", "resolve", "undo RUN", "restore".
    pub what: String,
    /// How it ended; `None`: it was killed.
    pub exit: Option<Exit>,
    /// Done on the left.
    pub left: Counts,
    /// Done on the right.
    pub right: Counts,
}

/// A conflict that waits to be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenConflict {
    /// What the run found.
    pub conflict: Conflict,
    /// The run that found it.
    pub run: String,
}

/// How a conflict is to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// That side's version.
    Side(Side),
    /// Both stay as they are.
    Both,
    /// The one modified last.
    Newest,
    /// The larger one.
    Largest,
}

/// The two places of a session, opened.
#[derive(Clone)]
pub struct Places {
    /// The replicas.
    pub sides: Pair<Arc<dyn Replica>>,
    /// Where this session's state lies: a directory of its own, made if missing.
    pub state: PathBuf,
}

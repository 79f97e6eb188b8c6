//! What a run is about to do: rows of the base, steps, conflicts, agreements, and the rule they follow.

use serde::{Deserialize, Serialize};

use crate::entry::{Change, Entry, Observation};
use crate::fault::{Kind, Trouble};
use crate::path::{RelPath, Slot};
use crate::replica::Classes;

/// One of the two replicas of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first place; `mine` in a repository.
    Left,
    /// The second place; `theirs` in a repository.
    Right,
}

impl Side {
    /// Both, left first.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// "left" or "right".
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// Two values, one for each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Pair<T> {
    /// The left one.
    pub left: T,
    /// The right one.
    pub right: T,
}

impl<T> Pair<T> {
    /// A pair.
    pub fn new(left: T, right: T) -> Self {
        Self { left, right }
    }

    /// Makes both.
    pub fn each(mut make: impl FnMut(Side) -> T) -> Self {
        Self {
            left: make(Side::Left),
            right: make(Side::Right),
        }
    }
}

impl<T> std::ops::Index<Side> for Pair<T> {
    type Output = T;
    fn index(&self, side: Side) -> &T {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }
}

impl<T> std::ops::IndexMut<Side> for Pair<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }
}

/// What was last agreed on at a slot, as each side then showed it. A side that is `None` agreed to be without (a
/// deletion that was skipped there). Content digests are equal on both sides by construction.
pub type Row = Pair<Option<Observation>>;

/// How conflicts are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Both stay, one under a name of its own.
    #[default]
    KeepBoth,
    /// The later time of modification wins; equal times keep both.
    Newest,
    /// The left one wins.
    Left,
    /// The right one wins.
    Right,
    /// The larger one wins; equal sizes keep both.
    Largest,
    /// Nothing happens at that path until somebody decides.
    Hold,
}

/// Which way changes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Both ways.
    #[default]
    TwoWay,
    /// The other side becomes what the leading one is; what was there goes to the trash.
    Mirror,
    /// New and changed things travel from the leading side to the other; nothing is removed and nothing travels back.
    Copy,
}

/// All that planning depends on beside the trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which way changes travel.
    pub mode: Mode,
    /// Where they come from, when they travel one way.
    pub leader: Side,
    /// How conflicts are settled.
    pub policy: Policy,
    /// Attributes that are compared and carried: wanted by the session and held by both sides.
    pub classes: Classes,
    /// Deletions are not carried out on this side, and remembered.
    pub skip_deletes: Pair<bool>,
    /// Host that edits on this side are attributed to.
    pub hosts: Pair<String>,
    /// Coarser of the two sides' steps of time, in nanoseconds; times that differ by less are equal.
    pub time_step: u32,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            leader: Side::Left,
            policy: Policy::default(),
            classes: Classes::default(),
            skip_deletes: Pair::default(),
            hosts: Pair::new("left".into(), "right".into()),
            time_step: 1,
        }
    }
}

/// What a step does, for people and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A directory is made.
    Mkdir,
    /// Something new comes to be.
    Create,
    /// Other content, or another kind, takes the place of what was there.
    Update,
    /// Something moves within its side.
    Move,
    /// Only attributes change.
    Metadata,
    /// Something goes to the trash.
    Remove,
    /// Only a directory's time changes: done last, not counted, not shown.
    Times,
}

/// One change on one side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// Where it happens.
    pub side: Side,
    /// What it does.
    pub action: Action,
    /// The change itself. `change.old` is what the scan saw there.
    pub change: Change,
    /// Where the bytes come from, when they are not on this side at `change.from`: a file as the scan saw it there. A path is given as it
    /// will be when copies begin, after all moves.
    pub source: Option<Source>,
}

/// A file whose bytes a step takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The side that it lies on; it may be the step's own (a conflict copy).
    pub side: Side,
    /// Where it lies there.
    pub path: RelPath,
    /// What the scan saw there.
    pub seen: Observation,
}

/// Why a path is in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clash {
    /// Both sides changed it, differently.
    Edited,
    /// A directory on one side, something else on the other.
    Kind,
    /// Both sides moved it, to different places, or into each other.
    Moved,
}

/// A path that both sides changed differently.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conflict {
    /// Where.
    pub path: RelPath,
    /// Why.
    pub clash: Clash,
    /// What each side holds.
    pub sides: Pair<Option<Entry>>,
    /// Names under which versions stay, the path itself first; empty while it is held.
    pub kept: Vec<RelPath>,
    /// The side whose version keeps the name; `None` while it is held.
    pub winner: Option<Side>,
}

/// Something that concerns one path; the run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// Where, and on which side.
    pub path: RelPath,
    /// The side, if it is one side's.
    pub side: Option<Side>,
    /// What it is about, in the words of faults.
    pub kind: Kind,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Trouble at a path.
    pub fn new(path: RelPath, side: Option<Side>, trouble: Trouble) -> Self {
        let Trouble { kind, message, hint } = trouble;
        Self {
            path,
            side,
            kind,
            message,
            hint,
        }
    }
}

/// Where the base has something that moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Was {
    /// There.
    pub slot: Slot,
    /// Something else stands there now, whose own row takes the place of the old one.
    pub reused: bool,
    /// It goes along with a directory: the base has it here once that is renamed there.
    pub carried: bool,
}

impl Was {
    /// The slot whose row goes; `None` where another row comes.
    pub fn vacated(self) -> Option<Slot> {
        (!self.reused).then_some(self.slot)
    }
}

/// What both sides will hold at a slot once the steps are done. Without steps: they hold it already.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settle {
    /// Where.
    pub slot: Slot,
    /// What the base is to say afterwards; `None`: nothing. An observation that a step will make has
    /// [`crate::Tag::None`] until it is made.
    pub row: Option<Row>,
    /// Where the base has this now, when that is elsewhere (it moved).
    pub was: Option<Was>,
    /// At most one move and one other step for each side.
    pub steps: Vec<Step>,
}

/// One outcome of planning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decision {
    /// What both sides will hold at a slot, and the steps that bring them there.
    Settle(Box<Settle>),
    /// Both sides changed it differently.
    Conflict(Box<Conflict>),
    /// Nothing is decided at or below it.
    Problem(Problem),
    /// A deletion gave way to an edit there.
    Yielded {
        /// Where the edit is.
        path: RelPath,
        /// The side that had deleted it.
        side: Side,
    },
    /// Both sides gave it other attributes, or they stood differently at first contact: of each the greater value was taken.
    Tied(RelPath),
}

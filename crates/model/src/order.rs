//! The order in which steps are carried out: phases, and the place within a phase.
//!
//! Invariant: in this order each step finds its ground: names are left before they are taken, directories stand before anything comes into
//! them, bytes are copied before they are replaced.

use crate::conflict_name::is_conflict_name;
use crate::entry::Entry;
use crate::moves::Moves;
use crate::path::{RelPath, Slot};
use crate::plan::{Action, Pair, Step};

/// When a step is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Directories that both sides have under a new name: the base is renamed.
    Behind,
    /// Files that give their name to a directory.
    Aside,
    /// Directories moved, in the order that the moves want, and made where others move into them; files in them that give their name to
    /// another one.
    MoveDir,
    /// Files moved into directories that stand.
    Move,
    /// Files moved over names in use, each once its name is free, and exchanged.
    Chain,
    /// Directories made, also in place of files.
    Make,
    /// Files moved into directories just made.
    MoveLate,
    /// Copies from a side to itself: a conflict copy must lie there before its original is replaced.
    OwnCopy,
    /// Content from the other side.
    Copy,
    /// Files of several names, group by group.
    Link,
    /// Attributes of directories.
    Metadata,
    /// To the trash, innermost first.
    Remove,
    /// Attributes of all else. What loses a name has lost it by then: killed in between, that name would show them too and seem edited.
    Attributes,
    /// Times of directories.
    Times,
    /// Nothing to do but remember.
    Agreed,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 15] = [
        Self::Behind,
        Self::Aside,
        Self::MoveDir,
        Self::Move,
        Self::Chain,
        Self::Make,
        Self::MoveLate,
        Self::OwnCopy,
        Self::Copy,
        Self::Link,
        Self::Metadata,
        Self::Remove,
        Self::Attributes,
        Self::Times,
        Self::Agreed,
    ];

    /// When `step` is carried out, after what was `made` before it; with `links`, names of one file stay together.
    pub fn of(step: &Step, moves: &Moves, links: bool, made: &Made) -> Self {
        let new_dir = step.change.new.as_ref().is_some_and(Entry::is_dir);
        let old_dir = step.change.old.as_ref().is_some_and(|old| old.entry.is_dir());
        let path = &step.change.path;
        let chained = moves
            .chains
            .arriving(step.side, path)
            .map(|(_, moved)| moved.late);
        match step.action {
            Action::Move if new_dir => Self::MoveDir,
            Action::Move if chained.is_some_and(|late| late || made.around(step)) => Self::MoveLate,
            Action::Move if chained.is_some() => Self::Chain,
            Action::Move if path.name().is_some_and(|name| is_conflict_name(&name)) => {
                match moves.brings(step.side, path) {
                    Some(_) => Self::MoveDir,
                    None => Self::Aside,
                }
            }
            Action::Move if made.around(step) => Self::MoveLate,
            Action::Move => Self::Move,
            Action::Mkdir | Action::Update if new_dir && moves.leads(step.side, path).is_some() => {
                Self::MoveDir
            }
            Action::Mkdir => Self::Make,
            Action::Update if new_dir => Self::Make,
            Action::Update if old_dir => Self::Remove,
            Action::Create | Action::Update if links && group(step).is_some() => Self::Link,
            Action::Create | Action::Update => match &step.source {
                Some(source) if source.side == step.side => Self::OwnCopy,
                // A copy of a symlink has no bytes to take, but must lie there as early.
                None if path.name().is_some_and(|name| is_conflict_name(&name)) => Self::OwnCopy,
                _ => Self::Copy,
            },
            Action::Metadata if new_dir => Self::Metadata,
            Action::Metadata => Self::Attributes,
            Action::Remove if moves.chains.clears(step.side, path) => Self::Aside,
            Action::Remove => Self::Remove,
            Action::Times => Self::Times,
        }
    }
}

/// The directories that a plan makes around what it decides next: what it moves into them has to wait.
///
/// Decisions come in the order of slots but for a few that lag behind within their directory, so only the innermost are kept.
#[derive(Debug, Default)]
pub struct Made {
    open: Pair<Vec<RelPath>>,
}

impl Made {
    /// Takes note of a step, in the order of decisions.
    pub fn note(&mut self, step: &Step) {
        let makes = matches!(step.action, Action::Mkdir | Action::Update)
            && step.change.new.as_ref().is_some_and(Entry::is_dir);
        if makes {
            let open = &mut self.open[step.side];
            open.retain(|dir| step.change.path.is_within(dir));
            open.push(step.change.path.clone());
        }
    }

    /// True when the directory around a step is made by this plan.
    fn around(&self, step: &Step) -> bool {
        let parent = step.change.path.parent();
        parent.is_some_and(|parent| self.open[step.side].contains(&parent))
    }
}

/// The group of hard links that a step's new file belongs to, on the side that its bytes come from.
pub fn group(step: &Step) -> Option<u64> {
    match (&step.change.new, &step.source) {
        (Some(Entry::File(_, _, Some(link))), Some(source)) if source.side != step.side => Some(link.0),
        _ => None,
    }
}

/// The place of a step, or of a row that needs none, in the order of its phase.
pub fn key(phase: Phase, slot: &Slot, step: Option<&Step>, moves: &Moves) -> Vec<u8> {
    let mut key = vec![phase as u8];
    match (phase, step) {
        (Phase::Remove | Phase::Times, _) => {
            key.extend(slot.as_bytes().iter().map(|byte| !byte));
            key.push(0xff);
        }
        (Phase::MoveDir | Phase::Chain | Phase::MoveLate, Some(step)) => {
            let path = slot.path();
            let rank = if phase == Phase::MoveDir {
                let own = moves.rank(step.side, &path).filter(|_| slot.is_dir());
                own.or_else(|| moves.leads(step.side, &path))
                    .or_else(|| moves.brings(step.side, &path))
            } else {
                moves.chains.arriving(step.side, &path).map(|(rank, _)| rank)
            };
            // Others come in any order.
            key.extend((rank.unwrap_or_default() as u64).to_be_bytes());
            key.extend_from_slice(slot.as_bytes());
        }
        (Phase::Link, Some(step)) => {
            key.push(step.side as u8);
            key.extend_from_slice(&group(step).unwrap_or_default().to_be_bytes());
            key.push(1);
            key.extend_from_slice(slot.as_bytes());
        }
        _ => key.extend_from_slice(slot.as_bytes()),
    }
    key
}

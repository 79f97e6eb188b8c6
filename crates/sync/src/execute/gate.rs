//! What of a plan waits: held by a brake, on a side that this run does not write, or in need of what waits itself.
//!
//! Invariant: a run and whoever only shows it ask the same gate in the same order, so what one shows the other does.

use std::collections::HashSet;

use syncline_model::guard::{Cause, Verdict};
use syncline_model::{Action, Entry, From, Pair, RelPath, Side, Slot, Step};

use crate::plan::Phase;

/// What waits for a person on one side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// Removals.
    pub removals: bool,
    /// Replaced content.
    pub overwrites: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gate {
    /// What waits for a person on each side.
    held: Pair<Held>,
    /// Sides that are written.
    writes: Pair<bool>,
    /// New names of directories that did not move, and names that a brake keeps in use: nothing can be done at or below them.
    unmoved: HashSet<RelPath>,
    /// Directories that could not be made: nothing can come to be in them.
    unmade: HashSet<(Side, RelPath)>,
    /// Names that something was to leave and did not, and circles that broke: what was to come there stays where it is.
    blocked: HashSet<(Side, RelPath)>,
}

impl Gate {
    /// A gate that holds nothing back on the sides that are written.
    pub fn open(writes: Pair<bool>) -> Self {
        Self {
            writes,
            ..Self::default()
        }
    }

    /// Holds back what a verdict holds.
    pub fn brake(&mut self, verdict: &Verdict) {
        self.held = Pair::each(|side| Held {
            removals: verdict.holds(side, Cause::Removals),
            overwrites: verdict.holds(side, Cause::Overwrites),
        });
    }

    /// Names of a plan that something was to move to and does not.
    pub fn unmoved(&mut self, names: &mut Vec<RelPath>) {
        self.unmoved.extend(names.drain(..));
    }

    /// True when something waits for a person.
    pub fn brakes(&self) -> bool {
        Side::BOTH
            .iter()
            .any(|&side| self.held[side].removals || self.held[side].overwrites)
    }

    /// True for a step that this run leaves alone.
    pub fn waits(&mut self, phase: Phase, slot: &Slot, step: &Step) -> bool {
        let held = self.holds(step);
        let was_dir = step.change.old.as_ref().is_some_and(|old| old.entry.is_dir());
        // What comes to a name that stays in use waits, and what goes with a directory that stays is not yet agreed on.
        if held && (phase < Phase::OwnCopy || (step.action == Action::Update && was_dir)) {
            self.unmoved.insert(step.change.path.clone());
        }
        held || !self.writes[step.side] || self.below_unmoved(slot) || self.below_unmade(step)
    }

    /// The same where nothing is done: what waits is remembered at once. What is blocked waits too.
    pub fn would_wait(&mut self, phase: Phase, slot: &Slot, step: &Step) -> bool {
        let waits = self.waits(phase, slot, step) || self.is_blocked(step);
        if waits && phase < Phase::OwnCopy {
            self.leave(step);
        }
        waits
    }

    fn holds(&self, step: &Step) -> bool {
        let held = self.held[step.side];
        let old_dir = step.change.old.as_ref().map(|old| old.entry.is_dir());
        match (step.action, old_dir) {
            // A file in place of a directory comes after the removals in it.
            (Action::Remove, _) | (Action::Update, Some(true)) => held.removals,
            (Action::Update, Some(false)) => held.overwrites,
            _ => false,
        }
    }

    /// A step is not done: nothing can come to the name that it was to leave; where a directory was to be, nothing can be done. A bucket would let
    /// it: there a name may be a file's and have others below it.
    pub fn leave(&mut self, step: &Step) {
        if matches!(step.action, Action::Move | Action::Remove) {
            let left = match &step.change.from {
                Some(From::Move(from) | From::Exchange(from)) => from.clone(),
                _ => step.change.path.clone(),
            };
            self.blocked.insert((step.side, left));
        }
        let path = step.change.path.clone();
        match step.action {
            _ if !step.change.new.as_ref().is_some_and(Entry::is_dir) => {}
            Action::Move => {
                self.unmoved.insert(path);
            }
            Action::Mkdir | Action::Update => {
                self.unmade.insert((step.side, path));
            }
            _ => {}
        }
    }

    /// True for a move to a name that was not left, or in a circle that broke.
    pub fn is_blocked(&self, step: &Step) -> bool {
        let awaited: (Side, RelPath) = match &step.change.from {
            Some(From::Exchange(hub)) => (step.side, hub.clone()),
            Some(From::Move(_)) => (step.side, step.change.path.clone()),
            _ => return false,
        };
        step.action == Action::Move && self.blocked.contains(&awaited)
    }

    /// True in a directory that could not be made.
    pub fn below_unmade(&self, step: &Step) -> bool {
        if self.unmade.is_empty() {
            return false;
        }
        let mut above = std::iter::successors(step.change.path.parent(), RelPath::parent);
        above.any(|path| self.unmade.contains(&(step.side, path)))
    }

    /// True at or below a directory that did not move to where it was to be.
    pub fn below_unmoved(&self, slot: &Slot) -> bool {
        if self.unmoved.is_empty() {
            return false;
        }
        let mut above = std::iter::successors(Some(slot.path()), RelPath::parent);
        above.any(|path| self.unmoved.contains(&path))
    }
}

//! The three-way merge: what each side must do so that both hold the same (design D3).
//!
//! The specification is Unison's (Pierce and Vouillon, "What's in Unison?", 2004): what changed on one side only goes
//! to the other; what both changed differently is a conflict; nothing else happens, and as much as possible does.
//! Rules beyond it:
//!
//! * Equal content is never a conflict, whatever the base says. Attributes merge one by one; where both sides changed
//!   one, or no base knows it, the greater value wins, and of permissions the narrower.
//! * A file, link or special (a *leaf*) that differs from the base in content, kind or a compared attribute is
//!   *changed*; a change beats a deletion (`Yielded`). Attributes of a directory beat nothing.
//! * Deleting a directory, or putting a leaf in its place, deletes what the base knew below it; a leaf below it that
//!   is new or changed on the other side survives, with the directories that lead to it.
//! * A leaf against a directory that survives is a clash of kinds: keep-both leaves the directory its name.
//! * So is a leaf beside a directory of its name on one side, which a bucket can show: the leaf leaves the name. One way, it is a problem.
//! * Of two edited leaves keep-both leaves the name to the one with the smaller fingerprint.
//! * Nothing is decided at or below what is opaque on either side, and no directory above it is removed.
//! * `mirror` is this merge with the right side as base; `copy` likewise, and what the left lacks is left alone.
//!
//! Invariant: input is strictly ascending by slot, else `Corrupt`. A leaf is held until its directory slot has passed,
//! so never more leaves are held than the current path has prefixes.

mod attrs;
mod copies;
mod leaf;
mod stack;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Meta, Observation, Tag};
use crate::fault::{Fault, Kind, Result};
use crate::path::{RelPath, Slot};
use crate::plan::{Action, Decision, Mode, Pair, Row, Rule, Settle, Side, Source, Step, Was};
use stack::Frame;

/// What one side shows at a slot of the merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// What is there.
    pub seen: Observation,
    /// Where it lies on that side now, when it must still move to this slot.
    pub at: Option<RelPath>,
}

/// All that is known of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    /// Where.
    pub slot: Slot,
    /// What was agreed on.
    pub base: Option<Row>,
    /// Where the base has it, when that is elsewhere (it moved).
    pub was: Option<Was>,
    /// What each side shows now.
    pub now: Pair<Option<Located>>,
}

impl Triple {
    fn seen(&self, side: Side) -> Option<&Observation> {
        self.now[side].as_ref().map(|located| &located.seen)
    }

    fn entry(&self, side: Side) -> Option<&Entry> {
        self.seen(side).map(|seen| &seen.entry)
    }

    fn based(&self, side: Side) -> Option<&Observation> {
        self.base.as_ref().and_then(|row| row[side].as_ref())
    }

    fn opaque(&self) -> bool {
        Side::BOTH
            .iter()
            .any(|&side| self.entry(side).is_some_and(Entry::is_opaque))
    }
}

/// The merge under way: the open directories and the leaves that wait for their directory slot.
pub struct Merge<'r> {
    rule: &'r Rule,
    last: Option<Slot>,
    frames: Vec<Frame>,
    leaves: Vec<Triple>,
    /// Under `hold`: what is to go in a directory that may yet be held against a leaf of its name. At most one directory waits so.
    kept_back: Vec<Decision>,
    /// Names of conflict copies that have come, while their originals may still come.
    noted: Vec<copies::Noted>,
    /// Conflicts whose copies' names are still to come.
    waiting: Vec<copies::Waiting>,
    /// The input has ended.
    ended: bool,
}

impl<'r> Merge<'r> {
    /// Begins a merge under `rule`.
    pub fn new(rule: &'r Rule) -> Self {
        Self {
            rule,
            last: None,
            frames: Vec::new(),
            leaves: Vec::new(),
            kept_back: Vec::new(),
            noted: Vec::new(),
            waiting: Vec::new(),
            ended: false,
        }
    }

    /// Takes the next slot; decisions that are ripe are appended to `out`. `Corrupt` when out of order.
    pub fn push(&mut self, mut triple: Triple, out: &mut Vec<Decision>) -> Result<()> {
        if self
            .last
            .as_ref()
            .is_some_and(|last| *last >= triple.slot && !crate::zoo::on("order-not-checked"))
        {
            return Err(Fault::new(
                Kind::Corrupt,
                "merge: a name is out of order",
                &triple.slot,
            ));
        }
        self.last = Some(triple.slot.clone());
        self.close_before(Some(&triple.slot), out);
        self.forget_copies(&triple.slot);
        if self.rule.mode == Mode::TwoWay {
            self.note(&triple);
        }
        if self.rule.mode != Mode::TwoWay && !self.one_way(&mut triple, out) {
            return Ok(());
        }
        if !triple.slot.is_dir() {
            self.leaves.push(triple);
            return Ok(());
        }
        let name = self
            .leaves
            .pop_if(|leaf| leaf.slot.as_bytes() == triple.slot.path_bytes());
        self.directory(triple, name, out);
        Ok(())
    }

    /// Ends the merge; the last decisions are appended to `out`.
    pub fn finish(mut self, out: &mut Vec<Decision>) -> Result<()> {
        self.ended = true;
        self.close_before(None, out);
        Ok(())
    }

    /// Releases every leaf and closes every directory that `next` has passed.
    fn close_before(&mut self, next: Option<&Slot>, out: &mut Vec<Decision>) {
        while let Some(slot) = self.frames.last().map(|frame| frame.slot.clone()) {
            if next.is_some_and(|next| next.is_below(&slot)) {
                break;
            }
            while let Some(leaf) = self.leaves.pop_if(|leaf| leaf.slot.is_below(&slot)) {
                self.leaf(leaf, out);
            }
            self.settle_waiting(next, Some(&slot), out);
            if let Some(frame) = self.frames.pop() {
                self.close(frame, out);
            }
        }
        let passed = |leaf: &mut Triple| next.is_none_or(|next| Slot::of(&leaf.slot.path(), true) < *next);
        while let Some(leaf) = self.leaves.pop_if(passed) {
            self.leaf(leaf, out);
        }
        self.settle_waiting(next, None, out);
    }

    /// Turns a one-way run into the two-way merge whose base is the side that follows. False: nothing more to decide here.
    fn one_way(&self, triple: &mut Triple, out: &mut Vec<Decision>) -> bool {
        let follower = triple
            .seen(self.rule.leader.other())
            .filter(|seen| !seen.entry.is_opaque())
            .cloned();
        let known = triple.base.take().is_some();
        if triple.now.left.is_none() && triple.now.right.is_none() {
            if known {
                out.push(settle(triple, None, Vec::new()));
            }
            return false;
        }
        triple.base = follower.map(|seen| Pair::new(Some(seen.clone()), Some(seen)));
        true
    }
}

/// What the attributes of both sides become, each by the three-way rule.
pub fn attributes(rule: &Rule, triple: &Triple) -> Pair<Meta> {
    let none = Meta::default();
    let of = |side| attrs::meta_of(triple.seen(side)).unwrap_or(&none);
    let base = Pair::each(|side| attrs::meta_of(triple.based(side)));
    attrs::merge(rule, triple.slot.is_dir(), base, of(Side::Left), of(Side::Right)).wanted
}

/// What both sides hold at `triple.slot` after `steps`.
fn settle(triple: &Triple, row: Option<Row>, steps: Vec<Step>) -> Decision {
    Decision::Settle(Box::new(Settle {
        slot: triple.slot.clone(),
        row,
        was: triple.was.clone(),
        steps,
    }))
}

/// What a side will hold once a step has made `entry` there.
fn promised(entry: Entry) -> Observation {
    Observation {
        entry,
        tag: Tag::None,
    }
}

/// A step at `path` of `side`.
pub(crate) fn step(
    side: Side,
    action: Action,
    path: RelPath,
    old: Option<&Observation>,
    new: Option<Entry>,
    source: Option<Source>,
) -> Step {
    let change = crate::entry::Change {
        path,
        old: old.cloned(),
        new,
        from: None,
    };
    Step {
        side,
        action,
        change,
        source,
    }
}

/// The move that brings what a side shows to the slot, when it lies elsewhere.
fn arrival(triple: &Triple, side: Side) -> Option<Step> {
    let located = triple.now[side].as_ref()?;
    let at = located.at.clone()?;
    let path = triple.slot.path();
    let new = Some(located.seen.entry.clone());
    let mut made = step(side, Action::Move, path, None, new, None);
    made.change.from = Some(crate::entry::From::Move(at.clone()));
    made.source = Some(Source {
        side,
        path: at,
        seen: located.seen.clone(),
    });
    Some(made)
}

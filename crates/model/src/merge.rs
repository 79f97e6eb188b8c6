//! The three-way merge: what each side must do so that both hold the same (design D3).
//!
//! The specification is Unison's (Pierce and Vouillon, "What's in Unison?", 2004): what changed on one side only goes to the other; what both changed
//! differently is a conflict; nothing else happens, and as much as possible does. Rules beyond it:
//!
//! * Equal content is never a conflict, whatever the base says. Attributes merge one by one; where both sides changed one, or no base
//!   knows it, the greater value wins.
//! * A file, link or special (a *leaf*) that differs from the base in content, kind or a compared attribute is *changed*; a change beats a deletion
//!   (`Yielded`). Attributes of a directory beat nothing.
//! * Deleting a directory, or putting a leaf in its place, deletes what the base knew below it; a leaf below it that is new or changed on the other
//!   side survives, with the directories that lead to it.
//! * A leaf against a directory that survives is a clash of kinds: keep-both leaves the directory its name.
//! * Of two edited leaves keep-both leaves the name to the one with the smaller fingerprint.
//! * Nothing is decided at or below what is opaque on either side, and no directory above it is removed.
//!
//! Invariant: input is strictly ascending by slot, else `Corrupt`; output mentions each slot at most once.

use serde::{Deserialize, Serialize};

use crate::entry::Observation;
use crate::fault::Result;
use crate::path::{RelPath, Slot};
use crate::plan::{Decision, Pair, Row, Rule};

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
    pub was: Option<Slot>,
    /// What each side shows now.
    pub now: Pair<Option<Located>>,
}

/// The merge under way: a stack of open directories.
pub struct Merge<'r> {
    rule: &'r Rule,
}

impl<'r> Merge<'r> {
    /// Begins a merge under `rule`.
    pub fn new(rule: &'r Rule) -> Self {
        Self { rule }
    }

    /// Takes the next slot; decisions that are ripe are appended to `out`. `Corrupt` when out of order.
    pub fn push(&mut self, triple: Triple, out: &mut Vec<Decision>) -> Result<()> {
        let _ = (self.rule, triple, out);
        Ok(())
    }

    /// Ends the merge; the last decisions are appended to `out`.
    pub fn finish(self, out: &mut Vec<Decision>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

//! What is known of a slot, taken apart and put together under the names that things will have.
//!
//! Invariant: of what the base has for one name, what moved there by itself comes before what a directory carried along, and that before
//! what was there.

use serde::{Deserialize, Serialize};

use crate::diff;
use crate::merge::{Located, Triple};
use crate::path::Slot;
use crate::plan::{Pair, Row, Side, Was};

/// A part of a triple on its way to its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// What was agreed on, and where the base has it.
    Base(Row, Was),
    /// The same, of what only went along with a directory: something else may have been put over it there. Without any row: what
    /// the base has there once the directory has moved, and what left it by itself.
    Carried(Row, Was),
    /// What a side shows.
    Now(Side, Located),
}

/// Puts the pieces of one slot together again.
pub fn assemble(slot: Slot, pieces: impl IntoIterator<Item = Piece>) -> Triple {
    let mut triple = Triple {
        slot,
        base: None,
        was: None,
        now: Pair::new(None, None),
    };
    let mut carried = None;
    for piece in pieces {
        match piece {
            Piece::Base(row, was) => {
                // What moved here was put over what stood here.
                let moved = was.slot != triple.slot;
                if moved || triple.base.is_none() {
                    triple.was = moved.then_some(was);
                    triple.base = Some(row);
                }
            }
            Piece::Carried(row, was) => carried = Some((row, was)),
            Piece::Now(side, located) => triple.now[side] = Some(located),
        }
    }
    if let (Some((row, was)), None) = (carried, &triple.was) {
        let stands = Side::BOTH.iter().any(|side| triple.now[*side].is_some());
        let known = Side::BOTH.iter().any(|side| row[*side].is_some());
        (triple.base, triple.was) = if known {
            (Some(row), Some(was))
        } else {
            (None, None)
        };
        if !known && !stands {
            // Nobody has it any more, and the base is to forget it.
            triple.base = Some(Pair::new(None, None));
        }
    }
    diff::learn(&mut triple);
    triple
}

//! The two ends of a move, as single slots show them, and the key that both share.
//!
//! Invariant: a key is made only of what a rename leaves as it is and an edit does not.

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Observation, Sameness};
use crate::merge::Triple;
use crate::path::Slot;
use crate::plan::Side;

/// One end of a possible move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// The side that moved.
    pub side: Side,
    /// Where.
    pub slot: Slot,
    /// It vanished here; else it appeared.
    pub left_here: bool,
    /// How the other side stands to it.
    pub other: Standing,
    /// The name is in use: something else stands where it vanished, or stood where it appeared.
    pub used: bool,
    /// What the other side has at a name in use, if that is what was agreed on, or may be.
    pub occupant: Option<Observation>,
    /// On the other side: the inode of what vanished here, as the base knows it, or of what stands where it appeared.
    pub counterpart: Option<(u64, u64)>,
}

/// How the other side stands to one end of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has what vanished, or nothing where it appeared: it can follow.
    Follows,
    /// It shows the same: perhaps it moved it too, or an earlier run was killed after it had followed.
    Alike,
    /// It is in no state to follow.
    Apart,
    /// It has something else there than was agreed on: an edit that made a new file of it, or something that moved there.
    Replaced,
    /// It has at a name in use what was agreed on.
    Untouched,
    /// It has at a name in use what was agreed on, edited.
    Occupied,
}

/// The ends that a triple shows, each with the key that both ends of a move share. Directories sort first.
pub fn tracks(triple: &Triple) -> Vec<(Vec<u8>, Track)> {
    let mut found = Vec::new();
    for side in Side::BOTH {
        let base = triple.base.as_ref().and_then(|row| row[side].as_ref());
        let now = triple.now[side].as_ref().map(|located| &located.seen);
        let used = match (base, now) {
            (Some(base), Some(now)) if replaced(base, now) => true,
            (Some(_), Some(_)) | (None, None) => continue,
            _ => false,
        };
        for (seen, left_here) in [(base, true), (now, false)] {
            let Some((seen, key)) = seen.and_then(|seen| Some((seen, identity(side, seen)?))) else {
                continue;
            };
            let (other, occupant) = standing(triple, side.other(), left_here, used);
            debug_assert!(!seen.entry.is_opaque());
            let slot = triple.slot.clone();
            let counterpart = if left_here {
                triple.base.as_ref().and_then(|row| row[side.other()].as_ref())
            } else {
                triple.now[side.other()].as_ref().map(|located| &located.seen)
            };
            let counterpart = counterpart.and_then(|seen| seen.tag.stamp());
            found.push((
                key,
                Track {
                    side,
                    slot,
                    left_here,
                    other,
                    used,
                    occupant,
                    counterpart: counterpart.map(|stamp| (stamp.fs, stamp.inode)),
                },
            ));
        }
    }
    found
}

/// True when another thing stands there than stood there: it was moved there, or made anew.
pub(crate) fn replaced(base: &Observation, now: &Observation) -> bool {
    match (base.tag.stamp(), now.tag.stamp()) {
        (Some(base), Some(stamp)) => {
            base.fs == stamp.fs && base.inode != stamp.inode && !now.entry.is_opaque()
        }
        _ => false,
    }
}

fn same_but_for_bytes(base: &Observation, now: &Observation) -> bool {
    let sizes = base.entry.is_file() && now.entry.is_file() && base.entry.size() == now.entry.size();
    sizes && base.entry.meta() == now.entry.meta()
}

/// How `other` stands to something that vanished or appeared at this slot, and what it has at a name in use.
fn standing(triple: &Triple, other: Side, left_here: bool, used: bool) -> (Standing, Option<Observation>) {
    let known = triple.base.as_ref().and_then(|row| row[other].as_ref());
    let there = triple.now[other].as_ref().map(|located| &located.seen);
    let fits = if left_here || used {
        known.is_some()
    } else {
        triple.base.is_none()
    };
    if !fits || there.is_some_and(|seen| seen.entry.is_opaque()) {
        return (Standing::Apart, None);
    }
    // A killed run has brought it here: what stood here was displaced by that, and nobody moved it.
    let brought = |there: &Observation, known: &Observation| {
        let here = triple.now[other.other()].as_ref().map(|located| &located.seen);
        there.entry.is_file()
            && !there.unchanged_since(known)
            && here.is_some_and(|here| here.entry.same_content(&there.entry) != Sameness::Differs)
    };
    let standing = match (there, known) {
        (None, _) if left_here => Standing::Alike,
        (None, _) => Standing::Follows,
        (Some(there), Some(known)) if replaced(known, there) => Standing::Replaced,
        (Some(there), Some(known)) if left_here && used && brought(there, known) => Standing::Apart,
        (Some(_), _) if left_here => Standing::Follows,
        (Some(_), _) if !used => Standing::Alike,
        (Some(there), Some(known)) if there.unchanged_since(known) => {
            return (Standing::Untouched, Some(there.clone()));
        }
        // Whether it is what was agreed on only its bytes can tell.
        (Some(there), Some(known)) if same_but_for_bytes(known, there) => {
            return (Standing::Occupied, Some(there.clone()));
        }
        _ => Standing::Occupied,
    };
    (standing, None)
}

/// What a thing keeps when it is renamed.
pub fn identity(side: Side, seen: &Observation) -> Option<Vec<u8>> {
    let mut key = vec![u8::from(!seen.entry.is_dir()), side as u8];
    match (&seen.entry, seen.tag.stamp()) {
        (Entry::Dir(_), Some(stamp)) => {
            key.extend(stamp.fs.to_be_bytes());
            key.extend(stamp.inode.to_be_bytes());
        }
        (Entry::File(meta, content, _), Some(stamp)) => {
            key.extend(stamp.fs.to_be_bytes());
            key.extend(stamp.inode.to_be_bytes());
            key.extend(content.size.to_be_bytes());
            let mtime = meta.mtime?;
            key.extend(mtime.secs.to_be_bytes());
            key.extend(mtime.nanos.to_be_bytes());
        }
        (Entry::File(_, content, _), None) if content.size > 0 => {
            key.extend(content.size.to_be_bytes());
            key.extend(
                content
                    .md5
                    .map(|md5| md5.to_vec())
                    .or(content.digest.map(|digest| digest.0.to_vec()))?,
            );
        }
        _ => return None,
    }
    Some(key)
}

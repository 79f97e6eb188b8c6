//! Moves: what vanished under one name and appeared under another on the same side is renamed on the other side too.
//!
//! A move is a renaming of the base and of the other side, made before the merge: the merge then sees everything
//! under its new name, so an edit there lands under the new name, and a directory of any size is one step.
//! Identity is a file's or directory's inode where tags are stamps (a file's size and time must agree too, because
//! inodes are reused), else a file's digest, and only when unambiguous.
//!
//! Invariant: a pair is only taken when the other side still has what moved and has nothing at the new name; whatever
//! is not taken is a removal and a creation, which is always right and only costs bytes.
//! Where both sides moved directories into each other's way, the move with the smaller old name is taken and the
//! other is a conflict (after Kleppmann et al., "A highly-available move operation for replicated trees", 2021).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::diff;
use crate::entry::{Entry, Observation};
use crate::merge::{Located, Triple};
use crate::path::{RelPath, Slot};
use crate::plan::{Clash, Conflict, Pair, Row, Side};

/// Most directory moves that one run takes; more are copied.
const DIR_MOVES_MAX: usize = 1024;

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
}

/// The ends that a triple shows, each with the key that both ends of a move share. Directories sort first.
pub fn tracks(triple: &Triple) -> Vec<(Vec<u8>, Track)> {
    let mut found = Vec::new();
    for side in Side::BOTH {
        let other = triple.now[side.other()]
            .as_ref()
            .map(|located| &located.seen.entry);
        let base = triple.base.as_ref().and_then(|row| row[side].as_ref());
        let agreed = triple
            .base
            .as_ref()
            .is_some_and(|row| row[side.other()].is_some());
        let (seen, left_here, fits) = match (base, &triple.now[side]) {
            (Some(base), None) => (base, true, agreed),
            (None, Some(located)) => (&located.seen, false, triple.base.is_none()),
            _ => continue,
        };
        let other = match other {
            Some(other) if !fits || other.is_opaque() => Standing::Apart,
            None if !fits => Standing::Apart,
            other if other.is_some() == left_here => Standing::Follows,
            _ => Standing::Alike,
        };
        if let Some(key) = identity(side, seen) {
            found.push((
                key,
                Track {
                    side,
                    slot: triple.slot.clone(),
                    left_here,
                    other,
                },
            ));
        }
    }
    found
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

/// One thing under two names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The side that moved it; it will be moved on the other.
    pub side: Side,
    /// Its name in the base.
    pub from: RelPath,
    /// Its name now.
    pub to: RelPath,
    /// Both sides have it there already: only the base is behind.
    pub alike: bool,
}

/// The move that the ends with one key make up: exactly two, sound, one of each.
pub fn pair(ends: &[Track]) -> Option<Moved> {
    let [a, b] = ends else { return None };
    let (from, to) = if a.left_here { (a, b) } else { (b, a) };
    let whole = from.left_here && !to.left_here && from.other == to.other && from.other != Standing::Apart;
    let moved = Moved {
        side: from.side,
        from: from.slot.path(),
        to: to.slot.path(),
        alike: from.other == Standing::Alike,
    };
    (whole && !moved.to.is_within(&moved.from) && !moved.from.is_within(&moved.to)).then_some(moved)
}

/// The directory moves of a run, in the order in which they are made.
#[derive(Debug, Default)]
pub struct DirMoves {
    ordered: Vec<Moved>,
    from: HashMap<(Side, RelPath), usize>,
}

impl DirMoves {
    /// Takes what can be done; moves of both sides that stand in each other's way become conflicts.
    pub fn new(mut pairs: Vec<Moved>) -> (Self, Vec<Conflict>) {
        pairs.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        let (mut taken, mut conflicts) = (Vec::<Moved>::new(), Vec::new());
        for moved in pairs {
            if implied(&taken, &moved) || taken.len() >= DIR_MOVES_MAX {
                continue;
            }
            if taken
                .iter()
                .any(|other| other.side != moved.side && in_the_way(other, &moved))
            {
                conflicts.push(Conflict {
                    path: moved.from.clone(),
                    clash: Clash::Moved,
                    sides: Pair::new(None, None),
                    kept: vec![moved.to.clone()],
                    winner: Some(moved.side.other()),
                });
            } else {
                taken.push(moved);
            }
        }
        let vacated = |path: &RelPath, own: &Moved| {
            taken.iter().any(|other| {
                other != own
                    && other.side == own.side
                    && path.is_within(&other.from)
                    && !path.is_within(&other.to)
            })
        };
        let kept: Vec<_> = taken
            .iter()
            .filter(|moved| moved.to.parent().is_none_or(|parent| !vacated(&parent, moved)))
            .cloned()
            .collect();
        let ordered = order(kept);
        let from = ordered
            .iter()
            .enumerate()
            .map(|(at, m)| ((m.side, m.from.clone()), at))
            .collect();
        (Self { ordered, from }, conflicts)
    }

    /// True when no directory moved.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// The directories that both sides have under a new name already, inner ones first: old name, new name.
    pub fn behind(&self) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        let alike = self.ordered.iter().filter(|moved| moved.alike);
        alike.map(|moved| (&moved.from, &moved.to))
    }

    /// The innermost directory that `side` moved and that held `path`.
    fn above(&self, side: Side, path: &RelPath) -> Option<&Moved> {
        let mut at = Some(path.clone());
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            if let Some(&found) = self.from.get(&(side, dir.clone())) {
                return Some(&self.ordered[found]);
            }
            at = dir.parent();
        }
        None
    }

    /// Where a path of the base lies once the directories that `side` moved have moved; `None`: where it was.
    fn rebase(&self, side: Side, path: &RelPath) -> Option<RelPath> {
        self.above(side, path)
            .and_then(|moved| path.rebase(&moved.from, &moved.to))
    }

    /// The moves that `on` has yet to follow.
    fn due(&self, on: Side) -> impl Iterator<Item = &Moved> {
        self.ordered
            .iter()
            .filter(move |moved| moved.side.other() == on && !moved.alike)
    }

    /// Where what is known as `path` lies on `on` before the directories there follow those of the other side.
    pub fn before(&self, on: Side, path: &RelPath) -> RelPath {
        let arrived = self
            .due(on)
            .filter(|moved| path.is_within(&moved.to))
            .max_by_key(|moved| moved.to.as_bytes().len());
        arrived
            .and_then(|moved| path.rebase(&moved.to, &moved.from))
            .unwrap_or_else(|| path.clone())
    }

    /// Its place among the directory moves on the side that follows; `None` for other moves.
    pub fn rank(&self, on: Side, to: &RelPath) -> Option<usize> {
        self.ordered
            .iter()
            .position(|moved| moved.side.other() == on && moved.to == *to && !moved.alike)
    }

    /// True when a directory must be made on `on` before any directory moves: something will move into it.
    pub fn leads(&self, on: Side, path: &RelPath) -> bool {
        self.due(on).any(|moved| moved.to.is_within(path))
            && !self.due(on).any(|moved| path.is_within(&moved.to))
    }

    /// True when a file's move can be told to the other side beside these.
    pub fn allow(&self, file: &Moved) -> bool {
        let implied = self.rebase(file.side, &file.from).is_some_and(|at| at == file.to);
        let crossed = |other: &Moved| other.side != file.side && in_the_way(other, file);
        !implied && !self.ordered.iter().any(crossed)
    }

    /// What of a triple belongs elsewhere: the base and the other side's view, under the new name.
    pub fn redirect(&self, triple: Triple, file: Option<&Moved>) -> Vec<(Slot, Piece)> {
        let path = triple.slot.path();
        let is_dir = triple.slot.is_dir();
        for side in Side::BOTH {
            let by_dir = self.rebase(side, &path);
            let explicit = file.filter(|file| file.side == side);
            let alike = explicit
                .or_else(|| self.above(side, &path))
                .is_some_and(|moved| moved.alike);
            let Some(to) = explicit.map(|file| file.to.clone()).or_else(|| by_dir.clone()) else {
                continue;
            };
            let physical = by_dir.unwrap_or_else(|| path.clone());
            let own_step = explicit.is_some() || self.from.contains_key(&(side, path.clone()));
            let at = if explicit.is_some() {
                physical
            } else {
                path.clone()
            };
            let Triple {
                slot,
                base,
                mut now,
                was,
            } = triple;
            let mut pieces = Vec::new();
            let to = Slot::of(&to, is_dir);
            if let Some(row) = base {
                pieces.push((to.clone(), Piece::Base(row, was.unwrap_or_else(|| slot.clone()))));
            }
            if alike {
                for side in Side::BOTH {
                    pieces.extend(
                        now[side]
                            .take()
                            .map(|located| (slot.clone(), Piece::Now(side, located))),
                    );
                }
                return pieces;
            }
            if let Some(located) = now[side.other()].take() {
                let at = own_step.then_some(at);
                pieces.push((
                    to,
                    Piece::Now(
                        side.other(),
                        Located {
                            seen: located.seen,
                            at,
                        },
                    ),
                ));
            }
            if let Some(located) = now[side].take() {
                pieces.push((slot, Piece::Now(side, located)));
            }
            return pieces;
        }
        let Triple { slot, base, now, was } = triple;
        let mut pieces = Vec::new();
        let Pair { left, right } = now;
        let was = was.unwrap_or_else(|| slot.clone());
        pieces.extend(base.map(|row| (slot.clone(), Piece::Base(row, was))));
        pieces.extend(left.map(|located| (slot.clone(), Piece::Now(Side::Left, located))));
        pieces.extend(right.map(|located| (slot, Piece::Now(Side::Right, located))));
        pieces
    }
}

/// True when a directory only went along with one above it, the innermost that moved.
fn implied(taken: &[Moved], moved: &Moved) -> bool {
    let above = taken
        .iter()
        .rev()
        .find(|above| above.side == moved.side && moved.from.is_within(&above.from));
    above.is_some_and(|above| moved.from.rebase(&above.from, &above.to).as_ref() == Some(&moved.to))
}

/// True when one side's move touches what the other side's move takes away or makes.
fn in_the_way(a: &Moved, b: &Moved) -> bool {
    let near = |a: &RelPath, b: &RelPath| a.is_within(b) || b.is_within(a);
    near(&a.from, &b.from) || near(&a.from, &b.to) || near(&a.to, &b.from) || near(&a.to, &b.to)
}

/// Inner directories leave before outer ones; a directory arrives before what moves into it.
fn order(mut moves: Vec<Moved>) -> Vec<Moved> {
    let mut ordered = Vec::with_capacity(moves.len());
    while !moves.is_empty() {
        let ready = moves.iter().position(|moved| {
            moves.iter().all(|other| {
                let waits =
                    (other.from.is_within(&moved.from) || moved.to.is_within(&other.to)) && other != moved;
                !(waits && other.side == moved.side)
            })
        });
        match ready {
            Some(at) => ordered.push(moves.remove(at)),
            // A circle: its members are copied.
            None => break,
        }
    }
    ordered
}

/// A part of a triple on its way to its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// What was agreed on, and where the base has it.
    Base(Row, Slot),
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
    for piece in pieces {
        match piece {
            Piece::Base(row, was) => {
                triple.was = (was != triple.slot).then_some(was);
                triple.base = Some(row);
            }
            Piece::Now(side, located) => triple.now[side] = Some(located),
        }
    }
    diff::learn(&mut triple);
    triple
}

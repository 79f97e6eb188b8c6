//! Moves: what vanished under one name and appeared under another on the same side is renamed on the other side too.
//!
//! A move is a renaming of the base and of the other side, made before the merge: the merge then sees everything
//! under its new name, so an edit there lands under the new name, and a directory of any size is one step.
//! Identity is a file's or directory's inode where tags are stamps (a file's size and time must agree too, because
//! inodes are reused), else a file's digest, and only when unambiguous.
//!
//! Invariant: a pair is only taken when the other side still has what moved and has nothing at the new name, or only what leaves it
//! first ([`chains`]); whatever is not taken is a removal and a creation, which is always right and only costs bytes.
//! Where both sides moved directories into each other's way, the move with the smaller old name is taken and the
//! other is a conflict (after Kleppmann et al., "A highly-available move operation for replicated trees", 2021).

pub mod chains;
mod pieces;
mod tracks;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::merge::{Located, Triple};
use crate::path::{Name, RelPath, Slot};
use crate::plan::{Action, Clash, Conflict, Pair, Side, Step, Was};
pub use chains::{Chains, Shift};
pub use pieces::{Piece, assemble};
pub(crate) use tracks::replaced;
pub use tracks::{Standing, Track, identity, tracks};

/// Most directory moves that one run takes; more are copied.
const DIR_MOVES_MAX: usize = 1024;

/// One thing under two names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The side that moved it; it will be moved on the other.
    pub side: Side,
    /// Its name in the base.
    pub from: RelPath,
    /// Its name now.
    pub to: RelPath,
    /// Where it lies on the side that follows: mostly under the name in the base.
    pub lies: RelPath,
    /// Both sides have it there already: only the base is behind.
    pub alike: bool,
    /// What stands at its new name on the side that follows moves away first.
    pub onto: bool,
    /// It can only move once directories were made on the side that follows, or waits for one that can only then.
    pub late: bool,
    /// One of a circle: it comes to its name by an exchange with this one.
    pub hub: Option<RelPath>,
}

/// The move that the two ends with one key make up, if there is one of each.
pub fn pair([a, b]: [Track; 2]) -> Option<Shift> {
    let (from, to) = if a.left_here { (a, b) } else { (b, a) };
    let apart = |a: &Slot, b: &Slot| {
        let below = a.path_bytes().strip_prefix(b.path_bytes());
        below.is_none_or(|below| below.first().is_some_and(|&byte| byte != b'/'))
    };
    let whole = from.left_here && !to.left_here && apart(&from.slot, &to.slot) && apart(&to.slot, &from.slot);
    let is_copy = |end: &Track| !end.slot.is_dir() && crate::diff::is_copy(&end.slot);
    // What was put aside under a name of ours did not move: a run that was killed did that.
    let put_aside = is_copy(&to) && !is_copy(&from);
    (whole && !put_aside).then_some(Shift {
        from,
        to,
        late: false,
    })
}

/// The moves of a run that belong together: of directories, and of files over names in use.
#[derive(Debug, Default)]
pub struct Moves {
    /// Files that move over names in use, once the directories have moved.
    pub chains: Chains,
    ordered: Vec<Moved>,
    /// The place in `ordered` of what each side moved, by the old name: asked for all names above each row.
    from: Pair<HashMap<Vec<u8>, usize>>,
}

impl Moves {
    /// Takes the moves of directories that can be done; those of both sides that stand in each other's way become conflicts.
    pub fn new(mut pairs: Vec<Moved>, exchanges: Pair<bool>) -> (Self, Vec<Conflict>) {
        pairs.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        let (mut taken, mut conflicts) = (Vec::<Moved>::new(), Vec::new());
        for moved in pairs {
            if implied(&taken, &moved) || taken.len() >= DIR_MOVES_MAX {
                continue;
            }
            let against =
                |other: &Moved| other.side != moved.side && !other.alike && in_the_way(other, &moved);
            if !moved.alike && taken.iter().any(against) {
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
        let mut kept: Vec<_> = taken
            .iter()
            .filter(|moved| moved.to.parent().is_none_or(|parent| !vacated(&parent, moved)))
            .cloned()
            .collect();
        let leaves = |kept: &[Moved], moved: &Moved| {
            let leaves = |other: &Moved| other.side == moved.side && other.from == moved.to && !other.alike;
            !moved.onto || kept.iter().any(leaves)
        };
        while let Some(at) = kept.iter().position(|moved| !leaves(&kept, moved)) {
            kept.remove(at);
        }
        let ordered = order(kept, exchanges);
        let from = Pair::each(|side| {
            let moved = ordered.iter().enumerate();
            moved
                .filter(|(_, moved)| moved.alike || moved.side == side)
                .map(|(at, moved)| (moved.from.as_bytes().to_vec(), at))
                .collect()
        });
        let chains = Chains::default();
        (
            Self {
                chains,
                ordered,
                from,
            },
            conflicts,
        )
    }

    /// True when nothing moves.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.chains.is_empty()
    }

    /// The directories that both sides have under a new name already, inner ones first: old name, new name. Of two that were exchanged
    /// one goes aside meanwhile.
    pub fn behind(&self) -> Vec<(RelPath, RelPath)> {
        let mut names = Vec::new();
        for moved in self.ordered.iter().filter(|moved| moved.alike) {
            let (from, to) = (moved.from.clone(), moved.to.clone());
            match &moved.hub {
                None => names.push((from, to)),
                Some(hub) if *hub == from => names.push((from, aside())),
                Some(_) => names.extend([(from.clone(), to), (aside(), from)]),
            }
        }
        names
    }

    /// The innermost directory that `side` moved and that held `path`.
    fn above(&self, side: Side, path: &RelPath) -> Option<&Moved> {
        let mut dir = path.as_bytes();
        while !dir.is_empty() {
            if let Some(&found) = self.from[side].get(dir) {
                return Some(&self.ordered[found]);
            }
            let above = dir.iter().rposition(|&byte| byte == b'/');
            dir = &dir[..above.unwrap_or(0)];
        }
        None
    }

    /// Where a path of the base lies once the directories that `side` moved have moved; `None`: where it was.
    pub fn rebase(&self, side: Side, path: &RelPath) -> Option<RelPath> {
        self.above(side, path)
            .and_then(|moved| path.rebase(&moved.from, &moved.to))
    }

    /// Where the base has a path once all directories have moved, when that is elsewhere.
    fn renamed(&self, path: &RelPath) -> Option<RelPath> {
        Side::BOTH.into_iter().find_map(|side| self.rebase(side, path))
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

    /// Directories that go into others which move there too, each with where its new name lies before those have moved: what stands there
    /// comes along and is in the way, unless it is a directory that leaves by itself.
    pub fn inward(&self) -> impl Iterator<Item = (&Moved, RelPath)> {
        self.ordered
            .iter()
            .filter(|moved| !moved.alike && !moved.onto)
            .filter_map(|moved| {
                let parent = moved.to.parent()?;
                let now = self.before(moved.side.other(), &parent);
                let at = now.join(&moved.to.name()?);
                let leaves = || self.due(moved.side.other()).any(|other| other.from == at);
                let in_the_way = now != parent && !leaves();
                in_the_way.then_some((moved, at))
            })
    }

    /// Its place among the directory moves on the side that follows; `None` for other moves.
    pub fn rank(&self, on: Side, to: &RelPath) -> Option<usize> {
        self.ordered
            .iter()
            .position(|moved| moved.side.other() == on && moved.to == *to && !moved.alike)
    }

    /// The move that a step carries out, if it is one of a circle: then the step becomes an exchange. Says the name that the circle
    /// begins with and how many steps it takes.
    pub fn route(&self, step: &mut Step) -> Option<(RelPath, usize)> {
        let path = &step.change.path;
        let is_dir = step.change.new.as_ref().is_some_and(Entry::is_dir);
        let moved = if is_dir {
            &self.ordered[self.rank(step.side, path)?]
        } else {
            self.chains.arriving(step.side, path)?.1
        };
        let hub = moved.hub.clone().filter(|_| step.action == Action::Move)?;
        step.change.from = Some(crate::entry::From::Exchange(hub.clone()));
        let all = if is_dir { &self.ordered } else { self.chains.all() };
        let members = |other: &&Moved| other.hub.as_ref() == Some(&hub) && other.side == moved.side;
        Some((hub.clone(), all.iter().filter(members).count()))
    }

    /// A file's move that must be looked at together with others, if no directory that moves on either side holds either name. Where
    /// both names are free it may also go along with a directory that the other side moved.
    pub fn beside(&self, mut file: Shift) -> Option<Shift> {
        let moved = file.moved();
        let onward = file.plain().and_then(|moved| self.onward(&moved));
        let apart = |dir: &Moved| {
            let names = [&dir.from, &dir.to];
            let held = |dir: &RelPath| moved.from.is_within(dir) || moved.to.is_within(dir);
            onward == Some(dir) || !names.into_iter().any(held)
        };
        if !self.ordered.iter().all(apart) {
            return None;
        }
        file.to.slot = Slot::of(&self.ended(moved).to, false);
        Some(file)
    }

    /// The place, among the directory moves, after which the directory around `path` stands on `on`: it is moved there, or lies in one that is.
    pub fn brings(&self, on: Side, path: &RelPath) -> Option<usize> {
        let parent = path.parent()?;
        let around = |moved: &&Moved| parent.is_within(&moved.to);
        let moved = self
            .due(on)
            .filter(around)
            .max_by_key(|moved| moved.to.as_bytes().len())?;
        // A circle is gone round at once.
        let last = |other: &Moved| other == moved || (other.hub.is_some() && other.hub == moved.hub);
        self.ordered
            .iter()
            .rposition(|other| other.side == moved.side && last(other))
    }

    /// The place, among the directory moves, of the first that goes into a directory which is to be made on `on`: it is made right before.
    pub fn leads(&self, on: Side, path: &RelPath) -> Option<usize> {
        self.ordered
            .iter()
            .position(|moved| moved.side.other() == on && !moved.alike && moved.to.is_within(path))
    }

    /// True when a file's move can be told to the other side beside these.
    pub fn allow(&self, file: &Moved) -> bool {
        let implied = self.rebase(file.side, &file.from).is_some_and(|at| at == file.to);
        // It goes along with a directory that the other side moved.
        let onward = self.onward(file);
        let carried = |other: &Moved| {
            let apart = [
                (&other.from, &file.from),
                (&other.to, &file.from),
                (&other.to, &file.to),
            ];
            onward == Some(other) && apart.into_iter().all(|(a, b)| !near(a, b))
        };
        let crossed = |other: &Moved| {
            other.side != file.side && !other.alike && in_the_way(other, file) && !carried(other)
        };
        !implied && !self.ordered.iter().any(crossed)
    }

    /// The directory around a file's new name that the other side alone has moved.
    fn onward(&self, file: &Moved) -> Option<&Moved> {
        let above = self.above(file.side.other(), &file.to.parent()?)?;
        (!above.alike && !file.alike).then_some(above)
    }

    /// A file's move to where it lies once the directories of the other side have moved too.
    pub fn ended(&self, mut file: Moved) -> Moved {
        let onward = self.onward(&file);
        if let Some(to) = onward.and_then(|dir| file.to.rebase(&dir.from, &dir.to)) {
            file.to = to;
        }
        file
    }

    /// What of a triple belongs elsewhere: the base and the other side's view, under the new name.
    pub fn redirect(&self, triple: Triple, file: Option<&Moved>) -> Vec<(Slot, Piece)> {
        if !self.chains.is_empty() && self.chains.concern(&triple.slot) {
            return self.chains.redirect(triple);
        }
        let path = triple.slot.path();
        let is_dir = triple.slot.is_dir();
        // What one side moved by itself is known better than by the directory that both sides renamed.
        let first = file.map_or(Side::Left, |file| file.side);
        for side in [first, first.other()] {
            let above = self.above(side, &path);
            let by_dir = above.and_then(|moved| path.rebase(&moved.from, &moved.to));
            let explicit = file.filter(|file| file.side == side);
            let Some(to) = explicit.map(|file| file.to.clone()).or_else(|| by_dir.clone()) else {
                continue;
            };
            let alike = explicit.or(above).is_some_and(|moved| moved.alike);
            // Where both sides moved the directory already, it lies where it is seen.
            let still = above.is_some_and(|above| above.alike);
            let physical = by_dir.filter(|_| !still).unwrap_or_else(|| path.clone());
            let own_step = explicit.is_some() || self.from[side].contains_key(path.as_bytes());
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
                // In a directory that is renamed its old name is no longer where the row lies: who comes there takes its place.
                let behind = explicit.and_then(|_| self.renamed(&path));
                let reused =
                    behind.is_some() || now[side].is_some() || (alike && now[side.other()].is_some());
                if let Some(behind) = behind.map(|behind| Slot::of(&behind, false)) {
                    let was = Was {
                        slot: behind.clone(),
                        reused: false,
                        carried: false,
                    };
                    pieces.push((behind, Piece::Carried(Pair::new(None, None), was)));
                }
                let was = was.unwrap_or_else(|| Was {
                    slot: slot.clone(),
                    reused,
                    carried: !own_step,
                });
                let piece = if own_step { Piece::Base } else { Piece::Carried };
                pieces.push((to.clone(), piece(row, was)));
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
        let was = was.unwrap_or_else(|| Was {
            slot: slot.clone(),
            reused: false,
            carried: false,
        });
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

fn near(a: &RelPath, b: &RelPath) -> bool {
    a.is_within(b) || b.is_within(a)
}

/// True when one side's move touches what the other side's move takes away or makes.
fn in_the_way(a: &Moved, b: &Moved) -> bool {
    near(&a.from, &b.from) || near(&a.from, &b.to) || near(&a.to, &b.from) || near(&a.to, &b.to)
}

/// A name that no tree holds: where the base has one of two directories while they change names.
pub fn aside() -> RelPath {
    let own = Name::new(crate::replica::OWN_DIR.as_bytes());
    let aside = Name::new(b"exchanged".as_slice());
    match (own, aside) {
        (Ok(own), Ok(aside)) => RelPath::root().join(&own).join(&aside),
        _ => RelPath::root(),
    }
}

/// Inner directories leave before outer ones; a directory arrives before what moves into it, and once its name is free. Of those that wait
/// for each other two that exchange their names are taken; others are copied.
fn order(mut moves: Vec<Moved>, exchanges: Pair<bool>) -> Vec<Moved> {
    let waits = |moved: &Moved, other: &Moved| {
        let for_it =
            other.from.is_within(&moved.from) || moved.to.is_within(&other.to) || moved.to == other.from;
        for_it && other != moved && other.side == moved.side
    };
    let mut ordered = Vec::with_capacity(moves.len());
    while !moves.is_empty() {
        let ready = moves
            .iter()
            .position(|moved| !moves.iter().any(|other| waits(moved, other)));
        if let Some(at) = ready {
            ordered.push(moves.remove(at));
            continue;
        }
        let exchanged = |a: &Moved, b: &Moved| {
            let follows = a.onto && b.onto && exchanges[a.side.other()];
            a.side == b.side && a.from == b.to && a.to == b.from && (follows || (a.alike && b.alike))
        };
        let alone = |a: &Moved, b: &Moved| {
            moves
                .iter()
                .all(|other| other == a || other == b || !(waits(a, other) || waits(b, other)))
        };
        let both = moves.iter().find_map(|a| {
            let b = moves.iter().find(|b| exchanged(a, b) && alone(a, b))?;
            Some((a.clone(), b.clone()))
        });
        let Some((a, b)) = both else { break };
        moves.retain(|moved| *moved != a && *moved != b);
        let hub = Some(a.from.clone());
        ordered.extend([a, b].map(|moved| Moved {
            hub: hub.clone(),
            ..moved
        }));
    }
    ordered
}

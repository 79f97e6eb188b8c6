//! Moves over names that stay in use: rotated logs (`log` to `log.1` to `log.2`), exchanged names, circles.
//!
//! What stands at the new name on the side that follows must leave first: by a move of its own (a chain, followed from its free end), or
//! because the side that moved has put something over it; then it is removed if it is what was agreed on. A circle is followed by
//! exchanging two names at a time: nothing ever leaves the tree, so a killed run loses nothing and is seen through by identity.
//!
//! Invariant: a move is taken only if what stands at its new name leaves before it in the order given here. All else is copied.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Moved, Piece, Standing, Track};
use crate::entry::Observation;
use crate::merge::{Located, Triple};
use crate::path::{RelPath, Slot};
use crate::plan::{Action, Decision, Pair, Settle, Side, Was};

/// Most files that one run moves so; more are copied.
pub const CHAINED_MAX: usize = 16_384;

/// One thing that one side has under another name than the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// Where it vanished.
    pub from: Track,
    /// Where it appeared.
    pub to: Track,
    /// The directory around its new name is still to be made on the side that follows.
    pub late: bool,
}

impl Shift {
    /// The side that moved it.
    pub fn side(&self) -> Side {
        self.from.side
    }

    /// The move, when both names are free wherever the thing does not stand. What the other side has in its place counts as an edit of it.
    pub fn plain(&self) -> Option<Moved> {
        let sound = matches!(
            (self.from.other, self.to.other),
            (Standing::Follows | Standing::Replaced, Standing::Follows) | (Standing::Alike, Standing::Alike)
        );
        (sound && !self.from.used && !self.to.used).then(|| self.moved())
    }

    /// True when it must be looked at together with other moves: it is not plain, or the other side has something in its place.
    pub fn chained(&self) -> bool {
        self.from.other == Standing::Replaced || self.plain().is_none()
    }

    /// The other side has the thing itself at the new name, edited. What else stands there is another one, whatever became of the old name:
    /// a killed run may have displaced that.
    fn arrived(&self) -> bool {
        self.from.counterpart.is_some() && self.from.counterpart == self.to.counterpart
    }

    /// The move, not looking at what stands at its names.
    pub fn moved(&self) -> Moved {
        Moved {
            side: self.side(),
            from: self.from.slot.path(),
            to: self.to.slot.path(),
            lies: self.from.slot.path(),
            alike: self.from.other == Standing::Alike,
            onto: false,
            late: self.late,
            hub: None,
        }
    }
}

/// What the sides can do.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// Two names can be exchanged there.
    pub exchanges: Pair<bool>,
    /// Nothing is removed there.
    pub keeps: Pair<bool>,
}

/// A move that may be taken, and what stands at its new name.
struct Candidate {
    moved: Moved,
    to: Track,
    over: bool,
}

/// Files that move over names that stay in use, in the order in which they are moved.
#[derive(Debug, Default)]
pub struct Chains {
    ordered: Vec<Moved>,
    base: HashMap<RelPath, usize>,
    lies: HashMap<(Side, RelPath), usize>,
    to: HashMap<(Side, RelPath), usize>,
    over: BTreeMap<(Side, RelPath), Observation>,
}

impl Chains {
    /// Takes the moves of files that can be done.
    pub fn new(shifts: Vec<Shift>, ground: Ground) -> Self {
        let taken = take(candidates(shifts, true), ground, false);
        let mut chains = Self::default();
        for candidate in &taken {
            if let (true, Some(there)) = (candidate.over, &candidate.to.occupant) {
                let follower = candidate.moved.side.other();
                chains
                    .over
                    .insert((follower, candidate.moved.to.clone()), there.clone());
            }
        }
        for moved in line_up(taken.into_iter().map(|candidate| candidate.moved).collect()) {
            let (at, follower) = (chains.ordered.len(), moved.side.other());
            chains.base.insert(moved.from.clone(), at);
            if !moved.alike {
                chains.lies.insert((follower, moved.lies.clone()), at);
                chains.to.insert((follower, moved.to.clone()), at);
            }
            chains.ordered.push(moved);
        }
        chains
    }

    /// True when no file moves so.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    pub(super) fn all(&self) -> &Vec<Moved> {
        &self.ordered
    }

    /// Removals of what is in the way and was put over on the other side: before any file moves.
    pub fn removals(&self) -> impl Iterator<Item = Decision> + '_ {
        self.over.iter().map(|((side, path), there)| {
            let remove = crate::merge::step(*side, Action::Remove, path.clone(), Some(there), None, None);
            Decision::Settle(Box::new(Settle {
                slot: Slot::of(path, false),
                row: None,
                was: None,
                steps: vec![remove],
            }))
        })
    }

    /// True when what stands there goes before any file moves.
    pub fn clears(&self, side: Side, path: &RelPath) -> bool {
        self.over.contains_key(&(side, path.clone()))
    }

    /// The move that ends at `path` on `side`, and its place in the order.
    pub fn arriving(&self, side: Side, path: &RelPath) -> Option<(usize, &Moved)> {
        let at = *self.to.get(&(side, path.clone()))?;
        Some((at, &self.ordered[at]))
    }

    /// True when something of what is known of a slot belongs elsewhere.
    pub(super) fn concern(&self, slot: &Slot) -> bool {
        let path = slot.path();
        let follows = |side: Side| self.clears(side, &path) || self.lies.contains_key(&(side, path.clone()));
        !slot.is_dir() && (self.base.contains_key(&path) || Side::BOTH.into_iter().any(follows))
    }

    /// What of a triple belongs where.
    pub(super) fn redirect(&self, triple: Triple) -> Vec<(Slot, Piece)> {
        let path = triple.slot.path();
        let target = |at: &usize| Slot::of(&self.ordered[*at].to, false);
        let Triple {
            slot,
            base,
            was,
            mut now,
        } = triple;
        let (mut pieces, mut reused) = (Vec::new(), false);
        for side in Side::BOTH {
            let Some(located) = now[side].take().filter(|_| !self.clears(side, &path)) else {
                continue;
            };
            if let Some(to) = self.lies.get(&(side, path.clone())).map(target) {
                let at = Some(path.clone());
                pieces.push((
                    to,
                    Piece::Now(
                        side,
                        Located {
                            seen: located.seen,
                            at,
                        },
                    ),
                ));
            } else {
                reused = true;
                pieces.push((slot.clone(), Piece::Now(side, located)));
            }
        }
        if let Some(row) = base {
            let to = self.base.get(&path).map_or_else(|| slot.clone(), target);
            let slot = was.map_or(slot, |was| was.slot);
            pieces.push((
                to,
                Piece::Base(
                    row,
                    Was {
                        slot,
                        reused,
                        carried: false,
                    },
                ),
            ));
        }
        pieces
    }
}

/// What both sides have under the same new name, of the shifts of one thing: else all of them.
pub fn by_both(mut shifts: Vec<Shift>) -> std::result::Result<Moved, Vec<Shift>> {
    match &shifts[..] {
        [left, right] if left.side() != right.side() && left.to.slot == right.to.slot => {
            Ok(shifts.swap_remove(0).moved())
        }
        _ => Err(shifts),
    }
}

/// Directories that move over names that other directories leave. What is put over another directory is copied.
pub fn directories(shifts: Vec<Shift>, ground: Ground) -> Vec<Moved> {
    let taken = take(candidates(shifts, false), ground, true);
    taken.into_iter().map(|candidate| candidate.moved).collect()
}

/// What each thing's moves come to, not yet looking at what stands at the new names. With `files`, what both sides moved
/// to different names is followed where only one of the two names is left for it.
fn candidates(shifts: Vec<Shift>, files: bool) -> Vec<Candidate> {
    let arrivals: HashSet<(Side, Slot)> = shifts
        .iter()
        .map(|shift| (shift.side(), shift.to.slot.clone()))
        .collect();
    let mut things = BTreeMap::<Slot, Pair<Option<Shift>>>::new();
    for shift in shifts {
        let (side, from) = (shift.side(), shift.from.slot.clone());
        things.entry(from).or_default()[side] = Some(shift);
    }
    let by_one = |shift: Shift| {
        let mut moved = shift.moved();
        moved.alike = false;
        Candidate {
            moved,
            to: shift.to,
            over: false,
        }
    };
    let mut found = Vec::new();
    for (slot, Pair { left, right }) in things {
        match (left, right) {
            (Some(left), Some(right)) if left.to.slot == right.to.slot => {
                let mut both = by_one(left);
                both.moved.alike = true;
                found.push(both);
            }
            (Some(left), Some(right)) if files => {
                for (shift, other) in [(&left, &right), (&right, &left)] {
                    let wanted = arrivals.contains(&(shift.side(), other.to.slot.clone()));
                    let free = !arrivals.contains(&(other.side(), shift.to.slot.clone()));
                    if wanted && free {
                        let mut candidate = by_one(shift.clone());
                        candidate.moved.lies = other.to.slot.path();
                        found.push(candidate);
                    }
                }
            }
            (Some(shift), None) | (None, Some(shift)) => {
                let other = shift.side().other();
                let taken_over = arrivals.contains(&(other, slot));
                let gone = match shift.from.other {
                    Standing::Follows => false,
                    Standing::Replaced if taken_over => true,
                    // Something new on both sides under one name: it may be the same (a killed run's copy), and no edit of what stood there.
                    Standing::Replaced if shift.from.used => continue,
                    // A directory made anew: its files are followed one by one.
                    Standing::Replaced if !files => continue,
                    Standing::Replaced => false,
                    Standing::Alike => true,
                    _ => continue,
                };
                if gone && !(files && shift.arrived()) {
                    continue;
                }
                let mut candidate = by_one(shift);
                candidate.moved.alike = gone;
                found.push(candidate);
            }
            _ => {}
        }
    }
    found
}

/// Leaves out, one after the other, what finds its new name taken.
fn take(mut live: Vec<Candidate>, ground: Ground, directories: bool) -> Vec<Candidate> {
    loop {
        let leaving: HashSet<(Side, RelPath)> = live
            .iter()
            .filter(|candidate| !candidate.moved.alike)
            .map(|candidate| (candidate.moved.side, candidate.moved.lies.clone()))
            .collect();
        let behind: HashSet<RelPath> = live
            .iter()
            .filter(|candidate| candidate.moved.alike)
            .map(|candidate| candidate.moved.from.clone())
            .collect();
        let before = live.len();
        live.retain_mut(|candidate| {
            let Candidate { moved, to, over, .. } = candidate;
            let leaves = leaving.contains(&(moved.side, moved.to.clone()));
            (moved.onto, *over) = (false, false);
            match to.other {
                // The base is renamed at once: what it has at the new name must be gone by then.
                _ if moved.alike => return !directories || !to.used || behind.contains(&moved.to),
                Standing::Follows => return true,
                Standing::Apart => return false,
                Standing::Untouched | Standing::Occupied | Standing::Replaced | Standing::Alike => {}
            }
            moved.onto = leaves;
            *over = !leaves
                && to.other == Standing::Untouched
                && !directories
                && !ground.keeps[moved.side.other()];
            moved.onto || *over
        });
        if live.len() == before {
            match undoable(&live, ground, directories) {
                Some(at) => drop(live.remove(at)),
                None => return live,
            }
        }
    }
}

/// One of a circle that cannot be followed.
fn undoable(live: &[Candidate], ground: Ground, directories: bool) -> Option<usize> {
    let moves: Vec<Moved> = live.iter().map(|candidate| candidate.moved.clone()).collect();
    let circle = circles(&moves).into_iter().find(|circle| {
        let side = moves[circle[0]].side;
        // A longer circle of directories would be seen through after a kill only file by file.
        !ground.exchanges[side.other()] || (directories && circle.len() > 2)
    });
    circle.map(|circle| circle[0])
}

/// The circles among moves, each from its smallest name on in the order in which things follow one another.
fn circles(moves: &[Moved]) -> Vec<Vec<usize>> {
    let lies = index(moves);
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for start in 0..moves.len() {
        let (mut circle, mut at) = (Vec::new(), Some(start));
        while let Some(next) = at.filter(|next| moves[*next].onto && seen.insert(*next)) {
            circle.push(next);
            at = lies.get(&(moves[next].side, moves[next].to.clone())).copied();
        }
        if let Some(first) = at.and_then(|next| circle.iter().position(|member| *member == next)) {
            circle.drain(..first);
            let smallest = (0..circle.len()).min_by_key(|at| &moves[circle[*at]].lies);
            circle.rotate_left(smallest.unwrap_or_default());
            found.push(circle);
        }
    }
    found
}

/// Where each move's thing lies on the side that follows.
fn index(moves: &[Moved]) -> HashMap<(Side, RelPath), usize> {
    let due = moves.iter().enumerate().filter(|(_, moved)| !moved.alike);
    due.map(|(at, moved)| ((moved.side, moved.lies.clone()), at))
        .collect()
}

/// Chains from their free ends, then circles: each exchanges the name that it begins with for the next, and the next.
fn line_up(mut moves: Vec<Moved>) -> Vec<Moved> {
    for circle in circles(&moves) {
        let hub = moves[circle[0]].lies.clone();
        for at in circle {
            moves[at].hub = Some(hub.clone());
        }
    }
    let circular: Vec<usize> = circles(&moves).into_iter().flatten().collect();
    let behind: HashMap<(Side, RelPath), usize> = moves
        .iter()
        .enumerate()
        .filter(|(_, moved)| moved.onto && moved.hub.is_none())
        .map(|(at, moved)| ((moved.side, moved.to.clone()), at))
        .collect();
    let mut order = Vec::with_capacity(moves.len());
    let free: Vec<usize> = (0..moves.len()).filter(|at| !moves[*at].onto).collect();
    for free in free {
        let (mut at, mut late) = (Some(free), false);
        while let Some(next) = at {
            late |= moves[next].late;
            moves[next].late = late;
            order.push(next);
            let freed = (moves[next].side, moves[next].lies.clone());
            at = behind.get(&freed).copied().filter(|_| !moves[next].alike);
        }
    }
    order.extend(circular);
    order.into_iter().map(|at| moves[at].clone()).collect()
}

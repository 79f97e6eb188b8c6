//! Decisions in the order in which they will be carried out, on disk when they are many.
//!
//! Order: directories whose new name only the base lacks · files that make room for directories or moves · moves of directories, which are
//! made where others move into them · moves of files, then those over names in use · directories made · moves into those · conflict copies ·
//! copies · groups of hard links · attributes of directories · removals, and files in place of directories, innermost first · attributes of
//! all else · rows that need no step.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use syncline_model::moves::Moves;
pub use syncline_model::order::Phase;
use syncline_model::order::{Made, key};
use syncline_model::{
    Action, Clash, Conflict, Decision, Entry, From, Pair, Problem, RelPath, Result, Row, Sameness, Settle,
    Side, Slot, Step, Was,
};

use crate::conflicts::Met;
use crate::rows::{Base, decode, encode};
use crate::shelf::{Shelf, Sort};
use syncline_store::Rows;

/// One row of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The slot that it settles.
    pub slot: Slot,
    /// The step; `None`: only the row is to be remembered, or it is a member of a group that stands already.
    pub step: Option<Step>,
    /// Without a step: the side on which this name leads a group of hard links.
    pub member: Option<Side>,
    /// What the base is to say once this is done, when nothing else has to be done for it; of a member, what it shows.
    pub sole: Option<(Option<Row>, Option<Was>)>,
}

/// What a plan will do to one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps by kind.
    pub counts: crate::api::Counts,
    /// Directories whose time is set.
    pub times: u64,
    /// Files that go.
    pub removals: u64,
    /// Files whose content is replaced.
    pub overwrites: u64,
    /// Such files whose version stays beside the other.
    pub spared: u64,
}

impl Tally {
    /// Counts one step.
    pub fn add(&mut self, step: &Step) {
        self.counts.add(step.action, copied(step));
        let old_leaf = step.change.old.as_ref().is_some_and(|old| !old.entry.is_dir());
        self.times += u64::from(step.action == Action::Times);
        self.removals += u64::from(step.action == Action::Remove && old_leaf);
        self.overwrites += u64::from(step.action == Action::Update && old_leaf);
    }
}

/// Whose version stays beside the other is not overwritten.
pub fn spare(tally: &mut Pair<Tally>, conflict: &Conflict) {
    let stays = conflict.clash == Clash::Edited && conflict.kept.len() > 1;
    if let Some(winner) = conflict.winner.filter(|_| stays) {
        tally[winner.other()].spared += 1;
    }
}

/// A plan as it grows.
pub struct Draft<'a> {
    rows: Box<dyn Sort>,
    /// Where names of one file stay together: on which sides they share its bytes and attributes.
    links: Option<Pair<bool>>,
    /// Directories that move before anything is copied.
    pub moves: Arc<Moves>,
    base: &'a Base,
    /// What it will do to each side.
    pub tally: Pair<Tally>,
    /// Something that needs no step is not what was agreed on before.
    pub shifted: bool,
    /// Conflicts met.
    pub conflicts: Met,
    /// Problems met.
    pub problems: Vec<Problem>,
    /// Deletions that gave way.
    pub yielded: Vec<(RelPath, Side)>,
    /// What has other attributes than one of the sides gave it: how many, and the first ones.
    pub tied: (u64, Vec<RelPath>),
    /// Slots of which more than one step must be done: what the base is to say.
    pub parts: Vec<(Slot, Settle)>,
    /// Files of several names whose attributes this plan sets under one of them.
    regrouped: HashSet<(Side, u64)>,
    circles: BTreeMap<(Side, RelPath), Circle>,
    made: Made,
}

/// So many of what has other attributes are named.
const TOLD: usize = 4;

/// Steps that exchange names around a circle.
#[derive(Default)]
struct Circle {
    members: usize,
    steps: Vec<(Vec<u8>, Item)>,
}

impl<'a> Draft<'a> {
    /// An empty plan; with `links`, names of one file stay together, on these sides as one file.
    pub fn new(
        shelf: &dyn Shelf,
        base: &'a Base,
        moves: Arc<Moves>,
        links: Option<Pair<bool>>,
    ) -> Result<Self> {
        Ok(Self {
            rows: shelf.sorter()?,
            links,
            moves,
            base,
            tally: Pair::default(),
            shifted: false,
            conflicts: Met::new(base),
            problems: Vec::new(),
            yielded: Vec::new(),
            tied: (0, Vec::new()),
            parts: Vec::new(),
            regrouped: HashSet::new(),
            circles: BTreeMap::new(),
            made: Made::default(),
        })
    }

    /// Where a step comes in the order.
    fn key(&self, slot: &Slot, step: &Step) -> Vec<u8> {
        let phase = Phase::of(step, &self.moves, self.links.is_some(), &self.made);
        key(phase, slot, Some(step), &self.moves)
    }

    /// Adds what was decided.
    pub fn add(&mut self, decision: Decision) -> Result<()> {
        match decision {
            Decision::Conflict(conflict) => {
                spare(&mut self.tally, &conflict);
                self.conflicts.add(&conflict)?;
            }
            Decision::Problem(problem) => self.problems.push(problem),
            Decision::Yielded { path, side } => self.yielded.push((path, side)),
            Decision::Tied(path) => {
                self.tied.0 += 1;
                if self.tied.1.len() < TOLD {
                    self.tied.1.push(path);
                }
            }
            Decision::Settle(settle) => self.settle(*settle)?,
        }
        Ok(())
    }

    /// True when attributes are to be set on, or taken from, a file that this plan sets under another name of it: what holds
    /// for that name is then no longer what was seen, and the next run decides. Two names of one file, each with what the
    /// base says of it, would for ever be given each other's attributes.
    fn crosses(&mut self, settle: &Settle) -> bool {
        let only_attributes = settle.steps.iter().all(|step| step.action == Action::Metadata);
        let Some(row) = settle.row.as_ref().filter(|_| only_attributes) else {
            return false;
        };
        let shared = self.links.unwrap_or_default();
        let names = Pair::each(|side| match row[side].as_ref().map(|seen| &seen.entry) {
            Some(Entry::File(_, _, Some(link))) if shared[side] => Some((side, link.0)),
            _ => None,
        });
        let mut both = Side::BOTH.iter().filter_map(|&side| names[side]);
        if !settle.steps.is_empty() && both.any(|name| self.regrouped.contains(&name)) {
            return true;
        }
        self.regrouped
            .extend(settle.steps.iter().filter_map(|step| names[step.side]));
        false
    }

    fn settle(&mut self, mut settle: Settle) -> Result<()> {
        for step in &mut settle.steps {
            self.made.note(step);
            if let Some((hub, members)) = self.moves.route(step) {
                let circle = self.circles.entry((step.side, hub)).or_default();
                circle.members = members;
            }
        }
        if self.crosses(&settle) {
            return Ok(());
        }
        self.shifted |= settle.steps.is_empty() && self.shifts(&settle)?;
        for step in &settle.steps {
            self.tally[step.side].add(step);
        }
        if self.links.is_some() {
            self.note_member(&settle)?;
        }
        let Settle {
            slot,
            row,
            was,
            mut steps,
        } = settle;
        match steps.len() {
            0 => {
                let key = key(Phase::Agreed, &slot, None, &self.moves);
                self.push(
                    &key,
                    &Item {
                        slot,
                        step: None,
                        member: None,
                        sole: Some((row, was)),
                    },
                )
            }
            1 => {
                let step = steps.remove(0);
                let key = self.key(&slot, &step);
                self.push(
                    &key,
                    &Item {
                        slot,
                        step: Some(step),
                        member: None,
                        sole: Some((row, was)),
                    },
                )
            }
            _ => {
                for step in &steps {
                    let key = self.key(&slot, step);
                    self.push(
                        &key,
                        &Item {
                            slot: slot.clone(),
                            step: Some(step.clone()),
                            member: None,
                            sole: None,
                        },
                    )?;
                }
                self.parts.push((
                    slot.clone(),
                    Settle {
                        slot,
                        row,
                        was,
                        steps,
                    },
                ));
                Ok(())
            }
        }
    }

    /// True when a row will say something else than it did, not only that it was looked at again.
    fn shifts(&self, settle: &Settle) -> Result<bool> {
        if self.shifted {
            return Ok(true);
        }
        let before = self
            .base
            .row(settle.was.as_ref().map_or(&settle.slot, |was| &was.slot))?;
        Ok(settle.was.is_some() || !says_the_same(before.as_ref(), settle.row.as_ref()))
    }

    /// A name that stands on both sides already may lead the group of links that new names join.
    fn note_member(&mut self, settle: &Settle) -> Result<()> {
        let Some(row) = settle.row.as_ref().filter(|_| settle.steps.is_empty()) else {
            return Ok(());
        };
        for side in Side::BOTH {
            let Some(Entry::File(_, _, Some(link))) = row[side].as_ref().map(|seen| &seen.entry) else {
                continue;
            };
            let mut key = vec![Phase::Link as u8, side.other() as u8];
            key.extend_from_slice(&link.0.to_be_bytes());
            key.push(0);
            key.extend_from_slice(settle.slot.as_bytes());
            self.push(
                &key,
                &Item {
                    slot: settle.slot.clone(),
                    step: None,
                    member: Some(side.other()),
                    sole: Some((settle.row.clone(), None)),
                },
            )?;
        }
        Ok(())
    }

    /// Steps of a circle wait for each other: all of them are done, or none.
    fn push(&mut self, key: &[u8], item: &Item) -> Result<()> {
        if let Some(step) = &item.step
            && let Some(From::Exchange(hub)) = &step.change.from
        {
            let circle = self.circles.entry((step.side, hub.clone())).or_default();
            circle.steps.push((key.to_vec(), item.clone()));
            return Ok(());
        }
        self.rows.push(key, &encode(item)?)
    }

    /// The rows in order.
    pub fn finish(mut self) -> Result<Plan> {
        let moves = self.moves.clone();
        for (rank, (from, to)) in (0_u64..).zip(moves.behind()) {
            let slot = Slot::of(&to, true);
            let key = [&[Phase::Behind as u8][..], &rank.to_be_bytes(), slot.as_bytes()].concat();
            let was = Was {
                slot: Slot::of(&from, true),
                reused: false,
                carried: false,
            };
            let item = Item {
                slot,
                step: None,
                member: None,
                sole: Some((None, Some(was))),
            };
            self.push(&key, &item)?;
        }
        let mut broken = Vec::new();
        for circle in std::mem::take(&mut self.circles).into_values() {
            let whole = circle.members == circle.steps.len();
            for (key, item) in circle.steps {
                if whole {
                    self.rows.push(&key, &encode(&item)?)?;
                } else {
                    broken.push(item.slot.path());
                }
            }
        }
        let parts = self.parts.into_iter().collect();
        Ok(Plan {
            rows: self.rows.finish()?,
            ahead: None,
            parts,
            broken,
        })
    }
}

/// Whether two rows speak of the same things with the same attributes. What one of them knows of the bytes and the other does not is no
/// difference: a file that was read once more is what it was.
fn says_the_same(before: Option<&Row>, after: Option<&Row>) -> bool {
    Side::BOTH.into_iter().all(|side| {
        let seen = [before, after].map(|row| row.and_then(|row| row[side].as_ref()));
        match seen.map(|seen| seen.map(|seen| &seen.entry)) {
            [Some(before), Some(after)] => {
                before.meta() == after.meta() && before.same_content(after) != Sameness::Differs
            }
            [before, after] => before.is_none() && after.is_none(),
        }
    })
}

/// Bytes of the file that a step makes.
pub fn size(step: &Step) -> u64 {
    step.change.new.as_ref().map_or(0, Entry::size)
}

/// Bytes of content that a step brings to its side.
pub fn copied(step: &Step) -> u64 {
    if step.source.is_some() && step.action != Action::Move {
        size(step)
    } else {
        0
    }
}

/// A complete plan, read once from first to last.
pub struct Plan {
    rows: Rows,
    ahead: Option<(Phase, u64, Item)>,
    /// Slots of which more than one step must be done.
    pub parts: std::collections::HashMap<Slot, Settle>,
    /// New names of what was to move and stays where it is.
    pub broken: Vec<RelPath>,
}

impl Plan {
    /// The next item of `phase` with its link group, if the plan stands there.
    pub fn next_of(&mut self, phase: Phase) -> Result<Option<(u64, Item)>> {
        if self.ahead.is_none() {
            self.ahead = self
                .rows
                .next()
                .transpose()?
                .map(|(key, value)| read(&key, &value))
                .transpose()?;
        }
        match &self.ahead {
            Some((at, ..)) if *at == phase => Ok(self.ahead.take().map(|(_, group, item)| (group, item))),
            _ => Ok(None),
        }
    }

    /// A plan whose rows come from elsewhere.
    pub fn of(rows: Rows, parts: std::collections::HashMap<Slot, Settle>, broken: Vec<RelPath>) -> Self {
        Self {
            rows,
            ahead: None,
            parts,
            broken,
        }
    }

    /// The rows as they are sorted.
    pub fn into_rows(self) -> impl Iterator<Item = Result<(Vec<u8>, Item)>> {
        self.rows
            .map(|row| row.and_then(|(key, value)| Ok((key, decode(&value)?))))
    }

    /// The next item and its phase.
    pub fn next(&mut self) -> Result<Option<(Phase, Item)>> {
        for phase in Phase::ALL {
            if let Some((_, item)) = self.next_of(phase)? {
                return Ok(Some((phase, item)));
            }
        }
        Ok(None)
    }
}

/// The phase that a row lies in, by its key.
pub fn phase_of(key: &[u8]) -> Phase {
    let number = key.first().map_or(usize::MAX, |&byte| usize::from(byte));
    Phase::ALL[number.min(Phase::ALL.len() - 1)]
}

fn read(key: &[u8], value: &[u8]) -> Result<(Phase, u64, Item)> {
    let phase = phase_of(key);
    let group = if phase == Phase::Link {
        key[2..10].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    } else {
        0
    };
    Ok((phase, group, decode(value)?))
}

#[cfg(test)]
mod tests {
    use syncline_model::{Content, Digest, Meta, Observation, Stamp, Tag, Time};

    use super::*;

    fn row(content: Content, mode: u32, ctime: i64) -> Row {
        let meta = Meta {
            mode: Some(mode),
            ..Meta::default()
        };
        let tag = Tag::Stamp(Stamp {
            fs: 1,
            inode: 2,
            ctime: Time {
                secs: ctime,
                nanos: 0,
            },
        });
        let seen = Observation {
            entry: Entry::File(meta, content, None),
            tag,
        };
        Pair::new(Some(seen.clone()), Some(seen))
    }

    #[test]
    fn to_read_a_file_again_says_nothing_new() {
        let read = |byte: u8| Content {
            digest: Some(Digest([byte; 32])),
            ..Content::unread(5)
        };
        let before = row(Content::unread(5), 0o644, 1);
        assert!(says_the_same(Some(&before), Some(&row(read(1), 0o644, 9))));
        assert!(says_the_same(None, None));
        let before = row(read(1), 0o644, 1);
        for after in [
            row(read(2), 0o644, 1),
            row(Content::unread(6), 0o644, 1),
            row(read(1), 0o600, 1),
        ] {
            assert!(!says_the_same(Some(&before), Some(&after)), "{after:?}");
        }
        assert!(!says_the_same(Some(&before), None) && !says_the_same(None, Some(&before)));
        let one = Pair::new(before.left.clone(), None);
        assert!(!says_the_same(Some(&before), Some(&one)));
    }
}

//! Names where one side takes several for one: letters of either case, composed and decomposed characters.
//!
//! Both trees and the base are brought together by the folded name, on disk. What has one name on both sides gets one path: as the side
//! spells it that tells more names apart (the *strict* side). The other one (the *folding* side) keeps its own spelling, under which the
//! path is found there anyway; the base notes it where it differs, so that a renaming from "readme" to "README" there is seen as one.
//!
//! Invariant: names of one side that would be one on the other are opaque, all of them, and nothing below them is decided: neither
//! ever takes the other's place. Each of the three streams leaves here strictly ascending, as it came.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use syncline_model::fold::Folding;
use syncline_model::moves::identity;
use syncline_model::{
    Entry, Fault, Kind, Observation, Pair, RelPath, Result, Row, Seen, Side, Slot, Tag, Trouble, Why,
};
use syncline_replica::{Replica, Walk};
use syncline_store::Rows;

use crate::rows::{Base, decode, encode};
use crate::shelf::{Shelf, Sort};

/// Entries of one batch.
const BATCH: usize = 1024;
/// Most names that a message lists.
const NAMED: usize = 4;

/// Rows of the base in order: the slot, the row, and the slot under which the base has it where that is another.
pub type BaseRows = Box<dyn Iterator<Item = Result<(Slot, Row, Option<Slot>)>> + Send>;

/// Two walks and the base, one path for one name.
pub struct Respelled {
    /// The walks.
    pub walks: Pair<Box<dyn Walk>>,
    /// The base.
    pub base: BaseRows,
}

/// How the names of two sides are one.
pub struct Spelling<'a> {
    /// What each side does not tell apart.
    folds: Pair<Folding>,
    /// The side whose spelling follows the other's.
    folding: Side,
    labels: Pair<String>,
    base: &'a Base,
    /// Only some paths are looked at, in the spelling in which they were typed: no spelling is learnt from them.
    part: bool,
}

/// One row of the three streams.
#[derive(Serialize, Deserialize)]
enum Member {
    Base(Slot, Row),
    Seen(Side, Slot, Observation),
}

/// All that has one folded name.
#[derive(Default)]
struct Group {
    base: Vec<(Slot, Row)>,
    seen: Pair<Vec<Seen>>,
}

/// An open directory: its folded name, and what its paths are called from here on.
struct Level {
    folded: Vec<u8>,
    /// For the base and the strict side; `None`: as they come.
    strict: Option<RelPath>,
    /// For the folding side.
    folding: Option<RelPath>,
    /// Nothing is decided here.
    frozen: bool,
}

/// The streams as they leave.
struct Out {
    base: Box<dyn Sort>,
    seen: Pair<Box<dyn Sort>>,
    /// Spellings to be noted: path, and the last name where it differs.
    spelt: Vec<(RelPath, Option<Vec<u8>>)>,
}

impl<'a> Spelling<'a> {
    /// `None` where both sides tell all names apart.
    pub fn of(sides: &Pair<std::sync::Arc<dyn Replica>>, base: &'a Base, part: bool) -> Option<Self> {
        let folds = Pair::each(|side| Folding::of(sides[side].profile()));
        let folding = if folds.right.any() {
            Side::Right
        } else {
            Side::Left
        };
        folds[folding].any().then(|| Self {
            folds,
            folding,
            labels: Pair::each(|side| sides[side].profile().label.clone()),
            base,
            part,
        })
    }

    /// Reads both walks and the base through and brings them together.
    pub async fn respell(&self, walks: Pair<Box<dyn Walk>>, shelf: &dyn Shelf) -> Result<Respelled> {
        let fold = self.folds.left.or(self.folds.right);
        let mut together = shelf.sorter()?;
        let mut put = |slot: &Slot, member: &Member| {
            let mut key = fold.fold(slot.path_bytes());
            // No name holds a zero: what has one folded name stands together, and before what is below it.
            key.push(0);
            let length = key.len();
            key.extend_from_slice(slot.as_bytes());
            together.push(&key, &encode(&(length, member))?)
        };
        for row in self.base.rows() {
            let (slot, row) = row?;
            put(&slot.clone(), &Member::Base(slot, row))?;
        }
        let Pair { left, right } = walks;
        for (side, mut walk) in [(Side::Left, left), (Side::Right, right)] {
            while let Some(batch) = walk.next().await? {
                for Seen { slot, what } in batch {
                    put(&slot.clone(), &Member::Seen(side, slot, what))?;
                }
            }
        }
        let mut out = Out {
            base: shelf.sorter()?,
            seen: Pair::new(shelf.sorter()?, shelf.sorter()?),
            spelt: Vec::new(),
        };
        let mut levels: Vec<Level> = Vec::new();
        let mut open: Option<(Vec<u8>, Group)> = None;
        for row in together.finish()? {
            let (mut key, value) = row?;
            let (length, member): (usize, Member) = decode(&value)?;
            key.truncate(length.saturating_sub(1));
            if open.as_ref().is_some_and(|(folded, _)| *folded != key)
                && let Some((folded, group)) = open.take()
            {
                self.group(folded, group, &mut levels, &mut out)?;
            }
            let (_, group) = open.get_or_insert_with(|| (key, Group::default()));
            match member {
                Member::Base(slot, row) => group.base.push((slot, row)),
                Member::Seen(side, slot, what) => group.seen[side].push(Seen { slot, what }),
            }
        }
        if let Some((folded, group)) = open {
            self.group(folded, group, &mut levels, &mut out)?;
        }
        self.base
            .note_spellings(self.folding, std::mem::take(&mut out.spelt))?;
        out.streams()
    }

    /// Names one group.
    fn group(&self, folded: Vec<u8>, group: Group, levels: &mut Vec<Level>, out: &mut Out) -> Result<()> {
        let below = |level: &Level| {
            folded.len() > level.folded.len()
                && folded.starts_with(&level.folded)
                && folded[level.folded.len()] == b'/'
        };
        while levels.last().is_some_and(|level| !below(level)) {
            levels.pop();
        }
        let dirs = group.base.iter().any(|(slot, _)| slot.is_dir())
            || Side::BOTH
                .iter()
                .any(|&side| group.seen[side].iter().any(|seen| seen.slot.is_dir()));
        let above = levels.last();
        if above.is_some_and(|level| level.frozen) {
            return Ok(());
        }
        let (strict, folding, frozen) = match above {
            _ if self.clashes(&group) => (None, None, self.clash(group, out)?),
            _ if Side::BOTH.iter().any(|&side| group.seen[side].len() > 1) => {
                self.as_they_come(group, above, out)?
            }
            _ => self.one_name(group, above, out)?,
        };
        if dirs {
            levels.push(Level {
                folded,
                strict,
                folding,
                frozen,
            });
        }
        Ok(())
    }

    /// Several names of one side that would be one on the other, which has not got them all.
    fn clashes(&self, group: &Group) -> bool {
        Side::BOTH.iter().any(|&side| {
            group.seen[side].len() > 1 && group.seen[side.other()].len() < 2 && self.folds[side.other()].any()
        })
    }

    /// All are left alone, and all below them; those that clash say why. The base keeps what it says.
    fn clash(&self, group: Group, out: &mut Out) -> Result<bool> {
        let mut seen = group.seen;
        let many = if seen.left.len() > 1 {
            Side::Left
        } else {
            Side::Right
        };
        let names: Vec<String> = seen[many].iter().map(|seen| last(&seen.slot)).collect();
        let first = seen[many].first().map(|seen| seen.slot.path());
        let other: Vec<Seen> = std::mem::take(&mut seen[many.other()]);
        let same = |slot: &Slot| seen[many].iter().any(|one| one.slot == *slot);
        for mut one in other {
            if !same(&one.slot)
                && let Some(first) = &first
            {
                one.slot = Slot::of(first, one.slot.is_dir());
            }
            one.what = opaque(Why::Excluded);
            out.seen(many.other(), &one)?;
        }
        for mut one in std::mem::take(&mut seen[many]) {
            let own = last(&one.slot);
            let others: Vec<&str> = names
                .iter()
                .filter(|name| **name != own)
                .take(NAMED)
                .map(String::as_str)
                .collect();
            let message = if others.is_empty() {
                format!(
                    "a file and a directory are called \"{own}\" here, which is one name on {}",
                    self.labels[many.other()]
                )
            } else {
                format!(
                    "\"{own}\" and \"{}\" are one name on {}",
                    others.join("\", \""),
                    self.labels[many.other()]
                )
            };
            let trouble = Trouble::new(Kind::Exists, message).hint("rename all of them but one");
            one.what = opaque(Why::Name(trouble));
            out.seen(many, &one)?;
        }
        Ok(true)
    }

    /// Each keeps its own name: both sides have them all.
    fn as_they_come(&self, group: Group, above: Option<&Level>, out: &mut Out) -> Result<Named> {
        for (slot, row) in group.base {
            out.base(&slot, &row, None)?;
        }
        let dir = above.and_then(|level| level.folding.as_ref());
        for side in Side::BOTH {
            for one in &group.seen[side] {
                let mut one = one.clone();
                if let Some(dir) = dir.filter(|_| side == self.folding) {
                    one.slot = Slot::of(&within(dir, &one.slot), one.slot.is_dir());
                }
                out.seen(side, &one)?;
            }
        }
        Ok((None, None, false))
    }

    /// At most one name on each side: they are one.
    fn one_name(&self, group: Group, above: Option<&Level>, out: &mut Out) -> Result<Named> {
        let strict_side = self.folding.other();
        let q = group.seen[strict_side].first();
        let x = group.seen[self.folding].first();
        let known = q
            .and_then(|q| group.base.iter().find(|(slot, _)| slot.path() == q.slot.path()))
            .or_else(|| group.base.iter().find(|(_, row)| row[self.folding].is_some()))
            .or_else(|| group.base.first());
        let dir = above.and_then(|level| level.strict.as_ref());
        let strict = match (q, known) {
            (Some(q), _) => Some(q.slot.path()),
            (None, Some((slot, _))) => Some(dir.map_or_else(|| slot.path(), |dir| within(dir, slot))),
            (None, None) => None,
        };
        let known_at = known.map(|(slot, _)| slot.clone());
        let folding = match x {
            Some(x) => Some(self.folding_path(x, known, strict.as_ref(), above, out)?),
            None => strict.clone(),
        };
        for (slot, row) in &group.base {
            let taken = Some(slot) == known_at.as_ref();
            match strict.as_ref().filter(|strict| taken && **strict != slot.path()) {
                Some(path) => out.base(&Slot::of(path, slot.is_dir()), row, Some(slot))?,
                None => out.base(slot, row, None)?,
            }
        }
        if let Some(q) = q {
            out.seen(strict_side, q)?;
        }
        if let (Some(x), Some(path)) = (x, &folding) {
            let mut one = x.clone();
            one.slot = Slot::of(path, x.slot.is_dir());
            out.seen(self.folding, &one)?;
        }
        let strict = strict.or_else(|| folding.clone());
        Ok((strict, folding, false))
    }

    /// The path of what the folding side shows: the name that both have agreed on, unless it was renamed there.
    fn folding_path(
        &self,
        x: &Seen,
        known: Option<&(Slot, Row)>,
        strict: Option<&RelPath>,
        above: Option<&Level>,
        out: &mut Out,
    ) -> Result<RelPath> {
        let own = x.slot.path();
        let dir = above
            .and_then(|level| level.folding.clone())
            .or_else(|| own.parent())
            .unwrap_or_default();
        let renamed = match known {
            Some((slot, row)) if !self.part && !self.folds[self.folding.other()].any() => {
                let before = self.base.spelling(self.folding, &slot.path())?;
                let before = before.unwrap_or_else(|| last_bytes(&slot.path()));
                row[self.folding].as_ref().is_some_and(|known| {
                    let same = identity(self.folding, &x.what);
                    same.is_some()
                        && same == identity(self.folding, known)
                        && self.other_name(&before, &last_bytes(&own))
                })
            }
            _ => false,
        };
        let name = match strict {
            Some(strict) if !renamed => strict.name(),
            _ => own.name(),
        };
        let path = name.map_or_else(|| own.clone(), |name| dir.join(&name));
        if !self.part {
            let spelt = Some(last_bytes(&own)).filter(|own| *own != last_bytes(&path));
            if self.base.spelling(self.folding, &path)? != spelt {
                out.spelt.push((path.clone(), spelt));
            }
        }
        Ok(path)
    }

    /// True when somebody chose another name; a place that normalises chooses by itself.
    fn other_name(&self, before: &[u8], now: &[u8]) -> bool {
        let forms = Folding {
            case: false,
            forms: self.folds[self.folding].forms,
        };
        forms.fold(before) != forms.fold(now)
    }
}

/// What the paths below a group are called: on the strict side, on the folding side; whether they are left alone.
type Named = (Option<RelPath>, Option<RelPath>, bool);

impl Out {
    fn base(&mut self, slot: &Slot, row: &Row, was: Option<&Slot>) -> Result<()> {
        self.base.push(slot.as_bytes(), &encode(&(row, was))?)
    }

    fn seen(&mut self, side: Side, seen: &Seen) -> Result<()> {
        self.seen[side].push(seen.slot.as_bytes(), &encode(&seen.what)?)
    }

    fn streams(self) -> Result<Respelled> {
        let rows = self.base.finish()?;
        let base = Box::new(rows.map(|row| {
            let (slot, value) = row?;
            let (row, was): (Row, Option<Slot>) = decode(&value)?;
            Ok((slot_of(slot)?, row, was))
        }));
        let Pair { left, right } = self.seen;
        let walk = |rows: Rows| -> Box<dyn Walk> { Box::new(Sorted(rows)) };
        Ok(Respelled {
            walks: Pair::new(walk(left.finish()?), walk(right.finish()?)),
            base,
        })
    }
}

/// A walk over sorted rows.
struct Sorted(Rows);

#[async_trait]
impl Walk for Sorted {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some((slot, what)) = self.0.next().transpose()? else {
                break;
            };
            batch.push(Seen {
                slot: slot_of(slot)?,
                what: decode(&what)?,
            });
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

fn slot_of(bytes: Vec<u8>) -> Result<Slot> {
    Slot::new(bytes).map_err(|bad| Fault::new(Kind::Bug, bad.to_string(), ""))
}

fn opaque(why: Why) -> Observation {
    Observation {
        entry: Entry::Opaque(why),
        tag: Tag::None,
    }
}

fn last(slot: &Slot) -> String {
    slot.path()
        .name()
        .map_or_else(String::new, |name| name.to_string())
}

fn last_bytes(path: &RelPath) -> Vec<u8> {
    path.name().map_or_else(Vec::new, |name| name.as_bytes().to_vec())
}

/// The path of the same last name in another directory.
fn within(dir: &RelPath, slot: &Slot) -> RelPath {
    let path = slot.path();
    path.name().map_or_else(|| path.clone(), |name| dir.join(&name))
}

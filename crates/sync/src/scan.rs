//! Both trees and the base, read at once in the one order; what is not as it was goes on.
//!
//! Invariant: a stream that ends with an error ends the run: nothing is concluded from half a listing.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::iter::Peekable;

use syncline_model::diff::{Beside, Joined, Replaced, join};
use syncline_model::replica::Scope;
use syncline_model::{Entry, Fault, Kind, Pair, RelPath, Result, Rule, Seen, Side, Slot, Triple, Was, Why};
use syncline_replica::{Replica, Walk};

use crate::api::Env;
use crate::parallel::Prefetched;
use crate::rows::Base;
use crate::shelf::Shelf;
use crate::spelling::{BaseRows, Respelled, Spelling};

/// Batches of a walk that are read ahead: where one side has a directory that the other lacks, the other reads on.
const AHEAD: usize = 32;

/// Entries of one side as they come.
struct Feed {
    walk: Prefetched<Vec<Seen>>,
    /// Directories that lead to where the walk begins, in order.
    above: VecDeque<Seen>,
    batch: std::vec::IntoIter<Seen>,
    done: bool,
    counts: Seenings,
}

/// What was seen of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seenings {
    /// Entries in all.
    pub entries: u64,
    /// Files, links and specials.
    pub leaves: u64,
}

impl Feed {
    async fn fill(&mut self) -> Result<()> {
        while !self.done && self.slot().is_none() {
            match self.walk.next().await? {
                Some(batch) => self.batch = self.with_above(batch).into_iter(),
                None if self.above.is_empty() => self.done = true,
                None => self.batch = Vec::from(std::mem::take(&mut self.above)).into_iter(),
            }
        }
        Ok(())
    }

    fn with_above(&mut self, mut batch: Vec<Seen>) -> Vec<Seen> {
        let Some(last) = batch.last().map(|seen| seen.slot.clone()) else {
            return batch;
        };
        let before = self.above.iter().take_while(|seen| seen.slot < last).count();
        if before > 0 {
            batch.extend(self.above.drain(..before));
            batch.sort_by(|a, b| a.slot.cmp(&b.slot));
        }
        batch
    }

    /// The slot that comes next.
    fn slot(&self) -> Option<&Slot> {
        self.batch.as_slice().first().map(|seen| &seen.slot)
    }

    fn take(&mut self) -> Option<Seen> {
        let seen = self.batch.next()?;
        self.counts.entries += 1;
        self.counts.leaves += u64::from(!seen.slot.is_dir() && !seen.what.entry.is_opaque());
        Some(seen)
    }
}

/// The directories that lead to the paths of `only`: what is below them is decided on, so they must be seen.
async fn above(replica: &dyn Replica, scope: &Scope) -> Result<VecDeque<Seen>> {
    let paths: BTreeSet<RelPath> = scope
        .only
        .iter()
        .flat_map(|only| std::iter::successors(only.parent(), RelPath::parent))
        .filter(|path| !path.is_root() && !scope.only.iter().any(|only| path.is_within(only)))
        .collect();
    let mut found = Vec::new();
    for path in paths {
        if let Some(what) = replica.find(&path, scope).await? {
            let slot = Slot::of(&path, what.entry.is_dir());
            found.push(Seen { slot, what });
        }
    }
    found.sort_by(|a, b| a.slot.cmp(&b.slot));
    Ok(found.into())
}

/// The three streams.
pub struct Join<'r> {
    rule: &'r Rule,
    checksum: bool,
    only: Vec<RelPath>,
    feeds: Pair<Feed>,
    base: Peekable<BaseRows>,
    last: Option<Slot>,
    dirty_dirs: Vec<Slot>,
    replaced: Replaced,
    beside: Beside,
}

impl<'r> Join<'r> {
    /// Opens both trees.
    pub async fn open(
        env: &Env,
        sides: &Pair<std::sync::Arc<dyn Replica>>,
        base: &Base,
        shelf: &dyn Shelf,
        scope: &Scope,
        rule: &'r Rule,
        checksum: bool,
    ) -> Result<Self> {
        let feed = |walk: Box<dyn Walk>, above| Feed {
            // Both trees are read while rows are joined.
            walk: Prefetched::of(env, AHEAD, walk, |mut walk| async move {
                let batch = walk.next().await;
                (walk, batch)
            }),
            above,
            batch: Vec::new().into_iter(),
            done: false,
            counts: Seenings::default(),
        };
        let walks = Pair::new(sides.left.scan(scope).await?, sides.right.scan(scope).await?);
        let Respelled { walks, base: rows } = match Spelling::of(sides, base, !scope.only.is_empty()) {
            Some(spelling) => spelling.respell(walks, shelf).await?,
            None => Respelled {
                walks,
                base: Box::new(base.rows().map(|row| row.map(|(slot, row)| (slot, row, None)))),
            },
        };
        let Pair { left, right } = walks;
        let on_the_way = Pair::new(
            above(&*sides.left, scope).await?,
            above(&*sides.right, scope).await?,
        );
        Ok(Self {
            rule,
            checksum,
            only: scope.only.clone(),
            feeds: Pair::new(feed(left, on_the_way.left), feed(right, on_the_way.right)),
            base: rows.peekable(),
            last: None,
            dirty_dirs: Vec::new(),
            replaced: Replaced::default(),
            beside: Beside::default(),
        })
    }

    /// What was seen so far.
    pub fn counts(&self) -> Pair<Seenings> {
        Pair::each(|side| self.feeds[side].counts)
    }

    /// True when the base has rows, before the first is taken.
    pub fn has_base(&mut self) -> bool {
        self.base.peek().is_some()
    }

    /// The next slots that are not as they were, up to `limit`; `None` at the end.
    pub async fn next(&mut self, limit: usize) -> Result<Option<Vec<Triple>>> {
        let mut dirty = Vec::new();
        let mut looked = 0;
        while dirty.len() < limit && looked < 65_536 {
            self.feeds.left.fill().await?;
            self.feeds.right.fill().await?;
            let ready = |feed: &Feed| feed.done || feed.slot().is_some();
            while dirty.len() < limit && ready(&self.feeds.left) && ready(&self.feeds.right) {
                looked += 1;
                if !self.step(&mut dirty)? {
                    return Ok((!dirty.is_empty()).then_some(dirty));
                }
            }
        }
        Ok(Some(dirty))
    }

    /// Looks at the lowest slot; puts it to `dirty` when it is not as it was. False when all three have ended.
    fn step(&mut self, dirty: &mut Vec<Triple>) -> Result<bool> {
        if let Some(Err(_)) = self.base.peek() {
            return Err(self.base.next().and_then(Result::err).unwrap_or_else(out_of_step));
        }
        let base = match self.base.peek() {
            Some(Ok((slot, ..))) => Some(slot),
            _ => None,
        };
        let heads = [base, self.feeds.left.slot(), self.feeds.right.slot()];
        let [in_base, in_left, in_right] = lowest(heads);
        let (mut row, mut was, mut slot) = (None, None, None);
        if in_base && let Some((at, known, before)) = self.base.next().transpose()? {
            (row, was, slot) = (Some(known), before, Some(at));
        }
        let mut now = Pair::new(None, None);
        for (side, there) in [(Side::Left, in_left), (Side::Right, in_right)] {
            if there && let Some(seen) = self.feeds[side].take() {
                now[side] = Some(seen.what);
                slot = Some(seen.slot);
            }
        }
        let Some(slot) = slot else {
            return Ok(false);
        };
        if self.last.as_ref().is_some_and(|last| *last >= slot) {
            return Err(Fault::new(Kind::Corrupt, "scan: a name is out of order", &slot));
        }
        if self.in_scope(&slot) {
            let keep = self.replaced.around(&slot, row.as_ref(), &now);
            let mut joined = join(&slot, row, now, self.rule, self.checksum, keep);
            if let Some(was) = was {
                joined = respelt(joined, was);
            }
            for triple in self.beside.pass(joined).into_iter().flatten() {
                if self.matters(&triple) {
                    dirty.push(triple);
                }
            }
        }
        self.last = Some(slot);
        Ok(true)
    }

    /// Below `--only`, or on the way there.
    fn in_scope(&self, slot: &Slot) -> bool {
        self.only.is_empty() || {
            let path = slot.path();
            self.only
                .iter()
                .any(|only| path.is_within(only) || (slot.is_dir() && only.is_within(&path)))
        }
    }

    /// An excluded name matters only below a directory that is not as it was: it may keep that alive.
    fn matters(&mut self, triple: &Triple) -> bool {
        while self
            .dirty_dirs
            .last()
            .is_some_and(|dir| !triple.slot.is_below(dir))
        {
            self.dirty_dirs.pop();
        }
        let excluded = Side::BOTH.iter().all(|&side| {
            triple.now[side]
                .as_ref()
                .is_none_or(|located| located.seen.entry == Entry::Opaque(Why::Excluded))
        }) && (triple.now.left.is_some() || triple.now.right.is_some());
        if excluded {
            return !self.dirty_dirs.is_empty();
        }
        if triple.slot.is_dir() {
            self.dirty_dirs.push(triple.slot.clone());
        }
        true
    }
}

/// What the base has under another spelling goes on in any case: its row has to move.
fn respelt(joined: Joined, was: Slot) -> Joined {
    let (Joined::Dirty(mut triple) | Joined::Clean(mut triple)) = joined;
    triple.was = Some(Was {
        slot: was,
        reused: false,
        carried: false,
    });
    Joined::Dirty(triple)
}

/// Which of the streams stand at the lowest slot.
fn lowest(heads: [Option<&Slot>; 3]) -> [bool; 3] {
    let mut found = [false; 3];
    let mut low: Option<&Slot> = None;
    for (at, head) in heads.into_iter().enumerate() {
        let Some(head) = head else { continue };
        match low.map_or(Ordering::Less, |low| head.cmp(low)) {
            Ordering::Less => {
                found = [false; 3];
                low = Some(head);
            }
            Ordering::Equal => {}
            Ordering::Greater => continue,
        }
        found[at] = true;
    }
    found
}

fn out_of_step() -> Fault {
    Fault::new(Kind::Bug, "scan: the base lost a row while it was read", "")
}

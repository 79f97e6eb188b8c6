//! A tree as a stream: worker threads list directories ahead, always the first in the order that nobody has begun;
//! the consumer walks in the order and does itself what nobody has begun.
//!
//! Invariant: rows come in strictly ascending order, each directory right before what is in it. What lies ready ahead
//! of the consumer is bounded; whoever has begun a directory finishes it without waiting, so the consumer never waits
//! for somebody who waits for it. Without workers everything happens on the caller's thread, in one order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use async_trait::async_trait;
use syncline_model::{Entry, Kind, Result, Seen, Slot, Spawn};
use syncline_store::Disk;

use super::listing::{Lister, Listing, Rest, unreadable};
use super::observe::held;
use crate::seam::Walk;

/// Rows of one batch.
const BATCH: usize = 1024;
/// Rows that may lie ready ahead of the consumer when a worker begins another directory.
const AHEAD: usize = 65_536;
/// Directories that one listing offers to the workers at a time, and that are offered in all.
const OFFER: usize = 1024;
const OFFERED: usize = 16 * OFFER;
/// Rows of a large directory that are looked at in one go.
const CHUNK: usize = 4096;

/// Directories that workers may take, have begun, have done.
struct Board<D: Disk> {
    pending: BTreeSet<Slot>,
    begun: BTreeSet<Slot>,
    ready: BTreeMap<Slot, Result<Listing<D>>>,
    /// Rows in `ready`.
    ahead: usize,
    /// What the consumer waits for.
    awaited: Option<Slot>,
    closed: bool,
}

struct Shared<D: Disk> {
    lister: Lister<D>,
    board: Mutex<Board<D>>,
    work: Condvar,
    done: Condvar,
}

fn weight<D: Disk>(outcome: &Result<Listing<D>>) -> usize {
    outcome.as_ref().map_or(16, |listing| listing.rows.len() + 16)
}

impl<D: Disk> Shared<D> {
    /// Lists directories until the walk is over.
    fn help(&self) {
        let mut board = held(&self.board);
        while !board.closed {
            let next = if board.ahead < AHEAD {
                board.pending.pop_first()
            } else {
                None
            };
            let Some(slot) = next else {
                board = self.work.wait(board).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            board.begun.insert(slot.clone());
            drop(board);
            let outcome = self.lister.list(Some(&slot));
            board = held(&self.board);
            board.begun.remove(&slot);
            board.ahead += weight(&outcome);
            if let Ok(listing) = &outcome
                && listing.dirs > 0
            {
                offer(&mut board, &listing.rows, OFFER);
                self.work.notify_all();
            }
            if board.awaited.as_ref() == Some(&slot) {
                self.done.notify_one();
            }
            board.ready.insert(slot, outcome);
        }
    }

    /// The rows of a directory: done already, waited for, or listed here and now.
    fn take(&self, slot: &Slot) -> Result<Listing<D>> {
        let mut board = held(&self.board);
        loop {
            if let Some(outcome) = board.ready.remove(slot) {
                let before = board.ahead;
                board.ahead -= weight(&outcome);
                if before >= AHEAD && board.ahead < AHEAD {
                    self.work.notify_all();
                }
                return outcome;
            }
            if !board.begun.contains(slot) {
                board.pending.remove(slot);
                drop(board);
                return self.lister.list(Some(slot));
            }
            board.awaited = Some(slot.clone());
            board = self.done.wait(board).unwrap_or_else(PoisonError::into_inner);
            board.awaited = None;
        }
    }
}

/// Puts the first `count` directories of `rows` on the board; returns how many rows were looked at.
fn offer<D: Disk>(board: &mut Board<D>, rows: &[Seen], count: usize) -> usize {
    let mut offered = 0;
    for (at, seen) in rows.iter().enumerate() {
        if offered == count {
            return at;
        }
        let taken = || board.begun.contains(&seen.slot) || board.ready.contains_key(&seen.slot);
        if seen.what.entry.is_dir() && !taken() {
            board.pending.insert(seen.slot.clone());
            offered += 1;
        }
    }
    while board.pending.len() > OFFERED {
        board.pending.pop_last();
    }
    rows.len()
}

/// One directory that the consumer is in.
struct Frame<D: Disk> {
    rows: std::vec::IntoIter<Seen>,
    dirs: usize,
    /// Of the rows that are left, so many were offered to the workers.
    offered: usize,
    rest: Option<Rest<D>>,
}

impl<D: Disk> Frame<D> {
    fn new(listing: Listing<D>) -> Self {
        Self {
            rows: listing.rows.into_iter(),
            dirs: listing.dirs,
            offered: 0,
            rest: listing.rest,
        }
    }
}

/// The consumer's side of a scan.
pub(crate) struct LocalWalk<D: Disk> {
    shared: Arc<Shared<D>>,
    frames: Vec<Frame<D>>,
    workers: usize,
    failed: bool,
}

impl<D: Disk> LocalWalk<D> {
    /// Begins a walk over `top`, the rows at its beginning, with so many workers beside the caller.
    pub fn new(lister: Lister<D>, top: Listing<D>, workers: usize, spawn: &Arc<dyn Spawn>) -> Self {
        let board = Board {
            pending: BTreeSet::new(),
            begun: BTreeSet::new(),
            ready: BTreeMap::new(),
            ahead: 0,
            awaited: None,
            closed: false,
        };
        let (work, done) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared {
            lister,
            board: Mutex::new(board),
            work,
            done,
        });
        for _ in 0..workers {
            let shared = Arc::clone(&shared);
            spawn.spawn(Box::pin(async move { shared.help() }));
        }
        Self {
            shared,
            frames: vec![Frame::new(top)],
            workers,
            failed: false,
        }
    }

    /// Keeps the workers busy: offers directories of the frames, the innermost first.
    fn feed(&mut self) {
        if self.workers == 0 || self.frames.iter().all(|frame| frame.dirs == 0) {
            return;
        }
        let mut board = held(&self.shared.board);
        if board.pending.len() >= OFFER / 2 {
            return;
        }
        for frame in self.frames.iter_mut().rev().filter(|frame| frame.dirs > 0) {
            let rows = frame.rows.as_slice();
            let from = frame.offered.min(rows.len());
            let before = board.pending.len();
            frame.offered = from + offer(&mut board, &rows[from..], OFFER);
            if board.pending.len() > before {
                self.shared.work.notify_all();
            }
            if board.pending.len() >= OFFER {
                return;
            }
        }
    }

    fn refill(&mut self) -> Result<bool> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(false);
        };
        let Some(rest) = &mut frame.rest else {
            return Ok(false);
        };
        let rows = self.shared.lister.more(rest, CHUNK)?;
        if rows.is_empty() {
            return Ok(false);
        }
        frame.dirs = rows.iter().filter(|seen| seen.what.entry.is_dir()).count();
        frame.rows = rows.into_iter();
        frame.offered = 0;
        Ok(true)
    }

    fn batch(&mut self) -> Result<Option<Vec<Seen>>> {
        let mut out = Vec::with_capacity(BATCH);
        while out.len() < BATCH {
            let Some(frame) = self.frames.last_mut() else {
                break;
            };
            if frame.dirs == 0 {
                let room = BATCH - out.len();
                out.extend(frame.rows.by_ref().take(room));
                frame.offered = 0;
                if frame.rows.len() == 0 && !self.refill()? {
                    self.frames.pop();
                }
                continue;
            }
            let Some(mut seen) = frame.rows.next() else {
                // All directories of these rows were passed: their count tells so.
                frame.dirs = 0;
                continue;
            };
            frame.offered = frame.offered.saturating_sub(1);
            if !matches!(seen.what.entry, Entry::Dir(_)) {
                out.push(seen);
                continue;
            }
            frame.dirs -= 1;
            self.feed();
            match self.shared.take(&seen.slot) {
                Ok(listing) => self.frames.push(Frame::new(listing)),
                Err(fault) if fault.is(Kind::NotFound) => continue,
                Err(fault) => seen.what = unreadable(&fault),
            }
            out.push(seen);
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

impl<D: Disk> Drop for LocalWalk<D> {
    fn drop(&mut self) {
        held(&self.shared.board).closed = true;
        self.shared.work.notify_all();
    }
}

#[async_trait]
impl<D: Disk> Walk for LocalWalk<D> {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        if self.failed {
            return Err(syncline_model::Fault::new(
                Kind::Bug,
                "the walk has ended with an error before",
                "",
            ));
        }
        let batch = self.batch();
        self.failed = batch.is_err();
        batch
    }
}

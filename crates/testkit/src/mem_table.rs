//! [`MemTable`]: a [`Table`] in memory that forgets at a crash what the real one may forget.
//!
//! Invariant: after [`MemTable::crash`] it holds a prefix of its batches, not shorter than the last `persist`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_model::{Fault, Kind, Result};
use syncline_store::table::check_key;
use syncline_store::{Batch, Changes, Rows, Table};

use crate::env::SeededDice;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A sorted map in memory. Clones are the same table, so one may be kept over the crash of its owner.
#[derive(Debug, Clone, Default)]
pub struct MemTable(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    live: Arc<Map>,
    durable: Map,
    /// Written since the last `persist`, in order.
    pending: Vec<Batch>,
    crashes: u64,
    lost: u64,
    /// Writes until one fails, when set.
    fail_in: Option<u64>,
}

fn apply(map: &mut Map, batch: &Batch) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

impl MemTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A power cut: of the batches since the last `persist` a prefix that `seed` chooses survives; as often as not it is
    /// all of them, as where the kernel had the time to write. Returns how many batches were lost.
    pub fn crash(&self, seed: u64) -> usize {
        let (dice, pending) = (SeededDice::new(seed), self.state().pending.len() as u64);
        let keep = if dice.chance(50) {
            pending
        } else {
            dice.below(pending + 1)
        };
        self.crash_keeping(usize::try_from(keep).unwrap_or(usize::MAX))
    }

    /// A power cut after which the first `keep` batches since the last `persist` are there.
    pub fn crash_keeping(&self, keep: usize) -> usize {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        let keep = keep.min(pending.len());
        for batch in &pending[..keep] {
            apply(&mut state.durable, batch);
        }
        state.live = Arc::new(state.durable.clone());
        state.crashes += 1;
        state.lost += (pending.len() - keep) as u64;
        state.fail_in = None;
        pending.len() - keep
    }

    /// Makes the `n`th write from now (0: the next) and all after it fail until the next crash.
    pub fn fail_writes_in(&self, n: u64) {
        self.state().fail_in = Some(n);
    }

    /// Crashes so far and batches that they took, for tests that must not pass when nothing was lost.
    pub fn crashes_and_lost(&self) -> (u64, u64) {
        let state = self.state();
        (state.crashes, state.lost)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.state().live.len()
    }

    /// True when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A scan of the rows as they were; shares them until somebody writes.
struct Scan {
    rows: Arc<Map>,
    next: Bound<Vec<u8>>,
    prefix: Vec<u8>,
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;
    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.rows.range((self.next.clone(), Bound::Unbounded)).next()?;
        if !key.starts_with(&self.prefix) {
            return None;
        }
        self.next = Bound::Excluded(key.clone());
        Some(Ok((key.clone(), value.clone())))
    }
}

impl Table for MemTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.state().live.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8]) -> Rows {
        let next = Bound::Included(prefix.max(from).to_vec());
        Box::new(Scan {
            rows: Arc::clone(&self.state().live),
            next,
            prefix: prefix.to_vec(),
        })
    }

    fn write(&self, batch: Batch) -> Result<()> {
        batch.iter().try_for_each(|(key, _)| check_key(key, "memory"))?;
        let mut state = self.state();
        if let Some(left) = &mut state.fail_in {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return Err(Fault::new(Kind::Corrupt, "write state table: injected", "memory")),
            }
        }
        apply(Arc::make_mut(&mut state.live), &batch);
        state.pending.push(batch);
        Ok(())
    }

    fn load(&self, changes: Changes) -> Result<()> {
        self.write(changes.collect::<Result<_>>()?)
    }

    fn persist(&self) -> Result<()> {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        for batch in &pending {
            apply(&mut state.durable, batch);
        }
        Ok(())
    }
}

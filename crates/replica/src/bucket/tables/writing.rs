//! Rows of ours go into tables, a thousand at a time.
//!
//! Invariant: a row leaves the state table only when the table object that holds it is written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use syncline_model::{Fault, Kind, Result, Slot};
use syncline_store::{Batch, Cond, Key};

use super::{FETCHES, Known, Tables, lock, state_key};
use crate::bucket::blobs::{self, write_whole};
use crate::bucket::metadata::Metadata;
use crate::bucket::row::{Row, encode_table};

/// Rows in a table that has just been cut; one is cut when it holds twice as many.
const ROWS: usize = 1024;

impl Tables {
    /// Returns when the row of ours for `slot` stands in a table; those that wait for one write share the next.
    pub async fn flush_row(&self, slot: &Slot) -> Result<()> {
        let _one = self.flushing.lock().await;
        match self.state.get(&state_key(b'p', slot.as_bytes()))? {
            Some(_) => self.flush_alone().await,
            None => Ok(()),
        }
    }

    /// Writes the tables that rows of ours have changed.
    pub async fn flush(&self) -> Result<()> {
        let _one = self.flushing.lock().await;
        self.flush_alone().await
    }

    async fn flush_alone(&self) -> Result<()> {
        if lock(&self.known).is_none() {
            self.refresh().await?;
        }
        for _ in 0..4 {
            match self.write_tables().await {
                // Another process with our name wrote: learn what it wrote and put ours on top.
                Err(fault) if fault.is(Kind::Changed) || fault.is(Kind::Exists) => self.refresh().await?,
                done => return done,
            }
        }
        Err(Fault::new(
            Kind::Busy,
            "another process keeps writing this device's attribute tables",
            &self.own,
        )
        .hint("two machines seem to share one device name; give this one its own state directory"))
    }

    async fn write_tables(&self) -> Result<()> {
        let mut waiting: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for row in self.state.scan(b"p/", b"") {
            let (key, value) = row?;
            waiting.insert(key[2..].to_vec(), value);
        }
        let mut ours: Vec<_> = self
            .known()
            .into_iter()
            .filter(|(key, _)| key.starts_with(&self.own))
            .collect();
        ours.sort_by(|(_, a), (_, b)| a.first.cmp(&b.first));
        let mut affected: BTreeMap<usize, Vec<(Vec<u8>, Vec<u8>)>> = BTreeMap::new();
        for (slot, value) in waiting {
            let at = ours
                .partition_point(|(_, known)| *known.first <= *slot)
                .saturating_sub(1);
            affected.entry(at).or_default().push((slot, value));
        }
        let number = |key: &String| u64::from_str_radix(&key[self.own.len()..], 16).unwrap_or(0);
        let next = AtomicUsize::new(ours.iter().map(|(key, _)| number(key) + 1).max().unwrap_or(0) as usize);
        let (ours, next) = (&ours, &next);
        stream::iter(affected)
            .map(|(at, changes)| self.rewrite(ours.get(at), changes, next))
            .buffer_unordered(FETCHES)
            .try_collect::<()>()
            .await
    }

    async fn rewrite(
        &self,
        table: Option<&(String, Known)>,
        changes: Vec<(Vec<u8>, Vec<u8>)>,
        next: &AtomicUsize,
    ) -> Result<()> {
        let mut rows: BTreeMap<Slot, Row> = BTreeMap::new();
        if let Some((key, known)) = table {
            rows.extend(
                self.load(key, known)?
                    .iter()
                    .map(|row| (row.slot.clone(), row.clone())),
            );
        }
        for (slot, value) in &changes {
            let slot =
                Slot::new(slot.as_slice()).map_err(|e| Fault::new(Kind::Bug, e.to_string(), &self.own))?;
            match self.waiting_row(value)? {
                Some(row) => drop(rows.insert(slot, row)),
                None => drop(rows.remove(&slot)),
            }
        }
        let rows: Vec<Row> = rows.into_values().collect();
        let mut pieces: VecDeque<&[Row]> = if rows.len() > 2 * ROWS {
            rows.chunks(ROWS).collect()
        } else {
            VecDeque::from([&rows[..]])
        };
        // The new pieces go first: until the old table is cut, rows stand twice, which is harmless.
        let kept = table.map(|table| (table, pieces.pop_front().unwrap_or_default()));
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let key = format!("{}{:08x}", self.own, next.fetch_add(1, Ordering::Relaxed));
            self.write_one(&key, piece, Cond::Absent).await?;
        }
        if let Some(((key, known), piece)) = kept {
            if piece.is_empty() {
                blobs::remove(&*self.store, Key::new(key.as_str())?, Cond::Is(known.tag.clone())).await?;
                self.state.write(
                    [b'i', b't']
                        .map(|kind| (state_key(kind, key.as_bytes()), None))
                        .into(),
                )?;
                lock(&self.known).as_mut().and_then(|known| known.remove(key));
            } else {
                self.write_one(key, piece, Cond::Is(known.tag.clone())).await?;
            }
        }
        let _putting = lock(&self.putting);
        let mut done: Batch = Vec::new();
        for (slot, value) in changes {
            let key = state_key(b'p', &slot);
            if self.state.get(&key)?.as_deref() == Some(&value) {
                done.push((key, None));
            }
        }
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                Some(n.saturating_sub(done.len()))
            })
            .ok();
        self.state.write(done)
    }

    async fn write_one(&self, name: &str, rows: &[Row], cond: Cond) -> Result<()> {
        let bytes = encode_table(rows);
        let key = Key::new(name)?;
        let blob = write_whole(&*self.store, &key, bytes.clone().into(), Metadata::new(), cond).await?;
        if let Some((name, known)) = self.keep(name, blob.tag, rows, bytes)? {
            lock(&self.known).get_or_insert_default().insert(name, known);
        }
        Ok(())
    }
}

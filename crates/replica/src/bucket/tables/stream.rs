//! The rows of all writers as one stream, for a scan.
//!
//! Invariant: rows come in the order of slots, and of each writer one table at a time is in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use syncline_model::Result;

use super::{Known, Tables};
use crate::bucket::row::Row;

impl Tables {
    /// Every row of every writer, in the order of slots; what is learned later is not in it.
    pub fn rows(self: &Arc<Self>) -> Result<RowStream> {
        let mut waiting = Vec::new();
        for row in self.state.scan(b"p/", b"") {
            waiting.extend(self.waiting_row(&row?.1)?);
        }
        let tables: Vec<_> = self.known().into_iter().collect();
        let mut heap: BinaryHeap<_> = tables
            .iter()
            .enumerate()
            .map(|(n, (_, known))| Reverse((known.first.clone(), n, 0)))
            .collect();
        heap.extend(
            waiting
                .first()
                .map(|row| Reverse((row.slot.as_bytes().into(), tables.len(), 0))),
        );
        Ok(RowStream {
            of: self.clone(),
            tables,
            open: BTreeMap::from([(usize::MAX, Arc::new(waiting))]),
            heap,
        })
    }
}

/// Rows in the order of slots, a table of each writer in memory at a time.
pub struct RowStream {
    of: Arc<Tables>,
    tables: Vec<(String, Known)>,
    open: BTreeMap<usize, Arc<Vec<Row>>>,
    heap: BinaryHeap<Reverse<(Box<[u8]>, usize, usize)>>,
}

impl RowStream {
    /// No rows at all.
    pub fn empty(of: &Arc<Tables>) -> Self {
        Self {
            of: of.clone(),
            tables: Vec::new(),
            open: BTreeMap::new(),
            heap: BinaryHeap::new(),
        }
    }

    /// The slot of the next row.
    pub fn peek(&self) -> Option<&[u8]> {
        self.heap.peek().map(|Reverse((slot, ..))| &**slot)
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Row>> {
        let Some(Reverse((_, n, at))) = self.heap.pop() else {
            return Ok(None);
        };
        let id = if n == self.tables.len() { usize::MAX } else { n };
        let rows = match self.open.get(&id) {
            Some(rows) => rows.clone(),
            None => {
                let (key, known) = &self.tables[n];
                let rows = self.of.load(key, known)?;
                self.open.insert(id, rows.clone());
                rows
            }
        };
        match rows.get(at + 1) {
            Some(row) => self.heap.push(Reverse((row.slot.as_bytes().into(), n, at + 1))),
            None => drop(self.open.remove(&id)),
        }
        Ok(rows.get(at).cloned())
    }

    /// The rows for `slot`; those before it are passed over.
    pub fn take(&mut self, slot: &[u8]) -> Result<Vec<Row>> {
        let mut out = Vec::new();
        while let Some(next) = self.peek().filter(|next| *next <= slot) {
            let wanted = next == slot;
            out.extend(self.next()?.filter(|_| wanted));
        }
        Ok(out)
    }
}

//! [`FjallTable`]: a [`Table`] on disk.
//!
//! Invariant: memory stays small whatever the number of rows (block cache, write buffers and journals are bounded
//! below), and a write is in the hands of the system when it returns, so that only a power cut can take its tail.
//!
//! Large batches become sorted files at once and pass the journal by: fjall reads all of its journal, up to 64 MiB,
//! each time a table is opened (a second for 200,000 rows), and takes it away only when it is full.
//!
//! One key space for one table: an idle second one would keep old journals for ever (fjall issue 288).

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, RestartIntervalPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use rustix::io::Errno;
use syncline_model::{Fault, Kind, Result};

use crate::os::errno_kind;
use crate::table::{Batch, Changes, Rows, Table, check_key};

/// Blocks kept in memory.
const CACHE: u64 = 16 << 20;
/// One write buffer; the next one takes over while it goes to disk.
const BUFFER: u64 = 8 << 20;
/// All journals; the least that fjall takes.
const JOURNALS: u64 = 64 << 20;
/// Rows are read in long runs, so blocks are larger and their index smaller than for single rows.
const BLOCK: u32 = 16 << 10;
/// From this many rows on a batch goes to files of its own.
const BULK: usize = 512;
/// So many files of the newest level are merged into the next one, which writes what is there again and holds up the end of a run. A first
/// copy of 100,000 files makes 13 of them, a renamed directory two.
const NEWEST: u8 = 8;
/// Files kept open.
const FILES: usize = 64;

/// What fjall writes last when it makes a table.
const MARKER: &str = "version";

/// A table in a directory of its own. One process has it at a time.
pub struct FjallTable {
    db: Database,
    rows: Keyspace,
    at: String,
}

impl FjallTable {
    /// Opens the table in the directory `path`, which is created when it is not there or empty. `Busy` while another
    /// process has it.
    #[allow(
        clippy::disallowed_methods,
        reason = "fjall names its files by path, and so must who makes room for them"
    )]
    pub fn open(path: &Path) -> Result<Self> {
        // fjall cannot go on with a table that it was killed in while making it: made beside, it appears whole.
        if !path.join(MARKER).exists() && !syncline_model::zoo::on("table-made-in-place") {
            let beside = path.with_extension("new");
            let failed = |error| io_fault(&error, "make state table", &beside);
            match std::fs::remove_dir_all(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            Self::open_here(&beside)?.persist()?;
            std::fs::rename(&beside, path).map_err(failed)?;
            let above = path.parent().unwrap_or(path);
            std::fs::File::open(above)
                .and_then(|above| above.sync_all())
                .map_err(failed)?;
        }
        Self::open_here(path)
    }

    fn open_here(path: &Path) -> Result<Self> {
        let at = path.display().to_string();
        let failed = |error| fault(&error, "open state table", &at);
        let db = Database::builder(path)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            .max_cached_files(Some(FILES))
            .worker_threads(2)
            .open()
            .map_err(failed)?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(BUFFER)
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(NEWEST)))
                .data_block_size_policy(BlockSizePolicy::all(BLOCK))
                .data_block_restart_interval_policy(RestartIntervalPolicy::all(16))
        };
        let rows = db.keyspace("rows", options).map_err(failed)?;
        Ok(Self { db, rows, at })
    }

    fn journal(&self, batch: Batch) -> fjall::Result<()> {
        let mut changes = self.db.batch();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(&self.rows, key, value),
                None => changes.remove(&self.rows, key),
            }
        }
        changes.commit()
    }

    fn ingest(&self, changes: impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>)>>) -> Result<()> {
        let failed = |error: fjall::Error| fault(&error, "write state table", &self.at);
        let mut sorted = changes.peekable();
        let mut files = self.rows.start_ingestion().map_err(failed)?;
        while let Some(change) = sorted.next() {
            let (key, value) = change?;
            let again = |next: &Result<(Vec<u8>, _)>| next.as_ref().is_ok_and(|(next, _)| *next == key);
            if sorted.peek().is_some_and(again) {
                continue;
            }
            check_key(&key, &self.at)?;
            match value {
                Some(value) => files.write(key, value),
                None => files.write_tombstone(key),
            }
            .map_err(failed)?;
        }
        files.finish().map_err(failed)
    }

    /// Bytes that the table takes on disk.
    pub fn disk_space(&self) -> Result<u64> {
        self.db
            .disk_space()
            .map_err(|error| fault(&error, "measure state table", &self.at))
    }
}

impl std::fmt::Debug for FjallTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FjallTable({})", self.at)
    }
}

/// The end of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Bound::Excluded(end);
        }
        end.pop();
    }
    Bound::Unbounded
}

impl Table for FjallTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self
            .rows
            .get(key)
            .map_err(|error| fault(&error, "read state table", &self.at))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], from: &[u8]) -> Rows {
        let start = prefix.max(from);
        if !start.starts_with(prefix) {
            return Box::new(std::iter::empty());
        }
        let at = self.at.clone();
        let range = (Bound::Included(start.to_vec()), prefix_end(prefix));
        // A range of the key space itself would show what is written while it runs.
        let rows = self.db.snapshot().range(&self.rows, range);
        Box::new(rows.map(move |row| match row.into_inner() {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(fault(&error, "read state table", &at)),
        }))
    }

    fn write(&self, mut batch: Batch) -> Result<()> {
        if batch.len() >= BULK {
            batch.sort_by(|a, b| a.0.cmp(&b.0));
            return self.ingest(batch.into_iter().map(Ok));
        }
        batch.iter().try_for_each(|(key, _)| check_key(key, &self.at))?;
        self.journal(batch)
            .map_err(|error| fault(&error, "write state table", &self.at))
    }

    fn load(&self, mut changes: Changes) -> Result<()> {
        let first: Batch = changes.by_ref().take(BULK).collect::<Result<_>>()?;
        if first.len() < BULK {
            self.write(first)
        } else {
            self.ingest(first.into_iter().map(Ok).chain(changes))
        }
    }

    fn persist(&self) -> Result<()> {
        self.db
            .persist(PersistMode::SyncAll)
            .map_err(|error| fault(&error, "make state table durable", &self.at))
    }
}

fn io_kind(error: &io::Error) -> Kind {
    match error.raw_os_error() {
        Some(code) => errno_kind(Errno::from_raw_os_error(code)),
        // Bytes end early or are not what was written.
        None => Kind::Corrupt,
    }
}

#[cold]
fn io_fault(error: &io::Error, what: &str, at: &Path) -> Fault {
    let kind = match error.kind() {
        // Files of a table without its marker: a cut took it.
        io::ErrorKind::DirectoryNotEmpty => Kind::Corrupt,
        _ => io_kind(error),
    };
    Fault::new(kind, format!("{what}: {error}"), at.display())
}

#[cold]
fn fault(error: &fjall::Error, what: &str, at: &str) -> Fault {
    let kind = match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => io_kind(error),
        fjall::Error::Locked => Kind::Busy,
        fjall::Error::InvalidVersion(_) => Kind::Unsupported,
        fjall::Error::KeyspaceDeleted => Kind::Bug,
        // After a failed write the engine takes no more: the owner stops and looks again.
        _ => Kind::Corrupt,
    };
    Fault::new(kind, format!("{what}: {error}"), at)
}

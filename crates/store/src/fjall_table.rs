//! [`FjallTable`]: a [`Table`] on disk.
//!
//! Invariant: memory stays small whatever the number of rows (block cache, write buffers and journals are bounded
//! below), and a write is in the hands of the system when it returns, so that only a power cut can take its tail.
//!
//! Large batches become sorted files at once and pass the journal by: fjall reads all of its journal, up to 64 MiB,
//! each time a table is opened (a second for 200,000 rows), and takes it away only when it is full.
//!
//! One key space for one table: an idle second one would keep old journals for ever (fjall issue 288).
//!
//! Damage, whenever it is met, is noted in a file beside the table, so that [`FjallTable::open_whole`] puts the table aside when it is opened
//! the next time; a table that another version wrote is no damage and stays where it is.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, RestartIntervalPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use rustix::io::Errno;
use syncline_model::{Fault, Kind, Result};

use crate::moment::before_change;
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

/// The number that fjall writes there, behind these letters.
const FORMAT: (&[u8], u8) = (b"FJL", 3);
/// The trees that it keeps there: its own list of key spaces, and our one.
const TREES: usize = 2;
/// Ends the name of the file that says that a table is damaged, and begins the end of the name that it gets then.
const DAMAGED: &str = "damaged";
/// So many damaged tables are kept beside each other.
const KEPT_ASIDE: usize = 1000;

/// A table in a directory of its own. One process has it at a time.
pub struct FjallTable {
    db: Database,
    rows: Keyspace,
    at: PathBuf,
}

impl FjallTable {
    /// Opens the table in the directory `path`, which is created when it is not there or empty. `Busy` while another
    /// process has it.
    #[expect(
        clippy::disallowed_methods,
        reason = "fjall names its files by path, and so must who makes room for them"
    )]
    pub fn open(path: &Path) -> Result<Self> {
        let noted = path.with_extension(DAMAGED);
        if let Ok(why) = std::fs::read(&noted) {
            let why = String::from_utf8_lossy(&why).into_owned();
            return Err(Fault::new(Kind::Corrupt, why, path.display()));
        }
        // fjall cannot go on with a table that it was killed in while making it: made beside, it appears whole.
        let in_place = syncline_model::zoo::on("table-made-in-place");
        if !path.join(MARKER).exists() && !in_place {
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
        if !in_place && is_partly_gone(path) {
            let what = "open state table: a part of it is gone";
            return Err(Fault::new(Kind::Corrupt, what, path.display()));
        }
        Self::open_here(path)
    }

    /// Opens the table in the directory `path`. A damaged one gets another name beside it, which is returned, and an empty one takes its
    /// place.
    pub fn open_whole(path: &Path) -> Result<(Self, Option<PathBuf>)> {
        match Self::open(path) {
            Err(fault) if fault.is(Kind::Corrupt) => {
                let aside = put_aside(path)?;
                Ok((Self::open(path)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    fn open_here(path: &Path) -> Result<Self> {
        // What is damaged is met by the engine with an error or with a panic.
        let opened = std::panic::catch_unwind(|| Self::opened(path));
        opened.unwrap_or_else(|_| {
            Err(Fault::new(
                Kind::Corrupt,
                "open state table: it makes no sense",
                path.display(),
            ))
        })
    }

    fn opened(path: &Path) -> Result<Self> {
        let failed = |error| open_fault(&error, path);
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
        let at = path.to_path_buf();
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
        let at = self.at.display().to_string();
        while let Some(change) = sorted.next() {
            let (key, value) = change?;
            let again = |next: &Result<(Vec<u8>, _)>| next.as_ref().is_ok_and(|(next, _)| *next == key);
            if sorted.peek().is_some_and(again) {
                continue;
            }
            check_key(&key, &at)?;
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
        write!(f, "FjallTable({})", self.at.display())
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
        before_change();
        if batch.len() >= BULK {
            batch.sort_by(|a, b| a.0.cmp(&b.0));
            return self.ingest(batch.into_iter().map(Ok));
        }
        let at = self.at.display().to_string();
        batch.iter().try_for_each(|(key, _)| check_key(key, &at))?;
        self.journal(batch)
            .map_err(|error| fault(&error, "write state table", &self.at))
    }

    fn load(&self, mut changes: Changes) -> Result<()> {
        let first: Batch = changes.by_ref().take(BULK).collect::<Result<_>>()?;
        if first.len() < BULK {
            self.write(first)
        } else {
            before_change();
            self.ingest(first.into_iter().map(Ok).chain(changes))
        }
    }

    fn persist(&self) -> Result<()> {
        before_change();
        self.db
            .persist(PersistMode::SyncAll)
            .map_err(|error| fault(&error, "make state table durable", &self.at))
    }
}

/// fjall makes what is gone anew, and empty.
#[expect(clippy::disallowed_methods, reason = "fjall names its files by path")]
fn is_partly_gone(path: &Path) -> bool {
    let Ok(trees) = std::fs::read_dir(path.join("keyspaces")) else {
        return true;
    };
    let whole = trees.filter(|tree| {
        tree.as_ref()
            .is_ok_and(|tree| tree.path().join("current").is_file())
    });
    whole.count() < TREES
}

/// Gives a damaged table another name.
#[expect(
    clippy::disallowed_methods,
    reason = "fjall names its files by path, and so must who puts them aside"
)]
fn put_aside(path: &Path) -> Result<PathBuf> {
    for number in 1..KEPT_ASIDE {
        let aside = path.with_extension(format!("{DAMAGED}-{number}"));
        if aside.symlink_metadata().is_ok() {
            continue;
        }
        let failed = |error| io_fault(&error, "put a damaged state table aside", path);
        std::fs::rename(path, &aside).map_err(failed)?;
        match std::fs::remove_file(path.with_extension(DAMAGED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let above = path.parent().unwrap_or(path);
        std::fs::File::open(above)
            .and_then(|above| above.sync_all())
            .map_err(failed)?;
        return Ok(aside);
    }
    Err(Fault::new(
        Kind::Corrupt,
        "this state table is damaged, like many before it",
        path.display(),
    )
    .hint("look at the disk; what ends in damaged-1 and so on beside it may go"))
}

fn io_kind(error: &io::Error) -> Kind {
    match error.raw_os_error() {
        Some(code) => match errno_kind(Errno::from_raw_os_error(code)) {
            // Our own files are there and of the kind that we made them.
            Kind::NotFound | Kind::Exists | Kind::Changed | Kind::Invalid => Kind::Corrupt,
            other => other,
        },
        // Bytes end early or are not what was written.
        None => Kind::Corrupt,
    }
}

#[cold]
fn io_fault(error: &io::Error, what: &str, at: &Path) -> Fault {
    Fault::new(io_kind(error), format!("{what}: {error}"), at.display())
}

#[cold]
#[expect(clippy::disallowed_methods, reason = "fjall names its files by path")]
fn open_fault(error: &fjall::Error, at: &Path) -> Fault {
    if let fjall::Error::InvalidVersion(_) = error
        && let Ok(text) = std::fs::read(at.join(MARKER))
        && let (letters, format) = FORMAT
        && let Some(&[number]) = text.strip_prefix(letters)
        && number > format
    {
        let what = format!("a state table of format {number}; this program knows {format}");
        return Fault::new(Kind::Unsupported, what, at.display())
            .hint("a newer version of this program wrote it: use that one");
    }
    Fault::new(kind_of(error), format!("open state table: {error}"), at.display())
}

fn kind_of(error: &fjall::Error) -> Kind {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => io_kind(error),
        fjall::Error::Locked => Kind::Busy,
        fjall::Error::KeyspaceDeleted => Kind::Bug,
        // After a failed write the engine takes no more: the owner stops and looks again.
        _ => Kind::Corrupt,
    }
}

/// What went wrong with an open table. Damage is noted beside it.
#[cold]
fn fault(error: &fjall::Error, what: &str, at: &Path) -> Fault {
    let fault = Fault::new(kind_of(error), format!("{what}: {error}"), at.display());
    // It takes no more after a failed write, on a full disk as well: that alone is no damage.
    if fault.is(Kind::Corrupt) && !matches!(error, fjall::Error::Poisoned) {
        note_damage(at, &fault.what);
        return fault.hint(
            "run again: the damaged table is put aside then, and what it held is found again by content",
        );
    }
    fault
}

/// The next one to open it puts it aside. If this cannot be written, the damage is met again.
#[expect(
    clippy::disallowed_methods,
    reason = "it lies beside what fjall names by path"
)]
fn note_damage(at: &Path, why: &str) {
    let _ = std::fs::write(at.with_extension(DAMAGED), why);
}

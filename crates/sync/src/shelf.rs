//! A session's own directory: its lock, its run logs, its scratch space. All through [`Disk`], so that the simulation cuts it too.
//!
//! Invariant: a run log is a row of records, each with its length and checksum; what follows the first damaged record
//! never happened. A record counts once [`Log::sync`] has returned.

use std::any::Any;
use std::sync::Arc;

use syncline_model::{Fault, Kind, Result};
pub use syncline_store::sorter::Sort;
use syncline_store::sorter::Sorter;
use syncline_store::{Disk, Found, Sync};

/// Longest record that is believed, in bytes.
const RECORD_MAX: usize = 16 << 20;
/// Bytes that one sorter keeps in memory; up to five are alive at once.
const SORT_BUDGET: usize = 24 << 20;
/// Bytes before each record: its length and the first bytes of its BLAKE3.
const HEAD: usize = 12;
/// Bytes at the end of a log in which its last record is looked for.
const TAIL: usize = 256;

fn length_of(head: &[u8]) -> usize {
    head[..4]
        .iter()
        .rev()
        .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

fn is_whole(head: &[u8], record: &[u8]) -> bool {
    blake3::hash(record).as_bytes()[..HEAD - 4] == head[4..]
}

/// A log under way.
pub trait Log: Send {
    /// Adds a record.
    fn append(&mut self, record: &[u8]) -> Result<()>;
    /// Returns when all records survive a power cut.
    fn sync(&mut self) -> Result<()>;
}

/// Held as long as the lock is.
pub type Guard = Box<dyn Any + Send + std::marker::Sync>;

/// Records in the order they were written.
pub type Records = Box<dyn Iterator<Item = Result<Vec<u8>>> + Send>;

/// A session's own files.
pub trait Shelf: Send + std::marker::Sync {
    /// Takes the session's lock and writes `holder` into it; `Busy`, naming the other holder, when taken.
    fn lock(&self, holder: &str) -> Result<Guard>;
    /// Begins the log of a run.
    fn log(&self, run: &str) -> Result<Box<dyn Log>>;
    /// Goes on with the log of a run behind its last whole record.
    fn reopen(&self, run: &str) -> Result<Box<dyn Log>>;
    /// Names of runs that have a log, oldest first.
    fn runs(&self) -> Result<Vec<String>>;
    /// The records of a run.
    fn records(&self, run: &str) -> Result<Records>;
    /// The last record of a run, if it is short and the file ends with it.
    fn last(&self, run: &str) -> Result<Option<Vec<u8>>>;
    /// Forgets the log of a run.
    fn forget(&self, run: &str) -> Result<()>;
    /// Something that sorts.
    fn sorter(&self) -> Result<Box<dyn Sort>>;
}

/// A shelf in a directory.
pub struct DiskShelf<D: Disk> {
    disk: Arc<D>,
    dir: D::Dir,
    budget: usize,
}

impl<D: Disk> DiskShelf<D> {
    /// Uses `dir`, which is ours alone.
    pub fn new(disk: Arc<D>, dir: D::Dir) -> Result<Self> {
        for name in ["runs", "scratch"] {
            match disk.make(&dir, name.as_bytes(), syncline_store::disk::Make::Dir) {
                Err(fault) if fault.is(Kind::Exists) => {}
                made => made?,
            }
        }
        disk.sync(Sync::Dir(&dir))?;
        Ok(Self {
            disk,
            dir,
            budget: SORT_BUDGET,
        })
    }

    /// Sorters that hold at most about `budget` bytes of rows in memory.
    #[must_use]
    pub fn with_budget(self, budget: usize) -> Self {
        Self { budget, ..self }
    }

    fn sub(&self, name: &str) -> Result<D::Dir> {
        self.disk.open_dir(&self.dir, name.as_bytes())
    }

    fn read_all(&self, file: &D::File) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.disk.stat_file(file)?.size.min(1 << 16) as usize];
        let read = self.disk.read(file, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl<D: Disk> Shelf for DiskShelf<D> {
    fn lock(&self, holder: &str) -> Result<Guard> {
        let name = b"lock";
        match self.disk.open(&self.dir, name, true) {
            Err(fault) if fault.is(Kind::Exists) => {}
            made => drop(made?),
        }
        let file = self.disk.open(&self.dir, name, false)?;
        if let Err(fault) = self.disk.lock(&file) {
            let by = self
                .disk
                .open(&self.dir, b"holder", false)
                .and_then(|file| self.read_all(&file));
            let by = String::from_utf8_lossy(&by.unwrap_or_default()).into_owned();
            return Err(
                Fault::new(fault.kind, format!("another run holds this session: {by}"), "")
                    .hint("wait for it to end, or stop it"),
            );
        }
        let _ = self.disk.remove(&self.dir, b"holder", false);
        let noted = self.disk.open(&self.dir, b"holder", true)?;
        self.disk.write(&noted, 0, holder.as_bytes())?;
        Ok(Box::new(file))
    }

    fn log(&self, run: &str) -> Result<Box<dyn Log>> {
        let dir = self.sub("runs")?;
        let file = self.disk.open(&dir, run.as_bytes(), true)?;
        self.disk.sync(Sync::Dir(&dir))?;
        Ok(Box::new(DiskLog {
            disk: self.disk.clone(),
            file,
            end: 0,
            buffer: Vec::new(),
        }))
    }

    fn reopen(&self, run: &str) -> Result<Box<dyn Log>> {
        let mut end = 0;
        for record in self.records(run)? {
            end += (HEAD + record?.len()) as u64;
        }
        let dir = self.sub("runs")?;
        // Files are written only by whoever made them: the whole records move into a new one.
        let old = self.disk.open(&dir, run.as_bytes(), false)?;
        let _ = self.disk.remove(&dir, b".reopened", false);
        let file = self.disk.open(&dir, b".reopened", true)?;
        let mut at = 0;
        let mut bytes = vec![0; 1 << 20];
        while at < end {
            let want = bytes.len().min((end - at) as usize);
            let read = self.disk.read(&old, at, &mut bytes[..want])?;
            if read == 0 {
                break;
            }
            self.disk.write(&file, at, &bytes[..read])?;
            at += read as u64;
        }
        self.disk.sync(Sync::File(&file))?;
        self.disk.place(
            (&dir, b".reopened"),
            (&dir, run.as_bytes()),
            syncline_store::Place::Over,
        )?;
        self.disk.sync(Sync::Dir(&dir))?;
        Ok(Box::new(DiskLog {
            disk: self.disk.clone(),
            file,
            end: at,
            buffer: Vec::new(),
        }))
    }

    fn runs(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.disk.list(&self.sub("runs")?, &mut |found: Found<'_>| {
            if !found.name.starts_with(b".") {
                names.push(String::from_utf8_lossy(found.name).into_owned());
            }
            true
        })?;
        names.sort();
        Ok(names)
    }

    fn records(&self, run: &str) -> Result<Records> {
        let file = self.disk.open(&self.sub("runs")?, run.as_bytes(), false)?;
        Ok(Box::new(DiskRecords {
            disk: self.disk.clone(),
            file,
            at: 0,
        }))
    }

    fn last(&self, run: &str) -> Result<Option<Vec<u8>>> {
        let file = self.disk.open(&self.sub("runs")?, run.as_bytes(), false)?;
        let size = self.disk.stat_file(&file)?.size;
        let records = DiskRecords {
            disk: self.disk.clone(),
            file,
            at: size.saturating_sub(TAIL as u64),
        };
        let Some(tail) = records.exactly(records.at, size.min(TAIL as u64) as usize)? else {
            return Ok(None);
        };
        let whole = |at: &usize| {
            let (head, record) = tail[*at..].split_at(HEAD);
            length_of(head) == record.len() && is_whole(head, record)
        };
        let begins = (0..tail.len().saturating_sub(HEAD)).rev().find(whole);
        Ok(begins.map(|at| tail[at + HEAD..].to_vec()))
    }

    fn forget(&self, run: &str) -> Result<()> {
        self.disk.remove(&self.sub("runs")?, run.as_bytes(), false)
    }

    fn sorter(&self) -> Result<Box<dyn Sort>> {
        Ok(Box::new(Sorter::with_budget(
            self.disk.clone(),
            self.sub("scratch")?,
            self.budget,
        )))
    }
}

struct DiskLog<D: Disk> {
    disk: Arc<D>,
    file: D::File,
    end: u64,
    buffer: Vec<u8>,
}

impl<D: Disk> Log for DiskLog<D> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let length = u32::try_from(record.len())
            .map_err(|_| Fault::new(Kind::Bug, "run log: a record is too long", ""))?;
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer
            .extend_from_slice(&blake3::hash(record).as_bytes()[..HEAD - 4]);
        self.buffer.extend_from_slice(record);
        if self.buffer.len() >= 1 << 20 {
            self.write_out()
        } else {
            Ok(())
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.write_out()?;
        self.disk.sync(Sync::File(&self.file))
    }
}

impl<D: Disk> DiskLog<D> {
    fn write_out(&mut self) -> Result<()> {
        self.disk.write(&self.file, self.end, &self.buffer)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

struct DiskRecords<D: Disk> {
    disk: Arc<D>,
    file: D::File,
    at: u64,
}

impl<D: Disk> DiskRecords<D> {
    fn exactly(&self, at: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            match self.disk.read(&self.file, at + read as u64, &mut bytes[read..])? {
                0 => return Ok(None),
                more => read += more,
            }
        }
        Ok(Some(bytes))
    }

    fn record(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(head) = self.exactly(self.at, HEAD)? else {
            return Ok(None);
        };
        let length = length_of(&head);
        if length > RECORD_MAX {
            return Ok(None);
        }
        let Some(record) = self.exactly(self.at + HEAD as u64, length)? else {
            return Ok(None);
        };
        if !is_whole(&head, &record) {
            return Ok(None);
        }
        self.at += (HEAD + length) as u64;
        Ok(Some(record))
    }
}

impl<D: Disk> Iterator for DiskRecords<D> {
    type Item = Result<Vec<u8>>;
    fn next(&mut self) -> Option<Self::Item> {
        self.record().transpose()
    }
}

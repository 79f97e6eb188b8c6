//! [`Sorter`]: puts any number of rows in order of their keys within a fixed amount of memory.
//!
//! Invariant: rows come out in ascending order of keys, those with equal keys in the order in which they were pushed, all
//! of them or an error. Below the budget nothing touches the disk; above it, sorted runs go to scratch files whose names
//! are removed as soon as they are open, so that no death of the process leaves anything behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use syncline_model::{Fault, Kind, Result};

use crate::disk::Disk;
use crate::table::Rows;

/// Memory for rows unless told otherwise.
pub const BUDGET: usize = 32 << 20;
/// Runs that are merged at once, and of one size before they are merged into a larger one: the bound on open files.
const FAN_IN: usize = 64;
/// Bytes written at once.
const WRITE: usize = 256 << 10;
/// Bytes read ahead from each run.
const READ: usize = 64 << 10;
/// Lengths of key and value before each row of a run.
const HEAD: usize = 8;

type Row = (Vec<u8>, Vec<u8>);

/// Puts rows in order of their keys.
pub trait Sort: Send {
    /// Takes a row.
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// All rows in order; those with equal keys in the order in which they were pushed.
    fn finish(self: Box<Self>) -> Result<Rows>;
}

/// Makes something that sorts.
pub type MakeSorter = Arc<dyn Fn() -> Result<Box<dyn Sort>> + Send + Sync>;

impl<D: Disk> Sort for Sorter<D> {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Self::push(self, key, value)
    }

    fn finish(self: Box<Self>) -> Result<Rows> {
        Self::finish(*self)
    }
}

/// Where a row lies in the arena.
struct Slot {
    /// The first bytes of the key, as a number that sorts like them: most comparisons end here.
    first: u64,
    start: usize,
    key: u32,
    value: u32,
}

/// Rows that are not yet sorted.
#[derive(Default)]
struct Heap {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

impl Heap {
    fn size(&self) -> usize {
        self.bytes.len() + self.slots.len() * size_of::<Slot>()
    }

    fn key(&self, slot: &Slot) -> &[u8] {
        &self.bytes[slot.start..slot.start + slot.key as usize]
    }

    fn value(&self, slot: &Slot) -> &[u8] {
        let start = slot.start + slot.key as usize;
        &self.bytes[start..start + slot.value as usize]
    }

    fn push(&mut self, key: &[u8], value: &[u8], budget: usize) -> Result<()> {
        let too_long = |_| Fault::new(Kind::Invalid, "sort: a row of 4 GiB or more", "");
        let slot = Slot {
            first: first_bytes(key),
            start: self.bytes.len(),
            key: u32::try_from(key.len()).map_err(too_long)?,
            value: u32::try_from(value.len()).map_err(too_long)?,
        };
        let need = self.bytes.len() + key.len() + value.len();
        if need > self.bytes.capacity() {
            // Doubling, but never past the budget for rows that fit it.
            let room = (self.bytes.capacity() * 2)
                .clamp(4096, budget.max(4096))
                .max(need);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.slots.push(slot);
        Ok(())
    }

    fn sort(&mut self) {
        let mut slots = std::mem::take(&mut self.slots);
        // Rows mostly come in a few runs that are in order already: a merging sort passes over each once.
        slots.sort_by(|a, b| a.first.cmp(&b.first).then_with(|| self.key(a).cmp(self.key(b))));
        self.slots = slots;
    }
}

fn first_bytes(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = key.len().min(8);
    first[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(first)
}

/// A sorted run in a scratch file.
struct Run<D: Disk> {
    file: D::File,
    len: u64,
    /// How many times its rows were merged.
    level: u32,
}

/// Sorts rows within a budget of memory.
pub struct Sorter<D: Disk> {
    disk: Arc<D>,
    scratch: D::Dir,
    budget: usize,
    heap: Heap,
    runs: Vec<Run<D>>,
    next: u64,
    spills: u64,
}

impl<D: Disk> Sorter<D> {
    /// A sorter with the usual budget and scratch files in `scratch`, which several may share.
    pub fn new(disk: Arc<D>, scratch: D::Dir) -> Self {
        Self::with_budget(disk, scratch, BUDGET)
    }

    /// A sorter that holds at most about `budget` bytes of rows in memory.
    pub fn with_budget(disk: Arc<D>, scratch: D::Dir, budget: usize) -> Self {
        Self {
            disk,
            scratch,
            budget,
            heap: Heap::default(),
            runs: Vec::new(),
            next: 0,
            spills: 0,
        }
    }

    /// Takes a row.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let more = key.len() + value.len() + size_of::<Slot>();
        if !self.heap.slots.is_empty() && self.heap.size() + more > self.budget {
            self.spill()?;
        }
        self.heap.push(key, value, self.budget)
    }

    /// Runs written to the disk so far.
    pub fn spills(&self) -> u64 {
        self.spills
    }

    /// All rows in order.
    pub fn finish(mut self) -> Result<Rows> {
        self.heap.sort();
        while self.runs.len() >= FAN_IN {
            self.merge_last(FAN_IN)?;
        }
        let mut sources: Vec<Source<D>> = Vec::with_capacity(self.runs.len() + 1);
        let runs = std::mem::take(&mut self.runs);
        sources.extend(
            runs.into_iter()
                .map(|run| Source::Run(RunReader::new(Arc::clone(&self.disk), run))),
        );
        sources.push(Source::Memory(std::mem::take(&mut self.heap), 0));
        Ok(Box::new(Merge::new(sources)?))
    }

    /// Writes what is in memory to a run of its own.
    fn spill(&mut self) -> Result<()> {
        self.heap.sort();
        let heap = std::mem::take(&mut self.heap);
        let mut out = self.writer()?;
        for slot in &heap.slots {
            out.push(&self.disk, heap.key(slot), heap.value(slot))?;
        }
        let run = out.finish(&self.disk, 0)?;
        self.runs.push(run);
        self.spills += 1;
        // The memory is used again.
        self.heap = heap;
        self.heap.bytes.clear();
        self.heap.slots.clear();
        while self.last_are_of_one_level() {
            self.merge_last(FAN_IN)?;
        }
        Ok(())
    }

    fn last_are_of_one_level(&self) -> bool {
        let Some(from) = self.runs.len().checked_sub(FAN_IN) else {
            return false;
        };
        let last = &self.runs[from..];
        last.iter().all(|run| run.level == last[0].level)
    }

    /// Merges the last `count` runs, neighbours in time, into one.
    fn merge_last(&mut self, count: usize) -> Result<()> {
        let last = self.runs.split_off(self.runs.len().saturating_sub(count));
        let level = last.iter().map(|run| run.level).max().unwrap_or(0) + 1;
        let reader = |run| Source::Run(RunReader::new(Arc::clone(&self.disk), run));
        let merged = Merge::new(last.into_iter().map(reader).collect())?;
        let mut out = self.writer()?;
        for row in merged {
            let (key, value) = row?;
            out.push(&self.disk, &key, &value)?;
        }
        let run = out.finish(&self.disk, level)?;
        self.runs.push(run);
        Ok(())
    }

    /// A scratch file without a name.
    fn writer(&mut self) -> Result<RunWriter<D>> {
        loop {
            let name = format!("sort-{}", self.next).into_bytes();
            self.next += 1;
            match self.disk.open(&self.scratch, &name, true) {
                Ok(file) => {
                    self.disk.remove(&self.scratch, &name, false)?;
                    return Ok(RunWriter {
                        file,
                        len: 0,
                        buffer: Vec::with_capacity(WRITE),
                    });
                }
                // Somebody else sorts here, or was killed in this very moment.
                Err(fault) if fault.is(Kind::Exists) => {}
                Err(fault) => return Err(fault),
            }
        }
    }
}

struct RunWriter<D: Disk> {
    file: D::File,
    len: u64,
    buffer: Vec<u8>,
}

impl<D: Disk> RunWriter<D> {
    fn push(&mut self, disk: &D, key: &[u8], value: &[u8]) -> Result<()> {
        for len in [key.len(), value.len()] {
            // Rows of 4 GiB were refused when they were pushed.
            self.buffer.extend_from_slice(&(len as u32).to_le_bytes());
        }
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        if self.buffer.len() >= WRITE {
            self.flush(disk)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, disk: &D) -> Result<()> {
        disk.write(&self.file, self.len, &self.buffer)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, disk: &D, level: u32) -> Result<Run<D>> {
        self.flush(disk)?;
        Ok(Run {
            file: self.file,
            len: self.len,
            level,
        })
    }
}

struct RunReader<D: Disk> {
    disk: Arc<D>,
    run: Run<D>,
    /// Read so far.
    at: u64,
    buffer: Vec<u8>,
    /// Used so far of the buffer.
    used: usize,
}

impl<D: Disk> RunReader<D> {
    fn new(disk: Arc<D>, run: Run<D>) -> Self {
        Self {
            disk,
            run,
            at: 0,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// Has at least `want` unused bytes in the buffer; `Corrupt` if the run has no more.
    fn fill(&mut self, want: usize) -> Result<()> {
        let have = self.buffer.len() - self.used;
        if have >= want {
            return Ok(());
        }
        let left = self.run.len - self.at;
        if (want - have) as u64 > left {
            return Err(Fault::new(
                Kind::Corrupt,
                "sort: a scratch file is not what was written",
                "",
            ));
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let more = left.min((want - have).max(READ) as u64) as usize;
        self.buffer.resize(have + more, 0);
        if self
            .disk
            .read(&self.run.file, self.at, &mut self.buffer[have..])?
            < more
        {
            return Err(Fault::new(Kind::Corrupt, "sort: a scratch file was cut", ""));
        }
        self.at += more as u64;
        Ok(())
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let start = self.used;
        self.used += len;
        self.buffer[start..self.used].to_vec()
    }

    fn next(&mut self) -> Result<Option<Row>> {
        if self.used == self.buffer.len() && self.at == self.run.len {
            return Ok(None);
        }
        self.fill(HEAD)?;
        let len = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&self.buffer[at..at + 4]);
            u32::from_le_bytes(four) as usize
        };
        let (key, value) = (len(self.used), len(self.used + 4));
        self.used += HEAD;
        self.fill(key + value)?;
        Ok(Some((self.take(key), self.take(value))))
    }
}

enum Source<D: Disk> {
    Run(RunReader<D>),
    /// Sorted rows in memory and how many of them were given.
    Memory(Heap, usize),
}

impl<D: Disk> Source<D> {
    fn next(&mut self) -> Result<Option<Row>> {
        match self {
            Self::Run(reader) => reader.next(),
            Self::Memory(heap, given) => {
                let row = heap
                    .slots
                    .get(*given)
                    .map(|slot| (heap.key(slot).to_vec(), heap.value(slot).to_vec()));
                *given += 1;
                Ok(row)
            }
        }
    }
}

/// Sorted sources, the older first, as one.
struct Merge<D: Disk> {
    sources: Vec<Source<D>>,
    /// The next row of each source: the least key, and of equal ones the older source, first.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize, Vec<u8>)>>,
    failed: bool,
}

impl<D: Disk> Merge<D> {
    fn new(sources: Vec<Source<D>>) -> Result<Self> {
        let heads = BinaryHeap::with_capacity(sources.len());
        let mut merge = Self {
            sources,
            heads,
            failed: false,
        };
        for n in 0..merge.sources.len() {
            merge.pull(n)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, n: usize) -> Result<()> {
        if let Some((key, value)) = self.sources[n].next()? {
            self.heads.push(Reverse((key, n, value)));
        }
        Ok(())
    }
}

impl<D: Disk> Iterator for Merge<D> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let Reverse((key, n, value)) = self.heads.pop()?;
        if let Err(fault) = self.pull(n) {
            self.failed = true;
            return Some(Err(fault));
        }
        Some(Ok((key, value)))
    }
}

//! The attribute tables of all writers of a bucket: learned by one LIST and a GET for each table that is not in the cache, written
//! in batches, each writer only its own.
//!
//! Invariant: a row of ours is in the state table before the call that made it returns, and leaves it only when the table object that
//! holds it is written; so a killed run loses none on this device.
//!
//! State rows: `i/KEY` tag and bounds of a table, `t/KEY` its bytes, `p/SLOT` a row of ours that is not yet in a table (empty: dropped), `a/SLOT`
//! says that our row is of something that has not come yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use syncline_model::{Fault, Kind, Result, Slot, Tag};
use syncline_store::{Batch, Blob, Cond, Key, Store, Table};

use super::accounts::Accounts;
use super::blobs::{self, ATTRIBUTES, list_all, read_whole, write_whole};
use super::metadata::Metadata;
use super::row::{Row, TABLE_MAX, decode_table, encode_table};

/// Rows in a table that has just been cut; one is cut when it holds twice as many.
const ROWS: usize = 1024;
const FETCHES: usize = 16;
const DECODED: usize = 8;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    tag: Tag,
    #[serde(with = "serde_bytes_box")]
    first: Box<[u8]>,
    #[serde(with = "serde_bytes_box")]
    last: Box<[u8]>,
}

mod serde_bytes_box {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Box<[u8]>, D::Error> {
        Vec::<u8>::deserialize(from).map(Vec::into_boxed_slice)
    }
}

/// See the module.
pub struct Tables {
    store: Arc<dyn Store>,
    state: Arc<dyn Table>,
    own: String,
    known: Mutex<Option<BTreeMap<String, Known>>>,
    decoded: Mutex<VecDeque<(String, Tag, Arc<Vec<Row>>)>>,
    /// Held while a row of ours is put or leaves.
    putting: Mutex<()>,
    waiting: AtomicUsize,
    accounts: OnceLock<Accounts>,
    flushing: tokio::sync::Mutex<()>,
}

fn state_key(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind, b'/'], name].concat()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tables {
    /// The tables of the bucket `store`, seen by the writer `device`.
    pub fn new(store: Arc<dyn Store>, state: Arc<dyn Table>, device: &str) -> Self {
        let waiting = state.scan(b"p/", b"").count();
        Self {
            store,
            state,
            own: format!("{ATTRIBUTES}{device}/"),
            known: Mutex::default(),
            decoded: Mutex::default(),
            putting: Mutex::default(),
            waiting: AtomicUsize::new(waiting),
            accounts: OnceLock::new(),
            flushing: tokio::sync::Mutex::default(),
        }
    }

    /// From now on owners go by the names that these accounts give them.
    pub fn name_owners(&self, accounts: Accounts) {
        self.accounts.get_or_init(|| accounts);
    }

    /// The rows of a table, with the owners that these names have on this machine.
    fn read(&self, bytes: &[u8]) -> Result<Vec<Row>> {
        let mut rows = decode_table(bytes)?;
        if let Some(accounts) = self.accounts.get() {
            for row in &mut rows {
                let meta = row.entry.meta_mut();
                if let (Some(names), Some(owner)) = (&row.names, meta.and_then(|meta| meta.owner.as_mut())) {
                    *owner = accounts.here(names, *owner);
                }
            }
        }
        Ok(rows)
    }

    /// The bytes of one row, its owner's names beside it.
    fn written(&self, row: &Row) -> Vec<u8> {
        let owner = row.entry.meta().and_then(|meta| meta.owner);
        let mut row = row.clone();
        row.names = self
            .accounts
            .get()
            .zip(owner)
            .and_then(|(accounts, owner)| accounts.names(owner));
        encode_table(std::slice::from_ref(&row))
    }

    /// Learns all tables: one listing, and a GET for each that is not in the cache.
    pub async fn refresh(&self) -> Result<()> {
        let listed = list_all(&*self.store, ATTRIBUTES).await?;
        let mut cached = BTreeMap::new();
        for row in self.state.scan(b"i/", b"") {
            let (key, value) = row?;
            if let (Ok(name), Ok(known)) = (
                String::from_utf8(key[2..].to_vec()),
                postcard::from_bytes::<Known>(&value),
            ) {
                cached.insert(name, known);
            }
        }
        let mut now = BTreeMap::new();
        let mut wanted = Vec::new();
        for Listed { key, tag } in listed.into_iter().map(|listed| Listed {
            key: listed.key,
            tag: listed.blob.tag,
        }) {
            match cached.remove(key.as_str()) {
                Some(known) if known.tag == tag && tag != Tag::None => {
                    drop(now.insert(key.as_str().to_owned(), known))
                }
                _ => wanted.push(key),
            }
        }
        // A listing that lags does not show what we wrote a moment ago: our own are asked for by name.
        let unlisted: Vec<_> = cached
            .keys()
            .filter(|name| name.starts_with(&self.own))
            .cloned()
            .collect();
        for name in &unlisted {
            wanted.push(Key::new(name.as_str())?);
        }
        let fetched: Vec<_> = stream::iter(wanted)
            .map(|key| self.fetch(key))
            .buffer_unordered(FETCHES)
            .try_collect()
            .await?;
        cached.retain(|name, _| !fetched.iter().flatten().any(|(fetched, _)| fetched == name));
        let gone = cached
            .into_keys()
            .flat_map(|name| [b'i', b't'].map(|kind| (state_key(kind, name.as_bytes()), None)));
        self.state.write(gone.collect())?;
        now.extend(fetched.into_iter().flatten());
        *lock(&self.known) = Some(now);
        Ok(())
    }

    async fn fetch(&self, key: Key) -> Result<Option<(String, Known)>> {
        let (blob, bytes) = match read_whole(&*self.store, &key, TABLE_MAX, None).await {
            Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
            read => read?,
        };
        let rows = self.read(&bytes).map_err(|fault| fault.at(key.as_str()))?;
        self.keep(key.as_str(), blob.tag, &rows, bytes)
    }

    fn keep(&self, key: &str, tag: Tag, rows: &[Row], bytes: Vec<u8>) -> Result<Option<(String, Known)>> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(None);
        };
        let known = Known {
            tag,
            first: first.slot.as_bytes().into(),
            last: last.slot.as_bytes().into(),
        };
        let index = postcard::to_stdvec(&known).map_err(|e| Fault::new(Kind::Bug, e.to_string(), key))?;
        let name = key.as_bytes();
        self.state.write(vec![
            (state_key(b't', name), Some(bytes)),
            (state_key(b'i', name), Some(index)),
        ])?;
        Ok(Some((key.to_owned(), known)))
    }

    fn load(&self, key: &str, known: &Known) -> Result<Arc<Vec<Row>>> {
        if let Some((.., rows)) = lock(&self.decoded)
            .iter()
            .find(|(name, tag, _)| name == key && *tag == known.tag)
        {
            return Ok(rows.clone());
        }
        let bytes = self.state.get(&state_key(b't', key.as_bytes()))?;
        let bytes = bytes.ok_or_else(|| {
            Fault::new(Kind::Changed, "the cached attribute table is gone", key).retry(true)
        })?;
        let rows = Arc::new(self.read(&bytes).map_err(|fault| fault.at(key))?);
        let mut decoded = lock(&self.decoded);
        decoded.push_front((key.to_owned(), known.tag.clone(), rows.clone()));
        decoded.truncate(DECODED);
        Ok(rows)
    }

    fn known(&self) -> BTreeMap<String, Known> {
        lock(&self.known).clone().unwrap_or_default()
    }

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

    fn waiting_row(&self, value: &[u8]) -> Result<Option<Row>> {
        if value.is_empty() {
            return Ok(None);
        }
        Ok(self.read(value)?.pop())
    }

    /// The row for `slot` that speaks of the object `blob`, or for a directory (no object) the latest.
    pub async fn lookup(&self, slot: &Slot, blob: Option<(&Blob, Option<[u8; 16]>)>) -> Result<Option<Row>> {
        if lock(&self.known).is_none() {
            self.refresh().await?;
        }
        let mut found = Vec::new();
        let tables: Vec<_> = {
            let known = lock(&self.known);
            let all = known.iter().flatten();
            let covers = |known: &Known| &*known.first <= slot.as_bytes() && slot.as_bytes() <= &*known.last;
            all.filter(|(_, known)| covers(known))
                .map(|(key, known)| (key.clone(), known.clone()))
                .collect()
        };
        for (key, known) in tables {
            let rows = self.load(&key, &known)?;
            if let Ok(at) = rows.binary_search_by(|row| row.slot.cmp(slot)) {
                found.push(rows[at].clone());
            }
        }
        if let Some(value) = self.state.get(&state_key(b'p', slot.as_bytes()))? {
            found.extend(self.waiting_row(&value)?);
        }
        Ok(choose(found, blob))
    }

    /// The newest row of ours for exactly this slot.
    pub async fn own_row(&self, slot: &Slot) -> Result<Option<Row>> {
        if lock(&self.known).is_none() {
            self.refresh().await?;
        }
        if let Some(value) = self.state.get(&state_key(b'p', slot.as_bytes()))? {
            return self.waiting_row(&value);
        }
        let covers = |known: &Known| &*known.first <= slot.as_bytes() && slot.as_bytes() <= &*known.last;
        let ours = |(key, known): &(&String, &Known)| key.starts_with(&self.own) && covers(known);
        let tables: Vec<_> = {
            let known = lock(&self.known);
            let all = known.iter().flatten().filter(ours);
            all.map(|(key, known)| (key.clone(), known.clone())).collect()
        };
        let mut newest: Option<Row> = None;
        for (key, known) in tables {
            let rows = self.load(&key, &known)?;
            let found = rows
                .binary_search_by(|row| row.slot.cmp(slot))
                .map(|at| &rows[at]);
            if let Ok(row) = found
                && newest
                    .as_ref()
                    .is_none_or(|newest| newest.generation <= row.generation)
            {
                newest = Some(row.clone());
            }
        }
        Ok(newest)
    }

    /// True when some writer has, or had, something at exactly this slot.
    pub fn has_row(&self, slot: &Slot) -> Result<bool> {
        if let Some(value) = self.state.get(&state_key(b'p', slot.as_bytes()))? {
            return Ok(!value.is_empty());
        }
        let tables: Vec<_> = {
            let known = lock(&self.known);
            let covers = |known: &Known| &*known.first <= slot.as_bytes() && slot.as_bytes() <= &*known.last;
            known
                .iter()
                .flatten()
                .filter(|(_, known)| covers(known))
                .map(|(key, known)| (key.clone(), known.clone()))
                .collect()
        };
        for (key, known) in tables {
            if self
                .load(&key, &known)?
                .binary_search_by(|row| row.slot.cmp(slot))
                .is_ok()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Remembers what now stands at a slot of ours; `None` drops the row.
    pub fn put(&self, slot: &Slot, row: Option<&Row>) -> Result<()> {
        let came = row.is_none_or(|row| !row.entry.is_file());
        let mark = came.then(|| (state_key(b'a', slot.as_bytes()), None));
        self.put_with(slot, row, mark)
    }

    /// Remembers what is about to come to a slot of ours.
    pub fn announce(&self, row: &Row) -> Result<()> {
        let mark = (state_key(b'a', row.slot.as_bytes()), Some(Vec::new()));
        self.put_with(&row.slot, Some(row), Some(mark))
    }

    fn put_with(
        &self,
        slot: &Slot,
        row: Option<&Row>,
        mark: Option<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<()> {
        let _putting = lock(&self.putting);
        let value = row.map_or_else(Vec::new, |row| self.written(row));
        let put = (state_key(b'p', slot.as_bytes()), Some(value));
        self.state.write([put].into_iter().chain(mark).collect())?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Slots of which something was announced, and nothing more is known.
    pub fn announced(&self) -> impl Iterator<Item = Result<Slot>> + use<> {
        let at = self.own.clone();
        self.state.scan(b"a/", b"").map(move |row| {
            let (key, _) = row?;
            Slot::new(&key[2..]).map_err(|why| Fault::new(Kind::Corrupt, why.to_string(), &at))
        })
    }

    /// What was announced at a slot has come, or is no longer what our row is of.
    pub fn came(&self, slot: &Slot) -> Result<()> {
        self.state.write(vec![(state_key(b'a', slot.as_bytes()), None)])
    }

    /// Number of rows that are not in a table yet, or a little more.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

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

struct Listed {
    key: Key,
    tag: Tag,
}

/// The row that counts among those of one slot; among equals the last.
pub fn choose(rows: Vec<Row>, blob: Option<(&Blob, Option<[u8; 16]>)>) -> Option<Row> {
    let fits = |row: &Row| match blob {
        Some((blob, md5)) => !row.slot.is_dir() && row.fits(blob, md5),
        None => row.slot.is_dir(),
    };
    rows.into_iter().filter(fits).max_by_key(|row| row.generation)
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

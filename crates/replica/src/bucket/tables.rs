//! The attribute tables of all writers of a bucket: learned by one LIST and a GET for each table that is not in the cache, written
//! in batches, each writer only its own.
//!
//! Invariant: a row of ours is in the state table before the call that made it returns, and leaves it only when the table object that
//! holds it is written; so a killed run loses none on this device.
//!
//! State rows: `i/KEY` tag and bounds of a table, `t/KEY` its bytes, `p/SLOT` a row of ours that is not yet in a table (empty: dropped), `a/SLOT`
//! says that our row is of something that has not come yet.

mod stream;
mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use syncline_model::{Fault, Kind, Result, Slot, Tag};
use syncline_store::{Blob, Key, Store, Table};

use super::accounts::Accounts;
use super::blobs::{ATTRIBUTES, list_all, read_whole};
use super::row::{Row, TABLE_MAX, decode_table, encode_table};

pub use stream::RowStream;

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
        let fetched: Vec<_> = futures::stream::iter(wanted)
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

    /// The tables that may have a row for `slot`.
    fn covering(&self, slot: &Slot) -> Vec<(String, Known)> {
        let covers = |known: &Known| &*known.first <= slot.as_bytes() && slot.as_bytes() <= &*known.last;
        let known = lock(&self.known);
        let tables = known.iter().flatten().filter(|(_, known)| covers(known));
        tables.map(|(key, known)| (key.clone(), known.clone())).collect()
    }

    fn row_in(&self, key: &str, known: &Known, slot: &Slot) -> Result<Option<Row>> {
        let rows = self.load(key, known)?;
        let at = rows.binary_search_by(|row| row.slot.cmp(slot));
        Ok(at.ok().map(|at| rows[at].clone()))
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
        for (key, known) in self.covering(slot) {
            found.extend(self.row_in(&key, &known, slot)?);
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
        let mut newest: Option<Row> = None;
        let ours = |(key, _): &(String, Known)| key.starts_with(&self.own);
        for (key, known) in self.covering(slot).into_iter().filter(ours) {
            let found = self.row_in(&key, &known, slot)?;
            let older = |row: &Row| {
                newest
                    .as_ref()
                    .is_none_or(|newest| newest.generation <= row.generation)
            };
            if let Some(row) = found.filter(older) {
                newest = Some(row);
            }
        }
        Ok(newest)
    }

    /// True when some writer has, or had, something at exactly this slot.
    pub fn has_row(&self, slot: &Slot) -> Result<bool> {
        if let Some(value) = self.state.get(&state_key(b'p', slot.as_bytes()))? {
            return Ok(!value.is_empty());
        }
        for (key, known) in self.covering(slot) {
            if self.row_in(&key, &known, slot)?.is_some() {
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

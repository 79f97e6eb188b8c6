//! The `Store` seam: named blobs. Object-safe and asynchronous; free of any one service's peculiarities.
//!
//! Invariant: nothing becomes visible under a key except by [`Draft::publish`], whole and under its condition. A store that cannot
//! check a condition itself (see [`Caps`]) looks right before it publishes; the window that is left is said in `Caps`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Fault, Kind, Result, Tag, Time};

/// A name in a store: any bytes but NUL, 1 to 1024 of them, below the store's own prefix. Exact: blanks, doubled
/// slashes and control bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// Longest key, in bytes.
    pub const MAX: usize = 1024;

    /// Checks and takes `text`.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX || text.contains('\0') {
            let what = format!("a key has 1 to {} bytes and no NUL", Self::MAX);
            return Err(Fault::new(Kind::Invalid, what, text.escape_default()));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A condition on what stands at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cond {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Absent,
    /// What bears this tag is still there.
    Is(Tag),
}

/// What this store really does, found by probing and not by what its library claims.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Caps {
    /// `publish` under `Absent` is refused by the store itself when something is there.
    pub if_absent: bool,
    /// `publish` under `Is` is refused by the store itself when something else is there.
    pub if_is: bool,
    /// The same for `remove`.
    pub remove_if_is: bool,
    /// Listings come in ascending byte order of keys.
    pub sorted: bool,
    /// The tag of an object written in one piece is the MD5 of its bytes.
    pub tag_is_md5: bool,
    /// Metadata can be kept beside an object.
    pub metadata: bool,
    /// `reuse` copies without the bytes travelling.
    pub reuse: bool,
    /// Replaced and removed objects remain as versions, which can be read, copied where `reuse` can, and dropped.
    // Written down under another name than before: what earlier probes found was less than that.
    #[serde(rename = "kept_versions")]
    pub versions: bool,
    /// Largest object written in one request, in bytes; larger ones go in parts.
    pub single_max: u64,
}

impl Caps {
    /// Nothing is believed.
    pub const LEAST: Self = Self {
        if_absent: false,
        if_is: false,
        remove_if_is: false,
        sorted: false,
        tag_is_md5: false,
        metadata: false,
        reuse: false,
        versions: false,
        single_max: 5 << 30,
    };
}

/// The name by which a store knows one version of what stands or stood at a key. Opaque.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Version(pub Box<str>);

/// What is known of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Length in bytes.
    pub size: u64,
    /// The store's proof of identity.
    pub tag: Tag,
    /// When the store says it was written.
    pub modified: Option<Time>,
    /// MD5 of its bytes, where the store keeps it.
    pub md5: Option<[u8; 16]>,
    /// Metadata kept beside it, names in lower case; `None` when this request did not tell (listings do not).
    pub metadata: Option<BTreeMap<String, String>>,
    /// The version that it is, if that stays readable when something else comes to stand at the key or nothing does; `None`
    /// where the store keeps none, and when this request did not tell (listings do not).
    pub version: Option<Version>,
}

/// One page entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key as the store has it; keys that are no [`Key`]s (NUL, too long) are not listed but counted by the meter.
    pub key: Key,
    /// What is known of it.
    pub blob: Blob,
}

/// A listing under way: pages until `None`. An error half way is an error, never an end.
#[async_trait]
pub trait Listing: Send {
    /// The next page.
    async fn next(&mut self) -> Result<Option<Vec<Listed>>>;
}

/// A body under way. Ends with an error, never early, when the connection breaks or the length is not what was promised.
#[async_trait]
pub trait Seen: Send {
    /// What is being read, from the reply to this very request.
    fn blob(&self) -> &Blob;
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>>;
}

/// Room in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSpace {
    /// Bytes in all, where it tells.
    pub total: Option<u64>,
    /// Bytes left, where it tells.
    pub free: Option<u64>,
}

/// Named blobs.
#[async_trait]
pub trait Store: Send + Sync {
    /// The place as a person wrote it, without secrets.
    fn label(&self) -> &str;
    /// What it really does.
    fn caps(&self) -> &Caps;
    /// Reads `range` (start, length; `None`: all). With `seen`, only if that is still the blob's tag, else `Changed`.
    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>>;
    /// Begins a blob. `size`, when known, chooses between one request and parts. Nothing is visible yet. `resume`
    /// names an upload that an earlier process began for the same bytes; the draft says from where to go on.
    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: BTreeMap<String, String>,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>>;
    /// Asks by name; `NotFound` when nothing is there.
    async fn stat(&self, key: &Key) -> Result<Blob>;
    /// Lists keys that begin with `under` and sort after `after`.
    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>>;
    /// Removes blobs, each under its condition; one result for each, in order. Removing what is not there is no error
    /// under `Any`.
    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>>;
    /// Copies `from` (which must still bear `seen`) to `to` under `cond`, bytes and metadata, without the bytes
    /// travelling; with `metadata`, that instead. `Unsupported` where the store cannot.
    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob>;
    /// Reads `range` of a version of what stands or stood at `key`; `NotFound` when the store no longer keeps it.
    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>>;
    /// Like `reuse`, of a version of what stands or stood at `from`.
    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob>;
    /// Forgets a version of what stood at `key` for good; no error if it is gone. `Changed` if it is what stands there: that is
    /// looked at right before, and goes by [`Store::remove`] alone.
    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()>;
    /// Room, where the store tells.
    async fn space(&self) -> Result<StoreSpace>;
    /// Uploads that earlier processes left unfinished under `under`: key and the name to resume or discard.
    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>>;
    /// Gives up an unfinished upload; no error if it is gone.
    async fn discard(&self, key: &Key, upload: &str) -> Result<()>;
}

/// Bytes that are not yet visible.
#[async_trait]
pub trait Draft: Send {
    /// The name by which a later process may resume this upload, once there is one.
    fn upload(&self) -> Option<String>;
    /// Bytes that a resumed upload holds already; the caller goes on behind them.
    fn held(&self) -> u64;
    /// Takes the next bytes; waits when enough are in flight.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;
    /// Makes the blob visible, whole, if `only_if` holds; else `Changed` and nothing is visible.
    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob>;
    /// Drops what was written.
    async fn discard(self: Box<Self>) -> Result<()>;
}

//! Counts requests and bytes.
//!
//! Invariant: a request is counted once, when it goes out, retries included.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Result, Tag};

use crate::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

/// Counters that everybody who holds a clone shares.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    head: AtomicU64,
    delete: AtomicU64,
    copy: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    odd_keys: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Writes, parts and the beginning and end of uploads in parts included.
    pub put: u64,
    /// Reads of bodies.
    pub get: u64,
    /// Pages of listings, of unfinished uploads and of their parts too.
    pub list: u64,
    /// Questions by name.
    pub head: u64,
    /// Removals, each batch one, and uploads given up.
    pub delete: u64,
    /// Copies within the store.
    pub copy: u64,
    /// Bytes of bodies that went out.
    pub sent: u64,
    /// Bytes of bodies that came in.
    pub received: u64,
    /// Names in listings that are no keys and were left out.
    pub odd_keys: u64,
}

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A write.
    Put,
    /// A read.
    Get,
    /// A page of a listing.
    List,
    /// A question by name.
    Head,
    /// A removal.
    Delete,
    /// A copy within the store.
    Copy,
}

impl Meter {
    /// Counts one request.
    pub fn request(&self, kind: Request) {
        let cell = match kind {
            Request::Put => &self.0.put,
            Request::Get => &self.0.get,
            Request::List => &self.0.list,
            Request::Head => &self.0.head,
            Request::Delete => &self.0.delete,
            Request::Copy => &self.0.copy,
        };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that went out.
    pub fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that came in.
    pub fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a listed name that is no key.
    pub fn odd_key(&self) {
        self.0.odd_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let cells = &*self.0;
        Counts {
            put: of(&cells.put),
            get: of(&cells.get),
            list: of(&cells.list),
            head: of(&cells.head),
            delete: of(&cells.delete),
            copy: of(&cells.copy),
            sent: of(&cells.sent),
            received: of(&cells.received),
            odd_keys: of(&cells.odd_keys),
        }
    }
}

/// Counts each call on the seam as one request: for stores that do not count themselves.
pub struct Metered {
    inner: Arc<dyn Store>,
    meter: Meter,
}

impl Metered {
    /// Counts what goes to `inner` in `meter`.
    pub fn new(inner: Arc<dyn Store>, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

struct MeteredSeen {
    inner: Box<dyn Seen>,
    meter: Meter,
}

#[async_trait]
impl Seen for MeteredSeen {
    fn blob(&self) -> &Blob {
        self.inner.blob()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let bytes = self.inner.next().await?;
        self.meter.received(bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes)
    }
}

struct MeteredListing {
    inner: Box<dyn Listing>,
    meter: Meter,
}

#[async_trait]
impl Listing for MeteredListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        let page = self.inner.next().await;
        if !matches!(page, Ok(None)) {
            self.meter.request(Request::List);
        }
        page
    }
}

struct MeteredDraft {
    inner: Box<dyn Draft>,
    meter: Meter,
}

#[async_trait]
impl Draft for MeteredDraft {
    fn upload(&self) -> Option<String> {
        self.inner.upload()
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.meter.sent(bytes.len());
        self.inner.write(bytes).await
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        self.meter.request(Request::Put);
        self.inner.publish(only_if).await
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        self.inner.discard().await
    }
}

#[async_trait]
impl Store for Metered {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        self.meter.request(Request::Get);
        let inner = self.inner.get(key, range, seen).await?;
        Ok(Box::new(MeteredSeen {
            inner,
            meter: self.meter.clone(),
        }))
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: BTreeMap<String, String>,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        let inner = self.inner.draft(key, size, metadata, resume).await?;
        Ok(Box::new(MeteredDraft {
            inner,
            meter: self.meter.clone(),
        }))
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        self.meter.request(Request::Head);
        self.inner.stat(key).await
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let inner = self.inner.list(under, after).await?;
        Ok(Box::new(MeteredListing {
            inner,
            meter: self.meter.clone(),
        }))
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        self.meter.request(Request::Delete);
        self.inner.remove(keys).await
    }

    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        self.meter.request(Request::Copy);
        self.inner.reuse(from, seen, to, cond, metadata).await
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        self.meter.request(Request::Get);
        let inner = self.inner.get_version(key, version, range).await?;
        Ok(Box::new(MeteredSeen {
            inner,
            meter: self.meter.clone(),
        }))
    }

    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        self.meter.request(Request::Copy);
        self.inner.reuse_version(from, version, to, cond, metadata).await
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        self.meter.request(Request::Delete);
        self.inner.drop_version(key, version).await
    }

    async fn space(&self) -> Result<StoreSpace> {
        self.inner.space().await
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        self.meter.request(Request::List);
        self.inner.unfinished(under).await
    }

    async fn discard(&self, key: &Key, upload: &str) -> Result<()> {
        self.meter.request(Request::Delete);
        self.inner.discard(key, upload).await
    }
}

//! Bounds requests in flight and bytes a second.
//!
//! Invariants: at no time do more bodies or more other calls run than allowed; every byte of every body is paid for.
//! Bodies under way and other calls have slots of their own, so that a copy within one store cannot wait for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Clock, Fault, Kind, Result, Tag};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

/// Bytes a second, shared by all who hold a clone.
#[derive(Clone)]
pub struct Rate {
    clock: Arc<dyn Clock>,
    per_second: Option<u64>,
    /// When all that was paid for so far will have gone.
    free_at: Arc<Mutex<Duration>>,
}

impl Rate {
    /// At most `per_second` bytes; `None`: as fast as it goes.
    pub fn new(clock: Arc<dyn Clock>, per_second: Option<u64>) -> Self {
        Self {
            clock,
            per_second: per_second.map(|rate| rate.max(1)),
            free_at: Arc::default(),
        }
    }

    /// Waits until `bytes` may go.
    pub async fn pay(&self, bytes: usize) {
        let Some(rate) = self.per_second else { return };
        let now = self.clock.elapsed();
        let wait = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*free_at).max(now);
            *free_at = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free_at - now
        };
        self.clock.sleep(wait).await;
    }
}

/// Lets only so much through to `inner` at once.
pub struct Limit {
    inner: Arc<dyn Store>,
    calls: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    rate: Rate,
}

async fn slot(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let closed = |_| Fault::new(Kind::Bug, "the limit's slots were closed", "");
    Arc::clone(of).acquire_owned().await.map_err(closed)
}

impl Limit {
    /// At most `requests` bodies and as many other calls at once, and bytes at `rate`.
    pub fn new(inner: Arc<dyn Store>, requests: usize, rate: Rate) -> Self {
        let slots = || Arc::new(Semaphore::new(requests.max(1)));
        Self {
            inner,
            calls: slots(),
            bodies: slots(),
            rate,
        }
    }
}

struct LimitedSeen {
    inner: Box<dyn Seen>,
    rate: Rate,
    _slot: OwnedSemaphorePermit,
}

#[async_trait]
impl Seen for LimitedSeen {
    fn blob(&self) -> &Blob {
        self.inner.blob()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let bytes = self.inner.next().await?;
        self.rate.pay(bytes.as_ref().map_or(0, Bytes::len)).await;
        Ok(bytes)
    }
}

struct LimitedListing {
    inner: Box<dyn Listing>,
    calls: Arc<Semaphore>,
}

#[async_trait]
impl Listing for LimitedListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        let _slot = slot(&self.calls).await?;
        self.inner.next().await
    }
}

struct LimitedDraft {
    inner: Box<dyn Draft>,
    calls: Arc<Semaphore>,
    rate: Rate,
}

#[async_trait]
impl Draft for LimitedDraft {
    fn upload(&self) -> Option<String> {
        self.inner.upload()
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.rate.pay(bytes.len()).await;
        let _slot = slot(&self.calls).await?;
        self.inner.write(bytes).await
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        let _slot = slot(&self.calls).await?;
        self.inner.publish(only_if).await
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        self.inner.discard().await
    }
}

#[async_trait]
impl Store for Limit {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        let slot = slot(&self.bodies).await?;
        let inner = self.inner.get(key, range, seen).await?;
        Ok(Box::new(LimitedSeen {
            inner,
            rate: self.rate.clone(),
            _slot: slot,
        }))
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: BTreeMap<String, String>,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        let _slot = slot(&self.calls).await?;
        let inner = self.inner.draft(key, size, metadata, resume).await?;
        Ok(Box::new(LimitedDraft {
            inner,
            calls: Arc::clone(&self.calls),
            rate: self.rate.clone(),
        }))
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        let _slot = slot(&self.calls).await?;
        self.inner.stat(key).await
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let _slot = slot(&self.calls).await?;
        let inner = self.inner.list(under, after).await?;
        Ok(Box::new(LimitedListing {
            inner,
            calls: Arc::clone(&self.calls),
        }))
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        match slot(&self.calls).await {
            Ok(_slot) => self.inner.remove(keys).await,
            Err(fault) => keys
                .iter()
                .map(|_| Err(Fault::new(fault.kind, fault.what.clone(), "")))
                .collect(),
        }
    }

    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        let _slot = slot(&self.calls).await?;
        self.inner.reuse(from, seen, to, cond, metadata).await
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        let slot = slot(&self.bodies).await?;
        let inner = self.inner.get_version(key, version, range).await?;
        Ok(Box::new(LimitedSeen {
            inner,
            rate: self.rate.clone(),
            _slot: slot,
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
        let _slot = slot(&self.calls).await?;
        self.inner.reuse_version(from, version, to, cond, metadata).await
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        let _slot = slot(&self.calls).await?;
        self.inner.drop_version(key, version).await
    }

    async fn space(&self) -> Result<StoreSpace> {
        let _slot = slot(&self.calls).await?;
        self.inner.space().await
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        let _slot = slot(&self.calls).await?;
        self.inner.unfinished(under).await
    }

    async fn discard(&self, key: &Key, upload: &str) -> Result<()> {
        let _slot = slot(&self.calls).await?;
        self.inner.discard(key, upload).await
    }
}

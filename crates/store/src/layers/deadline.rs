//! Ends what does not answer.
//!
//! Invariant: no call on the seam takes longer than its time plus what its own bytes need at the slowest rate that is
//! still called progress; then it is a fault that may be tried again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use syncline_model::{Clock, Fault, Kind, Result, Tag};

use crate::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

/// Slowest rate that is progress, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// What a copy counts as: five gibibytes, the most that one may have, take some stores minutes.
const COPY: u64 = SLOWEST * 300;

/// Gives each call on `inner` a deadline.
pub struct Deadline {
    inner: Arc<dyn Store>,
    limit: Timed,
}

#[derive(Clone)]
struct Timed {
    clock: Arc<dyn Clock>,
    time: Duration,
}

impl Timed {
    async fn run<T>(&self, at: &str, bytes: u64, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let time = self.time + Duration::from_secs(bytes / SLOWEST);
        futures::pin_mut!(call);
        match select(call, self.clock.sleep(time)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => {
                let what = format!("no answer within {} s", time.as_secs());
                Err(Fault::new(Kind::Offline, what, at))
            }
        }
    }
}

impl Deadline {
    /// Gives each call `time`.
    pub fn new(inner: Arc<dyn Store>, clock: Arc<dyn Clock>, time: Duration) -> Self {
        Self {
            inner,
            limit: Timed { clock, time },
        }
    }
}

struct TimedSeen {
    inner: Box<dyn Seen>,
    limit: Timed,
    at: String,
}

#[async_trait]
impl Seen for TimedSeen {
    fn blob(&self) -> &Blob {
        self.inner.blob()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.limit.run(&self.at, 0, self.inner.next()).await
    }
}

struct TimedListing {
    inner: Box<dyn Listing>,
    limit: Timed,
    at: String,
}

#[async_trait]
impl Listing for TimedListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        self.limit.run(&self.at, 0, self.inner.next()).await
    }
}

struct TimedDraft {
    inner: Box<dyn Draft>,
    limit: Timed,
    at: String,
    written: u64,
}

#[async_trait]
impl Draft for TimedDraft {
    fn upload(&self) -> Option<String> {
        self.inner.upload()
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.written += bytes.len() as u64;
        self.limit
            .run(&self.at, self.written, self.inner.write(bytes))
            .await
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        self.limit
            .run(&self.at, self.written, self.inner.publish(only_if))
            .await
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        self.limit.run(&self.at, 0, self.inner.discard()).await
    }
}

#[async_trait]
impl Store for Deadline {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        let inner = self
            .limit
            .run(self.label(), 0, self.inner.get(key, range, seen))
            .await?;
        Ok(Box::new(TimedSeen {
            inner,
            limit: self.limit.clone(),
            at: self.label().to_string(),
        }))
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: BTreeMap<String, String>,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        let inner = self
            .limit
            .run(self.label(), 0, self.inner.draft(key, size, metadata, resume))
            .await?;
        Ok(Box::new(TimedDraft {
            inner,
            limit: self.limit.clone(),
            at: self.label().to_string(),
            written: 0,
        }))
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        self.limit.run(self.label(), 0, self.inner.stat(key)).await
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let inner = self
            .limit
            .run(self.label(), 0, self.inner.list(under, after))
            .await?;
        Ok(Box::new(TimedListing {
            inner,
            limit: self.limit.clone(),
            at: self.label().to_string(),
        }))
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        // A conditional removal may be a request of its own; a thousand of them are not one call's time.
        let allowance = keys.len() as u64 * SLOWEST / 4;
        match self
            .limit
            .run(self.label(), allowance, async {
                Ok(self.inner.remove(keys).await)
            })
            .await
        {
            Ok(results) => results,
            Err(fault) => keys
                .iter()
                .map(|_| Err(Fault::new(fault.kind, fault.what.clone(), &fault.at)))
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
        let copied = self.inner.reuse(from, seen, to, cond, metadata);
        self.limit.run(self.label(), COPY, copied).await
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        let inner = self
            .limit
            .run(self.label(), 0, self.inner.get_version(key, version, range))
            .await?;
        Ok(Box::new(TimedSeen {
            inner,
            limit: self.limit.clone(),
            at: self.label().to_string(),
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
        let copied = self.inner.reuse_version(from, version, to, cond, metadata);
        self.limit.run(self.label(), COPY, copied).await
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        self.limit
            .run(self.label(), 0, self.inner.drop_version(key, version))
            .await
    }

    async fn space(&self) -> Result<StoreSpace> {
        self.limit.run(self.label(), 0, self.inner.space()).await
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        self.limit
            .run(self.label(), 0, self.inner.unfinished(under))
            .await
    }

    async fn discard(&self, key: &Key, upload: &str) -> Result<()> {
        self.limit
            .run(self.label(), 0, self.inner.discard(key, upload))
            .await
    }
}

//! A replica that is read at a limited rate: `--bandwidth` between two local places.
//!
//! Invariant: every byte of a body is paid for, so files are not lent (the kernel would copy them unseen).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{
    Content, Identity, Marker, Observation, Profile, RelPath, Result, Scope, Time, TrashRef,
};
use syncline_replica::{Body, Edit, EditOptions, Replica, TrashRun, Walk};
use syncline_store::layers::Rate;

/// Reads from `inner` no faster than `rate`.
pub struct Paced {
    /// What is read.
    pub inner: Arc<dyn Replica>,
    /// How fast.
    pub rate: Rate,
}

struct PacedBody {
    inner: Box<dyn Body>,
    rate: Rate,
    /// Read, and not yet paid for.
    ahead: Bytes,
}

/// Paid for at once: little enough that a slow rate does not come in bursts.
const SLICE: usize = 32 << 10;

#[async_trait]
impl Body for PacedBody {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ahead.is_empty() {
            match self.inner.next().await? {
                Some(bytes) => self.ahead = bytes,
                None => return Ok(None),
            }
        }
        let slice = self.ahead.split_to(SLICE.min(self.ahead.len()));
        self.rate.pay(slice.len()).await;
        Ok(Some(slice))
    }

    async fn check(&mut self) -> Result<()> {
        self.inner.check().await
    }
}

#[async_trait]
impl Replica for Paced {
    fn profile(&self) -> &Profile {
        self.inner.profile()
    }
    async fn identity(&self) -> Result<Identity> {
        self.inner.identity().await
    }
    async fn mark(&self, marker: &Marker) -> Result<()> {
        self.inner.mark(marker).await
    }
    async fn clock(&self) -> Result<Option<Time>> {
        self.inner.clock().await
    }
    async fn scan(&self, scope: &Scope) -> Result<Box<dyn Walk>> {
        self.inner.scan(scope).await
    }
    async fn find(&self, path: &RelPath, scope: &Scope) -> Result<Option<Observation>> {
        self.inner.find(path, scope).await
    }
    async fn digest(&self, path: &RelPath, expect: &Observation) -> Result<Content> {
        self.inner.digest(path, expect).await
    }
    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>> {
        let inner = self.inner.read(path, expect, from).await?;
        Ok(Box::new(PacedBody {
            inner,
            rate: self.rate.clone(),
            ahead: Bytes::new(),
        }))
    }
    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>> {
        self.inner.edit(options).await
    }
    async fn trash(&self) -> Result<Vec<TrashRun>> {
        self.inner.trash().await
    }
    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        self.inner.trash_list(run).await
    }
    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        self.inner.trash_read(at).await
    }
    async fn trash_empty(&self, run: &str) -> Result<()> {
        self.inner.trash_empty(run).await
    }
    async fn space(&self) -> Result<(Option<u64>, Option<u64>)> {
        self.inner.space().await
    }
}

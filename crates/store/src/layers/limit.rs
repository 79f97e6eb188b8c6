//! Bounds requests in flight and bytes a second.
//!
//! Invariants: at no time do more bodies or more other calls run than allowed; every byte of every body is paid for.
//! Bodies under way and other calls have slots of their own, so that a copy within one store cannot wait for itself.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Clock, Fault, Kind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::layer::{Layer, Verb, Wanted};
use crate::{Blob, Seen, Store};

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
#[derive(Clone)]
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

impl Layer for Limit {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    async fn once<T: Send>(&self, verb: Verb, attempt: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if let Verb::Write { bytes, .. } = verb {
            self.rate.pay(bytes).await;
        }
        // To give up a draft never waits behind the drafts of others.
        let _slot = match verb {
            Verb::Drop => None,
            _ => Some(slot(&self.calls).await?),
        };
        attempt.await
    }

    async fn open(&self, wanted: Wanted<'_>) -> Result<Box<dyn Seen>> {
        let slot = slot(&self.bodies).await?;
        let inner = wanted.open(self.below()).await?;
        Ok(Box::new(LimitedSeen {
            inner,
            rate: self.rate.clone(),
            _slot: slot,
        }))
    }
}

//! A draft that is begun again, with all that was written to it, when something goes wrong.
//!
//! Invariant: what goes in parts is not begun again here; a `Changed` that our own earlier attempt caused is a success.

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Fault, Kind, Result};

use super::{KEPT_MAX, NONCE, Retry};
use crate::layer::Metadata;
use crate::{Blob, Cond, Draft, Key};

/// See the module.
pub(super) struct RetryDraft {
    retry: Retry,
    key: Key,
    size: Option<u64>,
    metadata: Metadata,
    inner: Box<dyn Draft>,
    /// Everything written so far; `None` once it is too much, or does not begin at the beginning.
    kept: Option<Vec<Bytes>>,
    kept_len: usize,
}

impl RetryDraft {
    /// Of the draft `inner`, which has just been begun or found again.
    pub fn of(
        retry: &Retry,
        key: &Key,
        size: Option<u64>,
        metadata: Metadata,
        inner: Box<dyn Draft>,
    ) -> Self {
        let kept = (inner.held() == 0).then(Vec::new);
        Self {
            retry: retry.clone(),
            key: key.clone(),
            size,
            metadata,
            inner,
            kept,
            kept_len: 0,
        }
    }

    /// A new draft that holds what this one held.
    async fn begin_again(&mut self, kept: &[Bytes]) -> Result<Box<dyn Draft>> {
        let mut draft = self
            .retry
            .inner
            .draft(&self.key, self.size, self.metadata.clone(), None)
            .await?;
        for bytes in kept {
            draft.write(bytes.clone()).await?;
        }
        Ok(draft)
    }

    async fn replace(&mut self, fault: Fault, tried: &mut u32) -> Result<()> {
        // What goes in parts its store sends again itself, and a later process goes on with it: another draft would only leave this upload
        // behind, under a name that nobody knows.
        let Some(kept) = self.kept.take().filter(|_| self.inner.upload().is_none()) else {
            return Err(fault);
        };
        let mut fault = fault;
        let made = loop {
            *tried += 1;
            match self.retry.patience.wait(fault, *tried).await {
                Ok(_) => {}
                Err(fault) => break Err(fault),
            }
            match self.begin_again(&kept).await {
                Ok(draft) => break Ok(draft),
                Err(next) => fault = next,
            }
        };
        self.kept = Some(kept);
        self.inner = made?;
        Ok(())
    }
}

#[async_trait]
impl Draft for RetryDraft {
    fn upload(&self) -> Option<String> {
        self.inner.upload()
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            if self.kept_len + bytes.len() <= KEPT_MAX {
                kept.push(bytes.clone());
                self.kept_len += bytes.len();
            } else {
                self.kept = None;
            }
        }
        match self.inner.write(bytes).await {
            Ok(()) => Ok(()),
            // The new draft takes these bytes too: they are kept already.
            Err(fault) => self.replace(fault, &mut 0).await,
        }
    }

    async fn publish(mut self: Box<Self>, only_if: Cond) -> Result<Blob> {
        let mut tried = 0;
        loop {
            let inner = std::mem::replace(&mut self.inner, Box::new(Spent));
            let kept = self.kept.take().filter(|_| inner.upload().is_none());
            match inner.publish(only_if.clone()).await {
                Ok(blob) => {
                    self.retry.patience.succeeded();
                    return Ok(blob);
                }
                Err(fault)
                    if fault.is(Kind::Changed)
                        && tried > 0
                        && !syncline_model::zoo::on("412-read-as-failure") =>
                {
                    let nonce = self.metadata.get(NONCE).cloned().unwrap_or_default();
                    return self.retry.is_ours(&self.key, &nonce).await.ok_or(fault);
                }
                Err(fault) => {
                    self.kept = kept;
                    self.replace(fault, &mut tried).await?;
                }
            }
        }
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        self.inner.discard().await
    }
}

/// Stands where a draft was that has been published.
struct Spent;

#[async_trait]
impl Draft for Spent {
    fn upload(&self) -> Option<String> {
        None
    }

    fn held(&self) -> u64 {
        0
    }

    async fn write(&mut self, _: Bytes) -> Result<()> {
        Err(Fault::new(Kind::Bug, "this draft was published", ""))
    }

    async fn publish(self: Box<Self>, _: Cond) -> Result<Blob> {
        Err(Fault::new(Kind::Bug, "this draft was published", ""))
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

//! Tries again: by [`Fault::retry`], with exponential back-off, jitter and a budget.
//!
//! Invariants: a fault that says `retry: false` is never tried again; when the budget is empty nothing is (no storm
//! follows an outage); a body or a listing goes on behind what was handed out, under the tag that was seen first; a
//! `Changed` that our own earlier attempt caused is recognised by a nonce in the metadata and is a success.

mod draft;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Fault, Kind, Result, Tag};

use crate::layer::{Layer, Metadata, Verb, Wanted, Which};
use crate::world::World;
use crate::{Blob, Cond, Draft, Key, Listed, Listing, Seen, Store, Version};

use draft::RetryDraft;

/// Metadata name under which a draft bears its nonce.
pub const NONCE: &str = "syncline-draft";
/// Bytes of a draft that are kept to be sent again. Larger drafts go in parts, which their store sends again itself.
pub const KEPT_MAX: usize = 8 << 20;

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct RetryRule {
    /// Attempts in all.
    pub tries: u32,
    /// Longest wait before the second attempt; doubles with each.
    pub first: Duration,
    /// Longest wait before any.
    pub longest: Duration,
    /// Retries that may be outstanding before successes earn new ones.
    pub budget: f64,
    /// Part of a retry that a success earns.
    pub earned: f64,
}

impl Default for RetryRule {
    fn default() -> Self {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(20));
        Self {
            tries: 7,
            first,
            longest,
            budget: 200.0,
            earned: 0.2,
        }
    }
}

/// How long the other side asks to wait (`Retry-After`); lies somewhere below a fault as a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("asked to wait {} s", .0.as_secs_f32())]
pub struct Pause(pub Duration);

/// Decides whether and when to try again. One budget for all who share it.
pub struct Patience {
    world: World,
    rule: RetryRule,
    budget: Mutex<f64>,
}

impl Patience {
    /// A full budget.
    pub fn new(world: World, rule: RetryRule) -> Self {
        let budget = Mutex::new(rule.budget);
        Self { world, rule, budget }
    }

    /// Earns a part of a retry.
    pub fn succeeded(&self) {
        let mut left = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        *left = (*left + self.rule.earned).min(self.rule.budget);
    }

    fn spend(&self) -> bool {
        let mut left = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }

    /// Waits before attempt `attempt` + 1 (`attempt` counts from 1) after `fault`; hands it back when there is none.
    pub async fn wait(&self, fault: Fault, attempt: u32) -> Result<Fault> {
        if !fault.retry || attempt >= self.rule.tries {
            return Err(fault);
        }
        if !self.spend() {
            let hint = "too many retries of late: the store is not well; the next run goes on from here";
            return Err(if fault.hint.is_none() {
                fault.hint(hint)
            } else {
                fault
            });
        }
        let asked = pause_of(&fault);
        if asked.is_some_and(|asked| asked > self.rule.longest * 3) {
            return Err(fault);
        }
        let ceiling = self
            .rule
            .first
            .saturating_mul(1 << (attempt - 1).min(20))
            .min(self.rule.longest);
        // Half is fixed and half is jitter, so that many waiters part and none comes back at once.
        let share = (self.world.dice.roll() >> 11) as f64 / (1u64 << 53) as f64;
        let wait = ceiling.mul_f64(0.5 + share / 2.0).max(asked.unwrap_or_default());
        self.world.clock.sleep(wait).await;
        Ok(fault)
    }

    /// Runs `attempt` until it succeeds or patience ends.
    pub async fn run<T, F: Future<Output = Result<T>>>(&self, mut attempt: impl FnMut() -> F) -> Result<T> {
        let mut tried = 0;
        loop {
            tried += 1;
            match attempt().await {
                Ok(value) => {
                    self.succeeded();
                    return Ok(value);
                }
                Err(fault) => drop(self.wait(fault, tried).await?),
            }
        }
    }

    fn nonce(&self) -> String {
        format!("{:016x}", self.world.dice.roll())
    }
}

/// What the other side asked for, if it did.
pub fn pause_of(fault: &Fault) -> Option<Duration> {
    let mut below = std::error::Error::source(fault);
    while let Some(error) = below {
        if let Some(Pause(time)) = error.downcast_ref() {
            return Some(*time);
        }
        below = error.source();
    }
    None
}

/// Tries again what `inner` could not do.
#[derive(Clone)]
pub struct Retry {
    inner: Arc<dyn Store>,
    patience: Arc<Patience>,
}

impl Retry {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Store>, patience: Arc<Patience>) -> Self {
        Self { inner, patience }
    }

    /// Whether what stands at `key` is what the attempt bearing `nonce` wrote.
    async fn is_ours(&self, key: &Key, nonce: &str) -> Option<Blob> {
        let blob = self.patience.run(|| self.inner.stat(key)).await.ok()?;
        (blob.metadata.as_ref()?.get(NONCE)? == nonce).then_some(blob)
    }
}

struct RetrySeen {
    retry: Retry,
    key: Key,
    version: Option<Version>,
    start: u64,
    left: Option<u64>,
    blob: Blob,
    inner: Box<dyn Seen>,
    handed_out: bool,
}

impl RetrySeen {
    async fn reopen(&mut self) -> Result<()> {
        let range = self.left.map(|left| (self.start, left));
        let range =
            range.or((self.start > 0).then(|| (self.start, self.blob.size.saturating_sub(self.start))));
        // Without a tag nothing proves that the rest belongs to the beginning.
        let seen = (self.blob.tag != Tag::None).then_some(&self.blob.tag);
        let inner = match &self.version {
            Some(version) => self.retry.inner.get_version(&self.key, version, range).await?,
            None => self.retry.inner.get(&self.key, range, seen).await?,
        };
        // The caller has seen the first head; a body of another size would not be the one that it promised.
        if inner.blob().size != self.blob.size {
            let what = "read: the store told two sizes of one body";
            return Err(Fault::new(Kind::Corrupt, what, self.retry.inner.label()).retry(true));
        }
        self.inner = inner;
        Ok(())
    }
}

#[async_trait]
impl Seen for RetrySeen {
    fn blob(&self) -> &Blob {
        &self.blob
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let patience = Arc::clone(&self.retry.patience);
        let mut tried = 0;
        let mut next = self.inner.next().await;
        loop {
            match next {
                Ok(Some(bytes)) => {
                    self.handed_out |= !bytes.is_empty();
                    self.start += bytes.len() as u64;
                    self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(fault) if self.blob.tag == Tag::None => return Err(fault),
                // What was handed out may be what is wrong: only the reader can begin again.
                Err(fault) if fault.is(Kind::Corrupt) && (self.handed_out || tried > 0) => return Err(fault),
                Err(fault) => {
                    tried += 1;
                    drop(patience.wait(fault, tried).await?);
                    next = match self.reopen().await {
                        Ok(()) => self.inner.next().await,
                        Err(fault) => Err(fault),
                    };
                }
            }
        }
    }
}

struct RetryListing {
    retry: Retry,
    under: String,
    after: Option<Key>,
    inner: Box<dyn Listing>,
}

#[async_trait]
impl Listing for RetryListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        let patience = Arc::clone(&self.retry.patience);
        let mut tried = 0;
        let mut next = self.inner.next().await;
        loop {
            match next {
                Ok(page) => {
                    if let Some(last) = page.as_ref().and_then(|page| page.last()) {
                        self.after = Some(last.key.clone());
                    }
                    return Ok(page);
                }
                // In an unsorted listing "after" names no place to go on from.
                Err(fault) if !self.retry.inner.caps().sorted => return Err(fault),
                Err(fault) => {
                    tried += 1;
                    drop(patience.wait(fault, tried).await?);
                    next = match self.retry.inner.list(&self.under, self.after.as_ref()).await {
                        Ok(inner) => {
                            self.inner = inner;
                            self.inner.next().await
                        }
                        Err(fault) => Err(fault),
                    };
                }
            }
        }
    }
}

impl Layer for Retry {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    fn call<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        _: Verb,
        attempt: impl Fn() -> F + Send + Sync,
    ) -> impl Future<Output = Result<T>> + Send {
        self.patience.run(attempt)
    }

    async fn open(&self, wanted: Wanted<'_>) -> Result<Box<dyn Seen>> {
        let inner = self.call(Verb::Open, || wanted.open(self.below())).await?;
        let (start, left) = wanted.range.map_or((0, None), |(start, len)| (start, Some(len)));
        Ok(Box::new(RetrySeen {
            retry: self.clone(),
            key: wanted.key.clone(),
            version: match wanted.which {
                Which::Now(_) => None,
                Which::Version(version) => Some(version.clone()),
            },
            start,
            left,
            blob: inner.blob().clone(),
            inner,
            handed_out: false,
        }))
    }

    async fn begin(
        &self,
        key: &Key,
        size: Option<u64>,
        mut metadata: Metadata,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        if self.inner.caps().metadata {
            metadata.insert(NONCE.to_string(), self.patience.nonce());
        }
        let begun = || self.inner.draft(key, size, metadata.clone(), resume);
        let inner = self.call(Verb::Draft, begun).await?;
        Ok(Box::new(RetryDraft::of(self, key, size, metadata, inner)))
    }

    async fn pages(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let inner = self.call(Verb::List, || self.inner.list(under, after)).await?;
        Ok(Box::new(RetryListing {
            retry: self.clone(),
            under: under.to_string(),
            after: after.cloned(),
            inner,
        }))
    }

    async fn take_away(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        let mut results = self.inner.remove(keys).await;
        let mut tried = 0;
        loop {
            let again: Vec<usize> = (0..results.len())
                .filter(|&at| results[at].as_ref().is_err_and(|fault| fault.retry))
                .collect();
            let Some(&first) = again.first() else { break };
            tried += 1;
            // One wait for the whole batch; the fault that is waited for is put back if there is no more patience.
            let fault = std::mem::replace(&mut results[first], Ok(()));
            let Err(fault) = fault else { break };
            if let Err(fault) = self.patience.wait(fault, tried).await {
                results[first] = Err(fault);
                break;
            }
            let wanted: Vec<(Key, Cond)> = again.iter().map(|&at| keys[at].clone()).collect();
            for (&at, result) in again.iter().zip(self.inner.remove(&wanted).await) {
                results[at] = match result {
                    // An attempt whose answer was lost may have removed it.
                    Err(fault) if fault.is(Kind::Changed) || fault.is(Kind::NotFound) => {
                        match self.patience.run(|| self.inner.stat(&keys[at].0)).await {
                            Err(gone) if gone.is(Kind::NotFound) => Ok(()),
                            _ => Err(fault),
                        }
                    }
                    result => result,
                };
            }
        }
        results
    }

    async fn copy<F: Future<Output = Result<Blob>> + Send>(
        &self,
        to: &Key,
        mut metadata: Option<Metadata>,
        attempt: impl Fn(Option<Metadata>) -> F + Send + Sync,
    ) -> Result<Blob> {
        let nonce = self.patience.nonce();
        if let Some(metadata) = metadata.as_mut().filter(|_| self.inner.caps().metadata) {
            metadata.insert(NONCE.to_string(), nonce.clone());
        }
        let mut tried = 0;
        loop {
            match attempt(metadata.clone()).await {
                Ok(blob) => {
                    self.patience.succeeded();
                    return Ok(blob);
                }
                Err(fault) if fault.is(Kind::Changed) && tried > 0 => {
                    return self.is_ours(to, &nonce).await.ok_or(fault);
                }
                Err(fault) => {
                    tried += 1;
                    drop(self.patience.wait(fault, tried).await?);
                }
            }
        }
    }
}

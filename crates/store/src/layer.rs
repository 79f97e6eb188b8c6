//! Layers over a store: what a layer does not do in its own way goes to the store below it.
//!
//! Invariant: every verb of [`Store`], and of what its verbs give back, is forwarded here and nowhere else, each by way of
//! [`Layer::once`]. The seam gives no verb a body, so one that is added there does not compile until it is forwarded here.

use std::collections::BTreeMap;
use std::future::Future;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Fault, Result, Tag};

use crate::seam::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

/// Metadata beside a blob.
pub type Metadata = BTreeMap<String, String>;

/// What is asked of the store below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`Store::get`] and [`Store::get_version`].
    Open,
    /// [`Seen::next`].
    Read,
    /// [`Store::draft`].
    Draft,
    /// [`Draft::write`].
    Write {
        /// Bytes of this call.
        bytes: usize,
        /// Bytes of the draft so far, with those.
        written: u64,
    },
    /// [`Draft::publish`].
    Publish {
        /// Bytes of the draft.
        written: u64,
    },
    /// [`Draft::discard`].
    Drop,
    /// [`Store::stat`].
    Stat,
    /// [`Store::list`].
    List,
    /// [`Listing::next`].
    Page,
    /// [`Store::remove`] of so many.
    Remove(usize),
    /// [`Store::reuse`] and [`Store::reuse_version`].
    Copy,
    /// [`Store::drop_version`].
    DropVersion,
    /// [`Store::space`].
    Space,
    /// [`Store::unfinished`].
    Unfinished,
    /// [`Store::discard`].
    Discard,
}

/// What is to be read: what stands at a key, or a version of it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where.
    pub key: &'a Key,
    /// Start and length; `None`: all.
    pub range: Option<(u64, u64)>,
    /// Which.
    pub which: Which<'a>,
}

/// What stands at a key, or a version of what stands or stood there.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// What stands there, if it still bears this tag.
    Now(Option<&'a Tag>),
    /// This version.
    Version(&'a Version),
}

impl Wanted<'_> {
    /// Asks `store` for it.
    pub async fn open(self, store: &dyn Store) -> Result<Box<dyn Seen>> {
        match self.which {
            Which::Now(seen) => store.get(self.key, self.range, seen).await,
            Which::Version(version) => store.get_version(self.key, version, self.range).await,
        }
    }
}

/// A store over another one. Implement [`Layer::below`], and what is to be other than below.
pub trait Layer: Clone + Send + Sync + 'static {
    /// The store below.
    fn below(&self) -> &dyn Store;

    /// Lets one attempt at `verb` through: every forwarded call passes here.
    fn once<T: Send>(
        &self,
        verb: Verb,
        attempt: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        let _ = verb;
        attempt
    }

    /// Makes a call that may be made anew; as it stands, it is made once.
    fn call<T: Send, F: Future<Output = Result<T>> + Send>(
        &self,
        verb: Verb,
        attempt: impl Fn() -> F + Send + Sync,
    ) -> impl Future<Output = Result<T>> + Send {
        self.once(verb, attempt())
    }

    /// Bytes of a body came.
    fn received(&self, _bytes: usize) {}

    /// A listing was asked for a page that it may have had; not told of the question that finds the end.
    fn paged(&self) {}

    /// Opens a body.
    fn open(&self, wanted: Wanted<'_>) -> impl Future<Output = Result<Box<dyn Seen>>> + Send {
        async move {
            let inner = self.call(Verb::Open, || wanted.open(self.below())).await?;
            Ok(Box::new(Under {
                layer: self.clone(),
                inner,
            }) as Box<dyn Seen>)
        }
    }

    /// Begins a blob.
    fn begin(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: Metadata,
        resume: Option<&str>,
    ) -> impl Future<Output = Result<Box<dyn Draft>>> + Send {
        async move {
            let begun = || self.below().draft(key, size, metadata.clone(), resume);
            let inner = self.call(Verb::Draft, begun).await?;
            let (layer, written) = (self.clone(), 0);
            Ok(Box::new(UnderDraft {
                layer,
                inner,
                written,
            }) as Box<dyn Draft>)
        }
    }

    /// Begins a listing.
    fn pages(
        &self,
        under: &str,
        after: Option<&Key>,
    ) -> impl Future<Output = Result<Box<dyn Listing>>> + Send {
        async move {
            let inner = self.call(Verb::List, || self.below().list(under, after)).await?;
            Ok(Box::new(Under {
                layer: self.clone(),
                inner,
            }) as Box<dyn Listing>)
        }
    }

    /// Removes blobs.
    fn take_away(&self, keys: &[(Key, Cond)]) -> impl Future<Output = Vec<Result<()>>> + Send {
        async move {
            let attempt = || async { Ok(self.below().remove(keys).await) };
            match self.call(Verb::Remove(keys.len()), attempt).await {
                Ok(results) => results,
                Err(fault) => keys.iter().map(|_| Err(same(&fault))).collect(),
            }
        }
    }

    /// Copies to `to` by `attempt`, which is given what to put beside the copy.
    fn copy<F: Future<Output = Result<Blob>> + Send>(
        &self,
        to: &Key,
        metadata: Option<Metadata>,
        attempt: impl Fn(Option<Metadata>) -> F + Send + Sync,
    ) -> impl Future<Output = Result<Blob>> + Send {
        let _ = to;
        async move { self.call(Verb::Copy, || attempt(metadata.clone())).await }
    }
}

/// The fault of a batch, said of one of it.
fn same(fault: &Fault) -> Fault {
    Fault::new(fault.kind, fault.what.clone(), &fault.at).retry(fault.retry)
}

#[async_trait]
impl<L: Layer> Store for L {
    fn label(&self) -> &str {
        self.below().label()
    }

    fn caps(&self) -> &Caps {
        self.below().caps()
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        let which = Which::Now(seen);
        self.open(Wanted { key, range, which }).await
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: Metadata,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        self.begin(key, size, metadata, resume).await
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        self.call(Verb::Stat, || self.below().stat(key)).await
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        self.pages(under, after).await
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        self.take_away(keys).await
    }

    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        self.copy(to, metadata, |metadata| {
            self.below().reuse(from, seen, to, cond.clone(), metadata)
        })
        .await
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        let which = Which::Version(version);
        self.open(Wanted { key, range, which }).await
    }

    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        self.copy(to, metadata, |metadata| {
            self.below()
                .reuse_version(from, version, to, cond.clone(), metadata)
        })
        .await
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        self.call(Verb::DropVersion, || self.below().drop_version(key, version))
            .await
    }

    async fn space(&self) -> Result<StoreSpace> {
        self.call(Verb::Space, || self.below().space()).await
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        self.call(Verb::Unfinished, || self.below().unfinished(under))
            .await
    }

    async fn discard(&self, key: &Key, upload: &str) -> Result<()> {
        self.call(Verb::Discard, || self.below().discard(key, upload))
            .await
    }
}

/// A body or a listing of the store below, whose every call passes the layer.
struct Under<L, T: ?Sized> {
    layer: L,
    inner: Box<T>,
}

#[async_trait]
impl<L: Layer> Seen for Under<L, dyn Seen> {
    fn blob(&self) -> &Blob {
        self.inner.blob()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let bytes = self.layer.once(Verb::Read, self.inner.next()).await?;
        self.layer.received(bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes)
    }
}

#[async_trait]
impl<L: Layer> Listing for Under<L, dyn Listing> {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        let page = self.layer.once(Verb::Page, self.inner.next()).await;
        if !matches!(page, Ok(None)) {
            self.layer.paged();
        }
        page
    }
}

struct UnderDraft<L> {
    layer: L,
    inner: Box<dyn Draft>,
    written: u64,
}

#[async_trait]
impl<L: Layer> Draft for UnderDraft<L> {
    fn upload(&self) -> Option<String> {
        self.inner.upload()
    }

    fn held(&self) -> u64 {
        self.inner.held()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.written += bytes.len() as u64;
        let (bytes_now, written) = (bytes.len(), self.written);
        let verb = Verb::Write {
            bytes: bytes_now,
            written,
        };
        self.layer.once(verb, self.inner.write(bytes)).await
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        let written = self.written;
        let verb = Verb::Publish { written };
        self.layer.once(verb, self.inner.publish(only_if)).await
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        self.layer.once(Verb::Drop, self.inner.discard()).await
    }
}

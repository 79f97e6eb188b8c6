//! Counts requests and bytes.
//!
//! Invariant: a request is counted once, when it goes out, retries included.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use syncline_model::Result;

use crate::Store;
use crate::layer::{Layer, Verb};

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
#[derive(Clone)]
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

impl Layer for Metered {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    fn once<T: Send>(
        &self,
        verb: Verb,
        attempt: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        match verb {
            Verb::Open => self.meter.request(Request::Get),
            Verb::Stat => self.meter.request(Request::Head),
            Verb::Write { bytes, .. } => self.meter.sent(bytes),
            Verb::Publish { .. } => self.meter.request(Request::Put),
            Verb::Copy => self.meter.request(Request::Copy),
            Verb::Unfinished => self.meter.request(Request::List),
            Verb::Remove(_) | Verb::DropVersion | Verb::Discard => self.meter.request(Request::Delete),
            Verb::Read | Verb::Draft | Verb::Drop | Verb::List | Verb::Page | Verb::Space => {}
        }
        attempt
    }

    fn received(&self, bytes: usize) {
        self.meter.received(bytes);
    }

    fn paged(&self) {
        self.meter.request(Request::List);
    }
}

//! What every [`Store`] must do, whatever lies behind it and whatever layers are around it.
//!
//! Invariant: one suite for all; a store that lacks a capability (by its own [`Caps`](syncline_store::Caps)) is held to
//! what the seam promises without it, and to nothing less.

mod copies;
mod listings;
mod reading;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use syncline_model::{Kind, Result, Tag};
use syncline_store::{Blob, Cond, Key, Listed, Seen, Store};

use copies::{copies, versions};
use listings::{b07_keys_are_exact, listings};
use reading::{ranges, round_trip, tags_guard_reads};
use writing::{conditions, drafts, many, race_of_twelve, removals};

/// What the store under test is asked beside the rest.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// Keys that are no paths: doubled slashes, dots, blanks and control bytes, a name that is also a prefix.
    pub odd_keys: bool,
    /// Bytes of the body that is meant to go in parts.
    pub large: usize,
    /// Objects made for the listing of many pages and the removal of many.
    pub many: usize,
    /// Faults are injected below a layer that tries again.
    pub answers_get_lost: bool,
    /// Listings tell tags.
    pub listed_tags: bool,
    /// Unfinished uploads can be listed.
    pub listed_uploads: bool,
}

impl Suite {
    /// Everything.
    pub const FULL: Self = Self {
        odd_keys: true,
        large: 21 << 20,
        many: 1205,
        answers_get_lost: false,
        listed_tags: true,
        listed_uploads: true,
    };
}

/// A valid key.
pub fn key(text: &str) -> Key {
    Key::new(text).expect("a valid key")
}

/// Writes a blob in one go.
pub async fn put(store: &dyn Store, name: &str, body: &[u8], cond: Cond) -> Result<Blob> {
    put_with(store, name, body, cond, &[]).await
}

/// Writes a blob with metadata.
pub async fn put_with(
    store: &dyn Store,
    name: &str,
    body: &[u8],
    cond: Cond,
    metadata: &[(&str, &str)],
) -> Result<Blob> {
    let metadata = metadata
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let mut draft = store
        .draft(&key(name), Some(body.len() as u64), metadata, None)
        .await?;
    for piece in body.chunks(1 << 20) {
        draft.write(Bytes::copy_from_slice(piece)).await?;
    }
    draft.publish(cond).await
}

/// Reads a body to its end.
pub async fn drain(mut body: Box<dyn Seen>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = body.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// Reads a blob in one go.
pub async fn read(store: &dyn Store, name: &str) -> Result<Vec<u8>> {
    drain(store.get(&key(name), None, None).await?).await
}

/// Lists to the end.
pub async fn listed(store: &dyn Store, under: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
    let mut listing = store.list(under, after).await?;
    let mut all = Vec::new();
    while let Some(page) = listing.next().await? {
        assert!(!page.is_empty(), "a page that is not the end has entries");
        all.extend(page);
    }
    if !store.caps().sorted {
        all.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Ok(all)
}

fn names(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|listed| listed.key.as_str()).collect()
}

#[track_caller]
fn refused<T>(result: Result<T>, kind: Kind) {
    match result {
        Ok(_) => panic!("succeeded where {kind:?} was due"),
        Err(fault) => assert_eq!(fault.kind, kind, "{fault:?}"),
    }
}

/// Bytes that repeat nowhere near.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed << 1 | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8))
        .flat_map(|_| step().to_le_bytes())
        .take(len)
        .collect()
}

/// Runs the whole suite in `store`, which must be empty and is left empty.
pub async fn run(store: Arc<dyn Store>, suite: Suite) {
    let store = &*store;
    round_trip(store).await;
    ranges(store).await;
    tags_guard_reads(store).await;
    conditions(store, suite).await;
    race_of_twelve(store).await;
    listings(store, suite).await;
    if suite.odd_keys {
        b07_keys_are_exact(store).await;
    }
    copies(store).await;
    versions(store).await;
    drafts(store, suite.large).await;
    many(store, suite.many).await;
    removals(store).await;
    let left = listed(store, "", None).await.expect("the last listing");
    assert_eq!(names(&left), [""; 0], "the suite leaves nothing");
    match store.unfinished("").await {
        Ok(unfinished) => assert_eq!(unfinished, [], "no upload is leaked"),
        Err(fault) => assert!(!suite.listed_uploads && fault.is(Kind::Unsupported), "{fault:?}"),
    }
}

async fn clear(store: &dyn Store, all: &[&str]) {
    let wanted: Vec<(Key, Cond)> = all.iter().map(|name| (key(name), Cond::Any)).collect();
    for (result, name) in store.remove(&wanted).await.into_iter().zip(all) {
        result.unwrap_or_else(|fault| panic!("remove {name:?}: {fault:?}"));
    }
    for name in all {
        refused(store.stat(&key(name)).await, Kind::NotFound);
    }
}

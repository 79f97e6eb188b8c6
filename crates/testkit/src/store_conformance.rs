//! What every [`Store`] must do, whatever lies behind it and whatever layers are around it.
//!
//! Invariant: one suite for all; a store that lacks a capability (by its own [`Caps`](syncline_store::Caps)) is held to
//! what the seam promises without it, and to nothing less.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use syncline_model::{Kind, Result, Tag};
use syncline_store::{Blob, Cond, Key, Listed, Seen, Store};

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
    let mut state = seed | 1;
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

async fn round_trip(store: &dyn Store) {
    let body = noise(70_001, 1);
    let metadata = [("mtime", "1700000000.123456789"), ("x-mode", "0644")];
    let made = put_with(store, "round/trip", &body, Cond::Any, &metadata)
        .await
        .expect("write");
    assert_eq!(made.size, 70_001);
    assert_ne!(made.tag, Tag::None, "a write says what it made");
    let blob = store.stat(&key("round/trip")).await.expect("stat");
    assert_eq!(
        (blob.size, &blob.tag),
        (70_001, &made.tag),
        "what was written is what is there"
    );
    if store.caps().metadata {
        let kept = blob.metadata.as_ref().expect("metadata");
        assert_eq!(
            kept.get("mtime").map(String::as_str),
            Some("1700000000.123456789")
        );
        assert_eq!(kept.get("x-mode").map(String::as_str), Some("0644"));
    }
    let seen = store.get(&key("round/trip"), None, None).await.expect("get");
    assert_eq!((seen.blob().size, &seen.blob().tag), (70_001, &made.tag));
    assert_eq!(drain(seen).await.expect("body"), body);
    if let (Some(a), Some(b)) = (made.md5, blob.md5) {
        assert_eq!(a, b);
    }
    put(store, "round/empty", b"", Cond::Any)
        .await
        .expect("an empty blob");
    assert_eq!(read(store, "round/empty").await.expect("an empty body"), b"");
    refused(store.stat(&key("round/none")).await, Kind::NotFound);
    refused(
        store.get(&key("round/none"), None, None).await.map(drop),
        Kind::NotFound,
    );
    clear(store, &["round/trip", "round/empty"]).await;
}

async fn ranges(store: &dyn Store) {
    let body = noise(10_000, 2);
    put(store, "ranges", &body, Cond::Any).await.expect("write");
    for (start, len) in [
        (0, 1),
        (0, 10_000),
        (9_999, 1),
        (1, 5_000),
        (9_000, 100_000),
        (5, 0),
        (10_000, 5),
        (3, u64::MAX),
    ] {
        let seen = store
            .get(&key("ranges"), Some((start, len)), None)
            .await
            .expect("a range");
        assert_eq!(seen.blob().size, 10_000, "the size is the whole blob's");
        let got = drain(seen).await.expect("its body");
        let end = start.saturating_add(len).min(10_000);
        assert_eq!(got, body[start as usize..end as usize], "range {start}+{len}");
    }
    refused(
        store.get(&key("ranges"), Some((10_001, 1)), None).await.map(drop),
        Kind::Invalid,
    );
    clear(store, &["ranges"]).await;
}

async fn tags_guard_reads(store: &dyn Store) {
    let old = put(store, "guard", b"old", Cond::Any).await.expect("write");
    store
        .get(&key("guard"), None, Some(&old.tag))
        .await
        .expect("still the same");
    let new = put(store, "guard", b"new", Cond::Any).await.expect("overwrite");
    assert_ne!(old.tag, new.tag);
    refused(
        store.get(&key("guard"), None, Some(&old.tag)).await.map(drop),
        Kind::Changed,
    );
    refused(
        store
            .get(&key("guard"), Some((0, 1)), Some(&old.tag))
            .await
            .map(drop),
        Kind::Changed,
    );
    refused(
        store
            .get(&key("guard"), Some((0, 0)), Some(&old.tag))
            .await
            .map(drop),
        Kind::Changed,
    );
    clear(store, &["guard"]).await;
}

async fn conditions(store: &dyn Store, suite: Suite) {
    let first = put(store, "cond", b"1", Cond::Absent)
        .await
        .expect("nothing was there");
    refused(put(store, "cond", b"2", Cond::Absent).await, Kind::Changed);
    assert_eq!(
        read(store, "cond").await.expect("read"),
        b"1",
        "a refused write changes nothing"
    );
    let second = put(store, "cond", b"2", Cond::Is(first.tag.clone()))
        .await
        .expect("the first was there");
    refused(
        put(store, "cond", b"3", Cond::Is(first.tag.clone())).await,
        Kind::Changed,
    );
    refused(
        put(store, "cond/none", b"3", Cond::Is(first.tag.clone())).await,
        Kind::Changed,
    );
    assert_eq!(read(store, "cond").await.expect("read"), b"2");
    let stale = store.remove(&[(key("cond"), Cond::Is(first.tag))]).await;
    refused(stale.into_iter().next().expect("one result"), Kind::Changed);
    assert_eq!(read(store, "cond").await.expect("still there"), b"2");
    let fresh = store.remove(&[(key("cond"), Cond::Is(second.tag.clone()))]).await;
    assert!(fresh[0].is_ok(), "{fresh:?}");
    refused(store.stat(&key("cond")).await, Kind::NotFound);
    let gone = store.remove(&[(key("cond"), Cond::Is(second.tag))]).await;
    // Behind a lost answer "it is gone" and "I removed it" cannot be told apart.
    if !suite.answers_get_lost {
        refused(gone.into_iter().next().expect("one result"), Kind::Changed);
    }
}

/// Twelve writers who all saw the same: one wins and everybody else learns it.
async fn race_of_twelve(store: &dyn Store) {
    let bodies: Vec<Vec<u8>> = (0..12).map(|n| noise(500, 40 + n)).collect();
    for absent in [true, false] {
        let cond = if absent {
            Cond::Absent
        } else {
            Cond::Is(store.stat(&key("race")).await.expect("the winner of before").tag)
        };
        let mut before = None;
        if !absent {
            before = read(store, "race").await.ok();
        }
        let mine = |n: usize| {
            bodies
                .iter()
                .cycle()
                .skip(n)
                .find(|body| Some(*body) != before.as_ref())
                .expect("another")
        };
        let tries = (0..12).map(|n| put(store, "race", mine(n), cond.clone()));
        let results = futures::future::join_all(tries).await;
        let winners: Vec<usize> = (0..12).filter(|&n| results[n].is_ok()).collect();
        let honours = if absent {
            store.caps().if_absent
        } else {
            store.caps().if_is
        };
        if honours {
            assert_eq!(winners.len(), 1, "one of twelve wins: {results:?}");
            assert_eq!(
                &read(store, "race").await.expect("read"),
                mine(winners[0]),
                "the winner's bytes are there"
            );
        }
        assert!(!winners.is_empty());
        for result in results {
            if let Err(fault) = result {
                assert_eq!(fault.kind, Kind::Changed, "{fault:?}");
            }
        }
    }
    clear(store, &["race"]).await;
}

async fn listings(store: &dyn Store, suite: Suite) {
    let all = ["list/B", "list/a-x", "list/a/x", "list/a/y", "list/a0x", "listed"];
    for (n, name) in all.iter().enumerate() {
        put(store, name, &noise(n * 10, 3), Cond::Any)
            .await
            .expect("write");
    }
    let found = listed(store, "list/", None).await.expect("list");
    assert_eq!(names(&found), all[..5], "byte order, nothing from beside");
    for (n, listed) in found.iter().enumerate() {
        let blob = store.stat(&listed.key).await.expect("stat");
        assert_eq!(listed.blob.size, n as u64 * 10);
        let told = if suite.listed_tags { blob.tag } else { Tag::None };
        assert_eq!(listed.blob.tag, told, "a listing and a question by name agree");
        assert!(listed.blob.modified.is_some());
        if let (Some(a), Some(b)) = (listed.blob.md5, blob.md5) {
            assert_eq!(a, b);
        }
    }
    let found = listed(store, "list/", Some(&key("list/a/x")))
        .await
        .expect("list");
    assert_eq!(names(&found), all[3..5], "only what sorts after");
    let found = listed(store, "list/", Some(&key("list/a/"))).await.expect("list");
    assert_eq!(names(&found), all[2..5], "after a name that is not there");
    assert_eq!(
        names(&listed(store, "list/a", None).await.expect("list")),
        all[1..5],
        "any prefix"
    );
    assert_eq!(
        names(&listed(store, "nothing/", None).await.expect("list")),
        [""; 0]
    );
    clear(store, &all).await;
}

/// Keys that other programs make and that are no paths.
pub const ODD_KEYS: [&str; 22] = [
    "odd",
    "odd/",
    "odd//",
    "odd//x",
    "odd/ ",
    "odd/ lead",
    "odd/trail ",
    "odd/..",
    "odd/../up",
    "odd/.",
    "odd/./x",
    "odd/\u{1}\u{1f}\t\u{8}",
    "odd/a+b%20c%2Fd",
    "odd/a&b<c>\"'",
    "odd/\u{fc}\u{1f600}",
    "odd/e\u{301}",
    "odd/\u{e9}",
    "odd/?q=1#f",
    "odd/\\back",
    "odd/\u{7f}\u{85}",
    "/odd",
    "//",
];

async fn b07_keys_are_exact(store: &dyn Store) {
    for name in ODD_KEYS {
        let made = put(store, name, name.as_bytes(), Cond::Absent).await;
        made.unwrap_or_else(|fault| panic!("write {name:?}: {fault:?}"));
    }
    for name in ODD_KEYS {
        let body = read(store, name)
            .await
            .unwrap_or_else(|fault| panic!("read {name:?}: {fault:?}"));
        assert_eq!(body, name.as_bytes(), "{name:?} is itself and no other");
    }
    let mut wanted: Vec<&str> = ODD_KEYS.to_vec();
    wanted.sort_unstable();
    assert_eq!(names(&listed(store, "", None).await.expect("list")), wanted);
    let below: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| name.starts_with("odd/"))
        .collect();
    assert_eq!(names(&listed(store, "odd/", None).await.expect("list")), below);
    for pair in wanted.windows(2) {
        let rest = listed(store, "", Some(&key(pair[0]))).await.expect("list");
        assert_eq!(rest[0].key.as_str(), pair[1], "after {:?}", pair[0]);
    }
    if store.caps().reuse {
        for name in ODD_KEYS {
            let seen = store.stat(&key(name)).await.expect("stat").tag;
            let copy = format!("copy/{name}");
            let made = store.reuse(&key(name), &seen, &key(&copy), Cond::Any, None).await;
            made.unwrap_or_else(|fault| panic!("copy {name:?}: {fault:?}"));
            assert_eq!(read(store, &copy).await.expect("the copy"), name.as_bytes());
        }
        let copies: Vec<String> = ODD_KEYS.iter().map(|name| format!("copy/{name}")).collect();
        clear(store, &copies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    clear(store, &ODD_KEYS).await;
}

async fn copies(store: &dyn Store) {
    let source = put_with(store, "copy/from", b"bytes", Cond::Any, &[("mtime", "1.5")])
        .await
        .expect("write");
    let from = key("copy/from");
    let to = key("copy/to");
    if !store.caps().reuse {
        refused(
            store.reuse(&from, &source.tag, &to, Cond::Any, None).await,
            Kind::Unsupported,
        );
        return clear(store, &["copy/from"]).await;
    }
    let made = store
        .reuse(&from, &source.tag, &to, Cond::Absent, None)
        .await
        .expect("copy");
    assert_eq!(made.size, 5);
    assert_eq!(read(store, "copy/to").await.expect("read"), b"bytes");
    let mtime = |blob: Blob| blob.metadata.and_then(|metadata| metadata.get("mtime").cloned());
    assert_eq!(
        mtime(store.stat(&to).await.expect("stat")).as_deref(),
        Some("1.5"),
        "metadata comes along"
    );
    refused(
        store.reuse(&from, &source.tag, &to, Cond::Absent, None).await,
        Kind::Changed,
    );
    let other = BTreeMap::from([("mtime".to_string(), "2.5".to_string())]);
    let there = store.stat(&to).await.expect("stat").tag;
    store
        .reuse(&from, &source.tag, &to, Cond::Is(there), Some(other))
        .await
        .expect("copy with metadata");
    assert_eq!(
        mtime(store.stat(&to).await.expect("stat")).as_deref(),
        Some("2.5"),
        "or is replaced"
    );
    put(store, "copy/from", b"other", Cond::Any)
        .await
        .expect("overwrite");
    refused(
        store.reuse(&from, &source.tag, &to, Cond::Any, None).await,
        Kind::Changed,
    );
    assert_eq!(
        read(store, "copy/to").await.expect("read"),
        b"bytes",
        "a refused copy changes nothing"
    );
    refused(
        store
            .reuse(&key("copy/none"), &source.tag, &to, Cond::Any, None)
            .await,
        Kind::NotFound,
    );
    clear(store, &["copy/from", "copy/to"]).await;
}

/// What is replaced or removed stays readable by its version, until that is dropped.
async fn versions(store: &dyn Store) {
    let (from, to) = (key("version"), key("version/copy"));
    put_with(store, "version", b"first", Cond::Any, &[("mtime", "1.5")])
        .await
        .expect("write");
    let there = store.stat(&from).await.expect("stat");
    let body = store.get(&from, None, None).await.expect("get");
    assert_eq!(body.blob().version, there.version, "two replies tell one version");
    let (first, keeps) = (there.version, store.caps().versions);
    assert!(
        first.is_some() || !keeps,
        "a store that keeps versions names them"
    );
    let Some(first) = first.filter(|_| keeps) else {
        return clear(store, &["version"]).await;
    };
    put(store, "version", b"second", Cond::Is(there.tag))
        .await
        .expect("overwrite");
    let now = store.stat(&from).await.expect("stat");
    let second = now.version.expect("a version");
    assert_ne!(first, second);
    let old = store.get_version(&from, &first, None).await.expect("a version");
    assert_eq!((old.blob().size, old.blob().version.as_ref()), (5, Some(&first)));
    assert_eq!(drain(old).await.expect("its body"), b"first");
    for (start, len) in [(1, 3), (0, 0), (2, 100)] {
        let part = store.get_version(&from, &first, Some((start, len))).await;
        let got = drain(part.expect("a range")).await.expect("its body");
        let end = start.saturating_add(len).min(5);
        assert_eq!(got, b"first"[start as usize..end as usize]);
    }
    assert_eq!(read(store, "version").await.expect("read"), b"second");
    let kept = store.drop_version(&from, &second).await;
    refused(kept, Kind::Changed);
    assert_eq!(
        read(store, "version").await.expect("what stands is not dropped"),
        b"second"
    );
    clear(store, &["version"]).await;
    let mtime = |blob: Blob| blob.metadata.and_then(|metadata| metadata.get("mtime").cloned());
    if store.caps().reuse {
        let copy = |cond: Cond, metadata| store.reuse_version(&from, &first, &to, cond, metadata);
        copy(Cond::Absent, None).await.expect("copy");
        refused(copy(Cond::Absent, None).await, Kind::Changed);
        assert_eq!(read(store, "version/copy").await.expect("read"), b"first");
        let there = store.stat(&to).await.expect("stat");
        let tag = there.tag.clone();
        assert_eq!(mtime(there).as_deref(), Some("1.5"), "metadata comes along");
        let other = BTreeMap::from([("mtime".to_string(), "2.5".to_string())]);
        copy(Cond::Is(tag), Some(other))
            .await
            .expect("copy with metadata");
        let there = store.stat(&to).await.expect("stat");
        assert_eq!(mtime(there).as_deref(), Some("2.5"), "or is replaced");
        clear(store, &["version/copy"]).await;
    }
    for (version, body) in [(&first, &b"first"[..]), (&second, b"second")] {
        let old = store.get_version(&from, version, None).await.expect("kept");
        assert_eq!(drain(old).await.expect("its body"), body);
        store.drop_version(&from, version).await.expect("drop");
        store.drop_version(&from, version).await.expect("it is gone");
        refused(
            store.get_version(&from, version, None).await.map(drop),
            Kind::NotFound,
        );
        refused(
            store.get_version(&from, version, Some((0, 0))).await.map(drop),
            Kind::NotFound,
        );
        if store.caps().reuse {
            let copied = store.reuse_version(&from, version, &to, Cond::Any, None).await;
            refused(copied, Kind::NotFound);
        }
    }
    refused(store.stat(&from).await, Kind::NotFound);
    refused(store.stat(&to).await, Kind::NotFound);
}

async fn drafts(store: &dyn Store, large: usize) {
    let body = noise(large, 5);
    let mut draft = store
        .draft(&key("draft"), Some(large as u64), BTreeMap::new(), None)
        .await
        .expect("draft");
    for piece in body.chunks(333_333) {
        draft.write(Bytes::copy_from_slice(piece)).await.expect("write");
    }
    refused(store.stat(&key("draft")).await, Kind::NotFound);
    assert_eq!(
        names(&listed(store, "draft", None).await.expect("list")),
        [""; 0],
        "not visible before it is published"
    );
    let made = draft.publish(Cond::Absent).await.expect("publish");
    assert_eq!(made.size, large as u64);
    let there = store.stat(&key("draft")).await.expect("stat");
    assert_eq!((there.size, &there.tag), (large as u64, &made.tag));
    assert!(
        read(store, "draft").await.expect("read") == body,
        "a body in parts comes back whole"
    );
    let middle = store
        .get(&key("draft"), Some((large as u64 / 2, 99_999)), Some(&made.tag))
        .await
        .expect("get");
    assert!(drain(middle).await.expect("range") == body[large / 2..][..99_999]);
    refused(put(store, "draft", &body, Cond::Absent).await, Kind::Changed);
    refused(
        put(
            store,
            "draft",
            &body,
            Cond::Is(Tag::Store(b"0123".as_slice().into())),
        )
        .await,
        Kind::Changed,
    );
    put(store, "draft", &body, Cond::Is(made.tag))
        .await
        .expect("in place of the first");
    let mut draft = store
        .draft(&key("given-up"), None, BTreeMap::new(), None)
        .await
        .expect("draft");
    draft
        .write(Bytes::from_static(b"something"))
        .await
        .expect("write");
    draft.discard().await.expect("discard");
    refused(store.stat(&key("given-up")).await, Kind::NotFound);
    let mut draft = store
        .draft(&key("short"), Some(100), BTreeMap::new(), None)
        .await
        .expect("draft");
    draft
        .write(Bytes::from_static(b"only this"))
        .await
        .expect("write");
    refused(draft.publish(Cond::Any).await, Kind::Invalid);
    refused(store.stat(&key("short")).await, Kind::NotFound);
    clear(store, &["draft"]).await;
}

async fn many(store: &dyn Store, many: usize) {
    let all: Vec<String> = (0..many).map(|n| format!("many/{n:05}")).collect();
    let writes = futures::stream::iter(
        all.iter()
            .map(|name| put(store, name, name.as_bytes(), Cond::Any)),
    );
    let results: Vec<_> = futures::StreamExt::collect(futures::StreamExt::buffer_unordered(writes, 16)).await;
    assert!(
        results.iter().all(Result::is_ok),
        "{:?}",
        results.iter().find(|result| result.is_err())
    );
    let found = listed(store, "many/", None).await.expect("list");
    assert_eq!(
        names(&found),
        all.iter().map(String::as_str).collect::<Vec<_>>(),
        "every page, each key once"
    );
    let wanted: Vec<(Key, Cond)> = all.iter().map(|name| (key(name), Cond::Any)).collect();
    let results = store.remove(&wanted).await;
    assert_eq!(results.len(), many);
    assert!(
        results.iter().all(Result::is_ok),
        "{:?}",
        results.iter().find(|result| result.is_err())
    );
    assert_eq!(names(&listed(store, "many/", None).await.expect("list")), [""; 0]);
}

async fn removals(store: &dyn Store) {
    let a = put(store, "rm/a", b"a", Cond::Any).await.expect("write");
    let b = put(store, "rm/b", b"b", Cond::Any).await.expect("write");
    put(store, "rm/c", b"c", Cond::Any).await.expect("write");
    let wanted = [
        (key("rm/a"), Cond::Is(a.tag.clone())),
        (key("rm/none"), Cond::Any),
        (key("rm/b"), Cond::Is(a.tag)),
        (key("rm/c"), Cond::Any),
    ];
    let results = store.remove(&wanted).await;
    assert!(
        results[0].is_ok() && results[1].is_ok() && results[3].is_ok(),
        "{results:?}"
    );
    refused(results.into_iter().nth(2).expect("four results"), Kind::Changed);
    assert_eq!(names(&listed(store, "rm/", None).await.expect("list")), ["rm/b"]);
    assert!(store.remove(&[]).await.is_empty());
    let last = store.remove(&[(key("rm/b"), Cond::Is(b.tag))]).await;
    assert!(last[0].is_ok());
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

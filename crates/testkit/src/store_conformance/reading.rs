//! Bodies: whole, in part, and only of what was seen.

use super::*;

pub(super) async fn round_trip(store: &dyn Store) {
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

pub(super) async fn ranges(store: &dyn Store) {
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

pub(super) async fn tags_guard_reads(store: &dyn Store) {
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

//! Copies within a store, and of versions that it keeps.

use super::*;

pub(super) async fn copies(store: &dyn Store) {
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
pub(super) async fn versions(store: &dyn Store) {
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

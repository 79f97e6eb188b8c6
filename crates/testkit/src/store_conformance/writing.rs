//! Writing and removing under conditions, also by many at once, and in parts.

use super::*;

pub(super) async fn conditions(store: &dyn Store, suite: Suite) {
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
pub(super) async fn race_of_twelve(store: &dyn Store) {
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

pub(super) async fn drafts(store: &dyn Store, large: usize) {
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

pub(super) async fn many(store: &dyn Store, many: usize) {
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

pub(super) async fn removals(store: &dyn Store) {
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

//! Replies that belong to something else: an older version, another object, another moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_model::{Kind, Tag};
use syncline_store::{Blob, Cond};
use syncline_testkit::fault_proxy::{Rule, Wire};
use syncline_testkit::store_conformance::{drain, key, noise, put, read};

use crate::rig::{Rig, fault, rig};

/// Somebody else writes these bytes.
fn replacing(rig: &Rig, name: &'static str, body: Vec<u8>) {
    let (direct, body) = (Arc::clone(&rig.direct), Arc::new(body));
    rig.proxy.meanwhile(move || {
        let (direct, body) = (Arc::clone(&direct), Arc::clone(&body));
        Box::pin(async move { drop(put(&*direct, name, &body, Cond::Any).await.unwrap()) })
    });
}

async fn two_versions(rig: &Rig) -> [(Blob, Vec<u8>); 2] {
    let (old, new) = (noise(40_000, 1), noise(50_000, 7));
    let first = put(&*rig.store, "k", &old, Cond::Any).await.unwrap();
    let second = put(&*rig.store, "k", &new, Cond::Any).await.unwrap();
    [(first, old), (second, new)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_older_version_is_found_out_where_it_matters() {
    let rig = rig().await;
    let [(first, old), (second, new)] = two_versions(&rig).await;
    for range in [None, Some((10_000, 20_000))] {
        rig.proxy.rule(Rule::once("GET", "/tree/k", Wire::Stale));
        let before = rig.requests();
        let got = rig.store.get(&key("k"), range, Some(&second.tag)).await;
        assert!(fault(got.map(drop)).is(Kind::Changed), "{range:?}");
        assert_eq!(rig.requests() - before, 1);
        // Whoever expects nothing gets one version whole, and its own tag with it.
        rig.proxy.rule(Rule::once("GET", "/tree/k", Wire::Stale));
        let body = rig.store.get(&key("k"), range, None).await.unwrap();
        assert_eq!(body.blob().tag, first.tag);
        let wanted = range.map_or(&old[..], |(at, len)| &old[at as usize..(at + len) as usize]);
        assert!(drain(body).await.unwrap() == wanted);
    }
    rig.proxy.rule(Rule::once("HEAD", "/tree/k", Wire::Stale));
    let stale = rig.store.stat(&key("k")).await.unwrap();
    assert_eq!(stale.tag, first.tag);
    let late = put(&*rig.store, "k", b"upon the old one", Cond::Is(stale.tag.clone())).await;
    assert!(
        fault(late).is(Kind::Changed),
        "an update is not lost under a stale tag"
    );
    let removed = rig
        .store
        .remove(&[(key("k"), Cond::Is(stale.tag))])
        .await
        .remove(0);
    assert!(fault(removed).is(Kind::Changed));
    assert!(read(&*rig.direct, "k").await.unwrap() == new);
    assert_eq!(rig.proxy.made(&Wire::Stale), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_object_replaced_between_two_ranges_is_not_mixed() {
    let rig = rig().await;
    let (old, new) = (noise(90_000, 1), noise(90_000, 7));
    let first = put(&*rig.direct, "k", &old, Cond::Any).await.unwrap();
    replacing(&rig, "k", new.clone());
    // Asked for in ranges by the caller, and by the layer that goes on behind a break.
    let part = rig
        .store
        .get(&key("k"), Some((0, 30_000)), Some(&first.tag))
        .await;
    assert!(drain(part.unwrap()).await.unwrap() == old[..30_000]);
    rig.proxy.rule(Rule::once("GET", "/tree/k", Wire::Meanwhile));
    let part = rig
        .store
        .get(&key("k"), Some((30_000, 30_000)), Some(&first.tag))
        .await;
    assert!(fault(part.map(drop)).is(Kind::Changed));
    let second = put(&*rig.direct, "k", &old, Cond::Any).await.unwrap();
    assert_eq!(second.tag, first.tag);
    rig.proxy.rule(Rule::once("GET", "/tree/k", Wire::Truncated));
    rig.proxy.rule(Rule::once("GET", "/tree/k", Wire::Meanwhile));
    let body = rig.store.get(&key("k"), None, None).await.unwrap();
    assert!(
        fault(drain(body).await).is(Kind::Changed),
        "half of one and half of the other"
    );
    assert_eq!(rig.proxy.made(&Wire::Meanwhile), 2);
    assert!(read(&*rig.store, "k").await.unwrap() == new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_a_source_that_changes_before_the_copy_is_not_copied() {
    let rig = rig().await;
    let seen = put(&*rig.direct, "from", b"seen", Cond::Any).await.unwrap();
    replacing(&rig, "from", b"somebody else's".to_vec());
    rig.proxy.rule(Rule::once("PUT", "/tree/to", Wire::Meanwhile));
    let copied = rig
        .store
        .reuse(
            &key("from"),
            &seen.tag,
            &key("to"),
            Cond::Absent,
            Some(BTreeMap::new()),
        )
        .await;
    assert!(fault(copied).is(Kind::Changed));
    assert_eq!(rig.proxy.made(&Wire::Meanwhile), 1);
    assert!(rig.direct.stat(&key("to")).await.unwrap_err().is(Kind::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_heads_that_lie_lead_to_no_wrong_bytes() {
    let rig = rig().await;
    let body = noise(60_000, 4);
    let made = put(&*rig.direct, "k", &body, Cond::Any).await.unwrap();
    // Another size by HEAD: the read itself tells the truth.
    rig.proxy.rule(Rule::once("HEAD", "/tree/k", Wire::OtherSize));
    assert_eq!(rig.store.stat(&key("k")).await.unwrap().size, 60_001);
    assert!(read(&*rig.store, "k").await.unwrap() == body);
    for wrong in [
        Wire::OtherChecksum,
        Wire::ExtraBytes,
        Wire::PoolDead,
        Wire::NoTag,
        Wire::Chunked,
    ] {
        rig.proxy.rule(Rule::once("GET", "/tree/k", wrong.clone()));
        let before = rig.requests();
        match rig.store.get(&key("k"), None, None).await {
            Ok(got) => assert!(drain(got).await.unwrap() == body, "{wrong:?}"),
            Err(said) => assert!(said.is(Kind::Corrupt), "{wrong:?}: {said:?}"),
        }
        assert!(read(&*rig.store, "k").await.unwrap() == body, "behind {wrong:?}");
        assert_eq!(rig.proxy.made(&wrong), 1);
        assert!(rig.requests() - before <= 3, "{wrong:?}");
        // Where a tag is expected, its absence is no proof.
        rig.proxy.rule(Rule::once("GET", "/tree/k", wrong.clone()));
        match rig.store.get(&key("k"), None, Some(&made.tag)).await {
            Ok(got) => assert!(wrong != Wire::NoTag && drain(got).await.unwrap() == body),
            Err(said) => assert!(
                said.is(Kind::Changed) || said.is(Kind::Corrupt),
                "{wrong:?}: {said:?}"
            ),
        }
        rig.proxy.heal();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_answer_that_belongs_to_another_request_is_found_out() {
    let rig = rig().await;
    let (one, other) = (noise(60_000, 4), noise(60_000, 9));
    put(&*rig.direct, "one", &one, Cond::Any).await.unwrap();
    let made = put(&*rig.direct, "other", &other, Cond::Any).await.unwrap();
    assert!(read(&*rig.store, "one").await.unwrap() == one);
    rig.proxy
        .rule(Rule::once("GET", "/tree/other", Wire::OthersAnswer));
    let got = rig.store.get(&key("other"), None, Some(&made.tag)).await;
    assert!(fault(got.map(drop)).is(Kind::Changed));
    // A write that is answered with the tag of other bytes is not taken for done.
    for cond in [Cond::Absent, Cond::Any] {
        put(&*rig.store, "a", &one, Cond::Any).await.unwrap();
        rig.proxy.rule(Rule::once("PUT", "/tree/b", Wire::OthersAnswer));
        let made = put(&*rig.store, "b", &other, cond).await.unwrap();
        assert_eq!(made.tag, rig.direct.stat(&key("b")).await.unwrap().tag);
        assert!(read(&*rig.direct, "b").await.unwrap() == other);
    }
    assert_eq!(rig.proxy.made(&Wire::OthersAnswer), 3);
    // A tag that is no MD5 may be a true one (encryption): it is believed, and whoever acts upon it is refused.
    rig.proxy.rule(Rule::once("PUT", "/tree/c", Wire::OtherTag));
    let made = put(&*rig.store, "c", &other, Cond::Absent).await.unwrap();
    let next = put(&*rig.store, "c", &one, Cond::Is(made.tag)).await;
    assert!(fault(next).is(Kind::Changed));
    assert!(read(&*rig.direct, "c").await.unwrap() == other);
    rig.proxy.rule(Rule::once("PUT", "/tree/d", Wire::NoTag));
    let made = put(&*rig.store, "d", &other, Cond::Absent).await.unwrap();
    assert!(made.tag == Tag::None || made.tag == rig.direct.stat(&key("d")).await.unwrap().tag);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_connections_that_died_while_they_waited_are_not_noticed() {
    let rig = rig().await;
    for n in 0..20 {
        rig.proxy.rule(Rule::once("PUT", "", Wire::PoolDead));
        let writes = (0..8).map(|m| {
            let (store, name) = (&rig.store, format!("k{n}-{m}"));
            async move { put(&**store, &name, name.as_bytes(), Cond::Absent).await }
        });
        for made in futures::future::join_all(writes).await {
            made.unwrap();
        }
    }
    assert_eq!(rig.proxy.made(&Wire::PoolDead), 20);
    assert!(rig.requests() <= 160 + 20 * 16, "{}", rig.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_removals_that_only_seem_done_or_come_late_hit_nothing_newer() {
    let rig = rig().await;
    let first = put(&*rig.store, "k", b"first", Cond::Any).await.unwrap();
    rig.proxy.rule(Rule::once("DELETE", "/tree/k", Wire::AckedOnly));
    let removed = rig.store.remove(&[(key("k"), Cond::Is(first.tag.clone()))]).await;
    assert!(removed[0].is_ok());
    assert!(
        read(&*rig.store, "k").await.unwrap() == b"first",
        "asking shows that it is still there"
    );
    // Of several at once.
    put(&*rig.store, "l", b"l", Cond::Any).await.unwrap();
    rig.proxy.rule(Rule::once("POST", "delete=", Wire::AckedOnly));
    let both = [(key("k"), Cond::Any), (key("l"), Cond::Any)];
    assert!(rig.store.remove(&both).await.iter().all(Result::is_ok));
    assert!(rig.direct.stat(&key("l")).await.is_ok());
    assert_eq!(rig.proxy.made(&Wire::AckedOnly), 2);
    rig.proxy.rule(Rule::once("DELETE", "/tree/k", Wire::AckedLate));
    assert!(rig.store.remove(&[(key("k"), Cond::Is(first.tag))]).await[0].is_ok());
    put(&*rig.store, "k", b"newer", Cond::Any).await.unwrap();
    assert_eq!(rig.proxy.late_ones_arrive().await.unwrap(), 1);
    assert!(
        read(&*rig.store, "k").await.unwrap() == b"newer",
        "a late removal bears its condition"
    );
}

/// One key answers only behind many others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_a_slow_key_holds_up_nobody() {
    let rig = rig().await;
    rig.proxy
        .rule(Rule::once("PUT", "/tree/slow", Wire::HeldBack(200)));
    let slow = put(&*rig.store, "slow", b"slow", Cond::Absent);
    let others = async {
        for n in 0..200 {
            put(&*rig.store, &format!("k{n}"), b"x", Cond::Absent)
                .await
                .unwrap();
        }
    };
    let (slow, ()) = futures::future::join(slow, others).await;
    slow.unwrap();
    assert_eq!(rig.proxy.made(&Wire::HeldBack(200)), 1);
    assert_eq!(rig.requests(), 201, "nothing was asked twice");
    let (last, _) = rig.proxy.traffic().requests.pop().unwrap();
    assert_eq!(last, "PUT");
    assert!(read(&*rig.direct, "slow").await.unwrap() == b"slow");
}

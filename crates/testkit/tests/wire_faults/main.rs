//! The S3 store and its layers behind a proxy that lets things go wrong on the wire.

#![allow(clippy::unwrap_used, reason = "a suite of tests")]

mod budget;
mod objects;
mod parts;
mod rig;
mod silence;

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline_model::Kind;
use syncline_store::{Cond, OpenOptions, open};
use syncline_testkit::fault_proxy::{FaultProxy, Rule, Wire};
use syncline_testkit::store_conformance::{drain, key, listed, noise, put, read};

use rig::{fault, quick, rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_writes_and_reads_get_through_what_passes() {
    let rig = rig().await;
    let passing = [
        Wire::SlowDown(None),
        Wire::SlowDown(Some(1)),
        Wire::TooMany,
        Wire::ErrorBefore,
        Wire::ErrorAfter,
        Wire::Expired,
        Wire::ResetBefore,
        Wire::ResetAfter,
    ];
    for (n, wrong) in passing.iter().enumerate() {
        let name = format!("k{n}");
        let body = noise(50_000, n as u64);
        for (method, cond) in [("PUT", Cond::Absent), ("HEAD", Cond::Any), ("GET", Cond::Any)] {
            rig.proxy.rule(Rule::once(method, &name, wrong.clone()));
            match method {
                "PUT" => drop(
                    put(&*rig.store, &name, &body, cond)
                        .await
                        .unwrap_or_else(|f| panic!("{wrong:?}: {f:?}")),
                ),
                "HEAD" => drop(
                    rig.store
                        .stat(&key(&name))
                        .await
                        .unwrap_or_else(|f| panic!("{wrong:?}: {f:?}")),
                ),
                _ => assert!(
                    read(&*rig.store, &name)
                        .await
                        .unwrap_or_else(|f| panic!("{wrong:?}: {f:?}"))
                        == body
                ),
            }
        }
        assert_eq!(rig.proxy.made(wrong), 3, "{wrong:?} was met thrice");
        rig.proxy.rule(Rule::once("DELETE", &name, wrong.clone()));
        let tag = rig.direct.stat(&key(&name)).await.unwrap().tag;
        let removed = rig.store.remove(&[(key(&name), Cond::Is(tag))]).await;
        assert!(removed[0].is_ok(), "{wrong:?}: {removed:?}");
        assert!(rig.direct.stat(&key(&name)).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_bodies_are_whole_or_an_error() {
    let rig = rig().await;
    let body = noise(300_000, 1);
    let made = put(&*rig.direct, "body", &body, Cond::Any).await.unwrap();
    for wrong in [
        Wire::ResetAt(0),
        Wire::ResetAt(100_000),
        Wire::Truncated,
        Wire::OtherBytes,
        Wire::ShortLength,
        Wire::Trickle,
    ] {
        rig.proxy.rule(Rule::once("GET", "body", wrong.clone()));
        let got = read(&*rig.store, "body").await;
        match wrong {
            // Where bytes were handed out before the proof failed, only the reader can begin again.
            Wire::ShortLength | Wire::OtherBytes => match got {
                Ok(got) => assert!(got == body, "{wrong:?}: wrong bytes were called whole"),
                Err(fault) => assert!(fault.is(Kind::Corrupt) && fault.retry, "{fault:?}"),
            },
            _ => assert!(
                got.unwrap_or_else(|f| panic!("{wrong:?}: {f:?}")) == body,
                "{wrong:?}"
            ),
        }
        assert_eq!(rig.proxy.made(&wrong), 1);
    }
    for wrong in [
        Wire::RangeIgnored,
        Wire::OtherRange,
        Wire::ResetAt(10),
        Wire::Truncated,
    ] {
        rig.proxy.rule(Rule::once("GET", "body", wrong.clone()));
        let part = rig
            .store
            .get(&key("body"), Some((70_000, 90_000)), Some(&made.tag))
            .await;
        let part = drain(part.unwrap_or_else(|f| panic!("{wrong:?}: {f:?}"))).await;
        assert!(
            part.unwrap_or_else(|f| panic!("{wrong:?}: {f:?}")) == body[70_000..160_000],
            "{wrong:?}"
        );
    }
    rig.proxy.rule(Rule::once("GET", "body", Wire::OtherTag));
    let changed = fault(rig.store.get(&key("body"), None, Some(&made.tag)).await.map(drop));
    assert!(
        changed.is(Kind::Changed),
        "the reply's own tag decides: {changed:?}"
    );
    rig.proxy.rule(Rule::once("GET", "body", Wire::NotModified));
    assert!(
        read(&*rig.store, "body").await.unwrap() == body,
        "an answer to a question nobody asked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_what_will_not_pass_is_said_once_and_clearly() {
    let rig = rig().await;
    put(&*rig.direct, "k", b"x", Cond::Any).await.unwrap();
    let cases = [
        (Wire::Forbidden, Kind::Denied, "permit"),
        (Wire::Skewed, Kind::Denied, "clock"),
        (Wire::OtherRegion, Kind::Invalid, "eu-elsewhere-1"),
        (Wire::Missing, Kind::NotFound, ""),
        (Wire::Precondition, Kind::Changed, ""),
        (Wire::Conflict, Kind::Changed, ""),
        (Wire::BucketGone, Kind::NotFound, "no such bucket"),
        (Wire::QuotaExceeded, Kind::Full, ""),
    ];
    for (wrong, kind, hint) in cases {
        let before = rig.proxy.traffic().requests.len();
        rig.proxy.rule(Rule {
            times: 100,
            ..Rule::once("GET", "/tree/k", wrong.clone())
        });
        let fault = fault(read(&*rig.store, "k").await);
        rig.proxy.heal();
        assert_eq!(fault.kind, kind, "{wrong:?}: {fault:?}");
        assert!(
            fault.hint.clone().unwrap_or_default().contains(hint),
            "{fault:?} {:?}",
            fault.hint
        );
        assert!(fault.to_string().contains("s3://tree/k"), "{fault}");
        assert_eq!(
            rig.proxy.traffic().requests.len() - before,
            1,
            "{wrong:?} is not tried again"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sk4_no_redirect_is_followed() {
    let rig = rig().await;
    let elsewhere = FaultProxy::start(&rig.server.endpoint).await.unwrap();
    put(&*rig.direct, "k", b"x", Cond::Any).await.unwrap();
    for method in ["GET", "PUT", "HEAD", "DELETE"] {
        let to = format!("{}/tree/k", elsewhere.endpoint.url);
        rig.proxy.rule(Rule::once(method, "/tree/k", Wire::Redirect(to)));
        let result = match method {
            "GET" => read(&*rig.store, "k").await.map(drop),
            "PUT" => put(&*rig.store, "k", b"y", Cond::Any).await.map(drop),
            "HEAD" => rig.store.stat(&key("k")).await.map(drop),
            _ => rig.store.remove(&[(key("k"), Cond::Any)]).await.remove(0),
        };
        assert!(fault(result).is(Kind::Invalid), "{method}");
    }
    assert!(
        elsewhere.traffic().requests.is_empty(),
        "neither request nor credentials went there"
    );
    assert_eq!(read(&*rig.direct, "k").await.unwrap(), b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_are_complete_or_an_error() {
    let rig = rig().await;
    let names: Vec<String> = (0..2300).map(|n| format!("n{n:05}")).collect();
    let writes = futures::stream::iter(names.iter().map(|name| put(&*rig.direct, name, b"", Cond::Any)));
    let made: Vec<_> = futures::StreamExt::collect(futures::StreamExt::buffer_unordered(writes, 16)).await;
    assert!(made.iter().all(Result::is_ok));
    listed(&*rig.store, "none", None).await.unwrap();
    let passing = [
        Wire::SlowDown(None),
        Wire::ErrorBefore,
        Wire::ResetAfter,
        Wire::Truncated,
        Wire::PageAgain,
        Wire::TokenMissing,
        Wire::Unsorted,
        Wire::EntityBomb,
        Wire::BadUtf8,
        Wire::LateError,
        Wire::Doubled,
        Wire::Chunked,
        Wire::ExtraBytes,
        Wire::OthersAnswer,
        Wire::PoolDead,
    ];
    for wrong in passing {
        for page in 0..3 {
            if page == 0 && wrong == Wire::PageAgain {
                continue;
            }
            rig.proxy.rule(Rule {
                skip: page,
                ..Rule::once("GET", "list-type=2", wrong.clone())
            });
            let found = listed(&*rig.store, "", None)
                .await
                .unwrap_or_else(|f| panic!("{wrong:?} page {page}: {f:?}"));
            rig.proxy.heal();
            assert!(rig.proxy.made(&wrong) > 0, "{wrong:?}");
            assert_eq!(found.len(), 2300, "{wrong:?} on page {page}");
            assert!(
                found
                    .iter()
                    .zip(&names)
                    .all(|(listed, name)| listed.key.as_str() == name)
            );
        }
    }
    for wrong in [Wire::TokenLoop, Wire::Unsorted, Wire::Huge] {
        rig.proxy.rule(Rule {
            times: 1000,
            ..Rule::once("GET", "list-type=2", wrong.clone())
        });
        let fault = fault(listed(&*rig.store, "", None).await);
        rig.proxy.heal();
        assert!(
            fault.is(Kind::Corrupt) || fault.is(Kind::Invalid),
            "{wrong:?}: {fault:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_upload_in_parts_gets_through_and_is_written_once() {
    let rig = rig().await;
    let body = noise(17 << 20, 9);
    let wrongs = [
        ("PUT", "partNumber=2", Wire::ResetBefore),
        ("PUT", "partNumber=3", Wire::ErrorAfter),
        ("PUT", "partNumber=1", Wire::SlowDown(None)),
        ("POST", "uploads=", Wire::ErrorAfter),
        ("POST", "uploadId=", Wire::ResetAfter),
        ("POST", "uploadId=", Wire::LateError),
        ("POST", "uploadId=", Wire::ErrorBefore),
    ];
    for (n, (method, has, wrong)) in wrongs.into_iter().enumerate() {
        let name = format!("large{n}");
        rig.proxy.rule(Rule::once(method, has, wrong.clone()));
        let made = put(&*rig.store, &name, &body, Cond::Absent)
            .await
            .unwrap_or_else(|f| panic!("{has} {wrong:?}: {f:?}"));
        assert_eq!(rig.proxy.made(&wrong), 1 + u64::from(n == 3), "{wrong:?}");
        assert_eq!(made.tag, rig.direct.stat(&key(&name)).await.unwrap().tag);
        assert!(read(&*rig.direct, &name).await.unwrap() == body);
        rig.direct
            .remove(&[(key(&name), Cond::Any)])
            .await
            .remove(0)
            .unwrap();
    }
    // An upload that was begun behind a lost answer is nobody's; it can be found and given up.
    for (key, upload) in rig.direct.unfinished("").await.unwrap() {
        rig.direct.discard(&key, &upload).await.unwrap();
    }
    assert_eq!(rig.direct.unfinished("").await.unwrap(), []);
}

/// A hundred mebibytes, cut off at nine tenths: what the store has is not sent again.
///
/// Each run has a proxy of its own: a request of the broken run that its store no longer waits for may come through at any time
/// later, and is none of the second run's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b08_a_large_upload_broken_at_ninety_percent_goes_on_there() {
    const SIZE: usize = 100 << 20;
    const PART: usize = 5 << 20;
    let rig = rig().await;
    let body = Bytes::from(noise(SIZE, 11));
    for lost in ["partNumber=19&", "partNumber=20&"] {
        rig.proxy.rule(Rule {
            times: u64::MAX,
            ..Rule::once("PUT", lost, Wire::ResetBefore)
        });
    }
    // One part after the other: when the nineteenth breaks off, eighteen are there.
    let mut options = OpenOptions {
        caps: Some(rig.direct.caps().clone()),
        ..quick(&rig.proxy.endpoint)
    };
    options.sizes.parts_in_flight = 1;
    let breaking = open(&rig.proxy.endpoint.place("tree"), options).await.unwrap();
    let mut draft = breaking
        .draft(&key("film"), Some(SIZE as u64), BTreeMap::new(), None)
        .await
        .unwrap();
    let mut name = None;
    let mut broken = None;
    for piece in body.chunks(1 << 20) {
        if let Err(fault) = draft.write(body.slice_ref(piece)).await {
            broken = Some(fault);
            break;
        }
        name = draft.upload().or(name);
    }
    let broken = match broken {
        Some(fault) => fault,
        None => fault(draft.publish(Cond::Absent).await),
    };
    assert!(broken.is(Kind::Offline), "{broken:?}");
    let name = name.unwrap();
    let second = FaultProxy::start(&rig.server.endpoint).await.unwrap();
    let options = OpenOptions {
        caps: Some(rig.direct.caps().clone()),
        ..quick(&second.endpoint)
    };
    let store = open(&second.endpoint.place("tree"), options).await.unwrap();
    let mut draft = store
        .draft(&key("film"), Some(SIZE as u64), BTreeMap::new(), Some(&name))
        .await
        .unwrap();
    let held = usize::try_from(draft.held()).unwrap();
    assert_eq!(held, 18 * PART, "all whole parts that came through");
    for piece in body[held..].chunks(1 << 20) {
        draft.write(body.slice_ref(piece)).await.unwrap();
    }
    draft.publish(Cond::Absent).await.unwrap();
    let traffic = second.traffic();
    let part = |(_, path): &(String, String)| {
        let (_, number) = path.split_once("partNumber=")?;
        number.split('&').next().map(str::to_owned)
    };
    let mut sent: Vec<String> = traffic.requests.iter().filter_map(part).collect();
    sent.sort();
    assert_eq!(sent, ["19", "20"], "two of twenty parts were left to send");
    assert!(traffic.body_bytes < (SIZE - held + (1 << 20)) as u64);
    let mut seen = rig.direct.get(&key("film"), None, None).await.unwrap();
    let mut at = 0;
    while let Some(bytes) = seen.next().await.unwrap() {
        assert!(bytes == body[at..at + bytes.len()]);
        at += bytes.len();
    }
    assert_eq!(at, SIZE);
    assert_eq!(rig.direct.unfinished("").await.unwrap(), []);
}

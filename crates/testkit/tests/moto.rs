//! The S3 store against moto: strict conditions and exact keys.

use std::sync::Arc;

use syncline_store::{Cond, Store, open};
use syncline_testkit::moto::Moto;
use syncline_testkit::store_conformance::{Suite, key, put, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_store_against_moto() {
    let Some(moto) = Moto::start().await else { return };
    moto.endpoint.make_bucket("tree").await.unwrap();
    let store = open(&moto.endpoint.place("tree"), moto.endpoint.options())
        .await
        .unwrap();
    let caps = store.caps().clone();
    println!("{caps:?}");
    assert!(
        caps.if_absent
            && caps.if_is
            && caps.remove_if_is
            && caps.sorted
            && caps.tag_is_md5
            && caps.metadata
            && caps.reuse
            && !caps.versions
    );
    run(store, Suite::FULL).await;
    let bare = moto
        .endpoint
        .store("tree/below/a prefix")
        .await
        .unwrap()
        .probed()
        .await
        .unwrap();
    run(
        Arc::new(bare),
        Suite {
            many: 30,
            ..Suite::FULL
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_keeps_versions_on_moto() {
    let Some(moto) = Moto::start().await else { return };
    moto.endpoint.make_versioned_bucket("kept").await.unwrap();
    let options = moto.endpoint.options();
    let store = open(&moto.endpoint.place("kept/a b"), options).await.unwrap();
    assert!(store.caps().versions, "{:?}", store.caps());
    let suite = Suite {
        many: 30,
        ..Suite::FULL
    };
    run(store, suite).await;
    // Suspended: what comes now is replaced without a trace. (moto forgets older versions then; S3 itself keeps them.)
    let bare = moto.endpoint.store("kept").await.unwrap();
    let first = put(&bare, "k", b"first", Cond::Any).await.unwrap();
    assert!(first.version.is_some());
    bare.keep_versions(false).await.unwrap();
    assert_eq!(put(&bare, "k", b"second", Cond::Any).await.unwrap().version, None);
    assert_eq!(bare.stat(&key("k")).await.unwrap().version, None);
    assert!(!bare.probed().await.unwrap().caps().versions);
}

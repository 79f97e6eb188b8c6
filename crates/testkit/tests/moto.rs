//! The S3 store against moto: strict conditions and exact keys.

use std::sync::Arc;

use syncline_store::open;
use syncline_testkit::moto::Moto;
use syncline_testkit::store_conformance::{Suite, run};

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

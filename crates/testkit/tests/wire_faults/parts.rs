//! Uploads in parts, of which one is lost, late, out of order, or the whole of which vanishes.

use std::collections::BTreeMap;

use bytes::Bytes;
use syncline_model::Kind;
use syncline_store::{Cond, Draft};
use syncline_testkit::fault_proxy::{Rule, Wire};
use syncline_testkit::store_conformance::{key, noise, put, read};

use crate::rig::{Rig, fault, rig};

const SIZE: usize = 17 << 20;

async fn draft(rig: &Rig, body: &Bytes, resume: Option<&str>) -> Box<dyn Draft> {
    let (key, size) = (key("large"), Some(SIZE as u64));
    let made = rig.store.draft(&key, size, BTreeMap::new(), resume);
    let mut draft = made.await.unwrap();
    let held = usize::try_from(draft.held()).unwrap();
    draft.write(body.slice(held..)).await.unwrap();
    draft
}

async fn is_whole(rig: &Rig, body: &[u8]) {
    assert!(read(&*rig.direct, "large").await.unwrap() == body);
    assert_eq!(rig.direct.unfinished("").await.unwrap(), []);
    rig.direct
        .remove(&[(key("large"), Cond::Any)])
        .await
        .remove(0)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_a_part_that_the_store_lost_is_sent_again_by_whoever_goes_on() {
    let rig = rig().await;
    let body = Bytes::from(noise(SIZE, 9));
    rig.proxy.rule(Rule::once("PUT", "partNumber=2", Wire::AckedOnly));
    let lost = draft(&rig, &body, None).await;
    let name = lost.upload().unwrap();
    let said = fault(lost.publish(Cond::Absent).await);
    assert!(
        said.is(Kind::Invalid) && said.to_string().contains("InvalidPart"),
        "{said:?}"
    );
    assert_eq!(rig.proxy.made(&Wire::AckedOnly), 1);
    assert!(
        rig.direct
            .stat(&key("large"))
            .await
            .unwrap_err()
            .is(Kind::NotFound)
    );
    let before = rig.proxy.traffic().body_bytes;
    draft(&rig, &body, Some(&name))
        .await
        .publish(Cond::Absent)
        .await
        .unwrap();
    let sent = rig.proxy.traffic().body_bytes - before;
    assert!(sent < (6 << 20), "the part alone: {sent}");
    is_whole(&rig, &body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_parts_may_arrive_in_any_order() {
    let rig = rig().await;
    let body = Bytes::from(noise(SIZE, 9));
    rig.proxy
        .rule(Rule::once("PUT", "partNumber=1", Wire::HeldBack(1)));
    let made = put(&*rig.store, "large", &body, Cond::Absent).await.unwrap();
    assert_eq!(rig.proxy.made(&Wire::HeldBack(1)), 1);
    assert_eq!(made.size, SIZE as u64);
    is_whole(&rig, &body).await;
    rig.proxy.rule(Rule::once("POST", "uploadId=", Wire::PartOrder));
    let before = rig.requests();
    let said = fault(put(&*rig.store, "large", &body, Cond::Absent).await);
    assert!(
        said.is(Kind::Invalid) && said.to_string().contains("InvalidPartOrder"),
        "{said:?}"
    );
    assert!(rig.requests() - before <= 8, "what is wrong stays wrong");
}

/// Somebody on the way asks twice, and the second answer is what comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_upload_that_is_ended_twice_is_written_once() {
    let rig = rig().await;
    let body = Bytes::from(noise(SIZE, 9));
    rig.proxy.rule(Rule::once("POST", "uploadId=", Wire::Twice));
    let made = put(&*rig.store, "large", &body, Cond::Absent)
        .await
        .unwrap_or_else(|f| panic!("{f:?}"));
    assert_eq!(rig.proxy.made(&Wire::Twice), 1);
    assert_eq!(made.tag, rig.direct.stat(&key("large")).await.unwrap().tag);
    is_whole(&rig, &body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_upload_that_vanishes_is_said_and_a_new_one_does() {
    let rig = rig().await;
    let body = Bytes::from(noise(SIZE, 9));
    for (method, has) in [("PUT", "partNumber=2"), ("POST", "uploadId=")] {
        rig.proxy.rule(Rule::once(method, has, Wire::UploadGone));
        let before = rig.requests();
        let said = fault(put(&*rig.store, "large", &body, Cond::Absent).await);
        assert!(
            said.is(Kind::NotFound) && said.to_string().contains("NoSuchUpload"),
            "{said:?}"
        );
        assert!(rig.requests() - before <= 8);
        put(&*rig.store, "large", &body, Cond::Absent).await.unwrap();
        for (key, upload) in rig.direct.unfinished("").await.unwrap() {
            rig.direct.discard(&key, &upload).await.unwrap();
        }
        is_whole(&rig, &body).await;
    }
    assert_eq!(rig.proxy.made(&Wire::UploadGone), 2);
    // One that is gone when it is to be resumed is begun anew.
    let made = draft(&rig, &body, Some("part-5242880.no-such-upload")).await;
    assert_eq!(made.held(), 0);
    made.publish(Cond::Absent).await.unwrap();
    is_whole(&rig, &body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_upload_that_was_not_given_up_after_all_can_be_found() {
    let rig = rig().await;
    let body = Bytes::from(noise(SIZE, 9));
    rig.proxy.rule(Rule::once("DELETE", "uploadId=", Wire::AckedOnly));
    let left = draft(&rig, &body, None).await;
    left.discard().await.unwrap();
    assert_eq!(rig.proxy.made(&Wire::AckedOnly), 1);
    let found = rig.store.unfinished("").await.unwrap();
    assert_eq!(found.len(), 1);
    rig.store.discard(&found[0].0, &found[0].1).await.unwrap();
    assert_eq!(rig.direct.unfinished("").await.unwrap(), []);
    assert!(
        rig.direct
            .stat(&key("large"))
            .await
            .unwrap_err()
            .is(Kind::NotFound)
    );
}

/// Small enough to be kept for another attempt as a whole, and in parts all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_an_upload_that_cannot_be_ended_leaves_itself_and_no_other() {
    let rig = rig().await;
    let body = noise(6 << 20, 9);
    for (method, has) in [("POST", "uploadId="), ("PUT", "partNumber=2")] {
        rig.proxy.rule(Rule {
            times: u64::MAX,
            ..Rule::once(method, has, Wire::ErrorBefore)
        });
        assert!(fault(put(&*rig.store, "large", &body, Cond::Absent).await).is(Kind::Offline));
        rig.proxy.heal();
        let left = rig.direct.unfinished("").await.unwrap();
        assert_eq!(left.len(), 1, "{has}: {left:?}");
        rig.direct.discard(&left[0].0, &left[0].1).await.unwrap();
    }
    assert!(rig.proxy.made(&Wire::ErrorBefore) >= 8);
}

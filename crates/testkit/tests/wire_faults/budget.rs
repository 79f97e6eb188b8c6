//! How many requests faults cost: in ones and twos what they must, in a storm no more than the budget.

use futures::{StreamExt, stream};
use syncline_model::Kind;
use syncline_store::Cond;
use syncline_testkit::fault_proxy::{Rule, Wire};
use syncline_testkit::store_conformance::{key, put, read};

use crate::rig::rig;

const OBJECTS: u64 = 3_400;

/// Ten thousand operations, of whose requests one in a hundred goes wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_at_one_fault_in_a_hundred_few_requests_are_asked_twice() {
    let rig = rig().await;
    let kinds = [
        Wire::SlowDown(None),
        Wire::TooMany,
        Wire::ErrorBefore,
        Wire::ErrorAfter,
        Wire::Expired,
        Wire::ResetBefore,
        Wire::ResetAfter,
    ];
    rig.proxy.rate(7, 100, &kinds);
    let each = stream::iter(0..OBJECTS).map(|n| {
        let (store, name) = (&rig.store, format!("k{n}"));
        async move {
            let text = format!("the text of {name}");
            let made = put(&**store, &name, text.as_bytes(), Cond::Absent).await.unwrap();
            assert_eq!(store.stat(&key(&name)).await.unwrap().tag, made.tag);
            assert!(read(&**store, &name).await.unwrap() == text.as_bytes());
        }
    });
    each.buffer_unordered(8).collect::<Vec<()>>().await;
    let operations = 3 * OBJECTS;
    let made: u64 = rig.proxy.traffic().made.values().sum();
    let requests = rig.requests() as u64;
    println!("{operations} operations, {made} faults, {requests} requests");
    assert!(
        made >= operations / 200,
        "{made}: the test met what it is to withstand"
    );
    assert!(kinds.iter().all(|kind| rig.proxy.made(kind) > 0));
    assert!(requests * 10 <= operations * 13, "{requests}");
    assert!(requests <= operations + 3 * made, "{requests} for {made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_when_everything_fails_the_budget_ends_it() {
    let rig = rig().await;
    rig.proxy.rule(Rule {
        times: u64::MAX,
        ..Rule::once("", "", Wire::SlowDown(None))
    });
    const ASKED: u64 = 10_000;
    let each = stream::iter(0..ASKED).map(|n| {
        let store = &rig.store;
        async move {
            store
                .stat(&key(&format!("k{n}")))
                .await
                .unwrap_err()
                .is(Kind::Busy)
        }
    });
    let all = each.buffer_unordered(8).all(|busy| async move { busy }).await;
    assert!(all);
    let requests = rig.requests() as u64;
    println!("{ASKED} operations in a storm, {requests} requests");
    assert_eq!(rig.proxy.made(&Wire::SlowDown(None)), requests);
    assert!(requests <= ASKED + 200, "{requests}");
}

//! The promises of a replica, on buckets.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use syncline_model::{Clock, Dice};
use syncline_replica::{BucketOptions, BucketReplica, Replica};
use syncline_testkit::env::{FakeClock, SeededDice};
use syncline_testkit::mem_store::{MemOptions, MemStore};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::replica_conformance::{CASES, check};

fn run(mem: MemOptions, state: bool) {
    check(&mut || {
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::hurrying(1_700_000_000));
        let dice: Arc<dyn Dice> = Arc::new(SeededDice::new(7));
        let store = MemStore::new("mem://bucket", mem.clone(), clock.clone(), dice.clone());
        let options = BucketOptions {
            place: "mem://bucket".into(),
            host: "bucket".into(),
            device: "one".into(),
            state: state.then(|| Arc::new(MemTable::default()) as _),
            clock,
            dice,
            read_only: false,
        };
        let replica: Arc<dyn Replica> = Arc::new(BucketReplica::new(Arc::new(store), options).unwrap());
        replica
    });
}

#[test]
fn a_bucket_that_keeps_conditions() {
    run(MemOptions::default(), true);
}

#[test]
fn a_bucket_without_a_state_of_its_own() {
    run(MemOptions::default(), false);
}

#[test]
fn a_bucket_that_keeps_versions() {
    run(MemOptions::versioned(), true);
    let mut mem = MemOptions::versioned();
    (mem.caps.sorted, mem.caps.tag_is_md5) = (false, false);
    run(mem, true);
}

#[test]
fn a_bucket_whose_listings_come_in_any_order() {
    let mut mem = MemOptions::default();
    mem.caps.sorted = false;
    run(mem, true);
}

#[test]
fn a_bucket_whose_tags_tell_nothing_of_the_bytes() {
    let mut mem = MemOptions::default();
    mem.caps.tag_is_md5 = false;
    run(mem, true);
}

#[test]
fn a_bucket_on_a_strict_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let Some(moto) = runtime.block_on(syncline_testkit::moto::Moto::start()) else {
        return;
    };
    runtime.block_on(moto.endpoint.make_bucket("tree")).unwrap();
    let _within = runtime.enter();
    for (count, (name, case)) in CASES.iter().enumerate() {
        // moto finds no route to a key with a newline; `bucket_s3` tries the names that it takes.
        if name.starts_with("s17") {
            continue;
        }
        let url = moto.endpoint.place(&format!("tree/{count} of them"));
        let store = futures::executor::block_on(syncline_store::open(&url, moto.endpoint.options())).unwrap();
        let options = BucketOptions {
            place: url,
            host: "tree".into(),
            device: "one".into(),
            state: Some(Arc::new(MemTable::default())),
            clock: Arc::new(FakeClock::hurrying(1_700_000_000)),
            dice: Arc::new(SeededDice::new(7)),
            read_only: false,
        };
        println!("case: {name}");
        futures::executor::block_on(case(Arc::new(BucketReplica::new(store, options).unwrap())));
    }
}

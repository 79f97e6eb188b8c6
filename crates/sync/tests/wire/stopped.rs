//! A run that is cut off from the bucket after any number of calls, as if it had been killed there.

use std::sync::Arc;

use syncline_testkit::env::{FakeClock, SeededDice};
use syncline_testkit::faulty_store::FaultyStore;
use syncline_testkit::mem_store::{MemOptions, MemStore};

use crate::office::{Person, files, in_bucket};

/// In a bucket each file of a directory moves by itself: whoever looks at half of that sees files that nobody made.
#[tokio::test(flavor = "multi_thread")]
async fn s14_s23_a_directory_that_moves_in_a_bucket_with_edits_ends_without_a_conflict() {
    let mut cut = 0;
    for at in 0.. {
        let dice = Arc::new(SeededDice::new(at));
        let clock = Arc::new(FakeClock::new(1_700_000_000));
        let bucket = Arc::new(MemStore::new(
            "the bucket",
            MemOptions::default(),
            clock,
            dice.clone(),
        ));
        let store = FaultyStore::new(bucket.clone(), dice);
        let anna = Person::new("anna", Arc::new(store.clone()));
        for number in 0..6 {
            anna.tree
                .write(&format!("old/{number}"), format!("the first text of {number}"));
            anna.tree
                .write(&format!("still/{number}"), format!("still {number}"));
        }
        anna.well("at first").await;
        for number in 0..3 {
            anna.tree
                .write(&format!("old/{number}"), format!("edited, {number}, and longer"));
        }
        anna.tree.rename("old", "new");
        store.outage_after(at);
        let ended = anna.sync().await;
        store.outage_after(u64::MAX);
        store.outage(false);
        if ended.is_ok_and(|report| u8::from(report.exit) == 0) {
            break;
        }
        cut += 1;
        let wanted = files(&anna.tree);
        let report = anna.well(&format!("after {at} calls")).await;
        assert_eq!(
            (u8::from(report.exit), report.conflicts),
            (0, 0),
            "after {at} calls: {report:?}"
        );
        assert_eq!(files(&anna.tree), wanted, "after {at} calls");
        assert_eq!(in_bucket(&*bucket).await, wanted, "after {at} calls");
    }
    assert!(cut > 20, "{cut} runs were cut");
}

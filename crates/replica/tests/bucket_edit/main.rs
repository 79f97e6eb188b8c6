//! Edits of buckets: races, trash, directories, moves, uploads, on stores with and without conditional writes.

#![allow(clippy::unwrap_used)]

mod attributes;
mod moves;
mod races;
mod trash;
mod uploads;

#[path = "../bucket_support/mod.rs"]
mod bucket_support;

use std::collections::BTreeSet;
use std::sync::Arc;

use bucket_support::*;
use syncline_model::{Change, Digest, Entry, From, Kind, Meta, Time};
use syncline_replica::{BucketReplica, Replica};
use syncline_store::Store;
use syncline_testkit::mem_table::MemTable;

fn each() -> [Arc<MemStore>; 4] {
    let mut both = MemStore::unconditional();
    both.caps.versions = true;
    [
        Arc::new(MemStore::new()),
        Arc::new(MemStore::unconditional()),
        Arc::new(MemStore::versioned()),
        Arc::new(both),
    ]
}

fn replica_of(store: &Arc<MemStore>) -> BucketReplica {
    bucket_support::replica(store, "two")
}

fn with_state(device: &str) -> (syncline_replica::BucketOptions, Arc<MemTable>) {
    let table = Arc::new(MemTable::default());
    (
        syncline_replica::BucketOptions {
            state: Some(table.clone()),
            ..options(device)
        },
        table,
    )
}

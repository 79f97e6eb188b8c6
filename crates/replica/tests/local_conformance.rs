//! The promises of a replica, on a real directory.

use std::sync::Arc;

use syncline_replica::{LocalReplica, Replica};
use syncline_store::os::OsDisk;
use syncline_testkit::here::local_options;
use syncline_testkit::replica_conformance::check;

fn run_in(parent: &std::path::Path, threads: usize) {
    let trees = tempfile::tempdir_in(parent).unwrap();
    let mut count = 0;
    check(&mut || {
        count += 1;
        let at = trees.path().join(count.to_string());
        std::fs::DirBuilder::new().create(&at).unwrap();
        let mut options = local_options("tree");
        options.threads = threads;
        let replica: Arc<dyn Replica> =
            Arc::new(LocalReplica::open(Arc::new(OsDisk::new()), &at, options).unwrap());
        replica
    });
}

#[test]
fn a_directory_on_disk() {
    run_in(&std::env::temp_dir(), 2);
}

#[test]
fn a_directory_in_memory_without_threads() {
    run_in(std::path::Path::new("/dev/shm"), 0);
}

//! The promises of a replica, on real directories and a simulated one.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use syncline_model::RelPath;
use syncline_replica::{Elsewhere, LocalReplica, Replica, TrashElsewhere};
use syncline_store::os::OsDisk;
use syncline_testkit::here::local_options;
use syncline_testkit::replica_conformance::check;
use syncline_testkit::sim_disk::SimDisk;

fn run_in(parent: &Path, threads: usize) {
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
    run_in(Path::new("/dev/shm"), 0);
}

#[test]
fn a_simulated_directory() {
    check(&mut || {
        let mut options = local_options("tree");
        options.threads = 0;
        let disk = Arc::new(SimDisk::new());
        let replica: Arc<dyn Replica> = Arc::new(LocalReplica::open(disk, Path::new("/"), options).unwrap());
        replica
    });
}

/// Trash that goes to another place, or lies at one.
fn elsewhere(goes: bool) {
    let trees = tempfile::tempdir().unwrap();
    let mut count = 0;
    check(&mut || {
        count += 1;
        let open = |name: String| -> Arc<dyn Replica> {
            let at = trees.path().join(name);
            std::fs::DirBuilder::new().create(&at).unwrap();
            Arc::new(LocalReplica::open(Arc::new(OsDisk::new()), &at, local_options("tree")).unwrap())
        };
        let place = Elsewhere {
            place: open(format!("place-{count}")),
            below: RelPath::try_from("session/left").unwrap(),
        };
        let (goes, lies) = if goes {
            (Some(place), Vec::new())
        } else {
            (None, vec![place])
        };
        let replica: Arc<dyn Replica> = Arc::new(TrashElsewhere {
            inner: open(count.to_string()),
            goes,
            lies,
        });
        replica
    });
}

#[test]
fn a_directory_whose_trash_goes_elsewhere() {
    elsewhere(true);
}

#[test]
fn a_directory_whose_old_trash_lies_elsewhere() {
    elsewhere(false);
}

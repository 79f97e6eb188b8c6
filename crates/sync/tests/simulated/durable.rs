//! File systems whose barrier cannot be believed (NFS and the like): files and directories are flushed one by one. Disks
//! that fail to write: what was lost once is not saved by asking again.

use std::sync::atomic::{AtomicU64, Ordering};

use syncline_model::Side;
use syncline_model::fold::Folding;
use syncline_testkit::sim_disk::{Action, FsOptions};

use crate::world::World;

/// The `statfs` number of NFS.
const NFS: u64 = 0x6969;

fn filled(kind: u64) -> World {
    let world = World::of_kind(Folding::default(), Folding::default(), kind);
    world.mkdir(Side::Left, "d");
    world.mkdir(Side::Left, "d/e");
    for name in ["x", "d/y", "d/e/z"] {
        world.write(Side::Left, name, name);
    }
    world.settle_disk(Side::Left);
    world
}

#[test]
fn s23_what_is_flushed_one_by_one_survives_a_power_cut() {
    let mut lost = 0;
    for seed in 0..40 {
        let world = filled(NFS);
        world.sync(0);
        let wanted = world.look(Side::Left);
        let took = world.disks.right.crash(seed);
        lost += took.names + took.files + took.attributes;
        assert_eq!(world.look(Side::Right), wanted, "seed {seed}");
    }
    // Times of directories and our own files may go; where nothing ever went nothing was proved.
    assert!(lost > 0, "no power cut took anything");
}

/// A kernel that could not write says so once and takes the bytes for written.
#[test]
fn s23_a_flush_that_failed_is_not_believed_the_second_time() {
    let (mut failed, mut lost) = (0, 0);
    for kind in [NFS, FsOptions::default().kind] {
        for at in 0.. {
            let world = filled(kind);
            let asked = AtomicU64::new(0);
            world.disks.right.before_call(move |call| {
                let syncs = matches!(call.verb, "sync_file" | "sync_fs");
                if syncs && asked.fetch_add(1, Ordering::Relaxed) == at {
                    return Action::Lose;
                }
                Action::Go
            });
            let ended = world.attempt();
            world.disks.right.no_hook();
            let faults = world.disks.right.counts().faults;
            if faults == 0 {
                break;
            }
            // A failed run asks for nothing but the next one.
            if ended != Some(0) {
                failed += 1;
                world.sync(0);
            }
            let wanted = world.look(Side::Left);
            let took = world.disks.right.crash(at);
            lost += took.names + took.files + took.attributes;
            assert_eq!(
                world.look(Side::Right),
                wanted,
                "kind {kind:x}, sync {at} lost bytes"
            );
        }
    }
    assert!(
        failed > 1 && lost > 0,
        "{failed} runs failed, {lost} things lost: nothing was proved"
    );
}

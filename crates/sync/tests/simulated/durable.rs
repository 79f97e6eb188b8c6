//! File systems whose barrier cannot be believed (NFS and the like): files and directories are flushed one by one.

use syncline_model::Side;
use syncline_model::fold::Folding;

use crate::world::World;

/// The `statfs` number of NFS.
const NFS: u64 = 0x6969;

fn filled() -> World {
    let world = World::of_kind(Folding::default(), Folding::default(), NFS);
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
        let world = filled();
        world.sync(0);
        let wanted = world.look(Side::Left);
        let took = world.disks.right.crash(seed);
        lost += took.names + took.files + took.attributes;
        assert_eq!(world.look(Side::Right), wanted, "seed {seed}");
    }
    // Times of directories and our own files may go; where nothing ever went nothing was proved.
    assert!(lost > 0, "no power cut took anything");
}

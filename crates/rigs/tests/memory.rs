//! Memory grows neither with the tree nor with the number of changes: the same cases at two sizes, with sorters that hold little, so that
//! what grows shows early. `memory-rig` says how much it is at ten million.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use syncline_rigs::memory::{Case, measure};

const FEW: u64 = 30_000;
const MANY: u64 = 120_000;
const BUDGET: usize = 1 << 20;
/// What a run may take more for `MANY` than for `FEW`. A row of the base kept for each entry takes a third more.
const MORE: u64 = 48 << 20;

#[test]
#[ignore = "takes a minute: make soak"]
fn s39_memory_does_not_grow_with_the_number_of_entries() {
    let exe = Path::new(env!("CARGO_BIN_EXE_memory-rig"));
    let dirs = [FEW, MANY].map(|entries| (entries, tempfile::tempdir().unwrap()));
    let cases = Case::ALL.map(|case| {
        let [few, many] = [0, 1].map(|at: usize| {
            let (entries, dir) = &dirs[at];
            measure(exe, case, *entries, dir.path(), Some(BUDGET))
                .unwrap()
                .peak
        });
        println!("{}: {} MiB, {} MiB", case.name(), few >> 20, many >> 20);
        (case, few, many)
    });
    for (case, few, many) in cases {
        assert!(many < few + MORE, "{}: {few}, {many} bytes", case.name());
    }
}

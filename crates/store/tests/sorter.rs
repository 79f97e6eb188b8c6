//! The sorter: order, stability, spilling, and faults of the disk below it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use syncline_model::Kind;
use syncline_store::disk::Disk;
use syncline_store::os::OsDisk;
use syncline_store::sorter::Sorter;
use syncline_testkit::env::SeededDice;
use syncline_testkit::sim_disk::{Action, SimDisk};

type Row = (Vec<u8>, Vec<u8>);

fn rows(count: u32, seed: u64) -> Vec<Row> {
    let dice = SeededDice::new(seed);
    (0..count)
        .map(|n| {
            let mut key = format!("name-{:05}", dice.below(u64::from(count) / 2 + 1)).into_bytes();
            if dice.chance(5) {
                key = vec![[0, 255, b'n'][dice.below(3) as usize]; dice.below(12) as usize];
            }
            let mut value = n.to_be_bytes().to_vec();
            value.resize(4 + dice.below(60) as usize, 7);
            (key, value)
        })
        .collect()
}

fn sorted<D: Disk>(disk: &Arc<D>, dir: &D::Dir, rows: &[Row], budget: usize) -> (Vec<Row>, u64) {
    let mut sorter = Sorter::with_budget(Arc::clone(disk), dir.clone(), budget);
    for (key, value) in rows {
        sorter.push(key, value).unwrap();
    }
    let spills = sorter.spills();
    (sorter.finish().unwrap().map(|row| row.unwrap()).collect(), spills)
}

fn names<D: Disk>(disk: &D, dir: &D::Dir) -> usize {
    let mut names = 0;
    disk.list(dir, &mut |_| {
        names += 1;
        true
    })
    .unwrap();
    names
}

#[test]
fn rows_come_out_in_order_whatever_the_budget_and_equal_keys_as_pushed() {
    let disk = Arc::new(SimDisk::new());
    let top = disk.top();
    for (count, budget, least_spills) in [
        (0, 100, 0),
        (1, 0, 0),
        (500, usize::MAX, 0),
        (3000, 10_000, 10),
        (3000, 2000, 65),
        (9000, 0, 4097),
    ] {
        let rows = rows(count, u64::from(count));
        let mut wanted = rows.clone();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        let (seen, spills) = sorted(&disk, &top, &rows, budget);
        assert!(seen == wanted, "{count} rows in {budget} bytes");
        assert!(
            spills >= least_spills,
            "{spills} spills of {count} rows in {budget} bytes"
        );
        assert_eq!(spills == 0, least_spills == 0);
        assert_eq!(names(&*disk, &top), 0, "scratch files were left");
    }
}

#[test]
fn below_its_budget_it_does_not_touch_the_disk() {
    let disk = Arc::new(SimDisk::new());
    let (_, spills) = sorted(&disk, &disk.top(), &rows(2000, 1), 1 << 20);
    assert_eq!((spills, disk.counts().calls), (0, 0));
}

#[test]
fn two_sorters_share_a_real_directory() {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = Arc::new(OsDisk::new());
    let dir = disk.root(temp.path()).unwrap();
    drop(disk.open(&dir, b"sort-0", true).unwrap());
    let (a, b) = (rows(20_000, 1), rows(20_000, 2));
    let mut first = Sorter::with_budget(Arc::clone(&disk), dir.clone(), 50_000);
    let mut second = Sorter::with_budget(Arc::clone(&disk), dir.clone(), 70_000);
    for (a, b) in a.iter().zip(&b) {
        first.push(&a.0, &a.1).unwrap();
        second.push(&b.0, &b.1).unwrap();
    }
    assert!(first.spills() > 10 && second.spills() > 10);
    for (sorter, mut rows) in [(first, a), (second, b)] {
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let seen: Vec<Row> = sorter.finish().unwrap().map(|row| row.unwrap()).collect();
        assert!(seen == rows);
    }
    assert_eq!(names(&*disk, &dir), 1, "only what was there before is there");
}

#[test]
fn a_row_larger_than_the_budget_passes() {
    let disk = Arc::new(SimDisk::new());
    let rows = vec![
        (b"b".to_vec(), vec![1; 300_000]),
        (vec![b'a'; 200_000], vec![2; 100_000]),
    ];
    let (seen, _) = sorted(&disk, &disk.top(), &rows, 1000);
    assert!(seen == [rows[1].clone(), rows[0].clone()]);
}

#[test]
fn a_fault_of_the_disk_is_an_error_and_never_an_early_end() {
    let all = rows(3000, 5);
    let calls = {
        let disk = Arc::new(SimDisk::new());
        sorted(&disk, &disk.top(), &all, 2000);
        disk.counts().calls
    };
    let mut faults = 0;
    for at in (0..calls).step_by(7) {
        let disk = Arc::new(SimDisk::new());
        disk.before_call(move |call| {
            if call.no == at {
                Action::Fail(Kind::Full)
            } else {
                Action::Go
            }
        });
        let mut sorter = Sorter::with_budget(Arc::clone(&disk), disk.top(), 2000);
        let outcome = all
            .iter()
            .try_for_each(|(key, value)| sorter.push(key, value))
            .and_then(|()| {
                sorter
                    .finish()?
                    .map(|row| row.map(drop))
                    .collect::<Result<Vec<()>, _>>()
            });
        assert_eq!(outcome.unwrap_err().kind, Kind::Full, "call {at}");
        faults += disk.counts().faults;
    }
    assert_eq!(faults, calls.div_ceil(7));
}

//! What every [`Table`] must do, checked beside a sorted map.

#![allow(clippy::unwrap_used, reason = "a suite of tests")]

use std::collections::BTreeMap;

use syncline_model::Kind;
use syncline_store::{Batch, Table};

use crate::env::SeededDice;

/// Runs the suite on an empty table.
pub fn check(table: &dyn Table, seed: u64) {
    batches_read_back_like_a_map(table, seed);
    a_scan_shows_the_rows_as_they_were(table);
    keys_that_cannot_be_are_refused(table);
}

/// Short keys of few letters, so that prefixes and bounds meet; now and then a long one and the highest bytes.
fn key(dice: &SeededDice) -> Vec<u8> {
    let len = if dice.chance(2) { 3000 } else { 1 + dice.below(5) };
    (0..len)
        .map(|_| [0, b'a', b'b', b'/', 255][dice.below(5) as usize])
        .collect()
}

fn batches_read_back_like_a_map(table: &dyn Table, seed: u64) {
    let dice = SeededDice::new(seed);
    let mut model = BTreeMap::new();
    for round in 0..300 {
        // Large batches may be stored another way than small ones; both must mix.
        let rows = if dice.chance(8) { 700 } else { 40 };
        let batch: Batch = (0..dice.below(rows))
            .map(|_| {
                let value = (!dice.chance(30)).then(|| vec![round as u8; dice.below(300) as usize]);
                (key(&dice), value)
            })
            .collect();
        for (key, value) in &batch {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
        table.write(batch).unwrap();
        if round % 7 == 0 {
            table.persist().unwrap();
        }
        let probe = key(&dice);
        assert_eq!(
            table.get(&probe).unwrap(),
            model.get(&probe).cloned(),
            "seed {seed}"
        );
        let prefix = &probe[..dice.below(3).min(probe.len() as u64) as usize];
        let from = key(&dice);
        let seen: Vec<_> = table.scan(prefix, &from).map(|row| row.unwrap()).collect();
        let wanted: Vec<_> = model
            .range(prefix.max(&from[..]).to_vec()..)
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(seen, wanted, "seed {seed} prefix {prefix:?} from {from:?}");
    }
    assert!(!model.is_empty());
    table
        .write(model.keys().map(|key| (key.clone(), None)).collect())
        .unwrap();
    assert!(table.scan(b"", b"").next().is_none());
}

fn a_scan_shows_the_rows_as_they_were(table: &dyn Table) {
    let row = |n: u32, value: u8| (n.to_be_bytes().to_vec(), Some(vec![value]));
    table.write((0..1000).map(|n| row(n, 1)).collect()).unwrap();
    let mut scan = table.scan(b"", b"");
    let first = scan.next().unwrap().unwrap();
    assert_eq!(first, (0u32.to_be_bytes().to_vec(), vec![1]));
    table.write((0..2000).map(|n| row(n, 2)).collect()).unwrap();
    table
        .write(
            (500..600)
                .map(|n: u32| (n.to_be_bytes().to_vec(), None))
                .collect(),
        )
        .unwrap();
    let rest: Vec<_> = scan.map(|row| row.unwrap().1).collect();
    assert!(
        rest == vec![vec![1]; 999],
        "rows written after the scan began show in it"
    );
    assert_eq!(table.scan(b"", b"").count(), 1900);
    table
        .write((0..2000u32).map(|n| (n.to_be_bytes().to_vec(), None)).collect())
        .unwrap();
}

fn keys_that_cannot_be_are_refused(table: &dyn Table) {
    for key in [Vec::new(), vec![0; 65536]] {
        let fault = table
            .write(vec![
                (b"good".to_vec(), Some(Vec::new())),
                (key, Some(Vec::new())),
            ])
            .unwrap_err();
        assert_eq!(fault.kind, Kind::Invalid);
    }
    assert_eq!(table.get(b"good").unwrap(), None, "half a batch was taken");
    table
        .write(vec![(vec![1; 65535], Some(vec![2; 100_000]))])
        .unwrap();
    assert_eq!(table.get(&vec![1; 65535]).unwrap(), Some(vec![2; 100_000]));
}

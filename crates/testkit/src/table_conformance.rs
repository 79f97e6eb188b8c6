//! What every [`Table`] must do, checked beside a sorted map.

#![allow(clippy::unwrap_used, reason = "a suite of tests")]

use std::collections::BTreeMap;

use syncline_model::{Fault, Kind};
use syncline_store::{Batch, Table};

use crate::env::SeededDice;

/// Runs the suite on an empty table.
pub fn check(table: &dyn Table, seed: u64) {
    batches_read_back_like_a_map(table, seed);
    a_scan_shows_the_rows_as_they_were(table);
    keys_that_cannot_be_are_refused(table);
    for rows in [10, 5000] {
        a_load_of_a_scan_of_its_own_gives_rows_another_name(table, rows);
        a_load_that_fails_changes_nothing(table, rows);
    }
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

fn clear(table: &dyn Table) {
    let gone = table.scan(b"", b"").map(|row| (row.unwrap().0, None)).collect();
    table.write(gone).unwrap();
}

fn numbered(prefix: &str, n: u32) -> Vec<u8> {
    format!("{prefix}/{n:08}").into_bytes()
}

fn a_load_of_a_scan_of_its_own_gives_rows_another_name(table: &dyn Table, rows: u32) {
    clear(table);
    let value = |n: u32| Some(n.to_be_bytes().to_vec());
    table
        .write((0..rows).map(|n| (numbered("old", n), value(n))).collect())
        .unwrap();
    let arrive = table.scan(b"old/", b"old/").map(|row| {
        let (key, value) = row?;
        Ok(([b"new", &key[3..]].concat(), Some(value)))
    });
    let leave = table.scan(b"old/", b"old/").map(|row| Ok((row?.0, None)));
    // Of two words on one key the last one counts.
    let twice = [(b"twice".to_vec(), None), (b"twice".to_vec(), Some(vec![2]))];
    table
        .load(Box::new(arrive.chain(leave).chain(twice.into_iter().map(Ok))))
        .unwrap();
    assert_eq!(table.scan(b"old/", b"old/").count(), 0);
    let seen: Vec<_> = table.scan(b"new/", b"new/").map(|row| row.unwrap()).collect();
    let wanted: Vec<_> = (0..rows)
        .map(|n| (numbered("new", n), value(n).unwrap()))
        .collect();
    assert_eq!(seen, wanted);
    assert_eq!(table.get(b"twice").unwrap(), Some(vec![2]));
}

fn a_load_that_fails_changes_nothing(table: &dyn Table, rows: u32) {
    clear(table);
    table
        .write((0..rows).map(|n| (numbered("row", n), Some(vec![1]))).collect())
        .unwrap();
    let changes = (0..rows).map(|n| Ok((numbered("row", n), None)));
    let broken = std::iter::once(Err(Fault::new(Kind::Corrupt, "the source is damaged", "")));
    let fault = table.load(Box::new(changes.clone().chain(broken))).unwrap_err();
    assert_eq!(fault.kind, Kind::Corrupt);
    let impossible = std::iter::once(Ok((vec![255; 65536], None)));
    let fault = table.load(Box::new(changes.chain(impossible))).unwrap_err();
    assert_eq!(fault.kind, Kind::Invalid);
    assert_eq!(table.scan(b"row/", b"row/").count(), rows as usize);
    clear(table);
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

//! State tables: the real one and its simulated twin do the same, and each keeps its promise over a crash.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use syncline_model::Kind;
use syncline_store::{FjallTable, Table};
use syncline_testkit::env::SeededDice;
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::table_conformance::check;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn row(n: u32) -> (Vec<u8>, Option<Vec<u8>>) {
    (n.to_be_bytes().to_vec(), Some(vec![n as u8; 150]))
}

#[test]
fn the_real_table_conforms() {
    let dir = temp();
    check(&FjallTable::open(dir.path()).unwrap(), 1);
}

#[test]
fn the_simulated_table_conforms() {
    (0..10).for_each(|seed| check(&MemTable::new(), seed));
}

#[test]
fn rows_are_there_again_after_closing_and_one_process_has_them() {
    let dir = temp();
    let table = FjallTable::open(dir.path()).unwrap();
    table.write((0..50_000).map(row).collect()).unwrap();
    assert_eq!(FjallTable::open(dir.path()).unwrap_err().kind, Kind::Busy);
    drop(table);
    let table = FjallTable::open(dir.path()).unwrap();
    assert_eq!(table.scan(b"", b"").count(), 50_000);
    assert_eq!(table.get(&7u32.to_be_bytes()).unwrap(), row(7).1);
}

#[test]
fn rows_of_large_and_small_batches_read_back_like_a_map_over_many_openings() {
    let dir = temp();
    let dice = SeededDice::new(7);
    let mut model = BTreeMap::new();
    for opening in 0..12 {
        let table = FjallTable::open(dir.path()).unwrap();
        let all: Vec<_> = table.scan(b"", b"").map(|row| row.unwrap()).collect();
        assert!(all.into_iter().eq(model.clone()), "opening {opening}");
        for round in 0..10u8 {
            let rows = if dice.chance(50) { 30 } else { 3000 };
            let batch: Vec<_> = (0..rows)
                .map(|_| {
                    let key = dice.below(5000).to_be_bytes().to_vec();
                    (key, (!dice.chance(30)).then(|| vec![round; 20]))
                })
                .collect();
            for (key, value) in batch.clone() {
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
            }
            table.write(batch).unwrap();
        }
    }
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "sizes of files in a directory of the test's own"
)]
fn opening_a_table_does_not_read_all_that_was_ever_written() {
    let dir = temp();
    let table = FjallTable::open(dir.path()).unwrap();
    for first in (0..100_000).step_by(8192) {
        table.write((first..first + 8192).map(row).collect()).unwrap();
    }
    drop(table);
    let journals = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap());
    let journals: Vec<_> = journals
        .filter(|file| file.file_name().to_string_lossy().ends_with(".jnl"))
        .collect();
    assert!(!journals.is_empty(), "where is its journal?");
    let bytes: u64 = journals
        .iter()
        .map(|file| {
            std::fs::read(file.path())
                .unwrap()
                .iter()
                .filter(|&&b| b != 0)
                .count() as u64
        })
        .sum();
    assert!(
        bytes < 1 << 20,
        "{bytes} bytes of journal are read at each opening"
    );
}

/// Not a test by itself: what [`a_killed_writer_leaves_a_prefix_of_its_batches`] starts and kills.
#[test]
fn writer_to_be_killed() {
    let Ok(dir) = std::env::var("SYNCLINE_TEST_KILLED_WRITER") else {
        return;
    };
    let table = FjallTable::open(dir.as_ref()).unwrap();
    for n in 0u32.. {
        // Two rows in one batch: both or none.
        let value = Some(n.to_be_bytes().to_vec());
        let mut rows = vec![(b"a".to_vec(), value.clone()), (b"b".to_vec(), value), row(n)];
        if n.is_multiple_of(50) {
            rows.extend((0..600u32).map(|n| (format!("filler {n}").into_bytes(), Some(vec![0; 10]))));
        }
        table.write(rows).unwrap();
        println!("wrote {n}");
    }
}

#[test]
fn a_killed_writer_leaves_a_prefix_of_its_batches() {
    use std::io::BufRead;
    let dir = temp();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_to_be_killed", "--nocapture"])
            .env("SYNCLINE_TEST_KILLED_WRITER", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("wrote ")?.parse::<u32>().ok());
        let told = told.nth(500 * round).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let table = FjallTable::open(dir.path()).unwrap();
        let last = table.get(b"a").unwrap().unwrap();
        assert_eq!(table.get(b"b").unwrap().unwrap(), last, "half a batch survived");
        let last = u32::from_be_bytes(last.try_into().unwrap());
        assert!(last >= told, "{told} was written, {last} is the last one there");
        for n in 0..=last {
            assert_eq!(table.get(&n.to_be_bytes()).unwrap(), row(n).1);
        }
    }
}

#[test]
fn a_power_cut_leaves_the_simulated_table_with_a_prefix_of_its_batches() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let table = MemTable::new();
        (0..10).for_each(|n| table.write(vec![row(n)]).unwrap());
        table.persist().unwrap();
        (10..20).for_each(|n| table.write(vec![row(n)]).unwrap());
        let lost = table.crash(seed);
        let keys: Vec<_> = table.scan(b"", b"").map(|row| row.unwrap().0).collect();
        let wanted: Vec<_> = (0..20 - lost as u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(keys, wanted, "seed {seed}");
        lengths.insert(keys.len());
    }
    assert_eq!(lengths, (10..=20).collect(), "some prefix was never seen");
}

/// Memory of this process, in MiB.
fn resident() -> u64 {
    let dir = syncline_store::os::OsDisk::new();
    let proc = syncline_store::Disk::root(&dir, "/proc/self".as_ref()).unwrap();
    let file = syncline_store::Disk::open(&dir, &proc, b"statm", false).unwrap();
    let mut text = [0; 256];
    let len = syncline_store::Disk::read(&dir, &file, 0, &mut text).unwrap();
    let text = std::str::from_utf8(&text[..len]).unwrap();
    (text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096) >> 20
}

/// Slow: 10 million rows. `cargo test --release -p syncline-store --test tables -- --ignored --nocapture`
#[test]
#[ignore = "a measurement of a minute"]
#[allow(clippy::disallowed_methods)]
fn ten_million_rows_stay_within_the_memory_promised() {
    let dir = temp();
    let table = FjallTable::open(dir.path()).unwrap();
    let start = std::time::Instant::now();
    let mut peak = 0;
    for first in (0..10_000_000u32).step_by(1000) {
        let key =
            |n: u32| format!("photos/{:04}/{:03}/holiday-{n:08}.jpeg", n / 100_000, n / 1000).into_bytes();
        let value = |n: u32| blake3::hash(&n.to_be_bytes()).as_bytes().repeat(4)[..110].to_vec();
        table
            .write((first..first + 1000).map(|n| (key(n), Some(value(n)))).collect())
            .unwrap();
        peak = peak.max(resident());
    }
    table.persist().unwrap();
    println!("written in {:?}, {peak} MiB", start.elapsed());
    let start = std::time::Instant::now();
    let mut rows = 0u64;
    for row in table.scan(b"", b"") {
        row.unwrap();
        rows += 1;
        if rows.is_multiple_of(100_000) {
            peak = peak.max(resident());
        }
    }
    println!(
        "scanned in {:?}, peak {peak} MiB, {} MB on disk",
        start.elapsed(),
        table.disk_space().unwrap() >> 20
    );
    assert_eq!(rows, 10_000_000);
    assert!(peak < 200, "{peak} MiB");
}

/// All files below a directory.
#[allow(clippy::disallowed_methods, reason = "a directory of the test's own")]
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads all there is and writes, as a run does.
fn used(at: &std::path::Path) -> syncline_model::Result<Option<std::path::PathBuf>> {
    let (table, aside) = FjallTable::open_whole(at)?;
    for row in table.scan(b"", b"") {
        let (key, value) = row?;
        let number = u32::from_be_bytes(key.try_into().unwrap());
        assert_eq!(Some(value), row_value(number), "a row that nobody wrote");
    }
    table.get(&7u32.to_be_bytes())?;
    table.write((0..2000).map(row).collect())?;
    table.persist()?;
    Ok(aside)
}

fn row_value(number: u32) -> Option<Vec<u8>> {
    row(number).1
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a directory of the test's own")]
fn s34_damage_anywhere_is_put_aside_at_the_next_opening_at_the_latest() {
    let whole = temp();
    let at = whole.path().join("t");
    for first in [0, 2000, 1000] {
        let table = FjallTable::open(&at).unwrap();
        table.write((first..first + 2000).map(row).collect()).unwrap();
        table.write((0..20).map(row).collect()).unwrap();
        table.persist().unwrap();
    }
    let names: Vec<_> = files(&at)
        .into_iter()
        .map(|file| file.strip_prefix(&at).unwrap().to_path_buf())
        .collect();
    assert!(names.len() > 5, "{names:?}");
    let (mut met, mut aside) = (0, 0);
    for name in &names {
        for damage in ["flip", "begin", "end", "cut", "empty", "gone", "garbage"] {
            let temp = temp();
            let copy = temp.path().join("t");
            assert!(
                Command::new("cp")
                    .arg("-r")
                    .args([&at, &copy])
                    .status()
                    .unwrap()
                    .success()
            );
            let file = copy.join(name);
            let mut bytes = std::fs::read(&file).unwrap();
            let length = bytes.len();
            let mut flip = |from: usize| {
                bytes
                    .iter_mut()
                    .skip(from)
                    .take(20)
                    .for_each(|byte| *byte ^= 0xff)
            };
            match damage {
                "flip" => flip(length / 2),
                "begin" => flip(0),
                "end" => flip(length.saturating_sub(20)),
                "cut" => bytes.truncate(length / 2),
                "empty" => bytes.clear(),
                "garbage" => bytes = b"garbage".to_vec(),
                _ => {}
            }
            std::fs::remove_file(&file).unwrap();
            match damage {
                "gone" => {}
                _ => std::fs::write(&file, bytes).unwrap(),
            }
            let what = format!("{damage} {}", name.display());
            let mut put = None;
            match used(&copy) {
                Ok(seen) => put = seen,
                Err(fault) => {
                    met += 1;
                    assert_eq!(fault.kind, Kind::Corrupt, "{what}: {fault:?}");
                    assert!(fault.hint.is_some(), "{what}: {fault:?}");
                    put = put.or(used(&copy).unwrap_or_else(|fault| panic!("{what}, again: {fault:?}")));
                    assert!(put.is_some(), "{what}: not put aside");
                }
            }
            if let Some(put) = put {
                aside += 1;
                assert!(put.exists(), "{what}: destroyed");
            }
            assert!(used(&copy).unwrap().is_none(), "{what}: put aside once more");
        }
    }
    println!(
        "{met} met while reading, {aside} put aside of {}",
        names.len() * 7
    );
    assert!(met > 0 && aside > met);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a directory of the test's own")]
fn a_table_of_a_newer_format_is_refused_and_stays() {
    let temp = temp();
    let at = temp.path().join("t");
    drop(FjallTable::open(&at).unwrap());
    std::fs::write(at.join("version"), b"FJL\x04").unwrap();
    let fault = FjallTable::open_whole(&at).unwrap_err();
    assert_eq!(fault.kind, Kind::Unsupported);
    assert!(
        fault.what.contains("format 4") && fault.hint.is_some(),
        "{fault:?}"
    );
    std::fs::write(at.join("version"), b"FJL\x03").unwrap();
    assert!(FjallTable::open_whole(&at).unwrap().1.is_none());
}

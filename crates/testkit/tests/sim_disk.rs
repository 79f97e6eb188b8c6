//! The simulated disk: it conforms, what was synced survives a power cut, what was not may vanish, and it is killed,
//! fails and is edited where a test says so.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use syncline_model::{Kind, Time};
use syncline_store::disk::{Attrs, Disk, Make, Place, Sync, Target};
use syncline_testkit::disk_conformance;
use syncline_testkit::sim_disk::{Action, FsOptions, SimDir, SimDisk};

fn file(disk: &SimDisk, dir: &SimDir, name: &[u8], bytes: &[u8]) -> <SimDisk as Disk>::File {
    let file = disk.open(dir, name, true).unwrap();
    disk.write(&file, 0, bytes).unwrap();
    file
}

fn content(disk: &SimDisk, dir: &SimDir, name: &[u8]) -> Option<Vec<u8>> {
    let file = disk.open(dir, name, false).ok()?;
    let mut bytes = vec![0; disk.stat_file(&file).unwrap().size as usize];
    disk.read(&file, 0, &mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn the_simulated_disk_conforms() {
    let disk = SimDisk::new();
    disk_conformance::check(&disk, &disk.top());
    disk.reuse_inode_numbers(true);
    disk.make(&disk.top(), b"again", Make::Dir).unwrap();
    disk_conformance::check(&disk, &disk.open_dir(&disk.top(), b"again").unwrap());
    assert!(disk.counts().calls > 1000);
}

/// The careful way to replace a file: at every power cut the name holds one whole version, the new one once synced.
#[test]
fn a_careful_replacement_survives_every_power_cut_whole() {
    let mut outcomes = BTreeSet::new();
    let mut lost = 0;
    for kill in 0..8 {
        for seed in 0..100 {
            let disk = SimDisk::new();
            let top = disk.top();
            drop(file(&disk, &top, b"f", &[1; 10_000]));
            disk.sync(Sync::Fs(&top)).unwrap();
            disk.kill_at_change(kill);
            let replace = || {
                let draft = disk.open(&top, b"draft", true)?;
                disk.write(&draft, 0, &[2; 10_000])?;
                disk.sync(Sync::File(&draft))?;
                disk.place((&top, b"draft"), (&top, b"f"), Place::Over)?;
                disk.sync(Sync::Dir(&top))
            };
            let done = replace();
            assert_eq!(done.is_err(), kill < 5);
            lost += disk.crash(seed).names;
            let now = content(&disk, &disk.top(), b"f").expect("the name is never empty");
            assert!(
                now == [1; 10_000] || now == [2; 10_000],
                "torn at {kill}, seed {seed}"
            );
            assert!(done.is_err() || now[0] == 2, "synced and gone, seed {seed}");
            outcomes.insert((kill, now[0]));
        }
    }
    assert!(lost > 0, "nothing ever vanished");
    assert!(
        outcomes.contains(&(4, 1)) && outcomes.contains(&(4, 2)),
        "{outcomes:?}"
    );
}

/// The careless way is caught: without the first sync the name survives and the bytes do not.
#[test]
fn a_careless_replacement_is_torn_by_some_power_cut() {
    let torn = (0..200u64).filter(|seed| {
        let disk = SimDisk::new();
        let top = disk.top();
        drop(file(&disk, &top, b"draft", &[2; 10_000]));
        disk.place((&top, b"draft"), (&top, b"f"), Place::New).unwrap();
        disk.sync(Sync::Dir(&top)).unwrap();
        disk.crash(*seed);
        content(&disk, &disk.top(), b"f").expect("a synced name") != [2; 10_000]
    });
    let torn = torn.count();
    assert!((50..200).contains(&torn), "{torn} of 200");
}

#[test]
fn synced_bytes_without_a_synced_name_may_have_no_name() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new();
        let draft = file(&disk, &disk.top(), b"f", b"bytes");
        disk.sync(Sync::File(&draft)).unwrap();
        disk.crash(seed);
        let now = content(&disk, &disk.top(), b"f");
        assert!(now.is_none() || now.as_deref() == Some(b"bytes"));
        seen.insert(now.is_some());
    }
    assert_eq!(seen.len(), 2);
}

/// Random changes and syncs; after the cut everything that the last `Sync::Fs` covered and nobody touched is there, and
/// the tree is a tree.
#[test]
fn what_was_synced_survives_whatever_follows() {
    let mut vanished = 0;
    for seed in 0..300u64 {
        let disk = SimDisk::new();
        let top = disk.top();
        let dice = syncline_testkit::env::SeededDice::new(seed);
        let mut dirs = vec![top.clone()];
        for n in 0..4u8 {
            disk.make(&top, &[b'A' + n], Make::Dir).unwrap();
            dirs.push(disk.open_dir(&top, &[b'A' + n]).unwrap());
        }
        for (n, dir) in dirs.iter().enumerate() {
            drop(file(&disk, dir, b"kept", &[n as u8; 5000]));
        }
        disk.sync(Sync::Fs(&top)).unwrap();
        for step in 0..60u32 {
            let dir = || &dirs[dice.below(dirs.len() as u64) as usize];
            let name = || vec![b'a' + dice.below(5) as u8];
            let _ = match dice.below(6) {
                0 => disk
                    .open(dir(), &name(), true)
                    .map(|f| disk.write(&f, 0, &step.to_be_bytes()).unwrap()),
                1 => disk.place((dir(), &name()), (dir(), &name()), Place::Over),
                2 => disk.place((dir(), b"kept"), (dir(), &name()), Place::Link),
                3 => disk.remove(dir(), &name(), false),
                4 => disk.place(
                    (&top, &[b'A' + dice.below(4) as u8]),
                    (dir(), &name()),
                    Place::New,
                ),
                _ => disk.sync(Sync::Dir(dir())),
            };
        }
        let before = disk.counts().lost;
        let lost = disk.crash(seed);
        vanished += lost.names;
        assert_eq!(disk.counts().lost.names, before.names + lost.names);
        let (mut kept, mut stack) = (BTreeSet::new(), vec![disk.top()]);
        while let Some(dir) = stack.pop() {
            let mut names = Vec::new();
            disk.list(&dir, &mut |found| {
                names.push((found.name.to_vec(), found.dir));
                true
            })
            .unwrap();
            for (name, is_dir) in names {
                if is_dir == Some(true) {
                    stack.push(disk.open_dir(&dir, &name).unwrap());
                } else if name == b"kept" {
                    let bytes = content(&disk, &dir, b"kept").unwrap();
                    assert!(bytes == vec![bytes[0]; 5000], "seed {seed}");
                    kept.insert(bytes[0]);
                }
            }
        }
        assert_eq!(kept.len(), 5, "seed {seed}: a synced file is gone");
    }
    assert!(vanished > 300, "a run in which nothing vanishes shows nothing");
}

#[test]
fn one_seed_is_one_outcome() {
    let run = |seed| {
        let disk = SimDisk::new();
        for n in 0..50u8 {
            drop(file(&disk, &disk.top(), &[b'a', b'A' + n], &[n; 9000]));
        }
        let lost = disk.crash(seed);
        let mut names = Vec::new();
        let top = disk.top();
        disk.list(&top, &mut |found| {
            names.push((found.name.to_vec(), content(&disk, &top, found.name)));
            true
        })
        .unwrap();
        (lost, names)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn the_process_is_killed_at_the_change_that_was_named() {
    let disk = SimDisk::new();
    let top = disk.top();
    disk.kill_at_change(2);
    disk.make(&top, b"0", Make::Dir).unwrap();
    disk.stat(&top, b"0").unwrap();
    disk.make(&top, b"1", Make::Dir).unwrap();
    assert_eq!(
        disk.make(&top, b"2", Make::Dir).unwrap_err().kind,
        Kind::Cancelled
    );
    assert_eq!(disk.stat(&top, b"0").unwrap_err().kind, Kind::Cancelled);
    assert!(disk.is_killed());
    assert_eq!(disk.counts().kills, 1);
    disk.restart();
    assert_eq!(
        disk.stat(&top, b"0").unwrap_err().kind,
        Kind::Cancelled,
        "handles die with their process"
    );
    let top = disk.top();
    assert!(disk.stat(&top, b"1").is_ok() && disk.stat(&top, b"2").is_err());
    let lock = file(&disk, &top, b"lock", b"");
    disk.lock(&lock).unwrap();
    disk.restart();
    disk.lock(&disk.open(&disk.top(), b"lock", false).unwrap())
        .unwrap();
}

#[test]
fn calls_fail_as_told_and_are_named() {
    let disk = SimDisk::new();
    let top = disk.top();
    disk.make(&top, b"dir", Make::Dir).unwrap();
    let dir = disk.open_dir(&top, b"dir").unwrap();
    disk.before_call(|call| match (call.verb, &call.path[..]) {
        ("create", b"dir/bad") => Action::Fail(Kind::Full),
        _ => Action::Go,
    });
    assert_eq!(disk.open(&dir, b"bad", true).unwrap_err().kind, Kind::Full);
    assert!(disk.open(&dir, b"good", true).is_ok());
    assert!(
        disk.raw().open(&dir, b"bad", true).is_ok(),
        "a user's calls are not refused"
    );
    assert_eq!(disk.counts().faults, 1);
}

#[test]
fn a_user_edits_between_two_calls() {
    let disk = SimDisk::new();
    let edits = Arc::new(AtomicU64::new(0));
    let (user, count) = (disk.raw(), Arc::clone(&edits));
    disk.before_call(move |call| {
        if call.verb == "place" && count.fetch_add(1, Ordering::Relaxed) == 0 {
            let top = user.top();
            drop(file(&user, &top, b"target", b"the user was first"));
        }
        Action::Go
    });
    let top = disk.top();
    drop(file(&disk, &top, b"draft", b"ours"));
    let late = disk.place((&top, b"draft"), (&top, b"target"), Place::New);
    assert_eq!(late.unwrap_err().kind, Kind::Exists);
    assert_eq!(content(&disk, &top, b"target").unwrap(), b"the user was first");
    assert_eq!(edits.load(Ordering::Relaxed), 1);
}

#[test]
fn a_coarse_clock_gives_two_writes_one_time() {
    let disk = SimDisk::new();
    disk.granularity(Duration::from_secs(2));
    disk.set_now(Time { secs: -3, nanos: 5 });
    let top = disk.top();
    let f = file(&disk, &top, b"f", b"one");
    let first = disk.stat_file(&f).unwrap();
    assert_eq!(first.mtime, Time { secs: -4, nanos: 0 });
    disk.write(&f, 0, b"two").unwrap();
    assert_eq!(
        disk.stat_file(&f).unwrap(),
        first,
        "a change within one step of the clock is not seen"
    );
    disk.advance(Duration::from_secs(2));
    disk.set(
        Target::File(&f),
        Attrs {
            mode: Some(0o600),
            ..Attrs::default()
        },
    )
    .unwrap();
    assert!(disk.stat_file(&f).unwrap().ctime > first.ctime);
}

#[test]
fn several_file_systems_have_their_own_room_and_rules() {
    let disk = SimDisk::new();
    let top = disk.top();
    disk.make(&top, b"small", Make::Dir).unwrap();
    disk.mount(
        &top,
        b"small",
        FsOptions {
            identity: 7,
            capacity: 8192,
            ..FsOptions::default()
        },
    )
    .unwrap();
    let small = disk.root("/small".as_ref()).unwrap();
    assert_ne!(
        disk.stat(&top, b"small").unwrap().dev,
        disk.stat(&top, b"").unwrap().dev
    );
    assert_eq!(disk.space(&small).unwrap().fs, 7);
    let f = file(&disk, &small, b"f", &[1; 8192]);
    assert_eq!(disk.write(&f, 8192, b"x").unwrap_err().kind, Kind::Full);
    assert_eq!(disk.stat_file(&f).unwrap().size, 8192);
    disk.remove(&small, b"f", false).unwrap();
    assert_eq!(disk.space(&small).unwrap().free, 0, "an open file keeps its room");
    drop(f);
    assert_eq!(disk.space(&small).unwrap().free, 8192);
    drop(file(&disk, &top, b"there", b""));
    for how in [Place::New, Place::Link] {
        assert_eq!(
            disk.place((&top, b"there"), (&small, b"x"), how)
                .unwrap_err()
                .kind,
            Kind::Unsupported
        );
    }
    assert_eq!(disk.remove(&top, b"small", true).unwrap_err().kind, Kind::Busy);
    disk.alter(&small, |fs| fs.read_only = true);
    assert_eq!(disk.make(&small, b"d", Make::Dir).unwrap_err().kind, Kind::Denied);
    disk.unmount(&top, b"small");
    let mut names = 0;
    disk.list(&disk.open_dir(&top, b"small").unwrap(), &mut |_| {
        names += 1;
        true
    })
    .unwrap();
    assert_eq!(names, 0, "below an absent mount lies an empty directory");
}

#[test]
fn inode_numbers_are_given_again_only_when_told_and_only_those_gone_for_good() {
    let disk = SimDisk::new();
    let top = disk.top();
    let number = |name: &[u8]| {
        drop(file(&disk, &top, name, b""));
        disk.stat(&top, name).unwrap().inode
    };
    let first = number(b"a");
    disk.remove(&top, b"a", false).unwrap();
    assert_ne!(number(b"b"), first);
    disk.reuse_inode_numbers(true);
    assert_ne!(number(b"c"), first, "its removal is not durable");
    disk.sync(Sync::Fs(&top)).unwrap();
    assert_eq!(number(b"d"), first);
}

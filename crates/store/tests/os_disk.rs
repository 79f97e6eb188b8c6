//! The real disk beyond what every `Disk` must do: security rules SP2 to SP5 and SP14 for each verb, odd times, holes,
//! names of any bytes, file system identity.
//!
//! What is checked comes from `std::fs`, not from the code under test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use syncline_model::{Kind, Owner, Special, Time};
use syncline_store::disk::{Attrs, Disk, Make, Node, Place, Sync, Target, XattrClasses};
use syncline_store::os::{OsDir, OsDisk};

const ALL: XattrClasses = XattrClasses {
    plain: true,
    acls: true,
};

struct Ground {
    disk: OsDisk,
    root: OsDir,
    path: PathBuf,
    _temp: tempfile::TempDir,
}

/// A root with a file and a directory, and beside it an outside that nothing may reach.
fn ground() -> Ground {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = temp.path().join("root");
    fs::create_dir(&path).unwrap();
    fs::create_dir(temp.path().join("outside")).unwrap();
    fs::write(temp.path().join("outside/canary"), b"canary").unwrap();
    fs::set_permissions(
        temp.path().join("outside/canary"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let disk = OsDisk::new();
    let root = disk.root(&path).unwrap();
    Ground {
        disk,
        root,
        path,
        _temp: temp,
    }
}

impl Ground {
    fn outside(&self) -> PathBuf {
        self.path.parent().unwrap().join("outside")
    }

    /// All that a verb which got outside could have changed there.
    fn canary(&self) -> (Vec<u8>, u32, i64, i64, u64, usize) {
        let path = self.outside().join("canary");
        let m = fs::metadata(&path).unwrap();
        let names = fs::read_dir(self.outside()).unwrap().count();
        (
            fs::read(&path).unwrap(),
            m.mode(),
            m.mtime(),
            m.ctime_nsec(),
            m.nlink(),
            names,
        )
    }
}

#[track_caller]
fn refused<T>(result: syncline_model::Result<T>, kinds: &[Kind]) {
    let fault = result.err().expect("must be refused");
    assert!(kinds.contains(&fault.kind), "{fault:?}");
}

#[test]
fn a_file_goes_from_draft_to_place_with_all_its_attributes() {
    let g = ground();
    let file = g.disk.open(&g.root, b"draft", true).unwrap();
    g.disk.write(&file, 0, b"hello").unwrap();
    let xattrs = vec![(b"user.note".to_vec(), b"kept".to_vec())];
    let mtime = Time {
        secs: -86_400,
        nanos: 999_999_999,
    };
    let attrs = Attrs {
        owner: Some(Owner { uid: 12, gid: 34 }),
        mode: Some(0o4751),
        mtime: Some(mtime),
        xattrs: Some((&xattrs, ALL)),
    };
    g.disk.set(Target::File(&file), attrs).unwrap();
    g.disk.sync(Sync::File(&file)).unwrap();
    g.disk
        .place((&g.root, b"draft"), (&g.root, b"there"), Place::New)
        .unwrap();
    g.disk.sync(Sync::Dir(&g.root)).unwrap();
    g.disk.sync(Sync::Fs(&g.root)).unwrap();

    let seen = fs::metadata(g.path.join("there")).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (12, 34, 0o4751));
    assert_eq!((seen.mtime(), seen.mtime_nsec()), (-86_400, 999_999_999));
    let stat = g.disk.stat(&g.root, b"there").unwrap();
    assert_eq!(
        (stat.mtime, stat.size, stat.inode, stat.links),
        (mtime, 5, seen.ino(), 1)
    );
    assert_eq!(
        (stat.ctime.secs, i64::from(stat.ctime.nanos)),
        (seen.ctime(), seen.ctime_nsec())
    );
    assert_eq!(stat.dev, seen.dev());
    assert_eq!(
        g.disk.xattrs(Target::Name(&g.root, b"there"), ALL).unwrap(),
        xattrs
    );
}

/// The `step`th of all verbs that take a name, tried at `name` in `at`; `None` past the last.
fn verb(
    g: &Ground,
    at: &OsDir,
    name: &[u8],
    step: usize,
) -> Option<(&'static str, syncline_model::Result<()>)> {
    let (d, r) = (&g.disk, &g.root);
    let xattrs = vec![(b"user.evil".to_vec(), b"1".to_vec())];
    let set = |attrs: Attrs<'_>| d.set(Target::Name(at, name), attrs);
    let other = Owner { uid: 1, gid: 1 };
    let early = Time { secs: 1, nanos: 1 };
    Some(match step {
        0 => ("open_dir", d.open_dir(at, name).map(drop)),
        1 => ("open", d.open(at, name, false).map(drop)),
        2 => ("create", d.open(at, name, true).map(drop)),
        3 => ("stat", d.stat(at, name).map(drop)),
        4 => ("read_link", d.read_link(at, name).map(drop)),
        5 => ("xattrs", d.xattrs(Target::Name(at, name), ALL).map(drop)),
        6 => ("mkdir", d.make(at, name, Make::Dir)),
        7 => ("symlink", d.make(at, name, Make::Link(b"x"))),
        8 => ("mknod", d.make(at, name, Make::Special(Special::Fifo))),
        9 => (
            "chown",
            set(Attrs {
                owner: Some(other),
                ..Attrs::default()
            }),
        ),
        10 => (
            "setxattr",
            set(Attrs {
                xattrs: Some((&xattrs, ALL)),
                ..Attrs::default()
            }),
        ),
        11 => (
            "utimes",
            set(Attrs {
                mtime: Some(early),
                ..Attrs::default()
            }),
        ),
        12 => (
            "chmod",
            set(Attrs {
                mode: Some(0o777),
                ..Attrs::default()
            }),
        ),
        13 => ("rename to", d.place((r, b"ours"), (at, name), Place::New)),
        14 => ("exchange", d.place((r, b"ours"), (at, name), Place::Exchange)),
        15 => ("link to", d.place((r, b"ours"), (at, name), Place::Link)),
        16 => ("rename from", d.place((at, name), (r, b"taken"), Place::New)),
        17 => ("link from", d.place((at, name), (r, b"taken"), Place::Link)),
        18 => ("rename over", d.place((r, b"ours"), (at, name), Place::Over)),
        19 => ("rmdir", d.remove(at, name, true)),
        20 => ("unlink", d.remove(at, name, false)),
        _ => return None,
    })
}

/// Empties the root and puts a file `ours` there.
fn clear(g: &Ground) {
    for left in fs::read_dir(&g.path).unwrap() {
        let left = left.unwrap();
        let dir = left.file_type().unwrap().is_dir();
        if dir {
            fs::remove_dir_all(left.path())
        } else {
            fs::remove_file(left.path())
        }
        .unwrap();
    }
    fs::write(g.path.join("ours"), b"ours").unwrap();
}

#[test]
fn sp2_sp3_sp4_no_verb_takes_more_than_one_plain_component() {
    let g = ground();
    clear(&g);
    fs::create_dir(g.path.join("sub")).unwrap();
    let before = g.canary();
    let absolute = g.outside().join("canary").as_os_str().as_bytes().to_vec();
    let up: &[u8] = b"../outside/canary";
    for name in [
        &b".."[..],
        b".",
        b"/",
        b"sub/..",
        b"sub/x",
        b"a\0b",
        up,
        b"..\0",
        &absolute,
    ] {
        for step in 0.. {
            let Some((verb, result)) = verb(&g, &g.root, name, step) else {
                break;
            };
            let fault = result.err().unwrap_or_else(|| panic!("{verb} took {name:?}"));
            assert_eq!(fault.kind, Kind::Invalid, "{verb} {fault:?}");
        }
    }
    assert_eq!(g.canary(), before);
}

#[test]
fn sp3_no_verb_follows_a_link_at_the_end() {
    let g = ground();
    let before = g.canary();
    for target in ["../outside/canary", "../outside", "../outside/absent", "link"] {
        for step in 0.. {
            clear(&g);
            symlink(target, g.path.join("link")).unwrap();
            let Some((verb, result)) = verb(&g, &g.root, b"link", step) else {
                break;
            };
            match verb {
                "open_dir" | "open" | "rmdir" => refused(result, &[Kind::Changed]),
                "create" | "mkdir" | "symlink" | "mknod" | "rename to" | "link to" => {
                    refused(result, &[Kind::Exists]);
                }
                // A link has no attributes of the class `user`.
                "setxattr" => refused(result, &[Kind::Denied, Kind::Unsupported]),
                _ => result.unwrap_or_else(|fault| panic!("{verb}: {fault:?}")),
            }
            assert_eq!(g.canary(), before, "{verb} reached outside through {target}");
        }
    }
    assert_eq!(g.disk.stat(&g.root, b"ours").unwrap().kind, Node::File);
}

/// Somebody exchanges a directory and a link to outside as fast as he can, while every verb works below it.
#[test]
fn sp3_sp4_sp5_a_link_swapped_in_for_a_directory_never_leads_outside() {
    let g = ground();
    clear(&g);
    let outside_names = [&b"canary"[..], b"made"];
    fs::create_dir(g.path.join("dir")).unwrap();
    symlink("../outside", g.path.join("link")).unwrap();
    let before = g.canary();
    let stop = AtomicBool::new(false);
    let (mut inside, mut refusals) = (0u32, 0u32);
    let flips = std::thread::scope(|scope| {
        let flipper = scope.spawn(|| {
            let mut flips = 0u64;
            // Bounded, so that a failed assertion below is not waited for without end.
            while !stop.load(Ordering::Relaxed) && flips < 2_000_000 {
                g.disk
                    .place((&g.root, b"dir"), (&g.root, b"link"), Place::Exchange)
                    .unwrap();
                flips += 1;
            }
            flips
        });
        for round in 0..20_000 {
            match g.disk.open_dir(&g.root, b"dir") {
                Ok(dir) => {
                    inside += 1;
                    let name = outside_names[round % 2];
                    // An exchange may have made anything of it, a pipe too.
                    let _ = g
                        .disk
                        .remove(&g.root, b"ours", false)
                        .or_else(|_| g.disk.remove(&g.root, b"ours", true));
                    let _ = g.disk.open(&g.root, b"ours", true);
                    let _ = verb(&g, &dir, name, round % 21);
                    let _ = g.disk.remove(&g.root, b"taken", false);
                }
                Err(fault) => {
                    assert_eq!(fault.kind, Kind::Changed, "{fault:?}");
                    refusals += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        flipper.join().unwrap()
    });
    assert!(
        flips > 100 && inside > 100 && refusals > 100,
        "{flips} flips, {inside} in, {refusals} refused"
    );
    assert_eq!(g.canary(), before);
    assert!(!g.outside().join("made").exists());
}

#[test]
fn sp5_a_held_directory_stays_the_one_that_was_opened() {
    let g = ground();
    fs::create_dir(g.path.join("dir")).unwrap();
    fs::write(g.path.join("dir/canary"), b"inner").unwrap();
    let dir = g.disk.open_dir(&g.root, b"dir").unwrap();
    let before = g.canary();
    fs::rename(g.path.join("dir"), g.path.join("moved")).unwrap();
    symlink("../outside", g.path.join("dir")).unwrap();
    g.disk
        .set(
            Target::Name(&dir, b"canary"),
            Attrs {
                mode: Some(0o600),
                ..Attrs::default()
            },
        )
        .unwrap();
    g.disk.remove(&dir, b"canary", false).unwrap();
    g.disk.make(&dir, b"made", Make::Dir).unwrap();
    assert!(g.path.join("moved/made").is_dir());
    assert_eq!(g.canary(), before);
}

#[test]
fn sp14_an_operators_path_is_led_only_by_links_of_root_or_oneself() {
    let g = ground();
    let base = g.path.parent().unwrap();
    symlink("outside", base.join("own")).unwrap();
    symlink(&g.path, base.join("absolute")).unwrap();
    symlink("loop", base.join("loop")).unwrap();
    symlink("outside", base.join("foreign")).unwrap();
    std::os::unix::fs::lchown(base.join("foreign"), Some(65534), Some(65534)).unwrap();
    let inode = |path: &str| {
        g.disk
            .root(&base.join(path))
            .map(|dir| g.disk.stat(&dir, b"").unwrap().inode)
    };
    let outside = fs::metadata(g.outside()).unwrap().ino();
    assert_eq!(inode("own").unwrap(), outside);
    assert_eq!(inode("absolute/../own/.//").unwrap(), outside);
    assert_eq!(inode("absolute").unwrap(), fs::metadata(&g.path).unwrap().ino());
    refused(inode("foreign"), &[Kind::Denied]);
    refused(inode("foreign/"), &[Kind::Denied]);
    refused(inode("loop"), &[Kind::Invalid]);
    refused(inode("absent"), &[Kind::NotFound]);
    refused(inode("outside/canary"), &[Kind::Changed]);
    refused(g.disk.root(Path::new("")).map(drop), &[Kind::Invalid]);
}

#[test]
fn a_pipe_a_device_and_a_socket_are_never_opened_and_never_block() {
    let g = ground();
    for (name, special) in [
        (&b"p"[..], Special::Fifo),
        (b"s", Special::Socket),
        (b"c", Special::Char(1, 3)),
        (b"b", Special::Block(7, 0)),
    ] {
        g.disk.make(&g.root, name, Make::Special(special)).unwrap();
        assert_eq!(g.disk.stat(&g.root, name).unwrap().kind, Node::Special(special));
        refused(g.disk.open(&g.root, name, false).map(drop), &[Kind::Changed]);
    }
    let kind = fs::metadata(g.path.join("c")).unwrap();
    assert_eq!((kind.rdev(), kind.mode() & 0o777), (0x103, 0o600));
}

#[test]
fn reading_leaves_the_time_of_access_alone() {
    let g = ground();
    let path = g.path.join("f");
    fs::write(&path, b"x").unwrap();
    let old = std::time::UNIX_EPOCH;
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(fs::FileTimes::new().set_accessed(old))
        .unwrap();
    let file = g.disk.open(&g.root, b"f", false).unwrap();
    g.disk.read(&file, 0, &mut [0; 8]).unwrap();
    g.disk
        .set(
            Target::Name(&g.root, b"f"),
            Attrs {
                mtime: Some(Time { secs: 9, nanos: 9 }),
                ..Attrs::default()
            },
        )
        .unwrap();
    let seen = fs::metadata(&path).unwrap();
    assert_eq!((seen.atime(), seen.mtime(), seen.mtime_nsec()), (0, 9, 9));
}

#[test]
fn holes_stay_holes() {
    let g = ground();
    let file = g.disk.open(&g.root, b"sparse", true).unwrap();
    let mib = 1 << 20;
    g.disk.write(&file, 4 * mib, &[1; 4096]).unwrap();
    g.disk.write(&file, 8 * mib, &[2; 4096]).unwrap();
    g.disk.set_len(&file, 16 * mib).unwrap();
    let mut runs = Vec::new();
    let mut from = 0;
    while let Some(run) = g.disk.data(&file, from).unwrap() {
        runs.push((run.start, run.len));
        from = run.start + run.len;
    }
    assert_eq!(runs, [(4 * mib, 4096), (8 * mib, 4096)]);
    let stat = g.disk.stat_file(&file).unwrap();
    assert_eq!(stat.size, 16 * mib);
    assert!(stat.allocated < mib, "{} bytes lie on the disk", stat.allocated);
    let mut back = vec![9; 8192];
    assert_eq!(g.disk.read(&file, 4 * mib, &mut back).unwrap(), 8192);
    assert!(back[..4096].iter().all(|&b| b == 1) && back[4096..].iter().all(|&b| b == 0));
}

#[test]
fn names_of_any_bytes_are_listed_as_they_are() {
    let g = ground();
    let mut names: Vec<Vec<u8>> = (1..=255u8)
        .filter(|b| !b"/.".contains(b))
        .map(|b| vec![b])
        .collect();
    names.extend([
        b"...".to_vec(),
        b" trailing ".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![b'n'; 255],
    ]);
    for name in &names {
        g.disk.open(&g.root, name, true).unwrap();
    }
    refused(
        g.disk.open(&g.root, &[b'n'; 256], true).map(drop),
        &[Kind::Invalid],
    );
    let mut seen = Vec::new();
    g.disk
        .list(&g.root, &mut |found| {
            assert_ne!(found.dir, Some(true));
            seen.push(found.name.to_vec());
            true
        })
        .unwrap();
    names.sort();
    seen.sort();
    assert_eq!(seen, names);
}

#[test]
fn attributes_reach_what_its_owner_may_not_write_and_only_the_classes_asked_for() {
    let g = ground();
    fs::write(g.path.join("f"), b"").unwrap();
    fs::set_permissions(g.path.join("f"), fs::Permissions::from_mode(0o444)).unwrap();
    let name = Target::Name(&g.root, b"f");
    let two = vec![
        (b"trusted.b".to_vec(), vec![0; 2000]),
        (b"user.a".to_vec(), b"\0\xff".to_vec()),
    ];
    g.disk
        .set(
            name,
            Attrs {
                xattrs: Some((&two, ALL)),
                ..Attrs::default()
            },
        )
        .unwrap();
    assert_eq!(g.disk.xattrs(name, ALL).unwrap(), two);
    let acls = XattrClasses {
        plain: false,
        acls: true,
    };
    g.disk
        .set(
            name,
            Attrs {
                xattrs: Some((&Vec::new(), acls)),
                ..Attrs::default()
            },
        )
        .unwrap();
    assert_eq!(
        g.disk.xattrs(name, ALL).unwrap(),
        two,
        "another class was touched"
    );
    g.disk
        .set(
            name,
            Attrs {
                xattrs: Some((&Vec::new(), ALL)),
                ..Attrs::default()
            },
        )
        .unwrap();
    assert!(g.disk.xattrs(name, ALL).unwrap().is_empty());
    assert_eq!(fs::metadata(g.path.join("f")).unwrap().mode() & 0o7777, 0o444);
}

#[test]
fn one_lock_has_one_holder() {
    let g = ground();
    let first = g.disk.open(&g.root, b"lock", true).unwrap();
    g.disk.lock(&first).unwrap();
    let second = g.disk.open(&g.root, b"lock", false).unwrap();
    refused(g.disk.lock(&second), &[Kind::Busy]);
    drop(first);
    g.disk.lock(&second).unwrap();
}

#[test]
fn one_directory_may_be_listed_within_its_own_listing() {
    let g = ground();
    for n in 0..500 {
        fs::write(g.path.join(format!("{n}")), b"").unwrap();
    }
    let count = |stop_at: usize| {
        let mut inner = 0;
        g.disk
            .list(&g.root, &mut |_| {
                inner += 1;
                inner < stop_at
            })
            .unwrap();
        inner
    };
    let mut outer = 0;
    g.disk
        .list(&g.root, &mut |_| {
            outer += 1;
            if outer % 100 == 0 {
                assert_eq!(count(usize::MAX), 500);
            }
            true
        })
        .unwrap();
    assert_eq!(outer, 500);
    assert_eq!(
        (count(3), count(usize::MAX)),
        (3, 500),
        "a listing begins at the beginning"
    );
}

#[test]
fn a_file_system_is_known_again_and_told_from_others() {
    let g = ground();
    let here = g.disk.space(&g.root).unwrap();
    assert!(here.total > 0 && here.free <= here.total && here.fs != 0);
    assert_eq!(
        g.disk
            .space(&g.disk.root(g.path.parent().unwrap()).unwrap())
            .unwrap()
            .fs,
        here.fs
    );
    let other = g
        .disk
        .space(&g.disk.root(Path::new("/dev/shm")).unwrap())
        .unwrap();
    assert_ne!(other.fs, here.fs);
    let proc = g.disk.space(&g.disk.root(Path::new("/proc")).unwrap()).unwrap();
    assert_eq!(
        (proc.kind, proc.fs),
        (0x9fa0, 0),
        "an identity that does not last is none"
    );
}

#[test]
fn a_read_only_and_a_full_file_system_say_so() {
    let g = ground();
    let mount = g.path.parent().unwrap().join("small");
    fs::create_dir(&mount).unwrap();
    let run = |args: &[&str]| {
        let done = std::process::Command::new("mount")
            .args(args)
            .arg(&mount)
            .status()
            .unwrap();
        assert!(done.success());
    };
    run(&["-t", "tmpfs", "-o", "size=64k", "none"]);
    let root = g.disk.root(&mount).unwrap();
    let file = g.disk.open(&root, b"f", true).unwrap();
    refused(g.disk.write(&file, 0, &vec![1; 1 << 20]), &[Kind::Full]);
    fs::write(g.path.join("elsewhere"), b"").unwrap();
    refused(
        g.disk.place((&g.root, b"elsewhere"), (&root, b"x"), Place::New),
        &[Kind::Unsupported],
    );
    refused(
        g.disk.place((&g.root, b"elsewhere"), (&root, b"x"), Place::Link),
        &[Kind::Unsupported],
    );
    let other = g.disk.open(&root, b"other", true);
    drop((file, other));
    run(&["-o", "remount,ro"]);
    refused(g.disk.open(&root, b"g", true).map(drop), &[Kind::Denied]);
    refused(g.disk.remove(&root, b"f", false), &[Kind::Denied]);
    drop(root);
    assert!(
        std::process::Command::new("umount")
            .arg("-l")
            .arg(&mount)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn the_real_disk_conforms() {
    let g = ground();
    syncline_testkit::disk_conformance::check(&g.disk, &g.root);
}

#[test]
fn the_real_disk_conforms_on_a_file_system_in_memory() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = OsDisk::new();
    let root = disk.root(temp.path()).unwrap();
    syncline_testkit::disk_conformance::check(&disk, &root);
}

//! What every [`Disk`] must do, run on the real one and on the simulated one.

#![allow(clippy::unwrap_used, reason = "a suite of tests")]

use std::collections::BTreeMap;

use syncline_model::{Fault, Kind, Owner, Result, Special, Time, Xattrs};
use syncline_store::disk::{Attrs, Disk, Make, Node, Place, Range, Sync, Target, XattrClasses};

use crate::env::SeededDice;

const ALL: XattrClasses = XattrClasses {
    plain: true,
    acls: true,
};

struct Ground<'a, D: Disk> {
    disk: &'a D,
    root: D::Dir,
}

/// Runs the suite in `root`, an empty directory of ours.
pub fn check<D: Disk>(disk: &D, root: &D::Dir) {
    let rounds: [(&[u8], fn(&Ground<'_, D>)); 10] = [
        (b"files", files_hold_what_is_written),
        (b"holes", holes_are_told_from_data),
        (b"kinds", each_kind_is_what_it_was_made_as),
        (b"names", names_are_any_bytes_but_plain_components),
        (b"taken", a_taken_name_is_never_taken_over_unasked),
        (b"place", renames_and_links_do_what_they_say),
        (b"remove", removing_asks_for_the_right_kind),
        (b"attributes", attributes_are_set_and_left_alone),
        (b"handles", handles_outlive_names),
        (b"locks", a_lock_has_one_holder),
    ];
    for (name, round) in rounds {
        disk.make(root, name, Make::Dir).unwrap();
        round(&Ground {
            disk,
            root: disk.open_dir(root, name).unwrap(),
        });
    }
    for seed in 0..4 {
        let name = format!("walk {seed}").into_bytes();
        disk.make(root, &name, Make::Dir).unwrap();
        random_changes_match_a_map(
            &Ground {
                disk,
                root: disk.open_dir(root, &name).unwrap(),
            },
            seed,
        );
    }
}

#[track_caller]
fn is<T>(result: Result<T>, kind: Kind) {
    match result {
        Err(fault) => assert_eq!(fault.kind, kind, "{fault:?}"),
        Ok(_) => panic!("must fail with {kind:?}"),
    }
}

impl<D: Disk> Ground<'_, D> {
    fn file(&self, dir: &D::Dir, name: &[u8], bytes: &[u8]) -> D::File {
        let file = self.disk.open(dir, name, true).unwrap();
        self.disk.write(&file, 0, bytes).unwrap();
        file
    }

    fn dir(&self, name: &[u8]) -> D::Dir {
        self.disk.make(&self.root, name, Make::Dir).unwrap();
        self.disk.open_dir(&self.root, name).unwrap()
    }

    fn content(&self, dir: &D::Dir, name: &[u8]) -> Result<Vec<u8>, Fault> {
        let file = self.disk.open(dir, name, false)?;
        let mut bytes = vec![0; usize::try_from(self.disk.stat_file(&file)?.size).unwrap() + 1];
        let len = self.disk.read(&file, 0, &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    fn names(&self, dir: &D::Dir) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        self.disk
            .list(dir, &mut |found| {
                names.push(found.name.to_vec());
                true
            })
            .unwrap();
        names.sort();
        names
    }
}

fn files_hold_what_is_written<D: Disk>(g: &Ground<'_, D>) {
    let file = g.file(&g.root, b"f", b"0123456789");
    g.disk.write(&file, 4, b"xx").unwrap();
    g.disk.write(&file, 9000, b"end").unwrap();
    let mut back = [9; 16];
    assert_eq!(g.disk.read(&file, 2, &mut back[..6]).unwrap(), 6);
    assert_eq!(&back[..6], b"23xx67");
    assert_eq!(g.disk.read(&file, 8999, &mut back).unwrap(), 4);
    assert_eq!(&back[..4], b"\0end");
    assert_eq!(g.disk.read(&file, 9003, &mut back).unwrap(), 0);
    g.disk.set_len(&file, 5).unwrap();
    g.disk.set_len(&file, 7).unwrap();
    assert_eq!(g.content(&g.root, b"f").unwrap(), b"0123x\0\0");
    let stat = g.disk.stat_file(&file).unwrap();
    assert_eq!(
        (stat.kind, stat.size, stat.mode, stat.links),
        (Node::File, 7, 0o600, 1)
    );
    assert_eq!(stat, g.disk.stat(&g.root, b"f").unwrap());
    let reader = g.disk.open(&g.root, b"f", false).unwrap();
    is(g.disk.write(&reader, 0, b"x"), Kind::Bug);
    is(g.disk.set_len(&reader, 0), Kind::Invalid);
    let copy = g.disk.open(&g.root, b"copy", true).unwrap();
    match g.disk.clone_file(&reader, &copy) {
        Ok(()) => {
            g.disk.write(&copy, 0, b"X").unwrap();
            assert_eq!(g.content(&g.root, b"copy").unwrap(), b"X123x\0\0");
            assert_eq!(
                g.content(&g.root, b"f").unwrap(),
                b"0123x\0\0",
                "sharing bytes is not sharing a file"
            );
        }
        Err(fault) => assert_eq!(fault.kind, Kind::Unsupported, "{fault:?}"),
    }
}

fn holes_are_told_from_data<D: Disk>(g: &Ground<'_, D>) {
    let file = g.disk.open(&g.root, b"sparse", true).unwrap();
    let k = 64 << 10;
    g.disk.write(&file, k, &[1; 4096]).unwrap();
    g.disk.write(&file, 3 * k, &[2; 8192]).unwrap();
    g.disk.set_len(&file, 5 * k).unwrap();
    assert_eq!(
        g.disk.data(&file, 0).unwrap(),
        Some(Range { start: k, len: 4096 })
    );
    assert_eq!(
        g.disk.data(&file, k + 100).unwrap(),
        Some(Range {
            start: k + 100,
            len: 3996
        })
    );
    assert_eq!(
        g.disk.data(&file, 2 * k).unwrap(),
        Some(Range {
            start: 3 * k,
            len: 8192
        })
    );
    assert_eq!(g.disk.data(&file, 4 * k).unwrap(), None);
    assert_eq!(g.disk.data(&file, 99 * k).unwrap(), None);
    assert!(g.disk.stat_file(&file).unwrap().allocated < 2 * k);
}

fn each_kind_is_what_it_was_made_as<D: Disk>(g: &Ground<'_, D>) {
    drop(g.file(&g.root, b"file", b""));
    g.dir(b"dir");
    g.disk
        .make(&g.root, b"link", Make::Link(b"/no/\xff where"))
        .unwrap();
    g.disk
        .make(&g.root, b"fifo", Make::Special(Special::Fifo))
        .unwrap();
    g.disk
        .make(&g.root, b"device", Make::Special(Special::Char(1, 3)))
        .unwrap();
    let kind = |name: &[u8]| g.disk.stat(&g.root, name).unwrap().kind;
    assert_eq!(kind(b"file"), Node::File);
    assert_eq!(kind(b"dir"), Node::Dir);
    assert_eq!(kind(b"link"), Node::Link);
    assert_eq!(kind(b"fifo"), Node::Special(Special::Fifo));
    assert_eq!(kind(b"device"), Node::Special(Special::Char(1, 3)));
    assert_eq!(kind(b""), Node::Dir);
    assert_eq!(g.disk.stat(&g.root, b"dir").unwrap().mode, 0o700);
    assert_eq!(&*g.disk.read_link(&g.root, b"link").unwrap(), b"/no/\xff where");
    assert_eq!(g.disk.stat(&g.root, b"link").unwrap().size, 11);
    for name in [&b"file"[..], b"dir", b"fifo"] {
        is(g.disk.read_link(&g.root, name), Kind::Changed);
    }
    for name in [&b"dir"[..], b"link", b"fifo", b"device"] {
        is(g.disk.open(&g.root, name, false), Kind::Changed);
    }
    for name in [&b"file"[..], b"link", b"fifo"] {
        is(g.disk.open_dir(&g.root, name), Kind::Changed);
    }
    let mut dirs = Vec::new();
    g.disk
        .list(&g.root, &mut |found| {
            if found.dir == Some(true) {
                dirs.push(found.name.to_vec());
            }
            true
        })
        .unwrap();
    assert_eq!(dirs, [b"dir"]);
}

fn names_are_any_bytes_but_plain_components<D: Disk>(g: &Ground<'_, D>) {
    let mut names = vec![
        b"\xff\xfe".to_vec(),
        b" -rf\n*".to_vec(),
        b"...".to_vec(),
        vec![b'n'; 255],
    ];
    for name in &names {
        drop(g.file(&g.root, name, name));
    }
    names.sort();
    assert_eq!(g.names(&g.root), names);
    is(g.disk.stat(&g.root, &[b'n'; 256]), Kind::Invalid);
    for bad in [&b"."[..], b"..", b"a/b", b"/", b"\0"] {
        is(g.disk.stat(&g.root, bad), Kind::Invalid);
        is(g.disk.open(&g.root, bad, true), Kind::Invalid);
        is(g.disk.open_dir(&g.root, bad), Kind::Invalid);
        is(g.disk.make(&g.root, bad, Make::Dir), Kind::Invalid);
        is(
            g.disk.place((&g.root, b"..."), (&g.root, bad), Place::Over),
            Kind::Invalid,
        );
        is(g.disk.remove(&g.root, bad, false), Kind::Invalid);
        is(
            g.disk.set(Target::Name(&g.root, bad), Attrs::default()),
            Kind::Invalid,
        );
    }
    let mut seen = 0;
    g.disk
        .list(&g.root, &mut |_| {
            seen += 1;
            seen < 2
        })
        .unwrap();
    assert_eq!(seen, 2, "a listing stops when it is told to");
}

fn a_taken_name_is_never_taken_over_unasked<D: Disk>(g: &Ground<'_, D>) {
    drop(g.file(&g.root, b"mine", b"mine"));
    drop(g.file(&g.root, b"new", b"new"));
    is(g.disk.open(&g.root, b"mine", true), Kind::Exists);
    is(g.disk.make(&g.root, b"mine", Make::Dir), Kind::Exists);
    is(g.disk.make(&g.root, b"mine", Make::Link(b"x")), Kind::Exists);
    is(
        g.disk.make(&g.root, b"mine", Make::Special(Special::Fifo)),
        Kind::Exists,
    );
    is(
        g.disk.place((&g.root, b"new"), (&g.root, b"mine"), Place::New),
        Kind::Exists,
    );
    is(
        g.disk.place((&g.root, b"new"), (&g.root, b"mine"), Place::Link),
        Kind::Exists,
    );
    assert_eq!(g.content(&g.root, b"mine").unwrap(), b"mine");
}

fn renames_and_links_do_what_they_say<D: Disk>(g: &Ground<'_, D>) {
    let (d, r) = (g.disk, &g.root);
    let (sub, other) = (g.dir(b"sub"), g.dir(b"other"));
    drop(g.file(r, b"a", b"A"));
    drop(g.file(r, b"b", b"B"));
    let inode = d.stat(r, b"a").unwrap().inode;
    d.place((r, b"a"), (&sub, b"moved"), Place::New).unwrap();
    assert_eq!(
        d.stat(&sub, b"moved").unwrap().inode,
        inode,
        "a moved file is the same file"
    );
    is(d.stat(r, b"a"), Kind::NotFound);
    d.place((&sub, b"moved"), (r, b"b"), Place::Exchange).unwrap();
    assert_eq!(
        (g.content(r, b"b").unwrap(), g.content(&sub, b"moved").unwrap()),
        (b"A".to_vec(), b"B".to_vec())
    );
    d.place((r, b"b"), (&sub, b"second"), Place::Link).unwrap();
    assert_eq!(d.stat(r, b"b").unwrap().links, 2);
    assert_eq!(d.stat(&sub, b"second").unwrap().inode, inode);
    d.place((r, b"b"), (&sub, b"second"), Place::Over).unwrap();
    assert_eq!(
        d.stat(r, b"b").unwrap().links,
        2,
        "a rename over another name of the same file does nothing"
    );
    d.place((r, b"b"), (&sub, b"moved"), Place::Over).unwrap();
    assert_eq!(g.content(&sub, b"moved").unwrap(), b"A");
    is(d.place((r, b"b"), (r, b"c"), Place::New), Kind::NotFound);
    is(d.place((r, b"b"), (r, b"c"), Place::Link), Kind::NotFound);
    is(
        d.place((r, b"sub"), (r, b"absent"), Place::Exchange),
        Kind::NotFound,
    );
    is(d.place((r, b"sub"), (r, b"hard"), Place::Link), Kind::Denied);
    is(d.place((r, b"other"), (r, b"sub"), Place::Over), Kind::Exists);
    is(
        d.place((&sub, b"moved"), (r, b"other"), Place::Over),
        Kind::Changed,
    );
    is(
        d.place((r, b"other"), (&sub, b"moved"), Place::Over),
        Kind::Changed,
    );
    is(
        d.place((r, b"sub"), (&sub, b"inside itself"), Place::Over),
        Kind::Invalid,
    );
    d.place((r, b"sub"), (&other, b"deep"), Place::New).unwrap();
    assert_eq!(
        g.names(&sub),
        [b"moved".to_vec(), b"second".to_vec()],
        "a held directory moves along"
    );
    d.place((&other, b"deep"), (r, b"empty"), Place::New).unwrap();
    d.place((r, b"empty"), (r, b"other"), Place::Over).unwrap();
    assert_eq!(g.names(r), [b"other"]);
    d.make(r, b"link", Make::Link(b"other")).unwrap();
    d.place((r, b"link"), (r, b"link too"), Place::Link).unwrap();
    assert_eq!(
        d.stat(r, b"link too").unwrap().kind,
        Node::Link,
        "the link itself gets the name"
    );
    d.place((r, b"link"), (r, b"other"), Place::Exchange).unwrap();
    assert_eq!(
        d.stat(r, b"link").unwrap().kind,
        Node::Dir,
        "exchange does not look at kinds"
    );
}

fn removing_asks_for_the_right_kind<D: Disk>(g: &Ground<'_, D>) {
    let full = g.dir(b"full");
    drop(g.file(&full, b"f", b""));
    g.disk.make(&g.root, b"link", Make::Link(b"full")).unwrap();
    is(g.disk.remove(&g.root, b"full", true), Kind::Exists);
    is(g.disk.remove(&g.root, b"full", false), Kind::Changed);
    is(g.disk.remove(&g.root, b"link", true), Kind::Changed);
    is(g.disk.remove(&g.root, b"absent", false), Kind::NotFound);
    is(g.disk.remove(&full, b"f", true), Kind::Changed);
    g.disk.remove(&g.root, b"link", false).unwrap();
    g.disk.remove(&full, b"f", false).unwrap();
    g.disk.remove(&g.root, b"full", true).unwrap();
    assert!(g.names(&g.root).is_empty());
    is(g.disk.open(&full, b"f", true), Kind::NotFound);
}

fn attributes_are_set_and_left_alone<D: Disk>(g: &Ground<'_, D>) {
    let file = g.file(&g.root, b"f", b"x");
    let early = Time { secs: -1, nanos: 1 };
    let rows: Xattrs = vec![
        (b"user.a".to_vec(), b"1".to_vec()),
        (b"user.b".to_vec(), vec![0xff; 600]),
    ];
    let owner = Some(Owner { uid: 5, gid: 6 });
    let all = Attrs {
        owner,
        mode: Some(0o6751),
        mtime: Some(early),
        xattrs: Some((&rows, ALL)),
    };
    g.disk.set(Target::File(&file), all).unwrap();
    let stat = g.disk.stat_file(&file).unwrap();
    assert_eq!((Some(stat.owner), stat.mode, stat.mtime), (owner, 0o6751, early));
    assert_eq!(g.disk.xattrs(Target::File(&file), ALL).unwrap(), rows);

    let name = Target::Name(&g.root, b"f");
    g.disk
        .set(
            name,
            Attrs {
                mode: Some(0o640),
                ..Attrs::default()
            },
        )
        .unwrap();
    let stat = g.disk.stat(&g.root, b"f").unwrap();
    assert_eq!(
        (Some(stat.owner), stat.mode, stat.mtime),
        (owner, 0o640, early),
        "only what was asked is set"
    );
    let fewer = rows[1..].to_vec();
    g.disk
        .set(
            name,
            Attrs {
                xattrs: Some((&fewer, ALL)),
                ..Attrs::default()
            },
        )
        .unwrap();
    assert_eq!(
        g.disk.xattrs(name, ALL).unwrap(),
        fewer,
        "what is not named is removed"
    );
    assert_eq!(
        g.disk
            .xattrs(
                name,
                XattrClasses {
                    plain: false,
                    acls: true
                }
            )
            .unwrap(),
        []
    );
    g.disk
        .set(
            name,
            Attrs {
                mode: Some(0o4711),
                ..Attrs::default()
            },
        )
        .unwrap();
    g.disk
        .set(
            name,
            Attrs {
                owner: Some(Owner { uid: 7, gid: 7 }),
                ..Attrs::default()
            },
        )
        .unwrap();
    assert_eq!(
        g.disk.stat(&g.root, b"f").unwrap().mode,
        0o711,
        "a set-id bit does not go to another owner"
    );

    let dir = g.dir(b"d");
    g.disk
        .set(
            Target::Dir(&dir),
            Attrs {
                mtime: Some(early),
                mode: Some(0o1755),
                ..Attrs::default()
            },
        )
        .unwrap();
    let stat = g.disk.stat(&g.root, b"d").unwrap();
    assert_eq!((stat.mtime, stat.mode), (early, 0o1755));
    drop(g.file(&dir, b"x", b""));
    assert!(
        g.disk.stat(&dir, b"").unwrap().mtime > early,
        "a new name moves its directory's time"
    );

    g.disk.make(&g.root, b"link", Make::Link(b"f")).unwrap();
    let link = Target::Name(&g.root, b"link");
    g.disk
        .set(
            link,
            Attrs {
                owner,
                mtime: Some(early),
                mode: Some(0o600),
                ..Attrs::default()
            },
        )
        .unwrap();
    let stat = g.disk.stat(&g.root, b"link").unwrap();
    assert_eq!((Some(stat.owner), stat.mtime), (owner, early));
    assert_eq!(
        g.disk.stat(&g.root, b"f").unwrap().owner.uid,
        7,
        "a link is not followed"
    );
    is(
        g.disk.set(
            link,
            Attrs {
                xattrs: Some((&rows, ALL)),
                ..Attrs::default()
            },
        ),
        Kind::Denied,
    );
    is(g.disk.set(Target::Name(&g.root, b"absent"), all), Kind::NotFound);
    is(
        g.disk.xattrs(Target::Name(&g.root, b"absent"), ALL),
        Kind::NotFound,
    );
}

fn handles_outlive_names<D: Disk>(g: &Ground<'_, D>) {
    let file = g.file(&g.root, b"f", b"still here");
    g.disk.remove(&g.root, b"f", false).unwrap();
    assert_eq!(g.disk.stat_file(&file).unwrap().links, 0);
    let mut back = [0; 10];
    assert_eq!(g.disk.read(&file, 0, &mut back).unwrap(), 10);
    assert_eq!(&back, b"still here");
    g.disk.sync(Sync::File(&file)).unwrap();
    g.disk.sync(Sync::Dir(&g.root)).unwrap();
    g.disk.sync(Sync::Fs(&g.root)).unwrap();
    let space = g.disk.space(&g.root).unwrap();
    assert!(space.total > 0 && space.free <= space.total && space.fs != 0);
}

fn a_lock_has_one_holder<D: Disk>(g: &Ground<'_, D>) {
    let first = g.file(&g.root, b"lock", b"");
    let second = g.disk.open(&g.root, b"lock", false).unwrap();
    g.disk.lock(&first).unwrap();
    g.disk.lock(&first).unwrap();
    is(g.disk.lock(&second), Kind::Busy);
    drop(first);
    g.disk.lock(&second).unwrap();
}

/// A few names in one directory under random changes, beside a map of inode and bytes.
fn random_changes_match_a_map<D: Disk>(g: &Ground<'_, D>, seed: u64) {
    let dice = SeededDice::new(seed);
    let name = || vec![b'a' + dice.below(6) as u8];
    let mut model: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut bytes: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let (d, r) = (g.disk, &g.root);
    for step in 0..400u32 {
        let (from, to) = (name(), name());
        let known = (model.get(&from).copied(), model.get(&to).copied());
        match (dice.below(6), known) {
            (0, (None, _)) => {
                drop(g.file(r, &from, &step.to_be_bytes()));
                model.insert(from, step);
                bytes.insert(step, step.to_be_bytes().to_vec());
            }
            (0, (Some(_), _)) => is(d.open(r, &from, true), Kind::Exists),
            (1, (Some(_), _)) => {
                d.remove(r, &from, false).unwrap();
                model.remove(&from);
            }
            (2, (Some(file), None)) => {
                d.place((r, &from), (r, &to), Place::New).unwrap();
                model.remove(&from);
                model.insert(to, file);
            }
            (3, (Some(file), old)) => {
                d.place((r, &from), (r, &to), Place::Over).unwrap();
                if old != Some(file) {
                    model.remove(&from);
                    model.insert(to, file);
                }
            }
            (4, (Some(file), Some(other))) => {
                d.place((r, &from), (r, &to), Place::Exchange).unwrap();
                model.insert(from, other);
                model.insert(to, file);
            }
            (5, (Some(file), None)) => {
                d.place((r, &from), (r, &to), Place::Link).unwrap();
                model.insert(to, file);
            }
            (_, (Some(_), None)) => is(d.place((r, &from), (r, &to), Place::Exchange), Kind::NotFound),
            (_, (None, _)) => is(d.remove(r, &from, false), Kind::NotFound),
            (_, (Some(_), Some(_))) => is(d.place((r, &from), (r, &to), Place::New), Kind::Exists),
        }
        assert_eq!(
            g.names(r),
            model.keys().cloned().collect::<Vec<_>>(),
            "seed {seed} step {step}"
        );
    }
    for (name, file) in &model {
        let stat = d.stat(r, name).unwrap();
        let names = model.values().filter(|other| *other == file).count();
        assert_eq!(stat.links as usize, names, "seed {seed} {name:?}");
        assert_eq!(g.content(r, name).unwrap(), bytes[file], "seed {seed} {name:?}");
    }
}

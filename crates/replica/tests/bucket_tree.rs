//! Buckets as trees: what a scan makes of keys, of rows and of listings that lag, and how many requests it takes.

#![allow(clippy::unwrap_used)]

mod bucket_support;

use std::sync::Arc;

use bucket_support::*;
use syncline_model::{Entry, Kind, Meta, Owner, Sameness, Tag, Time, Why};
use syncline_replica::{Replica, Walk};

#[tokio::test]
async fn s31_keys_become_a_tree_with_directories_made_up() {
    let store = Arc::new(MemStore::new());
    for key in ["a", "a-b", "a/b", "a/c/d", "empty/", "z"] {
        store.put(key, if key.ends_with('/') { b"" } else { b"x" }, &[]);
    }
    let replica = replica(&store, "one");
    assert_eq!(
        slots(&replica).await,
        ["a", "a-b", "a/", "a/b", "a/c/", "a/c/d", "empty/", "z"]
    );
}

#[tokio::test]
async fn b7_keys_that_are_no_paths_are_one_problem_each_and_never_outside() {
    let store = Arc::new(MemStore::new());
    for key in [
        "a//b",
        "/etc/passwd",
        "../up",
        "x/../../y",
        "d/",
        "ctl\u{1}\n",
        "\u{201b}41",
        "fine",
        "t/.",
    ] {
        store.put(key, b"held", &[]);
    }
    let replica = replica(&store, "one");
    let rows = tree(&replica).await;
    let plain: Vec<_> = rows
        .iter()
        .filter(|row| row.what.entry.is_file())
        .map(|row| row.slot.path())
        .collect();
    assert_eq!(plain, [path("ctl\u{1}\n"), path("fine")]);
    let problems = rows
        .iter()
        .filter(|row| matches!(row.what.entry, Entry::Opaque(Why::Name(_))))
        .count();
    assert_eq!(problems, 7);
    assert!(
        rows.iter()
            .any(|row| row.slot.as_bytes() == b"d/" && row.what.entry.is_dir())
    );
    // A directory whose marker holds bytes is not removed with them.
    let edit = replica.edit(&run("r")).await.unwrap();
    let gone = change(
        "d",
        Some(
            rows.iter()
                .find(|row| row.slot.as_bytes() == b"d/")
                .unwrap()
                .what
                .clone(),
        ),
        None,
    );
    assert!(edit.apply(&gone, None).await.unwrap_err().is(Kind::Exists));
    assert!(store.bytes("d/").is_some());
}

#[tokio::test]
async fn s17_names_that_are_not_text_stand_in_their_own_place_in_the_order() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let names: [&[u8]; 5] = [
        b"\x80low",
        "é".as_bytes(),
        b"caf\xe9",
        "\u{201b}".as_bytes(),
        b"\xff\xff/in",
    ];
    for name in names {
        let at = syncline_model::RelPath::new(name).unwrap();
        let staged = edit.stage(&at, &file(b"x"), Text::new(b"x")).await.unwrap();
        let change = syncline_model::Change {
            path: at,
            old: None,
            new: Some(file(b"x")),
            from: None,
        };
        edit.apply(&change, Some(staged)).await.unwrap();
    }
    edit.finish().await.unwrap();
    let found: Vec<_> = tree(&replica)
        .await
        .into_iter()
        .filter(|row| row.what.entry.is_file())
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|row| row.slot.path().as_bytes().to_vec())
        .collect();
    assert_eq!(
        found,
        [
            b"caf\xe9".as_slice(),
            b"\x80low",
            "é".as_bytes(),
            "\u{201b}".as_bytes(),
            b"\xff\xff/in"
        ]
    );
    assert!(store.tree().contains(&"caf\u{201b}E9".to_owned()));
}

#[tokio::test]
async fn a_listing_in_any_order_reads_the_same() {
    let mut store = MemStore::new();
    store.caps.sorted = false;
    for key in ["b", "a/x", ".syncline/trash/r/q", "c/", "a-"] {
        store.put(key, if key.ends_with('/') { b"" } else { b"x" }, &[]);
    }
    assert_eq!(
        slots(&replica(&Arc::new(store), "one")).await,
        ["a-", "a/", "a/x", "b", "c/"]
    );
}

#[tokio::test]
async fn everything_of_an_entry_comes_back_on_another_device() {
    let store = Arc::new(MemStore::new());
    let one = replica(&store, "one");
    let edit = one.edit(&run("r")).await.unwrap();
    let mut full = meta();
    full.xattrs = Some(Box::new(vec![(b"user.k".to_vec(), b"\0v".to_vec())]));
    let dir = edit
        .apply(&change("d", None, Some(Entry::Dir(full.clone()))), None)
        .await
        .unwrap();
    put(&edit, "d/f", None, b"hello").await;
    let link = Entry::Link(
        Meta {
            mtime: full.mtime,
            ..Meta::default()
        },
        b"../\xff"[..].into(),
    );
    edit.apply(&change("d/l", None, Some(link.clone())), None)
        .await
        .unwrap();
    let pipe = Entry::Special(full.clone(), syncline_model::Special::Char(1, 3));
    edit.apply(&change("d/null", None, Some(pipe.clone())), None)
        .await
        .unwrap();
    edit.finish().await.unwrap();
    let seen = tree(&one).await;
    assert_eq!(
        tree(&replica(&store, "two")).await,
        seen,
        "both devices see one tree"
    );
    assert_eq!(seen[0].what, dir.now.unwrap());
    assert_eq!((&seen[2].what.entry, &seen[3].what.entry), (&link, &pipe));
    let Entry::File(meta, content, _) = &seen[1].what.entry else {
        panic!()
    };
    assert_eq!((meta.mode, meta.mtime), (full.mode, full.mtime));
    assert_eq!(content.digest.unwrap().0, *blake3::hash(b"hello").as_bytes());
    for at in ["d", "d/f", "d/l", "d/null"] {
        let row = seen.iter().find(|row| row.slot.path() == path(at)).unwrap();
        assert_eq!(find(&one, at).await.as_ref(), Some(&row.what), "asked by name");
    }
}

#[tokio::test]
async fn b6_an_upload_of_rclone_is_adopted_without_being_read() {
    let store = Arc::new(MemStore::new());
    store.put(
        "f",
        b"bytes",
        &[
            ("mtime", "1700000000.5"),
            ("mode", "100600"),
            ("uid", "7"),
            ("gid", "8"),
        ],
    );
    store.put_parts("big", b"parts");
    let replica = replica(&store, "one");
    store.reset();
    let rows = tree(&replica).await;
    let content = replica.digest(&path("f"), &rows[1].what).await.unwrap();
    assert_eq!(
        (store.asked("get"), store.asked("head")),
        (0, 1),
        "asked by name whether it still stands, not read"
    );
    let md5 = {
        use md5::Digest as _;
        md5::Md5::digest(b"bytes").into()
    };
    let local = syncline_model::Content {
        size: 5,
        digest: None,
        md5: Some(md5),
    };
    assert_eq!(content.same(&local), Sameness::Same);
    // The time is told to whoever asks by name.
    let found = find(&replica, "f").await.unwrap();
    let meta = found.entry.meta().unwrap();
    assert_eq!(
        meta.mtime,
        Some(Time {
            secs: 1_700_000_000,
            nanos: 500_000_000
        })
    );
    assert_eq!(
        (meta.mode, meta.owner),
        (Some(0o600), Some(Owner { uid: 7, gid: 8 }))
    );
    // What no tag proves is read.
    let content = replica.digest(&path("big"), &rows[0].what).await.unwrap();
    assert_eq!(content.digest.unwrap().0, *blake3::hash(b"parts").as_bytes());
}

async fn pushed(count: usize) -> Arc<MemStore> {
    let store = Arc::new(MemStore::new());
    let one = replica(&store, "one");
    one.mark(&syncline_model::Marker {
        id: "m".into(),
        generation: 1,
    })
    .await
    .unwrap();
    let edit = one.edit(&run("r")).await.unwrap();
    for n in 0..count {
        put(&edit, &format!("d{:03}/f{n:06}", n / 1000), None, b"").await;
        if n % 3000 == 2999 {
            edit.flush().await.unwrap();
        }
    }
    edit.finish().await.unwrap();
    store
}

#[tokio::test]
async fn requests_of_a_clone_and_of_a_pass_over_100000_unchanged_objects() {
    let store = pushed(100_000).await;
    store.reset();
    let two = replica(&store, "two");
    two.identity().await.unwrap();
    let rows = tree(&two).await;
    two.identity().await.unwrap();
    assert_eq!(rows.len(), 100_100);
    assert!(
        rows.iter()
            .filter(|row| row.what.entry.is_file())
            .all(|row| row.what.entry.meta().unwrap().mode == Some(0o640))
    );
    let all: usize = ["list", "get", "head", "put", "copy", "delete"]
        .iter()
        .map(|what| store.asked(what))
        .sum();
    println!(
        "clone: {all} requests: {} LIST, {} GET",
        store.asked("list"),
        store.asked("get")
    );
    assert!(all <= 300, "{all}");
    store.reset();
    two.identity().await.unwrap();
    tree(&two).await;
    two.identity().await.unwrap();
    println!(
        "unchanged: {} LIST, {} GET, {} HEAD",
        store.asked("list"),
        store.asked("get"),
        store.asked("head")
    );
    assert!(store.asked("list") <= 104 && store.asked("get") + store.asked("head") <= 2);
}

#[tokio::test]
async fn a_row_counts_only_for_the_object_it_was_written_for() {
    let store = Arc::new(MemStore::new());
    let one = replica(&store, "one");
    let edit = one.edit(&run("r")).await.unwrap();
    put(&edit, "f", None, b"ours").await;
    edit.finish().await.unwrap();
    store.put("f", b"them", &[]);
    let row = &tree(&replica(&store, "two")).await[0];
    assert_eq!(row.what.entry.meta(), Some(&Meta::default()));
    assert_eq!(row.what.entry.content().unwrap().digest, None);
}

#[tokio::test]
async fn b10_a_listing_that_lags_behind_our_own_writes_is_seen_through() {
    let store = Arc::new(MemStore::new());
    store.put("old", b"1", &[]);
    store.put("gone", b"1", &[]);
    store.put("theirs", b"1", &[]);
    let replica = replica(&store, "one");
    let before = tree(&replica).await;
    let seen = |at: &str| {
        before
            .iter()
            .find(|row| row.slot.path() == path(at))
            .map(|row| row.what.clone())
    };
    let listing = store.world.lock().unwrap().objects.clone();
    let edit = replica.edit(&run("r")).await.unwrap();
    put(&edit, "new", None, b"n").await;
    let now = put(&edit, "old", seen("old"), b"22").await;
    edit.apply(&change("gone", seen("gone"), None), None)
        .await
        .unwrap();
    edit.finish().await.unwrap();
    store.world.lock().unwrap().stale = Some(listing.clone());
    assert_eq!(slots(&replica).await, ["new", "old", "theirs"]);
    assert_eq!(tree(&replica).await[1].what, now);
    // Somebody else's removal is not seen through: asking by name tells.
    store.world.lock().unwrap().objects.remove("theirs");
    assert_eq!(find(&replica, "theirs").await, None);
    let stale = tree(&replica).await[2].what.clone();
    assert!(
        replica
            .read(&path("theirs"), &stale, 0)
            .await
            .err()
            .unwrap()
            .is(Kind::Changed)
    );
    store.world.lock().unwrap().stale = None;
    assert_eq!(slots(&replica).await, ["new", "old"]);
}

#[tokio::test]
async fn only_what_is_asked_for_is_listed() {
    let store = Arc::new(MemStore::new());
    for key in ["a/b/c", "a/b", "a/bb", "a/b/d/e", "z"] {
        store.put(key, b"x", &[]);
    }
    let mut only = scope();
    only.only = vec![path("a/b/d"), path("a/b"), path("a/b")];
    let found = rows(replica(&store, "one").scan(&only).await.unwrap()).await;
    let found: Vec<_> = found.iter().map(|row| row.slot.to_string()).collect();
    assert_eq!(found, ["a/b", "a/b/", "a/b/c", "a/b/d/", "a/b/d/e"]);
}

#[tokio::test]
async fn s3_an_error_half_way_is_no_end() {
    let store = Arc::new(MemStore::new());
    store.put("a", b"x", &[]);
    store.put(".syncline/attributes/two/00000000", b"SLATTR1\nrubbish", &[]);
    let fault = replica(&store, "one").scan(&scope()).await.err().unwrap();
    assert!(fault.is(Kind::Corrupt) && fault.at.contains("two/00000000") && fault.hint.is_some());
}

#[tokio::test]
async fn b1_bytes_are_pinned_to_what_was_seen() {
    let store = Arc::new(MemStore::new());
    store.put("f", b"first", &[]);
    let replica = replica(&store, "one");
    let seen = tree(&replica).await[0].what.clone();
    assert_eq!(
        contents(replica.read(&path("f"), &seen, 0).await.unwrap()).await,
        b"first"
    );
    assert_eq!(
        contents(replica.read(&path("f"), &seen, 3).await.unwrap()).await,
        b"st"
    );
    assert_eq!(
        contents(replica.read(&path("f"), &seen, 5).await.unwrap()).await,
        b""
    );
    store.put("f", b"other", &[]);
    assert!(
        replica
            .read(&path("f"), &seen, 0)
            .await
            .err()
            .unwrap()
            .is(Kind::Changed)
    );
    assert_ne!(seen.tag, Tag::None);
}

#[tokio::test]
async fn b9_a_used_bucket_is_told_from_none_and_its_marker_only_grows() {
    let store = Arc::new(MemStore::new());
    store.put("f", b"x", &[]);
    let (one, two) = (replica(&store, "one"), replica(&store, "two"));
    assert_eq!(one.identity().await.unwrap().marker, None);
    let marker = |generation| syncline_model::Marker {
        id: "m".into(),
        generation,
    };
    one.mark(&marker(1)).await.unwrap();
    assert_eq!(two.identity().await.unwrap().marker, Some(marker(1)));
    two.mark(&marker(2)).await.unwrap();
    one.mark(&marker(2)).await.unwrap();
    assert_eq!(
        two.identity().await.unwrap().marker,
        Some(marker(3)),
        "both runs raised it"
    );
    let other = syncline_model::Marker {
        id: "other".into(),
        generation: 9,
    };
    assert!(one.mark(&other).await.unwrap_err().is(Kind::Changed));
    assert_eq!(slots(&one).await, ["f"], "what is ours is no part of the tree");
}

#[tokio::test]
async fn a_walk_of_nothing_ends() {
    let store = Arc::new(MemStore::new());
    let mut walk: Box<dyn Walk> = replica(&store, "one").scan(&scope()).await.unwrap();
    assert!(walk.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_listing_without_tags_is_completed_by_asking() {
    let store = Arc::new(MemStore::new());
    let one = replica(&store, "one");
    let edit = one.edit(&run("r")).await.unwrap();
    let now = put(&edit, "f", None, b"x").await;
    edit.finish().await.unwrap();
    let mut shown = store.world.lock().unwrap().objects.clone();
    shown.values_mut().for_each(|object| object.tag = Tag::None);
    store.world.lock().unwrap().stale = Some(shown);
    assert_eq!(tree(&replica(&store, "two")).await[0].what, now);
}

#[tokio::test]
async fn a_large_listing_is_sorted_on_disk() {
    let mut store = MemStore::new();
    store.caps.sorted = false;
    let mut expected = std::collections::BTreeSet::new();
    for n in 0..20_000 {
        let key = format!("d{}/f{}", n % 7, n * 7919 % 20_000);
        expected.insert(key.clone());
        store.put(&key, b"x", &[]);
    }
    let disk = Arc::new(syncline_store::os::OsDisk::new());
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path().to_owned();
    let replica = replica(&Arc::new(store), "one").sorting_with(Arc::new(move || {
        use syncline_store::Disk;
        let dir = disk.root(&at)?;
        Ok(Box::new(syncline_store::sorter::Sorter::with_budget(
            disk.clone(),
            dir,
            256 << 10,
        )) as _)
    }));
    let rows = tree(&replica).await;
    let files = rows.iter().filter(|row| row.what.entry.is_file());
    assert!(
        files
            .clone()
            .all(|row| row.what.entry.content().unwrap().md5.is_some() && row.what.tag != Tag::None)
    );
    assert_eq!(
        files
            .map(|row| row.slot.to_string())
            .collect::<std::collections::BTreeSet<_>>(),
        expected
    );
}

#[tokio::test]
async fn s16_owners_go_by_name_then_by_number() {
    let store = Arc::new(MemStore::new());
    let accounts = |users: &str| syncline_replica::Accounts::parse(users.as_bytes(), b"");
    let number = meta().owner.unwrap().uid;
    let here = replica(&store, "one").naming_owners(accounts(&format!("anna:x:{number}:1::/:/bin/sh\n")));
    let edit = here.edit(&run("r")).await.unwrap();
    put(&edit, "f", None, b"1").await;
    edit.finish().await.unwrap();
    let owner =
        |seen: Option<syncline_model::Observation>| seen.unwrap().entry.meta().unwrap().owner.unwrap();
    assert_eq!(owner(find(&here, "f").await).uid, number);
    // Where she has another number, and where nobody is called so.
    let there = replica(&store, "two").naming_owners(accounts("anna:x:4711:1::/:/bin/sh\n"));
    assert_eq!(owner(find(&there, "f").await).uid, 4711);
    assert_eq!(owner(find(&there, "f").await).gid, meta().owner.unwrap().gid);
    let seen = rows(there.scan(&scope()).await.unwrap()).await;
    assert_eq!(owner(Some(seen[0].what.clone())).uid, 4711);
    let elsewhere = replica(&store, "three").naming_owners(accounts("ben:x:4711:1::/:/bin/sh\n"));
    assert_eq!(owner(find(&elsewhere, "f").await).uid, number);
}

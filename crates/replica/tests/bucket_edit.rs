//! Edits of buckets: races, trash, directories, moves, uploads, on stores with and without conditional writes.

#![allow(clippy::unwrap_used)]

mod bucket_support;

use std::collections::BTreeSet;
use std::sync::Arc;

use bucket_support::*;
use syncline_model::{Change, Digest, Entry, From, Kind, Meta, Time};
use syncline_replica::{BucketReplica, Replica};
use syncline_store::Store;
use syncline_testkit::mem_table::MemTable;

fn each() -> [Arc<MemStore>; 4] {
    let mut both = MemStore::unconditional();
    both.caps.versions = true;
    [
        Arc::new(MemStore::new()),
        Arc::new(MemStore::unconditional()),
        Arc::new(MemStore::versioned()),
        Arc::new(both),
    ]
}

#[tokio::test]
async fn b1_the_second_of_two_that_push_the_same_file_sees_changed() {
    for store in each() {
        let (one, two) = (replica(&store, "one"), replica(&store, "two"));
        let (first, second) = (
            one.edit(&run("r1")).await.unwrap(),
            two.edit(&run("r2")).await.unwrap(),
        );
        if store.caps.if_absent {
            put(&first, "f", None, b"from one").await;
            assert!(
                try_put(&second, "f", None, b"from two")
                    .await
                    .unwrap_err()
                    .is(Kind::Changed)
            );
        }
        store.put("g", b"base", &[]);
        let seen = find(&one, "g").await;
        put(&first, "g", seen.clone(), b"one").await;
        assert!(
            try_put(&second, "g", seen, b"two")
                .await
                .unwrap_err()
                .is(Kind::Changed)
        );
        first.finish().await.unwrap();
        second.finish().await.unwrap();
        assert_eq!(store.bytes("g").unwrap(), "one");
        assert!(
            store.keys().iter().all(|key| !key.contains("trash/r2")),
            "nothing was displaced by the second"
        );
    }
}

#[tokio::test]
async fn b2_a_removal_does_not_take_what_a_colleague_changed() {
    for store in each() {
        store.put("f", b"base", &[]);
        let replica = replica(&store, "one");
        let seen = find(&replica, "f").await;
        store.put("f", b"colleague", &[]);
        let edit = replica.edit(&run("r")).await.unwrap();
        assert!(
            edit.apply(&change("f", seen.clone(), None), None)
                .await
                .unwrap_err()
                .is(Kind::Changed)
        );
        assert_eq!(store.bytes("f").unwrap(), "colleague");
        store.world.lock().unwrap().objects.remove("f");
        assert!(
            edit.apply(&change("f", seen, None), None)
                .await
                .unwrap_err()
                .is(Kind::Changed)
        );
    }
}

#[tokio::test]
async fn s19_every_version_that_is_displaced_can_be_brought_back() {
    for store in each() {
        let replica = replica(&store, "one");
        let edit = replica.edit(&run("r")).await.unwrap();
        let mut at = put(&edit, "d/f", None, b"0").await;
        let mut kept = Vec::new();
        for n in 1..4u8 {
            let applied = try_put(&edit, "d/f", Some(at), &[b'0' + n]).await.unwrap();
            kept.push(applied.trashed.unwrap());
            at = applied.now.unwrap();
        }
        kept.push(
            edit.apply(&change("d/f", Some(at), None), None)
                .await
                .unwrap()
                .trashed
                .unwrap(),
        );
        edit.finish().await.unwrap();
        let copied = store.asked("copy") > 0;
        assert_eq!(
            copied, !store.caps.versions,
            "a version that is kept anyway needs no copy"
        );
        for (n, trashed) in kept.iter().enumerate() {
            assert_eq!(
                contents(replica.trash_read(trashed).await.unwrap()).await,
                [b'0' + n as u8]
            );
        }
        assert_eq!(
            replica
                .trash()
                .await
                .unwrap()
                .iter()
                .map(|run| &run.run)
                .collect::<Vec<_>>(),
            ["r"]
        );
        let listed = rows(replica.trash_list("r").await.unwrap()).await;
        let listed: BTreeSet<_> = listed
            .iter()
            .filter(|row| row.what.entry.is_file())
            .map(|row| row.slot.path())
            .collect();
        assert_eq!(listed, kept.iter().map(|trashed| trashed.path.clone()).collect());
        let sizes = rows(replica.trash_list("r").await.unwrap()).await;
        assert!(sizes.iter().all(|row| row.what.entry.size() <= 1), "{sizes:?}");
        let edit = replica.edit(&run("undo")).await.unwrap();
        let back = Change {
            from: Some(From::Trash(kept[1].clone())),
            ..change("d/f", None, Some(file(b"1")))
        };
        edit.apply(&back, None).await.unwrap();
        edit.finish().await.unwrap();
        assert_eq!(store.bytes("d/f").unwrap(), "1");
        replica.trash_empty("r").await.unwrap();
        assert!(replica.trash().await.unwrap().is_empty());
        let world = store.world.lock().unwrap();
        assert!(
            world.before.keys().all(|(key, _)| key != "d/f"),
            "versions go with the trash"
        );
        drop(world);
        assert!(store.keys().iter().all(|key| !key.contains("lease")));
    }
}

#[tokio::test]
async fn without_conditional_writes_what_is_replaced_is_kept_even_with_no_trash() {
    let store = Arc::new(MemStore::unconditional());
    let replica = replica(&store, "one");
    let edit = replica
        .edit(&syncline_replica::EditOptions {
            trash: false,
            ..run("r")
        })
        .await
        .unwrap();
    let at = put(&edit, "f", None, b"old").await;
    let applied = try_put(&edit, "f", Some(at), b"new").await.unwrap();
    assert_eq!(
        contents(replica.trash_read(&applied.trashed.unwrap()).await.unwrap()).await,
        b"old"
    );
}

#[tokio::test]
async fn s31_empty_directories_come_and_go() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let dir = || Some(Entry::Dir(Meta::default()));
    let mut made = Vec::new();
    for at in ["full", "empty", "full/deep", "full/deep/er"] {
        made.push(edit.apply(&change(at, None, dir()), None).await.unwrap().now);
    }
    let f = put(&edit, "full/f", None, b"x").await;
    edit.finish().await.unwrap();
    assert_eq!(
        store.tree(),
        ["empty/", "full/deep/er/", "full/f"],
        "markers only where nothing else tells"
    );
    let all = ["empty/", "full/", "full/deep/", "full/deep/er/", "full/f"];
    assert_eq!(slots(&replica).await, all);
    // A directory that is filled needs its marker no more; one that loses its last file gets one.
    let edit = replica.edit(&run("r2")).await.unwrap();
    let g = put(&edit, "empty/g", None, b"x").await;
    edit.apply(&change("full/deep/er", made[3].clone(), None), None)
        .await
        .unwrap();
    assert!(
        edit.apply(&change("empty", made[1].clone(), None), None)
            .await
            .unwrap_err()
            .is(Kind::Exists)
    );
    edit.finish().await.unwrap();
    assert_eq!(store.tree(), ["empty/g", "full/deep/", "full/f"]);
    let edit = replica.edit(&run("r3")).await.unwrap();
    for (at, old) in [
        ("empty/g", Some(g)),
        ("full/f", Some(f)),
        ("full/deep", made[2].clone()),
    ] {
        edit.apply(&change(at, old, None), None).await.unwrap();
    }
    edit.apply(&change("full", made[0].clone(), None), None)
        .await
        .unwrap();
    edit.finish().await.unwrap();
    assert_eq!(slots(&replica).await, ["empty/"]);
    assert_eq!(store.tree(), ["empty/"]);
}

#[tokio::test]
async fn s16_only_metadata_travels() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let old = put(&edit, "f", None, b"bytes").await;
    let mut new = old.entry.clone();
    new.meta_mut().unwrap().mode = Some(0o4711);
    store.reset();
    let old = edit
        .apply(&change("f", Some(old), Some(new.clone())), None)
        .await
        .unwrap()
        .now
        .unwrap();
    assert_eq!(
        (store.asked("put"), store.asked("copy"), store.asked("get")),
        (0, 0, 0)
    );
    new.meta_mut().unwrap().mtime = Some(Time { secs: 5, nanos: 0 });
    edit.apply(&change("f", Some(old), Some(new.clone())), None)
        .await
        .unwrap();
    edit.finish().await.unwrap();
    assert_eq!(
        store.world.lock().unwrap().objects["f"].metadata["mtime"],
        "5",
        "other tools see the time"
    );
    let seen = tree(&bucket_support::replica(&store, "two")).await;
    assert_eq!(seen[0].what.entry.meta(), new.meta());
    // Two devices change the attributes one after the other: the later generation counts.
    let two = bucket_support::replica(&store, "two");
    two.mark(&syncline_model::Marker {
        id: "m".into(),
        generation: 7,
    })
    .await
    .unwrap();
    let edit = two.edit(&run("r2")).await.unwrap();
    new.meta_mut().unwrap().mode = Some(0o600);
    edit.apply(&change("f", Some(seen[0].what.clone()), Some(new.clone())), None)
        .await
        .unwrap();
    edit.finish().await.unwrap();
    for device in ["one", "three"] {
        let seen = tree(&bucket_support::replica(&store, device)).await;
        assert_eq!(seen[0].what.entry.meta().unwrap().mode, Some(0o600));
    }
}

async fn full_dir(store: &Arc<MemStore>) -> BucketReplica {
    let replica = replica(store, "one");
    let edit = replica.edit(&run("fill")).await.unwrap();
    for n in 0..50 {
        put(
            &edit,
            &format!("from/s{}/f{n}", n % 3),
            None,
            format!("{n}").as_bytes(),
        )
        .await;
    }
    edit.apply(
        &change("from/empty", None, Some(Entry::Dir(Meta::default()))),
        None,
    )
    .await
    .unwrap();
    edit.finish().await.unwrap();
    replica
}

fn move_dir() -> Change {
    Change {
        from: Some(From::Move(path("from"))),
        ..change("to", None, Some(Entry::Dir(meta())))
    }
}

#[tokio::test]
async fn s14_a_directory_moves_without_its_bytes_travelling() {
    let store = Arc::new(MemStore::new());
    let replica = full_dir(&store).await;
    let before = tree(&replica).await;
    let edit = replica.edit(&run("r")).await.unwrap();
    store.reset();
    edit.apply(&move_dir(), None).await.unwrap();
    assert_eq!(store.asked("get"), 0);
    assert_eq!(store.asked("put"), 1, "the intent alone");
    edit.finish().await.unwrap();
    let after = tree(&bucket_support::replica(&store, "two")).await;
    assert_eq!(after.len(), before.len());
    for (a, b) in before.iter().zip(&after).skip(1) {
        assert_eq!(
            a.slot.path().rebase(&path("from"), &path("to")),
            Some(b.slot.path())
        );
        assert_eq!(a.what.entry, b.what.entry, "attributes and digests move along");
    }
    assert!(store.keys().iter().all(|key| !key.contains("intents")));
}

#[tokio::test]
async fn s23_a_move_killed_at_any_write_is_finished_by_the_next_edit() {
    let mut met = BTreeSet::new();
    for die in 0..400 {
        let store = Arc::new(MemStore::new());
        let replica = full_dir(&store).await;
        let all = |from: &str| store.tree().iter().filter(|key| key.starts_with(from)).count();
        let whole = all("from/");
        {
            let mut world = store.world.lock().unwrap();
            world.die_after = Some(world.writes + die);
        }
        let edit = replica.edit(&run("r")).await.unwrap();
        let done = edit.apply(&move_dir(), None).await.is_ok();
        drop(edit);
        store.world.lock().unwrap().die_after = None;
        met.insert((all("from/") > 0, all("to/") > 0));
        let again = bucket_support::replica(&store, "one");
        again.edit(&run("r2")).await.unwrap().finish().await.unwrap();
        let (from, to) = (all("from/"), all("to/"));
        assert_eq!(
            from + to,
            whole,
            "each file stands under exactly one name (killed after {die})"
        );
        assert!(store.keys().iter().all(|key| !key.contains("intents")));
        if done {
            break;
        }
    }
    assert!(met.len() >= 3, "before, between and after: {met:?}");
}

#[tokio::test]
async fn a_killed_move_leaves_a_colleagues_edit_where_it_is() {
    let store = Arc::new(MemStore::new());
    let replica = full_dir(&store).await;
    {
        let mut world = store.world.lock().unwrap();
        world.die_after = Some(world.writes + 30);
    }
    let edit = replica.edit(&run("r")).await.unwrap();
    edit.apply(&move_dir(), None).await.unwrap_err();
    store.world.lock().unwrap().die_after = None;
    store.put("from/s0/f0", b"colleague", &[]);
    store.put("from/new", b"colleague", &[]);
    replica.edit(&run("r2")).await.unwrap();
    assert_eq!(store.bytes("from/s0/f0").unwrap(), "colleague");
    assert_eq!(store.bytes("from/new").unwrap(), "colleague");
}

#[tokio::test]
async fn files_move_under_the_condition_that_nothing_stands_there() {
    for store in each() {
        let replica = replica(&store, "one");
        let edit = replica.edit(&run("r")).await.unwrap();
        let f = put(&edit, "a/f", None, b"bytes").await;
        let g = put(&edit, "g", None, b"other").await;
        let to = |at: &str, old| Change {
            from: Some(From::Move(path("a/f"))),
            ..change(at, old, Some(f.entry.clone()))
        };
        if store.caps.if_absent {
            assert!(
                edit.apply(&to("g", None), None)
                    .await
                    .unwrap_err()
                    .is(Kind::Exists)
            );
        }
        assert!(store.bytes("a/f").is_some());
        let applied = edit.apply(&to("g", Some(g)), None).await.unwrap();
        assert_eq!(
            contents(replica.trash_read(&applied.trashed.unwrap()).await.unwrap()).await,
            b"other"
        );
        edit.finish().await.unwrap();
        assert_eq!(
            store.tree(),
            ["a/", "g"],
            "the directory that is left empty stays"
        );
        assert_eq!(find(&replica, "g").await, applied.now);
    }
}

const BIG: usize = 40 << 20;

fn big(seed: u8) -> Vec<u8> {
    (0..BIG).map(|n| (n / 997) as u8 ^ seed).collect()
}

async fn broken_upload(store: &Arc<MemStore>, options: &syncline_replica::BucketOptions, bytes: &[u8]) {
    let replica = BucketReplica::new(store.clone(), options.clone()).unwrap();
    let edit = replica.edit(&run("r1")).await.unwrap();
    {
        let mut world = store.world.lock().unwrap();
        world.die_after = Some(world.writes + 3);
    }
    assert!(
        edit.stage(&path("big"), &file(bytes), Text::new(bytes))
            .await
            .is_err()
    );
    store.world.lock().unwrap().die_after = None;
    store.reset();
}

fn with_state(device: &str) -> (syncline_replica::BucketOptions, Arc<MemTable>) {
    let table = Arc::new(MemTable::default());
    (
        syncline_replica::BucketOptions {
            state: Some(table.clone()),
            ..options(device)
        },
        table,
    )
}

#[tokio::test]
async fn b8_a_broken_upload_goes_on_where_it_was() {
    let store = Arc::new(MemStore::new());
    let (options, _state) = with_state("one");
    let bytes = big(1);
    broken_upload(&store, &options, &bytes).await;
    let replica = BucketReplica::new(store.clone(), options).unwrap();
    let edit = replica.edit(&run("r2")).await.unwrap();
    let now = put(&edit, "big", None, &bytes).await;
    edit.finish().await.unwrap();
    assert_eq!(store.asked("part"), 2, "three of five parts were there");
    assert_eq!(store.bytes("big").unwrap(), bytes);
    assert_eq!(
        now.entry.content().unwrap().digest,
        Some(Digest(*blake3::hash(&bytes).as_bytes()))
    );
    assert!(store.unfinished("").await.unwrap().is_empty());
}

#[tokio::test]
async fn b8_a_broken_upload_of_other_bytes_is_not_gone_on_with() {
    let store = Arc::new(MemStore::new());
    let (options, _state) = with_state("one");
    broken_upload(&store, &options, &big(1)).await;
    let replica = BucketReplica::new(store.clone(), options).unwrap();
    let edit = replica.edit(&run("r2")).await.unwrap();
    let other = big(2);
    let fault = edit
        .stage(&path("big"), &file(&other), Text::new(&other))
        .await
        .unwrap_err();
    assert!(fault.is(Kind::Changed) && fault.retry);
    put(&edit, "big", None, &other).await;
    edit.finish().await.unwrap();
    assert_eq!(store.bytes("big").unwrap(), other);
}

#[tokio::test]
async fn b8_uploads_left_behind_are_given_up_but_never_anothers() {
    let store = Arc::new(MemStore::new());
    let (options, _state) = with_state("one");
    broken_upload(&store, &options, &big(1)).await;
    let (others, _their_state) = with_state("two");
    let theirs = store.again();
    broken_upload(&Arc::new(theirs), &others, &big(2)).await;
    assert_eq!(store.unfinished("").await.unwrap().len(), 2);
    for n in 0..2 {
        let replica = BucketReplica::new(store.clone(), options.clone()).unwrap();
        replica
            .edit(&run(&format!("later{n}")))
            .await
            .unwrap()
            .finish()
            .await
            .unwrap();
    }
    assert_eq!(store.unfinished("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_killed_run_loses_no_attributes_on_this_device() {
    let store = Arc::new(MemStore::new());
    let (options, _state) = with_state("one");
    let replica = BucketReplica::new(store.clone(), options.clone()).unwrap();
    let edit = replica.edit(&run("r")).await.unwrap();
    let mut full = meta();
    full.xattrs = Some(Box::new(vec![(b"user.a".to_vec(), b"1".to_vec())]));
    let new = Entry::File(full.clone(), syncline_model::Content::unread(1), None);
    let staged = edit.stage(&path("f"), &new, Text::new(b"x")).await.unwrap();
    edit.apply(&change("f", None, Some(new)), Some(staged))
        .await
        .unwrap();
    drop((edit, replica));
    let again = BucketReplica::new(store.clone(), options).unwrap();
    assert_eq!(tree(&again).await[0].what.entry.meta(), Some(&full));
    again.edit(&run("r2")).await.unwrap().finish().await.unwrap();
    assert_eq!(
        tree(&replica_of(&store)).await[0].what.entry.meta(),
        Some(&full),
        "the next run tells everybody"
    );
}

fn replica_of(store: &Arc<MemStore>) -> BucketReplica {
    bucket_support::replica(store, "two")
}

#[tokio::test]
async fn trash_is_emptied_by_one_at_a_time_and_a_dead_ones_lease_is_taken_over() {
    let store = Arc::new(MemStore::new());
    store.put(".syncline/trash/r/f", b"x", &[]);
    store.put(".syncline/lease/trash", b"{\"device\":\"dead\",\"nonce\":1}", &[]);
    let clock = Arc::new(Steps::default());
    let options = syncline_replica::BucketOptions {
        clock: clock.clone(),
        ..options("one")
    };
    let replica = BucketReplica::new(store.clone(), options).unwrap();
    // Its holder lives: it renews while we watch.
    let world = store.again();
    *clock.each.lock().unwrap() = Some(Box::new(move || {
        world.put(".syncline/lease/trash", b"renewed", &[])
    }));
    let fault = replica.trash_empty("r").await.unwrap_err();
    assert!(fault.is(Kind::Busy) && fault.what.contains("dead"));
    assert!(store.bytes(".syncline/trash/r/f").is_some());
    *clock.each.lock().unwrap() = None;
    replica.trash_empty("r").await.unwrap();
    assert!(store.keys().is_empty());
    assert!(replica.trash_empty("../x").await.unwrap_err().is(Kind::Invalid));
}

#[tokio::test]
async fn what_is_staged_must_be_what_was_promised() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    for (promised, sent) in [(3, &b"ab"[..]), (1, b"ab")] {
        let new = Entry::File(meta(), syncline_model::Content::unread(promised), None);
        assert!(
            edit.stage(&path("f"), &new, Text::new(sent))
                .await
                .unwrap_err()
                .is(Kind::Changed)
        );
    }
    let content = syncline_model::Content {
        size: 2,
        digest: Some(Digest([1; 32])),
        md5: None,
    };
    let new = Entry::File(meta(), content, None);
    assert!(
        edit.stage(&path("f"), &new, Text::new(b"ab"))
            .await
            .unwrap_err()
            .is(Kind::Corrupt)
    );
    let long = "x/".repeat(600) + "f";
    let fault = edit
        .stage(&path(&long), &file(b"x"), Text::new(b"x"))
        .await
        .unwrap_err();
    assert!(fault.is(Kind::Invalid));
    for own in [".syncline/marker.json", ".syncline"] {
        assert!(
            edit.stage(&path(own), &file(b"x"), Text::new(b"x"))
                .await
                .unwrap_err()
                .is(Kind::Invalid)
        );
    }
    edit.finish().await.unwrap();
    assert!(store.tree().is_empty());
}

#[tokio::test]
async fn many_small_drafts_wait_beside_the_tree_and_not_in_memory() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let bytes = vec![7; 1 << 20];
    let mut staged = Vec::new();
    for n in 0..70 {
        staged.push(
            edit.stage(&path(&format!("f{n}")), &file(&bytes), Text::new(&bytes))
                .await
                .unwrap(),
        );
    }
    assert_eq!(store.keys().len(), 6, "{:?}", store.keys());
    assert!(store.tree().is_empty(), "nothing is visible yet");
    for (n, staged) in staged.into_iter().enumerate().skip(1) {
        edit.apply(&change(&format!("f{n}"), None, Some(file(&bytes))), Some(staged))
            .await
            .unwrap();
    }
    edit.finish().await.unwrap();
    assert_eq!(store.tree().len(), 69);
    assert!(store.keys().iter().all(|key| !key.contains("stage")));
    assert_eq!(
        store.world.lock().unwrap().objects["f69"].metadata["mtime"],
        "1700000000.123456789"
    );
}

#[tokio::test]
async fn b5_an_answer_that_was_lost_is_no_conflict() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    // The first request arrived, its answer did not; what is sent again is refused.
    put(&edit, "f", None, b"bytes").await;
    put(&edit, "f", None, b"bytes").await;
    assert!(
        try_put(&edit, "f", None, b"other")
            .await
            .unwrap_err()
            .is(Kind::Changed)
    );
}

#[tokio::test]
async fn what_this_session_does_not_carry_is_kept() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let mut full = meta();
    full.xattrs = Some(Box::new(vec![(b"user.a".to_vec(), b"1".to_vec())]));
    let new = Entry::File(full.clone(), syncline_model::Content::unread(1), None);
    let staged = edit.stage(&path("f"), &new, Text::new(b"x")).await.unwrap();
    edit.apply(&change("f", None, Some(new)), Some(staged))
        .await
        .unwrap();
    edit.finish().await.unwrap();
    // A session without modes and attributes replaces the bytes, then moves the file.
    let classes = syncline_model::Classes {
        mode: false,
        ..Default::default()
    };
    let scope = syncline_model::Scope {
        classes,
        ..Default::default()
    };
    let two = replica_of(&store);
    let old = two.find(&path("f"), &scope).await.unwrap().unwrap();
    assert_eq!(
        (old.entry.meta().unwrap().mode, &old.entry.meta().unwrap().xattrs),
        (None, &None)
    );
    let edit = two
        .edit(&syncline_replica::EditOptions { classes, ..run("r2") })
        .await
        .unwrap();
    let bare = Meta { mode: None, ..meta() };
    let new = Entry::File(bare, syncline_model::Content::unread(2), None);
    let staged = edit.stage(&path("f"), &new, Text::new(b"22")).await.unwrap();
    let now = edit
        .apply(&change("f", Some(old), Some(new)), Some(staged))
        .await
        .unwrap()
        .now
        .unwrap();
    let to = Change {
        from: Some(From::Move(path("f"))),
        ..change("g", None, Some(now.entry))
    };
    edit.apply(&to, None).await.unwrap();
    edit.finish().await.unwrap();
    assert_eq!(tree(&replica).await[0].what.entry.meta(), Some(&full));
}

#[tokio::test]
async fn links_that_are_made_at_once_share_their_tables() {
    let store = Arc::new(MemStore::new());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    store.reset();
    let links = (0..64).map(|n| {
        let edit = edit.clone();
        async move {
            let link = Entry::Link(Meta::default(), format!("to{n}").into_bytes().into());
            edit.apply(&change(&format!("l{n}"), None, Some(link)), None)
                .await
                .unwrap();
        }
    });
    futures::future::join_all(links).await;
    // In memory nothing waits, so every write is alone; what counts is that none is lost or doubled.
    edit.finish().await.unwrap();
    let found = tree(&replica_of(&store)).await;
    assert!(found.len() == 64 && found.iter().all(|row| matches!(row.what.entry, Entry::Link(..))));
}

#[tokio::test]
async fn a_link_is_never_seen_as_a_file_wherever_its_maker_dies() {
    for die in 0..6 {
        let store = Arc::new(MemStore::new());
        let replica = replica(&store, "one");
        let edit = replica.edit(&run("r")).await.unwrap();
        {
            let mut world = store.world.lock().unwrap();
            world.die_after = Some(world.writes + die);
        }
        let link = Entry::Link(Meta::default(), b"target"[..].into());
        let done = edit
            .apply(&change("l", None, Some(link.clone())), None)
            .await
            .is_ok();
        let found = tree(&replica_of(&store)).await;
        assert!(found.iter().all(|row| row.what.entry == link), "died after {die}");
        assert!(!done || found.len() == 1);
    }
}

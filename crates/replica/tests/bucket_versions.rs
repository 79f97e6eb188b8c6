//! The trash of a bucket that keeps versions: notes in the place of copies (design 0005).

#![allow(clippy::unwrap_used)]

mod bucket_support;

use std::sync::Arc;

use bucket_support::*;
use syncline_model::{Change, From, Kind, TrashRef};
use syncline_replica::{BucketReplica, Replica};

/// Versions of the tree's own keys that are kept, by key.
fn kept(store: &MemStore) -> Vec<String> {
    let world = store.world.lock().unwrap();
    let keys = world.before.keys().map(|(key, _)| key.clone());
    keys.filter(|key| !key.starts_with(".syncline/")).collect()
}

fn back(at: &str, old: Option<syncline_model::Observation>, from: &TrashRef, bytes: &[u8]) -> Change {
    Change {
        from: Some(From::Trash(from.clone())),
        ..change(at, old, Some(file(bytes)))
    }
}

async fn read(replica: &BucketReplica, at: &TrashRef) -> Vec<u8> {
    contents(replica.trash_read(at).await.unwrap()).await
}

/// A run that dies when it has noted what it is about to replace.
async fn killed(store: &Arc<MemStore>, run_name: &str) -> TrashRef {
    let replica = replica(store, "one");
    let seen = find(&replica, "f").await;
    let edit = replica.edit(&run(run_name)).await.unwrap();
    let staged = edit
        .stage(&path("f"), &file(b"never"), Text::new(b"never"))
        .await
        .unwrap();
    {
        let mut world = store.world.lock().unwrap();
        world.die_after = Some(world.writes + 1);
    }
    let change = change("f", seen, Some(file(b"never")));
    assert!(
        edit.apply(&change, Some(staged))
            .await
            .unwrap_err()
            .is(Kind::Offline)
    );
    store.world.lock().unwrap().die_after = None;
    TrashRef {
        run: run_name.to_owned(),
        path: path("f"),
    }
}

#[tokio::test]
async fn s23_what_a_killed_run_had_noted_is_dropped_neither_while_it_stands_nor_while_another_run_needs_it() {
    let store = Arc::new(MemStore::versioned());
    store.put("f", b"old", &[]);
    let dead = killed(&store, "r1").await;
    let second = killed(&store, "r2").await;
    let replica = replica(&store, "one");
    assert_eq!(read(&replica, &dead).await, b"old");
    replica.trash_empty("r2").await.unwrap();
    assert!(
        replica
            .trash_read(&second)
            .await
            .map(drop)
            .unwrap_err()
            .is(Kind::NotFound)
    );
    assert_eq!(store.bytes("f").unwrap(), "old", "it stands");
    let seen = find(&replica, "f").await;
    let edit = replica.edit(&run("r3")).await.unwrap();
    let done = try_put(&edit, "f", seen, b"new").await.unwrap();
    edit.finish().await.unwrap();
    replica.trash_empty("r1").await.unwrap();
    let trashed = done.trashed.unwrap();
    assert_eq!(
        read(&replica, &trashed).await,
        b"old",
        "the trash of another run needs it"
    );
    replica.trash_empty("r3").await.unwrap();
    assert_eq!(kept(&store), [""; 0], "and now nobody");
    assert_eq!(store.bytes("f").unwrap(), "new");
}

#[tokio::test]
async fn a_version_that_the_bucket_has_dropped_is_said_and_nothing_else_is_lost() {
    let store = Arc::new(MemStore::versioned());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let first = put(&edit, "f", None, b"first").await;
    let other = put(&edit, "g", None, b"other").await;
    let gone = try_put(&edit, "f", Some(first), b"second").await.unwrap();
    let stays = edit.apply(&change("g", Some(other), None), None).await.unwrap();
    edit.finish().await.unwrap();
    store
        .world
        .lock()
        .unwrap()
        .before
        .retain(|(key, _), _| key != "f");
    let gone_at = gone.trashed.unwrap();
    let listed = rows(replica.trash_list("r").await.unwrap()).await;
    assert_eq!(listed.len(), 2, "what was there is still told");
    let fault = replica.trash_read(&gone_at).await.map(drop).unwrap_err();
    assert!(
        fault.is(Kind::NotFound) && fault.what.contains("no longer keeps"),
        "{fault}"
    );
    assert!(fault.hint.as_ref().unwrap().contains("lifecycle"));
    let edit = replica.edit(&run("undo")).await.unwrap();
    let seen = find(&replica, "f").await;
    let fault = edit
        .apply(&back("f", seen, &gone_at, b"first"), None)
        .await
        .unwrap_err();
    assert!(
        fault.is(Kind::NotFound) && fault.what.contains("no longer keeps"),
        "{fault}"
    );
    assert_eq!(store.bytes("f").unwrap(), "second");
    assert!(
        store.keys().iter().all(|key| !key.contains("trash/undo")),
        "nothing was displaced"
    );
    edit.apply(&back("g", None, &stays.trashed.unwrap(), b"other"), None)
        .await
        .unwrap();
    edit.finish().await.unwrap();
    assert_eq!(store.bytes("g").unwrap(), "other");
    replica.trash_empty("r").await.unwrap();
}

#[tokio::test]
async fn where_versioning_was_switched_off_meanwhile_what_has_no_version_is_copied() {
    let store = Arc::new(MemStore::versioned());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let first = put(&edit, "f", None, b"first").await;
    // The store is still believed to keep versions; the object has none.
    store.world.lock().unwrap().objects.get_mut("f").unwrap().version = None;
    let done = try_put(&edit, "f", Some(first), b"second").await.unwrap();
    edit.finish().await.unwrap();
    assert_eq!(store.asked("copy"), 1);
    assert_eq!(read(&replica, &done.trashed.unwrap()).await, b"first");
}

#[tokio::test]
async fn a_file_as_long_as_a_note_is_no_note() {
    for store in [MemStore::versioned(), MemStore::new()].map(Arc::new) {
        let replica = replica(&store, "one");
        let edit = replica.edit(&run("r")).await.unwrap();
        let long = vec![b'x'; 3989];
        let mut kept = Vec::new();
        let mut at = put(&edit, "f", None, &long).await;
        for n in 0..2u8 {
            let done = try_put(&edit, "f", Some(at), &[&long[1..], &[n][..]].concat())
                .await
                .unwrap();
            kept.push(done.trashed.unwrap());
            at = done.now.unwrap();
        }
        edit.finish().await.unwrap();
        assert_eq!(read(&replica, &kept[0]).await, long);
        let listed = rows(replica.trash_list("r").await.unwrap()).await;
        assert!(
            listed.iter().all(|row| row.what.entry.size() == 3989),
            "{listed:?}"
        );
        replica.trash_empty("r").await.unwrap();
        assert!(store.keys().iter().all(|key| !key.contains("trash")));
        assert_eq!(self::kept(&store), [""; 0]);
    }
}

#[tokio::test]
async fn a_long_name_in_the_trash_and_one_displaced_twice_come_back() {
    let store = Arc::new(MemStore::versioned());
    let replica = replica(&store, "one");
    let edit = replica.edit(&run("r")).await.unwrap();
    let long = vec!["d".repeat(200); 5].join("/");
    let mut kept = Vec::new();
    for name in [long.as_str(), "a.1", "a"] {
        let mut at = put(&edit, name, None, name.as_bytes()).await;
        for n in 0..2u8 {
            let done = try_put(&edit, name, Some(at), &[n]).await.unwrap();
            kept.push(done.trashed.unwrap());
            at = done.now.unwrap();
        }
    }
    edit.finish().await.unwrap();
    assert_eq!(store.asked("copy"), 0);
    assert_eq!(read(&replica, &kept[0]).await, long.as_bytes());
    assert_eq!(read(&replica, &kept[2]).await, b"a.1");
    assert_eq!(read(&replica, &kept[4]).await, b"a");
    for at in [1, 3, 5] {
        assert_eq!(read(&replica, &kept[at]).await, [0]);
    }
    replica.trash_empty("r").await.unwrap();
    assert_eq!(self::kept(&store), [""; 0]);
}

//! Moves, and what a move that was killed leaves.

use super::*;

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
async fn s23_a_move_killed_at_any_write_is_finished_before_the_next_look() {
    let mut met = BTreeSet::new();
    for die in 0..400 {
        let store = Arc::new(MemStore::new());
        let replica = full_dir(&store).await;
        let edit = replica.edit(&run("links")).await.unwrap();
        for n in 0..3 {
            let link = Entry::Link(Meta::default(), format!("target{n}").into_bytes().into());
            let link = change(&format!("from/s{n}/link"), None, Some(link));
            edit.apply(&link, None).await.unwrap();
        }
        edit.finish().await.unwrap();
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
        for seen in tree(&bucket_support::replica(&store, "two")).await {
            let named_so = seen.slot.path_bytes().ends_with(b"link");
            let is_link = matches!(seen.what.entry, Entry::Link(..));
            assert_eq!(named_so, is_link, "{seen:?} (killed after {die})");
        }
        let again = bucket_support::replica(&store, "one");
        let left = store.keys().iter().any(|key| key.contains("intents"));
        let runs = ["r".to_owned()];
        assert!(!again.unfinished(&["another".to_owned()]).await.unwrap());
        assert_eq!(again.unfinished(&runs).await.unwrap(), left);
        again.recover(&runs).await.unwrap();
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
    replica.recover(&["r".to_owned()]).await.unwrap();
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

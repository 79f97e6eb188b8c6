//! What is displaced is kept, and brought back.

use super::*;

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

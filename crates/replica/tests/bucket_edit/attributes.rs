//! What has no bytes: directories, attributes, links.

use super::*;

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

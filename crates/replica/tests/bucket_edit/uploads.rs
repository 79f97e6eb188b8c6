//! Uploads: in parts, broken off, staged.

use super::*;

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

//! Two that change the same thing, and answers that were lost.

use super::*;

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

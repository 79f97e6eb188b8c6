//! What the trash promises: all that was displaced comes back.

use super::*;

pub(super) async fn undo(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run-1").await;
    trial.make("d", dir()).await;
    trial.put("d/f", b"precious").await;
    let file_kept = trial.remove("d/f").await.trashed.unwrap();
    let dir_kept = trial.remove("d").await.trashed;
    trial.edit.finish().await.unwrap();
    drop(trial);
    let trial = Trial::new(&replica, "run-2").await;
    if let Some(dir_kept) = dir_kept {
        trial
            .apply("d", None, Some(dir()), Some(From::Trash(dir_kept)), None)
            .await
            .unwrap();
    } else {
        trial.make("d", dir()).await;
    }
    trial.put("d/f", b"in the way").await;
    let entry = file(b"precious");
    refused(
        trial
            .apply(
                "d/f",
                None,
                Some(entry.clone()),
                Some(From::Trash(file_kept.clone())),
                None,
            )
            .await,
        Kind::Changed,
    );
    let old = trial.have("d/f").await;
    let back = trial
        .apply(
            "d/f",
            Some(old),
            Some(entry.clone()),
            Some(From::Trash(file_kept.clone())),
            None,
        )
        .await
        .unwrap();
    assert_eq!(trial.bytes("d/f").await, b"precious");
    assert!(trial.have("d/f").await.unchanged_since(&back.now.unwrap()));
    assert_eq!(trial.trashed(&back.trashed.unwrap()).await, b"in the way");
    let missing = TrashRef {
        run: "run-1".into(),
        path: path("never/was"),
    };
    refused(
        trial
            .apply("x", None, Some(entry), Some(From::Trash(missing)), None)
            .await,
        Kind::NotFound,
    );
    trial.edit.finish().await.unwrap();
}

pub(super) async fn no_trash(replica: Arc<dyn Replica>) {
    let trial = Trial::with(&replica, "run", |options| options.trash = false).await;
    trial.make("d", dir()).await;
    trial.put("d/f", b"1").await;
    assert_eq!(trial.put("d/f", b"2").await.trashed, None);
    assert_eq!(trial.bytes("d/f").await, b"2");
    assert_eq!(trial.remove("d/f").await.trashed, None);
    assert_eq!(trial.remove("d").await.trashed, None);
    trial.edit.finish().await.unwrap();
    assert!(replica.trash().await.unwrap().is_empty());
}

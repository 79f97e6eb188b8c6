//! What applied changes promise: files, directories, other kinds, and refusals where something else stands.

use super::*;

pub(super) async fn files(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run-1").await;
    let made = trial.put("f", b"one").await;
    assert_eq!(made.trashed, None);
    assert_eq!(trial.bytes("f").await, b"one");
    let changed = trial.put("f", b"second").await;
    assert_eq!(trial.bytes("f").await, b"second");
    assert_eq!(trial.trashed(&changed.trashed.unwrap()).await, b"one");
    let empty = trial.put("empty", b"").await;
    assert_eq!(empty.now.unwrap().entry.size(), 0);
    let big = vec![0x5a; 300_000];
    trial.put("big", &big).await;
    assert_eq!(trial.bytes("big").await, big);
    let gone = trial.remove("f").await;
    assert_eq!((gone.now, trial.find("f").await), (None, None));
    assert_eq!(trial.trashed(&gone.trashed.unwrap()).await, b"second");
    trial.edit.flush().await.unwrap();
    trial.edit.finish().await.unwrap();
    assert_eq!(trial.names().await, ["big", "empty"]);
}

pub(super) async fn reports(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    trial.make("d", dir()).await;
    let made = trial.put("d/f", b"bytes").await.now.unwrap();
    assert_eq!(
        made.entry.content().unwrap().digest,
        file(b"bytes").content().unwrap().digest
    );
    let changed = trial.put("d/f", b"other bytes").await.now.unwrap();
    assert!(!changed.unchanged_since(&made));
    let seen = trial
        .rows()
        .await
        .into_iter()
        .find(|seen| seen.slot.to_string() == "d/f")
        .unwrap();
    assert!(
        seen.what.unchanged_since(&changed),
        "{:?} and {changed:?}",
        seen.what
    );
    assert_eq!(trial.have("d/f").await, seen.what);
    if trial.classes().times {
        assert_eq!(seen.what.entry.meta().unwrap().mtime, at(1_500_000_000));
    }
    if trial.classes().mode {
        assert_eq!(seen.what.entry.meta().unwrap().mode, Some(0o644));
    }
    let content = replica.digest(&path("d/f"), &seen.what).await.unwrap();
    assert_eq!(content.digest, file(b"other bytes").content().unwrap().digest);
}

pub(super) async fn wrong_old(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    trial.put("f", b"first").await;
    let stale = trial.have("f").await;
    trial.put("f", b"newer").await;
    refused(
        trial.put_over("f", Some(stale.clone()), b"lost").await,
        Kind::Changed,
    );
    refused(trial.put_over("f", None, b"lost").await, Kind::Changed);
    refused(
        trial.apply("f", Some(stale.clone()), None, None, None).await,
        Kind::Changed,
    );
    refused(
        trial.put_over("absent", Some(stale.clone()), b"lost").await,
        Kind::Changed,
    );
    refused(
        trial.apply("absent", Some(stale.clone()), None, None, None).await,
        Kind::Changed,
    );
    refused(
        trial.apply("f", None, Some(dir()), None, None).await,
        Kind::Changed,
    );
    refused(
        trial
            .apply("f", Some(stale.clone()), Some(dir()), None, None)
            .await,
        Kind::Changed,
    );
    let mut touched = file(b"first");
    touched.meta_mut().unwrap().mtime = at(1);
    refused(
        trial.apply("f", Some(stale), Some(touched), None, None).await,
        Kind::Changed,
    );
    assert_eq!(trial.bytes("f").await, b"newer");
    trial.edit.finish().await.unwrap();
    assert_eq!(trial.names().await, ["f"]);
}

pub(super) async fn wrong_bytes(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    refused(
        trial.stage("f", &file(b"announced"), b"different").await,
        Kind::Corrupt,
    );
    refused(
        trial.stage("f", &file(b"announced"), b"short").await,
        Kind::Changed,
    );
    refused(
        trial.stage("f", &file(b"announced"), b"far too long").await,
        Kind::Changed,
    );
    let mut unknown = file(b"x");
    *unknown.content_mut().unwrap() = Content::unread(5);
    let staged = trial.stage("f", &unknown, b"hello").await.unwrap();
    assert_eq!(
        staged.entry.content().unwrap().digest,
        file(b"hello").content().unwrap().digest
    );
    trial.edit.finish().await.unwrap();
    assert!(trial.names().await.is_empty());
}

pub(super) async fn dirs(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    trial.make("a", dir()).await;
    trial.make("a/b", dir()).await;
    trial.put("a/b/f", b"x").await;
    let full = trial.have("a/b").await;
    refused(
        trial.apply("a/b", Some(full), None, None, None).await,
        Kind::Exists,
    );
    let below = trial.apply("missing/f", None, Some(dir()), None, None).await;
    assert!(
        below.is_err() || !replica.profile().renames,
        "a parent that is not there"
    );
    trial.remove("a/b/f").await;
    trial.remove("a/b").await;
    assert_eq!(trial.names().await, ["a/"]);
    trial.edit.finish().await.unwrap();
    let mut walk = replica.trash_list("run").await.unwrap();
    let kept: Vec<String> = walk
        .next()
        .await
        .unwrap()
        .unwrap()
        .iter()
        .map(|seen| seen.slot.to_string())
        .collect();
    assert_eq!(kept, ["a/", "a/b/", "a/b/f"]);
}

pub(super) async fn kinds(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    trial.put("x", b"file").await;
    let old = trial.have("x").await;
    let applied = trial
        .apply("x", Some(old), Some(dir()), None, None)
        .await
        .unwrap();
    assert_eq!(trial.trashed(&applied.trashed.unwrap()).await, b"file");
    assert_eq!(trial.names().await, ["x/"]);
    trial.put("x/in", b"1").await;
    let old = trial.have("x").await;
    let staged = trial.stage("x", &file(b"new"), b"new").await.unwrap();
    refused(
        trial
            .apply("x", Some(old.clone()), Some(file(b"new")), None, Some(staged))
            .await,
        Kind::Exists,
    );
    trial.remove("x/in").await;
    assert!(trial.put_over("x", Some(old), b"new").await.is_ok());
    assert_eq!(trial.bytes("x").await, b"new");
    if replica.profile().symlinks {
        let old = trial.have("x").await;
        let link = Entry::Link(Meta::default(), Box::from(&b"somewhere"[..]));
        trial.apply("x", Some(old), Some(link), None, None).await.unwrap();
        assert!(matches!(trial.have("x").await.entry, Entry::Link(_, target) if *target == *b"somewhere"));
    }
    trial.edit.finish().await.unwrap();
}

pub(super) async fn twice(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run-1").await;
    let mut kept = Vec::new();
    trial.make("d", dir()).await;
    for bytes in [&b"first"[..], b"second", b"third"] {
        trial.put("d/f", bytes).await;
        kept.push((trial.remove("d/f").await.trashed.unwrap(), bytes));
    }
    // A file where the trash needs a directory, and the other way round.
    trial.remove("d").await;
    trial.put("d", b"now a file").await;
    kept.push((trial.remove("d").await.trashed.unwrap(), b"now a file"));
    trial.edit.finish().await.unwrap();
    drop(trial);
    let trial = Trial::new(&replica, "run-2").await;
    trial.make("d", dir()).await;
    trial.put("d/f", b"fourth").await;
    kept.push((trial.remove("d/f").await.trashed.unwrap(), b"fourth"));
    trial.edit.finish().await.unwrap();
    for (place, bytes) in &kept {
        assert_eq!(trial.trashed(place).await, *bytes, "{place:?}");
    }
    let runs: Vec<String> = replica
        .trash()
        .await
        .unwrap()
        .into_iter()
        .map(|run| run.run)
        .collect();
    assert_eq!(runs, ["run-1", "run-2"]);
    replica.trash_empty("run-1").await.unwrap();
    refused(replica.trash_read(&kept[0].0).await.map(|_| ()), Kind::NotFound);
    assert_eq!(trial.trashed(&kept[4].0).await, b"fourth");
    assert_eq!(replica.trash().await.unwrap().len(), 1);
}

pub(super) async fn durability(replica: Arc<dyn Replica>) {
    for (run, durability) in [
        ("run-1", Durability::File),
        ("run-2", Durability::None),
        ("run-3", Durability::Batch),
    ] {
        let trial = Trial::with(&replica, run, |options| options.durability = durability).await;
        trial.put("f", run.as_bytes()).await;
        trial.edit.flush().await.unwrap();
        let again = trial.put("g", run.as_bytes()).await;
        assert!(again.now.is_some());
        trial.remove("g").await;
        let staged = trial.stage("left", &file(b"over"), b"over").await.unwrap();
        trial.edit.flush().await.unwrap();
        trial.edit.finish().await.unwrap();
        drop(staged);
        assert_eq!(trial.bytes("f").await, run.as_bytes());
        assert_eq!(trial.names().await, ["f"]);
    }
}

pub(super) async fn many(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    trial.make("d", dir()).await;
    let names: Vec<String> = (0..200).map(|n| format!("d/{n}")).collect();
    let put = names
        .iter()
        .map(|name| trial.put_over(name, None, name.as_bytes()));
    for applied in futures::future::join_all(put).await {
        applied.unwrap();
    }
    trial.edit.flush().await.unwrap();
    assert_eq!(trial.rows().await.len(), 201);
    trial.edit.finish().await.unwrap();
}

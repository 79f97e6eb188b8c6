//! What looking promises: bodies, attributes, and who answers.

use super::*;

pub(super) async fn attributes(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    trial.put("f", b"bytes").await;
    trial.make("d", dir()).await;
    for name in ["f", "d"] {
        let old = trial.have(name).await;
        let mut new = old.entry.clone();
        let meta = new.meta_mut().unwrap();
        (meta.mode, meta.mtime) = (
            Some(0o600 | if name == "d" { 0o100 } else { 0 }),
            at(1_200_000_000),
        );
        let applied = trial
            .apply(name, Some(old), Some(new.clone()), None, None)
            .await
            .unwrap();
        let now = trial.have(name).await;
        assert_eq!(applied.trashed, None);
        assert_eq!(applied.now.as_ref().unwrap().tag, now.tag);
        if trial.classes().times && (name == "f" || now.entry.meta().unwrap().mtime.is_some()) {
            assert_eq!(now.entry.meta().unwrap().mtime, at(1_200_000_000));
        }
        if trial.classes().mode {
            assert_eq!(now.entry.meta().unwrap().mode, new.meta().unwrap().mode);
        }
    }
    assert_eq!(trial.bytes("f").await, b"bytes");
    trial.edit.finish().await.unwrap();
}

pub(super) async fn reading(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    let bytes: Vec<u8> = (0..2_500_000u32).map(|n| (n % 251) as u8).collect();
    trial.put("f", &bytes).await;
    let expect = trial.have("f").await;
    let tail = drain(replica.read(&path("f"), &expect, 2_400_001).await.unwrap())
        .await
        .unwrap();
    assert!(tail == bytes[2_400_001..]);
    trial.put("f", b"now short").await;
    refused(
        replica.read(&path("f"), &expect, 0).await.map(|_| ()),
        Kind::Changed,
    );
    refused(replica.digest(&path("f"), &expect).await, Kind::Changed);
    trial.remove("f").await;
    refused(replica.digest(&path("f"), &expect).await, Kind::Changed);
    assert_eq!(trial.find("f").await, None);
    assert_eq!(trial.find("no/such/dir/f").await, None);
    let mut wanted = trial.put("g", b"hello").await.now.unwrap();
    wanted.entry.content_mut().unwrap().md5 = Some([0; 16]);
    let content = replica.digest(&path("g"), &wanted).await.unwrap();
    assert_eq!(content.md5.unwrap()[..4], [0x5d, 0x41, 0x40, 0x2a]);
}

pub(super) async fn xattrs(replica: Arc<dyn Replica>) {
    if !replica.profile().classes.xattrs {
        return;
    }
    let trial = Trial::new(&replica, "run").await;
    let pair = |value: &[u8]| vec![(b"user.note".to_vec(), value.to_vec())];
    let with = |bytes: &[u8], value: &[u8]| {
        let mut entry = file(bytes);
        entry.meta_mut().unwrap().xattrs = Some(Box::new(pair(value)));
        entry
    };
    let staged = trial.stage("f", &with(b"1", b"a"), b"1").await.unwrap();
    trial
        .apply("f", None, Some(with(b"1", b"a")), None, Some(staged))
        .await
        .unwrap();
    assert_eq!(
        **trial
            .have("f")
            .await
            .entry
            .meta()
            .unwrap()
            .xattrs
            .as_ref()
            .unwrap(),
        pair(b"a")
    );
    let old = trial.have("f").await;
    let mut bare = old.entry.clone();
    bare.meta_mut().unwrap().xattrs = Some(Box::default());
    trial.apply("f", Some(old), Some(bare), None, None).await.unwrap();
    assert!(
        trial
            .have("f")
            .await
            .entry
            .meta()
            .unwrap()
            .xattrs
            .as_ref()
            .unwrap()
            .is_empty()
    );
    let old = trial.have("f").await;
    trial
        .apply("f", Some(old), Some(with(b"1", b"kept")), None, None)
        .await
        .unwrap();
    trial.edit.finish().await.unwrap();
    drop(trial);
    // A run that does not carry them leaves them where they are, also on a file that it replaces.
    let plain = Trial::with(&replica, "run-2", |options| options.classes.xattrs = false).await;
    plain.put("f", b"new bytes").await;
    plain.edit.finish().await.unwrap();
    drop(plain);
    let trial = Trial::new(&replica, "run-3").await;
    assert_eq!(
        **trial
            .have("f")
            .await
            .entry
            .meta()
            .unwrap()
            .xattrs
            .as_ref()
            .unwrap(),
        pair(b"kept")
    );
}

pub(super) async fn identity(replica: Arc<dyn Replica>) {
    let first = replica.identity().await.unwrap();
    assert_eq!(first.marker, None);
    for generation in [1, 2] {
        let marker = Marker {
            id: "0123456789abcdef".into(),
            generation,
        };
        replica.mark(&marker).await.unwrap();
        let now = replica.identity().await.unwrap();
        assert_eq!((&now.place, now.marker), (&first.place, Some(marker)));
    }
    if let (Some(a), Some(b)) = (replica.clock().await.unwrap(), replica.clock().await.unwrap()) {
        assert!(a <= b);
    }
    let trial = Trial::new(&replica, "run").await;
    assert!(
        trial.rows().await.is_empty(),
        "what is ours is not part of the tree"
    );
    replica.space().await.unwrap();
}

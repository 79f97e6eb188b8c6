//! What moves, exchanges and names of one file promise.

use super::*;

/// `h` and `target/d2/e/f` change names, then two directories.
pub(super) async fn exchanges(trial: &Trial) {
    let with = |text: &str| Some(From::Exchange(path(text)));
    let applied = trial
        .apply("h", None, Some(file(b"deep")), with("target/d2/e/f"), None)
        .await
        .unwrap();
    assert!(trial.have("h").await.unchanged_since(&applied.now.unwrap()));
    let applied = trial
        .apply(
            "target/d2/e/f",
            None,
            Some(file(b"plain")),
            with("target/d2/e/f"),
            None,
        )
        .await
        .unwrap();
    assert!(
        trial
            .have("target/d2/e/f")
            .await
            .unchanged_since(&applied.now.unwrap())
    );
    assert_eq!(trial.bytes("h").await, b"deep");
    assert_eq!(trial.bytes("target/d2/e/f").await, b"plain");
    trial.make("other", dir()).await;
    trial
        .apply("other", None, Some(dir()), with("target/d2"), None)
        .await
        .unwrap();
    assert_eq!(trial.bytes("other/e/f").await, b"plain");
    refused(
        trial
            .apply("nothing", None, Some(file(b"deep")), with("h"), None)
            .await,
        Kind::Changed,
    );
    assert_eq!(trial.bytes("h").await, b"deep");
    assert_eq!(
        trial.names().await,
        ["h", "other/", "other/e/", "other/e/f", "target/", "target/d2/"]
    );
}

pub(super) async fn moves(replica: Arc<dyn Replica>) {
    if !replica.profile().renames {
        return;
    }
    let trial = Trial::new(&replica, "run").await;
    let from = |text: &str| Some(From::Move(path(text)));
    for name in ["d", "d/e", "target"] {
        trial.make(name, dir()).await;
    }
    trial.put("d/e/f", b"deep").await;
    trial.put("g", b"plain").await;
    trial.put("h", b"displaced").await;
    trial
        .apply("target/d2", None, Some(dir()), from("d"), None)
        .await
        .unwrap();
    assert_eq!(trial.bytes("target/d2/e/f").await, b"deep");
    refused(
        trial
            .apply("h", None, Some(file(b"plain")), from("g"), None)
            .await,
        Kind::Exists,
    );
    let now = trial
        .apply("g2", None, Some(file(b"plain")), from("g"), None)
        .await
        .unwrap()
        .now
        .unwrap();
    assert!(trial.have("g2").await.unchanged_since(&now));
    let old = trial.have("h").await;
    let onto = trial
        .apply("h", Some(old), Some(file(b"plain")), from("g2"), None)
        .await
        .unwrap();
    assert_eq!(trial.bytes("h").await, b"plain");
    assert_eq!(trial.trashed(&onto.trashed.unwrap()).await, b"displaced");
    refused(
        trial
            .apply("i", None, Some(file(b"plain")), from("gone"), None)
            .await,
        Kind::Changed,
    );
    refused(
        trial
            .apply("i", None, Some(file(b"another size")), from("h"), None)
            .await,
        Kind::Changed,
    );
    assert_eq!(
        trial.names().await,
        ["h", "target/", "target/d2/", "target/d2/e/", "target/d2/e/f"]
    );
    if replica.profile().exchanges {
        exchanges(&trial).await;
    }
    trial.edit.finish().await.unwrap();
}

pub(super) async fn links(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    if replica.profile().symlinks {
        for (name, target) in [("out", "../outside"), ("loop", "loop"), ("abs", "/etc/passwd")] {
            trial
                .make(name, Entry::Link(Meta::default(), Box::from(target.as_bytes())))
                .await;
        }
        let old = trial.have("out").await;
        trial
            .apply(
                "out",
                Some(old),
                Some(Entry::Link(Meta::default(), Box::from(&b"x"[..]))),
                None,
                None,
            )
            .await
            .unwrap();
        assert!(matches!(trial.have("out").await.entry, Entry::Link(_, target) if *target == *b"x"));
        let below = trial.put_over("loop/f", None, b"must not arrive").await;
        refused(below, Kind::Changed);
        trial.remove("abs").await;
    }
    if replica.profile().specials {
        trial
            .make(
                "pipe",
                Entry::Special(
                    Meta {
                        mode: Some(0o640),
                        ..Meta::default()
                    },
                    Special::Fifo,
                ),
            )
            .await;
        assert!(matches!(
            trial.have("pipe").await.entry,
            Entry::Special(_, Special::Fifo)
        ));
        trial.remove("pipe").await;
    }
    if trial.classes().links {
        trial.put("one", b"shared").await;
        trial.put("three", b"other").await;
        let from = || Some(From::Link(path("one")));
        trial
            .apply("two", None, Some(file(b"shared")), from(), None)
            .await
            .unwrap();
        let old = trial.have("three").await;
        let applied = trial
            .apply("three", Some(old), Some(file(b"shared")), from(), None)
            .await
            .unwrap();
        assert_eq!(trial.trashed(&applied.trashed.unwrap()).await, b"other");
        let ids: Vec<_> = trial
            .rows()
            .await
            .iter()
            .filter_map(|seen| match &seen.what.entry {
                Entry::File(_, _, id) => *id,
                _ => None,
            })
            .collect();
        assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        // The other names are known from before the first one went: our own work is no change of theirs.
        let (one, two) = (trial.have("one").await, trial.have("two").await);
        trial.apply("one", Some(one), None, None, None).await.unwrap();
        trial.apply("two", Some(two), None, None, None).await.unwrap();
        assert_eq!(trial.bytes("three").await, b"shared");
    }
    trial.edit.finish().await.unwrap();
}

pub(super) async fn odd_names(replica: Arc<dyn Replica>) {
    let trial = Trial::new(&replica, "run").await;
    let profile = replica.profile();
    let long = [b'n'; 255];
    let mut names: Vec<&[u8]> = vec![
        b" lead",
        b"trail ",
        b"new\nline",
        b"*?[]#\\",
        b"a -> b",
        b"-rf",
        b"CON",
        b"a:b",
        b"r\r",
        b"dot.",
        b"~",
        b"$(x)",
        b"`x`",
        b"\x1b[31m",
        b"%2e%2e",
        b"..%c0%af",
        b"...",
        b"\xe2\x80\xaertl",
        &long,
    ];
    names.push(b"\xff\xfe");
    if !profile.folds_case {
        names.extend([&b"Case"[..], b"case"]);
    }
    if !profile.normalises {
        names.extend(["\u{e9}".as_bytes(), "e\u{301}".as_bytes()]);
    }
    for name in &names {
        let at = RelPath::new(*name).unwrap();
        let entry = file(name);
        let staged = trial.edit.stage(&at, &entry, Bytewise::new(name)).await.unwrap();
        let change = Change {
            path: at,
            old: None,
            new: Some(entry),
            from: None,
        };
        trial.edit.apply(&change, Some(staged)).await.unwrap();
    }
    let rows = trial.rows().await;
    assert_eq!(rows.len(), names.len());
    for name in names {
        let at = RelPath::new(name).unwrap();
        let seen = rows.iter().find(|seen| seen.slot.path() == at).unwrap();
        let bytes = drain(replica.read(&at, &seen.what, 0).await.unwrap())
            .await
            .unwrap();
        assert_eq!(bytes, name);
        let change = Change {
            path: at,
            old: Some(seen.what.clone()),
            new: None,
            from: None,
        };
        let place = trial.edit.apply(&change, None).await.unwrap().trashed.unwrap();
        assert_eq!(trial.trashed(&place).await, name);
    }
    assert!(trial.rows().await.is_empty());
}

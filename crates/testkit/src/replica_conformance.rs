//! What every [`Replica`] promises, whatever stands behind it.
//!
//! Each case gets a fresh, empty, writable replica and looks at it only through the seam. What a profile does not
//! claim is not asked for.

#![allow(clippy::unwrap_used, clippy::new_ret_no_self, reason = "a suite of tests")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use syncline_model::{
    Change, Classes, Content, Digest, Entry, Fault, From, Kind, Marker, Meta, Observation, RelPath, Result,
    Scope, Seen, Special, Time, TrashRef,
};
use syncline_replica::seam::Durability;
use syncline_replica::{Applied, Body, Edit, EditOptions, Replica, Staged};

/// A body out of memory.
pub struct Bytewise(Vec<Bytes>);

impl Bytewise {
    /// These bytes, in pieces.
    pub fn new(bytes: &[u8]) -> Box<dyn Body> {
        Box::new(Self(
            bytes.chunks(7000).rev().map(Bytes::copy_from_slice).collect(),
        ))
    }
}

#[async_trait]
impl Body for Bytewise {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.pop())
    }

    async fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A path in a test.
pub fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

/// A time in a test, whole seconds, which every side can hold.
fn at(secs: i64) -> Option<Time> {
    Some(Time { secs, nanos: 0 })
}

/// A file of these bytes.
pub fn file(bytes: &[u8]) -> Entry {
    let digest = Some(Digest(*blake3::hash(bytes).as_bytes()));
    let meta = Meta {
        mode: Some(0o644),
        mtime: at(1_500_000_000),
        ..Meta::default()
    };
    Entry::File(
        meta,
        Content {
            size: bytes.len() as u64,
            digest,
            md5: None,
        },
        None,
    )
}

/// A directory.
pub fn dir() -> Entry {
    Entry::Dir(Meta {
        mode: Some(0o755),
        ..Meta::default()
    })
}

/// A replica that is being tried, with an edit of it.
pub struct Trial {
    /// The replica.
    pub replica: Arc<dyn Replica>,
    /// The edit under way.
    pub edit: Arc<dyn Edit>,
    scope: Scope,
}

impl Trial {
    /// Begins the run `run`.
    pub async fn new(replica: &Arc<dyn Replica>, run: &str) -> Self {
        Self::with(replica, run, |_| {}).await
    }

    /// The same with other options.
    pub async fn with(replica: &Arc<dyn Replica>, run: &str, change: impl FnOnce(&mut EditOptions)) -> Self {
        let mut classes = replica.profile().classes;
        classes.acls = false;
        let mut options = EditOptions {
            run: run.to_owned(),
            trash: true,
            classes,
            durability: Durability::Batch,
        };
        change(&mut options);
        let edit = replica.edit(&options).await.unwrap();
        let scope = Scope {
            classes: options.classes,
            ..Scope::default()
        };
        Self {
            replica: Arc::clone(replica),
            edit,
            scope,
        }
    }

    fn classes(&self) -> Classes {
        self.scope.classes
    }

    /// What stands there.
    pub async fn find(&self, at: &str) -> Option<Observation> {
        self.replica.find(&path(at), &self.scope).await.unwrap()
    }

    /// What must stand there.
    pub async fn have(&self, at: &str) -> Observation {
        self.find(at).await.unwrap_or_else(|| panic!("{at} is not there"))
    }

    /// The whole tree.
    pub async fn rows(&self) -> Vec<Seen> {
        let mut walk = self.replica.scan(&self.scope).await.unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = walk.next().await.unwrap() {
            rows.extend(batch);
        }
        assert!(rows.is_sorted_by(|a, b| a.slot < b.slot), "strictly ascending");
        rows
    }

    /// The slots of the whole tree.
    pub async fn names(&self) -> Vec<String> {
        self.rows()
            .await
            .iter()
            .map(|seen| seen.slot.to_string())
            .collect()
    }

    /// The bytes at a path.
    pub async fn bytes(&self, at: &str) -> Vec<u8> {
        let expect = self.have(at).await;
        drain(self.replica.read(&path(at), &expect, 0).await.unwrap())
            .await
            .unwrap()
    }

    /// The bytes in the trash.
    pub async fn trashed(&self, at: &TrashRef) -> Vec<u8> {
        drain(self.replica.trash_read(at).await.unwrap()).await.unwrap()
    }

    /// Stages bytes for a path.
    pub async fn stage(&self, at: &str, entry: &Entry, bytes: &[u8]) -> Result<Staged> {
        self.edit.stage(&path(at), entry, Bytewise::new(bytes)).await
    }

    /// Applies one change.
    pub async fn apply(
        &self,
        at: &str,
        old: Option<Observation>,
        new: Option<Entry>,
        from: Option<From>,
        staged: Option<Staged>,
    ) -> Result<Applied> {
        self.edit
            .apply(
                &Change {
                    path: path(at),
                    old,
                    new,
                    from,
                },
                staged,
            )
            .await
    }

    /// Puts a file over whatever stands there.
    pub async fn put(&self, at: &str, bytes: &[u8]) -> Applied {
        let old = self.find(at).await;
        self.put_over(at, old, bytes).await.unwrap()
    }

    /// Puts a file where `old` is expected.
    pub async fn put_over(&self, at: &str, old: Option<Observation>, bytes: &[u8]) -> Result<Applied> {
        let staged = self.stage(at, &file(bytes), bytes).await?;
        self.apply(at, old, Some(file(bytes)), None, Some(staged)).await
    }

    /// Makes what needs no bytes, where nothing stands.
    pub async fn make(&self, at: &str, entry: Entry) -> Applied {
        self.apply(at, None, Some(entry), None, None).await.unwrap()
    }

    /// Removes what stands there.
    pub async fn remove(&self, at: &str) -> Applied {
        let old = self.have(at).await;
        self.apply(at, Some(old), None, None, None).await.unwrap()
    }
}

/// All bytes of a body.
pub async fn drain(mut body: Box<dyn Body>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(more) = body.next().await? {
        bytes.extend(more);
    }
    Ok(bytes)
}

fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind) -> Fault {
    let fault = result.expect_err("must be refused");
    assert!(fault.is(kind), "{fault:?} is no {kind:?}");
    fault
}

type Case = (&'static str, fn(Arc<dyn Replica>) -> BoxFuture<'static, ()>);

/// Every case, by name.
pub const CASES: &[Case] = &[
    ("files come, change and go, each old one kept", |r| {
        Box::pin(files(r))
    }),
    ("what is reported is what the next scan sees", |r| {
        Box::pin(reports(r))
    }),
    ("a wrong expectation is refused and changes nothing", |r| {
        Box::pin(wrong_old(r))
    }),
    ("bytes other than announced are refused", |r| {
        Box::pin(wrong_bytes(r))
    }),
    ("directories come and go empty", |r| Box::pin(dirs(r))),
    ("s11 kinds replace one another", |r| Box::pin(kinds(r))),
    ("attributes alone", |r| Box::pin(attributes(r))),
    ("moves of files and directories", |r| Box::pin(moves(r))),
    ("s30 links, pipes and several names", |r| Box::pin(links(r))),
    ("s19 same path deleted twice", |r| Box::pin(twice(r))),
    ("s17 names of any bytes", |r| Box::pin(odd_names(r))),
    ("back from the trash", |r| Box::pin(undo(r))),
    ("without a trash nothing is kept", |r| Box::pin(no_trash(r))),
    ("reading from the middle, and what is no longer there", |r| {
        Box::pin(reading(r))
    }),
    ("extended attributes", |r| Box::pin(xattrs(r))),
    ("marker and identity", |r| Box::pin(identity(r))),
    ("durability of every kind", |r| Box::pin(durability(r))),
    ("many at once", |r| Box::pin(many(r))),
];

/// Runs every case on a replica that `fresh` makes.
pub fn check(fresh: &mut dyn FnMut() -> Arc<dyn Replica>) {
    for (name, case) in CASES {
        println!("case: {name}");
        futures::executor::block_on(case(fresh()));
    }
}

async fn files(replica: Arc<dyn Replica>) {
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

async fn reports(replica: Arc<dyn Replica>) {
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

async fn wrong_old(replica: Arc<dyn Replica>) {
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

async fn wrong_bytes(replica: Arc<dyn Replica>) {
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

async fn dirs(replica: Arc<dyn Replica>) {
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

async fn kinds(replica: Arc<dyn Replica>) {
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

async fn attributes(replica: Arc<dyn Replica>) {
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

/// `h` and `target/d2/e/f` change names, then two directories.
async fn exchanges(trial: &Trial) {
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

async fn moves(replica: Arc<dyn Replica>) {
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

async fn links(replica: Arc<dyn Replica>) {
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

async fn twice(replica: Arc<dyn Replica>) {
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

async fn odd_names(replica: Arc<dyn Replica>) {
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

async fn undo(replica: Arc<dyn Replica>) {
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

async fn no_trash(replica: Arc<dyn Replica>) {
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

async fn reading(replica: Arc<dyn Replica>) {
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

async fn xattrs(replica: Arc<dyn Replica>) {
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

async fn identity(replica: Arc<dyn Replica>) {
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

async fn durability(replica: Arc<dyn Replica>) {
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

async fn many(replica: Arc<dyn Replica>) {
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

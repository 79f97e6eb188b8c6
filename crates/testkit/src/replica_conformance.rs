//! What every [`Replica`] promises, whatever stands behind it.
//!
//! Each case gets a fresh, empty, writable replica and looks at it only through the seam. What a profile does not
//! claim is not asked for.

#![allow(clippy::unwrap_used, clippy::new_ret_no_self, reason = "a suite of tests")]

mod changes;
mod moving;
mod reading;
mod trash;

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

use changes::{dirs, durability, files, kinds, many, reports, twice, wrong_bytes, wrong_old};
use moving::{links, moves, odd_names};
use reading::{attributes, identity, reading, xattrs};
use trash::{no_trash, undo};

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

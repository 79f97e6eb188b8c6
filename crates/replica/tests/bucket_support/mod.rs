//! A store in memory that counts requests, and the small things that tests of buckets share.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use syncline_model::{
    Change, Clock, Content, Dice, Entry, Fault, Kind, Meta, Observation, RelPath, Result, Scope, Seen as Row,
    Tag, Task, Time,
};
use syncline_replica::{Applied, Body, BucketOptions, BucketReplica, Edit, EditOptions, Replica, Walk};
use syncline_store::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

#[derive(Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub tag: Tag,
    pub md5: Option<[u8; 16]>,
    pub metadata: BTreeMap<String, String>,
    pub version: Option<Version>,
}

#[derive(Default)]
pub struct World {
    pub objects: BTreeMap<String, Object>,
    /// What was replaced or removed, by key and version, where a writer's store keeps it.
    pub before: BTreeMap<(String, Version), Object>,
    pub uploads: BTreeMap<String, (String, Vec<u8>)>,
    /// Listings show this instead.
    pub stale: Option<BTreeMap<String, Object>>,
    pub asked: BTreeMap<&'static str, usize>,
    pub writes: u64,
    /// The last version that was given.
    pub numbers: u64,
    /// Refuse every write after so many.
    pub die_after: Option<u64>,
}

pub struct MemStore {
    pub world: Arc<Mutex<World>>,
    pub caps: Caps,
    next: AtomicU64,
}

impl MemStore {
    pub fn new() -> Self {
        let caps = Caps {
            if_absent: true,
            if_is: true,
            remove_if_is: true,
            sorted: true,
            tag_is_md5: true,
            metadata: true,
            reuse: true,
            versions: false,
            single_max: 8 << 20,
        };
        Self {
            world: Arc::default(),
            caps,
            next: AtomicU64::new(1),
        }
    }

    pub fn versioned() -> Self {
        let mut store = Self::new();
        store.caps.versions = true;
        store
    }

    pub fn unconditional() -> Self {
        let mut store = Self::new();
        (store.caps.if_absent, store.caps.if_is, store.caps.remove_if_is) = (false, false, false);
        store
    }

    /// The same world, seen by another client.
    pub fn again(&self) -> Self {
        Self {
            world: self.world.clone(),
            caps: self.caps.clone(),
            next: AtomicU64::new(1 << 32),
        }
    }

    pub fn count(&self, what: &'static str) {
        *self.world.lock().unwrap().asked.entry(what).or_default() += 1;
    }

    pub fn asked(&self, what: &str) -> usize {
        self.world.lock().unwrap().asked.get(what).copied().unwrap_or(0)
    }

    pub fn reset(&self) {
        self.world.lock().unwrap().asked.clear();
    }

    pub fn keys(&self) -> Vec<String> {
        self.world.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Keys that are not ours.
    pub fn tree(&self) -> Vec<String> {
        self.keys()
            .into_iter()
            .filter(|key| !key.starts_with(".syncline/"))
            .collect()
    }

    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.world
            .lock()
            .unwrap()
            .objects
            .get(key)
            .map(|object| object.bytes.clone())
    }

    /// As another tool would.
    pub fn put(&self, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) {
        let metadata = metadata
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let object = object(bytes.to_vec().into(), metadata, false);
        self.world.lock().unwrap().place(key, object, self.caps.versions);
    }

    pub fn put_parts(&self, key: &str, bytes: &[u8]) {
        let object = object(bytes.to_vec().into(), BTreeMap::new(), true);
        self.world.lock().unwrap().place(key, object, self.caps.versions);
    }
}

fn object(bytes: Bytes, metadata: BTreeMap<String, String>, parts: bool) -> Object {
    let md5: [u8; 16] = Md5::digest(&bytes).into();
    let hex: String = md5.iter().map(|b| format!("{b:02x}")).collect();
    let tag = if parts {
        format!("\"{hex}-2\"")
    } else {
        format!("\"{hex}\"")
    };
    Object {
        bytes,
        tag: Tag::Store(tag.into_bytes().into()),
        md5: (!parts).then_some(md5),
        metadata,
        version: None,
    }
}

fn blob(object: &Object, told: bool) -> Blob {
    Blob {
        size: object.bytes.len() as u64,
        tag: object.tag.clone(),
        modified: Some(Time { secs: 1, nanos: 0 }),
        md5: object.md5,
        metadata: told.then(|| object.metadata.clone()),
        version: object.version.clone().filter(|_| told),
    }
}

fn fault(kind: Kind, key: &str) -> Fault {
    Fault::new(kind, format!("{kind:?}"), key.escape_debug())
}

impl World {
    /// Puts an object at its key; `versions`: what it replaces is kept.
    fn place(&mut self, key: &str, mut object: Object, versions: bool) {
        self.displace(key);
        self.numbers += 1;
        object.version = versions.then(|| Version(format!("v{}", self.numbers).into()));
        self.objects.insert(key.to_owned(), object);
    }

    fn displace(&mut self, key: &str) {
        if let Some(object) = self.objects.remove(key)
            && let Some(version) = object.version.clone()
        {
            self.before.insert((key.to_owned(), version), object);
        }
    }

    fn version(&self, key: &Key, version: &Version) -> Result<Object> {
        let there = self.objects.get(key.as_str());
        there
            .filter(|object| object.version.as_ref() == Some(version))
            .or_else(|| self.before.get(&(key.as_str().to_owned(), version.clone())))
            .cloned()
            .ok_or_else(|| fault(Kind::NotFound, key.as_str()))
    }

    fn check(&self, key: &str, cond: &Cond) -> Result<()> {
        let there = self.objects.get(key);
        match cond {
            Cond::Any => Ok(()),
            Cond::Absent if there.is_none() => Ok(()),
            Cond::Is(tag) if there.is_some_and(|object| object.tag == *tag) => Ok(()),
            _ => Err(fault(Kind::Changed, key)),
        }
    }

    fn write(&mut self, key: &str) -> Result<()> {
        if self.die_after.is_some_and(|left| self.writes >= left) {
            return Err(fault(Kind::Offline, key));
        }
        self.writes += 1;
        Ok(())
    }
}

struct MemSeen(Blob, Option<Bytes>);

#[async_trait]
impl Seen for MemSeen {
    fn blob(&self) -> &Blob {
        &self.0
    }
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.1.take().filter(|bytes| !bytes.is_empty()))
    }
}

struct MemListing(Vec<Listed>, Arc<Mutex<World>>, bool);

#[async_trait]
impl Listing for MemListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        if self.0.is_empty() && self.2 {
            return Ok(None);
        }
        self.2 = true;
        *self.1.lock().unwrap().asked.entry("list").or_default() += 1;
        let rest = self.0.split_off(self.0.len().min(1000));
        Ok(Some(std::mem::replace(&mut self.0, rest)))
    }
}

struct MemDraft {
    world: Arc<Mutex<World>>,
    key: String,
    metadata: BTreeMap<String, String>,
    bytes: Vec<u8>,
    upload: Option<String>,
    held: u64,
    versions: bool,
}

#[async_trait]
impl Draft for MemDraft {
    fn upload(&self) -> Option<String> {
        self.upload.clone()
    }
    fn held(&self) -> u64 {
        self.held
    }
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        let mut world = self.world.lock().unwrap();
        if let Some(upload) = &self.upload {
            let whole = self.bytes.len() & !((8 << 20) - 1);
            let sent = world.uploads.get(upload).map_or(0, |(_, bytes)| bytes.len());
            if whole > sent {
                world.write(&self.key)?;
                *world.asked.entry("part").or_default() += 1;
                world
                    .uploads
                    .insert(upload.clone(), (self.key.clone(), self.bytes[..whole].to_vec()));
            }
        }
        Ok(())
    }
    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        let mut world = self.world.lock().unwrap();
        *world.asked.entry("put").or_default() += 1;
        world.write(&self.key)?;
        world.check(&self.key, &only_if)?;
        let object = object(self.bytes.into(), self.metadata, self.upload.is_some());
        let out = blob(&object, false);
        world.place(&self.key, object, self.versions);
        if let Some(upload) = self.upload {
            world.uploads.remove(&upload);
        }
        Ok(out)
    }
    async fn discard(self: Box<Self>) -> Result<()> {
        if let Some(upload) = &self.upload {
            self.world.lock().unwrap().uploads.remove(upload);
        }
        Ok(())
    }
}

#[async_trait]
impl Store for MemStore {
    fn label(&self) -> &str {
        "mem://bucket"
    }
    fn caps(&self) -> &Caps {
        &self.caps
    }
    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        self.count("get");
        let world = self.world.lock().unwrap();
        let object = world
            .objects
            .get(key.as_str())
            .ok_or_else(|| fault(Kind::NotFound, key.as_str()))?;
        if seen.is_some_and(|seen| *seen != object.tag) {
            return Err(fault(Kind::Changed, key.as_str()));
        }
        let bytes = match range {
            Some((from, len)) => object
                .bytes
                .slice(from as usize..(from + len).min(object.bytes.len() as u64) as usize),
            None => object.bytes.clone(),
        };
        Ok(Box::new(MemSeen(blob(object, true), Some(bytes))))
    }
    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: BTreeMap<String, String>,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        let parts = size.is_none_or(|size| size > self.caps.single_max);
        let mut world = self.world.lock().unwrap();
        let (upload, bytes) = match resume {
            Some(upload) => {
                let (_, bytes) = world
                    .uploads
                    .get(upload)
                    .ok_or_else(|| fault(Kind::NotFound, upload))?;
                (Some(upload.to_owned()), bytes.clone())
            }
            None if parts => {
                let upload = format!("upload-{}", self.next.fetch_add(1, Ordering::Relaxed));
                world
                    .uploads
                    .insert(upload.clone(), (key.as_str().to_owned(), Vec::new()));
                (Some(upload), Vec::new())
            }
            None => (None, Vec::new()),
        };
        let held = bytes.len() as u64;
        Ok(Box::new(MemDraft {
            world: self.world.clone(),
            key: key.as_str().to_owned(),
            metadata,
            bytes,
            upload,
            held,
            versions: self.caps.versions,
        }))
    }
    async fn stat(&self, key: &Key) -> Result<Blob> {
        self.count("head");
        let world = self.world.lock().unwrap();
        world
            .objects
            .get(key.as_str())
            .map(|object| blob(object, true))
            .ok_or_else(|| fault(Kind::NotFound, key.as_str()))
    }
    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let world = self.world.lock().unwrap();
        let shown = world.stale.as_ref().unwrap_or(&world.objects);
        let mut found: Vec<_> = shown
            .iter()
            .filter(|(key, _)| {
                key.starts_with(under) && after.is_none_or(|after| key.as_str() > after.as_str())
            })
            .map(|(key, object)| Listed {
                key: Key::new(key.as_str()).unwrap(),
                blob: blob(object, false),
            })
            .collect();
        if !self.caps.sorted {
            found.reverse();
        }
        Ok(Box::new(MemListing(found, self.world.clone(), false)))
    }
    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        self.count("delete");
        let mut world = self.world.lock().unwrap();
        let mut out = Vec::new();
        for (key, cond) in keys {
            out.push(
                world
                    .check(key.as_str(), cond)
                    .and_then(|()| world.write(key.as_str()))
                    .map(|()| world.displace(key.as_str())),
            );
        }
        out
    }
    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        self.count("copy");
        let mut world = self.world.lock().unwrap();
        let mut copied = world
            .objects
            .get(from.as_str())
            .ok_or_else(|| fault(Kind::NotFound, from.as_str()))?
            .clone();
        if copied.tag != *seen {
            return Err(fault(Kind::Changed, from.as_str()));
        }
        world.check(to.as_str(), &cond)?;
        world.write(to.as_str())?;
        if let Some(metadata) = metadata {
            copied.metadata = metadata;
        }
        let out = blob(&copied, true);
        world.place(to.as_str(), copied, self.caps.versions);
        Ok(out)
    }
    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        self.count("get version");
        let object = self.world.lock().unwrap().version(key, version)?;
        let (from, len) = range.unwrap_or((0, u64::MAX));
        let end = from.saturating_add(len).min(object.bytes.len() as u64);
        let bytes = object.bytes.slice(from as usize..end as usize);
        Ok(Box::new(MemSeen(blob(&object, true), Some(bytes))))
    }
    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        self.count("copy");
        let mut world = self.world.lock().unwrap();
        let mut copied = world.version(from, version)?;
        world.check(to.as_str(), &cond)?;
        world.write(to.as_str())?;
        if let Some(metadata) = metadata {
            copied.metadata = metadata;
        }
        let out = blob(&copied, true);
        world.place(to.as_str(), copied, self.caps.versions);
        Ok(out)
    }
    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        self.count("drop version");
        let mut world = self.world.lock().unwrap();
        if world
            .objects
            .get(key.as_str())
            .is_some_and(|object| object.version.as_ref() == Some(version))
        {
            return Err(fault(Kind::Changed, key.as_str()));
        }
        world.before.remove(&(key.as_str().to_owned(), version.clone()));
        Ok(())
    }
    async fn space(&self) -> Result<StoreSpace> {
        Ok(StoreSpace {
            total: None,
            free: None,
        })
    }
    async fn unfinished(&self, _under: &str) -> Result<Vec<(Key, String)>> {
        let world = self.world.lock().unwrap();
        world
            .uploads
            .iter()
            .map(|(upload, (key, _))| Ok((Key::new(key.as_str())?, upload.clone())))
            .collect()
    }
    async fn discard(&self, _key: &Key, upload: &str) -> Result<()> {
        self.world.lock().unwrap().uploads.remove(upload);
        Ok(())
    }
}

/// Time that passes only by sleeping.
#[derive(Default)]
pub struct Steps {
    at: Arc<AtomicU64>,
    /// Called at each sleep.
    pub each: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Clock for Steps {
    fn now(&self) -> Time {
        Time {
            secs: 1_700_000_000,
            nanos: 0,
        }
    }
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.at.load(Ordering::Relaxed))
    }
    fn sleep(&self, time: Duration) -> Task {
        self.at.fetch_add(time.as_secs(), Ordering::Relaxed);
        if let Some(each) = &mut *self.each.lock().unwrap() {
            each();
        }
        Box::pin(async {})
    }
}

#[derive(Default)]
pub struct Counting(AtomicU64);

impl Dice for Counting {
    fn roll(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

pub fn options(device: &str) -> BucketOptions {
    BucketOptions {
        place: "mem://bucket".into(),
        host: "bucket".into(),
        device: device.into(),
        state: None,
        clock: Arc::new(Steps::default()),
        dice: Arc::new(Counting::default()),
        read_only: false,
    }
}

pub fn replica(store: &Arc<MemStore>, device: &str) -> BucketReplica {
    BucketReplica::new(store.clone(), options(device)).unwrap()
}

pub fn run(name: &str) -> EditOptions {
    EditOptions {
        run: name.into(),
        trash: true,
        classes: everything(),
        durability: syncline_replica::seam::Durability::Batch,
    }
}

pub fn everything() -> syncline_model::Classes {
    syncline_model::Classes {
        xattrs: true,
        acls: true,
        ..Default::default()
    }
}

pub fn scope() -> Scope {
    Scope {
        classes: everything(),
        ..Scope::default()
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

pub async fn rows(mut walk: Box<dyn Walk>) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    while let Some(batch) = walk.next().await.unwrap() {
        out.extend(batch);
    }
    assert!(out.is_sorted_by(|a, b| a.slot < b.slot), "strictly ascending");
    out
}

pub async fn tree(replica: &dyn Replica) -> Vec<Row> {
    rows(replica.scan(&scope()).await.unwrap()).await
}

/// Slots as text, what is opaque marked.
pub async fn slots(replica: &dyn Replica) -> Vec<String> {
    let mark = |row: &Row| if row.what.entry.is_opaque() { "!" } else { "" };
    tree(replica)
        .await
        .iter()
        .map(|row| format!("{}{}", mark(row), row.slot))
        .collect()
}

pub struct Text(pub Vec<Bytes>);

impl Text {
    pub fn new(bytes: &[u8]) -> Box<Self> {
        Box::new(Self(
            bytes.chunks(100_000).rev().map(Bytes::copy_from_slice).collect(),
        ))
    }
}

#[async_trait]
impl Body for Text {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.pop())
    }
    async fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

pub fn meta() -> Meta {
    let mtime = Some(Time {
        secs: 1_700_000_000,
        nanos: 123_456_789,
    });
    Meta {
        mode: Some(0o640),
        owner: Some(syncline_model::Owner { uid: 1000, gid: 100 }),
        mtime,
        xattrs: None,
    }
}

pub fn file(bytes: &[u8]) -> Entry {
    Entry::File(meta(), Content::unread(bytes.len() as u64), None)
}

pub fn change(at: &str, old: Option<Observation>, new: Option<Entry>) -> Change {
    Change {
        path: path(at),
        old,
        new,
        from: None,
    }
}

pub async fn try_put(
    edit: &Arc<dyn Edit>,
    at: &str,
    old: Option<Observation>,
    bytes: &[u8],
) -> Result<Applied> {
    let staged = edit.stage(&path(at), &file(bytes), Text::new(bytes)).await?;
    edit.apply(&change(at, old, Some(file(bytes))), Some(staged))
        .await
}

pub async fn put(edit: &Arc<dyn Edit>, at: &str, old: Option<Observation>, bytes: &[u8]) -> Observation {
    try_put(edit, at, old, bytes).await.unwrap().now.unwrap()
}

pub async fn find(replica: &dyn Replica, at: &str) -> Option<Observation> {
    replica.find(&path(at), &scope()).await.unwrap()
}

pub async fn contents(mut body: Box<dyn Body>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(bytes) = body.next().await.unwrap() {
        out.extend_from_slice(&bytes);
    }
    body.check().await.unwrap();
    out
}

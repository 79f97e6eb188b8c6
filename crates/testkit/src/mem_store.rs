//! A store in memory: exact keys, and whatever a real one may or may not do, switched by its [`Caps`].
//!
//! Invariants: what it shows follows from the calls and the seed alone; a condition that its caps do not promise is
//! looked at right before, as every store must; a stale listing is always some earlier truth about each key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use syncline_model::{Clock, Dice, Fault, Kind, Result, Tag};
use syncline_store::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

type Metadata = BTreeMap<String, String>;

/// What a [`MemStore`] is like.
#[derive(Clone)]
pub struct MemOptions {
    /// What it does; single writes above `part` go in parts whatever `single_max` says.
    pub caps: Caps,
    /// Bytes in a part.
    pub part: usize,
    /// Entries on a page of a listing.
    pub page: usize,
    /// A listing may show, of a key changed within this many changes, what was there before.
    pub lag: u64,
    /// Room in bytes; a write that would not fit is `Full`.
    pub room: Option<u64>,
}

impl Default for MemOptions {
    fn default() -> Self {
        let caps = Caps {
            if_absent: true,
            if_is: true,
            remove_if_is: true,
            sorted: true,
            tag_is_md5: true,
            metadata: true,
            reuse: true,
            ..Caps::LEAST
        };
        Self {
            caps,
            part: 8 << 20,
            page: 1000,
            lag: 0,
            room: None,
        }
    }
}

impl MemOptions {
    /// A store that keeps what is replaced or removed.
    pub fn versioned() -> Self {
        let mut options = Self::default();
        options.caps.versions = true;
        options
    }

    /// A store that honours no condition and proves nothing but by tags of its own.
    pub fn poor() -> Self {
        let caps = Caps {
            sorted: true,
            metadata: true,
            ..Caps::LEAST
        };
        Self {
            caps,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    blob: Blob,
}

#[derive(Debug, Default)]
struct History {
    now: Option<Object>,
    /// What was there before, oldest first: how many changes the store had seen when each was replaced.
    before: Vec<(u64, Option<Object>)>,
}

#[derive(Debug)]
struct Upload {
    key: Key,
    metadata: Metadata,
    body: BytesMut,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, History>,
    uploads: BTreeMap<String, Upload>,
    changes: u64,
    stale_shown: u64,
}

/// A store in memory. Clones are the same store.
#[derive(Clone)]
pub struct MemStore {
    label: String,
    options: MemOptions,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn Dice>,
    state: Arc<Mutex<State>>,
}

impl MemStore {
    /// An empty store.
    pub fn new(label: &str, options: MemOptions, clock: Arc<dyn Clock>, dice: Arc<dyn Dice>) -> Self {
        Self {
            label: label.to_string(),
            options,
            clock,
            dice,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, kind: Kind, what: &str, key: &Key) -> Fault {
        Fault::new(
            kind,
            what,
            format!("{}/{}", self.label, key.as_str().escape_debug()),
        )
    }

    /// How often a listing showed something that was no longer so.
    pub fn stale_shown(&self) -> u64 {
        self.state().stale_shown
    }

    /// Keys and bodies as they are, for comparing worlds.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        let state = self.state();
        let now = |(key, history): (&Key, &History)| {
            history
                .now
                .as_ref()
                .map(|object| (key.as_str().to_string(), object.body.clone()))
        };
        state.objects.iter().filter_map(now).collect()
    }

    /// Every body that ever stood at `key`, oldest first.
    pub fn versions(&self, key: &Key) -> Vec<Bytes> {
        let state = self.state();
        let Some(history) = state.objects.get(key) else {
            return Vec::new();
        };
        let before = history.before.iter().filter_map(|(_, object)| object.as_ref());
        before
            .chain(&history.now)
            .map(|object| object.body.clone())
            .collect()
    }

    /// Makes every listing show the truth from now on: all delays have passed.
    pub fn settle(&self) {
        let mut state = self.state();
        state.changes += self.options.lag + 1;
    }

    fn body(&self, key: &Key, object: Object, range: Option<(u64, u64)>) -> Result<Box<dyn Seen>> {
        let (start, len) = range.unwrap_or((0, u64::MAX));
        if start > object.blob.size {
            return Err(self.fault(Kind::Invalid, "begins behind the end", key));
        }
        let end = start.saturating_add(len).min(object.blob.size);
        let left = object.body.slice(start as usize..end as usize);
        Ok(Box::new(MemSeen {
            blob: object.blob,
            left,
        }))
    }

    fn check(&self, state: &State, key: &Key, cond: &Cond) -> Result<()> {
        let now = state.objects.get(key).and_then(|history| history.now.as_ref());
        match (cond, now) {
            (Cond::Any, _) | (Cond::Absent, None) => Ok(()),
            (Cond::Absent, Some(_)) => Err(self.fault(Kind::Changed, "something is there already", key)),
            (Cond::Is(tag), Some(object)) if object.blob.tag == *tag => Ok(()),
            (Cond::Is(_), _) => Err(self.fault(Kind::Changed, "something else is there now", key)),
        }
    }

    /// For a store that does not check by itself: the look and the write are two moments, between which others act.
    async fn window(&self, key: &Key, cond: &Cond, honoured: bool) -> Result<bool> {
        if honoured || *cond == Cond::Any {
            return Ok(true);
        }
        self.check(&self.state(), key, cond)?;
        tokio::task::yield_now().await;
        Ok(false)
    }

    fn put(
        &self,
        state: &mut State,
        key: &Key,
        body: Bytes,
        mut metadata: Metadata,
        whole: bool,
    ) -> Result<Blob> {
        if let Some(room) = self.options.room {
            let used: usize = state
                .objects
                .values()
                .filter_map(|history| history.now.as_ref())
                .map(|object| object.body.len())
                .sum();
            if (used + body.len()) as u64 > room {
                return Err(self.fault(Kind::Full, "no room", key));
            }
        }
        if !self.options.caps.metadata {
            metadata.clear();
        }
        let md5: [u8; 16] = Md5::digest(&body).into();
        let md5 = (self.options.caps.tag_is_md5 && whole).then_some(md5);
        let tag = match md5 {
            Some(md5) => md5.iter().map(|byte| format!("{byte:02x}")).collect(),
            None => format!("v{}-{:x}", state.changes, self.dice.roll()),
        };
        let tag = Tag::Store(tag.into_bytes().into());
        let blob = Blob {
            size: body.len() as u64,
            tag,
            modified: Some(self.clock.now()),
            md5,
            metadata: Some(metadata),
            version: self
                .options
                .caps
                .versions
                .then(|| Version(format!("version-{}", state.changes).into())),
        };
        self.replace(
            state,
            key,
            Some(Object {
                body,
                blob: blob.clone(),
            }),
        );
        Ok(blob)
    }

    fn version(&self, key: &Key, version: &Version) -> Result<Object> {
        let state = self.state();
        let is = |object: &&Object| object.blob.version.as_ref() == Some(version);
        let found = state.objects.get(key).and_then(|history| {
            let before = history.before.iter().filter_map(|(_, object)| object.as_ref());
            before.chain(&history.now).find(is).cloned()
        });
        found.ok_or_else(|| self.fault(Kind::NotFound, "no such version is kept", key))
    }

    /// How many versions of what no longer stands at its key are kept.
    pub fn versions_kept(&self) -> usize {
        let state = self.state();
        let before = state.objects.values().flat_map(|history| &history.before);
        before
            .filter(|(_, object)| {
                object
                    .as_ref()
                    .is_some_and(|object| object.blob.version.is_some())
            })
            .count()
    }

    /// From now on nothing that is replaced or removed is kept, and what was kept is gone: a rule of the bucket's owner.
    pub fn expire_versions(&self) {
        for history in self.state().objects.values_mut() {
            history.before.clear();
        }
    }

    fn replace(&self, state: &mut State, key: &Key, object: Option<Object>) {
        state.changes += 1;
        let changes = state.changes;
        let history = state.objects.entry(key.clone()).or_default();
        let before = std::mem::replace(&mut history.now, object);
        history.before.push((changes, before));
    }

    /// What a listing shows of one key: now, or what was there before, if the last change is young.
    fn shown(&self, history: &History, changes: u64, stale: &mut u64) -> Option<Object> {
        let young = history
            .before
            .last()
            .filter(|(at, _)| changes < at + self.options.lag);
        match young {
            Some((_, before)) if self.dice.roll().is_multiple_of(2) => {
                *stale += 1;
                before.clone()
            }
            _ => history.now.clone(),
        }
    }
}

struct MemSeen {
    blob: Blob,
    left: Bytes,
}

#[async_trait]
impl Seen for MemSeen {
    fn blob(&self) -> &Blob {
        &self.blob
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let len = self.left.len().min(64 << 10);
        Ok((len > 0).then(|| self.left.split_to(len)))
    }
}

struct MemListing {
    store: MemStore,
    under: String,
    after: Option<Key>,
    /// Stores without order list by this.
    shuffled: Option<Vec<Listed>>,
}

impl MemListing {
    fn page(&mut self) -> Vec<Listed> {
        let mut state = self.store.state();
        let changes = state.changes;
        let mut stale = 0;
        let mut page = Vec::new();
        let whole = !self.store.options.caps.sorted;
        for (key, history) in &state.objects {
            let wanted =
                key.as_str().starts_with(&self.under) && self.after.as_ref().is_none_or(|after| key > after);
            if !wanted {
                continue;
            }
            if let Some(object) = self.store.shown(history, changes, &mut stale) {
                let blob = Blob {
                    metadata: None,
                    version: None,
                    ..object.blob
                };
                page.push(Listed {
                    key: key.clone(),
                    blob,
                });
                if !whole && page.len() == self.store.options.page {
                    break;
                }
            }
        }
        state.stale_shown += stale;
        page
    }
}

#[async_trait]
impl Listing for MemListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        if self.store.options.caps.sorted {
            let page = self.page();
            if let Some(last) = page.last() {
                self.after = Some(last.key.clone());
            }
            return Ok((!page.is_empty()).then_some(page));
        }
        if self.shuffled.is_none() {
            let mut all = self.page();
            // An order of its own, the same each time.
            all.sort_by_key(|listed| <[u8; 16]>::from(Md5::digest(listed.key.as_str())));
            self.shuffled = Some(all);
        }
        let left = self.shuffled.get_or_insert_default();
        let page: Vec<Listed> = left.drain(..left.len().min(self.store.options.page)).collect();
        Ok((!page.is_empty()).then_some(page))
    }
}

struct MemDraft {
    store: MemStore,
    key: Key,
    size: Option<u64>,
    metadata: Metadata,
    filling: BytesMut,
    held: u64,
    upload: Option<String>,
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
        self.filling.extend_from_slice(&bytes);
        let part = self.store.options.part;
        while self.filling.len() > part {
            let piece = self.filling.split_to(part);
            let mut state = self.store.state();
            let name = self
                .upload
                .get_or_insert_with(|| format!("upload-{:016x}", self.store.dice.roll()))
                .clone();
            let upload = state.uploads.entry(name).or_insert_with(|| Upload {
                key: self.key.clone(),
                metadata: self.metadata.clone(),
                body: BytesMut::new(),
            });
            upload.body.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        let caps = &self.store.options.caps;
        let honoured = if only_if == Cond::Absent {
            caps.if_absent
        } else {
            caps.if_is
        };
        let checked = self.store.window(&self.key, &only_if, honoured).await?;
        let mut state = self.store.state();
        let begun = self.upload.as_ref().and_then(|name| state.uploads.get(name));
        if self.upload.is_some() && begun.is_none() {
            return Err(self.store.fault(Kind::NotFound, "the upload is gone", &self.key));
        }
        let mut body = begun.map_or_else(BytesMut::new, |upload| upload.body.clone());
        let metadata = begun.map_or_else(|| self.metadata.clone(), |upload| upload.metadata.clone());
        body.extend_from_slice(&self.filling);
        if self.size.is_some_and(|size| size != body.len() as u64) {
            return Err(self
                .store
                .fault(Kind::Invalid, "another length than promised", &self.key));
        }
        if checked {
            let result = self.store.check(&state, &self.key, &only_if);
            if let (Err(fault), Some(name)) = (result, &self.upload) {
                state.uploads.remove(name);
                return Err(fault);
            }
            self.store.check(&state, &self.key, &only_if)?;
        }
        let blob = self.store.put(
            &mut state,
            &self.key,
            body.freeze(),
            metadata,
            self.upload.is_none(),
        )?;
        if let Some(name) = &self.upload {
            state.uploads.remove(name);
        }
        Ok(blob)
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        if let Some(name) = &self.upload {
            self.store.state().uploads.remove(name);
        }
        Ok(())
    }
}

#[async_trait]
impl Store for MemStore {
    fn label(&self) -> &str {
        &self.label
    }

    fn caps(&self) -> &Caps {
        &self.options.caps
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        let state = self.state();
        let object = state.objects.get(key).and_then(|history| history.now.clone());
        let object = object.ok_or_else(|| self.fault(Kind::NotFound, "nothing is there", key))?;
        if seen.is_some_and(|seen| object.blob.tag != *seen) {
            return Err(self.fault(Kind::Changed, "something else is there now", key));
        }
        self.body(key, object, range)
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: Metadata,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        let state = self.state();
        let begun = resume.and_then(|name| {
            state
                .uploads
                .get(name)
                .map(|upload| (name, upload.body.len() as u64))
        });
        Ok(Box::new(MemDraft {
            store: self.clone(),
            key: key.clone(),
            size,
            metadata,
            filling: BytesMut::new(),
            held: begun.map_or(0, |(_, len)| len),
            upload: begun.map(|(name, _)| name.to_string()),
        }))
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        let state = self.state();
        let object = state.objects.get(key).and_then(|history| history.now.as_ref());
        object
            .map(|object| object.blob.clone())
            .ok_or_else(|| self.fault(Kind::NotFound, "nothing is there", key))
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let after = after.cloned();
        Ok(Box::new(MemListing {
            store: self.clone(),
            under: under.to_string(),
            after,
            shuffled: None,
        }))
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for (key, cond) in keys {
            let checked = match self.window(key, cond, self.options.caps.remove_if_is).await {
                Ok(checked) => checked,
                Err(fault) => {
                    results.push(Err(fault));
                    continue;
                }
            };
            let mut state = self.state();
            let allowed = if checked {
                self.check(&state, key, cond)
            } else {
                Ok(())
            };
            if allowed.is_ok()
                && state
                    .objects
                    .get(key)
                    .is_some_and(|history| history.now.is_some())
            {
                self.replace(&mut state, key, None);
            }
            results.push(allowed);
        }
        results
    }

    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        if !self.options.caps.reuse {
            return Err(self.fault(Kind::Unsupported, "cannot copy", from));
        }
        let mut state = self.state();
        let object = state.objects.get(from).and_then(|history| history.now.clone());
        let object = object.ok_or_else(|| self.fault(Kind::NotFound, "nothing is there", from))?;
        if object.blob.tag != *seen {
            return Err(self.fault(Kind::Changed, "something else is there now", from));
        }
        self.check(&state, to, &cond)?;
        let metadata = metadata.unwrap_or_else(|| object.blob.metadata.clone().unwrap_or_default());
        self.put(&mut state, to, object.body, metadata, true)
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        self.body(key, self.version(key, version)?, range)
    }

    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        if !self.options.caps.reuse {
            return Err(self.fault(Kind::Unsupported, "cannot copy", from));
        }
        let object = self.version(from, version)?;
        let mut state = self.state();
        self.check(&state, to, &cond)?;
        let metadata = metadata.unwrap_or_else(|| object.blob.metadata.clone().unwrap_or_default());
        self.put(&mut state, to, object.body, metadata, true)
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        let mut state = self.state();
        let Some(history) = state.objects.get_mut(key) else {
            return Ok(());
        };
        let is = |object: &Object| object.blob.version.as_ref() == Some(version);
        if history.now.as_ref().is_some_and(is) {
            return Err(self.fault(Kind::Changed, "it is what stands there", key));
        }
        for (_, before) in &mut history.before {
            before.take_if(|object| is(object));
        }
        Ok(())
    }

    async fn space(&self) -> Result<StoreSpace> {
        Ok(StoreSpace {
            total: self.options.room,
            free: None,
        })
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        let state = self.state();
        let mut found: Vec<(Key, String)> = state
            .uploads
            .iter()
            .map(|(name, upload)| (upload.key.clone(), name.clone()))
            .collect();
        found.retain(|(key, _)| key.as_str().starts_with(under));
        found.sort();
        Ok(found)
    }

    async fn discard(&self, _: &Key, upload: &str) -> Result<()> {
        self.state().uploads.remove(upload);
        Ok(())
    }
}

//! A store in memory: exact keys, and whatever a real one may or may not do, switched by its [`Caps`].
//!
//! Invariants: what it shows follows from the calls and the seed alone; a condition that its caps do not promise is
//! looked at right before, as every store must; a stale listing is always some earlier truth about each key.

mod under_way;
mod verbs;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use syncline_model::{Clock, Dice, Fault, Kind, Result, Tag};
use syncline_store::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};

use under_way::{MemDraft, MemListing, MemSeen};

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

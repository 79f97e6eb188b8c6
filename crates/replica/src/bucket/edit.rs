//! Editing a bucket: each change under the tag that it expects, what it displaces copied into the trash first.
//!
//! Invariant: the store itself, or a look right before where it cannot, refuses a change whose ground has shifted; the caller sees
//! `Changed` and nothing was done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use syncline_model::{
    Change, Content, Entry, Fault, From, Kind, LinkId, Meta, Observation, RelPath, Result, Sameness, Slot,
    Tag,
};
use syncline_store::{Blob, Cond, Key};

use super::put::Drafted;
use super::row::{self, Row};
use super::{Shared, blobs, intents, lock, metadata, put, trash, uploads};
use crate::seam::{Applied, Body, Durability, Edit, EditOptions, Staged};

/// Rows that wait before tables are written at a barrier; all are written at the end.
const ROWS_WAITING: usize = 4096;

/// See the module.
pub(super) struct BucketEdit {
    pub(super) shared: Arc<Shared>,
    pub(super) options: EditOptions,
    pub(super) drafts: Mutex<HashMap<u64, Drafted>>,
    pub(super) next: AtomicU64,
    /// Bytes of drafts that lie in memory.
    pub(super) held: AtomicUsize,
}

/// Begins an edit: removes the drafts that a dead run of ours left.
pub(super) async fn begin(shared: &Arc<Shared>, options: &EditOptions) -> Result<Arc<BucketEdit>> {
    if shared.options.read_only {
        return Err(Fault::new(
            Kind::Denied,
            "is only read here",
            shared.store.label(),
        ));
    }
    put::clear_stage(shared).await?;
    Ok(Arc::new(BucketEdit {
        shared: shared.clone(),
        options: options.clone(),
        drafts: Mutex::default(),
        next: AtomicU64::new(0),
        held: AtomicUsize::new(0),
    }))
}

#[async_trait]
impl Edit for BucketEdit {
    async fn stage(&self, path: &RelPath, new: &Entry, body: Box<dyn Body>) -> Result<Staged> {
        put::stage(self, path, new, body).await
    }

    async fn apply(&self, change: &Change, staged: Option<Staged>) -> Result<Applied> {
        let applied = self.change(change, staged).await?;
        self.settle_some().await?;
        if self.options.durability == Durability::File {
            self.settle_dirs().await?;
        }
        Ok(applied)
    }

    async fn flush(&self) -> Result<()> {
        self.settle_dirs().await?;
        if self.shared.tables.waiting() >= ROWS_WAITING {
            self.shared.tables.flush().await?;
        }
        self.shared.state.persist()
    }

    async fn finish(&self) -> Result<()> {
        self.settle_dirs().await?;
        if self.shared.tables.waiting() > 0 {
            self.shared.tables.flush().await?;
        }
        put::discard_all(self).await?;
        uploads::finish(&self.shared, &self.options.run).await?;
        self.shared.state.persist()
    }
}

impl BucketEdit {
    async fn change(&self, change: &Change, staged: Option<Staged>) -> Result<Applied> {
        blobs::key_of(&change.path)?;
        let drafted = staged
            .as_ref()
            .and_then(|staged| lock(&self.drafts).remove(&staged.draft));
        let Some(new) = &change.new else {
            return self.remove(change).await;
        };
        if new.is_opaque() {
            return Err(Fault::new(Kind::Invalid, "cannot be made", &change.path));
        }
        let old = change.old.as_ref();
        if old.is_some_and(|old| old.entry.is_opaque()) {
            return Err(self
                .shared
                .changed("what stands there cannot be looked into", &change.path));
        }
        self.check_above(&change.path).await?;
        match (&change.from, new) {
            (Some(From::Move(from)), Entry::Dir(_)) => return intents::move_dir(self, change, from).await,
            (Some(From::Move(from)), _) => return put::transfer(self, change, from, true).await,
            (Some(From::Link(from)), _) => return put::transfer(self, change, from, false).await,
            (Some(From::Exchange(_)), _) => {
                return Err(Fault::new(
                    Kind::Unsupported,
                    "a bucket cannot exchange two names",
                    &change.path,
                ));
            }
            (Some(From::Trash(at)), Entry::File(..)) => return put::restore(self, change, at).await,
            _ => (),
        }
        match (old.map(|old| &old.entry), new) {
            (Some(Entry::Dir(_)) | None, Entry::Dir(_)) => self.make_dir(change, old.is_some()).await,
            (Some(_), Entry::Dir(_)) => {
                let removed = self
                    .remove(&Change {
                        new: None,
                        from: None,
                        ..change.clone()
                    })
                    .await?;
                let made = self.make_dir(change, true).await?;
                Ok(Applied {
                    trashed: removed.trashed,
                    ..made
                })
            }
            (_, Entry::File(..)) if drafted.is_none() => put::attributes(self, change).await,
            (Some(old @ (Entry::Link(..) | Entry::Special(..))), new)
                if old.same_content(new) == Sameness::Same =>
            {
                put::attributes(self, change).await
            }
            _ => put::publish(self, change, staged, drafted).await,
        }
    }

    /// Refuses to put anything below what we know to be a link or a file: a bucket would take it, and show both.
    async fn check_above(&self, path: &RelPath) -> Result<()> {
        let mut above = path.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root() && !lock(&self.shared.dirs).sound(dir)) {
            if self.shared.tables.has_row(&Slot::of(&dir, false))? {
                match self.shared.store.stat(&blobs::key_of(&dir)?).await {
                    Err(fault) if fault.is(Kind::NotFound) => (),
                    Err(fault) => return Err(fault),
                    Ok(_) => return Err(self.shared.changed("lies below what is no directory", path)),
                }
            }
            lock(&self.shared.dirs).is_sound(&dir);
            above = dir.parent();
        }
        Ok(())
    }

    async fn remove(&self, change: &Change) -> Result<Applied> {
        match &change.old {
            None => Ok(Applied::default()),
            Some(Observation {
                entry: Entry::Dir(_), ..
            }) => {
                self.remove_dir(&change.path).await?;
                Ok(Applied {
                    now: None,
                    trashed: None,
                    was: None,
                })
            }
            Some(old) => {
                let key = blobs::key_of(&change.path)?;
                let tag = self.proven(&key, &change.path, old).await?;
                let trashed = trash::keep(self, &change.path, &key, &tag, false).await?;
                if let Err(fault) = self.remove_object(&change.path, key, &tag).await {
                    trash::forget(self, &trashed).await;
                    return Err(fault);
                }
                Ok(Applied {
                    now: None,
                    trashed,
                    was: None,
                })
            }
        }
    }

    /// Removes an object if it still bears `tag`, and what we know of it.
    pub(super) async fn remove_object(&self, path: &RelPath, key: Key, tag: &Tag) -> Result<()> {
        let shared = &self.shared;
        if !shared.store.caps().remove_if_is {
            let blob = shared
                .store
                .stat(&key)
                .await
                .map_err(|fault| self.gone(path, fault))?;
            if blob.tag != *tag {
                return Err(shared.changed("was replaced since it was seen", path));
            }
        }
        let cond = if *tag == Tag::None {
            Cond::Any
        } else {
            Cond::Is(tag.clone())
        };
        blobs::remove(&*shared.store, key, cond)
            .await
            .map_err(|fault| self.gone(path, fault))?;
        self.forget(path, tag)?;
        lock(&self.shared.dirs).thinned(path);
        Ok(())
    }

    /// What we remember of an object that is gone.
    pub(super) fn forget(&self, path: &RelPath, tag: &Tag) -> Result<()> {
        let slot = Slot::of(path, false);
        self.shared.tables.put(&slot, None)?;
        let now = self.shared.options.clock.elapsed();
        lock(&self.shared.overlay).wrote(slot, Some(tag), None, now);
        Ok(())
    }

    /// The group that names which this run writes of one file of the other side belong to. Names of one group have the same bytes: what a
    /// broken run has left of another content is none of it.
    pub(super) fn regroup(&self, entry: &mut Entry) {
        let Entry::File(_, content, group) = entry else {
            return;
        };
        *group = group.zip(content.digest).map(|(theirs, digest)| {
            let mut hasher = blake3::Hasher::new();
            for part in [self.shared.options.device.as_bytes(), self.options.run.as_bytes()] {
                hasher.update(part).update(&[0]);
            }
            hasher.update(&theirs.0.to_le_bytes()).update(&digest.0);
            number_of(&hasher.finalize())
        });
    }

    /// The same for a name that joins the file at `from`, which is in no group yet.
    pub(super) fn group_with(&self, from: &RelPath, entry: &mut Entry) {
        if row::group(entry).is_none() {
            row::set_group(entry, Some(number_of(&blake3::hash(from.as_bytes()))));
        }
        self.regroup(entry);
    }

    /// Remembers what now stands at `path` and reports it as the next scan will.
    pub(super) fn record(
        &self,
        path: &RelPath,
        was: Option<&Tag>,
        mut entry: Entry,
        blob: Blob,
    ) -> Result<Observation> {
        let slot = Slot::of(path, false);
        let md5 = blobs::md5_of(&*self.shared.store, &blob);
        if let Entry::File(_, content, _) = &mut entry {
            *content = Content {
                size: blob.size,
                digest: content.digest,
                md5: md5.or(content.md5),
            };
        }
        let row = Row {
            slot: slot.clone(),
            entry,
            tag: blob.tag.clone(),
            md5,
            generation: self.shared.generation(),
            names: None,
        };
        self.shared.tables.put(&slot, Some(&row))?;
        let now = self.shared.options.clock.elapsed();
        let tag = blob.tag.clone();
        lock(&self.shared.overlay).wrote(slot, was, Some(blob), now);
        lock(&self.shared.dirs).unsound(path);
        lock(&self.shared.dirs).touched(path, &self.shared);
        Ok(Observation {
            entry: row.entry,
            tag,
        })
    }

    /// The tag that proves that what the change expects still stands there; asked for where the listing gave none.
    pub(super) async fn proven(&self, key: &Key, path: &RelPath, old: &Observation) -> Result<Tag> {
        if old.tag != Tag::None {
            return Ok(old.tag.clone());
        }
        let blob = self
            .shared
            .store
            .stat(key)
            .await
            .map_err(|fault| self.gone(path, fault))?;
        let md5 = blobs::md5_of(&*self.shared.store, &blob);
        let seen = super::scan::observe(&blob, md5, None, self.options.classes);
        if old
            .entry
            .content()
            .zip(seen.entry.content())
            .is_some_and(|(a, b)| a.same(b) == Sameness::Differs)
        {
            return Err(self.shared.changed("was replaced since it was seen", path));
        }
        Ok(blob.tag)
    }

    /// Clears the way for an object: what stands there is kept in the trash, an empty directory goes. The condition under which to publish.
    pub(super) async fn clear_way(
        &self,
        change: &Change,
        key: &Key,
    ) -> Result<(Cond, Option<Tag>, Option<syncline_model::TrashRef>)> {
        let Some(old) = &change.old else {
            return Ok((Cond::Absent, None, None));
        };
        if old.entry.is_dir() {
            self.remove_dir(&change.path).await?;
            return Ok((Cond::Absent, None, None));
        }
        let tag = self.proven(key, &change.path, old).await?;
        let trashed = trash::keep(self, &change.path, key, &tag, true).await?;
        let cond = if tag == Tag::None {
            Cond::Any
        } else {
            Cond::Is(tag.clone())
        };
        Ok((cond, Some(tag), trashed))
    }

    /// What is no longer there has changed.
    pub(super) fn gone(&self, path: &RelPath, fault: Fault) -> Fault {
        match fault.kind {
            Kind::NotFound => self.shared.changed("is no longer there", path).because(fault),
            Kind::Exists => self.shared.changed("something is there now", path).because(fault),
            _ => fault,
        }
    }
}

impl BucketEdit {
    /// `new` with all attributes that are known of what it replaces and that it does not speak of itself: those of a class that
    /// this session does not carry are kept.
    pub(super) async fn completed(
        &self,
        path: &RelPath,
        new: &Entry,
        old: Option<&Observation>,
    ) -> Result<Entry> {
        let entry = carry_over(new, old);
        let Some(old) = old.filter(|old| !old.entry.is_dir()) else {
            return Ok(entry);
        };
        let row = self.shared.row_of(path, old).await?;
        let row = row.map(|row| Observation {
            entry: row.entry,
            tag: row.tag,
        });
        Ok(carry_over(&entry, row.as_ref()))
    }
}

fn number_of(hash: &blake3::Hash) -> LinkId {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    LinkId(u64::from_le_bytes(first))
}

/// The attributes of `new`, completed with what `old` has and `new` does not speak of.
pub(super) fn carry_over(new: &Entry, old: Option<&Observation>) -> Entry {
    let mut entry = new.clone();
    let kept = old.and_then(|old| old.entry.meta());
    if let (Some(meta), Some(kept)) = (entry.meta_mut(), kept) {
        let Meta {
            mode,
            owner,
            mtime,
            xattrs,
        } = kept;
        meta.mode = meta.mode.or(*mode);
        meta.owner = meta.owner.or(*owner);
        meta.mtime = meta.mtime.or(*mtime);
        meta.xattrs = meta.xattrs.take().or_else(|| xattrs.clone());
    }
    entry
}

/// User metadata for `entry`, where the store keeps any.
pub(super) fn beside(shared: &Shared, entry: &Entry) -> metadata::Metadata {
    if shared.store.caps().metadata {
        metadata::of_entry(entry)
    } else {
        metadata::Metadata::new()
    }
}

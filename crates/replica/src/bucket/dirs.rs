//! Directories of a bucket: they are there as long as something lies in them; only an empty one has a marker object, `dir/`.
//!
//! Invariant: after a barrier every directory that was made, or left without its last file, by this edit is still seen by a scan.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use syncline_model::{Change, Entry, Fault, Kind, Meta, Observation, RelPath, Result, Slot, Tag};
use syncline_store::Cond;

use super::edit::{BucketEdit, beside, carry_over};
use super::row::Row;
use super::{Shared, blobs, lock};
use crate::seam::Applied;

const AT_ONCE: usize = 32;
/// Directories remembered as made by this edit; beyond it they are asked for by name.
const MADE_MAX: usize = 100_000;
/// Directories without a marker that may wait for the barrier.
const FRESH_MAX: usize = 10_000;

/// What the barrier has to look after.
#[derive(Default)]
pub(super) struct Dirs {
    /// Made by this edit: nothing stood there before.
    made: BTreeSet<RelPath>,
    /// Made by this edit and empty so far.
    fresh: BTreeSet<RelPath>,
    /// Lost something that lay in them.
    thinned: BTreeSet<RelPath>,
    /// Have a marker and something in them.
    unneeded: BTreeSet<RelPath>,
    /// Known to be no file and no link of ours.
    sound: BTreeSet<RelPath>,
}

impl Dirs {
    /// True when a directory stands here that no object may show yet.
    pub fn stands(&self, path: &RelPath) -> bool {
        self.fresh.contains(path) || self.thinned.contains(path)
    }

    /// Directories that no object may show yet.
    pub fn unshown(&self) -> impl Iterator<Item = &RelPath> {
        self.fresh.union(&self.thinned)
    }

    /// True when `dir` was found to be no file and no link.
    pub fn sound(&self, dir: &RelPath) -> bool {
        self.sound.contains(dir) || self.made.contains(dir)
    }

    /// Remembers that.
    pub fn is_sound(&mut self, dir: &RelPath) {
        if self.sound.len() < MADE_MAX {
            self.sound.insert(dir.clone());
        }
    }

    /// An object came to stand there.
    pub fn unsound(&mut self, path: &RelPath) {
        self.sound.remove(path);
    }

    /// Something came to stand at `path`: the directories above it need no markers.
    pub fn touched(&mut self, path: &RelPath, shared: &Shared) {
        let mut at = path.parent();
        let markers = lock(&shared.markers);
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            self.fresh.remove(&dir);
            self.thinned.remove(&dir);
            if markers.contains(&dir) {
                self.unneeded.insert(dir.clone());
            }
            at = dir.parent();
        }
    }

    /// Something at `path` went.
    pub fn thinned(&mut self, path: &RelPath) {
        if let Some(dir) = path.parent().filter(|dir| !dir.is_root()) {
            self.unneeded.remove(&dir);
            self.thinned.insert(dir);
        }
    }

    /// The directory itself went; nothing lay in it.
    pub fn removed(&mut self, path: &RelPath) {
        for set in [
            &mut self.made,
            &mut self.fresh,
            &mut self.thinned,
            &mut self.unneeded,
        ] {
            set.remove(path);
        }
    }

    /// What was made below `from` and is still empty is now made below `to`; true if `from` itself was.
    pub fn move_fresh(&mut self, from: &RelPath, to: &RelPath) -> bool {
        let moved: Vec<RelPath> = self
            .fresh
            .iter()
            .filter(|dir| dir.is_within(from))
            .cloned()
            .collect();
        let any = !moved.is_empty();
        for dir in moved {
            self.fresh.remove(&dir);
            self.fresh.extend(dir.rebase(from, to));
        }
        any
    }

    /// The directory went with all below it.
    pub fn moved_away(&mut self, path: &RelPath) {
        for set in [
            &mut self.made,
            &mut self.fresh,
            &mut self.thinned,
            &mut self.unneeded,
        ] {
            set.retain(|dir| !dir.is_within(path));
        }
    }
}

impl BucketEdit {
    /// Makes a directory, or gives one other attributes.
    pub(super) async fn make_dir(&self, change: &Change, stands: bool) -> Result<Applied> {
        let path = &change.path;
        let Some(new) = &change.new else {
            return Err(Fault::new(Kind::Bug, "no directory to make", path));
        };
        blobs::dir_key_of(path)?;
        let old = change.old.as_ref().filter(|old| old.entry.is_dir());
        let row = match old {
            Some(_) => self.shared.tables.lookup(&Slot::of(path, true), None).await?,
            None => None,
        };
        let row = row.map(|row| Observation {
            entry: row.entry,
            tag: Tag::None,
        });
        let entry = carry_over(&carry_over(new, old), row.as_ref());
        if !stands {
            let above_is_new = path
                .parent()
                .is_some_and(|parent| lock(&self.shared.dirs).made.contains(&parent));
            if !above_is_new && !self.shared.dir_stands(&path.parent().unwrap_or_default()).await? {
                let what = "the directory in which it should be made is not there";
                return Err(Fault::new(
                    Kind::NotFound,
                    what,
                    format!("{path} in {}", self.shared.store.label()),
                ));
            }
            if !above_is_new && self.shared.find(path, self.options.classes).await?.is_some() {
                return Err(self.shared.changed("something is there now", path));
            }
        }
        if old.is_none() {
            let mut dirs = lock(&self.shared.dirs);
            dirs.touched(path, &self.shared);
            dirs.fresh.insert(path.clone());
            if dirs.made.len() < MADE_MAX {
                dirs.made.insert(path.clone());
            }
        }
        if entry.meta().is_some_and(|meta| *meta != Meta::default()) {
            self.record_dir(path, entry.clone())?;
        }
        self.settle_some().await?;
        Ok(Applied {
            now: Some(Observation {
                entry,
                tag: Tag::None,
            }),
            trashed: None,
            was: None,
        })
    }

    /// Remembers the attributes of a directory.
    pub(super) fn record_dir(&self, path: &RelPath, entry: Entry) -> Result<()> {
        let slot = Slot::of(path, true);
        let generation = self.shared.generation();
        self.shared.tables.put(
            &slot,
            Some(&Row {
                slot: slot.clone(),
                entry,
                tag: Tag::None,
                md5: None,
                generation,
                names: None,
            }),
        )
    }

    /// Removes an empty directory.
    pub(super) async fn remove_dir(&self, path: &RelPath) -> Result<()> {
        let shared = &self.shared;
        let inside = shared.look_into(path).await?;
        if inside.others {
            return Err(Fault::new(
                Kind::Exists,
                "the directory is not empty",
                format!("{path} in {}", shared.store.label()),
            ));
        }
        if inside.marker || lock(&shared.markers).remove(path) {
            blobs::remove(&*shared.store, blobs::dir_key_of(path)?, Cond::Any).await?;
            lock(&shared.markers).remove(path);
        }
        shared.tables.put(&Slot::of(path, true), None)?;
        let mut dirs = lock(&self.shared.dirs);
        dirs.removed(path);
        dirs.thinned(path);
        Ok(())
    }

    /// Settles before the barrier when too much waits for it.
    pub(super) async fn settle_some(&self) -> Result<()> {
        let waiting = {
            let dirs = lock(&self.shared.dirs);
            dirs.fresh.len().max(dirs.thinned.len())
        };
        if waiting >= FRESH_MAX {
            self.settle_dirs().await
        } else {
            Ok(())
        }
    }

    /// Gives empty directories their markers and takes them from those that are no longer empty.
    pub(super) async fn settle_dirs(&self) -> Result<()> {
        let (fresh, thinned, unneeded) = {
            let mut dirs = lock(&self.shared.dirs);
            (
                std::mem::take(&mut dirs.fresh),
                std::mem::take(&mut dirs.thinned),
                std::mem::take(&mut dirs.unneeded),
            )
        };
        let asked: Vec<_> = fresh
            .into_iter()
            .map(|dir| (dir, false))
            .chain(thinned.into_iter().map(|dir| (dir, true)))
            .collect();
        let done: Vec<Result<()>> = stream::iter(asked)
            .map(|(dir, look)| self.settle(dir, look))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        done.into_iter().collect::<Result<()>>()?;
        stream::iter(unneeded)
            .map(|dir| self.unmark(dir))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn settle(&self, dir: RelPath, look: bool) -> Result<()> {
        if look {
            let inside = self.shared.look_into(&dir).await?;
            if inside.marker || inside.others {
                return Ok(());
            }
        }
        match self.write_marker(&dir).await {
            Err(fault) if !matches!(fault.kind, Kind::Changed | Kind::Exists) => {
                // Not lost: the next barrier tries again.
                lock(&self.shared.dirs).thinned.insert(dir);
                Err(fault)
            }
            _ => {
                lock(&self.shared.markers).insert(dir);
                Ok(())
            }
        }
    }

    async fn write_marker(&self, dir: &RelPath) -> Result<()> {
        let row = self.shared.tables.lookup(&Slot::of(dir, true), None).await?;
        let entry = row.map_or_else(|| Entry::Dir(Meta::default()), |row| row.entry);
        let kept = beside(&self.shared, &entry);
        let key = blobs::dir_key_of(dir)?;
        blobs::write_whole(&*self.shared.store, &key, bytes::Bytes::new(), kept, Cond::Absent)
            .await
            .map(drop)
    }

    async fn unmark(&self, dir: RelPath) -> Result<()> {
        blobs::remove(&*self.shared.store, blobs::dir_key_of(&dir)?, Cond::Any).await?;
        lock(&self.shared.markers).remove(&dir);
        Ok(())
    }
}

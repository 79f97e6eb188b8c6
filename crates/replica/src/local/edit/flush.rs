//! When what was done survives a power cut.
//!
//! Invariant: a barrier that returned without an error covers all that was staged and applied before it was called, on
//! every file system that the run wrote or that the tree reaches into. After an error a file is flushed once more
//! through a handle of its own and, if that fails, named; never is one file tried twice.

use std::time::Duration;

use syncline_model::{Fault, Kind, RelPath, Result};
use syncline_store::{Attrs, Disk, Sync, Target};

use super::super::observe::held;
use super::super::tree::{prune, remove_tree};
use super::place::{STAGE, TRASH, own_dirs};
use super::{LocalEdit, Unsynced, named};
use crate::seam::Durability;

/// A barrier over a whole file system that takes longer is not asked for again.
const PATIENCE: Duration = Duration::from_secs(10);

impl<D: Disk> LocalEdit<D> {
    pub(super) fn barrier(&self) -> Result<()> {
        if self.how.durability == Durability::None || syncline_model::zoo::on("barrier-skipped") {
            return Ok(());
        }
        let todo = std::mem::take(&mut *held(&self.unsynced));
        let places: Vec<_> = held(&self.places).values().cloned().collect();
        let mut singly = self.how.durability == Durability::File;
        for place in &places {
            if self.singly(place) {
                singly = true;
                continue;
            }
            let begun = self.options.clock.elapsed();
            // A type that honours it and fails has lost something: which file, only the files can say.
            let failed = || self.disk.sync(Sync::Fs(&place.barrier)).is_err();
            let asked_again = syncline_model::zoo::on("failed-sync-tried-again");
            singly |= failed() && (!asked_again || failed());
            if self.options.clock.elapsed().saturating_sub(begun) > PATIENCE {
                self.slow.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        // What was only read there must not be lost either: the other side's base will remember it.
        let written: Vec<u64> = held(&self.places).keys().copied().collect();
        let read: Vec<D::Dir> = held(&self.routes.mounts)
            .iter()
            .filter(|(dev, _)| !written.contains(dev))
            .map(|(_, dir)| dir.clone())
            .collect();
        for dir in &read {
            self.disk.sync(Sync::Fs(dir))?;
        }
        if singly { self.one_by_one(&todo) } else { Ok(()) }
    }

    fn one_by_one(&self, todo: &Unsynced) -> Result<()> {
        let drafts: Vec<_> = held(&self.drafts)
            .values()
            .map(|draft| (draft.dir.clone(), draft.name.clone(), draft.path.clone()))
            .collect();
        for (dir, name, path) in drafts {
            let file = self.disk.open(&dir, &name, false);
            let synced = file.and_then(|file| match self.disk.sync(Sync::File(&file)) {
                Err(_) if syncline_model::zoo::on("failed-sync-tried-again") => {
                    self.disk.sync(Sync::File(&file))
                }
                synced => synced,
            });
            synced.map_err(|fault| lost(fault, &path))?;
        }
        for path in &todo.paths {
            self.sync_file(path).map_err(|fault| lost(fault, path))?;
        }
        if syncline_model::zoo::on("directories-not-flushed") {
            return Ok(());
        }
        for path in &todo.dirs {
            match self.routes.look(path.as_bytes(), false) {
                Ok(step) => self
                    .disk
                    .sync(Sync::Dir(&step.spot.dir))
                    .map_err(|fault| lost(fault, path))?,
                // It was removed again since.
                Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => {}
                Err(fault) => return Err(named(fault, path)),
            }
        }
        for place in held(&self.places).values() {
            self.disk.sync(Sync::Dir(&place.stage))?;
            self.disk.sync(Sync::Dir(&place.trash.root.spot.dir))?;
        }
        Ok(())
    }

    /// Flushes the file that stands at `path`, if there is one still.
    pub(super) fn sync_file(&self, path: &RelPath) -> Result<()> {
        let opened = self
            .routes
            .parent(path, true, false)
            .and_then(|(step, name)| self.disk.open(&step.spot.dir, &name, false));
        match opened {
            Ok(file) => self.disk.sync(Sync::File(&file)),
            Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    pub(super) fn end(&self) -> Result<()> {
        for (path, mode) in std::mem::take(&mut *held(&self.narrow)) {
            let attrs = Attrs {
                mode: Some(mode),
                ..Attrs::default()
            };
            match self.routes.parent(&path, true, false) {
                Ok((step, name)) => self.disk.set(Target::Name(&step.spot.dir, &name), attrs)?,
                Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => {}
                Err(fault) => return Err(named(fault, &path)),
            }
        }
        self.barrier()?;
        held(&self.drafts).clear();
        for (_, stages) in own_dirs(&self.routes, STAGE)? {
            remove_tree(&*self.disk, &stages, self.run.as_bytes())?;
        }
        // A run that displaced nothing leaves no trash.
        for place in held(&self.places).values() {
            place.trash.forget_all();
        }
        for (_, trashes) in own_dirs(&self.routes, TRASH)? {
            prune(&*self.disk, &trashes, self.run.as_bytes(), !self.how.trash)?;
        }
        Ok(())
    }
}

fn lost(fault: Fault, path: &RelPath) -> Fault {
    named(fault, path).hint("what was written there may be lost: look at the disk, then run again")
}

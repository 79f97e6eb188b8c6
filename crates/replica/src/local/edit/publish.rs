//! Putting something in the place of what stands there, and taking away what stands there.
//!
//! Invariant: nothing that stood in the tree is ever removed before we have seen, after it came out, that it is what was
//! expected; if it is not, it goes back to its path, and where that is taken again by something newer still it stays in
//! the trash. Where names can be exchanged or linked, the path is never empty in between.

use syncline_model::{Fault, Kind, Observation, Result, TrashRef};
use syncline_store::{Disk, Node, Place as How, Stat, Target};

use super::super::body::changed;
use super::super::observe::held;
use super::apply::is_same;
use super::attrs::Wanted;
use super::place::Berth;
use super::{At, Draft, LocalEdit};
use crate::seam::Durability;

/// How often an exchange is taken back when somebody replaces the file each time.
const BACK: usize = 8;

impl<D: Disk> LocalEdit<D> {
    /// Puts what the trash holds at `draft` in the place of `old`, which goes to this run's trash. Both change places, so that a killed run
    /// leaves the version where it was or where it belongs, never under a third name.
    pub(super) fn change_places(
        &self,
        draft: &mut Draft<D>,
        at: &At<D>,
        old: &Observation,
        wanted: Wanted,
    ) -> Result<Option<TrashRef>> {
        let seen = self.expect(at, old)?;
        let third_name = syncline_model::zoo::on("trash-copy-moved-first");
        if seen.kind == Node::Dir || !self.found.exchanges || third_name {
            return self.replace(draft, at, old, Some(wanted));
        }
        let wanted = self.inherited(at.name(), &seen, wanted)?;
        self.complete(draft, wanted)?;
        let kept = (&draft.dir, &draft.name[..]);
        match self.disk.place(kept, at.name(), How::Exchange) {
            Ok(()) => {}
            Err(fault) if fault.is(Kind::Unsupported) => return self.replace_in_steps(draft, at, &seen),
            Err(fault) if fault.is(Kind::NotFound) => return Err(changed("it is gone", &at.path)),
            Err(fault) => return Err(fault),
        }
        let out = self.disk.stat(kept.0, kept.1)?;
        let put = self.disk.stat(at.dir(), &at.name);
        if !is_same(&seen, &out) {
            // Somebody who took away or replaced what was just put there was quicker still: theirs stays, this stays in the trash.
            if put.is_ok_and(|put| is_same(&draft.stat, &put)) {
                self.disk.place(kept, at.name(), How::Exchange)?;
            }
            return Err(changed(
                "it was changed at the last moment; the newer one stays",
                &at.path,
            ));
        }
        let berth = at.place.berth(kept, &at.path)?;
        self.keep_or_forget(berth, at, &seen)
    }

    /// Puts `draft` in the place of `old`, which goes to the trash. With `wanted`, the draft is given these attributes,
    /// and of the others those of what it replaces; without, it is something of the tree and keeps its own.
    pub(super) fn replace(
        &self,
        draft: &mut Draft<D>,
        at: &At<D>,
        old: &Observation,
        wanted: Option<Wanted>,
    ) -> Result<Option<TrashRef>> {
        let seen = self.expect(at, old)?;
        if seen.kind == Node::Dir {
            self.want_empty(at.dir(), &at.name, at)?;
        }
        if let Some(wanted) = wanted {
            let wanted = self.inherited(at.name(), &seen, wanted)?;
            self.complete(draft, wanted)?;
        }
        if !self.found.exchanges {
            return self.replace_in_steps(draft, at, &seen);
        }
        let berth = at.place.berth((&draft.dir, &draft.name), &at.path)?;
        match self.disk.place(berth.name(), at.name(), How::Exchange) {
            Ok(()) => {}
            Err(fault) => {
                self.disk
                    .place(berth.name(), (&draft.dir, &draft.name), How::New)?;
                return match fault.kind {
                    Kind::Unsupported => self.replace_in_steps(draft, at, &seen),
                    Kind::NotFound => Err(changed("it is gone", &at.path)),
                    _ => Err(fault),
                };
            }
        }
        if let Err(fault) = self.came_out(&berth, at, &seen) {
            self.exchange_back(draft, &berth, at)?;
            return Err(fault);
        }
        self.keep_or_forget(berth, at, &seen)
    }

    /// Whether what lies at `berth` is what was seen and expected.
    fn came_out(&self, berth: &Berth<D>, at: &At<D>, seen: &Stat) -> Result<()> {
        let now = berth.stat(&self.disk)?;
        if !is_same(seen, &now) {
            return Err(changed(
                "it was changed at the last moment; the newer one stays",
                &at.path,
            ));
        }
        if now.kind == Node::Dir {
            self.want_empty(&berth.at.spot.dir, &berth.name, at)?;
        }
        Ok(())
    }

    fn exchange_back(&self, draft: &Draft<D>, berth: &Berth<D>, at: &At<D>) -> Result<()> {
        for _ in 0..BACK {
            match self.disk.place(berth.name(), at.name(), How::Exchange) {
                Ok(()) => {}
                Err(fault) if fault.is(Kind::NotFound) => {
                    self.disk.place(berth.name(), at.name(), How::New)?
                }
                Err(fault) => return Err(fault),
            }
            match berth.stat(&self.disk) {
                Ok(now) if is_same(&draft.stat, &now) => {
                    return self.disk.place(berth.name(), (&draft.dir, &draft.name), How::New);
                }
                // Somebody replaced what we had put there: theirs is newer, it goes back in turn.
                Ok(_) => {}
                // Somebody had taken away what we had put there: nothing of ours is left.
                Err(fault) if fault.is(Kind::NotFound) => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::new(
            Kind::Busy,
            "it is being replaced again and again; a version of it lies in the trash",
            &at.path,
        ))
    }

    /// Where names cannot be exchanged: a second name in the trash first, then the rename over it.
    fn replace_in_steps(&self, draft: &Draft<D>, at: &At<D>, seen: &Stat) -> Result<Option<TrashRef>> {
        if seen.kind != Node::Dir && draft.stat.kind != Node::Dir && self.profile.classes.links {
            let (_, name) = self.draft_name();
            let second = (&at.place.stage, &name[..]);
            match self.disk.place(at.name(), second, How::Link) {
                Ok(()) => {
                    let berth = at.place.berth(second, &at.path)?;
                    let linked = self.came_out(&berth, at, seen);
                    let stands = || {
                        self.disk
                            .stat(at.dir(), &at.name)
                            .is_ok_and(|now| is_same(seen, &now))
                    };
                    if linked.is_err() || !stands() {
                        self.disk.remove(&berth.at.spot.dir, &berth.name, false)?;
                        linked?;
                        return Err(changed("it was changed at the last moment", &at.path));
                    }
                    self.disk.place((&draft.dir, &draft.name), at.name(), How::Over)?;
                    return self.keep_or_forget(berth, at, seen);
                }
                Err(fault) if matches!(fault.kind, Kind::Unsupported | Kind::Denied) => {}
                Err(fault) => return Err(fault),
            }
        }
        let berth = self.take_out(at, seen)?;
        if let Err(fault) = self.disk.place((&draft.dir, &draft.name), at.name(), How::New) {
            return match fault.kind {
                Kind::Exists => Err(changed("something new stands there", &at.path)),
                _ => self.disk.place(berth.name(), at.name(), How::New).and(Err(fault)),
            };
        }
        self.keep_or_forget(berth, at, seen)
    }

    /// Renames what stands at `at` into the trash and looks at it there.
    fn take_out(&self, at: &At<D>, seen: &Stat) -> Result<Berth<D>> {
        let berth = at
            .place
            .berth(at.name(), &at.path)
            .map_err(|fault| match fault.kind {
                Kind::NotFound => changed("it is gone", &at.path),
                _ => fault,
            })?;
        if let Err(fault) = self.came_out(&berth, at, seen) {
            return match self.disk.place(berth.name(), at.name(), How::New) {
                // Something newer still stands there: this one stays in the trash.
                Err(taken) if taken.is(Kind::Exists) => Err(fault),
                Err(other) => Err(other),
                Ok(()) => Err(fault),
            };
        }
        Ok(berth)
    }

    /// Removes what stands at `at`.
    pub(super) fn take_away(&self, at: &At<D>, old: Option<&Observation>) -> Result<crate::seam::Applied> {
        let Some(old) = old else {
            return Err(Fault::new(Kind::Invalid, "from nothing to nothing", &at.path));
        };
        let seen = self.expect(at, old)?;
        let trashed = if seen.kind == Node::Dir {
            self.take_dir(at, &seen)?
        } else {
            let berth = self.take_out(at, &seen)?;
            self.keep_or_forget(berth, at, &seen)?
        };
        Ok(crate::seam::Applied {
            now: None,
            trashed,
            was: None,
        })
    }

    /// Removes an empty directory; the trash bears one with its attributes in its place.
    fn take_dir(&self, at: &At<D>, seen: &Stat) -> Result<Option<TrashRef>> {
        if !self.how.trash {
            self.remove_dir(at)?;
            return Ok(None);
        }
        let (above, parent) = at.place.above(&at.path)?;
        let made = super::super::own::make_dir(&*self.disk, &above.spot.dir, &at.name);
        let path = match &made {
            Ok(_) => [&parent[..], if parent.is_empty() { b"" } else { b"/" }, &at.name].concat(),
            Err(_) => Vec::new(),
        };
        if let Err(fault) = self.remove_dir(at) {
            if matches!(made, Ok((_, true))) {
                self.drop_draft((&above.spot.dir, &at.name), true);
            }
            return Err(fault);
        }
        let Ok((dir, _)) = made else { return Ok(None) };
        let classes = self.profile.classes;
        let wanted = Wanted::of_dir(seen, classes);
        self.set(Target::Dir(&dir), &wanted)?;
        let path = syncline_model::RelPath::new(path)
            .map_err(|bad| Fault::new(Kind::Bug, bad.to_string(), &at.path))?;
        Ok(Some(TrashRef {
            run: self.how.run.clone(),
            path,
        }))
    }

    fn remove_dir(&self, at: &At<D>) -> Result<()> {
        self.disk
            .remove(at.dir(), &at.name, true)
            .map_err(|fault| match fault.kind {
                Kind::NotFound => changed("it is gone", &at.path),
                Kind::Exists => Fault::new(Kind::Exists, "the directory is not empty", &at.path),
                _ => fault,
            })?;
        self.routes.forget(at.path.as_bytes());
        held(&self.narrow).remove(&at.path);
        Ok(())
    }

    fn want_empty(&self, dir: &D::Dir, name: &[u8], at: &At<D>) -> Result<()> {
        let mut empty = true;
        self.disk.list(&self.disk.open_dir(dir, name)?, &mut |_| {
            empty = false;
            false
        })?;
        if empty {
            Ok(())
        } else {
            Err(Fault::new(Kind::Exists, "the directory is not empty", &at.path))
        }
    }

    /// What came out stays in the trash, or is removed where none is kept.
    pub(super) fn keep_or_forget(
        &self,
        berth: Berth<D>,
        at: &At<D>,
        seen: &Stat,
    ) -> Result<Option<TrashRef>> {
        if seen.kind == Node::Dir {
            self.routes.forget(at.path.as_bytes());
        }
        if !self.how.trash {
            // Its other names are known by the times from before; what cannot be opened is looked at anew by the next run.
            let names = seen.links > 1 && seen.kind == Node::File;
            let held = names.then(|| self.disk.open(&berth.at.spot.dir, &berth.name, false).ok());
            self.disk
                .remove(&berth.at.spot.dir, &berth.name, seen.kind == Node::Dir)?;
            if let Some(file) = held.flatten() {
                let now = self.disk.stat_file(&file)?;
                self.routes.shifted.note(at.step.spot.fs, seen, &now);
            }
            return Ok(None);
        }
        if seen.links > 1 {
            self.routes
                .shifted
                .note(at.step.spot.fs, seen, &berth.stat(&self.disk)?);
        }
        if self.how.durability == Durability::File {
            self.disk.sync(syncline_store::Sync::Dir(&berth.at.spot.dir))?;
        }
        Ok(Some(TrashRef {
            run: self.how.run.clone(),
            path: berth.path,
        }))
    }
}

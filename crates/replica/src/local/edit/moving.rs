//! Moves and further names: the bytes are here already.
//!
//! Invariant: what stood at the source stands at the target afterwards, the very inode; where something else came along
//! it goes back. A whole directory moves in one step. Nothing of it changes but its name.

use syncline_model::{Entry, Fault, Kind, Observation, RelPath, Result, Tag, TrashRef};
use syncline_store::{Disk, Node, Place as How, Stat};

use super::super::body::changed;
use super::super::observe::{held, stamp};
use super::apply::{kind_is, unproved};
use super::attrs::Wanted;
use super::{At, Draft, LocalEdit};
use crate::seam::Applied;

impl<D: Disk> LocalEdit<D> {
    /// What stands at `from`, if it can be what `new` speaks of.
    fn source(&self, from: &RelPath, new: &Entry) -> Result<(At<D>, Stat)> {
        let at = self.at(from)?;
        let stat = self
            .disk
            .stat(at.dir(), &at.name)
            .map_err(|fault| match fault.kind {
                Kind::NotFound => changed("what should be moved is gone", from),
                _ => fault,
            })?;
        let fits = kind_is(new, stat.kind) && new.content().is_none_or(|content| content.size == stat.size);
        if fits {
            Ok((at, stat))
        } else {
            Err(changed("what should be moved was changed", from))
        }
    }

    /// Moves what stands at `from` to `at`.
    pub(super) fn move_here(
        &self,
        from: &RelPath,
        at: &At<D>,
        old: Option<&Observation>,
        new: &Entry,
    ) -> Result<Applied> {
        let (source, seen) = self.source(from, new)?;
        let trashed = match old {
            None => {
                self.disk.place(source.name(), at.name(), How::New)?;
                let now = self.disk.stat(at.dir(), &at.name)?;
                if now.inode != seen.inode {
                    self.disk.place(at.name(), source.name(), How::New)?;
                    return Err(changed("what should be moved was replaced", from));
                }
                None
            }
            Some(old) => self.move_onto(&source, &seen, at, old)?,
        };
        if seen.kind == Node::Dir {
            self.routes.forget(from.as_bytes());
            self.routes.forget(at.path.as_bytes());
        }
        held(&self.unsynced)
            .dirs
            .insert(from.parent().unwrap_or_default());
        let now = self.settled(at, &seen, new)?;
        Ok(Applied {
            now: Some(now),
            trashed,
            was: self.tag(&source, &seen),
        })
    }

    /// Exchanges what stands at `with` and at `at`: what is at `at` afterwards is what `new` speaks of. With its own name: what an
    /// earlier exchange brought to `at` is looked at.
    pub(super) fn exchange_here(&self, with: &RelPath, at: &At<D>, new: &Entry) -> Result<Applied> {
        let (source, seen) = self.source(with, new)?;
        if *with != at.path {
            let gone = |fault: Fault| match fault.kind {
                Kind::NotFound => changed("what should give its name is gone", &at.path),
                _ => fault,
            };
            let there = self.disk.stat(at.dir(), &at.name).map_err(gone)?;
            self.disk
                .place(source.name(), at.name(), How::Exchange)
                .map_err(gone)?;
            let (came, went) = (
                self.disk.stat(at.dir(), &at.name)?,
                self.disk.stat(source.dir(), &source.name)?,
            );
            if (came.inode, went.inode) != (seen.inode, there.inode) {
                self.disk.place(source.name(), at.name(), How::Exchange)?;
                return Err(changed("what should be exchanged was replaced", with));
            }
            for path in [with, &at.path] {
                self.routes.forget(path.as_bytes());
            }
            self.routes.shifted.note(source.step.spot.fs, &there, &went);
            let parent = with.parent().unwrap_or_default();
            held(&self.unsynced).dirs.insert(parent);
        }
        Ok(Applied {
            now: Some(self.settled(at, &seen, new)?),
            trashed: None,
            was: self.tag(&source, &seen),
        })
    }

    /// What was seen as `seen` has come to `at`, and stays as it is. Says what stands there now; where that is no longer what `new` says, the
    /// report says `new`: the next run sees what was changed meanwhile.
    fn settled(&self, at: &At<D>, seen: &Stat, new: &Entry) -> Result<Observation> {
        let after = self.disk.stat(at.dir(), &at.name)?;
        self.routes.shifted.note(at.step.spot.fs, seen, &after);
        let timed = seen.kind == Node::Dir || seen.mtime == after.mtime;
        let now = self.now(at, new, None)?;
        if timed && as_seen(new, &now.entry) {
            Ok(now)
        } else {
            Ok(unproved(at.step.spot.fs, after.inode, new.clone()))
        }
    }

    /// The tag of what was seen at `at`.
    fn tag(&self, at: &At<D>, seen: &Stat) -> Option<Tag> {
        let fs = self.routes.observer.fs(&at.step.spot, &at.name, seen).ok()?;
        Some(Tag::Stamp(stamp(fs, seen, self.classes().ctime)))
    }

    fn move_onto(
        &self,
        source: &At<D>,
        seen: &Stat,
        at: &At<D>,
        old: &Observation,
    ) -> Result<Option<TrashRef>> {
        let dir = source.dir().clone();
        let mut draft = Draft {
            dir,
            name: source.name.to_vec(),
            stat: *seen,
            wanted: Wanted::default(),
            path: at.path.clone(),
        };
        // By way of the trash, as any replacement: killed in between, what moves is found there.
        let displaced = self.expect(at, old)?;
        if displaced.kind == Node::Dir || seen.kind == Node::Dir || !self.found.exchanges {
            return self.replace(&mut draft, at, old, None);
        }
        self.disk.place(source.name(), at.name(), How::Exchange)?;
        let moved = self.disk.stat(at.dir(), &at.name)?;
        let out = self.disk.stat(source.dir(), &source.name)?;
        if moved.inode != seen.inode || !super::apply::is_same(&displaced, &out) {
            self.disk.place(source.name(), at.name(), How::Exchange)?;
            return Err(changed("it was changed at the last moment", &at.path));
        }
        let berth = at.place.berth(source.name(), &at.path)?;
        self.keep_or_forget(berth, at, &displaced)
    }

    /// Gives the file at `from` one more name.
    pub(super) fn link_here(
        &self,
        from: &RelPath,
        at: &At<D>,
        old: Option<&Observation>,
        new: &Entry,
    ) -> Result<Applied> {
        if !new.is_file() {
            return Err(Fault::new(
                Kind::Invalid,
                "only files have several names",
                &at.path,
            ));
        }
        let (source, seen) = self.source(from, new)?;
        let trashed = match old {
            None => {
                self.disk
                    .place(source.name(), at.name(), How::Link)
                    .map_err(|fault| match fault.kind {
                        Kind::Exists => changed("something stands there already", &at.path),
                        _ => fault,
                    })?;
                None
            }
            Some(old) => {
                let (_, name) = self.draft_name();
                let dir = at.place.stage.clone();
                self.disk.place(source.name(), (&dir, &name), How::Link)?;
                let stat = self.disk.stat(&dir, &name)?;
                self.routes.shifted.note(source.step.spot.fs, &seen, &stat);
                let mut draft = Draft {
                    dir,
                    name,
                    stat,
                    wanted: Wanted::default(),
                    path: at.path.clone(),
                };
                match self.link_over(&mut draft, at, old) {
                    Ok(trashed) => trashed,
                    Err(fault) => {
                        self.drop_draft((&draft.dir, &draft.name), false);
                        return Err(fault);
                    }
                }
            }
        };
        let after = self.disk.stat(at.dir(), &at.name)?;
        if after.inode != seen.inode {
            return Err(changed("what should get one more name was replaced", from));
        }
        self.routes.shifted.note(at.step.spot.fs, &seen, &after);
        Ok(Applied {
            now: Some(self.as_wanted(at, new, None)?),
            trashed,
            was: self.tag(&source, &seen),
        })
    }

    fn link_over(&self, draft: &mut Draft<D>, at: &At<D>, old: &Observation) -> Result<Option<TrashRef>> {
        let displaced = self.expect(at, old)?;
        if displaced.inode == draft.stat.inode && displaced.dev == draft.stat.dev {
            // They are one file already; a rename between two names of one file does nothing.
            self.drop_draft((&draft.dir, &draft.name), false);
            return Ok(None);
        }
        self.replace(draft, at, old, None)
    }
}

/// Whether nobody set other attributes than were seen; the time of a directory moves with what is put into it.
pub(super) fn as_seen(seen: &Entry, now: &Entry) -> bool {
    fn same<T: PartialEq>(seen: Option<&T>, now: Option<&T>) -> bool {
        seen.zip(now).is_none_or(|(seen, now)| seen == now)
    }
    let (Some(was), Some(now)) = (seen.meta(), now.meta()) else {
        return true;
    };
    same(was.mode.as_ref(), now.mode.as_ref())
        && same(was.owner.as_ref(), now.owner.as_ref())
        && same(was.xattrs.as_ref(), now.xattrs.as_ref())
        && (seen.is_dir() || same(was.mtime.as_ref(), now.mtime.as_ref()))
}

//! Moves and further names: the bytes are here already.
//!
//! Invariant: what stood at the source stands at the target afterwards, the very inode; where something else came along
//! it goes back. A whole directory moves in one step.

use syncline_model::{Entry, Fault, Kind, Observation, RelPath, Result, Tag, Time, TrashRef};
use syncline_store::{Disk, Node, Place as How, Stat, Target};

use super::super::body::changed;
use super::super::observe::{held, stamp};
use super::apply::kind_is;
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

    /// Moves what stands at `from` to `at`. A file whose time is not the one that `new` names may have been changed:
    /// the report's stamp then makes the next run read it.
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

    /// What was seen as `seen` has come to `at`: it gets its attributes. Says what stands there now.
    fn settled(&self, at: &At<D>, seen: &Stat, new: &Entry) -> Result<Observation> {
        let after = self.disk.stat(at.dir(), &at.name)?;
        self.routes.shifted.note(at.step.spot.fs, seen, &after);
        let sure = new
            .meta()
            .and_then(|meta| meta.mtime)
            .is_none_or(|mtime| mtime == seen.mtime)
            && (seen.kind == Node::Dir || seen.mtime == after.mtime);
        let wanted = self.wanted(new).without(&after);
        self.set(Target::Name(at.dir(), &at.name), &wanted)?;
        let mut now = self.as_wanted(at, new, None)?;
        if let (false, true, Tag::Stamp(stamp)) = (sure, new.is_file(), &mut now.tag) {
            stamp.ctime = Time::NEVER;
        }
        Ok(now)
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

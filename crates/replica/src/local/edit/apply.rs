//! One change: which way it goes, and what it says afterwards.
//!
//! Invariant: what is reported as standing there now is what we put there: where somebody was quicker in between, the
//! report bears a stamp that no later look equals, so that the next run reads the file again.

use std::sync::Arc;

use syncline_model::{
    Change, Entry, Fault, From, Kind, Observation, RelPath, Result, Sameness, Special, Stamp, Tag, Time,
    TrashRef,
};
use syncline_store::disk::Make;
use syncline_store::{Disk, Node, Place as How, Stat, Target};

use super::super::body::changed;
use super::super::observe::held;
use super::attrs::Wanted;
use super::moving::as_seen;
use super::{At, Draft, LocalEdit};
use crate::seam::{Applied, Durability, Staged};

impl<D: Disk> LocalEdit<D> {
    pub(super) fn apply_change(&self, change: &Change, staged: Option<Staged>) -> Result<Applied> {
        let at = self.at(&change.path)?;
        let applied = match (&change.from, &change.new) {
            (Some(From::Move(from)), Some(new)) => self.move_here(from, &at, change.old.as_ref(), new),
            (Some(From::Exchange(with)), Some(new)) => self.exchange_here(with, &at, new),
            (Some(From::Link(from)), Some(new)) => self.link_here(from, &at, change.old.as_ref(), new),
            (Some(From::Trash(from)), Some(new)) => self.back_from_trash(from, &at, change.old.as_ref(), new),
            (Some(_), None) => Err(Fault::new(Kind::Invalid, "a move to nothing", &change.path)),
            (None, None) => self.take_away(&at, change.old.as_ref()),
            (None, Some(new)) => self.put(&at, change.old.as_ref(), new, staged),
        }?;
        self.note(&at, change.new.as_ref().is_some_and(Entry::is_file))?;
        Ok(applied)
    }

    /// The directory that holds `path`, verified now. A directory that is gone or was replaced is a change.
    pub(super) fn at(&self, path: &RelPath) -> Result<At<D>> {
        let (step, name) = self
            .routes
            .parent(path, true, false)
            .map_err(|fault| match fault.kind {
                Kind::NotFound => changed("the directory that should hold it is gone", path),
                Kind::Changed => changed("something else stands in place of a directory above it", path),
                _ => fault,
            })?;
        let place = self.place_at(path.parent().unwrap_or_default(), Arc::clone(&step))?;
        Ok(At {
            step,
            name,
            path: path.clone(),
            place,
        })
    }

    fn put(
        &self,
        at: &At<D>,
        old: Option<&Observation>,
        new: &Entry,
        staged: Option<Staged>,
    ) -> Result<Applied> {
        if let (Some(old), None) = (old, &staged)
            && same_node(&old.entry, new)
        {
            return self.set_attributes(at, old, new);
        }
        let mut draft = self.draft_for(at, new, staged.as_ref())?;
        let put = match old {
            None => self.publish_new(&mut draft, at, new).map(|()| None),
            Some(old) => self.replace(&mut draft, at, old, Some(self.wanted(new))),
        };
        match put {
            Ok(trashed) => {
                let content = staged.as_ref().map_or(new, |staged| &staged.entry);
                Ok(Applied {
                    now: Some(self.now(at, content, Some(&draft.stat))?),
                    trashed,
                    was: None,
                })
            }
            Err(fault) => {
                // A file's draft is kept: the caller may hand it in again after another look.
                match staged {
                    Some(staged) => drop(held(&self.drafts).insert(staged.draft, draft)),
                    None => self.drop_draft((&draft.dir, &draft.name), draft.stat.kind == Node::Dir),
                }
                Err(fault)
            }
        }
    }

    /// The draft of a new node: what was staged, or made now.
    fn draft_for(&self, at: &At<D>, new: &Entry, staged: Option<&Staged>) -> Result<Draft<D>> {
        if let Some(staged) = staged {
            let draft = held(&self.drafts).remove(&staged.draft);
            return draft.ok_or_else(|| Fault::new(Kind::Invalid, "what was staged is not here", &at.path));
        }
        let what = match new {
            Entry::Dir(_) => Make::Dir,
            Entry::Link(_, target) => Make::Link(target),
            Entry::Special(_, Special::Block(..) | Special::Char(..)) if !self.trusts_set_ids() => {
                return Err(Fault::new(
                    Kind::Denied,
                    "devices of the other side are not taken over",
                    &at.path,
                ));
            }
            Entry::Special(_, special) => Make::Special(*special),
            Entry::File(..) => {
                return Err(Fault::new(
                    Kind::Invalid,
                    "a file needs its bytes staged",
                    &at.path,
                ));
            }
            Entry::Opaque(_) => return Err(Fault::new(Kind::Invalid, "nothing can be made of it", &at.path)),
        };
        let dir = at.place.stage.clone();
        let (_, name) = self.draft_name();
        self.disk.make(&dir, &name, what)?;
        let wanted = self.wanted(new);
        let made = self
            .set(Target::Name(&dir, &name), &wanted)
            .and_then(|()| self.disk.stat(&dir, &name));
        match made {
            Ok(stat) => Ok(Draft {
                dir,
                name,
                stat,
                wanted,
                path: at.path.clone(),
            }),
            Err(fault) => {
                self.drop_draft((&dir, &name), matches!(new, Entry::Dir(_)));
                Err(fault)
            }
        }
    }

    /// Gives a draft the attributes that it lacks, before anybody can see it.
    pub(super) fn complete(&self, draft: &mut Draft<D>, wanted: Wanted) -> Result<()> {
        if wanted == draft.wanted {
            return Ok(());
        }
        let missing = wanted.clone().without(&draft.stat);
        self.set(Target::Name(&draft.dir, &draft.name), &missing)?;
        draft.stat = self.disk.stat(&draft.dir, &draft.name)?;
        draft.wanted = wanted;
        Ok(())
    }

    fn publish_new(&self, draft: &mut Draft<D>, at: &At<D>, new: &Entry) -> Result<()> {
        let mut wanted = self.fresh(new, self.wanted(new));
        if let (Entry::Dir(_), Some(mode)) = (new, wanted.meta.mode)
            && mode & 0o300 != 0o300
            && !self.profile.classes.owner
        {
            held(&self.narrow).insert(at.path.clone(), mode);
            wanted.meta.mode = Some(mode | 0o700);
        }
        self.complete(draft, wanted)?;
        self.reveal(draft, at)
    }

    fn reveal(&self, draft: &Draft<D>, at: &At<D>) -> Result<()> {
        self.disk
            .place((&draft.dir, &draft.name), at.name(), How::New)
            .map_err(|fault| match fault.kind {
                Kind::Exists => changed("something stands there already", &at.path),
                _ => fault,
            })
    }

    /// Looks at what stands at `at`: `Changed` unless it is `old`.
    pub(super) fn expect(&self, at: &At<D>, old: &Observation) -> Result<Stat> {
        let stat = self
            .disk
            .stat(at.dir(), &at.name)
            .map_err(|fault| match fault.kind {
                Kind::NotFound => changed("it is gone", &at.path),
                _ => fault,
            })?;
        let fs = self.routes.observer.fs(&at.step.spot, &at.name, &stat)?;
        if self.routes.shifted.still(old, &stat, fs) || syncline_model::zoo::on("target-not-looked-at") {
            return Ok(stat);
        }
        if stat.kind == Node::Link && !matches!(old.entry, Entry::Link(..)) {
            let what = "a link stands there, and nothing is changed through a link";
            return Err(Fault::new(Kind::Unsupported, what, &at.path).hint(
                "where links are followed, make the change in what it points to; else the next run decides anew",
            ));
        }
        Err(changed("it was changed since it was looked at", &at.path))
    }

    fn set_attributes(&self, at: &At<D>, old: &Observation, new: &Entry) -> Result<Applied> {
        let before = self.expect(at, old)?;
        let fs = self.routes.observer.fs(&at.step.spot, &at.name, &before)?;
        let mut wanted = self.wanted(new);
        if self.routes.shifted.only_ours(old, &before, fs) {
            // What was set under another name of it stays: only what changes under this one is set.
            wanted = wanted.but_for(old.entry.meta());
        } else if !self.bears(at, old, &before)? {
            return Err(changed(
                "its attributes were set since it was looked at",
                &at.path,
            ));
        }
        if new.is_dir() && !self.profile.classes.owner {
            // A directory that we must still write in gets its narrow mode at the end.
            let mut narrow = held(&self.narrow);
            if let (Some(waiting), Some(mode)) = (narrow.get_mut(&at.path), wanted.meta.mode) {
                *waiting = mode;
                wanted.meta.mode = Some(mode | 0o700);
            }
        }
        let mtime = wanted.meta.mtime;
        self.set(Target::Name(at.dir(), &at.name), &wanted.without(&before))?;
        let after = self.disk.stat(at.dir(), &at.name)?;
        if after.inode != before.inode {
            return Err(changed("it was replaced while its attributes were set", &at.path));
        }
        self.routes
            .shifted
            .note_set(at.step.spot.fs, &before, &after, mtime);
        if new.is_file() && self.how.durability == Durability::File {
            self.sync_file(&at.path)?;
        }
        // Bytes that changed under our hands are not what was agreed.
        let timed = self.wanted(new).meta.mtime.is_some() || before.mtime == after.mtime;
        if new.is_file() && !(timed && before.size == after.size) {
            return Err(changed("it was changed while its attributes were set", &at.path));
        }
        Ok(Applied {
            now: Some(self.as_wanted(at, new, Some(&after))?),
            trashed: None,
            was: None,
        })
    }

    /// Whether what stands at `at` has the attributes that `old` saw. The time of status change tells it of a file that stood still, not of a
    /// directory nor of what has just moved.
    fn bears(&self, at: &At<D>, old: &Observation, before: &Stat) -> Result<bool> {
        let observer = &self.routes.observer;
        let mut now = observer.observe(&at.step.spot, &at.name, before, self.classes())?;
        if let (Some(mode), Some(meta)) = (held(&self.narrow).get(&at.path), now.entry.meta_mut()) {
            meta.mode = Some(*mode);
        }
        Ok(as_seen(&old.entry, &now.entry))
    }

    /// What stands at `at` now. Where it has not the attributes that it was to have, somebody set others in between: the
    /// report then says what was wanted, so that the next run sees what was done.
    pub(super) fn as_wanted(&self, at: &At<D>, new: &Entry, put: Option<&Stat>) -> Result<Observation> {
        let now = self.now(at, new, put)?;
        let wanted = self.wanted(new).meta;
        let narrow = held(&self.narrow).contains_key(&at.path);
        let fits = now.entry.meta().is_some_and(|meta| {
            let timed = new.is_dir() || self.same_time(meta.mtime, wanted.mtime);
            let mode = narrow || wanted.mode.is_none_or(|mode| meta.mode == Some(mode));
            timed && mode && wanted.owner.is_none_or(|owner| meta.owner == Some(owner))
        });
        if fits {
            return Ok(now);
        }
        let inode = now.tag.stamp().map_or(0, |stamp| stamp.inode);
        let mut entry = new.clone();
        if let Some(meta) = entry.meta_mut() {
            meta.mode = wanted.mode.or(meta.mode);
        }
        Ok(unproved(at.step.spot.fs, inode, entry))
    }

    fn same_time(&self, now: Option<Time>, wanted: Option<Time>) -> bool {
        let nanos = |time: Time| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        let step = i128::from(self.profile.time_step.max(1));
        now.zip(wanted)
            .is_none_or(|(now, wanted)| (nanos(now) - nanos(wanted)).abs() < step)
    }

    /// What stands at `at` now, told with the digests of `entry`; `put` is what we put there, if we know its stat.
    pub(super) fn now(&self, at: &At<D>, entry: &Entry, put: Option<&Stat>) -> Result<Observation> {
        let classes = self.classes();
        let stat = match self.disk.stat(at.dir(), &at.name) {
            Ok(stat) => Some(stat),
            Err(fault) if fault.is(Kind::NotFound) => None,
            Err(fault) => return Err(fault),
        };
        let ours = stat.filter(|now| put.is_none_or(|put| is_same(put, now) && has_attributes(put, now)));
        if let Some(stat) = ours
            && let Ok(mut now) = self
                .routes
                .observer
                .observe(&at.step.spot, &at.name, &stat, classes)
        {
            if let (Some(into), Some(known)) = (now.entry.content_mut(), entry.content())
                && into.size == known.size
            {
                into.learn(known);
            }
            if let (Some(mode), Some(meta)) = (held(&self.narrow).get(&at.path), now.entry.meta_mut()) {
                meta.mode = Some(*mode);
            }
            return Ok(now);
        }
        let inode = put.map_or(0, |put| put.inode);
        Ok(unproved(at.step.spot.fs, inode, entry.clone()))
    }

    /// Remembers what a barrier must still cover; with `--durability file` covers it at once.
    fn note(&self, at: &At<D>, file: bool) -> Result<()> {
        match self.how.durability {
            Durability::None => Ok(()),
            Durability::File => self.disk.sync(syncline_store::Sync::Dir(at.dir())),
            Durability::Batch => {
                let mut unsynced = held(&self.unsynced);
                if file {
                    unsynced.paths.push(at.path.clone());
                }
                unsynced.dirs.insert(at.path.parent().unwrap_or_default());
                Ok(())
            }
        }
    }

    /// A file, link or node back from the trash of a run; a directory is made anew, what lay in it comes by itself.
    fn back_from_trash(
        &self,
        from: &TrashRef,
        at: &At<D>,
        old: Option<&Observation>,
        new: &Entry,
    ) -> Result<Applied> {
        if new.is_dir() {
            return self.put(at, old, new, None);
        }
        let run = super::place::run_name(&from.run)?;
        let (kept, name) = super::super::trash::find(&self.routes, &run, &from.path, at.step.spot.dev)?;
        let stat = self.disk.stat(&kept.spot.dir, &name)?;
        if !kind_is(new, stat.kind) || new.content().is_some_and(|content| content.size != stat.size) {
            return Err(Fault::new(
                Kind::Corrupt,
                "the trash holds something else there",
                &from.path,
            ));
        }
        let dir = kept.spot.dir.clone();
        let mut draft = Draft {
            dir,
            name,
            stat,
            wanted: Wanted::default(),
            path: at.path.clone(),
        };
        let trashed = match old {
            None => {
                self.complete(&mut draft, self.wanted(new))?;
                self.reveal(&draft, at)?;
                None
            }
            Some(old) => self.change_places(&mut draft, at, old, self.wanted(new))?,
        };
        Ok(Applied {
            now: Some(self.now(at, new, Some(&draft.stat))?),
            trashed,
            was: None,
        })
    }
}

/// The same node with other attributes: nothing has to be made.
fn same_node(old: &Entry, new: &Entry) -> bool {
    match (old, new) {
        (Entry::File(_, a, _), Entry::File(_, b, _)) => a.same(b) != Sameness::Differs,
        (a, b) => a.same_content(b) == Sameness::Same,
    }
}

/// Whether two looks saw the same bytes of the same inode.
pub(super) fn is_same(put: &Stat, now: &Stat) -> bool {
    let file = put.kind != Node::File || (put.size, put.mtime) == (now.size, now.mtime);
    put.kind == now.kind && put.inode == now.inode && file
}

/// Whether nobody set other attributes than we had; the time of a directory moves with what is put into it.
fn has_attributes(put: &Stat, now: &Stat) -> bool {
    (put.mode, put.owner) == (now.mode, now.owner) && (put.kind == Node::Dir || put.mtime == now.mtime)
}

/// What was agreed on, under a stamp that no later look equals.
pub(super) fn unproved(fs: u64, inode: u64, entry: Entry) -> Observation {
    let ctime = Time::NEVER;
    Observation {
        entry,
        tag: Tag::Stamp(Stamp { fs, inode, ctime }),
    }
}

/// Whether an entry is of this kind.
pub(super) fn kind_is(entry: &Entry, kind: Node) -> bool {
    match (entry, kind) {
        (Entry::Dir(_), Node::Dir) | (Entry::File(..), Node::File) | (Entry::Link(..), Node::Link) => true,
        (Entry::Special(_, a), Node::Special(b)) => *a == b,
        _ => false,
    }
}

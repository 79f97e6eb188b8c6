//! Attributes of what is made: those carried from the other side, those kept of what is replaced.
//!
//! Invariant: an attribute that is not carried (its class is off, or the other side does not hold it) survives a
//! replacement: it is taken over from what stood there. Set-id bits and capabilities of the other side are dropped
//! unless they were asked for and we may set owners (security rule SP8).

use syncline_model::{Classes, Entry, Kind, Meta, Result, Xattrs};
use syncline_store::disk::XattrClasses;
use syncline_store::{Attrs, Disk, Node, Stat, Target};

use super::LocalEdit;

/// What of an entry's attributes is to be set.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    pub meta: Meta,
    classes: Option<XattrClasses>,
}

impl Wanted {
    fn attrs(&self) -> Attrs<'_> {
        Attrs {
            owner: self.meta.owner,
            mode: self.meta.mode,
            mtime: self.meta.mtime,
            xattrs: self.meta.xattrs.as_deref().zip(self.classes),
        }
    }

    fn is_empty(&self) -> bool {
        self.meta == Meta::default()
    }

    /// Those that an empty directory in the trash bears; it must stay open to us.
    pub fn of_dir(seen: &Stat, classes: Classes) -> Self {
        let meta = Meta {
            mode: classes.mode.then_some(seen.mode | 0o700),
            owner: classes.owner.then_some(seen.owner),
            mtime: classes.times.then_some(seen.mtime),
            xattrs: None,
        };
        Self { meta, classes: None }
    }

    /// Drops what is as it was.
    pub fn but_for(mut self, old: Option<&Meta>) -> Self {
        let Some(old) = old else { return self };
        let meta = &mut self.meta;
        meta.mode = meta.mode.filter(|mode| old.mode != Some(*mode));
        meta.owner = meta.owner.filter(|owner| old.owner != Some(*owner));
        meta.mtime = meta.mtime.filter(|mtime| old.mtime != Some(*mtime));
        meta.xattrs = meta
            .xattrs
            .take()
            .filter(|xattrs| old.xattrs.as_ref() != Some(xattrs));
        self
    }

    /// Drops what is so already.
    pub fn without(mut self, now: &Stat) -> Self {
        // A change of owner takes the set-id bits away, a change of ACLs the group's: the mode goes with them.
        let owner = self.meta.owner.is_some_and(|owner| owner != now.owner);
        if !owner {
            self.meta.owner = None;
        }
        if !owner && self.meta.xattrs.is_none() && self.meta.mode == Some(now.mode) {
            self.meta.mode = None;
        }
        if self.meta.mtime == Some(now.mtime) {
            self.meta.mtime = None;
        }
        self
    }
}

impl<D: Disk> LocalEdit<D> {
    /// Classes that are carried and that this place holds.
    pub(super) fn classes(&self) -> Classes {
        self.how.classes.and(self.profile.classes)
    }

    /// True when what gives power over this machine is taken over (security rule SP8).
    pub(super) fn trusts_set_ids(&self) -> bool {
        self.options.set_ids && self.profile.classes.owner
    }

    /// What of `entry` is set here.
    pub(super) fn wanted(&self, entry: &Entry) -> Wanted {
        let Some(meta) = entry.meta() else {
            return Wanted::default();
        };
        let classes = self.classes();
        let link = matches!(entry, Entry::Link(..));
        let kept_bits = match entry {
            _ if self.trusts_set_ids() => 0o7777,
            Entry::Dir(_) => 0o1777,
            _ => 0o777,
        };
        let xattr_classes = XattrClasses {
            plain: classes.xattrs,
            acls: classes.acls,
        };
        let any_xattrs = (classes.xattrs || classes.acls) && !link;
        let xattrs = meta
            .xattrs
            .as_deref()
            .filter(|_| any_xattrs)
            .map(|all| Box::new(self.trusted(all)));
        Wanted {
            classes: xattrs.as_ref().map(|_| xattr_classes),
            meta: Meta {
                mode: meta
                    .mode
                    .filter(|_| classes.mode && !link)
                    .map(|mode| mode & kept_bits),
                owner: meta.owner.filter(|_| classes.owner),
                mtime: meta.mtime.filter(|_| classes.times),
                xattrs,
            },
        }
    }

    fn trusted(&self, all: &Xattrs) -> Xattrs {
        let risky = |name: &[u8]| name.starts_with(b"security.") || name.starts_with(b"trusted.");
        all.iter()
            .filter(|(name, _)| self.trusts_set_ids() || !risky(name))
            .cloned()
            .collect()
    }

    /// Sets `wanted`; attributes that this very node cannot hold are left out.
    pub(super) fn set(&self, of: Target<'_, D>, wanted: &Wanted) -> Result<()> {
        if wanted.is_empty() {
            Ok(())
        } else {
            self.disk.set(of, wanted.attrs())
        }
    }

    /// Completes `wanted` for a new entry: a mode of its own as the umask has it.
    pub(super) fn fresh(&self, entry: &Entry, mut wanted: Wanted) -> Wanted {
        let full = match entry {
            Entry::Link(..) => return wanted,
            Entry::Dir(_) => 0o777,
            _ => 0o666,
        };
        wanted.meta.mode = wanted.meta.mode.or(Some(full & !self.options.umask & 0o777));
        wanted
    }

    /// Completes `wanted` for a file that takes the place of another: what is not carried is as it was there.
    pub(super) fn inherited(&self, at: (&D::Dir, &[u8]), old: &Stat, mut wanted: Wanted) -> Result<Wanted> {
        if old.kind != Node::File {
            return Ok(wanted);
        }
        let may = self.profile.classes;
        if wanted.meta.mode.is_none() && may.mode {
            wanted.meta.mode = Some(old.mode);
        }
        if wanted.meta.owner.is_none() && may.owner {
            wanted.meta.owner = Some(old.owner);
        }
        if wanted.meta.xattrs.is_some() {
            return Ok(wanted);
        }
        let classes = XattrClasses {
            plain: may.xattrs,
            acls: may.acls,
        };
        if classes.plain || classes.acls {
            let mut kept = match self.disk.xattrs(Target::Name(at.0, at.1), classes) {
                Err(fault) if fault.is(Kind::Unsupported) => return Ok(wanted),
                kept => kept?,
            };
            // New bytes do not inherit the power that was given to the old ones.
            kept.retain(|(name, _)| name != b"security.capability");
            if !kept.is_empty() {
                wanted.meta.xattrs = Some(Box::new(kept));
                wanted.classes = Some(classes);
            }
        }
        Ok(wanted)
    }
}

//! What stands at a name, as an [`Observation`], and whether it is still what was seen earlier.
//!
//! Invariant: a stamp never holds a device number; a file system is known by its UUID, asked once for each device.
//! Where the time of status change means nothing, the stamp bears the time of modification in its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_model::{Classes, Content, Entry, Kind, LinkId, Meta, Observation, Result, Stamp, Tag, Time};
use syncline_store::disk::XattrClasses;
use syncline_store::{Disk, Node, Stat, Target};

/// Takes a lock whose holder may have panicked: what it guards is whole between any two statements of ours.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A held directory and what it is.
pub(crate) struct Spot<D: Disk> {
    pub dir: D::Dir,
    pub dev: u64,
    pub inode: u64,
    /// Identity of its file system.
    pub fs: u64,
}

impl<D: Disk> Clone for Spot<D> {
    fn clone(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            dev: self.dev,
            inode: self.inode,
            fs: self.fs,
        }
    }
}

/// Makes observations.
pub(crate) struct Observer<D: Disk> {
    pub disk: Arc<D>,
    known: Mutex<BTreeMap<u64, u64>>,
}

impl<D: Disk> Observer<D> {
    pub fn new(disk: Arc<D>) -> Self {
        Self {
            disk,
            known: Mutex::new(BTreeMap::new()),
        }
    }

    /// A directory that was just opened, with what it is.
    pub fn spot(&self, dir: D::Dir) -> Result<Spot<D>> {
        let stat = self.disk.stat(&dir, b"")?;
        let fs = self.fs_of(stat.dev, &dir)?;
        Ok(Spot {
            dir,
            dev: stat.dev,
            inode: stat.inode,
            fs,
        })
    }

    fn fs_of(&self, dev: u64, dir: &D::Dir) -> Result<u64> {
        if let Some(fs) = held(&self.known).get(&dev) {
            return Ok(*fs);
        }
        let fs = self.disk.space(dir)?.fs;
        held(&self.known).insert(dev, fs);
        Ok(fs)
    }

    /// The file system on which the entry `name` of `at` lies: another one than `at`'s where something is mounted.
    pub fn fs(&self, at: &Spot<D>, name: &[u8], stat: &Stat) -> Result<u64> {
        if stat.dev == at.dev {
            return Ok(at.fs);
        }
        if let Some(fs) = held(&self.known).get(&stat.dev) {
            return Ok(*fs);
        }
        // A single file can be a mount point too; only a directory can be asked where it lies.
        if stat.kind != Node::Dir {
            return Ok(0);
        }
        self.fs_of(stat.dev, &self.disk.open_dir(&at.dir, name)?)
    }

    /// The observation of `name` in `at`, of which `stat` was just taken.
    pub fn observe(&self, at: &Spot<D>, name: &[u8], stat: &Stat, classes: Classes) -> Result<Observation> {
        let fs = self.fs(at, name, stat)?;
        let meta = self.meta(at, name, stat, classes)?;
        let entry = match stat.kind {
            Node::Dir => Entry::Dir(meta),
            Node::File => {
                let shared = classes.links && stat.links > 1;
                Entry::File(
                    meta,
                    Content::unread(stat.size),
                    shared.then(|| link_id(fs, stat)),
                )
            }
            Node::Link => Entry::Link(meta, self.disk.read_link(&at.dir, name)?),
            Node::Special(special) => Entry::Special(meta, special),
        };
        Ok(Observation {
            entry,
            tag: Tag::Stamp(stamp(fs, stat, classes.ctime)),
        })
    }

    fn meta(&self, at: &Spot<D>, name: &[u8], stat: &Stat, classes: Classes) -> Result<Meta> {
        let xattrs = if (classes.xattrs || classes.acls) && stat.kind != Node::Link {
            let wanted = XattrClasses {
                plain: classes.xattrs,
                acls: classes.acls,
            };
            match self.disk.xattrs(Target::Name(&at.dir, name), wanted) {
                Ok(found) => Some(Box::new(found)),
                Err(fault) if fault.is(Kind::Unsupported) => None,
                Err(fault) => return Err(fault),
            }
        } else {
            None
        };
        Ok(Meta {
            mode: (classes.mode && stat.kind != Node::Link).then_some(stat.mode),
            owner: classes.owner.then_some(stat.owner),
            mtime: classes.times.then_some(stat.mtime),
            xattrs,
        })
    }
}

/// The proof that `stat` gives.
pub(crate) fn stamp(fs: u64, stat: &Stat, ctime: bool) -> Stamp {
    let ctime = if ctime { stat.ctime } else { instead(stat) };
    Stamp {
        fs,
        inode: stat.inode,
        ctime,
    }
}

/// What stands in a stamp where the time of status change means nothing: the time of modification, marked by
/// nanoseconds that no time has, so that the two are never taken for one another.
fn instead(stat: &Stat) -> Time {
    Time {
        secs: stat.mtime.secs,
        nanos: stat.mtime.nanos.saturating_add(1_000_000_000),
    }
}

/// One number for all names of an inode. A file system without an identity is told apart by its device, which holds
/// for the one run in which link ids are compared.
fn link_id(fs: u64, stat: &Stat) -> LinkId {
    let place = if fs == 0 { stat.dev } else { fs };
    let mut mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stat.inode;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    LinkId(mixed ^ (mixed >> 31))
}

/// Whether `now`, on file system `fs`, is what `expect` saw. With `ctime` false the time of status change is left
/// out: a rename of ours has just moved it. A directory is expected to be a directory and no more.
pub(crate) fn still(expect: &Observation, now: &Stat, fs: u64, ctime: bool) -> bool {
    let alike = match (&expect.entry, now.kind) {
        (Entry::Dir(_), Node::Dir) => return true,
        (Entry::File(_, content, _), Node::File) => content.size == now.size,
        (Entry::Link(..), Node::Link) => true,
        (Entry::Special(_, expected), Node::Special(found)) => *expected == found,
        _ => return false,
    };
    let same_time = expect
        .entry
        .meta()
        .and_then(|meta| meta.mtime)
        .is_none_or(|mtime| mtime == now.mtime);
    let same_inode = expect.tag.stamp().is_none_or(|stamp| {
        let proved = [Time::NEVER, now.ctime, instead(now)].contains(&stamp.ctime);
        stamp.inode == now.inode
            && stamp.fs == fs
            && (!ctime || proved || syncline_model::zoo::on("last-look-without-ctime"))
    });
    alike && same_time && same_inode
}

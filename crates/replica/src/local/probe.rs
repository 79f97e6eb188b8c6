//! What a root's file system can really do, found by trying it in `.syncline/probe`.
//!
//! Invariant: nothing is guessed from names of types but one thing: whether `syncfs` and `fsync` of it can be believed,
//! which no trial can show. A root where nothing can be written is read-only. A trial that fails for a reason that will pass (a
//! disk that cannot be read, a lost connection) is no answer and refuses the root. Where there is no room to try, what was
//! found before on the same file system holds: `.syncline/probed.json` keeps it, and nothing else is left behind.

use serde::{Deserialize, Serialize};
use syncline_model::replica::OWN_DIR;
use syncline_model::{Classes, Fault, Kind, Owner, Profile, Result, Special, Time, Xattrs};
use syncline_store::disk::{Make, XattrClasses};
use syncline_store::{Attrs, Disk, Place, Target};

use super::own::{own_dir, read_small, write_small};

const PROBE: &[u8] = b"probe";
/// What was found when there was room, beside the marker.
const PROBED: &[u8] = b"probed.json";

/// `statfs` numbers of types that were shown to flush all that `syncfs` is asked for: ext2 to ext4, xfs, btrfs, f2fs,
/// zfs, and tmpfs, which has nothing to lose.
const HONEST: [u64; 6] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x0102_1994,
];

/// Whether `syncfs` of a type can be believed.
pub(crate) fn is_honest(kind: u64) -> bool {
    HONEST.contains(&kind)
}

/// What the trials showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub classes: Option<Classes>,
    pub symlinks: bool,
    pub specials: bool,
    pub folds_case: bool,
    pub normalises: bool,
    pub exchanges: bool,
    pub stable_ids: bool,
    pub reflinks: bool,
    pub time_step: u32,
    pub honest: bool,
    /// There was no room to try anything: this is what was found before.
    #[serde(skip)]
    pub before: bool,
}

/// What was found, and on which file system.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    fs: u64,
    kind: u64,
    found: Found,
}

impl Found {
    /// As a profile.
    pub fn profile(&self, label: &str, host: &str) -> Profile {
        let read_only = self.classes.is_none();
        Profile {
            label: label.to_owned(),
            host: host.to_owned(),
            classes: self.classes.unwrap_or_else(all_classes),
            symlinks: self.symlinks || read_only,
            specials: self.specials || read_only,
            folds_case: self.folds_case,
            normalises: self.normalises,
            renames: !read_only,
            copies: !read_only,
            exchanges: self.exchanges,
            second_names: true,
            conditional: self.exchanges,
            stable_ids: self.stable_ids || read_only,
            time_step: self.time_step.max(1),
            batch_durable: self.honest,
            read_only,
            full: self.before,
        }
    }
}

/// Where nothing can be tried, all is looked at that can be.
fn all_classes() -> Classes {
    Classes {
        mode: true,
        owner: true,
        times: true,
        xattrs: true,
        acls: true,
        links: true,
        ctime: true,
    }
}

/// Tries everything out in `root`; where there is no room for that, what was found there before.
pub(crate) fn probe<D: Disk>(disk: &D, root: &D::Dir) -> Result<Found> {
    match attempt(disk, root) {
        Err(fault) if fault.is(Kind::Full) => recall(disk, root)?
            .ok_or_else(|| fault.hint("make room there: what this place can hold has to be tried out once")),
        found => found,
    }
}

fn attempt<D: Disk>(disk: &D, root: &D::Dir) -> Result<Found> {
    let space = disk.space(root)?;
    let honest = is_honest(space.kind);
    let nothing = Found {
        honest,
        ..Found::default()
    };
    let (own, made) = match own_dir(disk, root) {
        Ok(own) => own,
        Err(fault) if fault.is(Kind::Denied) => return Ok(nothing),
        Err(fault) => return Err(fault),
    };
    clear(disk, &own)?;
    let found = match disk.make(&own, PROBE, Make::Dir) {
        Ok(()) => {
            let dir = disk.open_dir(&own, PROBE)?;
            let found = try_all(disk, &dir);
            clear(disk, &own)?;
            Found { honest, ..found? }
        }
        Err(fault) if fault.is(Kind::Denied) => nothing,
        Err(fault) => return Err(fault),
    };
    if made {
        // A place that nobody has taken up yet stays as it was found.
        disk.remove(root, OWN_DIR.as_bytes(), true)?;
    } else if found.classes.is_some() {
        let (fs, kind) = (space.fs, space.kind);
        keep(disk, &own, &Kept { fs, kind, found })?;
    }
    Ok(found)
}

/// Keeps what was found for a day without room.
fn keep<D: Disk>(disk: &D, own: &D::Dir, now: &Kept) -> Result<()> {
    if kept(disk, own)?.as_ref() == Some(now) {
        return Ok(());
    }
    let bytes = serde_json::to_vec(now).map_err(|e| Fault::new(Kind::Bug, e.to_string(), OWN_DIR))?;
    write_small(disk, own, PROBED, &bytes, false)
}

/// What is kept; a file that a power cut left half written is none.
fn kept<D: Disk>(disk: &D, own: &D::Dir) -> Result<Option<Kept>> {
    Ok(read_small(disk, own, PROBED)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn recall<D: Disk>(disk: &D, root: &D::Dir) -> Result<Option<Found>> {
    let space = disk.space(root)?;
    let own = match disk.open_dir(root, OWN_DIR.as_bytes()) {
        Ok(own) => own,
        Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let kept = kept(disk, &own)?.filter(|kept| (kept.fs, kept.kind) == (space.fs, space.kind));
    Ok(kept.map(|kept| Found {
        before: true,
        ..kept.found
    }))
}

/// Whether something worked. A reason that will pass is no answer.
fn worked<T>(tried: Result<T>) -> Result<bool> {
    match tried {
        Ok(_) => Ok(true),
        Err(fault) => match fault.kind {
            Kind::Full | Kind::Corrupt | Kind::Busy | Kind::Offline | Kind::Cancelled => Err(fault),
            _ => Ok(false),
        },
    }
}

fn clear<D: Disk>(disk: &D, own: &D::Dir) -> Result<()> {
    let dir = match disk.open_dir(own, PROBE) {
        Ok(dir) => dir,
        Err(fault) if fault.is(Kind::NotFound) => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let mut names = Vec::new();
    disk.list(&dir, &mut |found| {
        names.push(found.name.to_vec());
        names.len() < 100
    })?;
    for name in names {
        disk.remove(&dir, &name, false)?;
    }
    disk.remove(own, PROBE, true)
}

fn try_all<D: Disk>(disk: &D, dir: &D::Dir) -> Result<Found> {
    let file = disk.open(dir, b"probe-a", true)?;
    disk.write(&file, 0, &[1; 4096])?;
    let first = disk.stat(dir, b"probe-a")?;
    let set = |attrs| worked(disk.set(Target::File(&file), attrs));
    let mut mode = true;
    for wanted in [0o640, 0o601] {
        mode =
            mode && set(Attrs {
                mode: Some(wanted),
                ..Attrs::default()
            })? && disk.stat(dir, b"probe-a")?.mode == wanted;
    }
    let stranger = Owner {
        uid: first.owner.uid ^ 1,
        gid: first.owner.gid ^ 1,
    };
    let owner = set(Attrs {
        owner: Some(stranger),
        ..Attrs::default()
    })? && disk.stat(dir, b"probe-a")?.owner == stranger;
    let time_step = time_step(disk, dir, &file)?;
    let timed = disk.stat(dir, b"probe-a")?;
    let classes = Classes {
        mode,
        owner,
        times: time_step > 0,
        xattrs: xattrs(disk, &file)?,
        acls: acls(disk, &file)?,
        links: worked(disk.place((dir, b"probe-a"), (dir, b"probe-l"), Place::Link))?
            && disk.stat(dir, b"probe-l")?.inode == first.inode,
        // Where setting the time of modification sets this one too, it proves nothing.
        ctime: timed.ctime != timed.mtime && timed.ctime.secs != 0,
    };
    let other = disk.open(dir, b"probe-b", true)?;
    let reflinks = worked(disk.clone_file(&file, &other))?;
    let second = disk.stat(dir, b"probe-b")?.inode;
    let exchanges = worked(disk.place((dir, b"probe-a"), (dir, b"probe-b"), Place::Exchange))?
        && disk.stat(dir, b"probe-a")?.inode == second;
    let moved = if exchanges { second } else { first.inode };
    disk.place((dir, b"probe-a"), (dir, b"probe-c"), Place::New)?;
    Ok(Found {
        classes: Some(classes),
        symlinks: worked(disk.make(dir, b"probe-s", Make::Link(b"nowhere")))?,
        specials: worked(disk.make(dir, b"probe-f", Make::Special(Special::Fifo)))?,
        folds_case: worked(disk.stat(dir, b"PROBE-C"))?,
        normalises: normalises(disk, dir)?,
        exchanges,
        stable_ids: disk.stat(dir, b"probe-c")?.inode == moved,
        reflinks,
        time_step,
        honest: false,
        before: false,
    })
}

/// The coarsest step of its times; 0 when they cannot be set.
fn time_step<D: Disk>(disk: &D, dir: &D::Dir, file: &D::File) -> Result<u32> {
    let odd = Time {
        secs: 1_000_000_001,
        nanos: 123_456_789,
    };
    let attrs = Attrs {
        mtime: Some(odd),
        ..Attrs::default()
    };
    if !worked(disk.set(Target::File(file), attrs))? {
        return Ok(0);
    }
    let got = disk.stat(dir, b"probe-a")?.mtime;
    if got.secs != odd.secs {
        return Ok(if (got.secs - odd.secs).abs() <= 1 {
            2_000_000_000
        } else {
            0
        });
    }
    let steps = [1, 100, 1_000, 1_000_000, 10_000_000];
    Ok(steps
        .into_iter()
        .find(|step| got.nanos == odd.nanos - odd.nanos % step)
        .unwrap_or(1_000_000_000))
}

fn xattrs<D: Disk>(disk: &D, file: &D::File) -> Result<bool> {
    let wanted: Xattrs = vec![(b"user.syncline.probe".to_vec(), b"1".to_vec())];
    let classes = XattrClasses {
        plain: true,
        acls: false,
    };
    holds(disk, file, &wanted, classes)
}

fn holds<D: Disk>(disk: &D, file: &D::File, wanted: &Xattrs, classes: XattrClasses) -> Result<bool> {
    let attrs = Attrs {
        xattrs: Some((wanted, classes)),
        ..Attrs::default()
    };
    if !worked(disk.set(Target::File(file), attrs))? {
        return Ok(false);
    }
    let mut same = false;
    let found = disk.xattrs(Target::File(file), classes);
    Ok(worked(found.map(|found| same = found.contains(&wanted[0])))? && same)
}

fn acls<D: Disk>(disk: &D, file: &D::File) -> Result<bool> {
    // Version 2; then tag, permissions and id of: owner, user 1, group, mask, others.
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, 1),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    let wanted: Xattrs = vec![(b"system.posix_acl_access".to_vec(), value)];
    let classes = XattrClasses {
        plain: false,
        acls: true,
    };
    holds(disk, file, &wanted, classes)
}

fn normalises<D: Disk>(disk: &D, dir: &D::Dir) -> Result<bool> {
    Ok(worked(disk.open(dir, "probe-\u{e9}".as_bytes(), true))?
        && worked(disk.stat(dir, "probe-e\u{301}".as_bytes()))?)
}

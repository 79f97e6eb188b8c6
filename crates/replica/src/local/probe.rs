//! What a root's file system can really do, found by trying it in `.syncline/probe`.
//!
//! Invariant: nothing is guessed from names of types but one thing: whether `syncfs` and `fsync` of it can be believed,
//! which no trial can show. Nothing is left behind; a root where nothing can be written is read-only.

use syncline_model::replica::OWN_DIR;
use syncline_model::{Classes, Kind, Owner, Profile, Result, Special, Time, Xattrs};
use syncline_store::disk::{Make, XattrClasses};
use syncline_store::{Attrs, Disk, Place, Target};

use super::own::own_dir;

const PROBE: &[u8] = b"probe";

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
#[derive(Debug, Clone, Copy, Default)]
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
            exchanges: self.exchanges,
            conditional: self.exchanges,
            stable_ids: self.stable_ids || read_only,
            time_step: self.time_step.max(1),
            batch_durable: self.honest,
            read_only,
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

/// Tries everything out in `root`.
pub(crate) fn probe<D: Disk>(disk: &D, root: &D::Dir) -> Result<Found> {
    let honest = is_honest(disk.space(root)?.kind);
    let (own, made) = match own_dir(disk, root) {
        Ok(own) => own,
        Err(fault) if fault.is(Kind::Denied) => {
            return Ok(Found {
                honest,
                ..Found::default()
            });
        }
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
        Err(fault) if fault.is(Kind::Denied) => Found {
            honest,
            ..Found::default()
        },
        Err(fault) => return Err(fault),
    };
    if made {
        // A place that nobody has taken up yet stays as it was found.
        disk.remove(root, OWN_DIR.as_bytes(), true)?;
    }
    Ok(found)
}

fn clear<D: Disk>(disk: &D, own: &D::Dir) -> Result<()> {
    let dir = match disk.open_dir(own, PROBE) {
        Ok(dir) => dir,
        Err(fault) if fault.is(Kind::NotFound) => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let mut names = Vec::new();
    disk.list(&dir, &mut |found| {
        names.push(found.name);
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
    let set = |attrs| disk.set(Target::File(&file), attrs).is_ok();
    let mode = [0o640, 0o601].iter().all(|&mode| {
        set(Attrs {
            mode: Some(mode),
            ..Attrs::default()
        }) && mode_of(disk, dir) == Some(mode)
    });
    let stranger = Owner {
        uid: first.owner.uid ^ 1,
        gid: first.owner.gid ^ 1,
    };
    let owner = set(Attrs {
        owner: Some(stranger),
        ..Attrs::default()
    }) && disk.stat(dir, b"probe-a")?.owner == stranger;
    let time_step = time_step(disk, dir, &file)?;
    let timed = disk.stat(dir, b"probe-a")?;
    let classes = Classes {
        mode,
        owner,
        times: time_step > 0,
        xattrs: xattrs(disk, &file),
        acls: acls(disk, &file),
        links: disk
            .place((dir, b"probe-a"), (dir, b"probe-l"), Place::Link)
            .is_ok()
            && disk.stat(dir, b"probe-l")?.inode == first.inode,
        // Where setting the time of modification sets this one too, it proves nothing.
        ctime: timed.ctime != timed.mtime && timed.ctime.secs != 0,
    };
    let other = disk.open(dir, b"probe-b", true)?;
    let reflinks = disk.clone_file(&file, &other).is_ok();
    let second = disk.stat(dir, b"probe-b")?.inode;
    let exchanges = disk
        .place((dir, b"probe-a"), (dir, b"probe-b"), Place::Exchange)
        .is_ok()
        && disk.stat(dir, b"probe-a")?.inode == second;
    let moved = if exchanges { second } else { first.inode };
    disk.place((dir, b"probe-a"), (dir, b"probe-c"), Place::New)?;
    Ok(Found {
        classes: Some(classes),
        symlinks: disk.make(dir, b"probe-s", Make::Link(b"nowhere")).is_ok(),
        specials: disk.make(dir, b"probe-f", Make::Special(Special::Fifo)).is_ok(),
        folds_case: disk.stat(dir, b"PROBE-C").is_ok(),
        normalises: normalises(disk, dir),
        exchanges,
        stable_ids: disk.stat(dir, b"probe-c")?.inode == moved,
        reflinks,
        time_step,
        honest: false,
    })
}

fn mode_of<D: Disk>(disk: &D, dir: &D::Dir) -> Option<u32> {
    disk.stat(dir, b"probe-a").ok().map(|stat| stat.mode)
}

/// The coarsest step of its times; 0 when they cannot be set.
fn time_step<D: Disk>(disk: &D, dir: &D::Dir, file: &D::File) -> Result<u32> {
    let odd = Time {
        secs: 1_000_000_001,
        nanos: 123_456_789,
    };
    if disk
        .set(
            Target::File(file),
            Attrs {
                mtime: Some(odd),
                ..Attrs::default()
            },
        )
        .is_err()
    {
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

fn xattrs<D: Disk>(disk: &D, file: &D::File) -> bool {
    let wanted: Xattrs = vec![(b"user.syncline.probe".to_vec(), b"1".to_vec())];
    let classes = XattrClasses {
        plain: true,
        acls: false,
    };
    disk.set(
        Target::File(file),
        Attrs {
            xattrs: Some((&wanted, classes)),
            ..Attrs::default()
        },
    )
    .is_ok()
        && disk
            .xattrs(Target::File(file), classes)
            .is_ok_and(|found| found.contains(&wanted[0]))
}

fn acls<D: Disk>(disk: &D, file: &D::File) -> bool {
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
    disk.set(
        Target::File(file),
        Attrs {
            xattrs: Some((&wanted, classes)),
            ..Attrs::default()
        },
    )
    .is_ok()
        && disk
            .xattrs(Target::File(file), classes)
            .is_ok_and(|found| found.contains(&wanted[0]))
}

fn normalises<D: Disk>(disk: &D, dir: &D::Dir) -> bool {
    disk.open(dir, "probe-\u{e9}".as_bytes(), true).is_ok()
        && disk.stat(dir, "probe-e\u{301}".as_bytes()).is_ok()
}

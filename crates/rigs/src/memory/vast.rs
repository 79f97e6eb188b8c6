//! The real disk with one directory more than it has: of any number of files, listed in no order, each computed from its number.
//!
//! Invariant: only what is in that directory is made up; our own scratch files, markers and locks are real.

use std::os::fd::OwnedFd;
use std::path::Path;

use syncline_model::{Fault, Kind, Owner, Result, Xattrs};
use syncline_store::disk::{Make, XattrClasses};
use syncline_store::os::{OsDir, OsDisk};
use syncline_store::{Attrs, Disk, Found, Node, Place, Range, Space, Stat, Sync, Target};

use super::many::{BIG, CTIME, MTIME, SIZE, bytes_of, flat_name, flat_number};

/// No directory has a multiple of so many files here.
const STRIDE: u64 = 1_000_000_007;

/// See the module.
pub struct VastDisk {
    real: OsDisk,
    files: u64,
}

/// A directory, and whether it is the large one.
#[derive(Clone)]
pub struct VastDir {
    real: OsDir,
    dev: Option<u64>,
}

/// A file.
pub enum VastFile {
    /// On the disk.
    Real(OwnedFd),
    /// Made up.
    Made(u64, u64),
}

fn made_up(what: &str) -> Fault {
    Fault::new(Kind::Denied, format!("{what}: it is made up"), BIG)
}

fn stat_of(dev: u64, number: u64) -> Stat {
    Stat {
        kind: Node::File,
        inode: (1 << 43) + number,
        dev,
        links: 1,
        size: SIZE,
        allocated: SIZE,
        mode: 0o644,
        owner: Owner { uid: 0, gid: 0 },
        mtime: MTIME,
        ctime: CTIME,
    }
}

impl VastDisk {
    /// With so many files in the directory `big` of any directory that has one.
    pub fn new(files: u64) -> Self {
        Self {
            real: OsDisk::new(),
            files,
        }
    }

    fn number(&self, name: &[u8]) -> Result<u64> {
        flat_number(name)
            .filter(|number| *number < self.files)
            .ok_or_else(|| Fault::new(Kind::NotFound, "it is not there", name.escape_ascii()))
    }
}

fn real<'a>(file: &'a VastFile, what: &str) -> Result<&'a OwnedFd> {
    match file {
        VastFile::Real(file) => Ok(file),
        VastFile::Made(..) => Err(made_up(what)),
    }
}

fn target<'a>(of: Target<'a, VastDisk>) -> Result<Target<'a, OsDisk>> {
    Ok(match of {
        Target::Name(at, name) => Target::Name(&at.real, name),
        Target::File(file) => Target::File(real(file, "attributes")?),
        Target::Dir(dir) => Target::Dir(&dir.real),
    })
}

impl Disk for VastDisk {
    type Dir = VastDir;
    type File = VastFile;

    fn root(&self, path: &Path) -> Result<VastDir> {
        let real = self.real.root(path)?;
        Ok(VastDir { real, dev: None })
    }

    fn open_dir(&self, at: &VastDir, name: &[u8]) -> Result<VastDir> {
        let real = self.real.open_dir(&at.real, name)?;
        let big = name == BIG.as_bytes();
        let dev = if big {
            Some(self.real.stat(&real, b"")?.dev)
        } else {
            None
        };
        Ok(VastDir { real, dev })
    }

    fn list(&self, dir: &VastDir, each: &mut dyn FnMut(Found<'_>) -> bool) -> Result<()> {
        if dir.dev.is_none() {
            return self.real.list(&dir.real, each);
        }
        for at in 0..self.files {
            let name = flat_name(at.wrapping_mul(STRIDE) % self.files);
            let found = Found {
                name: name.as_bytes(),
                dir: Some(false),
            };
            if !each(found) {
                break;
            }
        }
        Ok(())
    }

    fn stat(&self, at: &VastDir, name: &[u8]) -> Result<Stat> {
        match at.dev {
            Some(dev) if !name.is_empty() => Ok(stat_of(dev, self.number(name)?)),
            _ => self.real.stat(&at.real, name),
        }
    }

    fn open(&self, at: &VastDir, name: &[u8], write: bool) -> Result<VastFile> {
        match at.dev {
            Some(_) if write => Err(made_up("create")),
            Some(dev) => Ok(VastFile::Made(dev, self.number(name)?)),
            None => self.real.open(&at.real, name, write).map(VastFile::Real),
        }
    }

    fn stat_file(&self, file: &VastFile) -> Result<Stat> {
        match file {
            VastFile::Real(file) => self.real.stat_file(file),
            VastFile::Made(dev, number) => Ok(stat_of(*dev, *number)),
        }
    }

    fn read(&self, file: &VastFile, at: u64, into: &mut [u8]) -> Result<usize> {
        match file {
            VastFile::Real(file) => self.real.read(file, at, into),
            VastFile::Made(_, number) => {
                let bytes = bytes_of(*number);
                let left = bytes.get(at as usize..).unwrap_or_default();
                let count = left.len().min(into.len());
                into[..count].copy_from_slice(&left[..count]);
                Ok(count)
            }
        }
    }

    fn write(&self, file: &VastFile, at: u64, bytes: &[u8]) -> Result<()> {
        self.real.write(real(file, "write")?, at, bytes)
    }

    fn set_len(&self, file: &VastFile, len: u64) -> Result<()> {
        self.real.set_len(real(file, "set length")?, len)
    }

    fn data(&self, file: &VastFile, from: u64) -> Result<Option<Range>> {
        match file {
            VastFile::Real(file) => self.real.data(file, from),
            VastFile::Made(..) => Ok((from < SIZE).then(|| Range {
                start: from,
                len: SIZE - from,
            })),
        }
    }

    fn clone_file(&self, from: &VastFile, to: &VastFile) -> Result<()> {
        match (from, to) {
            (VastFile::Real(from), VastFile::Real(to)) => self.real.clone_file(from, to),
            _ => Err(Fault::new(Kind::Unsupported, "share bytes: it is made up", BIG)),
        }
    }

    fn read_link(&self, at: &VastDir, name: &[u8]) -> Result<Box<[u8]>> {
        self.real.read_link(&at.real, name)
    }

    fn xattrs(&self, of: Target<'_, Self>, classes: XattrClasses) -> Result<Xattrs> {
        self.real.xattrs(target(of)?, classes)
    }

    fn make(&self, at: &VastDir, name: &[u8], what: Make<'_>) -> Result<()> {
        self.real.make(&at.real, name, what)
    }

    fn set(&self, of: Target<'_, Self>, attrs: Attrs<'_>) -> Result<()> {
        self.real.set(target(of)?, attrs)
    }

    fn place(&self, from: (&VastDir, &[u8]), to: (&VastDir, &[u8]), how: Place) -> Result<()> {
        self.real.place((&from.0.real, from.1), (&to.0.real, to.1), how)
    }

    fn remove(&self, at: &VastDir, name: &[u8], dir: bool) -> Result<()> {
        self.real.remove(&at.real, name, dir)
    }

    fn sync(&self, what: Sync<'_, Self>) -> Result<()> {
        self.real.sync(match what {
            Sync::File(file) => Sync::File(real(file, "make durable")?),
            Sync::Dir(dir) => Sync::Dir(&dir.real),
            Sync::Fs(dir) => Sync::Fs(&dir.real),
        })
    }

    fn lock(&self, file: &VastFile) -> Result<()> {
        self.real.lock(real(file, "lock")?)
    }

    fn space(&self, dir: &VastDir) -> Result<Space> {
        self.real.space(&dir.real)
    }
}

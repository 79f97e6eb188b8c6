//! [`OsDisk`]: the real local file systems, by system calls relative to held handles.
//!
//! Invariant: a name is one component (checked here, whoever calls), no verb follows a symbolic link, and nothing but
//! regular files and directories is ever opened for reading or writing (security rules SP2 to SP5).

mod attrs;
mod fault;
mod root;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    self, AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom,
    Statx, StatxFlags,
};
use rustix::io::{Errno, retry_on_intr};
use syncline_model::{Kind, Owner, Result, Special, Time, Xattrs};

use crate::disk::{
    Attrs, Disk, Found, Make, Node, Place, Range, Space, Stat, Sync as Durable, Target, XattrClasses,
};
use crate::moment::before_change;
use attrs::Held;
pub(crate) use fault::kind as errno_kind;
use fault::{fault, of_kind, plain};

/// Bytes that one `getdents64` may fill.
const LISTING: usize = 32 << 10;
/// `statfs` magic of btrfs, whose subvolumes number their inodes each for itself.
const BTRFS: u64 = 0x9123_683E;

/// Local file systems as the kernel shows them.
#[derive(Debug, Default)]
pub struct OsDisk {
    /// Set once the kernel has said that it has no `openat2`.
    plain_open: AtomicBool,
}

/// A held directory.
#[derive(Debug, Clone)]
pub struct OsDir(Arc<OwnedFd>);

impl OsDir {
    fn new(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }
}

impl AsFd for OsDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl OsDisk {
    /// The real disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn open_at(&self, at: &OsDir, name: &[u8], flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if !self.plain_open.load(Ordering::Relaxed) {
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match retry_on_intr(|| fs::openat2(at, name, flags, mode, beneath)) {
                Err(Errno::NOSYS) => self.plain_open.store(true, Ordering::Relaxed),
                done => return done,
            }
        }
        // One component and O_NOFOLLOW leave nothing that could be followed either.
        retry_on_intr(|| fs::openat(at, name, flags, mode))
    }

    fn held<'a>(&self, of: Target<'a, Self>) -> Result<Held<'a>> {
        match of {
            Target::Name(at, name) => {
                component(name, "open")?;
                Held::name(at.as_fd(), name)
            }
            Target::File(file) => Ok(Held::Open(file.as_fd())),
            Target::Dir(dir) => Ok(Held::Open(dir.as_fd())),
        }
    }
}

/// Refuses everything but one plain component (security rule SP1, once more at the very edge).
fn component(name: &[u8], what: &str) -> Result<()> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|&b| b == b'/' || b == 0) {
        return Err(plain(Kind::Invalid, &format!("{what}: not a plain name"), name));
    }
    Ok(())
}

fn stat_of(x: &Statx) -> Stat {
    let special = |make: fn(u32, u32) -> Special| Node::Special(make(x.stx_rdev_major, x.stx_rdev_minor));
    let time = |t: &fs::StatxTimestamp| Time {
        secs: t.tv_sec,
        nanos: t.tv_nsec,
    };
    Stat {
        kind: match FileType::from_raw_mode(x.stx_mode.into()) {
            FileType::Directory => Node::Dir,
            FileType::RegularFile => Node::File,
            FileType::Symlink => Node::Link,
            FileType::Socket => Node::Special(Special::Socket),
            FileType::BlockDevice => special(Special::Block),
            FileType::CharacterDevice => special(Special::Char),
            FileType::Fifo | FileType::Unknown => Node::Special(Special::Fifo),
        },
        inode: x.stx_ino,
        dev: fs::makedev(x.stx_dev_major, x.stx_dev_minor),
        links: x.stx_nlink,
        size: x.stx_size,
        allocated: x.stx_blocks.saturating_mul(512),
        mode: u32::from(x.stx_mode) & 0o7777,
        owner: Owner {
            uid: x.stx_uid,
            gid: x.stx_gid,
        },
        mtime: time(&x.stx_mtime),
        ctime: time(&x.stx_ctime),
    }
}

fn statx(fd: BorrowedFd<'_>, name: &[u8], what: &str) -> Result<Stat> {
    let mask = StatxFlags::BASIC_STATS.difference(StatxFlags::ATIME);
    let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if name.is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    let stat =
        retry_on_intr(|| fs::statx(fd, name, flags, mask)).map_err(|errno| fault(errno, what, name))?;
    Ok(stat_of(&stat))
}

/// Lists through `fd`, from where it stands.
fn list_through(fd: BorrowedFd<'_>, each: &mut dyn FnMut(Found<'_>) -> bool) -> rustix::io::Result<()> {
    let mut buf = [MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(fd, &mut buf);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let dir = match entry.file_type() {
            FileType::Unknown => None,
            kind => Some(kind == FileType::Directory),
        };
        if !each(Found { name, dir }) {
            break;
        }
    }
    Ok(())
}

/// The answer of `FS_IOC_GETFSUUID`.
#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// What tells this file system from every other one and lasts over mounts; 0 when there is no such thing.
fn identity(fd: BorrowedFd<'_>, kind: u64, dev: u64) -> rustix::io::Result<u64> {
    const GET: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<FsUuid>(0x15, 0);
    let fsid = fs::fstatvfs(fd)?.f_fsid;
    // SAFETY: the opcode is FS_IOC_GETFSUUID, into which the kernel writes a `struct fsuuid2`: a length and 16 bytes.
    let asked = unsafe { rustix::ioctl::ioctl(fd, rustix::ioctl::Getter::<GET, FsUuid>::new()) };
    let uuid = match &asked {
        Ok(answer) => &answer.uuid[..usize::from(answer.len).min(16)],
        Err(_) => &[],
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(uuid);
    if uuid.is_empty() || kind == BTRFS {
        // Some file systems give their device number here, which is another one after the next boot.
        let (major, minor) = (fs::major(dev), fs::minor(dev));
        let of_device = [
            dev,
            u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)),
        ];
        if uuid.is_empty() && (fsid == 0 || of_device.contains(&fsid)) {
            return Ok(0);
        }
        hasher.update(&fsid.to_le_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Ok(u64::from_le_bytes(first).max(1))
}

impl Disk for OsDisk {
    type Dir = OsDir;
    type File = OwnedFd;

    fn root(&self, path: &Path) -> Result<OsDir> {
        root::open_root(path).map(OsDir::new)
    }

    fn open_dir(&self, at: &OsDir, name: &[u8]) -> Result<OsDir> {
        component(name, "open directory")?;
        self.open_at(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .map(OsDir::new)
            .map_err(|errno| fault(errno, "open directory", name))
    }

    fn list(&self, dir: &OsDir, each: &mut dyn FnMut(Found<'_>) -> bool) -> Result<()> {
        // Through a handle of its own, which has a position of its own. Closed at once: ext4 keeps what it read with it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        retry_on_intr(|| fs::openat(dir, c".", flags, Mode::empty()))
            .and_then(|own| list_through(own.as_fd(), each))
            .map_err(|errno| fault(errno, "list directory", b""))
    }

    fn stat(&self, at: &OsDir, name: &[u8]) -> Result<Stat> {
        if !name.is_empty() {
            component(name, "stat")?;
        }
        statx(at.as_fd(), name, "stat")
    }

    fn open(&self, at: &OsDir, name: &[u8], write: bool) -> Result<OwnedFd> {
        if write {
            before_change();
            component(name, "create")?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
            return self
                .open_at(at, name, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|errno| fault(errno, "create", name));
        }
        component(name, "open")?;
        // Not blocking: a pipe that was swapped in must not hold us until somebody writes to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.open_at(at, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => self.open_at(at, name, flags, Mode::empty()),
            done => done,
        };
        let file = file.map_err(|errno| fault(errno, "open", name))?;
        if statx(file.as_fd(), b"", "stat")?.kind != Node::File {
            return Err(plain(Kind::Changed, "open: not a regular file", name));
        }
        Ok(file)
    }

    fn stat_file(&self, file: &OwnedFd) -> Result<Stat> {
        statx(file.as_fd(), b"", "stat")
    }

    fn read(&self, file: &OwnedFd, at: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let got = retry_on_intr(|| rustix::io::pread(file, &mut into[done..], at + done as u64))
                .map_err(|errno| fault(errno, "read", b""))?;
            if got == 0 {
                break;
            }
            done += got;
        }
        Ok(done)
    }

    fn write(&self, file: &OwnedFd, at: u64, bytes: &[u8]) -> Result<()> {
        before_change();
        let mut done = 0;
        while done < bytes.len() {
            let put = retry_on_intr(|| rustix::io::pwrite(file, &bytes[done..], at + done as u64))
                .map_err(|errno| fault(errno, "write", b""))?;
            if put == 0 {
                return Err(plain(Kind::Full, "write: nothing was taken", b""));
            }
            done += put;
        }
        Ok(())
    }

    fn set_len(&self, file: &OwnedFd, len: u64) -> Result<()> {
        before_change();
        retry_on_intr(|| fs::ftruncate(file, len)).map_err(|errno| fault(errno, "set length", b""))
    }

    fn data(&self, file: &OwnedFd, from: u64) -> Result<Option<Range>> {
        let failed = |errno| fault(errno, "look for data", b"");
        let start = match fs::seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let end = match fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            // Cut between the two questions.
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        Ok((end > start).then_some(Range {
            start,
            len: end.saturating_sub(start),
        }))
    }

    fn clone_file(&self, from: &OwnedFd, to: &OwnedFd) -> Result<()> {
        before_change();
        fs::ioctl_ficlone(to, from).map_err(|errno| match errno {
            Errno::INVAL => of_kind(Kind::Unsupported, errno, "share bytes", b""),
            errno => fault(errno, "share bytes", b""),
        })
    }

    fn read_link(&self, at: &OsDir, name: &[u8]) -> Result<Box<[u8]>> {
        component(name, "read link")?;
        match fs::readlinkat(at, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes().into()),
            Err(Errno::INVAL) => Err(of_kind(Kind::Changed, Errno::INVAL, "read link", name)),
            Err(errno) => Err(fault(errno, "read link", name)),
        }
    }

    fn xattrs(&self, of: Target<'_, Self>, classes: XattrClasses) -> Result<Xattrs> {
        attrs::xattrs(&self.held(of)?, classes)
    }

    fn make(&self, at: &OsDir, name: &[u8], what: Make<'_>) -> Result<()> {
        before_change();
        component(name, "create")?;
        let node = |kind, dev| fs::mknodat(at, name, kind, Mode::RUSR | Mode::WUSR, dev);
        match what {
            Make::Dir => fs::mkdirat(at, name, Mode::RWXU),
            Make::Link(target) => fs::symlinkat(target, at, name),
            Make::Special(Special::Fifo) => node(FileType::Fifo, 0),
            Make::Special(Special::Socket) => node(FileType::Socket, 0),
            Make::Special(Special::Block(major, minor)) => {
                node(FileType::BlockDevice, fs::makedev(major, minor))
            }
            Make::Special(Special::Char(major, minor)) => {
                node(FileType::CharacterDevice, fs::makedev(major, minor))
            }
        }
        .map_err(|errno| fault(errno, "create", name))
    }

    fn set(&self, of: Target<'_, Self>, attrs: Attrs<'_>) -> Result<()> {
        before_change();
        attrs::set(&self.held(of)?, attrs)
    }

    fn place(&self, from: (&OsDir, &[u8]), to: (&OsDir, &[u8]), how: Place) -> Result<()> {
        before_change();
        let what = if how == Place::Link { "link" } else { "rename" };
        component(from.1, what)?;
        component(to.1, what)?;
        let rename = |flags| fs::renameat_with(from.0, from.1, to.0, to.1, flags);
        match how {
            Place::New => rename(RenameFlags::NOREPLACE),
            Place::Over => fs::renameat(from.0, from.1, to.0, to.1),
            Place::Exchange => rename(RenameFlags::EXCHANGE),
            Place::Link => fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty()),
        }
        .map_err(|errno| match (how, errno) {
            // A file system that does not know the flag says so like this.
            (Place::New | Place::Exchange, Errno::INVAL) => of_kind(Kind::Unsupported, errno, what, to.1),
            _ => fault(errno, what, to.1),
        })
    }

    fn remove(&self, at: &OsDir, name: &[u8], dir: bool) -> Result<()> {
        before_change();
        component(name, "remove")?;
        let flags = if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        fs::unlinkat(at, name, flags).map_err(|errno| fault(errno, "remove", name))
    }

    fn sync(&self, what: Durable<'_, Self>) -> Result<()> {
        before_change();
        match what {
            Durable::File(file) => retry_on_intr(|| fs::fsync(file)),
            Durable::Dir(dir) => retry_on_intr(|| fs::fsync(dir)),
            Durable::Fs(dir) => retry_on_intr(|| fs::syncfs(dir)),
        }
        .map_err(|errno| match errno {
            Errno::INVAL => of_kind(Kind::Unsupported, errno, "make durable", b""),
            errno => fault(errno, "make durable", b""),
        })
    }

    fn lock(&self, file: &OwnedFd) -> Result<()> {
        retry_on_intr(|| fs::flock(file, FlockOperation::NonBlockingLockExclusive))
            .map_err(|errno| fault(errno, "lock", b""))
    }

    fn space(&self, dir: &OsDir) -> Result<Space> {
        let failed = |errno| fault(errno, "ask for space", b"");
        let all = fs::fstatfs(dir).map_err(failed)?;
        let unit = if all.f_frsize > 0 {
            all.f_frsize
        } else {
            all.f_bsize
        };
        let bytes = |blocks: u64| blocks.saturating_mul(u64::try_from(unit).unwrap_or(0));
        let kind = u64::from(all.f_type as u32);
        let dev = statx(dir.as_fd(), b"", "stat")?.dev;
        let fs = identity(dir.as_fd(), kind, dev).map_err(failed)?;
        Ok(Space {
            total: bytes(all.f_blocks),
            free: bytes(all.f_bavail),
            fs,
            kind,
        })
    }
}

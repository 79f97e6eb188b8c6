//! Attributes of nodes: owner, extended attributes, mode, time.
//!
//! Invariant: all that one call reads or sets concerns one inode. A name is opened once as a bare handle (`O_PATH`, no
//! link followed) and everything goes through it, so a name swapped in between changes nothing elsewhere.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::{Errno, retry_on_intr};
use syncline_model::{Kind, Owner, Result, Time, Xattrs};

use super::fault::{fault, of_kind, plain};
use crate::disk::{Attrs, XattrClasses};

/// The largest list of names and the largest value that Linux has.
const XATTR_MAX: usize = 64 << 10;
/// How often a list or value may grow between asking its length and reading it.
const TRIES: usize = 16;

/// One inode, held.
pub enum Held<'a> {
    /// A bare handle opened by name; system calls go through its entry in `/proc`.
    Bare(OwnedFd, &'a [u8]),
    /// A handle opened for reading or writing.
    Open(BorrowedFd<'a>),
}

impl<'a> Held<'a> {
    /// Takes hold of what stands at `name`, a link itself included.
    pub fn name(dir: BorrowedFd<'_>, name: &'a [u8]) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| fs::openat(dir, name, flags, Mode::empty()))
            .map_err(|errno| fault(errno, "open", name))?;
        Ok(Self::Bare(fd, name))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Bare(fd, _) => fd.as_fd(),
            Self::Open(fd) => *fd,
        }
    }

    fn shown(&self) -> &[u8] {
        if let Self::Bare(_, name) = self { name } else { b"" }
    }

    /// The path that leads the kernel to exactly this inode.
    fn door(&self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.fd().as_raw_fd())).unwrap_or_default()
    }

    /// A fault; an entry of `/proc` that is missing means that there is no `/proc`, not that the node is gone.
    fn failed(&self, errno: Errno, what: &str) -> syncline_model::Fault {
        if errno == Errno::NOENT && matches!(self, Self::Bare(..)) {
            return of_kind(Kind::Unsupported, errno, what, self.shown()).hint("mount /proc");
        }
        fault(errno, what, self.shown())
    }

    fn mode_and_type(&self) -> Result<(u32, FileType)> {
        let stat = fs::statat(self.fd(), c"", AtFlags::EMPTY_PATH).map_err(|e| self.failed(e, "stat"))?;
        Ok((stat.st_mode & 0o7777, FileType::from_raw_mode(stat.st_mode)))
    }

    fn chmod(&self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match self {
            Self::Bare(..) => fs::chmod(self.door(), mode),
            Self::Open(fd) => fs::fchmod(fd, mode),
        }
        .map_err(|errno| self.failed(errno, "set mode"))
    }

    fn chown(&self, owner: Owner) -> Result<()> {
        if owner.uid == u32::MAX || owner.gid == u32::MAX {
            return Err(plain(Kind::Invalid, "set owner: no such number", self.shown()));
        }
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fs::chownat(self.fd(), c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(|errno| self.failed(errno, "set owner"))
    }

    fn set_mtime(&self, time: Time) -> Result<()> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: time.secs,
                tv_nsec: time.nanos.into(),
            },
        };
        if time.nanos > 999_999_999 {
            return Err(plain(
                Kind::Invalid,
                "set time: nanoseconds past a second",
                self.shown(),
            ));
        }
        match self {
            Self::Bare(fd, _) => fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
            Self::Open(fd) => fs::futimens(fd, &times),
        }
        .map_err(|errno| self.failed(errno, "set time"))
    }

    fn list_xattrs(&self) -> Result<Vec<u8>> {
        let door = self.door();
        sized(|buf| match self {
            Self::Bare(..) => fs::listxattr(&door, buf),
            Self::Open(fd) => fs::flistxattr(fd, buf),
        })
        .map_err(|errno| self.failed(errno, "list extended attributes"))
    }

    /// The value; `None` if the attribute has gone meanwhile.
    fn get_xattr(&self, name: &CStr) -> Result<Option<Vec<u8>>> {
        let door = self.door();
        let value = sized(|buf| match self {
            Self::Bare(..) => fs::getxattr(&door, name, buf),
            Self::Open(fd) => fs::fgetxattr(fd, name, buf),
        });
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => Err(self.failed(errno, "read extended attribute")),
        }
    }

    fn put_xattr(&self, name: &CStr, value: Option<&[u8]>) -> rustix::io::Result<()> {
        let done = match (self, value) {
            (Self::Bare(..), Some(value)) => fs::setxattr(self.door(), name, value, XattrFlags::empty()),
            (Self::Bare(..), None) => fs::removexattr(self.door(), name),
            (Self::Open(fd), Some(value)) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            (Self::Open(fd), None) => fs::fremovexattr(fd, name),
        };
        if value.is_none() && done == Err(Errno::NODATA) {
            Ok(())
        } else {
            done
        }
    }
}

/// Calls `ask` with a buffer that is large enough; small answers take one call.
fn sized(mut ask: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 512];
    match ask(&mut small) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    for _ in 0..TRIES {
        let mut large = vec![0; XATTR_MAX];
        match ask(&mut large) {
            Ok(len) => {
                large.truncate(len);
                large.shrink_to_fit();
                return Ok(large);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::TOOBIG)
}

/// True when `name` is of these classes.
fn wanted(name: &[u8], classes: XattrClasses, root: bool) -> bool {
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => classes.acls,
        b"security.capability" => classes.plain && root,
        _ => classes.plain && (name.starts_with(b"user.") || (root && name.starts_with(b"trusted."))),
    }
}

/// The attributes of these classes, sorted by name.
pub fn xattrs(held: &Held<'_>, classes: XattrClasses) -> Result<Xattrs> {
    let list = held.list_xattrs()?;
    if list.is_empty() {
        return Ok(Xattrs::new());
    }
    let root = rustix::process::geteuid().is_root();
    let mut found = Xattrs::new();
    for name in list.split_inclusive(|&b| b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if wanted(name.to_bytes(), classes, root)
            && let Some(value) = held.get_xattr(name)?
        {
            found.push((name.to_bytes().to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}

fn set_xattrs(held: &Held<'_>, to: &Xattrs, classes: XattrClasses) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let have = xattrs(held, classes)?;
    let mut steps: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    for (name, _) in &have {
        if !to.iter().any(|(wanted, _)| wanted == name) {
            steps.push((name, None));
        }
    }
    for row in to {
        if wanted(&row.0, classes, root) && !have.contains(row) {
            steps.push((&row.0, Some(&row.1)));
        }
    }
    for (name, value) in steps {
        let Ok(text) = CString::new(name) else {
            return Err(plain(
                Kind::Invalid,
                "set extended attribute: NUL in its name",
                held.shown(),
            ));
        };
        let mut done = held.put_xattr(&text, value);
        if done == Err(Errno::ACCESS) {
            done = while_writable(held, || held.put_xattr(&text, value))?;
        }
        let name = String::from_utf8_lossy(name);
        // ENOSPC also means that this value does not fit beside this file, however much room there is elsewhere.
        done.map_err(|errno| {
            held.failed(errno, &format!("set extended attribute {name:?}"))
                .whole(errno == Errno::ROFS)
        })?;
    }
    Ok(())
}

/// Runs `step` while the owner may write: the kernel asks for that even of a file that is only to get an attribute.
fn while_writable(
    held: &Held<'_>,
    step: impl Fn() -> rustix::io::Result<()>,
) -> Result<rustix::io::Result<()>> {
    let (mode, kind) = held.mode_and_type()?;
    if kind == FileType::Symlink || mode & 0o200 != 0 || held.chmod(mode | 0o200).is_err() {
        return Ok(Err(Errno::ACCESS));
    }
    let done = step();
    held.chmod(mode)?;
    Ok(done)
}

/// Sets attributes in the order that keeps each: a change of owner drops set-id bits and capabilities, an ACL moves the
/// mode, and everything but the last moves nothing that the time of modification shows.
pub fn set(held: &Held<'_>, attrs: Attrs<'_>) -> Result<()> {
    if let Some(owner) = attrs.owner {
        held.chown(owner)?;
    }
    if let Some((to, classes)) = attrs.xattrs {
        set_xattrs(held, to, classes)?;
    }
    if let Some(mode) = attrs.mode
        && (matches!(held, Held::Open(_)) || held.mode_and_type()?.1 != FileType::Symlink)
    {
        held.chmod(mode)?;
    }
    attrs.mtime.map_or(Ok(()), |time| held.set_mtime(time))
}

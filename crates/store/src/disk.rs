//! The seam to local file systems: the only home of file access.
//!
//! Invariant: below a root every access is relative to a held directory handle and names one component; no verb
//! follows a symbolic link on the way or at the end (security rules SP2 to SP5). Verbs block; the real one is
//! [`crate::os::OsDisk`], the simulated one (in `testkit`) forgets at a crash what was not synced, names included.
//!
//! Errors are [`Fault`](syncline_model::Fault)s whose kind comes from errno: ENOENT NotFound, EEXIST and ENOTEMPTY
//! Exists, EACCES, EPERM and EROFS Denied, ENOSPC and EDQUOT Full, ELOOP, ENOTDIR and EISDIR Changed (another kind
//! stands there now), EXDEV, EOPNOTSUPP and ENOSYS Unsupported, EBUSY, ETXTBSY and EAGAIN Busy, EIO Corrupt,
//! ENAMETOOLONG, EINVAL and EILSEQ Invalid.

use std::path::Path;

use syncline_model::{Owner, Result, Special, Time, Xattrs};

/// What stands at a name, as `statx` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Node,
    /// Inode number.
    pub inode: u64,
    /// Device number: for noticing mount points within one run only, never kept.
    pub dev: u64,
    /// Number of names.
    pub links: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes that lie on the disk; fewer than `size` means holes.
    pub allocated: u64,
    /// Permission bits (0o7777).
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Last modification.
    pub mtime: Time,
    /// Last status change.
    pub ctime: Time,
}

/// Kinds of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special(Special),
}

/// What `make` makes.
#[derive(Debug, Clone, Copy)]
pub enum Make<'a> {
    /// An empty directory, mode 0700.
    Dir,
    /// A symbolic link with this target.
    Link(&'a [u8]),
    /// A pipe, socket or device, mode 0600.
    Special(Special),
}

/// Attributes to set; `None` leaves one alone. Set in an order that keeps each: owner, xattrs, mode, mtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attrs<'a> {
    /// Owner and group.
    pub owner: Option<Owner>,
    /// Permission bits. Ignored for symbolic links.
    pub mode: Option<u32>,
    /// Last modification; the time of access is left alone.
    pub mtime: Option<Time>,
    /// Exactly these extended attributes within the classes asked for: others of those classes are removed.
    pub xattrs: Option<(&'a Xattrs, XattrClasses)>,
}

/// Which extended attributes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XattrClasses {
    /// `user.*`, and as root `trusted.*` and `security.capability`.
    pub plain: bool,
    /// `system.posix_acl_access` and `system.posix_acl_default`.
    pub acls: bool,
}

/// What `set` and `xattrs` speak of.
pub enum Target<'a, D: Disk + ?Sized> {
    /// A name in a directory, not followed.
    Name(&'a D::Dir, &'a [u8]),
    /// An open file.
    File(&'a D::File),
    /// A directory by its own handle.
    Dir(&'a D::Dir),
}

impl<D: Disk + ?Sized> Clone for Target<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D: Disk + ?Sized> Copy for Target<'_, D> {}

/// How `place` puts a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Rename; `Exists` if the target name is taken.
    New,
    /// Rename over whatever is there.
    Over,
    /// Exchange the two names.
    Exchange,
    /// A second name for a file; `Exists` if the target name is taken.
    Link,
}

/// What `sync` makes durable. Whether it reaches the platter is the file system's word.
pub enum Sync<'a, D: Disk + ?Sized> {
    /// A file's bytes and attributes.
    File(&'a D::File),
    /// A directory's names.
    Dir(&'a D::Dir),
    /// Everything on the file system that the directory lies on; reports write errors since the handle was opened.
    Fs(&'a D::Dir),
}

impl<D: Disk + ?Sized> Clone for Sync<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D: Disk + ?Sized> Copy for Sync<'_, D> {}

/// A run of bytes of a file that is data; what lies between is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// That we may still use.
    pub free: u64,
    /// Identity of the file system, from its UUID; 0 when it has none that lasts.
    pub fs: u64,
    /// `statfs` magic number of the type.
    pub kind: u64,
}

/// A name that `list` found and what the directory says it is, if it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Its kind, unless the file system leaves that to `stat`.
    pub dir: Option<bool>,
}

/// Local file access. Handles are cheap to clone and close when dropped.
pub trait Disk: Send + std::marker::Sync + 'static {
    /// A held directory.
    type Dir: Clone + Send + std::marker::Sync + 'static;
    /// An open file.
    type File: Send + std::marker::Sync + 'static;

    /// Opens an operator's path as a directory. Links on the way are followed unless another user than root or
    /// ourselves owns them (security rule SP14).
    fn root(&self, path: &Path) -> Result<Self::Dir>;
    /// Opens the directory `name` in `at`. `Changed` if it is no directory.
    fn open_dir(&self, at: &Self::Dir, name: &[u8]) -> Result<Self::Dir>;
    /// Calls `each` with every name but `.` and `..`, in no order; stops when it returns false.
    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(Found<'_>) -> bool) -> Result<()>;
    /// What stands at `name`; at the handle itself when `name` is empty.
    fn stat(&self, at: &Self::Dir, name: &[u8]) -> Result<Stat>;
    /// Opens a file: `write` creates it anew (mode 0600, `Exists` if the name is taken), else for reading.
    fn open(&self, at: &Self::Dir, name: &[u8], write: bool) -> Result<Self::File>;
    /// What an open file is now.
    fn stat_file(&self, file: &Self::File) -> Result<Stat>;
    /// Reads up to `into.len()` bytes at `at`; fewer only at the end.
    fn read(&self, file: &Self::File, at: u64, into: &mut [u8]) -> Result<usize>;
    /// Writes all of `bytes` at `at`; `set_len` grows or cuts, leaving holes.
    fn write(&self, file: &Self::File, at: u64, bytes: &[u8]) -> Result<()>;
    /// Sets the length; what is added is a hole.
    fn set_len(&self, file: &Self::File, len: u64) -> Result<()>;
    /// The next run of data at or after `from`; `None`: only holes from there on.
    fn data(&self, file: &Self::File, from: u64) -> Result<Option<Range>>;
    /// Makes `to` share the bytes of `from` (a reflink). `Unsupported` where the file system cannot.
    fn clone_file(&self, from: &Self::File, to: &Self::File) -> Result<()>;
    /// The target of a symbolic link.
    fn read_link(&self, at: &Self::Dir, name: &[u8]) -> Result<Box<[u8]>>;
    /// Extended attributes of these classes, sorted by name.
    fn xattrs(&self, of: Target<'_, Self>, classes: XattrClasses) -> Result<Xattrs>;
    /// Makes a node; `Exists` if the name is taken.
    fn make(&self, at: &Self::Dir, name: &[u8], what: Make<'_>) -> Result<()>;
    /// Sets attributes.
    fn set(&self, of: Target<'_, Self>, attrs: Attrs<'_>) -> Result<()>;
    /// Puts the name `from` at the name `to`.
    fn place(&self, from: (&Self::Dir, &[u8]), to: (&Self::Dir, &[u8]), how: Place) -> Result<()>;
    /// Removes a name: of an empty directory when `dir`, else of anything but a directory.
    fn remove(&self, at: &Self::Dir, name: &[u8], dir: bool) -> Result<()>;
    /// Makes durable.
    fn sync(&self, what: Sync<'_, Self>) -> Result<()>;
    /// Takes an advisory lock on an open file without waiting; `Busy` if somebody else has it. Held until closed.
    fn lock(&self, file: &Self::File) -> Result<()>;
    /// Room and identity of the file system that `dir` lies on.
    fn space(&self, dir: &Self::Dir) -> Result<Space>;
}

//! What stands at a path: entries, their metadata and content, and what a side can prove about them.
//!
//! Invariant: two entries are called the same only on proof (equal digests, or a tag that its own side gave
//! earlier); equal sizes and times prove nothing ([`Sameness::Unknown`]).

use serde::{Deserialize, Serialize};

use crate::fault::Trouble;
use crate::path::RelPath;

/// A point in time as its own host wrote it; comparable only with times of the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub nanos: u32,
}

impl Time {
    /// A time that no file bears, older than any.
    pub const NEVER: Self = Self {
        secs: i64::MIN,
        nanos: 0,
    };
}

/// A BLAKE3 digest of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of a file's bytes. Digests are absent until somebody read the bytes or the store told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the bytes, when known.
    pub digest: Option<Digest>,
    /// MD5 of the bytes, when the store keeps it (a plain object's ETag); only ever compared, never relied on
    /// against an adversary.
    pub md5: Option<[u8; 16]>,
}

/// Whether two contents are the same. Never a bool: "we cannot tell without reading" is an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// Proved equal.
    Same,
    /// Proved different.
    Differs,
    /// Somebody must read the bytes.
    Unknown,
}

impl Content {
    /// Content of which only the size is known.
    pub fn unread(size: u64) -> Self {
        Self {
            size,
            digest: None,
            md5: None,
        }
    }

    /// Whether these bytes are those bytes.
    pub fn same(&self, other: &Self) -> Sameness {
        let by = |equal| if equal { Sameness::Same } else { Sameness::Differs };
        if self.size != other.size {
            return Sameness::Differs;
        }
        match (self.digest, other.digest, self.md5, other.md5) {
            (Some(a), Some(b), _, _) => by(a == b),
            (_, _, Some(a), Some(b)) => by(a == b),
            _ if self.size == 0 => Sameness::Same,
            _ => Sameness::Unknown,
        }
    }

    /// Takes over digests that `other`, the same content, knows and this does not.
    pub fn learn(&mut self, other: &Self) {
        self.digest = self.digest.or(other.digest);
        self.md5 = self.md5.or(other.md5);
    }
}

/// Owner and group, as numbers of the host that observed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Extended attributes (ACLs are two of them), sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Attributes of an entry. `None` means that this side does not hold the attribute or was not asked: it is then
/// neither compared nor set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits, set-id bits and sticky bit (0o7777).
    pub mode: Option<u32>,
    /// Owner and group.
    pub owner: Option<Owner>,
    /// Time of last modification.
    pub mtime: Option<Time>,
    /// Extended attributes and ACLs.
    pub xattrs: Option<Box<Xattrs>>,
}

/// Names that belong to one file on one side share this id; meaningless on any other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// Entries that are neither files, directories nor symlinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A block device: major, minor.
    Block(u32, u32),
    /// A character device: major, minor.
    Char(u32, u32),
}

/// Why an entry cannot be looked into. Nothing is decided at or below it, and no parent of it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Why {
    /// Excluded by the filter: silent.
    Excluded,
    /// Could not be read or listed: a problem.
    Unreadable(Trouble),
    /// Has become or ceased to be a mount point, or lies on another file system than before: a problem.
    Mount,
    /// Two names that this pair of sides cannot tell apart, or a name that one side cannot hold: a problem.
    Name(Trouble),
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A directory.
    Dir(Meta),
    /// A file; with an id when it has several names.
    File(Meta, Content, Option<LinkId>),
    /// A symbolic link and its target, verbatim.
    Link(Meta, #[serde(with = "serde_bytes")] Box<[u8]>),
    /// A pipe, socket or device.
    Special(Meta, Special),
    /// Something that cannot be looked into. Sorts as what it is on disk: see the slot it comes with.
    Opaque(Why),
}

impl Entry {
    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self, Self::Dir(_))
    }

    /// True for a file.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// True when nothing may be decided here.
    pub fn is_opaque(&self) -> bool {
        matches!(self, Self::Opaque(_))
    }

    /// The attributes; `None` for what is opaque.
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Dir(meta) | Self::File(meta, ..) | Self::Link(meta, _) | Self::Special(meta, _) => {
                Some(meta)
            }
            Self::Opaque(_) => None,
        }
    }

    /// The attributes, to be changed.
    pub fn meta_mut(&mut self) -> Option<&mut Meta> {
        match self {
            Self::Dir(meta) | Self::File(meta, ..) | Self::Link(meta, _) | Self::Special(meta, _) => {
                Some(meta)
            }
            Self::Opaque(_) => None,
        }
    }

    /// The content, of a file.
    pub fn content(&self) -> Option<&Content> {
        if let Self::File(_, content, _) = self {
            Some(content)
        } else {
            None
        }
    }

    /// The content, of a file, to be completed.
    pub fn content_mut(&mut self) -> Option<&mut Content> {
        if let Self::File(_, content, _) = self {
            Some(content)
        } else {
            None
        }
    }

    /// Length in bytes of what would have to travel.
    pub fn size(&self) -> u64 {
        self.content().map_or(0, |content| content.size)
    }

    /// Whether the kinds and, for files, the bytes, or else the targets and device numbers, are the same;
    /// attributes play no part. Two directories are always the same, what is opaque never is.
    pub fn same_content(&self, other: &Self) -> Sameness {
        let by = |equal| if equal { Sameness::Same } else { Sameness::Differs };
        match (self, other) {
            (Self::Dir(_), Self::Dir(_)) => Sameness::Same,
            (Self::File(_, a, _), Self::File(_, b, _)) => a.same(b),
            (Self::Link(_, a), Self::Link(_, b)) => by(a == b),
            (Self::Special(_, a), Self::Special(_, b)) => by(a == b),
            _ => Sameness::Differs,
        }
    }

    /// The kind in one word, for messages and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dir(_) => "directory",
            Self::File(..) => "file",
            Self::Link(..) => "symlink",
            Self::Special(_, Special::Fifo) => "fifo",
            Self::Special(_, Special::Socket) => "socket",
            Self::Special(_, Special::Block(..)) => "block device",
            Self::Special(_, Special::Char(..)) => "character device",
            Self::Opaque(_) => "opaque",
        }
    }
}

/// What a local file system proves about an entry: where it lies and when its inode last changed. The size and the
/// time of modification stand in the entry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Which file system it lies on (from its UUID, never a device number).
    pub fs: u64,
    /// Inode number.
    pub inode: u64,
    /// Time of last status change; [`Time::NEVER`] in a base row means "do not trust, read again".
    pub ctime: Time,
}

/// What one side can prove about an entry's identity: equal tags (and sizes and times) mean unchanged, as long as the
/// tag was taken by the same side. Opaque to everybody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tag {
    /// Nothing can be proved.
    None,
    /// Of a local file system.
    Stamp(Stamp),
    /// Of a store: ETag, version or the like.
    Store(#[serde(with = "serde_bytes")] Box<[u8]>),
}

impl Tag {
    /// The stamp, of a local entry.
    pub fn stamp(&self) -> Option<&Stamp> {
        if let Self::Stamp(stamp) = self {
            Some(stamp)
        } else {
            None
        }
    }
}

/// An entry as one side saw it, with that side's proof of its identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Observation {
    /// What was there.
    pub entry: Entry,
    /// The side's own proof.
    pub tag: Tag,
}

impl Observation {
    /// True when `earlier`, taken by the same side, proves that nothing changed: kind, size, attributes and tag are equal
    /// and the tag proves something. Attributes that were not asked for then are a difference too.
    pub fn unchanged_since(&self, earlier: &Self) -> bool {
        let changed =
            self.tag != earlier.tag && !(crate::zoo::on("ctime-ignored") && self.is_inode_of(earlier));
        if changed || self.tag == Tag::None {
            return false;
        }
        match (&self.entry, &earlier.entry) {
            (Entry::File(a, c, _), Entry::File(b, d, _)) => c.size == d.size && a == b,
            (a, b) => a.same_content(b) == Sameness::Same && a.meta() == b.meta(),
        }
    }

    fn is_inode_of(&self, other: &Self) -> bool {
        let inode = |seen: &Self| seen.tag.stamp().map(|stamp| (stamp.fs, stamp.inode));
        inode(self).is_some() && inode(self) == inode(other)
    }
}

/// Where the bytes of a change come from when they are on this side already.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// What stands at that path moves here, a whole directory too; it is no longer there afterwards.
    Move(RelPath),
    /// One more name of the file at that path.
    Link(RelPath),
    /// Back from the trash of that run.
    Trash(TrashRef),
    /// What stands at that path and what stands here change places, in one step. With its own path: what an earlier
    /// exchange brought here stays.
    Exchange(RelPath),
}

/// Where the trash of a replica holds something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrashRef {
    /// The run that put it there.
    pub run: String,
    /// Its path below that run's trash: the path that it had, with a number where that was taken.
    pub path: RelPath,
}

/// One change of one path on one side, under the condition that `old` is still what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub path: RelPath,
    /// What must stand there; `None`: nothing.
    pub old: Option<Observation>,
    /// What will stand there; `None`: nothing.
    pub new: Option<Entry>,
    /// Where the bytes come from when they are on this side already.
    pub from: Option<From>,
}

//! Values that describe a replica: who it is, what it can hold, what of it is looked at.

use serde::{Deserialize, Serialize};

use crate::entry::Observation;
use crate::path::{RelPath, Slot};

/// An entry as a scan reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its place in the one order.
    pub slot: Slot,
    /// What is there.
    pub what: Observation,
}

/// Which attributes are compared and carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Permission bits.
    pub mode: bool,
    /// Owner and group.
    pub owner: bool,
    /// Times of modification.
    pub times: bool,
    /// Extended attributes without ACLs.
    pub xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Groups of names that are one file: kept as one file, or only told of (see `Profile::second_names`).
    pub links: bool,
    /// The time of status change is part of a file's identity.
    pub ctime: bool,
}

impl Classes {
    /// What both can.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            mode: self.mode && other.mode,
            owner: self.owner && other.owner,
            times: self.times && other.times,
            xattrs: self.xattrs && other.xattrs,
            acls: self.acls && other.acls,
            links: self.links && other.links,
            ctime: self.ctime && other.ctime,
        }
    }
}

impl Default for Classes {
    /// What a session carries unless told otherwise; `xattrs` and `acls` are asked for by option.
    fn default() -> Self {
        Self {
            mode: true,
            owner: true,
            times: true,
            xattrs: false,
            acls: false,
            links: true,
            ctime: true,
        }
    }
}

/// What a replica is and can hold, probed rather than guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The place as a person wrote it, without secrets.
    pub label: String,
    /// The host that edits here are attributed to in conflict names: a host name, or a bucket's name.
    pub host: String,
    /// Attributes that it can hold.
    pub classes: Classes,
    /// Kinds beside files and directories that it can hold.
    pub symlinks: bool,
    /// Pipes, sockets and devices.
    pub specials: bool,
    /// "A" and "a" are one name here.
    pub folds_case: bool,
    /// Composed and decomposed forms are one name here.
    pub normalises: bool,
    /// Something can be renamed without its bytes travelling.
    pub renames: bool,
    /// What is displaced can be kept in the trash without its bytes travelling.
    pub copies: bool,
    /// Two names can be exchanged in one step.
    pub exchanges: bool,
    /// A file can have several names, which share its bytes and attributes. Where not, each name of a group has its own.
    pub second_names: bool,
    /// A write can be conditional on what is there.
    pub conditional: bool,
    /// A tag outlives a rename (an inode), so that moves are known by it.
    pub stable_ids: bool,
    /// Coarsest step of its times, in nanoseconds.
    pub time_step: u32,
    /// The root's file system honours `syncfs`, or the store is durable when it answers.
    pub batch_durable: bool,
    /// May not be written.
    pub read_only: bool,
    /// There was no room to try out what it can hold: what was found there before is taken to hold.
    pub full: bool,
}

/// The marker that a replica carries in `.syncline/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Made once, 128 random bits in hex.
    pub id: String,
    /// Raised by each run before its first change there. Smaller than remembered: a restored replica.
    pub generation: u64,
}

impl Marker {
    /// What stands for a marker that is there and cannot be read: it is nobody's.
    pub fn unreadable() -> Self {
        Self {
            id: String::new(),
            generation: 0,
        }
    }

    /// False for one that is there and cannot be read.
    pub fn is_readable(&self) -> bool {
        !self.id.is_empty()
    }
}

/// What can be seen of a place without any marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceId(pub String);

/// Who answers at a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The file system's UUID and the root's inode; or endpoint, bucket and prefix.
    pub place: PlaceId,
    /// The marker, when there is one.
    pub marker: Option<Marker>,
}

/// What of a tree is looked at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only these paths and what is below them; empty: everything.
    pub only: Vec<RelPath>,
    /// What is excluded, the session's rules; a replica adds `.syncline` itself.
    pub filter: std::sync::Arc<crate::filter::Filter>,
    /// Attributes wanted.
    pub classes: Classes,
    /// Follow symlinks, leave them out, or (default) keep them.
    pub links: Links,
}

/// What becomes of symlinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// Kept as what they are.
    #[default]
    Keep,
    /// What they point to is taken in their place, below the root only.
    Follow,
    /// Left out.
    Skip,
}

/// Our own directory in every replica; never part of the tree.
pub const OWN_DIR: &str = ".syncline";

//! A node of the simulated disk: a file, directory, link or device, as it is and as it was last synced.

use super::*;

/// What `set` sets, and the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub mode: u32,
    pub owner: Owner,
    pub mtime: Time,
    pub ctime: Time,
    pub xattrs: Xattrs,
}

pub type Names = BTreeMap<Box<[u8]>, Id>;

#[derive(Debug)]
pub enum Body {
    Dir {
        names: Names,
        durable: Names,
        up: Option<(Id, Box<[u8]>)>,
    },
    File {
        bytes: Bytes,
        durable: Bytes,
    },
    Link(Box<[u8]>),
    Special(Special),
}

#[derive(Debug)]
pub struct Node {
    pub fs: usize,
    pub number: u64,
    pub body: Body,
    pub held: Held,
    pub durable: Held,
    pub links: u32,
    pub opens: u32,
    pub lock: Option<u64>,
    /// Its room was given back.
    pub released: bool,
    /// Bytes of it were lost by a sync that failed.
    pub lost: Option<Loss>,
}

/// What a sync that failed has lost for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nobody was told of this file by itself.
    Untold,
    /// It was told; now all syncs succeed and make nothing durable.
    Told,
}

impl Node {
    pub fn names(&self) -> Option<&Names> {
        if let Body::Dir { names, .. } = &self.body {
            Some(names)
        } else {
            None
        }
    }

    pub(super) fn names_mut(&mut self) -> Option<&mut Names> {
        if let Body::Dir { names, .. } = &mut self.body {
            Some(names)
        } else {
            None
        }
    }

    pub fn is_dir(&self) -> bool {
        self.names().is_some()
    }

    /// True when a power cut might take bytes of it.
    pub(super) fn is_dirty(&self) -> bool {
        matches!(&self.body, Body::File { bytes, durable } if bytes != durable)
    }

    pub fn allocated(&self) -> u64 {
        if let Body::File { bytes, .. } = &self.body {
            bytes.allocated()
        } else {
            0
        }
    }

    pub fn stat(&self) -> Stat {
        let (kind, size) = match &self.body {
            Body::Dir { .. } => (Type::Dir, BLOCK),
            Body::File { bytes, .. } => (Type::File, bytes.len),
            Body::Link(target) => (Type::Link, target.len() as u64),
            Body::Special(special) => (Type::Special(*special), 0),
        };
        Stat {
            kind,
            inode: self.number,
            dev: self.fs as u64 + 1,
            links: self.links,
            size,
            allocated: self.allocated(),
            mode: self.held.mode,
            owner: self.held.owner,
            mtime: self.held.mtime,
            ctime: self.held.ctime,
        }
    }
}

pub(super) fn crash_node(node: &mut Node, dice: &SeededDice, lost: &mut Lost) {
    let mut times_survive = false;
    match &mut node.body {
        Body::Dir { names, durable, .. } => *names = durable.clone(),
        Body::File { bytes, durable } if bytes != durable => {
            let left = match dice.below(3) {
                _ if node.lost.is_some() => durable.clone(),
                0 => durable.clone(),
                1 => bytes.clone(),
                _ => Bytes::torn(durable, bytes, dice),
            };
            // Bytes that came through under the old times could be seen by nobody who does not read them.
            times_survive = left != *durable;
            lost.files += u64::from(left != *bytes);
            *bytes = left.clone();
            *durable = left;
        }
        _ => {}
    }
    node.lost = None;
    if node.held != node.durable {
        let live = node.held.clone();
        if dice.chance(50) {
            node.held = node.durable.clone();
        }
        if times_survive {
            (node.held.mtime, node.held.ctime) = (live.mtime, live.ctime);
        }
        lost.attributes += u64::from(node.held != live);
        node.durable = node.held.clone();
    }
}

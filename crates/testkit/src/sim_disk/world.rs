//! The state behind [`SimDisk`](super::SimDisk): nodes, names, and what of both is durable.
//!
//! Invariant: durable state changes only by a sync or at a crash, and a crash never takes what a sync made durable.

mod bytes;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use syncline_model::{Kind, Owner, Special, Time, Xattrs};
use syncline_store::disk::{Node as Type, Range, Stat};

use super::FsOptions;
use crate::env::SeededDice;

pub use bytes::{BLOCK, Bytes};
use node::crash_node;
pub use node::{Body, Held, Loss, Names, Node};

/// A node's own name, never used twice, unlike its inode number.
pub type Id = u64;

/// One change of names, taken whole or not at all.
#[derive(Debug, Clone)]
pub struct NameOp {
    /// Directory, name, and what it names afterwards.
    pub sets: Vec<(Id, Box<[u8]>, Option<Id>)>,
    /// Nodes that get or lose a name by it.
    pub children: Vec<Id>,
    /// A directory goes to another parent.
    pub moves_dir: bool,
}

impl NameOp {
    fn parents(&self) -> impl Iterator<Item = Id> + '_ {
        self.sets.iter().map(|(dir, ..)| *dir)
    }

    /// True when this cannot have happened on disk without `earlier`: every journal keeps the order of what concerns one
    /// name or one node.
    fn needs(&self, earlier: &Self) -> bool {
        let same_slot = |(dir, name, _): &(Id, Box<[u8]>, Option<Id>)| {
            earlier
                .sets
                .iter()
                .any(|(other, theirs, _)| other == dir && theirs == name)
        };
        self.sets.iter().any(same_slot)
            || self.children.iter().any(|id| earlier.children.contains(id))
            || self
                .children
                .iter()
                .any(|id| earlier.parents().any(|dir| dir == *id))
            || (self.moves_dir && earlier.moves_dir)
    }
}

impl NameOp {
    /// True when this puts a name into a directory that `earlier` made. No journal brings back a name and forgets the
    /// directory that holds it: both changes concern the directory's own node.
    fn lies_in(&self, earlier: &Self) -> bool {
        matches!(&earlier.sets[..], [(_, _, Some(made))] if self.parents().any(|dir| dir == *made))
    }
}

#[derive(Debug)]
pub struct Fs {
    pub options: FsOptions,
    pub root: Id,
    pub next_number: u64,
    pub used: u64,
}

/// What a crash took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Changes of names: created, removed, renamed, linked.
    pub names: u64,
    /// Files whose bytes are not what was last written.
    pub files: u64,
    /// Nodes whose attributes are not what was last set.
    pub attributes: u64,
}

#[derive(Debug)]
pub struct World {
    pub fss: Vec<Fs>,
    pub nodes: BTreeMap<Id, Node>,
    /// Covered directory → root of what is mounted there.
    pub mounts: BTreeMap<Id, Id>,
    pub pending: Vec<NameOp>,
    pub now: Time,
    pub granularity: Duration,
    pub tick: Duration,
    pub epoch: u64,
    pub next_id: Id,
    pub reuse_numbers: bool,
    pub dead: bool,
    /// The sync under way fails and loses what it was to make durable.
    pub loses: bool,
}

impl World {
    pub fn new() -> Self {
        Self {
            fss: Vec::new(),
            nodes: BTreeMap::new(),
            mounts: BTreeMap::new(),
            pending: Vec::new(),
            now: Time {
                secs: 1_700_000_000,
                nanos: 0,
            },
            granularity: Duration::from_nanos(1),
            tick: Duration::from_micros(1),
            epoch: 0,
            next_id: 1,
            reuse_numbers: false,
            dead: false,
            loses: false,
        }
    }

    pub fn advance(&mut self, by: Duration) {
        let nanos = u64::from(self.now.nanos) + u64::from(by.subsec_nanos());
        self.now.secs += by.as_secs() as i64 + (nanos / 1_000_000_000) as i64;
        self.now.nanos = (nanos % 1_000_000_000) as u32;
    }

    /// The time that a change gets now, as coarse as this world's clock.
    pub fn stamp(&self) -> Time {
        let nanos = i128::from(self.now.secs) * 1_000_000_000 + i128::from(self.now.nanos);
        let step = (self.granularity.as_nanos() as i128).max(1);
        let nanos = nanos.div_euclid(step) * step;
        let second = 1_000_000_000;
        Time {
            secs: nanos.div_euclid(second) as i64,
            nanos: nanos.rem_euclid(second) as u32,
        }
    }

    pub fn add_fs(&mut self, options: FsOptions) -> usize {
        let fs = self.fss.len();
        self.fss.push(Fs {
            options,
            root: 0,
            next_number: 2,
            used: 0,
        });
        let root = self.make_node(
            fs,
            Body::Dir {
                names: Names::new(),
                durable: Names::new(),
                up: None,
            },
            0o755,
        );
        self.fss[fs].root = root;
        if let Some(node) = self.nodes.get_mut(&root) {
            node.links = 1;
        }
        fs
    }

    pub fn make_node(&mut self, fs: usize, body: Body, mode: u32) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        let stamp = self.stamp();
        let number = self.free_number(fs).unwrap_or_else(|| {
            self.fss[fs].next_number += 1;
            self.fss[fs].next_number - 1
        });
        let held = Held {
            mode,
            owner: Owner { uid: 0, gid: 0 },
            mtime: stamp,
            ctime: stamp,
            xattrs: Xattrs::new(),
        };
        let durable = held.clone();
        self.nodes.insert(
            id,
            Node {
                fs,
                number,
                body,
                held,
                durable,
                links: 0,
                opens: 0,
                lock: None,
                released: false,
                lost: None,
            },
        );
        id
    }

    /// The inode number of a node that is gone for good, when numbers are given again.
    fn free_number(&mut self, fs: usize) -> Option<u64> {
        if !self.reuse_numbers {
            return None;
        }
        let mut wanted: BTreeSet<Id> = self
            .pending
            .iter()
            .flat_map(|op| op.children.iter().copied().chain(op.parents()))
            .collect();
        for node in self.nodes.values() {
            if let Body::Dir { durable, .. } = &node.body {
                wanted.extend(durable.values());
            }
        }
        let gone = self
            .nodes
            .iter()
            .find(|(id, node)| node.fs == fs && node.links == 0 && node.opens == 0 && !wanted.contains(id));
        let id = *gone?.0;
        self.nodes.remove(&id).map(|node| node.number)
    }

    /// Makes a change of names visible; it is durable only later.
    pub fn change_names(&mut self, op: NameOp) {
        let stamp = self.stamp();
        let before: Vec<Option<Id>> = op
            .sets
            .iter()
            .map(|(dir, name, _)| self.nodes[dir].names().and_then(|n| n.get(name)).copied())
            .collect();
        for ((dir, name, to), old) in op.sets.iter().zip(before) {
            if let Some(node) = self.nodes.get_mut(dir) {
                node.held.mtime = stamp;
                node.held.ctime = stamp;
                if let Some(names) = node.names_mut() {
                    match to {
                        Some(id) => names.insert(name.clone(), *id),
                        None => names.remove(name),
                    };
                }
            }
            if let Some(old) = old {
                self.link_count(old, -1);
            }
            if let Some(new) = to {
                self.link_count(*new, 1);
                if let Some(Body::Dir { up, .. }) = self.nodes.get_mut(new).map(|node| &mut node.body) {
                    *up = Some((*dir, name.clone()));
                }
            }
        }
        for child in &op.children {
            if let Some(node) = self.nodes.get_mut(child) {
                node.held.ctime = stamp;
            }
            self.release(*child);
        }
        self.pending.push(op);
    }

    fn link_count(&mut self, id: Id, by: i32) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.links = node.links.saturating_add_signed(by);
        }
    }

    /// Gives the room of a node back that has neither name nor handle any more. Its bytes stay: a crash may bring
    /// its name back.
    pub fn release(&mut self, id: Id) {
        if let Some(node) = self.nodes.get_mut(&id)
            && node.links == 0
            && node.opens == 0
            && !node.released
        {
            node.released = true;
            let fs = &mut self.fss[node.fs];
            fs.used = fs.used.saturating_sub(node.allocated());
        }
    }

    pub fn sync_node(&mut self, id: Id) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.durable = node.held.clone();
            if let Body::File { bytes, durable } = &mut node.body
                && node.lost.is_none()
            {
                *durable = bytes.clone();
            }
        }
    }

    /// Makes a file durable, or says that its bytes are lost: once.
    pub fn sync_file(&mut self, id: Id) -> Result<(), Kind> {
        let loses = std::mem::take(&mut self.loses);
        let Some(node) = self.nodes.get_mut(&id) else {
            return Ok(());
        };
        if loses && node.is_dirty() {
            node.lost = Some(Loss::Untold);
        }
        if node.lost == Some(Loss::Untold) {
            node.lost = Some(Loss::Told);
            return Err(Kind::Corrupt);
        }
        self.sync_node(id);
        Ok(())
    }

    /// Makes the names of `dir` durable, and every earlier change without which they could not be.
    pub fn sync_names(&mut self, wanted: impl Fn(&NameOp) -> bool) {
        let mut chosen: Vec<bool> = self.pending.iter().map(&wanted).collect();
        for n in (0..chosen.len()).rev().filter(|n| chosen[*n]).collect::<Vec<_>>() {
            self.choose(n, &mut chosen);
        }
        let mut kept = Vec::new();
        for (op, chosen) in std::mem::take(&mut self.pending).into_iter().zip(chosen) {
            if chosen {
                self.make_durable(&op);
            } else {
                kept.push(op);
            }
        }
        self.pending = kept;
    }

    fn choose(&self, n: usize, chosen: &mut [bool]) {
        let mut stack = vec![n];
        while let Some(n) = stack.pop() {
            for (earlier, chosen) in chosen.iter_mut().enumerate().take(n) {
                if !*chosen && self.pending[n].needs(&self.pending[earlier]) {
                    *chosen = true;
                    stack.push(earlier);
                }
            }
        }
    }

    fn make_durable(&mut self, op: &NameOp) {
        for (dir, name, to) in &op.sets {
            if let Some(Body::Dir { durable, .. }) = self.nodes.get_mut(dir).map(|node| &mut node.body) {
                match to {
                    Some(id) => durable.insert(name.clone(), *id),
                    None => durable.remove(name),
                };
            }
        }
    }

    pub fn sync_fs(&mut self, fs: usize) -> Result<(), Kind> {
        let mut lost = false;
        if std::mem::take(&mut self.loses) {
            for node in self
                .nodes
                .values_mut()
                .filter(|node| node.fs == fs && node.is_dirty())
            {
                node.lost = Some(Loss::Untold);
                lost = true;
            }
        }
        let ids: Vec<Id> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.fs == fs)
            .map(|(id, _)| *id)
            .collect();
        ids.iter().for_each(|id| self.sync_node(*id));
        let ids: BTreeSet<Id> = ids.into_iter().collect();
        self.sync_names(|op| op.parents().any(|dir| ids.contains(&dir)));
        if lost { Err(Kind::Corrupt) } else { Ok(()) }
    }

    /// Every process is gone: handles are dead, locks free; what was done stays.
    pub fn restart(&mut self) {
        self.epoch += 1;
        self.dead = false;
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        for id in ids {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.opens = 0;
                node.lock = None;
            }
            self.release(id);
        }
    }

    /// The power goes: back to what is durable plus what chance let through, of changes of names `luck` in a hundred.
    pub fn crash(&mut self, luck: u64, dice: &SeededDice) -> Lost {
        let mut lost = Lost::default();
        let mut dropped: Vec<NameOp> = Vec::new();
        for op in std::mem::take(&mut self.pending) {
            let torn = |earlier: &NameOp| op.needs(earlier) || op.lies_in(earlier);
            if dice.chance(luck) && !dropped.iter().any(torn) {
                self.make_durable(&op);
            } else {
                lost.names += 1;
                dropped.push(op);
            }
        }
        for node in self.nodes.values_mut() {
            crash_node(node, dice, &mut lost);
        }
        self.forget_unreachable();
        self.restart();
        lost
    }

    fn forget_unreachable(&mut self) {
        let mut reached: BTreeMap<Id, u32> = BTreeMap::new();
        let mut stack: Vec<Id> = self.fss.iter().map(|fs| fs.root).collect();
        let mut ups = Vec::new();
        reached.extend(stack.iter().map(|root| (*root, 1)));
        while let Some(id) = stack.pop() {
            for (name, child) in self.nodes[&id].names().into_iter().flatten() {
                if reached
                    .insert(*child, reached.get(child).copied().unwrap_or(0) + 1)
                    .is_none()
                {
                    stack.push(*child);
                }
                ups.push((*child, id, name.clone()));
            }
        }
        self.nodes.retain(|id, _| reached.contains_key(id));
        self.mounts.retain(|covered, _| reached.contains_key(covered));
        for (child, dir, name) in ups {
            if let Some(Body::Dir { up, .. }) = self.nodes.get_mut(&child).map(|node| &mut node.body) {
                *up = Some((dir, name));
            }
        }
        self.fss.iter_mut().for_each(|fs| fs.used = 0);
        for (id, node) in &mut self.nodes {
            node.links = reached[id];
            node.released = false;
            self.fss[node.fs].used += node.allocated();
        }
    }

    /// The path of `name` in the directory `dir`, for people.
    pub fn path(&self, dir: Id, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name.to_vec()];
        let mut at = dir;
        loop {
            let covered = self
                .mounts
                .iter()
                .find(|(_, root)| **root == at)
                .map(|(covered, _)| *covered);
            match self.nodes.get(&covered.unwrap_or(at)).map(|node| &node.body) {
                Some(Body::Dir {
                    up: Some((up, name)), ..
                }) => {
                    parts.push(name.to_vec());
                    at = *up;
                }
                _ => break,
            }
        }
        parts.retain(|part| !part.is_empty());
        parts.reverse();
        parts.join(&b'/')
    }

    /// True when `dir` is `above` or lies below it.
    pub fn is_within(&self, dir: Id, above: Id) -> bool {
        let mut at = Some(dir);
        while let Some(id) = at {
            if id == above {
                return true;
            }
            at = match self.nodes.get(&id).map(|node| &node.body) {
                Some(Body::Dir {
                    up: Some((up, _)), ..
                }) => Some(*up),
                _ => None,
            };
        }
        false
    }
}

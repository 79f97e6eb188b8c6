//! The verbs of [`SimDisk`], with the answers that Linux gives.

mod at;

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::MutexGuard;

use syncline_model::{Fault, Kind, Result, Xattrs};
use syncline_store::disk::{
    Attrs, Disk, Found, Make, Place, Range, Space, Stat, Sync as Durable, Target, XattrClasses,
};

use super::world::{Body, Bytes, Id, NameOp, Names, World};
use super::{SimDir, SimDisk, SimFile, bytes_of};

use at::At;

const LINKS_MAX: usize = 40;

fn fault(kind: Kind, what: &str, name: &[u8]) -> Fault {
    Fault::new(kind, what, name.escape_ascii())
}

fn component(name: &[u8], what: &str) -> Result<()> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|&b| b == b'/' || b == 0) {
        return Err(fault(Kind::Invalid, &format!("{what}: not a plain name"), name));
    }
    if name.len() > 255 {
        return Err(fault(Kind::Invalid, &format!("{what}: name too long"), name));
    }
    Ok(())
}

fn wanted(name: &[u8], classes: XattrClasses) -> bool {
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => classes.acls,
        b"security.capability" => classes.plain,
        _ => classes.plain && (name.starts_with(b"user.") || name.starts_with(b"trusted.")),
    }
}

impl SimDisk {
    fn at(&self, what: &'static str, changes: bool, dir: Id, name: &[u8]) -> Result<At<'_>> {
        Ok(At {
            world: self.gate(what, changes, dir, name)?,
            what,
        })
    }

    fn at_file(&self, what: &'static str, changes: bool, file: &SimFile) -> Result<At<'_>> {
        self.at(what, changes, file.at.0, &file.at.1)
    }

    fn at_target(&self, what: &'static str, changes: bool, of: Target<'_, Self>) -> Result<(At<'_>, Id)> {
        match of {
            Target::Name(dir, name) => {
                component(name, what)?;
                let at = self.at(what, changes, dir.id, name)?;
                let id = at.find(dir, name)?;
                Ok((at, id))
            }
            Target::File(file) => {
                let at = self.at_file(what, changes, file)?;
                let id = at.file(file)?;
                Ok((at, id))
            }
            Target::Dir(dir) => {
                let at = self.at(what, changes, dir.id, b"")?;
                at.dir(dir)?;
                Ok((at, dir.id))
            }
        }
    }
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

impl Disk for SimDisk {
    type Dir = SimDir;
    type File = SimFile;

    fn root(&self, path: &Path) -> Result<SimDir> {
        let whole = path.as_os_str().as_bytes();
        let at = self.at("root", false, 0, whole)?;
        let top = at.world.fss[0].root;
        let epoch = at.world.epoch;
        let mut stack = vec![SimDir { id: top, epoch }];
        let mut ahead = parts(whole);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == b".." {
                stack.truncate(stack.len().max(2) - 1);
                continue;
            }
            let id = at.find(stack.last().unwrap_or(&SimDir { id: top, epoch }), &name)?;
            match &at.world.nodes[&id].body {
                Body::Dir { .. } => stack.push(SimDir { id, epoch }),
                Body::Link(_) if at.world.nodes[&id].held.owner.uid != 0 => {
                    return Err(fault(
                        Kind::Denied,
                        "open directory: a symbolic link of another user",
                        whole,
                    ));
                }
                Body::Link(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    parts(target)
                        .into_iter()
                        .rev()
                        .for_each(|part| ahead.push_front(part));
                }
                Body::Link(_) => return Err(fault(Kind::Invalid, "open directory: too many links", whole)),
                _ => return Err(fault(Kind::Changed, "open directory", whole)),
            }
        }
        stack
            .pop()
            .ok_or_else(|| fault(Kind::Bug, "open directory", whole))
    }

    fn open_dir(&self, dir: &SimDir, name: &[u8]) -> Result<SimDir> {
        component(name, "open_dir")?;
        let at = self.at("open_dir", false, dir.id, name)?;
        let id = at.find(dir, name)?;
        match at.world.nodes[&id].is_dir() {
            true => Ok(SimDir {
                id,
                epoch: at.world.epoch,
            }),
            false => Err(fault(Kind::Changed, "open directory", name)),
        }
    }

    fn list(&self, dir: &SimDir, each: &mut dyn FnMut(Found<'_>) -> bool) -> Result<()> {
        let at = self.at("list", false, dir.id, b"")?;
        let mut found: Vec<(Box<[u8]>, bool)> = at
            .dir(dir)?
            .iter()
            .map(|(name, id)| (name.clone(), at.world.nodes[id].is_dir()))
            .collect();
        drop(at);
        // No order that anybody could come to rely on.
        found.sort_by_cached_key(|(name, _)| *blake3::hash(name).as_bytes());
        for (name, is_dir) in &found {
            let dir = Some(*is_dir);
            if !each(Found { name, dir }) {
                break;
            }
        }
        Ok(())
    }

    fn stat(&self, dir: &SimDir, name: &[u8]) -> Result<Stat> {
        if !name.is_empty() {
            component(name, "stat")?;
        }
        let at = self.at("stat", false, dir.id, name)?;
        at.dir(dir)?;
        let id = if name.is_empty() {
            dir.id
        } else {
            at.find(dir, name)?
        };
        Ok(at.world.nodes[&id].stat())
    }

    fn open(&self, dir: &SimDir, name: &[u8], write: bool) -> Result<SimFile> {
        component(name, "open")?;
        let mut at = self.at(if write { "create" } else { "open" }, write, dir.id, name)?;
        let id = if write {
            let body = Body::File {
                bytes: Bytes::default(),
                durable: Bytes::default(),
            };
            at.add(dir, name, body, 0o600)?
        } else {
            at.find(dir, name)?
        };
        if !matches!(at.world.nodes[&id].body, Body::File { .. }) {
            return Err(fault(Kind::Changed, "open: not a regular file", name));
        }
        Ok(self.open_handle(&mut at.world, id, write, (dir.id, name.into())))
    }

    fn stat_file(&self, file: &SimFile) -> Result<Stat> {
        let at = self.at_file("stat_file", false, file)?;
        Ok(at.world.nodes[&at.file(file)?].stat())
    }

    fn read(&self, file: &SimFile, from: u64, into: &mut [u8]) -> Result<usize> {
        let mut at = self.at_file("read", false, file)?;
        let id = at.file(file)?;
        Ok(bytes_of(&mut at.world, id).map_or(0, |bytes| bytes.read(from, into)))
    }

    fn write(&self, file: &SimFile, to: u64, bytes: &[u8]) -> Result<()> {
        let mut at = self.at_file("write", true, file)?;
        let id = at.file(file)?;
        // A user may have had the file open for writing for long.
        if !file.writes && !self.raw {
            return Err(fault(Kind::Bug, "write: opened for reading", b""));
        }
        at.writable(id)?;
        let Some(held) = bytes_of(&mut at.world, id) else {
            return Ok(());
        };
        let before = held.clone();
        held.write(to, bytes);
        let after = held.allocated();
        if let Err(full) = at.room(id, before.allocated(), after) {
            if let Some(held) = bytes_of(&mut at.world, id) {
                *held = before;
            }
            return Err(full);
        }
        if !bytes.is_empty() {
            at.touched(id, true);
        }
        Ok(())
    }

    fn set_len(&self, file: &SimFile, len: u64) -> Result<()> {
        let mut at = self.at_file("set_len", true, file)?;
        let id = at.file(file)?;
        // A user may have had the file open for writing for long.
        if !file.writes && !self.raw {
            return Err(fault(Kind::Invalid, "set length: opened for reading", b""));
        }
        at.writable(id)?;
        let Some(held) = bytes_of(&mut at.world, id) else {
            return Ok(());
        };
        let before = held.allocated();
        held.set_len(len);
        let after = held.allocated();
        at.room(id, before, after)?;
        at.touched(id, true);
        Ok(())
    }

    fn data(&self, file: &SimFile, from: u64) -> Result<Option<Range>> {
        let mut at = self.at_file("data", false, file)?;
        let id = at.file(file)?;
        Ok(bytes_of(&mut at.world, id).and_then(|bytes| bytes.data(from)))
    }

    fn clone_file(&self, from: &SimFile, to: &SimFile) -> Result<()> {
        let mut at = self.at_file("clone_file", true, to)?;
        let (from, into) = (at.file(from)?, at.file(to)?);
        let fs = at.world.nodes[&into].fs;
        if at.world.nodes[&from].fs != fs || !at.world.fss[fs].options.reflinks {
            return Err(fault(Kind::Unsupported, "share bytes", b""));
        }
        if !to.writes {
            return Err(fault(Kind::Bug, "share bytes: opened for reading", b""));
        }
        at.writable(into)?;
        let shared = bytes_of(&mut at.world, from).cloned().unwrap_or_default();
        let Some(held) = bytes_of(&mut at.world, into) else {
            return Ok(());
        };
        let (before, after) = (held.allocated(), shared.allocated());
        *held = shared;
        at.room(into, before, after)?;
        at.touched(into, true);
        Ok(())
    }

    fn read_link(&self, dir: &SimDir, name: &[u8]) -> Result<Box<[u8]>> {
        component(name, "read_link")?;
        let at = self.at("read_link", false, dir.id, name)?;
        match &at.world.nodes[&at.find(dir, name)?].body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(fault(Kind::Changed, "read link", name)),
        }
    }

    fn xattrs(&self, of: Target<'_, Self>, classes: XattrClasses) -> Result<Xattrs> {
        let (at, id) = self.at_target("xattrs", false, of)?;
        Ok(at.world.nodes[&id]
            .held
            .xattrs
            .iter()
            .filter(|(name, _)| wanted(name, classes))
            .cloned()
            .collect())
    }

    fn make(&self, dir: &SimDir, name: &[u8], what: Make<'_>) -> Result<()> {
        component(name, "make")?;
        let (body, mode) = match what {
            Make::Dir => (
                Body::Dir {
                    names: Names::new(),
                    durable: Names::new(),
                    up: None,
                },
                0o700,
            ),
            Make::Link(target) if target.is_empty() || target.len() > 4095 => {
                let kind = if target.is_empty() {
                    Kind::NotFound
                } else {
                    Kind::Invalid
                };
                return Err(fault(kind, "make", name));
            }
            Make::Link(target) => (Body::Link(target.into()), 0o777),
            Make::Special(special) => (Body::Special(special), 0o600),
        };
        self.at("make", true, dir.id, name)?
            .add(dir, name, body, mode)
            .map(drop)
    }

    fn set(&self, of: Target<'_, Self>, attrs: Attrs<'_>) -> Result<()> {
        let (mut at, id) = self.at_target("set", true, of)?;
        at.set(id, attrs)
    }

    fn place(&self, from: (&SimDir, &[u8]), to: (&SimDir, &[u8]), how: Place) -> Result<()> {
        component(from.1, "place")?;
        component(to.1, "place")?;
        self.at("place", true, to.0.id, to.1)?.place(from, to, how)
    }

    fn remove(&self, dir: &SimDir, name: &[u8], is_dir: bool) -> Result<()> {
        component(name, "remove")?;
        let mut at = self.at("remove", true, dir.id, name)?;
        let id = at
            .bare(dir, name)?
            .ok_or_else(|| fault(Kind::NotFound, "remove", name))?;
        at.writable(dir.id)?;
        match at.world.nodes[&id].names() {
            _ if at.world.mounts.contains_key(&id) => return Err(fault(Kind::Busy, "remove", name)),
            Some(names) if is_dir && !names.is_empty() => return Err(fault(Kind::Exists, "remove", name)),
            names if names.is_some() != is_dir => return Err(fault(Kind::Changed, "remove", name)),
            _ => {}
        }
        let sets = vec![(dir.id, at.spelt(dir, name)?, None)];
        at.world.change_names(NameOp {
            sets,
            children: vec![id],
            moves_dir: false,
        });
        Ok(())
    }

    fn sync(&self, what: Durable<'_, Self>) -> Result<()> {
        match what {
            Durable::File(file) => {
                let mut at = self.at_file("sync_file", true, file)?;
                let id = at.file(file)?;
                at.world
                    .sync_file(id)
                    .map_err(|kind| fault(kind, "sync_file", b""))?;
            }
            Durable::Dir(dir) => {
                let mut at = self.at("sync_dir", true, dir.id, b"")?;
                at.dir(dir)?;
                at.world.sync_node(dir.id);
                at.world
                    .sync_names(|op| op.sets.iter().any(|(parent, ..)| *parent == dir.id));
            }
            Durable::Fs(dir) => {
                let mut at = self.at("sync_fs", true, dir.id, b"")?;
                at.dir(dir)?;
                let fs = at.world.nodes[&dir.id].fs;
                at.world.sync_fs(fs).map_err(|kind| fault(kind, "sync_fs", b""))?;
            }
        }
        Ok(())
    }

    fn lock(&self, file: &SimFile) -> Result<()> {
        let mut at = self.at_file("lock", false, file)?;
        let id = at.file(file)?;
        match at.world.nodes.get_mut(&id) {
            Some(node) if node.lock.is_some_and(|holder| holder != file.handle) => {
                Err(fault(Kind::Busy, "lock", b""))
            }
            Some(node) => {
                node.lock = Some(file.handle);
                Ok(())
            }
            None => Err(fault(Kind::NotFound, "lock", b"")),
        }
    }

    fn space(&self, dir: &SimDir) -> Result<Space> {
        let at = self.at("space", false, dir.id, b"")?;
        at.dir(dir)?;
        let fs = &at.world.fss[at.world.nodes[&dir.id].fs];
        let total = fs.options.capacity;
        Ok(Space {
            total,
            free: total.saturating_sub(fs.used),
            fs: fs.options.identity,
            kind: fs.options.kind,
        })
    }
}

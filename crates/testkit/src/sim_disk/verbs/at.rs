//! One call on the simulated disk, at the place that it names, with what Linux checks there.

use super::*;

/// A world in which one call is made: lookups and refusals that all verbs share.
pub(super) struct At<'a> {
    pub(super) world: MutexGuard<'a, World>,
    pub(super) what: &'static str,
}

impl At<'_> {
    pub(super) fn dir(&self, dir: &SimDir) -> Result<&Names> {
        if dir.epoch != self.world.epoch {
            return Err(fault(
                Kind::Cancelled,
                "the process that opened this is gone",
                b"",
            ));
        }
        let node = self.world.nodes.get(&dir.id);
        node.and_then(|node| node.names())
            .ok_or_else(|| fault(Kind::NotFound, self.what, b""))
    }

    pub(super) fn file(&self, file: &SimFile) -> Result<Id> {
        if file.epoch != self.world.epoch {
            return Err(fault(
                Kind::Cancelled,
                "the process that opened this is gone",
                b"",
            ));
        }
        Ok(file.id)
    }

    /// What `name` names, without looking through mount points.
    pub(super) fn bare(&self, dir: &SimDir, name: &[u8]) -> Result<Option<Id>> {
        let name = self.spelt(dir, name)?;
        Ok(self.dir(dir)?.get(&name).copied())
    }

    /// How the name is spelt that is this one here; as given when there is none.
    pub(super) fn spelt(&self, dir: &SimDir, name: &[u8]) -> Result<Box<[u8]>> {
        let names = self.dir(dir)?;
        let folds = self.world.fss[self.world.nodes[&dir.id].fs].options.folds;
        if !folds.any() || names.contains_key(name) {
            return Ok(name.into());
        }
        let wanted = folds.fold(name);
        let found = names.keys().find(|there| folds.fold(there) == wanted);
        Ok(found.cloned().unwrap_or_else(|| name.into()))
    }

    pub(super) fn find(&self, dir: &SimDir, name: &[u8]) -> Result<Id> {
        let id = self
            .bare(dir, name)?
            .ok_or_else(|| fault(Kind::NotFound, self.what, name))?;
        Ok(self.world.mounts.get(&id).copied().unwrap_or(id))
    }

    pub(super) fn writable(&self, id: Id) -> Result<()> {
        if self.world.fss[self.world.nodes[&id].fs].options.read_only {
            return Err(fault(Kind::Denied, self.what, b"read-only file system").whole(true));
        }
        Ok(())
    }

    /// Names may be added to `dir`: it is writable and still has a name itself.
    pub(super) fn open_for_names(&self, dir: &SimDir) -> Result<()> {
        self.dir(dir)?;
        self.writable(dir.id)?;
        match self.world.nodes[&dir.id].links {
            0 => Err(fault(Kind::NotFound, self.what, b"removed directory")),
            _ => Ok(()),
        }
    }

    pub(super) fn room(&mut self, id: Id, before: u64, after: u64) -> Result<()> {
        let fs = self.world.nodes[&id].fs;
        let fs = &mut self.world.fss[fs];
        let used = (fs.used + after).saturating_sub(before);
        if used > fs.options.capacity && after > before {
            return Err(fault(Kind::Full, self.what, b""));
        }
        fs.used = used;
        Ok(())
    }

    /// Adds a node under a free name.
    pub(super) fn add(&mut self, dir: &SimDir, name: &[u8], body: Body, mode: u32) -> Result<Id> {
        self.open_for_names(dir)?;
        if self.bare(dir, name)?.is_some() {
            return Err(fault(Kind::Exists, self.what, name));
        }
        let fs = self.world.nodes[&dir.id].fs;
        let id = self.world.make_node(fs, body, mode);
        let sets = vec![(dir.id, name.into(), Some(id))];
        self.world.change_names(NameOp {
            sets,
            children: vec![id],
            moves_dir: false,
        });
        Ok(id)
    }

    pub(super) fn touched(&mut self, id: Id, bytes_too: bool) {
        let stamp = self.world.stamp();
        if let Some(node) = self.world.nodes.get_mut(&id) {
            node.held.ctime = stamp;
            if bytes_too {
                node.held.mtime = stamp;
            }
        }
    }

    pub(super) fn set(&mut self, id: Id, attrs: Attrs<'_>) -> Result<()> {
        self.writable(id)?;
        let node = self
            .world
            .nodes
            .get_mut(&id)
            .ok_or_else(|| fault(Kind::NotFound, self.what, b""))?;
        let link = matches!(node.body, Body::Link(_));
        let plain = matches!(node.body, Body::File { .. } | Body::Dir { .. });
        if let Some(owner) = attrs.owner {
            node.held.owner = owner;
            if matches!(node.body, Body::File { .. }) {
                let group_too = node.held.mode & 0o010 != 0;
                node.held.mode &= if group_too { 0o1777 } else { 0o3777 };
                node.held
                    .xattrs
                    .retain(|(name, _)| name != b"security.capability");
            }
        }
        if let Some((to, classes)) = attrs.xattrs {
            let mut all: Xattrs = node
                .held
                .xattrs
                .iter()
                .filter(|(name, _)| !wanted(name, classes))
                .cloned()
                .collect();
            for row in to.iter().filter(|(name, _)| wanted(name, classes)) {
                match &row.0[..] {
                    name if name.starts_with(b"user.") && !plain => {
                        return Err(fault(Kind::Denied, "set extended attribute", name));
                    }
                    name if name.starts_with(b"system.") && link => {
                        return Err(fault(Kind::Unsupported, "set extended attribute", name));
                    }
                    _ => all.push(row.clone()),
                }
            }
            all.sort();
            node.held.xattrs = all;
        }
        if let Some(mode) = attrs.mode
            && !link
        {
            node.held.mode = mode & 0o7777;
        }
        if let Some(mtime) = attrs.mtime {
            node.held.mtime = mtime;
        }
        self.touched(id, false);
        Ok(())
    }

    /// The whole of `place`, checks first.
    pub(super) fn place(&mut self, from: (&SimDir, &[u8]), to: (&SimDir, &[u8]), how: Place) -> Result<()> {
        let (old, over) = (self.bare(from.0, from.1)?, self.bare(to.0, to.1)?);
        let old = old.ok_or_else(|| fault(Kind::NotFound, self.what, from.1))?;
        let (fs, to_fs) = (self.world.nodes[&from.0.id].fs, self.world.nodes[&to.0.id].fs);
        if fs != to_fs {
            return Err(fault(Kind::Unsupported, "not on the same file system", to.1));
        }
        self.open_for_names(to.0)?;
        let refuse = |kind| Err(fault(kind, self.what, to.1));
        let is_dir = self.world.nodes[&old].is_dir();
        match (how, over) {
            (Place::New | Place::Link, Some(_)) => return refuse(Kind::Exists),
            (Place::Exchange, None) => return refuse(Kind::NotFound),
            (Place::Link, None) if is_dir => return refuse(Kind::Denied),
            _ => {}
        }
        if how != Place::Link
            && [Some(old), over]
                .iter()
                .flatten()
                .any(|id| self.world.mounts.contains_key(id))
        {
            return refuse(Kind::Busy);
        }
        let loops = (is_dir && self.world.is_within(to.0.id, old))
            || (how == Place::Exchange && over.is_some_and(|over| self.world.is_within(from.0.id, over)));
        if loops && over != Some(old) {
            return refuse(if how == Place::Over {
                Kind::Invalid
            } else {
                Kind::Unsupported
            });
        }
        if how == Place::Over {
            self.may_replace(old, over, to.1)?;
        }
        if over == Some(old) {
            // Two names of one file: POSIX has the rename do nothing at all.
            return Ok(());
        }
        let (from_name, to_name) = (self.spelt(from.0, from.1)?, self.spelt(to.0, to.1)?);
        let from_slot = |id| (from.0.id, from_name.clone(), id);
        let to_slot = (to.0.id, to_name, Some(old));
        let sets = match how {
            Place::New | Place::Over => vec![from_slot(None), to_slot],
            Place::Exchange => vec![from_slot(over), to_slot],
            Place::Link => vec![to_slot],
        };
        let dir_too = is_dir || over.is_some_and(|id| self.world.nodes[&id].is_dir());
        let moves_dir = dir_too && how != Place::Link && from.0.id != to.0.id;
        let children = [Some(old), over].into_iter().flatten().collect();
        self.world.change_names(NameOp {
            sets,
            children,
            moves_dir,
        });
        Ok(())
    }

    pub(super) fn may_replace(&self, old: Id, over: Option<Id>, name: &[u8]) -> Result<()> {
        let Some(over) = over.filter(|over| *over != old) else {
            return Ok(());
        };
        let names = self.world.nodes[&over].names();
        match (self.world.nodes[&old].is_dir(), names) {
            (true, Some(names)) if !names.is_empty() => Err(fault(Kind::Exists, self.what, name)),
            (true, None) | (false, Some(_)) => Err(fault(Kind::Changed, self.what, name)),
            _ => Ok(()),
        }
    }
}

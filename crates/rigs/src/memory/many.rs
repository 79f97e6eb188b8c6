//! A tree of any size that nobody keeps: each entry is computed from its number, and what is made in it is only counted.
//!
//! Invariant: what a scan shows of a name is what `find` and `apply` show of it, so that a run after a run has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{
    Change, Classes, Content, Digest, Entry, Fault, Identity, Kind, Marker, Meta, Observation, Owner,
    PlaceId, Profile, RelPath, Result, Scope, Seen, Side, Slot, Stamp, Tag, Time, TrashRef,
};
use syncline_replica::{Applied, Body, Edit, EditOptions, Replica, Staged, TrashRun, Walk};

/// Files of one directory, where a tree has many of them.
pub const PER_DIR: u64 = 100;
/// Of these, so many move in the case of moves.
pub const MOVE_OF_DIR: u64 = 10;
/// Entries of one batch of a walk.
const BATCH: usize = 1024;
/// Length of every file.
pub const SIZE: u64 = 8;
/// The one large directory.
pub const BIG: &str = "big";

/// When everything was last changed; its inode a moment later.
pub const MTIME: Time = Time {
    secs: 1_600_000_000,
    nanos: 1,
};
pub const CTIME: Time = Time {
    secs: 1_600_000_001,
    nanos: 5,
};

/// How the entries of a tree lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// There are none.
    Empty,
    /// A hundred files in each directory.
    Nested,
    /// The same, and the first ten of each directory have moved to another one, which is new.
    Moved,
    /// All in one directory.
    Flat,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir(u64),
    File(u64),
}

fn slot(text: String) -> Slot {
    // Our own names are sound.
    Slot::new(text.into_bytes()).unwrap_or_else(|bad| unreachable!("{bad}"))
}

fn dir(kind: char, number: u64) -> (Slot, Node) {
    let inode = if kind == 'd' { 1 << 40 } else { 1 << 41 };
    (slot(format!("{kind}{number:08}/")), Node::Dir(inode + number))
}

fn file(kind: char, number: u64) -> (Slot, Node) {
    let (above, within) = (number / PER_DIR, number % PER_DIR);
    (
        slot(format!("{kind}{above:08}/photo-{within:02}.jpg")),
        Node::File(number),
    )
}

/// The name of a file in the large directory.
pub fn flat_name(number: u64) -> String {
    format!("photo-{number:010}.jpg")
}

/// The number of the file in the large directory that has this name.
pub fn flat_number(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(b"photo-")?.strip_suffix(b".jpg")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// All bytes of a file.
pub fn bytes_of(number: u64) -> [u8; SIZE as usize] {
    number.to_le_bytes()
}

fn node_of(path: &RelPath) -> Option<Node> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    let (above, name) = match text.split_once('/') {
        Some((above, name)) => (above, Some(name)),
        None => (text, None),
    };
    if above == BIG {
        return match name {
            None => Some(Node::Dir(1 << 42)),
            Some(name) => flat_number(name.as_bytes()).map(Node::File),
        };
    }
    let number: u64 = above.get(1..)?.parse().ok()?;
    let kind = above.chars().next()?;
    match name {
        None => Some(dir(kind, number).1),
        Some(name) => {
            let within: u64 = name.strip_prefix("photo-")?.strip_suffix(".jpg")?.parse().ok()?;
            Some(Node::File(number * PER_DIR + within))
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Many(Arc<Tree>);

struct Tree {
    profile: Profile,
    side: Side,
    shape: Shape,
    files: u64,
    /// Somebody edits here: all that can be asked for has come to be.
    edited: AtomicBool,
    applied: AtomicU64,
}

impl Many {
    /// A tree of `files` files.
    pub fn new(side: Side, shape: Shape, files: u64) -> Self {
        let profile = Profile {
            label: format!("many-{}", side.name()),
            host: side.name().into(),
            classes: Classes::default(),
            symlinks: true,
            specials: true,
            folds_case: false,
            normalises: false,
            renames: true,
            copies: true,
            exchanges: true,
            conditional: true,
            second_names: true,
            stable_ids: true,
            time_step: 1,
            batch_durable: true,
            read_only: false,
            full: false,
        };
        Self(Arc::new(Tree {
            profile,
            side,
            shape,
            files,
            edited: AtomicBool::new(false),
            applied: AtomicU64::new(0),
        }))
    }
}

impl Tree {
    fn see(&self, node: Node) -> Observation {
        let meta = |mode| Meta {
            mode: Some(mode),
            owner: Some(Owner { uid: 0, gid: 0 }),
            mtime: Some(MTIME),
            xattrs: None,
        };
        let (entry, inode) = match node {
            Node::Dir(inode) => (Entry::Dir(meta(0o755)), inode),
            Node::File(number) => (
                Entry::File(meta(0o644), Content::unread(SIZE), None),
                (1 << 43) + number,
            ),
        };
        let stamp = Stamp {
            fs: self.side as u64 + 1,
            inode,
            ctime: CTIME,
        };
        Observation {
            entry,
            tag: Tag::Stamp(stamp),
        }
    }

    fn stands(&self, path: &RelPath) -> Option<Node> {
        let node = node_of(path)?;
        let name = path.as_bytes();
        let there = match self.shape {
            Shape::Empty => false,
            Shape::Flat => name.starts_with(BIG.as_bytes()),
            Shape::Nested => name.starts_with(b"d"),
            Shape::Moved => match node {
                Node::Dir(_) => true,
                Node::File(number) => (number % PER_DIR < MOVE_OF_DIR) == name.starts_with(b"e"),
            },
        };
        (there || self.edited.load(Ordering::Relaxed)).then_some(node)
    }

    fn gone(path: &RelPath) -> Fault {
        Fault::new(Kind::NotFound, "it is not there", path)
    }
}

/// Names in the order, from numbers alone.
struct Names {
    tree: Arc<Tree>,
    /// 'd' and 'e' directories come one after the other.
    kind: char,
    /// The next file; `None`: its directory comes first.
    at: u64,
    in_dir: bool,
}

impl Iterator for Names {
    type Item = (Slot, Node);

    fn next(&mut self) -> Option<Self::Item> {
        let Tree { shape, files, .. } = *self.tree;
        if shape == Shape::Empty {
            return None;
        }
        if shape == Shape::Flat {
            if !self.in_dir {
                self.in_dir = true;
                return Some((slot(format!("{BIG}/")), Node::Dir(1 << 42)));
            }
            let number = self.at;
            self.at += 1;
            return (number < files)
                .then(|| (slot(format!("{BIG}/{}", flat_name(number))), Node::File(number)));
        }
        loop {
            if self.at >= files {
                if shape != Shape::Moved || self.kind == 'e' {
                    return None;
                }
                (self.kind, self.at, self.in_dir) = ('e', 0, false);
            }
            if self.at.is_multiple_of(PER_DIR) && !self.in_dir {
                self.in_dir = true;
                return Some(dir(self.kind, self.at / PER_DIR));
            }
            let number = self.at;
            self.at += 1;
            self.in_dir = !self.at.is_multiple_of(PER_DIR);
            let moved = shape == Shape::Moved && number % PER_DIR < MOVE_OF_DIR;
            if moved == (self.kind == 'e') {
                return Some(file(self.kind, number));
            }
        }
    }
}

#[async_trait]
impl Walk for Names {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        let tree = self.tree.clone();
        let seen = |(slot, node)| Seen {
            slot,
            what: tree.see(node),
        };
        let batch: Vec<Seen> = self.by_ref().take(BATCH).map(seen).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

struct Bytes8(Option<u64>);

#[async_trait]
impl Body for Bytes8 {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self
            .0
            .take()
            .map(|number| Bytes::copy_from_slice(&bytes_of(number))))
    }
    async fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Replica for Many {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }
    async fn identity(&self) -> Result<Identity> {
        Ok(Identity {
            place: PlaceId(self.0.profile.label.clone()),
            marker: None,
        })
    }
    async fn mark(&self, _marker: &Marker) -> Result<()> {
        Err(Fault::new(Kind::Unsupported, "nothing is kept here", ""))
    }
    async fn clock(&self) -> Result<Option<Time>> {
        Ok(None)
    }
    async fn scan(&self, _scope: &Scope) -> Result<Box<dyn Walk>> {
        Ok(Box::new(Names {
            tree: self.0.clone(),
            kind: 'd',
            at: 0,
            in_dir: false,
        }))
    }
    async fn find(&self, path: &RelPath, _scope: &Scope) -> Result<Option<Observation>> {
        Ok(self.0.stands(path).map(|node| self.0.see(node)))
    }
    async fn digest(&self, path: &RelPath, _expect: &Observation) -> Result<Content> {
        let Some(Node::File(number)) = node_of(path) else {
            return Err(Tree::gone(path));
        };
        Ok(Content {
            size: SIZE,
            digest: Some(Digest(*blake3::hash(&bytes_of(number)).as_bytes())),
            md5: None,
        })
    }
    async fn read(&self, path: &RelPath, _expect: &Observation, _from: u64) -> Result<Box<dyn Body>> {
        match node_of(path) {
            Some(Node::File(number)) => Ok(Box::new(Bytes8(Some(number)))),
            _ => Err(Tree::gone(path)),
        }
    }
    async fn gave_way(&self, _path: &RelPath, _was: &Observation) -> Result<bool> {
        Ok(true)
    }
    async fn leave(&self) -> Result<bool> {
        Ok(false)
    }
    async fn edit(&self, _options: &EditOptions) -> Result<Arc<dyn Edit>> {
        self.0.edited.store(true, Ordering::Relaxed);
        Ok(Arc::new(self.clone()))
    }
    async fn trash(&self) -> Result<Vec<TrashRun>> {
        Ok(Vec::new())
    }
    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        Err(Fault::new(Kind::NotFound, "no trash is kept here", run))
    }
    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        Err(Tree::gone(&at.path))
    }
    async fn trash_empty(&self, _run: &str) -> Result<()> {
        Ok(())
    }
    async fn space(&self) -> Result<(Option<u64>, Option<u64>)> {
        Ok((None, None))
    }
    async fn tidy_trash(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Edit for Many {
    async fn stage(&self, _path: &RelPath, new: &Entry, mut body: Box<dyn Body>) -> Result<Staged> {
        let mut hasher = blake3::Hasher::new();
        while let Some(bytes) = body.next().await? {
            hasher.update(&bytes);
        }
        body.check().await?;
        let mut entry = new.clone();
        if let Some(content) = entry.content_mut() {
            content.digest = Some(Digest(*hasher.finalize().as_bytes()));
        }
        Ok(Staged {
            entry,
            draft: 0,
            brought: true,
        })
    }

    async fn apply(&self, change: &Change, _staged: Option<Staged>) -> Result<Applied> {
        self.0.applied.fetch_add(1, Ordering::Relaxed);
        let now = match (&change.new, node_of(&change.path)) {
            (None, _) => None,
            (Some(_), Some(node)) => Some(self.0.see(node)),
            (Some(_), None) => return Err(Tree::gone(&change.path)),
        };
        let was = now
            .as_ref()
            .filter(|_| change.from.is_some())
            .map(|now| now.tag.clone());
        Ok(Applied {
            now,
            trashed: None,
            was,
        })
    }
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
    async fn finish(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    const FILES: u64 = 3 * PER_DIR + 7;

    async fn scanned(tree: &Many) -> Vec<Seen> {
        let mut walk = tree.scan(&Scope::default()).await.unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = walk.next().await.unwrap() {
            rows.extend(batch);
        }
        rows
    }

    #[tokio::test]
    async fn what_a_scan_shows_of_a_name_is_what_find_and_apply_show_of_it() {
        for (shape, dirs) in [(Shape::Nested, 4), (Shape::Moved, 8), (Shape::Flat, 1)] {
            let tree = Many::new(Side::Left, shape, FILES);
            let rows = scanned(&tree).await;
            assert!(rows.is_sorted_by(|a, b| a.slot < b.slot), "{shape:?}");
            assert_eq!(rows.len() as u64, FILES + dirs, "{shape:?}");
            for Seen { slot, what } in &rows {
                let path = slot.path();
                let found = tree.find(&path, &Scope::default()).await.unwrap();
                assert_eq!(found.as_ref(), Some(what), "{shape:?} {path}");
                let change = Change {
                    path,
                    old: None,
                    new: Some(what.entry.clone()),
                    from: None,
                };
                let applied = tree.apply(&change, None).await.unwrap();
                assert_eq!(applied.now.as_ref(), Some(what), "{shape:?} {slot}");
            }
        }
    }

    #[tokio::test]
    async fn what_moved_is_at_its_new_name_alone() {
        let tree = Many::new(Side::Left, Shape::Moved, FILES);
        let there = async |name: &str| {
            let path = RelPath::try_from(name).unwrap();
            tree.find(&path, &Scope::default()).await.unwrap().is_some()
        };
        assert!(there("e00000001/photo-09.jpg").await && there("d00000001/photo-10.jpg").await);
        assert!(!there("d00000001/photo-09.jpg").await && !there("e00000001/photo-10.jpg").await);
    }
}

//! A user who edits two trees at random, and the oracle who knows every content that was ever written and which of them
//! nobody took away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use syncline_model::{Result, Side, Time};
use syncline_store::disk::Make;
use syncline_store::{Attrs, Disk, Node, Place, Sync, Target};
use syncline_testkit::env::SeededDice;
use syncline_testkit::sim_disk::{SimDir, SimDisk, SimFile};

/// What stands at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    Dir,
    File(Vec<u8>),
    Link(Box<[u8]>),
    Other,
}

impl What {
    /// Of a file, in bytes.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::File(bytes) => Some(bytes.len()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dir => f.write_str("dir"),
            Self::File(bytes) => match number_of(bytes) {
                Some(number) => write!(f, "file {number} ({} bytes)", bytes.len()),
                None => write!(f, "torn file {}", blake3::hash(bytes)),
            },
            Self::Link(target) => write!(f, "link to {}", target.escape_ascii()),
            Self::Other => f.write_str("special"),
        }
    }
}

/// A node of a tree as a user sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub what: What,
    pub mode: u32,
    pub mtime: Time,
    pub ctime: Time,
    pub inode: u64,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Time { secs, nanos } = self.mtime;
        write!(
            f,
            "{:?} {:o} at {secs}.{nanos:09} inode {}",
            self.what, self.mode, self.inode
        )
    }
}

pub type Look = BTreeMap<Vec<u8>, Seen>;

/// The name that nobody touches, so that no root is ever empty.
const ANCHOR: &[u8] = b"anchor";
const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"a.txt"];

/// Contents by number: what a number stands for says its own size, so that a torn file shows.
pub fn content(number: u64, size: usize) -> Vec<u8> {
    let head = format!("c{number}.{size};").into_bytes();
    head.iter().copied().cycle().take(size.max(head.len())).collect()
}

/// The number of a whole content.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|&byte| byte == b';')?;
    let head = std::str::from_utf8(&bytes[1..end]).ok()?;
    let (number, size) = head.split_once('.')?;
    let number = number.parse().ok()?;
    (content(number, size.parse().ok()?) == bytes).then_some(number)
}

#[derive(Debug, Default)]
pub struct Oracle {
    next: u64,
    /// Contents that must be found: written, and not overwritten or deleted by a user since.
    pub owed: BTreeSet<u64>,
    pub edits: u64,
}

/// A user of both trees. Clones are the same user.
#[derive(Clone)]
pub struct User {
    pub disk: SimDisk,
    oracle: Arc<Mutex<Oracle>>,
    story: Arc<Mutex<Vec<String>>>,
    /// Files whose old time of modification is still to be put back: after so many more calls of the program.
    unfinished: Arc<Mutex<Vec<(u64, Side, SimFile, Time)>>>,
}

pub fn root_of(side: Side) -> &'static Path {
    match side {
        Side::Left => Path::new("/left"),
        Side::Right => Path::new("/right"),
    }
}

impl User {
    pub fn new(disk: &SimDisk) -> Self {
        Self {
            disk: disk.raw(),
            oracle: Arc::default(),
            story: Arc::default(),
            unfinished: Arc::default(),
        }
    }

    /// What happened in this world, in order; told when a seed is lived through alone.
    pub fn story(&self) -> MutexGuard<'_, Vec<String>> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Contents of all files, with where they stand: in both trees, in our own directories there too with `own`.
    fn files(&self, own: bool) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let places = Side::BOTH.into_iter().flat_map(move |side| {
            let own = own.then_some((side, true));
            own.into_iter().chain([(side, false)])
        });
        places.flat_map(|(side, own)| {
            let look = self.look(side, own).into_iter();
            look.filter_map(move |(path, seen)| match seen.what {
                What::File(bytes) => Some((format!("{} {}", side.name(), path.escape_ascii()), bytes)),
                _ => None,
            })
        })
    }

    /// Every file holds what somebody wrote.
    pub fn whole(&self) -> Result<(), String> {
        let torn = self.files(false).find(|(_, bytes)| number_of(bytes).is_none());
        torn.map_or(Ok(()), |(path, bytes)| {
            let bytes = bytes[..bytes.len().min(80)].escape_ascii();
            Err(format!("{path} is torn: {bytes}"))
        })
    }

    /// What no user took away stands in the trees, or with `trash` in the trash at least.
    pub fn nothing_lost(&self, trash: bool) -> Result<(), String> {
        let found: BTreeSet<u64> = self
            .files(trash)
            .filter_map(|(_, bytes)| number_of(&bytes))
            .collect();
        let lost: Vec<_> = self.oracle().owed.difference(&found).copied().collect();
        if lost.is_empty() {
            Ok(())
        } else {
            Err(format!("no longer where anybody looks: contents {lost:?}"))
        }
    }

    fn root(&self, side: Side) -> SimDir {
        self.disk.root(root_of(side)).expect("a root stands")
    }

    /// A fresh content, owed from now on.
    pub fn fresh(&self, dice: &SeededDice, size: Option<usize>) -> Vec<u8> {
        let mut oracle = self.oracle();
        oracle.next += 1;
        let number = oracle.next;
        let size = size.filter(|size| *size >= 16).unwrap_or_else(|| {
            let long = [9000, 4096, 20_000][dice.below(3) as usize];
            if dice.chance(20) {
                long
            } else {
                16 + dice.below(30) as usize
            }
        });
        oracle.owed.insert(number);
        content(number, size)
    }

    fn read(&self, dir: &SimDir, name: &[u8]) -> Result<Vec<u8>> {
        let file = self.disk.open(dir, name, false)?;
        let size = self.disk.stat_file(&file)?.size as usize;
        let mut bytes = vec![0; size];
        self.disk.read(&file, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// A user takes this content away himself.
    fn forget(&self, dir: &SimDir, name: &[u8]) {
        if let Ok(bytes) = self.read(dir, name)
            && let Some(number) = number_of(&bytes)
        {
            self.oracle().owed.remove(&number);
        }
    }

    /// A whole tree; ours is left out unless `own`.
    pub fn look(&self, side: Side, own: bool) -> Look {
        let mut found = Look::new();
        let from = if own { &b".syncline/trash"[..] } else { b"" };
        let mut dir = self.root(side);
        for part in from.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            match self.disk.open_dir(&dir, part) {
                Ok(below) => dir = below,
                Err(_) => return found,
            }
        }
        self.look_into(&dir, b"", &mut found);
        found
    }

    fn look_into(&self, dir: &SimDir, above: &[u8], found: &mut Look) {
        let mut names = Vec::new();
        let listed = self.disk.list(dir, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        });
        listed.expect("a directory can be listed");
        for name in names {
            if above.is_empty() && *name == *b".syncline" {
                continue;
            }
            let stat = self.disk.stat(dir, &name).expect("a name is there");
            let path = if above.is_empty() {
                name.to_vec()
            } else {
                [above, b"/", &name].concat()
            };
            let what = match stat.kind {
                Node::Dir => What::Dir,
                Node::File => What::File(self.read(dir, &name).expect("a file is read")),
                Node::Link => What::Link(self.disk.read_link(dir, &name).expect("a link is read")),
                Node::Special(_) => What::Other,
            };
            let seen = Seen {
                what,
                mode: if stat.kind == Node::Link { 0 } else { stat.mode },
                mtime: stat.mtime,
                ctime: stat.ctime,
                inode: stat.inode,
            };
            found.insert(path.clone(), seen);
            if stat.kind == Node::Dir {
                let below = self.disk.open_dir(dir, &name).expect("a directory opens");
                self.look_into(&below, &path, found);
            }
        }
    }

    /// All that users did until now survives a power cut.
    pub fn sync(&self, side: Side) {
        let root = self.root(side);
        self.disk.sync(Sync::Fs(&root)).expect("a user's sync");
    }

    pub fn anchor(&self, side: Side) {
        let root = self.root(side);
        let file = self.disk.open(&root, ANCHOR, true).expect("made once");
        self.disk.write(&file, 0, &content(0, 16)).expect("written once");
    }

    /// The directory that holds `path` and the name there.
    fn place(&self, side: Side, path: &[u8]) -> Option<(SimDir, Vec<u8>)> {
        let mut dir = self.root(side);
        let mut parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let name = parts.pop()?.to_vec();
        for part in parts {
            dir = self.disk.open_dir(&dir, part).ok()?;
        }
        Some((dir, name))
    }

    fn some_dir(&self, dice: &SeededDice, look: &Look) -> Vec<u8> {
        let dirs: Vec<&Vec<u8>> = look
            .iter()
            .filter(|(path, seen)| seen.what == What::Dir && path.iter().filter(|&&b| b == b'/').count() < 2)
            .map(|(path, _)| path)
            .collect();
        match dice.below(dirs.len() as u64 + 1) as usize {
            0 => Vec::new(),
            n => dirs[n - 1].clone(),
        }
    }

    fn some_name(&self, dice: &SeededDice, look: &Look) -> Vec<u8> {
        let dir = self.some_dir(dice, look);
        let name = NAMES[dice.below(NAMES.len() as u64) as usize];
        if dir.is_empty() {
            name.to_vec()
        } else {
            [&dir[..], b"/", name].concat()
        }
    }

    /// The program makes a call: what was begun some calls ago is ended. With `all`, whatever was begun.
    pub fn go_on(&self, all: bool) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ripe = Vec::new();
        for (calls, ..) in &mut *unfinished {
            *calls = calls.saturating_sub(1);
        }
        for n in (0..unfinished.len()).rev() {
            if all || unfinished[n].0 == 0 {
                ripe.push(unfinished.remove(n));
            }
        }
        drop(unfinished);
        for (_, side, file, mtime) in ripe {
            self.disk.advance(Duration::from_millis(20));
            let attrs = Attrs {
                mtime: Some(mtime),
                ..Attrs::default()
            };
            let _ = self.disk.set(Target::File(&file), attrs);
            self.sync(side);
        }
    }

    /// Writes a file as an editor saves it; the directory that holds it stands.
    pub fn save(&self, side: Side, path: &[u8], number: u64) {
        let (dir, name) = self.place(side, path).expect("its directory stands");
        let draft = b".saving";
        let file = self.disk.open(&dir, draft, true).expect("made");
        self.disk.write(&file, 0, &content(number, 30)).expect("room");
        drop(file);
        let over = self.disk.place((&dir, draft), (&dir, &name), Place::Over);
        over.expect("renamed over a file");
    }

    /// Makes a directory.
    pub fn make_dir(&self, side: Side, path: &[u8]) {
        let (dir, name) = self.place(side, path).expect("its directory stands");
        self.disk.make(&dir, &name, Make::Dir).expect("made");
    }

    /// Deletes a file.
    pub fn delete(&self, side: Side, path: &[u8]) {
        let (dir, name) = self.place(side, path).expect("its directory stands");
        self.disk.remove(&dir, &name, false).expect("removed");
    }

    /// One edit beside a running program. Who puts a time back cannot do all of it between two calls that follow one
    /// another: a program whose own call moves the time of status change has no means to see that.
    pub fn meddle(&self, side: Side, dice: &SeededDice) {
        self.edit_slowly(side, dice, 4 + dice.below(20));
        self.sync(side);
    }

    /// One edit. It may come to nothing; what it takes away is no longer owed.
    pub fn edit(&self, side: Side, dice: &SeededDice) {
        self.edit_slowly(side, dice, 0);
    }

    fn edit_slowly(&self, side: Side, dice: &SeededDice, calls: u64) {
        let look = self.look(side, false);
        self.oracle().edits += 1;
        let paths: Vec<&Vec<u8>> = look.keys().filter(|path| **path != *ANCHOR).collect();
        let chosen = (!paths.is_empty()).then(|| paths[dice.below(paths.len() as u64) as usize]);
        let new = self.some_name(dice, &look);
        let act = dice.below(17);
        if act < 5 || chosen.is_none() {
            let (on, at) = (side.name(), new.escape_ascii());
            self.story().push(format!("  user: {on} creates {at} ({act})"));
            return self.create(side, &new, dice, act == 4);
        }
        let Some(old) = chosen else { return };
        let Some((dir, name)) = self.place(side, old) else {
            return;
        };
        let (on, from, to) = (side.name(), old.escape_ascii(), new.escape_ascii());
        self.story()
            .push(format!("  user: {on} act {act} at {from} to {to}"));
        let is_file = matches!(look[old].what, What::File(_));
        match act {
            5 | 6 if is_file => self.replace(&dir, &name, dice),
            7 | 8 if is_file => self.rewrite((side, &dir, &name), dice, act == 7, calls),
            9 => self.remove(&dir, &name, &look[old].what),
            10..=12 => self.rename(side, old, &new),
            13 => self.set(&dir, &name, |attrs| {
                attrs.mode = Some([0o600, 0o644, 0o755][dice.below(3) as usize])
            }),
            14 => {
                let mtime = Time {
                    secs: 1_500_000_000 + dice.below(1000) as i64,
                    nanos: dice.below(1_000_000_000) as u32,
                };
                self.set(&dir, &name, |attrs| attrs.mtime = Some(mtime));
            }
            15 => {
                self.remove(&dir, &name, &look[old].what);
                if look[old].what == What::Dir {
                    self.create(side, old, dice, false);
                } else {
                    let _ = self.disk.make(&dir, &name, Make::Dir);
                    self.create(side, &[&old[..], b"/b"].concat(), dice, false);
                }
            }
            _ if is_file && dice.chance(50) => {
                if let Some((to, name_there)) = self.place(side, &new) {
                    let _ = self.disk.place((&dir, &name), (&to, &name_there), Place::Link);
                }
            }
            _ => {
                if let Some((to, name)) = self.place(side, &new) {
                    let _ = self.disk.make(&to, &name, Make::Link(b"somewhere/else"));
                }
            }
        }
    }

    fn create(&self, side: Side, path: &[u8], dice: &SeededDice, dir: bool) {
        let Some((at, name)) = self.place(side, path) else {
            return;
        };
        if dir {
            if self.disk.make(&at, &name, Make::Dir).is_ok() {
                self.set(&at, &name, |attrs| attrs.mode = Some(0o755));
            }
        } else if let Ok(file) = self.disk.open(&at, &name, true) {
            self.disk.write(&file, 0, &self.fresh(dice, None)).expect("room");
        }
    }

    /// As an editor saves: another file takes the name.
    fn replace(&self, dir: &SimDir, name: &[u8], dice: &SeededDice) {
        let draft = b".saving";
        let Ok(file) = self.disk.open(dir, draft, true) else {
            return;
        };
        self.disk.write(&file, 0, &self.fresh(dice, None)).expect("room");
        drop(file);
        self.forget(dir, name);
        self.disk
            .place((dir, draft), (dir, name), Place::Over)
            .expect("renamed over a file");
    }

    /// In place; with `quiet` the same size, and the time put back.
    fn rewrite(&self, at: (Side, &SimDir, &[u8]), dice: &SeededDice, quiet: bool, calls: u64) {
        let (side, dir, name) = at;
        let Ok(file) = self.disk.open(dir, name, false) else {
            return;
        };
        let stat = self.disk.stat_file(&file).expect("open");
        if quiet {
            // Nobody puts a time back within one step of the file system's clock.
            self.disk.advance(Duration::from_millis(20));
        }
        self.forget(dir, name);
        let bytes = self.fresh(dice, quiet.then_some(stat.size as usize));
        self.disk
            .set_len(&file, bytes.len() as u64)
            .expect("an open file");
        self.disk.write(&file, 0, &bytes).expect("room");
        if quiet && calls == 0 {
            self.set(dir, name, |attrs| attrs.mtime = Some(stat.mtime));
        } else if quiet {
            let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
            unfinished.push((calls, side, file, stat.mtime));
        }
    }

    fn set(&self, dir: &SimDir, name: &[u8], change: impl FnOnce(&mut Attrs<'static>)) {
        let mut attrs = Attrs::default();
        change(&mut attrs);
        let _ = self.disk.set(Target::Name(dir, name), attrs);
    }

    fn remove(&self, dir: &SimDir, name: &[u8], what: &What) {
        if *what != What::Dir {
            self.forget(dir, name);
            let _ = self.disk.remove(dir, name, false);
            return;
        }
        let Ok(below) = self.disk.open_dir(dir, name) else {
            return;
        };
        let mut names = Vec::new();
        let _ = self.disk.list(&below, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        });
        for inner in names {
            let is_dir = self
                .disk
                .stat(&below, &inner)
                .is_ok_and(|stat| stat.kind == Node::Dir);
            self.remove(&below, &inner, if is_dir { &What::Dir } else { &What::Other });
        }
        let _ = self.disk.remove(dir, name, true);
    }

    pub fn rename(&self, side: Side, from: &[u8], to: &[u8]) {
        if to.starts_with(&[from, b"/"].concat()) {
            return;
        }
        let (Some((dir, name)), Some((there, new))) = (self.place(side, from), self.place(side, to)) else {
            return;
        };
        let _ = self.disk.place((&dir, &name), (&there, &new), Place::New);
    }
}

//! The space of small trees with identities: what each side may have made of a base.

use std::collections::BTreeMap;

use syncline_model::*;

use super::trees::moving::{stamp, touch};
use super::trees::{Tree, World, dir, leaf};

/// A file as the base and both sides have it: path and letter.
#[derive(Debug, Clone, Default)]
pub struct Thing {
    pub base: Option<(String, u8)>,
    pub now: Pair<Option<(String, u8)>>,
    /// A side has it where it was, and its directories too.
    pub still: Pair<bool>,
    /// A side has written it anew.
    pub saved: Pair<bool>,
}

/// One case.
pub struct Case {
    pub world: World,
    pub things: Vec<Thing>,
    /// A side that did nothing.
    pub idle: Pair<bool>,
    /// A side that only moved things, and deleted some.
    pub moved_alone: Pair<bool>,
    /// Directories stand where they stood on both sides.
    pub flat: bool,
    /// No file left its directory by itself for another one on a side that moved directories. What one run follows there its successor may copy,
    /// and the other way round: only once the directories stand where they are to stand a file is seen to have changed between them.
    pub stays: bool,
    /// The same, and no directory was moved by both sides to different names, and no file came by itself over a name in use into a directory
    /// that the other side moved.
    pub whole: bool,
}

/// What became of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Kept,
    /// Edited in place.
    Edited,
    /// Written anew under its name, as editors do.
    Saved,
}

/// What a side has: directories by path, files by path and version, in the order of the base, and what is new.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    dirs: Vec<Option<String>>,
    files: Vec<Option<(String, Version)>>,
    new_file: Option<String>,
    new_dir: Option<String>,
}

/// All states of a side over one base; the first is the base itself.
pub struct Space {
    name: &'static str,
    states: Vec<State>,
}

impl Space {
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn states(&self) -> usize {
        self.states.len()
    }

    pub fn told(&self, state: usize) -> String {
        format!("{:?}", self.states[state])
    }

    pub fn case(&self, left: usize, right: usize) -> Case {
        let base = &self.states[0];
        let sides = Pair::new(&self.states[left], &self.states[right]);
        let trees = Pair::each(|side| plant(sides[side], base, side));
        let based = Pair::each(|side| plant(base, base, side));
        let rows = based.left.iter().map(|(slot, seen)| {
            let row = Pair::new(Some(seen.clone()), based.right.get(slot).cloned());
            (slot.clone(), row)
        });
        let mut things: Vec<Thing> = (0..base.files.len())
            .map(|at| Thing {
                base: held(base, at, Side::Left),
                now: Pair::each(|side| held(sides[side], at, side)),
                still: Pair::each(|side| {
                    sides[side].dirs == base.dirs && held(sides[side], at, side) == held(base, at, side)
                }),
                saved: Pair::each(|side| {
                    let file = sides[side].files[at].as_ref();
                    file.is_some_and(|(_, version)| *version == Version::Saved)
                }),
            })
            .collect();
        for side in Side::BOTH {
            if let Some(path) = &sides[side].new_file {
                let mut thing = Thing::default();
                thing.now[side] = Some((path.clone(), new_letter(side)));
                things.push(thing);
            }
        }
        let stays = Side::BOTH.iter().all(|&side| !across(sides[side], base));
        Case {
            world: World {
                base: rows.collect(),
                sides: trees,
            },
            things,
            idle: Pair::each(|side| sides[side] == base),
            moved_alone: Pair::each(|side| moved_alone(sides[side], base)),
            flat: Side::BOTH
                .iter()
                .all(|&side| sides[side].dirs == base.dirs && sides[side].new_dir.is_none()),
            stays,
            whole: stays && !crossed(sides, base) && !Side::BOTH.iter().any(|&side| over(sides, side, base)),
        }
    }
}

impl Case {
    /// True unless a file was moved and edited between two runs, or written anew where the other side has moved it (such a one is another
    /// file to anybody who looks at both states), or the sides' moves contradict each other.
    pub fn known(&self) -> bool {
        // Moved on one side, deleted on the other, which has something else under the new name; or moved to different names.
        let crossed = |thing: &Thing| match (&thing.now.left, &thing.now.right) {
            (Some((path, _)), None) => self.holds(Side::Right, path) || self.took(Side::Right, thing, path),
            (None, Some((path, _))) => self.holds(Side::Left, path) || self.took(Side::Left, thing, path),
            (Some(left), Some(right)) => {
                let base = thing.base.as_ref().map(|base| &base.0);
                left.0 != right.0 && base != Some(&left.0) && base != Some(&right.0)
            }
            (None, None) => false,
        };
        if self.things.iter().any(crossed) {
            return false;
        }
        self.things.iter().all(|thing| {
            let another = |now: &(String, u8)| {
                let base = thing.base.as_ref();
                base.is_some_and(|base| base.0 != now.0 && base.1 != now.1)
            };
            let moved = |side: Side| {
                let (base, now) = (thing.base.as_ref(), thing.now[side].as_ref());
                base.zip(now).is_some_and(|(base, now)| base.0 != now.0)
            };
            let parted = |side: &Side| thing.saved[*side] && moved(side.other());
            !Side::BOTH.iter().any(parted)
                && !thing.now.left.as_ref().is_some_and(another)
                && !thing.now.right.as_ref().is_some_and(another)
        })
    }

    /// True when a side has something else under the old name of what the other side moved to `path`.
    fn took(&self, side: Side, thing: &Thing, path: &str) -> bool {
        let old = thing.base.as_ref().map(|base| base.0.as_str());
        old.is_some_and(|old| old != path && self.holds(side, old))
    }

    fn holds(&self, side: Side, path: &str) -> bool {
        let here = |thing: &Thing| thing.now[side].as_ref().is_some_and(|now| now.0 == path);
        self.things.iter().any(here)
    }

    /// What both sides hold afterwards, if each thing was changed on one side only or alike, and no two things want one name.
    pub fn expected(&self) -> Option<BTreeMap<String, u8>> {
        if !self.flat || !self.known() {
            return None;
        }
        let mut wanted = BTreeMap::new();
        for thing in &self.things {
            let Pair { left, right } = &thing.now;
            let merged = match (&thing.base, left, right) {
                (None, made, None) | (None, None, made) => made.clone(),
                (Some(_), None, None) => None,
                (Some(base), Some(now), None) | (Some(base), None, Some(now)) => {
                    if base != now {
                        return None;
                    }
                    None
                }
                (Some(base), Some(left), Some(right)) => {
                    Some((one(&base.0, &left.0, &right.0)?, one(&base.1, &left.1, &right.1)?))
                }
                (None, Some(_), Some(_)) => return None,
            };
            if let Some((path, letter)) = merged
                && wanted.insert(path, letter).is_some()
            {
                return None;
            }
        }
        Some(wanted)
    }
}

/// The value that one side changed, or both alike.
fn one<T: PartialEq + Clone>(base: &T, left: &T, right: &T) -> Option<T> {
    match (left == base, right == base) {
        (_, true) => Some(left.clone()),
        (true, false) => Some(right.clone()),
        _ => (left == right).then(|| left.clone()),
    }
}

fn moved_alone(state: &State, base: &State) -> bool {
    let kept =
        |file: &Option<(String, Version)>| file.as_ref().is_none_or(|(_, version)| *version == Version::Kept);
    // A directory in the place of another that is gone is copied.
    let over = state.dirs.iter().zip(&base.dirs).any(|(now, was)| {
        let taken = base
            .dirs
            .iter()
            .zip(&state.dirs)
            .any(|(name, left)| now.is_some() && name == now && left.is_none());
        now != was && taken
    });
    // So is what moves by itself over a name in use within a directory that moves.
    !across(state, base)
        && state.files.iter().all(kept)
        && state.new_file.is_none()
        && state.new_dir.is_none()
        && !over
}

/// A file left its directory by itself where directories moved.
fn across(state: &State, base: &State) -> bool {
    let dir = |file: &Option<(String, Version)>| {
        file.as_ref()
            .and_then(|(path, _)| parent(path).map(str::to_owned))
    };
    let left = |(now, was)| {
        let at = base.dirs.iter().position(|name| *name == dir(was));
        dir(now).is_some() && at.is_some_and(|at| state.dirs[at] != dir(now))
    };
    state.dirs != base.dirs && state.files.iter().zip(&base.files).any(left)
}

/// A file of a side came by itself over a name in use into a directory that the other side moved.
fn over(sides: Pair<&State>, side: Side, base: &State) -> bool {
    let place = |state: &State, file: &Option<(String, Version)>| {
        let dir = parent(&file.as_ref()?.0)?;
        state.dirs.iter().position(|name| name.as_deref() == Some(dir))
    };
    let leaf = |file: &Option<(String, Version)>| {
        file.as_ref()
            .and_then(|(path, _)| path.rsplit('/').next().map(str::to_owned))
    };
    let used = |to: usize, name: Option<String>| {
        let mut known = base.files.iter();
        known.any(|other| place(base, other) == Some(to) && leaf(other) == name)
    };
    let moved = |to: usize| sides[side.other()].dirs[to] != base.dirs[to];
    let mut files = sides[side].files.iter().zip(&base.files);
    files.any(|(now, was)| {
        let to = place(sides[side], now);
        to != place(base, was) && to.is_some_and(|to| moved(to) && used(to, leaf(now)))
    })
}

/// A directory was moved by both sides, to different names.
fn crossed(sides: Pair<&State>, base: &State) -> bool {
    (0..base.dirs.len()).any(|at| {
        let [left, right] = Side::BOTH.map(|side| &sides[side].dirs[at]);
        left.is_some()
            && right.is_some()
            && left != right
            && *left != base.dirs[at]
            && *right != base.dirs[at]
    })
}

fn new_letter(side: Side) -> u8 {
    100 + side as u8
}

fn held(state: &State, at: usize, side: Side) -> Option<(String, u8)> {
    let (path, version) = state.files[at].clone()?;
    let letter = 10 + u8::try_from(at).unwrap();
    let edited = 20 + letter + 20 * side as u8;
    Some((path, if version == Version::Kept { letter } else { edited }))
}

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

fn plant(state: &State, base: &State, side: Side) -> Tree {
    let mut tree = Tree::new();
    let mut put = |text: &str, mut seen: Observation, inode: u64, moved: bool| {
        seen.tag = stamp(side, inode);
        if moved {
            touch(&mut seen);
        }
        tree.insert(Slot::of(&path(text), seen.entry.is_dir()), seen);
    };
    for (at, text) in state.dirs.iter().enumerate() {
        if let Some(text) = text {
            put(text, dir(), 200 + at as u64, base.dirs[at].as_ref() != Some(text));
        }
    }
    for (at, file) in state.files.iter().enumerate() {
        let (Some((text, version)), Some((_, letter))) = (file, held(state, at, side)) else {
            continue;
        };
        let saved = u64::from(*version == Version::Saved);
        let here = base.files[at].as_ref() == file.as_ref();
        put(text, leaf(letter), 100 + at as u64 + 50 * saved, !here);
    }
    if let Some(text) = &state.new_dir {
        put(text, dir(), 300, false);
    }
    if let Some(text) = &state.new_file {
        put(text, leaf(new_letter(side)), 301, false);
    }
    tree
}

fn parent(text: &str) -> Option<&str> {
    text.rsplit_once('/').map(|(parent, _)| parent)
}

/// All spaces, the smallest first.
pub fn all() -> Vec<Space> {
    let bases: [(&'static str, &[&'static str]); 6] = [
        ("flat: one file", &["a"]),
        ("flat: two files beside each other", &["a", "b"]),
        ("flat: two files apart", &["a", "d/a"]),
        ("flat: two files below", &["d/a", "d/b"]),
        ("flat: three files, two on top", &["a", "b", "d/a"]),
        ("flat: three files, two below", &["a", "d/a", "d/b"]),
    ];
    let mut spaces: Vec<Space> = bases.iter().map(|(name, files)| flat(name, files)).collect();
    spaces.push(deep("two directories, a file in each", &["d/x", "e/x"]));
    spaces.push(deep("two directories, both files in one", &["d/x", "d/y"]));
    spaces
}

/// Files move among four names, two of them in a directory.
fn flat(name: &'static str, files: &[&str]) -> Space {
    const NAMES: [&str; 4] = ["a", "b", "d/a", "d/b"];
    let mut placed: Vec<Vec<Option<(String, Version)>>> = vec![Vec::new()];
    for own in files {
        let mut next = Vec::new();
        for so_far in placed {
            for fate in fates(own, &NAMES) {
                let taken =
                    |(path, _): &(String, Version)| so_far.iter().flatten().any(|(other, _)| other == path);
                if !fate.as_ref().is_some_and(taken) {
                    next.push([so_far.clone(), vec![fate]].concat());
                }
            }
        }
        placed = next;
    }
    let mut states = Vec::new();
    for files in placed {
        let free = |name: &&str| !files.iter().flatten().any(|(path, _)| path == name);
        let new = std::iter::once(None).chain(NAMES.into_iter().filter(free).map(Some));
        for new_file in new {
            let new_file = new_file.map(str::to_owned);
            let used = files
                .iter()
                .flatten()
                .map(|(path, _)| path)
                .chain(&new_file)
                .any(|path| parent(path).is_some());
            for dirs in [vec![Some("d".to_owned())], vec![None]] {
                if used && dirs[0].is_none() {
                    continue;
                }
                states.push(State {
                    dirs,
                    files: files.clone(),
                    new_file: new_file.clone(),
                    new_dir: None,
                });
            }
        }
    }
    Space { name, states }
}

/// What may become of a file, as it was first.
fn fates(own: &str, names: &[&str]) -> Vec<Option<(String, Version)>> {
    let mut fates = vec![Some((own.to_owned(), Version::Kept))];
    fates.push(Some((own.to_owned(), Version::Edited)));
    fates.push(Some((own.to_owned(), Version::Saved)));
    for name in names.iter().filter(|name| **name != own) {
        fates.push(Some(((*name).to_owned(), Version::Kept)));
        fates.push(Some(((*name).to_owned(), Version::Edited)));
    }
    fates.push(None);
    fates
}

/// Two directories move among three names and into each other; files stay in them, are edited, leave, or go.
fn deep(name: &'static str, files: &[&'static str]) -> Space {
    let own = |at: usize| -> [&'static str; 2] { if at == 0 { ["d", "e"] } else { ["e", "d"] } };
    let mut placed = Vec::new();
    for first in [Some("d"), Some("e"), Some("f"), Some("e*"), None] {
        for second in [Some("e"), Some("d"), Some("f"), Some("d*"), None] {
            placed.extend(nested(first, second));
        }
    }
    let mut states = Vec::new();
    for dirs in placed {
        let mut all: Vec<Vec<Option<(String, Version)>>> = vec![Vec::new()];
        for file in files {
            let (dir, leaf) = file.split_once('/').unwrap();
            let at = usize::from(dir == own(1)[0]);
            let mut next = Vec::new();
            for so_far in all {
                for fate in deep_fates(&dirs, at, leaf) {
                    let taken = |(path, _): &(String, Version)| {
                        so_far.iter().flatten().any(|(other, _)| other == path)
                    };
                    if !fate.as_ref().is_some_and(taken) {
                        next.push([so_far.clone(), vec![fate]].concat());
                    }
                }
            }
            all = next;
        }
        for files in all {
            states.push(State {
                dirs: dirs.clone(),
                files: files.clone(),
                new_file: None,
                new_dir: None,
            });
            for free in ["d", "e"] {
                if !dirs.iter().flatten().any(|dir| dir == free) {
                    let (new_file, new_dir) = (Some(format!("{free}/x")), Some(free.to_owned()));
                    states.push(State {
                        dirs: dirs.clone(),
                        files: files.clone(),
                        new_file,
                        new_dir,
                    });
                }
            }
        }
    }
    Space { name, states }
}

/// Where both directories lie; `x*` is within the other, under its own name.
fn nested(first: Option<&str>, second: Option<&str>) -> Option<Vec<Option<String>>> {
    let plain = |name: Option<&str>| name.map(str::to_owned);
    match (first, second) {
        (Some("e*"), Some("d*") | None) | (None, Some("d*")) => None,
        (Some("e*"), Some(second)) => Some(vec![Some(format!("{second}/d")), plain(Some(second))]),
        (Some(first), Some("d*")) => Some(vec![plain(Some(first)), Some(format!("{first}/e"))]),
        (Some(a), Some(b)) if a == b => None,
        _ => Some(vec![plain(first), plain(second)]),
    }
}

fn deep_fates(dirs: &[Option<String>], at: usize, leaf: &str) -> Vec<Option<(String, Version)>> {
    let mut fates = Vec::new();
    if let Some(dir) = &dirs[at] {
        fates.push(Some((format!("{dir}/{leaf}"), Version::Kept)));
        fates.push(Some((format!("{dir}/{leaf}"), Version::Edited)));
    }
    if let Some(dir) = &dirs[1 - at] {
        fates.push(Some((format!("{dir}/{leaf}"), Version::Kept)));
    }
    fates.push(Some((format!("z{at}"), Version::Kept)));
    fates.push(None);
    fates
}

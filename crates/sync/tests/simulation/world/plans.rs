//! Plans as they are printed, written to files and cut short: what is said is what is done, and wherever a run ends the next
//! ones come to the same place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::atomic::Ordering;
use std::time::Duration;

use syncline_model::{Action, Clash, Conflict, Entry, From, Pair, RelPath, Side, Step, Time};
use syncline_sync::{MaxDelete, Options, Report, Stop};

use super::{Look, What, World};
use crate::machine::Watch;
use crate::user::Seen;

/// Contents by path: what a plan speaks of.
type Tree = BTreeMap<Vec<u8>, What>;

/// What of a step is said before it is done.
type Said = (Side, Action, RelPath, Option<RelPath>);

fn options() -> Options {
    Options {
        max_delete: MaxDelete::None,
        ..Options::default()
    }
}

fn said(step: &Step) -> Said {
    let from = match &step.change.from {
        Some(From::Move(from) | From::Exchange(from)) => Some(from.clone()),
        _ => None,
    };
    (step.side, step.action, step.change.path.clone(), from)
}

/// Times of directories are no steps that anybody is shown; the order is that of the batches.
fn sorted(steps: &[Step]) -> Vec<Said> {
    let shown = steps.iter().filter(|step| step.action != Action::Times);
    let mut all: Vec<_> = shown.map(said).collect();
    all.sort();
    all
}

/// Two names, with all below them, change places.
fn exchange(tree: &mut Tree, one: &[u8], other: &[u8]) {
    let moved = |path: &[u8]| {
        let swapped = [(one, other), (other, one)].into_iter().find_map(|(from, to)| {
            let tail = path.strip_prefix(from)?;
            (tail.is_empty() || tail[0] == b'/').then(|| [to, tail].concat())
        });
        swapped.unwrap_or_else(|| path.to_vec())
    };
    *tree = std::mem::take(tree)
        .into_iter()
        .map(|(path, what)| (moved(&path), what))
        .collect();
}

/// Does what a plan says to trees in memory, step by step, believing every word of it.
fn interpret(trees: &mut Pair<Tree>, step: &Step) -> Result<(), String> {
    let at = step.change.path.as_bytes().to_vec();
    let words = || format!("{:?} of {}", step.action, step.change.path);
    let below = |path: &[u8], dir: &[u8]| path.starts_with(dir) && path.get(dir.len()) == Some(&b'/');
    let tree = &mut trees[step.side];
    if let Some(From::Exchange(with)) = &step.change.from {
        exchange(tree, &at, with.as_bytes());
        return Ok(());
    }
    let parent = step.change.path.parent().filter(|parent| !parent.is_root());
    if parent.is_some_and(|parent| tree.get(parent.as_bytes()) != Some(&What::Dir)) {
        return Err(format!("{}: no directory holds it", words()));
    }
    if step.change.old.is_some() != tree.contains_key(&at) {
        return Err(format!("{}: what it expects is not there", words()));
    }
    let leaves = matches!(step.action, Action::Remove | Action::Update);
    if leaves && tree.keys().any(|path| below(path, &at)) {
        return Err(format!("{}: it is not empty", words()));
    }
    match (&step.change.from, &step.change.new) {
        (Some(From::Move(from)), _) => {
            let from = from.as_bytes();
            let moved: Vec<_> = tree
                .keys()
                .filter(|path| **path == from || below(path, from))
                .cloned()
                .collect();
            if moved.is_empty() {
                return Err(format!("{}: nothing is there to be moved", words()));
            }
            for path in moved {
                let what = tree.remove(&path);
                tree.extend(what.map(|what| ([&at, &path[from.len()..]].concat(), what)));
            }
        }
        (_, None) => drop(tree.remove(&at)),
        (_, Some(_)) if matches!(step.action, Action::Metadata | Action::Times) => {}
        (_, Some(Entry::Dir(_))) => drop(tree.insert(at, What::Dir)),
        (_, Some(Entry::Link(_, target))) => drop(tree.insert(at, What::Link(target.clone()))),
        (_, Some(_)) => {
            let source = step
                .source
                .as_ref()
                .ok_or_else(|| format!("{}: bytes from nowhere", words()))?;
            let what = trees[source.side].get(source.path.as_bytes()).cloned();
            let what = what.ok_or_else(|| format!("{}: its source is not there", words()))?;
            trees[step.side].insert(at, what);
        }
    }
    Ok(())
}

impl World {
    /// Two trees that were agreed on and edited again.
    fn edited(seed: u64) -> Result<Self, String> {
        let world = Self::agreed(seed)?;
        world.edits(10);
        Ok(world)
    }

    fn agreed(seed: u64) -> Result<Self, String> {
        let mut world = Self::new(seed);
        world.edits(14);
        world.synced(&options())?;
        Ok(world)
    }

    fn synced(&mut self, options: &Options) -> Result<(Report, Vec<Step>), String> {
        let report = self.process("sync", options);
        let report = report.map_err(|fault| format!("a run failed: {fault:?}\n{}", self.told()))?;
        Ok((report, std::mem::take(&mut self.steps)))
    }

    fn told(&self) -> String {
        self.story().join("\n")
    }

    fn trees(&self) -> Pair<Tree> {
        let looks = self.looks();
        Pair::each(|side| {
            looks[side]
                .iter()
                .map(|(path, seen)| (path.clone(), seen.what.clone()))
                .collect()
        })
    }

    /// The number of steps that were printed and then done.
    pub fn printed_is_done(seed: u64) -> Result<u64, String> {
        let mut world = Self::edited(seed)?;
        let mut trees = world.trees();
        let dry_run = Options {
            dry_run: true,
            ..options()
        };
        let (_, printed) = world.synced(&dry_run)?;
        let (_, done) = world.synced(&options())?;
        if sorted(&printed) != sorted(&done) {
            let (printed, done) = (sorted(&printed), sorted(&done));
            return Err(format!("printed {printed:#?}\ndone {done:#?}\n{}", world.told()));
        }
        for step in &printed {
            interpret(&mut trees, step).map_err(|why| format!("{why}\n{}", world.told()))?;
        }
        if trees != world.trees() {
            return Err(format!("the plan says {trees:#?}\n{}", world.told()));
        }
        Ok(printed.len() as u64)
    }

    fn written(&self) -> Result<Vec<u8>, String> {
        let mut file = Vec::new();
        let watch = Watch::of(&self.user);
        self.within(async |session| {
            session
                .write_plan(&options(), &watch, &Stop::default(), &mut file)
                .await
        })
        .map_err(|fault| format!("a plan cannot be written: {fault:?}"))?;
        Ok(file)
    }

    /// The steps of a plan file that are done, and whether any was refused.
    fn applied(&self, file: &[u8]) -> Result<Vec<Step>, String> {
        let (watch, stop) = (Watch::of(&self.user), Stop::default());
        self.within(async |session| {
            session
                .apply(&mut Cursor::new(file), &Options::default(), &watch, &stop)
                .await
        })
        .map_err(|fault| format!("a plan cannot be applied: {fault:?}\n{}", self.told()))?;
        Ok(watch.steps.into_inner().expect("nobody tells any more"))
    }

    /// A plan that is written and applied does what the run would have done; where the world has changed since, only what
    /// that touches is refused. The number of refused steps.
    pub fn file_is_plan(seed: u64) -> Result<[u64; 2], String> {
        let mut twin = Self::edited(seed)?;
        let (_, planned) = twin.synced(&options())?;
        let world = Self::edited(seed)?;
        let file = world.written()?;
        let lines = |file: &[u8]| {
            let mut lines: Vec<Vec<u8>> = file.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            // The header says when both sides were looked at, and they are looked at twice.
            let mut header: serde_json::Value = serde_json::from_slice(&lines[0]).unwrap_or_default();
            header["began"] = serde_json::Value::Null;
            lines[0] = header.to_string().into_bytes();
            lines.sort();
            lines
        };
        if lines(&file) != lines(&world.written()?) {
            return Err("the same plan is written in two ways".into());
        }
        let done = world.applied(&file)?;
        if sorted(&done) != sorted(&planned) || world.trees() != twin.trees() {
            return Err(format!(
                "the plan file does something else\n{}\n{}",
                twin.told(),
                world.told()
            ));
        }
        Self::edited(seed)?.old_plan(&planned)
    }

    /// A plan is written, the world changes, the plan is carried out. Steps done and steps refused.
    fn old_plan(self, planned: &[Step]) -> Result<[u64; 2], String> {
        let file = self.written()?;
        let before = self.looks();
        // Who reads a plan takes longer than one step of the coarsest clock; within it nothing tells one edit from the next.
        self.disk.advance(Duration::from_secs(3));
        self.clock.advance(Duration::from_secs(3));
        self.edits(2);
        let after = self.looks();
        let stood = self.trees();
        let done = self.applied(&file)?;
        self.user.whole()?;
        let told = |why: String| format!("{why}\n{}", self.told());
        self.nothing_lost().map_err(told)?;
        let mut touched = Pair::each(|side| Touched::between(&before[side], &after[side]));
        let said_done = sorted(&done);
        let (mut made, mut refused) = (0, Vec::new());
        for step in planned.iter().filter(|step| step.action != Action::Times) {
            let (is_done, is_move) = (said_done.contains(&said(step)), step.action == Action::Move);
            if is_done {
                made += 1;
            } else {
                refused.push(step);
            }
            if is_done && !is_move {
                let changed = changed_under(planned, step, &touched, &stood);
                if !changed.is_empty() {
                    return Err(told(format!("done although {changed:?} changed: {step:#?}")));
                }
            }
            let Some(from) = said(step).3 else { continue };
            let (side, to) = (step.side, &step.change.path);
            let there = |look: &Look, path: &RelPath| {
                let seen = look.get(path.as_bytes());
                seen.map(|seen| (seen.inode, seen.what.size()))
            };
            let (was, now) = (there(&before[side], &from), there(&after[side], &from));
            if was.is_some() && was == there(&after[side], to) {
                // Moved by hand, as the plan wants it.
                touched[side].replaced.remove(to);
                continue;
            }
            // What moves takes along whatever it holds by then: only something of another kind or size under its name stops it.
            if is_done
                && is_move
                && was.map(|(_, size)| size) != now.map(|(_, size)| size)
                && touched[side].replaced.contains(&from)
            {
                return Err(told(format!("moved although it is another: {step:#?}")));
            }
            touched[side].follow(&from, to);
        }
        let counts = [made, refused.len() as u64];
        loop {
            let before = refused.len();
            refused.retain(|step| {
                let mut paths = vec![(step.side, step.change.path.clone())];
                paths.extend(
                    step.source
                        .iter()
                        .map(|source| (source.side, source.path.clone())),
                );
                paths.extend(
                    step.change
                        .from
                        .as_ref()
                        .and_then(named)
                        .map(|from| (step.side, from)),
                );
                let held_up = paths.iter().any(|(side, path)| touched[*side].near(path));
                if held_up
                    && step.action == Action::Move
                    && step.change.new.as_ref().is_some_and(Entry::is_dir)
                {
                    // What lies below its new name stays as it is on both sides.
                    touched[step.side.other()].waits.push(step.change.path.clone());
                }
                if held_up {
                    paths
                        .into_iter()
                        .for_each(|(side, path)| touched[side].waits.push(path));
                }
                !held_up
            });
            if refused.len() == before {
                break;
            }
        }
        if refused.is_empty() {
            Ok(counts)
        } else {
            Err(told(format!("refused without need: {refused:#?}")))
        }
    }

    /// The run is killed at every 29th change of files and every third of rows, beginning with those that the seed
    /// chooses: the next runs come to where the whole run comes to, and lose nothing. How often, and how often only the latter was asked.
    pub fn cut_anywhere(seed: u64) -> Result<[u64; 2], String> {
        let mut world = Self::agreed(seed)?;
        let before = world.looks();
        world.edits(10);
        let after = world.looks();
        // Nobody disturbs it: nothing is a problem.
        if world.synced(&options())?.0.problems > 0 {
            return Err(format!("the whole run has problems\n{}", world.told()));
        }
        let clashes = std::mem::take(&mut world.conflicts);
        world.settle()?;
        let whole = Whole {
            trees: world.trees(),
            clashes,
            strayed: Side::BOTH
                .iter()
                .any(|&side| strayed(&before[side], &after[side])),
        };
        let mut cuts = [0, 0];
        for (step, rows) in [(29, false), (3, true)] {
            for at in (seed % step..).step_by(step as usize) {
                let cut = Self::cut_short(seed, at, rows, &whole);
                let cut = cut.map_err(|why| format!("cut at change {at}, rows {rows}: {why}"))?;
                if !cut.killed {
                    break;
                }
                cuts[0] += 1;
                cuts[1] += u64::from(cut.elsewhere);
            }
        }
        Ok(cuts)
    }

    fn cut_short(seed: u64, at: u64, rows: bool, whole: &Whole) -> Result<Cut, String> {
        let mut world = Self::edited(seed)?;
        if rows {
            world.kill_in.store(at as i64, Ordering::Relaxed);
        } else {
            world.kill_at = Some(at);
        }
        let _ = world.process("sync", &options());
        world.kill_in.store(-1, Ordering::Relaxed);
        let killed = world.disk.is_killed();
        world.disk.restart();
        Side::BOTH.iter().for_each(|side| world.user.sync(*side));
        // The first that follows; those after it have nothing to do.
        let next = world.process("sync", &options()).is_ok();
        let freed = next
            && world
                .steps
                .iter()
                .any(|step| whole.clashes.iter().any(|clash| frees(clash, step)));
        let told = |world: &Self, why: String| format!("{why}\n{}", world.told());
        world.settle().map_err(|why| told(&world, why))?;
        world.nothing_lost().map_err(|why| told(&world, why))?;
        let found = world.trees();
        let elsewhere = whole.trees != found;
        if elsewhere && !freed && !whole.strayed {
            let (one, other) = (told_tree(&whole.trees.left), told_tree(&found.left));
            let why = format!("the whole run comes to\n{one}\ncut short\n{other}");
            return Err(told(&world, why));
        }
        Ok(Cut { killed, elsewhere })
    }
}

/// Where a run comes to that nobody kills.
struct Whole {
    trees: Pair<Tree>,
    clashes: Vec<Conflict>,
    strayed: bool,
}

/// What became of a run that was to be killed.
struct Cut {
    /// False: it ended before.
    killed: bool,
    /// The next runs came to another place, for a reason that `docs/design/0004` names.
    elsewhere: bool,
}

/// A file left its directory by itself for another one on a side that moved directories: one run follows it there, its
/// successor may copy it (docs/design/0004).
fn strayed(before: &Look, after: &Look) -> bool {
    let of = |inode: u64, look: &Look, dir: bool| {
        let mut known = look.iter();
        let found = known.find(|(_, seen)| seen.inode == inode && (seen.what == What::Dir) == dir);
        found.map(|(path, _)| path.clone())
    };
    let parent = |path: &[u8]| {
        path.iter()
            .rposition(|byte| *byte == b'/')
            .map(|at| path[..at].to_vec())
    };
    let moved = |(path, seen): (&Vec<u8>, &Seen)| {
        let now = of(seen.inode, after, true);
        seen.what == What::Dir && now.is_some_and(|now| now != *path)
    };
    let left = |(path, seen): (&Vec<u8>, &Seen)| {
        let now = of(seen.inode, after, false).and_then(|now| parent(&now));
        let dir = parent(path).and_then(|dir| of(before.get(&dir)?.inode, after, true));
        seen.what != What::Dir && now.is_some() && now != dir
    };
    before.iter().any(moved) && before.iter().any(left)
}

/// A directory moves to a name that was held against it when the whole run looked, and that the killed run has freed: the whole run copied it
/// (docs/design/0004).
fn frees(clash: &Conflict, step: &Step) -> bool {
    let is_dir = step.change.new.as_ref().is_some_and(Entry::is_dir);
    is_dir && step.action == Action::Move && clash.clash == Clash::Kind && clash.path == step.change.path
}

fn told_tree(tree: &Tree) -> String {
    let lines = tree
        .iter()
        .map(|(path, what)| format!("  {} {what:?}", path.escape_ascii()));
    lines.collect::<Vec<_>>().join("\n")
}

/// The file of its own side that a step takes its bytes from.
fn named(from: &From) -> Option<RelPath> {
    match from {
        From::Move(path) | From::Exchange(path) | From::Link(path) => Some(path.clone()),
        _ => None,
    }
}

/// What of all that a step looks at was changed since the plan was written.
fn changed_under<'a>(
    planned: &'a [Step],
    step: &'a Step,
    touched: &Pair<Touched>,
    stood: &Pair<Tree>,
) -> Vec<(Side, &'a RelPath)> {
    // Of a link nothing is read: the plan says where it leads.
    let is_link = matches!(step.change.new, Some(Entry::Link(..)));
    let source = step
        .source
        .iter()
        .filter(|_| !is_link)
        .map(|source| (source.side, &source.path));
    // What stood there moved away with whatever it held by then, or that move would have been refused.
    let vacated = planned.iter().any(|other| {
        let (side, action, _, from) = said(other);
        (side, action) == (step.side, Action::Move) && from.as_ref() == Some(&step.change.path)
    });
    let own =
        (!vacated && !stands_already(&stood[step.side], step)).then_some((step.side, &step.change.path));
    // What the plan itself moved there is what it was told of that.
    let brought = |side: Side, path: &RelPath| {
        planned.iter().any(|step| {
            let moved = step.side == side && step.action == Action::Move;
            moved && path.is_within(&step.change.path)
        })
    };
    let changed = source.chain(own).filter(|(side, path)| {
        let touched = &touched[*side];
        if brought(*side, path) {
            touched.replaced.contains(path)
        } else {
            touched.changed.contains(path)
        }
    });
    changed.collect()
}

/// What a user changed on one side after a plan was written.
#[derive(Default)]
struct Touched {
    /// What is no longer what it was.
    changed: BTreeSet<RelPath>,
    /// What is gone or another file or directory.
    replaced: BTreeSet<RelPath>,
    /// Of what only the time of status change moved nothing is proved: another name of it came or went, or its mode was
    /// set to what it was. Nor of directories in which something came or went.
    doubtful: BTreeSet<RelPath>,
    /// What waits for something that changed.
    waits: Vec<RelPath>,
}

impl Touched {
    fn between(before: &Look, after: &Look) -> Self {
        let plain = |look: &Look, path: &Vec<u8>| {
            look.get(path).cloned().map(|mut seen| {
                seen.ctime = Time::NEVER;
                if seen.what == What::Dir {
                    seen.mtime = Time::NEVER;
                }
                seen
            })
        };
        let all = || before.keys().chain(after.keys());
        let mut touched = Self::default();
        for path in all().filter(|path| before.get(*path) != after.get(*path)) {
            let Ok(known) = RelPath::new(path.clone()) else {
                continue;
            };
            if plain(before, path) == plain(after, path) {
                touched.doubtful.insert(known);
                continue;
            }
            let inode = |look: &Look| look.get(path).map(|seen| seen.inode);
            if inode(before) != inode(after) {
                touched.replaced.insert(known.clone());
            }
            touched.changed.insert(known);
        }
        touched
    }

    /// What changed is known under other names where the plan moves it.
    fn follow(&mut self, from: &RelPath, to: &RelPath) {
        for paths in [&mut self.changed, &mut self.replaced, &mut self.doubtful] {
            let moved: Vec<_> = paths.iter().filter_map(|path| path.rebase(from, to)).collect();
            paths.extend(moved);
        }
    }

    /// True when a step at `path` may be refused.
    fn near(&self, path: &RelPath) -> bool {
        let near = |other: &RelPath| path.is_within(other) || other.is_within(path);
        self.doubtful.contains(path) || self.changed.iter().any(near) || self.waits.iter().any(near)
    }
}

/// True when a name is as free as a step wants it, by whomever, or somebody else did already what it was to do.
fn stands_already(tree: &Tree, step: &Step) -> bool {
    match (&step.change.new, tree.get(step.change.path.as_bytes())) {
        (_, None) => step.change.old.is_none(),
        (Some(Entry::Dir(_)), Some(What::Dir)) => true,
        (Some(Entry::Link(_, wanted)), Some(What::Link(target))) => wanted == target,
        _ => false,
    }
}

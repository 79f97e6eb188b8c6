//! Trees whose things keep their identity: planned as the engine plans, carried out as plainly as possible.
//!
//! Invariant: as in the module above, a step is carried out only if its ground holds. What a side shows after a step is what a disk would
//! show: the same inode after a move, a new time of status change, a new inode for a new file.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use syncline_model::moves::chains::{Ground, by_both, directories};
use syncline_model::moves::{Chains, Moved, Moves, Piece, Shift, Standing, Track, assemble, pair, tracks};
use syncline_model::order::{Made, Phase, key};
use syncline_model::*;

use super::{Tree, World};

/// What a run would do, in the order in which it would be done.
pub struct Run {
    pub decisions: Vec<Decision>,
    pub items: Vec<(Phase, Settle, Option<Step>)>,
    /// Directories whose moves stand in each other's way.
    pub conflicts: Vec<Conflict>,
    /// Directories that only the base has under their old names.
    pub behind: Names,
}

/// Plans as `sync::planning` does.
pub fn plan(rule: &Rule, world: &World) -> std::result::Result<Run, String> {
    let (mut replaced, mut beside) = (diff::Replaced::default(), diff::Beside::default());
    let dirty: Vec<Triple> = world
        .triples()
        .into_iter()
        .flat_map(|triple| {
            let now = Pair::each(|side| triple.now[side].clone().map(|located| located.seen));
            let keep = replaced.around(&triple.slot, triple.base.as_ref(), &now);
            beside.pass(diff::join(&triple.slot, triple.base, now, rule, false, keep))
        })
        .flatten()
        .collect();
    let mut groups = BTreeMap::<Vec<u8>, Vec<Track>>::new();
    for (key, end) in dirty.iter().flat_map(tracks) {
        groups.entry(key).or_default().push(end);
    }
    let shifts: Vec<Shift> = groups
        .into_values()
        .filter_map(|ends| pair(ends.try_into().ok()?))
        .collect();
    let (directory_shifts, file_shifts): (Vec<_>, Vec<_>) =
        shifts.into_iter().partition(|shift| shift.from.slot.is_dir());
    let free = |side: Side, path: &RelPath| world.standing(side.other(), path).is_none();
    let followable = |mut shift: Shift| {
        // All digests are known here.
        if shift.to.other == Standing::Occupied && untouched(world, &shift) {
            shift.to.other = Standing::Untouched;
        }
        let to = shift.to.slot.path();
        if shift.to.other == Standing::Follows {
            let parent = to.parent().filter(|parent| !parent.is_root());
            let stands = |dir: RelPath| world.sides[shift.side().other()].contains_key(&Slot::of(&dir, true));
            shift.late = parent.is_some_and(|parent| !stands(parent));
        }
        (shift.to.other != Standing::Follows || free(shift.side(), &to)).then_some(shift)
    };
    let ground = Ground {
        exchanges: Pair::new(true, true),
        keeps: rule.skip_deletes,
    };
    let (chained, plain): (Vec<_>, Vec<_>) = directory_shifts.into_iter().partition(Shift::chained);
    let (mut pairs, mut alike) = (Vec::new(), BTreeMap::<Slot, Vec<Shift>>::new());
    for shift in plain {
        match shift.plain() {
            Some(moved) if moved.alike => alike.entry(shift.from.slot.clone()).or_default().push(shift),
            moved => pairs.extend(moved.filter(|moved| free(moved.side, &moved.to))),
        }
    }
    pairs.extend(alike.into_values().filter_map(|shifts| by_both(shifts).ok()));
    pairs.extend(directories(
        chained.into_iter().filter_map(followable).collect(),
        ground,
    ));
    let (mut moves, mut conflicts) = Moves::new(pairs.clone(), ground.exchanges);
    let held = |moves: &Moves| {
        let mut inward = moves.inward();
        inward
            .find(|(moved, at)| !free(moved.side, at))
            .map(|(moved, _)| moved.clone())
    };
    while let Some(held) = held(&moves) {
        pairs.retain(|moved| *moved != held);
        (moves, conflicts) = Moves::new(pairs.clone(), ground.exchanges);
    }
    let (mut files, mut chained, mut alike) = (Vec::new(), Vec::new(), BTreeMap::<Slot, Vec<Shift>>::new());
    for mut shift in file_shifts {
        if let Some(was) = moves
            .rebase(shift.side(), &shift.from.slot.path())
            .filter(|_| shift.from.used)
        {
            shift.from.used = world.standing(shift.side(), &was).is_some();
        }
        if !moves.allow(&shift.moved()) {
        } else if shift.chained() {
            chained.extend(moves.beside(shift));
        } else if let Some(moved) = shift.plain() {
            let moved = moves.ended(moved);
            let to = moves.before(moved.side.other(), &moved.to);
            if moved.alike {
                alike.entry(shift.from.slot.clone()).or_default().push(shift);
            } else if free(moved.side, &to) {
                files.push(moved);
            }
        }
    }
    for shifts in alike.into_values() {
        match by_both(shifts) {
            Ok(moved) => files.push(moved),
            Err(shifts) => chained.extend(shifts.into_iter().filter_map(|shift| moves.beside(shift))),
        }
    }
    moves.chains = Chains::new(chained.into_iter().filter_map(followable).collect(), ground);
    let mut decisions: Vec<Decision> = moves.chains.removals().collect();
    let triples = renamed(dirty, &moves, &files)?;
    decisions.extend(super::decide_triples(rule, triples)?);
    let items = ordered(&decisions, &moves)?;
    Ok(Run {
        decisions,
        items,
        conflicts,
        behind: moves.behind(),
    })
}

fn untouched(world: &World, shift: &Shift) -> bool {
    let row = world.base.get(&shift.to.slot);
    let known = row.and_then(|row| row[shift.side().other()].as_ref());
    let there = shift.to.occupant.as_ref();
    known
        .zip(there)
        .is_some_and(|(known, there)| known.entry.same_content(&there.entry) == Sameness::Same)
}

fn renamed(dirty: Vec<Triple>, moves: &Moves, files: &[Moved]) -> std::result::Result<Vec<Triple>, String> {
    let mut pieces = BTreeMap::<Slot, Vec<Piece>>::new();
    for triple in dirty {
        let file = files
            .iter()
            .find(|moved| Slot::of(&moved.from, false) == triple.slot);
        for (slot, piece) in moves.redirect(triple, file) {
            pieces.entry(slot).or_default().push(piece);
        }
    }
    for (slot, pieces) in &pieces {
        for side in Side::BOTH {
            let here = pieces
                .iter()
                .filter(|piece| matches!(piece, Piece::Now(at, _) if *at == side));
            if here.count() > 1 {
                return Err(format!("two things at one name: {side:?} {slot}"));
            }
        }
    }
    Ok(pieces
        .into_iter()
        .map(|(slot, pieces)| assemble(slot, pieces))
        .collect())
}

/// The steps in the engine's order; what needs no step comes last.
fn ordered(
    decisions: &[Decision],
    moves: &Moves,
) -> std::result::Result<Vec<(Phase, Settle, Option<Step>)>, String> {
    let mut items = Vec::new();
    let mut circles = HashMap::<(Side, RelPath), (usize, usize)>::new();
    let mut made = Made::default();
    for decision in decisions {
        let Decision::Settle(settle) = decision else {
            continue;
        };
        let mut settle = (**settle).clone();
        for step in &mut settle.steps {
            if let Some((hub, members)) = moves.route(step) {
                let circle = circles.entry((step.side, hub)).or_default();
                *circle = (members, circle.1 + 1);
            }
        }
        for step in &settle.steps {
            made.note(step);
            let phase = Phase::of(step, moves, false, &made);
            items.push((
                key(phase, &settle.slot, Some(step), moves),
                phase,
                settle.clone(),
                Some(step.clone()),
            ));
        }
        if settle.steps.is_empty() {
            let place = key(Phase::Agreed, &settle.slot, None, moves);
            items.push((place, Phase::Agreed, settle, None));
        }
    }
    if let Some(broken) = circles.values().find(|(members, steps)| members != steps) {
        return Err(format!("half a circle: {broken:?}"));
    }
    items.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(items
        .into_iter()
        .map(|(_, phase, settle, step)| (phase, settle, step))
        .collect())
}

/// When the base learns of what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// After each phase.
    Phases,
    /// After each step, but for circles, which are gone round at once.
    Steps,
}

/// What the base is to learn.
#[allow(clippy::large_enum_variant)]
enum Told {
    /// A thing with all below it has another name.
    Renamed(RelPath, RelPath),
    /// Two have changed names.
    Exchanged(RelPath, RelPath),
    /// A file has another name; what else is to be done with it is still to come. What it was moved from, unless names were exchanged.
    Moved(Was, Slot, Option<RelPath>),
    Row(Option<Was>, Slot, Option<Row>),
}

/// Carries out the first `most` steps and remembers what the engine would have remembered by then.
pub fn carry_out(
    world: &World,
    run: &Run,
    most: usize,
    commit: Commit,
) -> std::result::Result<World, String> {
    let mut after = world.clone();
    let mut open = HashMap::<Slot, usize>::new();
    let mut news = Vec::new();
    let mut names: Vec<Names> = run.behind.iter().map(|pair| vec![pair.clone()]).collect();
    for pair in &names {
        rename_rows(&mut after, pair);
    }
    let mut done = 0;
    let mut last = None;
    let mut announced = Vec::new();
    for (phase, settle, step) in &run.items {
        let within = step.as_ref().is_some_and(in_circle);
        if last.is_some_and(|last| last != *phase) || (commit == Commit::Steps && !within) {
            write(&mut after, &mut news, &mut names);
        }
        last = Some(*phase);
        if let Some(step) = step {
            if done == most {
                // What comes in this phase was announced with what was done.
                announced.extend(
                    run.items
                        .iter()
                        .filter(|item| item.0 == *phase)
                        .filter_map(announcement),
                );
                follow(&mut after, &announced);
                return Ok(after);
            }
            announced.extend(announcement(&(*phase, settle.clone(), Some(step.clone()))));
            done += 1;
            apply(&mut after, step)?;
            let path = step.change.path.clone();
            let whole = step.change.new.as_ref().is_some_and(Entry::is_dir);
            if let (Some(from), Some(was), false) = (&step.change.from, &settle.was, whole)
                && settle.steps.len() > 1
            {
                let from = match from {
                    From::Move(from) => Some(from.clone()),
                    _ => None,
                };
                news.push(Told::Moved(was.clone(), settle.slot.clone(), from));
            }
            match &step.change.from {
                Some(From::Move(from)) if whole => news.push(Told::Renamed(from.clone(), path)),
                Some(From::Exchange(with)) if whole && *with != path => {
                    news.push(Told::Exchanged(with.clone(), path))
                }
                _ => {}
            }
        }
        let made = open.entry(settle.slot.clone()).or_default();
        // Two settlements of one slot: what is removed to make room, and what comes.
        *made += usize::from(step.is_some());
        if settle.steps.len() > 1 && *made < settle.steps.len() {
            continue;
        }
        news.push(Told::Row(
            settle.was.clone(),
            settle.slot.clone(),
            settle.row.clone(),
        ));
        if settle.row.is_none() && settle.steps.len() == 1 {
            open.remove(&settle.slot);
        }
    }
    write(&mut after, &mut news, &mut names);
    Ok(after)
}

fn in_circle(step: &Step) -> bool {
    matches!(step.change.from, Some(From::Exchange(_)))
}

/// A move or an exchange, of which the log tells before it is made.
type Announced = (Side, From, Slot);

fn announcement((_, _, step): &(Phase, Settle, Option<Step>)) -> Option<Announced> {
    let step = step.as_ref()?;
    let whole = step.change.new.as_ref().is_some_and(Entry::is_dir);
    Some((
        step.side,
        step.change.from.clone()?,
        Slot::of(&step.change.path, whole),
    ))
}

/// What the next run does first, as `sync::recovery` does it: the base follows what was moved and not remembered.
fn follow(world: &mut World, announced: &[Announced]) {
    let inode = |seen: Option<&Observation>| seen.and_then(|seen| seen.tag.stamp()).map(|stamp| stamp.inode);
    for (side, from, to) in announced {
        let there = world.sides[*side].get(to).cloned();
        let came = |from: &Slot| {
            let known = world.base.get(from).and_then(|row| row[*side].as_ref());
            there.is_some() && known.is_some() && inode(known) == inode(there.as_ref())
        };
        match from {
            From::Move(from) => {
                let stays = world.standing(*side, from).map(|(_, seen)| inode(Some(seen)));
                let from = Slot::of(from, to.is_dir());
                let left = stays != Some(inode(there.as_ref()));
                if left && came(&from) && !world.base.contains_key(to) {
                    rename_rows(world, &vec![(from.path(), to.path())]);
                }
            }
            From::Exchange(with) => {
                let with = Slot::of(with, to.is_dir());
                let goes = inode(world.base.get(to).and_then(|row| row[*side].as_ref()));
                let another = goes.is_some() && goes != inode(there.as_ref());
                if with != *to && came(&with) && another {
                    let (a, b) = (with.path(), to.path());
                    rename_rows(world, &vec![(a.clone(), b.clone()), (b, a)]);
                }
            }
            _ => {}
        }
    }
}

/// The base learns, as `sync::execute` commits a batch: names first, then what the steps made, as it stands there.
fn write(world: &mut World, news: &mut Vec<Told>, names: &mut Vec<Names>) {
    for told in &mut *news {
        let renamed = match told {
            Told::Renamed(from, to) => vec![(from.clone(), to.clone())],
            Told::Exchanged(a, b) => vec![(a.clone(), b.clone()), (b.clone(), a.clone())],
            Told::Moved(was, slot, Some(from)) if name_now(&was.slot, names).path() == *from => {
                let renamed = vec![(from.clone(), slot.path())];
                if let Some(row) = world.base.remove(&Slot::of(from, false)) {
                    world.base.insert(slot.clone(), row);
                }
                names.push(renamed);
                continue;
            }
            _ => continue,
        };
        rename_rows(world, &renamed);
        names.push(renamed);
    }
    let before = world.base.clone();
    for told in news.drain(..) {
        match told {
            Told::Renamed(..) | Told::Exchanged(..) => {}
            Told::Moved(was, slot, _) => {
                let now = name_now(&was.slot, names);
                if let Some(row) = before.get(&now).filter(|_| now != slot) {
                    world.base.insert(slot, row.clone());
                    if !was.reused {
                        world.base.remove(&now);
                    }
                }
            }
            Told::Row(was, slot, row) => {
                if let Some(was) = was {
                    let now = name_now(&was.slot, names);
                    if now != slot && !was.reused {
                        world.base.remove(&now);
                    }
                }
                let Some(mut row) = row else {
                    world.base.remove(&slot);
                    continue;
                };
                for side in Side::BOTH {
                    if row[side].is_some() {
                        row[side] = world.sides[side].get(&slot).cloned().or(row[side].take());
                    }
                }
                world.base.insert(slot, row);
            }
        }
    }
}

/// Old names and new ones, all at once.
pub type Names = Vec<(RelPath, RelPath)>;

/// Where the base has by now what it had at `was`.
fn name_now(was: &Slot, names: &[Names]) -> Slot {
    let mut path = was.path();
    for names in names {
        let above = names.iter().filter(|(from, _)| path.is_within(from));
        let above = above.max_by_key(|(from, _)| from.as_bytes().len());
        path = above.and_then(|(from, to)| path.rebase(from, to)).unwrap_or(path);
    }
    Slot::of(&path, was.is_dir())
}

fn rename_rows(world: &mut World, names: &Names) {
    if names.is_empty() {
        return;
    }
    let innermost = |path: &RelPath| {
        let above = names.iter().filter(|(from, _)| path.is_within(from));
        above.max_by_key(|(from, _)| from.as_bytes().len()).cloned()
    };
    // What comes to a name takes the place of what is known there.
    let (mut rows, mut renamed) = (BTreeMap::new(), BTreeMap::new());
    for (slot, row) in std::mem::take(&mut world.base) {
        let path = slot.path();
        match innermost(&path).and_then(|(from, to)| path.rebase(&from, &to)) {
            Some(to) => renamed.insert(Slot::of(&to, slot.is_dir()), row),
            None => rows.insert(slot, row),
        };
    }
    rows.extend(renamed);
    world.base = rows;
}

fn same(a: &Observation, b: &Observation) -> bool {
    let inode = |seen: &Observation| seen.tag.stamp().map(|stamp| stamp.inode);
    inode(a) == inode(b) && a.entry == b.entry
}

/// Renames a thing with all below it.
fn rename(tree: &mut Tree, from: &RelPath, to: &RelPath) {
    let below: Vec<Slot> = tree
        .keys()
        .filter(|slot| slot.path().is_within(from))
        .cloned()
        .collect();
    let mut moved = Vec::new();
    for slot in below {
        let mut seen = tree.remove(&slot).unwrap();
        let path = slot.path().rebase(from, to).unwrap();
        if slot.path() == *from {
            touch(&mut seen);
        }
        moved.push((Slot::of(&path, slot.is_dir()), seen));
    }
    tree.extend(moved);
}

/// The time of status change moves on.
pub fn touch(seen: &mut Observation) {
    if let Tag::Stamp(stamp) = &mut seen.tag {
        stamp.ctime.secs += 1;
    }
}

fn apply(world: &mut World, step: &Step) -> std::result::Result<(), String> {
    let change = &step.change;
    let err = |world: &World, what: &str| Err(format!("{what}: {step:?}{}", super::told_world(world)));
    let path = &change.path;
    let parent = path.parent().filter(|parent| !parent.is_root());
    if let Some(parent) = parent
        && !world.sides[step.side].contains_key(&Slot::of(&parent, true))
    {
        return err(world, "the parent is no directory");
    }
    let there = world
        .standing(step.side, path)
        .map(|(slot, seen)| (slot, seen.clone()));
    match &change.from {
        Some(From::Move(from)) => {
            if there.is_some() {
                return err(world, "a move onto something");
            }
            let fits = world
                .standing(step.side, from)
                .is_some_and(|(_, seen)| Some(&seen.entry) == change.new.as_ref());
            if !fits {
                return err(world, "something else would move");
            }
            rename(&mut world.sides[step.side], from, path);
            return Ok(());
        }
        Some(From::Exchange(with)) => {
            let fits = world
                .standing(step.side, with)
                .is_some_and(|(_, seen)| Some(&seen.entry) == change.new.as_ref());
            if !fits || there.is_none() {
                return err(world, "something else would be exchanged");
            }
            if with != path {
                let aside = RelPath::try_from("exchanged").unwrap();
                let tree = &mut world.sides[step.side];
                rename(tree, path, &aside);
                rename(tree, with, path);
                rename(tree, &aside, with);
            }
            return Ok(());
        }
        Some(_) => return err(world, "neither names nor trash are used here"),
        None => {}
    }
    let holds = match (&there, &change.old) {
        (None, None) => true,
        (Some((_, there)), Some(old)) => same(there, old),
        _ => false,
    };
    if !holds {
        return err(world, &format!("something else stands there ({there:?})"));
    }
    if let (Some(new @ Entry::File(..)), Some(source)) = (&change.new, &step.source) {
        let bytes = world.standing(source.side, &source.path);
        if bytes.is_none_or(|(_, seen)| seen.entry.same_content(new) != Sameness::Same) {
            return err(world, "the source has not the bytes");
        }
    }
    if let Some((slot, _)) = there {
        let below = world.sides[step.side].keys().any(|other| other.is_below(&slot));
        let stays = change.new.as_ref().is_some_and(Entry::is_dir) && slot.is_dir();
        if below && !stays {
            return err(world, "the directory is not empty");
        }
        world.sides[step.side].remove(&slot);
    }
    if let Some(entry) = &change.new {
        let tag = fresh(world, step.side);
        let slot = Slot::of(path, entry.is_dir());
        world.sides[step.side].insert(
            slot,
            Observation {
                entry: entry.clone(),
                tag,
            },
        );
    }
    Ok(())
}

/// The stamp of something new.
fn fresh(world: &World, side: Side) -> Tag {
    let inodes = world.sides[side].values().filter_map(|seen| seen.tag.stamp());
    let based = world
        .base
        .values()
        .filter_map(|row| row[side].as_ref()?.tag.stamp());
    let inode = inodes
        .chain(based)
        .map(|stamp| stamp.inode)
        .max()
        .unwrap_or_default()
        + 1;
    stamp(side, inode)
}

pub fn stamp(side: Side, inode: u64) -> Tag {
    Tag::Stamp(Stamp {
        fs: side as u64,
        inode,
        ctime: Time { secs: 1, nanos: 0 },
    })
}

//! Every merge of small trees whose things keep their identity: up to three files in two directories, each kept, moved to any name (free,
//! left by another, or taken over), edited in place or made anew, moved and edited, or deleted, on either side; names exchanged and
//! passed round; directories renamed, exchanged, nested and put in the place of others; something new at any free name.
//!
//! Each case is planned and carried out as the engine does it, and judged by the laws below, which know of things and not of paths. A
//! run takes a share of the cases; `SYNCLINE_EXHAUSTIVE=all` takes all, `SYNCLINE_EXHAUSTIVE=N` one of N.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "trees/moves_space.rs"]
mod space;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use space::{Case, Space, Thing};
use syncline_model::conflict_name::is_conflict_name;
use syncline_model::*;
use trees::moving::{Commit, Run, carry_out, plan};
use trees::{Tree, World, rule, shape};

/// Of so many cases a run takes one.
const SHARE: usize = 151;

type Law = Result<(), String>;

fn holds(law: &str, holds: bool, told: impl FnOnce() -> String) -> Law {
    if holds {
        Ok(())
    } else {
        Err(format!("{law}: {}", told()))
    }
}

fn two_way() -> Rule {
    rule(Mode::TwoWay, Policy::KeepBoth)
}

fn letters(tree: &Tree) -> BTreeSet<u8> {
    shape(tree).into_values().filter(|letter| *letter > 0).collect()
}

/// Plans and carries out all of it.
fn merged(world: &World) -> Result<(World, Run), String> {
    let run = plan(&two_way(), world)?;
    let after =
        carry_out(world, &run, usize::MAX, Commit::Phases).map_err(|e| format!("steps can be done: {e}"))?;
    Ok((after, run))
}

/// Both sides are the same, the base is what they are, and nothing more is to be done.
fn settled(after: &World) -> Law {
    let (left, right) = (shape(&after.sides.left), shape(&after.sides.right));
    holds("both sides are the same", left == right, || {
        format!("{left:?} | {right:?}")
    })?;
    for side in Side::BOTH {
        let based: Tree = after
            .base
            .iter()
            .filter_map(|(slot, row)| Some((slot.clone(), row[side].clone()?)))
            .collect();
        holds("the base is what they are", based == after.sides[side], || {
            format!(
                "{:?} not {:?}",
                trees::told(&based),
                trees::told(&after.sides[side])
            )
        })?;
    }
    let again = plan(&two_way(), after).map_err(|e| format!("a second merge: {e}"))?;
    // Names of conflict copies are always looked at.
    let idle = |decision: &Decision| match decision {
        Decision::Settle(settle) => {
            let known = after.base.get(&settle.slot);
            settle.steps.is_empty() && settle.was.is_none() && known == settle.row.as_ref()
        }
        _ => false,
    };
    holds(
        "a second merge does nothing",
        again.decisions.iter().all(idle),
        || format!("{:?}", again.decisions),
    )
}

/// What is dead stays dead; what is not is on both sides.
fn nothing_lost(things: &[Thing], after: &World) -> Law {
    let there = Pair::each(|side| letters(&after.sides[side]));
    for thing in things {
        for side in Side::BOTH {
            let Some((_, letter)) = &thing.now[side] else {
                continue;
            };
            let other = thing.now[side.other()].as_ref();
            let edited = thing.base.as_ref().is_none_or(|(_, base)| base != letter);
            let kept = other.is_some_and(|(_, other)| other == letter);
            if edited || kept {
                let everywhere = there.left.contains(letter) && there.right.contains(letter);
                holds("nothing is lost", everywhere, || format!("{letter} of {side:?}"))?;
            }
        }
        let Some((_, letter)) = &thing.base else {
            continue;
        };
        let dead = |side: Side| thing.now[side].is_none();
        let untouched = |side: Side| thing.still[side];
        let gone = (dead(Side::Left) && (dead(Side::Right) || untouched(Side::Right)))
            || (dead(Side::Right) && untouched(Side::Left));
        let stands = there.left.contains(letter) || there.right.contains(letter);
        holds("what was deleted stays deleted", !(gone && stands), || {
            letter.to_string()
        })?;
    }
    Ok(())
}

/// What one side alone changed is afterwards as that side has it, without bytes if it only moved.
fn one_side(case: &Case, after: &World, run: &Run) -> Law {
    for side in Side::BOTH {
        if !case.idle[side.other()] {
            continue;
        }
        let (wanted, got) = (shape(&case.world.sides[side]), shape(&after.sides[side.other()]));
        holds("one side's changes are followed", wanted == got, || {
            format!("{got:?} not {wanted:?}")
        })?;
        let copied = run.items.iter().filter_map(|(_, _, step)| step.as_ref());
        let copied: Vec<_> = copied
            .filter(|step| step.source.is_some() && step.change.from.is_none())
            .cloned()
            .collect();
        let moved = case.moved_alone[side];
        holds("a pure move has no bytes", !moved || copied.is_empty(), || {
            trees::told_steps(&copied)
        })?;
    }
    Ok(())
}

/// Where each thing was changed on one side only, or alike, all changes are there afterwards.
fn thing_by_thing(case: &Case, after: &World) -> Law {
    let Some(wanted) = case.expected() else {
        return Ok(());
    };
    let got: BTreeMap<String, u8> = shape(&after.sides.left)
        .into_iter()
        .filter(|(_, letter)| *letter > 0)
        .collect();
    holds("things merge one by one", got == wanted, || {
        format!("{got:?} not {wanted:?}")
    })
}

fn mirrored(case: &Case, after: &World) -> Law {
    let swapped = case.world.swapped();
    let mut rule = two_way();
    rule.hosts = Pair::new(rule.hosts.right, rule.hosts.left);
    let run = plan(&rule, &swapped).map_err(|e| format!("mirrored: {e}"))?;
    let mirror =
        carry_out(&swapped, &run, usize::MAX, Commit::Phases).map_err(|e| format!("mirrored: {e}"))?;
    let (got, wanted) = (shape(&mirror.sides.right), shape(&after.sides.left));
    holds("mirrored", got == wanted, || format!("{got:?} not {wanted:?}"))
}

/// A run that was killed after any step is finished by the next.
fn killed(case: &Case, after: &World, run: &Run) -> Law {
    let steps = run.items.iter().filter(|item| item.2.is_some()).count();
    let wanted = shape(&after.sides.left);
    for done in 1..steps {
        for commit in [Commit::Phases, Commit::Steps] {
            let told = |what: &str, e: String| {
                let steps: Vec<Step> = run.items.iter().filter_map(|item| item.2.clone()).collect();
                format!(
                    "killed, {what}: {done} of {} ({commit:?}): {e}",
                    trees::told_steps(&steps)
                )
            };
            let half = carry_out(&case.world, run, done, commit).map_err(|e| told("half", e))?;
            let (ended, next) = merged(&half).map_err(|e| told("goes on", e))?;
            settled(&ended).map_err(|e| told("settled", e))?;
            nothing_lost(&case.things, &ended).map_err(|e| {
                let law = if e.starts_with("nothing") {
                    "no edit lost"
                } else {
                    "nothing lost"
                };
                told(law, e)
            })?;
            let got = shape(&ended.sides.left);
            let copies = |shape: &BTreeMap<String, u8>| {
                shape
                    .keys()
                    .filter(|path| {
                        RelPath::try_from(&path[..])
                            .is_ok_and(|path| path.name().is_some_and(|name| is_conflict_name(&name)))
                    })
                    .cloned()
                    .collect::<BTreeSet<_>>()
            };
            let (made, meant) = (copies(&got), copies(&wanted));
            holds(
                "killed, no false conflict",
                !case.known() || !case.stays || made.is_subset(&meant),
                || told("", format!("{got:?} not {wanted:?}")),
            )?;
            // docs/design/0004: what the killed run would have copied its successor may move.
            let freed = freed(case, run, &next);
            let same = !case.known() || !case.whole || freed || got == wanted;
            holds("killed, the same place", same, || {
                told("", format!("{got:?} not {wanted:?}"))
            })?;
        }
    }
    Ok(())
}

/// The run said that a directory's move stands in the way of another one's, and its successor, which finds that one done, moves it.
fn freed(case: &Case, run: &Run, next: &Run) -> bool {
    let inode = |seen: &Observation| seen.tag.stamp().map(|stamp| stamp.inode);
    let left = |conflict: &Conflict, side: Side| {
        let row = case.world.base.get(&Slot::of(&conflict.path, true))?;
        inode(row[side].as_ref()?)
    };
    let moved = next.items.iter().filter_map(|item| item.2.as_ref());
    let mut moved = moved.filter(|step| step.action == Action::Move);
    moved.any(|step| {
        let lay = step.source.as_ref().and_then(|source| inode(&source.seen));
        let stood = |conflict: &Conflict| lay.is_some() && left(conflict, step.side) == lay;
        run.conflicts.iter().any(stood)
    })
}

fn check(case: &Case) -> Vec<String> {
    let (after, run) = match merged(&case.world) {
        Ok(done) => done,
        Err(e) => return vec![e],
    };
    [
        settled(&after),
        nothing_lost(&case.things, &after),
        one_side(case, &after, &run),
        thing_by_thing(case, &after),
        mirrored(case, &after),
        killed(case, &after, &run),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}

/// Violations by law: how many, and the smallest.
type Broken = BTreeMap<String, (u64, String)>;

fn judge(space: &Space, share: usize, broken: &Mutex<Broken>) -> u64 {
    let (cases, next) = (AtomicU64::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let left = next.fetch_add(1, Ordering::Relaxed);
                    if left >= space.states() {
                        return;
                    }
                    // One side idle always, and of the others a share that goes through all residues.
                    for right in left..space.states() {
                        if share > 1 && left > 0 && (left * 7 + right) % share != 0 {
                            continue;
                        }
                        let case = space.case(left, right);
                        cases.fetch_add(1, Ordering::Relaxed);
                        for violation in check(&case) {
                            let law = violation.split(':').next().unwrap().to_owned();
                            let told = format!(
                                "{} {left} {right}{}\n{violation:.1500}",
                                space.name(),
                                trees::told_world(&case.world)
                            );
                            if std::env::var_os("SYNCLINE_TELL_ALL").is_some() {
                                println!("{law} SYNCLINE_CASE=\"{};{left};{right}\"", space.name());
                            }
                            let mut broken = broken.lock().unwrap();
                            let known = broken.entry(law).or_insert((0, told.clone()));
                            known.0 += 1;
                            if told.len() < known.1.len() {
                                known.1 = told;
                            }
                        }
                    }
                }
            });
        }
    });
    cases.into_inner()
}

/// `SYNCLINE_CASE="space;left;right"` tells the story of one case, `SYNCLINE_CASE="space;left;right;steps"` also that of a run killed there.
fn story(space: &Space, left: usize, right: usize, done: Option<usize>) {
    let case = space.case(left, right);
    for (at, told) in [(Side::Left, left), (Side::Right, right)] {
        println!(" {at:?} {}", space.told(told));
    }
    let tell = |world: &World| {
        println!("{}", trees::told_world(world));
        let (after, run) = merged(world).inspect_err(|e| println!("{e}")).ok()?;
        println!(" {} conflicts of moves", run.conflicts.len());
        for (phase, settle, step) in &run.items {
            let step: Vec<_> = step.iter().cloned().collect();
            let steps = trees::told_steps(&step);
            println!(" {phase:?} {} {:?} {steps}", settle.slot, settle.was);
        }
        println!("{}", trees::told_world(&after));
        Some(run)
    };
    if let (Some(run), Some(done)) = (tell(&case.world), done) {
        for commit in [Commit::Phases, Commit::Steps] {
            println!("killed after {done} ({commit:?})");
            tell(&carry_out(&case.world, &run, done, commit).unwrap());
        }
    }
    println!("{:#?}", check(&case));
}

#[test]
fn exhaustive_with_identities() {
    if let Ok(case) = std::env::var("SYNCLINE_CASE") {
        let mut parts = case.split(';');
        let name = parts.next().unwrap();
        let [left, right] = [(); 2].map(|()| parts.next().unwrap().parse().unwrap());
        let all = space::all();
        return story(
            all.iter().find(|space| space.name() == name).unwrap(),
            left,
            right,
            parts.next().map(|steps| steps.parse().unwrap()),
        );
    }
    let share = match std::env::var("SYNCLINE_EXHAUSTIVE").as_deref() {
        Ok("all") => 1,
        Ok(share) => share.parse().unwrap(),
        Err(_) => SHARE,
    };
    let (mut cases, mut violations) = (0, 0);
    let started = std::time::Instant::now();
    let only = std::env::var("SYNCLINE_SPACE").unwrap_or_default();
    for space in space::all().iter().filter(|space| space.name().contains(&only)) {
        let broken = Mutex::new(Broken::new());
        let met = judge(space, share, &broken);
        println!(
            "{}: {} states of a side, {met} cases",
            space.name(),
            space.states()
        );
        cases += met;
        for (law, (count, smallest)) in broken.into_inner().unwrap() {
            println!("{count} break: {law}\n{smallest}\n");
            violations += count;
        }
    }
    println!(
        "exhaustive_moves cases={cases} violations={violations} seconds={:.1}",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(violations, 0);
}

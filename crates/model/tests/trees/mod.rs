//! Trees in memory and the plainest possible execution of decisions, for tests of the merge.
//!
//! Invariant: a step is carried out only if its ground holds (what it expects stands there, its source has the bytes, its parent is a
//! directory, what it removes is empty); anything else is an error in words. It shares no code with the engine or the merge.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use syncline_model::conflict_name::is_conflict_name;
use syncline_model::*;

pub mod moving;

pub type Tree = BTreeMap<Slot, Observation>;

/// Two sides and what they last agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    pub base: BTreeMap<Slot, Row>,
    pub sides: Pair<Tree>,
}

impl World {
    /// All slots with what is known of each, in order.
    pub fn triples(&self) -> Vec<Triple> {
        let mut rows = BTreeMap::<Slot, Triple>::new();
        let blank = |slot: &Slot| Triple {
            slot: slot.clone(),
            base: None,
            was: None,
            now: Pair::new(None, None),
        };
        for (slot, row) in &self.base {
            rows.entry(slot.clone()).or_insert_with(|| blank(slot)).base = Some(row.clone());
        }
        for side in Side::BOTH {
            for (slot, seen) in &self.sides[side] {
                rows.entry(slot.clone()).or_insert_with(|| blank(slot)).now[side] = Some(Located {
                    seen: seen.clone(),
                    at: None,
                });
            }
        }
        rows.into_values().collect()
    }

    pub fn swapped(&self) -> Self {
        let base = self
            .base
            .iter()
            .map(|(slot, row)| (slot.clone(), Pair::new(row.right.clone(), row.left.clone())));
        Self {
            base: base.collect(),
            sides: Pair::new(self.sides.right.clone(), self.sides.left.clone()),
        }
    }

    pub fn standing(&self, side: Side, path: &RelPath) -> Option<(Slot, &Observation)> {
        [true, false].into_iter().find_map(|is_dir| {
            let slot = Slot::of(path, is_dir);
            self.sides[side].get(&slot).map(|seen| (slot, seen))
        })
    }

    /// Carries out one step, if its ground holds.
    pub fn apply(&mut self, step: &Step) -> Result<(), String> {
        let Step { side, change, .. } = step;
        let err = |what: &str| Err(format!("{what}: {step:?}"));
        let (side, path) = (*side, &change.path);
        if let Some(parent) = path.parent().filter(|p| !p.is_root())
            && !self.sides[side].contains_key(&Slot::of(&parent, true))
            && change.new.is_some()
        {
            return err("the parent is no directory");
        }
        if let Some(from) = &change.from {
            return self.apply_from(step, from);
        }
        let there = self.standing(side, path).map(|(slot, seen)| (slot, seen.clone()));
        if there.as_ref().map(|(_, seen)| seen) != change.old.as_ref() {
            return err(&format!("something else stands there ({there:?})"));
        }
        if let Some(new @ Entry::File(..)) = &change.new {
            let same = change
                .old
                .as_ref()
                .is_some_and(|old| old.entry.same_content(new) == Sameness::Same);
            match &step.source {
                Some(source) => {
                    let bytes = self
                        .standing(source.side, &source.path)
                        .map(|(_, seen)| &seen.entry);
                    if bytes.is_none_or(|entry| entry.same_content(new) != Sameness::Same) {
                        return err("the source has not the bytes");
                    }
                }
                None if same => {}
                None => return err("no source"),
            }
        }
        let new_dir = change.new.as_ref().is_some_and(Entry::is_dir);
        if let Some((slot, _)) = there {
            let below = self.sides[side]
                .range(slot.clone()..)
                .nth(1)
                .is_some_and(|(s, _)| s.is_below(&slot));
            if slot.is_dir() && !new_dir && below {
                return err("the directory is not empty");
            }
            self.sides[side].remove(&slot);
        }
        if let Some(entry) = &change.new {
            let seen = Observation {
                entry: entry.clone(),
                tag: Tag::None,
            };
            self.sides[side].insert(Slot::of(path, new_dir), seen);
        }
        Ok(())
    }

    fn apply_from(&mut self, step: &Step, from: &From) -> Result<(), String> {
        let From::Move(old) = from else {
            return Err(format!("neither names nor trash are used here: {step:?}"));
        };
        let path = &step.change.path;
        if self.standing(step.side, path).is_some() {
            return Err(format!("a move onto something: {step:?}"));
        }
        let Some((slot, _)) = self.standing(step.side, old) else {
            return Err(format!("nothing to move: {step:?}"));
        };
        if slot.is_dir() {
            return Err(format!("directories do not move here: {step:?}"));
        }
        let seen = self.sides[step.side].remove(&slot).unwrap();
        if step.change.new.as_ref() != Some(&seen.entry)
            || step.change.old.as_ref().is_some_and(|o| *o != seen)
        {
            return Err(format!("something else would move: {step:?}"));
        }
        self.sides[step.side].insert(Slot::of(path, false), seen);
        Ok(())
    }

    /// Writes down what was agreed.
    pub fn settle(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            if let Decision::Settle(settle) = decision {
                match &settle.row {
                    Some(row) => self.base.insert(settle.slot.clone(), row.clone()),
                    None => self.base.remove(&settle.slot),
                };
            }
        }
    }

    /// Looks again: tags of ours say nothing.
    pub fn same_trees(&self) -> bool {
        self.sides.left == self.sides.right
    }
}

/// The digest of a content that is one letter.
pub fn digest(letter: u8) -> Digest {
    Digest([letter; 32])
}

/// A file of one letter, which is its size and time too.
pub fn leaf(letter: u8) -> Observation {
    let meta = Meta {
        mtime: Some(Time {
            secs: letter.into(),
            nanos: 0,
        }),
        ..Meta::default()
    };
    let content = Content {
        size: letter.into(),
        digest: Some(digest(letter)),
        md5: None,
    };
    Observation {
        entry: Entry::File(meta, content, None),
        tag: Tag::None,
    }
}

/// A directory.
pub fn dir() -> Observation {
    Observation {
        entry: Entry::Dir(Meta::default()),
        tag: Tag::None,
    }
}

/// A rule that looks at contents alone.
pub fn rule(mode: Mode, policy: Policy) -> Rule {
    let classes = Classes {
        mode: false,
        owner: false,
        times: false,
        xattrs: false,
        acls: false,
        links: false,
        ctime: false,
    };
    Rule {
        mode,
        policy,
        classes,
        ..Rule::default()
    }
}

/// What stands where, without anything that does not matter here.
pub fn shape(tree: &Tree) -> BTreeMap<String, u8> {
    let letter = |entry: &Entry| {
        entry
            .content()
            .and_then(|c| c.digest)
            .map_or(0, |digest| digest.0[0])
    };
    tree.iter()
        .map(|(slot, seen)| (slot.to_string(), letter(&seen.entry)))
        .collect()
}

/// What the merge says of a world.
pub fn decide(rule: &Rule, world: &World) -> Result<Vec<Decision>, String> {
    decide_triples(rule, world.triples())
}

pub fn decide_triples(rule: &Rule, triples: Vec<Triple>) -> Result<Vec<Decision>, String> {
    let (mut merge, mut out) = (Merge::new(rule), Vec::new());
    for triple in triples {
        merge.push(triple, &mut out).map_err(|fault| fault.to_string())?;
    }
    merge.finish(&mut out).map_err(|fault| fault.to_string())?;
    Ok(out)
}

/// When a step is carried out; steps of equal rank are independent of each other, but for 1 (parents first) and 5 (innermost first).
pub fn rank(step: &Step) -> u8 {
    let new_dir = step.change.new.as_ref().is_some_and(Entry::is_dir);
    let old_dir = step.change.old.as_ref().is_some_and(|old| old.entry.is_dir());
    if step.change.from.is_some() {
        return 0;
    }
    match step.action {
        Action::Times => 6,
        Action::Metadata => 4,
        _ if new_dir => 1,
        _ if old_dir || step.change.new.is_none() => 5,
        _ if step
            .source
            .as_ref()
            .is_some_and(|source| source.side == step.side) =>
        {
            2
        }
        _ if step.source.is_none()
            && step
                .change
                .path
                .name()
                .is_some_and(|name| is_conflict_name(&name)) =>
        {
            2
        }
        _ => 3,
    }
}

/// The steps in the order in which they are carried out.
pub fn steps(decisions: &[Decision]) -> Vec<Step> {
    let mut steps: Vec<Step> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Settle(settle) => Some(settle.steps.iter().cloned()),
            _ => None,
        })
        .flatten()
        .collect();
    steps.sort_by(|a, b| {
        let slot = |step: &Step| {
            let old_dir = step.change.old.as_ref().is_some_and(|old| old.entry.is_dir());
            Slot::of(&step.change.path, old_dir)
        };
        rank(a).cmp(&rank(b)).then_with(|| match rank(a) {
            5 => slot(b).cmp(&slot(a)),
            _ => slot(a).cmp(&slot(b)),
        })
    });
    steps
}

/// Merges and carries everything out; what cannot be done is an error.
pub fn carry_out(rule: &Rule, world: &World) -> Result<(World, Vec<Decision>), String> {
    let decisions = decide(rule, world)?;
    let mut after = world.clone();
    for step in steps(&decisions) {
        after.apply(&step)?;
    }
    after.settle(&decisions);
    Ok((after, decisions))
}

/// A tree in few words.
pub fn told(tree: &Tree) -> String {
    let one = |(slot, seen): (&Slot, &Observation)| match &seen.entry {
        Entry::File(_, content, _) => format!("{slot}={}", content.size),
        Entry::Link(_, target) => format!("{slot}->{}", target.escape_ascii()),
        Entry::Opaque(_) => format!("{slot}=?"),
        _ => slot.to_string(),
    };
    tree.iter().map(one).collect::<Vec<_>>().join("  ")
}

/// A world in few words.
pub fn told_world(world: &World) -> String {
    let base = world
        .base
        .iter()
        .filter_map(|(slot, row)| Some((slot.clone(), row.left.clone()?)))
        .collect();
    format!(
        "\n base  {}\n left  {}\n right {}",
        told(&base),
        told(&world.sides.left),
        told(&world.sides.right)
    )
}

/// Steps in few words.
pub fn told_steps(steps: &[Step]) -> String {
    let one = |step: &Step| format!("{} {:?} {}", step.side.name(), step.action, step.change.path);
    steps.iter().map(one).collect::<Vec<_>>().join(", ")
}

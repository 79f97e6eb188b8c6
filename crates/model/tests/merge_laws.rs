//! The laws of the merge on larger trees: one base perturbed twice, with attributes, links and what cannot be looked into.
//!
//! Beside the laws of the exhaustive test: a run that was killed after any number of its steps and starts again ends in the same place,
//! and independent steps may come in any order.

#![allow(clippy::unwrap_used)]

mod trees;

use proptest::prelude::*;
use syncline_model::*;
use trees::{Tree, World, carry_out, decide, decide_triples, rank, steps, told_steps, told_world};

/// One thing that somebody does to a tree.
#[derive(Debug, Clone)]
enum Edit {
    Write(Vec<u8>, u8),
    Link(Vec<u8>, u8),
    Mkdir(Vec<u8>),
    Remove(Vec<u8>),
    Mode(Vec<u8>, u32),
    Hide(Vec<u8>),
}

/// Names that sort around each other's directory slot, up to four levels.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("a"),
        Just("a b"),
        Just("a.x"),
        Just("a-"),
        Just("b"),
        Just("c.txt")
    ];
    proptest::collection::vec(name, 1..=4).prop_map(|names| names.join("/").into_bytes())
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (path(), 1u8..5).prop_map(|(p, c)| Edit::Write(p, c)),
        1 => (path(), 1u8..4).prop_map(|(p, c)| Edit::Link(p, c)),
        2 => path().prop_map(Edit::Mkdir),
        4 => path().prop_map(Edit::Remove),
        1 => (path(), 0u32..3).prop_map(|(p, m)| Edit::Mode(p, m)),
    ]
}

fn meta() -> Meta {
    Meta {
        mode: Some(0o644),
        ..Meta::default()
    }
}

fn seen(entry: Entry) -> Observation {
    Observation {
        entry,
        tag: Tag::None,
    }
}

fn file(letter: u8) -> Entry {
    let content = Content {
        size: letter.into(),
        digest: Some(Digest([letter; 32])),
        md5: None,
    };
    Entry::File(meta(), content, None)
}

fn slot(path: &[u8], is_dir: bool) -> Slot {
    Slot::of(&RelPath::new(path).unwrap(), is_dir)
}

/// Clears a name with all below it.
fn clear(tree: &mut Tree, path: &[u8]) {
    let path = RelPath::new(path).unwrap();
    tree.retain(|slot, _| !slot.path().is_within(&path));
}

/// Makes the directories that lead to `path`; files in the way give way.
fn lead(tree: &mut Tree, path: &[u8]) {
    for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
        tree.remove(&slot(&path[..at], false));
        tree.entry(slot(&path[..at], true))
            .or_insert_with(|| seen(Entry::Dir(meta())));
    }
}

fn perturb(tree: &mut Tree, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Write(path, letter) => put(tree, path, file(*letter)),
            Edit::Link(path, letter) => put(tree, path, Entry::Link(meta(), vec![*letter].into())),
            Edit::Mkdir(path) => {
                if !tree.contains_key(&slot(path, true)) {
                    put(tree, path, Entry::Dir(meta()));
                }
            }
            Edit::Remove(path) => clear(tree, path),
            Edit::Mode(path, mode) => {
                for is_dir in [false, true] {
                    if let Some(meta) = tree
                        .get_mut(&slot(path, is_dir))
                        .and_then(|seen| seen.entry.meta_mut())
                    {
                        meta.mode = Some(0o600 + mode);
                    }
                }
            }
            Edit::Hide(path) => put(tree, path, Entry::Opaque(Why::Excluded)),
        }
    }
}

fn put(tree: &mut Tree, path: &[u8], entry: Entry) {
    lead(tree, path);
    clear(tree, path);
    tree.insert(slot(path, entry.is_dir()), seen(entry));
}

fn worlds() -> impl Strategy<Value = World> {
    let edits = |most| proptest::collection::vec(edit(), 0..most);
    (edits(25), edits(10), edits(10)).prop_map(|(first, left, right)| {
        let mut agreed = Tree::new();
        perturb(&mut agreed, &first);
        let mut sides = Pair::new(agreed.clone(), agreed.clone());
        perturb(&mut sides.left, &left);
        perturb(&mut sides.right, &right);
        let base = agreed
            .into_iter()
            .map(|(slot, seen)| (slot, Pair::new(Some(seen.clone()), Some(seen))));
        World {
            base: base.collect(),
            sides,
        }
    })
}

fn rule() -> Rule {
    let classes = Classes {
        owner: false,
        times: false,
        links: false,
        ctime: false,
        ..Classes::default()
    };
    Rule {
        classes,
        ..Rule::default()
    }
}

/// The base says what both sides hold.
fn base_is(world: &World, side: Side) -> Tree {
    world
        .base
        .iter()
        .filter_map(|(slot, row)| Some((slot.clone(), row[side].clone()?)))
        .collect()
}

fn converge(world: &World) -> Result<World, String> {
    let (after, _) = carry_out(&rule(), world)?;
    if !after.same_trees() {
        return Err(format!("sides differ: {after:?}"));
    }
    if base_is(&after, Side::Left) != after.sides.left || base_is(&after, Side::Right) != after.sides.right {
        return Err(format!("the base is not what they hold: {after:?}"));
    }
    let again = steps(&decide(&rule(), &after)?);
    if again.is_empty() {
        Ok(after)
    } else {
        Err(format!("a second merge has steps: {again:?}"))
    }
}

/// Each leaf that is new or changed on a side is found with its content in its directory afterwards.
fn nothing_lost(before: &World, after: &World) -> Result<(), String> {
    for side in Side::BOTH {
        for (slot, seen) in &before.sides[side] {
            let based = before.base.get(slot).and_then(|row| row[side].as_ref());
            let known = based.is_some_and(|base| base.entry.same_content(&seen.entry) == Sameness::Same);
            if seen.entry.is_dir() || seen.entry.is_opaque() || known {
                continue;
            }
            let parent = slot.path().parent();
            let found = after.sides[side].iter().any(|(at, there)| {
                at.path().parent() == parent && there.entry.same_content(&seen.entry) == Sameness::Same
            });
            if !found {
                return Err(format!("lost {slot} of {side:?}"));
            }
        }
    }
    Ok(())
}

/// `PROPTEST_CASES`, else few enough for every run of the tests.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(2000, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_become_the_same_and_nothing_is_lost(world in worlds()) {
        let after = converge(&world).map_err(TestCaseError::fail)?;
        nothing_lost(&world, &after).map_err(TestCaseError::fail)?;
        let hosts = Pair::new("right".to_owned(), "left".to_owned());
        let (mirror, _) = carry_out(&Rule { hosts, ..rule() }, &world.swapped()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(mirror, after.swapped());
    }

    /// The run is killed after some steps, before anything is written into the base.
    #[test]
    fn s32_a_killed_run_that_is_repeated_ends_in_the_same_place(world in worlds(), share in 0.0..1.0f64) {
        let wanted = converge(&world).map_err(TestCaseError::fail)?;
        let all = steps(&decide(&rule(), &world).map_err(TestCaseError::fail)?);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let done = (share * (all.len() + 1) as f64) as usize;
        let mut killed = world.clone();
        for step in &all[..done] {
            killed.apply(step).map_err(TestCaseError::fail)?;
        }
        let told = || format!(
            "{}\n done {}\n left {}\n then {}",
            told_world(&world),
            told_steps(&all[..done]),
            told_steps(&all[done..]),
            told_steps(&steps(&decide(&rule(), &killed).unwrap())),
        );
        let ended = converge(&killed).map_err(|e| TestCaseError::fail(format!("{}\n{e}", told())))?;
        prop_assert!(
            ended.sides == wanted.sides,
            "{}\n got {}\n not {}",
            told(),
            trees::told(&ended.sides.left),
            trees::told(&wanted.sides.left)
        );
    }

    #[test]
    fn steps_of_equal_rank_come_in_any_order(world in worlds(), seed in any::<u64>()) {
        let (wanted, decisions) = carry_out(&rule(), &world).map_err(TestCaseError::fail)?;
        let mut all = steps(&decisions);
        let mut dice = seed;
        for at in (1..all.len()).rev() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let other = usize::try_from(dice >> 33).unwrap() % (at + 1);
            all.swap(at, other);
        }
        // Only directories have an order among themselves: made from the top, removed from the bottom.
        all.sort_by(|a, b| {
            let (slot_a, slot_b) = (a.change.path.as_bytes(), b.change.path.as_bytes());
            rank(a).cmp(&rank(b)).then_with(|| match rank(a) {
                1 => slot_a.len().cmp(&slot_b.len()),
                5 => slot_b.len().cmp(&slot_a.len()),
                _ => std::cmp::Ordering::Equal,
            })
        });
        let mut after = world.clone();
        for step in &all {
            after.apply(step).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(after.sides, wanted.sides);
    }

    #[test]
    fn nothing_moves_at_or_below_what_is_hidden(
        world in worlds(), hidden in proptest::collection::vec((path(), any::<bool>()), 1..3)
    ) {
        let mut world = world;
        for (path, left) in &hidden {
            let side = if *left { Side::Left } else { Side::Right };
            perturb(&mut world.sides[side], &[Edit::Hide(path.clone())]);
        }
        let (after, decisions) = carry_out(&rule(), &world).map_err(TestCaseError::fail)?;
        for side in Side::BOTH {
            for (slot, _) in world.sides[side].iter().filter(|(_, seen)| seen.entry.is_opaque()) {
                prop_assert!(after.sides[side].contains_key(slot));
                for step in steps(&decisions) {
                    prop_assert!(!step.change.path.is_within(&slot.path()), "{step:?}");
                }
            }
        }
        nothing_lost(&world, &after).map_err(TestCaseError::fail)?;
        let second = steps(&decide(&rule(), &after).map_err(TestCaseError::fail)?);
        prop_assert!(second.is_empty(), "{second:?}");
    }

    #[test]
    fn input_out_of_order_is_corrupt(world in worlds(), at in any::<prop::sample::Index>()) {
        let mut triples = world.triples();
        prop_assume!(triples.len() > 1);
        let at = at.index(triples.len() - 1);
        if at % 2 == 0 {
            triples.swap(at, at + 1);
        } else {
            triples[at + 1] = triples[at].clone();
        }
        let mut merge_rule = rule();
        merge_rule.policy = Policy::KeepBoth;
        let (mut merge, mut out) = (Merge::new(&merge_rule), Vec::new());
        let ended = triples.into_iter().try_for_each(|triple| merge.push(triple, &mut out));
        prop_assert!(ended.is_err_and(|fault| fault.is(Kind::Corrupt)));
        prop_assert!(decide_triples(&merge_rule, Vec::new()).is_ok_and(|out| out.is_empty()));
    }
}

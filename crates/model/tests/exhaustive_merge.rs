//! Every merge of small trees (names {a, b}, two levels, two contents: 361 trees, 47,045,881 triples), against a naive second
//! implementation and the laws of the merge.
//!
//! A tree is two independent halves, one for each top name. Each half's 6,859 triples are carried out and compared in full; each whole
//! triple is then really merged, and must decide exactly what its halves decide. So each case is covered without being carried out.
//! A run takes one case of each class of symmetry (sides swapped, names swapped, contents swapped); `SYNCLINE_EXHAUSTIVE=all` takes all.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "trees/oracle.rs"]
mod oracle;
mod trees;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use oracle::{After, Node, Oracle};
use syncline_model::*;
use trees::{Tree, World, carry_out, decide, decide_triples, digest, dir, leaf, rule, shape};

const X: u8 = 1;
const Y: u8 = 2;
/// States of one top name: absent, x, y, or a directory of two names with four states each.
const STATES: usize = 19;
const PARTS: usize = STATES * STATES * STATES;

fn node(state: usize) -> Node {
    let small = |state: usize| match state {
        0 => Node::None,
        1 => Node::Leaf(X),
        2 => Node::Leaf(Y),
        _ => Node::Dir(BTreeMap::new()),
    };
    match state {
        0..=2 => small(state),
        _ => {
            let children = [(b"a", (state - 3) / 4), (b"b", (state - 3) % 4)];
            let children = children.map(|(name, state)| (name.to_vec(), small(state)));
            Node::Dir(
                children
                    .into_iter()
                    .filter(|(_, node)| *node != Node::None)
                    .collect(),
            )
        }
    }
}

/// The three states of a part: base, left, right.
fn states(part: usize) -> [usize; 3] {
    [part / (STATES * STATES), part / STATES % STATES, part % STATES]
}

fn part([base, left, right]: [usize; 3]) -> usize {
    (base * STATES + left) * STATES + right
}

fn plant(node: &Node, path: &RelPath, tree: &mut Tree) {
    match node {
        Node::None => {}
        Node::Leaf(letter) => {
            tree.insert(Slot::of(path, false), leaf(*letter));
        }
        Node::Dir(children) => {
            tree.insert(Slot::of(path, true), dir());
            for (name, child) in children {
                plant(child, &path.join(&Name::new(name.as_slice()).unwrap()), tree);
            }
        }
    }
}

fn tree(node: &Node, top: &str) -> Tree {
    let mut tree = Tree::new();
    plant(node, &RelPath::try_from(top).unwrap(), &mut tree);
    tree
}

fn world(part: usize, top: &str) -> World {
    let [base, left, right] = states(part).map(|state| tree(&node(state), top));
    World {
        base: base
            .into_iter()
            .map(|(slot, seen)| (slot, Pair::new(Some(seen.clone()), Some(seen))))
            .collect(),
        sides: Pair::new(left, right),
    }
}

fn base_shape(world: &World, side: Side) -> BTreeMap<String, u8> {
    let rows = world.base.iter();
    shape(
        &rows
            .filter_map(|(slot, row)| Some((slot.clone(), row[side].clone()?)))
            .collect(),
    )
}

fn expected(after: &After, node: &Node, top: &str) -> BTreeMap<String, u8> {
    let mut tree = tree(node, top);
    for (name, letter) in &after.copies {
        let name = Name::new(name.as_slice()).unwrap();
        tree.insert(Slot::of(&RelPath::root().join(&name), false), leaf(*letter));
    }
    shape(&tree)
}

/// Compares one half with the oracle and the laws; each error begins with the law that it breaks.
fn check_part(part: usize, top: &str, policy: Policy) -> Result<(), String> {
    let rule = rule(Mode::TwoWay, policy);
    let before = world(part, top);
    let (after, decisions) = carry_out(&rule, &before).map_err(|e| format!("steps can be done: {e}"))?;
    let oracle = Oracle {
        policy,
        keeps_name: u8::min,
        digest,
    };
    let [base, left, right] = states(part).map(node);
    let wanted = oracle.merge(top.as_bytes(), &base, &left, &right);
    let law = |name: &str, holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(format!("{name}: {decisions:?}"))
        }
    };
    for side in Side::BOTH {
        let node = if side == Side::Left {
            &wanted.left
        } else {
            &wanted.right
        };
        let wanted_side = expected(&wanted, node, top);
        let got = shape(&after.sides[side]);
        if got != wanted_side {
            return Err(format!("oracle, {side:?}: got {got:?} wanted {wanted_side:?}"));
        }
        let (got, wanted) = (base_shape(&after, side), expected(&wanted, &wanted.base, top));
        if got != wanted {
            return Err(format!("oracle, base of {side:?}: got {got:?} wanted {wanted:?}"));
        }
    }
    if policy != Policy::Hold {
        law(
            "both sides are the same",
            shape(&after.sides.left) == shape(&after.sides.right),
        )?;
        law(
            "the base is what they are",
            base_shape(&after, Side::Left) == shape(&after.sides.left),
        )?;
    }
    let (again, second) = carry_out(&rule, &after).map_err(|e| format!("second merge: {e}"))?;
    law(
        "a second merge has no steps",
        trees::steps(&second).is_empty() && again.sides == after.sides,
    )?;
    law("a second merge changes no row", again.base == after.base)?;
    idle(&before, &decisions).map_err(|slot| format!("a step where nothing changed: {slot}"))?;
    if matches!(policy, Policy::KeepBoth | Policy::Hold) {
        lost(&before, &after).map_err(|slot| format!("lost: {slot}"))?;
    }
    mirrored(&rule, &before, &after)
}

/// No step at a slot that is the same everywhere.
fn idle(before: &World, decisions: &[Decision]) -> Result<(), Slot> {
    for step in trees::steps(decisions) {
        for is_dir in [false, true] {
            let slot = Slot::of(&step.change.path, is_dir);
            let row = before.base.get(&slot).cloned().unwrap_or_default();
            let same = Side::BOTH
                .iter()
                .all(|&side| before.sides[side].get(&slot) == row[side].as_ref());
            let by_oracle_alone = is_dir;
            if same && row.left.is_some() && !by_oracle_alone {
                return Err(slot);
            }
        }
    }
    Ok(())
}

/// Each content that stood on one side and differs from the base is found at its name or beside it.
fn lost(before: &World, after: &World) -> Result<(), Slot> {
    for side in Side::BOTH {
        for (slot, seen) in &before.sides[side] {
            let based = before.base.get(slot).and_then(|row| row.left.as_ref());
            if !seen.entry.is_file() || based == Some(seen) {
                continue;
            }
            let parent = slot.path().parent();
            let found = Side::BOTH.iter().any(|&side| {
                after.sides[side].iter().any(|(at, there)| {
                    there.entry.content() == seen.entry.content() && at.path().parent() == parent
                })
            });
            if !found {
                return Err(slot.clone());
            }
        }
    }
    Ok(())
}

/// With the sides swapped everything is swapped.
fn mirrored(rule: &Rule, before: &World, after: &World) -> Result<(), String> {
    let policy = match rule.policy {
        Policy::Left => Policy::Right,
        Policy::Right => Policy::Left,
        policy => policy,
    };
    let hosts = Pair::new(rule.hosts.right.clone(), rule.hosts.left.clone());
    let swapped = Rule {
        policy,
        hosts,
        ..rule.clone()
    };
    let (mirror, _) = carry_out(&swapped, &before.swapped()).map_err(|e| format!("mirrored: {e}"))?;
    if mirror == after.swapped() {
        Ok(())
    } else {
        Err(format!("mirrored: got {mirror:?}"))
    }
}

fn told(part: usize) -> String {
    let [base, left, right] = states(part).map(|state| shape(&tree(&node(state), "a")));
    format!("base {base:?}, left {left:?}, right {right:?}")
}

fn report(policy: &str, broken: &[(usize, String)]) {
    let mut by_law = BTreeMap::<&str, Vec<&(usize, String)>>::new();
    for violation in broken {
        by_law
            .entry(violation.1.split(':').next().unwrap())
            .or_default()
            .push(violation);
    }
    for (law, cases) in &by_law {
        println!("{policy}: {} of {PARTS} break: {law}", cases.len());
        let mut cases = cases.clone();
        cases.sort_by_key(|(part, _)| told(*part).len());
        for (part, what) in cases.iter().take(3) {
            println!(
                "  {}\n    {}",
                told(*part),
                what.chars().take(900).collect::<String>()
            );
        }
    }
    assert!(broken.is_empty(), "{policy}: {} violations", broken.len());
}

fn check_policy(policy: Policy) {
    let broken: Vec<_> = (0..PARTS)
        .flat_map(|part| ["a", "b"].map(|top| (part, top)))
        .filter_map(|(part, top)| Some((part, check_part(part, top, policy).err()?)))
        .collect();
    report(&format!("{policy:?}"), &broken);
}

#[test]
fn keep_both_half_by_half() {
    check_policy(Policy::KeepBoth);
}

#[test]
fn left_half_by_half() {
    check_policy(Policy::Left);
}

#[test]
fn right_half_by_half() {
    check_policy(Policy::Right);
}

#[test]
fn newest_half_by_half() {
    check_policy(Policy::Newest);
}

#[test]
fn largest_half_by_half() {
    check_policy(Policy::Largest);
}

#[test]
fn hold_half_by_half() {
    check_policy(Policy::Hold);
}

/// The right side becomes the left one, and the left is not touched.
#[test]
fn mirror_half_by_half() {
    let rules = Side::BOTH.map(|leader| Rule {
        leader,
        ..rule(Mode::Mirror, Policy::KeepBoth)
    });
    let broken: Vec<_> = (0..PARTS)
        .flat_map(|part| rules.iter().map(move |rule| (part, rule)))
        .filter_map(|(part, rule)| {
            let (leads, follows) = (rule.leader, rule.leader.other());
            let before = world(part, "a");
            let check = || {
                let (after, decisions) = carry_out(rule, &before)?;
                let steps = trees::steps(&decisions);
                if steps.iter().any(|step| step.side == leads) {
                    return Err("a step on the side that leads: ".to_owned());
                }
                if shape(&after.sides[follows]) != shape(&before.sides[leads]) {
                    return Err(format!("they are not alike: {:?}", shape(&after.sides[follows])));
                }
                if base_shape(&after, follows) != shape(&before.sides[leads]) {
                    return Err(format!(
                        "the base is not what leads: {:?}",
                        base_shape(&after, follows)
                    ));
                }
                if before.sides.left == before.sides.right && !steps.is_empty() {
                    return Err("steps between equal sides: ".to_owned());
                }
                let second = decide(rule, &after)?;
                if !trees::steps(&second).is_empty() {
                    return Err(format!("a second merge has steps: {second:?}"));
                }
                Ok(())
            };
            Some((part, check().err()?))
        })
        .collect();
    report("mirror", &broken);
}

/// What the leading side has comes to the other; what only that has stays; the leading one is not touched.
#[test]
fn copy_half_by_half() {
    let rules = Side::BOTH.map(|leader| Rule {
        leader,
        ..rule(Mode::Copy, Policy::KeepBoth)
    });
    let broken: Vec<_> = (0..PARTS)
        .flat_map(|part| rules.iter().map(move |rule| (part, rule)))
        .filter_map(|(part, rule)| {
            let (leads, follows) = (rule.leader, rule.leader.other());
            let before = world(part, "a");
            let check = || {
                let (after, decisions) = carry_out(rule, &before)?;
                let steps = trees::steps(&decisions);
                if steps
                    .iter()
                    .any(|step| step.side == leads || step.action == Action::Remove)
                {
                    return Err(format!(
                        "a step on the side that leads or a removal: {decisions:?}"
                    ));
                }
                let (leader, had, has) = (
                    shape(&before.sides[leads]),
                    shape(&before.sides[follows]),
                    shape(&after.sides[follows]),
                );
                let stands = |shape: &BTreeMap<String, u8>, name: &str| {
                    let name = name.trim_end_matches('/');
                    shape.contains_key(name) || shape.contains_key(&format!("{name}/"))
                };
                for (name, letter) in &leader {
                    // What is of another kind there is not replaced, and nothing can be put below a file.
                    let bare = name.trim_end_matches('/');
                    let other_kind = if bare == name {
                        format!("{bare}/")
                    } else {
                        bare.to_owned()
                    };
                    let clash = had.contains_key(&other_kind)
                        || bare
                            .match_indices('/')
                            .any(|(at, _)| had.contains_key(&bare[..at]));
                    if has.get(name) != Some(letter) && !clash {
                        return Err(format!("not copied {name}: {has:?}"));
                    }
                }
                for (name, letter) in &had {
                    if !stands(&leader, name) && has.get(name) != Some(letter) {
                        let above_is_leaf = name
                            .match_indices('/')
                            .any(|(at, _)| leader.contains_key(&name[..at]));
                        return Err(format!("gone (leaf above: {above_is_leaf}) {name}: {has:?}"));
                    }
                }
                let second = decide(rule, &after)?;
                if !trees::steps(&second).is_empty() {
                    return Err(format!("a second merge has steps: {second:?}"));
                }
                Ok(())
            };
            Some((part, check().err()?))
        })
        .collect();
    report("copy", &broken);
}

/// With deletions skipped on a side nothing is removed there, the rest is as ever, and it is remembered.
#[test]
fn skipped_deletions_half_by_half() {
    for skipped in [
        Pair::new(true, false),
        Pair::new(false, true),
        Pair::new(true, true),
    ] {
        let rule = Rule {
            skip_deletes: skipped,
            ..rule(Mode::TwoWay, Policy::KeepBoth)
        };
        let broken: Vec<_> = (0..PARTS)
            .filter_map(|part| {
                let before = world(part, "a");
                let check = || {
                    let (after, decisions) = carry_out(&rule, &before)?;
                    let removals = trees::steps(&decisions)
                        .iter()
                        .any(|step| skipped[step.side] && step.action == Action::Remove);
                    if removals {
                        return Err(format!("a removal: {decisions:?}"));
                    }
                    for side in Side::BOTH {
                        if base_shape(&after, side) != shape(&after.sides[side]) {
                            return Err(format!(
                                "the base is not what they are: {:?} {:?}",
                                base_shape(&after, side),
                                shape(&after.sides[side])
                            ));
                        }
                    }
                    let second = decide(&rule, &after)?;
                    if !trees::steps(&second).is_empty() {
                        return Err(format!("a second merge has steps: {second:?}"));
                    }
                    lost(&before, &after).map_err(|slot| format!("lost: {slot}"))
                };
                Some((part, check().err()?))
            })
            .collect();
        report(&format!("skip {skipped:?}"), &broken);
    }
}

/// States of a side that may hold what cannot be looked into: the 19 states, two opaque ones, and directories with an opaque name.
fn opaque_tree(state: usize) -> Tree {
    let opaque = || Observation {
        entry: Entry::Opaque(Why::Excluded),
        tag: Tag::None,
    };
    let slot = |name: &str| Slot::try_from(name).unwrap();
    let mut tree = tree(&node(if state < STATES { state } else { 0 }), "a");
    match state {
        0..STATES => {}
        STATES => drop(tree.insert(slot("a"), opaque())),
        20 => drop(tree.insert(slot("a/"), opaque())),
        _ => {
            let (other, is_dir) = ((state - 21) % 4, (state - 21) / 4 == 1);
            tree = self::tree(&node(3 + other), "a");
            tree.insert(slot(if is_dir { "a/a/" } else { "a/a" }), opaque());
        }
    }
    tree
}

#[test]
fn nothing_is_decided_at_or_below_what_is_opaque() {
    let (mut cases, mut broken) = (0, Vec::new());
    for base in 0..STATES {
        for left in 0..29 {
            for right in 0..29 {
                if left < STATES && right < STATES {
                    continue;
                }
                cases += 1;
                let rows = tree(&node(base), "a").into_iter();
                let before = World {
                    base: rows
                        .map(|(slot, seen)| (slot, Pair::new(Some(seen.clone()), Some(seen))))
                        .collect(),
                    sides: Pair::new(opaque_tree(left), opaque_tree(right)),
                };
                if let Err(what) = check_opaque(&before) {
                    let text = |tree: &Tree| {
                        tree.iter()
                            .map(|(s, o)| format!("{s}:{}", o.entry.kind()))
                            .collect::<Vec<_>>()
                    };
                    broken.push(format!(
                        "{what}\n  base {:?} left {:?} right {:?}",
                        base_shape(&before, Side::Left),
                        text(&before.sides.left),
                        text(&before.sides.right)
                    ));
                }
            }
        }
    }
    broken.sort_by_key(String::len);
    println!("opaque cases={cases} violations={}", broken.len());
    broken.iter().take(8).for_each(|what| println!("{what}"));
    assert!(broken.is_empty());
}

fn check_opaque(before: &World) -> Result<(), String> {
    let rule = rule(Mode::TwoWay, Policy::KeepBoth);
    let (after, decisions) = carry_out(&rule, before)?;
    for side in Side::BOTH {
        for (slot, _) in before.sides[side]
            .iter()
            .filter(|(_, seen)| seen.entry.is_opaque())
        {
            let at = slot.path();
            for step in trees::steps(&decisions) {
                if step.change.path.is_within(&at) {
                    return Err(format!("a step at or below it: {step:?}"));
                }
            }
            for other in Side::BOTH {
                let under = |tree: &Tree| -> Tree {
                    tree.iter()
                        .filter(|(s, _)| s.path().is_within(&at))
                        .map(|(s, o)| (s.clone(), o.clone()))
                        .collect()
                };
                if under(&before.sides[other]) != under(&after.sides[other]) {
                    return Err("something changed at or below it".into());
                }
            }
            let rows = |world: &World| -> Vec<_> {
                let rows = world.base.iter().filter(|(s, _)| s.path().is_within(&at));
                rows.map(|(slot, row)| (slot.clone(), row.clone())).collect()
            };
            if rows(before) != rows(&after) {
                return Err(format!("a row changed at or below it: {:?}", rows(&after)));
            }
        }
    }
    let second = decide(&rule, &after)?;
    if !trees::steps(&second).is_empty() {
        return Err(format!("a second merge has steps: {second:?}"));
    }
    lost(before, &after).map_err(|slot| format!("lost: {slot}"))?;
    idle(before, &decisions).map_err(|slot| format!("a step where nothing changed: {slot}"))?;
    mirrored(&rule, before, &after)
}

/// One half as it is merged again and again.
struct Half {
    triples: Vec<Triple>,
    decisions: Vec<Decision>,
}

fn halves(rule: &Rule, top: &str) -> Vec<Half> {
    (0..PARTS)
        .map(|part| {
            let world = world(part, top);
            Half {
                triples: world.triples(),
                decisions: decide(rule, &world).unwrap(),
            }
        })
        .collect()
}

/// What each part becomes under each symmetry: sides swapped, names swapped, contents swapped.
fn symmetries() -> [Vec<usize>; 3] {
    let contents = |small: usize| [0, 2, 1, 3][small];
    let inside = |state: usize, change: &dyn Fn(usize, usize) -> (usize, usize)| {
        let (a, b) = change((state - 3) / 4, (state - 3) % 4);
        3 + 4 * a + b
    };
    let renamed = |state: usize| {
        if state < 3 {
            state
        } else {
            inside(state, &|a, b| (b, a))
        }
    };
    let exchanged = |state: usize| {
        if state < 3 {
            contents(state)
        } else {
            inside(state, &|a, b| (contents(a), contents(b)))
        }
    };
    let all = |map: &dyn Fn([usize; 3]) -> [usize; 3]| (0..PARTS).map(|i| part(map(states(i)))).collect();
    [
        all(&|[base, left, right]| [base, right, left]),
        all(&|three| three.map(renamed)),
        all(&|three| three.map(exchanged)),
    ]
}

/// True for one case of each class of symmetry.
fn stands_for_its_class([sides, names, contents]: &[Vec<usize>; 3], a: usize, b: usize) -> bool {
    let (swapped, exchanged) = ((sides[a], sides[b]), (contents[a], contents[b]));
    let both = (sides[exchanged.0], sides[exchanged.1]);
    [(a, b), swapped, exchanged, both]
        .into_iter()
        .all(|(i, j)| (a, b) <= (i, j) && (a, b) <= (names[j], names[i]))
}

#[test]
fn exhaustive() {
    let all = std::env::var("SYNCLINE_EXHAUSTIVE").is_ok_and(|value| value == "all");
    let rule = rule(Mode::TwoWay, Policy::KeepBoth);
    let (first, second) = (halves(&rule, "a"), halves(&rule, "b"));
    let symmetries = symmetries();
    let (cases, violations, next) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let a = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    if a >= PARTS {
                        return;
                    }
                    for b in (0..PARTS).filter(|&b| all || stands_for_its_class(&symmetries, a, b)) {
                        cases.fetch_add(1, Ordering::Relaxed);
                        let (a, b) = (&first[a], &second[b]);
                        let triples = a.triples.iter().chain(&b.triples).cloned().collect();
                        let merged = decide_triples(&rule, triples);
                        let holds = merged.as_ref().is_ok_and(|out| {
                            out.len() == a.decisions.len() + b.decisions.len()
                                && out.starts_with(&a.decisions)
                                && out.ends_with(&b.decisions)
                        });
                        if !holds && violations.fetch_add(1, Ordering::Relaxed) < 3 {
                            println!("{:?}\n{:?}\n{merged:?}", a.triples, b.triples);
                        }
                    }
                }
            });
        }
    });
    let (cases, violations) = (cases.into_inner(), violations.into_inner());
    println!(
        "exhaustive_merge cases={cases} violations={violations} seconds={:.1}",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(violations, 0);
    assert!(cases >= (PARTS * PARTS / 8) as u64);
    assert!(!all || cases == 47_045_881);
}

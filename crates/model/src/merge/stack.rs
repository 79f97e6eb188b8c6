//! The open directories of a merge: which exist on both sides, which wait to be removed unless something below survives.

use super::leaf::Copied;
use super::{Merge, Triple, arrival, attrs, promised, settle, step};
use crate::entry::{Entry, Observation, Why};
use crate::fault::{Kind, Trouble};
use crate::path::Slot;
use crate::plan::{Action, Clash, Conflict, Decision, Mode, Pair, Policy, Problem, Row, Side};

/// Most decisions that wait for the outcome of one directory.
const KEPT_BACK_MAX: usize = 10_000;

/// A directory whose subtree the input is in.
pub(super) struct Frame {
    pub(super) slot: Slot,
    state: State,
    triple: Triple,
    /// The leaf of the same name that waits for the outcome: on the side that lacks the directory.
    leaf: Option<Triple>,
    /// Something below may not be touched: the directory stays. True: silently (excluded).
    blocked: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It exists on both sides, or a step that was emitted makes it.
    Both,
    /// Only this side has it and nothing below has needed it on the other yet; with `true` it goes at the end.
    Lone(Side, bool),
    /// Nothing is decided below.
    Frozen,
    /// Everything below goes on this side.
    Doomed(Side),
}

/// What the open directories allow for something that stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// It may exist on both sides.
    Both,
    /// Nothing is decided here.
    Frozen,
    /// Everything here goes on this side.
    Doomed(Side),
}

impl Merge<'_> {
    /// Decides about a directory slot and the leaf of the same name, if there is one.
    pub(super) fn directory(&mut self, dir: Triple, leaf: Option<Triple>, out: &mut Vec<Decision>) {
        if dir.opaque() || leaf.as_ref().is_some_and(Triple::opaque) {
            if let Some(leaf) = leaf.filter(Triple::opaque) {
                self.problems(&leaf, out);
            }
            self.freeze(&dir, out);
            return self.open(dir, None, State::Frozen);
        }
        if let ground @ (Ground::Frozen | Ground::Doomed(_)) = self.ground() {
            return self.on_bad_ground(dir, leaf, ground, out);
        }
        let Some(leaf) = self.parted(&dir, leaf, out) else {
            self.block(false);
            return self.open(dir, None, State::Frozen);
        };
        match (dir.entry(Side::Left).is_some(), dir.entry(Side::Right).is_some()) {
            (true, true) => {
                self.forget_leaf(leaf, out);
                self.both(dir, out);
            }
            (true, false) => self.lone_directory(dir, Side::Left, leaf, out),
            (false, true) => self.lone_directory(dir, Side::Right, leaf, out),
            (false, false) => {
                if dir.base.is_some() {
                    let gone = settle(&dir, None, Vec::new());
                    self.unless_held(gone, out);
                }
                if let Some(leaf) = leaf {
                    self.leaf(leaf, out);
                }
                self.open(dir, None, State::Both);
            }
        }
    }

    /// A side that shows a leaf beside the directory of its name has two writers, neither of whom saw what the other made: only a store
    /// without directories can. The directory keeps the name, the leaf leaves it for that of a conflict copy. Returns what is left of the
    /// leaf; `None`: nothing is decided here.
    fn parted(
        &mut self,
        dir: &Triple,
        leaf: Option<Triple>,
        out: &mut Vec<Decision>,
    ) -> Option<Option<Triple>> {
        let Some(mut leaf) = leaf else {
            return Some(None);
        };
        let twice = |side: &Side| dir.entry(*side).is_some() && leaf.entry(*side).is_some();
        let (on, alone) = match Side::BOTH.map(|side| twice(&side)) {
            [false, false] => return Some(Some(leaf)),
            [left, right] => (if left { Side::Left } else { Side::Right }, left != right),
        };
        // The directory speaks for the other side, so that who keeps that side's version keeps the directory.
        let mut sides = Pair::new(None, None);
        sides[on] = leaf.entry(on).cloned();
        sides[on.other()] = dir.entry(on).cloned();
        let mut conflict = Conflict {
            path: dir.slot.path(),
            clash: Clash::Kind,
            sides,
            kept: Vec::new(),
            winner: None,
        };
        if self.rule.mode == Mode::TwoWay && alone && self.rule.policy == Policy::Hold {
            out.push(Decision::Conflict(Box::new(conflict)));
            return None;
        }
        let may = self.rule.mode == Mode::TwoWay && alone && self.survive(out) == Ground::Both;
        let copied = may.then(|| self.conflict_copy(&leaf, on, true, out)).flatten();
        let Some(copied) = copied else {
            let trouble = Trouble::new(Kind::Exists, "a file and a directory stand under this name")
                .hint("rename or remove one of them there");
            out.push(Decision::Problem(Problem::new(conflict.path, Some(on), trouble)));
            return None;
        };
        if let Copied::Stood(_) = copied {
            let at = leaf.now[on].as_ref().and_then(|located| located.at.clone());
            let at = at.unwrap_or_else(|| leaf.slot.path());
            let remove = step(on, Action::Remove, at, leaf.seen(on), None, None);
            out.push(settle(&leaf, None, vec![remove]));
        }
        leaf.now[on] = None;
        conflict.kept = vec![conflict.path.clone(), copied.path()];
        conflict.winner = Some(on.other());
        out.push(Decision::Conflict(Box::new(conflict)));
        Some(Some(leaf))
    }

    fn open(&mut self, triple: Triple, leaf: Option<Triple>, state: State) {
        self.frames.push(Frame {
            slot: triple.slot.clone(),
            state,
            triple,
            leaf,
            blocked: None,
        });
    }

    fn on_bad_ground(&mut self, dir: Triple, leaf: Option<Triple>, ground: Ground, out: &mut Vec<Decision>) {
        if let Some(leaf) = leaf {
            self.leaf(leaf, out);
        }
        let stands = Side::BOTH.iter().any(|&side| dir.entry(side).is_some());
        if matches!(ground, Ground::Doomed(_)) && !stands && dir.base.is_some() {
            out.push(settle(&dir, None, Vec::new()));
        }
        let state = match ground {
            Ground::Doomed(on) if dir.entry(on).is_some() => State::Doomed(on),
            _ => State::Frozen,
        };
        self.open(dir, None, state);
    }

    /// A leaf that only the base still knows.
    fn forget_leaf(&mut self, leaf: Option<Triple>, out: &mut Vec<Decision>) {
        if let Some(leaf) = leaf.filter(|leaf| leaf.base.is_some()) {
            let gone = settle(&leaf, None, Vec::new());
            self.unless_held(gone, out);
        }
    }

    /// A decision that falls if the directory around it turns out to be held against a leaf: it is kept back until that is known.
    /// Where too many are kept back, it is held: no more is remembered than the limit.
    pub(super) fn unless_held(&mut self, decision: Decision, out: &mut Vec<Decision>) {
        let waits = |frame: &Frame| matches!(frame.state, State::Lone(..)) && frame.leaf.is_some();
        if self.rule.policy != Policy::Hold || !self.frames.iter().any(waits) {
            return out.push(decision);
        }
        self.kept_back.push(decision);
        if self.kept_back.len() > KEPT_BACK_MAX {
            self.survive(out);
        }
    }

    /// A directory on both sides: attributes merge.
    fn both(&mut self, dir: Triple, out: &mut Vec<Decision>) {
        let (Some(left), Some(right)) = (dir.seen(Side::Left), dir.seen(Side::Right)) else {
            return;
        };
        let mut row = Pair::new(left.clone(), right.clone());
        if self.survive(out) == Ground::Both {
            let steps = self.merge_attrs(&dir, &mut row, out);
            out.push(settle(
                &dir,
                Some(Pair::new(Some(row.left), Some(row.right))),
                steps,
            ));
        }
        self.open(dir, None, State::Both);
    }

    /// A directory that only `on` has.
    fn lone_directory(&mut self, dir: Triple, on: Side, leaf: Option<Triple>, out: &mut Vec<Decision>) {
        let (known_here, known_there) = (dir.based(on).is_some(), dir.based(on.other()).is_some());
        let against = leaf.as_ref().is_some_and(|leaf| leaf.entry(on.other()).is_some());
        if !against {
            self.forget_leaf(leaf, out);
            if self.rule.mode == Mode::Copy && on != self.rule.leader {
                return self.open(dir, None, State::Frozen);
            }
            match (known_here, known_there) {
                (true, true) => {
                    let goes = !self.rule.skip_deletes[on];
                    self.open(dir, None, State::Lone(on, goes));
                }
                (true, false) => self.open(dir, None, State::Lone(on, false)),
                _ => self.make(dir, on, None, out),
            }
            return;
        }
        let Some(leaf) = leaf else { return };
        let untouched = match (leaf.based(on.other()), leaf.seen(on.other())) {
            (Some(base), Some(now)) => leaf.based(on).is_some() && !self.changed(base, now),
            _ => false,
        };
        if untouched {
            self.make(dir, on, Some(leaf), out);
        } else if known_here && known_there && !self.rule.skip_deletes[on] && self.rule.mode != Mode::Copy {
            self.open(dir, Some(leaf), State::Lone(on, true));
        } else {
            let state = match self.survive(out) {
                Ground::Both => self.kind_clash(&dir, on, leaf.clone(), out),
                Ground::Frozen => State::Frozen,
                Ground::Doomed(side) => State::Doomed(side),
            };
            let waits = matches!(state, State::Doomed(_)).then_some(leaf);
            self.open(dir, waits, state);
        }
    }

    /// The other side gets the directory, in place of `leaf` if that stands there.
    fn make(&mut self, dir: Triple, on: Side, leaf: Option<Triple>, out: &mut Vec<Decision>) {
        match self.survive(out) {
            Ground::Both => {
                self.emit_make(&dir, on, leaf.as_ref(), out);
                self.open(dir, None, State::Both);
            }
            Ground::Frozen => self.open(dir, None, State::Frozen),
            Ground::Doomed(side) => self.open(dir, None, State::Doomed(side)),
        }
    }

    fn emit_make(&self, dir: &Triple, on: Side, leaf: Option<&Triple>, out: &mut Vec<Decision>) {
        let Some(seen) = dir.seen(on) else { return };
        let new = attrs::carried(self.rule, &seen.entry);
        let old = leaf.and_then(|leaf| leaf.seen(on.other()));
        let action = if old.is_some() {
            Action::Update
        } else {
            Action::Mkdir
        };
        let mut row = Pair::new(None, None);
        row[on] = Some(seen.clone());
        row[on.other()] = Some(promised(new.clone()));
        let mut steps: Vec<_> = arrival(dir, on).into_iter().collect();
        steps.push(step(on.other(), action, dir.slot.path(), old, Some(new), None));
        if let Some(leaf) = leaf {
            out.push(settle(leaf, None, Vec::new()));
        }
        out.push(settle(dir, Some(row), steps));
    }

    /// A leaf on one side, a directory that stays on `on`: says what becomes of the directory.
    fn kind_clash(&mut self, dir: &Triple, on: Side, leaf: Triple, out: &mut Vec<Decision>) -> State {
        let mut sides = Pair::new(None, None);
        sides[on] = dir.entry(on).cloned();
        sides[on.other()] = leaf.entry(on.other()).cloned();
        let path = dir.slot.path();
        let mut conflict = Conflict {
            path,
            clash: Clash::Kind,
            sides,
            kept: Vec::new(),
            winner: None,
        };
        let winner = match (self.rule.mode, self.rule.policy) {
            (Mode::Mirror, _) => Some(self.rule.leader),
            (Mode::Copy, _) | (_, Policy::Hold) => {
                self.block(false);
                self.kept_back.clear();
                out.push(Decision::Conflict(Box::new(conflict)));
                return State::Frozen;
            }
            (_, Policy::Left) => Some(Side::Left),
            (_, Policy::Right) => Some(Side::Right),
            _ => None,
        };
        conflict.kept.push(conflict.path.clone());
        conflict.winner = Some(winner.unwrap_or(on));
        let state = if conflict.winner == Some(on) {
            if winner.is_some() {
                self.emit_make(dir, on, Some(&leaf), out);
            } else {
                let copied = self.conflict_copy(&leaf, on.other(), true, out);
                if let Some(Copied::Made(_)) = copied {
                    out.push(settle(&leaf, None, Vec::new()));
                    self.emit_make(dir, on, None, out);
                } else {
                    self.emit_make(dir, on, Some(&leaf), out);
                }
                conflict.kept.extend(copied.map(Copied::path));
            }
            State::Both
        } else {
            State::Doomed(on)
        };
        if self.rule.mode == Mode::TwoWay {
            out.push(Decision::Conflict(Box::new(conflict)));
        }
        state
    }

    /// Something stays here: directories that waited to be removed come to be on both sides, the outermost first.
    pub(super) fn survive(&mut self, out: &mut Vec<Decision>) -> Ground {
        for at in 0..self.frames.len() {
            let State::Lone(on, _) = self.frames[at].state else {
                continue;
            };
            let dir = self.frames[at].triple.clone();
            let leaf = self.frames[at].leaf.take();
            let state = match leaf {
                Some(leaf) => {
                    let state = self.kind_clash(&dir, on, leaf.clone(), out);
                    if matches!(state, State::Doomed(_)) {
                        self.frames[at].leaf = Some(leaf);
                    }
                    state
                }
                None => {
                    self.emit_make(&dir, on, None, out);
                    State::Both
                }
            };
            self.frames[at].state = state;
            if state != State::Both {
                break;
            }
        }
        self.ground()
    }

    /// What the innermost directories allow as things stand.
    pub(super) fn ground(&self) -> Ground {
        for frame in &self.frames {
            match frame.state {
                State::Frozen => return Ground::Frozen,
                State::Doomed(on) => return Ground::Doomed(on),
                State::Both | State::Lone(..) => {}
            }
        }
        Ground::Both
    }

    pub(super) fn frozen(&self) -> bool {
        self.ground() == Ground::Frozen
    }

    /// The directories above stay, whatever was to become of them.
    pub(super) fn block(&mut self, silently: bool) {
        for frame in &mut self.frames {
            frame.blocked = Some(silently && frame.blocked != Some(false));
        }
    }

    /// Nothing is decided at this slot.
    pub(super) fn freeze(&mut self, triple: &Triple, out: &mut Vec<Decision>) {
        let problems = self.problems(triple, out);
        self.block(!problems);
    }

    /// Says why a slot is opaque; false when it need not be said.
    fn problems(&self, triple: &Triple, out: &mut Vec<Decision>) -> bool {
        let before = out.len();
        for side in Side::BOTH {
            let Some(Entry::Opaque(why)) = triple.entry(side) else {
                continue;
            };
            let trouble = match why {
                Why::Excluded => continue,
                Why::Unreadable(trouble) | Why::Name(trouble) => trouble.clone(),
                Why::Mount => Trouble::new(
                    Kind::Changed,
                    "it has become or ceased to be a mount point, or lies on another file system than before; \
                     nothing below it is decided",
                )
                .hint("mount or unmount it as it was, or take the root as it stands with --accept"),
            };
            let path = triple.slot.path();
            out.push(Decision::Problem(Problem::new(path, Some(side), trouble)));
        }
        out.len() > before
    }

    /// A directory's subtree has passed.
    pub(super) fn close(&mut self, frame: Frame, out: &mut Vec<Decision>) {
        let (on, goes) = match frame.state {
            State::Both | State::Frozen => return,
            State::Lone(on, goes) => (on, goes),
            State::Doomed(on) => (on, true),
        };
        let Some(seen) = frame.triple.seen(on) else { return };
        if frame.leaf.is_some() {
            out.append(&mut self.kept_back);
        }
        match (frame.blocked, frame.leaf) {
            (Some(false), _) => {}
            (Some(true), None) => self.apart(&frame.triple, on, seen, out),
            (Some(true), Some(leaf)) => {
                let trouble = Trouble::new(
                    Kind::Exists,
                    "a file is to take the place of this directory, which holds excluded entries",
                )
                .hint("move them away or change the filter");
                let path = leaf.slot.path();
                out.push(Decision::Problem(Problem::new(path, Some(on), trouble)));
            }
            (None, None) if goes => {
                let at = frame.triple.now[on]
                    .as_ref()
                    .and_then(|located| located.at.clone());
                let at = at.unwrap_or_else(|| frame.slot.path());
                let remove = step(on, Action::Remove, at, Some(seen), None, None);
                let gone = settle(&frame.triple, None, vec![remove]);
                self.unless_held(gone, out);
            }
            (None, None) => self.apart(&frame.triple, on, seen, out),
            (None, Some(leaf)) => self.replace(&frame.triple, on, seen, &leaf, out),
        }
    }

    /// One side is agreed to be without.
    fn apart(&self, dir: &Triple, on: Side, seen: &Observation, out: &mut Vec<Decision>) {
        let mut row: Row = Pair::new(None, None);
        row[on] = Some(seen.clone());
        if dir.base.as_ref() != Some(&row) {
            out.push(settle(dir, Some(row), Vec::new()));
        }
    }

    /// A leaf takes the place of an emptied directory.
    fn replace(&self, dir: &Triple, on: Side, seen: &Observation, leaf: &Triple, out: &mut Vec<Decision>) {
        let Some(won) = leaf.seen(on.other()) else { return };
        let new = attrs::carried(self.rule, &won.entry);
        let mut row = Pair::new(None, None);
        row[on.other()] = Some(won.clone());
        row[on] = Some(promised(new.clone()));
        let source = self.source(leaf, on.other());
        let update = step(
            on,
            Action::Update,
            leaf.slot.path(),
            Some(seen),
            Some(new),
            source,
        );
        out.push(settle(dir, None, Vec::new()));
        out.push(settle(leaf, Some(row), vec![update]));
    }
}

//! Decisions about one leaf: a file, link or special.

use super::stack::Ground;
use super::{Located, Merge, Triple, arrival, attrs, promised, settle, step};
use crate::entry::{Digest, Entry, Observation, Sameness};
use crate::path::{RelPath, Slot};
use crate::plan::{Action, Clash, Conflict, Decision, Mode, Pair, Policy, Settle, Side, Source, Step};

impl Merge<'_> {
    /// Decides about a leaf whose directory slot holds nothing that matters.
    pub(super) fn leaf(&mut self, triple: Triple, out: &mut Vec<Decision>) {
        if triple.opaque() {
            return self.freeze(&triple, out);
        }
        match (&triple.now.left, &triple.now.right) {
            (None, None) => {
                if triple.base.is_some() && !self.frozen() {
                    let gone = settle(&triple, None, Vec::new());
                    self.unless_held(gone, out);
                }
            }
            (Some(left), Some(right)) => {
                if self.survive(out) != Ground::Both {
                    return self.doomed_leaf(&triple, out);
                }
                if left.seen.entry.same_content(&right.seen.entry) == Sameness::Same {
                    self.agreed(&triple, &left.seen, &right.seen, out);
                } else {
                    self.differing(&triple, out);
                }
            }
            (Some(_), None) => self.lone(&triple, Side::Left, out),
            (None, Some(_)) => self.lone(&triple, Side::Right, out),
        }
    }

    /// On one side only.
    fn lone(&mut self, triple: &Triple, on: Side, out: &mut Vec<Decision>) {
        let Some(located) = &triple.now[on] else { return };
        if self.rule.mode == Mode::Copy && on != self.rule.leader {
            return;
        }
        let seen = &located.seen;
        let gone = triple.based(on.other()).is_some();
        let edited = triple.based(on).is_none_or(|base| self.changed(base, seen));
        let changed = edited && !(gone && crate::zoo::on("edit-loses"));
        if changed || (!gone && triple.based(on).is_none()) {
            match self.survive(out) {
                Ground::Both => {
                    if gone && triple.based(on).is_some() {
                        out.push(Decision::Yielded {
                            path: triple.slot.path(),
                            side: on.other(),
                        });
                    }
                    self.copy_over(triple, on, out);
                }
                Ground::Frozen => {}
                Ground::Doomed(_) => self.doomed_leaf(triple, out),
            }
        } else if self.frozen() {
        } else if !gone || self.rule.skip_deletes[on] {
            if !gone && triple.based(on) == Some(seen) {
                return;
            }
            let mut row = Pair::new(None, None);
            row[on] = Some(seen.clone());
            out.push(settle(triple, Some(row), Vec::new()));
        } else {
            let at = located.at.clone().unwrap_or_else(|| triple.slot.path());
            let remove = step(on, Action::Remove, at, Some(seen), None, None);
            let gone = settle(triple, None, vec![remove]);
            self.unless_held(gone, out);
        }
    }

    /// In a directory that goes on one side, all goes there; what lies on no doomed side stays undecided.
    fn doomed_leaf(&mut self, triple: &Triple, out: &mut Vec<Decision>) {
        let Ground::Doomed(on) = self.ground() else { return };
        let Some(located) = &triple.now[on] else { return };
        let at = located.at.clone().unwrap_or_else(|| triple.slot.path());
        let remove = step(on, Action::Remove, at, Some(&located.seen), None, None);
        out.push(settle(triple, None, vec![remove]));
    }

    /// The other side gets what `on` has.
    fn copy_over(&mut self, triple: &Triple, on: Side, out: &mut Vec<Decision>) {
        let Some(located) = &triple.now[on] else { return };
        let path = triple.slot.path();
        let new = attrs::carried(self.rule, &located.seen.entry);
        let mut row = Pair::new(None, None);
        row[on] = Some(located.seen.clone());
        row[on.other()] = Some(promised(new.clone()));
        let source = self.source(triple, on);
        let mut steps: Vec<Step> = arrival(triple, on).into_iter().collect();
        steps.push(step(on.other(), Action::Create, path, None, Some(new), source));
        out.push(settle(triple, Some(row), steps));
    }

    /// Where the bytes of what `on` shows will lie when copies begin; `None` for what has no bytes.
    pub(super) fn source(&self, triple: &Triple, on: Side) -> Option<Source> {
        let Located { seen, .. } = triple.now[on].as_ref()?;
        seen.entry.is_file().then(|| Source {
            side: on,
            path: triple.slot.path(),
            seen: seen.clone(),
        })
    }

    /// Same content on both sides: attributes are merged.
    fn agreed(&mut self, triple: &Triple, left: &Observation, right: &Observation, out: &mut Vec<Decision>) {
        let mut row = Pair::new(left.clone(), right.clone());
        if let (Some(a), Some(b)) = (left.entry.content(), right.entry.content()) {
            let (a, b) = (a.clone(), b.clone());
            row.left
                .entry
                .content_mut()
                .into_iter()
                .for_each(|content| content.learn(&b));
            row.right
                .entry
                .content_mut()
                .into_iter()
                .for_each(|content| content.learn(&a));
        }
        let steps = self.merge_attrs(triple, &mut row, out);
        let row = Some(Pair::new(Some(row.left), Some(row.right)));
        // The base says so already, under the old name of a directory; it renames all that lies there at once.
        let carried = triple.was.as_ref().is_some_and(|was| was.carried);
        if carried && steps.is_empty() && row == triple.base {
            return;
        }
        out.push(settle(triple, row, steps));
    }

    /// Steps that bring moved things here and set attributes; `row` becomes what each side will hold.
    pub(super) fn merge_attrs(
        &self,
        triple: &Triple,
        row: &mut Pair<Observation>,
        out: &mut Vec<Decision>,
    ) -> Vec<Step> {
        let mut steps: Vec<Step> = Side::BOTH
            .iter()
            .filter_map(|&side| arrival(triple, side))
            .collect();
        let (Some(left), Some(right)) = (row.left.entry.meta(), row.right.entry.meta()) else {
            return steps;
        };
        let base = Pair::each(|side| attrs::meta_of(triple.based(side)));
        let attrs::Merged { wanted, tied } = attrs::merge(self.rule, triple.slot.is_dir(), base, left, right);
        if tied {
            out.push(Decision::Tied(triple.slot.path()));
        }
        for side in Side::BOTH {
            let Some(now) = row[side].entry.meta() else {
                continue;
            };
            let action = match attrs::gap(self.rule, now, &wanted[side]) {
                attrs::Gap::None => continue,
                attrs::Gap::Time if row[side].entry.is_dir() => Action::Times,
                _ => Action::Metadata,
            };
            let old = row[side].clone();
            let mut new = old.entry.clone();
            if let Some(meta) = new.meta_mut() {
                *meta = wanted[side].clone();
            }
            steps.push(step(
                side,
                action,
                triple.slot.path(),
                Some(&old),
                Some(new.clone()),
                None,
            ));
            row[side] = promised(new);
        }
        steps
    }

    /// True when a leaf is not what the base says, in content, kind or a compared attribute.
    pub(super) fn changed(&self, base: &Observation, now: &Observation) -> bool {
        edited(base, now) || attrs::changed(self.rule, &base.entry, &now.entry)
    }

    /// Two leaves of different content.
    fn differing(&mut self, triple: &Triple, out: &mut Vec<Decision>) {
        let edited = Pair::each(|side| match (triple.based(side), triple.seen(side)) {
            (Some(base), Some(now)) => edited(base, now),
            _ => true,
        });
        match (edited.left, edited.right) {
            (true, false) => self.update(triple, Side::Left, None, out),
            (false, true) => self.update(triple, Side::Right, None, out),
            _ => self.edited_on_both(triple, false, out),
        }
    }

    /// The content of `winner` goes to the other side; attributes merge, or follow the winner of a conflict.
    fn update(
        &mut self,
        triple: &Triple,
        winner: Side,
        conflict: Option<&Conflict>,
        out: &mut Vec<Decision>,
    ) {
        let loser = winner.other();
        let (Some(won), Some(lost)) = (triple.seen(winner), triple.seen(loser)) else {
            return;
        };
        let mut new = attrs::carried(self.rule, &won.entry);
        let mut keep = won.clone();
        let mut steps: Vec<Step> = Side::BOTH
            .iter()
            .filter_map(|&side| arrival(triple, side))
            .collect();
        if let (None, Some(w), Some(l)) = (conflict, won.entry.meta(), lost.entry.meta()) {
            let base = Pair::each(|side| attrs::meta_of(triple.based(side)));
            let mut metas = Pair::new(w, l);
            if winner == Side::Right {
                metas = Pair::new(l, w);
            }
            let attrs::Merged { wanted, tied } =
                attrs::merge(self.rule, triple.slot.is_dir(), base, metas.left, metas.right);
            if tied {
                out.push(Decision::Tied(triple.slot.path()));
            }
            if let Some(meta) = new.meta_mut() {
                // What another kind does not bear (a symlink's mode) comes with the new one.
                *meta = attrs::completed(wanted[loser].clone(), meta);
            }
            if attrs::gap(self.rule, w, &wanted[winner]) != attrs::Gap::None {
                let mut mine = won.entry.clone();
                if let Some(meta) = mine.meta_mut() {
                    *meta = wanted[winner].clone();
                }
                let path = triple.slot.path();
                steps.push(step(
                    winner,
                    Action::Metadata,
                    path,
                    Some(won),
                    Some(mine.clone()),
                    None,
                ));
                keep = promised(mine);
            }
        }
        let source = self.source(triple, winner);
        steps.push(step(
            loser,
            Action::Update,
            triple.slot.path(),
            Some(lost),
            Some(new.clone()),
            source,
        ));
        let mut row = Pair::new(None, None);
        row[winner] = Some(keep);
        row[loser] = Some(promised(new));
        out.push(settle(triple, Some(row), steps));
    }

    /// A conflict of two edits, settled by the policy. `waited`: the name of the copy has passed.
    pub(super) fn edited_on_both(&mut self, triple: &Triple, waited: bool, out: &mut Vec<Decision>) {
        let path = triple.slot.path();
        let sides = Pair::each(|side| triple.entry(side).cloned());
        let mut conflict = Conflict {
            path,
            clash: Clash::Edited,
            sides,
            kept: Vec::new(),
            winner: None,
        };
        let by_rule = match self.rule.policy {
            Policy::Hold => {
                self.block(false);
                return out.push(Decision::Conflict(Box::new(conflict)));
            }
            Policy::Left => Some(Side::Left),
            Policy::Right => Some(Side::Right),
            Policy::Newest => greater(triple, |entry| entry.meta().and_then(|meta| meta.mtime)),
            Policy::Largest => greater(triple, |entry| Some(entry.size())),
            Policy::KeepBoth if crate::zoo::on("newest-wins") => {
                greater(triple, |entry| entry.meta().and_then(|meta| meta.mtime))
            }
            Policy::KeepBoth => None,
        };
        conflict.kept.push(conflict.path.clone());
        if by_rule.is_none() && !waited {
            let loser = keeper(triple).other();
            let place = triple
                .entry(loser)
                .and_then(|entry| self.copy_place(&conflict.path, loser, entry, fingerprint(entry)));
            if place.is_some_and(|(copy, _)| self.wait_for(triple, &copy)) {
                return;
            }
        }
        let winner = by_rule.unwrap_or_else(|| {
            let winner = keeper(triple);
            if let Some(copy) = self.conflict_copy(triple, winner.other(), false, out) {
                conflict.kept.push(copy.path());
            }
            winner
        });
        conflict.winner = Some(winner);
        self.update(triple, winner, Some(&conflict), out);
        out.push(Decision::Conflict(Box::new(conflict)));
    }

    /// Puts what `on` shows under a conflict name on both sides: moved there, or as a copy of its own. Returns the name.
    pub(super) fn conflict_copy(
        &mut self,
        triple: &Triple,
        on: Side,
        moved: bool,
        out: &mut Vec<Decision>,
    ) -> Option<Copied> {
        let seen = triple.seen(on)?;
        let (path, missing) =
            self.copy_place(&triple.slot.path(), on, &seen.entry, fingerprint(&seen.entry))?;
        if !missing {
            return Some(Copied::Stood(path));
        }
        let new = attrs::carried(self.rule, &seen.entry);
        let mut row = Pair::new(Some(promised(new.clone())), Some(promised(new.clone())));
        let source = |path: &RelPath| {
            Some(Source {
                side: on,
                path: path.clone(),
                seen: seen.clone(),
            })
        };
        let own = if moved {
            row[on] = Some(seen.clone());
            let mut own = step(
                on,
                Action::Move,
                path.clone(),
                None,
                Some(seen.entry.clone()),
                None,
            );
            let at = triple.now[on].as_ref().and_then(|located| located.at.clone());
            let at = at.unwrap_or_else(|| triple.slot.path());
            own.source = source(&at);
            own.change.from = Some(crate::entry::From::Move(at));
            own
        } else {
            let original = source(&triple.slot.path());
            step(
                on,
                Action::Create,
                path.clone(),
                None,
                Some(new.clone()),
                original,
            )
        };
        let bytes = seen.entry.is_file().then(|| source(&path)).flatten();
        let other = step(on.other(), Action::Create, path.clone(), None, Some(new), bytes);
        let slot = Slot::of(&path, false);
        let settle = Settle {
            slot,
            row: Some(row),
            was: None,
            steps: vec![own, other],
        };
        out.push(Decision::Settle(Box::new(settle)));
        Some(Copied::Made(path))
    }
}

/// The name of a conflict copy.
pub(super) enum Copied {
    /// It is made now.
    Made(RelPath),
    /// It stood there already.
    Stood(RelPath),
}

impl Copied {
    /// The name.
    pub(super) fn path(self) -> RelPath {
        let (Self::Made(path) | Self::Stood(path)) = self;
        path
    }
}

/// True unless the content is proved to be the base's. What was seen but once (a one-way run takes a side as its base) need not be read.
fn edited(base: &Observation, now: &Observation) -> bool {
    let mtime = |seen: &Observation| seen.entry.meta().and_then(|meta| meta.mtime);
    if crate::zoo::on("older-is-no-edit") && mtime(now) < mtime(base) {
        return false;
    }
    base != now && base.entry.same_content(&now.entry) != Sameness::Same
}

/// The side whose value is greater; `None` when either is unknown or they are equal.
fn greater<T: Ord>(triple: &Triple, value: impl Fn(&Entry) -> Option<T>) -> Option<Side> {
    let left = triple.entry(Side::Left).and_then(&value)?;
    let right = triple.entry(Side::Right).and_then(&value)?;
    match left.cmp(&right) {
        std::cmp::Ordering::Less => Some(Side::Right),
        std::cmp::Ordering::Greater => Some(Side::Left),
        std::cmp::Ordering::Equal => None,
    }
}

/// The side that keeps the name: follows from the two entries alone, never from which side is which.
fn keeper(triple: &Triple) -> Side {
    let print = |side| triple.entry(side).map(fingerprint);
    if print(Side::Left) <= print(Side::Right) {
        Side::Left
    } else {
        Side::Right
    }
}

/// What stands for a leaf's kind and content in a name: a file's own digest where it is known.
pub(crate) fn fingerprint(entry: &Entry) -> Digest {
    let mut hasher = blake3::Hasher::new();
    match entry {
        Entry::File(_, content, _) => {
            if let Some(digest) = content.digest {
                return digest;
            }
            hasher
                .update(b"file")
                .update(&content.size.to_le_bytes())
                .update(&content.md5.unwrap_or_default());
        }
        Entry::Link(_, target) => {
            hasher.update(b"link").update(target);
        }
        Entry::Special(_, special) => {
            hasher.update(format!("{special:?}").as_bytes());
        }
        Entry::Dir(_) | Entry::Opaque(_) => {}
    }
    Digest(*hasher.finalize().as_bytes())
}

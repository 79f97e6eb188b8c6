//! The step before the merge: what of three sorted streams is not as it was, and what must be read to know.
//!
//! Invariant: a slot is left out only when both sides are proved to be what the base says, its name is not that of a conflict copy, and no
//! directory of its name that is not as it was stands beside it.

use crate::conflict_name::is_conflict_name;
use crate::entry::{Content, Entry, Observation, Sameness, Tag, Why};
use crate::merge::{Located, Triple};
use crate::path::Slot;
use crate::plan::{Mode, Pair, Policy, Row, Rule, Side};

/// A directory in whose place another stands on a side, or that the base does not know: what stands below it under an old name may have
/// come from elsewhere, and what the base has below it may be what a killed run knew of it before it knew the directory.
#[derive(Debug, Default)]
pub struct Replaced {
    dir: Option<Slot>,
}

impl Replaced {
    /// True when the next slot lies below such a directory, and must be looked at though it seems to be as it was.
    pub fn around(&mut self, slot: &Slot, base: Option<&Row>, now: &Pair<Option<Observation>>) -> bool {
        if self.dir.as_ref().is_some_and(|dir| slot.is_below(dir)) {
            return true;
        }
        let replaced = |side: &Side| {
            let base = base.and_then(|row| row[*side].as_ref());
            base.zip(now[*side].as_ref())
                .is_some_and(|(base, now)| crate::moves::replaced(base, now))
        };
        let unknown = base.is_none();
        self.dir = (slot.is_dir() && (unknown || Side::BOTH.iter().any(replaced))).then(|| slot.clone());
        false
    }
}

/// What is known of one slot, and whether the merge must see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// It is not as it was, or matters for another reason.
    Dirty(Triple),
    /// Nothing changed.
    Clean(Triple),
}

/// Joins what is known of one slot. With `checksum` no tag of a file proves anything; with `keep` nothing is left out.
pub fn join(
    slot: &Slot,
    base: Option<Row>,
    mut now: Pair<Option<Observation>>,
    rule: &Rule,
    checksum: bool,
    keep: bool,
) -> Joined {
    let mut clean = base.is_some();
    for side in Side::BOTH {
        let before = base.as_ref().and_then(|row| row[side].as_ref());
        clean &= unchanged(before, now[side].as_mut(), checksum);
    }
    let apart = now.left.is_some() != now.right.is_some();
    let matters = keep || (rule.mode == Mode::Mirror && apart) || is_copy(slot);
    let now = Pair::each(|side| now[side].take().map(|seen| Located { seen, at: None }));
    let triple = Triple {
        slot: slot.clone(),
        base,
        was: None,
        now,
    };
    if clean && !matters {
        Joined::Clean(triple)
    } else {
        Joined::Dirty(triple)
    }
}

/// The leaves for whose names a directory may still come. In a bucket both can stand there, and where one of them is not as it was the
/// merge must see the two together. Never more than the current path has prefixes.
#[derive(Debug, Default)]
pub struct Beside {
    /// With what was left out.
    leaves: Vec<(Slot, Option<Triple>)>,
}

impl Beside {
    /// Takes the next slot in order. Returns what the merge must see: a leaf from before, and this one.
    pub fn pass(&mut self, joined: Joined) -> [Option<Triple>; 2] {
        let (triple, clean) = match joined {
            Joined::Dirty(triple) => (triple, false),
            Joined::Clean(triple) => (triple, true),
        };
        let passed = |leaf: &mut (Slot, Option<Triple>)| {
            let rest = triple.slot.as_bytes().strip_prefix(leaf.0.as_bytes());
            !matches!(rest, Some([0..b'/', ..] | b"/"))
        };
        while self.leaves.pop_if(passed).is_some() {}
        if !triple.slot.is_dir() {
            let slot = triple.slot.clone();
            let (left_out, seen) = if clean {
                (Some(triple), None)
            } else {
                (None, Some(triple))
            };
            self.leaves.push((slot, left_out));
            return [None, seen];
        }
        let here = |leaf: &mut (Slot, Option<Triple>)| leaf.0.as_bytes() == triple.slot.path_bytes();
        match self.leaves.pop_if(here) {
            Some((_, Some(_))) | None if clean => [None, None],
            Some((_, leaf)) => [leaf, Some(triple)],
            None => [None, Some(triple)],
        }
    }
}

/// The merge must see the name of every conflict copy: another conflict over the same content finds it taken.
pub(crate) fn is_copy(slot: &Slot) -> bool {
    slot.as_bytes().contains(&b'(') && slot.path().name().is_some_and(|name| is_conflict_name(&name))
}

/// Takes over the digests of what is proved to be unread content of before.
pub(crate) fn learn(triple: &mut Triple) {
    for side in Side::BOTH {
        let before = triple.base.as_ref().and_then(|row| row[side].as_ref());
        unchanged(
            before,
            triple.now[side].as_mut().map(|located| &mut located.seen),
            false,
        );
    }
}

/// True when a side is as the base says. What it proves to be unread content of before takes over its digests.
fn unchanged(before: Option<&Observation>, now: Option<&mut Observation>, checksum: bool) -> bool {
    let (before, now) = match (before, now) {
        (None, None) => return true,
        (Some(before), Some(now)) => (before, now),
        _ => return false,
    };
    if moved_file_system(before, now) && !crate::zoo::on("mount-point-believed") {
        now.entry = Entry::Opaque(Why::Mount);
        return false;
    }
    if now.entry.is_opaque() {
        // Excluded on a side that the base knows: untouched, whatever the base says.
        return matches!(now.entry, Entry::Opaque(Why::Excluded));
    }
    if (checksum && now.entry.is_file()) || !now.unchanged_since(before) {
        return false;
    }
    if let (Some(content), Some(known)) = (now.entry.content_mut(), before.entry.content()) {
        content.learn(known);
    }
    true
}

/// A directory that lies on another file system than it did.
fn moved_file_system(before: &Observation, now: &Observation) -> bool {
    match (&before.tag, &now.tag) {
        (Tag::Stamp(a), Tag::Stamp(b)) => before.entry.is_dir() && now.entry.is_dir() && a.fs != b.fs,
        _ => false,
    }
}

/// What must be read before the merge can decide: for each side whether, and whether MD5 is wanted too.
pub fn wants(triple: &Triple, rule: &Rule) -> Pair<Option<Want>> {
    let mut wants = Pair::new(None, None);
    if triple
        .now
        .left
        .iter()
        .chain(&triple.now.right)
        .any(|located| located.seen.entry.is_opaque())
    {
        return wants;
    }
    let content = Pair::each(|side| content(triple.now[side].as_ref().map(|located| &located.seen)));
    if let (Some(left), Some(right)) = (content.left, content.right)
        && left.same(right) == Sameness::Unknown
    {
        return to_compare(left, right);
    }
    if rule.mode != Mode::TwoWay {
        return wants;
    }
    for side in Side::BOTH {
        let base = content_of_base(triple, side);
        if let (Some(base), Some(now)) = (base, content[side])
            && base.same(now) == Sameness::Unknown
            && (base.digest.is_some() || base.md5.is_some())
        {
            wants[side] = Some(Want {
                md5: base.digest.is_none(),
            });
        }
    }
    if wants.left.is_none()
        && wants.right.is_none()
        && rule.policy == Policy::KeepBoth
        && edited_on_both(triple)
    {
        for side in Side::BOTH {
            wants[side] = content[side]
                .filter(|now| now.digest.is_none())
                .map(|_| Want { md5: false });
        }
    }
    wants
}

/// What to read of a file beside its BLAKE3 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// MD5 too: the other side knows nothing else.
    pub md5: bool,
}

/// Prefers to read the side that is not known only by its MD5: that one is a store's, and would have to travel.
fn to_compare(left: &Content, right: &Content) -> Pair<Option<Want>> {
    let by_md5 = |stored: &Content, other: &Content| {
        stored.md5.is_some() && stored.digest.is_none() && other.md5.is_none()
    };
    if by_md5(right, left) {
        return Pair::new(Some(Want { md5: true }), None);
    }
    if by_md5(left, right) {
        return Pair::new(None, Some(Want { md5: true }));
    }
    let want = |content: &Content| content.digest.is_none().then_some(Want { md5: false });
    Pair::new(want(left), want(right))
}

fn content(seen: Option<&Observation>) -> Option<&Content> {
    seen.and_then(|seen| seen.entry.content())
}

fn content_of_base(triple: &Triple, side: Side) -> Option<&Content> {
    content(triple.base.as_ref().and_then(|row| row[side].as_ref()))
}

/// True when each side holds something whose content is not proved to be the base's.
pub fn edited_on_both(triple: &Triple) -> bool {
    Side::BOTH.iter().all(|&side| {
        let now = triple.now[side].as_ref().map(|located| &located.seen.entry);
        let base = triple
            .base
            .as_ref()
            .and_then(|row| row[side].as_ref())
            .map(|base| &base.entry);
        match (base, now) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(base), Some(now)) => base.same_content(now) != Sameness::Same,
        }
    })
}

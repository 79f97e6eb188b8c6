//! Names of conflict copies that may stand already: of a run that was killed, or of an earlier conflict over the same content (scenario S32).
//!
//! Invariant: a copy is made only under a name of which the input has shown that it is free. The name of a copy mostly comes before its
//! original in the order; where it comes later, the conflict waits for it. What is remembered ends with the names that share its stem.

use super::{Merge, Triple};
use crate::conflict_name::{conflict_name, stem_at};
use crate::entry::{Digest, Entry, Sameness};
use crate::path::{RelPath, Slot};
use crate::plan::{Decision, Pair, Side};

/// A name of a conflict copy that the input showed.
pub(super) struct Noted {
    path: RelPath,
    /// How many bytes of the path stand before the suffix: every original begins with them.
    stem: usize,
    based: bool,
    now: Pair<Option<Entry>>,
}

/// A conflict that waits for the place of its copy's name in the order.
pub(super) struct Waiting {
    triple: Triple,
    copy: RelPath,
}

/// What is known of a name that a copy may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    /// The same content is or will be there on both sides without us.
    Stands,
    Taken,
}

/// How many names are tried for one copy; each is a digest of the one before.
const TRIES: usize = 8;

impl Merge<'_> {
    /// Remembers what stands under the name of a conflict copy.
    pub(super) fn note(&mut self, triple: &Triple) {
        let path = triple.slot.path();
        let Some(name) = path.name() else { return };
        let Some(in_name) = stem_at(&name) else { return };
        let stem = path.as_bytes().len() - name.as_bytes().len() + in_name;
        self.noted.push(Noted {
            path,
            stem,
            based: triple.base.is_some(),
            now: Pair::each(|side| triple.entry(side).cloned()),
        });
    }

    /// Forgets names whose originals have passed.
    pub(super) fn forget_copies(&mut self, next: &Slot) {
        self.noted
            .retain(|noted| next.as_bytes().starts_with(&noted.path.as_bytes()[..noted.stem]));
    }

    /// The name for a copy of what `on` shows: and whether it is still to be made.
    pub(super) fn copy_place(
        &self,
        path: &RelPath,
        on: Side,
        entry: &Entry,
        print: Digest,
    ) -> Option<(RelPath, bool)> {
        let (name, parent) = (path.name()?, path.parent()?);
        let mut digest = if crate::zoo::on("copy-named-by-side") {
            Digest([on as u8; 32])
        } else {
            print
        };
        let mut last = None;
        for _ in 0..TRIES {
            let copy = parent.join(&conflict_name(&name, &self.rule.hosts[on], &digest));
            match self.place(&copy, entry) {
                Place::Free => return Some((copy, true)),
                Place::Stands => return Some((copy, false)),
                Place::Taken => last = Some(copy),
            }
            digest = Digest(*blake3::hash(&digest.0).as_bytes());
        }
        // A step that finds the name taken is refused and shown; nothing is overwritten.
        last.map(|copy| (copy, true))
    }

    fn place(&self, copy: &RelPath, entry: &Entry) -> Place {
        // Bytes that nobody has read: where the name bears their digest, a killed run put them there.
        let named = entry
            .content()
            .is_none_or(|content| content.digest.is_some() || content.md5.is_some());
        let mut place = Place::Free;
        for noted in self.noted.iter().filter(|noted| noted.path == *copy) {
            let same = Pair::each(|side| {
                let there = noted.now[side].as_ref();
                there.map(|there| match there.same_content(entry) {
                    Sameness::Same => true,
                    Sameness::Unknown => named,
                    Sameness::Differs => false,
                })
            });
            place = match (same.left, same.right) {
                (Some(true), Some(true)) => Place::Stands,
                (Some(true), None) | (None, Some(true)) if !noted.based => Place::Stands,
                _ => return Place::Taken,
            };
        }
        place
    }

    /// True when it is too early to settle a conflict, because the name of its copy is still to come.
    pub(super) fn wait_for(&mut self, triple: &Triple, copy: &RelPath) -> bool {
        let comes = self
            .last
            .as_ref()
            .is_some_and(|last| !self.ended && *last <= Slot::of(copy, true));
        if comes {
            self.waiting.push(Waiting {
                triple: triple.clone(),
                copy: copy.clone(),
            });
        }
        comes
    }

    /// Settles conflicts that waited for names that `next` has passed, or all that lie below `dir`.
    pub(super) fn settle_waiting(
        &mut self,
        next: Option<&Slot>,
        dir: Option<&Slot>,
        out: &mut Vec<Decision>,
    ) {
        let passed = |waiting: &mut Waiting| {
            next.is_none_or(|next| Slot::of(&waiting.copy, true) < *next)
                || dir.is_some_and(|dir| waiting.triple.slot.is_below(dir))
        };
        let ready: Vec<Waiting> = self.waiting.extract_if(.., passed).collect();
        for waiting in ready {
            self.edited_on_both(&waiting.triple, true, out);
        }
    }
}

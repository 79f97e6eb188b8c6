//! What this process wrote a short while ago, laid over listings that lag behind.
//!
//! Invariant: an object that a listing shows is replaced by what we know only when the listing shows the very object that we replaced
//! or removed; anything else it shows is somebody's newer work and stands.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use syncline_model::{Slot, Tag};
use syncline_store::Blob;

/// How long a listing is suspected of lagging.
const LAG: Duration = Duration::from_secs(15 * 60);
/// Writes remembered; older ones are forgotten first.
const MOST: usize = 1 << 16;

struct Write {
    number: u64,
    was: Vec<Tag>,
    now: Option<Blob>,
    at: Duration,
}

/// See the module.
#[derive(Default)]
pub struct Overlay {
    writes: BTreeMap<Slot, Write>,
    order: VecDeque<(u64, Slot)>,
    next: u64,
}

/// What to make of an object in a listing.
#[derive(Debug, PartialEq, Eq)]
pub enum Listed {
    /// It stands as listed.
    Stands,
    /// It was replaced by this.
    Replaced(Blob),
    /// It was removed.
    Removed,
}

impl Overlay {
    /// Remembers that the object `was` at `slot` gave way to `now`.
    pub fn wrote(&mut self, slot: Slot, was: Option<&Tag>, now: Option<Blob>, at: Duration) {
        let mut before = self.writes.remove(&slot).map_or_else(Vec::new, |write| {
            write
                .was
                .into_iter()
                .chain(write.now.map(|blob| blob.tag))
                .collect()
        });
        before.extend(was.cloned());
        before.retain(|tag| *tag != Tag::None && now.as_ref().is_none_or(|now| now.tag != *tag));
        before.dedup();
        self.next += 1;
        self.order.push_back((self.next, slot.clone()));
        self.writes.insert(
            slot,
            Write {
                number: self.next,
                was: before,
                now,
                at,
            },
        );
        while self.order.len() > MOST {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((number, slot)) = self.order.pop_front() else {
            return;
        };
        if self.writes.get(&slot).is_some_and(|write| write.number == number) {
            self.writes.remove(&slot);
        }
    }

    /// Forgets what every listing must show by now.
    pub fn expire(&mut self, now: Duration) {
        while let Some((number, slot)) = self.order.front() {
            let write = self.writes.get(slot).filter(|write| write.number == *number);
            if write.is_some_and(|write| write.at + LAG > now) {
                return;
            }
            self.forget_oldest();
        }
    }

    /// What to make of an object that a listing shows.
    pub fn listed(&self, slot: &Slot, tag: &Tag) -> Listed {
        match self.writes.get(slot) {
            Some(write) if write.was.contains(tag) => {
                write.now.clone().map_or(Listed::Removed, Listed::Replaced)
            }
            _ => Listed::Stands,
        }
    }

    /// True when something of ours is remembered for `slot`.
    pub fn knows(&self, slot: &Slot) -> bool {
        self.writes.contains_key(slot)
    }

    /// True when we removed what stood there and put nothing in its place.
    pub fn removed(&self, slot: &Slot) -> bool {
        self.writes.get(slot).is_some_and(|write| write.now.is_none())
    }

    /// What we wrote and a listing should show, in order.
    pub fn present(&self) -> impl Iterator<Item = &Slot> {
        self.writes
            .iter()
            .filter(|(_, write)| write.now.is_some())
            .map(|(slot, _)| slot)
    }

    /// A listing has shown what we wrote at `slot`: no more need to remember it.
    pub fn caught_up(&mut self, slot: &Slot, tag: &Tag) {
        if self
            .writes
            .get(slot)
            .is_some_and(|write| write.now.as_ref().is_some_and(|now| now.tag == *tag))
        {
            self.writes.remove(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(tag: &[u8]) -> Blob {
        Blob {
            size: 1,
            tag: Tag::Store(tag.into()),
            modified: None,
            md5: None,
            metadata: None,
            version: None,
        }
    }

    #[test]
    fn b10_only_what_we_replaced_ourselves_is_overlaid() {
        let slot = Slot::try_from("a").unwrap();
        let tag = |text: &str| Tag::Store(text.as_bytes().into());
        let mut overlay = Overlay::default();
        overlay.wrote(slot.clone(), Some(&tag("1")), Some(blob(b"2")), Duration::ZERO);
        overlay.wrote(slot.clone(), Some(&tag("2")), Some(blob(b"3")), Duration::ZERO);
        assert_eq!(overlay.listed(&slot, &tag("1")), Listed::Replaced(blob(b"3")));
        assert_eq!(overlay.listed(&slot, &tag("2")), Listed::Replaced(blob(b"3")));
        assert_eq!(overlay.listed(&slot, &tag("4")), Listed::Stands);
        overlay.wrote(slot.clone(), Some(&tag("3")), None, Duration::ZERO);
        assert_eq!(overlay.listed(&slot, &tag("3")), Listed::Removed);
        overlay.expire(LAG);
        assert_eq!(overlay.listed(&slot, &tag("3")), Listed::Stands);
    }

    #[test]
    fn the_overlay_does_not_grow_without_end() {
        let mut overlay = Overlay::default();
        for n in 0..MOST + 10 {
            overlay.wrote(
                Slot::try_from(format!("{n}").as_str()).unwrap(),
                None,
                Some(blob(b"x")),
                Duration::ZERO,
            );
        }
        assert_eq!((overlay.writes.len(), overlay.order.len()), (MOST, MOST));
    }
}

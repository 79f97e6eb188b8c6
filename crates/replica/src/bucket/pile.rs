//! The objects of a listing by slot, sorted when taken: within a budget of memory where the replica was given a sorter on disk.
//!
//! Invariant: items come out in the order of slots, those of one slot together, all of them or an error.

use serde::{Deserialize, Serialize};
use syncline_model::{Fault, Kind, Result, Slot, Tag, Time};
use syncline_store::sorter::Sort;
use syncline_store::{Blob, Rows};

use super::Shared;
use super::metadata::Metadata;

/// Rows sorted in memory.
#[derive(Default)]
struct InMemory(Vec<(Vec<u8>, Vec<u8>)>);

impl Sort for InMemory {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.push((key.to_vec(), value.to_vec()));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Rows> {
        self.0.sort();
        Ok(Box::new(self.0.into_iter().map(Ok)))
    }
}

/// What a listing holds at a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// An object; a marker where the slot is a directory's.
    Object(Blob),
    /// A key that is no path, and why.
    Foreign(String),
    /// A directory of ours that has no marker yet.
    Unshown,
}

#[derive(Serialize, Deserialize)]
enum Stored {
    Object {
        size: u64,
        tag: Tag,
        modified: Option<Time>,
        md5: Option<[u8; 16]>,
        metadata: Option<Metadata>,
    },
    Foreign(String),
    Unshown,
}

fn bug(why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Kind::Bug,
        format!("a sorted listing cannot be read back: {why}"),
        "",
    )
}

/// See the module.
pub(super) struct Pile(Box<dyn Sort>);

impl Pile {
    pub fn new(shared: &Shared) -> Result<Self> {
        match shared.sorter.get() {
            Some(make) => Ok(Self(make()?)),
            None => Ok(Self(Box::<InMemory>::default())),
        }
    }

    pub fn push(&mut self, slot: &Slot, item: Item) -> Result<()> {
        let stored = match item {
            Item::Object(Blob {
                size,
                tag,
                modified,
                md5,
                metadata,
                version: _,
            }) => Stored::Object {
                size,
                tag,
                modified,
                md5,
                metadata,
            },
            Item::Foreign(why) => Stored::Foreign(why),
            Item::Unshown => Stored::Unshown,
        };
        self.0
            .push(slot.as_bytes(), &postcard::to_stdvec(&stored).map_err(bug)?)
    }

    pub fn sorted(self) -> Result<Items> {
        Ok(Items {
            rows: self.0.finish()?,
            ahead: None,
        })
    }
}

/// Items in order.
pub(super) struct Items {
    rows: Rows,
    ahead: Option<(Slot, Item)>,
}

impl Items {
    fn one(&mut self) -> Result<Option<(Slot, Item)>> {
        if let Some(item) = self.ahead.take() {
            return Ok(Some(item));
        }
        let Some(row) = self.rows.next() else {
            return Ok(None);
        };
        let (key, value) = row?;
        let item = match postcard::from_bytes(&value).map_err(bug)? {
            Stored::Object {
                size,
                tag,
                modified,
                md5,
                metadata,
            } => Item::Object(Blob {
                size,
                tag,
                modified,
                md5,
                metadata,
                version: None,
            }),
            Stored::Foreign(why) => Item::Foreign(why),
            Stored::Unshown => Item::Unshown,
        };
        Ok(Some((Slot::new(key).map_err(bug)?, item)))
    }

    /// The next slot and all that the listing holds there.
    pub fn next(&mut self) -> Result<Option<(Slot, Vec<Item>)>> {
        let Some((slot, item)) = self.one()? else {
            return Ok(None);
        };
        let mut items = vec![item];
        while let Some((next, item)) = self.one()? {
            if next != slot {
                self.ahead = Some((next, item));
                break;
            }
            items.push(item);
        }
        Ok(Some((slot, items)))
    }
}

//! Maps that a run makes and forgets: in memory while they are small, in the session's table when they grow.
//!
//! Invariant: what is in the table outlives the run by nothing but its place: whoever makes a map of that kind begins with an empty one.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::Serialize;
use syncline_model::Result;

use crate::rows::{Base, encode};

/// Values that are kept in memory.
const FEW: usize = 4096;

/// What is spilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Spilt {
    /// Slots of which not all was done.
    Failed = b'f',
    /// Conflicts that were met.
    Met = b'm',
}

/// See the module. Of one kind there is one map at a time.
pub struct Spill<V> {
    base: Base,
    kind: Spilt,
    few: BTreeMap<Vec<u8>, Vec<u8>>,
    many: bool,
    _of: PhantomData<fn() -> V>,
}

impl<V: Serialize> Spill<V> {
    /// An empty map.
    pub fn new(base: &Base, kind: Spilt) -> Self {
        Self {
            base: base.clone(),
            kind,
            few: BTreeMap::new(),
            many: false,
            _of: PhantomData,
        }
    }

    /// True when there is a value at `key`.
    pub fn has(&self, key: &[u8]) -> Result<bool> {
        Ok(self.few.contains_key(key) || (self.many && self.base.spilt(self.kind, key)?.is_some()))
    }

    /// All values by key, encoded.
    pub fn rows(&self) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + '_ {
        let mut few = self.few.iter().peekable();
        let mut many = self
            .many
            .then(|| self.base.all_spilt(self.kind))
            .into_iter()
            .flatten()
            .peekable();
        std::iter::from_fn(move || {
            // A key is in one of the two.
            let spilt_first = match (few.peek(), many.peek()) {
                (Some((key, _)), Some(Ok((spilt, _)))) => spilt < *key,
                (few, many) => few.is_none() || matches!(many, Some(Err(_))),
            };
            if spilt_first {
                many.next()
            } else {
                few.next().map(|(key, value)| Ok((key.clone(), value.clone())))
            }
        })
    }

    /// Puts a value.
    pub fn put(&mut self, key: &[u8], value: &V) -> Result<()> {
        let value = encode(value)?;
        if self.few.len() < FEW || self.few.contains_key(key) {
            self.few.insert(key.to_vec(), value);
            return Ok(());
        }
        if !self.many {
            self.base.begin_spilling(self.kind)?;
            self.many = true;
        }
        self.base.spill(self.kind, key, Some(value))
    }
}

impl<V> Drop for Spill<V> {
    fn drop(&mut self) {
        if self.many {
            // What cannot be dropped now is when the next one of its kind spills.
            let _ = self.base.end_spilling(self.kind);
        }
    }
}

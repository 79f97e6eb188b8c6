//! The names of one directory, brought into the order: in memory, or beyond [`IN_MEMORY`] names on disk.
//!
//! Invariant: a directory of any size takes a bounded amount of memory wherever something can be written.

use std::ops::Range;
use std::sync::Arc;

use syncline_model::{Fault, Kind, Result};
use syncline_store::sorter::Sorter;
use syncline_store::{Disk, Rows};

use super::own::{make_dir, own_dir};
use super::route::{Routes, show};

/// Names of one directory that are sorted in memory.
const IN_MEMORY: usize = 50_000;
/// Bytes of names that the sorter holds.
const BUDGET: usize = 16 << 20;
/// Where names are sorted, below `.syncline`.
pub(crate) const SORTING: &[u8] = b"sorting";

/// Where names that are too many for memory are sorted: in the root that is being listed.
pub(crate) struct Scratch<D: Disk> {
    routes: Arc<Routes<D>>,
    writable: bool,
}

impl<D: Disk> Scratch<D> {
    /// In the root of `routes`; in memory after all where that may not be written.
    pub fn new(routes: Arc<Routes<D>>, writable: bool) -> Self {
        Self { routes, writable }
    }

    fn sorter(&self) -> Result<Option<Sorter<D>>> {
        if !self.writable {
            return Ok(None);
        }
        let disk = &self.routes.disk;
        let (own, _) = own_dir(&**disk, &self.routes.root.spot.dir)?;
        let (dir, _) = make_dir(&**disk, &own, SORTING)?;
        Ok(Some(Sorter::with_budget(Arc::clone(disk), dir, BUDGET)))
    }
}

/// Takes names in any order. A name's key sorts as the name does in the order: a directory's ends with `/`.
pub(crate) struct NamesBuilder<'a, D: Disk> {
    scratch: &'a Scratch<D>,
    few: Few,
    many: Option<Sorter<D>>,
}

/// Keys one behind the other, and where each begins and ends.
#[derive(Default)]
struct Few {
    keys: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl<'a, D: Disk> NamesBuilder<'a, D> {
    pub fn new(scratch: &'a Scratch<D>) -> Self {
        Self {
            scratch,
            few: Few {
                keys: Vec::with_capacity(4096),
                spans: Vec::with_capacity(256),
            },
            many: None,
        }
    }

    /// Takes one name.
    pub fn push(&mut self, name: &[u8], is_dir: bool) -> Result<()> {
        let Few { keys, spans } = &mut self.few;
        let from = keys.len();
        keys.extend_from_slice(name);
        if is_dir {
            keys.push(b'/');
        }
        if let Some(many) = &mut self.many {
            many.push(keys, b"")?;
            keys.clear();
            return Ok(());
        }
        spans.push(from..keys.len());
        if spans.len() == IN_MEMORY
            && let Some(mut many) = self.scratch.sorter()?
        {
            let Few { keys, spans } = std::mem::take(&mut self.few);
            for span in spans {
                many.push(&keys[span], b"")?;
            }
            self.many = Some(many);
        }
        Ok(())
    }

    /// All of them, in the order.
    pub fn sorted(self) -> Result<Names> {
        if let Some(many) = self.many {
            return Ok(Names::Many(many.finish()?, Box::default()));
        }
        let Few { keys, mut spans } = self.few;
        spans.sort_unstable_by(|a, b| keys[a.clone()].cmp(&keys[b.clone()]));
        Ok(Names::Few(keys, spans.into_iter()))
    }
}

/// Names in the order, each with whether it is a directory's.
pub(crate) enum Names {
    Few(Vec<u8>, std::vec::IntoIter<Range<usize>>),
    /// With the key that was read last.
    Many(Rows, Box<[u8]>),
}

impl Names {
    /// More than are looked at in one go.
    pub fn is_large(&self) -> bool {
        matches!(self, Self::Many(..)) || self.len_hint() >= IN_MEMORY
    }

    /// How many are left, as far as is known.
    pub fn len_hint(&self) -> usize {
        if let Self::Few(_, spans) = self {
            spans.len()
        } else {
            0
        }
    }

    /// The next name.
    pub fn next(&mut self) -> Result<Option<(&[u8], bool)>> {
        let key = match self {
            Self::Few(keys, spans) => spans.next().map(|span| &keys[span]),
            Self::Many(rows, last) => match rows.next().transpose()? {
                Some((key, _)) => {
                    *last = key.into();
                    Some(&**last)
                }
                None => None,
            },
        };
        let Some(key) = key else {
            return Ok(None);
        };
        let (name, is_dir) = key.strip_suffix(b"/").map_or((key, false), |name| (name, true));
        if name.is_empty() {
            return Err(Fault::new(
                Kind::Corrupt,
                "a name came back empty from sorting",
                show(key),
            ));
        }
        Ok(Some((name, is_dir)))
    }
}

//! The names of one directory, brought into the order: in memory, or beyond [`IN_MEMORY`] names on disk.
//!
//! Invariant: a directory of any size takes a bounded amount of memory wherever something can be written.

use std::sync::Arc;

use syncline_model::path::cmp_names;
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

/// Takes names in any order.
pub(crate) struct NamesBuilder<'a, D: Disk> {
    scratch: &'a Scratch<D>,
    few: Vec<(Box<[u8]>, bool)>,
    many: Option<Sorter<D>>,
}

impl<'a, D: Disk> NamesBuilder<'a, D> {
    pub fn new(scratch: &'a Scratch<D>) -> Self {
        Self {
            scratch,
            few: Vec::new(),
            many: None,
        }
    }

    /// Takes one name.
    pub fn push(&mut self, name: Box<[u8]>, is_dir: bool) -> Result<()> {
        if let Some(many) = &mut self.many {
            return put(many, &name, is_dir);
        }
        self.few.push((name, is_dir));
        if self.few.len() == IN_MEMORY
            && let Some(mut many) = self.scratch.sorter()?
        {
            for (name, is_dir) in std::mem::take(&mut self.few) {
                put(&mut many, &name, is_dir)?;
            }
            self.many = Some(many);
        }
        Ok(())
    }

    /// All of them, in the order.
    pub fn sorted(mut self) -> Result<Names> {
        if let Some(many) = self.many {
            return Ok(Names::Many(many.finish()?));
        }
        let large = self.few.len() >= IN_MEMORY;
        self.few.sort_unstable_by(|(a, a_dir), (b, b_dir)| {
            if a_dir == b_dir && !a_dir {
                a.cmp(b)
            } else {
                cmp_names(a, *a_dir, b, *b_dir)
            }
        });
        Ok(Names::Few(self.few.into_iter(), large))
    }
}

/// A name's key sorts as the name does in the order.
fn put<D: Disk>(many: &mut Sorter<D>, name: &[u8], is_dir: bool) -> Result<()> {
    if is_dir {
        many.push(&[name, b"/"].concat(), b"")
    } else {
        many.push(name, b"")
    }
}

/// Names in the order, each with whether it is a directory's.
pub(crate) enum Names {
    Few(std::vec::IntoIter<(Box<[u8]>, bool)>, bool),
    Many(Rows),
}

impl Names {
    /// More than are looked at in one go.
    pub fn is_large(&self) -> bool {
        matches!(self, Self::Many(_) | Self::Few(_, true))
    }

    /// How many are left, as far as is known.
    pub fn len_hint(&self) -> usize {
        if let Self::Few(names, _) = self {
            names.len()
        } else {
            0
        }
    }

    /// The next name.
    pub fn next(&mut self) -> Result<Option<(Box<[u8]>, bool)>> {
        let key = match self {
            Self::Few(names, _) => return Ok(names.next()),
            Self::Many(rows) => rows.next(),
        };
        let Some((key, _)) = key.transpose()? else {
            return Ok(None);
        };
        let (name, is_dir) = key
            .strip_suffix(b"/")
            .map_or((&key[..], false), |name| (name, true));
        if name.is_empty() {
            return Err(Fault::new(
                Kind::Corrupt,
                "a name came back empty from sorting",
                show(&key),
            ));
        }
        Ok(Some((name.into(), is_dir)))
    }
}

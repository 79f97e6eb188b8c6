//! The names of one directory, brought into the order: in memory, or beyond [`IN_MEMORY`] names on disk.

use syncline_model::Result;
use syncline_model::path::cmp_names;

/// Names of one directory that are sorted in memory.
const IN_MEMORY: usize = 50_000;

/// Takes names in any order.
#[derive(Default)]
pub(crate) struct NamesBuilder {
    few: Vec<(Box<[u8]>, bool)>,
}

impl NamesBuilder {
    /// Takes one name.
    pub fn push(&mut self, name: Box<[u8]>, is_dir: bool) -> Result<()> {
        self.few.push((name, is_dir));
        Ok(())
    }

    /// All of them, in the order.
    pub fn sorted(mut self) -> Result<Names> {
        let large = self.few.len() > IN_MEMORY;
        self.few.sort_unstable_by(|(a, a_dir), (b, b_dir)| {
            if a_dir == b_dir && !a_dir {
                a.cmp(b)
            } else {
                cmp_names(a, *a_dir, b, *b_dir)
            }
        });
        Ok(Names {
            few: self.few.into_iter(),
            large,
        })
    }
}

/// Names in the order, each with whether it is a directory's.
pub(crate) struct Names {
    few: std::vec::IntoIter<(Box<[u8]>, bool)>,
    large: bool,
}

impl Names {
    /// More than are looked at in one go.
    pub fn is_large(&self) -> bool {
        self.large
    }

    /// How many are left, as far as is known.
    pub fn len_hint(&self) -> usize {
        self.few.len()
    }

    /// The next name.
    pub fn next(&mut self) -> Result<Option<(Box<[u8]>, bool)>> {
        Ok(self.few.next())
    }
}

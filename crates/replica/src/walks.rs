//! Walks made of walks.
//!
//! Invariant: order in, order out; no more than a batch of each walk is in memory.

use async_trait::async_trait;
use syncline_model::{RelPath, Result, Seen, Slot};

use crate::seam::Walk;

/// Entries of one batch.
const BATCH: usize = 1024;

/// Several walks as one; what stands in more than one of them comes once, as the first of these shows it.
#[derive(Default)]
pub(crate) struct Merged {
    walks: Vec<Ahead>,
}

struct Ahead {
    walk: Box<dyn Walk>,
    rows: std::vec::IntoIter<Seen>,
    over: bool,
}

impl Merged {
    /// Adds a walk behind those that are there; false if it has nothing to show.
    pub async fn add(&mut self, mut walk: Box<dyn Walk>) -> Result<bool> {
        let Some(first) = walk.next().await? else {
            return Ok(false);
        };
        self.walks.push(Ahead {
            walk,
            rows: first.into_iter(),
            over: false,
        });
        Ok(true)
    }
}

#[async_trait]
impl Walk for Merged {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        let mut out = Vec::new();
        while out.len() < BATCH {
            for ahead in &mut self.walks {
                while ahead.rows.len() == 0 && !ahead.over {
                    match ahead.walk.next().await? {
                        Some(batch) => ahead.rows = batch.into_iter(),
                        None => ahead.over = true,
                    }
                }
            }
            let heads = self
                .walks
                .iter()
                .filter_map(|ahead| ahead.rows.as_slice().first());
            let Some(slot) = heads.map(|seen| &seen.slot).min().cloned() else {
                break;
            };
            let mut first = None;
            for Ahead { rows, .. } in &mut self.walks {
                if rows.as_slice().first().is_some_and(|seen| seen.slot == slot) {
                    let same = rows.next();
                    first = first.or(same);
                }
            }
            out.extend(first);
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

/// What a walk shows below a directory, under the paths that it has there.
pub(crate) struct Below {
    /// The walk.
    pub walk: Box<dyn Walk>,
    /// The directory.
    pub top: RelPath,
}

#[async_trait]
impl Walk for Below {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        while let Some(batch) = self.walk.next().await? {
            let below = |Seen { slot, what }: Seen| {
                let path = slot.path().rebase(&self.top, &RelPath::root())?;
                (!path.is_root()).then(|| Seen {
                    slot: Slot::of(&path, slot.is_dir()),
                    what,
                })
            };
            let rows: Vec<Seen> = batch.into_iter().filter_map(below).collect();
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }
}

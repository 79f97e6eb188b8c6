//! Times of directories: noted while something is done in them, set when nothing more happens there.
//!
//! Invariant: inner directories come before outer ones, and what is remembered of them was flushed before.

use syncline_model::{Action, Observation, Pair, RelPath, Result, Row, Side, Slot};

use super::{BATCH_STEPS, Execution, apply, mtime, plain, set_time};
use crate::shelf::Sort;

/// Directories in which something was done, on disk when they are many.
pub(super) struct Touched {
    rows: Option<Box<dyn Sort>>,
    /// What was noted last: neighbours are done together.
    last: Pair<Option<RelPath>>,
}

/// Sorts inner directories before outer ones, and sides together.
fn key(side: Side, dir: &RelPath) -> Vec<u8> {
    let mut key: Vec<u8> = dir.as_bytes().iter().map(|byte| !byte).collect();
    key.extend([0xff, side as u8]);
    key
}

fn dir_of(key: &[u8]) -> Option<(Side, RelPath)> {
    let (path, [_, side]) = key.split_last_chunk::<2>()?;
    let path: Vec<u8> = path.iter().map(|byte| !byte).collect();
    let side = Side::BOTH.into_iter().find(|known| *known as u8 == *side)?;
    Some((side, RelPath::new(path).ok()?))
}

impl Touched {
    pub fn new(rows: Box<dyn Sort>) -> Self {
        Self {
            rows: Some(rows),
            last: Pair::default(),
        }
    }

    /// Something was done in `dir`.
    pub fn note(&mut self, side: Side, dir: &RelPath) -> Result<()> {
        if dir.is_root() || self.last[side].as_ref() == Some(dir) {
            return Ok(());
        }
        self.last[side] = Some(dir.clone());
        match &mut self.rows {
            Some(rows) => rows.push(&key(side, dir), &[]),
            None => Ok(()),
        }
    }

    /// All of them, inner ones first, each once.
    fn take(&mut self) -> Result<impl Iterator<Item = Result<(Side, RelPath)>> + Send + use<>> {
        let rows = self.rows.take().map(Sort::finish).transpose()?;
        let mut before = Vec::new();
        Ok(rows.into_iter().flatten().filter_map(move |row| {
            let key = match row {
                Ok((key, _)) => key,
                Err(fault) => return Some(Err(fault)),
            };
            if key == before {
                return None;
            }
            let found = dir_of(&key);
            before = key;
            found.map(Ok)
        }))
    }
}

impl Execution<'_> {
    /// Directories in which something was done get back the time that both sides agreed on.
    pub(super) async fn restore_times(&mut self) -> Result<()> {
        if !self.options.classes.times || self.detached {
            return Ok(());
        }
        let mut touched = self.touched.take()?.peekable();
        let mut rows: Vec<(Slot, Option<Row>)> = Vec::new();
        while let Some((side, path)) = touched.next().transpose()? {
            let mut sides = vec![side];
            while let Some(both) = touched.next_if(|next| next.as_ref().is_ok_and(|(_, next)| *next == path))
            {
                sides.push(both?.0);
            }
            let slot = Slot::of(&path, true);
            let Some(mut row) = self.base.row(&slot)? else {
                continue;
            };
            for side in sides {
                if let Some(known) = row[side].take() {
                    row[side] = Some(self.restored(side, path.clone(), known).await);
                }
            }
            rows.push((slot, Some(row)));
            if rows.len() >= BATCH_STEPS {
                self.flush().await?;
                self.base.write(std::mem::take(&mut rows))?;
            }
        }
        self.flush().await?;
        self.base.write(rows)
    }

    /// Sets a directory's time to what is agreed on. What it says is only taken over where nothing but our own doing
    /// can have moved it; else the row stays as it was, and the next run looks again.
    async fn restored(&self, side: Side, path: RelPath, known: Observation) -> Observation {
        let Ok(Some(now)) = self.hands.sides[side].find(&path, &self.scope()).await else {
            return known;
        };
        let mut timed = now.clone();
        set_time(Some(&mut timed), mtime(Some(&known.entry)));
        if timed.entry != known.entry {
            return known;
        }
        if timed.entry == now.entry {
            return self.trust.judge_own(side, now);
        }
        let step = plain(side, Action::Times, path, Some(now), Some(timed.entry));
        let came = apply(&self.hands, &step, None).await;
        match came.ok().and_then(|came| came.applied.now) {
            Some(set) if set.entry == known.entry => self.trust.judge_own(side, set),
            _ => known,
        }
    }
}

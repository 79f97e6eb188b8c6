//! What moves within a run: the base follows each move at once, and what could not move holds up only what lies below it.
//!
//! Invariant: the base has every thing under the name that the side which follows has it under, at any moment between two batches.

use std::borrow::BorrowMut;

use syncline_model::{Action, Entry, From, RelPath, Result, Row, Sameness, Slot, Step, Was};

use super::finish::Finished;
use super::{Execution, Job};
use crate::journal::Ahead;
use crate::plan::{Item, Phase, Plan};
use crate::rows::Base;

/// What got another name in the base since it was read, in order.
#[derive(Debug, Default)]
pub(crate) struct Renamed(Vec<(RelPath, RelPath)>);

impl Renamed {
    /// Renames in the base.
    pub fn rename(&mut self, base: &Base, from: &Slot, to: &Slot) -> Result<()> {
        base.rename(from, to)?;
        self.0.push((from.path(), to.path()));
        Ok(())
    }

    /// Renames the directory of an item of [`Phase::Behind`]: both sides have it under the new name.
    pub fn follow(&mut self, base: &Base, item: Item) -> Result<()> {
        let Some((_, Some(was))) = item.sole else {
            return Ok(());
        };
        self.rename(base, &self.now(was.slot), &item.slot)
    }

    /// The name in the base of what it knew as `was` when it was read.
    pub fn now(&self, was: Slot) -> Slot {
        if self.0.is_empty() {
            return was;
        }
        let mut path = was.path();
        for (from, to) in &self.0 {
            if let Some(now) = path.rebase(from, to) {
                path = now;
            }
        }
        Slot::of(&path, was.is_dir())
    }

    /// The name in the base that `was` leaves to have the name `slot`; `None` when none is left.
    pub fn left(&self, was: Was, slot: &Slot) -> Option<Slot> {
        was.vacated().map(|was| self.now(was)).filter(|now| now != slot)
    }
}

impl Execution<'_> {
    /// Directories that both sides have under a new name already are renamed in the base before anything else happens.
    pub(super) async fn behind(&mut self, plan: &mut Plan) -> Result<()> {
        let mut flushed = false;
        while let Some((_, item)) = plan.next_of(Phase::Behind)? {
            if self.detached {
                continue;
            }
            if !flushed {
                self.flush().await?;
                flushed = true;
            }
            self.renamed.follow(self.base, item)?;
        }
        Ok(())
    }

    /// Says in the log what is about to be done.
    pub(super) fn announce<J: BorrowMut<Job>>(&mut self, jobs: &mut [J]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let told = !self.detached;
        let ahead = |job: &Job| -> Result<(Ahead, bool)> {
            let Step {
                side, action, change, ..
            } = &job.step;
            let mut change = change.clone();
            if let Some(staged) = &job.staged {
                change.new = Some(staged.entry.clone());
            }
            let ahead = Ahead {
                side: *side,
                action: *action,
                change,
                told,
            };
            Ok((ahead, self.displaces_agreed(job)?))
        };
        let announced = jobs
            .iter()
            .map(|job| ahead(job.borrow()))
            .collect::<Result<Vec<_>>>()?;
        let first = self.journal.announce(announced)?;
        for (number, job) in (first..).zip(jobs) {
            job.borrow_mut().number = number;
        }
        Ok(())
    }

    /// True when what a step displaces is what both sides had agreed on.
    fn displaces_agreed(&self, job: &Job) -> Result<bool> {
        let Step {
            side, action, change, ..
        } = &job.step;
        if self.detached || !matches!(action, Action::Create | Action::Update | Action::Remove) {
            return Ok(true);
        }
        if self.union {
            return Ok(false);
        }
        // What is displaced may be of another kind.
        let displaced = change
            .old
            .as_ref()
            .map(|old| Slot::of(&change.path, old.entry.is_dir()));
        let row = self.base.row(displaced.as_ref().unwrap_or(&job.item.slot))?;
        let known = row.as_ref().and_then(|row| row[*side].as_ref());
        Ok(match (known, &change.old) {
            (None, None) => true,
            (Some(known), Some(old)) => known.entry.same_content(&old.entry) == Sameness::Same,
            _ => false,
        })
    }

    /// Gives what was moved its new name in the base.
    pub(super) fn rename(&mut self, done: &[Finished]) -> Result<()> {
        if self.detached || syncline_model::zoo::on("base-named-late") {
            return Ok(());
        }
        for Finished { job, .. } in done {
            if job.step.action != Action::Move {
                continue;
            }
            let to = &job.step.change.path;
            let is_dir = job.step.change.new.as_ref().is_some_and(Entry::is_dir);
            match &job.step.change.from {
                // The row of a file that only moves is written under its new name in one go.
                Some(From::Move(from)) if is_dir || self.is_based(&job.item.slot, from) => {
                    self.rename_row(from, to, is_dir)?;
                }
                Some(From::Exchange(with)) if is_dir && with != to => {
                    let aside = syncline_model::moves::aside();
                    self.rename_row(to, &aside, true)?;
                    self.rename_row(with, to, true)?;
                    self.rename_row(&aside, with, true)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn rename_row(&mut self, from: &RelPath, to: &RelPath, is_dir: bool) -> Result<()> {
        self.renamed
            .rename(self.base, &Slot::of(from, is_dir), &Slot::of(to, is_dir))
    }

    /// True when more is to be done to a file than to move it, and the base has it where it was moved from.
    fn is_based(&self, slot: &Slot, from: &RelPath) -> bool {
        let was = self.parts.get(slot).and_then(|part| part.was.as_ref());
        was.is_some_and(|was| self.renamed.now(was.slot.clone()).path() == *from)
    }

    /// A file was moved, and more is to be done to it: until then its new name has the row of its old one. Where two were exchanged, all
    /// rows are written at once.
    pub(super) fn moved_row(&self, slot: &Slot) -> Option<Vec<(Slot, Option<Row>)>> {
        let was = self.parts.get(slot)?.was.clone()?;
        let now = self.renamed.now(was.slot.clone());
        if now.is_dir() || now == *slot {
            return None;
        }
        let row = self.base.row(&now).ok()??;
        let gone = (!was.reused).then_some((now, None));
        Some(gone.into_iter().chain([(slot.clone(), Some(row))]).collect())
    }
}

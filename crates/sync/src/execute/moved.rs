//! What moves within a run: the base follows each move at once, and what could not move holds up only what lies below it.
//!
//! Invariant: the base has every thing under the name that the side which follows has it under, at any moment between two batches.

use std::borrow::BorrowMut;

use syncline_model::{Action, Entry, From, RelPath, Result, Slot, Step};

use super::{Execution, Finished, Job};
use crate::journal::Ahead;
use crate::plan::{Phase, Plan};

impl Execution<'_> {
    /// Directories that both sides have under a new name already are renamed in the base before anything else happens.
    pub(super) async fn behind(&mut self, plan: &mut Plan) -> Result<()> {
        let mut flushed = false;
        while let Some((_, item)) = plan.next_of(Phase::Behind)? {
            let Some((_, Some(was))) = item.sole else { continue };
            if self.detached {
                continue;
            }
            if !flushed {
                self.flush().await?;
                flushed = true;
            }
            let was = self.name_now(was);
            self.base.rename(&was, &item.slot)?;
            self.renamed.push((was.path(), item.slot.path()));
        }
        Ok(())
    }

    /// Says in the log what is about to be done.
    pub(super) fn announce<J: BorrowMut<Job>>(&mut self, jobs: &mut [J]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let told = !self.detached;
        let ahead = |job: &Job| {
            let Step {
                side, action, change, ..
            } = &job.step;
            let mut change = change.clone();
            if let Some(staged) = &job.staged {
                change.new = Some(staged.entry.clone());
            }
            Ahead {
                side: *side,
                action: *action,
                change,
                told,
            }
        };
        let first = self
            .journal
            .announce(jobs.iter().map(|job| ahead(job.borrow())))?;
        for (number, job) in (first..).zip(jobs) {
            job.borrow_mut().number = number;
        }
        Ok(())
    }

    /// Gives what was moved its new name in the base.
    pub(super) fn rename(&mut self, done: &[Finished]) -> Result<()> {
        if self.detached || syncline_model::zoo::on("base-named-late") {
            return Ok(());
        }
        for Finished { job, .. } in done {
            let (Action::Move, Some(From::Move(from))) = (job.step.action, &job.step.change.from) else {
                continue;
            };
            let to = &job.step.change.path;
            let is_dir = job.step.change.new.as_ref().is_some_and(Entry::is_dir);
            // The row of a file that only moves is written under its new name in one go.
            if is_dir || job.item.sole.is_none() {
                self.base.rename(&Slot::of(from, is_dir), &Slot::of(to, is_dir))?;
                self.renamed.push((from.clone(), to.clone()));
            }
        }
        Ok(())
    }

    /// The name in the base of what it knew as `was` when the run began.
    pub(super) fn name_now(&self, was: Slot) -> Slot {
        if self.renamed.is_empty() {
            return was;
        }
        let mut path = was.path();
        for (from, to) in &self.renamed {
            if let Some(now) = path.rebase(from, to) {
                path = now;
            }
        }
        Slot::of(&path, was.is_dir())
    }

    /// A step is not done; if a directory was to move, nothing can be done under its new name.
    pub(super) fn leave(&mut self, step: &Step) {
        if step.action == Action::Move && step.change.new.as_ref().is_some_and(Entry::is_dir) {
            self.unmoved.push(step.change.path.clone());
        }
    }

    /// True below a directory that did not move to where it was to be.
    pub(super) fn below_unmoved(&self, slot: &Slot) -> bool {
        let path: Option<RelPath> = (!self.unmoved.is_empty()).then(|| slot.path());
        path.is_some_and(|path| self.unmoved.iter().any(|to| path.is_within(to)))
    }
}

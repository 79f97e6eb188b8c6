//! What was done becomes durable, then known: the log first, then the base.
//!
//! Invariant: a row reaches the base only when every step of its slot was done and is durable.

use super::hands::Came;
use super::{Execution, Job, mtime, set_time};
use crate::api::Event;
use crate::journal::Stands;
use crate::merging;
use crate::plan::size;
use crate::trust::distrust;
use syncline_model::{
    Action, Entry, Fault, From, Kind, Observation, Result, Row, Side, Slot, Step, Tag, Time, Was,
};

/// A step that was done.
pub(super) struct Finished {
    pub job: Job,
    pub came: Came,
    /// One of a circle that broke: it was done, but what the base says is left as it was.
    pub half: bool,
}

impl Execution<'_> {
    /// What was applied becomes durable, then known.
    pub(super) async fn commit(&mut self, done: Vec<Finished>) -> Result<()> {
        if done.is_empty() {
            return Ok(());
        }
        let late = syncline_model::zoo::on("base-before-flush");
        if !late {
            self.flush().await?;
        }
        for finished in &done {
            let Finished {
                job: Job { step, number, .. },
                came: Came { applied, found, .. },
                ..
            } = finished;
            if *found {
                continue;
            }
            if applied.trashed.is_some() {
                self.trashed[step.side] += step.change.old.as_ref().map_or(0, |old| old.entry.size());
            }
            self.journal.stands(Stands {
                number: *number,
                now: applied.now.clone(),
                trashed: applied.trashed.clone(),
            })?;
        }
        self.journal.settle()?;
        self.rename(&done)?;
        let mut rows = Vec::with_capacity(done.len());
        for finished in done {
            if !finished.came.found {
                self.count(&finished.job.step)?;
            }
            if !self.detached && !finished.half {
                rows.extend(self.row_of(finished)?);
            }
        }
        self.remember(rows).await?;
        if late { self.flush().await } else { Ok(()) }
    }

    /// Writes rows of what both sides agreed on.
    pub(super) async fn remember(&self, rows: Vec<(Slot, Option<Row>)>) -> Result<()> {
        if self.options.merger.is_some() {
            merging::keep_agreed(&self.hands.sides, self.base, &rows).await?;
        }
        self.base.write(rows)
    }

    fn count(&mut self, step: &Step) -> Result<()> {
        let bytes = if step.source.is_some() && step.change.from.is_none() {
            size(step)
        } else {
            0
        };
        self.counts[step.side].add(step.action, bytes);
        self.monitor.event(Event::Step(step));
        if let Some(parent) = step.change.path.parent() {
            self.touched.note(step.side, &parent)?;
        }
        if let Some(From::Move(from) | From::Exchange(from)) = &step.change.from
            && let Some(parent) = from.parent()
        {
            self.touched.note(step.side, &parent)?;
        }
        if step.change.new.as_ref().is_some_and(Entry::is_dir) && step.action != Action::Move {
            self.touched.note(step.side, &step.change.path)?;
        }
        Ok(())
    }

    /// The base rows that a finished step brings about.
    fn row_of(&mut self, finished: Finished) -> Result<Vec<(Slot, Option<Row>)>> {
        let sure = self.sure(&finished);
        if self.is_another(&finished) {
            let step = &finished.job.step;
            self.failed.put(finished.job.item.slot.as_bytes(), &())?;
            self.staying.insert((step.side, step.change.path.clone()));
            let what = "it was changed since it was looked at: it was moved, and stays as it is";
            self.problem(
                step.side,
                step,
                &Fault::new(Kind::Changed, what, &step.change.path),
            );
        }
        let Finished { job, came, .. } = finished;
        let Came { applied, staged, .. } = came;
        let (slot, side) = (job.item.slot, job.step.side);
        let moved = (job.step.action == Action::Move)
            .then(|| self.moved_row(&slot))
            .flatten();
        let now = applied.now.map(|mut now| {
            let known = staged.as_ref().or(job.step.change.new.as_ref());
            if let (Some(content), Some(known)) = (now.entry.content_mut(), known.and_then(Entry::content)) {
                content.learn(known);
            }
            if now.entry.is_dir() {
                let wanted = mtime(job.step.change.new.as_ref());
                set_time(Some(&mut now), wanted);
            }
            let now = self.trust.judge_own(side, now);
            if sure { now } else { distrust(now) }
        });
        let proves = |tag: &Tag| tag.stamp().is_none_or(|stamp| stamp.ctime != Time::NEVER);
        self.made = now.as_ref().map(|now| now.tag.clone()).filter(proves);
        let settled = match job.item.sole {
            Some((row, was)) => Some((fill(row, side, now), was)),
            None => self.part_done(&slot, side, now)?,
        };
        let Some((mut row, was)) = settled else {
            return Ok(moved.into_iter().flatten().collect());
        };
        for side in Side::BOTH {
            learn_from_other(&mut row, side);
            let seen = row.as_mut().and_then(|row| row[side].as_mut());
            if let Some(seen) = seen.filter(|_| job.step.side != side) {
                *seen = self.trust.judge(side, seen.clone());
            }
        }
        let mut rows = Vec::new();
        self.settled(&mut rows, slot, row, was);
        Ok(rows)
    }

    /// False when a step kept bytes of which nothing proves any more that they are still those that were looked at.
    fn sure(&self, finished: &Finished) -> bool {
        let Job { step, known, .. } = &finished.job;
        if !step.change.new.as_ref().is_some_and(Entry::is_file) {
            return true;
        }
        let proof = |seen: &Observation| self.trust.proof(step.side, seen);
        match (&step.change.from, step.action) {
            (Some(From::Link(_)), _) => known.is_some() && finished.came.applied.was == *known,
            (Some(From::Move(_) | From::Exchange(_)), _) => {
                let seen = step.source.as_ref().and_then(|source| proof(&source.seen));
                seen.is_some() && finished.came.applied.was == seen
            }
            (_, Action::Metadata) => step.change.old.as_ref().and_then(proof).is_some(),
            _ => true,
        }
    }

    /// True when more is to be done to what was moved, and it is no longer what that was decided on. A move takes along whatever it finds, and
    /// afterwards its own time of status change hides the edit.
    fn is_another(&self, finished: &Finished) -> bool {
        let Job { step, item, .. } = &finished.job;
        let part = self.parts.get(&item.slot);
        let more =
            part.is_some_and(|part| part.steps.iter().filter(|other| other.side == step.side).count() > 1);
        let ctime = |tag: &Tag| {
            tag.stamp()
                .map(|stamp| stamp.ctime)
                .filter(|ctime| *ctime != Time::NEVER)
        };
        let seen = step.source.as_ref().and_then(|source| ctime(&source.seen.tag));
        let was = finished.came.applied.was.as_ref().and_then(ctime);
        // What is put into a directory changes its time too.
        let file = step.change.new.as_ref().is_some_and(|new| !new.is_dir());
        let moved = file && matches!(step.change.from, Some(From::Move(_) | From::Exchange(_)));
        more && moved && seen.zip(was).is_some_and(|(seen, was)| seen != was)
    }

    /// One of several steps of a slot is done; the row when it was the last.
    pub(super) fn part_done(
        &mut self,
        slot: &Slot,
        side: Side,
        now: Option<Observation>,
    ) -> Result<Option<(Option<Row>, Option<Was>)>> {
        let Some(part) = self.parts.get_mut(slot) else {
            return Ok(None);
        };
        part.row = fill(part.row.take(), side, now);
        let Some(at) = part.steps.iter().position(|step| step.side == side) else {
            return Ok(None);
        };
        part.steps.remove(at);
        if !part.steps.is_empty() || self.failed.has(slot.as_bytes())? {
            return Ok(None);
        }
        Ok(self.parts.remove(slot).map(|part| (part.row, part.was)))
    }

    /// What the base is to say of a slot, which may have been known under another name.
    pub(super) fn settled(
        &self,
        rows: &mut Vec<(Slot, Option<Row>)>,
        slot: Slot,
        row: Option<Row>,
        was: Option<Was>,
    ) {
        let was = was.and_then(|was| self.renamed.left(was, &slot));
        rows.extend(was.map(|was| (was, None)));
        rows.push((slot, row));
    }
}

fn fill(row: Option<Row>, side: Side, now: Option<Observation>) -> Option<Row> {
    let mut row = row?;
    if let Some(now) = now {
        row[side] = Some(now);
    }
    Some(row)
}

/// Both sides of a row hold the same bytes: what one knows of them the other knows.
fn learn_from_other(row: &mut Option<Row>, side: Side) {
    let Some(row) = row else { return };
    let other = row[side.other()]
        .as_ref()
        .and_then(|seen| seen.entry.content())
        .cloned();
    let own = row[side].as_mut().and_then(|seen| seen.entry.content_mut());
    if let (Some(own), Some(other)) = (own, other)
        && own.size == other.size
    {
        own.learn(&other);
    }
}

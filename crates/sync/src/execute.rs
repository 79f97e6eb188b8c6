//! Carrying a plan out: phase by phase, batch by batch.
//!
//! A batch is: stage everything in parallel · flush · announce it in the log · apply everything in parallel · flush · log what was done · write base
//! rows. So a base row never says more than what survives a power cut, and what a kill leaves undone is planned again by the next run. What was moved on
//! disk is renamed in the base at once, with all below it: later steps and a later run find both under one name.
//!
//! Invariant: a row reaches the base only when every step of its slot was done; what failed leaves the base as it was.

mod copying;
mod finish;
mod gate;
mod hands;
mod links;
mod moved;
mod outcome;
mod room;
mod times;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use syncline_model::replica::Scope;
use syncline_model::{
    Action, Classes, Entry, From, Observation, Pair, RelPath, Result, Settle, Side, Slot, Step, Tag, Time,
};
use syncline_replica::Staged;

use crate::api::{Counts, Env, Event, Monitor, Options, Stop};
use crate::journal::Journal;
use crate::plan::{Item, Phase, Plan, size};
use crate::rows::Base;
use crate::shelf::Sort;
use crate::spill::{Spill, Spilt};
use crate::trust::Trust;
use room::Unmade;
use times::Touched;

pub use gate::Gate;
pub use hands::Hands;
pub(crate) use moved::Renamed;
pub use room::{Room, Waiting, not_writable};

use hands::{apply, stage};

/// Most steps in one batch, and most bytes.
const BATCH_STEPS: usize = 8192;
const BATCH_BYTES: u64 = 1 << 30;

/// One run's execution.
pub struct Execution<'a> {
    pub(crate) env: &'a Env,
    pub(crate) options: &'a Options,
    pub(crate) monitor: &'a dyn Monitor,
    pub(crate) stop: &'a Stop,
    pub(crate) hands: Arc<Hands>,
    pub(crate) base: &'a Base,
    pub(crate) journal: Journal,
    pub(crate) trust: Trust,
    /// What waits, for a person or for what waits itself.
    pub(crate) gate: Gate,
    /// Bytes that went to each side's trash.
    pub(crate) trashed: Pair<u64>,
    pub(crate) counts: Pair<Counts>,
    pub(crate) problems: u64,
    pub(crate) stopped: bool,
    /// Nothing new is begun after this, by the run's clock.
    pub(crate) deadline: Option<std::time::Duration>,
    /// Changes without a base: an undo or a restore, whose result the next sync is to see as an edit.
    pub(crate) detached: bool,
    /// Nothing had been agreed on before.
    union: bool,
    parts: HashMap<Slot, Settle>,
    /// Slots of which not all was done.
    failed: Spill<()>,
    touched: Touched,
    /// Names in the base that became others in this run, in order.
    renamed: Renamed,
    /// Directories that could not be made for want of room.
    unmade: Unmade,
    /// What of attributes both sides hold: what the base says was seen through these.
    classes: Classes,
    /// What waits for room on each side.
    waiting: Pair<Option<Waiting>>,
    /// The first device that may not be made on each side, and how many there are.
    devices: Pair<Option<(RelPath, u64)>>,
    /// The tag of what was made last, when it proves something.
    made: Option<Tag>,
    /// What must stay where it is: it was to be copied on its own side and was not, or moved and is no longer what was looked at.
    staying: HashSet<(Side, RelPath)>,
}

/// A step with what it needs to be done.
struct Job {
    item: Item,
    step: Step,
    staged: Option<Staged>,
    /// The tag by which the file that gets one more name is known.
    known: Option<Tag>,
    /// Its number in the log, once it is announced.
    number: u32,
    /// The side where it failed, when that is not the one that it changes.
    failed_on: Option<Side>,
}

impl Job {
    fn new(item: Item, step: Step) -> Self {
        Self {
            item,
            step,
            staged: None,
            known: None,
            number: 0,
            failed_on: None,
        }
    }
}

/// What a person asked for, how he is told, and how he may stop it.
pub struct Asked<'a> {
    /// Clock, dice and threads.
    pub env: &'a Env,
    /// What is wanted.
    pub options: &'a Options,
    /// Who is told.
    pub monitor: &'a dyn Monitor,
    /// The wish to end early.
    pub stop: &'a Stop,
}

impl<'a> Execution<'a> {
    /// Prepares to carry out a plan.
    pub fn new(
        asked: Asked<'a>,
        hands: Arc<Hands>,
        base: &'a Base,
        journal: Journal,
        trust: Trust,
        touched: Box<dyn Sort>,
    ) -> Self {
        let Asked {
            env,
            options,
            monitor,
            stop,
        } = asked;
        Self {
            env,
            classes: crate::planning::classes(options, &hands.sides),
            options,
            monitor,
            stop,
            hands,
            base,
            journal,
            trust,
            gate: Gate::open(options.writes),
            trashed: Pair::default(),
            counts: Pair::default(),
            problems: 0,
            stopped: false,
            deadline: None,
            detached: false,
            union: base.rows().next().is_none(),
            parts: HashMap::new(),
            failed: Spill::new(base, Spilt::Failed),
            touched: Touched::new(touched),
            renamed: Renamed::default(),
            unmade: Unmade::new(),
            waiting: Pair::default(),
            devices: Pair::default(),
            made: None,
            staying: HashSet::new(),
        }
    }

    /// Does all of it, as far as it goes.
    pub async fn run(&mut self, mut plan: Plan) -> Result<()> {
        self.parts = std::mem::take(&mut plan.parts);
        self.gate.unmoved(&mut plan.broken);
        self.behind(&mut plan).await?;
        for phase in [
            Phase::Aside,
            Phase::MoveDir,
            Phase::Move,
            Phase::Chain,
            Phase::Make,
            Phase::MoveLate,
        ] {
            while let Some(batch) = self.batch(&mut plan, phase)? {
                self.in_order(batch).await?;
            }
        }
        self.monitor.event(Event::Phase("copying"));
        for phase in [Phase::OwnCopy, Phase::Copy] {
            self.overlapped(&mut plan, phase).await?;
        }
        self.links(&mut plan).await?;
        while let Some(batch) = self.batch(&mut plan, Phase::Metadata)? {
            self.at_once(batch).await?;
        }
        self.monitor.event(Event::Phase("removing"));
        while let Some(batch) = self.batch(&mut plan, Phase::Remove)? {
            self.remove(batch).await?;
        }
        while let Some(batch) = self.batch(&mut plan, Phase::Attributes)? {
            self.at_once(batch).await?;
        }
        self.monitor.event(Event::Phase("committing"));
        while let Some(batch) = self.batch(&mut plan, Phase::Times)? {
            self.times(batch).await?;
        }
        self.agreed(&mut plan).await?;
        self.restore_times().await
    }

    /// Does steps one after another, in the order given.
    pub async fn sequence(&mut self, steps: Vec<Step>) -> Result<()> {
        let mut jobs = Vec::with_capacity(steps.len());
        for step in steps {
            let is_dir = step.change.new.as_ref().map(Entry::is_dir);
            let slot = Slot::of(&step.change.path, is_dir.unwrap_or(false));
            let item = Item {
                slot,
                step: None,
                member: None,
                sole: None,
            };
            jobs.push(Job::new(item, step));
        }
        self.in_order(jobs).await
    }

    /// True when nothing was left undone so far, whatever the reason.
    pub(crate) fn all_done(&self) -> bool {
        let waits = self.waiting.left.is_some() || self.waiting.right.is_some();
        self.problems == 0 && !self.stopped && !waits
    }

    /// True when nothing new may be begun.
    fn over(&self) -> bool {
        self.stop.soft()
            || self
                .deadline
                .is_some_and(|deadline| self.env.clock.elapsed() >= deadline)
    }

    /// The next steps of a phase that may be done.
    fn batch(&mut self, plan: &mut Plan, phase: Phase) -> Result<Option<Vec<Job>>> {
        let (mut jobs, mut bytes) = (Vec::<Job>::new(), 0);
        loop {
            let full = jobs.len() >= BATCH_STEPS || bytes >= BATCH_BYTES;
            // A circle is gone round at once: half of it is no state to remember.
            let within = jobs
                .last()
                .is_some_and(|job| circle(&job.step).is_some_and(|(_, last)| !last));
            if full && !within {
                break;
            }
            let Some((_, item)) = plan.next_of(phase)? else {
                break;
            };
            let Some(step) = item.step.clone() else { continue };
            self.stopped |= !within && self.over();
            if self.stopped
                || self.waits_for_room(&step)
                || self.gate.waits(phase, &item.slot, &step)
                || self.ousts(&step)
            {
                if phase < Phase::OwnCopy {
                    self.gate.leave(&step);
                }
                self.failed.put(item.slot.as_bytes(), &())?;
                continue;
            }
            bytes += size(&step);
            jobs.push(Job::new(item, step));
        }
        Ok((!jobs.is_empty()).then_some(jobs))
    }

    /// One after another: each may need the one before.
    async fn in_order(&mut self, mut jobs: Vec<Job>) -> Result<()> {
        let mut done = Vec::with_capacity(jobs.len());
        jobs.iter_mut().for_each(|job| self.refresh(job));
        self.announce(&mut jobs)?;
        // Half of a circle is no state to end with.
        let mut within = false;
        for job in jobs {
            // A local tree never waits: without this no time limit would be looked at in between.
            tokio::task::yield_now().await;
            self.stopped |= !within && self.over();
            within = circle(&job.step).is_some_and(|(_, last)| !last);
            if self.stopped
                || self.waits_for_room(&job.step)
                || self.gate.below_unmoved(&job.item.slot)
                || self.gate.below_unmade(&job.step)
                || self.gate.is_blocked(&job.step)
            {
                self.gate.leave(&job.step);
                self.failed.put(job.item.slot.as_bytes(), &())?;
                continue;
            }
            let applied = apply(&self.hands, &job.step, None).await;
            if applied.is_err() {
                self.gate.leave(&job.step);
            }
            done.extend(self.outcome(job, applied)?);
        }
        for finished in &mut done {
            let step = &finished.job.step;
            finished.half = circle(step).is_some() && self.gate.is_blocked(step);
        }
        self.commit(done).await
    }

    /// Leaves at once, then directories and files in their place, innermost first.
    async fn remove(&mut self, jobs: Vec<Job>) -> Result<()> {
        let is_dir = |job: &Job| job.step.change.old.as_ref().is_some_and(|old| old.entry.is_dir());
        let (directories, leaves): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_dir);
        self.at_once(leaves).await?;
        let mut directories = directories;
        directories.iter_mut().for_each(|job| self.refresh(job));
        self.announce(&mut directories)?;
        let mut done = Vec::with_capacity(directories.len());
        for mut job in directories {
            self.stopped |= self.over();
            if self.stopped {
                self.failed.put(job.item.slot.as_bytes(), &())?;
                continue;
            }
            let applied = match stage(&self.hands, &mut job).await {
                Ok(()) => {
                    let staged = job.staged.take();
                    if staged.is_some() {
                        self.flush().await?;
                    }
                    apply(&self.hands, &job.step, staged).await
                }
                Err(fault) => Err(fault),
            };
            done.extend(self.outcome(job, applied)?);
        }
        self.commit(done).await
    }

    /// Times of directories are only noted; they are set when nothing more happens below.
    async fn times(&mut self, jobs: Vec<Job>) -> Result<()> {
        let mut rows = Vec::new();
        for job in jobs {
            self.touched.note(job.step.side, &job.item.slot.path())?;
            let row = match job.item.sole {
                Some((row, was)) => Some((row, was)),
                None => self.part_done(&job.item.slot, job.step.side, None)?,
            };
            if let Some((mut row, was)) = row {
                let seen = row.as_mut().and_then(|row| row[job.step.side].as_mut());
                set_time(seen, mtime(job.step.change.new.as_ref()));
                self.settled(&mut rows, job.item.slot, row, was);
            }
        }
        self.base.write(rows)
    }

    /// Rows that need no step.
    async fn agreed(&mut self, plan: &mut Plan) -> Result<()> {
        let mut rows = Vec::new();
        while let Some((_, item)) = plan.next_of(Phase::Agreed)? {
            let Some((row, was)) = item.sole else { continue };
            if self.detached
                || self.gate.below_unmoved(&item.slot)
                || self.failed.has(item.slot.as_bytes())?
            {
                continue;
            }
            let row =
                row.map(|row| Pair::each(|side| row[side].clone().map(|seen| self.trust.judge(side, seen))));
            self.settled(&mut rows, item.slot, row, was);
            if rows.len() >= BATCH_STEPS {
                self.remember(std::mem::take(&mut rows)).await?;
            }
        }
        self.remember(rows).await
    }

    /// What earlier steps of this run left at a slot is what later ones must expect there; what was moved there is
    /// copied from there too.
    fn refresh(&self, job: &mut Job) {
        // What goes to make room for something that comes to its slot is not a part of that.
        if self.parts.is_empty() || job.item.sole.is_some() {
            return;
        }
        let made = |slot: &Slot, side: Side| {
            let row = self.parts.get(slot)?.row.as_ref()?;
            let seen = row[side].clone();
            seen.filter(|seen| seen.tag != syncline_model::Tag::None)
        };
        if let (Some(old), Some(seen)) = (&mut job.step.change.old, made(&job.item.slot, job.step.side)) {
            *old = seen;
        }
        if job.step.action == Action::Move {
            return;
        }
        if let Some(source) = &mut job.step.source
            && let Some(seen) = made(&Slot::of(&source.path, false), source.side)
        {
            source.seen = seen;
        }
    }

    async fn flush(&self) -> Result<()> {
        for side in Side::BOTH {
            if let Some(edit) = &self.hands.edits[side] {
                edit.flush().await?;
            }
        }
        Ok(())
    }

    fn scope(&self) -> Scope {
        Scope {
            only: Vec::new(),
            filter: self.options.filter.clone(),
            classes: self.classes,
            links: self.options.links,
        }
    }
}

/// The name that a circle begins with, and whether a step is its last.
fn circle(step: &Step) -> Option<(&RelPath, bool)> {
    match &step.change.from {
        Some(From::Exchange(hub)) => Some((hub, *hub == step.change.path)),
        _ => None,
    }
}

fn mtime(entry: Option<&Entry>) -> Option<Time> {
    entry.and_then(Entry::meta).and_then(|meta| meta.mtime)
}

/// Gives what was seen another time of modification, if one is known.
fn set_time(seen: Option<&mut Observation>, time: Option<Time>) {
    if let Some(meta) = seen.and_then(|seen| seen.entry.meta_mut()) {
        meta.mtime = time.or(meta.mtime);
    }
}

/// A step without bytes.
pub(crate) fn plain(
    side: Side,
    action: Action,
    path: RelPath,
    old: Option<Observation>,
    new: Option<Entry>,
) -> Step {
    Step {
        side,
        action,
        change: syncline_model::Change {
            path,
            old,
            new,
            from: None,
        },
        source: None,
    }
}

//! Carrying a plan out: phase by phase, batch by batch.
//!
//! A batch is: stage everything in parallel · flush · announce it in the log · apply everything in parallel · flush · log what was done · write base
//! rows. So a base row never says more than what survives a power cut, and what a kill leaves undone is planned again by the next run. What was moved on
//! disk is renamed in the base at once, with all below it: later steps and a later run find both under one name.
//!
//! Invariant: a row reaches the base only when every step of its slot was done; what failed leaves the base as it was.

mod copying;
mod moved;
mod room;
mod times;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::replica::Scope;
use syncline_model::{
    Action, Classes, Entry, Fault, From, Kind, Observation, Pair, Problem, RelPath, Result, Row, Sameness,
    Settle, Side, Slot, Source, Step, Tag, Time, Trouble, Was,
};
use syncline_replica::{Applied, Body, Edit, Replica, Staged};

use crate::api::{Counts, Env, Event, Monitor, Options, Stop};
use crate::journal::{Journal, Stands};
use crate::merging;
use crate::plan::{Item, Phase, Plan, size};
use crate::rows::Base;
use crate::shelf::Sort;
use crate::spill::{Spill, Spilt};
use crate::trust::{Trust, distrust};
use room::{Unmade, Waiting};
use times::Touched;

pub use room::Room;

/// Most steps in one batch, and most bytes.
const BATCH_STEPS: usize = 8192;
const BATCH_BYTES: u64 = 1 << 30;

/// The two replicas while they are edited; shared with the workers.
pub struct Hands {
    /// The replicas.
    pub sides: Pair<Arc<dyn Replica>>,
    /// Their edits; `None` where a side may not be written.
    pub edits: Pair<Option<Arc<dyn Edit>>>,
    /// What merge commands made lies here.
    pub base: Base,
    /// What each side still takes.
    pub room: Pair<Room>,
    /// Bytes that have passed since somebody looked.
    pub copied: AtomicU64,
    /// Begin nothing new.
    pub halt: AtomicBool,
    /// Drop what is under way.
    pub abort: AtomicBool,
}

/// What waits for a person on one side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// Removals.
    pub removals: bool,
    /// Replaced content.
    pub overwrites: bool,
}

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
    /// What waits for a person on each side.
    pub(crate) held: Pair<Held>,
    /// Bytes that went to each side's trash.
    pub(crate) trashed: Pair<u64>,
    pub(crate) counts: Pair<Counts>,
    pub(crate) problems: u64,
    pub(crate) stopped: bool,
    /// Nothing new is begun after this, by the run's clock.
    pub(crate) deadline: Option<std::time::Duration>,
    /// Changes without a base: an undo or a restore, whose result the next sync is to see as an edit.
    pub(crate) detached: bool,
    parts: HashMap<Slot, Settle>,
    /// Slots of which not all was done.
    failed: Spill<()>,
    touched: Touched,
    /// Names in the base that became others in this run, in order.
    renamed: Vec<(RelPath, RelPath)>,
    /// New names of directories that did not move: nothing can be done below them.
    unmoved: Vec<RelPath>,
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
    /// Names that something was to leave and did not, and circles that broke: what was to come there stays where it is.
    blocked: HashSet<(Side, RelPath)>,
    /// What was to be copied on its own side and was not: nothing may take its place.
    uncopied: HashSet<(Side, RelPath)>,
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
}

impl Job {
    fn new(item: Item, step: Step) -> Self {
        Self {
            item,
            step,
            staged: None,
            known: None,
            number: 0,
        }
    }
}

/// The name of a group of hard links that others join.
struct Leader {
    side: Side,
    group: u64,
    path: RelPath,
    /// The tag by which the file is known, when its bytes are.
    known: Option<Tag>,
}

impl<'a> Execution<'a> {
    /// Prepares to carry out a plan.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        env: &'a Env,
        options: &'a Options,
        monitor: &'a dyn Monitor,
        stop: &'a Stop,
        hands: Arc<Hands>,
        base: &'a Base,
        journal: Journal,
        trust: Trust,
        touched: Box<dyn Sort>,
    ) -> Self {
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
            held: Pair::default(),
            trashed: Pair::default(),
            counts: Pair::default(),
            problems: 0,
            stopped: false,
            deadline: None,
            detached: false,
            parts: HashMap::new(),
            failed: Spill::new(base, Spilt::Failed),
            touched: Touched::new(touched),
            renamed: Vec::new(),
            unmoved: Vec::new(),
            unmade: Unmade::new(),
            waiting: Pair::default(),
            devices: Pair::default(),
            made: None,
            blocked: HashSet::new(),
            uncopied: HashSet::new(),
        }
    }

    /// Does all of it, as far as it goes.
    pub async fn run(&mut self, mut plan: Plan) -> Result<()> {
        self.parts = std::mem::take(&mut plan.parts);
        self.unmoved.append(&mut plan.broken);
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
            self.stopped |= self.over();
            if self.stopped {
                break;
            }
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

    /// True when something waits for a person.
    pub fn brakes(&self) -> bool {
        Side::BOTH
            .iter()
            .any(|&side| self.held[side].removals || self.held[side].overwrites)
    }

    /// True when nothing new may be begun.
    fn over(&self) -> bool {
        self.stop.soft()
            || self
                .deadline
                .is_some_and(|deadline| self.env.clock.elapsed() >= deadline)
    }

    /// Something that cannot be taken back.
    pub fn lost(&mut self, side: Side, path: &RelPath, why: &str) {
        self.problems += 1;
        let trouble = Trouble::new(Kind::NotFound, why).hint("bring it back from a backup if it is wanted");
        let problem = Problem::new(path.clone(), Some(side), trouble);
        self.monitor.event(Event::Problem(&problem));
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
                || self.waits(&step)
                || self.below_unmoved(&item.slot)
                || self.is_uncopied(&step)
            {
                if phase < Phase::OwnCopy {
                    self.leave(&step);
                }
                self.failed.put(item.slot.as_bytes(), &())?;
                continue;
            }
            bytes += size(&step);
            jobs.push(Job::new(item, step));
        }
        Ok((!jobs.is_empty()).then_some(jobs))
    }

    /// Steps that this run leaves alone: on a side that it may not write, or held by the brake.
    fn waits(&self, step: &Step) -> bool {
        let old_leaf = step.change.old.as_ref().is_some_and(|old| !old.entry.is_dir());
        let held = match step.action {
            Action::Remove => self.held[step.side].removals,
            Action::Update => old_leaf && self.held[step.side].overwrites,
            _ => false,
        };
        held || !self.options.writes[step.side]
    }

    /// One after another: each may need the one before.
    async fn in_order(&mut self, mut jobs: Vec<Job>) -> Result<()> {
        let mut done = Vec::with_capacity(jobs.len());
        jobs.iter_mut().for_each(|job| self.refresh(job));
        self.announce(&mut jobs)?;
        for job in jobs {
            if self.waits_for_room(&job.step)
                || self.below_unmoved(&job.item.slot)
                || self.is_blocked(&job.step)
            {
                self.leave(&job.step);
                self.failed.put(job.item.slot.as_bytes(), &())?;
                continue;
            }
            let applied = apply(&self.hands, &job.step, None).await;
            if applied.is_err() {
                self.leave(&job.step);
            }
            done.extend(self.outcome(job, applied)?);
        }
        for finished in &mut done {
            let step = &finished.job.step;
            finished.half = circle(step).is_some() && self.is_blocked(step);
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

    /// Files of several names: one name of each group is copied or stands already, the others join it.
    async fn links(&mut self, plan: &mut Plan) -> Result<()> {
        let mut leader: Option<Leader> = None;
        let mut group: Vec<(Side, Slot)> = Vec::new();
        while let Some((id, item)) = plan.next_of(Phase::Link)? {
            let path = item.slot.path();
            let side = item.step.as_ref().map(|step| step.side).or(item.member);
            let Some(side) = side else { continue };
            if leader
                .as_ref()
                .is_some_and(|leader| (leader.side, leader.group) != (side, id))
            {
                self.settle_group(&mut group, leader.take()).await?;
            }
            let Some(step) = item.step.clone() else {
                let seen = item
                    .sole
                    .and_then(|(row, _)| row.and_then(|row| row[side].clone()));
                leader.get_or_insert_with(|| Leader {
                    side,
                    group: id,
                    path,
                    known: seen.and_then(|seen| self.trust.proof(side, &seen)),
                });
                group.push((side, item.slot));
                continue;
            };
            let mut job = Job::new(item, step);
            self.stopped |= self.over();
            if self.stopped
                || self.waits_for_room(&job.step)
                || self.waits(&job.step)
                || self.below_unmoved(&job.item.slot)
                || self.is_uncopied(&job.step)
            {
                self.failed.put(job.item.slot.as_bytes(), &())?;
                continue;
            }
            if let Some(leader) = &leader {
                job.step.change.from = Some(From::Link(leader.path.clone()));
                job.known = leader.known.clone();
            }
            let slot = job.item.slot.clone();
            let before = self.counts[side].steps();
            self.at_once(vec![job]).await?;
            if self.counts[side].steps() > before {
                group.push((side, slot));
                let known = self.made.take();
                leader
                    .get_or_insert(Leader {
                        side,
                        group: id,
                        path,
                        known: None,
                    })
                    .known = known;
            }
        }
        self.settle_group(&mut group, leader).await
    }

    /// A new name changes the inode that all names of a group share: their rows are looked at again, and what is known of
    /// the bytes of one is known of all.
    async fn settle_group(&mut self, group: &mut Vec<(Side, Slot)>, leader: Option<Leader>) -> Result<()> {
        let members = std::mem::take(group);
        if members.len() < 2 || self.detached {
            return Ok(());
        }
        let mut rows = Vec::new();
        for (side, slot) in members {
            let Some(mut row) = self.base.row(&slot)? else {
                continue;
            };
            let found = self.hands.sides[side].find(&slot.path(), &self.scope()).await?;
            let (Some(known), Some(found)) = (&row[side], found) else {
                continue;
            };
            if known.entry.size() != found.entry.size()
                || mtime(Some(&known.entry)) != mtime(Some(&found.entry))
            {
                continue;
            }
            let known = relearn(known, found);
            let sure = leader
                .as_ref()
                .is_some_and(|leader| leader.known.as_ref() == Some(&known.tag));
            row[side] = Some(if sure {
                self.trust.judge_own(side, known)
            } else {
                distrust(known)
            });
            rows.push((slot, row));
        }
        let contents = rows.iter().flat_map(|(_, row)| [&row.left, &row.right]).flatten();
        let known = contents
            .filter_map(|seen| seen.entry.content())
            .find(|content| content.digest.is_some())
            .cloned();
        for (_, row) in &mut rows {
            for side in Side::BOTH {
                let content = row[side].as_mut().and_then(|seen| seen.entry.content_mut());
                if let (Some(content), Some(known)) = (content, &known)
                    && content.size == known.size
                {
                    content.learn(known);
                }
            }
        }
        self.base
            .write(rows.into_iter().map(|(slot, row)| (slot, Some(row))).collect())
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
            if self.detached || self.below_unmoved(&item.slot) || self.failed.has(item.slot.as_bytes())? {
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

    /// True for what would take the place of an original whose copy was not made.
    fn is_uncopied(&self, step: &Step) -> bool {
        let original = (step.side, step.change.path.clone());
        matches!(step.action, Action::Update | Action::Remove)
            && self.uncopied.contains(&original)
            && !syncline_model::zoo::on("conflict-copy-not-awaited")
    }

    /// Sorts out what came of a step. `Err`: the run cannot go on.
    fn outcome(&mut self, job: Job, applied: Result<(Applied, Option<Entry>)>) -> Result<Option<Finished>> {
        let original = job
            .step
            .source
            .as_ref()
            .filter(|source| source.side == job.step.side);
        if let (Some(original), Action::Create, Err(_)) = (original, job.step.action, &applied) {
            self.uncopied.insert((original.side, original.path.clone()));
        }
        match applied {
            Ok((applied, staged)) => Ok(Some(Finished {
                job,
                applied,
                staged,
                half: false,
            })),
            Err(fault) if matches!(fault.kind, Kind::Offline | Kind::Bug) => Err(fault),
            Err(fault) if fault.kind == Kind::Cancelled => {
                self.stopped = true;
                self.failed.put(job.item.slot.as_bytes(), &())?;
                Ok(None)
            }
            Err(fault) => {
                self.failed.put(job.item.slot.as_bytes(), &())?;
                if !self.met_no_room(&job.step, &fault) && !self.met_no_devices(&job.step, &fault) {
                    self.problem(&job.step, &fault);
                }
                Ok(None)
            }
        }
    }

    fn problem(&mut self, step: &Step, fault: &Fault) {
        self.problems += 1;
        let mut trouble = Trouble::from(fault);
        trouble.message = match fault.kind {
            // What the trash no longer holds has not changed under way.
            Kind::NotFound if matches!(step.change.from, Some(From::Trash(_))) => fault.to_string(),
            Kind::Changed | Kind::NotFound => format!("changed while the run was under way: {fault}"),
            _ => fault.to_string(),
        };
        let problem = Problem::new(step.change.path.clone(), Some(step.side), trouble);
        self.monitor.event(Event::Problem(&problem));
    }

    async fn flush(&self) -> Result<()> {
        for side in Side::BOTH {
            if let Some(edit) = &self.hands.edits[side] {
                edit.flush().await?;
            }
        }
        Ok(())
    }

    /// What was applied becomes durable, then known.
    async fn commit(&mut self, done: Vec<Finished>) -> Result<()> {
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
                applied,
                ..
            } = finished;
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
            self.count(&finished.job.step)?;
            if !self.detached && !finished.half {
                rows.extend(self.row_of(finished)?);
            }
        }
        self.remember(rows).await?;
        if late { self.flush().await } else { Ok(()) }
    }

    /// Writes rows of what both sides agreed on.
    async fn remember(&self, rows: Vec<(Slot, Option<Row>)>) -> Result<()> {
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
        let Finished {
            job, applied, staged, ..
        } = finished;
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
            (Some(From::Link(_)), _) => known.is_some() && finished.applied.was == *known,
            (Some(From::Move(_) | From::Exchange(_)), _) => {
                let seen = step.source.as_ref().and_then(|source| proof(&source.seen));
                seen.is_some() && finished.applied.was == seen
            }
            (_, Action::Metadata) => step.change.old.as_ref().and_then(proof).is_some(),
            _ => true,
        }
    }

    /// One of several steps of a slot is done; the row when it was the last.
    fn part_done(
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
    fn settled(&self, rows: &mut Vec<(Slot, Option<Row>)>, slot: Slot, row: Option<Row>, was: Option<Was>) {
        let was = was.and_then(|was| {
            let now = self.name_now(was.slot.clone());
            (now != slot && !was.reused).then_some(now)
        });
        rows.extend(was.map(|was| (was, None)));
        rows.push((slot, row));
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

/// A step that was done.
struct Finished {
    job: Job,
    applied: Applied,
    staged: Option<Entry>,
    /// One of a circle that broke: it was done, but what the base says is left as it was.
    half: bool,
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

/// What was found again, with the digests that were known of it.
fn relearn(known: &Observation, mut found: Observation) -> Observation {
    if let (Some(content), Some(known)) = (found.entry.content_mut(), known.entry.content())
        && content.size == known.size
    {
        content.learn(known);
    }
    found
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

fn tick(hands: &Hands, monitor: &dyn Monitor) {
    let bytes = hands.copied.swap(0, Ordering::Relaxed);
    if bytes > 0 {
        monitor.event(Event::Copied(bytes));
    }
}

/// Brings a step's bytes beside the tree, if it needs any and there is room.
async fn stage(hands: &Arc<Hands>, job: &mut Job) -> Result<()> {
    hands.no_room(&job.step)?;
    let staged = bring(hands, job).await;
    if let Err(fault) = &staged {
        hands.room[job.step.side].learn(&job.step, fault);
    }
    staged
}

async fn bring(hands: &Arc<Hands>, job: &mut Job) -> Result<()> {
    let step = &job.step;
    if let Some(body) = merging::made(&hands.base, step)?
        && let Some(new) = &step.change.new
    {
        job.staged = Some(
            edit_of(hands, step.side)?
                .stage(&step.change.path, new, body)
                .await?,
        );
        return Ok(());
    }
    if let (Some(source), Some(From::Link(_))) = (&step.source, &step.change.from) {
        // Its bytes are here already; that it still has them over there is its ground all the same.
        let _ = hands.sides[source.side]
            .read(&source.path, &source.seen, 0)
            .await?;
        return Ok(());
    }
    let (Some(new @ Entry::File(..)), Some(source), None) =
        (&step.change.new, &step.source, &step.change.from)
    else {
        return Ok(());
    };
    if hands.halt.load(Ordering::Relaxed) {
        return Err(Fault::new(
            Kind::Cancelled,
            "stopped before it was begun",
            &step.change.path,
        ));
    }
    let edit = edit_of(hands, step.side)?;
    let replica = &hands.sides[source.side];
    let new = &with_attributes(&**replica, source, new).await?;
    let inner = replica.read(&source.path, &source.seen, 0).await?;
    let body = Box::new(Counted {
        inner,
        hands: hands.clone(),
    });
    job.staged = Some(edit.stage(&step.change.path, new, body).await?);
    Ok(())
}

/// What a listing does not tell of a file: the time and mode that another tool put beside an object.
async fn with_attributes(replica: &dyn Replica, source: &Source, new: &Entry) -> Result<Entry> {
    let mut new = new.clone();
    let untold = new.meta().is_some_and(|meta| meta.mtime.is_none());
    if !untold || !replica.profile().classes.times || replica.profile().stable_ids {
        return Ok(new);
    }
    let found = replica.find(&source.path, &Scope::default()).await?;
    if let (Some(meta), Some(found)) = (new.meta_mut(), found.as_ref().and_then(|seen| seen.entry.meta())) {
        meta.mtime = found.mtime;
        meta.mode = meta.mode.or(found.mode);
        meta.owner = meta.owner.or(found.owner);
    }
    Ok(new)
}

/// Makes a step visible. What stands there already, exactly as wanted, counts as done: an earlier run was killed
/// before it could say so.
async fn apply(hands: &Hands, step: &Step, staged: Option<Staged>) -> Result<(Applied, Option<Entry>)> {
    let entry = staged.as_ref().map(|staged| staged.entry.clone());
    let side = &hands.sides[step.side];
    let fault = match edit_of(hands, step.side)?.apply(&step.change, staged).await {
        Ok(applied) => return Ok((applied, entry)),
        Err(fault) => fault,
    };
    if !matches!(fault.kind, Kind::Exists | Kind::Changed) || step.change.old.is_some() {
        return Err(fault);
    }
    let Some(now) = side.find(&step.change.path, &Scope::default()).await? else {
        return Err(fault);
    };
    let wanted = entry.as_ref().or(step.change.new.as_ref());
    let same = match (wanted, &now.entry) {
        (Some(wanted @ Entry::File(..)), Entry::File(..)) if wanted.size() == now.entry.size() => {
            let read = side.digest(&step.change.path, &now).await?;
            wanted
                .content()
                .is_some_and(|content| content.same(&read) == Sameness::Same)
        }
        (Some(wanted), now) => !now.is_file() && wanted.same_content(now) == Sameness::Same,
        (None, _) => false,
    };
    // Attributes that differ are two edits that nobody has merged yet: the base must not call them agreed.
    if same && wanted.is_some_and(|wanted| bears(&now.entry, wanted, side.profile().classes)) {
        Ok((
            Applied {
                now: Some(now),
                ..Applied::default()
            },
            entry,
        ))
    } else {
        Err(fault)
    }
}

/// True when an entry has the attributes wanted, as far as its side holds them. The time of a directory is set later.
fn bears(now: &Entry, wanted: &Entry, classes: Classes) -> bool {
    let (Some(now), Some(meta)) = (now.meta(), wanted.meta()) else {
        return false;
    };
    fn fits<T: PartialEq>(class: bool, now: Option<&T>, wanted: Option<&T>) -> bool {
        !class || now.zip(wanted).is_none_or(|(now, wanted)| now == wanted)
    }
    fits(classes.mode, now.mode.as_ref(), meta.mode.as_ref())
        && fits(classes.owner, now.owner.as_ref(), meta.owner.as_ref())
        && fits(classes.xattrs, now.xattrs.as_ref(), meta.xattrs.as_ref())
        && fits(
            classes.times && !wanted.is_dir(),
            now.mtime.as_ref(),
            meta.mtime.as_ref(),
        )
}

fn edit_of(hands: &Hands, side: Side) -> Result<&Arc<dyn Edit>> {
    hands.edits[side].as_ref().ok_or_else(|| {
        Fault::new(
            Kind::Denied,
            "this side may not be written",
            &hands.sides[side].profile().label,
        )
    })
}

/// A body that counts what passes.
struct Counted {
    inner: Box<dyn Body>,
    hands: Arc<Hands>,
}

#[async_trait]
impl Body for Counted {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.hands.abort.load(Ordering::Relaxed) {
            return Err(Fault::new(Kind::Cancelled, "stopped while it was copied", ""));
        }
        let bytes = self.inner.next().await?;
        if let Some(bytes) = &bytes {
            self.hands.copied.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(bytes)
    }
    fn lent(&self) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        self.inner.lent()
    }
    async fn check(&mut self) -> Result<()> {
        self.inner.check().await
    }
}

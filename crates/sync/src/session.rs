//! A session: two replicas, a policy, and what was last agreed on. [`Session::run`] reads like the five acts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use syncline_model::guard::{Cause, Reason, Verdict};
use syncline_model::{
    Classes, Fault, Identity, Kind, Marker, Pair, Problem, RelPath, Result, Side, Trouble,
};
use syncline_replica::{EditOptions, Replica};
use syncline_store::Table;

use crate::api::{Counts, Env, Event, Exit, Monitor, OpenConflict, Options, Report, RunInfo, Stop};
use crate::conflicts::{Looked, Met};
use crate::execute::{Execution, Hands, Held, Renamed, Room};
use crate::guarding::Answers;
use crate::journal::{self, Journal};
use crate::plan::{Draft, Phase, Plan};
use crate::planning::{Planned, Planner};
use crate::rows::{Base, Remembered};
use crate::shelf::{Guard, Shelf};
use crate::trust::Trust;

/// Rows of the base that are written at once where nothing else is to be done.
const BATCH_ROWS: usize = 8192;

/// Two replicas and what was last agreed on.
pub struct Session {
    pub(crate) sides: Pair<Arc<dyn Replica>>,
    pub(crate) base: Base,
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) env: Env,
}

/// A run under way: its lock, name and start.
pub(crate) struct Begun {
    _lock: Guard,
    pub(crate) run: String,
    pub(crate) started: Duration,
}

impl Session {
    /// A session over opened replicas, a table and a directory of its own.
    pub fn over(
        sides: Pair<Arc<dyn Replica>>,
        table: Arc<dyn Table>,
        shelf: Arc<dyn Shelf>,
        env: Env,
    ) -> Result<Self> {
        Ok(Self {
            sides,
            base: Base::open(table)?,
            shelf,
            env,
        })
    }

    /// One run: look, decide, stage, publish, remember.
    pub async fn run(
        &self,
        what: &str,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let inner = self.run_within(what, options, monitor, stop);
        match options.hard_limit {
            None => inner.await,
            Some(limit) => tokio::select! {
                report = inner => report,
                () = self.env.clock.sleep(limit) => Err(Fault::new(Kind::Cancelled, "the time limit is over", "")
                    .hint("run again: it goes on where it was")),
            },
        }
    }

    async fn run_within(
        &self,
        what: &str,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let begun = self.begin()?;
        let options = &self.writable(options, monitor);
        self.tell_limits(options, monitor);
        let known = self.base.remembered()?.identity;
        let before = self.answers(&known).await?;
        let strangers = self.strangers(&known, &before, options)?;
        if !strangers.is_empty() {
            return Ok(self.refused(&begun, strangers));
        }
        self.recover().await?;
        if options.accept.is_some() && !options.dry_run {
            self.base.drop_rows()?;
        }
        let planner = Planner {
            env: &self.env,
            sides: &self.sides,
            base: &self.base,
            shelf: &*self.shelf,
            options,
            monitor,
            stop,
        };
        let planned = planner.plan().await?;
        let verdict = self.verdict(&before, &planned, options).await?;
        if let Verdict::Refuse(reasons) = verdict {
            return Ok(self.refused(&begun, reasons));
        }
        if options.dry_run {
            return self.show(&begun, planned.draft, &verdict, monitor);
        }
        self.carry_out(what, &begun, planned, &verdict, &before, options, monitor, stop)
            .await
    }

    /// A side that may not be written is only read; what would be done there waits.
    fn writable(&self, options: &Options, monitor: &dyn Monitor) -> Options {
        let mut options = options.clone();
        for side in Side::BOTH {
            let profile = self.sides[side].profile();
            if profile.full {
                monitor.event(Event::Note(&format!(
                    "{} is full: what it can hold could not be tried out, what was found before is taken to hold",
                    profile.label
                )));
            }
            if profile.read_only && options.writes[side] {
                options.writes[side] = false;
                options.barred[side] = true;
                monitor.event(Event::Note(&format!(
                    "{} may not be written: it is only read",
                    profile.label
                )));
            }
        }
        options
    }

    /// Says once what a side cannot do: hold attributes that were asked for, so that they are neither compared nor set, or refuse a write
    /// when something else stands there.
    fn tell_limits(&self, options: &Options, monitor: &dyn Monitor) {
        for side in Side::BOTH {
            let profile = self.sides[side].profile();
            if !profile.conditional && !profile.stable_ids {
                monitor.event(Event::Note(&format!(
                    "{} has no conditional writes: what is replaced there is copied to its trash first, and a version of ours that vanishes \
                     unseen is kept",
                    profile.label
                )));
            }
        }
        type Class = fn(&Classes) -> bool;
        let classes: [(&str, Class); 5] = [
            ("owners", |classes| classes.owner),
            ("modes", |classes| classes.mode),
            ("times", |classes| classes.times),
            ("extended attributes", |classes| classes.xattrs),
            ("access control lists", |classes| classes.acls),
        ];
        for (what, of) in classes.into_iter().filter(|(_, of)| of(&options.classes)) {
            let lacking = Side::BOTH.map(|side| self.sides[side].profile());
            let lacking = lacking.into_iter().filter(|profile| !of(&profile.classes));
            let places: Vec<&str> = lacking.map(|profile| &*profile.label).collect();
            if !places.is_empty() {
                let places = places.join(" and ");
                monitor.event(Event::Note(&format!(
                    "{what} are neither compared nor set: we cannot set them at {places}"
                )));
            }
        }
    }

    /// Takes the session's lock and gives the run a name that sorts by time.
    pub(crate) fn begin(&self) -> Result<Begun> {
        let run = self.run_name()?;
        let lock = self
            .shelf
            .lock(&format!("run {run}, process {}", std::process::id()))?;
        Ok(Begun {
            _lock: lock,
            run,
            started: self.env.clock.elapsed(),
        })
    }

    /// Sorts after every earlier run of this session, whatever became of the clock: a run that would not takes the name
    /// after the last one's.
    fn run_name(&self) -> Result<String> {
        let now = self.env.clock.now();
        let stamp = jiff::Timestamp::new(now.secs, now.nanos.cast_signed()).unwrap_or_default();
        let stamp = stamp.strftime("%Y%m%dT%H%M%S.%3fZ");
        let name = format!("{stamp}-{:04x}", self.env.dice.roll() & 0x0fff);
        let last = self.shelf.runs()?.pop().filter(|last| *last >= name);
        let after = last.as_ref().and_then(|last| {
            let (stamp, number) = last.rsplit_once('-')?;
            let number = u32::from_str_radix(number, 16).ok()?;
            Some(format!("{stamp}-{:04x}", number + 1))
        });
        Ok(after.unwrap_or(name))
    }

    pub(crate) fn refused(&self, begun: &Begun, reasons: Vec<Reason>) -> Report {
        Report {
            run: None,
            exit: Exit::Refused,
            left: Counts::default(),
            right: Counts::default(),
            conflicts: 0,
            problems: 0,
            reasons: reasons.into_iter().map(|reason| reason.text).collect(),
            seconds: self.since(begun),
        }
    }

    pub(crate) fn since(&self, begun: &Begun) -> f64 {
        self.env
            .clock
            .elapsed()
            .saturating_sub(begun.started)
            .as_secs_f64()
    }

    /// Says what would be done.
    fn show(
        &self,
        begun: &Begun,
        draft: Draft<'_>,
        verdict: &Verdict,
        monitor: &dyn Monitor,
    ) -> Result<Report> {
        self.tell_plan(&draft, monitor)?;
        let report = self.would_do(begun, &draft, verdict);
        let mut plan = draft.finish()?;
        while let Some((_, item)) = plan.next()? {
            if let Some(step) = &item.step {
                monitor.event(Event::Step(step));
            }
        }
        Ok(report)
    }

    /// The report of a plan that is not carried out.
    pub(crate) fn would_do(&self, begun: &Begun, draft: &Draft<'_>, verdict: &Verdict) -> Report {
        let reasons = texts(verdict);
        let (conflicts, problems) = (draft.conflicts.len(), draft.problems.len() as u64);
        let exit = gravest(&[
            (!reasons.is_empty(), Exit::Refused),
            (problems > 0, Exit::Partial),
            (conflicts > 0, Exit::Conflict),
        ]);
        let (left, right) = (draft.tally.left.counts, draft.tally.right.counts);
        Report {
            run: None,
            exit,
            left,
            right,
            conflicts,
            problems,
            reasons,
            seconds: self.since(begun),
        }
    }

    pub(crate) fn tell_plan(&self, draft: &Draft<'_>, monitor: &dyn Monitor) -> Result<()> {
        tell(draft, monitor)
    }

    /// Stage, publish, remember.
    #[allow(clippy::too_many_arguments)]
    async fn carry_out(
        &self,
        what: &str,
        begun: &Begun,
        planned: Planned<'_>,
        verdict: &Verdict,
        before: &Answers,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let Planned { mut draft, trust, .. } = planned;
        tell(&draft, monitor)?;
        let conflicts = std::mem::replace(&mut draft.conflicts, Met::new(&self.base));
        let problems = draft.problems.len() as u64;
        let tally = draft.tally;
        let steps = tally.left.counts.steps() + tally.right.counts.steps();
        let bytes = tally.left.counts.bytes + tally.right.counts.bytes;
        monitor.event(Event::Planned { steps, bytes });
        let steps_on = |side: Side| tally[side].counts.steps() + tally[side].times > 0;
        let busy = steps_on(Side::Left) || steps_on(Side::Right) || !conflicts.is_empty();
        // Whatever the base learns puts both sides ahead of their older copies, the side that is only read too.
        let learns = busy || draft.shifted;
        let writes = Pair::new(learns, learns);
        // Before the first step: the copies that a killed run made are no conflict to any later one.
        if !syncline_model::zoo::on("conflict-noted-late") {
            self.base.note_conflicts(&begun.run, &conflicts)?;
        }
        self.raise(before, &writes, options, monitor).await?;
        let report = if busy {
            let execution = self
                .execution(what, begun, verdict, trust, options, monitor, stop)
                .await?;
            self.perform(begun, execution, draft.finish()?).await?
        } else {
            self.remember_agreed(draft, trust, options).await?;
            self.refused(begun, Vec::new())
        };
        self.wind_up(
            begun, report, &conflicts, problems, verdict, busy, options, monitor,
        )
        .await
    }

    /// Raises the markers where the base will move on, and remembers who answered.
    pub(crate) async fn raise(
        &self,
        before: &Answers,
        writes: &Pair<bool>,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut now = before.clone();
        for side in Side::BOTH {
            let Some(identity) = &mut now[side] else { continue };
            let wanted = identity.marker.is_none() || writes[side];
            if wanted && !self.sides[side].profile().read_only {
                identity.marker = self.mark(side, identity.marker.take(), monitor).await?;
            }
        }
        self.remember(now, options)
    }

    /// Opens the log and both edits.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn execution<'a>(
        &'a self,
        what: &str,
        begun: &Begun,
        verdict: &Verdict,
        trust: Trust,
        options: &'a Options,
        monitor: &'a dyn Monitor,
        stop: &'a Stop,
    ) -> Result<Execution<'a>> {
        let mut execution = self
            .begin_execution(what, begun, trust, options, monitor, stop)
            .await?;
        execution.held = Pair::each(|side| Held {
            removals: verdict.holds(side, Cause::Removals),
            overwrites: verdict.holds(side, Cause::Overwrites),
        });
        execution.deadline = options.soft_limit.map(|limit| begun.started + limit);
        Ok(execution)
    }

    /// The same without a brake and a time limit: a person has asked for exactly this.
    pub(crate) async fn begin_execution<'a>(
        &'a self,
        what: &str,
        begun: &Begun,
        trust: Trust,
        options: &'a Options,
        monitor: &'a dyn Monitor,
        stop: &'a Stop,
    ) -> Result<Execution<'a>> {
        let journal = Journal::begin(&*self.shelf, &begun.run, what, self.env.clock.now())?;
        let hands = self.hands(&begun.run, options).await?;
        let sorter = self.shelf.sorter()?;
        Ok(Execution::new(
            &self.env, options, monitor, stop, hands, &self.base, journal, trust, sorter,
        ))
    }

    /// Carries a plan out and ends the log and both edits.
    pub(crate) async fn perform(
        &self,
        begun: &Begun,
        mut execution: Execution<'_>,
        plan: Plan,
    ) -> Result<Report> {
        let outcome = execution.run(plan).await;
        self.close(begun, execution, outcome).await
    }

    /// Conflicts are kept, old trash goes, the report is complete.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn wind_up(
        &self,
        begun: &Begun,
        mut report: Report,
        conflicts: &Met,
        problems: u64,
        verdict: &Verdict,
        busy: bool,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> Result<Report> {
        let looked = Looked::at(&options.only);
        self.base.keep_conflicts(&begun.run, conflicts, &looked)?;
        report.conflicts = conflicts.only_told() + self.base.count_conflicts()?;
        report.problems += problems;
        report.reasons = texts(verdict);
        report.exit = gravest(&[
            (!report.reasons.is_empty(), Exit::Refused),
            (busy && report.exit == Exit::Stopped, Exit::Stopped),
            (report.problems > 0, Exit::Partial),
            (report.conflicts > 0, Exit::Conflict),
        ]);
        if busy {
            self.retain_trash(monitor).await?;
            self.base.persist()?;
        }
        report.seconds = self.since(begun);
        Ok(report)
    }

    /// Rows that changed without a step (touched files, both edited alike): only the base moves. Many batches are as good as one: a name that
    /// is left is left in the batch that writes the new one.
    async fn remember_agreed(&self, draft: Draft<'_>, trust: Trust, options: &Options) -> Result<()> {
        let mut plan = draft.finish()?;
        let (mut rows, mut renamed) = (Vec::new(), Renamed::default());
        loop {
            let item = plan.next()?;
            if item.is_none() || rows.len() >= BATCH_ROWS {
                let rows = std::mem::take(&mut rows);
                if options.merger.is_some() {
                    crate::merging::keep_agreed(&self.sides, &self.base, &rows).await?;
                }
                self.base.write(rows)?;
            }
            let Some((phase, item)) = item else { return Ok(()) };
            if phase == Phase::Behind {
                renamed.follow(&self.base, item)?;
                continue;
            }
            let Some((row, was)) = item.sole else { continue };
            let row = row.map(|row| Pair::each(|side| row[side].clone().map(|seen| trust.judge(side, seen))));
            let left = was.and_then(|was| renamed.left(was, &item.slot));
            rows.extend(left.map(|left| (left, None)));
            rows.push((item.slot, row));
        }
    }

    /// Begins to edit both sides.
    pub(crate) async fn hands(&self, run: &str, options: &Options) -> Result<Arc<Hands>> {
        let edit_options = EditOptions {
            run: run.into(),
            trash: options.trash,
            classes: options.classes,
            durability: options.durability,
        };
        let mut edits = Pair::new(None, None);
        for side in Side::BOTH {
            if !self.sides[side].profile().read_only {
                edits[side] = Some(self.sides[side].edit(&edit_options).await?);
            }
        }
        Ok(Arc::new(Hands {
            sides: self.sides.clone(),
            edits,
            base: self.base.clone(),
            room: Pair::each(|side| Room::new(options.barred[side])),
            copied: AtomicU64::new(0),
            halt: AtomicBool::new(false),
            abort: AtomicBool::new(false),
        }))
    }

    /// Ends an execution: both edits, the log, the report.
    pub(crate) async fn close(
        &self,
        begun: &Begun,
        mut execution: Execution<'_>,
        outcome: Result<()>,
    ) -> Result<Report> {
        for side in Side::BOTH {
            if let Some(edit) = &execution.hands.edits[side] {
                let finished = edit.finish().await;
                if outcome.is_ok() {
                    execution.ended(side, finished)?;
                }
            }
        }
        execution.tell_what_waits();
        let exit = match &outcome {
            Ok(()) if execution.brakes() => Exit::Refused,
            Ok(()) if execution.stopped => Exit::Stopped,
            Ok(()) if execution.problems > 0 => Exit::Partial,
            Ok(()) => Exit::Done,
            Err(_) => Exit::Unreachable,
        };
        // Once the log has an end, nobody looks again for what the base lacks.
        self.base.persist()?;
        execution.journal.end(exit, &execution.counts)?;
        self.base.note_trash(&begun.run, &execution.trashed)?;
        outcome?;
        self.base.drop_digests()?;
        self.base.drop_made()?;
        let mut problems = execution.problems;
        let mut exit = exit;
        for side in Side::BOTH {
            if let Err(fault) = self.sides[side].tidy_trash().await {
                let trouble = Trouble {
                    message: format!("what was displaced stays in .syncline/trash for now: {fault}"),
                    ..Trouble::from(&fault)
                };
                let problem = Problem::new(RelPath::root(), Some(side), trouble);
                execution.monitor.event(Event::Problem(&problem));
                problems += 1;
                exit = gravest(&[(true, exit), (true, Exit::Partial)]);
            }
        }
        Ok(Report {
            run: Some(begun.run.clone()),
            exit,
            left: execution.counts.left,
            right: execution.counts.right,
            conflicts: 0,
            problems,
            reasons: Vec::new(),
            seconds: 0.0,
        })
    }

    /// Raises the generation of a side's marker before the first change there.
    async fn mark(&self, side: Side, had: Option<Marker>, monitor: &dyn Monitor) -> Result<Option<Marker>> {
        let marker = match &had {
            Some(marker) => Marker {
                id: marker.id.clone(),
                generation: marker.generation + 1,
            },
            None => {
                let id = format!("{:016x}{:016x}", self.env.dice.roll(), self.env.dice.roll());
                Marker { id, generation: 1 }
            }
        };
        match self.sides[side].mark(&marker).await {
            Err(fault) if matches!(fault.kind, Kind::Denied | Kind::Unsupported) => {
                monitor.event(Event::Note(&format!(
                    "{}: no marker can be written there, so a restored copy of it could not be recognised",
                    self.sides[side].profile().label
                )));
                Ok(had)
            }
            // Who deletes makes room: a full disk must not keep him from it.
            Err(fault) if fault.is(Kind::Full) && had.is_some() => {
                monitor.event(Event::Note(&format!(
                    "{} is full: the marker there stays as it was, so a copy of it from before this run could not be recognised",
                    self.sides[side].profile().label
                )));
                Ok(had)
            }
            marked => marked.map(|()| Some(marker)),
        }
    }

    /// Who answers now is who must answer next time: remembered before the first change, so that a marker that was
    /// raised is never ahead of what a killed run remembers by more than its own step.
    fn remember(&self, now: Pair<Option<Identity>>, options: &Options) -> Result<()> {
        let known = self.base.remembered()?;
        let told = Remembered {
            identity: now,
            skip_deletes: options.skip_deletes,
        };
        if told == known {
            Ok(())
        } else {
            self.base.remember(&told)
        }
    }

    /// Conflicts that wait to be settled.
    pub fn conflicts(&self) -> impl Iterator<Item = Result<OpenConflict>> + Send + use<> {
        self.base.conflicts()
    }

    /// The runs of this session, oldest first.
    pub async fn log(&self) -> Result<Vec<RunInfo>> {
        journal::runs(&*self.shelf)
    }
}

/// Why things wait, in words.
fn texts(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Go => Vec::new(),
        Verdict::Refuse(reasons) | Verdict::Brake(reasons) => {
            reasons.iter().map(|r| r.text.clone()).collect()
        }
    }
}

fn gravest(holds: &[(bool, Exit)]) -> Exit {
    holds
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, exit)| *exit)
        .max()
        .unwrap_or(Exit::Done)
}

/// Says what planning met.
fn tell(draft: &Draft<'_>, monitor: &dyn Monitor) -> Result<()> {
    for conflict in draft.conflicts.rows() {
        monitor.event(Event::Conflict(&conflict?));
    }
    for problem in &draft.problems {
        monitor.event(Event::Problem(problem));
    }
    for (path, side) in &draft.yielded {
        monitor.event(Event::Yielded { path, side: *side });
    }
    Ok(())
}

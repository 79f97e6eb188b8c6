//! Carrying a plan out: stage, publish, remember; and what is done when that has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use syncline_model::guard::Verdict;
use syncline_model::{Pair, Problem, RelPath, Result, Side, Trouble};
use syncline_replica::EditOptions;

use super::told::{gravest, texts};
use super::{Begun, Session};
use crate::api::{Event, Exit, Monitor, Options, Report, Stop};
use crate::conflicts::{Looked, Met};
use crate::execute::{Asked, Execution, Hands, Renamed, Room};
use crate::guarding::Answers;
use crate::journal::Journal;
use crate::plan::{Draft, Phase, Plan, Tally};
use crate::rows::Base;
use crate::trust::Trust;

/// Rows of the base that are written at once where nothing else is to be done.
const BATCH_ROWS: usize = 8192;

/// What is to be carried out, and what was met when it was decided.
pub(crate) struct Work {
    /// The steps and rows.
    pub plan: Plan,
    /// Conflicts met.
    pub conflicts: Met,
    /// Problems met.
    pub problems: u64,
    /// What it will do to each side.
    pub tally: Pair<Tally>,
    /// The base will say something else, with a step or without one.
    pub shifted: bool,
    /// By which clocks both sides were seen.
    pub trust: Trust,
}

impl Work {
    /// What was just decided.
    pub fn of(mut draft: Draft<'_>, trust: Trust, base: &Base) -> Result<Self> {
        Ok(Self {
            conflicts: std::mem::replace(&mut draft.conflicts, Met::new(base)),
            problems: draft.problems.len() as u64,
            tally: draft.tally,
            shifted: draft.shifted,
            trust,
            plan: draft.finish()?,
        })
    }
}

impl Session {
    /// Stage, publish, remember.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn carry_out(
        &self,
        what: &str,
        begun: &Begun,
        work: Work,
        verdict: &Verdict,
        before: &Answers,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let Work {
            plan,
            conflicts,
            problems,
            tally,
            shifted,
            trust,
        } = work;
        let steps = tally.left.counts.steps() + tally.right.counts.steps();
        let bytes = tally.left.counts.bytes + tally.right.counts.bytes;
        monitor.event(Event::Planned { steps, bytes });
        let steps_on = |side: Side| tally[side].counts.steps() + tally[side].times > 0;
        let busy = steps_on(Side::Left) || steps_on(Side::Right) || !conflicts.is_empty();
        // Whatever the base learns puts both sides ahead of their older copies, the side that is only read too.
        let learns = busy || shifted;
        let writes = Pair::new(learns, learns);
        // Before the first step: the copies that a killed run made are no conflict to any later one.
        if !syncline_model::zoo::on("conflict-noted-late") {
            self.base.note_conflicts(&begun.run, &conflicts)?;
        }
        self.raise(before, &writes, options, monitor).await?;
        let report = if busy {
            let mut execution = self
                .execution(what, begun, verdict, trust, options, monitor, stop)
                .await?;
            let outcome = execution.run(plan).await;
            execution.problems += problems;
            let waiting = match outcome {
                Ok(()) => self.waiting(begun, &conflicts, options)?,
                Err(_) => 0,
            };
            self.close(begun, execution, outcome, waiting).await?
        } else {
            self.remember_agreed(plan, trust, options).await?;
            Report {
                conflicts: self.waiting(begun, &conflicts, options)?,
                problems,
                ..self.refused(begun, Vec::new())
            }
        };
        let report = self.wind_up(begun, report, verdict, busy, monitor).await?;
        if options.only.is_empty() && report.exit != Exit::Stopped {
            self.base.found_again()?;
        }
        Ok(report)
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
        execution.gate.brake(verdict);
        Ok(execution)
    }

    /// The same without a brake: a person has asked for exactly this.
    pub(crate) async fn begin_execution<'a>(
        &'a self,
        what: &str,
        begun: &Begun,
        trust: Trust,
        options: &'a Options,
        monitor: &'a dyn Monitor,
        stop: &'a Stop,
    ) -> Result<Execution<'a>> {
        let journal = Journal::begin(
            &*self.shelf,
            &begun.run,
            what,
            options.classes,
            self.env.clock.now(),
        )?;
        let hands = self.hands(&begun.run, options).await?;
        let sorter = self.shelf.sorter()?;
        let asked = Asked {
            env: &self.env,
            options,
            monitor,
            stop,
        };
        let mut execution = Execution::new(asked, hands, &self.base, journal, trust, sorter);
        execution.deadline = options.soft_limit.map(|limit| begun.started + limit);
        Ok(execution)
    }

    /// Keeps what a run met; how many conflicts it told of and left waiting.
    fn waiting(&self, begun: &Begun, met: &Met, options: &Options) -> Result<u64> {
        self.base
            .keep_conflicts(&begun.run, met, &Looked::at(&options.only))?;
        Ok(met.only_told() + self.base.count_conflicts()?)
    }

    /// Old trash goes, the report is complete.
    async fn wind_up(
        &self,
        begun: &Begun,
        mut report: Report,
        verdict: &Verdict,
        busy: bool,
        monitor: &dyn Monitor,
    ) -> Result<Report> {
        report.reasons = texts(verdict);
        report.exit = gravest(&[
            (!report.reasons.is_empty(), Exit::Refused),
            (busy && report.exit == Exit::Stopped, Exit::Stopped),
            (report.problems > 0, Exit::Partial),
            (report.conflicts > 0, Exit::Conflict),
        ]);
        if busy {
            self.retain_trash(&begun.run, monitor).await?;
            self.base.persist()?;
        }
        report.seconds = self.since(begun);
        Ok(report)
    }

    /// Rows that changed without a step (touched files, both edited alike): only the base moves. Many batches are as good as one: a name that
    /// is left is left in the batch that writes the new one.
    pub(super) async fn remember_agreed(
        &self,
        mut plan: Plan,
        trust: Trust,
        options: &Options,
    ) -> Result<()> {
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
            classes: crate::planning::classes(options, &self.sides),
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

    /// Ends an execution that leaves so many conflicts: both edits, the log, the report.
    pub(crate) async fn close(
        &self,
        begun: &Begun,
        mut execution: Execution<'_>,
        outcome: Result<()>,
        conflicts: u64,
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
            Ok(()) if execution.gate.brakes() => Exit::Refused,
            Ok(()) if execution.stopped => Exit::Stopped,
            Ok(()) if execution.problems > 0 => Exit::Partial,
            Ok(()) if conflicts > 0 => Exit::Conflict,
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
            conflicts,
            problems,
            reasons: Vec::new(),
            seconds: 0.0,
        })
    }
}

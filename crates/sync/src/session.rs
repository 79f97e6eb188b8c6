//! A session: two replicas, a policy, and what was last agreed on. [`Session::run`] reads like the five acts.

pub(crate) mod carried;
mod markers;
pub(crate) mod told;

use std::sync::Arc;
use std::time::Duration;

use syncline_model::guard::Verdict;
use syncline_model::{Fault, Kind, Pair, Result, Side, Time};
use syncline_replica::Replica;
use syncline_store::Table;

use crate::api::{Env, Event, Monitor, OpenConflict, Options, Report, RunInfo, Stop};
use crate::conflicts::Looked;
use crate::journal;
use crate::planning::Planner;
use crate::rows::Base;
use crate::shelf::{Guard, Shelf};
use carried::Work;
use told::tell;

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
        let lost = Base::is_fresh(&*table)? && journal::any_settled(&*shelf)?;
        let base = Base::open(table)?;
        if lost {
            base.note_lost("is gone")?;
        }
        Ok(Self {
            sides,
            base,
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
        self.limited(options, self.run_within(what, options, monitor, stop))
            .await
    }

    /// Does `work`, and ends it where it is when its time is over.
    pub(crate) async fn limited(
        &self,
        options: &Options,
        work: impl Future<Output = Result<Report>>,
    ) -> Result<Report> {
        match options.hard_limit {
            None => work.await,
            Some(limit) => tokio::select! {
                report = work => report,
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
        if let Some(lost) = self.lost()? {
            monitor.event(Event::Note(&lost));
        }
        let known = self.base.remembered()?.identity;
        let before = self.answers(&known).await?;
        let strangers = self.strangers(&known, &before, options)?;
        if !strangers.is_empty() {
            return Ok(self.refused(&begun, strangers));
        }
        self.recover(options.dry_run, monitor).await?;
        if options.accept.is_some() && !options.dry_run {
            self.base.drop_rows()?;
        }
        let base = self.base_for(options);
        let planner = Planner {
            env: &self.env,
            sides: &self.sides,
            base: &base,
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
        tell(&planned.draft, monitor)?;
        let work = Work::of(planned.draft, planned.trust, &self.base)?;
        if options.dry_run {
            let looked = Looked::at(&options.only);
            let conflicts = self.base.would_wait(&work.conflicts, &looked)?;
            return self
                .show(&begun, work, conflicts, &verdict, options, monitor, None)
                .await;
        }
        self.carry_out(what, &begun, work, &verdict, &before, options, monitor, stop)
            .await
    }

    /// What a plan is made from: who takes a root as it stands begins anew.
    pub(crate) fn base_for(&self, options: &Options) -> Base {
        match options.accept {
            Some(_) => self.base.blank(),
            None => self.base.clone(),
        }
    }

    /// A side that may not be written is only read; what would be done there waits.
    pub(crate) fn writable(&self, options: &Options, monitor: &dyn Monitor) -> Options {
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
        let stamp = run_stamp(self.env.clock.now());
        let name = format!("{stamp}-{:04x}", self.env.dice.roll() & 0x0fff);
        let last = self.shelf.runs()?.pop().filter(|last| *last >= name);
        let after = last.as_ref().and_then(|last| {
            let (stamp, number) = last.rsplit_once('-')?;
            let number = u32::from_str_radix(number, 16).ok()?;
            Some(format!("{stamp}-{:04x}", number + 1))
        });
        Ok(after.unwrap_or(name))
    }

    pub(crate) fn since(&self, begun: &Begun) -> f64 {
        self.env
            .clock
            .elapsed()
            .saturating_sub(begun.started)
            .as_secs_f64()
    }

    /// The host that edits on each side are attributed to.
    pub fn hosts(&self) -> Pair<String> {
        Pair::each(|side| self.sides[side].profile().host.clone())
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

/// How the name of a run begins that begins at `time`.
pub(crate) fn run_stamp(time: Time) -> String {
    let stamp = jiff::Timestamp::new(time.secs, time.nanos.cast_signed()).unwrap_or_default();
    stamp.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

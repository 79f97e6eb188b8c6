//! What a person is told of a run: its plan, its limits, what it came to.

use syncline_model::guard::{Reason, Verdict};
use syncline_model::{Classes, Kind, Pair, Problem, RelPath, Result, Side, Trouble};

use super::carried::Work;
use super::{Begun, Session};
use syncline_replica::Durability;

use crate::api::{Counts, Event, Exit, Monitor, Options, Report};
use crate::execute::{Gate, Waiting, not_writable};
use crate::plan::{Draft, Item, Phase, Plan, copied};
use crate::showing::{Finds, Ground};

impl Session {
    /// Says once what a side cannot do: hold attributes that were asked for, so that they are neither compared nor set, or refuse a write
    /// when something else stands there.
    pub(super) fn tell_limits(&self, options: &Options, monitor: &dyn Monitor) {
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
        self.tell_promises(options, monitor);
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

    /// Says once which promises the options of this run take back.
    fn tell_promises(&self, options: &Options, monitor: &dyn Monitor) {
        if options.durability == Durability::None && !options.dry_run {
            monitor.event(Event::Note(
                "--durability none: nothing is flushed, so a power cut soon after this run may lose or tear what it does",
            ));
        }
        if !options.classes.ctime {
            monitor.event(Event::Note(
                "--no-ctime: times of status change are not looked at, so an edit that keeps size and time is found with --checksum only",
            ));
        }
        for side in Side::BOTH {
            let profile = self.sides[side].profile();
            if options.trash && options.writes[side] && !profile.copies && !profile.read_only {
                monitor.event(Event::Note(&format!(
                    "{} keeps neither versions nor copies by itself: what is displaced there goes to its trash through this machine, byte by \
                     byte",
                    profile.label
                )));
            }
        }
    }

    /// What a person should know where the base is gone, until a run has found it again.
    pub fn lost(&self) -> Result<Option<String>> {
        let why = self.base.lost()?;
        Ok(why.map(|why| {
            let (why, aside) = why.split_once("; ").unwrap_or((&why, ""));
            let aside = if aside.is_empty() {
                String::new()
            } else {
                format!(" and lies at {aside} now")
            };
            format!(
                "what earlier runs agreed on {why}{aside}: a run finds it again by content, as a first run does; conflicts that waited in the \
                 inbox are forgotten, and their versions stay as they are"
            )
        }))
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

    /// Says what would be done, and what waits; so many conflicts would be left. With `ground`, of a plan that may be old, the places are looked
    /// at now, and what would be refused is said too.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn show(
        &self,
        begun: &Begun,
        work: Work,
        conflicts: u64,
        verdict: &Verdict,
        options: &Options,
        monitor: &dyn Monitor,
        mut ground: Option<Ground>,
    ) -> Result<Report> {
        let Work {
            mut plan,
            mut problems,
            ..
        } = work;
        let mut preview = Preview::of(verdict, options, monitor, &plan);
        while let Some((phase, item)) = plan.next()? {
            if let (Some(ground), Some(step)) = (&mut ground, &item.step) {
                match ground.finds(self, step).await? {
                    Finds::Expected => {}
                    Finds::Wanted => continue,
                    Finds::Other => {
                        let what = "it was changed since: this step would be refused";
                        let trouble = Trouble::new(Kind::Changed, what).hint("the next run decides anew");
                        let problem = Problem::new(step.change.path.clone(), Some(step.side), trouble);
                        monitor.event(Event::Problem(&problem));
                        problems += 1;
                        continue;
                    }
                }
            }
            preview.waits(phase, &item);
        }
        Ok(self.would_do(begun, preview, conflicts, problems, verdict))
    }

    /// The report of a plan that is not carried out.
    pub(crate) fn would_do(
        &self,
        begun: &Begun,
        preview: Preview<'_>,
        conflicts: u64,
        mut problems: u64,
        verdict: &Verdict,
    ) -> Report {
        let Preview {
            counts,
            barred,
            monitor,
            ..
        } = preview;
        for side in Side::BOTH {
            if let Some((first, waiting)) = &barred[side] {
                let label = &self.sides[side].profile().label;
                let problem = waiting.told((first.clone(), not_writable()), label, side);
                monitor.event(Event::Problem(&problem));
                problems += 1;
            }
        }
        let reasons = texts(verdict);
        let exit = gravest(&[
            (!reasons.is_empty(), Exit::Refused),
            (problems > 0, Exit::Partial),
            (conflicts > 0, Exit::Conflict),
        ]);
        Report {
            run: None,
            exit,
            left: counts.left,
            right: counts.right,
            conflicts,
            problems,
            reasons,
            seconds: self.since(begun),
        }
    }
}

/// A plan that is gone through without doing anything.
pub(crate) struct Preview<'a> {
    gate: Gate,
    options: &'a Options,
    monitor: &'a dyn Monitor,
    counts: Pair<Counts>,
    /// What waits on sides that may not be written, and where it is met first.
    barred: Pair<Option<(RelPath, Waiting)>>,
}

impl<'a> Preview<'a> {
    /// Of a plan under these brakes.
    pub fn of(verdict: &Verdict, options: &'a Options, monitor: &'a dyn Monitor, plan: &Plan) -> Self {
        let mut gate = Gate::open(options.writes);
        gate.brake(verdict);
        gate.unmoved(&mut plan.broken.clone());
        Self {
            gate,
            options,
            monitor,
            counts: Pair::default(),
            barred: Pair::default(),
        }
    }

    /// Says what would come of the next item of the plan; true when it waits.
    pub fn waits(&mut self, phase: Phase, item: &Item) -> bool {
        let Some(step) = &item.step else { return false };
        let side = step.side;
        let waits = self.gate.would_wait(phase, &item.slot, step);
        if !waits {
            self.counts[side].add(step.action, copied(step));
            self.monitor.event(Event::Step(step));
        } else if self.options.barred[side] {
            let first = || (step.change.path.clone(), Waiting::default());
            self.barred[side].get_or_insert_with(first).1.add(step);
        } else if self.options.writes[side] {
            self.monitor.event(Event::Waits(step));
        }
        waits
    }
}

/// Why things wait, in words.
pub(crate) fn texts(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Go => Vec::new(),
        Verdict::Refuse(reasons) | Verdict::Brake(reasons) => {
            reasons.iter().map(|r| r.text.clone()).collect()
        }
    }
}

pub(crate) fn gravest(holds: &[(bool, Exit)]) -> Exit {
    holds
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, exit)| *exit)
        .max()
        .unwrap_or(Exit::Done)
}

/// Says what planning met.
pub(crate) fn tell(draft: &Draft<'_>, monitor: &dyn Monitor) -> Result<()> {
    for conflict in draft.conflicts.rows() {
        monitor.event(Event::Conflict(&conflict?));
    }
    for problem in &draft.problems {
        monitor.event(Event::Problem(problem));
    }
    for (path, side) in &draft.yielded {
        monitor.event(Event::Yielded { path, side: *side });
    }
    let (count, first) = &draft.tied;
    if *count > 0 {
        let first: Vec<_> = first.iter().map(ToString::to_string).collect();
        let more = if *count > first.len() as u64 { ", ..." } else { "" };
        monitor.event(Event::Note(&format!(
            "{count} with other attributes on both sides, of which the greater, and the narrower permissions, were taken: {}{more}",
            first.join(", ")
        )));
    }
    Ok(())
}

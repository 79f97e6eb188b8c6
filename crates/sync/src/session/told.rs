//! What a person is told of a run: its plan, its limits, what it came to.

use syncline_model::guard::{Reason, Verdict};
use syncline_model::{Classes, Result, Side};

use super::{Begun, Session};
use crate::api::{Counts, Event, Exit, Monitor, Options, Report};
use crate::plan::Draft;

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

    /// Says what would be done.
    pub(crate) fn show(
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
}

/// Why things wait, in words.
pub(super) fn texts(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Go => Vec::new(),
        Verdict::Refuse(reasons) | Verdict::Brake(reasons) => {
            reasons.iter().map(|r| r.text.clone()).collect()
        }
    }
}

pub(super) fn gravest(holds: &[(bool, Exit)]) -> Exit {
    holds
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, exit)| *exit)
        .max()
        .unwrap_or(Exit::Done)
}

/// Says what planning met.
pub(super) fn tell(draft: &Draft<'_>, monitor: &dyn Monitor) -> Result<()> {
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
            "{count} with other attributes on both sides, of which the greater were taken: {}{more}",
            first.join(", ")
        )));
    }
    Ok(())
}

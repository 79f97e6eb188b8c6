//! What came of a step, and who hears of it.
//!
//! Invariant: a step that failed leaves its slot as the base knows it, and what it was to be copied from or moved to where it is.

use syncline_model::{Action, Fault, From, Kind, Problem, RelPath, Result, Side, Step, Trouble};

use super::finish::Finished;
use super::hands::Came;
use super::{Execution, Job};
use crate::api::Event;

impl Execution<'_> {
    /// Something that cannot be taken back.
    pub fn lost(&mut self, side: Side, path: &RelPath, why: &str) {
        let trouble = Trouble::new(Kind::NotFound, why).hint("bring it back from a backup if it is wanted");
        self.told(side, path, trouble);
    }

    /// One more problem.
    pub(crate) fn told(&mut self, side: Side, path: &RelPath, trouble: Trouble) {
        self.problems += 1;
        let problem = Problem::new(path.clone(), Some(side), trouble);
        self.monitor.event(Event::Problem(&problem));
    }

    /// True for what would take the place of what must stay.
    pub(super) fn ousts(&self, step: &Step) -> bool {
        let original = (step.side, step.change.path.clone());
        matches!(step.action, Action::Update | Action::Remove)
            && self.staying.contains(&original)
            && !syncline_model::zoo::on("conflict-copy-not-awaited")
    }

    /// Sorts out what came of a step. `Err`: the run cannot go on.
    pub(super) fn outcome(&mut self, job: Job, came: Result<Came>) -> Result<Option<Finished>> {
        let original = job
            .step
            .source
            .as_ref()
            .filter(|source| source.side == job.step.side);
        if let (Some(original), Action::Create, Err(_)) = (original, job.step.action, &came) {
            self.staying.insert((original.side, original.path.clone()));
        }
        match came {
            Ok(came) => Ok(Some(Finished {
                job,
                came,
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
                    self.problem(job.failed_on.unwrap_or(job.step.side), &job.step, &fault);
                }
                Ok(None)
            }
        }
    }

    pub(super) fn problem(&mut self, side: Side, step: &Step, fault: &Fault) {
        let mut trouble = Trouble::from(fault);
        trouble.message = match fault.kind {
            // What the trash no longer holds has not changed under way.
            Kind::NotFound if matches!(step.change.from, Some(From::Trash(_))) => fault.to_string(),
            Kind::Changed | Kind::NotFound => format!("changed while the run was under way: {fault}"),
            _ => fault.to_string(),
        };
        self.told(side, &step.change.path, trouble);
    }
}

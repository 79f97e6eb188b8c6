//! The guard and the retention of trash, asked about real replicas.

use std::collections::HashSet;

use syncline_model::guard::{Health, Limits, PlanSummary, Reason, Verdict, brakes, examine, guard};
use syncline_model::retain::{Kept, TrashRule, retain};
use syncline_model::{Entry, Identity, Kind, Pair, Result, Side, Time};
use syncline_replica::TrashRun;

use crate::api::{Event, Monitor, Options};
use crate::plan::Tally;
use crate::planning::Planned;
use crate::scan::Seenings;
use crate::session::{Session, run_stamp};

/// Who answers at both roots; `None`: nobody, though the place can be reached.
pub type Answers = Pair<Option<Identity>>;

impl Session {
    /// Who answers at both roots. A root that was never seen must be there.
    pub(crate) async fn answers(&self, known: &Answers) -> Result<Answers> {
        let mut found = Pair::new(None, None);
        for side in Side::BOTH {
            found[side] = match self.sides[side].identity().await {
                Ok(identity) => Some(identity),
                Err(fault) if fault.is(Kind::NotFound) && known[side].is_some() => None,
                Err(fault) => return Err(fault),
            };
        }
        Ok(found)
    }

    /// Reasons not to begin.
    pub(crate) fn strangers(
        &self,
        known: &Answers,
        found: &Answers,
        options: &Options,
    ) -> Result<Vec<Reason>> {
        let seen = Pair::new(
            Seenings {
                entries: 1,
                leaves: 1,
            },
            Seenings {
                entries: 1,
                leaves: 1,
            },
        );
        Ok(examine(&self.health(known, found, &seen)?, &limits(options)))
    }

    /// What the plan may do, now that both trees were seen; the roots are looked at once more.
    pub(crate) async fn verdict(
        &self,
        before: &Answers,
        planned: &Planned<'_>,
        options: &Options,
    ) -> Result<Verdict> {
        let now = self.answers(before).await?;
        let mut health = self.health(before, &now, &planned.seen)?;
        if !options.only.is_empty() {
            Side::BOTH.iter().for_each(|&side| health[side].empty = false);
        }
        let files = Pair::each(|side| planned.seen[side].leaves);
        let plan = summaries(&files, &planned.draft.tally);
        Ok(guard(&health, &plan, &limits(options)))
    }

    /// What a plan that was written may do, of so many files that were seen when it was made.
    pub(crate) fn brakes_of(&self, files: &Pair<u64>, tally: &Pair<Tally>, options: &Options) -> Verdict {
        let labels = Pair::each(|side| &self.sides[side].profile().label);
        let held = brakes(&labels, &summaries(files, tally), &limits(options));
        if held.is_empty() {
            Verdict::Go
        } else {
            Verdict::Brake(held)
        }
    }

    fn health(&self, known: &Answers, found: &Answers, seen: &Pair<Seenings>) -> Result<Pair<Health>> {
        // Looked up only where it decides: it may take long to come by many rows that are gone.
        let nothing = Side::BOTH.iter().any(|&side| seen[side].entries == 0);
        let knew = if nothing { self.knew()? } else { Pair::default() };
        Ok(Pair::each(|side| Health {
            label: self.sides[side].profile().label.clone(),
            known: known[side].clone(),
            found: found[side].clone(),
            held_entries: knew[side],
            empty: seen[side].entries == 0,
            incomplete: None,
        }))
    }

    /// Whether the base knows anything on each side.
    fn knew(&self) -> Result<Pair<bool>> {
        // What is gone was something: a side that is empty now may have been emptied.
        if self.base.lost()?.is_some() {
            return Ok(Pair::new(true, true));
        }
        let mut knew = Pair::new(false, false);
        for row in self.base.rows() {
            let (_, row) = row?;
            knew.left |= row.left.is_some();
            knew.right |= row.right.is_some();
            if knew.left && knew.right {
                break;
            }
        }
        Ok(knew)
    }

    /// Forgets trash that is too old, and the oldest where there is too much; then logs that are as old and of whose run no trash is left.
    pub(crate) async fn retain_trash(&self, own: &str, monitor: &dyn Monitor) -> Result<()> {
        let mut left = Some(HashSet::new());
        for side in Side::BOTH {
            let retained = if self.sides[side].profile().read_only {
                Some(self.lasting(side).await?)
            } else {
                match self.retain_on(side, own, monitor).await {
                    // A place that takes nothing more keeps its trash until the next run.
                    Err(fault) if fault.whole => None,
                    retained => Some(retained?),
                }
            };
            left = left.zip(retained).map(|(mut left, retained)| {
                left.extend(retained);
                left
            });
        }
        match left {
            Some(left) => self.retain_logs(&left),
            None => Ok(()),
        }
    }

    /// A log ends when its run is as old as trash may get and none of its trash is left: what it displaced cannot be brought back any more.
    /// The run that ends now and the one before stay, whatever their age: they say whether what was remembered is whole.
    fn retain_logs(&self, left: &HashSet<String>) -> Result<()> {
        let age = i64::try_from(TrashRule::AGE.as_secs()).unwrap_or(i64::MAX);
        let now = self.env.clock.now();
        let oldest = run_stamp(Time {
            secs: now.secs.saturating_sub(age),
            ..now
        });
        let runs = self.shelf.runs()?;
        let old = runs.iter().take(runs.len().saturating_sub(2));
        for run in old.take_while(|run| **run < oldest) {
            if !left.contains(run) {
                self.shelf.forget(run)?;
            }
        }
        Ok(())
    }

    /// What the trash of a run takes that this session has not noted: that of another session, or from before the base was lost.
    async fn weigh_trash(&self, side: Side, run: &str) -> Result<u64> {
        let mut bytes = 0;
        let mut walk = match self.sides[side].trash_list(run).await {
            Err(fault) if fault.is(Kind::NotFound) => return Ok(0),
            walk => walk?,
        };
        while let Some(batch) = walk.next().await? {
            let sizes = batch
                .iter()
                .map(|seen| &seen.what.entry)
                .filter(|entry| entry.is_file());
            bytes += sizes.map(Entry::size).sum::<u64>();
        }
        self.base.weigh_trash(side, run, bytes)?;
        Ok(bytes)
    }

    /// The runs of which a side that is only read holds trash: it stays there, whatever its age.
    async fn lasting(&self, side: Side) -> Result<Vec<String>> {
        match self.sides[side].trash().await {
            // What we may not even list we did not put there, or can never bring back.
            Err(fault) if fault.is(Kind::Denied) => Ok(Vec::new()),
            runs => Ok(runs?.into_iter().map(|kept| kept.run).collect()),
        }
    }

    /// Whatever session a run belongs to, its trash lies in the same root and counts. The run `own`, which ends now, is the newest. The
    /// runs of which trash is left.
    async fn retain_on(&self, side: Side, own: &str, monitor: &dyn Monitor) -> Result<Vec<String>> {
        let replica = &self.sides[side];
        let noted = self.base.trash_bytes(side)?;
        let mut kept = Vec::new();
        for TrashRun { run, time } in replica.trash().await? {
            let bytes = match noted.get(&run) {
                Some(bytes) => *bytes,
                None => self.weigh_trash(side, &run).await?,
            };
            let time = if run == own { LAST } else { time };
            kept.push(Kept { run, time, bytes });
        }
        let mut left: Vec<String> = kept.iter().map(|kept| kept.run.clone()).collect();
        let now = replica.clock().await?.unwrap_or_else(|| self.env.clock.now());
        let (total, _) = replica.space().await?;
        let dropped = retain(kept, &TrashRule::of_space(total), now);
        for run in dropped.aged.iter().chain(&dropped.crowded) {
            replica.trash_empty(run).await?;
            self.base.forget_trash(side, run)?;
        }
        if !dropped.crowded.is_empty() {
            monitor.event(Event::Note(&format!(
                "{}: the trash of {} runs went before its time, because trash may take a tenth of the space",
                replica.profile().label,
                dropped.crowded.len()
            )));
        }
        left.retain(|run| !dropped.aged.contains(run) && !dropped.crowded.contains(run));
        Ok(left)
    }
}

fn summaries(files: &Pair<u64>, tally: &Pair<Tally>) -> Pair<PlanSummary> {
    Pair::each(|side| PlanSummary {
        files: files[side],
        removals: tally[side].removals,
        overwrites: tally[side].overwrites.saturating_sub(tally[side].spared),
    })
}

/// After every time.
const LAST: Time = Time {
    secs: i64::MAX,
    nanos: 0,
};

fn limits(options: &Options) -> Limits {
    Limits {
        max_delete: options.max_delete,
        accept: options.accept,
    }
}

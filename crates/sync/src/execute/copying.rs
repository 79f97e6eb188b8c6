//! Steps that need no order: staged in parallel, made visible in parallel, one batch after the other.
//!
//! Invariant: what is made visible was flushed before, and what is remembered was flushed after; that the next batch is
//! staged meanwhile changes nothing of it.

#![allow(
    clippy::vec_box,
    reason = "a job passes through many hands: only its address is to move"
)]

use std::sync::atomic::Ordering;

use syncline_model::{Fault, Result};

use super::finish::Finished;
use super::hands::{apply, may_begin, stage, tick};
use super::{Execution, Job};
use crate::parallel::parallel;
use crate::plan::{Phase, Plan};

/// A batch whose bytes lie beside the trees.
struct Brought {
    staged: Vec<Box<Job>>,
    failures: Vec<(Box<Job>, Fault)>,
}

impl<'a> Execution<'a> {
    /// All steps of a phase: while one batch becomes visible and durable, the next is staged.
    pub(super) async fn overlapped(&mut self, plan: &mut Plan, phase: Phase) -> Result<()> {
        let mut ready: Option<Brought> = None;
        while let Some(mut jobs) = self.batch(plan, phase)? {
            jobs.iter_mut().for_each(|job| self.refresh(job));
            let next = self.bring(jobs);
            ready = Some(match ready.take() {
                None => next.await?,
                Some(before) => {
                    let (next, published) = tokio::join!(next, self.publish(before));
                    published?;
                    next?
                }
            });
        }
        match ready {
            Some(last) => self.publish(last).await,
            None => Ok(()),
        }
    }

    /// Some steps.
    pub(super) async fn at_once(&mut self, mut jobs: Vec<Job>) -> Result<()> {
        jobs.iter_mut().for_each(|job| self.refresh(job));
        let brought = self.bring(jobs).await?;
        self.publish(brought).await
    }

    /// Stages them.
    fn bring(&self, jobs: Vec<Job>) -> impl Future<Output = Result<Brought>> + use<'a> {
        let (hands, jobs_at_once) = (self.hands.clone(), self.options.jobs);
        let (env, heed) = (self.env, self.heed());
        async move {
            let (mut staged, mut failures) = (Vec::with_capacity(jobs.len()), Vec::new());
            let work = move |mut job: Box<Job>| {
                let hands = hands.clone();
                async move {
                    let result = stage(&hands, &mut job).await;
                    (job, result)
                }
            };
            let gather = |(job, result): (Box<Job>, Result<()>)| {
                match result {
                    Ok(()) => staged.push(job),
                    Err(fault) => failures.push((job, fault)),
                }
                Ok(())
            };
            let jobs = jobs.into_iter().map(Box::new).collect();
            parallel(env, jobs_at_once, jobs, work, gather, heed).await?;
            Ok(Brought { staged, failures })
        }
    }

    /// Tells what passed, and hears who wants to stop.
    fn heed(&self) -> impl FnMut() -> bool + use<'a> {
        let (hands, monitor) = (self.hands.clone(), self.monitor);
        let (stop, env, deadline) = (self.stop, self.env, self.deadline);
        move || {
            tick(&hands, monitor);
            let late = deadline.is_some_and(|deadline| env.clock.elapsed() >= deadline);
            hands.halt.fetch_or(late || stop.soft(), Ordering::Relaxed);
            hands.abort.fetch_or(stop.hard(), Ordering::Relaxed);
            // Each step has to hear of it by itself.
            true
        }
    }

    /// Makes what was staged durable, then visible, then durable again and known.
    async fn publish(&mut self, brought: Brought) -> Result<()> {
        let Brought { staged, failures } = brought;
        let mut done = Vec::with_capacity(staged.len());
        for (job, fault) in failures {
            done.extend(self.outcome(*job, Err(fault))?);
        }
        if staged.iter().any(|job| job.staged.is_some()) && !syncline_model::zoo::on("rename-before-data") {
            self.flush().await?;
        }
        if self.stop.hard() {
            self.stopped = true;
            return self.commit(done).await;
        }
        self.apply_at_once(staged, &mut done).await?;
        self.commit(done).await
    }

    async fn apply_at_once(&mut self, mut staged: Vec<Box<Job>>, done: &mut Vec<Finished>) -> Result<()> {
        self.announce(&mut staged)?;
        let hands = self.hands.clone();
        let work = move |mut job: Box<Job>| {
            let hands = hands.clone();
            async move {
                let staged = job.staged.take();
                // What only a name is missing to is no new work: dropped, it would be copied again.
                let begun = staged.as_ref().is_some_and(|staged| staged.brought);
                let applied = match may_begin(&hands, &job.step) {
                    Err(fault) if !begun => Err(fault),
                    _ => apply(&hands, &job.step, staged).await,
                };
                (job, applied)
            }
        };
        let mut results = Vec::with_capacity(staged.len());
        let gather = |result| {
            results.push(result);
            Ok(())
        };
        parallel(self.env, self.options.jobs, staged, work, gather, self.heed()).await?;
        for (job, applied) in results {
            done.extend(self.outcome(*job, applied)?);
        }
        Ok(())
    }
}

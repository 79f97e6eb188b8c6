//! What the merge must know and the scan could not tell: absences on stores, and bytes.
//!
//! Invariant: a name that the base has and a store's listing lacks counts as removed only after it was asked for by name.

use std::sync::Arc;

use syncline_model::diff::{Want, wants};
use syncline_model::moves::Moves;
use syncline_model::replica::Scope;
use syncline_model::{
    Content, Entry, Fault, Kind, Located, Observation, Pair, RelPath, Result, Rule, Side, Slot, Triple,
    Trouble, Why,
};
use syncline_replica::Replica;

use crate::api::{Env, Stop};
use crate::parallel::parallel;
use crate::rows::Base;
use crate::trust::Trust;

/// Rounds of reading until nothing is left to know; more would be a mistake of ours.
const ROUNDS: usize = 4;

/// Completes triples in place.
pub struct Compare<'a> {
    /// The world.
    pub env: &'a Env,
    /// The replicas.
    pub sides: &'a Pair<Arc<dyn Replica>>,
    /// Kept digests.
    pub base: &'a Base,
    /// By which clocks it was looked.
    pub trust: Trust,
    /// Directories that are still to move.
    pub moves: Arc<Moves>,
    /// What is looked at.
    pub scope: &'a Scope,
    /// What decides.
    pub rule: &'a Rule,
    /// Reads at once.
    pub jobs: usize,
    /// Ends the reading.
    pub stop: &'a Stop,
}

impl Compare<'_> {
    /// Asks and reads whatever these triples need.
    pub async fn complete(&self, triples: &mut [Triple]) -> Result<()> {
        self.confirm_absences(triples).await?;
        for _ in 0..ROUNDS {
            let (mut asked, mut recalled) = (Vec::new(), false);
            for (at, triple) in triples.iter_mut().enumerate() {
                let want = wants(triple, self.rule);
                for side in Side::BOTH {
                    let Some(want) = want[side] else { continue };
                    if self.recall(side, triple)? {
                        recalled = true;
                    } else {
                        asked.extend(question(at, side, triple, want, &self.moves));
                    }
                }
            }
            // What was recalled raises the same questions as what was read.
            if asked.is_empty() && !recalled {
                return Ok(());
            }
            self.read(triples, asked).await?;
        }
        Ok(())
    }

    /// Uses a digest that an earlier run made and could not use.
    fn recall(&self, side: Side, triple: &mut Triple) -> Result<bool> {
        let Some(kept) = self.base.digest(side, &triple.slot)? else {
            return Ok(false);
        };
        let Some(located) = &mut triple.now[side] else {
            return Ok(false);
        };
        if !located.seen.unchanged_since(&kept) {
            return Ok(false);
        }
        let before = located.seen.entry.clone();
        if let (Some(content), Some(known)) = (located.seen.entry.content_mut(), kept.entry.content()) {
            content.learn(known);
        }
        Ok(located.seen.entry != before)
    }

    async fn read(&self, triples: &mut [Triple], asked: Vec<Question>) -> Result<()> {
        let sides = self.sides.clone();
        let work = move |question: Question| {
            let replica = sides[question.side].clone();
            async move {
                let read = replica.digest(&question.path, &question.expect).await;
                (question, read)
            }
        };
        let mut kept = Vec::new();
        let gather = |(question, read): (Question, Result<Content>)| {
            let triple = &mut triples[question.at];
            let Some(located) = &mut triple.now[question.side] else {
                return Ok(());
            };
            match read {
                Ok(content) => {
                    located
                        .seen
                        .entry
                        .content_mut()
                        .into_iter()
                        .for_each(|known| known.learn(&content));
                    // What may change again without a trace is not known by its tag tomorrow.
                    if self.trust.proof(question.side, &located.seen).is_some() {
                        kept.push((question.side, triple.slot.clone(), located.seen.clone()));
                    }
                }
                Err(fault) => located.seen.entry = unreadable(fault)?,
            }
            Ok(())
        };
        let outcome = parallel(self.env, self.jobs, asked, work, gather, || !self.stop.soft()).await;
        self.base.keep_digests(kept)?;
        outcome?;
        if self.stop.soft() {
            return Err(Fault::new(Kind::Cancelled, "stopped while comparing", ""));
        }
        Ok(())
    }

    async fn confirm_absences(&self, triples: &mut [Triple]) -> Result<()> {
        let mut asked = Vec::new();
        for (at, triple) in triples.iter().enumerate() {
            for side in Side::BOTH {
                let known = triple.base.as_ref().is_some_and(|row| row[side].is_some());
                let store = !self.sides[side].profile().stable_ids;
                if known && store && triple.now[side].is_none() && !triple.slot.is_dir() {
                    asked.push((at, side, triple.slot.clone()));
                }
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let (sides, scope) = (self.sides.clone(), self.scope.clone());
        let work = move |(at, side, slot): (usize, Side, Slot)| {
            let (replica, scope) = (sides[side].clone(), scope.clone());
            async move { (at, side, replica.find(&slot.path(), &scope).await) }
        };
        let gather = |(at, side, found): (usize, Side, Result<Option<Observation>>)| {
            let triple: &mut Triple = &mut triples[at];
            triple.now[side] = found?
                .filter(|seen| !seen.entry.is_dir())
                .map(|seen| Located { seen, at: None });
            Ok(())
        };
        parallel(self.env, self.jobs.max(16), asked, work, gather, || true).await
    }
}

/// A file to be read.
struct Question {
    at: usize,
    side: Side,
    path: RelPath,
    expect: Observation,
}

fn question(at: usize, side: Side, triple: &Triple, want: Want, moves: &Moves) -> Option<Question> {
    let located = triple.now[side].as_ref()?;
    let mut expect = located.seen.clone();
    if let Some(content) = expect.entry.content_mut().filter(|_| want.md5) {
        content.md5 = content.md5.or(Some([0; 16]));
    }
    // Directories have not moved yet.
    let lies = located.at.clone().unwrap_or_else(|| triple.slot.path());
    let path = moves.before(side, &lies);
    Some(Question {
        at,
        side,
        path,
        expect,
    })
}

/// A file that cannot be read is left alone; a place that cannot be reached ends the run.
fn unreadable(fault: Fault) -> Result<Entry> {
    match fault.kind {
        Kind::Offline | Kind::Bug | Kind::Cancelled => Err(fault),
        Kind::Changed | Kind::NotFound => {
            let message = format!("changed while it was being read: {fault}");
            Ok(Entry::Opaque(Why::Unreadable(Trouble::new(
                Kind::Changed,
                message,
            ))))
        }
        _ => Ok(Entry::Opaque(Why::Unreadable(Trouble::from(&fault)))),
    }
}

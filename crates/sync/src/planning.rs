//! Observe and decide: from two places and a base to a plan. Nothing is changed here but our own state.

use std::sync::Arc;

use syncline_model::replica::Scope;
use syncline_model::{Classes, Merge, Pair, Policy, Result, Rule, Side, Triple};
use syncline_replica::Replica;

use crate::api::{Env, Event, Monitor, Options, Stop};
use crate::compare::Compare;
use crate::plan::Draft;
use crate::rows::{Base, decode, encode};
use crate::scan::{Join, Seenings};
use crate::shelf::Shelf;
use crate::trust::Trust;

/// Rows that are completed and merged at once.
const CHUNK: usize = 2048;

/// What looking and deciding came to.
pub struct Planned {
    /// What is to be done.
    pub draft: Draft,
    /// What was seen of each side.
    pub seen: Pair<Seenings>,
    /// By which clocks it was seen.
    pub trust: Trust,
}

/// The rule that these options make for these replicas.
pub fn rule(options: &Options, sides: &Pair<Arc<dyn Replica>>) -> Rule {
    let (left, right) = (sides.left.profile(), sides.right.profile());
    let waits = !(options.writes.left && options.writes.right);
    Rule {
        mode: options.mode,
        policy: if waits { Policy::Hold } else { options.policy },
        classes: options.classes.and(left.classes).and(right.classes),
        skip_deletes: options.skip_deletes,
        hosts: Pair::new(left.host.clone(), right.host.clone()),
        time_step: left.time_step.max(right.time_step),
    }
}

/// What of the trees is looked at.
pub fn scope(options: &Options, classes: Classes) -> Scope {
    Scope {
        only: options.only.clone(),
        filter: options.filter.clone(),
        classes,
        links: options.links,
    }
}

/// Looks at both trees and decides.
pub async fn plan(
    env: &Env,
    sides: &Pair<Arc<dyn Replica>>,
    base: &Base,
    shelf: &dyn Shelf,
    options: &Options,
    monitor: &dyn Monitor,
    stop: &Stop,
) -> Result<Planned> {
    let rule = rule(options, sides);
    let scope = scope(options, rule.classes);
    let trust = Trust {
        began: Pair::new(sides.left.clock().await?, sides.right.clock().await?),
    };
    monitor.event(Event::Phase("scanning"));
    let mut join = Join::open(sides, base, &scope, &rule, options.checksum).await?;
    let mut dirty = shelf.sorter()?;
    let mut any = false;
    while let Some(triples) = join.next(CHUNK).await? {
        for triple in triples {
            any = true;
            dirty.push(triple.slot.as_bytes(), &encode(&triple)?)?;
        }
        let counts = join.counts();
        monitor.event(Event::Scanned(Pair::new(
            counts.left.entries,
            counts.right.entries,
        )));
        if stop.soft() {
            return Err(syncline_model::Fault::new(
                syncline_model::Kind::Cancelled,
                "stopped while scanning",
                "",
            ));
        }
    }
    let seen = join.counts();
    let mut draft = Draft::new(shelf, rule.classes.links)?;
    if any {
        let compare = Compare {
            env,
            sides,
            base,
            scope: &scope,
            rule: &rule,
            jobs: options.jobs,
            stop,
        };
        monitor.event(Event::Phase("comparing"));
        let mut rows = dirty.finish()?;
        let (mut merge, mut out) = (Merge::new(&rule), Vec::new());
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            for row in rows.by_ref().take(CHUNK) {
                chunk.push(decode::<Triple>(&row?.1)?);
            }
            if chunk.is_empty() {
                break;
            }
            compare.complete(&mut chunk).await?;
            for triple in chunk {
                merge.push(triple, &mut out)?;
                out.drain(..).try_for_each(|decision| draft.add(decision))?;
            }
        }
        merge.finish(&mut out)?;
        out.drain(..).try_for_each(|decision| draft.add(decision))?;
    }
    Ok(Planned { draft, seen, trust })
}

/// Files of a side before the run: what the brakes measure against.
pub fn files_before(seen: &Pair<Seenings>) -> Pair<u64> {
    Pair::each(|side: Side| seen[side].leaves)
}

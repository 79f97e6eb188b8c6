//! Observe and decide: from two places and a base to a plan. Nothing is changed here but our own state.

use std::sync::Arc;

use syncline_model::moves::{DirMoves, Moved, Piece, Track, assemble, pair, tracks};
use syncline_model::replica::Scope;
use syncline_model::{
    Classes, Conflict, Decision, Fault, Kind, Merge, Mode, Pair, Policy, Result, Rule, Settle, Side, Slot,
    Triple,
};
use syncline_replica::Replica;

use crate::api::{Env, Event, Monitor, Options, Stop};
use crate::compare::Compare;
use crate::merging::Asker;
use crate::plan::Draft;
use crate::rows::{Base, decode, encode};
use crate::scan::{Join, Seenings};
use crate::shelf::Shelf;
use crate::trust::Trust;
use syncline_store::Rows;

/// Rows that are completed and merged at once.
const CHUNK: usize = 2048;

/// What looking and deciding came to.
pub struct Planned<'a> {
    /// What is to be done.
    pub draft: Draft<'a>,
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
        classes: Classes {
            // No attribute that is carried: each side proves by it what it can, whatever the other can.
            ctime: options.classes.ctime,
            ..options.classes.and(left.classes).and(right.classes)
        },
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

/// One look at two places.
pub struct Planner<'a> {
    /// The world.
    pub env: &'a Env,
    /// The replicas.
    pub sides: &'a Pair<Arc<dyn Replica>>,
    /// What was agreed on.
    pub base: &'a Base,
    /// Where rows are sorted.
    pub shelf: &'a dyn Shelf,
    /// What was asked for.
    pub options: &'a Options,
    /// Who is told.
    pub monitor: &'a dyn Monitor,
    /// Ends it.
    pub stop: &'a Stop,
}

/// What is not as it was, and which of it may have moved.
struct Dirty {
    rows: Rows,
    ends: Rows,
    seen: Pair<Seenings>,
}

impl<'a> Planner<'a> {
    /// Looks at both trees and decides.
    pub async fn plan(&self) -> Result<Planned<'a>> {
        let rule = rule(self.options, self.sides);
        let scope = scope(self.options, rule.classes);
        let trust = Trust {
            began: Pair::new(self.sides.left.clock().await?, self.sides.right.clock().await?),
        };
        self.monitor.event(Event::Phase("scanning"));
        let Dirty { rows, ends, seen } = self.look(&rule, &scope).await?;
        let (dirs, files, mut conflicts) = self.moves(ends, &scope).await?;
        let moved = !dirs.is_empty() || files.is_some();
        let triples: Triples = if moved {
            self.renamed(rows, &dirs, files)?
        } else {
            Box::new(rows.map(|row| decode(&row?.1)))
        };
        let mut draft = Draft::new(self.shelf, self.base, Arc::new(dirs), rule.classes.links)?;
        draft.conflicts.append(&mut conflicts);
        self.decide(triples, &rule, &scope, &mut draft).await?;
        Ok(Planned { draft, seen, trust })
    }

    /// Reads both trees beside the base.
    async fn look(&self, rule: &Rule, scope: &Scope) -> Result<Dirty> {
        let mut join = Join::open(
            self.sides,
            self.base,
            self.shelf,
            scope,
            rule,
            self.options.checksum,
        )
        .await?;
        let (mut rows, mut ends) = (self.shelf.sorter()?, self.shelf.sorter()?);
        let may_move = !syncline_model::zoo::on("moves-not-followed")
            && self.options.mode != Mode::Copy
            && !self.base.is_empty()?;
        while let Some(triples) = join.next(CHUNK).await? {
            for triple in triples {
                if may_move {
                    for (key, end) in tracks(&triple) {
                        if self.follows(end.side.other()) {
                            ends.push(&key, &encode(&end)?)?;
                        }
                    }
                }
                rows.push(triple.slot.as_bytes(), &encode(&triple)?)?;
            }
            let counts = join.counts();
            self.monitor.event(Event::Scanned(Pair::new(
                counts.left.entries,
                counts.right.entries,
            )));
            if self.stop.soft() {
                return Err(Fault::new(Kind::Cancelled, "stopped while scanning", ""));
            }
        }
        Ok(Dirty {
            rows: rows.finish()?,
            ends: ends.finish()?,
            seen: join.counts(),
        })
    }

    /// True when a move on the other side can be followed on this one.
    fn follows(&self, side: Side) -> bool {
        let mirrored = self.options.mode == Mode::TwoWay || side == Side::Right;
        mirrored && self.options.writes[side] && self.sides[side].profile().renames
    }

    /// Pairs what vanished with what appeared. Files by their old slot, if any moved by themselves.
    async fn moves(&self, ends: Rows, scope: &Scope) -> Result<(DirMoves, Option<Rows>, Vec<Conflict>)> {
        let mut groups = Groups::over(ends);
        let (mut pairs, mut alike, mut first_file) = (Vec::new(), Vec::new(), None);
        while let Some((key, group)) = groups.next::<Track>()? {
            if key[0] == 1 {
                first_file = Some(group);
                break;
            }
            let Some(moved) = pair(&group) else { continue };
            if moved.alike {
                alike.push(moved);
            } else if self.free(&moved, scope).await? {
                pairs.push(moved);
            }
        }
        pairs.extend(by_both(alike));
        let (dirs, conflicts) = DirMoves::new(pairs);
        let (mut files, mut any) = (self.shelf.sorter()?, false);
        while let Some(group) = match first_file.take() {
            Some(group) => Some(group),
            None => groups.next::<Track>()?.map(|(_, group)| group),
        } {
            if let Some(moved) = pair(&group).filter(|moved| dirs.allow(moved))
                && (moved.alike || self.free(&moved, scope).await?)
            {
                any = true;
                files.push(Slot::of(&moved.from, false).as_bytes(), &encode(&moved)?)?;
            }
        }
        Ok((dirs, if any { Some(files.finish()?) } else { None }, conflicts))
    }

    /// Nothing of any kind stands at the new name on the side that is to follow.
    async fn free(&self, moved: &Moved, scope: &Scope) -> Result<bool> {
        Ok(self.sides[moved.side.other()]
            .find(&moved.to, scope)
            .await?
            .is_none())
    }

    /// The triples under their new names, in order.
    fn renamed(&self, rows: Rows, dirs: &DirMoves, files: Option<Rows>) -> Result<Triples> {
        let mut files = files.into_iter().flatten().peekable();
        let mut pieces = self.shelf.sorter()?;
        for row in rows {
            let (slot, triple) = row?;
            let (mut file, mut alike) = (None, Vec::new());
            while let Some(row) = files.next_if(|row| row.as_ref().map_or(true, |(from, _)| *from == slot)) {
                let moved: Moved = decode(&row?.1)?;
                if moved.alike {
                    alike.push(moved)
                } else {
                    file = Some(moved)
                }
            }
            let file = file.or_else(|| by_both(alike).pop());
            for (slot, piece) in dirs.redirect(decode(&triple)?, file.as_ref()) {
                pieces.push(slot.as_bytes(), &encode(&piece)?)?;
            }
        }
        let mut groups = Groups::over(pieces.finish()?);
        Ok(Box::new(std::iter::from_fn(move || {
            let group = groups.next::<Piece>().transpose()?;
            Some(group.and_then(|(slot, pieces)| {
                let slot = Slot::new(slot).map_err(|bad| Fault::new(Kind::Bug, bad.to_string(), ""))?;
                Ok(assemble(slot, pieces))
            }))
        })))
    }

    /// Completes and merges.
    async fn decide(
        &self,
        mut triples: Triples,
        rule: &Rule,
        scope: &Scope,
        draft: &mut Draft<'a>,
    ) -> Result<()> {
        let &Self {
            env,
            sides,
            base,
            options,
            stop,
            ..
        } = self;
        let compare = Compare {
            env,
            sides,
            base,
            moves: draft.moves.clone(),
            scope,
            rule,
            jobs: options.jobs,
            stop,
        };
        self.monitor.event(Event::Phase("comparing"));
        let (mut merge, mut out) = (Merge::new(rule), Vec::new());
        loop {
            let mut chunk = triples.by_ref().take(CHUNK).collect::<Result<Vec<_>>>()?;
            if chunk.is_empty() {
                break;
            }
            compare.complete(&mut chunk).await?;
            for triple in chunk {
                match self.by_command(&triple, rule).await? {
                    Some(settle) => out.push(Decision::Settle(Box::new(settle))),
                    None => merge.push(triple, &mut out)?,
                }
                out.drain(..).try_for_each(|decision| draft.add(decision))?;
            }
        }
        merge.finish(&mut out)?;
        out.drain(..).try_for_each(|decision| draft.add(decision))
    }
}

impl Planner<'_> {
    /// What a command of the user's makes of two edits.
    async fn by_command(&self, triple: &Triple, rule: &Rule) -> Result<Option<Settle>> {
        let Some(merger) = &self.options.merger else {
            return Ok(None);
        };
        let asker = Asker {
            env: self.env,
            sides: self.sides,
            base: self.base,
            merger: &**merger,
            monitor: self.monitor,
        };
        asker.settle(triple, rule).await
    }
}

/// The moves that both sides made: each is found once on either.
fn by_both(mut alike: Vec<Moved>) -> Vec<Moved> {
    alike.sort_by(|a, b| (&a.from, &a.to, a.side).cmp(&(&b.from, &b.to, b.side)));
    let both = |pair: &&[Moved]| pair[0].from == pair[1].from && pair[0].to == pair[1].to;
    alike
        .windows(2)
        .filter(both)
        .map(|pair| pair[0].clone())
        .collect()
}

/// Triples in order.
type Triples = Box<dyn Iterator<Item = Result<Triple>> + Send>;

/// Sorted rows, taken together where their keys are equal.
struct Groups {
    rows: std::iter::Peekable<Rows>,
}

impl Groups {
    fn over(rows: Rows) -> Self {
        Self {
            rows: rows.peekable(),
        }
    }

    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<(Vec<u8>, Vec<T>)>> {
        let Some((key, value)) = self.rows.next().transpose()? else {
            return Ok(None);
        };
        let mut group = vec![decode(&value)?];
        while let Some(row) = self
            .rows
            .next_if(|row| row.as_ref().is_ok_and(|(next, _)| *next == key))
        {
            group.push(decode(&row?.1)?);
        }
        Ok(Some((key, group)))
    }
}

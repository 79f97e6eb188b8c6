//! Observe and decide: from two places and a base to a plan. Nothing is changed here but our own state.

use std::collections::HashSet;
use std::sync::Arc;

use syncline_model::moves::chains::{CHAINED_MAX, Ground, by_both, directories};
use syncline_model::moves::{Chains, Moved, Moves, Piece, Shift, Standing, Track, assemble, pair, tracks};
use syncline_model::replica::Scope;
use syncline_model::{
    Classes, Conflict, Decision, Fault, Kind, Merge, Mode, Pair, Policy, RelPath, Result, Rule, Sameness,
    Settle, Side, Slot, Triple,
};
use syncline_replica::Replica;

use crate::api::{Env, Event, Monitor, Options, Stop};
use crate::compare::Compare;
use crate::merging::Asker;
use crate::packed::{pack, pack_pieces, slot_of, unpack, unpack_pieces};
use crate::parallel::Prefetched;
use crate::plan::Draft;
use crate::rows::{Base, decode, encode};
use crate::scan::{Join, Seenings};
use crate::shelf::Shelf;
use crate::trust::Trust;
use syncline_store::Rows;

/// Rows that are completed and merged at once.
const CHUNK: usize = 2048;
/// Such chunks that are read ahead.
const WAITING: usize = 2;

/// What looking and deciding came to.
pub struct Planned<'a> {
    /// What is to be done.
    pub draft: Draft<'a>,
    /// What was seen of each side.
    pub seen: Pair<Seenings>,
    /// By which clocks it was seen.
    pub trust: Trust,
}

/// What of attributes is looked at and carried between these replicas.
pub fn classes(options: &Options, sides: &Pair<Arc<dyn Replica>>) -> Classes {
    let (left, right) = (sides.left.profile(), sides.right.profile());
    Classes {
        // No attribute that is carried: each side proves by it what it can, whatever the other can.
        ctime: options.classes.ctime,
        ..options.classes.and(left.classes).and(right.classes)
    }
}

/// The rule that these options make for these replicas.
pub fn rule(options: &Options, sides: &Pair<Arc<dyn Replica>>) -> Rule {
    let (left, right) = (sides.left.profile(), sides.right.profile());
    let waits = !(options.writes.left && options.writes.right);
    Rule {
        mode: options.mode,
        leader: options.leader,
        policy: if waits { Policy::Hold } else { options.policy },
        classes: classes(options, sides),
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
        let (moves, files, conflicts) = self.moves(ends, &rule, &scope).await?;
        let moves = Arc::new(moves);
        let triples: Triples = if !moves.is_empty() || files.is_some() {
            self.renamed(rows, &moves, files).await?
        } else {
            Box::new(rows.map(|row| row.and_then(|(slot, triple)| unpack(slot, &triple))))
        };
        let shared = rule
            .classes
            .links
            .then(|| Pair::each(|side| self.sides[side].profile().second_names));
        let mut draft = Draft::new(self.shelf, self.base, moves.clone(), shared)?;
        for conflict in &conflicts {
            draft.conflicts.add(conflict)?;
        }
        moves
            .chains
            .removals()
            .try_for_each(|removal| draft.add(removal))?;
        self.decide(triples, &rule, &scope, trust, &mut draft).await?;
        Ok(Planned { draft, seen, trust })
    }

    /// Reads both trees beside the base.
    async fn look(&self, rule: &Rule, scope: &Scope) -> Result<Dirty> {
        let mut join = Join::open(
            self.env,
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
            && join.has_base();
        while let Some(triples) = join.next(CHUNK).await? {
            for triple in triples {
                if may_move {
                    for (key, end) in tracks(&triple) {
                        if self.follows(end.side.other()) {
                            ends.push(&key, &encode(&end)?)?;
                        }
                    }
                }
                rows.push(triple.slot.as_bytes(), &pack(&triple)?)?;
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
        let mirrored = self.options.mode == Mode::TwoWay || side != self.options.leader;
        mirrored && self.options.writes[side] && self.sides[side].profile().renames
    }

    /// Pairs what vanished with what appeared. Files by their old slot, if any moved by themselves.
    async fn moves(
        &self,
        ends: Rows,
        rule: &Rule,
        scope: &Scope,
    ) -> Result<(Moves, Option<Rows>, Vec<Conflict>)> {
        let mut groups = Groups::over(ends);
        let (mut pairs, mut alike, mut chained, mut first_file) = (Vec::new(), Vec::new(), Vec::new(), None);
        while let Some((key, group)) = groups.next(decode::<Track>)? {
            if key[0] == 1 {
                first_file = Some(group);
                break;
            }
            let Some(shift) = two(group).and_then(pair) else {
                continue;
            };
            match shift.plain().filter(|_| !shift.chained()) {
                Some(moved) if moved.alike => alike.push(shift),
                Some(moved) if self.free(&moved, &moved.to, scope).await? => pairs.push(moved),
                None if chained.len() < CHAINED_MAX => chained.push(shift),
                _ => {}
            }
        }
        alike.sort_by(|a: &Shift, b| a.from.slot.cmp(&b.from.slot));
        let same = |a: &Shift, b: &Shift| a.from.slot == b.from.slot;
        pairs.extend(
            alike
                .chunk_by(same)
                .filter_map(|both| by_both(both.to_vec()).ok()),
        );
        let profile = |side: Side| self.sides[side].profile();
        let ground = Ground {
            exchanges: Pair::each(|side| profile(side).exchanges),
            keeps: rule.skip_deletes,
        };
        pairs.extend(directories(self.followable(chained, rule, scope).await?, ground));
        let (mut moves, mut conflicts) = Moves::new(pairs.clone(), ground.exchanges);
        while let Some(held) = self.held(&moves, scope).await? {
            pairs.retain(|moved| *moved != held);
            (moves, conflicts) = Moves::new(pairs.clone(), ground.exchanges);
        }
        let first = first_file.into_iter();
        let files = self
            .files(first, &mut groups, &mut moves, ground, rule, scope)
            .await?;
        Ok((moves, files, conflicts))
    }

    /// Files that moved by themselves, by their old slot, if there are any; those over names in use become part of `moves`.
    async fn files(
        &self,
        mut first: impl Iterator<Item = Vec<Track>>,
        groups: &mut Groups,
        moves: &mut Moves,
        ground: Ground,
        rule: &Rule,
        scope: &Scope,
    ) -> Result<Option<Rows>> {
        let (mut files, mut alike) = (self.shelf.sorter()?, self.shelf.sorter()?);
        let (mut any, mut chained) = (false, Vec::new());
        while let Some(group) = match first.next() {
            Some(group) => Some(group),
            None => groups.next(decode::<Track>)?.map(|(_, group)| group),
        } {
            let Some(mut shift) = two(group)
                .and_then(pair)
                .filter(|shift| moves.allow(&shift.moved()))
            else {
                continue;
            };
            // What a directory brought to the old name is not in its place: that lies elsewhere by now.
            if let Some(was) = moves
                .rebase(shift.side(), &shift.from.slot.path())
                .filter(|_| shift.from.used)
            {
                shift.from.used = self.sides[shift.side()].find(&was, scope).await?.is_some();
            }
            if shift.chained() {
                if chained.len() < CHAINED_MAX {
                    chained.extend(moves.beside(shift));
                }
                continue;
            }
            let Some(moved) = shift.plain().map(|moved| moves.ended(moved)) else {
                continue;
            };
            let to = moves.before(moved.side.other(), &moved.to);
            if moved.alike {
                alike.push(shift.from.slot.as_bytes(), &encode(&shift)?)?;
            } else if self.free(&moved, &to, scope).await? && !self.knotted(&moved, &to, scope).await? {
                any = true;
                files.push(shift.from.slot.as_bytes(), &encode(&moved)?)?;
            }
        }
        let mut alike = Groups::over(alike.finish()?);
        while let Some((from, shifts)) = alike.next(decode::<Shift>)? {
            match by_both(shifts) {
                Ok(moved) => {
                    any = true;
                    files.push(&from, &encode(&moved)?)?;
                }
                Err(shifts) if chained.len() < CHAINED_MAX => {
                    chained.extend(shifts.into_iter().filter_map(|shift| moves.beside(shift)));
                }
                Err(_) => {}
            }
        }
        moves.chains = Chains::new(self.followable(chained, rule, scope).await?, ground);
        Ok(if any { Some(files.finish()?) } else { None })
    }

    /// Of the moves over names in use those that may be followed here, and whose new names nothing of another kind holds.
    async fn followable(&self, shifts: Vec<Shift>, rule: &Rule, scope: &Scope) -> Result<Vec<Shift>> {
        let mut kept = Vec::with_capacity(shifts.len());
        let left: HashSet<(Side, Slot)> = shifts
            .iter()
            .map(|shift| (shift.side(), shift.from.slot.clone()))
            .collect();
        for mut shift in shifts.into_iter().filter(|_| rule.policy != Policy::Hold) {
            let moved = shift.moved();
            if shift.to.other == Standing::Follows {
                if !self.free(&moved, &moved.to, scope).await? {
                    continue;
                }
                let parent = moved.to.parent().filter(|parent| !parent.is_root());
                shift.late = match parent {
                    Some(parent) => !self.is_dir(moved.side.other(), &parent, scope).await?,
                    None => false,
                };
            }
            // What does not move on has been put over: it may go if it is what was agreed on.
            if shift.to.other == Standing::Occupied
                && !left.contains(&(shift.side(), shift.to.slot.clone()))
                && self.untouched(&shift).await?
            {
                shift.to.other = Standing::Untouched;
            }
            kept.push(shift);
        }
        Ok(kept)
    }

    /// Reads what stands at the new name of a file: true when it is what was agreed on.
    async fn untouched(&self, shift: &Shift) -> Result<bool> {
        let (side, slot) = (shift.side().other(), &shift.to.slot);
        let row = self.base.row(slot)?;
        let known = row.as_ref().and_then(|row| row[side].as_ref());
        let known = known.and_then(|known| known.entry.content());
        let (Some(there), Some(known)) = (&shift.to.occupant, known) else {
            return Ok(false);
        };
        match self.sides[side].digest(&slot.path(), there).await {
            Ok(read) => Ok(known.same(&read) == Sameness::Same),
            Err(fault) if matches!(fault.kind, Kind::Offline | Kind::Bug | Kind::Cancelled) => Err(fault),
            Err(_) => Ok(false),
        }
    }

    /// True when a directory takes the old name and the one around the new name is still to be made: directories are made
    /// before files move into them and after files left their names, so neither can be first. Such a file is copied.
    async fn knotted(&self, moved: &Moved, to: &RelPath, scope: &Scope) -> Result<bool> {
        let Some(parent) = to.parent().filter(|parent| !parent.is_root()) else {
            return Ok(false);
        };
        Ok(!self.is_dir(moved.side.other(), &parent, scope).await?
            && self.is_dir(moved.side, &moved.from, scope).await?)
    }

    async fn is_dir(&self, side: Side, path: &RelPath, scope: &Scope) -> Result<bool> {
        let found = self.sides[side].find(path, scope).await?;
        Ok(found.is_some_and(|found| found.entry.is_dir()))
    }

    /// A directory whose new name is held by what another one brings along.
    async fn held(&self, moves: &Moves, scope: &Scope) -> Result<Option<Moved>> {
        for (moved, at) in moves.inward() {
            if !self.free(moved, &at, scope).await? {
                return Ok(Some(moved.clone()));
            }
        }
        Ok(None)
    }

    /// Nothing of any kind stands at `to` on the side that is to follow.
    async fn free(&self, moved: &Moved, to: &RelPath, scope: &Scope) -> Result<bool> {
        Ok(self.sides[moved.side.other()].find(to, scope).await?.is_none())
    }

    /// The triples under their new names, in order.
    async fn renamed(&self, rows: Rows, moves: &Arc<Moves>, files: Option<Rows>) -> Result<Triples> {
        let files = files.into_iter().flatten().peekable();
        let moves = moves.clone();
        let mut redirected =
            Prefetched::of(self.env, WAITING, (rows, files), move |(mut rows, mut files)| {
                let pieces = redirect(&mut rows, &mut files, &moves);
                async move { ((rows, files), pieces) }
            });
        let mut pieces = self.shelf.sorter()?;
        while let Some(chunk) = redirected.next().await? {
            for pieces_there in chunk.chunk_by(|(slot, _), (next, _)| slot == next) {
                let packed = pack_pieces(pieces_there.iter().map(|(_, piece)| piece))?;
                pieces.push(pieces_there[0].0.as_bytes(), &packed)?;
            }
        }
        let mut groups = Groups::over(pieces.finish()?);
        Ok(Box::new(std::iter::from_fn(move || {
            let group = groups.next(unpack_pieces).transpose()?;
            Some(group.and_then(|(slot, pieces)| Ok(assemble(slot_of(slot)?, pieces.into_iter().flatten()))))
        })))
    }

    /// Completes and merges.
    async fn decide(
        &self,
        triples: Triples,
        rule: &Rule,
        scope: &Scope,
        trust: Trust,
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
            trust,
            moves: draft.moves.clone(),
            scope,
            rule,
            jobs: options.jobs,
            stop,
        };
        self.monitor.event(Event::Phase("comparing"));
        let (mut merge, mut out) = (Merge::new(rule), Vec::new());
        let mut chunks = Prefetched::of(env, WAITING, triples, |mut triples| async move {
            let chunk = triples.by_ref().take(CHUNK).collect::<Result<Vec<_>>>();
            (triples, chunk.map(|chunk| (!chunk.is_empty()).then_some(chunk)))
        });
        while let Some(mut chunk) = chunks.next().await? {
            self.unseen(&mut chunk, draft).await?;
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

/// What of the next rows belongs where; `None` when there are no more.
fn redirect(
    rows: &mut Rows,
    files: &mut std::iter::Peekable<std::iter::Flatten<std::option::IntoIter<Rows>>>,
    moves: &Moves,
) -> Result<Option<Vec<(Slot, Piece)>>> {
    let mut pieces = Vec::with_capacity(2 * CHUNK);
    let mut none = true;
    for row in rows.take(CHUNK) {
        let (slot, triple) = row?;
        let file = files.next_if(|row| row.as_ref().map_or(true, |(from, _)| *from == slot));
        let file: Option<Moved> = file.map(|row| decode(&row?.1)).transpose()?;
        pieces.extend(moves.redirect(unpack(slot, &triple)?, file.as_ref()));
        none = false;
    }
    Ok((!none).then_some(pieces))
}

/// Of more ends than two nobody could tell which became which.
fn two(group: Vec<Track>) -> Option<[Track; 2]> {
    group.try_into().ok()
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

    fn next<T>(&mut self, read: impl Fn(&[u8]) -> Result<T>) -> Result<Option<(Vec<u8>, Vec<T>)>> {
        let Some((key, value)) = self.rows.next().transpose()? else {
            return Ok(None);
        };
        let mut group = vec![read(&value)?];
        while let Some(row) = self
            .rows
            .next_if(|row| row.as_ref().is_ok_and(|(next, _)| *next == key))
        {
            group.push(read(&row?.1)?);
        }
        Ok(Some((key, group)))
    }
}

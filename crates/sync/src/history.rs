//! Runs taken back, paths brought back, conflicts settled: each a new run through the same last mile.
//!
//! Invariant: what was changed since is left alone and listed; what is displaced goes to the trash like anything else, so an undo
//! can be undone. The base is not told of an undo or a restore: the next sync sees their result as an edit.

use std::collections::BTreeSet;
use std::sync::Arc;

use syncline_model::guard::Verdict;
use syncline_model::moves::Moves;
use syncline_model::replica::Scope;
use syncline_model::{
    Action, Change, Clash, Conflict, Entry, Fault, From, Kind, Observation, Pair, Policy, RelPath, Result,
    Row, Settle, Side, Slot, Step, Tag, Was,
};

use crate::api::{Event, Exit, Keep, Monitor, OpenConflict, Options, Report, Stop};
use crate::execute::Execution;
use crate::journal::{self, Done, Record};
use crate::plan::Draft;
use crate::session::carried::Work;
use crate::session::told::tell;
use crate::session::{Begun, Session};
use crate::showing::{Deed, stands};
use crate::trust::Trust;

impl Session {
    /// Takes a run back, the last one that changed anything unless named: on the replicas where it wrote, step by step from the
    /// last, each only where its result still stands.
    pub async fn undo(
        &self,
        run: Option<&str>,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        self.limited(options, self.undo_within(run, options, monitor, stop))
            .await
    }

    async fn undo_within(
        &self,
        run: Option<&str>,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let begun = self.begin()?;
        self.recover(options.dry_run, monitor).await?;
        let run = match run {
            Some(run) if self.shelf.runs()?.iter().any(|known| known == run) => run.to_owned(),
            Some(run) => {
                return Err(Fault::new(
                    Kind::Invalid,
                    "no run of this session has that name",
                    format!("{run:?}"),
                )
                .hint(
                    "syncline log lists them; without a name the last one that changed anything is meant",
                ));
            }
            None => self.last_changing_run()?,
        };
        let mut backwards = self.shelf.sorter()?;
        let (mut options, mut resolved) = (options.clone(), Vec::new());
        for (number, record) in journal::read(&*self.shelf, &run)?.enumerate() {
            match record? {
                Record::Done(done) => backwards.push(
                    &(u64::MAX - number as u64).to_be_bytes(),
                    &crate::rows::encode(&(&done, done.agreed))?,
                )?,
                Record::Carries(classes) => options.classes = classes,
                Record::Resolved(conflict) => resolved.push(*conflict),
                _ => {}
            }
        }
        let options = &options;
        let mut rows = backwards.finish()?;
        let mut deed = Deed::begin(self, &begun, &format!("undo {run}"), options, monitor, stop).await?;
        let outcome = async {
            loop {
                let (mut steps, mut unagreed, mut ended) = (Vec::new(), Vec::new(), true);
                for row in rows.by_ref().take(4096) {
                    ended = false;
                    let (done, agreed): (Done, bool) = crate::rows::decode(&row?.1)?;
                    let (reversed, stands) = self.reversed(&done, &mut deed).await?;
                    // What nobody had agreed on meets what it lost against once more, as if the run had not been.
                    if !agreed && stands {
                        let is_dir = done.change.new.as_ref().is_some_and(Entry::is_dir);
                        unagreed.push((Slot::of(&done.change.path, is_dir), None));
                    }
                    steps.extend(reversed);
                }
                if ended || deed.stopped() {
                    break;
                }
                if !options.dry_run && !unagreed.is_empty() {
                    self.base.write(unagreed)?;
                    self.base.persist()?;
                }
                deed.sequence(steps).await?;
            }
            if deed.all_done() {
                self.base.unmeet(&run, &resolved)?;
            }
            Ok(())
        }
        .await;
        deed.report(self, &begun, outcome).await
    }

    fn last_changing_run(&self) -> Result<String> {
        let mut runs = journal::runs(&*self.shelf)?;
        runs.retain(|run| run.left.steps() + run.right.steps() > 0);
        runs.pop().map(|run| run.run).ok_or_else(|| {
            Fault::new(Kind::NotFound, "there is no run that changed anything", "")
                .hint("syncline log lists the runs")
        })
    }

    /// The steps that take `done` back, and whether it still stands. Later changes of an inode by this very undo are no reason to refuse.
    async fn reversed(&self, done: &Done, deed: &mut Deed<'_>) -> Result<(Vec<Step>, bool)> {
        if done.action == Action::Times || brought(&done.change) {
            return Ok((Vec::new(), false));
        }
        let Some(mut changes) = journal::reverse(done) else {
            deed.lost(
                done.side,
                &done.change.path,
                "its former content is not in the trash",
            );
            return Ok((Vec::new(), false));
        };
        let path = &done.change.path;
        let found = self.sides[done.side].find(path, &Scope::default()).await?;
        let made = done.now.as_ref();
        let linked = found
            .as_ref()
            .zip(made)
            .is_some_and(|(found, made)| same_links(found, made));
        let stands = linked || stands(found.as_ref(), made);
        // The first of several expects nothing where it moves to: what it moves is looked at here.
        if changes.len() > 1 && !stands {
            deed.leave(done.side, path);
            return Ok((Vec::new(), false));
        }
        if let Some((_, change)) = changes.first_mut()
            && let (Some(old), Some(now)) = (&mut change.old, found)
            && (linked || (!old.entry.is_file() && now.entry.kind() == old.entry.kind()))
        {
            *old = now;
        }
        let steps = changes.into_iter().map(|(action, change)| Step {
            side: done.side,
            action,
            change,
            source: None,
        });
        Ok((steps.collect(), stands))
    }

    /// Settles conflicts: all that wait, or those at these paths.
    pub async fn resolve(
        &self,
        paths: Option<&[RelPath]>,
        keep: Keep,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        self.limited(options, self.resolve_within(paths, keep, options, monitor, stop))
            .await
    }

    async fn resolve_within(
        &self,
        paths: Option<&[RelPath]>,
        keep: Keep,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let open: Vec<OpenConflict> = match paths {
            Some(paths) => {
                let paths: BTreeSet<_> = paths.iter().collect();
                let mut open = Vec::new();
                for path in paths {
                    let there = self.base.conflicts_at(path)?;
                    if there.is_empty() {
                        let why = "there is no open conflict at this path";
                        return Err(
                            Fault::new(Kind::NotFound, why, path).hint("syncline conflicts lists them")
                        );
                    }
                    open.extend(there);
                }
                open
            }
            None => self.base.conflicts().collect::<Result<_>>()?,
        };
        let (held, mut kept): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|open| open.conflict.winner.is_none());
        kept.sort_by(|a, b| (&a.conflict.path, &a.run).cmp(&(&b.conflict.path, &b.run)));
        let mut report = self.resolve_kept(kept, keep, options, monitor, stop).await?;
        if !held.is_empty() {
            let mut options = options.clone();
            // The limit is the whole verb's.
            options.hard_limit = None;
            options.only = held.iter().map(|open| open.conflict.path.clone()).collect();
            options.policy = match keep {
                Keep::Side(Side::Left) => Policy::Left,
                Keep::Side(Side::Right) => Policy::Right,
                Keep::Both => Policy::KeepBoth,
                Keep::Newest => Policy::Newest,
                Keep::Largest => Policy::Largest,
            };
            let second = self.run("resolve", &options, monitor, stop).await?;
            // Who asks for both has them now.
            let mut both = Vec::new();
            for path in &options.only {
                let mut there = self.base.conflicts_at(path)?;
                there.retain(|open| open.conflict.winner.is_some() && Some(&open.run) == second.run.as_ref());
                both.extend(there.into_iter().map(|open| open.conflict));
            }
            if !both.is_empty() {
                self.base.settle_conflicts(&both)?;
                self.base.persist()?;
            }
            report.left.join(&second.left);
            report.right.join(&second.right);
            report.problems += second.problems;
            report.exit = report.exit.max(if second.exit == Exit::Conflict {
                Exit::Done
            } else {
                second.exit
            });
            report.run = report.run.or(second.run);
        }
        report.conflicts = self.base.count_conflicts()?;
        Ok(report)
    }

    async fn resolve_kept(
        &self,
        open: Vec<OpenConflict>,
        keep: Keep,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let begun = self.begin()?;
        self.recover(options.dry_run, monitor).await?;
        let mut draft = Draft::new(&*self.shelf, &self.base, Arc::new(Moves::default()), None)?;
        let mut settled = Vec::new();
        for there in open.chunk_by(|a, b| a.conflict.path == b.conflict.path) {
            for open in there {
                if let Some(side) = keep_of(there, open, keep) {
                    let Some(settle) = self.settlement(&open.conflict, side)? else {
                        let copy = open.conflict.kept.last().map(ToString::to_string);
                        monitor.event(Event::Note(&format!(
                            "{}: a directory stands there; move it away by hand, then rename {} to it",
                            open.conflict.path,
                            copy.unwrap_or_default()
                        )));
                        continue;
                    };
                    draft.add(syncline_model::Decision::Settle(Box::new(settle)))?;
                }
                settled.push(open);
            }
        }
        if options.dry_run {
            tell(&draft, monitor)?;
            let work = Work::of(draft, Trust::default(), &self.base)?;
            return self
                .show(&begun, work, 0, &Verdict::Go, options, monitor, None)
                .await;
        }
        let mut execution = self
            .begin_execution("resolve", &begun, Trust::default(), options, monitor, stop)
            .await?;
        let outcome = execution.run(draft.finish()?).await;
        if outcome.is_ok() && execution.all_done() {
            settled
                .iter()
                .try_for_each(|open| execution.journal.resolved(open))?;
        }
        let mut report = self.report(&begun, execution, outcome).await?;
        if report.exit == Exit::Done {
            self.base
                .settle_conflicts(settled.iter().map(|open| &open.conflict))?;
        }
        if settled.len() < open.len() {
            report.exit = report.exit.max(Exit::Conflict);
        }
        self.base.persist()?;
        Ok(report)
    }

    /// What makes one side's version the only one. `None`: a directory would have to go for a file.
    fn settlement(&self, conflict: &Conflict, keep: Side) -> Result<Option<Settle>> {
        let Some(copy) = conflict.kept.get(1) else {
            return Ok(None);
        };
        let slot = Slot::of(copy, false);
        let copied = self.base.row(&slot)?;
        let observed = |row: &Option<Row>, side: Side| row.as_ref().and_then(|row| row[side].clone());
        if Some(keep) == conflict.winner {
            let steps = Side::BOTH
                .into_iter()
                .filter_map(|side| {
                    let old = observed(&copied, side)?;
                    Some(crate::execute::plain(
                        side,
                        Action::Remove,
                        copy.clone(),
                        Some(old),
                        None,
                    ))
                })
                .collect();
            return Ok(Some(Settle {
                slot,
                row: None,
                was: None,
                steps,
            }));
        }
        if conflict.clash != Clash::Edited {
            return Ok(None);
        }
        let at = Slot::of(&conflict.path, false);
        let standing = self.base.row(&at)?;
        let (mut steps, mut row) = (Vec::new(), Pair::new(None, None));
        for side in Side::BOTH {
            let Some(new) = observed(&copied, side) else {
                continue;
            };
            let change = Change {
                path: conflict.path.clone(),
                old: observed(&standing, side),
                new: Some(new.entry.clone()),
                from: Some(From::Move(copy.clone())),
            };
            row[side] = Some(Observation {
                entry: new.entry,
                tag: Tag::None,
            });
            steps.push(Step {
                side,
                action: Action::Update,
                change,
                source: None,
            });
        }
        Ok(Some(Settle {
            slot: at,
            row: Some(row),
            was: Some(Was {
                slot,
                reused: false,
                carried: false,
            }),
            steps,
        }))
    }

    /// An execution whose results the base is not told.
    pub(crate) async fn detached<'a>(
        &'a self,
        begun: &Begun,
        what: &str,
        options: &'a Options,
        monitor: &'a dyn Monitor,
        stop: &'a Stop,
    ) -> Result<Execution<'a>> {
        let mut execution = self
            .begin_execution(what, begun, Trust::default(), options, monitor, stop)
            .await?;
        execution.detached = true;
        Ok(execution)
    }

    pub(crate) async fn report(
        &self,
        begun: &Begun,
        execution: Execution<'_>,
        outcome: Result<()>,
    ) -> Result<Report> {
        let mut report = self.close(begun, execution, outcome, 0).await?;
        report.seconds = self.since(begun);
        Ok(report)
    }
}

/// True when an exchange that has a record of its own brought it there.
fn brought(change: &Change) -> bool {
    matches!(&change.from, Some(From::Exchange(with)) if *with == change.path)
}

/// True for a file that is as it was but for its inode's time: taking back one name of a file changes that of the others.
fn same_links(now: &Observation, old: &Observation) -> bool {
    match (&now.entry, &old.entry, now.tag.stamp(), old.tag.stamp()) {
        (Entry::File(a, x, _), Entry::File(b, y, _), Some(now), Some(old)) => {
            a.mtime == b.mtime && x.size == y.size && now.inode == old.inode
        }
        _ => false,
    }
}

/// The side whose version of `open` stays; `None`: both do. Of several conflicts about one file the last decides what stands there: the
/// copies of those before it are older than that.
fn keep_of(there: &[OpenConflict], open: &OpenConflict, keep: Keep) -> Option<Side> {
    let last = there.last().unwrap_or(open);
    if last.conflict == open.conflict || open.conflict.clash != Clash::Edited {
        return version_of(open, keep);
    }
    version_of(last, keep).and(open.conflict.winner)
}

/// The side whose version is asked for; `None`: both are.
fn version_of(open: &OpenConflict, keep: Keep) -> Option<Side> {
    let sides = &open.conflict.sides;
    let greater = |left: Option<i128>, right: Option<i128>| match (left, right) {
        (Some(left), Some(right)) if left != right => {
            Some(if left > right { Side::Left } else { Side::Right })
        }
        _ => None,
    };
    match keep {
        Keep::Side(side) => Some(side),
        Keep::Both => None,
        Keep::Newest => {
            let time = |side: Side| {
                let mtime = sides[side]
                    .as_ref()
                    .and_then(Entry::meta)
                    .and_then(|meta| meta.mtime)?;
                Some(i128::from(mtime.secs) * 1_000_000_000 + i128::from(mtime.nanos))
            };
            greater(time(Side::Left), time(Side::Right))
        }
        Keep::Largest => {
            let size = |side: Side| sides[side].as_ref().map(|entry| i128::from(entry.size()));
            greater(size(Side::Left), size(Side::Right))
        }
    }
}

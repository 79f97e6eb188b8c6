//! The trash of both sides: looked through, brought back from, emptied.
//!
//! Invariant: of what the trash holds a batch is in memory at a time; what is to be brought back is in memory as a whole.

use std::collections::VecDeque;

use syncline_model::replica::Scope;
use syncline_model::{
    Action, Change, Entry, Fault, From, Kind, Pair, RelPath, Result, Side, Step, Time, TrashRef,
};
use syncline_replica::{Replica, TrashRun, Walk};

use crate::api::{Monitor, Options, Report, Stop};
use crate::session::Session;
use crate::showing::Deed;

/// Something in the trash.
#[derive(Debug, Clone, PartialEq)]
pub struct TrashItem {
    /// The side whose trash holds it.
    pub side: Side,
    /// The run that displaced it.
    pub run: String,
    /// The path that it had.
    pub path: RelPath,
    /// What it is.
    pub entry: Entry,
    /// When that run displaced things, by that side's clock.
    pub time: Time,
}

/// What the trash holds, oldest run first, of each the left side first, of each side in the order of its tree.
pub struct TrashWalk<'a> {
    sides: &'a Pair<std::sync::Arc<dyn Replica>>,
    /// What is still to be looked through.
    runs: VecDeque<(Side, TrashRun)>,
    walk: Option<Box<dyn Walk>>,
}

impl<'a> TrashWalk<'a> {
    async fn new(sides: &'a Pair<std::sync::Arc<dyn Replica>>) -> Result<Self> {
        let mut runs = Vec::new();
        for side in Side::BOTH {
            runs.extend(sides[side].trash().await?.into_iter().map(|run| (side, run)));
        }
        runs.sort_by(|(a, left), (b, right)| (&left.run, a).cmp(&(&right.run, b)));
        Ok(Self {
            sides,
            runs: runs.into(),
            walk: None,
        })
    }

    fn newest_first(&mut self) {
        let runs = self.runs.make_contiguous();
        runs.sort_by(|(a, left), (b, right)| (&right.run, a).cmp(&(&left.run, b)));
    }

    /// The next batch; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<TrashItem>>> {
        while let Some((side, run)) = self.runs.front() {
            let walk = match &mut self.walk {
                Some(walk) => walk,
                none => none.insert(self.sides[*side].trash_list(&run.run).await?),
            };
            if let Some(batch) = walk.next().await? {
                let item = |seen: syncline_model::Seen| TrashItem {
                    side: *side,
                    run: run.run.clone(),
                    path: seen.slot.path(),
                    entry: seen.what.entry,
                    time: run.time,
                };
                return Ok(Some(batch.into_iter().map(item).collect()));
            }
            self.walk = None;
            self.runs.pop_front();
        }
        Ok(None)
    }
}

impl Session {
    /// What the trash of both sides holds.
    pub async fn trash(&self) -> Result<TrashWalk<'_>> {
        TrashWalk::new(&self.sides).await
    }

    /// Brings paths back from the trash: the newest version, that of a run, or as it was at a time (then the first
    /// version displaced after it).
    pub async fn restore(
        &self,
        paths: &[RelPath],
        from: Option<&str>,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        self.limited(options, self.restore_within(paths, from, options, monitor, stop))
            .await
    }

    async fn restore_within(
        &self,
        paths: &[RelPath],
        from: Option<&str>,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let begun = self.begin()?;
        self.recover(options.dry_run, monitor).await?;
        let mut steps = Vec::new();
        for path in paths {
            let found = self.versions(path, from).await?;
            if found.is_empty() {
                let which = from.map_or_else(String::new, |from| format!(" from {from:?}"));
                let what = format!("the trash holds no version of it{which}");
                return Err(Fault::new(Kind::NotFound, what, path)
                    .hint("syncline trash list shows what there is, and of which run"));
            }
            for item in found {
                steps.extend(self.brought_back(&item).await?);
            }
        }
        let what = format!("restore {} paths", paths.len());
        let mut deed = Deed::begin(self, &begun, &what, options, monitor, stop).await?;
        let outcome = deed.sequence(steps).await;
        deed.report(self, &begun, outcome).await
    }

    /// What the trash of one run holds of a path and below it; of two sides that displaced it, the left one.
    async fn versions(&self, path: &RelPath, from: Option<&str>) -> Result<Vec<TrashItem>> {
        let mut walk = self.trash().await?;
        match (from, from.and_then(run_stamp)) {
            (None, _) => walk.newest_first(),
            (Some(_), Some(stamp)) => walk.runs.retain(|(_, run)| run.run >= stamp),
            (Some(from), None) => walk.runs.retain(|(_, run)| run.run == from),
        }
        let mut found: Vec<TrashItem> = Vec::new();
        while let Some(batch) = walk.next().await? {
            let other = |item: &TrashItem| {
                found
                    .first()
                    .is_some_and(|first| (&first.run, first.side) != (&item.run, item.side))
            };
            if batch.first().is_some_and(other) {
                break;
            }
            found.extend(batch.into_iter().filter(|item| item.path.is_within(path)));
        }
        Ok(found)
    }

    async fn brought_back(&self, item: &TrashItem) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let scope = Scope::default();
        let mut missing = Vec::new();
        let mut parent = item.path.parent();
        while let Some(dir) = parent.filter(|dir| !dir.is_root()) {
            if self.sides[item.side].find(&dir, &scope).await?.is_some() {
                break;
            }
            missing.push(dir.clone());
            parent = dir.parent();
        }
        for dir in missing.into_iter().rev() {
            let entry = Entry::Dir(syncline_model::Meta {
                mode: Some(0o755),
                ..Default::default()
            });
            steps.push(crate::execute::plain(
                item.side,
                Action::Mkdir,
                dir,
                None,
                Some(entry),
            ));
        }
        let old = self.sides[item.side].find(&item.path, &scope).await?;
        if item.entry.is_dir() {
            if old.is_none() {
                let new = Some(item.entry.clone());
                steps.push(crate::execute::plain(
                    item.side,
                    Action::Mkdir,
                    item.path.clone(),
                    None,
                    new,
                ));
            }
            return Ok(steps);
        }
        let action = if old.is_some() {
            Action::Update
        } else {
            Action::Create
        };
        let at = TrashRef {
            run: item.run.clone(),
            path: item.path.clone(),
        };
        let change = Change {
            path: item.path.clone(),
            old,
            new: Some(item.entry.clone()),
            from: Some(From::Trash(at)),
        };
        steps.push(Step {
            side: item.side,
            action,
            change,
            source: None,
        });
        Ok(steps)
    }

    /// Forgets the trash of a run, or all of it. How many runs' trash went.
    pub async fn trash_empty(&self, run: Option<&str>) -> Result<u64> {
        let emptied = self
            .empty_trash_of(|held| run.is_none_or(|run| run == held))
            .await?;
        match run {
            Some(run) if emptied == 0 && !self.shelf.runs()?.iter().any(|known| known == run) => {
                let what = "no run of this session has that name, and no trash does";
                Err(Fault::new(Kind::Invalid, what, format!("{run:?}"))
                    .hint("syncline trash list shows what there is, and of which run"))
            }
            _ => Ok(emptied),
        }
    }

    /// Forgets the trash of these runs. How many runs' trash went.
    pub(crate) async fn empty_trash_of(&self, which: impl Fn(&str) -> bool) -> Result<u64> {
        let _begun = self.begin()?;
        let mut emptied = 0;
        for side in Side::BOTH {
            for held in self.sides[side].trash().await? {
                if which(&held.run) {
                    self.sides[side].trash_empty(&held.run).await?;
                    emptied += 1;
                }
            }
        }
        Ok(emptied)
    }
}

/// The beginning of a run's name at a time that a person wrote; `None` when it is no time.
fn run_stamp(text: &str) -> Option<String> {
    let zoned = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
    })?;
    Some(zoned.strftime("%Y%m%dT%H%M%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use syncline_model::{Dice, Seen};
    use syncline_replica::layer::Layer;
    use syncline_replica::{BucketOptions, BucketReplica};
    use syncline_store::Cond;
    use syncline_testkit::env::{FakeClock, SeededDice};
    use syncline_testkit::mem_store::{MemOptions, MemStore};
    use syncline_testkit::store_conformance::put;

    use super::*;

    /// A tree that counts what was read of its trash and not yet dropped, and what was read at all.
    struct Watched {
        inner: BucketReplica,
        held: Arc<AtomicUsize>,
        listed: Arc<AtomicUsize>,
    }

    struct WatchedWalk(Box<dyn Walk>, Arc<AtomicUsize>);

    #[async_trait]
    impl Walk for WatchedWalk {
        async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
            let batch = self.0.next().await?;
            self.1
                .fetch_add(batch.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
            Ok(batch)
        }
    }

    #[async_trait]
    impl Layer for Watched {
        fn below(&self) -> &dyn Replica {
            &self.inner
        }
        async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
            self.listed.fetch_add(1, Ordering::Relaxed);
            let walk = self.inner.trash_list(run).await?;
            Ok(Box::new(WatchedWalk(walk, self.held.clone())))
        }
    }

    const ROWS: usize = 3000;

    async fn sides(held: &Arc<AtomicUsize>, listed: &Arc<AtomicUsize>) -> Pair<Arc<dyn Replica>> {
        let mut sides = Vec::new();
        for side in Side::BOTH {
            let clock = Arc::new(FakeClock::hurrying(1_700_000_000));
            let dice: Arc<dyn Dice> = Arc::new(SeededDice::new(7));
            let store = MemStore::new(side.name(), MemOptions::default(), clock.clone(), dice.clone());
            // The runs of the two sides interleave, and share one.
            for run in [["1", "3", "5"], ["2", "3", "4"]][side as usize] {
                for row in 0..ROWS {
                    let key = format!(".syncline/trash/{run}/f{row:05}");
                    put(&store, &key, b"x", Cond::Absent).await.unwrap();
                }
            }
            let options = BucketOptions {
                place: side.name().into(),
                host: "bucket".into(),
                device: "one".into(),
                state: None,
                clock,
                dice,
                read_only: false,
            };
            let inner = BucketReplica::new(Arc::new(store), options).unwrap();
            let (held, listed) = (held.clone(), listed.clone());
            let watched: Arc<dyn Replica> = Arc::new(Watched { inner, held, listed });
            sides.push(watched);
        }
        let right = sides.pop().unwrap();
        Pair::new(sides.pop().unwrap(), right)
    }

    #[tokio::test]
    async fn what_the_trash_holds_comes_in_batches_by_run_and_side() {
        let (held, listed) = (Arc::default(), Arc::default());
        let sides = sides(&held, &listed).await;
        let mut walk = TrashWalk::new(&sides).await.unwrap();
        let mut parts: Vec<(String, Side, usize)> = Vec::new();
        while let Some(batch) = walk.next().await.unwrap() {
            assert!(
                held.swap(0, Ordering::Relaxed) <= batch.len(),
                "no more is read than is handed out"
            );
            assert!(batch.len() < ROWS, "a part of a run at a time");
            for item in &batch {
                match parts.last_mut() {
                    Some((run, side, rows)) if (&*run, *side) == (&item.run, item.side) => *rows += 1,
                    _ => parts.push((item.run.clone(), item.side, 1)),
                }
            }
        }
        let (left, right) = (Side::Left, Side::Right);
        let expected = [
            ("1", left),
            ("2", right),
            ("3", left),
            ("3", right),
            ("4", right),
            ("5", left),
        ];
        let expected = expected.map(|(run, side)| (run.to_string(), side, ROWS));
        assert_eq!(parts, expected);
        assert_eq!(listed.load(Ordering::Relaxed), 6);
    }
}

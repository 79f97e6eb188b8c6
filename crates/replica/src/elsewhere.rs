//! A tree whose trash lies at another place (`--trash PLACE`), for web roots and public buckets.
//!
//! What a run displaces goes to the tree's own trash first, as ever, and from there to the other place when the run has ended. So a path is
//! never empty in between, and what a killed run leaves behind is taken along by the next one.
//!
//! Invariant: the own trash of a run goes only after all of it is durable at the other place. To those who look, the trash of a run is
//! one, wherever its parts lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use syncline_model::filter::Filter;
use syncline_model::{
    Change, Classes, Entry, Fault, From, Kind, Meta, Name, Observation, RelPath, Result, Scope, Seen, Time,
    TrashRef,
};

use crate::layer::Layer;
use crate::seam::{Applied, Body, Durability, Edit, EditOptions, Replica, Staged, TrashRun, Walk};
use crate::walks::{Below, Merged};

/// A part of another tree that holds trash: one directory for each run.
#[derive(Clone)]
pub struct Elsewhere {
    /// The other place.
    pub place: Arc<dyn Replica>,
    /// Where the trash of this side of this session begins.
    pub below: RelPath,
}

/// A tree whose trash lies elsewhere.
pub struct TrashElsewhere {
    /// The tree.
    pub inner: Arc<dyn Replica>,
    /// Where what is displaced goes; `None`: it stays.
    pub goes: Option<Elsewhere>,
    /// Where trash of earlier runs may lie.
    pub lies: Vec<Elsewhere>,
}

fn gone(at: impl std::fmt::Display) -> Fault {
    Fault::new(Kind::NotFound, "the trash does not hold it (any more)", at)
}

fn whole(classes: Classes) -> Scope {
    Scope {
        classes,
        ..Scope::default()
    }
}

impl Elsewhere {
    fn run(&self, run: &str) -> Result<RelPath> {
        let name = Name::new(run.as_bytes())
            .map_err(|bad| Fault::new(Kind::Invalid, format!("the name of a run: {bad}"), run))?;
        Ok(self.below.join(&name))
    }

    fn at(&self, at: &TrashRef) -> Result<RelPath> {
        let run = self.run(&at.run)?;
        at.path
            .rebase(&RelPath::root(), &run)
            .ok_or_else(|| gone(&at.path))
    }

    async fn find(&self, at: &TrashRef) -> Result<Option<(RelPath, Observation)>> {
        let path = self.at(at)?;
        let scope = whole(self.place.profile().classes);
        let found = self.place.find(&path, &scope).await?;
        Ok(found.map(|found| (path, found)))
    }

    /// The runs that have trash here.
    async fn runs(&self) -> Result<Vec<TrashRun>> {
        // What lies below the directories of runs need not be looked at.
        let deep = [self.below.as_bytes(), b"/*/*"].concat();
        let rules = [[b"/", &deep[..]].concat()];
        let filter = Filter::from_rules(rules)
            .map_err(|bad| Fault::new(Kind::Bug, format!("{bad:?}"), &self.below))?;
        let scope = Scope {
            only: vec![self.below.clone()],
            filter: Arc::new(filter),
            ..Scope::default()
        };
        let mut walk = self.place.scan(&scope).await?;
        let mut runs = BTreeSet::new();
        while let Some(batch) = walk.next().await? {
            for seen in batch {
                let below = seen.slot.path().rebase(&self.below, &RelPath::root());
                let run = below.and_then(|below| below.components().next());
                runs.extend(run.and_then(|run| String::from_utf8(run.as_bytes().to_vec()).ok()));
            }
        }
        // What bears no time that its name tells is none of ours.
        let known = |run: String| time_of(&run).map(|time| TrashRun { run, time });
        Ok(runs.into_iter().filter_map(known).collect())
    }

    /// What it holds of a run, in order, under the paths that it had.
    async fn list(&self, run: &str) -> Result<Below> {
        let top = self.run(run)?;
        let scope = Scope {
            only: vec![top.clone()],
            ..whole(self.place.profile().classes)
        };
        let walk = self.place.scan(&scope).await?;
        Ok(Below { walk, top })
    }

    fn options(&self, run: &str) -> EditOptions {
        EditOptions {
            run: run.to_owned(),
            trash: false,
            classes: self.place.profile().classes,
            durability: Durability::Batch,
        }
    }

    /// Removes all that it holds of a run: each directory once the walk has left it.
    async fn empty(&self, run: &str) -> Result<()> {
        let top = self.run(run)?;
        let scope = whole(self.place.profile().classes);
        let Some(dir) = self.place.find(&top, &scope).await? else {
            return Ok(());
        };
        let edit = self.place.edit(&self.options(run)).await?;
        let mut walk = self.list(run).await?;
        let mut within = vec![(top.clone(), dir)];
        while let Some(batch) = walk.next().await? {
            for Seen { slot, what } in batch {
                let path = slot
                    .path()
                    .rebase(&RelPath::root(), &top)
                    .ok_or_else(|| gone(&slot))?;
                while let Some((dir, was)) = within.pop_if(|(dir, _)| !path.is_within(dir)) {
                    self.remove_dir(&*edit, dir, was).await?;
                }
                if slot.is_dir() {
                    within.push((path, what));
                } else {
                    edit.apply(&removal(path, what), None).await?;
                }
            }
        }
        while let Some((dir, was)) = within.pop() {
            self.remove_dir(&*edit, dir, was).await?;
        }
        edit.flush().await?;
        edit.finish().await
    }

    /// Removes a directory, whose time has moved since it was listed.
    async fn remove_dir(&self, edit: &dyn Edit, dir: RelPath, was: Observation) -> Result<()> {
        let scope = whole(self.place.profile().classes);
        let now = self.place.find(&dir, &scope).await?.unwrap_or(was);
        edit.apply(&removal(dir, now), None).await.map(drop)
    }

    /// Takes in what `inner` holds of a run.
    async fn take_in(&self, inner: &dyn Replica, run: &str, edit: &dyn Edit) -> Result<()> {
        let top = self.run(run)?;
        let mut missing: Vec<RelPath> = std::iter::successors(Some(top.clone()), RelPath::parent)
            .filter(|path| !path.is_root())
            .collect();
        while let Some(path) = missing.pop() {
            let private = Meta {
                mode: Some(0o700),
                ..Meta::default()
            };
            self.put(edit, path, Entry::Dir(private), None).await?;
        }
        let mut walk = inner.trash_list(run).await?;
        while let Some(batch) = walk.next().await? {
            for Seen { slot, what } in batch {
                let at = TrashRef {
                    run: run.to_owned(),
                    path: slot.path(),
                };
                let body = match &what.entry {
                    Entry::File(..) => Some(inner.trash_read(&at).await?),
                    _ => None,
                };
                let path = self.at(&at)?;
                self.put(edit, path, without_link(what.entry), body).await?;
            }
        }
        edit.flush().await
    }

    async fn put(
        &self,
        edit: &dyn Edit,
        path: RelPath,
        new: Entry,
        body: Option<Box<dyn Body>>,
    ) -> Result<()> {
        let scope = whole(self.place.profile().classes);
        let old = self.place.find(&path, &scope).await?;
        if new.is_dir() && old.as_ref().is_some_and(|old| old.entry.is_dir()) {
            return Ok(());
        }
        let staged = match body {
            Some(body) => Some(edit.stage(&path, &new, body).await?),
            None => None,
        };
        let change = Change {
            path,
            old,
            new: Some(new),
            from: None,
        };
        edit.apply(&change, staged).await.map(drop)
    }
}

/// The time at the beginning of a run's name, `20260131T235959.123Z`: a place may keep no times of directories.
fn time_of(run: &str) -> Option<Time> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", run.get(..15)?).ok()?;
    let secs = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?.as_second();
    Some(Time { secs, nanos: 0 })
}

fn removal(path: RelPath, old: Observation) -> Change {
    Change {
        path,
        old: Some(old),
        new: None,
        from: None,
    }
}

/// Names of one file are copies at the other place.
fn without_link(entry: Entry) -> Entry {
    match entry {
        Entry::File(meta, content, _) => Entry::File(meta, content, None),
        entry => entry,
    }
}

impl TrashElsewhere {
    fn places(&self) -> impl Iterator<Item = &Elsewhere> {
        self.goes.iter().chain(&self.lies)
    }

    async fn find(&self, at: &TrashRef) -> Result<Option<(&Elsewhere, RelPath, Observation)>> {
        for elsewhere in self.places() {
            if let Some((path, found)) = elsewhere.find(at).await? {
                return Ok(Some((elsewhere, path, found)));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Layer for TrashElsewhere {
    fn below(&self) -> &dyn Replica {
        &*self.inner
    }

    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>> {
        let places = self.places().cloned().collect();
        let inner = self.inner.edit(options).await?;
        Ok(Arc::new(EditElsewhere { inner, places }))
    }

    async fn trash(&self) -> Result<Vec<TrashRun>> {
        let mut runs: BTreeMap<String, Time> = BTreeMap::new();
        for elsewhere in self.places() {
            runs.extend(elsewhere.runs().await?.into_iter().map(|run| (run.run, run.time)));
        }
        runs.extend(
            self.inner
                .trash()
                .await?
                .into_iter()
                .map(|run| (run.run, run.time)),
        );
        // Names of runs sort by time.
        Ok(runs
            .into_iter()
            .map(|(run, time)| TrashRun { run, time })
            .collect())
    }

    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        let mut merged = Merged::default();
        let inner = match self.inner.trash_list(run).await {
            Ok(walk) => merged.add(walk).await.map(|_| None)?,
            Err(fault) if fault.is(Kind::NotFound) => Some(fault),
            Err(fault) => return Err(fault),
        };
        let mut held = false;
        for elsewhere in self.places() {
            held |= merged.add(Box::new(elsewhere.list(run).await?)).await?;
        }
        match inner {
            Some(fault) if !held => Err(fault),
            _ => Ok(Box::new(merged)),
        }
    }

    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        match self.inner.trash_read(at).await {
            Err(fault) if fault.is(Kind::NotFound) => {}
            read => return read,
        }
        let (elsewhere, path, found) = self.find(at).await?.ok_or_else(|| gone(&at.path))?;
        elsewhere.place.read(&path, &found, 0).await
    }

    async fn trash_empty(&self, run: &str) -> Result<()> {
        for elsewhere in self.places() {
            elsewhere.empty(run).await?;
        }
        match self.inner.trash_empty(run).await {
            Err(fault) if fault.is(Kind::NotFound) => Ok(()),
            emptied => emptied,
        }
    }

    async fn tidy_trash(&self) -> Result<()> {
        let Some(goes) = &self.goes else { return Ok(()) };
        let runs = self.inner.trash().await?;
        let Some(last) = runs.last() else { return Ok(()) };
        let edit = goes.place.edit(&goes.options(&last.run)).await?;
        for run in &runs {
            goes.take_in(&*self.inner, &run.run, &*edit).await?;
        }
        edit.finish().await?;
        for run in &runs {
            self.inner.trash_empty(&run.run).await?;
        }
        Ok(())
    }
}

/// An edit that finds what lies in the trash elsewhere.
struct EditElsewhere {
    inner: Arc<dyn Edit>,
    places: Vec<Elsewhere>,
}

#[async_trait]
impl Edit for EditElsewhere {
    async fn stage(&self, path: &RelPath, new: &Entry, body: Box<dyn Body>) -> Result<Staged> {
        self.inner.stage(path, new, body).await
    }

    async fn apply(&self, change: &Change, staged: Option<Staged>) -> Result<Applied> {
        let (Some(From::Trash(at)), Some(new)) = (&change.from, &change.new) else {
            return self.inner.apply(change, staged).await;
        };
        match self.inner.apply(change, staged).await {
            Err(fault) if fault.is(Kind::NotFound) => {}
            applied => return applied,
        }
        for elsewhere in &self.places {
            let Some((path, found)) = elsewhere.find(at).await? else {
                continue;
            };
            let plain = Change {
                from: None,
                ..change.clone()
            };
            let staged = match (new, &found.entry) {
                (Entry::File(..), Entry::File(..)) => {
                    let body = elsewhere.place.read(&path, &found, 0).await?;
                    Some(self.inner.stage(&change.path, new, body).await?)
                }
                _ => None,
            };
            return self.inner.apply(&plain, staged).await;
        }
        Err(gone(&at.path))
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    async fn finish(&self) -> Result<()> {
        self.inner.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_names_its_time() {
        for (run, secs) in [
            ("19700101T000000.000Z-0001", 0),
            ("20000229T120000.123Z-0abc", 951_825_600),
            ("20261121T104146.304Z-0f81", 1_795_257_706),
        ] {
            assert_eq!(time_of(run), Some(Time { secs, nanos: 0 }), "{run}");
        }
        assert_eq!(time_of("something"), None);
    }
}

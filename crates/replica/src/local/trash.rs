//! Reading and emptying what runs displaced.
//!
//! Invariant: the trash of a run is one tree to those who look at it, wherever below the root its parts lie. What is
//! displaced keeps the path that it had, with a number where that was taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_model::replica::Links;
use syncline_model::{Classes, Fault, Kind, Name, RelPath, Result, TrashRef};
use syncline_store::Disk;

use super::LocalReplica;
use super::body::FileBody;
use super::edit::place::{TRASH, own_dirs, run_name};
use super::listing::{Lister, View};
use super::names::Scratch;
use super::route::{Routes, Step};
use super::scan::LocalWalk;
use super::tree::remove_tree;
use crate::seam::{Body, TrashRun, Walk};
use crate::walks::Merged;

/// The trash of `run`, part by part, each with the device it lies on.
fn parts<D: Disk>(routes: &Routes<D>, run: &Name) -> Result<Vec<Arc<Routes<D>>>> {
    let mut parts = Vec::new();
    for (_, trashes) in own_dirs(routes, TRASH)? {
        match routes.disk.open_dir(&trashes, run.as_bytes()) {
            Ok(dir) => {
                let observer = Arc::clone(&routes.observer);
                let spot = observer.spot(dir)?;
                parts.push(Arc::new(Routes::new(observer, spot)));
            }
            Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(parts)
}

fn gone(at: impl std::fmt::Display) -> Fault {
    Fault::new(Kind::NotFound, "the trash does not hold it (any more)", at)
}

/// Where the trash of `run` holds `path`, on the device `dev` if it can be chosen.
pub(crate) fn find<D: Disk>(
    routes: &Routes<D>,
    run: &Name,
    path: &RelPath,
    dev: u64,
) -> Result<(Arc<Step<D>>, Vec<u8>)> {
    let mut parts = parts(routes, run)?;
    parts.sort_by_key(|part| part.root.spot.dev != dev);
    for part in parts {
        if let Some((step, name, _)) = part.stat(path, false)? {
            return Ok((step, name.into_vec()));
        }
    }
    Err(gone(path))
}

impl<D: Disk> LocalReplica<D> {
    pub(super) fn trash_runs(&self) -> Result<Vec<TrashRun>> {
        let mut runs = BTreeMap::new();
        for (_, trashes) in own_dirs(&self.routes, TRASH)? {
            let mut names = Vec::new();
            self.disk.list(&trashes, &mut |found| {
                names.push(found.name.to_vec());
                true
            })?;
            for name in names {
                let stat = self.disk.stat(&trashes, &name)?;
                let Ok(run) = String::from_utf8(name) else {
                    continue;
                };
                if stat.kind == syncline_store::Node::Dir {
                    let time = runs.entry(run).or_insert(stat.mtime);
                    *time = stat.mtime.min(*time);
                }
            }
        }
        let mut runs: Vec<TrashRun> = runs
            .into_iter()
            .map(|(run, time)| TrashRun { run, time })
            .collect();
        runs.sort_by(|a, b| (a.time, &a.run).cmp(&(b.time, &b.run)));
        Ok(runs)
    }

    pub(super) async fn list_trash(&self, run: &str) -> Result<Box<dyn Walk>> {
        let (mut merged, mut held) = (Merged::default(), false);
        for routes in parts(&self.routes, &run_name(run)?)? {
            let view = View {
                filter: Arc::default(),
                classes: Classes {
                    links: false,
                    ..self.profile.classes
                },
                links: Links::Keep,
                hide_own: false,
            };
            let scratch = Scratch::new(Arc::clone(&self.routes), !self.profile.read_only);
            let lister = Lister {
                routes,
                view,
                scratch,
            };
            let top = lister.list(None)?;
            let walk: Box<dyn Walk> = Box::new(LocalWalk::new(lister, top, 0, &self.options.spawn));
            merged.add(walk).await?;
            held = true;
        }
        if !held {
            return Err(gone(run));
        }
        Ok(Box::new(merged))
    }

    pub(super) fn read_trash(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        for routes in parts(&self.routes, &run_name(&at.run)?)? {
            if routes.stat(&at.path, false)?.is_some() {
                return Ok(Box::new(FileBody::open(&routes, &at.path, None, false)?));
            }
        }
        Err(gone(&at.path))
    }

    pub(super) fn empty_trash(&self, run: &str) -> Result<()> {
        let name = run_name(run)?;
        let _lock = self.lock()?;
        for (_, trashes) in own_dirs(&self.routes, TRASH)? {
            remove_tree(&*self.disk, &trashes, name.as_bytes())?;
        }
        Ok(())
    }
}

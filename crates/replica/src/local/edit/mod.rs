//! Editing a local tree: drafts beside it, then one rename or exchange for each change.
//!
//! Invariant: a path changes only if what stands there is what the change expects, looked at right before and, where
//! something was displaced, once more at what came out; what is displaced lies in the trash before the call returns.
//! The parent of a path is reached by handles that were verified for this very call (security rule SP6).

mod apply;
mod attrs;
mod flush;
mod moving;
pub(crate) mod place;
mod publish;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use syncline_model::{Change, Entry, Fault, Kind, Name, Profile, RelPath, Result};
use syncline_store::{Disk, Stat};

use self::attrs::Wanted;
use self::place::Place;
use super::observe::held;
use super::probe::Found;
use super::route::{Routes, Step};
use super::{LocalOptions, RootLock};
use crate::seam::{Applied, Body, Edit, EditOptions, Staged};

/// Bytes or a node that is not visible yet.
pub(crate) struct Draft<D: Disk> {
    dir: D::Dir,
    name: Vec<u8>,
    /// What it was when it was finished.
    stat: Stat,
    /// Attributes that it bears already.
    wanted: Wanted,
    /// For whom it is.
    path: RelPath,
}

/// A path that is being changed: the directory that holds it, and its name there.
pub(super) struct At<D: Disk> {
    step: Arc<Step<D>>,
    name: Box<[u8]>,
    path: RelPath,
    place: Arc<Place<D>>,
}

impl<D: Disk> At<D> {
    fn dir(&self) -> &D::Dir {
        &self.step.spot.dir
    }

    fn name(&self) -> (&D::Dir, &[u8]) {
        (&self.step.spot.dir, &self.name)
    }
}

/// Changes that no barrier has covered yet.
#[derive(Default)]
struct Unsynced {
    paths: Vec<RelPath>,
    dirs: BTreeSet<RelPath>,
}

/// An edit under way.
pub(crate) struct LocalEdit<D: Disk> {
    disk: Arc<D>,
    routes: Arc<Routes<D>>,
    options: LocalOptions,
    profile: Profile,
    found: Found,
    how: EditOptions,
    run: Name,
    places: Mutex<BTreeMap<u64, Arc<Place<D>>>>,
    drafts: Mutex<BTreeMap<u64, Draft<D>>>,
    next: AtomicU64,
    /// Sharing bytes has not been refused yet.
    shares: AtomicBool,
    /// Barriers were too slow or failed: files and directories are flushed one by one.
    slow: AtomicBool,
    unsynced: Mutex<Unsynced>,
    /// Directories that get their narrow mode at the end: until then we must be able to write in them.
    narrow: Mutex<BTreeMap<RelPath, u32>>,
    /// Ours for as long as the edit lives.
    _lock: Option<Arc<RootLock<D>>>,
    _alive: Arc<()>,
}

impl<D: Disk> LocalEdit<D> {
    pub fn open(
        routes: Arc<Routes<D>>,
        options: LocalOptions,
        profile: Profile,
        found: Found,
        how: EditOptions,
        lock: Option<Arc<RootLock<D>>>,
        alive: Arc<()>,
    ) -> Result<Self> {
        let disk = Arc::clone(&routes.disk);
        let run = place::run_name(if syncline_model::zoo::on("trash-overwritten") {
            "run"
        } else {
            &how.run
        })?;
        routes.forget_all();
        routes.shifted.forget();
        place::clear_stages(&routes)?;
        let root = Arc::new(Place::open(&routes.observer, &routes.root.spot.dir, &run)?);
        let places = Mutex::new(BTreeMap::from([(routes.root.spot.dev, root)]));
        Ok(Self {
            disk,
            routes,
            options,
            profile,
            found,
            how,
            run,
            places,
            drafts: Mutex::default(),
            next: AtomicU64::new(0),
            shares: AtomicBool::new(found.reflinks),
            slow: AtomicBool::new(false),
            unsynced: Mutex::default(),
            narrow: Mutex::default(),
            _lock: lock,
            _alive: alive,
        })
    }

    /// The stage and trash on the file system of the directory `path`, or of the nearest one above it that is there.
    fn place_above(&self, path: RelPath) -> Result<Arc<Place<D>>> {
        let mut path = path;
        let step = loop {
            match self.routes.look(path.as_bytes(), false) {
                Ok(step) => break step,
                Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => {
                    let Some(above) = path.parent() else {
                        return Err(fault);
                    };
                    path = above;
                }
                Err(fault) => return Err(fault),
            }
        };
        self.place_at(path, step)
    }

    fn place_at(&self, mut path: RelPath, mut step: Arc<Step<D>>) -> Result<Arc<Place<D>>> {
        let dev = step.spot.dev;
        if let Some(place) = held(&self.places).get(&dev) {
            return Ok(Arc::clone(place));
        }
        while let Some(above) = path.parent() {
            let up = self.routes.look(above.as_bytes(), false)?;
            if up.spot.dev != dev {
                break;
            }
            (path, step) = (above, up);
        }
        place::remember(&self.routes, &path)?;
        let place = Arc::new(Place::open(&self.routes.observer, &step.spot.dir, &self.run)?);
        Ok(Arc::clone(held(&self.places).entry(dev).or_insert(place)))
    }

    fn place_of(&self, path: &RelPath) -> Result<Arc<Place<D>>> {
        self.place_above(path.parent().unwrap_or_default())
    }

    /// Files and directories of this place are flushed one by one.
    fn singly(&self, place: &Place<D>) -> bool {
        !place.honest || self.slow.load(Ordering::Relaxed)
    }

    fn draft_name(&self) -> (u64, Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number, format!("d-{number}").into_bytes())
    }

    /// Forgets a draft; what cannot be removed now goes with the stage.
    fn drop_draft(&self, at: (&D::Dir, &[u8]), is_dir: bool) {
        let removed = self.disk.remove(at.0, at.1, is_dir);
        debug_assert!(removed.is_ok() || removed.is_err_and(|f| !f.is(Kind::Bug) && !f.is(Kind::Invalid)));
    }
}

#[async_trait]
impl<D: Disk> Edit for LocalEdit<D> {
    async fn stage(&self, path: &RelPath, new: &Entry, body: Box<dyn Body>) -> Result<Staged> {
        self.stage_file(path, new, body)
            .await
            .map_err(|fault| named(fault, path))
    }

    async fn apply(&self, change: &Change, staged: Option<Staged>) -> Result<Applied> {
        self.apply_change(change, staged)
            .map_err(|fault| named(fault, &change.path))
    }

    async fn flush(&self) -> Result<()> {
        self.barrier()
    }

    async fn finish(&self) -> Result<()> {
        self.end()
    }
}

/// A fault of the disk names one component; here the whole path is known.
fn named(mut fault: Fault, path: &RelPath) -> Fault {
    fault.at = path.to_string();
    fault
}

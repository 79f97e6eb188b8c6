//! Where drafts and displaced things lie: `.syncline/stage/<run>` and `.syncline/trash/<run>`, in the root and at the
//! top of every other file system below it that is written, since nothing can be renamed across.
//!
//! Invariant: a stage holds drafts only, never anything that once stood in the tree, so the stage of a dead run can be
//! cleared blindly. What is displaced goes straight to the trash, under the path it had.

use std::sync::{Arc, Mutex};

use syncline_model::replica::OWN_DIR;
use syncline_model::{Fault, Kind, Name, RelPath, Result};
use syncline_store::{Disk, Place as How, Stat};

use super::super::names::SORTING;
use super::super::observe::{Observer, held};
use super::super::own::{make_dir, own_dir, read_small, write_small};
use super::super::probe::is_honest;
use super::super::route::{Routes, Step};
use super::super::tree::remove_tree;

/// Drafts of runs, below `.syncline`.
pub(crate) const STAGE: &[u8] = b"stage";
/// What runs displaced, below `.syncline`.
pub(crate) const TRASH: &[u8] = b"trash";
/// Where else below the root there is a `.syncline` of this replica.
const PLACES: &[u8] = b"places.json";
/// Names tried for one displaced thing.
const TRIES: u32 = 10_000;

/// One file system's stage and trash of this run.
pub(crate) struct Place<D: Disk> {
    pub stage: D::Dir,
    /// Directories of the stage that nobody is making a draft in right now.
    lanes: Mutex<Vec<D::Dir>>,
    /// Opened before the first write, so that its barrier reports every error since.
    pub barrier: D::Dir,
    pub trash: Routes<D>,
    /// Whether a barrier over all of it can be believed.
    pub honest: bool,
    disk: Arc<D>,
}

/// A free name in the trash.
pub(crate) struct Berth<D: Disk> {
    pub at: Arc<Step<D>>,
    pub name: Vec<u8>,
    /// Its path below the run's trash.
    pub path: RelPath,
}

impl<D: Disk> Place<D> {
    /// Makes the directories of `run` in `top`, the topmost directory of a file system of this tree.
    pub fn open(observer: &Arc<Observer<D>>, top: &D::Dir, run: &Name) -> Result<Self> {
        let disk = Arc::clone(&observer.disk);
        let (own, _) = own_dir(&*disk, top)?;
        let (stages, _) = make_dir(&*disk, &own, STAGE)?;
        let (stage, _) = make_dir(&*disk, &stages, run.as_bytes())?;
        let (trashes, _) = make_dir(&*disk, &own, TRASH)?;
        let (trash, _) = make_dir(&*disk, &trashes, run.as_bytes())?;
        let trash = Routes::new(Arc::clone(observer), observer.spot(trash)?);
        let honest = is_honest(disk.space(&own)?.kind);
        Ok(Self {
            lanes: Mutex::new(vec![stage.clone()]),
            stage,
            barrier: own,
            trash,
            honest,
            disk,
        })
    }

    /// A directory of the stage for one draft, `number`'s: drafts that are made at once lie in different ones, since a
    /// directory takes one new name at a time.
    pub fn lane(&self, number: u64) -> Result<Lane<'_, D>> {
        let free = held(&self.lanes).pop();
        let dir = match free {
            Some(dir) => dir,
            None => make_dir(&*self.disk, &self.stage, format!("l-{number}").as_bytes())?.0,
        };
        Ok(Lane { dir, of: self })
    }

    /// Puts `from` into the trash under `path`, or under that path with a number where it is taken.
    pub fn berth(&self, from: (&D::Dir, &[u8]), path: &RelPath) -> Result<Berth<D>> {
        let (at, above) = self.above(path)?;
        let Some(name) = path.name() else {
            return Err(Fault::new(
                Kind::Invalid,
                "the root itself cannot be displaced",
                path,
            ));
        };
        for number in 1..TRIES {
            let name = numbered(name.as_bytes(), number);
            let how = if syncline_model::zoo::on("trash-overwritten") {
                How::Over
            } else {
                How::New
            };
            match self.disk.place(from, (&at.spot.dir, &name), how) {
                Ok(()) => {
                    let bytes = [&above[..], if above.is_empty() { b"" } else { b"/" }, &name].concat();
                    let path =
                        RelPath::new(bytes).map_err(|bad| Fault::new(Kind::Bug, bad.to_string(), path))?;
                    return Ok(Berth { at, name, path });
                }
                Err(fault) if fault.is(Kind::Exists) => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::new(
            Kind::Busy,
            "every name for it in the trash is taken",
            path,
        ))
    }

    /// The trash's directory for what lies beside `path`, made where it is missing.
    pub fn above(&self, path: &RelPath) -> Result<(Arc<Step<D>>, Vec<u8>)> {
        let above = path.parent().unwrap_or_default();
        match self.trash.look(above.as_bytes(), false) {
            Ok(step) => return Ok((step, above.as_bytes().to_vec())),
            Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => {}
            Err(fault) => return Err(fault),
        }
        let mut at: Vec<u8> = Vec::new();
        for component in above.components() {
            let step = self.trash.look(&at, false)?;
            let mut number = 1;
            let name = loop {
                let name = numbered(component.as_bytes(), number);
                match make_dir(&*self.disk, &step.spot.dir, &name) {
                    Ok(_) => break name,
                    Err(fault) if fault.is(Kind::Changed) && number < TRIES => number += 1,
                    Err(fault) => return Err(fault),
                }
            };
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(&name);
        }
        Ok((self.trash.look(&at, false)?, at))
    }
}

/// A directory of the stage while a draft is made in it.
pub(crate) struct Lane<'a, D: Disk> {
    pub dir: D::Dir,
    of: &'a Place<D>,
}

impl<D: Disk> Drop for Lane<'_, D> {
    fn drop(&mut self) {
        held(&self.of.lanes).push(self.dir.clone());
    }
}

impl<D: Disk> Berth<D> {
    /// What lies there.
    pub fn stat(&self, disk: &D) -> Result<Stat> {
        disk.stat(&self.at.spot.dir, &self.name)
    }

    /// As a directory handle and a name.
    pub fn name(&self) -> (&D::Dir, &[u8]) {
        (&self.at.spot.dir, &self.name)
    }
}

/// `name`, from the second on with a number; cut where it would become too long.
fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    if number == 1 {
        return name.to_vec();
    }
    let suffix = format!(".~{number}~");
    let room = syncline_model::path::NAME_MAX - suffix.len();
    [&name[..name.len().min(room)], suffix.as_bytes()].concat()
}

/// A run's name as one component.
pub(crate) fn run_name(run: &str) -> Result<Name> {
    Name::new(run.as_bytes())
        .map_err(|bad| Fault::new(Kind::Invalid, format!("the name of a run: {bad}"), run))
}

/// The other directories below the root that hold a `.syncline` of this replica.
pub(crate) fn places<D: Disk>(routes: &Routes<D>) -> Result<Vec<RelPath>> {
    let own = match routes.disk.open_dir(&routes.root.spot.dir, OWN_DIR.as_bytes()) {
        Ok(own) => own,
        Err(fault) if fault.is(Kind::NotFound) => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let Some(bytes) = read_small(&*routes.disk, &own, PLACES)? else {
        return Ok(Vec::new());
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::new(Kind::Corrupt, error.to_string(), ".syncline/places.json"))
}

/// Remembers that `path` holds a `.syncline` of this replica.
pub(crate) fn remember<D: Disk>(routes: &Routes<D>, path: &RelPath) -> Result<()> {
    let mut all = places(routes)?;
    if path.is_root() || all.contains(path) {
        return Ok(());
    }
    all.push(path.clone());
    let (own, _) = own_dir(&*routes.disk, &routes.root.spot.dir)?;
    let bytes = serde_json::to_vec(&all).map_err(|e| Fault::new(Kind::Bug, e.to_string(), path))?;
    write_small(&*routes.disk, &own, PLACES, &bytes, true)
}

/// The directories named `below` (stage or trash) of this replica, with the path of the directory each serves.
pub(crate) fn own_dirs<D: Disk>(routes: &Routes<D>, below: &[u8]) -> Result<Vec<(RelPath, D::Dir)>> {
    let mut found = Vec::new();
    for path in std::iter::once(RelPath::root()).chain(places(routes)?) {
        let dir = routes
            .look(path.as_bytes(), false)
            .and_then(|at| routes.disk.open_dir(&at.spot.dir, OWN_DIR.as_bytes()))
            .and_then(|own| routes.disk.open_dir(&own, below));
        match dir {
            Ok(dir) => found.push((path, dir)),
            Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}

/// Clears every stage and what was being sorted. The caller has the root's lock, so each that is still there is a dead
/// run's.
pub(crate) fn clear_stages<D: Disk>(routes: &Routes<D>) -> Result<()> {
    let sorting = own_dirs(routes, SORTING)?;
    for (_, stages) in own_dirs(routes, STAGE)?.into_iter().chain(sorting) {
        if syncline_model::zoo::on("stage-not-cleared") {
            continue;
        }
        let mut names = Vec::new();
        routes.disk.list(&stages, &mut |found| {
            names.push(found.name.to_vec());
            true
        })?;
        for name in names {
            remove_tree(&*routes.disk, &stages, &name)?;
        }
    }
    Ok(())
}

//! From a path to a held directory, one component at a time, with the handles on the way kept for the next path.
//!
//! Invariant: no path is handed to the system in more than one component, and symbolic links are not followed, except
//! by [`Routes::follow`], which walks them itself and never leaves the root. A kept handle is used for writing only
//! after each step of its path was looked at again (security rule SP6). At most about [`KEPT`] handles stay open.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use syncline_model::path::DEPTH_MAX;
use syncline_model::{Fault, Kind, RelPath, Result};
use syncline_store::{Disk, Node, Stat};

use super::observe::{Observer, Spot, held};
use super::shifted::Shifted;

/// Handles that may stay open between two uses.
const KEPT: usize = 192;
/// Below this depth a handle does not hold those above it open.
const CHAINED: usize = 96;
/// Links followed on the way to one path.
const HOPS: usize = 40;

/// A directory on the way.
pub(crate) struct Step<D: Disk> {
    pub spot: Spot<D>,
    name: Box<[u8]>,
    /// Where it really lies: differs from its path where a link was followed.
    real: Box<[u8]>,
    up: Option<Arc<Step<D>>>,
    depth: usize,
    live: Arc<AtomicUsize>,
}

impl<D: Disk> Drop for Step<D> {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        // A long chain must not be dropped by recursion.
        let mut up = self.up.take();
        while let Some(step) = up {
            up = Arc::into_inner(step).and_then(|mut step| step.up.take());
        }
    }
}

struct Cache<D: Disk> {
    steps: BTreeMap<Box<[u8]>, (Arc<Step<D>>, u64)>,
    uses: u64,
}

/// The ways below one root.
pub(crate) struct Routes<D: Disk> {
    pub disk: Arc<D>,
    pub observer: Arc<Observer<D>>,
    pub root: Arc<Step<D>>,
    cache: Mutex<Cache<D>>,
    live: Arc<AtomicUsize>,
    /// A directory on each file system that was met below the root, by device.
    pub mounts: Mutex<BTreeMap<u64, D::Dir>>,
    /// What the edit under way did to files of several names.
    pub shifted: Shifted,
}

impl<D: Disk> Routes<D> {
    pub fn new(observer: Arc<Observer<D>>, root: Spot<D>) -> Self {
        let live = Arc::new(AtomicUsize::new(1));
        let root = Step {
            spot: root,
            name: Box::default(),
            real: Box::default(),
            up: None,
            depth: 0,
            live: Arc::clone(&live),
        };
        let cache = Mutex::new(Cache {
            steps: BTreeMap::new(),
            uses: 0,
        });
        Self {
            disk: Arc::clone(&observer.disk),
            observer,
            root: Arc::new(root),
            cache,
            live,
            mounts: Mutex::default(),
            shifted: Shifted::default(),
        }
    }

    /// The directory at `path` (bytes without a slash at the end) for looking only: a kept handle is taken as it is.
    pub fn look(&self, path: &[u8], follow: bool) -> Result<Arc<Step<D>>> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let (mut step, mut at) = self.deepest(path);
        while at < path.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let end = path[start..]
                .iter()
                .position(|&b| b == b'/')
                .map_or(path.len(), |len| start + len);
            step = self
                .enter(&step, &path[start..end], follow)
                .map_err(|fault| fault.at(show(&path[..end])))?;
            self.keep(&path[..end], &step);
            at = end;
        }
        Ok(step)
    }

    /// The directory at `path` for writing: every step of a kept way is looked at again.
    pub fn firm(&self, path: &[u8]) -> Result<Arc<Step<D>>> {
        let step = self.look(path, false)?;
        if self.stands(&step)? {
            return Ok(step);
        }
        self.forget(path);
        self.look(path, false)
    }

    fn stands(&self, step: &Arc<Step<D>>) -> Result<bool> {
        let mut below = step;
        while let Some(up) = &below.up {
            match self.disk.stat(&up.spot.dir, &below.name) {
                Ok(now)
                    if now.kind == Node::Dir
                        && now.inode == below.spot.inode
                        && now.dev == below.spot.dev => {}
                Ok(_) => return Ok(false),
                Err(fault) if fault.is(Kind::NotFound) => return Ok(false),
                Err(fault) => return Err(fault),
            }
            below = up;
        }
        Ok(below.depth == 0)
    }

    /// Drops kept handles of `path`, of what lies above it and of what lies below it.
    pub fn forget(&self, path: &[u8]) {
        let dropped: Vec<_> = {
            let mut cache = held(&self.cache);
            let gone = |kept: &[u8]| {
                let (short, long) = if kept.len() < path.len() {
                    (kept, path)
                } else {
                    (path, kept)
                };
                long.starts_with(short) && (long.len() == short.len() || long[short.len()] == b'/')
            };
            let keys: Vec<Box<[u8]>> = cache.steps.keys().filter(|kept| gone(kept)).cloned().collect();
            keys.iter().filter_map(|key| cache.steps.remove(key)).collect()
        };
        drop(dropped);
    }

    /// Drops all kept handles.
    pub fn forget_all(&self) {
        let dropped = std::mem::take(&mut held(&self.cache).steps);
        drop(dropped);
    }

    fn deepest(&self, path: &[u8]) -> (Arc<Step<D>>, usize) {
        let mut cache = held(&self.cache);
        cache.uses += 1;
        let now = cache.uses;
        let mut end = path.len();
        while end > 0 {
            if let Some((step, used)) = cache.steps.get_mut(&path[..end]) {
                *used = now;
                return (Arc::clone(step), end);
            }
            end = path[..end].iter().rposition(|&b| b == b'/').unwrap_or(0);
        }
        (Arc::clone(&self.root), 0)
    }

    fn keep(&self, path: &[u8], step: &Arc<Step<D>>) {
        if step.depth > CHAINED {
            return;
        }
        let mut dropped = Vec::new();
        let mut cache = held(&self.cache);
        cache.uses += 1;
        let now = cache.uses;
        cache.steps.insert(path.into(), (Arc::clone(step), now));
        while cache.steps.len() + dropped.len() > 1
            && self.live.load(Ordering::Relaxed) > KEPT + dropped.len()
        {
            let oldest = cache
                .steps
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(path, _)| path.clone());
            let Some(gone) = oldest.and_then(|path| cache.steps.remove(&path)) else {
                break;
            };
            dropped.push(gone);
        }
        drop(cache);
    }

    fn enter(&self, at: &Arc<Step<D>>, name: &[u8], follow: bool) -> Result<Arc<Step<D>>> {
        if at.depth >= DEPTH_MAX {
            return Err(Fault::new(
                Kind::Invalid,
                format!("more than {DEPTH_MAX} levels deep"),
                "",
            ));
        }
        match self.disk.open_dir(&at.spot.dir, name) {
            Ok(dir) => {
                let spot = self.observer.spot(dir)?;
                Ok(self.step(at, name, join(&at.real, name), spot))
            }
            Err(fault) if follow && fault.is(Kind::Changed) => {
                let real = self.follow(&at.real, name)?;
                let spot = self.look(&real, false)?.spot.clone();
                let mut above = Some(at);
                while let Some(step) = above {
                    if (step.spot.dev, step.spot.inode) == (spot.dev, spot.inode) {
                        return Err(Fault::new(
                            Kind::Unsupported,
                            "the link leads back to a directory above it",
                            "",
                        ));
                    }
                    above = step.up.as_ref();
                }
                Ok(self.step(at, name, real, spot))
            }
            Err(fault) => Err(fault),
        }
    }

    fn step(&self, at: &Arc<Step<D>>, name: &[u8], real: Vec<u8>, spot: Spot<D>) -> Arc<Step<D>> {
        self.live.fetch_add(1, Ordering::Relaxed);
        let depth = at.depth + 1;
        let up = (depth <= CHAINED).then(|| Arc::clone(at));
        let live = Arc::clone(&self.live);
        Arc::new(Step {
            spot,
            name: name.into(),
            real: real.into(),
            up,
            depth,
            live,
        })
    }

    /// Where the link `name` in the directory really at `real` leads, below the root only.
    pub fn follow(&self, real: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        let outside = || Fault::new(Kind::Unsupported, "the link leads out of the tree", "");
        let mut here: Vec<Box<[u8]>> = split(real).map(Into::into).collect();
        let mut todo = VecDeque::from([Box::from(name)]);
        let mut hops = 0;
        while let Some(next) = todo.pop_front() {
            if &*next == b".." {
                here.pop().ok_or_else(outside)?;
                continue;
            }
            let at = self.look(&here.join(&b'/'), false)?;
            if self.disk.stat(&at.spot.dir, &next)?.kind != Node::Link {
                here.push(next);
                continue;
            }
            hops += 1;
            if hops > HOPS {
                return Err(Fault::new(
                    Kind::Unsupported,
                    "too many links one after another",
                    "",
                ));
            }
            let target = self.disk.read_link(&at.spot.dir, &next)?;
            if target.starts_with(b"/") {
                return Err(outside());
            }
            for component in target
                .split(|&b| b == b'/')
                .rev()
                .filter(|c| !c.is_empty() && *c != b".")
            {
                todo.push_front(component.into());
            }
        }
        Ok(here.join(&b'/'))
    }

    /// The directory that holds `path` and the last name of it.
    pub fn parent(&self, path: &RelPath, firm: bool, follow: bool) -> Result<(Arc<Step<D>>, Box<[u8]>)> {
        let bytes = path.as_bytes();
        let cut = bytes.iter().rposition(|&b| b == b'/');
        let (above, name) = cut.map_or((&b""[..], bytes), |at| (&bytes[..at], &bytes[at + 1..]));
        if name.is_empty() {
            return Err(Fault::new(Kind::Invalid, "the root itself cannot be named", ""));
        }
        let step = if firm {
            self.firm(above)?
        } else {
            self.look(above, follow)?
        };
        Ok((step, name.into()))
    }

    /// What stands at `path` now; `None` when nothing does, or when no directory leads there.
    pub fn stat(&self, path: &RelPath, follow: bool) -> Result<Option<(Arc<Step<D>>, Box<[u8]>, Stat)>> {
        let found = self.parent(path, !follow, follow).and_then(|(step, name)| {
            let stat = self.disk.stat(&step.spot.dir, &name)?;
            Ok((step, name, stat))
        });
        match found {
            Ok((step, name, stat)) if follow && stat.kind == Node::Link => {
                let real = RelPath::new(self.follow(&step.real, &name)?)
                    .map_err(|bad| Fault::new(Kind::Unsupported, bad.to_string(), path))?;
                self.stat(&real, false)
            }
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => Ok(None),
            Err(fault) => Err(fault.at(path)),
        }
    }
}

fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|c| !c.is_empty())
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = dir.to_vec();
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name);
    bytes
}

/// A path for a message.
pub(crate) fn show(path: &[u8]) -> String {
    let mut text = String::new();
    let written = syncline_model::path::escape(path, &mut text);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    text
}

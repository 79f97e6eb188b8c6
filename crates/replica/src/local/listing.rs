//! One directory, listed and looked at, in the order.
//!
//! Invariant: rows ascend strictly by slot. A name whose kind changed between listing and looking is sorted in as
//! what it is now; in a directory too large for memory it comes as opaque in the place of what it was.

use std::sync::Arc;

use syncline_model::replica::{Links, OWN_DIR};
use syncline_model::{Classes, Entry, Fault, Kind, Observation, Result, Seen, Slot, Tag, Why};
use syncline_store::{Disk, Found, Node};

use super::names::{Names, NamesBuilder, Scratch};
use super::observe::{Spot, held};
use super::route::{Routes, Step, show};

/// What of a tree is listed, and how.
#[derive(Clone)]
pub(crate) struct View {
    pub filter: Arc<syncline_model::filter::Filter>,
    pub classes: Classes,
    pub links: Links,
    /// `.syncline` at the top is left out, deeper down it is opaque; false in the trash, where it cannot be.
    pub hide_own: bool,
}

/// Rows of one directory.
pub(crate) struct Listing<D: Disk> {
    /// Rows that were looked at already.
    pub rows: Vec<Seen>,
    /// Directories among `rows`.
    pub dirs: usize,
    /// The rest, of a directory that is too large for memory: names in order, still to be looked at.
    pub rest: Option<Rest<D>>,
}

/// Names of a large directory that are still to be looked at.
pub(crate) struct Rest<D: Disk> {
    at: Arc<Step<D>>,
    dir: Option<Slot>,
    names: Names,
}

pub(crate) struct Lister<D: Disk> {
    pub routes: Arc<Routes<D>>,
    pub view: View,
    pub scratch: Scratch<D>,
}

impl<D: Disk> Lister<D> {
    /// Lists the directory with slot `dir` (`None`: the root).
    pub fn list(&self, dir: Option<&Slot>) -> Result<Listing<D>> {
        let follow = self.view.links == Links::Follow;
        let path = dir.map_or(&b""[..], |dir| dir.path_bytes());
        let at = self.routes.look(path, follow)?;
        if dir.is_none() || at.spot.dev != self.routes.root.spot.dev {
            self.routes.note_mount(&at);
        }
        let mut names = self.names(&at.spot, dir.is_none())?;
        if names.is_large() {
            return Ok(Listing {
                rows: Vec::new(),
                dirs: 0,
                rest: Some(Rest {
                    at,
                    dir: dir.cloned(),
                    names,
                }),
            });
        }
        let mut rows = Vec::with_capacity(names.len_hint());
        let mut disordered = false;
        while let Some((name, was_dir)) = names.next()? {
            if let Some(seen) = self.look(&at, dir, name, was_dir)? {
                disordered |= seen.slot.is_dir() != was_dir;
                rows.push(seen);
            }
        }
        if disordered {
            rows.sort_unstable_by(|a, b| a.slot.cmp(&b.slot));
        }
        let dirs = rows.iter().filter(|seen| seen.what.entry.is_dir()).count();
        Ok(Listing {
            rows,
            dirs,
            rest: None,
        })
    }

    /// Looks at up to `count` more names of a large directory; empty at the end.
    pub fn more(&self, rest: &mut Rest<D>, count: usize) -> Result<Vec<Seen>> {
        let mut rows = Vec::with_capacity(count);
        while rows.len() < count {
            let Some((name, was_dir)) = rest.names.next()? else {
                break;
            };
            let Some(mut seen) = self.look(&rest.at, rest.dir.as_ref(), name, was_dir)? else {
                continue;
            };
            if seen.slot.is_dir() != was_dir {
                seen.slot = slot(rest.dir.as_ref(), name, was_dir)?;
                seen.what = unreadable(&Fault::new(
                    Kind::Changed,
                    "its kind changed while the directory was listed",
                    "",
                ));
            }
            rows.push(seen);
        }
        Ok(rows)
    }

    fn names(&self, at: &Spot<D>, top: bool) -> Result<Names> {
        let disk = &self.routes.disk;
        let mut names = NamesBuilder::new(&self.scratch);
        let mut failed = None;
        disk.list(&at.dir, &mut |found: Found<'_>| {
            let name = found.name;
            if top && self.view.hide_own && name == OWN_DIR.as_bytes() {
                return true;
            }
            let is_dir = match found.dir {
                Some(is_dir) => is_dir,
                None => match disk.stat(&at.dir, name) {
                    Ok(stat) => stat.kind == Node::Dir,
                    Err(_) => false,
                },
            };
            match names.push(name, is_dir) {
                Ok(()) => true,
                Err(fault) => {
                    failed = Some(fault);
                    false
                }
            }
        })?;
        failed.map_or_else(|| names.sorted(), Err)
    }

    /// The row of one name; `None` when it is gone.
    fn look(
        &self,
        at: &Arc<Step<D>>,
        dir: Option<&Slot>,
        name: &[u8],
        was_dir: bool,
    ) -> Result<Option<Seen>> {
        let listed = slot(dir, name, was_dir)?;
        let own = self.view.hide_own && was_dir && name == OWN_DIR.as_bytes();
        // The walk comes here only through directories that take part.
        if own || self.view.filter.excludes_itself(listed.path_bytes(), was_dir) {
            if syncline_model::zoo::on("excluded-not-listed") {
                return Ok(None);
            }
            return Ok(Some(excluded(listed)));
        }
        let spot = &at.spot;
        let stat = match self.routes.disk.stat(&spot.dir, name) {
            Ok(stat) => stat,
            Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
            Err(fault) => {
                return Ok(Some(Seen {
                    slot: listed,
                    what: unreadable(&fault),
                }));
            }
        };
        if stat.kind == Node::Link && self.view.links != Links::Keep {
            return self.look_through(dir, name, listed);
        }
        let is_dir = stat.kind == Node::Dir;
        let now = if is_dir == was_dir {
            listed
        } else {
            slot(dir, name, is_dir)?
        };
        match self.routes.observer.observe(spot, name, &stat, self.view.classes) {
            Ok(what) => Ok(Some(Seen { slot: now, what })),
            Err(fault) if fault.is(Kind::NotFound) => Ok(None),
            Err(fault) => Ok(Some(Seen {
                slot: now,
                what: unreadable(&fault),
            })),
        }
    }

    fn look_through(&self, dir: Option<&Slot>, name: &[u8], listed: Slot) -> Result<Option<Seen>> {
        if self.view.links == Links::Skip {
            return Ok(Some(excluded(listed)));
        }
        let found = self.routes.stat(&listed.path(), true).and_then(|found| {
            let Some((at, real, stat)) = found else {
                return Err(Fault::new(Kind::NotFound, "the link leads to nothing", ""));
            };
            let what = self
                .routes
                .observer
                .observe(&at.spot, &real, &stat, self.view.classes)?;
            Ok((slot(dir, name, stat.kind == Node::Dir)?, what))
        });
        Ok(Some(match found {
            Ok((slot, what)) => Seen { slot, what },
            Err(fault) => Seen {
                slot: listed,
                what: unreadable(&fault),
            },
        }))
    }
}

/// An entry that could not be looked into, with the reason.
pub(crate) fn unreadable(why: &Fault) -> Observation {
    Observation {
        entry: Entry::Opaque(Why::Unreadable(why.into())),
        tag: Tag::None,
    }
}

fn excluded(slot: Slot) -> Seen {
    let what = Observation {
        entry: Entry::Opaque(Why::Excluded),
        tag: Tag::None,
    };
    Seen { slot, what }
}

fn slot(dir: Option<&Slot>, name: &[u8], is_dir: bool) -> Result<Slot> {
    Slot::child(dir, name, is_dir).map_err(|bad| Fault::new(Kind::Corrupt, bad.to_string(), show(name)))
}

impl<D: Disk> Routes<D> {
    /// Remembers that the tree has parts on another file system: a barrier must reach them too.
    pub fn note_mount(&self, at: &Arc<Step<D>>) {
        let mut mounts = held(&self.mounts);
        if !mounts.contains_key(&at.spot.dev) && mounts.len() < 64 {
            mounts.insert(at.spot.dev, at.spot.dir.clone());
        }
    }
}

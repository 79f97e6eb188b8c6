//! A directory on a local disk as a [`Replica`].
//!
//! Invariant: the root is held open from the beginning; everything is reached from that handle, one name at a time.
//! What this is not: it decides nothing. It observes, refuses what is no longer as expected, and keeps what it displaces.

mod body;
mod edit;
mod listing;
mod names;
mod observe;
mod own;
mod probe;
mod route;
mod scan;
mod shifted;
mod trash;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use syncline_model::replica::Links;
use syncline_model::{
    Classes, Clock, Content, Entry, Fault, Identity, Kind, Marker, Observation, PlaceId, Profile, RelPath,
    Result, Scope, Seen, Slot, Spawn, Tag, Time, TrashRef, Why,
};
use syncline_store::Disk;

use self::body::FileBody;
use self::edit::LocalEdit;
use self::listing::{Lister, Listing, View, unreadable};
use self::names::Scratch;
use self::observe::{Observer, held};
pub use self::own::Holder;
use self::route::Routes;
use self::scan::LocalWalk;
use crate::seam::{Body, Edit, EditOptions, Replica, TrashRun, Walk};

/// How a local root is opened.
#[derive(Clone)]
pub struct LocalOptions {
    /// The place as a person wrote it.
    pub label: String,
    /// The host that edits here are attributed to.
    pub host: String,
    /// Threads that list directories beside the caller; with 0 everything happens on the caller's thread.
    pub threads: usize,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Starts those threads.
    pub spawn: Arc<dyn Spawn>,
    /// This process, for the lock's message.
    pub pid: u32,
    /// Permission bits that new entries without a mode of their own do not get.
    pub umask: u32,
    /// Set-id bits, capabilities and devices of the other side are taken over (as root only).
    pub set_ids: bool,
}

/// The lock of a local root: one run at a time. Given back when dropped.
pub struct RootLock<D: Disk> {
    _file: D::File,
}

/// A directory on a local disk.
pub struct LocalReplica<D: Disk> {
    disk: Arc<D>,
    path: PathBuf,
    options: LocalOptions,
    profile: Profile,
    probed: probe::Found,
    routes: Arc<Routes<D>>,
    /// A scan of this replica took what links point to in their place, so reading does too.
    follows: AtomicBool,
    lock: Mutex<Weak<RootLock<D>>>,
    editing: Mutex<Weak<()>>,
}

impl<D: Disk> LocalReplica<D> {
    /// Opens the directory at `path`, an operator's path, and tries out what it can.
    pub fn open(disk: Arc<D>, path: &Path, options: LocalOptions) -> Result<Self> {
        let root = disk.root(path).map_err(|fault| fault.at(&options.label))?;
        let probed = probe::probe(&*disk, &root).map_err(|fault| fault.at(&options.label))?;
        let profile = probed.profile(&options.label, &options.host);
        let observer = Arc::new(Observer::new(Arc::clone(&disk)));
        let root = observer.spot(root)?;
        let routes = Arc::new(Routes::new(observer, root));
        Ok(Self {
            disk,
            path: path.to_owned(),
            options,
            profile,
            probed,
            routes,
            follows: AtomicBool::new(false),
            lock: Mutex::new(Weak::new()),
            editing: Mutex::new(Weak::new()),
        })
    }

    /// Takes the lock of this root: `Busy`, naming the holder, when another run has it. A root that may not be written
    /// needs none. Taken twice through one replica it is one lock.
    pub fn lock(&self) -> Result<Option<Arc<RootLock<D>>>> {
        if self.profile.read_only {
            return Ok(None);
        }
        let mut slot = held(&self.lock);
        if let Some(lock) = slot.upgrade() {
            return Ok(Some(lock));
        }
        let me = Holder {
            host: self.options.host.clone(),
            pid: self.options.pid,
            since: self.options.clock.now().secs,
        };
        let file = own::take_lock(&*self.disk, &self.routes.root.spot.dir, &me, &self.options.label)?;
        // A run that was killed behind its last change leaves nothing to do, and so no edit that would clear after it.
        edit::place::clear_stages(&self.routes)?;
        let lock = Arc::new(RootLock { _file: file });
        *slot = Arc::downgrade(&lock);
        Ok(Some(lock))
    }

    fn view(&self, scope: &Scope) -> View {
        View {
            filter: Arc::clone(&scope.filter),
            classes: self.shown(scope),
            links: scope.links,
            hide_own: true,
        }
    }

    /// What is asked for; a time of status change only where it means something.
    fn shown(&self, scope: &Scope) -> Classes {
        Classes {
            ctime: scope.classes.ctime && self.profile.classes.ctime,
            ..scope.classes
        }
    }

    fn follow(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    fn writable(&self) -> Result<()> {
        if self.profile.read_only {
            return Err(Fault::new(
                Kind::Denied,
                "this place may not be written",
                &self.options.label,
            ));
        }
        Ok(())
    }

    /// The rows of the paths of a scope, outermost only, in the order.
    fn top(&self, scope: &Scope) -> Result<Vec<Seen>> {
        let outermost = |path: &&RelPath| {
            !scope
                .only
                .iter()
                .any(|other| other != *path && path.is_within(other))
        };
        let mut rows = Vec::new();
        for path in scope.only.iter().filter(outermost) {
            let above = std::iter::successors(path.parent(), RelPath::parent);
            let hidden = above
                .filter(|path| !path.is_root())
                .any(|path| scope.filter.excludes(path.as_bytes(), true));
            let Some(what) = self.look(path, scope)? else {
                continue;
            };
            let is_dir = what.1;
            let entry = if hidden || scope.filter.excludes(path.as_bytes(), is_dir) {
                Observation {
                    entry: Entry::Opaque(Why::Excluded),
                    tag: Tag::None,
                }
            } else {
                what.0
            };
            rows.push(Seen {
                slot: Slot::of(path, is_dir),
                what: entry,
            });
        }
        rows.sort_by(|a, b| a.slot.cmp(&b.slot));
        rows.dedup_by(|a, b| a.slot == b.slot);
        Ok(rows)
    }

    /// What stands at `path`, and whether it is a directory.
    fn look(&self, path: &RelPath, scope: &Scope) -> Result<Option<(Observation, bool)>> {
        let follow = scope.links == Links::Follow;
        let Some((step, name, stat)) = self.routes.stat(path, follow)? else {
            return Ok(None);
        };
        let is_dir = stat.kind == syncline_store::Node::Dir;
        if stat.kind == syncline_store::Node::Link && scope.links == Links::Skip {
            return Ok(Some((
                Observation {
                    entry: Entry::Opaque(Why::Excluded),
                    tag: Tag::None,
                },
                false,
            )));
        }
        match self
            .routes
            .observer
            .observe(&step.spot, &name, &stat, self.shown(scope))
        {
            Ok(what) => Ok(Some((what, is_dir))),
            Err(fault) if fault.is(Kind::NotFound) => Ok(None),
            Err(fault) => Ok(Some((unreadable(&fault), is_dir))),
        }
    }
}

#[async_trait]
impl<D: Disk> Replica for LocalReplica<D> {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn identity(&self) -> Result<Identity> {
        let root = self.disk.root(&self.path).map_err(|fault| match fault.kind {
            Kind::Changed => Fault::new(Kind::NotFound, "it is no directory", &self.options.label),
            _ => fault.at(&self.options.label),
        })?;
        let now = self.disk.stat(&root, b"")?;
        let ours = &self.routes.root.spot;
        if (now.dev, now.inode) != (ours.dev, ours.inode) {
            let what = "another directory stands there than when it was opened";
            return Err(Fault::new(Kind::Changed, what, &self.options.label)
                .hint("look whether something was mounted or replaced there, then run again"));
        }
        let marker = own::read_marker(&*self.disk, &root)?;
        Ok(Identity {
            place: PlaceId(format!("{:016x}:{}", ours.fs, ours.inode)),
            marker,
        })
    }

    async fn mark(&self, marker: &Marker) -> Result<()> {
        self.writable()?;
        own::write_marker(&*self.disk, &self.routes.root.spot.dir, marker)
            .map_err(|f| f.at(&self.options.label))
    }

    async fn clock(&self) -> Result<Option<Time>> {
        if self.profile.read_only {
            // Nothing can be touched there: our own clock, and well before now, since the kernel's steps are coarse
            // and another host may keep the time there.
            let now = self.options.clock.now();
            return Ok(Some(Time {
                secs: now.secs.saturating_sub(2),
                ..now
            }));
        }
        own::touch(&*self.disk, &self.routes.root.spot.dir)
            .map(Some)
            .map_err(|fault| fault.at(&self.options.label))
    }

    async fn scan(&self, scope: &Scope) -> Result<Box<dyn Walk>> {
        self.follows
            .store(scope.links == Links::Follow, Ordering::Relaxed);
        // Handles kept from earlier work may be of directories that have since been replaced.
        self.routes.forget_all();
        let lister = Lister {
            routes: Arc::clone(&self.routes),
            view: self.view(scope),
            scratch: Scratch::new(Arc::clone(&self.routes), !self.profile.read_only),
        };
        let top = if scope.only.is_empty() || scope.only.iter().any(RelPath::is_root) {
            lister.list(None).map_err(|fault| fault.at(&self.options.label))?
        } else {
            let rows = self.top(scope)?;
            let dirs = rows.iter().filter(|seen| seen.what.entry.is_dir()).count();
            Listing {
                rows,
                dirs,
                rest: None,
            }
        };
        Ok(Box::new(LocalWalk::new(
            lister,
            top,
            self.options.threads,
            &self.options.spawn,
        )))
    }

    async fn find(&self, path: &RelPath, scope: &Scope) -> Result<Option<Observation>> {
        Ok(self.look(path, scope)?.map(|(what, _)| what))
    }

    /// MD5 is computed too when `expect` bears one, whatever it is: a caller that wants it puts zeros there.
    async fn digest(&self, path: &RelPath, expect: &Observation) -> Result<Content> {
        let with_md5 = expect
            .entry
            .content()
            .is_some_and(|content| content.md5.is_some());
        FileBody::open(&self.routes, path, Some(expect), self.follow())?.digest(with_md5)
    }

    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>> {
        let body = FileBody::open(&self.routes, path, Some(expect), self.follow())?;
        Ok(Box::new(body.seek(from)))
    }

    /// What is replaced here is looked at after it came out.
    async fn gave_way(&self, _: &RelPath, _: &Observation) -> Result<bool> {
        Ok(true)
    }

    /// Whoever ends a session takes the marker of a directory away.
    async fn leave(&self) -> Result<bool> {
        Ok(false)
    }

    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>> {
        self.writable()?;
        let mut editing = held(&self.editing);
        if editing.upgrade().is_some() {
            return Err(Fault::new(
                Kind::Busy,
                "another edit of this place is under way",
                &self.options.label,
            ));
        }
        let alive = Arc::new(());
        let edit = LocalEdit::open(
            Arc::clone(&self.routes),
            self.options.clone(),
            self.profile.clone(),
            self.probed,
            options.clone(),
            self.lock()?,
            Arc::clone(&alive),
        )?;
        *editing = Arc::downgrade(&alive);
        Ok(Arc::new(edit))
    }

    async fn trash(&self) -> Result<Vec<TrashRun>> {
        self.trash_runs()
    }

    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        self.list_trash(run).await
    }

    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        self.read_trash(at)
    }

    async fn trash_empty(&self, run: &str) -> Result<()> {
        self.writable()?;
        self.empty_trash(run)
    }

    async fn space(&self) -> Result<(Option<u64>, Option<u64>)> {
        let space = self.disk.space(&self.routes.root.spot.dir)?;
        Ok((Some(space.total), Some(space.free)))
    }

    async fn tidy_trash(&self) -> Result<()> {
        Ok(())
    }
}

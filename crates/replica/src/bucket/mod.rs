//! A plain bucket as a replica: files stand as objects at their own path, readable without us (design D7).
//!
//! Invariant: no object outside `.syncline/` is written, replaced or removed but by [`Edit::apply`], under the tag that the change
//! expects; and a pass over an unchanged bucket asks LIST only.
//!
//! Attributes of objects that others wrote are known to `find`, `digest` and `read`, which ask by name; a scan tells of them only what the
//! listing tells: size, tag and, where the tag is one, the MD5.

mod accounts;
mod announced;
mod blobs;
mod body;
mod dirs;
mod edit;
mod intents;
mod kept;
mod lease;
mod marker;
mod metadata;
mod overlay;
mod pile;
mod put;
mod row;
mod scan;
mod state;
mod succession;
mod tables;
mod trash;
mod uploads;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use syncline_model::{
    Classes, Clock, Content, Dice, Entry, Fault, Identity, Kind, Marker, Observation, Profile, RelPath,
    Result, Scope, Slot, Tag, Time, TrashRef,
};
use syncline_store::sorter::MakeSorter;
use syncline_store::{Blob, Store, Table};

use crate::seam::{Body, Edit, EditOptions, Replica, TrashRun, Walk};
pub use accounts::Accounts;
use dirs::Dirs;
use overlay::Overlay;
use tables::Tables;

/// Largest target of a symbolic link that is read.
const TARGET_MAX: u64 = 64 << 10;

/// What a bucket needs to know of who uses it.
#[derive(Clone)]
pub struct BucketOptions {
    /// Endpoint, bucket and prefix, without secrets: what can be seen of the place without a marker.
    pub place: String,
    /// The name that edits found here bear in conflict names: the bucket's.
    pub host: String,
    /// This writer, the same from run to run and unlike any other: letters, digits and `-` only.
    pub device: String,
    /// Where this writer keeps its cache of attribute tables, its unwritten rows and its unfinished uploads. Without
    /// it they last as long as the process, and interrupted uploads are not resumed.
    pub state: Option<Arc<dyn Table>>,
    /// Time, for the age of leases and of listings.
    pub clock: Arc<dyn Clock>,
    /// For the names of leases.
    pub dice: Arc<dyn Dice>,
    /// May not be written.
    pub read_only: bool,
}

/// See the module.
pub struct BucketReplica {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    options: BucketOptions,
    profile: Profile,
    state: Arc<dyn Table>,
    tables: Arc<Tables>,
    overlay: Mutex<Overlay>,
    /// Empty directories that have a marker object, as far as scans have met them.
    markers: Mutex<BTreeSet<RelPath>>,
    generation: AtomicU64,
    /// Where listings that are too large for memory are sorted.
    sorter: OnceLock<MakeSorter>,
    /// What the edit under way, or one that was broken off, has to look after.
    dirs: Mutex<Dirs>,
    /// Names of the runs that have trash here, since the last scan.
    trash_runs: Mutex<Option<Arc<Vec<String>>>>,
}

/// What a directory holds.
#[derive(Default)]
struct Inside {
    /// Its own marker.
    marker: bool,
    /// Anything else, or a marker with bytes in it.
    others: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BucketReplica {
    /// The bucket behind `store`, used by the writer that `options` names. Asks nothing yet.
    pub fn new(store: Arc<dyn Store>, options: BucketOptions) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if options.device.is_empty() || options.device.len() > 64 || !options.device.bytes().all(plain) {
            return Err(Fault::new(
                Kind::Bug,
                "a device has 1 to 64 letters, digits and '-'",
                &options.device,
            ));
        }
        let caps = store.caps();
        let profile = Profile {
            label: store.label().to_owned(),
            host: options.host.clone(),
            classes: Classes {
                mode: true,
                owner: true,
                times: true,
                xattrs: true,
                acls: true,
                links: true,
                ctime: false,
            },
            symlinks: true,
            specials: true,
            folds_case: false,
            normalises: false,
            renames: caps.reuse,
            copies: caps.reuse || (caps.versions && caps.metadata),
            exchanges: false,
            second_names: false,
            conditional: caps.if_absent && caps.if_is,
            stable_ids: false,
            time_step: 1,
            batch_durable: true,
            read_only: options.read_only,
            full: false,
        };
        let state = options
            .state
            .clone()
            .unwrap_or_else(|| Arc::new(state::Memory::default()));
        let tables = Arc::new(Tables::new(store.clone(), state.clone(), &options.device));
        let shared = Shared {
            store,
            options,
            profile,
            state,
            tables,
            overlay: Mutex::default(),
            markers: Mutex::default(),
            generation: AtomicU64::new(0),
            sorter: OnceLock::new(),
            dirs: Mutex::default(),
            trash_runs: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Owners go by the names that these accounts give them, then by number.
    #[must_use]
    pub fn naming_owners(self, accounts: Accounts) -> Self {
        self.shared.tables.name_owners(accounts);
        self
    }

    /// Sorts listings with what `make` makes, within its budget of memory; without it they are sorted in memory.
    #[must_use]
    pub fn sorting_with(self, make: MakeSorter) -> Self {
        self.shared.sorter.get_or_init(|| make);
        self
    }
}

impl Shared {
    /// What stands at `path`, asked by name.
    async fn find(&self, path: &RelPath, classes: Classes) -> Result<Option<Observation>> {
        if path.is_root() {
            return Ok(Some(Observation {
                entry: Entry::Dir(Default::default()),
                tag: Tag::None,
            }));
        }
        if blobs::is_own_path(path) {
            return Ok(None);
        }
        if let Some(seen) = self.find_object(path, classes).await? {
            return Ok(Some(seen));
        }
        if !self.dir_stands(path).await? {
            return Ok(None);
        }
        let row = self.tables.lookup(&Slot::of(path, true), None).await?;
        let mut entry = Entry::Dir(row.and_then(|row| row.entry.meta().cloned()).unwrap_or_default());
        if let Some(meta) = entry.meta_mut() {
            scan::keep_classes(meta, classes);
        }
        Ok(Some(Observation {
            entry,
            tag: Tag::None,
        }))
    }

    /// The object that stands at exactly this path.
    async fn find_object(&self, path: &RelPath, classes: Classes) -> Result<Option<Observation>> {
        let key = blobs::key_of(path)?;
        let blob = match self.store.stat(&key).await {
            Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
            asked => asked?,
        };
        let md5 = blobs::md5_of(&*self.store, &blob);
        let row = self
            .tables
            .lookup(&Slot::of(path, false), Some((&blob, md5)))
            .await?;
        let known = row.is_some();
        let mut seen = scan::observe(&blob, md5, row, classes);
        if let (Entry::Link(_, target), false) = (&mut seen.entry, known) {
            let (_, bytes) = blobs::read_whole(&*self.store, &key, TARGET_MAX, Some(&blob.tag)).await?;
            *target = bytes.into();
        }
        Ok(Some(seen))
    }

    /// True when there is a directory at `path`, with or without a marker.
    async fn dir_stands(&self, path: &RelPath) -> Result<bool> {
        if path.is_root() || lock(&self.dirs).stands(path) {
            return Ok(true);
        }
        let inside = self.look_into(path).await?;
        Ok(inside.marker || inside.others)
    }

    /// What the listing shows in the directory `path`, without what we have just removed.
    async fn look_into(&self, path: &RelPath) -> Result<Inside> {
        let dir = blobs::dir_key_of(path)?;
        let mut inside = Inside::default();
        let mut listing = self.store.list(dir.as_str(), None).await?;
        while let Some(page) = listing.next().await? {
            for listed in page {
                let key = listed.key.as_str();
                if key == dir.as_str() {
                    inside.marker = true;
                    inside.others |= listed.blob.size > 0;
                    continue;
                }
                let path = (!key.ends_with('/'))
                    .then(|| syncline_model::escape::decode(key).ok())
                    .flatten();
                let gone = path.is_some_and(|path| lock(&self.overlay).removed(&Slot::of(&path, false)));
                inside.others |= !gone;
            }
            if inside.others {
                break;
            }
        }
        Ok(inside)
    }

    /// The row that a writer of ours made for the object that `seen` saw at `path`.
    async fn row_of(&self, path: &RelPath, seen: &Observation) -> Result<Option<row::Row>> {
        let (size, md5) = match &seen.entry {
            Entry::File(_, content, _) => (content.size, content.md5),
            Entry::Link(_, target) => (target.len() as u64, None),
            _ => (0, None),
        };
        let blob = Blob {
            size,
            tag: seen.tag.clone(),
            modified: None,
            md5,
            metadata: None,
            version: None,
        };
        self.tables
            .lookup(&Slot::of(path, false), Some((&blob, md5)))
            .await
    }

    fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn changed(&self, what: &str, path: &RelPath) -> Fault {
        Fault::new(Kind::Changed, what, format!("{path} in {}", self.store.label()))
    }
}

#[async_trait]
impl Replica for BucketReplica {
    fn profile(&self) -> &Profile {
        &self.shared.profile
    }

    async fn identity(&self) -> Result<Identity> {
        marker::identity(&self.shared).await
    }

    async fn mark(&self, marker: &Marker) -> Result<()> {
        marker::mark(&self.shared, marker).await
    }

    async fn clock(&self) -> Result<Option<Time>> {
        Ok(None)
    }

    async fn scan(&self, scope: &Scope) -> Result<Box<dyn Walk>> {
        Ok(Box::new(scan::scan(&self.shared, scope).await?))
    }

    async fn find(&self, path: &RelPath, scope: &Scope) -> Result<Option<Observation>> {
        self.shared.find(path, scope.classes).await
    }

    async fn digest(&self, path: &RelPath, expect: &Observation) -> Result<Content> {
        body::digest(&self.shared, path, expect).await
    }

    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>> {
        body::read(&self.shared, path, expect, from).await
    }

    async fn gave_way(&self, path: &RelPath, was: &Observation) -> Result<bool> {
        succession::gave_way(&self.shared, path, was).await
    }

    async fn unfinished(&self, runs: &[String]) -> Result<bool> {
        Ok(!intents::left(&self.shared, Some(runs)).await?.is_empty())
    }

    async fn recover(&self, runs: &[String]) -> Result<()> {
        intents::recover(&self.shared, Some(runs)).await
    }

    async fn leave(&self) -> Result<bool> {
        let shared = &self.shared;
        intents::recover(shared, None).await?;
        put::clear_stage(shared).await?;
        uploads::give_all_up(shared).await?;
        // What our rows tell of the tree stays for others.
        shared.tables.flush().await?;
        marker::leave(shared).await
    }

    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>> {
        Ok(edit::begin(&self.shared, options).await?)
    }

    async fn trash(&self) -> Result<Vec<TrashRun>> {
        trash::runs(&self.shared).await
    }

    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        trash::list(&self.shared, run).await
    }

    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        trash::read(&self.shared, at).await
    }

    async fn trash_empty(&self, run: &str) -> Result<()> {
        trash::empty(&self.shared, run).await
    }

    async fn space(&self) -> Result<(Option<u64>, Option<u64>)> {
        let space = self.shared.store.space().await?;
        Ok((space.total, space.free))
    }

    async fn tidy_trash(&self) -> Result<()> {
        Ok(())
    }
}

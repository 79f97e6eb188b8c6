//! [`SimDisk`]: file systems in memory that forget at a power cut what was not synced, names and bytes each by chance.
//!
//! Invariant: what a sync made durable survives every crash; one seed and one sequence of calls is one outcome.
//!
//! Every call first passes the hook, which may refuse it, kill the process there, or edit the tree as a user would
//! through [`SimDisk::raw`], whose calls are neither counted nor refused.

mod verbs;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use syncline_model::fold::Folding;
use syncline_model::{Fault, Kind, Result, Time};

use crate::env::SeededDice;
pub use world::Lost;
use world::{Body, Id, World};

/// A file system of the simulated machine.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// What `space` gives as its identity; 0 for one that has none.
    pub identity: u64,
    /// `statfs` magic.
    pub kind: u64,
    /// Bytes it holds.
    pub capacity: u64,
    /// Refuses every change.
    pub read_only: bool,
    /// Can share bytes between files.
    pub reflinks: bool,
    /// Names that it takes for one; it keeps the spelling of the first.
    pub folds: Folding,
}

impl Default for FsOptions {
    fn default() -> Self {
        Self {
            identity: 0x51AD,
            kind: 0xEF53,
            capacity: 1 << 40,
            read_only: false,
            reflinks: true,
            folds: Folding::default(),
        }
    }
}

/// A call that is about to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// How many calls were counted before it.
    pub no: u64,
    /// How many changing calls were counted before it, if it is one.
    pub change_no: Option<u64>,
    /// Its verb, as in `Disk`.
    pub verb: &'static str,
    /// Where, from the root of the simulated machine, without a leading `/`.
    pub path: Vec<u8>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Go,
    /// It fails with this kind and changes nothing.
    Fail(Kind),
    /// A sync that fails and has lost what it was to make durable: those bytes count as written from now on, each file
    /// says so once more to whoever syncs it alone, and a power cut takes them. Of other calls: [`Action::Go`].
    Lose,
    /// The process is killed here: this call and all later ones fail with `Cancelled` and change nothing, until
    /// [`SimDisk::crash`] or [`SimDisk::restart`].
    CrashHere,
}

/// Judges calls.
pub type Hook = Arc<dyn Fn(&Call) -> Action + Send + Sync>;

/// What happened so far, so that a test in which nothing happened can fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls.
    pub calls: u64,
    /// Calls that change something.
    pub changes: u64,
    /// Calls that the hook made fail.
    pub faults: u64,
    /// Times that the process was killed.
    pub kills: u64,
    /// Power cuts.
    pub crashes: u64,
    /// What all power cuts took.
    pub lost: Lost,
}

#[derive(Default)]
struct Judge {
    hook: Option<Hook>,
    kill_at: Option<u64>,
    counts: Counts,
}

struct Shared {
    world: Mutex<World>,
    judge: Mutex<Judge>,
}

/// The simulated machine's disks. Clones are the same disks.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    raw: bool,
}

/// A held directory.
#[derive(Debug, Clone)]
pub struct SimDir {
    id: Id,
    epoch: u64,
}

/// An open file.
pub struct SimFile {
    shared: Arc<Shared>,
    id: Id,
    epoch: u64,
    /// Its own number, by which locks tell their holders apart.
    handle: u64,
    writes: bool,
    at: (Id, Box<[u8]>),
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.id)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut world = self.shared.world();
        if world.epoch != self.epoch {
            return;
        }
        if let Some(node) = world.nodes.get_mut(&self.id) {
            node.opens = node.opens.saturating_sub(1);
            if node.lock == Some(self.handle) {
                node.lock = None;
            }
        }
        world.release(self.id);
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// A machine with one empty file system at `/`.
    pub fn new() -> Self {
        Self::with(FsOptions::default())
    }

    /// A machine with this empty file system at `/`.
    pub fn with(options: FsOptions) -> Self {
        let mut world = World::new();
        world.add_fs(options);
        let shared = Shared {
            world: Mutex::new(world),
            judge: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            raw: false,
        }
    }

    /// The same disks for a user who is not under test: never counted, never refused, not killed.
    #[must_use]
    pub fn raw(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            raw: true,
        }
    }

    /// The root of the file system at `/`.
    pub fn top(&self) -> SimDir {
        let world = self.shared.world();
        SimDir {
            id: world.fss[0].root,
            epoch: world.epoch,
        }
    }

    /// Puts an empty file system over the directory `name` in `at`.
    pub fn mount(&self, at: &SimDir, name: &[u8], options: FsOptions) -> Result<()> {
        let mut world = self.shared.world();
        let covered = world.nodes[&at.id]
            .names()
            .and_then(|names| names.get(name))
            .copied();
        let covered = covered.filter(|id| world.nodes[id].is_dir());
        let Some(covered) = covered else {
            return Err(Fault::new(
                Kind::NotFound,
                "mount: no such directory",
                name.escape_ascii(),
            ));
        };
        let fs = world.add_fs(options);
        let root = world.fss[fs].root;
        world.mounts.insert(covered, root);
        Ok(())
    }

    /// Takes away what is mounted over `name` in `at`; the empty directory below shows again.
    pub fn unmount(&self, at: &SimDir, name: &[u8]) {
        let mut world = self.shared.world();
        if let Some(covered) = world.nodes[&at.id]
            .names()
            .and_then(|names| names.get(name))
            .copied()
        {
            world.mounts.remove(&covered);
        }
    }

    /// Changes what the file system of `dir` is: full, read-only and so on.
    pub fn alter(&self, dir: &SimDir, change: impl FnOnce(&mut FsOptions)) {
        let mut world = self.shared.world();
        let fs = world.nodes[&dir.id].fs;
        change(&mut world.fss[fs].options);
    }

    /// The machine's clock is set forward or back by so many seconds.
    pub fn shift_clock(&self, seconds: i64) {
        self.shared.world().now.secs += seconds;
    }

    /// How coarse the times of files are; 1 ns unless told.
    pub fn granularity(&self, step: Duration) {
        self.shared.world().granularity = step;
    }

    /// How much time each call takes; 1 µs unless told.
    pub fn tick(&self, step: Duration) {
        self.shared.world().tick = step;
    }

    /// Moves this machine's clock on.
    pub fn advance(&self, by: Duration) {
        self.shared.world().advance(by);
    }

    /// The time by this machine's clock.
    pub fn now(&self) -> Time {
        self.shared.world().now
    }

    /// Sets this machine's clock.
    pub fn set_now(&self, now: Time) {
        self.shared.world().now = now;
    }

    /// Gives inode numbers of files that are gone for good to new ones.
    pub fn reuse_inode_numbers(&self, reuse: bool) {
        self.shared.world().reuse_numbers = reuse;
    }

    /// Asks `hook` before every call from now on.
    pub fn before_call(&self, hook: impl Fn(&Call) -> Action + Send + Sync + 'static) {
        self.shared.judge().hook = Some(Arc::new(hook));
    }

    /// Asks nobody any more and kills nobody.
    pub fn no_hook(&self) {
        let mut judge = self.shared.judge();
        judge.hook = None;
        judge.kill_at = None;
    }

    /// Kills the process at the changing call that is the `n`th from now, 0 being the next.
    pub fn kill_at_change(&self, n: u64) {
        let mut judge = self.shared.judge();
        judge.kill_at = Some(judge.counts.changes + n);
    }

    /// True after a kill, before [`SimDisk::crash`] or [`SimDisk::restart`].
    pub fn is_killed(&self) -> bool {
        self.shared.world().dead
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.judge().counts
    }

    /// The power goes. Durable state stays, and of what was not synced what chance (by `seed`) let through: whole
    /// changes of names, each file's bytes block by block, attributes. All handles are dead afterwards.
    pub fn crash(&self, seed: u64) -> Lost {
        let dice = SeededDice::new(seed);
        // Mostly, much survives; now and then nothing or all does.
        let luck = dice.below(101);
        self.crashed(luck, &dice)
    }

    /// The power goes, and with it every change of names that was not synced.
    pub fn crash_forgetting(&self, seed: u64) -> Lost {
        self.crashed(0, &SeededDice::new(seed))
    }

    fn crashed(&self, luck: u64, dice: &SeededDice) -> Lost {
        let lost = self.shared.world().crash(luck, dice);
        let mut judge = self.shared.judge();
        judge.kill_at = None;
        judge.counts.crashes += 1;
        judge.counts.lost.names += lost.names;
        judge.counts.lost.files += lost.files;
        judge.counts.lost.attributes += lost.attributes;
        lost
    }

    /// Only the process dies: nothing on the disks changes, locks are free, all handles are dead.
    pub fn restart(&self) {
        self.shared.world().restart();
        self.shared.judge().kill_at = None;
    }

    /// Counts a call and asks whether it may be made. `path` is only found when somebody wants to know it.
    fn gate(&self, verb: &'static str, changes: bool, dir: Id, name: &[u8]) -> Result<MutexGuard<'_, World>> {
        if self.raw {
            return Ok(self.ticked());
        }
        let killed = || Fault::new(Kind::Cancelled, format!("{verb}: killed"), name.escape_ascii());
        if self.shared.world().dead {
            return Err(killed());
        }
        let (call, hook, kill) = {
            let mut judge = self.shared.judge();
            let counts = &mut judge.counts;
            let (no, change_no) = (counts.calls, changes.then_some(counts.changes));
            counts.calls += 1;
            counts.changes += u64::from(changes);
            let kill = change_no.is_some() && change_no == judge.kill_at;
            (
                Call {
                    no,
                    change_no,
                    verb,
                    path: Vec::new(),
                },
                judge.hook.clone(),
                kill,
            )
        };
        let action = match hook {
            _ if kill => Action::CrashHere,
            Some(hook) => {
                // No lock is held while the hook runs: it may look and edit.
                let path = self.shared.world().path(dir, name);
                hook(&Call { path, ..call })
            }
            None => Action::Go,
        };
        match action {
            Action::Go => Ok(self.ticked()),
            Action::Lose => {
                self.shared.judge().counts.faults += 1;
                let mut world = self.ticked();
                world.loses = matches!(verb, "sync_file" | "sync_fs");
                Ok(world)
            }
            Action::Fail(kind) => {
                self.shared.judge().counts.faults += 1;
                Err(Fault::new(kind, format!("{verb}: injected"), name.escape_ascii()))
            }
            Action::CrashHere => {
                self.shared.judge().counts.kills += 1;
                self.shared.world().dead = true;
                Err(killed())
            }
        }
    }

    fn ticked(&self) -> MutexGuard<'_, World> {
        let mut world = self.shared.world();
        let tick = world.tick;
        world.advance(tick);
        world
    }

    fn open_handle(&self, world: &mut World, id: Id, writes: bool, at: (Id, Box<[u8]>)) -> SimFile {
        if let Some(node) = world.nodes.get_mut(&id) {
            node.opens += 1;
        }
        world.next_id += 1;
        SimFile {
            shared: Arc::clone(&self.shared),
            id,
            epoch: world.epoch,
            handle: world.next_id,
            writes,
            at,
        }
    }
}

/// A node's bytes, when it is a file.
fn bytes_of(world: &mut World, id: Id) -> Option<&mut world::Bytes> {
    match world.nodes.get_mut(&id).map(|node| &mut node.body) {
        Some(Body::File { bytes, .. }) => Some(bytes),
        _ => None,
    }
}

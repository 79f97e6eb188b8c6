//! What a process on the simulated machine works with: trees, a shelf, and a table that dies with it; and who hears what it says.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use syncline_model::{Action, Conflict, Fault, Kind, Result, Side, Step};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::disk::Make;
use syncline_store::{Batch, Changes, Disk, Rows, Table};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, Event, Monitor};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::sim_disk::SimDisk;

use crate::user::{User, root_of};

/// The session's table dies with its process, and may be where it dies.
pub struct Mortal {
    pub table: MemTable,
    pub disk: SimDisk,
    /// Writes until the process is killed at one; negative: never.
    pub kill_in: Arc<AtomicI64>,
}

impl Mortal {
    fn alive(&self) -> Result<()> {
        if self.disk.is_killed() {
            return Err(Fault::new(Kind::Cancelled, "state table: killed", ""));
        }
        Ok(())
    }
}

impl Table for Mortal {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.alive()?;
        self.table.get(key)
    }
    fn scan(&self, prefix: &[u8], from: &[u8]) -> Rows {
        self.table.scan(prefix, from)
    }
    fn write(&self, batch: Batch) -> Result<()> {
        if self.kill_in.fetch_sub(1, Ordering::Relaxed) == 0 {
            kill_now(&self.disk);
        }
        self.alive()?;
        self.table.write(batch)
    }
    fn load(&self, changes: Changes) -> Result<()> {
        self.write(changes.collect::<Result<_>>()?)
    }
    fn persist(&self) -> Result<()> {
        self.alive()?;
        self.table.persist()
    }
}

/// Kills the process.
pub fn kill_now(disk: &SimDisk) {
    disk.kill_at_change(0);
    let _ = disk.make(&disk.top(), b"never", Make::Dir);
}

/// A side's tree on the simulated machine.
pub fn local(disk: &SimDisk, side: Side, env: &Env) -> Result<Arc<dyn Replica>> {
    let options = LocalOptions {
        label: side.name().to_owned(),
        host: format!("{}-host", side.name()),
        threads: 0,
        clock: env.clock.clone(),
        spawn: env.spawn.clone(),
        pid: 1,
        umask: 0o022,
        set_ids: false,
    };
    let disk = Arc::new(disk.clone());
    Ok(Arc::new(LocalReplica::open(disk, root_of(side), options)?))
}

/// What a session keeps in a directory of the simulated machine.
pub fn shelf(disk: &SimDisk, at: &str) -> Result<Arc<DiskShelf<SimDisk>>> {
    let disk = Arc::new(disk.clone());
    let state = disk.root(Path::new(at))?;
    Ok(Arc::new(DiskShelf::new(disk, state)?))
}

/// Counts what the program says, and tells it.
pub struct Watch {
    user: User,
    pub steps: Mutex<Vec<Step>>,
    pub conflicts: Mutex<Vec<Conflict>>,
    pub moves: AtomicU64,
}

impl Watch {
    pub fn of(user: &User) -> Self {
        Self {
            user: user.clone(),
            steps: Mutex::default(),
            conflicts: Mutex::default(),
            moves: AtomicU64::new(0),
        }
    }
}

impl Monitor for Watch {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Step(step) => {
                self.steps.lock().expect("no panic while told").push(step.clone());
                self.moves
                    .fetch_add(u64::from(step.action == Action::Move), Ordering::Relaxed);
                let new = step.change.new.as_ref();
                let mode = new.and_then(|new| new.meta()).and_then(|meta| meta.mode);
                format!(
                    "{} {:?} {} {} mode {:o} from {:?}",
                    step.side.name(),
                    step.action,
                    step.change.path,
                    new.map_or("-", |new| new.kind()),
                    mode.unwrap_or(0),
                    step.change.from
                )
            }
            Event::Conflict(conflict) => {
                self.conflicts
                    .lock()
                    .expect("no panic while told")
                    .push(conflict.clone());
                format!("conflict {:?} {}", conflict.clash, conflict.path)
            }
            Event::Problem(problem) => format!("problem {}: {}", problem.path, problem.message),
            Event::Note(note) => format!("note: {note}"),
            _ => return,
        };
        self.user.story().push(format!("    {line}"));
    }
}

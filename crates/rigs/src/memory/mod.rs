//! How much memory a run of the engine takes over very many entries: the most that the kernel has counted for its process.
//!
//! Invariant: each case runs in a process of its own, on a session whose state lies on the disk; a case that did not do what it is for
//! is red. Trees are made up as they are asked for, so that what grows is ours.

mod many;
mod vast;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use syncline_model::{Pair, Side};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::os::OsDisk;
use syncline_store::real::{SystemClock, SystemDice, ThreadSpawn};
use syncline_store::{Disk, FjallTable};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, Event, Exit, Monitor, Options, Places, Report, Session, Stop};

use many::{BIG, MOVE_OF_DIR, MTIME, Many, PER_DIR, Shape};
use vast::VastDisk;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// All entries are new on one side and are copied.
    New,
    /// Nothing is other than it was: the state is that of `new`.
    Unchanged,
    /// A tenth of all files has moved to directories that are new: the state is that of `new`.
    Moved,
    /// One directory holds all, listed in no order by the local replica; both sides have it, and nothing is remembered.
    Directory,
    /// The same once more, now that it is remembered.
    DirectoryUnchanged,
}

impl Case {
    /// All, in the order in which their state arises.
    pub const ALL: [Self; 5] = [
        Self::New,
        Self::Unchanged,
        Self::Moved,
        Self::Directory,
        Self::DirectoryUnchanged,
    ];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unchanged => "unchanged",
            Self::Moved => "moved",
            Self::Directory => "directory",
            Self::DirectoryUnchanged => "directory-unchanged",
        }
    }

    fn state(self) -> &'static str {
        match self {
            Self::New | Self::Unchanged | Self::Moved => "nested",
            Self::Directory | Self::DirectoryUnchanged => "flat",
        }
    }
}

struct Quiet;

impl Monitor for Quiet {
    fn event(&self, event: Event<'_>) {
        if let Event::Problem(problem) = event {
            eprintln!("memory-rig: {}: {}", problem.path, problem.message);
        }
    }
}

/// Runs a case in this process, with its state below `dir`; with `budget`, sorters hold no more bytes than that in memory.
pub fn run(case: Case, files: u64, dir: &Path, budget: Option<usize>) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let env = Env {
            clock: Arc::new(SystemClock),
            dice: Arc::new(SystemDice),
            spawn: Arc::new(ThreadSpawn::new()),
        };
        let sides = sides(case, files, dir, &env)?;
        let state = dir.join(case.state());
        std::fs::create_dir_all(&state)?;
        let session = match budget {
            None => Session::open(Places { sides, state }, env).await.map_err(told)?,
            Some(budget) => frugal(sides, &state, env, budget).map_err(told)?,
        };
        let report = session
            .run("sync", &Options::default(), &Quiet, &Stop::default())
            .await
            .map_err(told)?;
        judge(case, files, &report)?;
        Ok(report)
    })
}

/// A session over the same tables and files, whose sorters have little memory: what grows shows earlier.
fn frugal(
    sides: Pair<Arc<dyn Replica>>,
    state: &Path,
    env: Env,
    budget: usize,
) -> syncline_model::Result<Session> {
    let disk = Arc::new(OsDisk::new());
    let dir = disk.root(state)?;
    let table = Arc::new(FjallTable::open(&state.join("tables"))?);
    let shelf = DiskShelf::new(disk, dir)?.with_budget(budget);
    Session::over(sides, table, Arc::new(shelf), env)
}

fn told(fault: syncline_model::Fault) -> anyhow::Error {
    anyhow::anyhow!("{fault}")
}

fn sides(case: Case, files: u64, dir: &Path, env: &Env) -> Result<Pair<Arc<dyn Replica>>> {
    let many = |side, shape| Arc::new(Many::new(side, shape, files)) as Arc<dyn Replica>;
    let left = match case {
        Case::New | Case::Unchanged => many(Side::Left, Shape::Nested),
        Case::Moved => many(Side::Left, Shape::Moved),
        Case::Directory | Case::DirectoryUnchanged => local(files, &dir.join("left"), env)?,
    };
    let right = match case {
        Case::New => Shape::Empty,
        Case::Unchanged | Case::Moved => Shape::Nested,
        Case::Directory | Case::DirectoryUnchanged => Shape::Flat,
    };
    Ok(Pair::new(left, many(Side::Right, right)))
}

/// The local replica over a real directory, in which one more is made up.
fn local(files: u64, root: &Path, env: &Env) -> Result<Arc<dyn Replica>> {
    use std::os::unix::fs::PermissionsExt as _;
    let big = root.join(BIG);
    std::fs::create_dir_all(&big)?;
    std::fs::set_permissions(&big, std::fs::Permissions::from_mode(0o755))?;
    let mtime = std::time::UNIX_EPOCH + std::time::Duration::new(MTIME.secs.cast_unsigned(), MTIME.nanos);
    std::fs::File::open(&big)?.set_times(std::fs::FileTimes::new().set_modified(mtime))?;
    let options = LocalOptions {
        label: "left".into(),
        host: "left".into(),
        threads: 2,
        clock: env.clock.clone(),
        spawn: env.spawn.clone(),
        pid: std::process::id(),
        umask: 0o022,
        set_ids: false,
    };
    let replica = LocalReplica::open(Arc::new(VastDisk::new(files)), root, options).map_err(told)?;
    Ok(Arc::new(replica))
}

/// A case that did not do what it is for measures nothing.
fn judge(case: Case, files: u64, report: &Report) -> Result<()> {
    ensure!(report.exit == Exit::Done, "ended otherwise: {report:?}");
    let dirs = files.div_ceil(PER_DIR);
    let wanted = match case {
        Case::New => [files + dirs, 0],
        Case::Moved => [dirs, dirs * MOVE_OF_DIR],
        Case::Unchanged | Case::Directory | Case::DirectoryUnchanged => [0, 0],
    };
    let done = [report.right.created, report.right.moved];
    ensure!(
        done == wanted && report.left.steps() == 0,
        "made and moved {done:?}, not {wanted:?}: {report:?}"
    );
    Ok(())
}

/// The most memory that this process has had at once, in bytes.
pub fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("the kernel tells no VmHWM")?.trim().parse()?;
    Ok(kib << 10)
}

/// What a case took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Bytes of memory at most.
    pub peak: u64,
    /// Seconds of the run.
    pub seconds: f64,
}

/// Runs a case in a process of its own, started from `exe`.
pub fn measure(exe: &Path, case: Case, files: u64, dir: &Path, budget: Option<usize>) -> Result<Taken> {
    let out = std::process::Command::new(exe)
        .args(["--within", case.name(), "--entries", &files.to_string(), "--dir"])
        .arg(dir)
        .args(budget.map(|budget| format!("--budget={budget}")))
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(out.status.success(), "the case failed: {}", out.status);
    let text = String::from_utf8(out.stdout)?;
    let Some((peak, seconds)) = text.trim().split_once(' ') else {
        bail!("the case did not say what it took: {text:?}");
    };
    Ok(Taken {
        peak: peak.parse()?,
        seconds: seconds.parse()?,
    })
}

/// Where this rig's own program lies.
pub fn program() -> Result<PathBuf> {
    std::env::current_exe().context("own program")
}

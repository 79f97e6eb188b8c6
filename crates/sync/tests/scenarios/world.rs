//! Two directories on the real disk, a session over them, and somebody who watches: what a user would notice is
//! compared through `std::fs`, never through the code under test.

#![allow(dead_code, reason = "the vocabulary of a test user")]
#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use syncline_model::{Action, Conflict, Pair, Problem, RelPath, Result, Side, Step};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::os::OsDisk;
use syncline_store::real::{SystemClock, SystemDice, ThreadSpawn};
use syncline_store::{Disk, Table};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, Event, Monitor, Options, Report, Session, Stop};
use syncline_testkit::mem_table::MemTable;

/// What stands at a path, as far as a user can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Kind and content: the bytes of a file, the target of a link, the numbers of a device.
    pub what: What,
    /// Permission bits; 0 for links.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Time of modification: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// The first name of a file of several names.
    pub first_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Dir,
    File(Vec<u8>),
    Link(PathBuf),
    Fifo,
    Socket,
    Device(u64),
}

/// A child holds what its parent has locked until it becomes another program, so nobody starts one while a run of this
/// process is under way.
static RUNS: RwLock<()> = RwLock::new(());

/// Starts a program and waits for it; true when it ended well.
pub fn program(name: &str, arguments: &[&OsStr]) -> bool {
    let _alone = RUNS.write().unwrap_or_else(PoisonError::into_inner);
    let ended = std::process::Command::new(name).args(arguments).status();
    ended.is_ok_and(|status| status.success())
}

fn running() -> RwLockReadGuard<'static, ()> {
    RUNS.read().unwrap_or_else(PoisonError::into_inner)
}

/// One root, edited and looked at as a user does.
#[derive(Debug, Clone)]
pub struct Tree(pub PathBuf);

impl Tree {
    pub fn at(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(path.as_ref())
    }

    pub fn mkdir(&self, path: &str) {
        std::fs::create_dir_all(self.at(path)).unwrap();
    }

    /// Writes a file in place, with the directories that lead to it.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, bytes).unwrap();
    }

    /// Writes other bytes of the same length and puts the time back; again until the file system's clock has moved on since the file
    /// was last touched, without which nothing there could tell.
    pub fn rewrite(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let changed = || {
            let meta = self.at(path).symlink_metadata().unwrap();
            (meta.ctime(), meta.ctime_nsec())
        };
        let (time, before) = (self.mtime(path), changed());
        assert_eq!(self.read(path).len(), bytes.as_ref().len());
        while changed() == before {
            self.write(path, bytes.as_ref());
            self.set_mtime(path, time);
        }
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn has(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    pub fn remove(&self, path: &str) {
        let at = self.at(path);
        if at.symlink_metadata().unwrap().is_dir() {
            std::fs::remove_dir_all(at).unwrap();
        } else {
            std::fs::remove_file(at).unwrap();
        }
    }

    pub fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).unwrap();
    }

    pub fn symlink(&self, target: &str, path: &str) {
        std::os::unix::fs::symlink(target, self.at(path)).unwrap();
    }

    pub fn hard_link(&self, from: &str, to: &str) {
        std::fs::hard_link(self.at(from), self.at(to)).unwrap();
    }

    pub fn chmod(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn mode(&self, path: &str) -> u32 {
        self.at(path).symlink_metadata().unwrap().mode() & 0o7777
    }

    pub fn mtime(&self, path: &str) -> (i64, i64) {
        let meta = self.at(path).symlink_metadata().unwrap();
        (meta.mtime(), meta.mtime_nsec())
    }

    pub fn inode(&self, path: &str) -> u64 {
        self.at(path).symlink_metadata().unwrap().ino()
    }

    /// Sets the time of modification, of a link too.
    pub fn set_mtime(&self, path: &str, (secs, nanos): (i64, i64)) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: secs,
                tv_nsec: nanos,
            },
        };
        utimensat(CWD, self.at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    /// Everything but what is ours.
    pub fn look(&self) -> BTreeMap<Vec<u8>, Node> {
        let mut found = BTreeMap::new();
        let mut names = BTreeMap::<u64, Vec<Vec<u8>>>::new();
        self.look_into(&self.0, &mut found, &mut names);
        for group in names.into_values().filter(|group| group.len() > 1) {
            let first = String::from_utf8_lossy(group.iter().min().unwrap()).into_owned();
            for name in group {
                found.get_mut(&name).unwrap().first_name = Some(first.clone());
            }
        }
        found
    }

    fn look_into(
        &self,
        dir: &Path,
        found: &mut BTreeMap<Vec<u8>, Node>,
        names: &mut BTreeMap<u64, Vec<Vec<u8>>>,
    ) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let below = path
                .strip_prefix(&self.0)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec();
            if path.file_name().is_some_and(|name| name == ".syncline") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                What::Dir
            } else if kind.is_symlink() {
                What::Link(std::fs::read_link(&path).unwrap())
            } else if kind.is_file() {
                What::File(std::fs::read(&path).unwrap())
            } else if kind.is_fifo() {
                What::Fifo
            } else if kind.is_socket() {
                What::Socket
            } else {
                What::Device(meta.rdev())
            };
            if !kind.is_dir() && meta.nlink() > 1 {
                names.entry(meta.ino()).or_default().push(below.clone());
            }
            let mode = if kind.is_symlink() {
                0
            } else {
                meta.mode() & 0o7777
            };
            let node = Node {
                what,
                mode,
                owner: (meta.uid(), meta.gid()),
                mtime: (meta.mtime(), meta.mtime_nsec()),
                first_name: None,
            };
            found.insert(below, node);
            if kind.is_dir() {
                self.look_into(&path, found, names);
            }
        }
    }

    /// The names of all files that hold these bytes.
    pub fn names_of(&self, bytes: &[u8]) -> Vec<String> {
        let holds = |node: &Node| matches!(&node.what, What::File(held) if held == bytes);
        let mut names: Vec<String> = self
            .look()
            .into_iter()
            .filter(|(_, node)| holds(node))
            .map(|(name, _)| String::from_utf8_lossy(&name).into_owned())
            .collect();
        names.sort();
        names
    }

    /// All paths as text.
    pub fn names(&self) -> Vec<String> {
        self.look()
            .into_keys()
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }
}

/// All that a run said.
#[derive(Debug, Default)]
pub struct Said {
    pub steps: Vec<Step>,
    pub conflicts: Vec<Conflict>,
    pub problems: Vec<Problem>,
    pub yielded: Vec<(String, Side)>,
    pub notes: Vec<String>,
}

type Hook = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// Writes down what a run says; may act as a user in between.
#[derive(Default)]
pub struct Watch {
    said: Mutex<Said>,
    hook: Option<Hook>,
}

impl Watch {
    /// All that was said.
    pub fn said(self) -> Said {
        self.said.into_inner().unwrap()
    }
}

impl Monitor for Watch {
    fn event(&self, event: Event<'_>) {
        let mut said = self.said.lock().unwrap();
        match &event {
            Event::Step(step) => said.steps.push((*step).clone()),
            Event::Conflict(conflict) => said.conflicts.push((*conflict).clone()),
            Event::Problem(problem) => said.problems.push((*problem).clone()),
            Event::Yielded { path, side } => said.yielded.push((path.to_string(), *side)),
            Event::Note(note) => said.notes.push((*note).to_owned()),
            _ => {}
        }
        drop(said);
        if let Some(hook) = &self.hook {
            hook(&event);
        }
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ran {
    pub report: Report,
    pub said: Said,
}

impl Ran {
    /// Steps that a person is told of, as "side action path".
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self
            .said
            .steps
            .iter()
            .filter(|step| step.action != Action::Times)
            .map(|step| format!("{} {:?} {}", step.side.name(), step.action, step.change.path).to_lowercase())
            .collect();
        steps.sort();
        steps
    }

    pub fn exit(&self) -> u8 {
        self.report.exit.into()
    }

    /// Contents that travelled, in bytes.
    pub fn bytes(&self) -> u64 {
        self.report.left.bytes + self.report.right.bytes
    }

    pub fn problem_paths(&self) -> Vec<String> {
        self.said
            .problems
            .iter()
            .map(|problem| problem.path.to_string())
            .collect()
    }
}

/// Two roots, a state directory and the session over them.
pub struct World {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    pub left: Tree,
    pub right: Tree,
    pub table: MemTable,
    pub env: Env,
    pub session: Session,
}

fn local(path: &Path, label: &str, env: &Env) -> Arc<LocalReplica<OsDisk>> {
    let options = LocalOptions {
        label: label.to_owned(),
        host: format!("{label}-host"),
        threads: 2,
        clock: env.clock.clone(),
        spawn: env.spawn.clone(),
        pid: std::process::id(),
        umask: 0o022,
        set_ids: false,
    };
    Arc::new(LocalReplica::open(Arc::new(OsDisk::new()), path, options).unwrap())
}

pub fn session_over(left: &Path, right: &Path, state: &Path, table: Arc<dyn Table>, env: &Env) -> Session {
    let sides: Pair<Arc<dyn Replica>> = Pair::new(local(left, "left", env), local(right, "right", env));
    let disk = Arc::new(OsDisk::new());
    let shelf = Arc::new(DiskShelf::new(disk.clone(), disk.root(state).unwrap()).unwrap());
    Session::over(sides, table, shelf, env.clone()).unwrap()
}

impl World {
    pub fn new() -> Self {
        Self::prepared(|_, _| {})
    }

    /// Makes the roots, lets `prepare` fill them or mount something there, and opens the session.
    pub fn prepared(prepare: impl FnOnce(&Tree, &Tree)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (left, right) = (Tree(dir.path().join("left")), Tree(dir.path().join("right")));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let env = {
            let _within = runtime.enter();
            Env {
                clock: Arc::new(SystemClock),
                dice: Arc::new(SystemDice),
                spawn: Arc::new(ThreadSpawn::new()),
            }
        };
        for path in [&left.0, &right.0, &dir.path().join("state")] {
            std::fs::create_dir(path).unwrap();
        }
        prepare(&left, &right);
        let table = MemTable::new();
        let state = dir.path().join("state");
        let session = session_over(&left.0, &right.0, &state, Arc::new(table.clone()), &env);
        Self {
            dir,
            runtime,
            left,
            right,
            table,
            env,
            session,
        }
    }

    /// A world whose two sides hold these files already and have agreed on them.
    pub fn synced(files: &[(&str, &str)]) -> Self {
        let world = Self::new();
        for (path, text) in files {
            world.left.write(path, text);
        }
        let ran = world.sync();
        assert_eq!(ran.exit(), 0, "{ran:?}");
        world.assert_equal();
        world
    }

    /// A place beside the roots.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn tree(&self, side: Side) -> &Tree {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    /// Another process opens the same session.
    pub fn reopen(&mut self) {
        let state = self.beside("state");
        let table = Arc::new(self.table.clone());
        self.session = session_over(&self.left.0, &self.right.0, &state, table, &self.env);
    }

    /// The session's base is lost.
    pub fn lose_base(&mut self) {
        self.table = MemTable::new();
        self.reopen();
    }

    pub fn sync(&self) -> Ran {
        self.run(&Options::default())
    }

    pub fn run(&self, options: &Options) -> Ran {
        self.try_run(options, None).unwrap()
    }

    /// Runs while a user acts on what it says.
    pub fn run_while(&self, options: &Options, hook: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Ran {
        self.try_run(options, Some(Box::new(hook))).unwrap()
    }

    pub fn try_run(&self, options: &Options, hook: Option<Hook>) -> Result<Ran> {
        let watch = Watch {
            hook,
            ..Watch::default()
        };
        let (stop, _run) = (Stop::default(), running());
        let report = self
            .runtime
            .block_on(self.session.run("sync", options, &watch, &stop))?;
        Ok(Ran {
            report,
            said: watch.said.into_inner().unwrap(),
        })
    }

    /// Something else than a run that ends with a report.
    pub fn act(&self, what: impl AsyncFnOnce(&Session, &dyn Monitor, &Stop) -> Result<Report>) -> Ran {
        let (watch, stop, _run) = (Watch::default(), Stop::default(), running());
        let report = self.runtime.block_on(what(&self.session, &watch, &stop)).unwrap();
        Ran {
            report,
            said: watch.said.into_inner().unwrap(),
        }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn undo(&self, run: Option<&str>) -> Ran {
        self.act(async |session, monitor, stop| session.undo(run, &Options::default(), monitor, stop).await)
    }

    pub fn restore(&self, path: &str, from: Option<&str>) -> Ran {
        let paths = [rel(path)];
        self.act(async |session, monitor, stop| {
            session
                .restore(&paths, from, &Options::default(), monitor, stop)
                .await
        })
    }

    /// What but directories the trash of both sides holds, as "side path".
    pub fn trash(&self) -> Vec<String> {
        let items = self.block_on(async {
            let mut trash = self.session.trash().await.unwrap();
            let mut items = Vec::new();
            while let Some(batch) = trash.next().await.unwrap() {
                items.extend(batch);
            }
            items
        });
        items
            .iter()
            .filter(|item| !item.entry.is_dir())
            .map(|item| format!("{} {}", item.side.name(), item.path))
            .collect()
    }

    /// Both sides look alike to a user.
    #[track_caller]
    pub fn assert_equal(&self) {
        let (left, right) = (self.left.look(), self.right.look());
        let differing: Vec<String> = left
            .keys()
            .chain(right.keys())
            .filter(|name| left.get(*name) != right.get(*name))
            .map(|name| {
                let brief = |node: Option<&Node>| format!("{:.300}", format!("{node:?}"));
                format!(
                    "{}: {} | {}",
                    String::from_utf8_lossy(name),
                    brief(left.get(name)),
                    brief(right.get(name))
                )
            })
            .collect();
        assert!(
            differing.is_empty(),
            "the sides differ:\n{}",
            differing.join("\n")
        );
    }

    /// Both sides look alike, and another run finds nothing to do.
    #[track_caller]
    pub fn assert_settled(&self) {
        self.assert_equal();
        let before = (self.left.look(), self.right.look());
        let again = self.sync();
        assert_eq!(again.report.run, None, "a second run did something: {again:?}");
        assert_eq!(again.steps(), Vec::<String>::new());
        assert_eq!(again.report.problems, 0, "{again:?}");
        assert_eq!(before, (self.left.look(), self.right.look()));
    }
}

/// A path of a test.
pub fn rel(path: &str) -> RelPath {
    RelPath::try_from(path).unwrap()
}

/// A whole tree, copied with everything that belongs to it.
pub fn copy_all(from: &Path, to: &Path) {
    assert!(program("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()]));
}

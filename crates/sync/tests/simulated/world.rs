//! Two places on simulated machines of their own, a session over them, and a user who edits and looks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline_model::fold::Folding;
use syncline_model::{Action, Pair, Problem, Side};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::disk::Make;
use syncline_store::{Disk, Node, Place};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, Event, Monitor, Options, Report, Session, Stop};
use syncline_testkit::env::{FakeClock, LocalSpawn, SeededDice};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::sim_disk::{FsOptions, SimDir, SimDisk};

#[derive(Default)]
pub struct Said {
    pub problems: Vec<Problem>,
    pub steps: Vec<String>,
}

/// What happens meanwhile.
type Hook<'w> = &'w (dyn Fn(&Event<'_>) + Sync);

#[derive(Default)]
struct Watch<'w>(Mutex<Said>, Option<Hook<'w>>);

impl Monitor for Watch<'_> {
    fn event(&self, event: Event<'_>) {
        if let Some(hook) = self.1 {
            hook(&event);
        }
        let mut said = self.0.lock().unwrap();
        match event {
            Event::Problem(problem) => said.problems.push(problem.clone()),
            Event::Step(step) if step.action != Action::Times => {
                let line = format!("{} {:?} {}", step.side.name(), step.action, step.change.path);
                said.steps.push(line.to_lowercase());
            }
            _ => {}
        }
    }
}

pub struct World {
    pub disks: Pair<SimDisk>,
    state: SimDisk,
    table: MemTable,
    session: Session,
    runtime: tokio::runtime::Runtime,
    clock: FakeClock,
}

fn opened(
    disks: &Pair<SimDisk>,
    state: &SimDisk,
    table: &MemTable,
    runtime: &tokio::runtime::Runtime,
    clock: &FakeClock,
) -> Session {
    let _within = runtime.enter();
    let env = Env {
        clock: Arc::new(clock.clone()),
        dice: Arc::new(SeededDice::new(7)),
        spawn: Arc::new(LocalSpawn::new()),
    };
    let replica = |side: Side| -> Arc<dyn Replica> {
        let options = LocalOptions {
            label: format!("the {} place", side.name()),
            host: format!("{}-host", side.name()),
            threads: 0,
            clock: env.clock.clone(),
            spawn: env.spawn.clone(),
            pid: 1,
            umask: 0o022,
            set_ids: false,
        };
        let disk = Arc::new(disks[side].clone());
        Arc::new(LocalReplica::open(disk, Path::new("/"), options).unwrap())
    };
    let sides = Pair::each(replica);
    let shelf = Arc::new(DiskShelf::new(Arc::new(state.clone()), state.top()).unwrap());
    Session::over(sides, Arc::new(table.clone()), shelf, env).unwrap()
}

impl World {
    /// Two places that fold so.
    pub fn new(left: Folding, right: Folding) -> Self {
        Self::of_kind(left, right, FsOptions::default().kind)
    }

    /// Two places that fold so, on file systems of a kind.
    pub fn of_kind(left: Folding, right: Folding, kind: u64) -> Self {
        let state = SimDisk::new();
        let machine = |side: Side, folds: Folding| {
            SimDisk::with(FsOptions {
                identity: 1 + side as u64,
                folds,
                kind,
                ..FsOptions::default()
            })
        };
        let disks = Pair::new(machine(Side::Left, left), machine(Side::Right, right));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (clock, table) = (FakeClock::new(1_700_000_000), MemTable::new());
        let session = opened(&disks, &state, &table, &runtime, &clock);
        let world = Self {
            disks,
            state,
            table,
            session,
            runtime,
            clock,
        };
        // A root of which half goes is not what these tests are about.
        for side in Side::BOTH {
            for n in 0..12 {
                world.write(side, &format!("filler-{n}"), "filler");
            }
        }
        world
    }

    /// The session is opened anew, by a process that finds out again what each place can do.
    pub fn reopen(&mut self) {
        self.session = opened(&self.disks, &self.state, &self.table, &self.runtime, &self.clock);
    }

    /// The runs that have a log, oldest first.
    pub fn logs(&self) -> Vec<String> {
        let log = self.runtime.block_on(self.session.log()).unwrap();
        log.into_iter().map(|run| run.run).collect()
    }

    /// The user's own access to a machine's disk.
    pub fn raw(&self, side: Side) -> SimDisk {
        self.disks[side].raw()
    }

    /// Time passes everywhere.
    pub fn pass(&self, time: Duration) {
        Side::BOTH.iter().for_each(|side| self.disks[*side].advance(time));
        self.clock.advance(time);
    }

    /// A host's clock is set forward or back.
    pub fn shift(&self, side: Side, seconds: i64) {
        self.disks[side].shift_clock(seconds);
    }

    fn dir(&self, side: Side, path: &str) -> SimDir {
        self.raw(side).root(&Path::new("/").join(path)).unwrap()
    }

    fn parts<'p>(&self, side: Side, path: &'p str) -> (SimDir, &'p [u8]) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.dir(side, above), name.as_bytes())
    }

    /// Writes a file as an editor does, by another one in its place.
    pub fn write(&self, side: Side, path: &str, text: &str) {
        let raw = self.raw(side);
        let (dir, name) = self.parts(side, path);
        let _ = raw.remove(&dir, b".draft", false);
        let file = raw.open(&dir, b".draft", true).unwrap();
        raw.write(&file, 0, text.as_bytes()).unwrap();
        raw.place((&dir, b".draft"), (&dir, name), Place::Over).unwrap();
    }

    pub fn mkdir(&self, side: Side, path: &str) {
        let (dir, name) = self.parts(side, path);
        self.raw(side).make(&dir, name, Make::Dir).unwrap();
    }

    /// A rename as people make them where case is folded: by way of another name.
    pub fn rename(&self, side: Side, from: &str, to: &str) {
        let raw = self.raw(side);
        let ((dir, old), (target, new)) = (self.parts(side, from), self.parts(side, to));
        raw.place((&dir, old), (&dir, b".between"), Place::New).unwrap();
        raw.place((&dir, b".between"), (&target, new), Place::New)
            .unwrap();
    }

    pub fn remove(&self, side: Side, path: &str) {
        let (dir, name) = self.parts(side, path);
        self.raw(side).remove(&dir, name, false).unwrap();
    }

    /// Names and contents, without fillers.
    pub fn look(&self, side: Side) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        self.look_into(&self.raw(side), &self.dir(side, ""), "", &mut found);
        found
    }

    fn look_into(&self, raw: &SimDisk, dir: &SimDir, above: &str, found: &mut BTreeMap<String, String>) {
        let mut names = Vec::new();
        raw.list(dir, &mut |one| {
            names.push(one.name.to_vec());
            true
        })
        .unwrap();
        for name in names {
            let path = format!("{above}{}", String::from_utf8_lossy(&name));
            if path == ".syncline" || path.starts_with("filler-") {
                continue;
            }
            let stat = raw.stat(dir, &name).unwrap();
            if stat.kind == Node::Dir {
                self.look_into(
                    raw,
                    &raw.open_dir(dir, &name).unwrap(),
                    &format!("{path}/"),
                    found,
                );
                found.insert(format!("{path}/"), String::new());
            } else {
                let file = raw.open(dir, &name, false).unwrap();
                let mut bytes = vec![0; stat.size as usize];
                raw.read(&file, 0, &mut bytes).unwrap();
                found.insert(path, String::from_utf8(bytes).unwrap());
            }
        }
    }

    #[track_caller]
    pub fn assert_looks(&self, side: Side, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        assert_eq!(self.look(side), wanted, "{side:?}");
    }

    /// A user's edits are durable before a run.
    pub fn settle_disk(&self, side: Side) {
        let raw = self.raw(side);
        raw.sync(syncline_store::Sync::Fs(&raw.top())).unwrap();
    }

    pub fn run(&self, options: &Options) -> (Report, Said) {
        self.run_while(options, &|_| {})
    }

    /// Runs while something happens.
    pub fn run_while(&self, options: &Options, hook: Hook<'_>) -> (Report, Said) {
        self.pass(Duration::from_secs(5));
        let watch = Watch(Mutex::default(), Some(hook));
        let report = self
            .runtime
            .block_on(self.session.run("sync", options, &watch, &Stop::default()))
            .unwrap();
        self.pass(Duration::from_secs(5));
        (report, watch.0.into_inner().unwrap())
    }

    /// A plan is written while something happens, and carried out later.
    pub fn planned_while(&self, hook: Hook<'_>) -> (Report, Said) {
        self.pass(Duration::from_secs(5));
        let (options, mut file) = (Options::default(), Vec::new());
        let watch = Watch(Mutex::default(), Some(hook));
        self.runtime
            .block_on(
                self.session
                    .write_plan(&options, &watch, &Stop::default(), &mut file),
            )
            .unwrap();
        self.pass(Duration::from_secs(5));
        let watch = Watch::default();
        let (mut plan, stop) = (std::io::Cursor::new(file), Stop::default());
        let report = self
            .runtime
            .block_on(self.session.apply(&mut plan, &options, &watch, &stop))
            .unwrap();
        self.pass(Duration::from_secs(5));
        (report, watch.0.into_inner().unwrap())
    }

    /// A run that may fail: what it ended with.
    pub fn attempt(&self) -> Option<u8> {
        self.pass(Duration::from_secs(5));
        let (options, watch, stop) = (Options::default(), Watch::default(), Stop::default());
        let run = self.session.run("sync", &options, &watch, &stop);
        let report = self.runtime.block_on(run);
        self.pass(Duration::from_secs(5));
        report.ok().map(|report| report.exit.into())
    }

    #[track_caller]
    pub fn sync(&self, exit: u8) -> Said {
        let (report, said) = self.run(&Options::default());
        assert_eq!(u8::from(report.exit), exit, "{report:?} {:?}", said.problems);
        said
    }

    /// Another run has nothing to do.
    #[track_caller]
    pub fn assert_settled(&self) {
        let said = self.sync(0);
        assert!(said.steps.is_empty(), "{:?}", said.steps);
    }
}

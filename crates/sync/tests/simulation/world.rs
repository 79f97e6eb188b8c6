//! One seed is one world: two trees, a session's state, everything that may go wrong, and what must hold afterwards.

mod killed;
mod plans;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline_model::{Clock, Conflict, Dice, Kind, Pair, Policy, Result, Side, Step};
use syncline_replica::Durability;
use syncline_store::Disk;
use syncline_store::disk::Make;
use syncline_sync::{Env, MaxDelete, Options, Report, Session, Stop};
use syncline_testkit::env::{FakeClock, LocalSpawn, SeededDice};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::sim_disk::{Action, FsOptions, SimDisk};

use crate::machine::{Mortal, Watch, local, shelf};
use crate::user::{Look, User, What};

/// What was met over all seeds: a run of seeds that lacks any of it proves nothing.
#[derive(Debug, Default, Clone)]
pub struct Met {
    pub runs: u64,
    pub power_cuts: u64,
    pub lost: u64,
    pub kills: u64,
    pub faults: BTreeMap<String, u64>,
    pub meddled: u64,
    pub conflicts: u64,
    pub moves: u64,
    pub undone: u64,
    /// Sessions that could not be opened, by a kill or by a call that failed.
    pub not_opened: u64,
    pub edits: u64,
    pub kept_after_cut: u64,
    /// Worlds in which nobody asked for anything to be displaced, so that all must stand in the trees.
    pub all_stand: u64,
}

impl Met {
    pub fn join(&mut self, other: &Self) {
        self.runs += other.runs;
        self.power_cuts += other.power_cuts;
        self.lost += other.lost;
        self.kills += other.kills;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        self.meddled += other.meddled;
        self.conflicts += other.conflicts;
        self.moves += other.moves;
        self.undone += other.undone;
        self.not_opened += other.not_opened;
        self.edits += other.edits;
        self.kept_after_cut += other.kept_after_cut;
        self.all_stand += other.all_stand;
    }
}

pub struct World {
    dice: Arc<SeededDice>,
    disk: SimDisk,
    table: MemTable,
    kill_in: Arc<AtomicI64>,
    /// What the last process said that it does.
    steps: Vec<Step>,
    conflicts: Vec<Conflict>,
    /// The change at which the process is to be killed, counted from the opened session on.
    kill_at: Option<u64>,
    /// The session stands open: before, only some worlds have calls that fail.
    opened: Arc<AtomicBool>,
    /// Nobody takes a run back or lets one of two edits go in this world.
    keeps: bool,
    /// A run was taken back, or a policy let one of two edits go.
    displaces: bool,
    clock: FakeClock,
    session_dice: Arc<SeededDice>,
    user: User,
    runtime: tokio::runtime::Runtime,
    pub met: Met,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let dice = Arc::new(SeededDice::new(seed));
        let disk = SimDisk::new();
        let raw = disk.raw();
        for (number, name) in [b"left".as_slice(), b"right", b"state"].into_iter().enumerate() {
            raw.make(&raw.top(), name, Make::Dir).expect("an empty disk");
            let options = FsOptions {
                identity: 0x1000 + number as u64,
                reflinks: dice.chance(50),
                ..FsOptions::default()
            };
            disk.mount(&disk.top(), name, options).expect("a directory");
        }
        raw.sync(syncline_store::Sync::Fs(&raw.top())).expect("synced");
        let steps = [1, 4_000_000, 1_000_000_000, 2_000_000_000];
        disk.granularity(Duration::from_nanos(steps[dice.below(4) as usize]));
        disk.reuse_inode_numbers(dice.chance(50));
        let user = User::new(&disk);
        for side in Side::BOTH {
            user.anchor(side);
            user.sync(side);
        }
        Self {
            session_dice: Arc::new(SeededDice::new(seed ^ 0x5E55)),
            disk,
            table: MemTable::new(),
            kill_in: Arc::new(AtomicI64::new(-1)),
            steps: Vec::new(),
            conflicts: Vec::new(),
            kill_at: None,
            opened: Arc::default(),
            keeps: dice.chance(60),
            displaces: false,
            clock: FakeClock::new(1_700_000_000),
            user,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            met: Met::default(),
            dice,
        }
    }

    /// What happened, line by line.
    pub fn story(&self) -> Vec<String> {
        std::mem::take(&mut self.user.story())
    }

    fn tell(&self, line: impl Into<String>) {
        self.user.story().push(line.into());
    }

    fn pass_time(&self) {
        let nanos = [1, 2_000_000, 1_500_000_000, 20_000_000_000][self.dice.below(4) as usize];
        self.disk.advance(Duration::from_nanos(nanos));
        self.clock.advance(Duration::from_nanos(nanos));
    }

    fn open(&self, env: &Env) -> Result<Session> {
        let sides = Pair::new(
            local(&self.disk, Side::Left, env)?,
            local(&self.disk, Side::Right, env)?,
        );
        let table = Mortal {
            table: self.table.clone(),
            disk: self.disk.clone(),
            kill_in: self.kill_in.clone(),
        };
        let shelf = shelf(&self.disk, "/state")?;
        Session::over(sides, Arc::new(table), shelf, env.clone())
    }

    /// A process: opens the session, does one thing, ends.
    fn process(&mut self, what: &str, options: &Options) -> Result<Report> {
        let watch = Watch::of(&self.user);
        let result = {
            let _within = self.runtime.enter();
            let env = Env {
                clock: Arc::new(self.clock.clone()),
                dice: self.session_dice.clone(),
                spawn: Arc::new(LocalSpawn::new()),
            };
            self.open(&env)
        };
        let stop = Stop::default();
        self.opened.store(result.is_ok(), Ordering::Relaxed);
        if let Some(at) = self.kill_at.take() {
            self.disk.kill_at_change(at);
        }
        let report = result.and_then(|session| {
            self.runtime.block_on(async {
                if what == "undo" {
                    session.undo(None, options, &watch, &stop).await
                } else {
                    session.run(what, options, &watch, &stop).await
                }
            })
        });
        self.steps = watch.steps.into_inner().expect("nobody tells any more");
        self.met.runs += 1;
        self.conflicts = watch.conflicts.into_inner().expect("nobody tells any more");
        self.met.conflicts += self.conflicts.len() as u64;
        self.met.moves += watch.moves.into_inner();
        if std::env::var_os("SYNCLINE_SEED").is_some() {
            for side in Side::BOTH {
                for (path, seen) in self.user.look(side, false) {
                    let line = format!("{seen:?}");
                    self.user.story().push(format!(
                        "      {} {} {line:.200}",
                        side.name(),
                        path.escape_ascii()
                    ));
                }
            }
        }
        self.tell(match &report {
            Ok(report) => format!("  {what} ended: {:?}, run {:?}", report.exit, report.run),
            Err(fault) => format!("  {what} failed: {fault:?}"),
        });
        report
    }

    fn some_options(&self) -> Options {
        let dice = &self.dice;
        let policies = [
            Policy::Newest,
            Policy::Left,
            Policy::Right,
            Policy::Largest,
            Policy::Hold,
        ];
        let policy = if self.keeps || dice.chance(50) {
            Policy::KeepBoth
        } else {
            policies[dice.below(5) as usize]
        };
        let durability = match dice.below(10) {
            0 => Durability::None,
            1 => Durability::File,
            _ => Durability::Batch,
        };
        Options {
            policy,
            durability,
            max_delete: MaxDelete::None,
            jobs: 1 + dice.below(4) as usize,
            checksum: dice.chance(5),
            ..Options::default()
        }
    }

    /// What goes wrong in this run: calls that fail, a user who edits in between, a kill at one of its flushes.
    fn interfere(
        &self,
        faults: bool,
        meddling: bool,
        at_flush: Option<u64>,
    ) -> (Arc<Mutex<BTreeMap<String, u64>>>, Arc<AtomicU64>) {
        let (hit, meddled) = (
            Arc::<Mutex<BTreeMap<String, u64>>>::default(),
            Arc::new(AtomicU64::new(0)),
        );
        let dice = SeededDice::new(self.dice.roll());
        let user = self.user.clone();
        let (count, edits, opened) = (hit.clone(), meddled.clone(), self.opened.clone());
        let early = dice.chance(30);
        let left = AtomicI64::new(1 + dice.below(3) as i64);
        let flushes = AtomicI64::new(at_flush.map_or(-1, |at| at as i64));
        let logged = AtomicBool::new(false);
        self.disk.before_call(move |call| {
            user.go_on(false);
            let flush = call.verb.starts_with("sync_") && opened.load(Ordering::Relaxed);
            // Before its log stands a run has made nothing but its markers.
            if flush && call.path.starts_with(b"state/runs/") {
                logged.store(true, Ordering::Relaxed);
            }
            if flush && logged.load(Ordering::Relaxed) && flushes.fetch_sub(1, Ordering::Relaxed) == 0 {
                return Action::CrashHere;
            }
            if meddling && dice.below(60) == 0 && !call.path.starts_with(b"state") {
                let side = if dice.chance(50) { Side::Left } else { Side::Right };
                user.meddle(side, &dice);
                edits.fetch_add(1, Ordering::Relaxed);
            }
            if faults
                && (early || opened.load(Ordering::Relaxed))
                && dice.below(80) == 0
                && left.fetch_sub(1, Ordering::Relaxed) > 0
            {
                let kind = [Kind::Full, Kind::Denied, Kind::Corrupt][dice.below(3) as usize];
                *count
                    .lock()
                    .expect("no panic")
                    .entry(format!("{kind:?}"))
                    .or_default() += 1;
                return Action::Fail(kind);
            }
            Action::Go
        });
        (hit, meddled)
    }

    fn looks(&self) -> Pair<Look> {
        Pair::each(|side| self.user.look(side, false))
    }

    /// One round: users edit, the program runs, something goes wrong.
    fn round(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.below(9) {
            let side = if self.dice.chance(50) {
                Side::Left
            } else {
                Side::Right
            };
            self.user.edit(side, &self.dice.clone());
            self.pass_time();
        }
        Side::BOTH.iter().for_each(|side| self.user.sync(*side));
        self.pass_time();
        let options = self.some_options();
        let (kill, faults, meddling) = (self.dice.chance(35), self.dice.chance(25), self.dice.chance(25));
        // At a flush it shows what was done too early.
        let at_flush = (kill && self.dice.chance(40)).then(|| self.dice.below(12));
        if at_flush.is_some() {
            // The hook does it.
        } else if kill && self.dice.chance(80) {
            let at = self.dice.below([10, 60, 200][self.dice.below(3) as usize]);
            if self.dice.chance(20) {
                self.disk.kill_at_change(at);
            } else {
                self.kill_at = Some(at);
            }
        } else if kill {
            self.kill_in.store(self.dice.below(12) as i64, Ordering::Relaxed);
        }
        let (hit, meddled) = self.interfere(faults, meddling, at_flush);
        let what = if !self.keeps && self.dice.chance(20) {
            "undo"
        } else {
            "sync"
        };
        self.tell(format!(
            "round: {what} {:?} {:?} kill {kill} faults {faults} meddling {meddling}",
            options.policy, options.durability
        ));
        self.displaces |= what == "undo" || !matches!(options.policy, Policy::KeepBoth | Policy::Hold);
        self.opened.store(false, Ordering::Relaxed);
        let untouched = self.looks();
        let outcome = self.process(what, &options);
        self.disk.no_hook();
        self.user.go_on(true);
        if !self.opened.load(Ordering::Relaxed) {
            self.met.not_opened += 1;
            if meddled.load(Ordering::Relaxed) == 0 && self.looks() != untouched {
                return Err("a session that could not be opened changed something".into());
            }
        }
        self.kill_in.store(-1, Ordering::Relaxed);
        self.met.undone += u64::from(what == "undo" && outcome.is_ok());
        for (kind, count) in hit.lock().expect("no panic").iter() {
            *self.met.faults.entry(kind.clone()).or_default() += count;
        }
        let meddled = meddled.load(Ordering::Relaxed);
        self.met.meddled += meddled;
        let killed = self.disk.is_killed();
        self.met.kills += u64::from(killed);
        let cut = options.durability != Durability::None
            && (killed && (at_flush.is_some() || self.dice.chance(70)) || self.dice.chance(30));
        if !cut {
            self.disk.restart();
            Side::BOTH.iter().for_each(|side| self.user.sync(*side));
            return Ok(());
        }
        let before = (outcome.is_ok() && !killed && meddled == 0).then(|| self.looks());
        self.cut();
        match before {
            Some(before) => self.kept(&before),
            None => Ok(()),
        }
    }

    fn cut(&mut self) {
        let lost = self.disk.crash(self.dice.roll());
        let rows = self.table.crash(self.dice.roll());
        self.met.power_cuts += 1;
        self.met.lost += lost.names + lost.files;
        self.tell(format!("  power cut: lost {lost:?}, {rows} batches of rows"));
    }

    /// What a run reported as done is there after the power came back.
    fn kept(&mut self, before: &Pair<Look>) -> Result<(), String> {
        self.met.kept_after_cut += 1;
        let after = self.looks();
        for side in Side::BOTH {
            compare(
                &before[side],
                &after[side],
                "lost by a power cut after the run had ended",
                false,
            )?;
        }
        Ok(())
    }

    /// Lives through this seed. `Err`: what does not hold.
    pub fn live(&mut self) -> Result<blake3::Hash, String> {
        for _ in 0..2 + self.dice.below(4) {
            self.round()?;
            self.user.whole()?;
        }
        self.settle()?;
        self.nothing_lost()?;
        self.met.all_stand = u64::from(!self.displaces);
        self.met.edits = self.user.oracle().edits;
        Ok(self.digest())
    }

    /// Runs until nothing is left to do.
    fn settle(&mut self) -> Result<(), String> {
        let options = Options {
            max_delete: MaxDelete::None,
            ..Options::default()
        };
        for _ in 0..5 {
            self.pass_time();
            self.tell("final run");
            let report = self
                .process("sync", &options)
                .map_err(|fault| format!("a run without any fault failed: {fault:?}"))?;
            if u8::from(report.exit) > 2 {
                return Err(format!("a run without any fault ended with {report:?}"));
            }
            self.user.whole()?;
            if report.run.is_none() {
                let looks = self.looks();
                return compare(&looks.left, &looks.right, "differs between the sides", true);
            }
        }
        Err("five runs were not enough".into())
    }

    /// Only where a run was taken back or a policy let an edit go may what nobody took away lie in the trash: a place that a power cut threw back
    /// to an older state must not win over the other one's edits.
    fn nothing_lost(&self) -> Result<(), String> {
        self.user.nothing_lost(self.displaces)
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for side in Side::BOTH {
            for own in [false, true] {
                hasher.update(format!("{:?}", self.user.look(side, own)).as_bytes());
            }
        }
        hasher.update(
            format!(
                "{:?} {:?} {}",
                self.disk.counts(),
                self.clock.now(),
                self.table.len()
            )
            .as_bytes(),
        );
        hasher.finalize()
    }
}

/// The two looks are one, but for inode numbers and, unless `strictly`, times of directories.
fn compare(a: &Look, b: &Look, what: &str, strictly: bool) -> Result<(), String> {
    let plain = |look: &Look, path: &Vec<u8>| {
        look.get(path).cloned().map(|mut seen| {
            (seen.inode, seen.ctime) = (0, syncline_model::Time::NEVER);
            if !strictly && seen.what == What::Dir {
                seen.mtime = syncline_model::Time::NEVER;
            }
            seen
        })
    };
    for path in a.keys().chain(b.keys()) {
        let (one, other) = (plain(a, path), plain(b, path));
        if one != other {
            let brief = |seen| format!("{:.200}", format!("{seen:?}"));
            return Err(format!(
                "{} {what}: {} | {}",
                path.escape_ascii(),
                brief(one),
                brief(other)
            ));
        }
    }
    Ok(())
}

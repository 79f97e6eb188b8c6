//! One seed is one office: two people with a disk and a session of their own, one bucket, and somebody who writes into the bucket directly.
//!
//! What holds: nothing that anybody wrote and nobody took away is lost, no file is torn, and once the disturbances end both trees come to be
//! alike. Processes are killed before, within and after any call to a disk, a table or the store; the power fails; calls to the store go wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use syncline_model::{Clock, Dice, Fault, Kind, Pair, Result, Side, Task, Time};
use syncline_replica::{BucketOptions, BucketReplica, Replica};
use syncline_store::disk::Make;
use syncline_store::layer::{Layer, Verb};
use syncline_store::layers::{Patience, Retry, RetryRule};
use syncline_store::{Cond, Disk, Key, Store};
use syncline_sync::{Env, MaxDelete, Options, Report, Session, Stop};
use syncline_testkit::env::{FakeClock, LocalSpawn, SeededDice};
use syncline_testkit::faulty_store::FaultyStore;
use syncline_testkit::mem_store::{MemOptions, MemStore};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::sim_disk::SimDisk;
use syncline_testkit::store_conformance::put;

use crate::machine::{Mortal, Watch, kill_now, local, shelf};
use crate::user::{User, What, number_of};

/// Contents by path.
type Tree = BTreeMap<Vec<u8>, What>;

/// What was met over all seeds.
#[derive(Debug, Default, Clone)]
pub struct Met {
    pub runs: u64,
    pub kills: u64,
    /// Of these at a call to the store.
    pub kills_at_store: u64,
    pub power_cuts: u64,
    pub conflicts: u64,
    /// Writes into the bucket by somebody else while a run was under way.
    pub intruded: u64,
    pub edits: u64,
    pub faults: BTreeMap<String, u64>,
}

impl Met {
    pub fn join(&mut self, other: &Self) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.kills_at_store += other.kills_at_store;
        self.power_cuts += other.power_cuts;
        self.conflicts += other.conflicts;
        self.intruded += other.intruded;
        self.edits += other.edits;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Who waits makes the time pass: nobody else is about.
struct Waits(FakeClock);

impl Clock for Waits {
    fn now(&self) -> Time {
        self.0.now()
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, time: Duration) -> Task {
        self.0.advance(time);
        Box::pin(tokio::task::yield_now())
    }
}

/// The store as a process sees it that may be killed at any call, while somebody else writes there.
#[derive(Clone)]
struct Wire {
    store: MemStore,
    disk: SimDisk,
    user: User,
    dice: Arc<SeededDice>,
    /// Calls until the process is killed at one; negative: never.
    kill_in: Arc<AtomicI64>,
    intrudes: Arc<AtomicBool>,
    intruded: Arc<AtomicU64>,
}

impl Wire {
    fn killed<T>(&self) -> Result<T> {
        Err(Fault::new(Kind::Cancelled, "store: killed", ""))
    }

    /// Somebody else overwrites, removes or adds an object; who takes something away has seen it.
    async fn intrude(&self) {
        let objects = self.store.contents();
        let files: Vec<_> = objects
            .iter()
            .filter(|(key, _)| !key.starts_with(".syncline/") && !key.ends_with('/') && *key != "anchor")
            .collect();
        let chosen = (!files.is_empty()).then(|| files[self.dice.below(files.len() as u64) as usize]);
        let act = self.dice.below(4);
        let (key, body) = match chosen {
            Some((key, body)) if act < 3 => (key.clone(), Some(body)),
            _ => (format!("eve{}", self.dice.below(3)), None),
        };
        let old = body
            .or_else(|| objects.get(&key))
            .and_then(|body| number_of(body));
        self.user.story().push(format!("  eve: act {act} at {key}"));
        if act == 2 && chosen.is_some() {
            let Ok(known) = Key::new(key) else { return };
            let _ = self.store.remove(&[(known, Cond::Any)]).await;
        } else {
            let fresh = self.user.fresh(&self.dice, None);
            let _ = put(&self.store, &key, &fresh, Cond::Any).await;
        }
        if let Some(old) = old {
            self.user.oracle().owed.remove(&old);
        }
        self.intruded.fetch_add(1, Ordering::Relaxed);
    }
}

impl Layer for Wire {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn once<T: Send>(&self, _verb: Verb, attempt: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.disk.is_killed() {
            return self.killed();
        }
        if self.intrudes.load(Ordering::Relaxed) && self.dice.below(40) == 0 {
            self.intrude().await;
        }
        if self.kill_in.fetch_sub(1, Ordering::Relaxed) != 0 {
            return attempt.await;
        }
        // Killed before the call or right after it: its effect is there or not.
        if self.dice.chance(50) {
            let _ = attempt.await;
        }
        kill_now(&self.disk);
        self.killed()
    }
}

/// Two people and a bucket. The one's tree is the left one of the simulated machine, the other's the right one.
pub struct Office {
    dice: Arc<SeededDice>,
    disk: SimDisk,
    store: MemStore,
    bases: Pair<MemTable>,
    buckets: Pair<MemTable>,
    process_dice: Pair<Arc<SeededDice>>,
    clock: FakeClock,
    user: User,
    runtime: tokio::runtime::Runtime,
    pub met: Met,
}

impl Office {
    pub fn new(seed: u64) -> Self {
        let dice = Arc::new(SeededDice::new(seed));
        let disk = SimDisk::new();
        let raw = disk.raw();
        for name in [&b"left"[..], b"right", b"left-state", b"right-state"] {
            raw.make(&raw.top(), name, Make::Dir).expect("an empty disk");
        }
        raw.sync(syncline_store::Sync::Fs(&raw.top())).expect("synced");
        let user = User::new(&disk);
        for side in Side::BOTH {
            user.anchor(side);
            user.sync(side);
        }
        let clock = FakeClock::new(1_700_000_000);
        let mut options = if dice.chance(30) {
            MemOptions::versioned()
        } else {
            MemOptions::default()
        };
        options.page = [3, 1000][dice.below(2) as usize];
        options.lag = [0, 0, 3][dice.below(3) as usize];
        let store_dice = Arc::new(SeededDice::new(seed ^ 0x0B0E));
        Self {
            store: MemStore::new("mem://bucket", options, Arc::new(clock.clone()), store_dice),
            disk,
            bases: Pair::each(|_| MemTable::new()),
            buckets: Pair::each(|_| MemTable::new()),
            process_dice: Pair::each(|side| Arc::new(SeededDice::new(seed ^ (0x77 + side as u64)))),
            clock,
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

    fn pass_time(&self) {
        let time = Duration::from_millis([1, 30, 5_000, 90_000][self.dice.below(4) as usize]);
        self.disk.advance(time);
        self.clock.advance(time);
    }

    fn open(
        &self,
        side: Side,
        store: Arc<dyn Store>,
        table_dies: &Arc<AtomicI64>,
        env: &Env,
    ) -> Result<Session> {
        let name = side.name().to_owned();
        let mortal = |table: &MemTable| {
            Arc::new(Mortal {
                table: table.clone(),
                disk: self.disk.clone(),
                kill_in: table_dies.clone(),
            })
        };
        let bucket = BucketOptions {
            place: "mem://bucket".into(),
            host: "bucket".into(),
            device: name.clone(),
            state: Some(mortal(&self.buckets[side])),
            clock: env.clock.clone(),
            dice: env.dice.clone(),
            read_only: false,
        };
        let sides: Pair<Arc<dyn Replica>> = Pair::new(
            local(&self.disk, side, env)?,
            Arc::new(BucketReplica::new(store, bucket)?),
        );
        let shelf = shelf(&self.disk, &format!("/{name}-state"))?;
        Session::over(sides, mortal(&self.bases[side]), shelf, env.clone())
    }

    /// A process of one person's; `trouble`: of how many of 10,000 calls to the store go wrong, and whether somebody else writes there.
    fn process(&mut self, side: Side, trouble: (u64, bool), kill: [Option<u64>; 3]) -> Result<Report> {
        let [at_store, at_disk, at_table] = kill;
        let watch = Watch::of(&self.user);
        let wire = Wire {
            store: self.store.clone(),
            disk: self.disk.clone(),
            user: self.user.clone(),
            dice: Arc::new(SeededDice::new(self.dice.roll())),
            kill_in: Arc::new(AtomicI64::new(at_store.map_or(-1, |at| at as i64))),
            intrudes: Arc::new(AtomicBool::new(trouble.1)),
            intruded: Arc::default(),
        };
        let spawn = {
            let _within = self.runtime.enter();
            Arc::new(LocalSpawn::new())
        };
        let env = Env {
            clock: Arc::new(Waits(self.clock.clone())),
            dice: self.process_dice[side].clone(),
            spawn,
        };
        let faulty = FaultyStore::new(
            Arc::new(wire.clone()),
            Arc::new(SeededDice::new(self.dice.roll())),
        );
        faulty.rate(trouble.0, &[]);
        let world = syncline_store::World {
            clock: env.clock.clone(),
            dice: env.dice.clone(),
            spawn: env.spawn.clone(),
        };
        let patience = Arc::new(Patience::new(world, RetryRule::default()));
        let store = Arc::new(Retry::new(Arc::new(faulty.clone()), patience));
        let table_dies = Arc::new(AtomicI64::new(at_table.map_or(-1, |at| at as i64)));
        if let Some(at) = at_disk {
            self.disk.kill_at_change(at);
        }
        let options = Options {
            max_delete: MaxDelete::None,
            jobs: 1 + self.dice.below(4) as usize,
            ..Options::default()
        };
        let report = {
            let _within = self.runtime.enter();
            self.open(side, store, &table_dies, &env)
        };
        let stop = Stop::default();
        let report = report.and_then(|session| {
            self.runtime
                .block_on(session.run("sync", &options, &watch, &stop))
        });
        self.met.runs += 1;
        self.met.conflicts += watch.conflicts.into_inner().expect("nobody tells any more").len() as u64;
        self.met.intruded += wire.intruded.load(Ordering::Relaxed);
        for (kind, count) in faulty.met() {
            *self.met.faults.entry(format!("{kind:?}")).or_default() += count;
        }
        if self.disk.is_killed() {
            self.met.kills += 1;
            self.met.kills_at_store += u64::from(at_store.is_some());
        }
        self.user.story().push(match &report {
            Ok(report) => format!("  {} ended: {:?}, run {:?}", side.name(), report.exit, report.run),
            Err(fault) => format!("  {} failed: {fault:?}", side.name()),
        });
        report
    }

    fn round(&mut self) {
        for _ in 0..self.dice.below(6) {
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
        let side = if self.dice.chance(50) {
            Side::Left
        } else {
            Side::Right
        };
        let mut kill = [None; 3];
        if self.dice.chance(45) {
            let most = [15, 60, 150][self.dice.below(3) as usize];
            kill[self.dice.below(3) as usize] = Some(self.dice.below(most));
        }
        let rate = [0, 0, 100, 400][self.dice.below(4) as usize];
        let intrudes = self.dice.chance(30);
        self.user.story().push(format!(
            "round: {} kill {kill:?} rate {rate} intrudes {intrudes}",
            side.name()
        ));
        let _ = self.process(side, (rate, intrudes), kill);
        if self.disk.is_killed() && self.dice.chance(50) {
            self.disk.crash(self.dice.roll());
            for side in Side::BOTH {
                self.bases[side].crash(self.dice.roll());
                self.buckets[side].crash(self.dice.roll());
            }
            self.met.power_cuts += 1;
        } else {
            self.disk.restart();
        }
        Side::BOTH.iter().for_each(|side| self.user.sync(*side));
    }

    /// Lives through this seed. `Err`: what does not hold.
    pub fn live(&mut self) -> Result<blake3::Hash, String> {
        for _ in 0..3 + self.dice.below(6) {
            self.round();
            self.user.whole()?;
        }
        self.user.story().push("all is well from here on".into());
        self.settle()?;
        self.user.nothing_lost(false)?;
        self.met.edits = self.user.oracle().edits;
        let looks = Side::BOTH.map(|side| self.user.look(side, true));
        let told = format!("{looks:?} {:?} {:?}", self.store.contents(), self.disk.counts());
        Ok(blake3::hash(told.as_bytes()))
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..8 {
            let mut quiet = true;
            for side in Side::BOTH {
                self.disk.advance(Duration::from_secs(100));
                self.clock.advance(Duration::from_secs(100));
                self.store.settle();
                let report = self.process(side, (0, false), [None; 3]);
                let report =
                    report.map_err(|fault| format!("a run without any trouble failed: {fault:?}"))?;
                if u8::from(report.exit) > 2 {
                    return Err(format!("a run without any trouble ended with {report:?}"));
                }
                quiet &= report.run.is_none();
            }
            self.user.whole()?;
            if quiet {
                return self.alike();
            }
        }
        Err("eight rounds were not enough".into())
    }

    /// Both have the same names and bytes. Attributes of what was put into the bucket directly are nobody's.
    fn alike(&self) -> Result<(), String> {
        let plain = |side| -> Tree {
            let look = self.user.look(side, false).into_iter();
            look.map(|(path, seen)| (path, seen.what)).collect()
        };
        let (one, other) = (plain(Side::Left), plain(Side::Right));
        let apart = one.iter().find(|(path, what)| other.get(*path) != Some(what));
        let apart = apart.or_else(|| other.iter().find(|(path, _)| !one.contains_key(*path)));
        apart.map_or(Ok(()), |(path, _)| {
            let held = [&one, &other].map(|tree| format!("{:.100}", format!("{:?}", tree.get(path))));
            Err(format!(
                "{} differs between the two: {held:?}",
                path.escape_ascii()
            ))
        })
    }
}

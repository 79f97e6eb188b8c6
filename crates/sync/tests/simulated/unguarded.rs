//! A bucket without conditional writes, used by two people: who wrote blindly over a version destroys none of it (design D7).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline_model::Pair;
use syncline_replica::{BucketOptions, BucketReplica, LocalOptions, LocalReplica, Replica};
use syncline_store::{Caps, Cond, Disk, Key, Place, Store};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, Event, Monitor, Options, Session, Stop};
use syncline_testkit::env::{FakeClock, LocalSpawn, SeededDice};
use syncline_testkit::mem_store::{MemOptions, MemStore};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::sim_disk::SimDisk;

pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// A person with a disk and a session of their own over the one bucket.
pub struct Person {
    pub disk: SimDisk,
    pub session: Session,
    clock: FakeClock,
}

/// What a process leaves to the next: the disks, and the tables of a session.
pub struct Machine {
    name: String,
    disk: SimDisk,
    state: SimDisk,
    base: Arc<MemTable>,
    bucket: Arc<MemTable>,
    clock: FakeClock,
    dice: Arc<SeededDice>,
}

impl Machine {
    pub fn new(name: &str, clock: &FakeClock) -> Self {
        Self {
            name: name.into(),
            disk: SimDisk::new(),
            state: SimDisk::new(),
            base: Arc::default(),
            bucket: Arc::default(),
            clock: clock.clone(),
            dice: Arc::new(SeededDice::new(name.len() as u64 * 77)),
        }
    }

    /// A new process of that person's.
    pub fn process(&self, store: Arc<dyn Store>) -> Person {
        let (name, disk, state) = (&*self.name, self.disk.clone(), self.state.clone());
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            dice: self.dice.clone(),
            spawn: Arc::new(LocalSpawn::new()),
        };
        let local = LocalOptions {
            label: name.into(),
            host: name.into(),
            threads: 0,
            clock: env.clock.clone(),
            spawn: env.spawn.clone(),
            pid: 1,
            umask: 0o022,
            set_ids: false,
        };
        let bucket = BucketOptions {
            place: "mem://bucket".into(),
            host: "bucket".into(),
            device: name.into(),
            state: Some(self.bucket.clone()),
            clock: env.clock.clone(),
            dice: env.dice.clone(),
            read_only: false,
        };
        let sides: Pair<Arc<dyn Replica>> = Pair::new(
            Arc::new(LocalReplica::open(Arc::new(disk.clone()), Path::new("/"), local).unwrap()),
            Arc::new(BucketReplica::new(store, bucket).unwrap()),
        );
        let top = state.top();
        let shelf = Arc::new(DiskShelf::new(Arc::new(state), top).unwrap());
        Person {
            disk,
            session: Session::over(sides, self.base.clone(), shelf, env).unwrap(),
            clock: self.clock.clone(),
        }
    }
}

impl Person {
    fn new(store: &MemStore, name: &str, clock: &FakeClock) -> Self {
        Machine::new(name, clock).process(Arc::new(store.clone()))
    }

    pub fn write(&self, name: &str, text: &str) {
        let (raw, top) = (self.disk.raw(), self.disk.raw().top());
        let file = raw.open(&top, b".draft", true).unwrap();
        raw.write(&file, 0, text.as_bytes()).unwrap();
        raw.place((&top, b".draft"), (&top, name.as_bytes()), Place::Over)
            .unwrap();
    }

    pub fn remove(&self, name: &str) {
        let raw = self.disk.raw();
        raw.remove(&raw.top(), name.as_bytes(), false).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        let raw = self.disk.raw();
        let top = raw.top();
        raw.place((&top, from.as_bytes()), (&top, to.as_bytes()), Place::New)
            .unwrap();
    }

    pub fn look(&self) -> BTreeMap<String, String> {
        let raw = self.disk.raw();
        let (top, mut names) = (raw.top(), Vec::new());
        raw.list(&top, &mut |found| {
            names.push(found.name.to_vec());
            true
        })
        .unwrap();
        let mut found = BTreeMap::new();
        for name in names.into_iter().filter(|name| *name != b".syncline") {
            let file = raw.open(&top, &name, false).unwrap();
            let mut bytes = vec![0; raw.stat_file(&file).unwrap().size as usize];
            raw.read(&file, 0, &mut bytes).unwrap();
            found.insert(
                String::from_utf8(name.to_vec()).unwrap(),
                String::from_utf8(bytes).unwrap(),
            );
        }
        found
    }

    pub async fn sync(&self, exit: u8) {
        self.pass();
        let report = self
            .session
            .run("sync", &Options::default(), &Silent, &Stop::default())
            .await
            .unwrap();
        assert_eq!(u8::from(report.exit), exit, "{report:?}");
        self.pass();
    }

    pub fn pass(&self) {
        self.disk.advance(Duration::from_secs(5));
        self.clock.advance(Duration::from_secs(5));
    }
}

struct Team {
    store: MemStore,
    anna: Person,
    bert: Person,
}

/// Both have what the other wrote, `mine` by Anna and `yours` by Bert.
async fn team(caps: Caps) -> Team {
    let clock = FakeClock::new(1_700_000_000);
    let options = MemOptions {
        caps,
        ..MemOptions::default()
    };
    let store = MemStore::new(
        "the bucket",
        options,
        Arc::new(clock.clone()),
        Arc::new(SeededDice::new(3)),
    );
    let (anna, bert) = (
        Person::new(&store, "anna", &clock),
        Person::new(&store, "bert", &clock),
    );
    for n in 0..12 {
        anna.write(&format!("filler-{n}"), "filler");
    }
    anna.write("mine", "by anna");
    anna.sync(0).await;
    bert.write("yours", "by bert");
    bert.sync(0).await;
    anna.sync(0).await;
    Team { store, anna, bert }
}

impl Team {
    /// What a colleague does who looked before, and whose write comes last: nothing of what he destroys is kept.
    async fn overwrite(&self, key: &str, text: &str) {
        let size = Some(text.len() as u64);
        let key = Key::new(key).unwrap();
        let mut draft = self.store.draft(&key, size, BTreeMap::new(), None).await.unwrap();
        draft
            .write(Bytes::copy_from_slice(text.as_bytes()))
            .await
            .unwrap();
        draft.publish(Cond::Any).await.unwrap();
    }

    async fn destroy(&self, key: &str) {
        let removed = self.store.remove(&[(Key::new(key).unwrap(), Cond::Any)]).await;
        removed.into_iter().for_each(|removed| removed.unwrap());
    }
}

fn versions(of: &BTreeMap<String, String>, name: &str) -> Vec<String> {
    let mut found: Vec<_> = of
        .iter()
        .filter(|(there, _)| there.starts_with(name))
        .map(|(_, text)| text.clone())
        .collect();
    found.sort_unstable();
    found
}

fn unconditional() -> [Caps; 4] {
    let all = MemOptions::default().caps;
    let some = Caps {
        if_absent: false,
        if_is: false,
        remove_if_is: false,
        ..all.clone()
    };
    let keeping = |caps: &Caps| Caps {
        versions: true,
        ..caps.clone()
    };
    let poor = MemOptions::poor().caps;
    [keeping(&some), keeping(&poor), some, poor]
}

pub fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(what)
}

#[test]
fn b1_a_version_that_was_written_over_blindly_stays_beside_the_other() {
    for caps in unconditional() {
        block_on(async {
            let team = team(caps).await;
            team.anna.write("mine", "anna again");
            team.anna.sync(0).await;
            team.overwrite("mine", "blindly").await;
            team.anna.sync(1).await;
            assert_eq!(versions(&team.anna.look(), "mine"), ["anna again", "blindly"]);
            team.bert.sync(0).await;
            assert_eq!(team.bert.look(), team.anna.look());
        });
    }
}

#[test]
fn b2_a_version_that_was_removed_blindly_comes_back() {
    for caps in unconditional() {
        block_on(async {
            let team = team(caps).await;
            team.destroy("mine").await;
            team.anna.sync(0).await;
            assert_eq!(team.anna.look()["mine"], "by anna");
            team.bert.sync(0).await;
            assert_eq!(team.bert.look()["mine"], "by anna");
        });
    }
}

#[test]
fn b3_who_knew_the_version_updates_moves_and_removes_it() {
    for caps in unconditional() {
        block_on(async {
            let team = team(caps).await;
            // An update after an update, with nobody looking in between.
            for text in ["bert", "bert again"] {
                team.bert.write("mine", text);
                team.bert.sync(0).await;
            }
            team.anna.sync(0).await;
            assert_eq!(versions(&team.anna.look(), "mine"), ["bert again"]);
            team.anna.write("mine", "anna");
            team.anna.sync(0).await;
            team.bert.sync(0).await;
            team.bert.rename("mine", "moved");
            team.bert.sync(0).await;
            team.anna.sync(0).await;
            assert!(versions(&team.anna.look(), "mine").is_empty());
            assert_eq!(team.anna.look()["moved"], "anna");
            team.anna.write("moved", "anna once more");
            team.anna.sync(0).await;
            team.bert.sync(0).await;
            team.bert.remove("moved");
            team.bert.sync(0).await;
            team.anna.sync(0).await;
            assert!(!team.anna.look().contains_key("moved"));
            assert_eq!(team.anna.look(), team.bert.look());
        });
    }
}

#[test]
fn b3_what_others_wrote_needs_no_proof() {
    for caps in unconditional() {
        block_on(async {
            let team = team(caps).await;
            // Bert's file, replaced by another tool: to Anna that is an update, to Bert it is not.
            team.overwrite("yours", "by another tool").await;
            team.anna.sync(0).await;
            assert_eq!(versions(&team.anna.look(), "yours"), ["by another tool"]);
            team.bert.sync(1).await;
            assert_eq!(
                versions(&team.bert.look(), "yours"),
                ["by another tool", "by bert"]
            );
        });
    }
}

#[test]
fn b3_with_conditional_writes_nothing_of_this_is_asked() {
    block_on(async {
        let team = team(MemOptions::default().caps).await;
        team.overwrite("mine", "by another tool").await;
        team.anna.sync(0).await;
        assert_eq!(team.anna.look()["mine"], "by another tool");
    });
}

/// Keeps what is said.
#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl Monitor for Notes {
    fn event(&self, event: Event<'_>) {
        if let Event::Note(note) = event {
            self.0.lock().unwrap().push(note.to_owned());
        }
    }
}

#[test]
fn a_store_whose_trash_costs_bytes_is_told_of_before_the_run() {
    let all = MemOptions::default().caps;
    for (reuse, versions, trash, said) in [
        (false, false, true, true),
        (true, false, true, false),
        (false, true, true, false),
        (false, false, false, false),
    ] {
        let clock = FakeClock::hurrying(1_700_000_000);
        let caps = Caps {
            reuse,
            versions,
            ..all.clone()
        };
        let options = MemOptions {
            caps,
            ..MemOptions::default()
        };
        let dice = Arc::new(SeededDice::new(3));
        let store = MemStore::new("bucket", options, Arc::new(clock.clone()), dice);
        let notes = Notes::default();
        block_on(async {
            let person = Machine::new("anna", &clock).process(Arc::new(store));
            let options = Options {
                trash,
                ..Options::default()
            };
            person
                .session
                .run("sync", &options, &notes, &Stop::default())
                .await
                .unwrap();
        });
        let notes = notes.0.into_inner().unwrap();
        let found = notes.iter().any(|note| note.contains("through this machine"));
        assert_eq!(found, said, "{reuse} {versions} {trash}: {notes:?}");
    }
}

//! A bucket whose versions are its trash, and runs that end anywhere (design 0005).

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_sync::{Options, Session, Stop};
use syncline_testkit::env::{FakeClock, SeededDice};
use syncline_testkit::faulty_store::FaultyStore;
use syncline_testkit::mem_store::{MemOptions, MemStore};

use super::unguarded::{Machine, Person, Silent, block_on};

struct World {
    store: MemStore,
    machine: Machine,
}

impl World {
    /// A tree that is in the bucket too, before and after the user has worked on it.
    async fn new() -> (Self, BTreeMap<String, String>) {
        let clock = FakeClock::new(1_700_000_000);
        let dice = Arc::new(SeededDice::new(3));
        let store = MemStore::new(
            "the bucket",
            MemOptions::versioned(),
            Arc::new(clock.clone()),
            dice,
        );
        let world = Self {
            store,
            machine: Machine::new("anna", &clock),
        };
        let anna = world.process();
        for n in 0..12 {
            anna.write(&format!("filler-{n}"), "filler");
        }
        for name in ["edited", "removed", "edited-too"] {
            anna.write(name, &format!("{name} before"));
        }
        anna.sync(0).await;
        let before = anna.look();
        anna.write("edited", "edited after");
        anna.write("edited-too", "edited-too after");
        anna.write("new", "new");
        anna.remove("removed");
        (world, before)
    }

    fn process(&self) -> Person {
        self.machine.process(Arc::new(self.store.clone()))
    }

    /// A process that reaches the bucket for so many calls, and then never again. True if it came to its end.
    async fn cut_off(&self, calls: u64) -> bool {
        let faulty = FaultyStore::new(Arc::new(self.store.clone()), Arc::new(SeededDice::new(5)));
        faulty.outage_after(calls);
        let anna = self.machine.process(Arc::new(faulty.clone()));
        anna.pass();
        let options = Options::default();
        let _ = anna
            .session
            .run("sync", &options, &Silent, &Stop::default())
            .await;
        faulty.met().is_empty()
    }

    /// The tree in the bucket.
    fn tree(&self) -> BTreeMap<String, String> {
        let own = |name: &String| name.starts_with(".syncline/");
        let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let all = self.store.contents().into_iter();
        all.filter(|(name, _)| !own(name))
            .map(|(name, bytes)| (name, text(bytes)))
            .collect()
    }
}

/// The runs behind the first that changed something in the bucket, the last one first.
async fn later_runs(session: &Session) -> Vec<String> {
    let runs = session.log().await.unwrap();
    let changing = runs[1..].iter().filter(|run| run.right.steps() > 0);
    changing.rev().map(|run| run.run.clone()).collect()
}

#[test]
fn s19_s23_wherever_a_run_ends_versions_bring_everything_back() {
    let (mut taken_back, mut in_parts) = (0, 0);
    for calls in 0.. {
        let over = block_on(async {
            let (world, before) = World::new().await;
            let over = world.cut_off(calls).await;
            let anna = world.process();
            anna.sync(0).await;
            assert_eq!(world.tree(), anna.look(), "cut off after {calls} calls");
            // Every version that gave way is in the trash, whole.
            let mut trash = Vec::new();
            let mut walk = anna.session.trash().await.unwrap();
            while let Some(batch) = walk.next().await.unwrap() {
                trash.extend(batch);
            }
            for name in ["edited", "removed", "edited-too"] {
                let held = trash
                    .iter()
                    .filter(|item| item.path.as_bytes() == name.as_bytes());
                let sizes: Vec<u64> = held.map(|item| item.entry.size()).collect();
                assert!(
                    sizes.contains(&(before[name].len() as u64)),
                    "{calls}: {name} {sizes:?}"
                );
            }
            let runs = later_runs(&anna.session).await;
            in_parts += u64::from(runs.len() > 1);
            let (options, stop) = (Options::default(), Stop::default());
            for run in runs {
                let undone = anna.session.undo(Some(&run), &options, &Silent, &stop);
                let report = undone.await.unwrap();
                assert_eq!(report.problems, 0, "{calls}: {report:?}");
                taken_back += report.right.steps();
            }
            assert_eq!(world.tree(), before, "cut off after {calls} calls and taken back");
            anna.sync(0).await;
            anna.session.trash_empty(None).await.unwrap();
            assert_eq!(world.tree(), before, "what stands is never dropped");
            over
        });
        if over {
            println!("{calls} places to end in, {in_parts} done in parts, {taken_back} steps taken back");
            assert!(calls > 10 && in_parts > 5);
            return;
        }
    }
}

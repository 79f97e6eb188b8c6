//! What is not a file is announced in a bucket before its object comes; where that never comes, nobody hears of it.

use std::path::Path;
use std::sync::Arc;

use syncline_model::Special;
use syncline_store::disk::Make;
use syncline_store::{Cond, Disk, Key, Node, Place, Store};
use syncline_sync::{Options, Stop};
use syncline_testkit::env::{FakeClock, SeededDice};
use syncline_testkit::faulty_store::FaultyStore;
use syncline_testkit::mem_store::{MemOptions, MemStore};

use super::unguarded::{Machine, Person, Silent, block_on};

const PIPE: &str = "there/pipe";

/// What stands at a path of this person's disk.
fn kind(person: &Person, path: &str) -> Option<Node> {
    let raw = person.disk.raw();
    let (dir, name) = path.rsplit_once('/').unwrap();
    let dir = raw.root(&Path::new("/").join(dir)).ok()?;
    raw.stat(&dir, name.as_bytes()).ok().map(|stat| stat.kind)
}

async fn colleague_removes(store: &MemStore, key: &str) {
    let key = Key::new(key).unwrap();
    let _ = store.remove(&[(key, Cond::Any)]).await;
}

async fn colleague_touches(store: &MemStore, key: &str) {
    let key = Key::new(key).unwrap();
    let draft = store.draft(&key, Some(0), Default::default(), None).await;
    draft.unwrap().publish(Cond::Any).await.unwrap();
}

async fn attempt(person: &Person) {
    person.pass();
    let (options, stop) = (Options::default(), Stop::default());
    let _ = person.session.run("sync", &options, &Silent, &stop).await;
    person.pass();
}

/// A directory with a pipe in it was renamed; the run is cut off after so many calls to the bucket, and a colleague removes the pipe there,
/// if it has not come to its new name. Whether the run came to its end, and whether it never came.
async fn cut_off(calls: u64) -> (bool, bool) {
    let clock = FakeClock::new(1_700_000_000);
    let dice = Arc::new(SeededDice::new(3));
    let store = MemStore::new(
        "the bucket",
        MemOptions::default(),
        Arc::new(clock.clone()),
        dice.clone(),
    );
    let machine = Machine::new("anna", &clock);
    let anna = machine.process(Arc::new(store.clone()));
    for n in 0..12 {
        anna.write(&format!("filler-{n}"), "filler");
    }
    let raw = anna.disk.raw();
    raw.make(&raw.top(), b"here", Make::Dir).unwrap();
    let here = raw.root(Path::new("/here")).unwrap();
    raw.make(&here, b"pipe", Make::Special(Special::Fifo)).unwrap();
    anna.write("file", "file");
    raw.place((&raw.top(), b"file"), (&here, b"file"), Place::New)
        .unwrap();
    anna.sync(0).await;
    anna.rename("here", "there");
    let faulty = FaultyStore::new(Arc::new(store.clone()), dice);
    faulty.outage_after(calls);
    attempt(&machine.process(Arc::new(faulty.clone()))).await;
    let whole = faulty.met().is_empty();
    if !store.contents().contains_key(PIPE) {
        colleague_removes(&store, "here/pipe").await;
    }
    let anna = machine.process(Arc::new(store.clone()));
    // It finishes what was begun after it has looked, so it may find that changed.
    attempt(&anna).await;
    anna.sync(0).await;
    if store.contents().contains_key(PIPE) {
        return (whole, false);
    }
    colleague_touches(&store, PIPE).await;
    anna.sync(0).await;
    assert_eq!(kind(&anna, PIPE), Some(Node::File), "cut off after {calls} calls");
    (whole, true)
}

#[test]
fn s23_a_pipe_that_never_came_leaves_nothing_behind() {
    let mut never = 0;
    for calls in 0.. {
        let (whole, removed) = block_on(cut_off(calls));
        never += u32::from(removed);
        if whole {
            break;
        }
    }
    assert!(never > 10, "nothing was proved");
}

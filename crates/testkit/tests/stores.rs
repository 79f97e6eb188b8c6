//! The store in memory, the faulty one and every layer, by the one suite; what the layers withstand, and what not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline_model::{Clock as _, Dice as _, Kind};
use syncline_store::layers::{Deadline, Limit, Metered, Patience, Rate, Retry, RetryRule};
use syncline_store::{Caps, Cond, Meter, Store, World};
use syncline_testkit::env::{FakeClock, LocalSpawn, SeededDice};
use syncline_testkit::faulty_store::{Call, FaultyStore, Wrong};
use syncline_testkit::mem_store::{MemOptions, MemStore};
use syncline_testkit::store_conformance::{Suite, key, listed, noise, put, read, run};

struct Sim {
    clock: FakeClock,
    world: World,
    mem: MemStore,
}

fn sim(seed: u64, options: MemOptions) -> Sim {
    let clock = FakeClock::hurrying(1_700_000_000);
    let dice = Arc::new(SeededDice::new(seed));
    let world = World {
        clock: Arc::new(clock.clone()),
        dice,
        spawn: Arc::new(LocalSpawn::new()),
    };
    let mem = MemStore::new(
        "mem",
        options,
        Arc::clone(&world.clock),
        Arc::new(SeededDice::new(seed + 1)),
    );
    Sim { clock, world, mem }
}

impl Sim {
    fn retry(&self, inner: Arc<dyn Store>) -> Retry {
        Retry::new(
            inner,
            Arc::new(Patience::new(self.world.clone(), RetryRule::default())),
        )
    }

    fn faulty(&self, seed: u64) -> FaultyStore {
        FaultyStore::new(Arc::new(self.mem.clone()), Arc::new(SeededDice::new(seed)))
    }
}

const SMALL: Suite = Suite {
    large: 3 << 20,
    ..Suite::FULL
};

#[tokio::test]
async fn the_store_in_memory_conforms() {
    run(Arc::new(sim(1, MemOptions::default()).mem), Suite::FULL).await;
    let parts = MemOptions {
        part: 64 << 10,
        page: 7,
        ..MemOptions::default()
    };
    run(Arc::new(sim(1, parts).mem), SMALL).await;
    run(Arc::new(sim(1, MemOptions::versioned()).mem), SMALL).await;
}

#[tokio::test]
async fn a_poor_store_conforms_to_what_it_promises() {
    run(Arc::new(sim(2, MemOptions::poor()).mem), SMALL).await;
    let caps = Caps {
        sorted: false,
        metadata: false,
        ..MemOptions::poor().caps
    };
    let unsorted = MemOptions {
        caps,
        page: 10,
        ..MemOptions::default()
    };
    // Without order "after" still leaves out what it names; the suite sorts what it gets.
    run(Arc::new(sim(2, unsorted).mem), SMALL).await;
}

#[tokio::test]
async fn every_layer_conforms() {
    let sim = sim(3, MemOptions::versioned());
    let mem: Arc<dyn Store> = Arc::new(sim.mem.clone());
    run(Arc::new(Metered::new(Arc::clone(&mem), Meter::default())), SMALL).await;
    run(
        Arc::new(Deadline::new(
            Arc::clone(&mem),
            Arc::clone(&sim.world.clock),
            Duration::from_secs(1),
        )),
        SMALL,
    )
    .await;
    let rate = Rate::new(Arc::clone(&sim.world.clock), Some(10 << 20));
    run(Arc::new(Limit::new(Arc::clone(&mem), 2, rate)), SMALL).await;
    run(Arc::new(sim.retry(Arc::clone(&mem))), SMALL).await;
    run(Arc::new(sim.faulty(9)), SMALL).await;
}

/// Everything that can be tried again goes wrong in one call of 25, and the suite does not notice.
#[tokio::test]
async fn b05_the_suite_runs_through_many_faults() {
    let mut all = BTreeMap::new();
    for seed in 0..16 {
        let sim = sim(
            seed,
            MemOptions {
                page: 50,
                ..MemOptions::default()
            },
        );
        let faulty = sim.faulty(seed + 100);
        let kinds = [
            Wrong::Busy,
            Wrong::Lost,
            Wrong::Expired,
            Wrong::Unanswered,
            Wrong::Cut,
            Wrong::ListBroken,
        ];
        faulty.rate(400, &kinds);
        run(
            Arc::new(sim.retry(Arc::new(faulty.clone()))),
            Suite {
                answers_get_lost: true,
                ..SMALL
            },
        )
        .await;
        for (wrong, count) in faulty.met() {
            *all.entry(wrong).or_insert(0) += count;
        }
        for kind in kinds {
            assert!(
                all.contains_key(&kind) || seed < 15,
                "{kind:?} was never met: {all:?}"
            );
        }
    }
    println!("met: {all:?}");
}

#[tokio::test]
async fn b05_our_own_success_is_recognised_behind_a_lost_answer() {
    for cond_is in [false, true] {
        let sim = sim(4, MemOptions::default());
        let faulty = sim.faulty(1);
        let store = sim.retry(Arc::new(faulty.clone()));
        let cond = match cond_is {
            false => Cond::Absent,
            true => Cond::Is(put(&store, "k", b"before", Cond::Absent).await.unwrap().tag),
        };
        faulty.script(Call::Publish, &[Some(Wrong::Unanswered)]);
        let made = put(&store, "k", b"mine", cond)
            .await
            .expect("ours, though the store says 412 the second time");
        assert_eq!(made.tag, store.stat(&key("k")).await.unwrap().tag);
        assert_eq!(
            sim.mem.versions(&key("k")).len(),
            1 + usize::from(cond_is),
            "written once"
        );
    }
}

#[tokio::test]
async fn b05_somebody_elses_success_is_not_taken_for_ours() {
    let sim = sim(5, MemOptions::default());
    let faulty = sim.faulty(1);
    let store = sim.retry(Arc::new(faulty.clone()));
    put(&sim.mem, "k", b"mine", Cond::Absent).await.unwrap();
    // The same bytes, so that only the nonce tells.
    faulty.script(Call::Publish, &[Some(Wrong::Lost)]);
    let fault = put(&store, "k", b"mine", Cond::Absent).await.unwrap_err();
    assert!(fault.is(Kind::Changed), "{fault:?}");
}

#[tokio::test]
async fn b05_a_lost_answer_to_a_removal_is_no_failure() {
    let sim = sim(6, MemOptions::default());
    let faulty = sim.faulty(1);
    let store = sim.retry(Arc::new(faulty.clone()));
    let made = put(&store, "k", b"x", Cond::Any).await.unwrap();
    faulty.script(Call::Remove, &[Some(Wrong::Unanswered)]);
    let results = store.remove(&[(key("k"), Cond::Is(made.tag))]).await;
    assert!(results[0].is_ok(), "{results:?}");
}

#[tokio::test]
async fn b05_a_storm_ends_in_success_and_a_long_one_in_one_clear_fault() {
    let sim = sim(7, MemOptions::default());
    let faulty = sim.faulty(1);
    let store = sim.retry(Arc::new(faulty.clone()));
    faulty.storm(5);
    put(&store, "k", b"x", Cond::Any)
        .await
        .expect("five refusals are waited out");
    assert!(
        sim.clock.elapsed() >= Duration::from_millis(50 + 100 + 200 + 400 + 800),
        "with back-off"
    );
    faulty.storm(u64::MAX);
    let before = faulty.calls().values().sum::<u64>();
    for n in 0..400 {
        let fault = store.stat(&key(&format!("k{n}"))).await.unwrap_err();
        assert!(fault.is(Kind::Busy));
    }
    let requests = faulty.calls().values().sum::<u64>() - before;
    assert!(
        requests <= 400 + 200,
        "the budget keeps an outage from becoming a storm of ours: {requests} for 400"
    );
}

#[tokio::test]
async fn what_will_not_get_better_is_not_tried_again() {
    let sim = sim(8, MemOptions::default());
    let faulty = sim.faulty(1);
    let store = sim.retry(Arc::new(faulty.clone()));
    assert!(store.stat(&key("none")).await.unwrap_err().is(Kind::NotFound));
    assert_eq!(faulty.calls()[&Call::Stat], 1);
    assert_eq!(sim.clock.elapsed(), Duration::ZERO);
    faulty.script(Call::Publish, &[Some(Wrong::Conflict)]);
    assert!(
        put(&store, "k", b"x", Cond::Absent)
            .await
            .unwrap_err()
            .is(Kind::Changed)
    );
    assert_eq!(faulty.calls()[&Call::Publish], 1);
}

#[tokio::test]
async fn a_body_goes_on_where_it_broke_and_never_with_another_blob() {
    let sim = sim(9, MemOptions::default());
    let faulty = sim.faulty(3);
    let store = sim.retry(Arc::new(faulty.clone()));
    let body = noise(500_000, 7);
    put(&store, "k", &body, Cond::Any).await.unwrap();
    faulty.script(Call::Get, &[Some(Wrong::Cut), Some(Wrong::Cut), None]);
    assert!(read(&store, "k").await.unwrap() == body);
    assert_eq!(faulty.met()[&Wrong::Cut], 2);
    faulty.script(Call::Get, &[Some(Wrong::Cut), None]);
    let mut seen = store.get(&key("k"), None, None).await.unwrap();
    put(&sim.mem, "k", &noise(500_000, 8), Cond::Any).await.unwrap();
    let fault = loop {
        match seen.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a mixture was called whole"),
            Err(fault) => break fault,
        }
    };
    assert!(fault.is(Kind::Changed), "{fault:?}");
}

#[tokio::test]
async fn a_body_with_wrong_bytes_is_not_patched() {
    let sim = sim(14, MemOptions::default());
    let faulty = sim.faulty(3);
    let store = sim.retry(Arc::new(faulty.clone()));
    let body = noise(500_000, 7);
    put(&store, "k", &body, Cond::Any).await.unwrap();
    faulty.script(Call::Get, &[Some(Wrong::Garbled)]);
    let fault = read(&store, "k").await.unwrap_err();
    assert!(
        fault.is(Kind::Corrupt) && fault.retry,
        "whoever reads may begin again: {fault:?}"
    );
    assert!(read(&store, "k").await.unwrap() == body);
}

#[tokio::test]
async fn b10_listings_lag_and_show_only_earlier_truths() {
    let sim = sim(
        10,
        MemOptions {
            lag: 4,
            ..MemOptions::default()
        },
    );
    let mut stale_size = 0;
    for n in 0..60 {
        put(&sim.mem, "k", &noise(n, 1), Cond::Any).await.unwrap();
        let size = listed(&sim.mem, "", None)
            .await
            .unwrap()
            .first()
            .map(|listed| listed.blob.size);
        let truth = Some(n as u64);
        assert!(
            size == truth || size == truth.and_then(|n| n.checked_sub(1)),
            "{size:?} after {n}"
        );
        stale_size += u32::from(size != truth);
    }
    assert!(stale_size > 5 && sim.mem.stale_shown() == u64::from(stale_size));
    sim.mem.settle();
    assert_eq!(listed(&sim.mem, "", None).await.unwrap()[0].blob.size, 59);
}

#[tokio::test]
async fn b08_an_upload_is_resumed_behind_what_the_store_holds() {
    let sim = sim(
        11,
        MemOptions {
            part: 1000,
            ..MemOptions::default()
        },
    );
    let body = noise(9_500, 3);
    let mut draft = sim
        .mem
        .draft(&key("k"), Some(9_500), BTreeMap::new(), None)
        .await
        .unwrap();
    draft.write(Bytes::copy_from_slice(&body[..8_700])).await.unwrap();
    let name = draft.upload().unwrap();
    drop(draft);
    assert_eq!(sim.mem.unfinished("").await.unwrap(), [(key("k"), name.clone())]);
    let mut draft = sim
        .mem
        .draft(&key("k"), Some(9_500), BTreeMap::new(), Some(&name))
        .await
        .unwrap();
    assert_eq!(draft.held(), 8_000);
    draft.write(Bytes::copy_from_slice(&body[8_000..])).await.unwrap();
    draft.publish(Cond::Absent).await.unwrap();
    assert!(read(&sim.mem, "k").await.unwrap() == body);
    assert_eq!(sim.mem.unfinished("").await.unwrap(), []);
}

#[tokio::test]
async fn the_rate_is_kept_and_every_body_byte_is_paid() {
    let sim = sim(12, MemOptions::default());
    let rate = Rate::new(Arc::clone(&sim.world.clock), Some(1000));
    let store = Limit::new(Arc::new(sim.mem.clone()), 4, rate);
    put(&store, "k", &noise(5_000, 1), Cond::Any).await.unwrap();
    read(&store, "k").await.unwrap();
    let took = sim.clock.elapsed();
    assert!(
        took >= Duration::from_secs(10) && took < Duration::from_millis(10_100),
        "{took:?} for 10000 bytes at 1000 a second"
    );
}

#[tokio::test]
async fn the_meter_counts_requests_and_bytes() {
    let sim = sim(13, MemOptions::default());
    let meter = Meter::default();
    let store = Metered::new(Arc::new(sim.mem.clone()), meter.clone());
    put(&store, "k", b"12345", Cond::Any).await.unwrap();
    read(&store, "k").await.unwrap();
    store.stat(&key("k")).await.unwrap();
    listed(&store, "", None).await.unwrap();
    store.remove(&[(key("k"), Cond::Any)]).await;
    let counts = meter.counts();
    assert_eq!(
        (counts.put, counts.get, counts.head, counts.list, counts.delete),
        (1, 1, 1, 1, 1)
    );
    assert_eq!((counts.sent, counts.received), (5, 5));
}

#[test]
fn one_seed_is_one_world() {
    let world = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async move {
            let sim = sim(
                seed,
                MemOptions {
                    lag: 5,
                    page: 3,
                    ..MemOptions::poor()
                },
            );
            let faulty = sim.faulty(seed);
            faulty.rate(2000, &[]);
            let store = sim.retry(Arc::new(faulty.clone()));
            let dice = SeededDice::new(seed);
            let mut seen = Vec::new();
            for n in 0..200 {
                let name = format!("k{}", dice.roll() % 9);
                let result = put(&store, &name, &noise(n, seed), Cond::Any).await;
                seen.push(format!("{:?}", result.map(|blob| blob.tag)));
                seen.push(format!("{:?}", listed(&store, "", None).await));
            }
            (seen, faulty.met(), sim.clock.elapsed())
        })
    };
    assert_eq!(world(3), world(3));
    assert_ne!(world(3), world(4));
}

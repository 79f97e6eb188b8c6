//! A thousand conflicts with a bucket, met by one run and settled by one command: what that costs is counted, not timed.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use support::Ended;
use support::office::office;

const CONFLICTS: u64 = 1000;

/// Requests of a run, by kind.
fn requests(ended: &Ended, kind: &str) -> u64 {
    ended.summary()["requests"][kind].as_u64().unwrap()
}

#[test]
fn s32_a_thousand_conflicts_cost_one_run_and_a_few_requests_each() {
    let office = office();
    let desk = &office.desk;
    let name = |who: &str, n: u64| format!("{who}/d{}/{n}", n % 10);
    desk.dir("anna");
    for n in 0..CONFLICTS {
        desk.write(&name("anna", n), &format!("anna {n}"));
        desk.write(&name("ben", n), &format!("ben's {n}"));
    }
    desk.ends(0, &["-C", "anna", "init", "s3://team/p"]);
    desk.ends(0, &["-C", "anna", "sync"]);
    desk.ends(0, &["-C", "ben", "init", "s3://team/p"]);
    let runs = || desk.ends(0, &["-C", "ben", "log", "--json"]).events("run").len();
    let met = desk.ends(1, &["-C", "ben", "sync", "--json"]);
    assert_eq!(met.summary()["conflicts"], CONFLICTS);
    assert_eq!(runs(), 1);
    let settled = desk.ends(0, &["-C", "ben", "resolve", "--all", "--keep", "right", "--json"]);
    assert_eq!(runs(), 2);
    assert!(
        desk.ends(0, &["-C", "ben", "conflicts", "--json"])
            .events("conflict")
            .is_empty()
    );
    for (what, ended) in [("met", &met), ("settled", &settled)] {
        let [put, get, list, head, delete] =
            ["put", "get", "list", "head", "delete"].map(|kind| requests(ended, kind));
        println!("s32 {what}: put={put} get={get} list={list} head={head} delete={delete}");
        // A version is looked at, brought or copied to its new name, and what it displaces put into the trash; none of that needs a listing.
        let all = put + get + head + delete;
        assert!(all <= 8 * CONFLICTS, "{what}: {all} requests");
        assert!(list <= CONFLICTS / 10, "{what}: {list} listings");
    }
    let again = desk.ends(0, &["-C", "ben", "sync", "--json"]);
    assert!(again.events("step").is_empty(), "{}", again.out);
    for n in 0..CONFLICTS {
        assert_eq!(desk.read(&name("ben", n)), Some(format!("anna {n}")));
    }
}

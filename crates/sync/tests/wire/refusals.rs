//! Requests that are refused, lost or never answered, before and after their effect.

use syncline_testkit::fault_proxy::Wire;

use crate::office::{Case, live_through};

/// What each run asks of a bucket.
const VERBS: [(&str, &str); 6] = [
    ("GET", "max-keys=1000"),
    ("GET", "/theirs/edited"),
    ("PUT", "/a/new"),
    ("PUT", "/b/moved"),
    ("DELETE", "/a/removed"),
    ("GET", "/.syncline/"),
];

#[test]
fn b05_what_passes_is_waited_out() {
    let passing = [
        Wire::SlowDown(None),
        Wire::SlowDown(Some(1)),
        Wire::TooMany,
        Wire::ErrorBefore,
        Wire::Expired,
        Wire::ResetBefore,
        Wire::PoolDead,
        Wire::HeldBack(0),
    ];
    live_through(passing.map(|wrong| Case::of("", "", 4, wrong).behind(3)).into());
}

#[test]
fn b05_an_outage_ends_the_run_and_the_next_one_goes_on() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::SlowDown(None),
        Wire::ResetBefore,
        Wire::Expired,
        Wire::Forbidden,
        Wire::Skewed,
        Wire::BucketGone,
        Wire::OtherRegion,
    ] {
        for behind in [0, 9] {
            cases.push(Case::of("", "", 10_000, wrong.clone()).behind(behind));
        }
    }
    let elsewhere = Wire::Redirect("http://127.0.0.1:9/elsewhere".into());
    cases.push(Case::of("", "", 10_000, elsewhere).behind(4));
    cases.push(Case::of("PUT", "", 10_000, Wire::QuotaExceeded).behind(1));
    live_through(cases);
}

#[test]
fn b05_lost_answers_are_found_out() {
    let mut cases = Vec::new();
    for wrong in [Wire::ErrorAfter, Wire::ResetAfter] {
        cases.extend(VERBS.map(|(method, has)| Case::of(method, has, 1, wrong.clone())));
    }
    live_through(cases);
}

#[test]
fn b05_silence_is_given_up() {
    let mut cases = Vec::new();
    for wrong in [Wire::SilentBefore, Wire::SilentAfter, Wire::ContinueOnly] {
        cases.extend(
            VERBS[..5]
                .iter()
                .map(|(method, has)| Case::of(method, has, 1, wrong.clone())),
        );
    }
    live_through(cases);
}

#[test]
fn b05_refusals_that_are_meant_for_one_path() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::Conflict,
        Wire::Precondition,
        Wire::Forbidden,
        Wire::Missing,
        Wire::NotModified,
        Wire::QuotaExceeded,
    ] {
        for (method, has) in &VERBS[1..5] {
            cases.push(Case::of(method, has, 10, wrong.clone()));
        }
        cases.push(Case::of("PUT", "/a/edited", 10, wrong.clone()));
        cases.push(Case::of("HEAD", "", 10, wrong.clone()));
    }
    live_through(cases);
}

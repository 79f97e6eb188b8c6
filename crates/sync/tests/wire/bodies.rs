//! Bodies and heads that are other than they should be, and what somebody else does in the middle of things.

use syncline_testkit::fault_proxy::Wire;

use crate::office::{Case, live_through};

#[test]
fn b05_bodies_that_break_off_or_lie() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::ResetAt(0),
        Wire::ResetAt(1 << 19),
        Wire::Truncated,
        Wire::ShortLength,
        Wire::OtherBytes,
        Wire::OtherTag,
        Wire::NoTag,
        Wire::OtherChecksum,
        Wire::ExtraBytes,
        Wire::StopsInBody,
        Wire::OthersAnswer,
    ] {
        for has in ["/theirs/film", "/.syncline/"] {
            cases.push(Case::of("GET", has, 1, wrong.clone()));
        }
        cases.push(Case::of("GET", "/theirs/film", 10, wrong));
    }
    for wrong in [Wire::Trickle, Wire::Chunked] {
        cases.push(Case::of("GET", "/theirs/edited", 1, wrong.clone()));
        cases.push(Case::of("GET", "/.syncline/", 1, wrong));
    }
    live_through(cases);
}

#[test]
fn b05_answers_to_writes_that_lie() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::OtherTag,
        Wire::NoTag,
        Wire::OtherChecksum,
        Wire::ExtraBytes,
        Wire::OthersAnswer,
    ] {
        for (method, has) in [
            ("PUT", "/a/new"),
            ("PUT", "/a/edited"),
            ("PUT", "/b/moved"),
            ("DELETE", "/a/removed"),
        ] {
            cases.push(Case::of(method, has, 1, wrong.clone()));
        }
    }
    live_through(cases);
}

#[test]
fn b05_what_is_old_or_disagrees() {
    let cases = vec![
        Case::of("GET", "/theirs/edited", 1, Wire::Stale),
        Case::of("GET", "/theirs/edited", 10, Wire::Stale),
        Case::of("HEAD", "", 10, Wire::OtherSize),
        Case::of("HEAD", "", 10, Wire::OtherTag),
    ];
    live_through(cases);
}

#[test]
fn b05_somebody_else_writes_in_the_middle_of_it() {
    let at = |method, has, path, text| Case {
        meanwhile: Some((path, text)),
        ..Case::of(method, has, 1, Wire::Meanwhile)
    };
    let cases = vec![
        at(
            "GET",
            "/theirs/edited",
            "theirs/edited",
            "Eve's text instead of Ben's",
        ),
        at(
            "GET",
            "/theirs/film",
            "theirs/film",
            "Eve's text instead of the film",
        ),
        at("PUT", "/a/edited", "a/edited", "Eve's text before Anna's edit"),
        at("PUT", "/a/new", "a/new", "Eve's text before Anna's new file"),
        at("PUT", "/b/moved", "a/moved", "Eve's text in what is being moved"),
        at(
            "PUT",
            "/b/moved",
            "b/moved",
            "Eve's text where something is moved to",
        ),
        at(
            "DELETE",
            "/a/removed",
            "a/removed",
            "Eve's text in what is being removed",
        ),
        at(
            "POST",
            "uploadId=",
            "a/film",
            "Eve's text before the end of the upload",
        ),
    ];
    live_through(cases);
}

#[test]
fn b05_removals_that_are_only_acknowledged() {
    let cases = vec![
        Case::of("DELETE", "/a/removed", 1, Wire::AckedOnly).lies(&["a/removed"]),
        Case::of("DELETE", "/a/moved", 1, Wire::AckedOnly).lies(&["a/moved"]),
        Case::of("DELETE", "/a/removed", 1, Wire::AckedLate).lies(&[]),
        Case::of("DELETE", "/a/moved", 1, Wire::AckedLate).lies(&[]),
    ];
    live_through(cases);
}

#[test]
fn b05_one_slow_key_holds_up_nothing_but_itself() {
    live_through(vec![
        Case::of("PUT", "/a/new", 1, Wire::HeldBack(3)),
        Case::of("GET", "/theirs/edited", 1, Wire::HeldBack(2)),
    ]);
}

//! Uploads in parts.

use syncline_testkit::fault_proxy::Wire;

use crate::office::{Case, live_through};

#[test]
fn b05_parts_that_are_lost_late_or_refused() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::SlowDown(None),
        Wire::ResetBefore,
        Wire::ErrorAfter,
        Wire::ResetAfter,
        Wire::SilentBefore,
        Wire::SilentAfter,
        Wire::AckedOnly,
        Wire::UploadGone,
        Wire::Forbidden,
        Wire::OtherTag,
        Wire::OthersAnswer,
    ] {
        cases.push(Case::of("PUT", "partNumber=2", 1, wrong.clone()));
        cases.push(Case::of("PUT", "partNumber=1", 1, wrong));
    }
    cases.push(Case::of("PUT", "partNumber=1", 1, Wire::HeldBack(1)));
    cases.push(Case::of("PUT", "partNumber=", 10_000, Wire::ResetBefore));
    live_through(cases);
}

#[test]
fn b05_ends_of_uploads_that_go_wrong() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::SlowDown(None),
        Wire::ErrorBefore,
        Wire::ErrorAfter,
        Wire::ResetAfter,
        Wire::LateError,
        Wire::SilentBefore,
        Wire::SilentAfter,
        Wire::UploadGone,
        Wire::PartOrder,
        Wire::Twice,
        Wire::Precondition,
        Wire::Conflict,
    ] {
        cases.push(Case::of("POST", "uploadId=", 1, wrong));
    }
    cases.push(Case::of("POST", "uploadId=", 10_000, Wire::ErrorBefore));
    live_through(cases);
}

/// Where the answer that names an upload is lost nobody knows its name.
#[test]
fn b05_beginnings_of_uploads_that_go_wrong() {
    let mut cases = vec![Case::of("POST", "uploads=", 1, Wire::ErrorBefore)];
    for wrong in [Wire::ErrorAfter, Wire::ResetAfter, Wire::SilentAfter] {
        cases.push(Case {
            nameless: 1,
            ..Case::of("POST", "uploads=", 1, wrong)
        });
    }
    live_through(cases);
}

/// What was to be given up is still there: it is found and given up later.
#[test]
fn b05_uploads_that_were_not_given_up() {
    let mut case = Case::of("DELETE", "uploadId=", 1, Wire::AckedOnly);
    case.rules
        .extend(Case::of("POST", "uploadId=", 1, Wire::Precondition).rules);
    case.nameless = 1;
    live_through(vec![case]);
}

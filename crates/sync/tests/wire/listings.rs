//! Pages that are incomplete, repeated, out of order, of another listing, or no pages at all.

use syncline_testkit::fault_proxy::Wire;

use crate::office::{Case, live_through};

const PAGE: &str = "max-keys=1000";

#[test]
fn b05_pages_that_are_found_out() {
    let mut cases = Vec::new();
    for wrong in [
        Wire::Truncated,
        Wire::TokenLoop,
        Wire::TokenMissing,
        Wire::Unsorted,
        Wire::EntityBomb,
        Wire::Huge,
        Wire::BadUtf8,
        Wire::Doubled,
        Wire::LateError,
        Wire::StopsInBody,
        Wire::OthersAnswer,
        Wire::PageAgain,
        Wire::Chunked,
        Wire::ExtraBytes,
        Wire::Missing,
    ] {
        for behind in [0, 2] {
            cases.push(Case::of("GET", PAGE, 1, wrong.clone()).behind(behind));
        }
        cases.push(Case::of("GET", PAGE, 10_000, wrong));
    }
    live_through(cases);
}

/// A page that leaves something out and says that it is whole looks as if somebody had removed it.
#[test]
fn b05_what_a_page_leaves_out_is_not_lost() {
    let mut cases = vec![Case::of("GET", PAGE, 10_000, Wire::PageCut).lies(&[])];
    for behind in 0..4 {
        cases.push(Case::of("GET", PAGE, 1, Wire::PageCut).behind(behind).lies(&[]));
    }
    live_through(cases);
}

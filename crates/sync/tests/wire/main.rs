//! The whole engine with a bucket behind a proxy that lets things go wrong on the wire, kind by kind (testing.md C1): whatever goes
//! wrong during a run, nothing is lost and no wrong byte is taken for a right one; a run that leaves something undone says so by its exit;
//! once all is well one more run settles everything, and no upload is left behind.

#![allow(clippy::unwrap_used, reason = "a test says where it stops")]
#![allow(
    clippy::disallowed_methods,
    reason = "a user of the real disk, not the program"
)]
#![allow(clippy::print_stdout, reason = "what each case came to")]

mod bodies;
mod listings;
mod office;
mod refusals;
mod stopped;
#[path = "../scenarios/world.rs"]
mod tree;
mod uploads;

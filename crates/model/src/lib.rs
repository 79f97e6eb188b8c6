//! Pure values and decisions of Syncline: paths, entries, merge, plans, rules, retention.
//!
//! This crate does no I/O, has no clock and no randomness: every decision is a function from values to values.

#![forbid(unsafe_code)]

pub mod conflict_name;
pub mod diff;
pub mod entry;
pub mod env;
pub mod escape;
pub mod fault;
pub mod filter;
pub mod fold;
mod glob;
pub mod guard;
pub mod merge;
pub mod moves;
pub mod order;
pub mod path;
pub mod plan;
pub mod replica;
pub mod retain;
pub mod zoo;

pub use entry::{
    Change, Content, Digest, Entry, From, LinkId, Meta, Observation, Owner, Sameness, Special, Stamp, Tag,
    Time, TrashRef, Why, Xattrs,
};
pub use env::{Clock, Dice, Spawn, Task};
pub use fault::{Fault, Kind, Result, Trouble};
pub use merge::{Located, Merge, Triple};
pub use path::{Name, RelPath, Slot};
pub use plan::{
    Action, Clash, Conflict, Decision, Mode, Pair, Policy, Problem, Row, Rule, Settle, Side, Source, Step,
    Was,
};
pub use replica::{Classes, Identity, Marker, PlaceId, Profile, Scope, Seen};

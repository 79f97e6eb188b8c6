//! Pure values and decisions of Syncline: paths, entries, merge, plans, rules, retention.
//!
//! This crate does no I/O, has no clock and no randomness: every decision is a function from values to values.

#![forbid(unsafe_code)]

pub mod entry;
pub mod env;
pub mod fault;
pub mod filter;
pub mod path;
pub mod replica;

pub use entry::{
    Change, Content, Digest, Entry, From, LinkId, Meta, Observation, Owner, Sameness, Special, Stamp, Tag, Time,
    TrashRef, Why, Xattrs,
};
pub use env::{Clock, Dice, Spawn, Task};
pub use fault::{Fault, Kind, Result};
pub use path::{Name, RelPath, Slot};
pub use replica::{Classes, Identity, Marker, PlaceId, Profile, Scope, Seen};

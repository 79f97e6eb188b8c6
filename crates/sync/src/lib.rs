//! The two-way engine: scan, merge, guard, journal, execute, commit.

#![forbid(unsafe_code)]

pub mod api;

pub use api::{
    Counts, Env, Event, Exit, Keep, MaxDelete, Monitor, OpenConflict, Options, Places, Report, RunInfo, Stop,
};

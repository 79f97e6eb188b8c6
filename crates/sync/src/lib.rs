//! The two-way engine: scan → merge → guard → journal → execute → commit.
//!
//! It knows replicas only through their seam and keeps its own state through `Disk` and `Table`, so that a simulation
//! can cut it anywhere.

#![forbid(unsafe_code)]

pub mod api;
mod compare;
mod conflicts;
mod execute;
mod guarding;
mod history;
pub mod journal;
mod merging;
mod opening;
mod overwritten;
mod packed;
mod parallel;
mod plan;
mod plan_file;
mod planned;
mod planning;
mod recovery;
pub mod rows;
mod scan;
mod session;
pub mod shelf;
mod showing;
mod spelling;
mod spill;
mod terms;
mod trash;
mod trust;

pub use api::{
    Counts, Env, Event, Exit, Keep, MaxDelete, Merged, Merger, Monitor, OpenConflict, Options, Places,
    Report, RunInfo, Stop, Versions,
};
pub use merging::VERSION_MAX;
pub use plan_file::VERSION as PLAN_VERSION;
pub use session::Session;
pub use trash::{TrashItem, TrashWalk};

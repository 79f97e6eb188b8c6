//! Trees: the [`Replica`] seam and what stands behind it.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod elsewhere;
pub mod local;
pub mod seam;

pub use bucket::{BucketOptions, BucketReplica};
pub use elsewhere::{Elsewhere, TrashElsewhere};
pub use local::{LocalOptions, LocalReplica};
pub use seam::{Applied, Body, Durability, Edit, EditOptions, Replica, Staged, TrashRun, Walk};

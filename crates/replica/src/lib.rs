//! Trees: the [`Replica`] seam and what stands behind it.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod elsewhere;
pub mod layer;
pub mod local;
pub mod seam;
mod walks;

pub use bucket::{Accounts, BucketOptions, BucketReplica};
pub use elsewhere::{Elsewhere, TrashElsewhere};
pub use layer::Layer;
pub use local::{LocalOptions, LocalReplica};
pub use seam::{Applied, Body, Durability, Edit, EditOptions, Replica, Staged, TrashRun, Walk};

//! The whole engine on two directories of the real disk: the scenarios of two folders, each by its number.

#![allow(clippy::unwrap_used, reason = "a test says where it stops")]

mod conflicts;
mod history;
mod kinds;
mod meanwhile;
mod merging;
mod moving;
mod one_way;
mod roots;
mod world;

//! Scenarios that no real disk here can show: places that fold names, hosts whose clocks differ.

#![allow(clippy::unwrap_used, reason = "a test says where it stops")]

mod announced;
mod clocks;
mod durable;
mod names;
mod room;
mod unguarded;
mod versions;
mod world;

//! Time, randomness and spawning as values that are handed in: one seed is one world (design D16).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::entry::Time;

/// A future that can be handed to another thread.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// The one source of time.
pub trait Clock: Send + Sync {
    /// Wall-clock time of this host: for people and names of runs, never for decisions between hosts.
    fn now(&self) -> Time;
    /// Time since some fixed moment; never runs backwards.
    fn elapsed(&self) -> Duration;
    /// Completes after `time`.
    fn sleep(&self, time: Duration) -> Task;
}

/// The one source of randomness.
pub trait Dice: Send + Sync {
    /// The next 64 random bits.
    fn roll(&self) -> u64;
}

/// The one way to start something that runs beside the caller. A task may block its thread on a disk.
pub trait Spawn: Send + Sync {
    /// Starts `task`.
    fn spawn(&self, task: Task);
}

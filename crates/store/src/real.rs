//! The real [`Clock`], [`Dice`] and [`Spawn`]: the only places that ask the system for time, randomness and threads.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use syncline_model::{Clock, Dice, Spawn, Task, Time};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let now = clock_gettime(ClockId::Realtime);
        Time {
            secs: now.tv_sec,
            nanos: u32::try_from(now.tv_nsec).unwrap_or(0),
        }
    }

    fn elapsed(&self) -> Duration {
        let now = clock_gettime(ClockId::Monotonic);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
    }

    #[expect(clippy::disallowed_methods, reason = "this is what Clock::sleep is made of")]
    fn sleep(&self, time: Duration) -> Task {
        Box::pin(tokio::time::sleep(time))
    }
}

/// The kernel's random bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDice;

impl Dice for SystemDice {
    #[expect(clippy::disallowed_methods, reason = "this is what Dice is made of")]
    fn roll(&self) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::retry_on_intr(|| {
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        }) {
            Ok(8) => u64::from_ne_bytes(bytes),
            // A sandbox without that call: the standard library's own seed, another one for each new state.
            _ => std::hash::RandomState::new().build_hasher().finish(),
        }
    }
}

/// Starts each task on a thread of its own, which may block on a disk without holding anybody else up. Timers and
/// sockets are those of the runtime in whose context this was made, which must outlive the tasks.
#[derive(Debug, Clone)]
pub struct ThreadSpawn {
    runtime: tokio::runtime::Handle,
}

impl ThreadSpawn {
    /// Uses the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new() -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

impl Default for ThreadSpawn {
    fn default() -> Self {
        Self::new()
    }
}

impl Spawn for ThreadSpawn {
    #[expect(clippy::disallowed_methods, reason = "this is what Spawn is made of")]
    fn spawn(&self, task: Task) {
        // Kept where it can be taken back when the system gives no more threads.
        let slot = Arc::new(Mutex::new(Some(task)));
        let take = |slot: &Mutex<Option<Task>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (own, runtime) = (Arc::clone(&slot), self.runtime.clone());
        let started = std::thread::Builder::new()
            .name("syncline task".into())
            .spawn(move || {
                if let Some(task) = take(&own) {
                    runtime.block_on(task);
                }
            });
        if started.is_err()
            && let Some(task) = take(&slot)
        {
            self.runtime.spawn(task);
        }
    }
}

/// Tasks that do not block, on the runtime's own threads: a connection to a server needs no thread to itself.
pub(crate) struct SharedThreads(tokio::runtime::Handle);

impl SharedThreads {
    /// Uses the runtime of the caller; panics outside of one.
    pub(crate) fn new() -> Self {
        Self(tokio::runtime::Handle::current())
    }
}

impl Spawn for SharedThreads {
    #[expect(clippy::disallowed_methods, reason = "this is what Spawn is made of")]
    fn spawn(&self, task: Task) {
        self.0.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_the_dice_differ() {
        let first = SystemClock.elapsed();
        assert!(SystemClock.elapsed() >= first);
        assert!(SystemClock.now().secs > 1_700_000_000);
        let rolls: std::collections::BTreeSet<u64> = (0..100).map(|_| SystemDice.roll()).collect();
        assert_eq!(rolls.len(), 100);
    }

    #[tokio::test]
    async fn tasks_that_block_their_threads_do_not_wait_for_each_other() {
        let spawn = ThreadSpawn::new();
        let meeting = Arc::new(std::sync::Barrier::new(40));
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..40u64 {
            let (meeting, tell) = (Arc::clone(&meeting), tell.clone());
            spawn.spawn(Box::pin(async move {
                meeting.wait();
                SystemClock.sleep(Duration::from_millis(1)).await;
                tell.send(n).unwrap();
            }));
        }
        drop(tell);
        let mut sum = 0;
        while let Some(n) = told.recv().await {
            sum += n;
        }
        assert_eq!(sum, 780);
    }
}

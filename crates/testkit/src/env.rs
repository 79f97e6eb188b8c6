//! A clock that stands still until it is told, dice with a seed, and spawning on one thread: one seed is one world.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use syncline_model::{Clock, Dice, Spawn, Task, Time};

/// A clock that only tests move. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<Moment>>);

#[derive(Debug)]
struct Moment {
    wall_start: Time,
    elapsed: Duration,
    /// Added to wall-clock time only: a clock that was set.
    shift_secs: i64,
    /// Whoever sleeps moves the clock to the end of his sleep.
    hurries: bool,
    sleepers: Vec<Waker>,
}

impl FakeClock {
    /// Stands at `secs` after 1970 and moves by [`FakeClock::advance`] alone.
    pub fn new(secs: i64) -> Self {
        Self::build(secs, false)
    }

    /// Also moves by itself: a sleep takes no real time and moves the clock to its end.
    pub fn hurrying(secs: i64) -> Self {
        Self::build(secs, true)
    }

    fn build(secs: i64, hurries: bool) -> Self {
        Self(Arc::new(Mutex::new(Moment {
            wall_start: Time { secs, nanos: 0 },
            elapsed: Duration::ZERO,
            shift_secs: 0,
            hurries,
            sleepers: Vec::new(),
        })))
    }

    fn moment(&self) -> std::sync::MutexGuard<'_, Moment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on and wakes whoever has slept long enough.
    pub fn advance(&self, by: Duration) {
        let to = self.moment().elapsed + by;
        self.advance_to(to);
    }

    fn advance_to(&self, to: Duration) {
        let sleepers = {
            let mut moment = self.moment();
            moment.elapsed = moment.elapsed.max(to);
            std::mem::take(&mut moment.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }

    /// Sets the wall clock by `secs`, back too; elapsed time does not notice.
    pub fn set_wall_by(&self, secs: i64) {
        self.moment().shift_secs += secs;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Time {
        let moment = self.moment();
        let nanos = u64::from(moment.wall_start.nanos) + u64::from(moment.elapsed.subsec_nanos());
        let secs = moment.wall_start.secs + moment.shift_secs + moment.elapsed.as_secs() as i64;
        Time {
            secs: secs + (nanos / 1_000_000_000) as i64,
            nanos: (nanos % 1_000_000_000) as u32,
        }
    }

    fn elapsed(&self) -> Duration {
        self.moment().elapsed
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(Sleep {
            until: self.elapsed() + time,
            clock: self.clone(),
            yielded: false,
        })
    }
}

struct Sleep {
    clock: FakeClock,
    until: Duration,
    yielded: bool,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let hurries = {
            let mut moment = self.clock.moment();
            if moment.elapsed >= self.until {
                return Poll::Ready(());
            }
            if !moment.hurries {
                moment.sleepers.push(cx.waker().clone());
            }
            moment.hurries
        };
        if !hurries {
            return Poll::Pending;
        }
        if !self.yielded {
            // Everybody else who is ready goes first, so that a shorter sleep begun later still ends first.
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.clock.advance_to(self.until);
        Poll::Ready(())
    }
}

/// Dice that fall the same way for the same seed (SplitMix64).
#[derive(Debug)]
pub struct SeededDice(AtomicU64);

impl SeededDice {
    /// Begins the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&self, end: u64) -> u64 {
        self.roll() % end
    }

    /// True in about `percent` of 100 rolls.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Dice for SeededDice {
    fn roll(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Starts tasks on the caller's runtime; with a current-thread runtime their order is always the same.
#[derive(Debug, Clone)]
pub struct LocalSpawn(tokio::runtime::Handle);

impl LocalSpawn {
    /// Uses the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new() -> Self {
        Self(tokio::runtime::Handle::current())
    }
}

impl Default for LocalSpawn {
    fn default() -> Self {
        Self::new()
    }
}

impl Spawn for LocalSpawn {
    #[expect(clippy::disallowed_methods, reason = "this is what Spawn is made of")]
    fn spawn(&self, task: Task) {
        self.0.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a sleeper of the test's own")]
    async fn sleepers_wake_when_the_clock_is_moved_and_not_before() {
        let clock = FakeClock::new(1000);
        let sleeper = tokio::spawn(clock.sleep(Duration::from_secs(10)));
        clock.advance(Duration::from_millis(9_999));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_millis(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Time { secs: 1010, nanos: 0 });
        clock.set_wall_by(-3600);
        assert_eq!(
            (clock.now().secs, clock.elapsed()),
            (1010 - 3600, Duration::from_secs(10))
        );
    }

    #[tokio::test]
    async fn a_hurrying_clock_ends_sleeps_by_itself() {
        let clock = FakeClock::hurrying(0);
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.elapsed(), Duration::from_secs(3600));
    }

    #[test]
    fn one_seed_is_one_sequence() {
        let roll = |seed| {
            let dice = SeededDice::new(seed);
            (0..5).map(|_| dice.roll()).collect::<Vec<_>>()
        };
        assert_eq!(roll(7), roll(7));
        assert_ne!(roll(7), roll(8));
    }
}

//! The real clock and real threads, for tests that run on the real disk.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use syncline_model::{Clock, Spawn, Task, Time};
use syncline_replica::LocalOptions;

/// This machine's clock.
pub struct RealClock(Instant);

impl Default for RealClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Time {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Time {
            secs: since.as_secs().cast_signed(),
            nanos: since.subsec_nanos(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> Task {
        Box::pin(async move {
            #[allow(clippy::disallowed_methods, reason = "this is the clock")]
            tokio::time::sleep(time).await
        })
    }
}

/// One thread for each task.
pub struct RealThreads;

impl Spawn for RealThreads {
    #[expect(clippy::disallowed_methods, reason = "this is what Spawn is made of")]
    fn spawn(&self, task: Task) {
        std::thread::spawn(move || futures::executor::block_on(task));
    }
}

/// Options for a local replica in a test.
pub fn local_options(label: &str) -> LocalOptions {
    LocalOptions {
        label: label.to_owned(),
        host: "testhost".to_owned(),
        threads: 2,
        clock: Arc::new(RealClock::default()),
        spawn: Arc::new(RealThreads),
        pid: std::process::id(),
        umask: 0o022,
        set_ids: false,
    }
}

//! Moments at which the program ends itself when it is told to, so that its rigs see what the next run makes of that.
//!
//! Invariant: only a build with debug assertions knows them; in any other there is nothing here to call.

/// Called before each change of a file, a name or a state table. The process ends before the one whose number, from 1, `SYNCLINE_END_BEFORE`
/// says.
#[cfg(debug_assertions)]
pub(crate) fn before_change() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static LEFT: LazyLock<Option<AtomicU64>> = LazyLock::new(|| {
        let number = std::env::var("SYNCLINE_END_BEFORE").ok()?.parse().ok()?;
        Some(AtomicU64::new(number))
    });
    if let Some(left) = &*LEFT
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // As a power cut would: nothing is closed, nothing is told.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn before_change() {}

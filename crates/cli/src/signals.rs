//! Ctrl-C and friends: the first ends the run in order, the second drops what is under way, the third ends the process.
//!
//! Invariant: a signal never makes a run end with 0.

use std::sync::Arc;
use std::time::Duration;

use syncline_model::{Clock, Fault, Kind, Result, Spawn};
use syncline_sync::{Exit, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// How long the engine has to drop what is under way by itself.
const GRACE: Duration = Duration::from_secs(2);

/// What signals have asked for so far.
pub struct Signals {
    /// For the engine.
    pub stop: Arc<Stop>,
    hard: Arc<Notify>,
}

impl Signals {
    /// Returns when the second signal came and the engine did not end by itself.
    pub async fn dropped(&self, clock: &dyn Clock) {
        self.hard.notified().await;
        clock.sleep(GRACE).await;
    }
}

/// Listens from now on.
pub fn listen(spawn: &dyn Spawn, quiet: bool) -> Result<Signals> {
    let fail = |error| Fault::new(Kind::Bug, format!("listen for signals: {error}"), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(fail)?;
    let stop = Arc::new(Stop::default());
    let hard = Arc::new(Notify::new());
    let (told, told_hard) = (Arc::clone(&stop), Arc::clone(&hard));
    spawn.spawn(Box::pin(async move {
        let says = [
            "syncline: ending what is under way; once more drops it",
            "syncline: dropping what is under way; once more ends at once",
        ];
        for said in says {
            next(&mut interrupt, &mut terminate, &mut hangup).await;
            told.request();
            if told.hard() {
                told_hard.notify_one();
            }
            if !quiet {
                eprintln!("{said}");
            }
        }
        next(&mut interrupt, &mut terminate, &mut hangup).await;
        leave();
    }));
    Ok(Signals { stop, hard })
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// What is on disk is whole at any moment; the next run goes on from it.
#[allow(clippy::exit, reason = "the person asked three times")]
fn leave() {
    std::process::exit(i32::from(u8::from(Exit::Stopped)));
}

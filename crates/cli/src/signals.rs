//! Ctrl-C and friends: the first ends the run in order, the second drops what is under way, the third ends the process.
//!
//! Invariant: a signal never makes a run end with 0.

use std::sync::Arc;

use syncline_model::{Fault, Kind, Result, Spawn};
use syncline_sync::{Exit, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from now on.
pub fn listen(spawn: &dyn Spawn, quiet: bool) -> Result<Arc<Stop>> {
    let fail = |error| Fault::new(Kind::Bug, format!("listen for signals: {error}"), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(fail)?;
    let stop = Arc::new(Stop::default());
    let told = Arc::clone(&stop);
    spawn.spawn(Box::pin(async move {
        let says = [
            "syncline: ending what is under way; once more drops it",
            "syncline: dropping what is under way; once more ends at once",
        ];
        for said in says {
            next(&mut interrupt, &mut terminate, &mut hangup).await;
            told.request();
            if !quiet {
                eprintln!("{said}");
            }
        }
        next(&mut interrupt, &mut terminate, &mut hangup).await;
        leave();
    }));
    Ok(stop)
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

//! Ends what does not answer.
//!
//! Invariant: no call on the seam takes longer than its time plus what its own bytes need at the slowest rate that is
//! still called progress; then it is a fault that may be tried again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use syncline_model::{Clock, Fault, Kind, Result};

use crate::Store;
use crate::layer::{Layer, Verb};

/// Slowest rate that is progress, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// What a copy counts as: five gibibytes, the most that one may have, take some stores minutes.
const COPY: u64 = SLOWEST * 300;

/// Gives each call on `inner` a deadline.
#[derive(Clone)]
pub struct Deadline {
    inner: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    time: Duration,
}

impl Deadline {
    /// Gives each call `time`.
    pub fn new(inner: Arc<dyn Store>, clock: Arc<dyn Clock>, time: Duration) -> Self {
        Self { inner, clock, time }
    }
}

/// The bytes for which a call is given time.
fn allowance(verb: Verb) -> u64 {
    match verb {
        Verb::Write { written, .. } | Verb::Publish { written } => written,
        // A conditional removal may be a request of its own; a thousand of them are not one call's time.
        Verb::Remove(keys) => keys as u64 * SLOWEST / 4,
        Verb::Copy => COPY,
        _ => 0,
    }
}

impl Layer for Deadline {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    async fn once<T: Send>(&self, verb: Verb, attempt: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let time = self.time + Duration::from_secs(allowance(verb) / SLOWEST);
        futures::pin_mut!(attempt);
        match select(attempt, self.clock.sleep(time)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => {
                let what = format!("no answer within {} s", time.as_secs());
                Err(Fault::new(Kind::Offline, what, self.inner.label()))
            }
        }
    }
}

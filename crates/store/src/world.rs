//! Time, randomness and spawning as one bundle, in which they are handed on.
//!
//! Invariant: a store takes all three from here alone, so that a test can replace them (design D16).

use std::sync::Arc;

use syncline_model::{Clock, Dice, Spawn};

use crate::real::{SharedThreads, SystemClock, SystemDice};

/// Time, randomness and spawning, as one value.
#[derive(Clone)]
pub struct World {
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub dice: Arc<dyn Dice>,
    /// Starts what runs beside the caller. A store's tasks never block their thread.
    pub spawn: Arc<dyn Spawn>,
}

impl World {
    /// The real ones. Tasks share the threads of the runtime within which this is called.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            dice: Arc::new(SystemDice),
            spawn: Arc::new(SharedThreads::new()),
        }
    }
}

//! Opens a store by its URL, with its layers around it.
//!
//! Invariant: whoever opens a store by URL gets one that tries again, ends what hangs, and keeps the limits.

use std::sync::Arc;
use std::time::Duration;

use syncline_model::{Fault, Kind, Result};

use crate::layers::{Deadline, Limit, Meter, Patience, Rate, Retry, RetryRule};
use crate::s3::{Keys, S3Options, S3Store, Sizes};
use crate::url::{masked, s3_place};
use crate::world::World;
use crate::{Caps, Store};

/// How a store is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// Time, randomness and spawning.
    pub world: World,
    /// Counts requests and bytes.
    pub meter: Meter,
    /// Requests in flight.
    pub requests: usize,
    /// Bytes a second; share one between stores to limit them together.
    pub rate: Rate,
    /// How often and how long to try again.
    pub retry: RetryRule,
    /// After this long a call that does not answer is a fault.
    pub deadline: Duration,
    /// What an earlier probe found; `None`: probe now.
    pub caps: Option<Caps>,
    /// Keys to use instead of those of the environment and the AWS files.
    pub keys: Option<Keys>,
    /// Sizes of parts and the like.
    pub sizes: Sizes,
}

impl OpenOptions {
    /// The usual ones.
    pub fn new(world: World) -> Self {
        Self {
            rate: Rate::new(Arc::clone(&world.clock), None),
            world,
            meter: Meter::default(),
            requests: 32,
            retry: RetryRule::default(),
            deadline: Duration::from_secs(180),
            caps: None,
            keys: None,
            sizes: Sizes::default(),
        }
    }
}

/// Opens the store at `url`. Its [`Store::caps`] are what was found; keep them for the next time.
pub async fn open(url: &str, options: OpenOptions) -> Result<Arc<dyn Store>> {
    if !url.starts_with("s3://") {
        let fault = Fault::new(Kind::Unsupported, "no store of this kind is known", masked(url));
        return Err(fault.hint("buckets are written s3://bucket/prefix?endpoint=URL&region=R"));
    }
    let place = s3_place(url)?;
    let patience = Arc::new(Patience::new(options.world.clone(), options.retry));
    let mut inner = S3Options::new(options.world.clone());
    inner.meter = options.meter;
    inner.keys = options.keys;
    inner.sizes = options.sizes;
    inner.patience = Arc::clone(&patience);
    let store = S3Store::open(&place, inner, options.caps.clone()).await?;
    let store = match options.caps {
        Some(_) => store,
        None => patience.run(|| store.clone().probed()).await?,
    };
    let store = Limit::new(Arc::new(store), options.requests, options.rate);
    let store = Deadline::new(
        Arc::new(store),
        Arc::clone(&options.world.clock),
        options.deadline,
    );
    Ok(Arc::new(Retry::new(Arc::new(store), patience)))
}

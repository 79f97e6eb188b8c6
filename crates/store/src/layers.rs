//! Decorators over any [`Store`](crate::Store). The order, from the caller inwards:
//!
//! 1. [`retry`]: outermost, so that each attempt has a deadline and a slot of its own, and no slot is held while waiting;
//! 2. [`deadline`]: an attempt that hangs becomes a fault;
//! 3. [`limit`]: requests in flight and bytes a second;
//! 4. [`meter`]: innermost, so that it counts what really went out. A store that counts its own requests (S3, whose one
//!    call may be many) takes the [`Meter`] itself and is not wrapped.

pub mod deadline;
pub mod limit;
pub mod meter;
pub mod retry;

pub use deadline::Deadline;
pub use limit::{Limit, Rate};
pub use meter::{Counts, Meter, Metered};
pub use retry::{Patience, Pause, Retry, RetryRule};

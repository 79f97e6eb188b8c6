//! Known bugs that can be switched back in, to see that the suite finds them (`make zoo`).
//!
//! Invariant: without the feature `zoo` no bug is ever on, and the compiler drops the place where it would be.

/// True when the bug of this name is on: the feature `zoo` is, and `SYNCLINE_ZOO` names it.
#[cfg(feature = "zoo")]
pub fn on(name: &str) -> bool {
    std::env::var_os("SYNCLINE_ZOO").is_some_and(|named| named == name)
}

/// True when the bug of this name is on: never in this build.
#[cfg(not(feature = "zoo"))]
#[inline(always)]
pub const fn on(_name: &str) -> bool {
    false
}

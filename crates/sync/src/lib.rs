//! The two-way engine: scan, merge, guard, journal, execute, commit.

#![forbid(unsafe_code)]

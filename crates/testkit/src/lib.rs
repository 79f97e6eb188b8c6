//! For tests only: simulated clock, dice, disk and store; tree generators; conformance suites.

pub mod env;
pub mod here;
pub mod mem_table;
pub mod table_conformance;

//! For tests only: simulated clock, dice, disk and store; tree generators; conformance suites.

#![allow(clippy::unwrap_used, reason = "for tests only")]

pub mod disk_conformance;
pub mod env;
pub mod fault_proxy;
pub mod faulty_store;
pub mod here;
pub mod mem_store;
pub mod mem_table;
pub mod moto;
pub mod replica_conformance;
pub mod s3_double;
pub mod s3_server;
pub mod sim_disk;
pub mod store_conformance;
pub mod table_conformance;
pub mod tls_front;

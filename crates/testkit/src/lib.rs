//! For tests only: simulated clock, dice, disk and store; tree generators; conformance suites.

pub mod disk_conformance;
pub mod env;
pub mod faulty_store;
pub mod here;
pub mod mem_store;
pub mod mem_table;
pub mod moto;
<<<<<<< HEAD
pub mod replica_conformance;
=======
pub mod s3_double;
>>>>>>> a653b58 (S3 servers in process: a strict one, s3s-fs, and one for the demo)
pub mod s3_server;
pub mod sim_disk;
pub mod store_conformance;
pub mod table_conformance;

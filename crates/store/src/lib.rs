//! Bytes: the [`Store`] seam (named blobs) with its backends and layers, the [`Disk`] seam (the only home of file
//! access), state tables and sorting on disk. This crate knows keys, not trees.

pub mod disk;
pub mod fjall_table;
pub mod layer;
pub mod layers;
mod moment;
pub mod open;
pub mod os;
pub mod real;
pub mod s3;
pub mod seam;
pub mod sorter;
pub mod table;
pub mod url;
pub mod world;

pub use disk::{Attrs, Disk, Found, Node, Place, Range, Space, Stat, Sync, Target};
pub use fjall_table::FjallTable;
pub use layers::{Counts, Meter};
pub use open::{OpenOptions, open};
pub use seam::{Blob, Caps, Cond, Draft, Key, Listed, Listing, Seen, Store, StoreSpace, Version};
pub use sorter::Sorter;
pub use table::{Batch, Changes, Rows, Table};
pub use world::World;

//! State tables: sorted keys and values behind a narrow trait.
//!
//! Invariant: a batch is taken whole or not at all, and batches in order; after a crash a table holds a prefix of its
//! batches, not shorter than the last `persist`. What a table loses at its tail must be found again by looking.

use syncline_model::{Fault, Kind, Result};

/// Rows in ascending order of keys.
pub type Rows = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>)>> + Send>;

/// Changes that are made together: a value puts, `None` removes.
pub type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Changes in ascending order of keys; of equal keys the last counts.
pub type Changes = Box<dyn Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>)>> + Send>;

/// A sorted map that lies on disk.
pub trait Table: Send + Sync {
    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Rows whose key begins with `prefix` and is not less than `from`, as they were when this was called.
    fn scan(&self, prefix: &[u8], from: &[u8]) -> Rows;
    /// Makes these changes, all or none.
    fn write(&self, batch: Batch) -> Result<()>;
    /// Makes changes of any number, all or none; what they are made of may be a scan of this table.
    fn load(&self, changes: Changes) -> Result<()>;
    /// Returns when all that was written survives a power cut.
    fn persist(&self) -> Result<()>;
}

/// `Invalid` unless `key` is one that every table can hold; `at` is where it was to go.
pub fn check_key(key: &[u8], at: &str) -> Result<()> {
    // The engine has no empty key and counts the length of one in two bytes.
    if !key.is_empty() && key.len() <= usize::from(u16::MAX) {
        return Ok(());
    }
    Err(Fault::new(
        Kind::Invalid,
        "write state table: a key has 1 to 65535 bytes",
        at,
    ))
}

//! A state table that lies in memory, for a bucket that was given no place for its state: it remembers for as long as the process lives.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use syncline_model::Result;
use syncline_store::{Batch, Changes, Rows, Table};

/// See the module.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Table for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8]) -> Rows {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = from.max(prefix).to_vec();
        let found: Vec<_> = rows
            .range(start..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(found.into_iter())
    }

    fn write(&self, batch: Batch) -> Result<()> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        Ok(())
    }

    fn load(&self, changes: Changes) -> Result<()> {
        self.write(changes.collect::<Result<_>>()?)
    }

    fn persist(&self) -> Result<()> {
        Ok(())
    }
}

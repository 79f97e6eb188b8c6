//! A replica that is read at a limited rate: `--bandwidth` between two local places.
//!
//! Invariant: every byte of a body is paid for, so files are not lent (the kernel would copy them unseen).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Observation, RelPath, Result};
use syncline_replica::{Body, Layer, Replica};
use syncline_store::layers::Rate;

/// Reads from `inner` no faster than `rate`.
pub struct Paced {
    /// What is read.
    pub inner: Arc<dyn Replica>,
    /// How fast.
    pub rate: Rate,
}

struct PacedBody {
    inner: Box<dyn Body>,
    rate: Rate,
    /// Read, and not yet paid for.
    ahead: Bytes,
}

/// Paid for at once: little enough that a slow rate does not come in bursts.
const SLICE: usize = 32 << 10;

#[async_trait]
impl Body for PacedBody {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ahead.is_empty() {
            match self.inner.next().await? {
                Some(bytes) => self.ahead = bytes,
                None => return Ok(None),
            }
        }
        let slice = self.ahead.split_to(SLICE.min(self.ahead.len()));
        self.rate.pay(slice.len()).await;
        Ok(Some(slice))
    }

    async fn check(&mut self) -> Result<()> {
        self.inner.check().await
    }
}

#[async_trait]
impl Layer for Paced {
    fn below(&self) -> &dyn Replica {
        &*self.inner
    }

    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>> {
        let inner = self.inner.read(path, expect, from).await?;
        Ok(Box::new(PacedBody {
            inner,
            rate: self.rate.clone(),
            ahead: Bytes::new(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use syncline_replica::LocalReplica;
    use syncline_store::os::OsDisk;
    use syncline_testkit::env::FakeClock;
    use syncline_testkit::here::local_options;
    use syncline_testkit::replica_conformance::check;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "directories of the test's own")]
    fn a_paced_directory_is_a_replica_like_any_other() {
        let trees = tempfile::tempdir().unwrap();
        let mut count = 0;
        check(&mut || {
            count += 1;
            let at = trees.path().join(count.to_string());
            std::fs::create_dir(&at).unwrap();
            let inner = LocalReplica::open(Arc::new(OsDisk::new()), &at, local_options("tree")).unwrap();
            let clock = Arc::new(FakeClock::hurrying(1_700_000_000));
            let paced: Arc<dyn Replica> = Arc::new(Paced {
                inner: Arc::new(inner),
                rate: Rate::new(clock, Some(100_000)),
            });
            paced
        });
    }
}

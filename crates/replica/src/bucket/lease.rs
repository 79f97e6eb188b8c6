//! The lease under which trash is emptied, so that two machines do not do it at once.
//!
//! Invariant: a lease is taken from another only after it stood unchanged for a whole term on our own clock; times of other hosts, or of the
//! store, decide nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use syncline_model::{Fault, Kind, Result, Tag};
use syncline_store::{Cond, Key};

use super::Shared;
use super::blobs::{self, LEASE, read_whole, write_whole};
use super::metadata::Metadata;

/// A holder renews well within this.
const TERM: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(5);
const LEASE_MAX: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Held {
    device: String,
    /// Another each time, so that every renewal changes the tag.
    nonce: u64,
}

/// A lease that is ours.
pub(super) struct Lease {
    tag: Tag,
    renewed: Duration,
}

impl Lease {
    /// Takes the lease: at once when nobody has it, after a term when its holder seems dead; `Busy` when its holder lives.
    pub async fn take(shared: &Shared) -> Result<Self> {
        let clock = &shared.options.clock;
        match write(shared, Cond::Absent).await {
            Err(fault) if matches!(fault.kind, Kind::Changed | Kind::Exists) => (),
            taken => return taken,
        }
        let key = Key::new(LEASE)?;
        let (first, bytes) = match read_whole(&*shared.store, &key, LEASE_MAX, None).await {
            Err(fault) if fault.is(Kind::NotFound) => return write(shared, Cond::Absent).await,
            read => read?,
        };
        let holder =
            serde_json::from_slice::<Held>(&bytes).map_or_else(|_| "somebody".to_owned(), |held| held.device);
        let since = clock.elapsed();
        while clock.elapsed() < since + TERM {
            clock.sleep(LOOK).await;
            match shared.store.stat(&key).await {
                Ok(now) if now.tag == first.tag => (),
                Ok(_) => return Err(busy(shared, &holder)),
                Err(fault) if fault.is(Kind::NotFound) => return write(shared, Cond::Absent).await,
                Err(fault) => return Err(fault),
            }
        }
        write(shared, Cond::Is(first.tag))
            .await
            .map_err(|fault| match fault.kind {
                Kind::Changed | Kind::Exists => busy(shared, &holder),
                _ => fault,
            })
    }

    /// Renews the lease when it is time to.
    pub async fn renew(&mut self, shared: &Shared) -> Result<()> {
        if shared.options.clock.elapsed() >= self.renewed + RENEW {
            *self = write(shared, Cond::Is(self.tag.clone())).await?;
        }
        Ok(())
    }

    /// Gives the lease back.
    pub async fn give_back(self, shared: &Shared) -> Result<()> {
        blobs::remove(&*shared.store, Key::new(LEASE)?, Cond::Is(self.tag)).await
    }
}

async fn write(shared: &Shared, cond: Cond) -> Result<Lease> {
    let held = Held {
        device: shared.options.device.clone(),
        nonce: shared.options.dice.roll(),
    };
    let bytes = serde_json::to_vec(&held).map_err(|why| Fault::new(Kind::Bug, why.to_string(), LEASE))?;
    let blob = write_whole(
        &*shared.store,
        &Key::new(LEASE)?,
        bytes.into(),
        Metadata::new(),
        cond,
    )
    .await?;
    Ok(Lease {
        tag: blob.tag,
        renewed: shared.options.clock.elapsed(),
    })
}

fn busy(shared: &Shared, holder: &str) -> Fault {
    Fault::new(
        Kind::Busy,
        format!("its trash is being emptied by {holder}"),
        shared.store.label(),
    )
    .hint("try again when that is done")
}

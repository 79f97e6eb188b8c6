//! Who answers at a bucket: the marker object with the replica's id and its generation.
//!
//! Beside these it names the devices that know it, so that the last one to leave can take it away.
//!
//! Invariant: the generation only grows, whoever raises it; a smaller one than remembered can only be an older copy of the bucket.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use syncline_model::{Fault, Identity, Kind, Marker, PlaceId, Result, Tag};
use syncline_store::{Cond, Key};

use super::Shared;
use super::blobs::{self, MARKER, read_whole, write_whole};
use super::metadata::Metadata;

const TRIES: usize = 32;
const MARKER_MAX: u64 = 64 << 10;
/// Where more devices than this use a bucket nobody is ever the last one.
const DEVICES: usize = 500;

/// The object.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(flatten)]
    marker: Marker,
    /// Who knows this marker.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    devices: BTreeSet<String>,
}

impl Told {
    fn bytes(&self) -> Result<bytes::Bytes> {
        let bytes = serde_json::to_vec(self).map_err(|why| Fault::new(Kind::Bug, why.to_string(), MARKER))?;
        Ok(bytes.into())
    }
}

/// The object that is there, and what it tells; `None` within: it cannot be read.
async fn current(shared: &Shared) -> Result<Option<(Tag, Option<Told>)>> {
    let key = Key::new(MARKER)?;
    let (blob, bytes) = match read_whole(&*shared.store, &key, MARKER_MAX, None).await {
        Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
        read => read?,
    };
    let told: Option<Told> = serde_json::from_slice(&bytes).ok();
    if let Some(told) = &told {
        shared
            .generation
            .fetch_max(told.marker.generation, Ordering::Relaxed);
    }
    Ok(Some((blob.tag, told)))
}

pub(super) async fn identity(shared: &Shared) -> Result<Identity> {
    let marker = current(shared)
        .await?
        .map(|(_, told)| told.map_or_else(Marker::unreadable, |told| told.marker));
    if marker.is_none() {
        // No marker and no bucket look alike when asked for one object.
        shared.store.list("", None).await?.next().await?;
    }
    Ok(Identity {
        place: PlaceId(shared.options.place.clone()),
        marker,
    })
}

pub(super) async fn mark(shared: &Shared, wanted: &Marker) -> Result<()> {
    if shared.options.read_only {
        return Err(Fault::new(
            Kind::Denied,
            "is only read here",
            shared.store.label(),
        ));
    }
    for _ in 0..TRIES {
        let (cond, generation, mut devices) = match current(shared).await? {
            None => (Cond::Absent, wanted.generation, BTreeSet::new()),
            // Whoever writes here has been told of it, and answered.
            Some((tag, None)) => (Cond::Is(tag), wanted.generation, BTreeSet::new()),
            Some((tag, Some(Told { marker: now, devices }))) if now.id == wanted.id => (
                Cond::Is(tag),
                wanted.generation.max(now.generation.saturating_add(1)),
                devices,
            ),
            Some((_, Some(Told { marker: now, .. }))) => {
                let what = format!("is marked as replica {} and not {}", now.id, wanted.id);
                return Err(Fault::new(Kind::Changed, what, shared.store.label()).hint(
                    "somebody else began with this place at the same moment: run again, and both are joined",
                ));
            }
        };
        if devices.len() < DEVICES {
            devices.insert(shared.options.device.clone());
        }
        let marker = Marker {
            id: wanted.id.clone(),
            generation,
        };
        let bytes = Told { marker, devices }.bytes()?;
        match write_whole(&*shared.store, &Key::new(MARKER)?, bytes, Metadata::new(), cond).await {
            Ok(_) => {
                shared.generation.fetch_max(generation, Ordering::Relaxed);
                return Ok(());
            }
            Err(fault) if fault.is(Kind::Changed) || fault.is(Kind::Exists) => (),
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::new(
        Kind::Busy,
        "others keep raising the generation of this replica",
        shared.store.label(),
    ))
}

/// Takes this device off the marker, and the marker away when nobody else is on it. True when it is gone.
pub(super) async fn leave(shared: &Shared) -> Result<bool> {
    let key = Key::new(MARKER)?;
    for _ in 0..TRIES {
        let Some((tag, mut told)) = current(shared).await? else {
            return Ok(true);
        };
        let Some(told) = &mut told else { return Ok(false) };
        let full = told.devices.len() >= DEVICES;
        // One written before devices were named there: nobody knows who knows it.
        if !told.devices.remove(&shared.options.device) {
            return Ok(false);
        }
        let last = told.devices.is_empty();
        let done = if last {
            blobs::remove(&*shared.store, key.clone(), Cond::Is(tag)).await
        } else if full {
            return Ok(false);
        } else {
            let written = write_whole(
                &*shared.store,
                &key,
                told.bytes()?,
                Metadata::new(),
                Cond::Is(tag),
            );
            written.await.map(drop)
        };
        match done {
            Ok(()) => return Ok(last),
            Err(fault) if matches!(fault.kind, Kind::Changed | Kind::Exists) => (),
            Err(fault) if fault.is(Kind::NotFound) => return Ok(true),
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::new(
        Kind::Busy,
        "others keep changing the marker of this replica",
        shared.store.label(),
    ))
}

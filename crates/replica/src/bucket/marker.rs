//! Who answers at a bucket: the marker object with the replica's id and its generation.
//!
//! Invariant: the generation only grows, whoever raises it; a smaller one than remembered can only be an older copy of the bucket.

use std::sync::atomic::Ordering;

use syncline_model::{Fault, Identity, Kind, Marker, PlaceId, Result, Tag};
use syncline_store::{Cond, Key};

use super::Shared;
use super::blobs::{MARKER, read_whole, write_whole};
use super::metadata::Metadata;

const TRIES: usize = 32;
const MARKER_MAX: u64 = 64 << 10;

async fn current(shared: &Shared) -> Result<Option<(Tag, Marker)>> {
    let key = Key::new(MARKER)?;
    let (blob, bytes) = match read_whole(&*shared.store, &key, MARKER_MAX, None).await {
        Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
        read => read?,
    };
    let marker: Marker = serde_json::from_slice(&bytes).map_err(|why| {
        Fault::new(
            Kind::Corrupt,
            "the marker of this replica cannot be read",
            format!("{MARKER} in {}", shared.store.label()),
        )
        .because(why)
        .hint("look at that object; remove it only if this bucket is really the replica that you mean")
    })?;
    shared.generation.fetch_max(marker.generation, Ordering::Relaxed);
    Ok(Some((blob.tag, marker)))
}

pub(super) async fn identity(shared: &Shared) -> Result<Identity> {
    let marker = current(shared).await?.map(|(_, marker)| marker);
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
        let (cond, generation) = match current(shared).await? {
            None => (Cond::Absent, wanted.generation),
            Some((tag, now)) if now.id == wanted.id => (
                Cond::Is(tag),
                wanted.generation.max(now.generation.saturating_add(1)),
            ),
            Some((_, now)) => {
                let what = format!("is marked as replica {} and not {}", now.id, wanted.id);
                return Err(Fault::new(Kind::Changed, what, shared.store.label()));
            }
        };
        let marker = Marker {
            id: wanted.id.clone(),
            generation,
        };
        let bytes =
            serde_json::to_vec(&marker).map_err(|why| Fault::new(Kind::Bug, why.to_string(), MARKER))?;
        match write_whole(
            &*shared.store,
            &Key::new(MARKER)?,
            bytes.into(),
            Metadata::new(),
            cond,
        )
        .await
        {
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

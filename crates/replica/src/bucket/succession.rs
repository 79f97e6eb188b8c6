//! Whether what we had put into a bucket gave way to somebody who knew it (design D7). Asked only where a store has no conditional
//! writes: there a colleague who looked before we wrote puts his version over ours, or removes it, and neither of us is told.
//!
//! Invariant: "yes" has a proof: whoever replaces or removes something knowingly has put a copy of it into the trash before, so ours lies in
//! the trash of some run. What was not ours needs none.

use std::sync::Arc;

use syncline_model::{Kind, Observation, RelPath, Result, Slot, TrashRef};
use syncline_store::Blob;

use super::row::Row;
use super::{Shared, blobs, kept, lock, metadata, trash};

/// How many versions of one path are looked at in the trash of one run.
const GENERATIONS: usize = 16;

/// False when `was`, a version of ours at `path`, is gone and nobody is known to have seen it before.
pub(super) async fn gave_way(shared: &Shared, path: &RelPath, was: &Observation) -> Result<bool> {
    if shared.profile.conditional {
        return Ok(true);
    }
    let ours = shared.tables.own_row(&Slot::of(path, false)).await?;
    let Some(ours) = ours.filter(|row| row.tag == was.tag) else {
        return Ok(true);
    };
    for run in runs(shared).await?.iter().rev() {
        for generation in 0..GENERATIONS {
            let at = TrashRef {
                run: run.clone(),
                path: trash::generation_of(path, run, generation)?,
            };
            match kept::find(&*shared.store, &at).await {
                Ok(kept) if is_copy(shared, &ours, &kept.blob) => return Ok(true),
                Ok(_) => {}
                Err(fault) if fault.is(Kind::NotFound) => break,
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(false)
}

/// Names of the runs that have trash here, oldest first; asked once a scan.
async fn runs(shared: &Shared) -> Result<Arc<Vec<String>>> {
    if let Some(runs) = &*lock(&shared.trash_runs) {
        return Ok(runs.clone());
    }
    let runs = trash::runs(shared)
        .await?
        .into_iter()
        .map(|run| run.run)
        .collect();
    let runs = Arc::new(runs);
    *lock(&shared.trash_runs) = Some(Arc::clone(&runs));
    Ok(runs)
}

/// True when `blob` holds the bytes of the version that `ours` speaks of.
fn is_copy(shared: &Shared, ours: &Row, blob: &Blob) -> bool {
    if blob.size != ours.size() {
        return false;
    }
    let beside = blob.metadata.as_ref().and_then(metadata::digest);
    let digest = ours.entry.content().and_then(|content| content.digest);
    let md5 = blobs::md5_of(&*shared.store, blob);
    blob.tag == ours.tag || (beside.is_some() && beside == digest) || (md5.is_some() && md5 == ours.md5)
}

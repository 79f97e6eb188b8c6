//! What is neither file nor directory stands in a bucket as an object that only its row tells from a file; so the row comes first.
//!
//! Invariant: an announced row whose object never came is gone before the next scan tells of anything: else what a colleague puts there would be
//! taken for what was announced.

use bytes::Bytes;
use md5::{Digest, Md5};
use syncline_model::{Entry, Kind, RelPath, Result, Slot, Tag};

use super::Shared;
use super::blobs;
use super::edit::BucketEdit;
use super::row::Row;

/// Notes the row of a link or special file before its object comes to stand at `path`, where the store's tags allow: once that is flushed,
/// nobody takes the object for a file. Returns the slot of what is to be flushed.
pub(super) fn announce(
    shared: &Shared,
    path: &RelPath,
    entry: &Entry,
    md5: Option<[u8; 16]>,
) -> Result<Option<Slot>> {
    if entry.is_file() || md5.is_none() || !shared.store.caps().tag_is_md5 {
        return Ok(None);
    }
    let row = Row {
        slot: Slot::of(path, false),
        entry: entry.clone(),
        tag: Tag::None,
        md5,
        generation: shared.generation(),
        names: None,
    };
    shared.tables.announce(&row)?;
    Ok(Some(row.slot))
}

/// Returns when the row of what `bytes` will stand for is in a table.
pub(super) async fn durably(edit: &BucketEdit, path: &RelPath, entry: &Entry, bytes: &Bytes) -> Result<()> {
    if entry.is_file() {
        return Ok(());
    }
    let md5 = Some(Md5::digest(bytes).into());
    match announce(&edit.shared, path, entry, md5)? {
        Some(slot) => edit.shared.tables.flush_row(&slot).await,
        None => Ok(()),
    }
}

/// Takes back what dead runs of this device announced and did not bring.
pub(super) async fn withdraw(shared: &Shared) -> Result<()> {
    for slot in shared.tables.announced() {
        let slot = slot?;
        let waits = shared.tables.own_row(&slot).await?;
        let came = match waits.filter(|row| row.tag == Tag::None) {
            None => true,
            Some(row) => match shared.store.stat(&blobs::key_of(&slot.path())?).await {
                Err(fault) if fault.is(Kind::NotFound) => false,
                stands => {
                    let blob = stands?;
                    row.fits(&blob, blobs::md5_of(&*shared.store, &blob))
                }
            },
        };
        if came {
            shared.tables.came(&slot)?;
        } else {
            shared.tables.put(&slot, None)?;
        }
    }
    Ok(())
}

//! Reading objects: bytes that are pinned to the tag that was seen, and digests, from what is kept before any bytes travel.
//!
//! Invariant: bytes of another object than the expected one are never handed out; a body that ends early is an error.

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use syncline_model::{Content, Digest, Fault, Kind, Observation, RelPath, Result, Tag};
use syncline_store::{Key, Seen};

use super::metadata;
use super::{Shared, blobs};
use crate::seam::Body;

struct ObjectBody {
    seen: Box<dyn Seen>,
    left: u64,
    at: String,
}

#[async_trait]
impl Body for ObjectBody {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.seen.next().await? {
            Some(bytes) => {
                self.left = self
                    .left
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| wrong_length(&self.at))?;
                Ok(Some(bytes))
            }
            None if self.left > 0 => Err(wrong_length(&self.at)),
            None => Ok(None),
        }
    }

    /// The request was pinned to the tag, and the reply is one object's: nothing is left to ask.
    async fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

fn wrong_length(at: &str) -> Fault {
    Fault::new(
        Kind::Corrupt,
        "the store sent another length than it promised",
        at,
    )
    .retry(true)
}

struct Empty;

#[async_trait]
impl Body for Empty {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What vanished before it was read has changed since it was seen.
fn gone_is_changed(shared: &Shared, path: &RelPath, fault: Fault) -> Fault {
    if fault.is(Kind::NotFound) {
        shared
            .changed("was removed since it was seen", path)
            .because(fault)
    } else {
        fault
    }
}

pub(super) async fn read(
    shared: &Shared,
    path: &RelPath,
    expect: &Observation,
    from: u64,
) -> Result<Box<dyn Body>> {
    let size = expect.entry.size();
    if !expect.entry.is_file() {
        return Err(Fault::new(Kind::Invalid, "is no file", path));
    }
    open(shared, &blobs::key_of(path)?, Some(&expect.tag), size, from)
        .await
        .map_err(|f| gone_is_changed(shared, path, f))
}

/// Opens the object at `key` from byte `from` on; with a length that `size` gives.
pub(super) async fn open(
    shared: &Shared,
    key: &Key,
    tag: Option<&Tag>,
    size: u64,
    from: u64,
) -> Result<Box<dyn Body>> {
    let tag = tag.filter(|tag| **tag != Tag::None);
    if from >= size && size > 0 {
        return Ok(Box::new(Empty));
    }
    let range = (from > 0).then(|| (from, size - from));
    let seen = shared.store.get(key, range, tag).await?;
    if range.is_none() && seen.blob().size != size {
        let fault = Fault::new(
            Kind::Changed,
            "has another length than when it was seen",
            key.as_str().escape_debug(),
        );
        return Err(fault);
    }
    Ok(handed_out(seen, size - from, key))
}

/// A body of `left` bytes.
pub(super) fn handed_out(seen: Box<dyn Seen>, left: u64, key: &Key) -> Box<dyn Body> {
    let at = key.as_str().escape_debug().to_string();
    Box::new(ObjectBody { seen, left, at })
}

/// The digests of what `expect` saw: those that are known, else those that stand beside the object, else by reading.
pub(super) async fn digest(shared: &Shared, path: &RelPath, expect: &Observation) -> Result<Content> {
    let content = expect
        .entry
        .content()
        .ok_or_else(|| Fault::new(Kind::Invalid, "is no file", path))?;
    let key = blobs::key_of(path)?;
    let blob = shared
        .store
        .stat(&key)
        .await
        .map_err(|fault| gone_is_changed(shared, path, fault))?;
    if blob.size != content.size || (expect.tag != Tag::None && blob.tag != expect.tag) {
        return Err(shared.changed("was replaced since it was seen", path));
    }
    let beside = blob.metadata.clone().unwrap_or_default();
    let md5 = blobs::md5_of(&*shared.store, &blob).or_else(|| metadata::md5(&beside));
    let row = shared
        .row_of(
            path,
            &Observation {
                tag: blob.tag.clone(),
                ..expect.clone()
            },
        )
        .await?;
    let kept = row.and_then(|row| row.entry.content().and_then(|content| content.digest));
    let known = Content {
        size: blob.size,
        digest: kept.or_else(|| metadata::digest(&beside)),
        md5,
    };
    // An MD5 is wanted when the one who asks has one to compare with.
    if known.md5.is_some() || (known.digest.is_some() && content.md5.is_none()) {
        return Ok(known);
    }
    let mut body = open(shared, &key, Some(&blob.tag), blob.size, 0)
        .await
        .map_err(|f| gone_is_changed(shared, path, f))?;
    let (mut blake, mut md5) = (blake3::Hasher::new(), Md5::new());
    while let Some(bytes) = body.next().await? {
        blake.update(&bytes);
        md5.update(&bytes);
    }
    Ok(Content {
        size: blob.size,
        digest: Some(Digest(*blake.finalize().as_bytes())),
        md5: Some(md5.finalize().into()),
    })
}

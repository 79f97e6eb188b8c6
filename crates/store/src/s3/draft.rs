//! Bodies on their way out: one request for what is small, parts for the rest.
//!
//! Invariants: a draft holds at most one part that is being filled, and the store's slots bound the parts under way, so
//! memory is bounded whatever the size; a part that the server has is not sent again; nothing is visible before
//! `publish`; a success of ours whose answer was lost is recognised as ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::channel::oneshot;
use futures::future::{Either, select};
use http::Method;
use md5::{Digest as _, Md5};
use syncline_model::{Fault, Kind, Result, Tag};

use super::S3Store;
use super::request::{Ask, no_such_upload, quoted, tag, version};
use super::uploads::{self, Name, Part};
use crate::layers::meter::Request;
use crate::layers::retry::NONCE;
use crate::{Blob, Cond, Draft, Key, Store};

/// Most parts that an upload may have.
const PARTS_MAX: u64 = 10_000;
/// Size of a part when the whole is not known, times the smallest.
const UNKNOWN: usize = 4;

type Metadata = BTreeMap<String, String>;

struct Upload {
    id: String,
    /// Parts that the server has.
    done: BTreeMap<u32, Part>,
    under_way: Vec<(u32, oneshot::Receiver<Result<Part>>)>,
}

struct S3Draft {
    store: S3Store,
    key: Key,
    metadata: Metadata,
    part: usize,
    held: u64,
    taken: u64,
    size: Option<u64>,
    filling: BytesMut,
    next: u32,
    upload: Option<Upload>,
}

fn part_size(smallest: usize, size: Option<u64>) -> usize {
    let Some(size) = size else {
        return smallest * UNKNOWN;
    };
    let least = size.div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
    usize::try_from(least).unwrap_or(usize::MAX).max(smallest)
}

pub(crate) async fn begin(
    store: S3Store,
    key: Key,
    size: Option<u64>,
    metadata: Metadata,
    resume: Option<&str>,
) -> Result<Box<dyn Draft>> {
    let part = part_size(store.0.options.sizes.part, size);
    let mut draft = S3Draft {
        store,
        key,
        metadata,
        part,
        held: 0,
        taken: 0,
        size,
        filling: BytesMut::new(),
        next: 1,
        upload: None,
    };
    if let Some(name) = resume {
        draft.resume(Name::read(name)).await?;
    }
    Ok(Box::new(draft))
}

impl S3Draft {
    /// Takes over what an earlier process left: parts of one size without a gap; the rest it meets again later.
    async fn resume(&mut self, name: Name<'_>) -> Result<()> {
        let Some(done) = uploads::parts(&self.store, &self.key, name.id).await? else {
            return Ok(());
        };
        let first = done.get(&1).map(|part| part.size);
        if let Some(part) = name.part.or(first.and_then(|size| usize::try_from(size).ok())) {
            self.part = part.max(1);
        }
        for number in 1.. {
            let whole = done
                .get(&number)
                .is_some_and(|part| part.size == self.part as u64);
            if !whole {
                self.next = number;
                break;
            }
        }
        self.held = u64::from(self.next - 1) * self.part as u64;
        if self.size.is_some_and(|size| self.held > size) {
            // Of another content than this: begin anew.
            uploads::discard(&self.store, &self.key, name.id).await?;
            (self.held, self.next) = (0, 1);
            self.part = part_size(self.store.0.options.sizes.part, self.size);
            return Ok(());
        }
        self.taken = self.held;
        self.upload = Some(Upload {
            id: name.id.to_string(),
            done,
            under_way: Vec::new(),
        });
        Ok(())
    }

    /// Sends the part that is filled.
    async fn send_part(&mut self) -> Result<()> {
        let bytes = self.filling.split().freeze();
        if u64::from(self.next) > PARTS_MAX {
            let what = format!("an upload has at most {PARTS_MAX} parts");
            return Err(Fault::new(Kind::Unsupported, what, self.store.0.at(&self.key)));
        }
        if self.upload.is_none() {
            let patience = Arc::clone(&self.store.0.options.patience);
            let id = patience
                .run(|| uploads::begin(&self.store, &self.key, &self.metadata))
                .await?;
            self.upload = Some(Upload {
                id,
                done: BTreeMap::new(),
                under_way: Vec::new(),
            });
        }
        let number = self.next;
        self.next += 1;
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let md5: [u8; 16] = Md5::digest(&bytes).into();
        // A part that came through before the upload broke off, behind one that did not.
        let hex: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
        let had = |part: &Part| part.size == bytes.len() as u64 && tag(&part.etag) == tag(&hex);
        if upload.done.get(&number).is_some_and(had) {
            return Ok(());
        }
        upload.done.remove(&number);
        let closed = |_| Fault::new(Kind::Bug, "the slots for parts were closed", "");
        let slot = Arc::clone(&self.store.0.parts)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let (mut answer, receiver) = oneshot::channel();
        upload.under_way.push((number, receiver));
        let (store, key, id) = (self.store.clone(), self.key.clone(), upload.id.clone());
        self.store.0.options.world.spawn.spawn(Box::pin(async move {
            let _slot = slot;
            let patience = Arc::clone(&store.0.options.patience);
            let sent = patience.run(|| send_part(&store, &key, &id, number, &bytes, &md5));
            futures::pin_mut!(sent);
            // A draft that is dropped waits for no answer: what is under way ends.
            let sent = match select(sent, answer.cancellation()).await {
                Either::Left((sent, _)) => sent,
                Either::Right(_) => return,
            };
            let _ = answer.send(sent);
        }));
        self.collect(false).await
    }

    /// Takes in what parts have come to; `all`: waits for every one.
    async fn collect(&mut self, all: bool) -> Result<()> {
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let mut open = Vec::new();
        for (number, mut receiver) in std::mem::take(&mut upload.under_way) {
            let lost = |_| {
                Fault::new(
                    Kind::Cancelled,
                    "the upload was stopped",
                    self.key.as_str().escape_debug(),
                )
            };
            let answer = if all {
                Some((&mut receiver).await.map_err(lost)?)
            } else {
                receiver.try_recv().map_err(lost)?
            };
            match answer {
                Some(part) => {
                    upload.done.insert(number, part?);
                }
                None => open.push((number, receiver)),
            }
        }
        upload.under_way = open;
        Ok(())
    }

    async fn publish_small(self, only_if: &Cond) -> Result<Blob> {
        let bytes = self.filling.freeze();
        let md5: [u8; 16] = Md5::digest(&bytes).into();
        let size = bytes.len() as u64;
        let ask = Ask::new(Method::PUT, Request::Put, "write")
            .key(&self.key)
            .metadata(&self.metadata)?;
        let ask = self
            .store
            .condition(&self.key, only_if, ask.body(bytes, &md5))
            .await?;
        let headers = self
            .store
            .0
            .done(ask)
            .await
            .map_err(|fault| changed(fault, only_if))?;
        let mut blob = self.store.0.blob(&self.key, &headers, Some(size))?;
        if blob.md5.is_some_and(|said| said != md5) {
            let what = "write: the answer is that to other bytes";
            return Err(Fault::new(Kind::Corrupt, what, self.store.0.at(&self.key)).retry(true));
        }
        blob.md5 = blob.md5.or(Some(md5));
        blob.metadata = Some(self.metadata);
        Ok(blob)
    }

    async fn publish_parts(mut self, only_if: &Cond) -> Result<Blob> {
        if !self.filling.is_empty() {
            self.send_part().await?;
        }
        self.collect(true).await?;
        let Some(upload) = self.upload.take() else {
            return Err(Fault::new(Kind::Bug, "no parts", self.store.0.at(&self.key)));
        };
        let mut text =
            String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for number in 1..self.next {
            let part = upload.done.get(&number);
            let part = part.ok_or_else(|| {
                Fault::new(
                    Kind::Offline,
                    "write: a part did not arrive",
                    self.store.0.at(&self.key),
                )
                .retry(false)
            })?;
            let etag = super::xml::escape(&part.etag);
            text.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            ));
        }
        text.push_str("</CompleteMultipartUpload>");
        let body = Bytes::from(text);
        let patience = Arc::clone(&self.store.0.options.patience);
        let mut tried = 0;
        loop {
            let fault = match self.complete(&upload.id, &body, only_if).await {
                Ok(blob) => return Ok(blob),
                Err(fault) => fault,
            };
            // An upload that is gone may have been ended: by an attempt whose answer was lost, or by somebody on the way who asked twice.
            // What stands in our way can only have been made by an attempt whose answer was lost.
            if (no_such_upload(&fault) || tried > 0 && fault.is(Kind::Changed))
                && let Some(blob) = self.ours().await
            {
                return Ok(blob);
            }
            if fault.is(Kind::Changed) {
                uploads::discard(&self.store, &self.key, &upload.id).await.ok();
            }
            tried += 1;
            drop(patience.wait(changed(fault, only_if), tried).await?);
        }
    }

    async fn complete(&self, id: &str, body: &Bytes, only_if: &Cond) -> Result<Blob> {
        // Some stores check conditions on a write in one request and ignore them here: look, and ask as well.
        self.store.look(&self.key, only_if).await?;
        let ask = Ask::new(Method::POST, Request::Put, "end upload")
            .key(&self.key)
            .query("uploadId", id);
        let ask = ask
            .header("content-type", "application/xml")
            .body(body.clone(), &Md5::digest(body).into());
        let ask = self.store.conditional(&self.key, only_if, ask)?;
        let (headers, node) = self.store.0.xml(ask).await?;
        let tag = node.text("ETag").map_or(Tag::None, tag);
        Ok(Blob {
            size: self.taken,
            tag,
            modified: None,
            md5: None,
            metadata: Some(self.metadata.clone()),
            version: version(&headers),
        })
    }

    /// What stands there if this very draft made it.
    async fn ours(&self) -> Option<Blob> {
        let patience = Arc::clone(&self.store.0.options.patience);
        let blob = patience.run(|| self.store.stat(&self.key)).await.ok()?;
        let nonce = |metadata: &Metadata| metadata.get(NONCE).cloned();
        let theirs = blob.metadata.as_ref().and_then(nonce)?;
        (blob.size == self.taken && nonce(&self.metadata) == Some(theirs)).then_some(blob)
    }
}

/// Under a condition "not there" is "changed": what was expected is gone.
fn changed(mut fault: Fault, only_if: &Cond) -> Fault {
    if fault.is(Kind::NotFound) && matches!(only_if, Cond::Is(_)) && super::fault::code(&fault) == "NoSuchKey"
    {
        fault.kind = Kind::Changed;
    }
    fault
}

async fn send_part(
    store: &S3Store,
    key: &Key,
    id: &str,
    number: u32,
    bytes: &Bytes,
    md5: &[u8; 16],
) -> Result<Part> {
    let ask = Ask::new(Method::PUT, Request::Put, "write part")
        .key(key)
        .query("partNumber", &number.to_string());
    let headers = store
        .0
        .done(ask.query("uploadId", id).body(bytes.clone(), md5))
        .await?;
    let etag = headers
        .get("etag")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // Checks that it can be named again.
    quoted(&tag(etag), key)?;
    Ok(Part {
        size: bytes.len() as u64,
        etag: etag.to_string(),
    })
}

#[async_trait]
impl Draft for S3Draft {
    fn upload(&self) -> Option<String> {
        self.upload
            .as_ref()
            .map(|upload| Name::write(self.part, &upload.id))
    }

    fn held(&self) -> u64 {
        self.held
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        self.taken += bytes.len() as u64;
        while !bytes.is_empty() {
            // Full, and there is more: so a body of exactly one part still goes in one request.
            if self.filling.len() >= self.part {
                self.send_part().await?;
            }
            let room = self.part - self.filling.len();
            self.filling
                .extend_from_slice(&bytes.split_to(room.min(bytes.len())));
        }
        Ok(())
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        if self.size.is_some_and(|size| size != self.taken) {
            let what = format!(
                "write: {} bytes came and {} were promised",
                self.taken,
                self.size.unwrap_or(0)
            );
            return Err(Fault::new(Kind::Invalid, what, self.store.0.at(&self.key)));
        }
        if self.upload.is_none() {
            self.publish_small(&only_if).await
        } else {
            self.publish_parts(&only_if).await
        }
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        match &self.upload {
            Some(upload) => uploads::discard(&self.store, &self.key, &upload.id).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_large_enough_for_ten_thousand() {
        assert_eq!(part_size(8 << 20, Some(1)), 8 << 20);
        let terabytes = 4u64 << 40;
        assert!(part_size(8 << 20, Some(terabytes)) as u64 * PARTS_MAX >= terabytes);
        assert_eq!(part_size(8 << 20, None), 32 << 20);
    }
}

//! Bodies on their way in.
//!
//! Invariant: exactly the bytes that were asked for, of exactly the blob that was expected, or an error: too short, too
//! long, of another range, of another tag, or (where the tag is an MD5 and all was read) other bytes.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use md5::{Digest as _, Md5};
use syncline_model::{Fault, Kind, Result, Tag};

use super::S3Store;
use super::request::{Ask, quoted};
use crate::layers::meter::Request;
use crate::{Blob, Key, Seen, Version};

struct S3Seen {
    store: S3Store,
    key: Key,
    blob: Blob,
    body: Option<Incoming>,
    /// Bytes that a server sends which ignores ranges, and nobody asked for.
    skip: u64,
    left: u64,
    /// More may follow what was asked for: the server ignored the range.
    whole: bool,
    md5: Option<Md5>,
}

fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers
        .get("content-range")?
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

/// Opens `range` of a blob, if it is still the one `seen`; of a version of it where one is named.
pub(crate) async fn open(
    store: &S3Store,
    key: &Key,
    version: Option<&Version>,
    range: Option<(u64, u64)>,
    seen: Option<&Tag>,
) -> Result<Box<dyn Seen>> {
    if range.is_some_and(|(_, len)| len == 0) {
        return empty(store, key, version, seen).await;
    }
    let mut ask = Ask::new(Method::GET, Request::Get, "read")
        .key(key)
        .version(version);
    if let Some((start, len)) = range {
        ask = ask.header(
            "range",
            format!(
                "bytes={start}-{}",
                start.saturating_add(len - 1).min(i64::MAX as u64)
            ),
        );
    }
    if let Some(seen) = seen {
        ask = ask.header("if-match", quoted(seen, key)?);
    }
    let (head, body) = match store.0.send(ask).await {
        Ok(reply) => reply.into_parts(),
        Err(fault) if super::fault::status(&fault) == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
            return past_end(store, key, version, range, seen).await;
        }
        Err(fault) => return Err(fault),
    };
    let wrong =
        |what: &str| Err(Fault::new(Kind::Corrupt, format!("read: {what}"), store.0.at(key)).retry(true));
    let (blob, skip, left) = match (range, head.status) {
        (Some((start, len)), StatusCode::PARTIAL_CONTENT) => {
            let Some((first, last, total)) = content_range(&head.headers) else {
                return wrong("the reply does not say which part it is");
            };
            let end = start.saturating_add(len).min(total);
            if (first, last.checked_add(1)) != (start, Some(end)) {
                return wrong("another part than asked for came");
            }
            (store.0.blob(key, &head.headers, Some(total))?, 0, end - start)
        }
        (Some((start, len)), StatusCode::OK) => {
            let blob = store.0.blob(key, &head.headers, None)?;
            let end = start.saturating_add(len).min(blob.size);
            (blob, start, end.saturating_sub(start))
        }
        (None, StatusCode::OK) => {
            let blob = store.0.blob(key, &head.headers, None)?;
            let size = blob.size;
            (blob, 0, size)
        }
        _ => return wrong("a reply of another kind came"),
    };
    check_tag(store, key, &blob, seen)?;
    // Only a tag is proof here: an MD5 in the metadata is somebody's word.
    let md5 = (range.is_none() && blob.md5.is_some() && blob.md5 == store.0.md5(&blob.tag)).then(Md5::new);
    let whole = range.is_some() && head.status == StatusCode::OK;
    Ok(Box::new(S3Seen {
        store: store.clone(),
        key: key.clone(),
        blob,
        body: Some(body),
        skip,
        left,
        whole,
        md5,
    }))
}

/// The server may have ignored the condition: its own tag in the reply decides.
fn check_tag(store: &S3Store, key: &Key, blob: &Blob, seen: Option<&Tag>) -> Result<()> {
    match seen {
        Some(seen) if blob.tag != *seen => Err(Fault::new(
            Kind::Changed,
            "read: something else is there now",
            store.0.at(key),
        )),
        _ => Ok(()),
    }
}

async fn empty(
    store: &S3Store,
    key: &Key,
    version: Option<&Version>,
    seen: Option<&Tag>,
) -> Result<Box<dyn Seen>> {
    let blob = store.ask_for(key, version).await?;
    check_tag(store, key, &blob, seen)?;
    let store = store.clone();
    Ok(Box::new(S3Seen {
        store,
        key: key.clone(),
        blob,
        body: None,
        skip: 0,
        left: 0,
        whole: false,
        md5: None,
    }))
}

async fn past_end(
    store: &S3Store,
    key: &Key,
    version: Option<&Version>,
    range: Option<(u64, u64)>,
    seen: Option<&Tag>,
) -> Result<Box<dyn Seen>> {
    let nothing = empty(store, key, version, seen).await?;
    if range.is_some_and(|(start, _)| start > nothing.blob().size) {
        return Err(Fault::new(
            Kind::Invalid,
            "read: begins behind the end",
            store.0.at(key),
        ));
    }
    Ok(nothing)
}

impl S3Seen {
    fn broken(&self, what: &str) -> Fault {
        Fault::new(Kind::Corrupt, format!("read: {what}"), self.store.0.at(&self.key)).retry(true)
    }

    fn take(&mut self, mut bytes: Bytes) -> Result<Bytes> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        drop(bytes.split_to(skipped));
        if bytes.len() as u64 > self.left {
            if !self.whole {
                return Err(self.broken("more bytes came than promised"));
            }
            bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        }
        self.left -= bytes.len() as u64;
        if let Some(md5) = &mut self.md5 {
            md5.update(&bytes);
        }
        Ok(bytes)
    }
}

#[async_trait]
impl Seen for S3Seen {
    fn blob(&self) -> &Blob {
        &self.blob
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.left == 0 && (self.whole || self.body.is_none()) {
                self.body = None;
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                return Err(self.broken("the body is at its end"));
            };
            let next = match self.store.0.next(body).await {
                Ok(next) => next,
                Err(mut fault) => {
                    self.body = None;
                    fault.what = format!("read: {}", fault.what);
                    return Err(fault.at(self.store.0.at(&self.key)));
                }
            };
            match next {
                Some(bytes) => {
                    let bytes = self.take(bytes)?;
                    // The last bytes are handed out only when they are proved.
                    if self.left == 0
                        && let Some(md5) = self.md5.take()
                        && Some(<[u8; 16]>::from(md5.finalize())) != self.blob.md5
                    {
                        return Err(self.broken("the bytes are not those of the tag"));
                    }
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                None => {
                    self.body = None;
                    if self.left > 0 {
                        return Err(self.broken("the body ended early"));
                    }
                    return Ok(None);
                }
            }
        }
    }
}

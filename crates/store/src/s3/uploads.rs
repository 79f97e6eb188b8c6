//! Uploads in parts: beginning, listing, giving up, and the name by which one is resumed.

use std::collections::BTreeMap;

use http::Method;
use syncline_model::{Fault, Kind, Result};

use super::S3Store;
use super::listing::{codes_names, decoded, is_coded};
use super::request::{Ask, no_such_upload};
use crate::Key;
use crate::layers::meter::Request;

/// The name of an upload as callers keep it: `size of a part.id`, or the bare id as the server lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) part: Option<usize>,
    pub(crate) id: &'a str,
}

impl<'a> Name<'a> {
    pub(crate) fn read(text: &'a str) -> Self {
        match text.strip_prefix("part-").and_then(|rest| rest.split_once('.')) {
            Some((part, id)) if part.parse::<usize>().is_ok() => Self {
                part: part.parse().ok(),
                id,
            },
            _ => Self { part: None, id: text },
        }
    }

    pub(crate) fn write(part: usize, id: &str) -> String {
        format!("part-{part}.{id}")
    }
}

/// A part that the server holds.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) size: u64,
    pub(crate) etag: String,
}

/// Begins an upload and returns its id.
pub(crate) async fn begin(store: &S3Store, key: &Key, metadata: &BTreeMap<String, String>) -> Result<String> {
    let ask = Ask::new(Method::POST, Request::Put, "begin upload")
        .key(key)
        .query("uploads", "")
        .metadata(metadata)?;
    let (_, node) = store.0.xml(ask).await?;
    let id = node
        .text("UploadId")
        .filter(|id| !id.is_empty())
        .map(str::to_string);
    id.ok_or_else(|| {
        Fault::new(
            Kind::Corrupt,
            "begin upload: the reply names no upload",
            store.0.at(key),
        )
    })
}

/// The parts that the server holds, by number; `None` when the upload is gone.
pub(crate) async fn parts(store: &S3Store, key: &Key, id: &str) -> Result<Option<BTreeMap<u32, Part>>> {
    let mut parts = BTreeMap::new();
    let mut marker = 0u32;
    loop {
        let mut ask = Ask::new(Method::GET, Request::List, "list parts")
            .key(key)
            .query("max-parts", "1000");
        if marker > 0 {
            ask = ask.query("part-number-marker", &marker.to_string());
        }
        let (_, node) = match store.0.xml(ask.query("uploadId", id)).await {
            Ok(reply) => reply,
            Err(fault) if no_such_upload(&fault) || fault.is(Kind::NotFound) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        for part in node.all("Part") {
            let number = part.text("PartNumber").and_then(|text| text.trim().parse().ok());
            let size = part.text("Size").and_then(|text| text.trim().parse().ok());
            if let (Some(number), Some(size), Some(etag)) = (number, size, part.text("ETag")) {
                parts.insert(
                    number,
                    Part {
                        size,
                        etag: etag.to_string(),
                    },
                );
            }
        }
        let last = parts.keys().next_back().copied().unwrap_or(0);
        if node.text("IsTruncated").is_none_or(|text| text.trim() != "true") {
            return Ok(Some(parts));
        }
        if last <= marker {
            return Err(Fault::new(
                Kind::Corrupt,
                "list parts: the listing does not go on",
                store.0.at(key),
            )
            .retry(true));
        }
        marker = last;
    }
}

/// All unfinished uploads below `under`.
pub(crate) async fn unfinished(store: &S3Store, under: &str) -> Result<Vec<(Key, String)>> {
    let prefix = format!("{}{under}", store.0.target.prefix);
    let mut found = Vec::new();
    let mut marker: Option<(String, String)> = None;
    loop {
        let mut ask = Ask::new(Method::GET, Request::List, "list uploads");
        if codes_names(store).await? {
            ask = ask.query("encoding-type", "url");
        }
        if let Some((key, id)) = &marker {
            ask = ask.query("key-marker", key);
            ask = ask.query("upload-id-marker", id);
        }
        if !prefix.is_empty() {
            ask = ask.query("prefix", &prefix);
        }
        let (_, node) = store.0.xml(ask.query("uploads", "")).await?;
        let coded = is_coded(&node);
        for upload in node.all("Upload") {
            let (Some(key), Some(id)) = (upload.text("Key"), upload.text("UploadId")) else {
                continue;
            };
            let full = decoded(key, coded)?;
            // Servers that list without regard to the prefix name others' uploads too.
            let Some(rest) = full
                .strip_prefix(&prefix)
                .map(|_| &full[store.0.target.prefix.len()..])
            else {
                continue;
            };
            if let Ok(key) = Key::new(rest) {
                found.push((key, id.to_string()));
            }
        }
        if node.text("IsTruncated").is_none_or(|text| text.trim() != "true") {
            return Ok(found);
        }
        let next = match (node.text("NextKeyMarker"), node.text("NextUploadIdMarker")) {
            (Some(key), Some(id)) => Some((decoded(key, coded)?, id.to_string())),
            _ => None,
        };
        if next.is_none() || next == marker {
            let what = "list uploads: the listing does not go on";
            return Err(Fault::new(Kind::Corrupt, what, &store.0.target.label).retry(true));
        }
        marker = next;
    }
}

/// Gives an upload up.
pub(crate) async fn discard(store: &S3Store, key: &Key, id: &str) -> Result<()> {
    let ask = Ask::new(Method::DELETE, Request::Delete, "give up upload")
        .key(key)
        .query("uploadId", id);
    match store.0.done(ask).await {
        Err(fault) if no_such_upload(&fault) || fault.is(Kind::NotFound) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_uploads_round_trip() {
        assert_eq!(
            Name::read(&Name::write(8, "a.b")),
            Name {
                part: Some(8),
                id: "a.b"
            }
        );
        assert_eq!(
            Name::read("part-x.b"),
            Name {
                part: None,
                id: "part-x.b"
            }
        );
        assert_eq!(
            Name::read("2~abc"),
            Name {
                part: None,
                id: "2~abc"
            }
        );
    }
}

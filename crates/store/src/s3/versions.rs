//! Versions of objects that were replaced or removed, on buckets that keep them.
//!
//! Invariant: a version that is gone is `NotFound`, by whatever words the server says so; what stands at a key is never removed by
//! its version.

use std::collections::BTreeMap;

use http::Method;
use syncline_model::{Fault, Kind, Result};

use super::S3Store;
use super::fault::code;
use super::request::{self, Ask};
use crate::layers::meter::Request;
use crate::{Blob, Cond, Key, Store, Version};

/// Servers call a version that they do not keep missing, or its name a wrong one.
pub(crate) fn gone(mut fault: Fault) -> Fault {
    if code(&fault) == "NoSuchVersion" || (code(&fault) == "InvalidArgument" && fault.is(Kind::Invalid)) {
        fault.kind = Kind::NotFound;
    }
    fault
}

pub(crate) async fn reuse(
    store: &S3Store,
    from: &Key,
    version: &Version,
    to: &Key,
    cond: Cond,
    metadata: Option<BTreeMap<String, String>>,
) -> Result<Blob> {
    if !store.0.caps.reuse {
        let what = "copy: this store was not seen to copy";
        return Err(Fault::new(Kind::Unsupported, what, store.0.at(from)));
    }
    // As with any copy, few stores check the target.
    store.look(to, &cond).await?;
    let source = format!(
        "{}?versionId={}",
        store.source(from),
        request::strictly(&version.0)
    );
    let ask = Ask::new(Method::PUT, Request::Copy, "copy")
        .key(to)
        .header("x-amz-copy-source", source);
    store.finish_copy(ask, to, &cond, metadata).await.map_err(gone)
}

pub(crate) async fn remove(store: &S3Store, key: &Key, version: &Version) -> Result<()> {
    match store.stat(key).await {
        Ok(blob) if blob.version.as_ref() == Some(version) => {
            let what = "remove version: it is what stands there";
            return Err(Fault::new(Kind::Changed, what, store.0.at(key)));
        }
        Err(fault) if !fault.is(Kind::NotFound) => return Err(fault),
        _ => {}
    }
    let ask = Ask::new(Method::DELETE, Request::Delete, "remove version")
        .key(key)
        .version(Some(version));
    match store.0.done(ask).await.map_err(gone) {
        Err(fault) if fault.is(Kind::NotFound) && code(&fault) != "NoSuchBucket" => Ok(()),
        result => result.map(drop),
    }
}

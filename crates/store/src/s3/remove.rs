//! Removals.
//!
//! Invariant: one result for each key, in order; what the server did not name as failed is removed.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use http::{Method, StatusCode};
use md5::{Digest as _, Md5};
use syncline_model::{Fault, Kind, Result};

use super::S3Store;
use super::fault::refusal;
use super::request::{Ask, quoted};
use super::xml::{carries, escape};
use crate::layers::meter::Request;
use crate::{Cond, Key};

/// Most keys in one request.
const BATCH: usize = 1000;
/// Single removals under way at once.
const ABREAST: usize = 8;

pub(crate) async fn remove(store: &S3Store, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
    let mut results: BTreeMap<usize, Result<()>> = BTreeMap::new();
    let plain = |(key, cond): &(Key, Cond)| *cond == Cond::Any && carries(&store.0.full(key));
    let (mut together, mut single): (Vec<usize>, Vec<usize>) =
        (0..keys.len()).partition(|&at| plain(&keys[at]));
    if together.len() == 1 {
        single.append(&mut together);
    }
    for batch in together.chunks(BATCH) {
        let named: Vec<&Key> = batch.iter().map(|&at| &keys[at].0).collect();
        results.extend(batch.iter().copied().zip(remove_batch(store, &named).await));
    }
    let each = stream::iter(
        single
            .into_iter()
            .map(|at| async move { (at, remove_one(store, &keys[at]).await) }),
    );
    results.extend(each.buffer_unordered(ABREAST).collect::<Vec<_>>().await);
    results.into_values().collect()
}

async fn remove_one(store: &S3Store, (key, cond): &(Key, Cond)) -> Result<()> {
    let mut ask = Ask::new(Method::DELETE, Request::Delete, "remove").key(key);
    match cond {
        Cond::Any => {}
        Cond::Is(tag) if store.0.caps.remove_if_is => ask = ask.header("if-match", quoted(tag, key)?),
        Cond::Is(_) => store.look(key, cond).await?,
        // Nothing is to be removed that is not there.
        Cond::Absent => return store.look(key, cond).await,
    }
    match store.0.done(ask).await {
        Err(fault) if fault.is(Kind::NotFound) && super::fault::code(&fault) != "NoSuchBucket" => {
            match cond {
                Cond::Any => Ok(()),
                _ => Err(Fault::new(Kind::Changed, "remove: it is gone", store.0.at(key))),
            }
        }
        result => result.map(drop),
    }
}

/// Removes keys that XML can carry, in one request.
async fn remove_batch(store: &S3Store, keys: &[&Key]) -> Vec<Result<()>> {
    let mut text =
        String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for key in keys {
        text.push_str("<Object><Key>");
        text.push_str(&escape(&store.0.full(key)));
        text.push_str("</Key></Object>");
    }
    text.push_str("</Delete>");
    let ask = Ask::new(Method::POST, Request::Delete, "remove").query("delete", "");
    let ask = ask
        .header("content-type", "application/xml")
        .body(text.clone().into(), &Md5::digest(&text).into());
    let (headers, node) = match store.0.xml(ask).await {
        Ok(reply) => reply,
        Err(fault) => {
            let copy = |key: &&Key| {
                let mut copy = Fault::new(fault.kind, fault.what.clone(), store.0.at(key)).retry(fault.retry);
                copy.hint = fault.hint.clone();
                Err(copy)
            };
            return keys.iter().map(copy).collect();
        }
    };
    let mut failed = BTreeMap::new();
    for error in node.all("Error") {
        failed.insert(error.text("Key").unwrap_or_default(), error);
    }
    let result = |key: &&Key| match failed.get(store.0.full(key).as_str()) {
        None => Ok(()),
        Some(error) => {
            let status = match error.text("Code") {
                Some("NoSuchKey") => return Ok(()),
                Some("AccessDenied") => StatusCode::FORBIDDEN,
                Some("SlowDown" | "ServiceUnavailable") => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Err(refusal("remove", store.0.at(key), status, &headers, Some(error)))
        }
    };
    keys.iter().map(result).collect()
}

//! What a reply other than success means: status and code to [`Fault`].
//!
//! Invariant: this is the one place where S3's codes are mapped; no fault repeats a header of ours.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use syncline_model::{Fault, Kind};

use super::xml::Node;
use crate::layers::Pause;

/// What the server said.
#[derive(Debug, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    message: String,
    #[source]
    pause: Option<Pause>,
}

/// The code of the refusal below `fault`, if there is one.
pub(crate) fn code(fault: &Fault) -> &str {
    let refusal = fault
        .source
        .as_ref()
        .and_then(|source| source.downcast_ref::<Refusal>());
    refusal.map_or("", |refusal| refusal.code.as_str())
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Maps a reply that is no success. `node` is its body, where there is one.
pub(crate) fn refusal(
    what: &str,
    at: impl std::fmt::Display,
    status: StatusCode,
    headers: &HeaderMap,
    node: Option<&Node>,
) -> Fault {
    let text = |name: &str| {
        node.and_then(|node| node.text(name))
            .map(printable)
            .unwrap_or_default()
    };
    let (code, message) = (text("Code"), text("Message"));
    let seconds = headers
        .get(http::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let pause = seconds.map(|seconds| Pause(Duration::from_secs(seconds)));
    let (kind, retry, hint) = meaning(status, &code, headers);
    let said = if code.is_empty() {
        status.to_string()
    } else {
        format!("{} {code}", status.as_u16())
    };
    let fault = Fault::new(kind, format!("{what}: {said}"), at).retry(retry);
    let fault = match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    };
    fault.because(Refusal {
        status,
        code,
        message,
        pause,
    })
}

fn meaning(status: StatusCode, code: &str, headers: &HeaderMap) -> (Kind, bool, Option<String>) {
    let region = headers
        .get("x-amz-bucket-region")
        .and_then(|value| value.to_str().ok())
        .map(printable);
    let hint = |text: &str| Some(text.to_string());
    match (status.as_u16(), code) {
        (_, "NoSuchBucket") => (
            Kind::NotFound,
            false,
            hint("no such bucket there: check its name and the endpoint"),
        ),
        (_, "ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException") => (
            Kind::Denied,
            true,
            hint("the session token has expired: renew the credentials"),
        ),
        (_, "RequestTimeTooSkewed") => (
            Kind::Denied,
            false,
            hint("this host's clock differs from the store's: set it"),
        ),
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => (
            Kind::Denied,
            false,
            hint("check the access key and secret, and the region"),
        ),
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException")
        | (301 | 302 | 303 | 307 | 308, _) => {
            let region = region.map_or("the bucket's own".to_string(), |region| format!("'{region}'"));
            (
                Kind::Invalid,
                false,
                Some(format!(
                    "the bucket lies elsewhere: use region {region} (redirects are not followed)"
                )),
            )
        }
        (_, "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage") | (507, _) => {
            (Kind::Full, false, None)
        }
        (_, "RequestTimeout" | "InternalError" | "BadDigest" | "IncompleteBody") => {
            (Kind::Offline, true, None)
        }
        (_, "OperationAborted") => (Kind::Busy, true, None),
        (_, "EntityTooLarge" | "NotImplemented") | (405 | 501, _) => (Kind::Unsupported, false, None),
        (404, _) => (Kind::NotFound, false, None),
        (409 | 412, _) => (Kind::Changed, false, None),
        (401 | 403, _) => (Kind::Denied, false, hint("the credentials do not permit this")),
        (429 | 503, _) => (Kind::Busy, true, None),
        (500..=599, _) => (Kind::Offline, true, None),
        (304, _) => (Kind::Corrupt, true, None),
        _ => (Kind::Invalid, false, None),
    }
}

/// The status of the refusal below `fault`, if there is one.
pub(crate) fn status(fault: &Fault) -> Option<StatusCode> {
    let refusal = fault
        .source
        .as_ref()
        .and_then(|source| source.downcast_ref::<Refusal>());
    refusal.map(|refusal| refusal.status)
}

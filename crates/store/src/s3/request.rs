//! Requests to one bucket: names, signing, sending, and what replies say of a blob.
//!
//! Invariant: every request of the store goes out here, is counted here, and fails here with the key and what was tried.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::lock::Mutex;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use reqsign_aws_v4::Credential;
use reqsign_core::Signer;
use syncline_model::{Fault, Kind, Result, Tag, Time};
use tokio::sync::{OnceCell, Semaphore};

use super::config::{S3Options, Target, resolve};
use super::fault::{code, refusal};
use super::wire::Wire;
use super::xml::Node;
use crate::layers::meter::Request;
use crate::url::S3Place;
use crate::{Blob, Caps, Key, Version};

/// Longest reply that is read as a whole: a page of a thousand keys of a kibibyte, every byte of them escaped.
const REPLY_MAX: usize = 16 << 20;
const METADATA: &str = "x-amz-meta-";

/// A request before it is signed.
pub(crate) struct Ask {
    method: Method,
    kind: Request,
    what: &'static str,
    key: Option<Key>,
    query: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Ask {
    pub(crate) fn new(method: Method, kind: Request, what: &'static str) -> Self {
        Self {
            method,
            kind,
            what,
            key: None,
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn key(mut self, key: &Key) -> Self {
        self.key = Some(key.clone());
        self
    }

    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        let joint = if self.query.is_empty() { '?' } else { '&' };
        let _ = write!(self.query, "{joint}{name}={}", strictly(value));
        self
    }

    /// Of a version of what stands or stood at the key.
    pub(crate) fn version(self, version: Option<&Version>) -> Self {
        match version {
            Some(Version(name)) => self.query("versionId", name),
            None => self,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_string(), value.into()));
        self
    }

    pub(crate) fn metadata(mut self, metadata: &BTreeMap<String, String>) -> Result<Self> {
        for (name, value) in metadata {
            let token = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            // Signatures and servers fold blanks; what would not come back as it is, is refused.
            let plain = value.bytes().all(|b| (b' '..=b'~').contains(&b))
                && value.trim() == value
                && !value.contains("  ");
            if !token || !plain {
                let what = format!(
                    "metadata '{}' cannot be kept: plain ASCII without doubled blanks can",
                    name.escape_debug()
                );
                return Err(Fault::new(Kind::Invalid, what, ""));
            }
            self = self.header(&format!("{METADATA}{}", name.to_ascii_lowercase()), value.clone());
        }
        Ok(self)
    }

    pub(crate) fn body(mut self, body: Bytes, md5: &[u8; 16]) -> Self {
        self.body = body;
        self.header("content-md5", base64(md5))
    }
}

/// What is known of one bucket.
pub(crate) struct Core {
    pub(crate) target: Arc<Target>,
    pub(crate) options: S3Options,
    pub(crate) caps: Caps,
    /// One slot for each part under way.
    pub(crate) parts: Arc<Semaphore>,
    wire: Wire,
    signer: Arc<Mutex<Signer<Credential>>>,
    place: S3Place,
    /// Whether the store checks the source of a copy; asked when first needed.
    pub(crate) copy_checks: Arc<OnceCell<bool>>,
    /// Whether a listing that says that its names are encoded tells the truth; asked when first needed.
    pub(crate) codes_names: Arc<OnceCell<bool>>,
}

impl Core {
    pub(crate) async fn open(place: &S3Place, options: S3Options, caps: Caps) -> Result<Self> {
        let wire = Wire::new(options.world.clone(), options.sizes.stall, options.meter.clone())?;
        let (target, signer) = resolve(place, &options, &wire).await?;
        let parts = Arc::new(Semaphore::new(options.sizes.parts_in_flight.max(1)));
        let signer = Arc::new(Mutex::new(signer));
        Ok(Self {
            target: Arc::new(target),
            options,
            caps,
            parts,
            wire,
            signer,
            place: place.clone(),
            copy_checks: Arc::default(),
            codes_names: Arc::default(),
        })
    }

    pub(crate) fn with_caps(&self, caps: Caps) -> Self {
        Self {
            target: Arc::clone(&self.target),
            options: self.options.clone(),
            caps,
            parts: Arc::clone(&self.parts),
            wire: self.wire.clone(),
            signer: Arc::clone(&self.signer),
            place: self.place.clone(),
            copy_checks: Arc::clone(&self.copy_checks),
            codes_names: Arc::clone(&self.codes_names),
        }
    }

    /// The key with this store's prefix before it.
    pub(crate) fn full(&self, key: &Key) -> String {
        format!("{}{}", self.target.prefix, key.as_str())
    }

    /// The place of a key, for messages.
    pub(crate) fn at(&self, key: &Key) -> String {
        format!("{}/{}", self.target.label, key.as_str().escape_debug())
    }

    /// Signs and sends; anything but success is a fault.
    pub(crate) async fn send(&self, ask: Ask) -> Result<Response<Incoming>> {
        let at = ask
            .key
            .as_ref()
            .map_or_else(|| self.target.label.clone(), |key| self.at(key));
        let (what, head_only) = (ask.what, ask.method == Method::HEAD);
        self.options.meter.request(ask.kind);
        let named = |mut fault: Fault| {
            fault.what = format!("{what}: {}", fault.what);
            fault.at(&at)
        };
        let request = self.signed(ask).await.map_err(named)?;
        let reply = self.wire.send(request).await.map_err(named)?;
        if matches!(
            reply.status(),
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NO_CONTENT
        ) {
            return Ok(reply);
        }
        let (head, body) = reply.into_parts();
        let text = if head_only {
            Vec::new()
        } else {
            self.wire.all(body, 256 << 10).await.unwrap_or_default()
        };
        let node = Node::read(&text).ok();
        let fault = refusal(what, at, head.status, &head.headers, node.as_ref());
        if fault.retry && fault.is(Kind::Denied) {
            self.forget_credentials().await;
        }
        Err(fault)
    }

    /// A token that has expired before its time is not used again: the next request asks its source.
    async fn forget_credentials(&self) {
        if let Ok((_, signer)) = resolve(&self.place, &self.options, &self.wire).await {
            *self.signer.lock().await = signer;
        }
    }

    /// Sends and reads the reply as XML. An error in a reply that began with success is a fault as well.
    pub(crate) async fn xml(&self, ask: Ask) -> Result<(HeaderMap, Node)> {
        let at = ask
            .key
            .as_ref()
            .map_or_else(|| self.target.label.clone(), |key| self.at(key));
        let what = ask.what;
        let (head, body) = self.send(ask).await?.into_parts();
        let text = self
            .wire
            .all(body, REPLY_MAX)
            .await
            .map_err(|fault| fault.at(&at))?;
        let node = Node::read(&text).map_err(|fault| fault.at(&at))?;
        if node.name() == "Error" {
            let late = match node.text("Code") {
                Some("PreconditionFailed") => StatusCode::PRECONDITION_FAILED,
                Some("ConditionalRequestConflict") => StatusCode::CONFLICT,
                Some("NoSuchUpload" | "NoSuchKey") => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            return Err(refusal(what, at, late, &head.headers, Some(&node)));
        }
        Ok((head.headers, node))
    }

    /// Sends a request whose reply's body says nothing.
    pub(crate) async fn done(&self, ask: Ask) -> Result<HeaderMap> {
        let (head, body) = self.send(ask).await?.into_parts();
        // Read to its end, so that the connection can be used again.
        self.wire.all(body, 64 << 10).await?;
        Ok(head.headers)
    }

    /// The next bytes of a reply.
    pub(crate) async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>> {
        self.wire.next(body).await
    }

    async fn signed(&self, ask: Ask) -> Result<http::Request<Bytes>> {
        let path = match &ask.key {
            Some(key) => format!("{}{}", self.target.root, encoded(&self.full(key))),
            // The bucket itself: without a "/" behind it, which some servers take for a key.
            None if self.target.root.len() > 1 => self.target.root.trim_end_matches('/').to_string(),
            None => self.target.root.clone(),
        };
        let wrong = |error: &dyn std::fmt::Display| {
            Fault::new(Kind::Invalid, format!("cannot be asked: {error}"), "")
        };
        let uri = format!("{}{path}{}", self.target.base, ask.query);
        let mut request = http::Request::builder().method(ask.method).uri(uri);
        for (name, value) in &ask.headers {
            request = request.header(
                name.as_str(),
                HeaderValue::from_str(value).map_err(|error| wrong(&error))?,
            );
        }
        let (mut head, body) = request
            .body(ask.body)
            .map_err(|error| wrong(&error))?
            .into_parts();
        let signer = self.signer.lock().await.clone();
        signer.sign(&mut head, None).await.map_err(|error| {
            let fault = Fault::new(Kind::Denied, "no usable credentials", "");
            let hint =
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws/credentials";
            // The error's own text may quote what its source said; its kind is enough.
            fault.hint(hint).because(format!("{:?}", error.kind()))
        })?;
        Ok(http::Request::from_parts(head, body))
    }

    /// What the headers of a reply say of a blob. `size`: when they do not tell it themselves.
    pub(crate) fn blob(&self, key: &Key, headers: &HeaderMap, size: Option<u64>) -> Result<Blob> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let said = text("content-length").and_then(|text| text.parse().ok());
        let Some(size) = size.or(said) else {
            return Err(Fault::new(
                Kind::Corrupt,
                "the reply does not tell the size",
                self.at(key),
            ));
        };
        let mut metadata = BTreeMap::new();
        for (name, value) in headers {
            if let Some(name) = name.as_str().strip_prefix(METADATA) {
                metadata.insert(
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                );
            }
        }
        let modified = text("last-modified").and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
        let modified = modified.map(|zoned| time(zoned.timestamp()));
        // With a key of its own the service's tag is no MD5 of what we read.
        let own_key = headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
            || text("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:"));
        let tag = text("etag").map_or(Tag::None, tag);
        let md5 = if own_key { None } else { self.md5(&tag) };
        let kept = metadata.get("md5chksum").and_then(|text| unbase64(text));
        Ok(Blob {
            size,
            md5: md5.or(kept),
            tag,
            modified,
            metadata: Some(metadata),
            version: version(headers),
        })
    }

    /// The MD5 that a tag is, where this store's tags are.
    pub(crate) fn md5(&self, tag: &Tag) -> Option<[u8; 16]> {
        let Tag::Store(bytes) = tag else { return None };
        if self.caps.tag_is_md5 { unhex(bytes) } else { None }
    }
}

/// The version that a reply speaks of. The one called "null" is replaced without a trace once versioning is suspended.
pub(crate) fn version(headers: &HeaderMap) -> Option<Version> {
    let text = headers.get("x-amz-version-id")?.to_str().ok()?;
    (!text.is_empty() && text != "null").then(|| Version(text.into()))
}

/// A listing's time.
pub(crate) fn time(stamp: jiff::Timestamp) -> Time {
    let nanos = stamp.as_nanosecond();
    let secs = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    Time {
        secs,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

/// An ETag as a tag: without quotes and without the mark of a weak one.
pub(crate) fn tag(etag: &str) -> Tag {
    let bare = etag.trim().trim_start_matches("W/").trim_matches('"');
    if bare.is_empty() {
        Tag::None
    } else {
        Tag::Store(bare.as_bytes().into())
    }
}

/// A tag as an ETag in a header.
pub(crate) fn quoted(tag: &Tag, key: &Key) -> Result<String> {
    match tag {
        Tag::Store(bytes) if bytes.iter().all(|b| (0x21..=0x7e).contains(b) && *b != b'"') => {
            Ok(format!("\"{}\"", String::from_utf8_lossy(bytes)))
        }
        _ => Err(Fault::new(
            Kind::Invalid,
            "not a tag of this store",
            key.as_str().escape_debug(),
        )),
    }
}

/// A key as a path: everything but letters, digits, `-`, `_`, `~`, `.` and `/` by number, and dots too where a
/// component is nothing but dots, lest somebody on the way takes it for a step up.
pub(crate) fn encoded(key: &str) -> String {
    let part = |part: &str| {
        if part == "." || part == ".." {
            part.replace('.', "%2E")
        } else {
            strictly(part)
        }
    };
    key.split('/').map(part).collect::<Vec<_>>().join("/")
}

pub(crate) fn strictly(text: &str) -> String {
    const SET: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, &SET).to_string()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of an MD5.
pub(crate) fn base64(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(24);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let six = (word >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= three.len() {
                char::from(ALPHABET[six])
            } else {
                '='
            });
        }
    }
    text
}

fn unbase64(text: &str) -> Option<[u8; 16]> {
    let body = text.strip_suffix("==").filter(|body| body.len() == 22)?;
    let mut bits = 0u128;
    let mut last = 0;
    for (at, byte) in body.bytes().enumerate() {
        let six = ALPHABET.iter().position(|&b| b == byte)?;
        if at == 21 {
            bits = bits << 2 | (six as u128 >> 4);
            last = six & 15;
        } else {
            bits = bits << 6 | six as u128;
        }
    }
    (last == 0).then(|| bits.to_be_bytes())
}

fn unhex(bytes: &[u8]) -> Option<[u8; 16]> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut md5 = [0; 16];
    if bytes.len() != 32 {
        return None;
    }
    for (byte, two) in md5.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = digit(two[0])? << 4 | digit(two[1])?;
    }
    Some(md5)
}

/// True when the upload is no longer there.
pub(crate) fn no_such_upload(fault: &Fault) -> bool {
    code(fault) == "NoSuchUpload"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_every_byte() {
        assert_eq!(encoded(" a//../b /\u{1}+ü%"), "%20a//%2E%2E/b%20/%01%2B%C3%BC%25");
        assert_eq!(encoded("/x/"), "/x/");
    }

    #[test]
    fn base64_and_hex_of_md5() {
        let md5: [u8; 16] = std::array::from_fn(|at| (at * 37 + 3) as u8);
        assert_eq!(unbase64(&base64(&md5)), Some(md5));
        assert_eq!(
            base64(&[
                0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0, 0xb2, 4, 0xe9, 0x80, 9, 0x98, 0xec, 0xf8, 0x42, 0x7e
            ]),
            "1B2M2Y8AsgTpgAmY7PhCfg=="
        );
        assert_eq!(
            unhex(b"d41d8cd98f00b204e9800998ecf8427e")
                .map(|md5| base64(&md5))
                .as_deref(),
            Some("1B2M2Y8AsgTpgAmY7PhCfg==")
        );
        assert_eq!(unhex(b"d41d8cd98f00b204e9800998ecf8427e-2"), None);
    }

    #[test]
    fn tags_lose_their_quotes() {
        assert_eq!(tag("W/\"abc\""), Tag::Store(b"abc".as_slice().into()));
        assert_eq!(tag("\"\""), Tag::None);
    }
}

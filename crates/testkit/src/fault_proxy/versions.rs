//! What stood under each key as far as it came through, so that an older version can be served again.

use std::collections::BTreeMap;

use super::message::Message;

/// Longer bodies are not kept.
const KEPT_MAX: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Versions(BTreeMap<String, Vec<Message>>);

fn name(request: &Message) -> String {
    let path = request.path();
    path.split('?').next().unwrap_or(path).to_string()
}

impl Versions {
    /// Notes what a read or a write of a whole object tells of it.
    pub(super) fn note(&mut self, request: &Message, reply: &Message) {
        let whole = reply.status() == 200 && !request.path().contains('?');
        let body = match request.method() {
            "GET" => &reply.body,
            "PUT" if request.header("x-amz-copy-source").is_none() => &request.body,
            _ => return,
        };
        let Some(etag) = reply.header("etag").filter(|_| whole && body.len() <= KEPT_MAX) else {
            return;
        };
        let mut version = Message {
            first: "HTTP/1.1 200 OK".into(),
            ..Message::default()
        };
        let told = request.headers.iter().chain(&reply.headers);
        version.headers = told
            .filter(|(name, _)| name.starts_with("x-amz-meta-"))
            .cloned()
            .collect();
        version.set("etag", etag);
        version.replace_body(body.clone());
        let known = self.0.entry(name(request)).or_default();
        if known.last().is_none_or(|last| last.header("etag") != Some(etag)) {
            known.push(version);
        }
    }

    /// The reply that a place would have given that has not heard of the newest version; `None` where none is known.
    pub(super) fn before(&self, request: &Message, now: &Message) -> Option<Message> {
        let known = self.0.get(&name(request))?;
        let older = known
            .iter()
            .rev()
            .find(|version| version.header("etag") != now.header("etag"))?;
        let mut reply = older.clone();
        if let Some(range) = request.header("range") {
            let total = reply.body.len();
            let (first, last) = range.trim_start_matches("bytes=").split_once('-')?;
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            let end = (last + 1).min(total);
            let part = reply.body.get(first..end)?.to_vec();
            reply.first = "HTTP/1.1 206 Partial Content".into();
            reply.set("content-range", &format!("bytes {first}-{}/{total}", end - 1));
            reply.replace_body(part);
        }
        if request.method() == "HEAD" {
            reply.body.clear();
        }
        Some(reply)
    }
}

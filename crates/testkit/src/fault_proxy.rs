//! A proxy before an S3 server that lets things go wrong on the wire, by script.
//!
//! Invariants: what no rule names passes unchanged; a rule fires exactly as often as it says and each firing is counted;
//! what happened before an effect and what happened after it are different kinds.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::s3_server::Endpoint;

/// What goes wrong on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// 503 SlowDown before any effect, with or without `Retry-After` in seconds.
    SlowDown(Option<u64>),
    /// 429 before any effect.
    TooMany,
    /// 500 before any effect.
    ErrorBefore,
    /// 500 after the effect.
    ErrorAfter,
    /// 403 ExpiredToken.
    Expired,
    /// 403 RequestTimeTooSkewed.
    Skewed,
    /// 403 AccessDenied.
    Forbidden,
    /// 404 for a key that is there.
    Missing,
    /// 404 NoSuchUpload.
    UploadGone,
    /// 409 before any effect.
    Conflict,
    /// 412 before any effect.
    Precondition,
    /// 304 that nobody asked for.
    NotModified,
    /// 400 AuthorizationHeaderMalformed with another region in a header.
    OtherRegion,
    /// 307 to this place.
    Redirect(String),
    /// Reset before the request is passed on.
    ResetBefore,
    /// Reset after the effect: the answer is lost.
    ResetAfter,
    /// The body is reset behind this many bytes.
    ResetAt(usize),
    /// The connection ends in the middle of the body, in good order.
    Truncated,
    /// The head promises fewer bytes than the body has.
    ShortLength,
    /// The right length, other bytes.
    OtherBytes,
    /// The whole object for a range.
    RangeIgnored,
    /// Another part than asked for, and says so.
    OtherRange,
    /// Another tag in the head.
    OtherTag,
    /// One byte at a time.
    Trickle,
    /// A success whose body is an error.
    LateError,
    /// The page that was served before comes again.
    PageAgain,
    /// The next page is this one.
    TokenLoop,
    /// There is more, but not where.
    TokenMissing,
    /// The entries of the page are in another order.
    Unsorted,
    /// A document that grows when it is read.
    EntityBomb,
    /// A document without an end in sight.
    Huge,
    /// A key that is not UTF-8.
    BadUtf8,
}

impl Wire {
    fn before_effect(&self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::SlowDown(_) => (503, "SlowDown"),
            Self::TooMany => (429, "TooManyRequests"),
            Self::ErrorBefore => (500, "InternalError"),
            Self::Expired => (403, "ExpiredToken"),
            Self::Skewed => (403, "RequestTimeTooSkewed"),
            Self::Forbidden => (403, "AccessDenied"),
            Self::Missing => (404, "NoSuchKey"),
            Self::UploadGone => (404, "NoSuchUpload"),
            Self::Conflict => (409, "ConditionalRequestConflict"),
            Self::Precondition => (412, "PreconditionFailed"),
            Self::NotModified => (304, ""),
            Self::OtherRegion => (400, "AuthorizationHeaderMalformed"),
            Self::Redirect(_) => (307, "TemporaryRedirect"),
            _ => return None,
        })
    }
}

/// Which requests go wrong, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method; empty: any.
    pub method: &'static str,
    /// Part of the path with its query; empty: any.
    pub has: String,
    /// So many such requests pass first.
    pub skip: u64,
    /// And then so many go wrong.
    pub times: u64,
    /// How.
    pub wrong: Wire,
}

impl Rule {
    /// The next request of this kind goes wrong once.
    pub fn once(method: &'static str, has: &str, wrong: Wire) -> Self {
        Self {
            method,
            has: has.to_string(),
            skip: 0,
            times: 1,
            wrong,
        }
    }
}

/// What came through.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Requests by method and path with query.
    pub requests: Vec<(String, String)>,
    /// Bytes of bodies that came from clients.
    pub body_bytes: u64,
    /// Faults that were made.
    pub made: BTreeMap<Wire, u64>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    traffic: Traffic,
    last_page: Vec<u8>,
}

/// A running proxy; ends when dropped.
pub struct FaultProxy {
    /// Where it answers, with the server's own keys.
    pub endpoint: Endpoint,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

impl FaultProxy {
    /// Starts one before `server`.
    pub async fn start(server: &Endpoint) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state: Arc<Mutex<State>> = Arc::default();
        let upstream = server.url.trim_start_matches("http://").to_string();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                let (shared, upstream) = (Arc::clone(&shared), upstream.clone());
                open.spawn(async move {
                    // A connection that ends is how most faults here end.
                    let _ = connection(client, &upstream, &shared).await;
                });
                while open.try_join_next().is_some() {}
            }
        });
        let endpoint = Endpoint {
            url,
            ..server.clone()
        };
        Ok(Self {
            endpoint,
            state,
            accepting: accepting.abort_handle(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule. The first that fits fires.
    pub fn rule(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// From now on all is well.
    pub fn heal(&self) {
        self.state().rules.clear();
    }

    /// What came through so far.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic.clone()
    }

    /// How often this went wrong so far.
    pub fn made(&self, wrong: &Wire) -> u64 {
        self.state().traffic.made.get(wrong).copied().unwrap_or(0)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A head and a body, of a request or a reply.
struct Message {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers
            .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self.headers.push((name.to_string(), value.to_string()));
    }

    fn head(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        (text + "\r\n").into_bytes()
    }

    fn whole(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }

    fn status(&self) -> u16 {
        self.first
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn replace_body(&mut self, body: Vec<u8>) {
        self.set("content-length", &body.len().to_string());
        self.body = body;
    }
}

struct Reader<'a> {
    socket: &'a mut TcpStream,
    buffer: &'a mut Vec<u8>,
}

impl Reader<'_> {
    async fn more(&mut self) -> io::Result<()> {
        if self.socket.read_buf(self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                let mut taken = std::mem::replace(self.buffer, rest);
                taken.truncate(at);
                return Ok(taken);
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < len {
            self.more().await?;
        }
        let rest = self.buffer.split_off(len);
        Ok(std::mem::replace(self.buffer, rest))
    }

    /// Reads a message; `bodiless`: a reply that has a length but no body.
    async fn message(&mut self, bodiless: bool) -> io::Result<Message> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n").await?).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_string();
        let header = |line: &str| {
            line.split_once(':')
                .map(|(name, value)| (name.to_string(), value.trim().to_string()))
        };
        let mut message = Message {
            first,
            headers: lines.filter_map(header).collect(),
            body: Vec::new(),
        };
        if bodiless {
            return Ok(message);
        }
        if message
            .header("transfer-encoding")
            .is_some_and(|value| value.contains("chunked"))
        {
            loop {
                let size = self.until(b"\r\n").await?;
                let size = String::from_utf8_lossy(&size);
                let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                message.body.extend(self.exactly(size).await?);
                self.until(b"\r\n").await?;
                if size == 0 {
                    break;
                }
            }
            message
                .headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
            let body = std::mem::take(&mut message.body);
            message.replace_body(body);
        } else if let Some(len) = message
            .header("content-length")
            .and_then(|text| text.parse().ok())
        {
            message.body = self.exactly(len).await?;
        }
        Ok(message)
    }
}

/// Finds the rule that fires for this request.
fn fate(state: &Mutex<State>, request: &Message) -> Option<Wire> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = request.first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    state
        .traffic
        .requests
        .push((method.to_string(), path.to_string()));
    state.traffic.body_bytes += request.body.len() as u64;
    let fits = |rule: &&mut Rule| {
        (rule.method.is_empty() || rule.method == method) && path.contains(&rule.has) && rule.times > 0
    };
    let rule = state.rules.iter_mut().find(fits)?;
    if rule.skip > 0 {
        rule.skip -= 1;
        return None;
    }
    rule.times -= 1;
    let wrong = rule.wrong.clone();
    *state.traffic.made.entry(wrong.clone()).or_default() += 1;
    Some(wrong)
}

fn refusal(wrong: &Wire, status: u16, code: &str, head_only: bool) -> Message {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>");
    let body = if head_only || status == 304 {
        Vec::new()
    } else {
        body.into_bytes()
    };
    let mut reply = Message {
        first: format!("HTTP/1.1 {status} Injected"),
        headers: Vec::new(),
        body: Vec::new(),
    };
    reply.replace_body(body);
    match wrong {
        Wire::SlowDown(Some(seconds)) => reply.set("retry-after", &seconds.to_string()),
        Wire::Redirect(place) => reply.set("location", place),
        Wire::OtherRegion => reply.set("x-amz-bucket-region", "eu-elsewhere-1"),
        _ => {}
    }
    reply
}

async fn connection(mut client: TcpStream, upstream: &str, state: &Mutex<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    loop {
        let mut request = Reader {
            socket: &mut client,
            buffer: &mut from_client,
        }
        .message(false)
        .await?;
        let head_only = request.first.starts_with("HEAD ");
        let wrong = fate(state, &request);
        if let Some(wrong) = &wrong {
            if let Some((status, code)) = wrong.before_effect() {
                client
                    .write_all(&refusal(wrong, status, code, head_only).whole())
                    .await?;
                continue;
            }
            if *wrong == Wire::ResetBefore {
                return reset(client);
            }
            if *wrong == Wire::RangeIgnored {
                // The signature covers the header; the server must not see that it was there at all.
                return whole_instead(client, upstream, &request).await;
            }
        }
        request.set("connection", "keep-alive");
        server.write_all(&request.whole()).await?;
        let mut reply = Reader {
            socket: &mut server,
            buffer: &mut from_server,
        }
        .message(head_only)
        .await?;
        if matches!(reply.status(), 204 | 304) {
            reply.body.clear();
        }
        let is_page = reply.text().contains("<ListBucketResult");
        let fresh = reply.body.clone();
        match wrong {
            None => client.write_all(&reply.whole()).await?,
            Some(wrong) => {
                if spoil(&mut client, &wrong, reply, head_only, state)
                    .await?
                    .is_break()
                {
                    return reset(client);
                }
            }
        }
        if is_page {
            state.lock().unwrap_or_else(PoisonError::into_inner).last_page = fresh;
        }
    }
}

/// Answers a ranged read with all of the object: read in pieces, since the signature binds the range that was asked for.
async fn whole_instead(mut client: TcpStream, upstream: &str, request: &Message) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request.whole()).await?;
    let mut buffer = Vec::new();
    let reply = Reader {
        socket: &mut server,
        buffer: &mut buffer,
    }
    .message(false)
    .await?;
    let range = reply
        .header("content-range")
        .unwrap_or_default()
        .trim_start_matches("bytes ")
        .to_string();
    let (part, total) = range.split_once('/').unwrap_or(("0-0", "0"));
    let start: usize = part
        .split('-')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let total: usize = total.parse().unwrap_or(0);
    // What lies outside of the range is nobody's business: zeros, so that a reader that takes it is found out.
    let mut body = vec![0; start];
    body.extend_from_slice(&reply.body);
    body.resize(total, 0);
    let mut whole = Message {
        first: "HTTP/1.1 200 OK".into(),
        headers: reply.headers,
        body: Vec::new(),
    };
    whole
        .headers
        .retain(|(name, _)| !name.eq_ignore_ascii_case("content-range"));
    whole.replace_body(body);
    client.write_all(&whole.whole()).await
}

fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()?;
    drop(client);
    Ok(())
}

use std::ops::ControlFlow;

/// Sends the reply, spoiled. `Break`: the connection is to be reset.
async fn spoil(
    client: &mut TcpStream,
    wrong: &Wire,
    mut reply: Message,
    head_only: bool,
    state: &Mutex<State>,
) -> io::Result<ControlFlow<()>> {
    let replaced = |text: String| text.into_bytes();
    match wrong {
        Wire::ErrorAfter => reply = refusal(wrong, 500, "InternalError", head_only),
        Wire::ResetAfter => return Ok(ControlFlow::Break(())),
        Wire::ResetAt(at) => {
            client.write_all(&reply.head()).await?;
            client
                .write_all(&reply.body[..(*at).min(reply.body.len())])
                .await?;
            client.flush().await?;
            // The bytes go out before the reset overtakes them: what was sent is read on the other side first or lost.
            return Ok(ControlFlow::Break(()));
        }
        Wire::Truncated => {
            client.write_all(&reply.head()).await?;
            client.write_all(&reply.body[..reply.body.len() / 2]).await?;
            client.shutdown().await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Wire::ShortLength => {
            let less = reply.body.len() / 2;
            reply.body.truncate(less);
            reply.set("content-length", &less.to_string());
        }
        Wire::OtherBytes => {
            if let Some(byte) = reply.body.last_mut() {
                *byte ^= 1;
            }
        }
        Wire::OtherRange => {
            let len = reply.body.len();
            reply.set("content-range", &format!("bytes 1-{len}/{}", len + 1));
        }
        Wire::OtherTag => reply.set("etag", "\"another\""),
        Wire::Trickle => {
            client.write_all(&reply.head()).await?;
            for byte in &reply.body {
                client.write_all(&[*byte]).await?;
            }
            return Ok(ControlFlow::Continue(()));
        }
        Wire::LateError => {
            let body = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>injected</Message></Error>";
            reply.replace_body(body.as_bytes().to_vec());
        }
        Wire::PageAgain => {
            let page = state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .last_page
                .clone();
            reply.replace_body(page);
        }
        Wire::TokenLoop => reply.replace_body(replaced(with_token(&reply.text(), Some("loop")))),
        Wire::TokenMissing => reply.replace_body(replaced(with_token(&reply.text(), None))),
        Wire::Unsorted => reply.replace_body(replaced(swapped(&reply.text()))),
        Wire::EntityBomb => {
            let text = "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><ListBucketResult><Prefix>&b;</Prefix></ListBucketResult>";
            reply.replace_body(text.as_bytes().to_vec());
        }
        Wire::Huge => reply.replace_body(vec![b' '; 20 << 20]),
        Wire::BadUtf8 => {
            let text = reply.text().replacen("<Key>", "<Key>%FF", 1);
            reply.replace_body(replaced(text));
        }
        _ => {}
    }
    client.write_all(&reply.whole()).await?;
    Ok(ControlFlow::Continue(()))
}

/// A page that says that there is more.
fn with_token(page: &str, token: Option<&str>) -> String {
    let page = page.replace("<IsTruncated>false", "<IsTruncated>true");
    let mut page = match (
        page.find("<NextContinuationToken>"),
        page.find("</NextContinuationToken>"),
    ) {
        (Some(start), Some(end)) => format!(
            "{}{}",
            &page[..start],
            &page[end + "</NextContinuationToken>".len()..]
        ),
        _ => page,
    };
    if let (Some(token), Some(at)) = (token, page.rfind("</ListBucketResult>")) {
        page.insert_str(
            at,
            &format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        );
    }
    page
}

/// A page whose first two entries have changed places.
fn swapped(page: &str) -> String {
    let entry = |from: usize| {
        let start = from + page[from..].find("<Contents>")?;
        let end = start + page[start..].find("</Contents>")? + "</Contents>".len();
        Some((start, end))
    };
    let Some((a, b)) = entry(0) else {
        return page.to_string();
    };
    let Some((c, d)) = entry(b) else {
        return page.to_string();
    };
    format!(
        "{}{}{}{}{}",
        &page[..a],
        &page[c..d],
        &page[b..c],
        &page[a..b],
        &page[d..]
    )
}

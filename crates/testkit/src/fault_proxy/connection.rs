//! One connection of a client: each request meets its fate, and is passed on or not.

use std::io;

use md5::{Digest as _, Md5};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Shared;
use super::message::{Message, Reader, gone};
use super::spoil::spoil;
use super::wire::Wire;

/// Finds the rule that fires for this request.
fn fate(shared: &Shared, request: &Message) -> Option<Wire> {
    let mut state = shared.state();
    let (method, path) = (request.method(), request.path());
    state
        .traffic
        .requests
        .push((method.to_string(), path.to_string()));
    state.traffic.body_bytes += request.body.len() as u64;
    let wrong = state.chosen(method, path)?;
    *state.traffic.made.entry(wrong.clone()).or_default() += 1;
    Some(wrong)
}

pub(super) fn refusal(wrong: &Wire, status: u16, code: &str, head_only: bool) -> Message {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>");
    let body = if head_only || status == 304 {
        Vec::new()
    } else {
        body.into_bytes()
    };
    let mut reply = Message {
        first: format!("HTTP/1.1 {status} Injected"),
        ..Message::default()
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

/// The success that a server would answer with.
fn success(request: &Message) -> Message {
    let mut reply = Message {
        first: "HTTP/1.1 200 OK".into(),
        ..Message::default()
    };
    match request.method() {
        "DELETE" => reply.first = "HTTP/1.1 204 No Content".into(),
        "PUT" => {
            let md5 = Md5::digest(&request.body);
            let hex: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
            reply.set("etag", &format!("\"{hex}\""));
            reply.replace_body(Vec::new());
        }
        _ => reply.replace_body(
            b"<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></DeleteResult>".to_vec(),
        ),
    }
    reply
}

/// A client, the server behind it, and what was read of both and not yet used.
pub(super) struct Line {
    client: TcpStream,
    server: TcpStream,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
}

/// Serves `client` until it goes, or until what goes wrong ends the connection.
pub(super) async fn connection(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut line = Line {
        server: TcpStream::connect(&shared.upstream).await?,
        client,
        from_client: Vec::new(),
        from_server: Vec::new(),
    };
    line.client.set_nodelay(true)?;
    line.server.set_nodelay(true)?;
    let mut pool = shared.pool.subscribe();
    loop {
        let request = tokio::select! {
            request = line.request() => request?,
            _ = pool.changed() => return reset(line.client),
        };
        let wrong = fate(shared, &request);
        if let Some(wrong) = &wrong
            && let Before::Answered = line.before(wrong, &request, shared).await?
        {
            shared.answered();
            continue;
        }
        match wrong {
            Some(Wire::ResetBefore) => return reset(line.client),
            // The signature covers the header; the server must not see that it was there at all.
            Some(Wire::RangeIgnored) => return whole_instead(line.client, shared, &request).await,
            wrong => {
                if line.pass_on(request, wrong, shared).await? {
                    return reset(line.client);
                }
            }
        }
        shared.answered();
    }
}

/// What became of a request before it was passed on.
enum Before {
    Answered,
    PassOn,
}

impl Line {
    async fn request(&mut self) -> io::Result<Message> {
        let mut reader = Reader {
            socket: &mut self.client,
            buffer: &mut self.from_client,
        };
        reader.message(false).await
    }

    /// What goes wrong before any effect.
    async fn before(&mut self, wrong: &Wire, request: &Message, shared: &Shared) -> io::Result<Before> {
        let head_only = request.method() == "HEAD";
        if let Some((status, code)) = wrong.before_effect() {
            let refused = refusal(wrong, status, code, head_only);
            self.client.write_all(&refused.whole()).await?;
            return Ok(Before::Answered);
        }
        match wrong {
            Wire::SilentBefore => return gone(&mut self.client).await,
            Wire::ContinueOnly => {
                self.client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                return gone(&mut self.client).await;
            }
            Wire::AckedOnly | Wire::AckedLate => {
                if *wrong == Wire::AckedLate {
                    shared.state().late.push(request.clone());
                }
                self.client.write_all(&success(request).whole()).await?;
                return Ok(Before::Answered);
            }
            Wire::HeldBack(others) => {
                let mut answers = shared.answers.subscribe();
                let enough = *answers.borrow() + others;
                tokio::select! {
                    _ = answers.wait_for(|now| *now >= enough) => {}
                    left = gone::<()>(&mut self.client) => left?,
                }
            }
            Wire::Meanwhile => {
                let act = shared.state().meanwhile.clone();
                if let Some(act) = act {
                    act().await;
                }
            }
            _ => {}
        }
        Ok(Before::PassOn)
    }

    async fn ask_server(&mut self, request: &Message) -> io::Result<Message> {
        self.server.write_all(&request.whole()).await?;
        let mut reader = Reader {
            socket: &mut self.server,
            buffer: &mut self.from_server,
        };
        let mut reply = reader.message(request.method() == "HEAD").await?;
        if matches!(reply.status(), 204 | 304) {
            reply.body.clear();
        }
        Ok(reply)
    }

    /// Passes a request on and answers. True: the connection is to be reset.
    async fn pass_on(
        &mut self,
        mut request: Message,
        wrong: Option<Wire>,
        shared: &Shared,
    ) -> io::Result<bool> {
        request.set("connection", "keep-alive");
        let mut reply = self.ask_server(&request).await?;
        if wrong == Some(Wire::Twice) {
            reply = self.ask_server(&request).await?;
        }
        // Before the client has its answer: its next request may come at once.
        let earlier = shared.state().remember(&request, &reply);
        let head_only = request.method() == "HEAD";
        match wrong {
            None => self.client.write_all(&reply.whole()).await?,
            Some(Wire::SilentAfter) => return gone(&mut self.client).await,
            Some(Wire::OthersAnswer) => {
                self.client.write_all(&earlier.answer.whole()).await?;
                self.client.shutdown().await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(Wire::Stale) => {
                if earlier.version.is_none() {
                    *shared.state().traffic.made.entry(Wire::Stale).or_default() -= 1;
                }
                let stale = earlier.version.unwrap_or(reply);
                self.client.write_all(&stale.whole()).await?;
            }
            Some(Wire::PageAgain) => {
                reply.replace_body(earlier.page);
                self.client.write_all(&reply.whole()).await?;
            }
            Some(wrong) => {
                let broken = spoil(&mut self.client, &wrong, reply, head_only).await?;
                if wrong == Wire::PoolDead {
                    shared.pool.send_modify(|times| *times += 1);
                }
                return Ok(broken.is_break());
            }
        }
        Ok(false)
    }
}

/// Answers a ranged read with all of the object: read in pieces, since the signature binds the range that was asked for.
async fn whole_instead(mut client: TcpStream, shared: &Shared, request: &Message) -> io::Result<()> {
    let reply = shared.alone(request).await?;
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
        ..reply
    };
    whole.remove("content-range");
    whole.replace_body(body);
    client.write_all(&whole.whole()).await
}

fn reset(client: TcpStream) -> io::Result<()> {
    client.set_zero_linger()?;
    drop(client);
    Ok(())
}

//! One connection of a client: each request meets its fate, and is passed on or not.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::message::{Message, Reader};
use super::spoil::spoil;
use super::wire::Wire;
use super::{Rule, State};

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

pub(super) async fn connection(
    mut client: TcpStream,
    upstream: &str,
    state: &Mutex<State>,
) -> io::Result<()> {
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

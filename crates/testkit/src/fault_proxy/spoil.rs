//! Replies that are sent other than they came.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::State;
use super::connection::refusal;
use super::message::Message;
use super::pages::{swapped, with_token};
use super::wire::Wire;

/// Sends the reply, spoiled. `Break`: the connection is to be reset.
pub(super) async fn spoil(
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

//! Replies that are sent other than they came.

use std::io;
use std::ops::ControlFlow;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connection::refusal;
use super::message::{Message, gone};
use super::pages::{cut, doubled, swapped, with_token};
use super::wire::Wire;

/// Sends the reply, spoiled. `Break`: the connection is to be reset.
pub(super) async fn spoil(
    client: &mut TcpStream,
    wrong: &Wire,
    mut reply: Message,
    head_only: bool,
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
        Wire::PageCut => reply.replace_body(replaced(cut(&reply.text()))),
        Wire::Doubled => reply.replace_body(replaced(doubled(&reply.text()))),
        Wire::NoTag => reply.remove("etag"),
        Wire::OtherChecksum => {
            reply.set("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
            reply.set("x-amz-checksum-crc32", "AAAAAA==");
        }
        Wire::OtherSize => {
            let size: u64 = reply
                .header("content-length")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            reply.set("content-length", &(size + 1).to_string());
        }
        Wire::ExtraBytes => reply.extra = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmore".to_vec(),
        Wire::StopsInBody => {
            client.write_all(&reply.head()).await?;
            client.write_all(&reply.body[..reply.body.len() / 2]).await?;
            return gone(client).await;
        }
        Wire::Chunked => {
            reply.remove("content-length");
            reply.set("transfer-encoding", "chunked");
            client.write_all(&reply.head()).await?;
            for byte in &reply.body {
                client
                    .write_all(&[b"1\r\n", &[*byte][..], b"\r\n"].concat())
                    .await?;
            }
            client.write_all(b"0\r\n\r\n").await?;
            return Ok(ControlFlow::Continue(()));
        }
        _ => {}
    }
    client.write_all(&reply.whole()).await?;
    Ok(ControlFlow::Continue(()))
}

//! Heads and bodies as they come over a connection: read whole, changed, and written again.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A head and a body, of a request or a reply.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) first: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Bytes behind the body that belong to nothing.
    pub(super) extra: Vec<u8>,
}

impl Message {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_string(), value.to_string()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers
            .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
    }

    /// The method of a request.
    pub(super) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// The path of a request with its query.
    pub(super) fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        (text + "\r\n").into_bytes()
    }

    pub(super) fn whole(&self) -> Vec<u8> {
        [self.head(), self.body.clone(), self.extra.clone()].concat()
    }

    pub(super) fn status(&self) -> u16 {
        self.first
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn replace_body(&mut self, body: Vec<u8>) {
        self.set("content-length", &body.len().to_string());
        self.body = body;
    }
}

pub(super) struct Reader<'a> {
    pub(super) socket: &'a mut TcpStream,
    pub(super) buffer: &'a mut Vec<u8>,
}

impl Reader<'_> {
    pub(super) async fn more(&mut self) -> io::Result<()> {
        if self.socket.read_buf(self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    pub(super) async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
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

    pub(super) async fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < len {
            self.more().await?;
        }
        let rest = self.buffer.split_off(len);
        Ok(std::mem::replace(self.buffer, rest))
    }

    /// Reads a message; `bodiless`: a reply that has a length but no body.
    pub(super) async fn message(&mut self, bodiless: bool) -> io::Result<Message> {
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
            ..Message::default()
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

/// Waits until the other side has gone: how a connection ends on which no answer comes.
pub(super) async fn gone<T>(socket: &mut TcpStream) -> io::Result<T> {
    let mut ignored = [0; 1 << 12];
    while socket.read(&mut ignored).await? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

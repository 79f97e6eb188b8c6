//! HTTP: one request out, one reply in.
//!
//! Invariants: no redirect is followed (security rule SK4); names in a path are sent exactly as given; a connection on
//! which nothing moves is given up; TLS is rustls with ring and the system's certificates, nothing else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use syncline_model::{Fault, Kind, Result, Spawn};

use crate::layers::Meter;
use crate::world::World;

/// Bytes of a body that are handed to the connection at once.
const SLICE: usize = 128 << 10;

/// A body on its way out, whose progress can be watched.
pub(crate) struct Sending {
    left: Bytes,
    moved: Arc<AtomicU64>,
    meter: Meter,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.left.len().min(SLICE);
        let slice = self.left.split_to(len);
        self.moved.fetch_add(len as u64, Ordering::Relaxed);
        self.meter.sent(len);
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[derive(Clone)]
struct Spawning(Arc<dyn Spawn>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawning {
    fn execute(&self, task: F) {
        self.0.spawn(Box::pin(task));
    }
}

/// A pool of connections.
#[derive(Clone)]
pub(crate) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Sending>,
    world: World,
    stall: Duration,
    meter: Meter,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(crate) fn new(world: World, stall: Duration, meter: Meter) -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(15)));
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| {
                Fault::new(Kind::Invalid, "the system's certificates cannot be read", "").because(error)
            })?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(Spawning(Arc::clone(&world.spawn)))
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(tls);
        Ok(Self {
            client,
            world,
            stall,
            meter,
        })
    }

    /// Sends one request and returns the head of the reply.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>> {
        let moved = Arc::new(AtomicU64::new(0));
        let server = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let request = request.map(|left| Sending {
            left,
            moved: Arc::clone(&moved),
            meter: self.meter.clone(),
        });
        let reply = self.client.request(request);
        let reply = self.watched(&moved, reply).await?;
        reply.map_err(|error| {
            let text = chain(&error);
            let trust = text.contains("certificate");
            let fault = Fault::new(Kind::Offline, format!("no reply from {server}: {text}"), "")
                .retry(!trust)
                .because(error);
            if trust {
                fault.hint(
                    "the server's certificate is not trusted: check the endpoint, the clock, SSL_CERT_FILE",
                )
            } else {
                fault.hint("check the endpoint and the network; run again once it answers")
            }
        })
    }

    /// The next bytes of a reply's body; `None` at the end.
    pub(crate) async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>> {
        loop {
            let frame = self.watched(&AtomicU64::new(0), body.frame()).await?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.meter.received(bytes.len());
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    let what = format!("the reply broke off: {}", chain(&error));
                    return Err(Fault::new(Kind::Offline, what, "").because(error));
                }
            }
        }
    }

    /// A whole body of at most `max` bytes.
    pub(crate) async fn all(&self, mut body: Incoming, max: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next(&mut body).await? {
            if all.len() + bytes.len() > max {
                return Err(Fault::new(
                    Kind::Corrupt,
                    format!("the reply is longer than {max} bytes"),
                    "",
                ));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// Waits for `future` as long as something moves.
    async fn watched<T>(&self, moved: &AtomicU64, future: impl Future<Output = T>) -> Result<T> {
        futures::pin_mut!(future);
        let mut before = moved.load(Ordering::Relaxed);
        loop {
            match select(future.as_mut(), self.world.clock.sleep(self.stall)).await {
                Either::Left((value, _)) => return Ok(value),
                Either::Right(_) => {
                    let now = moved.load(Ordering::Relaxed);
                    if now == before {
                        let what = format!("nothing moved for {} s", self.stall.as_secs());
                        return Err(Fault::new(Kind::Offline, what, ""));
                    }
                    before = now;
                }
            }
        }
    }
}

/// An error with all that lies below it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Credential services (a machine's role, single sign-on) are asked through the same connections.
impl reqsign_core::HttpSend for Wire {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let failed = |fault: Fault| reqsign_core::Error::unexpected(fault.to_string());
        let (head, body) = self.send(request).await.map_err(failed)?.into_parts();
        let body = self.all(body, 1 << 20).await.map_err(failed)?;
        Ok(Response::from_parts(head, Bytes::from(body)))
    }
}

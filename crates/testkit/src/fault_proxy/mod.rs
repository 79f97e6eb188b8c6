//! A proxy before an S3 server that lets things go wrong on the wire, by script.
//!
//! Invariants: what no rule names passes unchanged; a rule fires exactly as often as it says and each firing is counted;
//! what happened before an effect and what happened after it are different kinds.
//!
//! The kinds of faults that testing.md (C1) asks for, where each is made, and which tests meet it. `store`: this crate's
//! `tests/wire_faults`; `engine`: `tests/wire` of `syncline-sync`, the whole engine with each kind in turn; `binary`: `tests` of
//! `syncline-cli`; `seam`: [`crate::faulty_store::Wrong`], met by `tests/stores.rs` and by the simulated offices.
//!
//! | C1 | made by | met in |
//! |---|---|---|
//! | 503 SlowDown, once, with and without `Retry-After`; a storm | [`Wire::SlowDown`]; seam `Busy` | store `main`, `budget`; engine `refusals` |
//! | 429 | [`Wire::TooMany`] | store `main`, `budget`; engine `refusals` |
//! | 500 before and after the effect | [`Wire::ErrorBefore`], [`Wire::ErrorAfter`], [`Wire::LateError`]; seam `Lost`, `Unanswered` | store `main`, `budget`; engine `refusals`, `uploads` |
//! | 403 expired, clock skew, not allowed | [`Wire::Expired`], [`Wire::Skewed`], [`Wire::Forbidden`]; seam `Expired` | store `main`; engine `refusals` |
//! | 404 for a key that is there | [`Wire::Missing`] | store `main`; engine `refusals`, `listings` |
//! | an old version is served | [`Wire::Stale`] | store `objects`; engine `bodies` |
//! | a page that is old, partial, doubled | [`Wire::PageAgain`], [`Wire::PageCut`], [`Wire::Doubled`]; seam `ListBroken` | store `main`; engine `listings` |
//! | tokens in a circle or missing; entries out of order | [`Wire::TokenLoop`], [`Wire::TokenMissing`], [`Wire::Unsorted`] | store `main`; engine `listings` |
//! | 412 that is true, and for our own success | [`Wire::Precondition`], [`Wire::Meanwhile`]; [`Wire::ErrorAfter`] | store `main`; engine `refusals`, `bodies` |
//! | 409; 304 that nobody asked for | [`Wire::Conflict`]; [`Wire::NotModified`]; seam `Conflict` | store `main`; engine `refusals` |
//! | no answer before and after the effect | [`Wire::SilentBefore`], [`Wire::SilentAfter`] | store `silence`; engine `refusals`, `uploads` |
//! | reset, also at byte k | [`Wire::ResetBefore`], [`Wire::ResetAfter`], [`Wire::ResetAt`]; seam `Cut` | store `main`; engine `refusals`, `bodies` |
//! | a body that trickles; one-byte chunks | [`Wire::Trickle`], [`Wire::StopsInBody`]; [`Wire::Chunked`] | store `main`, `silence`, `objects`; engine `bodies`, `listings` |
//! | a truncated body; more than promised; other bytes | [`Wire::Truncated`], [`Wire::ShortLength`]; [`Wire::ExtraBytes`]; [`Wire::OtherBytes`]; seam `Garbled` | store `main`, `objects`; engine `bodies` |
//! | another tag; checksums that are wrong or missing | [`Wire::OtherTag`]; [`Wire::OtherChecksum`], [`Wire::NoTag`] | store `main`, `objects`; engine `bodies` |
//! | the range ignored; another range | [`Wire::RangeIgnored`]; [`Wire::OtherRange`] | store `main` |
//! | redirect elsewhere; from TLS to plain | [`Wire::Redirect`], [`Wire::OtherRegion`]; behind [`crate::tls_front`] | store `main`; engine `refusals`; binary `secure` |
//! | 100-continue, and no more | [`Wire::ContinueOnly`] (we ask for none) | store `silence`; engine `refusals` |
//! | a part lost; parts out of order | [`Wire::AckedOnly`]; [`Wire::HeldBack`], [`Wire::PartOrder`] | store `parts`; engine `uploads` |
//! | an upload ended twice; not given up after all; vanished | [`Wire::Twice`]; [`Wire::AckedOnly`]; [`Wire::UploadGone`] | store `parts`; engine `uploads` |
//! | a removal lost; done late | [`Wire::AckedOnly`]; [`Wire::AckedLate`] | store `objects`; engine `bodies` |
//! | the source of a copy changes; an object replaced between ranges | [`Wire::Meanwhile`] | store `objects`; engine `bodies` |
//! | HEAD and GET disagree | [`Wire::OtherSize`] | store `objects`; engine `bodies` |
//! | huge XML, an entity bomb, keys that are not UTF-8 | [`Wire::Huge`], [`Wire::EntityBomb`], [`Wire::BadUtf8`] | store `main`; engine `listings` |
//! | the bucket gone; the quota exceeded | [`Wire::BucketGone`]; [`Wire::QuotaExceeded`] | store `main`; engine `refusals` |
//! | the certificate expired | [`crate::tls_front`] | binary `secure` |
//! | the pool poisoned | [`Wire::PoolDead`], [`Wire::OthersAnswer`] | store `objects`; engine `refusals`, `bodies`, `listings` |
//! | one key a thousand times slower | [`Wire::HeldBack`] (behind so many others, whatever the clock says) | store `objects`; engine `bodies` |

mod connection;
mod message;
mod pages;
mod spoil;
mod versions;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::env::SeededDice;
use crate::s3_server::Endpoint;
use connection::connection;
use message::{Message, Reader};
use versions::Versions;
pub use wire::Wire;

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

/// What somebody else does in the middle of things.
type Act = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    traffic: Traffic,
    last_page: Vec<u8>,
    last_answer: Message,
    versions: Versions,
    late: Vec<Message>,
    meanwhile: Option<Act>,
    rate: Option<Rate>,
}

/// Faults by dice instead of by script.
struct Rate {
    dice: SeededDice,
    /// Of ten thousand requests.
    share: u64,
    kinds: Vec<Wire>,
}

impl State {
    /// The rule that fires for this request, or what the dice say.
    fn chosen(&mut self, method: &str, path: &str) -> Option<Wire> {
        let fits = |rule: &&mut Rule| {
            (rule.method.is_empty() || rule.method == method) && path.contains(&rule.has) && rule.times > 0
        };
        match self.rules.iter_mut().find(fits) {
            Some(rule) if rule.skip > 0 => {
                rule.skip -= 1;
                None
            }
            Some(rule) => {
                rule.times -= 1;
                Some(rule.wrong.clone())
            }
            None => {
                let rate = self.rate.as_ref()?;
                let hit = rate.dice.below(10_000) < rate.share;
                hit.then(|| rate.kinds[rate.dice.below(rate.kinds.len() as u64) as usize].clone())
            }
        }
    }

    /// Keeps what later faults are made of, and hands out what was kept of earlier answers.
    fn remember(&mut self, request: &Message, reply: &Message) -> Earlier {
        let earlier = Earlier {
            page: self.last_page.clone(),
            answer: self.last_answer.clone(),
            version: self.versions.before(request, reply),
        };
        self.versions.note(request, reply);
        let begins = String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]);
        if begins.contains("<ListBucketResult") {
            self.last_page.clone_from(&reply.body);
        }
        if request.method() != "HEAD" {
            self.last_answer = reply.clone();
        }
        earlier
    }
}

/// What was answered before.
struct Earlier {
    page: Vec<u8>,
    answer: Message,
    /// What this request would have been answered with then.
    version: Option<Message>,
}

/// What all connections share.
struct Shared {
    upstream: String,
    state: Mutex<State>,
    /// Answers so far.
    answers: watch::Sender<u64>,
    /// How often all waiting connections were reset.
    pool: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) {
        self.answers.send_modify(|answers| *answers += 1);
    }

    /// Sends a request on a connection of its own.
    async fn alone(&self, request: &Message) -> io::Result<Message> {
        let mut server = TcpStream::connect(&self.upstream).await?;
        server.write_all(&request.whole()).await?;
        let mut reader = Reader {
            socket: &mut server,
            buffer: &mut Vec::new(),
        };
        reader.message(request.method() == "HEAD").await
    }
}

/// A running proxy; ends when dropped.
pub struct FaultProxy {
    /// Where it answers, with the server's own keys.
    pub endpoint: Endpoint,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl FaultProxy {
    /// Starts one before `server`.
    #[expect(clippy::disallowed_methods, reason = "a server of tests has tasks of its own")]
    pub async fn start(server: &Endpoint) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            upstream: server.url.trim_start_matches("http://").to_string(),
            state: Mutex::default(),
            answers: watch::Sender::new(0),
            pool: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    continue;
                };
                let shared = Arc::clone(&serving);
                open.spawn(async move {
                    // A connection that ends is how most faults here end.
                    let _ = connection(client, &shared).await;
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
            shared,
            accepting: accepting.abort_handle(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Adds a rule. The first that fits fires.
    pub fn rule(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Of ten thousand requests for which no rule is there so many go wrong, in one of `kinds`.
    pub fn rate(&self, seed: u64, share: u64, kinds: &[Wire]) {
        self.state().rate = Some(Rate {
            dice: SeededDice::new(seed),
            share,
            kinds: kinds.to_vec(),
        });
    }

    /// From now on all is well.
    pub fn heal(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.rate = None;
    }

    /// What somebody else does at [`Wire::Meanwhile`].
    pub fn meanwhile(&self, act: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        self.state().meanwhile = Some(Arc::new(act));
    }

    /// What was acknowledged and not done is done now; how many there were.
    pub async fn late_ones_arrive(&self) -> io::Result<usize> {
        let late = std::mem::take(&mut self.state().late);
        for request in &late {
            self.shared.alone(request).await?;
        }
        Ok(late.len())
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

//! A proxy before an S3 server that lets things go wrong on the wire, by script.
//!
//! Invariants: what no rule names passes unchanged; a rule fires exactly as often as it says and each firing is counted;
//! what happened before an effect and what happened after it are different kinds.

mod connection;
mod message;
mod pages;
mod spoil;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::s3_server::Endpoint;
use connection::connection;
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

//! A server, a proxy before it that lets things go wrong, and stores on both sides of the proxy.

use std::sync::Arc;
use std::time::Duration;

use syncline_model::Fault;
use syncline_store::layers::RetryRule;
use syncline_store::s3::Sizes;
use syncline_store::{OpenOptions, Store, open};
use syncline_testkit::fault_proxy::FaultProxy;
use syncline_testkit::s3_server::{Endpoint, S3Server};

pub struct Rig {
    pub server: S3Server,
    pub proxy: FaultProxy,
    /// Behind the proxy, with all layers.
    pub store: Arc<dyn Store>,
    /// Not behind it.
    pub direct: Arc<dyn Store>,
}

/// Waits that make a test long are short here; the rule itself is tested with a clock that can be moved.
pub fn quick(endpoint: &Endpoint) -> OpenOptions {
    let retry = RetryRule {
        first: Duration::from_millis(1),
        longest: Duration::from_secs(1),
        ..RetryRule::default()
    };
    let sizes = Sizes {
        part: 5 << 20,
        parts_in_flight: 2,
        stall: Duration::from_secs(10),
    };
    OpenOptions {
        retry,
        sizes,
        ..endpoint.options()
    }
}

pub async fn rig() -> Rig {
    rig_with(|_| {}).await
}

/// A rig whose store is opened in another way than usual.
pub async fn rig_with(change: impl FnOnce(&mut OpenOptions)) -> Rig {
    let server = S3Server::with_bucket("tree").await.unwrap();
    let proxy = FaultProxy::start(&server.endpoint).await.unwrap();
    let direct = open(&server.endpoint.place("tree"), quick(&server.endpoint))
        .await
        .unwrap();
    let mut options = OpenOptions {
        caps: Some(direct.caps().clone()),
        ..quick(&proxy.endpoint)
    };
    change(&mut options);
    let store = open(&proxy.endpoint.place("tree"), options).await.unwrap();
    Rig {
        server,
        proxy,
        store,
        direct,
    }
}

pub fn fault<T>(result: syncline_model::Result<T>) -> Fault {
    match result {
        Ok(_) => panic!("succeeded"),
        Err(fault) => fault,
    }
}

impl Rig {
    /// Requests that came through so far.
    pub fn requests(&self) -> usize {
        self.proxy.traffic().requests.len()
    }
}

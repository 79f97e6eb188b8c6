//! S3 servers in this process, for tests and the demo, and how to reach any.
//!
//! Invariant: a server listens on the loopback alone and is gone, connections included, when its handle is dropped.

use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use syncline_model::{Kind, Result};
use syncline_store::s3::{Keys, S3Options, S3Store};
use syncline_store::url::{S3Place, s3_place};
use syncline_store::{OpenOptions, World};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::s3_double::Double;

/// Where a server answers and with which keys.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://host:port`.
    pub url: String,
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
}

impl Endpoint {
    /// The URL of a place there.
    pub fn place(&self, bucket_and_prefix: &str) -> String {
        format!("s3://{bucket_and_prefix}?endpoint={}&region=us-east-1", self.url)
    }

    /// How to open a store there.
    pub fn options(&self) -> OpenOptions {
        let keys = Keys {
            id: self.id.clone(),
            secret: self.secret.clone(),
        };
        OpenOptions {
            keys: Some(keys),
            ..OpenOptions::new(World::real())
        }
    }

    /// A bare store, without layers, unprobed.
    pub async fn store(&self, bucket_and_prefix: &str) -> Result<S3Store> {
        let place: S3Place = s3_place(&self.place(bucket_and_prefix))?;
        let mut options = S3Options::new(World::real());
        options.keys = Some(Keys {
            id: self.id.clone(),
            secret: self.secret.clone(),
        });
        S3Store::open(&place, options, None).await
    }

    /// Makes a bucket; that it is there already is no error.
    pub async fn make_bucket(&self, bucket: &str) -> Result<()> {
        match self.store(bucket).await?.make_bucket().await {
            Err(fault) if fault.is(Kind::Changed) || fault.is(Kind::Exists) => Ok(()),
            result => result,
        }
    }

    /// Makes a bucket that keeps what is replaced or removed.
    pub async fn make_versioned_bucket(&self, bucket: &str) -> Result<()> {
        self.make_bucket(bucket).await?;
        self.store(bucket).await?.keep_versions(true).await
    }
}

/// A server in this process. Ends when dropped.
pub struct S3Server {
    /// Where it answers.
    pub endpoint: Endpoint,
    accepting: AbortHandle,
}

impl S3Server {
    /// A strict server on a free port, in memory.
    pub async fn start() -> std::io::Result<Self> {
        Self::serve(Double::new(), 0).await
    }

    /// A strict server whose objects are also kept in `dir`.
    pub async fn start_in(dir: PathBuf, port: u16) -> std::io::Result<(Self, Double)> {
        let double = Double::open(dir)?;
        Ok((Self::serve(double.clone(), port).await?, double))
    }

    /// The `s3s-fs` server over `dir`: a stranger's idea of S3 (no tags in listings, no odd keys, no conditional removal).
    pub async fn s3s_fs(dir: &Path) -> std::io::Result<Self> {
        let files =
            s3s_fs::FileSystem::new(dir).map_err(|error| std::io::Error::other(format!("{error:?}")))?;
        Self::serve(files, 0).await
    }

    /// Serves `storage` on a port of the loopback; 0: any that is free.
    #[expect(clippy::disallowed_methods, reason = "a server of tests has tasks of its own")]
    pub async fn serve(storage: impl s3s::S3, port: u16) -> std::io::Result<Self> {
        let (id, secret) = ("AKIDSYNCLINE".to_string(), "embedded-server-secret".to_string());
        let mut service = S3ServiceBuilder::new(storage);
        service.set_auth(SimpleAuth::from_single(id.clone(), secret.clone()));
        let service = service.build();
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut open = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    continue;
                };
                let _ = socket.set_nodelay(true);
                let service = service.clone();
                open.spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
                while open.try_join_next().is_some() {}
            }
        });
        let endpoint = Endpoint { url, id, secret };
        Ok(Self {
            endpoint,
            accepting: accepting.abort_handle(),
        })
    }

    /// A strict server with one bucket, ready to use.
    pub async fn with_bucket(bucket: &str) -> Result<Self> {
        let failed =
            |error: std::io::Error| syncline_model::Fault::new(Kind::Bug, "server", "").because(error);
        let double = Double::new();
        double.make_bucket(bucket).map_err(failed)?;
        Self::serve(double, 0).await.map_err(failed)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

//! An S3 server of one's own with the bucket `team`, a desk that knows its keys, and somebody who writes there with other tools.

use std::collections::BTreeMap;

use syncline_store::{Cond, Key, Store};
use syncline_testkit::s3_server::S3Server;

use super::Desk;

/// A server with the bucket `team`, and a desk that knows its keys.
pub struct Office {
    runtime: tokio::runtime::Runtime,
    server: S3Server,
    pub desk: Desk,
}

pub fn office() -> Office {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let desk = Desk::new();
    let (server, double) = runtime.block_on(S3Server::start_in(desk.dir("s3"), 0)).unwrap();
    double.make_bucket("team").unwrap();
    let desk = desk
        .with("AWS_ENDPOINT_URL", server.endpoint.url.clone())
        .with("AWS_ACCESS_KEY_ID", server.endpoint.id.clone())
        .with("AWS_SECRET_ACCESS_KEY", server.endpoint.secret.clone())
        .with("AWS_REGION", "us-east-1");
    Office {
        runtime,
        server,
        desk,
    }
}

impl Office {
    /// Writes an object as any tool may.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.runtime.block_on(async {
            let store = self.server.endpoint.store("team").await.unwrap();
            let key = Key::new(key).unwrap();
            let mut draft = store
                .draft(&key, Some(bytes.len() as u64), BTreeMap::new(), None)
                .await
                .unwrap();
            draft.write(bytes.to_vec().into()).await.unwrap();
            draft.publish(Cond::Any).await.unwrap();
        });
    }

    /// All objects below a prefix, with their bytes.
    pub fn objects(&self, under: &str) -> BTreeMap<String, Vec<u8>> {
        self.runtime.block_on(async {
            let store = self.server.endpoint.store("team").await.unwrap();
            let (mut found, mut pages) = (BTreeMap::new(), store.list(under, None).await.unwrap());
            while let Some(page) = pages.next().await.unwrap() {
                for listed in page {
                    let (mut bytes, mut body) =
                        (Vec::new(), store.get(&listed.key, None, None).await.unwrap());
                    while let Some(more) = body.next().await.unwrap() {
                        bytes.extend_from_slice(&more);
                    }
                    found.insert(listed.key.as_str().to_owned(), bytes);
                }
            }
            found
        })
    }
}

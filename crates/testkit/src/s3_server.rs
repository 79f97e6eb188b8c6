//! S3 servers for tests and the demo.

use syncline_model::{Kind, Result};
use syncline_store::s3::{Keys, S3Options, S3Store};
use syncline_store::url::{S3Place, s3_place};
use syncline_store::{OpenOptions, World};

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
}

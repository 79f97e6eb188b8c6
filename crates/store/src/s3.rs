//! Buckets: the [`Store`](crate::Store) seam over the S3 protocol, spoken directly. Not here: trying again a single
//! request (the retry layer does that for every store), except parts of uploads, whose bytes only a draft holds.
//!
//! Invariants: keys are exact (blanks, `//`, `..`, control bytes, a trailing `/`); a condition that the store does not
//! honour, by [`Caps`](crate::Caps), is looked at right before; a listing asks LIST alone, never HEAD.

mod body;
mod config;
mod draft;
mod fault;
mod listing;
mod probe;
mod remove;
mod request;
mod uploads;
mod versions;
mod wire;
mod xml;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use md5::{Digest as _, Md5};
use syncline_model::{Fault, Kind, Result, Tag};

pub use config::{Keys, S3Options, Sizes};

use crate::layers::meter::Request;
use crate::url::S3Place;
use crate::{Blob, Caps, Cond, Draft, Key, Listing, Seen, Store, StoreSpace, Version};
use request::{Ask, Core};

/// A place in a bucket.
#[derive(Clone)]
pub struct S3Store(Arc<Core>);

impl S3Store {
    /// Connects. `caps` are what an earlier probe found; `None`: nothing is believed until [`S3Store::probed`].
    pub async fn open(place: &S3Place, options: S3Options, caps: Option<Caps>) -> Result<Self> {
        Ok(Self(Arc::new(
            Core::open(place, options, caps.unwrap_or(Caps::LEAST)).await?,
        )))
    }

    /// Finds out what the store really does, with objects of its own below `.syncline/probe/` that it removes again,
    /// and returns the store with what was found.
    pub async fn probed(self) -> Result<Self> {
        let caps = probe::probe(&self).await?;
        Ok(Self(Arc::new(self.0.with_caps(caps))))
    }

    /// Makes the bucket. `Changed` when it is there already.
    pub async fn make_bucket(&self) -> Result<()> {
        let ask = Ask::new(Method::PUT, Request::Put, "make bucket");
        self.0.done(ask).await.map(drop)
    }

    /// From now on the bucket keeps what is replaced or removed; or, `false`, gives it no new versions.
    pub async fn keep_versions(&self, keep: bool) -> Result<()> {
        let status = if keep { "Enabled" } else { "Suspended" };
        let text = format!(
            "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>{status}</Status></VersioningConfiguration>"
        );
        let ask = Ask::new(Method::PUT, Request::Put, "keep versions")
            .query("versioning", "")
            .header("content-type", "application/xml");
        let md5 = Md5::digest(&text).into();
        self.0.done(ask.body(text.into(), &md5)).await.map(drop)
    }

    /// The name of an object as the source of a copy.
    fn source(&self, from: &Key) -> String {
        format!(
            "/{}/{}",
            self.0.target.bucket,
            request::encoded(&self.0.full(from))
        )
    }

    fn copy(&self, from: &Key, to: &Key, etag: &str) -> Ask {
        let ask = Ask::new(Method::PUT, Request::Copy, "copy")
            .key(to)
            .header("x-amz-copy-source", self.source(from));
        ask.header("x-amz-copy-source-if-match", etag)
    }

    /// Asks for a blob by name, or for a version of it.
    async fn ask_for(&self, key: &Key, version: Option<&Version>) -> Result<Blob> {
        let ask = Ask::new(Method::HEAD, Request::Head, "stat").key(key);
        match self.0.send(ask.version(version)).await {
            Ok(reply) => self.0.blob(key, reply.headers(), None),
            Err(fault) if fault.is(Kind::Denied) => Err(self.why_denied(key, version, fault).await),
            Err(fault) => Err(fault),
        }
    }

    /// The reply to HEAD has no body that says why; that to GET has one.
    async fn why_denied(&self, key: &Key, version: Option<&Version>, fault: Fault) -> Fault {
        let ask = Ask::new(Method::GET, Request::Get, "stat")
            .key(key)
            .version(version);
        match self.0.send(ask.header("range", "bytes=0-0")).await {
            Err(why) if why.is(Kind::Denied) => why,
            _ => fault.retry(true),
        }
    }

    /// Copies, whatever the capabilities say.
    async fn copied(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        if *seen == Tag::None {
            return Err(Fault::new(
                Kind::Invalid,
                "copy: no tag proves what is copied",
                self.0.at(from),
            ));
        }
        // Few stores check conditions on the target of a copy: look in any case, and ask as well.
        self.look(to, &cond).await?;
        let checked = self
            .0
            .copy_checks
            .get_or_try_init(|| probe::copy_checks(self, from));
        if !*checked.await? {
            let there = self.stat(from).await?;
            if there.tag != *seen {
                return Err(Fault::new(
                    Kind::Changed,
                    "copy: something else is there now",
                    self.0.at(from),
                ));
            }
        }
        let ask = self.copy(from, to, &request::quoted(seen, from)?);
        self.finish_copy(ask, to, &cond, metadata).await
    }

    /// Sends a copy under its condition, which was looked at.
    async fn finish_copy(
        &self,
        mut ask: Ask,
        to: &Key,
        cond: &Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        ask = match cond {
            Cond::Any => ask,
            Cond::Absent => ask.header("if-none-match", "*"),
            Cond::Is(tag) => ask.header("if-match", request::quoted(tag, to)?),
        };
        if let Some(metadata) = &metadata {
            ask = ask
                .header("x-amz-metadata-directive", "REPLACE")
                .metadata(metadata)?;
        }
        let (_, node) = self.0.xml(ask).await?;
        // An own proof of what was made: neither size nor metadata are in the reply.
        let blob = self.stat(to).await?;
        let tag = node.text("ETag").map_or(Tag::None, request::tag);
        if tag != Tag::None && blob.tag != tag {
            return Err(Fault::new(
                Kind::Changed,
                "replaced while it was copied",
                self.0.at(to),
            ));
        }
        Ok(blob)
    }

    /// What `key` holds now if it is what `cond` wants; for conditions that the store does not check itself.
    async fn look(&self, key: &Key, cond: &Cond) -> Result<()> {
        let now = match cond {
            Cond::Any => return Ok(()),
            Cond::Absent | Cond::Is(_) => self.stat(key).await,
        };
        let changed = |what: &str| Err(Fault::new(Kind::Changed, what, self.0.at(key)));
        match (cond, now) {
            (Cond::Is(tag), Ok(blob)) if blob.tag == *tag && *tag != Tag::None => Ok(()),
            (Cond::Absent, Err(fault)) if fault.is(Kind::NotFound) => Ok(()),
            (Cond::Absent, Ok(_)) => changed("something is there already"),
            (Cond::Is(_), Ok(_)) => changed("something else is there now"),
            (Cond::Is(_), Err(fault)) if fault.is(Kind::NotFound) => changed("it is gone"),
            (_, Err(fault)) => Err(fault),
            (Cond::Any, Ok(_)) => Ok(()),
        }
    }

    /// Checks `cond` where the store will not, and adds the headers by which it will.
    async fn condition(&self, key: &Key, cond: &Cond, ask: Ask) -> Result<Ask> {
        let caps = &self.0.caps;
        let checked = match cond {
            Cond::Any => true,
            Cond::Absent => caps.if_absent,
            Cond::Is(_) => caps.if_is,
        };
        if !checked {
            self.look(key, cond).await?;
        }
        self.conditional(key, cond, ask)
    }

    /// Adds the headers of a condition that the store checks.
    fn conditional(&self, key: &Key, cond: &Cond, ask: Ask) -> Result<Ask> {
        let caps = &self.0.caps;
        match cond {
            Cond::Absent if caps.if_absent => Ok(ask.header("if-none-match", "*")),
            Cond::Is(tag) if caps.if_is => Ok(ask.header("if-match", request::quoted(tag, key)?)),
            Cond::Any | Cond::Absent | Cond::Is(_) => Ok(ask),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn label(&self) -> &str {
        &self.0.target.label
    }

    fn caps(&self) -> &Caps {
        &self.0.caps
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        body::open(self, key, None, range, seen).await
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: BTreeMap<String, String>,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        draft::begin(self.clone(), key.clone(), size, metadata, resume).await
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        self.ask_for(key, None).await
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        Ok(Box::new(listing::S3Listing::new(self.clone(), under, after)))
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        remove::remove(self, keys).await
    }

    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        if !self.0.caps.reuse {
            return Err(Fault::new(
                Kind::Unsupported,
                "copy: this store was not seen to copy",
                self.0.at(from),
            ));
        }
        self.copied(from, seen, to, cond, metadata).await
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        body::open(self, key, Some(version), range, None)
            .await
            .map_err(versions::gone)
    }

    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<Blob> {
        versions::reuse(self, from, version, to, cond, metadata).await
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        versions::remove(self, key, version).await
    }

    async fn space(&self) -> Result<StoreSpace> {
        Ok(StoreSpace {
            total: None,
            free: None,
        })
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        uploads::unfinished(self, under).await
    }

    async fn discard(&self, key: &Key, upload: &str) -> Result<()> {
        uploads::discard(self, key, uploads::Name::read(upload).id).await
    }
}

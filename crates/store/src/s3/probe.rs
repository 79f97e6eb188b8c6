//! What a store really does, found out by doing it.
//!
//! Invariant: a capability is true only if the store was seen to honour it here and now; the probe works below
//! `.syncline/probe/` under a name of its own and removes what it wrote.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use md5::{Digest as _, Md5};
use syncline_model::{Kind, Result, Tag};

use super::S3Store;
use super::request::{Ask, strictly};
use crate::layers::meter::Request;
use crate::{Caps, Cond, Key, Store, Version};

/// Names that other collations than bytes, and stores that see directories, put in another order.
const NAMES: [&str; 4] = ["B", "a-x", "a/x", "a0x"];

struct Probe<'a> {
    store: &'a S3Store,
    dir: String,
}

pub(crate) async fn probe(store: &S3Store) -> Result<Caps> {
    let nonce = store.0.options.world.dice.roll();
    let probe = Probe {
        store,
        dir: format!(".syncline/probe/{nonce:016x}/"),
    };
    let found = probe.run().await;
    let mut mine = Vec::new();
    for name in NAMES.iter().chain(&["copy"]) {
        mine.push((probe.key(name)?, Cond::Any));
    }
    for removed in store.remove(&mine).await {
        if let (Err(fault), Ok(_)) = (removed, &found) {
            // Without the right to remove (an append-only key) the probe's few bytes stay.
            if !fault.is(Kind::Denied) {
                return Err(fault);
            }
        }
    }
    found
}

/// Whether the store refuses a copy of `from` under a tag that it does not bear.
pub(crate) async fn copy_checks(store: &S3Store, from: &Key) -> Result<bool> {
    let nonce = store.0.options.world.dice.roll();
    let to = Key::new(format!(".syncline/probe/{nonce:016x}/copied"))?;
    let stale = "\"00000000000000000000000000000000\"";
    match store.0.xml(store.copy(from, &to, stale)).await {
        Ok(_) => {
            // Append-only keys leave the copy behind; that is no reason not to go on.
            let _ = store.remove(&[(to, Cond::Any)]).await;
            Ok(false)
        }
        Err(fault) if fault.is(Kind::Changed) => Ok(true),
        Err(fault) => Err(fault),
    }
}

impl Probe<'_> {
    fn key(&self, name: &str) -> Result<Key> {
        Key::new(format!("{}{name}", self.dir))
    }

    async fn put(&self, name: &str, header: Option<(&str, &str)>, metadata: bool) -> Result<http::HeaderMap> {
        let key = self.key(name)?;
        let mut ask = Ask::new(Method::PUT, Request::Put, "probe").key(&key);
        if let Some((name, value)) = header {
            ask = ask.header(name, value);
        }
        if metadata {
            ask = ask.metadata(&BTreeMap::from([(
                "syncline-probe".to_string(),
                "1.5".to_string(),
            )]))?;
        }
        let body = Bytes::from(format!("probe {name}"));
        let md5 = Md5::digest(&body).into();
        self.store.0.done(ask.body(body, &md5)).await
    }

    /// True when the store refused because of the condition; false when it did as if there were none.
    async fn refused<T>(&self, result: Result<T>) -> Result<bool> {
        match result {
            Ok(_) => Ok(false),
            Err(fault) if fault.is(Kind::Changed) => Ok(true),
            // It knows the condition and does not offer it.
            Err(fault) if fault.is(Kind::Unsupported) || fault.is(Kind::Invalid) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn run(&self) -> Result<Caps> {
        let mut caps = Caps::LEAST;
        let first = match self.put(NAMES[0], None, true).await {
            // Read-only for us: nothing can be found out, and nothing will be written.
            Err(fault) if fault.is(Kind::Denied) && !fault.retry => {
                caps.sorted = true;
                return Ok(caps);
            }
            first => first?,
        };
        let version = super::request::version(&first);
        let absent = Some(("if-none-match", "*"));
        let stale = Some(("if-match", "\"00000000000000000000000000000000\""));
        let fresh = self.refused(self.put(NAMES[1], absent, false).await).await?;
        caps.if_absent = !fresh && self.refused(self.put(NAMES[1], absent, false).await).await?;
        caps.if_is = self.refused(self.put(NAMES[1], stale, false).await).await?;
        if caps.if_is {
            let now = self.store.stat(&self.key(NAMES[1])?).await?;
            let etag = super::request::quoted(&now.tag, &self.key(NAMES[1])?)?;
            caps.if_is = !self
                .refused(self.put(NAMES[1], Some(("if-match", &etag)), false).await)
                .await?;
        }
        self.put(NAMES[2], None, false).await?;
        self.put(NAMES[3], None, false).await?;
        caps.sorted = self.sorted().await?;
        caps.remove_if_is = self.removes_if_is().await?;
        let blob = self.store.stat(&self.key(NAMES[0])?).await?;
        let md5: String = Md5::digest(format!("probe {}", NAMES[0]))
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        caps.tag_is_md5 = blob.tag == Tag::Store(md5.into_bytes().into());
        let kept = blob
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.get("syncline-probe"));
        caps.metadata = kept.is_some_and(|value| value == "1.5");
        let copied = self
            .store
            .copied(
                &self.key(NAMES[0])?,
                &blob.tag,
                &self.key("copy")?,
                Cond::Any,
                None,
            )
            .await;
        caps.reuse = copied.is_ok_and(|copy| copy.size == blob.size);
        if let Some(version) = version {
            caps.versions = self.keeps(&version).await?;
        }
        Ok(caps)
    }

    /// Whether what is replaced can still be read, copied and removed: that may need rights of its own.
    async fn keeps(&self, version: &Version) -> Result<bool> {
        self.put(NAMES[0], None, false).await?;
        let (key, to) = (self.key(NAMES[0])?, self.key("copy")?);
        let tried = async {
            let mut body = self.store.get_version(&key, version, None).await?;
            while body.next().await?.is_some() {}
            let source = format!("{}?versionId={}", self.store.source(&key), strictly(&version.0));
            let ask = Ask::new(Method::PUT, Request::Copy, "probe").key(&to);
            self.store.0.xml(ask.header("x-amz-copy-source", source)).await?;
            self.store.drop_version(&key, version).await
        };
        match tried.await {
            Ok(()) => Ok(true),
            Err(fault) if fault.retry => Err(fault),
            Err(_) => Ok(false),
        }
    }

    async fn sorted(&self) -> Result<bool> {
        let mut listing = self.store.list(&self.dir, None).await?;
        let mut names = Vec::new();
        while let Some(page) = listing.next().await? {
            names.extend(
                page.into_iter()
                    .map(|listed| listed.key.as_str()[self.dir.len()..].to_string()),
            );
        }
        Ok(names == NAMES)
    }

    async fn removes_if_is(&self) -> Result<bool> {
        let key = self.key(NAMES[3])?;
        let ask = Ask::new(Method::DELETE, Request::Delete, "probe").key(&key);
        let ask = ask.header("if-match", "\"00000000000000000000000000000000\"");
        match self.refused(self.store.0.done(ask).await).await {
            Ok(refused) => Ok(refused && self.store.stat(&key).await.is_ok()),
            Err(fault) if fault.is(Kind::Denied) => Ok(false),
            Err(fault) => Err(fault),
        }
    }
}

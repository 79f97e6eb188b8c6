//! Listings by pages of a thousand.
//!
//! Invariant: what is handed out is complete up to where it ends, or the listing ends in an error: a page that says
//! "more" without saying where, a page that says that it is of another listing, a token that comes twice, a key out of order or outside what was asked for.

use std::collections::BTreeSet;

use async_trait::async_trait;
use http::Method;
use syncline_model::{Fault, Kind, Result, Tag};

use super::S3Store;
use super::request::{Ask, tag, time};
use super::xml::{Node, carries};
use crate::layers::meter::Request;
use crate::{Blob, Key, Listed, Listing};

pub(crate) struct S3Listing {
    store: S3Store,
    /// The store's prefix and what was asked for below it.
    prefix: String,
    after: Option<String>,
    token: Option<String>,
    /// Tokens that came already, where order cannot tell that a listing runs in a circle.
    met: BTreeSet<String>,
    last: Option<String>,
    done: bool,
}

/// A text of a listing, decoded if the reply says that it is encoded.
pub(crate) fn decoded(text: &str, coded: bool) -> Result<String> {
    if !coded {
        return Ok(text.to_string());
    }
    let spaced = text.replace('+', "%20");
    match percent_encoding::percent_decode_str(&spaced).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Fault::new(Kind::Corrupt, "list: a key is not UTF-8", text.escape_debug()).retry(true)),
    }
}

/// True when names may be asked for in encoded form: some servers say that they encode and do not. A prefix that would
/// have to be encoded comes back in the reply and tells.
pub(crate) async fn codes_names(store: &S3Store) -> Result<bool> {
    let ask = || async {
        let telling = format!("{}.syncline/probe/% +", store.0.target.prefix);
        let ask = Ask::new(Method::GET, Request::List, "list").query("list-type", "2");
        let ask = ask
            .query("encoding-type", "url")
            .query("max-keys", "1")
            .query("prefix", &telling);
        let (_, page) = store.0.xml(ask).await?;
        Ok(page.text("Prefix") != Some(telling.as_str()))
    };
    store.0.codes_names.get_or_try_init(ask).await.copied()
}

/// True when a reply's names are percent-encoded.
pub(crate) fn is_coded(page: &Node) -> bool {
    page.text("EncodingType") == Some("url")
}

impl S3Listing {
    pub(crate) fn new(store: S3Store, under: &str, after: Option<&Key>) -> Self {
        let prefix = format!("{}{under}", store.0.target.prefix);
        let after = after.map(|key| store.0.full(key));
        Self {
            store,
            prefix,
            last: after.clone(),
            after,
            token: None,
            met: BTreeSet::new(),
            done: false,
        }
    }

    fn corrupt(&self, what: &str) -> Fault {
        let at = format!(
            "s3://{}/{}",
            self.store.0.target.bucket,
            self.prefix.escape_debug()
        );
        Fault::new(Kind::Corrupt, format!("list: {what}"), at).retry(true)
    }

    fn ask(&self, coded: bool) -> Ask {
        let mut ask = Ask::new(Method::GET, Request::List, "list").query("list-type", "2");
        if let Some(token) = &self.token {
            ask = ask.query("continuation-token", token);
        }
        if coded {
            ask = ask.query("encoding-type", "url");
        }
        ask = ask.query("max-keys", "1000");
        if !self.prefix.is_empty() {
            ask = ask.query("prefix", &self.prefix);
        }
        match &self.after {
            Some(after) if self.token.is_none() => ask.query("start-after", after),
            _ => ask,
        }
    }

    fn blob(&self, item: &Node) -> Result<Blob> {
        let size = item.text("Size").and_then(|text| text.trim().parse().ok());
        let size = size.ok_or_else(|| self.corrupt("an object has no size"))?;
        let tag = item.text("ETag").map_or(Tag::None, tag);
        let modified = item
            .text("LastModified")
            .and_then(|text| text.trim().parse().ok())
            .map(time);
        Ok(Blob {
            size,
            md5: self.store.0.md5(&tag),
            tag,
            modified,
            metadata: None,
            version: None,
        })
    }

    /// A page tells what it was asked for: one that belongs to another request is not ours.
    fn check_ours(&self, page: &Node, coded: bool) -> Result<()> {
        let after = self.after.as_deref().filter(|_| self.token.is_none());
        let sent = [
            (
                "Prefix",
                Some(self.prefix.as_str()),
                "the reply is another listing",
            ),
            ("StartAfter", after, "the reply begins elsewhere"),
            (
                "ContinuationToken",
                self.token.as_deref(),
                "the reply is another page",
            ),
        ];
        for (name, sent, wrong) in sent {
            let Some(said) = page.text(name).filter(|said| !said.is_empty()) else {
                continue;
            };
            // Where names are not encoded, what XML cannot carry comes back in some other way.
            let carried = coded || sent.is_none_or(carries);
            let same = sent == Some(said) || sent == decoded(said, coded).ok().as_deref();
            if carried && !same {
                return Err(self.corrupt(wrong));
            }
        }
        Ok(())
    }

    fn take(&mut self, page: &Node, coded: bool) -> Result<Vec<Listed>> {
        let sorted = self.store.0.caps.sorted;
        let mut listed = Vec::new();
        for item in page.all("Contents") {
            let full = item
                .text("Key")
                .ok_or_else(|| self.corrupt("an object has no key"))?;
            let full = decoded(full, coded)?;
            if !full.starts_with(&self.prefix) {
                return Err(self.corrupt("a key came that was not asked for"));
            }
            if self.last.as_deref().is_some_and(|last| last >= full.as_str()) {
                if sorted {
                    return Err(self.corrupt("keys are not in ascending order"));
                }
                // An unsorted store may ignore "after"; what it names is left out as agreed.
                if self.after.as_deref().is_some_and(|after| after >= full.as_str()) {
                    continue;
                }
            }
            let rest = full.get(self.store.0.target.prefix.len()..).unwrap_or_default();
            match Key::new(rest) {
                Ok(key) => listed.push(Listed {
                    key,
                    blob: self.blob(item)?,
                }),
                // The object that marks the prefix itself as a directory has no name below it.
                Err(_) if rest.is_empty() => {}
                Err(_) => self.store.0.options.meter.odd_key(),
            }
            self.last = Some(full);
        }
        Ok(listed)
    }
}

#[async_trait]
impl Listing for S3Listing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        while !self.done {
            let coded = codes_names(&self.store).await?;
            let (_, page) = self.store.0.xml(self.ask(coded)).await?;
            if page.name() != "ListBucketResult" {
                return Err(self.corrupt("the reply is no listing"));
            }
            self.check_ours(&page, is_coded(&page))?;
            let before = self.last.clone();
            let listed = self
                .take(&page, is_coded(&page))
                .inspect_err(|_| self.last = before)?;
            let more = page.text("IsTruncated").is_some_and(|text| text.trim() == "true");
            match page
                .text("NextContinuationToken")
                .filter(|token| !token.is_empty())
            {
                Some(token) if more => {
                    let again = self.token.as_deref() == Some(token)
                        || (!self.store.0.caps.sorted && !self.met.insert(token.to_string()));
                    if again {
                        return Err(self.corrupt("the same page is named twice"));
                    }
                    self.token = Some(token.to_string());
                }
                None if more => return Err(self.corrupt("there is more, but the reply does not say where")),
                _ => self.done = true,
            }
            if !listed.is_empty() {
                return Ok(Some(listed));
            }
        }
        Ok(None)
    }
}

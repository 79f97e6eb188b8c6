//! What is under way in a [`MemStore`]: bodies, listings, drafts.

use super::*;

pub(super) struct MemSeen {
    pub(super) blob: Blob,
    pub(super) left: Bytes,
}

#[async_trait]
impl Seen for MemSeen {
    fn blob(&self) -> &Blob {
        &self.blob
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let len = self.left.len().min(64 << 10);
        Ok((len > 0).then(|| self.left.split_to(len)))
    }
}

pub(super) struct MemListing {
    pub(super) store: MemStore,
    pub(super) under: String,
    pub(super) after: Option<Key>,
    /// Stores without order list by this.
    pub(super) shuffled: Option<Vec<Listed>>,
}

impl MemListing {
    pub(super) fn page(&mut self) -> Vec<Listed> {
        let mut state = self.store.state();
        let changes = state.changes;
        let mut stale = 0;
        let mut page = Vec::new();
        let whole = !self.store.options.caps.sorted;
        for (key, history) in &state.objects {
            let wanted =
                key.as_str().starts_with(&self.under) && self.after.as_ref().is_none_or(|after| key > after);
            if !wanted {
                continue;
            }
            if let Some(object) = self.store.shown(history, changes, &mut stale) {
                let blob = Blob {
                    metadata: None,
                    version: None,
                    ..object.blob
                };
                page.push(Listed {
                    key: key.clone(),
                    blob,
                });
                if !whole && page.len() == self.store.options.page {
                    break;
                }
            }
        }
        state.stale_shown += stale;
        page
    }
}

#[async_trait]
impl Listing for MemListing {
    async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        if self.store.options.caps.sorted {
            let page = self.page();
            if let Some(last) = page.last() {
                self.after = Some(last.key.clone());
            }
            return Ok((!page.is_empty()).then_some(page));
        }
        if self.shuffled.is_none() {
            let mut all = self.page();
            // An order of its own, the same each time.
            all.sort_by_key(|listed| <[u8; 16]>::from(Md5::digest(listed.key.as_str())));
            self.shuffled = Some(all);
        }
        let left = self.shuffled.get_or_insert_default();
        let page: Vec<Listed> = left.drain(..left.len().min(self.store.options.page)).collect();
        Ok((!page.is_empty()).then_some(page))
    }
}

pub(super) struct MemDraft {
    pub(super) store: MemStore,
    pub(super) key: Key,
    pub(super) size: Option<u64>,
    pub(super) metadata: Metadata,
    pub(super) filling: BytesMut,
    pub(super) held: u64,
    pub(super) upload: Option<String>,
}

#[async_trait]
impl Draft for MemDraft {
    fn upload(&self) -> Option<String> {
        self.upload.clone()
    }

    fn held(&self) -> u64 {
        self.held
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.filling.extend_from_slice(&bytes);
        let part = self.store.options.part;
        while self.filling.len() > part {
            let piece = self.filling.split_to(part);
            let mut state = self.store.state();
            let name = self
                .upload
                .get_or_insert_with(|| format!("upload-{:016x}", self.store.dice.roll()))
                .clone();
            let upload = state.uploads.entry(name).or_insert_with(|| Upload {
                key: self.key.clone(),
                metadata: self.metadata.clone(),
                body: BytesMut::new(),
            });
            upload.body.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn publish(self: Box<Self>, only_if: Cond) -> Result<Blob> {
        let caps = &self.store.options.caps;
        let honoured = if only_if == Cond::Absent {
            caps.if_absent
        } else {
            caps.if_is
        };
        let checked = self.store.window(&self.key, &only_if, honoured).await?;
        let mut state = self.store.state();
        let begun = self.upload.as_ref().and_then(|name| state.uploads.get(name));
        if self.upload.is_some() && begun.is_none() {
            return Err(self.store.fault(Kind::NotFound, "the upload is gone", &self.key));
        }
        let mut body = begun.map_or_else(BytesMut::new, |upload| upload.body.clone());
        let metadata = begun.map_or_else(|| self.metadata.clone(), |upload| upload.metadata.clone());
        body.extend_from_slice(&self.filling);
        if self.size.is_some_and(|size| size != body.len() as u64) {
            return Err(self
                .store
                .fault(Kind::Invalid, "another length than promised", &self.key));
        }
        if checked {
            let result = self.store.check(&state, &self.key, &only_if);
            if let (Err(fault), Some(name)) = (result, &self.upload) {
                state.uploads.remove(name);
                return Err(fault);
            }
            self.store.check(&state, &self.key, &only_if)?;
        }
        let blob = self.store.put(
            &mut state,
            &self.key,
            body.freeze(),
            metadata,
            self.upload.is_none(),
        )?;
        if let Some(name) = &self.upload {
            state.uploads.remove(name);
        }
        Ok(blob)
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        if let Some(name) = &self.upload {
            self.store.state().uploads.remove(name);
        }
        Ok(())
    }
}

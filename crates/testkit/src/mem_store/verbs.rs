//! The verbs of [`MemStore`].

use super::*;

#[async_trait]
impl Store for MemStore {
    fn label(&self) -> &str {
        &self.label
    }

    fn caps(&self) -> &Caps {
        &self.options.caps
    }

    async fn get(&self, key: &Key, range: Option<(u64, u64)>, seen: Option<&Tag>) -> Result<Box<dyn Seen>> {
        let state = self.state();
        let object = state.objects.get(key).and_then(|history| history.now.clone());
        let object = object.ok_or_else(|| self.fault(Kind::NotFound, "nothing is there", key))?;
        if seen.is_some_and(|seen| object.blob.tag != *seen) {
            return Err(self.fault(Kind::Changed, "something else is there now", key));
        }
        self.body(key, object, range)
    }

    async fn draft(
        &self,
        key: &Key,
        size: Option<u64>,
        metadata: Metadata,
        resume: Option<&str>,
    ) -> Result<Box<dyn Draft>> {
        let state = self.state();
        let begun = resume.and_then(|name| {
            state
                .uploads
                .get(name)
                .map(|upload| (name, upload.body.len() as u64))
        });
        Ok(Box::new(MemDraft {
            store: self.clone(),
            key: key.clone(),
            size,
            metadata,
            filling: BytesMut::new(),
            held: begun.map_or(0, |(_, len)| len),
            upload: begun.map(|(name, _)| name.to_string()),
        }))
    }

    async fn stat(&self, key: &Key) -> Result<Blob> {
        let state = self.state();
        let object = state.objects.get(key).and_then(|history| history.now.as_ref());
        object
            .map(|object| object.blob.clone())
            .ok_or_else(|| self.fault(Kind::NotFound, "nothing is there", key))
    }

    async fn list(&self, under: &str, after: Option<&Key>) -> Result<Box<dyn Listing>> {
        let after = after.cloned();
        Ok(Box::new(MemListing {
            store: self.clone(),
            under: under.to_string(),
            after,
            shuffled: None,
        }))
    }

    async fn remove(&self, keys: &[(Key, Cond)]) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for (key, cond) in keys {
            let checked = match self.window(key, cond, self.options.caps.remove_if_is).await {
                Ok(checked) => checked,
                Err(fault) => {
                    results.push(Err(fault));
                    continue;
                }
            };
            let mut state = self.state();
            let allowed = if checked {
                self.check(&state, key, cond)
            } else {
                Ok(())
            };
            if allowed.is_ok()
                && state
                    .objects
                    .get(key)
                    .is_some_and(|history| history.now.is_some())
            {
                self.replace(&mut state, key, None);
            }
            results.push(allowed);
        }
        results
    }

    async fn reuse(
        &self,
        from: &Key,
        seen: &Tag,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        if !self.options.caps.reuse {
            return Err(self.fault(Kind::Unsupported, "cannot copy", from));
        }
        let mut state = self.state();
        let object = state.objects.get(from).and_then(|history| history.now.clone());
        let object = object.ok_or_else(|| self.fault(Kind::NotFound, "nothing is there", from))?;
        if object.blob.tag != *seen {
            return Err(self.fault(Kind::Changed, "something else is there now", from));
        }
        self.check(&state, to, &cond)?;
        let metadata = metadata.unwrap_or_else(|| object.blob.metadata.clone().unwrap_or_default());
        self.put(&mut state, to, object.body, metadata, true)
    }

    async fn get_version(
        &self,
        key: &Key,
        version: &Version,
        range: Option<(u64, u64)>,
    ) -> Result<Box<dyn Seen>> {
        self.body(key, self.version(key, version)?, range)
    }

    async fn reuse_version(
        &self,
        from: &Key,
        version: &Version,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        if !self.options.caps.reuse {
            return Err(self.fault(Kind::Unsupported, "cannot copy", from));
        }
        let object = self.version(from, version)?;
        let mut state = self.state();
        self.check(&state, to, &cond)?;
        let metadata = metadata.unwrap_or_else(|| object.blob.metadata.clone().unwrap_or_default());
        self.put(&mut state, to, object.body, metadata, true)
    }

    async fn drop_version(&self, key: &Key, version: &Version) -> Result<()> {
        let mut state = self.state();
        let Some(history) = state.objects.get_mut(key) else {
            return Ok(());
        };
        let is = |object: &Object| object.blob.version.as_ref() == Some(version);
        if history.now.as_ref().is_some_and(is) {
            return Err(self.fault(Kind::Changed, "it is what stands there", key));
        }
        for (_, before) in &mut history.before {
            before.take_if(|object| is(object));
        }
        Ok(())
    }

    async fn space(&self) -> Result<StoreSpace> {
        Ok(StoreSpace {
            total: self.options.room,
            free: None,
        })
    }

    async fn unfinished(&self, under: &str) -> Result<Vec<(Key, String)>> {
        let state = self.state();
        let mut found: Vec<(Key, String)> = state
            .uploads
            .iter()
            .map(|(name, upload)| (upload.key.clone(), name.clone()))
            .collect();
        found.retain(|(key, _)| key.as_str().starts_with(under));
        found.sort();
        Ok(found)
    }

    async fn discard(&self, _: &Key, upload: &str) -> Result<()> {
        self.state().uploads.remove(upload);
        Ok(())
    }
}

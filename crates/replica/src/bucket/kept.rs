//! What the trash of a bucket holds at a place: a copy, or a note that names the version that was displaced (design 0005).
//!
//! Invariants: a note is written before its version is displaced; a version is dropped only when it neither stands at its key nor is
//! named by a note of another run.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use syncline_model::{Entry, Fault, Kind, Result, Seen, Tag, TrashRef, escape};
use syncline_store::{Blob, Cond, Key, Listed, Store, Version};

use super::blobs::{self, TRASH, copy, pour, read_whole};
use super::lease::Lease;
use super::metadata::{self, Metadata};
use super::scan::{self, ScanWalk};
use super::{Shared, TARGET_MAX, trash};
use crate::seam::Walk;

/// Bytes of every note, filled up with blanks: so a listing alone tells what can be one.
const NOTE: usize = 3989;
/// Notes that are read at once.
const AT_ONCE: usize = 32;

/// A version that was displaced. Text, so that it can be read without us.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    /// Below the root of the tree, as everywhere.
    key: String,
    version: Version,
    size: u64,
    tag: String,
    metadata: Metadata,
}

/// Where the bytes are.
enum Source {
    Copy(Key),
    Version(Key, Version),
}

/// What was displaced.
pub(super) struct Kept {
    /// As it was; the tag of a copy is the copy's.
    pub blob: Blob,
    at: Source,
}

fn no_longer_kept(key: &Key, why: Fault) -> Fault {
    Fault::new(
        Kind::NotFound,
        "the bucket no longer keeps the version that the trash names",
        key.as_str().escape_debug(),
    )
    .hint("a rule of the bucket (lifecycle) or somebody has removed it; what else is in the trash is not concerned")
    .because(why)
}

/// The bytes of the note that stands for what bears `tag` at `key`; `None` where no version of it is kept, or its name is too long.
pub(super) async fn note(store: &dyn Store, key: &Key, tag: &Tag) -> Result<Option<Bytes>> {
    let blob = store.stat(key).await?;
    if blob.tag != *tag {
        return Err(Fault::new(
            Kind::Changed,
            "was replaced since it was seen",
            key.as_str().escape_debug(),
        ));
    }
    let Tag::Store(tag) = &blob.tag else {
        return Ok(None);
    };
    let (Some(version), Ok(tag)) = (blob.version, std::str::from_utf8(tag)) else {
        return Ok(None);
    };
    let note = Note {
        key: key.as_str().to_owned(),
        version,
        size: blob.size,
        tag: tag.to_owned(),
        metadata: blob.metadata.unwrap_or_default(),
    };
    let mut text =
        serde_json::to_vec(&note).map_err(|why| Fault::new(Kind::Bug, why.to_string(), key.as_str()))?;
    if text.len() > NOTE {
        return Ok(None);
    }
    text.resize(NOTE, b' ');
    Ok(Some(text.into()))
}

fn may_be_note(blob: &Blob) -> bool {
    blob.size == NOTE as u64
}

/// The note at `key`, if it is one.
async fn read_note(store: &dyn Store, key: &Key) -> Result<Option<Note>> {
    let (blob, text) = read_whole(store, key, NOTE as u64, None).await?;
    if !blob.metadata.as_ref().is_some_and(metadata::is_note) {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|why| {
        Fault::new(
            Kind::Corrupt,
            "a note of the trash cannot be read",
            key.as_str().escape_debug(),
        )
        .because(why)
    })
}

impl Note {
    fn kept(self) -> Result<Kept> {
        let blob = Blob {
            size: self.size,
            tag: Tag::Store(self.tag.into_bytes().into()),
            modified: None,
            md5: None,
            metadata: Some(self.metadata),
            version: Some(self.version.clone()),
        };
        let at = Source::Version(Key::new(self.key)?, self.version);
        Ok(Kept { blob, at })
    }
}

/// What the trash holds at `at`.
pub(super) async fn find(store: &dyn Store, at: &TrashRef) -> Result<Kept> {
    let key = trash::key_of(at)?;
    let blob = store.stat(&key).await?;
    if may_be_note(&blob)
        && let Some(note) = read_note(store, &key).await?
    {
        return note.kept();
    }
    let at = Source::Copy(key);
    Ok(Kept { blob, at })
}

impl Kept {
    /// The bytes.
    pub async fn read(&self, store: &dyn Store) -> Result<(Box<dyn syncline_store::Seen>, &Key)> {
        match &self.at {
            Source::Copy(key) => {
                let tag = Some(&self.blob.tag).filter(|tag| **tag != Tag::None);
                Ok((store.get(key, None, tag).await?, key))
            }
            Source::Version(key, version) => match store.get_version(key, version, None).await {
                Err(fault) if fault.is(Kind::NotFound) => Err(no_longer_kept(key, fault)),
                body => Ok((body?, key)),
            },
        }
    }

    /// `NotFound` unless its bytes are there.
    pub async fn check(&self, store: &dyn Store) -> Result<()> {
        match &self.at {
            Source::Copy(_) => Ok(()),
            Source::Version(key, version) => match store.get_version(key, version, Some((0, 0))).await {
                Err(fault) if fault.is(Kind::NotFound) => Err(no_longer_kept(key, fault)),
                there => there.map(drop),
            },
        }
    }

    /// Puts a copy of it at `to`.
    pub async fn copy_to(
        &self,
        store: &dyn Store,
        to: &Key,
        cond: Cond,
        metadata: Option<Metadata>,
    ) -> Result<Blob> {
        let (key, version) = match &self.at {
            Source::Copy(key) => return copy(store, key, &self.blob.tag, to, cond, metadata).await,
            Source::Version(key, version) => (key, version),
        };
        if store.caps().reuse {
            match store
                .reuse_version(key, version, to, cond.clone(), metadata.clone())
                .await
            {
                Err(fault) if fault.is(Kind::Unsupported) => (),
                done => return done,
            }
        }
        pour(
            store,
            store.get_version(key, version, None).await?,
            to,
            cond,
            metadata,
        )
        .await
    }
}

/// The trash of a run, notes shown as what they name.
pub(super) struct KeptWalk {
    pub shared: Arc<Shared>,
    /// Where the trash of the run begins.
    pub under: String,
    pub walk: ScanWalk,
}

/// What a row of the listing shows; `None`: gone meanwhile.
async fn shown(shared: &Shared, under: &str, mut seen: Seen) -> Result<Option<Seen>> {
    let store = &*shared.store;
    if seen
        .what
        .entry
        .content()
        .is_none_or(|content| content.size != NOTE as u64)
    {
        return Ok(Some(seen));
    }
    let key = Key::new(format!("{under}{}", escape::encode(&seen.slot.path())))?;
    let note = match read_note(store, &key).await {
        Ok(Some(note)) => note,
        Ok(None) => return Ok(Some(seen)),
        Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let kept = note.kept()?;
    let md5 = blobs::md5_of(store, &kept.blob);
    let mut entry = scan::observe(&kept.blob, md5, None, shared.profile.classes).entry;
    if let Entry::Link(_, target) = &mut entry {
        // A link whose target is gone still tells that it was there.
        match kept.read(store).await {
            Ok((mut body, _)) => {
                let mut bytes = Vec::new();
                while let Some(more) = body.next().await? {
                    bytes.extend_from_slice(&more);
                    if bytes.len() as u64 > TARGET_MAX {
                        return Err(Fault::new(
                            Kind::Corrupt,
                            "a link's target is too long",
                            key.as_str(),
                        ));
                    }
                }
                *target = bytes.into();
            }
            Err(fault) if fault.is(Kind::NotFound) => (),
            Err(fault) => return Err(fault),
        }
    }
    seen.what.entry = entry;
    Ok(Some(seen))
}

#[async_trait]
impl Walk for KeptWalk {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        while let Some(batch) = self.walk.next().await? {
            let (shared, under) = (&*self.shared, self.under.as_str());
            let asked: Vec<_> = batch.into_iter().map(|seen| shown(shared, under, seen)).collect();
            let shown: Vec<Option<Seen>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
            let shown: Vec<Seen> = shown.into_iter().flatten().collect();
            if !shown.is_empty() {
                return Ok(Some(shown));
            }
        }
        Ok(None)
    }
}

/// Drops the versions that notes among these objects of the trash of a run name, as far as nobody else needs them.
pub(super) async fn drop_versions(
    shared: &Shared,
    run: &str,
    objects: &[Listed],
    lease: &mut Lease,
) -> Result<()> {
    let store = &*shared.store;
    let asked: Vec<_> = objects
        .iter()
        .filter(|listed| may_be_note(&listed.blob))
        .map(|listed| async move {
            let Some(note) = read_note(store, &listed.key).await? else {
                return Ok(None);
            };
            // A run that was killed may have left the note of something that stands to this day.
            let key = Key::new(note.key.as_str())?;
            let stands = match store.stat(&key).await {
                Err(fault) if fault.is(Kind::NotFound) => false,
                asked => asked?.version.as_ref() == Some(&note.version),
            };
            let found = (stem_of(listed.key.as_str()).to_owned(), key, note.version);
            Ok::<_, Fault>((!stands).then_some(found))
        })
        .collect();
    let found: Vec<Option<(String, Key, Version)>> =
        stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let mut versions: HashMap<String, Vec<(Key, Version)>> = HashMap::new();
    for (stem, key, version) in found.into_iter().flatten() {
        versions.entry(stem).or_default().push((key, version));
    }
    if versions.is_empty() {
        return Ok(());
    }
    lease.renew(shared).await?;
    // Asked after what stands: what stands no longer gets no new notes.
    spare_others(shared, run, &mut versions, lease).await?;
    let versions: Vec<_> = versions.into_values().flatten().collect();
    for some in versions.chunks(AT_ONCE) {
        let dropped: Vec<_> = some
            .iter()
            .map(|(key, version)| async move {
                match store.drop_version(key, version).await {
                    Err(fault) if fault.is(Kind::Changed) => Ok(()),
                    dropped => dropped,
                }
            })
            .collect();
        stream::iter(dropped)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        lease.renew(shared).await?;
    }
    Ok(())
}

/// Takes out what notes of other runs name: one of two runs may have been killed before it displaced what it had noted.
async fn spare_others(
    shared: &Shared,
    run: &str,
    versions: &mut HashMap<String, Vec<(Key, Version)>>,
    lease: &mut Lease,
) -> Result<()> {
    let store = &*shared.store;
    let mut listing = store.list(TRASH, None).await?;
    while let Some(page) = listing.next().await? {
        for listed in page.iter().filter(|listed| may_be_note(&listed.blob)) {
            let key = listed.key.as_str();
            let of_run = key[TRASH.len()..].split('/').next() == Some(run);
            let Some(wanted) = versions.get_mut(stem_of(key)).filter(|_| !of_run) else {
                continue;
            };
            let note = match read_note(store, &listed.key).await {
                Err(fault) if fault.is(Kind::NotFound) => continue,
                note => note?,
            };
            if let Some(note) = note {
                wanted.retain(|(key, version)| (key.as_str(), version) != (&note.key, &note.version));
            }
        }
        lease.renew(shared).await?;
    }
    Ok(())
}

/// The path of an object of the trash without its run and without numbers behind it, which differ from run to run.
fn stem_of(key: &str) -> &str {
    let path = key[TRASH.len()..].split_once('/').map_or("", |(_, path)| path);
    let mut stem = path;
    while let Some((shorter, number)) = stem.rsplit_once('.')
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        stem = shorter;
    }
    stem
}

/// The bytes of a note, put at its place in the trash if that is free.
pub(super) async fn put_note(store: &dyn Store, at: &Key, note: Bytes) -> Result<Blob> {
    blobs::write_whole(store, at, note, metadata::of_note(), Cond::Absent).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_behind_a_path_are_no_part_of_it() {
        for (key, stem) in [
            ("r/a/b", "a/b"),
            ("r/a/b.1", "a/b"),
            ("q/b.1.12", "b"),
            ("q/b.c", "b.c"),
            ("q/b.", "b."),
        ] {
            assert_eq!(stem_of(&format!("{TRASH}{key}")), stem);
        }
    }
}

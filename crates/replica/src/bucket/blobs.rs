//! Small blobs whole, in one call; and where ours lie below `.syncline/`.
//!
//! Invariant: nothing larger than the limit given is held in memory.

use bytes::Bytes;
use syncline_model::replica::OWN_DIR;
use syncline_model::{Fault, Kind, RelPath, Result, Tag};
use syncline_store::{Blob, Cond, Key, Listed, Seen, Store};

use super::metadata::Metadata;

/// What all of our own keys begin with.
pub const OWN: &str = ".syncline/";
/// Where the marker stands.
pub const MARKER: &str = ".syncline/marker.json";
/// Where attribute tables stand.
pub const ATTRIBUTES: &str = ".syncline/attributes/";
/// Where trash stands, by run.
pub const TRASH: &str = ".syncline/trash/";
/// Where drafts stand that found no room in memory.
pub const STAGE: &str = ".syncline/stage/";
/// Where moves of directories under way are recorded.
pub const INTENTS: &str = ".syncline/intents/";
/// The lease under which trash is emptied.
pub const LEASE: &str = ".syncline/lease/trash";
/// Sorts after every key that begins with the text before it.
pub const LAST: char = '\u{10ffff}';

/// True when a key is ours and no part of the tree.
pub fn is_own(key: &str) -> bool {
    key.starts_with(OWN) || key == OWN_DIR
}

/// True when a path is ours and no part of the tree.
pub fn is_own_path(path: &RelPath) -> bool {
    path.components()
        .next()
        .is_some_and(|name| name.as_bytes() == OWN_DIR.as_bytes())
}

/// Reads a blob of at most `max` bytes.
pub async fn read_whole(
    store: &dyn Store,
    key: &Key,
    max: u64,
    seen: Option<&Tag>,
) -> Result<(Blob, Vec<u8>)> {
    let mut body = store.get(key, None, seen).await?;
    let blob = body.blob().clone();
    let too_large = || {
        Fault::new(
            Kind::Invalid,
            format!("larger than {max} bytes"),
            key.as_str().escape_debug(),
        )
    };
    if blob.size > max {
        return Err(too_large());
    }
    let mut out = Vec::new();
    while let Some(bytes) = body.next().await? {
        out.extend_from_slice(&bytes);
        if out.len() as u64 > max {
            return Err(too_large());
        }
    }
    Ok((blob, out))
}

/// Writes a blob that is in memory.
pub async fn write_whole(
    store: &dyn Store,
    key: &Key,
    bytes: Bytes,
    metadata: Metadata,
    cond: Cond,
) -> Result<Blob> {
    let mut draft = store.draft(key, Some(bytes.len() as u64), metadata, None).await?;
    if !bytes.is_empty() {
        draft.write(bytes).await?;
    }
    draft.publish(cond).await
}

/// Copies a blob within the store: without the bytes travelling where it can, else through us.
pub async fn copy(
    store: &dyn Store,
    from: &Key,
    seen: &Tag,
    to: &Key,
    cond: Cond,
    metadata: Option<Metadata>,
) -> Result<Blob> {
    if store.caps().reuse {
        match store.reuse(from, seen, to, cond.clone(), metadata.clone()).await {
            Err(fault) if fault.is(Kind::Unsupported) => (),
            done => return done,
        }
    }
    pour(
        store,
        store.get(from, None, Some(seen)).await?,
        to,
        cond,
        metadata,
    )
    .await
}

/// Writes a body that is being read to another place, with its own metadata or this.
pub async fn pour(
    store: &dyn Store,
    mut body: Box<dyn Seen>,
    to: &Key,
    cond: Cond,
    metadata: Option<Metadata>,
) -> Result<Blob> {
    let (size, kept) = (body.blob().size, body.blob().metadata.clone());
    let mut draft = store
        .draft(to, Some(size), metadata.or(kept).unwrap_or_default(), None)
        .await?;
    while let Some(bytes) = body.next().await? {
        draft.write(bytes).await?;
    }
    draft.publish(cond).await
}

/// Removes one blob under a condition.
pub async fn remove(store: &dyn Store, key: Key, cond: Cond) -> Result<()> {
    store
        .remove(&[(key, cond)])
        .await
        .into_iter()
        .next()
        .unwrap_or(Ok(()))
}

/// All that stands under a prefix that only we fill.
pub async fn list_all(store: &dyn Store, under: &str) -> Result<Vec<Listed>> {
    let mut listing = store.list(under, None).await?;
    let mut out = Vec::new();
    while let Some(page) = listing.next().await? {
        out.extend(page);
    }
    Ok(out)
}

/// The MD5 of an object, where its tag or the store tells.
pub fn md5_of(store: &dyn Store, blob: &Blob) -> Option<[u8; 16]> {
    let from_tag = || match &blob.tag {
        Tag::Store(tag) if store.caps().tag_is_md5 => {
            let bare = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\""));
            let bare = bare.unwrap_or(tag);
            let whole = bare.split(|&byte| byte == b'-').next();
            let parts_too = syncline_model::zoo::on("parts-tag-taken-as-md5");
            super::metadata::hex(whole.filter(|_| parts_too).unwrap_or(bare))
        }
        _ => None,
    };
    blob.md5.or_else(from_tag)
}

/// The key at which the object of `path` stands.
pub fn key_of(path: &RelPath) -> Result<Key> {
    if is_own_path(path) || path.is_root() {
        return Err(Fault::new(
            Kind::Invalid,
            "is Syncline's own and no part of the tree",
            path,
        ));
    }
    Key::new(syncline_model::escape::encode(path)).map_err(|_| too_long(path))
}

/// The key of the marker of an empty directory, and the prefix of all that lies in it.
pub fn dir_key_of(path: &RelPath) -> Result<Key> {
    let mut key = key_of(path)?.as_str().to_owned();
    key.push('/');
    Key::new(key).map_err(|_| too_long(path))
}

fn too_long(path: &RelPath) -> Fault {
    Fault::new(
        Kind::Invalid,
        format!("longer than the {} bytes that a store takes for a name", Key::MAX),
        path,
    )
    .hint("shorten the names of its directories, or exclude it")
}

//! Objects that come to stand at a path: staged and published, moved, copied, restored, or given other attributes.
//!
//! Invariant: bytes staged are those that the entry promises (length, and digest where known) or nothing is published.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use syncline_model::{
    Change, Content, Digest, Entry, Fault, Kind, RelPath, Result, Sameness, Slot, Tag, TrashRef,
};
use syncline_store::{Blob, Cond, Draft, Key};

use super::blobs::{self, STAGE, copy, write_whole};
use super::edit::{BucketEdit, beside, carry_over};
use super::row::{group, set_group};
use super::{Shared, announced, kept, lock, metadata, trash, uploads};
use crate::seam::{Applied, Body, Staged};

/// Files up to this size are read whole before anything is sent, so that their digest goes beside them.
const SMALL: u64 = 1 << 20;
/// Bytes of small files that may wait in memory; more lie in the store, beside the tree.
const HELD_MAX: usize = 64 << 20;

/// Bytes that wait to be published.
pub(super) enum Drafted {
    /// In memory.
    Whole(Bytes),
    /// In an upload under way.
    Open(Box<dyn Draft>),
    /// In an object beside the tree.
    Beside(Key, Tag),
}

pub(super) async fn stage(
    edit: &BucketEdit,
    path: &RelPath,
    new: &Entry,
    mut body: Box<dyn Body>,
) -> Result<Staged> {
    let key = blobs::key_of(path)?;
    let promised = new
        .content()
        .ok_or_else(|| Fault::new(Kind::Invalid, "only files have bytes", path))?;
    let (drafted, content) = if promised.size <= SMALL {
        let bytes = collect(path, promised.size, &mut *body).await?;
        let content = Content {
            size: promised.size,
            digest: Some(Digest(*blake3::hash(&bytes).as_bytes())),
            md5: Some(Md5::digest(&bytes).into()),
        };
        check(path, promised, &content)?;
        (hold(edit, bytes).await?, content)
    } else {
        let (draft, content) = uploads::stage(edit, path, &key, new, &mut *body).await?;
        if let Err(fault) = check(path, promised, &content) {
            draft.discard().await?;
            return Err(fault);
        }
        (Drafted::Open(draft), content)
    };
    body.check().await?;
    let mut entry = new.clone();
    if let Some(known) = entry.content_mut() {
        *known = content;
    }
    let draft = edit.next.fetch_add(1, Ordering::Relaxed);
    let brought = !matches!(drafted, Drafted::Whole(_));
    lock(&edit.drafts).insert(draft, drafted);
    Ok(Staged {
        entry,
        draft,
        brought,
    })
}

async fn collect(path: &RelPath, size: u64, body: &mut dyn Body) -> Result<Bytes> {
    let mut out = BytesMut::new();
    while let Some(bytes) = body.next().await? {
        if out.is_empty() && bytes.len() as u64 == size {
            // The whole file in one piece: no copy.
            return match body.next().await? {
                None => Ok(bytes),
                Some(_) => Err(other_length(path)),
            };
        }
        out.extend_from_slice(&bytes);
        if out.len() as u64 > size {
            return Err(other_length(path));
        }
    }
    if out.len() as u64 == size {
        Ok(out.freeze())
    } else {
        Err(other_length(path))
    }
}

pub(super) fn other_length(path: &RelPath) -> Fault {
    Fault::new(
        Kind::Changed,
        "was changed while it was read: its length is another",
        path,
    )
}

fn check(path: &RelPath, promised: &Content, content: &Content) -> Result<()> {
    match promised.same(content) {
        Sameness::Differs => Err(Fault::new(
            Kind::Corrupt,
            "what was read is not what was announced: its digest is another",
            path,
        )),
        _ => Ok(()),
    }
}

async fn hold(edit: &BucketEdit, bytes: Bytes) -> Result<Drafted> {
    let held = edit.held.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
    if held <= HELD_MAX || !edit.shared.store.caps().reuse {
        return Ok(Drafted::Whole(bytes));
    }
    edit.held.fetch_sub(bytes.len(), Ordering::Relaxed);
    let number = edit.next.fetch_add(1, Ordering::Relaxed);
    let key = Key::new(format!(
        "{}{}/{number:08x}",
        stage_prefix(&edit.shared),
        edit.options.run
    ))?;
    let blob = write_whole(
        &*edit.shared.store,
        &key,
        bytes,
        metadata::Metadata::new(),
        Cond::Any,
    )
    .await?;
    Ok(Drafted::Beside(key, blob.tag))
}

fn stage_prefix(shared: &Shared) -> String {
    format!("{STAGE}{}/", shared.options.device)
}

/// Removes what a dead run of this device left beside the tree.
pub(super) async fn clear_stage(shared: &Shared) -> Result<()> {
    let left = blobs::list_all(&*shared.store, &stage_prefix(shared)).await?;
    let keys: Vec<_> = left.into_iter().map(|listed| (listed.key, Cond::Any)).collect();
    for batch in keys.chunks(1000) {
        shared
            .store
            .remove(batch)
            .await
            .into_iter()
            .collect::<Result<()>>()?;
    }
    Ok(())
}

/// Drops every draft that no change took.
pub(super) async fn discard_all(edit: &BucketEdit) -> Result<()> {
    let left: Vec<_> = lock(&edit.drafts).drain().map(|(_, drafted)| drafted).collect();
    for drafted in left {
        match drafted {
            Drafted::Whole(bytes) => drop(edit.held.fetch_sub(bytes.len(), Ordering::Relaxed)),
            // An upload in parts stays: the next run that stages the same file goes on with it.
            Drafted::Open(draft) if draft.upload().is_some() => drop(draft),
            Drafted::Open(draft) => draft.discard().await?,
            Drafted::Beside(key, _) => blobs::remove(&*edit.shared.store, key, Cond::Any).await?,
        }
    }
    Ok(())
}

/// Publishes what was staged, or a symbolic link or special file, which need no staging.
pub(super) async fn publish(
    edit: &BucketEdit,
    change: &Change,
    staged: Option<Staged>,
    drafted: Option<Drafted>,
) -> Result<Applied> {
    let path = &change.path;
    let key = blobs::key_of(path)?;
    let Some(new) = &change.new else {
        return Err(Fault::new(Kind::Bug, "nothing to publish", path));
    };
    let mut entry = edit.completed(path, new, change.old.as_ref()).await?;
    if let (Some(content), Some(staged)) = (
        entry.content_mut(),
        staged.as_ref().and_then(|s| s.entry.content()),
    ) {
        content.learn(staged);
        content.size = staged.size;
    }
    edit.regroup(&mut entry);
    let drafted = match drafted {
        Some(drafted) => drafted,
        None => Drafted::Whole(stand_in(&entry)),
    };
    let (cond, was, trashed) = edit.clear_way(change, &key).await?;
    if let Drafted::Whole(bytes) = &drafted {
        announced::durably(edit, path, &entry, bytes).await?;
    }
    let sent = send(edit, &key, drafted, cond, &entry).await;
    let blob = match sent {
        Ok(blob) => blob,
        Err(fault) => match ours_already(edit, &key, &entry, &fault).await {
            Some(blob) => blob,
            None => {
                trash::forget(edit, &trashed).await;
                // A store that answers "not found" to a new object speaks of something else than the object.
                let speaks_of_it = change.old.is_some() || fault.is(Kind::Exists);
                return Err(if speaks_of_it {
                    edit.gone(path, fault)
                } else {
                    fault
                });
            }
        },
    };
    let is_link = !entry.is_file();
    let now = edit.record(path, was.as_ref(), entry, blob)?;
    if is_link && !edit.shared.store.caps().tag_is_md5 {
        edit.shared.tables.flush_row(&Slot::of(path, false)).await?;
    }
    Ok(Applied {
        now: Some(now),
        trashed,
        was: None,
    })
}

/// The bytes of the object that stands for a link or special file.
fn stand_in(entry: &Entry) -> Bytes {
    match entry {
        Entry::Link(_, target) => Bytes::copy_from_slice(target),
        _ => Bytes::new(),
    }
}

async fn send(edit: &BucketEdit, key: &Key, drafted: Drafted, cond: Cond, entry: &Entry) -> Result<Blob> {
    let shared = &edit.shared;
    match drafted {
        Drafted::Whole(bytes) => {
            if entry.is_file() {
                edit.held.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            write_whole(&*shared.store, key, bytes, beside(shared, entry), cond).await
        }
        Drafted::Open(draft) => {
            let blob = draft.publish(cond).await?;
            uploads::done(shared, key)?;
            Ok(blob)
        }
        Drafted::Beside(from, tag) => {
            let blob = copy(
                &*shared.store,
                &from,
                &tag,
                key,
                cond,
                Some(beside(shared, entry)),
            )
            .await?;
            blobs::remove(&*shared.store, from, Cond::Any).await?;
            Ok(blob)
        }
    }
}

/// A refusal may be the answer to a request that was sent twice because the first answer was lost: then what stands
/// there is what we sent.
async fn ours_already(edit: &BucketEdit, key: &Key, entry: &Entry, fault: &Fault) -> Option<Blob> {
    if !matches!(fault.kind, Kind::Changed | Kind::Exists) {
        return None;
    }
    let blob = edit.shared.store.stat(key).await.ok()?;
    let ours = blob
        .metadata
        .as_ref()
        .is_some_and(|found| *found == beside(&edit.shared, entry));
    let digest = blob.metadata.as_ref().and_then(metadata::digest);
    let same = digest.is_some() && digest == entry.content().and_then(|content| content.digest);
    (ours && same && blob.size == entry.size()).then_some(blob)
}

/// Moves or copies the object at `from` to the path of the change.
pub(super) async fn transfer(
    edit: &BucketEdit,
    change: &Change,
    from: &RelPath,
    gone: bool,
) -> Result<Applied> {
    let shared = &edit.shared;
    let (source, key) = (blobs::key_of(from)?, blobs::key_of(&change.path)?);
    let Some(new) = &change.new else {
        return Err(Fault::new(Kind::Bug, "a move to nowhere", from));
    };
    let found = shared.find_object(from, edit.options.classes).await?;
    let found = found.ok_or_else(|| shared.changed("what should move is no longer there", from))?;
    if found.entry.same_content(new) == Sameness::Differs {
        return Err(shared.changed("what should move is no longer what was seen", from));
    }
    let ours = shared.row_of(from, &found).await?;
    let row = ours.as_ref().map(|row| syncline_model::Observation {
        entry: row.entry.clone(),
        tag: row.tag.clone(),
    });
    let mut entry = carry_over(&carry_over(new, Some(&found)), row.as_ref());
    // What others put beside an object of theirs stays with it.
    let kept = ours.as_ref().map(|_| beside(shared, &entry));
    if let (Some(content), Some(known)) = (entry.content_mut(), found.entry.content()) {
        content.learn(known);
    }
    match ours.as_ref().and_then(|row| group(&row.entry)) {
        None if !gone => {
            edit.group_with(from, &mut entry);
            if let Some(mut row) = ours {
                // The name that others join is of the group from now on.
                set_group(&mut row.entry, group(&entry));
                (row.generation, row.names) = (shared.generation(), None);
                shared.tables.put(&row.slot.clone(), Some(&row))?;
            }
        }
        known => set_group(&mut entry, known),
    }
    let (cond, was, trashed) = edit.clear_way(change, &key).await?;
    announced::durably(edit, &change.path, &entry, &stand_in(&entry)).await?;
    let written = copy(&*shared.store, &source, &found.tag, &key, cond, kept).await;
    let blob = match written {
        Ok(blob) => blob,
        Err(fault) => {
            trash::forget(edit, &trashed).await;
            return Err(match fault.kind {
                Kind::Changed | Kind::Exists
                    if change.old.is_none() && shared.store.stat(&key).await.is_ok() =>
                {
                    let what = "something is there already";
                    Fault::new(
                        Kind::Exists,
                        what,
                        format!("{} in {}", change.path, shared.store.label()),
                    )
                }
                _ => edit.gone(&change.path, fault),
            });
        }
    };
    let tag = blob.tag.clone();
    let now = edit.record(&change.path, was.as_ref(), entry, blob)?;
    if gone && let Err(fault) = edit.remove_object(from, source, &found.tag).await {
        if change.old.is_none() {
            // Somebody changed the source meanwhile: as if nothing had been moved.
            edit.remove_object(&change.path, key, &tag).await?;
        }
        return Err(fault);
    }
    Ok(Applied {
        now: Some(now),
        trashed,
        was: None,
    })
}

/// Brings a file back from the trash, where it stays.
pub(super) async fn restore(edit: &BucketEdit, change: &Change, at: &TrashRef) -> Result<Applied> {
    let shared = &edit.shared;
    let key = blobs::key_of(&change.path)?;
    let Some(new) = &change.new else {
        return Err(Fault::new(Kind::Bug, "a restore to nowhere", &change.path));
    };
    let kept = kept::find(&*shared.store, at).await?;
    if kept.blob.size != new.size() {
        return Err(shared.changed("what the trash holds is not what was put there", &change.path));
    }
    kept.check(&*shared.store).await?;
    let stands = kept.blob.metadata.as_ref().map(metadata::attributes);
    let new_beside = beside(shared, new);
    let same = stands.is_some_and(|meta| meta == metadata::attributes(&new_beside));
    let new_beside = Some(new_beside).filter(|_| !same);
    let (cond, was, trashed) = edit.clear_way(change, &key).await?;
    match kept.copy_to(&*shared.store, &key, cond, new_beside).await {
        Ok(blob) => {
            let mut entry = new.clone();
            edit.regroup(&mut entry);
            let now = edit.record(&change.path, was.as_ref(), entry, blob)?;
            Ok(Applied {
                now: Some(now),
                trashed,
                was: None,
            })
        }
        Err(fault) => {
            trash::forget(edit, &trashed).await;
            Err(edit.gone(&change.path, fault))
        }
    }
}

/// Gives what stands there other attributes. Only a new time of modification of an object of ours is written beside it, by a copy onto
/// itself, for other tools to see; the rest travels in the attribute table alone.
pub(super) async fn attributes(edit: &BucketEdit, change: &Change) -> Result<Applied> {
    let shared = &edit.shared;
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return Err(Fault::new(Kind::Invalid, "a new file needs bytes", &change.path));
    };
    if old.entry.same_content(new) == Sameness::Differs {
        return Err(Fault::new(
            Kind::Invalid,
            "other content needs bytes",
            &change.path,
        ));
    }
    let key = blobs::key_of(&change.path)?;
    let mut entry = edit.completed(&change.path, new, Some(old)).await?;
    if let (Some(content), Some(known)) = (entry.content_mut(), old.entry.content()) {
        content.learn(known);
    }
    let blob = shared
        .store
        .stat(&key)
        .await
        .map_err(|fault| edit.gone(&change.path, fault))?;
    if old.tag != Tag::None && blob.tag != old.tag {
        return Err(shared.changed("was replaced since it was seen", &change.path));
    }
    let (slot, md5) = (
        Slot::of(&change.path, false),
        blobs::md5_of(&*shared.store, &blob),
    );
    let row = shared.tables.lookup(&slot, Some((&blob, md5))).await?;
    let ours = row.is_some();
    set_group(&mut entry, row.and_then(|row| group(&row.entry)));
    let newer = entry.meta().and_then(|meta| meta.mtime) != old.entry.meta().and_then(|meta| meta.mtime);
    let was = blob.tag.clone();
    let caps = shared.store.caps();
    let blob = if ours && newer && caps.reuse && caps.metadata {
        let cond = Cond::Is(blob.tag.clone());
        match shared
            .store
            .reuse(&key, &was, &key, cond, Some(beside(shared, &entry)))
            .await
        {
            Err(fault) if fault.is(Kind::Unsupported) => blob,
            written => written.map_err(|fault| edit.gone(&change.path, fault))?,
        }
    } else {
        blob
    };
    let replaced = (blob.tag != was).then_some(&was);
    let now = edit.record(&change.path, replaced, entry, blob)?;
    Ok(Applied {
        now: Some(now),
        trashed: None,
        was: None,
    })
}

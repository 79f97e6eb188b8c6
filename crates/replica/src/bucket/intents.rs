//! A directory moved within the store: copies and removals, by lists that are written down first, so that a killed move never leaves a
//! file under both names for long.
//!
//! Invariant: a source object is removed only when its copy stands and the source still bears the tag that was copied. A list that is
//! found later is finished object by object under the same condition; an object that others have touched stays where it is.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use syncline_model::{Change, Fault, Kind, Observation, RelPath, Result, Slot, Tag, escape};
use syncline_store::{Blob, Cond, Key, Listed};

use super::blobs::{self, INTENTS, copy, list_all, read_whole, write_whole};
use super::edit::{BucketEdit, carry_over};
use super::metadata::{self, Metadata};
use super::row::Row;
use super::{Shared, announced, lock};
use crate::seam::Applied;

/// Objects on one list.
const LIST: usize = 4000;
const AT_ONCE: usize = 32;
const INTENT_MAX: u64 = 64 << 20;

/// A list of objects on their way: what follows the prefix, and the tag that is copied.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    from: String,
    to: String,
    objects: Vec<(String, Tag)>,
}

fn prefix(shared: &Shared) -> String {
    format!("{INTENTS}{}/", shared.options.device)
}

/// Moves the directory `from` to the path of the change, where nothing may stand.
pub(super) async fn move_dir(edit: &BucketEdit, change: &Change, from: &RelPath) -> Result<Applied> {
    let shared = &edit.shared;
    let to = &change.path;
    let Some(new) = &change.new else {
        return Err(Fault::new(Kind::Bug, "a move to nowhere", from));
    };
    if to.is_within(from) {
        return Err(Fault::new(
            Kind::Invalid,
            "a directory cannot be moved into itself",
            to,
        ));
    }
    match &change.old {
        Some(old) if old.entry.is_dir() => edit.remove_dir(to).await?,
        Some(_) => drop(edit.clear_for_dir(change).await?),
        None if shared.find(to, edit.options.classes).await?.is_some() => {
            return Err(shared.changed("something is there now", to));
        }
        None => (),
    }
    let (source, target) = (blobs::dir_key_of(from)?, blobs::dir_key_of(to)?);
    let row = shared.tables.lookup(&Slot::of(from, true), None).await?;
    let stood = row.map(|row| Observation {
        entry: row.entry,
        tag: Tag::None,
    });
    let entry = carry_over(new, stood.as_ref());
    let mut listing = shared.store.list(source.as_str(), None).await?;
    let (mut met, mut objects, mut rows) = (false, Vec::new(), Vec::new());
    let numbers = AtomicU64::new(0);
    loop {
        let page = listing.next().await?;
        let last = page.is_none();
        for Listed { key, blob } in page.into_iter().flatten() {
            let rest = &key.as_str()[source.as_str().len()..];
            let path = escape::decode(key.as_str().trim_end_matches('/')).ok();
            let slot = path.map(|path| Slot::of(&path, key.as_str().ends_with('/')));
            let gone = |slot: &Slot| lock(&shared.overlay).removed(slot);
            if !slot.as_ref().is_some_and(gone) {
                met = true;
                rows.push(row_of(shared, slot.as_ref(), &blob).await?);
                objects.push((rest.to_owned(), blob.tag));
            }
        }
        if objects.len() >= LIST || (last && !objects.is_empty()) {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let key = Key::new(format!("{}{}-{number:08x}", prefix(shared), edit.options.run))?;
            let list = std::mem::take(&mut objects);
            let intent = Intent {
                from: source.as_str().to_owned(),
                to: target.as_str().to_owned(),
                objects: list,
            };
            move_listed(edit, &intent, std::mem::take(&mut rows), &key).await?;
        }
        if last {
            break;
        }
    }
    let fresh = lock(&edit.shared.dirs).move_fresh(from, to);
    if !met && !fresh {
        return Err(shared.changed("the directory that should move is no longer there", from));
    }
    shared.tables.put(&Slot::of(from, true), None)?;
    edit.record_dir(to, entry.clone())?;
    let mut dirs = lock(&edit.shared.dirs);
    dirs.touched(to, shared);
    dirs.moved_away(from);
    dirs.thinned(from);
    Ok(Applied {
        now: Some(Observation {
            entry,
            tag: Tag::None,
        }),
        trashed: None,
        was: None,
    })
}

impl BucketEdit {
    async fn clear_for_dir(&self, change: &Change) -> Result<()> {
        let key = blobs::key_of(&change.path)?;
        let (_, tag, _) = self.clear_way(change, &key).await?;
        self.remove_object(&change.path, key, &tag.unwrap_or(Tag::None))
            .await
    }
}

/// What is known of the object `blob` at `slot`.
async fn row_of(shared: &Shared, slot: Option<&Slot>, blob: &Blob) -> Result<Option<Row>> {
    let Some(slot) = slot.filter(|slot| !slot.is_dir()) else {
        return Ok(None);
    };
    let md5 = blobs::md5_of(&*shared.store, blob);
    shared.tables.lookup(slot, Some((blob, md5))).await
}

/// Moves what is listed; `rows` has what is known of each.
async fn move_listed(edit: &BucketEdit, intent: &Intent, rows: Vec<Option<Row>>, at: &Key) -> Result<()> {
    let shared = &edit.shared;
    let bytes =
        postcard::to_stdvec(intent).map_err(|why| Fault::new(Kind::Bug, why.to_string(), at.as_str()))?;
    let listed = write_whole(&*shared.store, at, bytes.into(), Metadata::new(), Cond::Any).await?;
    let mut links = false;
    for ((rest, _), row) in intent.objects.iter().zip(&rows) {
        let to = escape::decode(&format!("{}{rest}", intent.to)).ok();
        if let Some((to, row)) = to.zip(row.as_ref()) {
            links |= announced::announce(shared, &to, &row.entry, row.md5)?.is_some();
        }
    }
    if links {
        shared.tables.flush().await?;
    }
    let copies: Vec<_> = intent
        .objects
        .iter()
        .zip(rows)
        .map(|((rest, tag), row)| copy_one(edit, intent, rest, tag, row))
        .collect();
    stream::iter(copies)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let mut removed = Vec::new();
    for (rest, tag) in &intent.objects {
        removed.push((Key::new(format!("{}{rest}", intent.from))?, Cond::Is(tag.clone())));
    }
    for batch in removed.chunks(1000) {
        for (answer, (key, cond)) in shared.store.remove(batch).await.into_iter().zip(batch) {
            match answer {
                Ok(()) => {
                    if let (Ok(path), Cond::Is(tag)) = (escape::decode(key.as_str()), cond) {
                        edit.forget(&path, tag)?;
                    }
                }
                // Changed meanwhile by somebody: their version stays where it is.
                Err(fault) if matches!(fault.kind, Kind::Changed | Kind::NotFound) => (),
                Err(fault) => return Err(fault),
            }
        }
    }
    blobs::remove(&*shared.store, at.clone(), Cond::Is(listed.tag)).await
}

async fn copy_one(edit: &BucketEdit, intent: &Intent, rest: &str, tag: &Tag, row: Option<Row>) -> Result<()> {
    let shared = &edit.shared;
    let (from, to) = (
        Key::new(format!("{}{rest}", intent.from))?,
        Key::new(format!("{}{rest}", intent.to))?,
    );
    let blob = match copy(&*shared.store, &from, tag, &to, Cond::Absent, None).await {
        // Removed or changed by somebody since it was listed: not ours to move.
        Err(fault) if fault.is(Kind::NotFound) => return Ok(()),
        copied => copied?,
    };
    let now = shared.options.clock.elapsed();
    if let Some((_, to)) = move_rows(shared, intent, rest, row, &blob).await? {
        lock(&shared.overlay).wrote(Slot::of(&to, false), None, Some(blob), now);
    }
    Ok(())
}

/// Gives the copy the row of its source, and its directories theirs. The two paths, of a file.
async fn move_rows(
    shared: &Shared,
    intent: &Intent,
    rest: &str,
    row: Option<Row>,
    copied: &Blob,
) -> Result<Option<(RelPath, RelPath)>> {
    let path = |prefix: &str| escape::decode(format!("{prefix}{rest}").trim_end_matches('/'));
    let (Ok(from), Ok(to)) = (path(&intent.from), path(&intent.to)) else {
        return Ok(None);
    };
    let is_dir = rest.ends_with('/');
    let top = escape::decode(intent.to.trim_end_matches('/')).unwrap_or_default();
    let mut above = if is_dir {
        (Some(from.clone()), Some(to.clone()))
    } else {
        (from.parent(), to.parent())
    };
    while let (Some(from), Some(to)) = above {
        if to == top || !to.is_within(&top) {
            break;
        }
        move_dir_row(shared, &from, &to).await?;
        above = (from.parent(), to.parent());
    }
    if is_dir {
        return Ok(None);
    }
    if let Some(row) = row {
        let slot = Slot::of(&to, false);
        let row = Row {
            slot: slot.clone(),
            tag: copied.tag.clone(),
            md5: blobs::md5_of(&*shared.store, copied),
            generation: shared.generation(),
            names: None,
            ..row
        };
        shared.tables.put(&slot, Some(&row))?;
    }
    Ok(Some((from, to)))
}

async fn move_dir_row(shared: &Shared, from: &RelPath, to: &RelPath) -> Result<()> {
    let tables = &shared.tables;
    if tables.lookup(&Slot::of(to, true), None).await?.is_some() {
        return Ok(());
    }
    let Some(row) = tables.lookup(&Slot::of(from, true), None).await? else {
        return Ok(());
    };
    let slot = Slot::of(to, true);
    tables.put(
        &slot,
        Some(&Row {
            slot: slot.clone(),
            generation: shared.generation(),
            names: None,
            ..row
        }),
    )
}

/// The lists of moves that these runs of this device, or all, had begun. Another session of this device may be moving right now.
pub(super) async fn left(shared: &Shared, runs: Option<&[String]>) -> Result<Vec<Key>> {
    let prefix = prefix(shared);
    let listed = list_all(&*shared.store, &prefix).await?.into_iter();
    let of_them = |key: &Key| {
        let name = key
            .as_str()
            .strip_prefix(&prefix)
            .and_then(|name| name.rsplit_once('-'));
        runs.is_none_or(|runs| name.is_some_and(|(run, _)| runs.iter().any(|known| known == run)))
    };
    Ok(listed.map(|listed| listed.key).filter(of_them).collect())
}

/// Finishes what these runs of this device, or all, had begun to move.
pub(super) async fn recover(shared: &Shared, runs: Option<&[String]>) -> Result<()> {
    for key in left(shared, runs).await? {
        let (blob, bytes) = read_whole(&*shared.store, &key, INTENT_MAX, None).await?;
        let intent: Intent = postcard::from_bytes(&bytes).map_err(|why| {
            Fault::new(
                Kind::Corrupt,
                "the list of a move under way cannot be read",
                key.as_str(),
            )
            .because(why)
            .hint("remove that object; files that were being moved then stand under both names")
        })?;
        let moves: Vec<_> = intent
            .objects
            .iter()
            .map(|(rest, tag)| finish_one(shared, &intent, rest, tag))
            .collect();
        stream::iter(moves)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        blobs::remove(&*shared.store, key, Cond::Is(blob.tag)).await?;
    }
    Ok(())
}

/// Removes a source whose copy stands, or makes the copy first; leaves alone what others have touched.
async fn finish_one(shared: &Shared, intent: &Intent, rest: &str, tag: &Tag) -> Result<()> {
    let (from, to) = (
        Key::new(format!("{}{rest}", intent.from))?,
        Key::new(format!("{}{rest}", intent.to))?,
    );
    let absent = |fault: Fault| {
        if fault.is(Kind::NotFound) {
            Ok(None)
        } else {
            Err(fault)
        }
    };
    let source = shared.store.stat(&from).await.map(Some).or_else(absent)?;
    let Some(source) = source.filter(|source| source.tag == *tag) else {
        return Ok(());
    };
    let path = |key: &Key| escape::decode(key.as_str()).ok().filter(|_| !rest.ends_with('/'));
    let slot = path(&from).map(|path| Slot::of(&path, false));
    let row = row_of(shared, slot.as_ref(), &source).await?;
    if let Some((to, row)) = path(&to).zip(row.as_ref())
        && let Some(slot) = announced::announce(shared, &to, &row.entry, row.md5)?
    {
        shared.tables.flush_row(&slot).await?;
    }
    let target = match shared.store.stat(&to).await.map(Some).or_else(absent)? {
        Some(target) if equal(shared, &source, &target) => target,
        Some(_) => return Ok(()),
        None => match copy(&*shared.store, &from, tag, &to, Cond::Absent, None).await {
            Err(fault) if matches!(fault.kind, Kind::Changed | Kind::Exists | Kind::NotFound) => {
                return Ok(());
            }
            copied => copied?,
        },
    };
    let moved = move_rows(shared, intent, rest, row, &target).await?;
    match blobs::remove(&*shared.store, from, Cond::Is(tag.clone())).await {
        Err(fault) if matches!(fault.kind, Kind::Changed | Kind::NotFound) => return Ok(()),
        done => done?,
    }
    moved.map_or(Ok(()), |(from, _)| {
        shared.tables.put(&Slot::of(&from, false), None)
    })
}

/// Whether one object is a copy of the other, as far as tags and digests prove it.
fn equal(shared: &Shared, a: &Blob, b: &Blob) -> bool {
    let md5 = |blob: &Blob| blobs::md5_of(&*shared.store, blob);
    let digest = |blob: &Blob| blob.metadata.as_ref().and_then(metadata::digest);
    let same = match (md5(a), md5(b), digest(a), digest(b)) {
        (Some(a), Some(b), ..) => a == b,
        (_, _, Some(a), Some(b)) => a == b,
        _ => a.tag == b.tag,
    };
    same && a.size == b.size
}

//! The trash of a bucket: under `.syncline/trash/RUN/`, before anything is replaced or removed, a note of the version that it is where the
//! bucket keeps versions, else a copy made by the store.
//!
//! Invariant: a key in the trash is written once; the same path displaced again in one run gets a number.

use std::sync::atomic::{AtomicBool, Ordering};

use syncline_model::{Fault, Kind, RelPath, Result, Tag, Time, TrashRef, escape};
use syncline_store::{Cond, Key};

use super::blobs::{self, LAST, TRASH, copy};
use super::edit::BucketEdit;
use super::kept::{self, KeptWalk};
use super::lease::Lease;
use super::{Shared, body, scan};
use crate::seam::{Body, TrashRun, Walk};

/// Most generations of one path in one run.
const GENERATIONS: usize = 1000;

fn check_run(run: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if run.is_empty() || run.len() > 128 || run.starts_with('.') || !run.bytes().all(plain) {
        return Err(Fault::new(
            Kind::Invalid,
            "is no name of a run",
            run.escape_debug(),
        ));
    }
    Ok(())
}

fn prefix(run: &str) -> Result<String> {
    check_run(run)?;
    Ok(format!("{TRASH}{run}/"))
}

/// The key of something in the trash.
pub(super) fn key_of(at: &TrashRef) -> Result<Key> {
    Key::new(format!("{}{}", prefix(&at.run)?, escape::encode(&at.path)))
}

/// Notes or copies the object at `key` into the trash of this run. Without conditional writes what is replaced is kept even where no trash is wanted.
pub(super) async fn keep(
    edit: &BucketEdit,
    path: &RelPath,
    key: &Key,
    tag: &Tag,
    replaced: bool,
) -> Result<Option<TrashRef>> {
    let store = &*edit.shared.store;
    if !(edit.options.trash || (replaced && !store.caps().if_is)) {
        return Ok(None);
    }
    let caps = store.caps();
    let note = if caps.versions && caps.metadata {
        kept::note(store, key, tag)
            .await
            .map_err(|fault| edit.gone(path, fault))?
    } else {
        None
    };
    for generation in 0..GENERATIONS {
        let at = TrashRef {
            run: edit.options.run.clone(),
            path: generation_of(path, &edit.options.run, generation)?,
        };
        let to = key_of(&at)?;
        let kept = match &note {
            Some(note) => kept::put_note(store, &to, note.clone()).await,
            None => copy(store, key, tag, &to, Cond::Absent, None).await,
        };
        match kept {
            Ok(_) => return Ok(Some(at)),
            Err(fault) if fault.is(Kind::NotFound) => return Err(edit.gone(path, fault)),
            // Either the source is another or the place in the trash is taken.
            Err(fault) if matches!(fault.kind, Kind::Changed | Kind::Exists) => {
                let now = store.stat(key).await.map_err(|fault| edit.gone(path, fault))?;
                if now.tag != *tag {
                    return Err(edit.shared.changed("was replaced since it was seen", path));
                }
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(Fault::new(Kind::Full, "was displaced too often by one run", path).whole(false))
}

/// Where the trash keeps the `generation`th version of `path`; by a digest of the path where that would be too long a key.
pub(super) fn generation_of(path: &RelPath, run: &str, generation: usize) -> Result<RelPath> {
    let invalid = |why: syncline_model::path::BadPath| Fault::new(Kind::Bug, why.to_string(), path);
    let room = Key::MAX.saturating_sub(TRASH.len() + run.len() + 8);
    let mut name = if escape::encode(path).len() <= room {
        path.as_bytes().to_vec()
    } else {
        format!("long-{}", blake3::hash(path.as_bytes()).to_hex()).into_bytes()
    };
    if generation > 0 {
        name.extend_from_slice(format!(".{generation}").as_bytes());
    }
    RelPath::new(name).map_err(invalid)
}

/// Takes back a copy whose original was not displaced after all.
pub(super) async fn forget(edit: &BucketEdit, trashed: &Option<TrashRef>) {
    if let Some(key) = trashed.as_ref().and_then(|at| key_of(at).ok()) {
        // What cannot be removed now goes with the run's trash.
        let _ = blobs::remove(&*edit.shared.store, key, Cond::Any).await;
    }
}

/// Runs that have trash here, by one listing each.
pub(super) async fn runs(shared: &Shared) -> Result<Vec<TrashRun>> {
    let mut out: Vec<TrashRun> = Vec::new();
    let mut after = None;
    loop {
        let mut listing = shared.store.list(TRASH, after.as_ref()).await?;
        let mut last = None;
        let Some(page) = listing.next().await? else { break };
        for listed in page {
            let Some((run, _)) = listed.key.as_str()[TRASH.len()..].split_once('/') else {
                continue;
            };
            let time = listed.blob.modified.unwrap_or(Time::NEVER);
            if check_run(run).is_ok() && out.last().is_none_or(|known| known.run != run) {
                out.push(TrashRun {
                    run: run.to_owned(),
                    time,
                });
            }
            last = Some(run.to_owned());
        }
        let Some(run) = last else { break };
        after = Some(Key::new(format!("{TRASH}{run}/{LAST}"))?);
    }
    out.sort_by(|a, b| a.run.cmp(&b.run));
    out.dedup_by(|a, b| a.run == b.run);
    out.sort_by(|a, b| (a.time, &a.run).cmp(&(b.time, &b.run)));
    Ok(out)
}

pub(super) async fn list(shared: &std::sync::Arc<Shared>, run: &str) -> Result<Box<dyn Walk>> {
    let under = prefix(run)?;
    let walk = scan::scan_below(shared, &under).await?;
    let shared = shared.clone();
    Ok(Box::new(KeptWalk { shared, under, walk }))
}

pub(super) async fn read(shared: &Shared, at: &TrashRef) -> Result<Box<dyn Body>> {
    let kept = kept::find(&*shared.store, at).await?;
    let (seen, key) = kept.read(&*shared.store).await?;
    Ok(body::handed_out(seen, kept.blob.size, key))
}

/// Forgets the trash of a run for good, under the lease.
pub(super) async fn empty(shared: &Shared, run: &str) -> Result<()> {
    if shared.options.read_only {
        return Err(Fault::new(
            Kind::Denied,
            "is only read here",
            shared.store.label(),
        ));
    }
    let under = prefix(run)?;
    let mut lease = Lease::take(shared).await?;
    let held = AtomicBool::new(true);
    let removed = async {
        let mut listing = shared.store.list(&under, None).await?;
        while let Some(page) = listing.next().await? {
            let noted = kept::drop_versions(shared, run, &page, &mut lease);
            if let Err(fault) = noted.await {
                // A lease that was lost is another's by now.
                held.store(!fault.is(Kind::Changed), Ordering::Relaxed);
                return Err(fault);
            }
            let keys: Vec<_> = page.into_iter().map(|listed| (listed.key, Cond::Any)).collect();
            shared
                .store
                .remove(&keys)
                .await
                .into_iter()
                .collect::<Result<()>>()?;
            if let Err(fault) = lease.renew(shared).await {
                held.store(false, Ordering::Relaxed);
                return Err(fault);
            }
        }
        Ok(())
    }
    .await;
    if held.load(Ordering::Relaxed) {
        lease.give_back(shared).await?;
    }
    removed
}

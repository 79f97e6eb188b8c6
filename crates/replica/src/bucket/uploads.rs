//! Large files: uploads in parts that a later run goes on with, if the bytes are still the same.
//!
//! Invariant: parts that an earlier run sent are used only when a digest of the very bytes that they hold, written down as they went,
//! equals the digest of what is read now; and only uploads that this device wrote down are ever given up.
//!
//! State rows: `u/KEY`, an [`Upload`]; `v/KEY`, NUL and a number: eight bytes of the digest of so many steps from the beginning.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use syncline_model::{Content, Digest, Entry, Fault, Kind, RelPath, Result, Time};
use syncline_store::{Draft, Key};

use super::edit::{BucketEdit, beside};
use super::{Shared, put};
use crate::seam::Body;

/// Digests of prefixes are written down at each multiple of this; parts end at such a multiple.
const STEP: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Upload {
    upload: String,
    size: u64,
    mtime: Option<Time>,
    run: String,
    /// Set by the first run that ended without going on with it.
    idle: bool,
}

fn state_key(key: &str) -> Vec<u8> {
    [b"u/", key.as_bytes()].concat()
}

fn save(shared: &Shared, key: &Key, upload: &Upload) -> Result<()> {
    let value =
        postcard::to_stdvec(upload).map_err(|why| Fault::new(Kind::Bug, why.to_string(), key.as_str()))?;
    shared.state.write(vec![(state_key(key.as_str()), Some(value))])?;
    shared.state.persist()
}

fn steps_key(key: &Key) -> Vec<u8> {
    [b"v/", key.as_str().as_bytes(), b"\0"].concat()
}

fn step_key(key: &Key, at: u64) -> Vec<u8> {
    [&steps_key(key)[..], &(at / STEP).to_be_bytes()].concat()
}

/// Forgets the record of an upload that was published.
pub(super) fn done(shared: &Shared, key: &Key) -> Result<()> {
    let mut batch = vec![(state_key(key.as_str()), None)];
    for row in shared.state.scan(&steps_key(key), b"") {
        batch.push((row?.0, None));
    }
    shared.state.write(batch)
}

fn recorded(shared: &Shared, key: &Key) -> Result<Option<Upload>> {
    let value = shared.state.get(&state_key(key.as_str()))?;
    Ok(value.and_then(|value| postcard::from_bytes(&value).ok()))
}

async fn give_up(shared: &Shared, key: &Key, upload: &Upload) -> Result<()> {
    match shared.store.discard(key, &upload.upload).await {
        Err(fault) if !matches!(fault.kind, Kind::NotFound | Kind::Unsupported) => Err(fault),
        _ => done(shared, key),
    }
}

/// Opens an upload for `new`: the one that an earlier run left, if it may still serve, else a new one.
async fn open(edit: &BucketEdit, key: &Key, new: &Entry) -> Result<(Box<dyn Draft>, bool)> {
    let shared = &edit.shared;
    let (size, beside) = (new.size(), beside(shared, new));
    let mtime = new.meta().and_then(|meta| meta.mtime);
    if let Some(left) = recorded(shared, key)? {
        if left.size == size && left.mtime == mtime {
            match shared
                .store
                .draft(key, Some(size), beside.clone(), Some(&left.upload))
                .await
            {
                Ok(draft) if proof(shared, key, draft.held())?.is_some() => return Ok((draft, true)),
                Ok(draft) => draft.discard().await?,
                Err(fault) if cannot_resume(&fault) => (),
                Err(fault) => return Err(fault),
            }
        }
        give_up(shared, key, &left).await?;
    }
    Ok((shared.store.draft(key, Some(size), beside, None).await?, false))
}

/// The upload is gone, or this store cannot go on with one.
fn cannot_resume(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        Kind::NotFound | Kind::Invalid | Kind::Unsupported | Kind::Changed
    )
}

/// The digest that was written down for exactly the first `held` bytes.
fn proof(shared: &Shared, key: &Key, held: u64) -> Result<Option<[u8; 8]>> {
    if held == 0 || !held.is_multiple_of(STEP) {
        return Ok(None);
    }
    Ok(shared
        .state
        .get(&step_key(key, held))?
        .and_then(|step| step.try_into().ok()))
}

/// Sends a body in parts; what is not yet published is written down for a later run.
pub(super) async fn stage(
    edit: &BucketEdit,
    path: &RelPath,
    key: &Key,
    new: &Entry,
    body: &mut dyn Body,
) -> Result<(Box<dyn Draft>, Content)> {
    let shared = &edit.shared;
    let (size, mtime) = (new.size(), new.meta().and_then(|meta| meta.mtime));
    let (mut draft, resumed) = open(edit, key, new).await?;
    let held = draft.held();
    let proof = if resumed { proof(shared, key, held)? } else { None };
    let mut record = Upload {
        upload: String::new(),
        size,
        mtime,
        run: edit.options.run.clone(),
        idle: false,
    };
    note(shared, key, &mut record, &*draft)?;
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0u64);
    while let Some(mut bytes) = body.next().await? {
        if at + bytes.len() as u64 > size {
            draft.discard().await?;
            done(shared, key)?;
            return Err(put::other_length(path));
        }
        while !bytes.is_empty() {
            let piece = take_step(&mut bytes, at);
            hasher.update(&piece);
            at += piece.len() as u64;
            if at.is_multiple_of(STEP) {
                let step = hasher.finalize().as_bytes()[..8].to_vec();
                if at == held && proof.is_none_or(|proof| proof[..] != step[..]) {
                    draft.discard().await?;
                    done(shared, key)?;
                    let what = "is not what an earlier run began to send; that upload was given up";
                    return Err(Fault::new(Kind::Changed, what, path).retry(true));
                }
                // Before the bytes go: what the store holds must never be more than what is written down.
                shared.state.write(vec![(step_key(key, at), Some(step))])?;
            }
            if at > held {
                let written = draft.write(piece).await;
                // Begun by the very write that failed, it has a name all the same.
                note(shared, key, &mut record, &*draft)?;
                written?;
            }
        }
    }
    let digest = Some(Digest(*hasher.finalize().as_bytes()));
    Ok((
        draft,
        Content {
            size: at,
            digest,
            md5: None,
        },
    ))
}

/// Writes an upload down as soon as it has a name.
fn note(shared: &Shared, key: &Key, record: &mut Upload, draft: &dyn Draft) -> Result<()> {
    match draft.upload() {
        Some(upload) if upload != record.upload => {
            record.upload = upload;
            save(shared, key, record)
        }
        _ => Ok(()),
    }
}

/// Cuts a piece off that does not cross a step, nor what is held, which ends at one.
fn take_step(bytes: &mut Bytes, at: u64) -> Bytes {
    let room = usize::try_from(STEP - at % STEP).unwrap_or(usize::MAX);
    bytes.split_to(room.min(bytes.len()))
}

/// Gives up every upload that this device has begun and not ended.
pub(super) async fn give_all_up(shared: &Shared) -> Result<()> {
    let rows: Vec<_> = shared.state.scan(b"u/", b"").collect::<Result<_>>()?;
    for (name, value) in rows {
        let key = String::from_utf8(name[2..].to_vec())
            .ok()
            .and_then(|name| Key::new(name).ok());
        if let (Some(key), Ok(upload)) = (key, postcard::from_bytes::<Upload>(&value)) {
            give_up(shared, &key, &upload).await?;
        }
    }
    Ok(())
}

/// At the end of a run: uploads that two runs in a row have not gone on with are given up.
pub(super) async fn finish(shared: &Shared, run: &str) -> Result<()> {
    let rows: Vec<_> = shared.state.scan(b"u/", b"").collect::<Result<_>>()?;
    for (name, value) in rows {
        let key = String::from_utf8(name[2..].to_vec())
            .ok()
            .and_then(|name| Key::new(name).ok());
        match (key, postcard::from_bytes::<Upload>(&value)) {
            (Some(key), Ok(mut upload)) if upload.run != run => {
                if upload.idle {
                    give_up(shared, &key, &upload).await?;
                } else {
                    upload.idle = true;
                    save(shared, &key, &upload)?;
                }
            }
            (Some(_), Ok(_)) => (),
            _ => shared.state.write(vec![(name, None)])?,
        }
    }
    Ok(())
}

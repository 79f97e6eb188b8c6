//! An S3 server's storage that is strict: exact keys, atomic conditions of every kind, MD5 tags, sorted pages by index.
//! The protocol and the signatures are the `s3s` crate's.
//!
//! Invariants: a condition and the change it guards are one step; no listing costs more than its page; what was
//! answered is on disk (not flushed) when the server has a directory, and is there again after a restart.

mod verbs;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use md5::{Digest as _, Md5};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use syncline_model::Clock as _;
use syncline_store::real::SystemClock;

type Pairs = HashMap<String, String>;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Object {
    bucket: String,
    key: String,
    etag: String,
    secs: u64,
    nanos: u32,
    metadata: Pairs,
    /// Names the files that hold it.
    number: u64,
    #[serde(skip)]
    body: Bytes,
}

struct Upload {
    bucket: String,
    key: String,
    metadata: Pairs,
    parts: BTreeMap<i32, (String, Bytes)>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: BTreeMap<String, Upload>,
}

/// The storage. Clones are the same.
#[derive(Clone, Default)]
pub struct Double {
    dir: Option<PathBuf>,
    next: Arc<AtomicU64>,
    state: Arc<Mutex<State>>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Object {
    fn modified(&self) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::new(self.secs, self.nanos))
    }

    fn tag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }
}

/// True when the condition lets the request pass.
fn passes(now: Option<&Object>, if_match: Option<&ETagCondition>, if_none: Option<&ETagCondition>) -> bool {
    let bears = |condition: &ETagCondition| match condition {
        ETagCondition::Any => now.is_some(),
        ETagCondition::ETag(tag) => now.is_some_and(|object| object.etag == tag.value()),
    };
    if_match.is_none_or(bears) && !if_none.is_some_and(bears)
}

impl Double {
    /// Storage in memory alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Storage that is also kept in `dir`, and begins with what is there.
    #[allow(
        clippy::disallowed_methods,
        reason = "a server of its own, outside of what is tested"
    )]
    pub fn open(dir: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let double = Self {
            dir: Some(dir.clone()),
            ..Self::default()
        };
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                double.state().buckets.entry(name).or_default();
            }
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let mut object: Object = serde_json::from_slice(&std::fs::read(&path)?)?;
            object.body = std::fs::read(path.with_extension("body"))?.into();
            double.next.fetch_max(object.number + 1, Ordering::Relaxed);
            let mut state = double.state();
            state
                .buckets
                .entry(object.bucket.clone())
                .or_default()
                .insert(object.key.clone(), object);
        }
        Ok(double)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a server of its own, outside of what is tested"
    )]
    fn save(&self, object: &Object) -> S3Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(format!("{}.json", object.number));
        let text = serde_json::to_vec(object).map_err(|_| s3_error!(InternalError))?;
        let written = std::fs::write(path.with_extension("body"), &object.body)
            .and_then(|()| std::fs::write(path, text));
        written.map_err(|_| s3_error!(InternalError))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a server of its own, outside of what is tested"
    )]
    fn forget(&self, object: Option<Object>) {
        if let (Some(dir), Some(object)) = (&self.dir, object) {
            let path = dir.join(format!("{}.json", object.number));
            let _ =
                std::fs::remove_file(&path).and_then(|()| std::fs::remove_file(path.with_extension("body")));
        }
    }

    /// Puts an object in place if the conditions hold, in one step.
    fn place(
        &self,
        state: &mut State,
        at: (&str, &str),
        made: (Bytes, String, Pairs),
        if_match: Option<&ETagCondition>,
        if_none: Option<&ETagCondition>,
    ) -> S3Result<Object> {
        let (bucket, key) = at;
        let objects = state
            .buckets
            .get_mut(bucket)
            .ok_or_else(|| s3_error!(NoSuchBucket))?;
        if !passes(objects.get(key), if_match, if_none) {
            return Err(s3_error!(PreconditionFailed));
        }
        let now = SystemClock.now();
        let (body, etag, metadata) = made;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (bucket, key) = (bucket.to_string(), key.to_string());
        let secs = u64::try_from(now.secs).unwrap_or(0);
        let object = Object {
            bucket,
            key: key.clone(),
            etag,
            secs,
            nanos: now.nanos,
            metadata,
            number,
            body,
        };
        self.save(&object)?;
        self.forget(objects.insert(key, object.clone()));
        Ok(object)
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let state = self.state();
        let objects = state.buckets.get(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    /// Number of objects in a bucket.
    pub fn count(&self, bucket: &str) -> usize {
        self.state().buckets.get(bucket).map_or(0, BTreeMap::len)
    }

    /// Makes a bucket if it is not there.
    #[allow(
        clippy::disallowed_methods,
        reason = "a server of its own, outside of what is tested"
    )]
    pub fn make_bucket(&self, bucket: &str) -> std::io::Result<()> {
        if let Some(dir) = &self.dir {
            std::fs::create_dir_all(dir.join(bucket))?;
        }
        self.state().buckets.entry(bucket.to_string()).or_default();
        Ok(())
    }
}

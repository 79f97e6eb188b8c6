//! A file's bytes, and proof that they are one version: what was expected stands there before and after.
//!
//! Invariant: a body that ends without an error held exactly the bytes of the file that `expect` saw (security rule
//! SR2): the open file and the name are compared with it when it is opened, the open file again at the end.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use syncline_model::{Content, Digest, Fault, Kind, Observation, RelPath, Result};
use syncline_store::{Disk, Stat};

use super::route::Routes;
use crate::seam::Body;

/// Bytes read in one go.
pub(crate) const CHUNK: usize = 1 << 20;

/// What was expected is no longer there.
pub(crate) fn changed(what: &str, path: &RelPath) -> Fault {
    Fault::new(Kind::Changed, what, path)
}

/// An open file that is being read.
pub(crate) struct FileBody<D: Disk> {
    disk: Arc<D>,
    file: Arc<D::File>,
    path: RelPath,
    before: Stat,
    at: u64,
    /// All of it was handed out, and it was the same file still.
    proved: bool,
}

impl<D: Disk> FileBody<D> {
    /// Opens the file at `path`; `Changed` unless it is `expect`.
    pub fn open(
        routes: &Routes<D>,
        path: &RelPath,
        expect: Option<&Observation>,
        follow: bool,
    ) -> Result<Self> {
        let gone = |fault: Fault| match fault.kind {
            Kind::NotFound => changed("it is gone", path),
            Kind::Changed => changed("another kind of entry stands there now", path),
            _ => fault.at(path),
        };
        let (step, name) = if follow {
            let found = routes.stat(path, true)?;
            found
                .map(|(step, name, _)| (step, name))
                .ok_or_else(|| changed("it is gone", path))?
        } else {
            // What the open file is, not how we came to it, tells whether it is what was expected.
            routes.parent(path, false, false).map_err(gone)?
        };
        let file = routes.disk.open(&step.spot.dir, &name, false).map_err(gone)?;
        let before = routes.disk.stat_file(&file).map_err(|fault| fault.at(path))?;
        let fs = routes.observer.fs(&step.spot, &name, &before)?;
        if expect.is_some_and(|expect| !routes.shifted.still(expect, &before, fs)) {
            return Err(changed("it was changed since it was looked at", path));
        }
        let (disk, file) = (Arc::clone(&routes.disk), Arc::new(file));
        Ok(Self {
            disk,
            file,
            path: path.clone(),
            before,
            at: 0,
            proved: false,
        })
    }

    /// Goes on from byte `from`.
    pub fn seek(mut self, from: u64) -> Self {
        self.at = from;
        self
    }

    fn unchanged(&self) -> Result<()> {
        let now = self
            .disk
            .stat_file(&self.file)
            .map_err(|fault| fault.at(&self.path))?;
        let same =
            (now.size, now.mtime, now.ctime) == (self.before.size, self.before.mtime, self.before.ctime);
        // Giving it one more name, or taking one away, moves the time of status change and nothing else.
        let renamed = now.links != self.before.links
            && (now.size, now.mtime) == (self.before.size, self.before.mtime)
            && (now.mode, now.owner) == (self.before.mode, self.before.owner);
        if same || renamed {
            Ok(())
        } else {
            Err(changed("it was changed while it was read", &self.path))
        }
    }

    /// The next bytes into `into`; 0 at the end.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize> {
        let left = self.before.size.saturating_sub(self.at);
        let want = usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let mut have = 0;
        while have < want {
            let at = self.at + have as u64;
            let got = self
                .disk
                .read(&self.file, at, &mut into[have..want])
                .map_err(|fault| fault.at(&self.path))?;
            if got == 0 {
                return Err(changed("it became shorter while it was read", &self.path));
            }
            have += got;
        }
        self.at += have as u64;
        Ok(have)
    }

    /// Reads it through.
    pub fn digest(mut self, with_md5: bool) -> Result<Content> {
        let size = self.before.size;
        let mut buffer = vec![0; usize::try_from(size).map_or(CHUNK, |size| size.clamp(1, CHUNK))];
        let mut blake = blake3::Hasher::new();
        let mut md5 = with_md5.then(Md5::new);
        loop {
            let got = self.fill(&mut buffer)?;
            if got == 0 {
                break;
            }
            blake.update(&buffer[..got]);
            if let Some(md5) = &mut md5 {
                md5.update(&buffer[..got]);
            }
        }
        self.unchanged()?;
        let digest = Some(Digest(*blake.finalize().as_bytes()));
        Ok(Content {
            size,
            digest,
            md5: md5.map(|md5| md5.finalize().into()),
        })
    }
}

#[async_trait]
impl<D: Disk> Body for FileBody<D> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let left = self.before.size.saturating_sub(self.at);
        if left == 0 {
            self.check().await?;
            return Ok(None);
        }
        let mut buffer = vec![0; usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))];
        let got = self.fill(&mut buffer)?;
        buffer.truncate(got);
        Ok(Some(buffer.into()))
    }

    fn lent(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::clone(&self.file) as Arc<dyn Any + Send + Sync>)
    }

    async fn check(&mut self) -> Result<()> {
        if !self.proved {
            self.unchanged()?;
            self.proved = self.at >= self.before.size;
        }
        Ok(())
    }
}

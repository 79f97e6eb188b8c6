//! A file's bytes, brought beside the tree.
//!
//! Invariant: a draft that is handed out holds whole what its source held (the source was looked at again afterwards),
//! its digest is of the bytes that passed, its holes are holes where the source lent its file, and it has its
//! attributes already, but for those that depend on what it will replace.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use md5::{Digest as _, Md5};
use syncline_model::{Content, Digest, Entry, Fault, Kind, RelPath, Result};
use syncline_store::{Disk, Sync, Target};

use super::super::body::CHUNK;
use super::{Draft, LocalEdit};
use crate::seam::{Body, Durability, Staged};

/// From this size on sharing bytes pays, and holes are looked for.
const SHARE: u64 = 64 << 10;
const HOLES: u64 = 4096;

/// Digests of the bytes that pass.
struct Passing {
    blake: blake3::Hasher,
    md5: Option<Md5>,
    len: u64,
}

impl Passing {
    fn new(wanted: &Content) -> Self {
        Self {
            blake: blake3::Hasher::new(),
            // Where the digest proves the bytes, their MD5 is what was said of them.
            md5: wanted.md5.filter(|_| wanted.digest.is_none()).map(|_| Md5::new()),
            len: 0,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.blake.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        self.len += bytes.len() as u64;
    }

    fn zeros(&mut self, mut count: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while count > 0 {
            let now = usize::try_from(count).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
            self.take(&ZEROS[..now]);
            count -= now as u64;
        }
    }

    fn content(self) -> Content {
        let digest = Some(Digest(*self.blake.finalize().as_bytes()));
        Content {
            size: self.len,
            digest,
            md5: self.md5.map(|md5| md5.finalize().into()),
        }
    }
}

impl<D: Disk> LocalEdit<D> {
    pub(super) async fn stage_file(
        &self,
        path: &RelPath,
        new: &Entry,
        mut body: Box<dyn Body>,
    ) -> Result<Staged> {
        let Some(content) = new.content() else {
            return Err(Fault::new(Kind::Invalid, "only files are staged", path));
        };
        let place = self.place_of(path)?;
        let (number, name) = self.draft_name();
        let lane = place.lane(number)?;
        let file = self.disk.open(&lane.dir, &name, true)?;
        let wanted = self.wanted(new);
        let filled = self
            .fill(&file, path, content, &mut body)
            .await
            .and_then(|passed| {
                // Most files belong to whom new files belong to: a look is cheaper than setting it again.
                let missing = wanted.clone().without(&self.disk.stat_file(&file)?);
                self.set(Target::File(&file), &missing)?;
                if self.how.durability == Durability::File || self.singly(&place) {
                    self.disk.sync(Sync::File(&file))?;
                }
                Ok((passed, self.disk.stat_file(&file)?))
            });
        drop(file);
        match filled {
            Ok((passed, stat)) => {
                let draft = Draft {
                    dir: lane.dir.clone(),
                    name,
                    stat,
                    wanted,
                    path: path.clone(),
                };
                super::held(&self.drafts).insert(number, draft);
                let mut entry = new.clone();
                if let Some(content) = entry.content_mut() {
                    *content = passed;
                }
                Ok(Staged {
                    entry,
                    draft: number,
                    brought: true,
                })
            }
            Err(fault) => {
                self.drop_draft((&lane.dir, &name), false);
                Err(fault)
            }
        }
    }

    async fn fill(
        &self,
        to: &D::File,
        path: &RelPath,
        wanted: &Content,
        body: &mut Box<dyn Body>,
    ) -> Result<Content> {
        let mut passing = Passing::new(wanted);
        let lent = body.lent().and_then(|lent| lent.downcast::<D::File>().ok());
        let copied = match lent {
            Some(from) if wanted.size > HOLES => self.take_lent(&from, to, wanted.size, &mut passing)?,
            _ => false,
        };
        if !copied {
            while let Some(bytes) = body.next().await? {
                self.disk.write(to, passing.len, &bytes)?;
                passing.take(&bytes);
            }
        }
        body.check().await?;
        let mut passed = passing.content();
        if passed.size != wanted.size {
            let what = format!("{} bytes came where {} were expected", passed.size, wanted.size);
            return Err(Fault::new(Kind::Changed, what, path));
        }
        let differs = match wanted.digest {
            Some(digest) => Some(digest) != passed.digest,
            None => wanted.md5.is_some_and(|md5| Some(md5) != passed.md5),
        };
        if differs {
            return Err(Fault::new(
                Kind::Corrupt,
                "the bytes that came are not those that were announced",
                path,
            )
            .hint("run again; if it stays, run with --checksum, which reads every file of both sides anew"));
        }
        passed.md5 = passed.md5.or(wanted.md5);
        Ok(passed)
    }

    /// Shares or copies a lent file where that serves; false: nothing was done.
    fn take_lent(&self, from: &Arc<D::File>, to: &D::File, size: u64, passing: &mut Passing) -> Result<bool> {
        if size >= SHARE && self.shares.load(Ordering::Relaxed) {
            match self.disk.clone_file(from, to) {
                Ok(()) => {
                    self.read_through(to, (0, size), None, passing)?;
                    return Ok(true);
                }
                Err(fault) if fault.is(Kind::Unsupported) => self.shares.store(false, Ordering::Relaxed),
                Err(fault) => return Err(fault),
            }
        }
        if self.disk.stat_file(from)?.allocated >= size {
            return Ok(false);
        }
        let mut at = 0;
        while let Some(range) = self.disk.data(from, at)?.filter(|range| range.start < size) {
            let end = range.start.saturating_add(range.len).min(size);
            if range.start < at || end <= range.start {
                return Err(Fault::new(Kind::Bug, "runs of data that do not ascend", ""));
            }
            passing.zeros(range.start - at);
            self.read_through(from, (range.start, end), Some(to), passing)?;
            at = end;
        }
        passing.zeros(size - at);
        self.disk.set_len(to, size)?;
        Ok(true)
    }

    /// Reads the bytes `from.0..from.1`, and writes them to the same place of `to`.
    fn read_through(
        &self,
        file: &D::File,
        from: (u64, u64),
        to: Option<&D::File>,
        passing: &mut Passing,
    ) -> Result<()> {
        let mut at = from.0;
        let mut buffer = vec![0; usize::try_from(from.1 - from.0).map_or(CHUNK, |len| len.min(CHUNK))];
        while at < from.1 {
            let want = usize::try_from(from.1 - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let got = self.disk.read(file, at, &mut buffer[..want])?;
            if got == 0 {
                return Err(Fault::new(
                    Kind::Changed,
                    "it became shorter while it was read",
                    "",
                ));
            }
            if let Some(to) = to {
                self.disk.write(to, at, &buffer[..got])?;
            }
            passing.take(&buffer[..got]);
            at += got as u64;
        }
        Ok(())
    }
}

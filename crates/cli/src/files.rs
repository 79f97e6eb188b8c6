//! Files of an operator: config, state records, plans. All access goes through [`Disk`].
//!
//! Invariant: a link is followed only if root or this user owns it (security rule SP14); what is written appears whole or not at all.

use std::ffi::OsStr;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use syncline_model::{Fault, Kind, Result};
use syncline_store::disk::Make;
use syncline_store::os::OsDisk;
use syncline_store::{Attrs, Disk, Node, Place, Stat, Sync as Durable, Target};

use crate::place::shown;

/// Largest config, filter or state file that is read.
pub const TEXT_MAX: u64 = 4 << 20;

type Dir = <OsDisk as Disk>::Dir;
type File = <OsDisk as Disk>::File;

/// Files of an operator.
#[derive(Clone)]
pub struct Files {
    /// The disk beneath.
    pub disk: Arc<OsDisk>,
}

/// A file's bytes and what it is.
pub struct Text {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Owner and permission bits.
    pub stat: Stat,
}

impl Files {
    /// On the real disk.
    pub fn new() -> Self {
        Self {
            disk: Arc::new(OsDisk::new()),
        }
    }

    /// Opens a directory. `NotFound` when there is none.
    pub fn dir(&self, path: &Path) -> Result<Dir> {
        self.disk.root(path).map_err(|fault| Fault {
            at: shown(path.as_os_str()),
            ..fault
        })
    }

    /// The one absolute path of an open directory, without links and `..`.
    pub fn canonical(&self, dir: &Dir) -> Result<PathBuf> {
        use std::os::fd::{AsFd, AsRawFd};
        let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let target = rustix::fs::readlink(&link, Vec::new())
            .map_err(|errno| Fault::new(Kind::Bug, format!("readlink: {errno}"), link))?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
    }

    /// Makes the directory `path` and those above it that are missing, for this user alone.
    pub fn make_dirs(&self, path: &Path) -> Result<Dir> {
        match self.dir(path) {
            Err(fault) if fault.is(Kind::NotFound) => {}
            done => return done,
        }
        let (above, name) = split(path)?;
        let above = self.make_dirs(above)?;
        self.make_dir(&above, name, path)?;
        self.dir(path)
    }

    /// Makes the directory `path`, with these permission bits; the one above it must be there. Nothing happens if it is there itself.
    pub fn make_last(&self, path: &Path, mode: u32) -> Result<Dir> {
        let (above, name) = split(path)?;
        let above = self.dir(above)?;
        if self.disk.stat(&above, name.as_bytes()).is_err() {
            self.make_dir(&above, name, path)?;
            let attrs = Attrs {
                mode: Some(mode),
                ..Attrs::default()
            };
            self.disk
                .set(Target::Name(&above, name.as_bytes()), attrs)
                .map_err(|fault| located(fault, path))?;
        }
        self.dir(path)
    }

    fn make_dir(&self, above: &Dir, name: &OsStr, path: &Path) -> Result<()> {
        let at = |fault| located(fault, path);
        match self.disk.make(above, name.as_bytes(), Make::Dir) {
            Err(fault) if !fault.is(Kind::Exists) => return Err(at(fault)),
            _ => {}
        }
        self.disk.sync(Durable::Dir(above)).map_err(at)
    }

    /// Reads a file of at most [`TEXT_MAX`] bytes; `None` when there is none.
    pub fn read(&self, path: &Path) -> Result<Option<Text>> {
        let (file, stat) = match self.open(path) {
            Ok(open) => open,
            Err(fault) if fault.is(Kind::NotFound) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let too_large = || {
            Fault::new(
                Kind::Invalid,
                format!("larger than {TEXT_MAX} bytes"),
                shown(path.as_os_str()),
            )
        };
        if stat.size > TEXT_MAX {
            return Err(too_large());
        }
        let mut reader = Reader {
            files: self.clone(),
            file,
            at: 0,
        };
        let mut bytes = Vec::new();
        let limited = reader.by_ref().take(TEXT_MAX + 1).read_to_end(&mut bytes);
        limited
            .map_err(|error| Fault::new(Kind::Corrupt, format!("read: {error}"), shown(path.as_os_str())))?;
        if bytes.len() as u64 > TEXT_MAX {
            Err(too_large())
        } else {
            Ok(Some(Text { bytes, stat }))
        }
    }

    /// Opens a file to be read as a stream.
    pub fn reader(&self, path: &Path) -> Result<Box<dyn BufRead + Send>> {
        let (file, _) = self.open(path)?;
        Ok(Box::new(io::BufReader::with_capacity(
            1 << 16,
            Reader {
                files: self.clone(),
                file,
                at: 0,
            },
        )))
    }

    /// Follows links as [`Disk::root`] does, and opens what is at the end.
    fn open(&self, path: &Path) -> Result<(File, Stat)> {
        let mut at = path.to_path_buf();
        for _ in 0..40 {
            let fail = |fault| located(fault, path);
            let (above, name) = split(&at)?;
            let dir = self.dir(above).map_err(fail)?;
            let stat = self.disk.stat(&dir, name.as_bytes()).map_err(fail)?;
            if stat.kind != Node::Link {
                let file = self.disk.open(&dir, name.as_bytes(), false).map_err(fail)?;
                let stat = self.disk.stat_file(&file).map_err(fail)?;
                return Ok((file, stat));
            }
            if stat.owner.uid != 0 && stat.owner.uid != rustix::process::geteuid().as_raw() {
                return Err(Fault::new(
                    Kind::Denied,
                    "this link belongs to another user",
                    shown(at.as_os_str()),
                ));
            }
            let target = self.disk.read_link(&dir, name.as_bytes()).map_err(fail)?;
            at = above.join(OsStr::from_bytes(&target));
        }
        Err(Fault::new(
            Kind::Invalid,
            "too many symbolic links",
            shown(path.as_os_str()),
        ))
    }

    /// Puts `bytes` at `path`, durably and whole.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut draft = self.draft(path)?;
        draft
            .write_all(bytes)
            .map_err(|error| Fault::new(Kind::Full, format!("write: {error}"), shown(path.as_os_str())))?;
        draft.publish()
    }

    /// Begins a file that appears at `path` when it is published.
    pub fn draft(&self, path: &Path) -> Result<Draft> {
        let fail = |fault| located(fault, path);
        let (above, name) = split(path)?;
        let dir = self.dir(above).map_err(fail)?;
        let draft_name = draft_name(name);
        match self.disk.remove(&dir, &draft_name, false) {
            Err(fault) if !fault.is(Kind::NotFound) => return Err(fail(fault)),
            _ => {}
        }
        let file = self.disk.open(&dir, &draft_name, true).map_err(fail)?;
        Ok(Draft {
            files: self.clone(),
            dir,
            file,
            draft_name,
            name: name.as_bytes().to_vec(),
            path: path.to_path_buf(),
            buffer: Vec::with_capacity(1 << 16),
            at: 0,
            published: false,
        })
    }

    /// Removes a file; nothing happens if there is none.
    pub fn remove(&self, path: &Path, dir: bool) -> Result<()> {
        let (above, name) = split(path)?;
        let removed = self.dir(above).and_then(|above| {
            self.disk.remove(&above, name.as_bytes(), dir)?;
            self.disk.sync(Durable::Dir(&above))
        });
        match removed {
            Err(fault) if !fault.is(Kind::NotFound) => Err(located(fault, path)),
            _ => Ok(()),
        }
    }

    /// Removes the directory `path` and all that is in it, by handles, following nothing.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        let (above, name) = split(path)?;
        let fail = |fault| located(fault, path);
        let above = self.dir(above).map_err(fail)?;
        self.clear(&above, name.as_bytes(), 0).map_err(fail)?;
        self.disk.sync(Durable::Dir(&above)).map_err(fail)
    }

    fn clear(&self, above: &Dir, name: &[u8], depth: usize) -> Result<()> {
        if self.disk.stat(above, name)?.kind != Node::Dir {
            return self.disk.remove(above, name, false);
        }
        if depth > 64 {
            return Err(Fault::new(Kind::Invalid, "state does not lie so deep", ""));
        }
        let dir = self.disk.open_dir(above, name)?;
        let mut names = Vec::new();
        self.disk.list(&dir, &mut |found| {
            names.push(found.name.to_vec());
            true
        })?;
        for below in names {
            self.clear(&dir, &below, depth + 1)?;
        }
        self.disk.remove(above, name, true)
    }

    /// The names in a directory, sorted; empty when there is none.
    pub fn names(&self, path: &Path) -> Result<Vec<Vec<u8>>> {
        let dir = match self.dir(path) {
            Err(fault) if fault.is(Kind::NotFound) => return Ok(Vec::new()),
            dir => dir?,
        };
        let mut names = Vec::new();
        self.disk
            .list(&dir, &mut |found| {
                names.push(found.name.to_vec());
                true
            })
            .map_err(|fault| located(fault, path))?;
        names.sort();
        Ok(names)
    }
}

fn located(fault: Fault, path: &Path) -> Fault {
    Fault {
        at: shown(path.as_os_str()),
        ..fault
    }
}

/// The name under which `name` is written before it appears.
pub fn draft_name(name: &OsStr) -> Vec<u8> {
    let mut draft = name.as_bytes().iter().take(200).copied().collect::<Vec<u8>>();
    draft.extend_from_slice(format!(".draft-{}", std::process::id()).as_bytes());
    draft
}

/// The directory and the last name of a path that has one.
fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => Ok((
            if above.as_os_str().is_empty() {
                Path::new(".")
            } else {
                above
            },
            name,
        )),
        _ => Err(Fault::new(
            Kind::Invalid,
            "this path has no last name",
            shown(path.as_os_str()),
        )),
    }
}

struct Reader {
    files: Files,
    file: File,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self
            .files
            .disk
            .read(&self.file, self.at, into)
            .map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A file that is not there yet. Dropped without [`Draft::publish`], it leaves nothing.
pub struct Draft {
    files: Files,
    dir: Dir,
    file: File,
    draft_name: Vec<u8>,
    name: Vec<u8>,
    path: PathBuf,
    buffer: Vec<u8>,
    at: u64,
    published: bool,
}

impl Draft {
    /// Makes it durable and visible, in place of what was there.
    pub fn publish(mut self) -> Result<()> {
        if let Err(error) = self.flush() {
            return Err(Fault::new(
                Kind::Full,
                format!("write: {error}"),
                shown(self.path.as_os_str()),
            ));
        }
        let fail = |fault| located(fault, &self.path);
        let disk = &self.files.disk;
        disk.sync(Durable::File(&self.file)).map_err(fail)?;
        disk.place(
            (&self.dir, &self.draft_name),
            (&self.dir, &self.name),
            Place::Over,
        )
        .map_err(fail)?;
        disk.sync(Durable::Dir(&self.dir)).map_err(fail)?;
        self.published = true;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 1 << 16 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.files
            .disk
            .write(&self.file, self.at, &self.buffer)
            .map_err(io::Error::other)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // A draft that stays is only litter: the next one of this name removes it.
            let _ = self.files.disk.remove(&self.dir, &self.draft_name, false);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real disk")]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_seen_when_published_only() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new();
        let path = dir.path().join("x");
        let mut draft = files.draft(&path).unwrap();
        draft.write_all(&[7; 100_000]).unwrap();
        drop(draft);
        assert!(files.read(&path).unwrap().is_none());
        assert!(files.names(dir.path()).unwrap().is_empty());
        files.write(&path, b"one").unwrap();
        files.write(&path, b"two").unwrap();
        assert_eq!(files.read(&path).unwrap().unwrap().bytes, b"two");
        assert_eq!(files.names(dir.path()).unwrap(), [b"x"]);
    }

    #[test]
    fn directories_are_made_all_the_way_and_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new();
        let deep = dir.path().join("a/b/c");
        assert!(files.make_last(&deep, 0o700).unwrap_err().is(Kind::NotFound));
        files.make_dirs(&deep).unwrap();
        let made = files.dir(&deep).unwrap();
        assert_eq!(files.disk.stat(&made, b"").unwrap().mode, 0o700);
        assert_eq!(files.canonical(&made).unwrap(), deep.canonicalize().unwrap());
        files.write(&deep.join("x"), b"").unwrap();
        std::os::unix::fs::symlink("/", deep.join("l")).unwrap();
        files.remove_tree(&dir.path().join("a")).unwrap();
        assert!(files.names(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn sp14_links_of_others_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new();
        files.write(&dir.path().join("real"), b"text").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert_eq!(files.read(&link).unwrap().unwrap().bytes, b"text");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
            assert!(files.read(&link).is_err_and(|fault| fault.is(Kind::Denied)));
        }
    }
}

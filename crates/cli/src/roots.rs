//! Which directories may be synced with each other: not `/`, not one within the other, not our own state (scenario S37).
//!
//! Invariant: judged by what the directories are (device and inode up to the top, and where mounts come from), not by their names alone.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use syncline_model::{Fault, Kind, Pair, Result, Side, replica::OWN_DIR};
use syncline_store::{Disk, os::OsDisk};

use crate::files::Files;
use crate::place::{Place, shown};

type Dir = <OsDisk as Disk>::Dir;

/// A local root that may not be there yet.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its one absolute path.
    pub path: PathBuf,
    /// False: only its last name is missing.
    pub there: bool,
    /// Device and inode, of itself (if it is there) and of each directory above it.
    ids: Vec<(u64, u64)>,
    /// Device numbers as the mount table has them, and the path within that file system.
    mounted: Option<(String, PathBuf)>,
}

impl Root {
    /// Looks at `path`. `NotFound` unless at most its last name is missing.
    pub fn look(files: &Files, path: &Path) -> Result<Self> {
        let (dir, name) = match files.dir(path) {
            Ok(dir) => (dir, None),
            Err(fault) if fault.is(Kind::Changed) => {
                return Err(Fault::new(
                    Kind::Invalid,
                    "it is no directory",
                    shown(path.as_os_str()),
                ));
            }
            Err(fault) if fault.is(Kind::NotFound) => match (path.parent(), path.file_name()) {
                (Some(above), Some(name)) => match files.dir(above) {
                    Ok(dir) => (dir, Some(name)),
                    Err(_) => return Err(missing(path)),
                },
                _ => return Err(missing(path)),
            },
            Err(fault) => return Err(fault),
        };
        let mut whole = files.canonical(&dir)?;
        let ids = chain(files, &dir)?;
        let mut mounted = mounts(files)?
            .into_iter()
            .rev()
            .find_map(|mount| mount.within(&whole));
        if let Some(name) = name {
            whole.push(name);
            if let Some((_, within)) = &mut mounted {
                within.push(name);
            }
        }
        Ok(Self {
            path: whole,
            there: name.is_none(),
            ids,
            mounted,
        })
    }

    /// True when `other` is this directory or lies within it.
    fn holds(&self, other: &Self) -> bool {
        let by_name = other.path.starts_with(&self.path);
        let by_id = self.there && self.ids.first().is_some_and(|own| other.ids.contains(own));
        let by_mount = match (&self.mounted, &other.mounted) {
            (Some((fs, at)), Some((other_fs, other_at))) => fs == other_fs && other_at.starts_with(at),
            _ => false,
        };
        by_name || by_id || by_mount
    }
}

fn missing(path: &Path) -> Fault {
    Fault::new(
        Kind::NotFound,
        "there is no such directory",
        shown(path.as_os_str()),
    )
    .hint("look at the spelling, or whether it is mounted")
}

/// Device and inode of `dir` and of all above it.
fn chain(files: &Files, dir: &Dir) -> Result<Vec<(u64, u64)>> {
    let path = files.canonical(dir)?;
    let mut ids = Vec::new();
    for dir in path.ancestors() {
        match files.dir(dir).and_then(|dir| files.disk.stat(&dir, b"")) {
            Ok(stat) => ids.push((stat.dev, stat.inode)),
            // A directory above that may not be looked into: what can be seen must do.
            Err(fault) if fault.is(Kind::Denied) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(ids)
}

/// A line of the mount table.
struct Mount {
    device: String,
    root: PathBuf,
    at: PathBuf,
}

impl Mount {
    fn within(&self, path: &Path) -> Option<(String, PathBuf)> {
        let below = path.strip_prefix(&self.at).ok()?;
        Some((self.device.clone(), self.root.join(below)))
    }
}

/// The mount table, the deepest mount points last. Empty where there is none to read.
fn mounts(files: &Files) -> Result<Vec<Mount>> {
    let Some(text) = files.read(Path::new("/proc/self/mountinfo"))? else {
        return Ok(Vec::new());
    };
    let mut found: Vec<Mount> = text
        .bytes
        .split(|&b| b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&b| b == b' ').skip(2);
            let device = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mount {
                device,
                root: unescaped(fields.next()?),
                at: unescaped(fields.next()?),
            })
        })
        .collect();
    found.sort_by_key(|mount| mount.at.components().count());
    Ok(found)
}

/// The kernel writes blanks and the like as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Refuses what cannot be synced safely. The result is, for each side, where our own state lies within it.
pub fn check(files: &Files, roots: &Pair<Option<Root>>, state: &Path) -> Result<Pair<Option<PathBuf>>> {
    let state = real(files, state)?;
    let mut inside = Pair::default();
    for side in Side::BOTH {
        let Some(root) = &roots[side] else { continue };
        alone(root, &state)?;
        inside[side] = state.strip_prefix(&root.path).ok().map(Path::to_path_buf);
    }
    if let (Some(left), Some(right)) = (&roots.left, &roots.right) {
        apart(left, right)?;
    }
    Ok(inside)
}

/// `path` without links and `..` as far as it is there.
fn real(files: &Files, path: &Path) -> Result<PathBuf> {
    for above in path.ancestors() {
        if let Ok(dir) = files.dir(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            let whole = files.canonical(&dir)?;
            return Ok(if rest.as_os_str().is_empty() {
                whole
            } else {
                whole.join(rest)
            });
        }
    }
    Ok(path.to_path_buf())
}

fn alone(root: &Root, state: &Path) -> Result<()> {
    let refuse = |what: &str, hint: &str| {
        Err(Fault::new(Kind::Invalid, what, shown(root.path.as_os_str())).hint(hint))
    };
    if root.path.parent().is_none() || (root.there && root.ids.len() == 1) {
        return refuse(
            "the whole file system cannot be a replica",
            "name the directories that you mean",
        );
    }
    if root.path.starts_with(state) {
        return refuse("this is state of our own", "state is never part of a replica");
    }
    if root.path.components().any(|part| part.as_os_str() == OWN_DIR) {
        return refuse(
            "this lies within the state of a replica (.syncline)",
            "use `syncline trash list` and `syncline restore` for what is in the trash",
        );
    }
    Ok(())
}

fn apart(left: &Root, right: &Root) -> Result<()> {
    let (a, b) = (shown(left.path.as_os_str()), shown(right.path.as_os_str()));
    let refuse = |what: String| {
        Err(Fault::new(Kind::Invalid, what, "").hint("name two directories that do not overlap"))
    };
    match (left.holds(right), right.holds(left)) {
        (true, true) => refuse(format!("{a} and {b} are the same directory")),
        (true, false) => refuse(format!("{b} lies within {a}")),
        (false, true) => refuse(format!("{a} lies within {b}")),
        (false, false) => Ok(()),
    }
}

/// Refuses two bucket places that overlap, as far as their URLs tell.
pub fn buckets_apart(left: &Place, right: &Place) -> Result<()> {
    use crate::place::At;
    let (At::Bucket(a, _), At::Bucket(b, _)) = (&left.at, &right.at) else {
        return Ok(());
    };
    let (a, b) = (
        syncline_store::url::s3_place(a)?,
        syncline_store::url::s3_place(b)?,
    );
    let same_server = a.endpoint == b.endpoint || a.endpoint.is_none() || b.endpoint.is_none();
    if !same_server || a.bucket != b.bucket {
        return Ok(());
    }
    let what = match (b.prefix.starts_with(&a.prefix), a.prefix.starts_with(&b.prefix)) {
        (true, true) => "are the same place",
        (true, false) | (false, true) => "lie within each other",
        (false, false) => return Ok(()),
    };
    let what = format!("{} and {} {what}", left.label(), right.label());
    Err(Fault::new(Kind::Invalid, what, "").hint("name two places that do not overlap"))
}

/// A pattern that matches exactly what is at `path` (relative to the root) and below it.
pub fn exact_pattern(path: &Path) -> Vec<u8> {
    let mut out = vec![b'/'];
    for &b in path.as_os_str().as_bytes() {
        if matches!(b, b'*' | b'?' | b'[' | b']' | b'\\' | b' ' | b'!' | b'#') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real disk")]
mod tests {
    use super::*;

    struct Made {
        _temp: tempfile::TempDir,
        files: Files,
        top: PathBuf,
    }

    fn made(dirs: &[&str]) -> Made {
        let temp = tempfile::tempdir().unwrap();
        let (files, top) = (Files::new(), temp.path().canonicalize().unwrap());
        for dir in dirs {
            files.make_dirs(&top.join(dir)).unwrap();
        }
        Made {
            _temp: temp,
            files,
            top,
        }
    }

    impl Made {
        fn check(&self, left: &Path, right: &Path, state: &str) -> Result<Pair<Option<PathBuf>>> {
            let look = |path: &Path| Root::look(&self.files, path).map(Some);
            let roots = Pair::new(look(&self.top.join(left))?, look(&self.top.join(right))?);
            check(&self.files, &roots, &self.top.join(state))
        }

        fn refused(&self, left: &str, right: &str, state: &str) -> String {
            let fault = self.check(Path::new(left), Path::new(right), state).unwrap_err();
            assert!(fault.is(Kind::Invalid) && fault.hint.is_some(), "{fault}");
            fault.to_string()
        }
    }

    #[test]
    fn sp12_s37_the_same_within_and_the_whole_are_refused() {
        let made = made(&["a/sub", "ab", "state"]);
        std::os::unix::fs::symlink("a", made.top.join("link")).unwrap();
        assert!(made.refused("a", "a", "state").contains("same directory"));
        assert!(made.refused("a", "link", "state").contains("same directory"));
        assert!(
            made.refused("a", "a/sub/../../a", "state")
                .contains("same directory")
        );
        assert!(made.refused("a", "link/sub", "state").contains("lies within"));
        assert!(made.refused("a/sub/new", "a", "state").contains("lies within"));
        assert!(made.refused("/", "a", "state").contains("whole file system"));
        assert!(
            made.refused("a", "..//../../../../../../../..", "state")
                .contains("whole file system")
        );
        assert!(made.check(Path::new("a"), Path::new("ab"), "state").is_ok());
    }

    #[test]
    fn sp12_s37_our_own_state_is_refused_as_a_root_and_left_out_within_one() {
        let made = made(&["a/.local/state/syncline", "b", "a/.syncline/trash"]);
        let inside = made
            .check(Path::new("a"), Path::new("b"), "a/.local/state/syncline")
            .unwrap();
        assert_eq!(inside, Pair::new(Some(".local/state/syncline".into()), None));
        let inside = made.check(Path::new("a"), Path::new("b"), "a/not/yet").unwrap();
        assert_eq!(inside.left, Some("not/yet".into()));
        assert!(
            made.refused("b", "a/.local/state/syncline", "a/.local/state/syncline")
                .contains("our own")
        );
        assert!(
            made.refused("b", "a/.syncline/trash", "state")
                .contains(".syncline")
        );
    }

    #[test]
    fn sp12_s37_a_bind_mount_is_seen_through() {
        let made = made(&["a/sub", "b", "state"]);
        let (from, to) = (made.top.join("a/sub"), made.top.join("b"));
        let mount = std::process::Command::new("mount")
            .arg("--bind")
            .args([&from, &to])
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            eprintln!("skipped: bind mounts are not allowed here");
            return;
        }
        let refused = made.check(Path::new("a"), Path::new("b"), "state");
        let _ = std::process::Command::new("umount").arg(&to).status();
        let fault = refused.unwrap_err().to_string();
        assert!(fault.contains("lies within"), "{fault}");
    }

    #[test]
    fn only_the_last_name_may_be_missing() {
        let made = made(&["a"]);
        let root = Root::look(&made.files, &made.top.join("a/new")).unwrap();
        assert_eq!((root.there, root.path), (false, made.top.join("a/new")));
        assert!(
            Root::look(&made.files, &made.top.join("a/new/deep"))
                .unwrap_err()
                .is(Kind::NotFound)
        );
        made.files.write(&made.top.join("a/file"), b"").unwrap();
        assert!(
            Root::look(&made.files, &made.top.join("a/file"))
                .unwrap_err()
                .is(Kind::Invalid)
        );
    }

    #[test]
    fn names_in_the_mount_table_are_read_back() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(exact_pattern(Path::new("a b/[c]*")), b"/a\\ b/\\[c\\]\\*");
    }
}

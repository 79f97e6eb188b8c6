//! The situations in which the program is killed.
//!
//! Invariant: a scenario makes the same bytes, modes and times each time, so what an uncut run comes to is what every cut and healed run
//! must come to, names of conflict copies included.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::bytes_of;

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// A sync.
    Sync,
    /// The undo of a sync; a sync follows it, before it counts as healed.
    Undo,
}

/// A situation.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Makes both trees; the first argument is left.
    before: fn(&Path, &Path) -> Result<()>,
    /// After a first sync of what `before` made: changes them.
    edits: Option<fn(&Path, &Path) -> Result<()>>,
    /// What is cut.
    pub cutting: Cutting,
    /// The run meets a conflict.
    pub conflict: bool,
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "first-copy",
        before: first_copy,
        edits: None,
        cutting: Cutting::Sync,
        conflict: false,
    },
    Scenario {
        name: "update-with-trash",
        before: agreed,
        edits: Some(updates),
        cutting: Cutting::Sync,
        conflict: false,
    },
    Scenario {
        name: "directory-rename",
        before: nested,
        edits: Some(directory_rename),
        cutting: Cutting::Sync,
        conflict: false,
    },
    Scenario {
        name: "names-passed-on",
        before: rotated,
        edits: Some(names_passed_on),
        cutting: Cutting::Sync,
        conflict: false,
    },
    Scenario {
        name: "file-against-directory",
        before: agreed,
        edits: Some(file_against_directory),
        cutting: Cutting::Sync,
        conflict: true,
    },
    Scenario {
        name: "keep-both",
        before: agreed,
        edits: Some(keep_both),
        cutting: Cutting::Sync,
        conflict: true,
    },
    Scenario {
        name: "undo",
        before: agreed,
        edits: Some(updates),
        cutting: Cutting::Undo,
        conflict: false,
    },
];

impl Scenario {
    /// The one of this name.
    pub fn named(name: &str) -> Result<&'static Self> {
        let names = || ALL.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
        ALL.iter()
            .find(|one| one.name == name)
            .with_context(|| format!("no scenario {name}; there are {}", names()))
    }

    /// Makes both trees as they are before anything was agreed on.
    pub fn make(&self, left: &Path, right: &Path) -> Result<()> {
        fs::create_dir_all(left)?;
        fs::create_dir_all(right)?;
        (self.before)(left, right)
    }

    /// True when a first sync comes before the edits.
    pub fn has_past(&self) -> bool {
        self.edits.is_some()
    }

    /// Changes both trees after the first sync.
    pub fn edit(&self, left: &Path, right: &Path) -> Result<()> {
        self.edits.map_or(Ok(()), |edits| edits(left, right))
    }
}

/// Writes version `version` of a file, with a time that follows from the version.
fn put(root: &Path, path: &str, version: u64, length: usize) -> Result<()> {
    let at = root.join(path);
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&at, bytes_of(path, version, length))?;
    fs::set_permissions(&at, fs::Permissions::from_mode(0o640 | (version as u32 & 1)))?;
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000 + 1000 * version, 123_456_789);
    File::options()
        .write(true)
        .open(&at)?
        .set_times(FileTimes::new().set_modified(time))?;
    Ok(())
}

fn first_copy(left: &Path, _right: &Path) -> Result<()> {
    for n in 0..50 {
        // One that is written in several pieces, some empty, most small.
        let length = match n {
            7 => 3 << 20,
            13 => 0,
            n => 100 + n * 331,
        };
        put(left, &format!("dir{}/file{n}", n % 5), 1, length)?;
    }
    Ok(())
}

/// What the other scenarios begin with: 24 files, agreed on.
fn agreed(left: &Path, _right: &Path) -> Result<()> {
    for n in 0..24 {
        let length = if n == 3 { 2 << 20 } else { 200 + n * 97 };
        put(
            left,
            &format!("{}/f{n}", ["a", "a/deep", "b", "c"][n % 4]),
            1,
            length,
        )?;
    }
    put(left, "top", 1, 500)
}

/// The same and one directory within another.
fn nested(left: &Path, right: &Path) -> Result<()> {
    agreed(left, right)?;
    for n in 0..3 {
        put(left, &format!("d/g{n}"), 1, 400 + n)?;
        put(left, &format!("d/inner/h{n}"), 1, 410 + n)?;
    }
    Ok(())
}

fn updates(left: &Path, right: &Path) -> Result<()> {
    for path in ["a/f0", "b/f2", "top"] {
        put(left, path, 2, 700)?;
    }
    put(left, "c/f3", 2, (2 << 20) + 17)?;
    put(right, "a/deep/f1", 2, 900)?;
    put(right, "c/f7", 2, 901)?;
    for path in ["a/f4", "b/f6"] {
        fs::remove_file(left.join(path))?;
    }
    fs::remove_file(right.join("c/f11"))?;
    put(left, "new/one", 1, 300)?;
    put(right, "b/two", 1, 301)
}

fn directory_rename(left: &Path, right: &Path) -> Result<()> {
    fs::rename(left.join("a"), left.join("moved"))?;
    put(right, "a/f0", 2, 640)?;
    put(right, "a/deep/f5", 2, 641)?;
    put(right, "a/deep/added", 1, 642)?;
    // One out of another that moves too, edited over there.
    fs::rename(left.join("d/inner"), left.join("out"))?;
    fs::rename(left.join("d"), left.join("elsewhere"))?;
    put(right, "d/g0", 2, 645)?;
    put(right, "d/inner/h1", 2, 646)?;
    put(right, "d/inner/added", 1, 647)?;
    // A file that is renamed here and edited there.
    fs::rename(left.join("b/f2"), left.join("b/renamed"))?;
    put(right, "b/f2", 2, 643)?;
    // One that both sides renamed alike, and a file that was edited in it.
    fs::rename(left.join("c"), left.join("same"))?;
    fs::rename(right.join("c"), right.join("same"))?;
    put(right, "same/f3", 2, 644)
}

/// Logs that will be rotated, and two small directories.
fn rotated(left: &Path, right: &Path) -> Result<()> {
    agreed(left, right)?;
    for (path, length) in [
        ("log", 300),
        ("log.1", 310),
        ("log.2", 320),
        ("x/one", 330),
        ("y/two", 340),
    ] {
        put(left, path, 1, length)?;
    }
    Ok(())
}

/// Names that stay in use: a rotation, two files and two directories exchanged, and edits under the old names over there.
fn names_passed_on(left: &Path, right: &Path) -> Result<()> {
    let rename = |from: &str, to: &str| fs::rename(left.join(from), left.join(to));
    for (from, to) in [("log.2", "log.3"), ("log.1", "log.2"), ("log", "log.1")] {
        rename(from, to)?;
    }
    put(left, "log", 2, 305)?;
    put(right, "log.1", 2, 315)?;
    for (one, two) in [("b/f2", "b/f6"), ("x", "y")] {
        rename(one, "aside")?;
        rename(two, one)?;
        rename("aside", two)?;
    }
    put(right, "b/f6", 2, 650)?;
    put(right, "x/one", 2, 651)?;
    put(right, "y/added", 1, 652)?;
    // And a rotation over there, from a free end in another directory.
    fs::rename(right.join("a/f0"), right.join("a/deep/f0"))?;
    Ok(fs::rename(right.join("a/f4"), right.join("a/f0"))?)
}

fn file_against_directory(left: &Path, right: &Path) -> Result<()> {
    // Both new: a conflict.
    put(left, "both", 1, 800)?;
    put(right, "both/inner", 1, 801)?;
    put(right, "both/second", 1, 802)?;
    // A file became a directory on one side only, and a directory a file: changes like any other.
    fs::remove_file(left.join("top"))?;
    put(left, "top/inner", 1, 803)?;
    fs::remove_dir_all(right.join("c"))?;
    put(right, "c", 1, 804)
}

fn keep_both(left: &Path, right: &Path) -> Result<()> {
    for (path, length) in [("a/f0", 500), ("b/f2", 1 << 20), ("top", 77)] {
        put(left, path, 2, length)?;
        put(right, path, 3, length + 1)?;
    }
    put(left, "b/f6", 2, 333)?;
    // Edited here, removed there: the edit stays.
    put(left, "c/f7", 2, 334)?;
    fs::remove_file(right.join("c/f7"))?;
    Ok(())
}

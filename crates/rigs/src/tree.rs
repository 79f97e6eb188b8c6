//! Trees as an auditor reads them: every path with its kind, bytes, mode and time, by `std::fs` alone.
//!
//! Invariant: reading fails rather than leaves something out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

/// BLAKE3 of a file's bytes.
pub type Content = blake3::Hash;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory, with its permission bits.
    Dir(u32),
    /// A file: content, permission bits, time of modification in nanoseconds.
    File(Content, u32, i128),
    /// A symbolic link.
    Link(Vec<u8>),
    /// Something else.
    Other,
}

impl Node {
    /// A file's bytes.
    pub fn content(&self) -> Option<Content> {
        match self {
            Self::File(content, ..) => Some(*content),
            _ => None,
        }
    }
}

/// A tree by path.
pub type Tree = BTreeMap<String, Node>;

/// Our own directory in a replica.
pub const OWN: &str = ".syncline";

/// Reads a replica without our own directory; an absent root is an empty tree.
pub fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    if root.exists() {
        walk(root, "", true, &mut |path, node| {
            tree.insert(path, node);
        })?;
    }
    Ok(tree)
}

/// Contents of all files below `root`, our own directory and trash included.
pub fn contents(root: &Path) -> Result<BTreeSet<[u8; 32]>> {
    let mut found = BTreeSet::new();
    if root.exists() {
        walk(root, "", false, &mut |_, node| {
            found.extend(node.content().map(|content| *content.as_bytes()));
        })?;
    }
    Ok(found)
}

/// Paths below `root`, of anything; none when it is absent.
pub fn names(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if root.exists() {
        walk(root, "", false, &mut |path, _| found.push(path))?;
    }
    Ok(found)
}

fn walk(dir: &Path, above: &str, skip_own: bool, each: &mut dyn FnMut(String, Node)) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if skip_own && above.is_empty() && name == OWN {
            continue;
        }
        let path = if above.is_empty() {
            name
        } else {
            format!("{above}/{name}")
        };
        let at = entry.path();
        let meta = fs::symlink_metadata(&at).with_context(|| format!("looking at {}", at.display()))?;
        let mode = meta.permissions().mode() & 0o7777;
        let node = if meta.is_dir() {
            Node::Dir(mode)
        } else if meta.is_file() {
            let bytes = fs::read(&at).with_context(|| format!("reading {}", at.display()))?;
            let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            Node::File(blake3::hash(&bytes), mode, time)
        } else if meta.is_symlink() {
            Node::Link(fs::read_link(&at)?.as_os_str().as_bytes().to_vec())
        } else {
            Node::Other
        };
        each(path.clone(), node);
        if meta.is_dir() {
            walk(&at, &path, false, each)?;
        }
    }
    Ok(())
}

/// Paths at which two trees differ, and how, for a person.
pub fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let told = |node: Option<&Node>| match node {
        None => "nothing".to_owned(),
        Some(Node::File(content, mode, time)) => {
            format!("file {} {mode:o} {time}", &content.to_hex()[..8])
        }
        Some(node) => format!("{node:?}"),
    };
    paths
        .into_iter()
        .filter(|path| left.get(*path) != right.get(*path))
        .map(|path| format!("{path}: {} / {}", told(left.get(path)), told(right.get(path))))
        .collect()
}

//! Removing a tree of our own: stages and trash.
//!
//! Invariant: names are removed only through held handles, no link is followed (security rule SP5), and however deep
//! the tree is, no more than [`DEEP`] handles are open: what lies deeper is first moved up.

use syncline_model::{Kind, Result};
use syncline_store::{Disk, Node, Place};

/// Levels that are descended before what lies below is moved up.
const DEEP: usize = 64;
/// Names taken from a directory at a time.
const SOME: usize = 4096;

/// Removes `name` in `at` and all that is in it; no error when it is not there.
pub(crate) fn remove_tree<D: Disk>(disk: &D, at: &D::Dir, name: &[u8]) -> Result<()> {
    let mut roots = vec![name.to_vec()];
    let mut lifted = 0u32;
    while let Some(root) = roots.pop() {
        let mut stack = vec![(at.clone(), root)];
        while let Some((parent, name)) = stack.last() {
            match disk.remove(parent, name, true) {
                Ok(()) => {
                    stack.pop();
                    continue;
                }
                Err(fault) if fault.is(Kind::NotFound) => {
                    stack.pop();
                    continue;
                }
                Err(fault) if fault.is(Kind::Exists) => {}
                Err(fault) if fault.is(Kind::Changed) => {
                    disk.remove(parent, name, false)?;
                    stack.pop();
                    continue;
                }
                Err(fault) => return Err(fault),
            }
            let dir = disk.open_dir(parent, name)?;
            let Some(below) = remove_names(disk, &dir)? else {
                continue;
            };
            if stack.len() < DEEP {
                stack.push((dir, below));
                continue;
            }
            let up = format!(".lifted-{lifted}").into_bytes();
            lifted += 1;
            match disk.place((&dir, &below), (at, &up), Place::New) {
                Err(fault) if !fault.is(Kind::Exists) => return Err(fault),
                Err(_) => {}
                Ok(()) => roots.push(up),
            }
        }
    }
    Ok(())
}

/// Removes everything in `dir` that is no directory; returns a directory that is in it.
fn remove_names<D: Disk>(disk: &D, dir: &D::Dir) -> Result<Option<Vec<u8>>> {
    let mut names = Vec::new();
    disk.list(dir, &mut |found| {
        names.push((found.name.to_vec(), found.dir));
        names.len() < SOME
    })?;
    let mut below = None;
    for (name, is_dir) in names {
        let is_dir = match is_dir {
            Some(is_dir) => is_dir,
            None => disk.stat(dir, &name)?.kind == Node::Dir,
        };
        if is_dir {
            below = Some(name);
        } else {
            disk.remove(dir, &name, false)?;
        }
    }
    Ok(below)
}

/// Removes the directory `name` in `at` if it is empty, with `deep` also if there are only empty directories in it.
pub(crate) fn prune<D: Disk>(disk: &D, at: &D::Dir, name: &[u8], deep: bool) -> Result<()> {
    // A path of handles down to the directory in hand, with the directories that are still to be looked at in each.
    let mut stack: Vec<(D::Dir, Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
    let mut next = Some((at.clone(), name.to_vec()));
    loop {
        if let Some((parent, name)) = next.take() {
            let below = match disk.open_dir(&parent, &name) {
                Ok(dir) if deep && stack.len() < DEEP => dirs_in(disk, &dir)?,
                Ok(_) => Vec::new(),
                Err(fault) if fault.is(Kind::NotFound) || fault.is(Kind::Changed) => Vec::new(),
                Err(fault) => return Err(fault),
            };
            stack.push((parent, name, below));
        }
        let Some((parent, name, below)) = stack.last_mut() else {
            return Ok(());
        };
        if let Some(child) = below.pop() {
            next = Some((disk.open_dir(parent, name)?, child));
            continue;
        }
        match disk.remove(parent, name, true) {
            Err(fault) if !matches!(fault.kind, Kind::NotFound | Kind::Exists | Kind::Changed) => {
                return Err(fault);
            }
            _ => stack.pop(),
        };
    }
}

fn dirs_in<D: Disk>(disk: &D, dir: &D::Dir) -> Result<Vec<Vec<u8>>> {
    let mut dirs = Vec::new();
    disk.list(dir, &mut |found| {
        if found.dir != Some(false) {
            dirs.push(found.name.to_vec());
        }
        true
    })?;
    Ok(dirs)
}

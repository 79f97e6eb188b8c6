//! The walk along an operator's path (a root, a state directory) to a directory handle.
//!
//! Invariant: a symbolic link on the way is followed only if root or this process's own user owns it (security rule
//! SP14), and the walk never hands a path of several components to the kernel, so what was checked is what is used.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use syncline_model::{Kind, Result};

use super::fault::{fault, plain};

/// Links followed before the walk is called a loop, as in the kernel.
const LINKS_MAX: usize = 40;

/// Opens `path` as a directory for reading.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let whole = path.as_os_str().as_bytes();
    let failed = |errno| fault(errno, "open directory", whole);
    if whole.is_empty() {
        return Err(plain(Kind::Invalid, "open directory: the path is empty", whole));
    }
    let mut at = start(whole).map_err(failed)?;
    let mut ahead = components(whole);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |flags| retry_on_intr(|| fs::openat(&at, &name[..], step | flags, Mode::empty()));
        match open(OFlags::DIRECTORY) {
            Ok(next) => at = next,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let node = open(OFlags::empty()).map_err(failed)?;
                let target = trusted_target(&node, whole)?;
                links += 1;
                if links > LINKS_MAX {
                    return Err(plain(
                        Kind::Invalid,
                        "open directory: too many symbolic links",
                        whole,
                    ));
                }
                if target.starts_with(b"/") {
                    at = start(&target).map_err(failed)?;
                }
                for part in components(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(&at, c".", flags, Mode::empty())).map_err(failed)
}

fn start(path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let from = if path.starts_with(b"/") { c"/" } else { c"." };
    fs::openat(
        CWD,
        from,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// The target of the link that `node` is, if its owner may lead us.
fn trusted_target(node: &OwnedFd, whole: &[u8]) -> Result<Vec<u8>> {
    let failed = |errno| fault(errno, "open directory", whole);
    let stat = fs::statat(node, c"", AtFlags::EMPTY_PATH).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Err(failed(Errno::NOTDIR));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        let what = format!(
            "open directory: a symbolic link on the way belongs to user {}",
            stat.st_uid
        );
        return Err(plain(Kind::Denied, &what, whole).hint("name the place by a path without that link"));
    }
    Ok(fs::readlinkat(node, c"", Vec::new())
        .map_err(failed)?
        .into_bytes())
}

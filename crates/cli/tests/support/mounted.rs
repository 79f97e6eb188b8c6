//! File systems of one's own: made in a file, mounted, and unmounted when they go.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Desk;

/// A mounted file system.
pub struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // A moment after the last process that used it the mount may still be busy: it goes as soon as it can.
        done("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// True when the command succeeds.
pub fn done(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Says that a test could not ask what it wanted to.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

impl Mounted {
    /// Mounts what `args` say at `at`; `None` where nothing can be mounted.
    pub fn with(args: &[&str], at: &Path) -> Option<Self> {
        let args = [args, &[at.to_str().unwrap()]].concat();
        done("mount", &args).then(|| Self(at.to_owned()))
    }

    /// A file system in a file of `size` bytes, made by `make` with these arguments; `None` where that cannot be done.
    pub fn made(desk: &Desk, size: u64, make: &str, args: &[&str], at: &Path) -> Option<Self> {
        let image = desk.path("image");
        std::fs::File::create(&image).unwrap().set_len(size).unwrap();
        let image = image.to_str().unwrap();
        if done(make, &[args, &[image]].concat()) {
            Self::with(&["-o", "loop", image], at)
        } else {
            None
        }
    }
}

//! An ext4 file system in a file, and the cut of its power by the shutdown ioctl.
//!
//! Invariant: what is mounted is unmounted when dropped. The cut does not flush the log: what the kernel has not committed by then is gone, as
//! at a real loss of power.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// `FS_IOC_SHUTDOWN`.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Leave the log as it lies.
static NO_LOG_FLUSH: u32 = 2;

/// How ext4 is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounting {
    /// As a distribution does it.
    Default,
    /// Without the kernel's own guess at what a careless program meant.
    NoAutoDaAlloc,
}

impl Mounting {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Default, Self::NoAutoDaAlloc];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::NoAutoDaAlloc => "noauto_da_alloc",
        }
    }
}

fn call(program: &str, args: &[&std::ffi::OsStr]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {args:?}: {}", said.trim());
    }
    Ok(())
}

/// Makes an empty file system of `bytes` in the file `image`.
pub fn make(image: &Path, bytes: u64) -> Result<()> {
    File::create(image)?.set_len(bytes)?;
    let args = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let mut args: Vec<_> = args.iter().map(std::ffi::OsStr::new).collect();
    args.push(image.as_os_str());
    call("mkfs.ext4", &args)
}

/// Copies an image, holes as holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    call(
        "cp",
        &["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()],
    )
}

/// A mounted image.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    gone: bool,
}

impl Mounted {
    /// Mounts `image` at the directory `at`.
    pub fn new(image: &Path, at: &Path, how: Mounting) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let options = match how {
            Mounting::Default => "loop",
            Mounting::NoAutoDaAlloc => "loop,noauto_da_alloc",
        };
        let args = ["-t", "ext4", "-o", options];
        let mut args: Vec<_> = args.iter().map(std::ffi::OsStr::new).collect();
        args.extend([image.as_os_str(), at.as_os_str()]);
        call("mount", &args)?;
        Ok(Self {
            at: at.into(),
            gone: false,
        })
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.at
    }

    /// What a neighbour on the same machine does at any time: fsyncs a file of its own, and with it the kernel's log.
    pub fn neighbour(&self, turn: u64) -> Result<()> {
        let path = self.at.join("neighbour");
        std::fs::write(&path, turn.to_le_bytes())?;
        File::open(&path)?.sync_all()?;
        Ok(())
    }

    /// Cuts the power.
    pub fn cut(&self) -> Result<()> {
        let root = File::open(&self.at)?;
        // SAFETY: the ioctl reads four bytes, which live through the call.
        let failed = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const NO_LOG_FLUSH) };
        if failed != 0 {
            return Err(std::io::Error::last_os_error()).context("cutting the power of the file system");
        }
        Ok(())
    }

    /// Unmounts, and waits until the kernel lets go of what a killed process held.
    pub fn unmount(mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            match call("umount", &[self.at.as_os_str()]) {
                Ok(()) => break,
                Err(error) if started.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        self.gone = true;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.at)
            .stderr(Stdio::null())
            .status();
    }
}

//! Copies within one file system that can share bytes: a real XFS in a file, and how much room a sync takes there.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::Desk;

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        done("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn done(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Bytes in use there, once everything is written.
fn used(at: &Path) -> u64 {
    assert!(done("sync", &["-f", at.to_str().unwrap()]));
    let output = Command::new("stat")
        .args(["-f", "-c", "%b %f %S", at.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    (numbers[0] - numbers[1]) * numbers[2]
}

#[test]
fn a_copy_shares_its_bytes_where_the_file_system_can() {
    const LARGE: usize = 64 << 20;
    let desk = Desk::new();
    let (image, at) = (desk.path("image"), desk.dir("disk"));
    std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    let made = done(
        "mkfs.xfs",
        &["-q", "-f", "-m", "reflink=1", image.to_str().unwrap()],
    ) && done(
        "mount",
        &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()],
    );
    if !made {
        eprintln!("skipped: not root, or no mkfs.xfs: no file system here that shares bytes");
        return;
    }
    let _mounted = Mounted(at.clone());
    let bytes: Vec<u8> = (0..LARGE as u32 / 4).flat_map(u32::to_le_bytes).collect();
    std::fs::create_dir_all(at.join("a")).unwrap();
    std::fs::write(at.join("a/large"), &bytes).unwrap();
    let before = used(&at);
    desk.ends(0, &["sync", "disk/a", "disk/b"]);
    let after = used(&at);
    assert!(
        after - before < LARGE as u64 / 8,
        "the copy took {} bytes of its own",
        after - before
    );
    assert!(std::fs::read(at.join("b/large")).unwrap() == bytes);
    // They share bytes, not fate: an edit of one is no edit of the other.
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(at.join("b/large"))
        .unwrap();
    file.write_all_at(b"edited", 4096).unwrap();
    drop(file);
    assert!(std::fs::read(at.join("a/large")).unwrap() == bytes);
    desk.ends(0, &["sync", "disk/a", "disk/b"]);
    assert!(std::fs::read(at.join("a/large")).unwrap() != bytes);
    assert!(std::fs::read(at.join("a/large")).unwrap() == std::fs::read(at.join("b/large")).unwrap());
    desk.ends(0, &["sync", "disk/a", "disk/b"]);
}

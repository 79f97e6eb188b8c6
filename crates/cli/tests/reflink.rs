//! Copies within one file system that can share bytes: a real XFS in a file, and how much room a sync takes there.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::path::Path;
use std::process::Command;

use support::Desk;
use support::mounted::{Mounted, done, skipped};

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
    let at = desk.dir("disk");
    let make = ["-q", "-f", "-m", "reflink=1"];
    let Some(_mounted) = Mounted::made(&desk, 400 << 20, "mkfs.xfs", &make, &at) else {
        return skipped("not root, or no mkfs.xfs: no file system here that shares bytes");
    };
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

//! Trees of very many files with the real binary: what a pass over them costs.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests look at the real disk and print what they measured"
)]

mod support;

use std::process::Stdio;

use support::Desk;

/// Runs to the end; the most memory that it held, in KiB.
fn peak(desk: &Desk, words: &[&str]) -> u64 {
    let mut child = desk.command(words).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let told = std::fs::read_to_string(&status).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kib.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{words:?}: {ended}");
            return most;
        }
        std::thread::yield_now();
    }
}

/// A desk with so many files in one directory, twice, and agreed on.
fn agreed(count: usize) -> Desk {
    let desk = Desk::new();
    for root in ["a", "b"] {
        let dir = desk.dir(&format!("{root}/d"));
        for n in 0..count {
            let file = dir.join(format!("a file of a long series, number {n:07}"));
            std::fs::write(&file, n.to_le_bytes()).unwrap();
            let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_modified(then).unwrap();
        }
    }
    desk.ends(0, &["sync", "a", "b", "--quiet"]);
    desk
}

/// What a pass holds in memory, and that it has nothing to do.
fn passed(count: usize) -> u64 {
    let desk = agreed(count);
    let most = peak(&desk, &["sync", "a", "b", "--quiet"]);
    let ended = desk.ends(0, &["sync", "a", "b", "--json"]);
    assert!(ended.events("step").is_empty(), "{}", ended.out);
    println!("{count} files in one directory: {most} KiB");
    most
}

#[test]
fn s39_memory_does_not_follow_the_number_of_files() {
    let (few, many) = (passed(1_000), passed(30_000));
    // Thirty times as many names alone would be more than this.
    assert!(many < few + 6 * 1024, "{few} KiB for few, {many} KiB for many");
}

#[test]
#[ignore = "a million files twice: minutes"]
fn s39_a_million_files_in_one_directory_are_passed_within_150_mib() {
    assert!(passed(1_000_000) < 150 * 1024);
}

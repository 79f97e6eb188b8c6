//! Rigs that cut the real binary: killed at its system calls, cut from power, with known bugs switched back in; and one that weighs
//! the engine over trees that no disk here would hold.
//!
//! Invariant: the judge shares no code with what is judged. Trees are read through `std::fs`, as an auditor would read them, and the
//! program is started as a person would start it. Memory is what the kernel says. A rig that cut nothing is red.

#![allow(
    clippy::disallowed_methods,
    reason = "a rig stands outside: real time, real disks, another process"
)]

pub mod cut;
pub mod image;
pub mod kill;
pub mod memory;
pub mod program;
pub mod scenario;
pub mod trace;
pub mod tree;

/// Random numbers that a seed gives again (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// Bytes of a version of a file: the same for the same name, version and length, other bytes otherwise.
pub fn bytes_of(name: &str, version: u64, length: usize) -> Vec<u8> {
    let seed = blake3::hash(format!("{name}\0{version}").as_bytes());
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Where trees of a rig lie: memory where there is some, since only names and bytes matter there.
pub fn workshop(asked: Option<&std::path::Path>) -> anyhow::Result<tempfile::TempDir> {
    let shared = std::path::Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("syncline-rig-");
    Ok(match asked {
        Some(dir) => builder.tempdir_in(dir)?,
        None if shared.is_dir() => builder.tempdir_in(shared)?,
        None => builder.tempdir()?,
    })
}

/// True when this process may mount.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

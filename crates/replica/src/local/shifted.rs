//! Times that we moved ourselves: of files with several names, whose other names are still known by the times from before.
//!
//! Invariant: what was seen before is believed only if every change since was ours, one right after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use syncline_model::{Observation, Time};
use syncline_store::Stat;

use super::observe::{held, still};

/// When the status of an inode changed, and its bytes.
type Times = (Time, Time);

fn times(stat: &Stat) -> Times {
    (stat.ctime, stat.mtime)
}

/// The times of one inode, each moved to the next by ourselves alone.
struct Chain {
    before: BTreeSet<Times>,
    now: Times,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            before: BTreeSet::new(),
            now: (Time::NEVER, Time::NEVER),
        }
    }
}

/// What one edit moved, by file system and inode.
#[derive(Default)]
pub(crate) struct Shifted(Mutex<BTreeMap<(u64, u64), Chain>>);

impl Shifted {
    /// A name of the inode of `before` was made, moved or taken away by us.
    pub fn note(&self, fs: u64, before: &Stat, after: &Stat) {
        self.note_set(fs, before, after, None);
    }

    /// The same, or its attributes were set by us, its time of modification to `mtime`.
    pub fn note_set(&self, fs: u64, before: &Stat, after: &Stat, mtime: Option<Time>) {
        if before.inode != after.inode || (before.links < 2 && after.links < 2) {
            return;
        }
        let mut chains = held(&self.0);
        let chain = chains.entry((fs, before.inode)).or_default();
        let written = before.mtime != after.mtime && mtime != Some(after.mtime);
        if chain.now != times(before) || written {
            // Somebody else moved it in between: what was known from before that is worth nothing.
            chain.before.clear();
        }
        if !written {
            chain.before.insert(times(before));
        }
        chain.now = times(after);
    }

    /// Whether `now` is what `expect` saw, but for what we did to it.
    pub fn still(&self, expect: &Observation, now: &Stat, fs: u64) -> bool {
        still(expect, now, fs, true) || self.only_ours(expect, now, fs)
    }

    /// Whether all that has changed since `expect` was seen was done by us, under another name of the same file.
    pub fn only_ours(&self, expect: &Observation, now: &Stat, fs: u64) -> bool {
        let chains = held(&self.0);
        let Some(chain) = chains
            .get(&(fs, now.inode))
            .filter(|chain| chain.now == times(now))
        else {
            return false;
        };
        let Some(ctime) = expect.tag.stamp().map(|stamp| stamp.ctime) else {
            return false;
        };
        let mtime = expect.entry.meta().and_then(|meta| meta.mtime);
        let seen = |before: &&Times| before.0 == ctime && mtime.is_none_or(|mtime| mtime == before.1);
        chain.before.iter().find(seen).is_some_and(|before| {
            let as_seen = Stat {
                mtime: before.1,
                ..*now
            };
            still(expect, &as_seen, fs, false)
        })
    }

    /// Another edit begins.
    pub fn forget(&self) {
        held(&self.0).clear();
    }
}

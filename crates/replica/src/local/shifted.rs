//! Times of status change that we moved ourselves: of files with several names, whose other names are still known by the
//! time from before.
//!
//! Invariant: what was seen before is believed only if every change since was ours, one right after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use syncline_model::{Observation, Time};
use syncline_store::Stat;

use super::observe::{held, still};

/// The times of status change of one inode, each moved to the next by ourselves alone.
struct Chain {
    before: BTreeSet<Time>,
    now: Time,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            before: BTreeSet::new(),
            now: Time::NEVER,
        }
    }
}

/// What one edit moved, by file system and inode.
#[derive(Default)]
pub(crate) struct Shifted(Mutex<BTreeMap<(u64, u64), Chain>>);

impl Shifted {
    /// A name of the inode of `before` was made, moved or taken away by us.
    pub fn note(&self, fs: u64, before: &Stat, after: &Stat) {
        if before.inode != after.inode || (before.links < 2 && after.links < 2) || before.ctime == after.ctime
        {
            return;
        }
        let mut chains = held(&self.0);
        let chain = chains.entry((fs, before.inode)).or_default();
        if chain.now != before.ctime {
            // Somebody else moved it in between: what was known from before that is worth nothing.
            chain.before.clear();
        }
        chain.before.insert(before.ctime);
        chain.now = after.ctime;
    }

    /// Whether `now` is what `expect` saw, but for what we did to it.
    pub fn still(&self, expect: &Observation, now: &Stat, fs: u64) -> bool {
        let ours = || {
            let chains = held(&self.0);
            let chain = chains
                .get(&(fs, now.inode))
                .filter(|chain| chain.now == now.ctime);
            let seen = expect.tag.stamp().map(|stamp| stamp.ctime);
            chain.is_some_and(|chain| seen.is_some_and(|seen| chain.before.contains(&seen)))
                && still(expect, now, fs, false)
        };
        still(expect, now, fs, true) || ours()
    }

    /// Another edit begins.
    pub fn forget(&self) {
        held(&self.0).clear();
    }
}

//! Which observations may stand in the base as proof (git's "racily clean" rule).
//!
//! A tag proves "unchanged" only if a later change would have given another one. A file system's clock has steps: what was changed in the very step in which
//! it was observed may change again without a trace. Such an observation goes into the base without its proof, and the next run reads the file once more.

use syncline_model::{Observation, Pair, Side, Tag, Time};

/// How far a file system's clock may lag behind the moment of a change, in nanoseconds: one timer tick at 100 Hz.
const TICK: i128 = 10_000_000;
/// The same where stamps are whole seconds: the coarsest steps that are known, FAT's.
const COARSE: i128 = 2_000_000_000;

/// Judges observations by each side's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust {
    /// The time there when the scan began; `None`: tags do not depend on time.
    pub began: Pair<Option<Time>>,
}

impl Trust {
    /// An observation made by the scan.
    pub fn judge(&self, side: Side, seen: Observation) -> Observation {
        let (Some(began), Tag::Stamp(stamp)) = (self.began[side], &seen.tag) else {
            return seen;
        };
        if nanos(stamp.ctime) + tick(stamp.ctime) < nanos(began) || syncline_model::zoo::on("racy-trusted") {
            seen
        } else {
            distrust(seen)
        }
    }

    /// The tag by which what the scan saw can be known again; `None`: a change of it might not show.
    pub fn proof(&self, side: Side, seen: &Observation) -> Option<Tag> {
        let tag = self.judge(side, seen.clone()).tag;
        let proves = tag.stamp().is_none_or(|stamp| stamp.ctime != Time::NEVER);
        proves.then_some(tag)
    }

    /// An observation of what this run itself just made: its inode changed now, but a later writer would also change
    /// the time of modification, which we set to a past one. Where stamps are whole seconds that writer would have had a
    /// second or two to put it back again.
    pub fn judge_own(&self, _side: Side, seen: Observation) -> Observation {
        let Tag::Stamp(stamp) = &seen.tag else { return seen };
        let mtime = seen.entry.meta().and_then(|meta| meta.mtime);
        match mtime {
            _ if !seen.entry.is_file() => seen,
            Some(mtime) if !is_coarse(stamp.ctime) && nanos(mtime) + TICK < nanos(stamp.ctime) => seen,
            _ => distrust(seen),
        }
    }
}

/// True for a time of status change without a fraction: of a clock of whole seconds, but for one in a very great many.
fn is_coarse(ctime: Time) -> bool {
    ctime.nanos == 0
}

/// How long the clock that gave this stamp may have stood still. A time of modification that stands in for the time of status
/// change is marked by a whole second of nanoseconds.
fn tick(ctime: Time) -> i128 {
    if ctime.nanos.is_multiple_of(1_000_000_000) {
        COARSE
    } else {
        TICK
    }
}

/// Takes the proof away: the next run reads the file.
pub fn distrust(mut seen: Observation) -> Observation {
    if let Tag::Stamp(stamp) = &mut seen.tag {
        stamp.ctime = Time::NEVER;
    }
    seen
}

fn nanos(time: Time) -> i128 {
    i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos)
}

//! How long trash is kept (design D5): 30 days and at most a tenth of the space, oldest first.
//!
//! Invariant: what is dropped is always a run of the oldest; nothing newer goes while something older stays. A time that lies in the future
//! (a clock that was set back) is never too old, but may have to make room. The newest run's trash never makes room: what was displaced last can
//! be taken back, however large it is.

use std::time::Duration;

use crate::entry::Time;

/// What one run put into the trash of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The run.
    pub run: String,
    /// When it was, by the same host's clock as `now`.
    pub time: Time,
    /// What it takes there.
    pub bytes: u64,
}

/// How much trash may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrashRule {
    /// Older runs go.
    pub age: Duration,
    /// More bytes go.
    pub bytes: u64,
}

impl TrashRule {
    /// How long trash stays.
    pub const AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// The rule for a place of `space` bytes in all; `None` where that is unknown.
    pub fn of_space(space: Option<u64>) -> Self {
        Self {
            age: Self::AGE,
            bytes: space.map_or(u64::MAX, |space| space / 10),
        }
    }
}

/// What goes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Runs that are too old.
    pub aged: Vec<String>,
    /// Runs that go, though they are not too old, because there is no room: said to the person.
    pub crowded: Vec<String>,
}

/// Decides what of the trash goes.
pub fn retain(mut kept: Vec<Kept>, rule: &TrashRule, now: Time) -> Dropped {
    kept.sort_by(|a, b| (a.time, &a.run).cmp(&(b.time, &b.run)));
    let mut dropped = Dropped::default();
    let mut bytes: u128 = kept.iter().map(|kept| u128::from(kept.bytes)).sum();
    let newest = kept.len().saturating_sub(1);
    for (number, kept) in kept.into_iter().enumerate() {
        let Kept {
            run,
            time,
            bytes: freed,
        } = kept;
        if age(time, now) > rule.age {
            dropped.aged.push(run);
        } else if number < newest && bytes > u128::from(rule.bytes) {
            dropped.crowded.push(run);
        } else {
            break;
        }
        bytes -= u128::from(freed);
    }
    dropped
}

fn age(time: Time, now: Time) -> Duration {
    let nanos = |time: Time| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let age = (nanos(now) - nanos(time)).max(0).unsigned_abs();
    let secs = u64::try_from(age / 1_000_000_000).unwrap_or(u64::MAX);
    Duration::new(secs, u32::try_from(age % 1_000_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;

    fn kept(run: &str, days: i64, bytes: u64) -> Kept {
        Kept {
            run: run.into(),
            time: at(days),
            bytes,
        }
    }

    fn at(days: i64) -> Time {
        Time {
            secs: days * DAY,
            nanos: 0,
        }
    }

    fn runs(dropped: &Dropped) -> (Vec<&str>, Vec<&str>) {
        let names = |runs: &'_ [String]| {
            runs.iter()
                .map(|r| Box::leak(r.clone().into_boxed_str()) as &str)
                .collect()
        };
        (names(&dropped.aged), names(&dropped.crowded))
    }

    #[test]
    fn thirty_days_are_kept_and_not_a_moment_more() {
        let rule = TrashRule::of_space(None);
        let have = vec![
            kept("old", 0, 1),
            kept("edge", 10, 1),
            kept("new", 39, 1),
            kept("future", 99, 1),
        ];
        assert_eq!(runs(&retain(have.clone(), &rule, at(40))), (vec!["old"], vec![]));
        let later = Time { nanos: 1, ..at(40) };
        assert_eq!(runs(&retain(have, &rule, later)), (vec!["old", "edge"], vec![]));
    }

    #[test]
    fn at_most_a_tenth_of_the_space_and_the_oldest_go_first() {
        let have = vec![kept("c", 3, 40), kept("a", 1, 40), kept("b", 2, 40)];
        for (space, expected) in [
            (1200, vec![]),
            (1199, vec!["a"]),
            (800, vec!["a"]),
            (799, vec!["a", "b"]),
            (399, vec!["a", "b"]),
            (0, vec!["a", "b"]),
        ] {
            let dropped = retain(have.clone(), &TrashRule::of_space(Some(space)), at(4));
            assert_eq!(runs(&dropped), (vec![], expected), "space {space}");
        }
    }

    #[test]
    fn what_age_frees_counts_before_anything_is_crowded_out() {
        let have = vec![kept("old", 0, 100), kept("new", 39, 100)];
        let dropped = retain(
            have,
            &TrashRule {
                bytes: 100,
                ..TrashRule::of_space(None)
            },
            at(40),
        );
        assert_eq!(runs(&dropped), (vec!["old"], vec![]));
    }

    proptest! {
        #[test]
        fn the_rest_fits_and_no_run_goes_in_vain(
            have in proptest::collection::vec((-5i64..60, 0u64..100), 0..20), most in 0u64..800
        ) {
            let have: Vec<Kept> = have.iter().enumerate().map(|(n, &(day, bytes))| kept(&format!("{n:02}"), day, bytes)).collect();
            let rule = TrashRule { age: TrashRule::AGE, bytes: most };
            let dropped = retain(have.clone(), &rule, at(50));
            let gone = |k: &Kept| dropped.aged.contains(&k.run) || dropped.crowded.contains(&k.run);
            let stays: Vec<&Kept> = have.iter().filter(|k| !gone(k)).collect();
            prop_assert!(stays.iter().all(|k| k.time >= at(20)));
            prop_assert!(stays.len() <= 1 || stays.iter().map(|k| k.bytes).sum::<u64>() <= most);
            if let Some(last) = dropped.crowded.last() {
                let freed = have.iter().find(|k| k.run == *last).map_or(0, |k| k.bytes);
                prop_assert!(stays.iter().map(|k| k.bytes).sum::<u64>() + freed > most);
            }
            let oldest = stays.iter().map(|k| (k.time, &k.run)).min();
            for k in have.iter().filter(|k| gone(k)) {
                prop_assert!(oldest.is_none_or(|oldest| (k.time, &k.run) < oldest));
            }
        }
    }
}

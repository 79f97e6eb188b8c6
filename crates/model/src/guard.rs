//! When a run must stop or hold back (design D4): absence is not deletion, and very many removals want a word from a person.
//!
//! Invariant: a root that cannot be shown to be the one that was synced, whole and readable, never leads to a deletion; every reason names
//! both roots and what answers it. A brake holds removals or overwrites of one side, nothing else.

use serde::{Deserialize, Serialize};

use crate::plan::{Pair, Side};
use crate::replica::{Identity, Marker};

/// A brake on removals, and likewise on overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxDelete {
    /// More than half of a side's files (of at least 10), or more than 1,000 that are more than a twentieth of it.
    #[default]
    Default,
    /// At most so many.
    Count(u64),
    /// At most so many in a hundred.
    Percent(u8),
    /// No brake.
    None,
}

/// What a plan would do to one side. Moves are neither removals nor overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Files that were there before.
    pub files: u64,
    /// Files that would go.
    pub removals: u64,
    /// Files whose content would be replaced.
    pub overwrites: u64,
}

/// What was found at one side's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The place as a person wrote it.
    pub label: String,
    /// Who answered there last time; `None` before the first run.
    pub known: Option<Identity>,
    /// Who answers now; `None`: nobody, the root is missing.
    pub found: Option<Identity>,
    /// The base knows something that was there.
    pub held_entries: bool,
    /// Nothing is there now.
    pub empty: bool,
    /// Why the listing is incomplete, if it is.
    pub incomplete: Option<String>,
}

/// What a person allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// The brake.
    pub max_delete: MaxDelete,
    /// This side's root is right as it stands; the base is dropped, so nothing is deleted.
    pub accept: Option<Side>,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No root there.
    Missing,
    /// The marker is gone, or cannot be read.
    Unmarked,
    /// Another place, or the marker of one.
    Foreign,
    /// The marker's generation is smaller than remembered.
    Restored,
    /// Nothing is there, and something was.
    Emptied,
    /// Not all could be listed.
    Incomplete,
    /// Too many files would go.
    Removals,
    /// Too many files would be replaced.
    Overwrites,
}

/// Why a run stops or holds back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// On which side.
    pub side: Side,
    /// What is wrong.
    pub cause: Cause,
    /// The same in words, with both roots and what answers it.
    pub text: String,
}

/// What a run may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything.
    Go,
    /// Nothing; exit 3.
    Refuse(Vec<Reason>),
    /// Everything but the removals or overwrites that these name; exit 3.
    Brake(Vec<Reason>),
}

impl Verdict {
    /// True when steps of that kind wait on that side.
    pub fn holds(&self, side: Side, cause: Cause) -> bool {
        match self {
            Self::Go => false,
            Self::Refuse(_) => true,
            Self::Brake(reasons) => reasons.iter().any(|r| r.side == side && r.cause == cause),
        }
    }
}

/// Judges both roots and what the plan would do to them.
pub fn guard(health: &Pair<Health>, plan: &Pair<PlanSummary>, limits: &Limits) -> Verdict {
    let refused = examine(health, limits);
    if !refused.is_empty() {
        return Verdict::Refuse(refused);
    }
    let braked = brakes(&Pair::new(&health.left.label, &health.right.label), plan, limits);
    if braked.is_empty() {
        Verdict::Go
    } else {
        Verdict::Brake(braked)
    }
}

/// Judges the roots alone: asked before the scan and after it.
pub fn examine(health: &Pair<Health>, limits: &Limits) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for side in Side::BOTH {
        let here = &health[side];
        if crate::zoo::on("root-believed") {
            continue;
        }
        // Where nothing is deleted an empty root is no danger: the base is dropped, or the other side is as empty.
        let harmless = limits.accept.is_some() || health[side.other()].empty;
        let Some((cause, words)) = fault_of(here, limits.accept == Some(side), harmless) else {
            continue;
        };
        let answer = match cause {
            Cause::Missing => "Bring it back (mount it, connect it) and run again".into(),
            Cause::Incomplete => "Make it readable and run again".into(),
            _ => format!(
                "If it is right as it stands, run again with --accept {}: nothing is removed, both sides are joined",
                word(side)
            ),
        };
        let text = format!(
            "the {} root {} {words}; the other root is {}. Nothing was changed. {answer}",
            word(side),
            here.label,
            health[side.other()].label,
        );
        reasons.push(Reason { side, cause, text });
    }
    reasons
}

/// Judges what a plan would do to each side.
pub fn brakes(labels: &Pair<&String>, plan: &Pair<PlanSummary>, limits: &Limits) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for side in Side::BOTH {
        if crate::zoo::on("brake-ignored") {
            continue;
        }
        let PlanSummary {
            files,
            removals,
            overwrites,
        } = plan[side];
        let kinds = [
            (Cause::Removals, removals, "removed"),
            (Cause::Overwrites, overwrites, "overwritten"),
        ];
        for (cause, count, verb) in kinds {
            if !limits.max_delete.stops(cause, count, files) {
                continue;
            }
            let text = format!(
                "{count} of {files} files of the {} root {} would be {verb}, to be as the {} root {}. They wait; all else is done. \
                 If this is meant, run again with --max-delete {count}",
                word(side),
                labels[side],
                word(side.other()),
                labels[side.other()],
            );
            reasons.push(Reason { side, cause, text });
        }
    }
    reasons
}

impl MaxDelete {
    /// True when `count` of `files` are too many. A limit that a person gave replaces the one on removals; on overwrites it can only
    /// permit more, because editing everything is common and deleting nothing is what `--max-delete 0` asks for.
    pub fn stops(self, cause: Cause, count: u64, files: u64) -> bool {
        let (count, files) = (u128::from(count), u128::from(files));
        let very_many = (files >= 10 && count * 2 > files) || (count > 1000 && count * 20 > files);
        let past_limit = match self {
            Self::None => false,
            Self::Default => very_many,
            Self::Count(most) => count > u128::from(most),
            Self::Percent(most) => count * 100 > files * u128::from(most),
        };
        past_limit && (cause == Cause::Removals || very_many)
    }
}

fn word(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
    }
}

/// What is wrong with a root, in words that continue "the left root X …". `accepted`: this root may be another one;
/// `harmless`: it may be empty.
fn fault_of(root: &Health, accepted: bool, harmless: bool) -> Option<(Cause, String)> {
    let Some(found) = &root.found else {
        return Some((Cause::Missing, "is missing".into()));
    };
    let readable = found.marker.as_ref().is_none_or(Marker::is_readable);
    if !readable && !accepted {
        let words = "bears a marker that cannot be read: it may be another place, or a broken copy";
        return Some((Cause::Unmarked, words.into()));
    }
    if let Some(known) = root.known.as_ref().filter(|_| !accepted)
        && let Some(stranger) = stranger(known, found)
    {
        return Some(stranger);
    }
    if let Some(why) = &root.incomplete {
        return Some((
            Cause::Incomplete,
            format!("could not be listed as a whole ({why})"),
        ));
    }
    let emptied = root.empty && root.held_entries && !harmless;
    emptied.then(|| (Cause::Emptied, "is empty, and was not".into()))
}

/// Why `found` is not the root that is known, if so.
fn stranger(known: &Identity, found: &Identity) -> Option<(Cause, String)> {
    Some(match (&known.marker, &found.marker) {
        (Some(_), None) => (
            Cause::Unmarked,
            "has lost its marker: it is another place, or was emptied".into(),
        ),
        (Some(k), Some(f)) if k.id != f.id => (Cause::Foreign, "bears the marker of another place".into()),
        (Some(k), Some(f)) if f.generation < k.generation && !crate::zoo::on("generation-ignored") => (
            Cause::Restored,
            format!(
                "was restored from an older state (generation {}, last seen {})",
                f.generation, k.generation
            ),
        ),
        (None, _) if known.place != found.place => (Cause::Foreign, "is another place than last time".into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::PlaceId;

    fn identity(place: &str, marker: Option<(&str, u64)>) -> Identity {
        Identity {
            place: PlaceId(place.into()),
            marker: marker.map(|(id, generation)| Marker {
                id: id.into(),
                generation,
            }),
        }
    }

    fn sound(label: &str) -> Health {
        let who = identity(label, Some((label, 7)));
        Health {
            label: label.into(),
            known: Some(who.clone()),
            found: Some(who),
            held_entries: true,
            empty: false,
            incomplete: None,
        }
    }

    fn judge(broken: impl Fn(&mut Health), accept: Option<Side>) -> Vec<Option<Cause>> {
        let limits = Limits {
            max_delete: MaxDelete::None,
            accept,
        };
        Side::BOTH
            .iter()
            .map(|&side| {
                let mut health = Pair::new(sound("/a"), sound("/b"));
                broken(&mut health[side]);
                match guard(&health, &Pair::default(), &limits) {
                    Verdict::Go => None,
                    Verdict::Refuse(reasons) => {
                        assert_eq!(reasons.len(), 1);
                        let reason = &reasons[0];
                        assert_eq!(reason.side, side);
                        assert!(
                            reason.text.contains("/a") && reason.text.contains("/b"),
                            "{}",
                            reason.text
                        );
                        let option = format!("--accept {}", word(side));
                        let curable = !matches!(reason.cause, Cause::Missing | Cause::Incomplete);
                        assert_eq!(reason.text.contains(&option), curable, "{}", reason.text);
                        Some(reason.cause)
                    }
                    Verdict::Brake(_) => panic!("no brake was asked for"),
                }
            })
            .collect()
    }

    /// Each fault of a root stops the run on either side; accepting the side answers what an identity can answer and nothing else.
    #[test]
    fn a_root_that_is_not_the_known_one_stops_the_run() {
        type Break = fn(&mut Health);
        let faults: [(Break, Cause, bool); 10] = [
            (|h| h.found = None, Cause::Missing, false),
            (|h| h.found = Some(identity("/x", None)), Cause::Unmarked, true),
            (
                |h| h.found = Some(identity("/a", Some(("", 0)))),
                Cause::Unmarked,
                true,
            ),
            (
                |h| (h.known, h.found) = (None, Some(identity("/a", Some(("", 0))))),
                Cause::Unmarked,
                true,
            ),
            (
                |h| h.found = Some(identity("/a", Some(("other", 9)))),
                Cause::Foreign,
                true,
            ),
            (
                |h| h.found = Some(identity("/a", Some((&h.label.clone(), 6)))),
                Cause::Restored,
                true,
            ),
            (|h| h.empty = true, Cause::Emptied, true),
            (|h| h.incomplete = Some("denied".into()), Cause::Incomplete, false),
            (
                |h| {
                    h.known = Some(identity("/a", None));
                    h.found = Some(identity("/x", None));
                },
                Cause::Foreign,
                true,
            ),
            (
                |h| {
                    h.found = None;
                    h.empty = true;
                },
                Cause::Missing,
                false,
            ),
        ];
        for (broken, cause, curable) in faults {
            assert_eq!(judge(broken, None), [Some(cause), Some(cause)]);
            let accepted = [
                judge(broken, Some(Side::Left))[0],
                judge(broken, Some(Side::Right))[1],
            ];
            let expected = if curable { None } else { Some(cause) };
            assert_eq!(accepted, [expected, expected], "{cause:?}");
        }
    }

    #[test]
    fn accepting_one_side_does_not_answer_for_a_foreign_other() {
        let foreign = |h: &mut Health| h.found = Some(identity("/a", Some(("other", 9))));
        let causes = judge(foreign, Some(Side::Left));
        assert_eq!(causes, [None, Some(Cause::Foreign)]);
    }

    #[test]
    fn two_empty_roots_delete_nothing_and_go_on() {
        let empty = |label| Health {
            empty: true,
            ..sound(label)
        };
        let health = Pair::new(empty("/a"), empty("/b"));
        assert_eq!(guard(&health, &Pair::default(), &Limits::default()), Verdict::Go);
    }

    #[test]
    fn a_sound_root_goes_on() {
        let same: [fn(&mut Health); 6] = [
            |_| {},
            |h| h.known = None,
            |h| h.found = Some(identity("/moved", Some((&h.label.clone(), 7)))),
            |h| h.found = Some(identity("/moved", Some((&h.label.clone(), 8)))),
            |h| {
                h.empty = true;
                h.held_entries = false;
            },
            |h| {
                h.known = Some(identity("/a", None));
                h.found = Some(identity("/a", Some(("new", 1))));
            },
        ];
        for change in same {
            assert_eq!(judge(change, None), [None, None]);
        }
    }

    #[test]
    fn the_default_brake_holds_exactly_above_its_thresholds() {
        for files in 0..=60 {
            for count in 0..=files {
                let expected = files >= 10 && 2 * count > files;
                for cause in [Cause::Removals, Cause::Overwrites] {
                    assert_eq!(
                        MaxDelete::Default.stops(cause, count, files),
                        expected,
                        "{count} of {files}"
                    );
                }
            }
        }
        for (count, files, expected) in [
            (9, 9, false),
            (10, 10, true),
            (1000, 2001, false),
            (1001, 20_019, true),
            (1001, 20_020, false),
            (1001, 20_021, false),
            (1000, 19_999, false),
            (50_001, 1_000_000, true),
            (50_000, 1_000_000, false),
            (u64::MAX, u64::MAX, true),
            (u64::MAX / 20, u64::MAX, false),
        ] {
            assert_eq!(
                MaxDelete::Default.stops(Cause::Removals, count, files),
                expected,
                "{count} of {files}"
            );
        }
    }

    #[test]
    fn a_limit_that_was_given_replaces_the_brake_on_removals_and_loosens_the_other() {
        use Cause::{Overwrites, Removals};
        for (limit, cause, count, files, expected) in [
            (MaxDelete::Count(0), Removals, 0, 5, false),
            (MaxDelete::Count(0), Removals, 1, 5, true),
            (MaxDelete::Count(0), Overwrites, 1, 5, false),
            (MaxDelete::Count(0), Overwrites, 5, 5, false),
            (MaxDelete::Count(0), Overwrites, 6, 10, true),
            (MaxDelete::Count(6), Overwrites, 6, 10, false),
            (MaxDelete::Count(6), Removals, 6, 6, false),
            (MaxDelete::Count(6), Removals, 7, 1_000_000, true),
            (MaxDelete::Percent(10), Removals, 10, 100, false),
            (MaxDelete::Percent(10), Removals, 11, 100, true),
            (MaxDelete::Percent(10), Overwrites, 11, 100, false),
            (MaxDelete::Percent(60), Overwrites, 60, 100, false),
            (MaxDelete::Percent(100), Removals, 100, 100, false),
            (MaxDelete::None, Removals, 100, 100, false),
            (MaxDelete::None, Overwrites, u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(
                limit.stops(cause, count, files),
                expected,
                "{limit:?} {cause:?} {count} of {files}"
            );
        }
    }

    #[test]
    fn a_brake_names_both_roots_and_the_option_and_holds_only_its_own_steps() {
        let health = Pair::new(sound("/a"), sound("/b"));
        let summary = |removals, overwrites| PlanSummary {
            files: 20,
            removals,
            overwrites,
        };
        let plan = Pair::new(summary(3, 4), summary(11, 10));
        let verdict = guard(&health, &plan, &Limits::default());
        let Verdict::Brake(reasons) = &verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(reasons.len(), 1);
        for words in ["11 of 20", "/a", "/b", "--max-delete 11", "removed"] {
            assert!(reasons[0].text.contains(words), "{}", reasons[0].text);
        }
        assert!(verdict.holds(Side::Right, Cause::Removals));
        assert!(
            !verdict.holds(Side::Right, Cause::Overwrites) && !verdict.holds(Side::Left, Cause::Removals)
        );
        let allowed = Limits {
            max_delete: MaxDelete::Count(11),
            accept: None,
        };
        assert_eq!(guard(&health, &plan, &allowed), Verdict::Go);
    }
}

//! Named cases of the merge: one test a scenario, each read as "base | left | right → what happens".

#![allow(clippy::unwrap_used)]

use syncline_model::*;

/// `name=content`, `name/` for a directory; content `!` is excluded, `?` unreadable.
fn seen(text: &str) -> (Slot, Observation) {
    let (name, content) = text.split_once('=').unwrap_or((text, ""));
    let slot = Slot::try_from(name).unwrap();
    let entry = match content {
        "!" => Entry::Opaque(Why::Excluded),
        "?" => Entry::Opaque(Why::Unreadable(Trouble::new(Kind::Denied, "permission denied"))),
        _ if slot.is_dir() => Entry::Dir(Meta::default()),
        text => {
            let digest = Some(Digest([text.as_bytes()[0]; 32]));
            Entry::File(
                Meta::default(),
                Content {
                    size: text.len() as u64,
                    digest,
                    md5: None,
                },
                None,
            )
        }
    };
    (
        slot,
        Observation {
            entry,
            tag: Tag::None,
        },
    )
}

fn merge(rule: &Rule, base: &[&str], left: &[&str], right: &[&str]) -> Vec<String> {
    let mut rows = std::collections::BTreeMap::<Slot, Triple>::new();
    let blank = |slot: Slot| Triple {
        slot,
        base: None,
        was: None,
        now: Pair::new(None, None),
    };
    for text in base {
        let (slot, what) = seen(text);
        rows.entry(slot.clone()).or_insert_with(|| blank(slot)).base =
            Some(Pair::new(Some(what.clone()), Some(what)));
    }
    for (side, texts) in [(Side::Left, left), (Side::Right, right)] {
        for text in texts {
            let (slot, what) = seen(text);
            rows.entry(slot.clone()).or_insert_with(|| blank(slot)).now[side] =
                Some(Located { seen: what, at: None });
        }
    }
    let (mut merge, mut out) = (Merge::new(rule), Vec::new());
    for triple in rows.into_values() {
        merge.push(triple, &mut out).unwrap();
    }
    merge.finish(&mut out).unwrap();
    let mut lines = Vec::new();
    for decision in out {
        match decision {
            Decision::Settle(settle) => lines.extend(
                settle
                    .steps
                    .iter()
                    .map(|step| format!("{} {:?} {}", step.side.name(), step.action, step.change.path)),
            ),
            Decision::Conflict(conflict) => {
                lines.push(format!("conflict {:?} {}", conflict.clash, conflict.path))
            }
            Decision::Problem(problem) => lines.push(format!("problem {}", problem.path)),
            Decision::Yielded { path, .. } => lines.push(format!("yielded {path}")),
            Decision::Tied(path) => lines.push(format!("tied {path}")),
        }
    }
    lines
}

fn two_way(base: &[&str], left: &[&str], right: &[&str]) -> Vec<String> {
    merge(&Rule::default(), base, left, right)
}

#[test]
fn s01_first_run_is_a_union() {
    assert_eq!(
        two_way(&[], &["a=x", "d/", "d/l=y"], &["a=x", "e=z"]),
        ["right Mkdir d", "right Create d/l", "left Create e"]
    );
}

#[test]
fn s05_edit_beats_delete() {
    assert_eq!(two_way(&["a=x"], &["a=yy"], &[]), ["yielded a", "right Create a"]);
}

#[test]
fn s06_directory_deleted_but_a_file_in_it_edited() {
    let base = ["d/", "d/a=x", "d/b=x"];
    assert_eq!(
        two_way(&base, &[], &["d/", "d/a=x", "d/b=yy"]),
        [
            "right Remove d/a",
            "left Mkdir d",
            "yielded d/b",
            "left Create d/b"
        ]
    );
}

#[test]
fn s11_file_against_directory_isolates_that_path() {
    let lines = two_way(&[], &["a=x", "z=q"], &["a/", "a/b=y"]);
    assert!(lines.contains(&"conflict Kind a".into()), "{lines:?}");
    assert!(
        lines.contains(&"left Mkdir a".into()) && lines.contains(&"left Create a/b".into()),
        "{lines:?}"
    );
    assert!(lines.contains(&"right Create z".into()), "{lines:?}");
}

#[test]
fn s12_both_edited_alike_is_agreement() {
    assert!(two_way(&["a=x"], &["a=yy"], &["a=yy"]).is_empty());
}

#[test]
fn directory_replaced_by_file_goes_over_when_nothing_below_survives() {
    assert_eq!(
        two_way(&["d/", "d/a=x"], &["d=q"], &["d/", "d/a=x"]),
        ["right Remove d/a", "right Update d"]
    );
}

#[test]
fn file_replaced_by_directory_goes_over() {
    assert_eq!(
        two_way(&["d=q"], &["d=q"], &["d/", "d/a=x"]),
        ["left Update d", "left Create d/a"]
    );
}

#[test]
fn s03_nothing_is_decided_below_what_cannot_be_read() {
    assert_eq!(
        two_way(&["d/", "d/a=x", "e=x"], &["d/=?", "e=x"], &["d/", "e=x"]),
        ["problem d"]
    );
    assert_eq!(
        two_way(&["d/", "d/s/", "d/s/a=x"], &[], &["d/", "d/s/=?"]),
        ["problem d/s"]
    );
}

#[test]
fn s38_excluded_keeps_its_parents() {
    assert!(two_way(&["d/"], &[], &["d/", "d/x=!"]).is_empty());
}

#[test]
fn mirror_makes_right_as_left() {
    let rule = Rule {
        mode: Mode::Mirror,
        ..Rule::default()
    };
    assert_eq!(
        merge(
            &rule,
            &[],
            &["a=x", "d=f"],
            &["a=yy", "b/", "b/c=z", "d/", "d/e=g"]
        ),
        [
            "right Update a",
            "right Remove b/c",
            "right Remove b",
            "right Remove d/e",
            "right Update d"
        ]
    );
    let rule = Rule {
        mode: Mode::Copy,
        ..Rule::default()
    };
    assert_eq!(
        merge(&rule, &[], &["a=x", "n=x"], &["a=yy", "b/", "b/c=z", "q=z"]),
        ["right Update a", "right Create n"]
    );
}

/// The names of all conflict copies that a merge makes.
fn copies(left: &str, right: &str) -> Vec<String> {
    let rule = Rule {
        hosts: Pair::new("h".into(), "h".into()),
        ..Rule::default()
    };
    let made = merge(&rule, &[], &[left], &[right]);
    let mut names: Vec<String> = made
        .iter()
        .filter(|line| line.contains("Create"))
        .filter_map(|line| line.split_once("Create ").map(|(_, name)| name.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn s32_the_name_of_a_copy_follows_from_its_content_alone() {
    for (one, other) in [("a=x", "a=yy"), ("a=q", "a=b")] {
        let names = copies(one, other);
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(names, copies(other, one));
    }
}

/// Two writers of one bucket, neither of whom saw the other's: `a` and `a/b` stand there together, which no folder can hold.
#[test]
fn s11_b1_a_file_beside_the_directory_of_its_name_leaves_the_name() {
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let twice = ["a=x", "a/", "a/b=y"];
    let copy = |lines: &[String]| {
        let made = lines.iter().find_map(|line| line.strip_prefix("right Move "));
        made.unwrap_or_else(|| panic!("{lines:?}")).to_owned()
    };
    let lines = sorted(two_way(&["a=x"], &["a=x"], &twice));
    let name = copy(&lines);
    assert_eq!(
        lines,
        [
            "conflict Kind a".to_owned(),
            format!("left Create {name}"),
            "left Create a/b".to_owned(),
            "left Update a".to_owned(),
            format!("right Move {name}"),
        ]
    );
    let edited = two_way(&["a=x"], &["a=zz"], &twice);
    assert_eq!(
        edited
            .iter()
            .filter(|line| line.starts_with("conflict Kind a"))
            .count(),
        2
    );
    assert!(edited.contains(&"left Mkdir a".into()), "{edited:?}");
    let agreed = sorted(two_way(&["a/", "a/b=y"], &["a/", "a/b=y"], &twice));
    let name = copy(&agreed);
    assert_eq!(
        agreed,
        [
            "conflict Kind a".to_owned(),
            format!("left Create {name}"),
            format!("right Move {name}")
        ]
    );
    let hold = Rule {
        policy: Policy::Hold,
        ..Rule::default()
    };
    assert_eq!(merge(&hold, &["a=x"], &["a=x"], &twice), ["conflict Kind a"]);
    for mode in [Mode::Mirror, Mode::Copy] {
        let rule = Rule {
            mode,
            ..Rule::default()
        };
        assert_eq!(
            merge(&rule, &["a=x"], &["a=x", "c=z"], &twice),
            ["problem a", "right Create c"]
        );
    }
    assert_eq!(two_way(&[], &twice, &twice), ["problem a"]);
}

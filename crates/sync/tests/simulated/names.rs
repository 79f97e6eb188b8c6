//! Names of two places of which one takes several for one: simulated disks that fold case, or composed and decomposed
//! characters, and keep the spelling that they were given.

use std::collections::BTreeMap;

use syncline_model::fold::Folding;
use syncline_model::{Kind, Pair, Side};
use syncline_sync::Options;

use crate::world::World;

const CASE: Folding = Folding {
    case: true,
    forms: false,
};
const FORMS: Folding = Folding {
    case: false,
    forms: true,
};
const PLAIN: Folding = Folding {
    case: false,
    forms: false,
};

#[test]
fn sp10_s17_two_names_that_are_one_over_there_are_a_problem_each() {
    for folding in Side::BOTH {
        let strict = folding.other();
        let folds = Pair::each(|side| if side == folding { CASE } else { PLAIN });
        let world = World::new(folds.left, folds.right);
        world.write(strict, "Readme", "one");
        world.write(strict, "README", "two");
        world.mkdir(strict, "docs");
        world.mkdir(strict, "Docs");
        world.write(strict, "docs/a", "small");
        world.write(strict, "Docs/a", "large");
        world.write(strict, "other", "goes");
        let before = world.look(strict);
        for _ in 0..2 {
            let said = world.sync(2);
            let mut problems: Vec<_> = said
                .problems
                .iter()
                .map(|problem| (problem.path.to_string(), problem.message.clone()))
                .collect();
            problems.sort();
            let there = format!("are one name on the {} place", folding.name());
            let wanted = [
                ("Docs", format!("\"Docs\" and \"docs\" {there}")),
                ("README", format!("\"README\" and \"Readme\" {there}")),
                ("Readme", format!("\"Readme\" and \"README\" {there}")),
                ("docs", format!("\"docs\" and \"Docs\" {there}")),
            ];
            assert_eq!(problems, wanted.map(|(path, message)| (path.to_owned(), message)));
            assert!(said.problems.iter().all(|problem| {
                problem.side == Some(strict)
                    && problem.kind == Kind::Exists
                    && problem.hint.as_deref() == Some("rename all of them but one")
            }));
            assert_eq!(world.look(strict), before);
            world.assert_looks(folding, &[("other", "goes")]);
        }
        // As it is told, so it goes on.
        world.rename(strict, "README", "README.old");
        world.rename(strict, "Docs", "Papers");
        world.sync(0);
        assert_eq!(world.look(strict), world.look(folding));
        world.assert_settled();
    }
}

#[test]
fn sp10_s17_a_name_that_comes_to_clash_leaves_what_is_there_alone() {
    let world = World::new(PLAIN, CASE);
    world.write(Side::Left, "Readme", "one");
    world.sync(0);
    world.write(Side::Left, "README", "two");
    world.write(Side::Right, "Readme", "edited on the right");
    let said = world.sync(2);
    assert_eq!(said.problems.len(), 2, "{:?}", said.problems);
    world.assert_looks(Side::Left, &[("README", "two"), ("Readme", "one")]);
    world.assert_looks(Side::Right, &[("Readme", "edited on the right")]);
    world.remove(Side::Left, "README");
    world.sync(0);
    world.assert_looks(Side::Left, &[("Readme", "edited on the right")]);
    world.assert_settled();
}

#[test]
fn sp10_s17_a_file_and_a_directory_of_names_that_are_one_are_a_problem_each() {
    let world = World::new(PLAIN, CASE);
    world.write(Side::Left, "notes", "a file");
    world.mkdir(Side::Left, "Notes");
    world.write(Side::Left, "Notes/x", "x");
    let said = world.sync(2);
    assert_eq!(said.problems.len(), 2, "{:?}", said.problems);
    world.assert_looks(Side::Right, &[]);
}

#[test]
fn s17_a_rename_that_changes_case_only_is_a_rename() {
    let world = World::new(PLAIN, CASE);
    world.mkdir(Side::Left, "docs");
    world.write(Side::Left, "docs/file", "text");
    world.write(Side::Left, "readme", "read");
    world.sync(0);
    // Where case is folded: the other side follows, and no byte travels.
    world.rename(Side::Right, "readme", "README");
    world.rename(Side::Right, "docs", "Docs");
    let said = world.sync(0);
    assert_eq!(said.steps, ["left move docs", "left move readme"]);
    let renamed = [("Docs/", ""), ("Docs/file", "text"), ("README", "read")];
    world.assert_looks(Side::Left, &renamed);
    world.assert_looks(Side::Right, &renamed);
    world.assert_settled();
    // Where it is not: it is the name that it was over there.
    world.rename(Side::Left, "README", "Readme");
    world.rename(Side::Left, "Docs", "DOCS");
    let said = world.sync(0);
    assert!(said.steps.is_empty(), "{:?}", said.steps);
    let left = [("DOCS/", ""), ("DOCS/file", "text"), ("Readme", "read")];
    world.assert_looks(Side::Left, &left);
    world.assert_looks(Side::Right, &renamed);
    world.assert_settled();
    // And edits find it.
    world.write(Side::Left, "DOCS/file", "from the left");
    world.write(Side::Right, "README", "from the right");
    world.write(Side::Right, "Docs/new", "new");
    world.sync(0);
    let edited = |docs: &str, readme: &str| {
        vec![
            (format!("{docs}/"), String::new()),
            (format!("{docs}/file"), "from the left".to_owned()),
            (format!("{docs}/new"), "new".to_owned()),
            (readme.to_owned(), "from the right".to_owned()),
        ]
    };
    let expect = |side, rows: Vec<(String, String)>| {
        assert_eq!(world.look(side), rows.into_iter().collect::<BTreeMap<_, _>>());
    };
    expect(Side::Left, edited("DOCS", "Readme"));
    expect(Side::Right, edited("Docs", "README"));
    world.assert_settled();
    // Deleted on either side it is gone on both.
    world.remove(Side::Left, "Readme");
    world.remove(Side::Right, "Docs/file");
    world.sync(0);
    world.assert_looks(Side::Left, &[("DOCS/", ""), ("DOCS/new", "new")]);
    world.assert_looks(Side::Right, &[("Docs/", ""), ("Docs/new", "new")]);
    world.assert_settled();
}

#[test]
fn s17_renamed_by_case_and_edited_at_once() {
    for renames in Side::BOTH {
        let world = World::new(PLAIN, CASE);
        world.write(Side::Left, "readme", "read");
        world.sync(0);
        world.rename(renames, "readme", "Readme");
        world.write(renames.other(), "readme", "edited");
        world.sync(0);
        for side in Side::BOTH {
            let texts: Vec<_> = world.look(side).into_values().collect();
            assert_eq!(texts, ["edited"], "{renames:?}");
        }
        world.assert_settled();
    }
}

#[test]
fn s17_where_both_fold_a_name_is_one_name() {
    let world = World::new(CASE, CASE);
    world.write(Side::Left, "readme", "read");
    world.write(Side::Right, "README", "read");
    world.sync(0);
    world.assert_looks(Side::Left, &[("readme", "read")]);
    world.assert_looks(Side::Right, &[("README", "read")]);
    world.rename(Side::Left, "readme", "ReadMe");
    let said = world.sync(0);
    assert!(said.steps.is_empty(), "{:?}", said.steps);
    world.write(Side::Right, "README", "edited");
    world.sync(0);
    world.assert_looks(Side::Left, &[("ReadMe", "edited")]);
    world.assert_settled();
}

#[test]
fn s17_composed_here_and_decomposed_there_is_one_file() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let world = World::new(PLAIN, FORMS);
    world.mkdir(Side::Left, composed);
    world.mkdir(Side::Right, decomposed);
    world.write(Side::Left, &format!("{composed}/m\u{e9}nu"), "soup");
    world.write(Side::Right, &format!("{decomposed}/me\u{301}nu"), "soup");
    let said = world.sync(0);
    assert!(
        said.steps.iter().all(|step| step.contains("metadata")),
        "{:?}",
        said.steps
    );
    world.write(
        Side::Right,
        &format!("{decomposed}/me\u{301}nu"),
        "soup of the day",
    );
    let said = world.sync(0);
    assert_eq!(said.steps, [format!("left update {composed}/m\u{e9}nu")]);
    let left = [
        (format!("{composed}/"), String::new()),
        (format!("{composed}/m\u{e9}nu"), "soup of the day".to_owned()),
    ];
    assert_eq!(
        world.look(Side::Left),
        left.into_iter().collect::<BTreeMap<_, _>>()
    );
    assert!(
        world
            .look(Side::Right)
            .contains_key(&format!("{decomposed}/me\u{301}nu"))
    );
    world.assert_settled();
    // Twins that only the left can hold.
    world.write(Side::Left, "e\u{301}", "two");
    world.write(Side::Left, "\u{e9}", "one");
    let said = world.sync(2);
    assert_eq!(said.problems.len(), 2, "{:?}", said.problems);
    assert!(
        !world
            .look(Side::Right)
            .values()
            .any(|text| text == "one" || text == "two")
    );
}

#[test]
fn s17_a_part_of_the_tree_in_whatever_spelling() {
    let world = World::new(PLAIN, CASE);
    world.write(Side::Left, "readme", "read");
    world.write(Side::Right, "README", "read");
    world.write(Side::Left, "other", "other");
    world.sync(0);
    world.write(Side::Right, "README", "edited");
    let only = Options {
        only: vec![syncline_model::RelPath::try_from("readme").unwrap()],
        ..Options::default()
    };
    world.run(&only);
    world.assert_looks(Side::Left, &[("other", "other"), ("readme", "edited")]);
    world.assert_looks(Side::Right, &[("README", "edited"), ("other", "other")]);
    world.assert_settled();
}

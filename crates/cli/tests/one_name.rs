//! A file and a directory of one name in one bucket: who wrote one of them did not see the other, and no folder can hold both.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use support::office::{Office, office};

/// Anna's tree with these files, agreed on with the bucket.
fn agreed(files: &[(&str, &str)]) -> Office {
    let office = office();
    for (name, text) in files {
        office.desk.write(&format!("anna/{name}"), text);
    }
    office.desk.ends(0, &["-C", "anna", "init", "s3://team/p"]);
    office.desk.ends(0, &["-C", "anna", "sync"]);
    office
}

/// The texts of Anna's tree, by name.
fn texts(office: &Office) -> Vec<(String, String)> {
    let tree = office.desk.tree("anna");
    let files = tree.into_keys().filter_map(|name| {
        let text = office.desk.read(&format!("anna/{name}"))?;
        Some((name, text))
    });
    files.collect()
}

fn copies(office: &Office) -> Vec<String> {
    let copies = texts(office).into_iter();
    copies
        .filter(|(name, _)| name.contains("(conflict "))
        .map(|(_, text)| text)
        .collect()
}

fn waiting(office: &Office) -> usize {
    office
        .desk
        .ends(0, &["-C", "anna", "conflicts", "--json"])
        .events("conflict")
        .len()
}

#[test]
fn s11_b1_a_directory_beside_an_unchanged_file_takes_its_name() {
    for keep in ["left", "right", "both"] {
        let office = agreed(&[("a", "the file"), ("other", "text")]);
        office.put("p/a/b", b"in the directory");
        let desk = &office.desk;
        for _ in 0..2 {
            desk.ends(1, &["-C", "anna", "sync"]);
            assert_eq!(desk.read("anna/a/b").as_deref(), Some("in the directory"));
            assert_eq!(copies(&office), ["the file"]);
            assert_eq!(waiting(&office), 1);
        }
        // The directory speaks for the side that did not show both.
        desk.ends(
            if keep == "right" { 1 } else { 0 },
            &["-C", "anna", "resolve", "a", "--keep", keep],
        );
        let left = copies(&office);
        assert_eq!(left.len(), usize::from(keep != "left"), "{keep}");
        assert_eq!(
            desk.read("anna/a/b").as_deref(),
            Some("in the directory"),
            "{keep}"
        );
        desk.ends(if keep == "right" { 1 } else { 0 }, &["-C", "anna", "sync"]);
    }
}

#[test]
fn s11_b1_a_file_beside_an_unchanged_directory_leaves_the_name() {
    let office = agreed(&[("a/b", "in the directory"), ("other", "text")]);
    office.put("p/a", b"the file");
    for _ in 0..2 {
        office.desk.ends(1, &["-C", "anna", "sync"]);
        assert_eq!(office.desk.read("anna/a/b").as_deref(), Some("in the directory"));
        assert_eq!(copies(&office), ["the file"]);
        assert_eq!(waiting(&office), 1);
    }
}

#[test]
fn s11_b1_each_copy_that_was_made_is_listed_and_settled() {
    for keep in ["left", "both"] {
        let office = agreed(&[("a", "the file"), ("other", "text")]);
        let desk = &office.desk;
        desk.write("anna/a", "edited by Anna");
        office.put("p/a/b", b"in the directory");
        desk.ends(1, &["-C", "anna", "sync"]);
        assert_eq!(desk.read("anna/a/b").as_deref(), Some("in the directory"));
        let mut both = copies(&office);
        both.sort();
        assert_eq!(both, ["edited by Anna", "the file"]);
        assert_eq!(waiting(&office), 2);
        desk.ends(1, &["-C", "anna", "sync"]);
        desk.ends(
            if keep == "left" { 1 } else { 0 },
            &["-C", "anna", "resolve", "a", "--keep", keep],
        );
        assert_eq!(waiting(&office), usize::from(keep == "left"), "{keep}");
    }
}

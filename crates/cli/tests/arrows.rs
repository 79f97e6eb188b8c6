//! The arrows of the architecture hold: each crate uses only those below it, and each heavy dependency has one home.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;

/// What each crate may use of ours.
const BELOW: [(&str, &[&str]); 5] = [
    ("model", &[]),
    ("store", &["model"]),
    ("replica", &["model", "store"]),
    ("sync", &["model", "store", "replica"]),
    ("cli", &["model", "store", "replica", "sync"]),
];

/// Crates that are never part of the program, and may use whatever they want.
const BESIDE: [&str; 3] = ["testkit", "rigs", "sim"];

/// Dependencies that live in one crate of the program.
const HOMES: [(&str, &str); 5] = [
    ("clap", "cli"),
    ("indicatif", "cli"),
    ("toml", "cli"),
    ("fjall", "store"),
    ("hyper", "store"),
];

/// What `model` must never have: it does no I/O, has no clock, no randomness and no tasks.
const IMPURE: [&str; 7] = [
    "tokio",
    "async-trait",
    "futures",
    "rustix",
    "jiff",
    "rand",
    "libc",
];

fn manifests() -> BTreeMap<String, toml::Table> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::new();
    for entry in crates.read_dir().unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap().to_string();
        let text = std::process::Command::new("cat")
            .arg(dir.join("Cargo.toml"))
            .output()
            .unwrap()
            .stdout;
        found.insert(name, String::from_utf8(text).unwrap().parse().unwrap());
    }
    found
}

fn dependencies(manifest: &toml::Table, kind: &str) -> Vec<String> {
    manifest
        .get(kind)
        .and_then(|table| table.as_table())
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
fn each_crate_uses_only_those_below_it() {
    let manifests = manifests();
    for (name, manifest) in &manifests {
        if BESIDE.contains(&name.as_str()) {
            continue;
        }
        let (_, below) = BELOW
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} has no place in the house"));
        for used in dependencies(manifest, "dependencies") {
            let Some(ours) = used.strip_prefix("syncline-") else {
                continue;
            };
            assert!(below.contains(&ours), "{name} must not use {ours}");
        }
        for kind in ["build-dependencies", "target"] {
            assert!(manifest.get(kind).is_none(), "{name}: no {kind}");
        }
    }
    assert!(
        BELOW.iter().all(|(name, _)| manifests.contains_key(*name)),
        "a crate is missing"
    );
}

#[test]
fn heavy_dependencies_have_one_home_and_model_is_pure() {
    for (name, manifest) in manifests() {
        if BESIDE.contains(&name.as_str()) {
            continue;
        }
        for used in dependencies(&manifest, "dependencies") {
            if let Some((_, home)) = HOMES.iter().find(|(dependency, _)| *dependency == used) {
                assert_eq!(name, *home, "{used} lives in {home}");
            }
            assert!(
                name != "model" || !IMPURE.contains(&used.as_str()),
                "model must not use {used}"
            );
        }
    }
}

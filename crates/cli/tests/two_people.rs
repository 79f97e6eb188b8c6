//! Two people, two processes, one bucket: they edit and sync at the same time, and nothing that either wrote is lost.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use support::Desk;
use support::office::office;

const ROUNDS: usize = 20;
const PEOPLE: [&str; 2] = ["anna", "ben"];

/// Each on a machine of his own, as far as we can tell.
fn words<'w>(state: &'w str, who: &'w str) -> Vec<&'w str> {
    vec!["--state", state, "-C", who, "sync", "--max-delete", "none"]
}

fn texts(dir: &Path, found: &mut BTreeSet<Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            texts(&entry.path(), found);
        } else {
            found.insert(std::fs::read(entry.path()).unwrap_or_default());
        }
    }
}

#[test]
fn b1_two_processes_on_one_bucket_lose_nothing() {
    let office = office();
    let desk: &Desk = &office.desk;
    let states = PEOPLE.map(|who| desk.path(&format!("state of {who}")).to_str().unwrap().to_owned());
    let sync = |who: usize| desk.run(&words(&states[who], PEOPLE[who]));
    let mut written = BTreeSet::new();
    let mut write = |path: String, text: String| {
        desk.write(&path, &text);
        written.insert(text.into_bytes());
    };
    write("anna/same".into(), "the first".into());
    desk.ends(0, &["--state", &states[0], "-C", "anna", "init", "s3://team/p"]);
    assert_eq!(sync(0).code, 0);
    desk.ends(0, &["--state", &states[1], "clone", "s3://team/p", "ben"]);
    let mut met = 0;
    for round in 0..ROUNDS {
        for (who, name) in PEOPLE.iter().enumerate() {
            write(
                format!("{name}/same"),
                format!("same, by {name} in round {round}"),
            );
            write(
                format!("{name}/d{}/of {name}", round % 3),
                format!("own, by {name} in round {round}"),
            );
            if round % 4 == who {
                write(
                    format!("{name}/d/one"),
                    format!("now and then, by {name} in round {round}"),
                );
            }
            if round % 5 == 4 {
                let gone = desk.path(&format!("{name}/d{}/of {name}", (round + 1) % 3));
                std::fs::remove_file(gone).ok();
            }
        }
        let runs = [0, 1].map(|who| desk.start(&words(&states[who], PEOPLE[who])));
        for (who, run) in runs.into_iter().enumerate() {
            let ended = run.wait_with_output().unwrap();
            let mut code = ended.status.code().unwrap_or(-1);
            // What changed under a run waits for the next one: nobody edits on before that.
            for _ in 0..6 {
                assert!(
                    (0..=2).contains(&code),
                    "round {round}, {}: {code}\n{}",
                    PEOPLE[who],
                    String::from_utf8_lossy(&ended.stderr)
                );
                met += u32::from(code > 0);
                if code < 2 {
                    break;
                }
                code = sync(who).code;
            }
            assert!(code < 2, "round {round}, {} comes to no end", PEOPLE[who]);
        }
    }
    for _ in 0..4 {
        for who in [0, 1] {
            assert!(sync(who).code <= 1);
        }
    }
    assert_eq!(desk.tree("anna"), desk.tree("ben"));
    let before = desk.tree("anna");
    for (who, state) in states.iter().enumerate() {
        let ended = desk.run(&["--state", state, "-C", PEOPLE[who], "status", "--json"]);
        assert!(ended.events("step").is_empty(), "not at rest: {}", ended.out);
    }
    assert_eq!(desk.tree("anna"), before);
    let mut found: BTreeSet<Vec<u8>> = office.objects("").into_values().collect();
    for name in PEOPLE {
        texts(&desk.path(name), &mut found);
    }
    let lost: Vec<_> = written
        .difference(&found)
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(met > 0, "they never met");
    println!(
        "b1 rounds={ROUNDS} written={} met={met} files={}",
        written.len(),
        before.len()
    );
}

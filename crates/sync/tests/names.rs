//! Names of two places of which one takes several for one: simulated disks that fold case, or composed and decomposed
//! characters, and keep the spelling that they were given.

#![allow(clippy::unwrap_used, reason = "a test says where it stops")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline_model::fold::Folding;
use syncline_model::{Action, Kind, Pair, Problem, Side};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::disk::Make;
use syncline_store::{Disk, Node, Place};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, Event, Monitor, Options, Report, Session, Stop};
use syncline_testkit::env::{FakeClock, LocalSpawn, SeededDice};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::sim_disk::{FsOptions, SimDir, SimDisk};

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

#[derive(Default)]
struct Said {
    problems: Vec<Problem>,
    steps: Vec<String>,
}

#[derive(Default)]
struct Watch(Mutex<Said>);

impl Monitor for Watch {
    fn event(&self, event: Event<'_>) {
        let mut said = self.0.lock().unwrap();
        match event {
            Event::Problem(problem) => said.problems.push(problem.clone()),
            Event::Step(step) if step.action != Action::Times => {
                let line = format!("{} {:?} {}", step.side.name(), step.action, step.change.path);
                said.steps.push(line.to_lowercase());
            }
            _ => {}
        }
    }
}

struct World {
    disk: SimDisk,
    session: Session,
    runtime: tokio::runtime::Runtime,
    clock: FakeClock,
}

impl World {
    /// Two places that fold so.
    fn new(left: Folding, right: Folding) -> Self {
        let disk = SimDisk::new();
        let raw = disk.raw();
        for (name, folds) in [("left", left), ("right", right), ("state", PLAIN)] {
            raw.make(&raw.top(), name.as_bytes(), Make::Dir).unwrap();
            let options = FsOptions {
                identity: name.len() as u64,
                folds,
                ..FsOptions::default()
            };
            disk.mount(&disk.top(), name.as_bytes(), options).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = FakeClock::new(1_700_000_000);
        let env = {
            let _within = runtime.enter();
            Env {
                clock: Arc::new(clock.clone()),
                dice: Arc::new(SeededDice::new(7)),
                spawn: Arc::new(LocalSpawn::new()),
            }
        };
        let replica = |side: Side| -> Arc<dyn Replica> {
            let options = LocalOptions {
                label: format!("the {} place", side.name()),
                host: format!("{}-host", side.name()),
                threads: 0,
                clock: env.clock.clone(),
                spawn: env.spawn.clone(),
                pid: 1,
                umask: 0o022,
                set_ids: false,
            };
            let root = format!("/{}", side.name());
            Arc::new(LocalReplica::open(Arc::new(disk.clone()), Path::new(&root), options).unwrap())
        };
        let sides = Pair::each(replica);
        let state = disk.root(Path::new("/state")).unwrap();
        let shelf = Arc::new(DiskShelf::new(Arc::new(disk.clone()), state).unwrap());
        let session = Session::over(sides, Arc::new(MemTable::new()), shelf, env).unwrap();
        let world = Self {
            disk,
            session,
            runtime,
            clock,
        };
        // A root of which half goes is not what these tests are about.
        for side in Side::BOTH {
            for n in 0..12 {
                world.write(side, &format!("filler-{n}"), "filler");
            }
        }
        world
    }

    fn dir(&self, side: Side, path: &str) -> SimDir {
        let raw = self.disk.raw();
        raw.root(&Path::new("/").join(side.name()).join(path)).unwrap()
    }

    fn parts<'p>(&self, side: Side, path: &'p str) -> (SimDir, &'p [u8]) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.dir(side, above), name.as_bytes())
    }

    /// Writes a file as an editor does, by another one in its place.
    fn write(&self, side: Side, path: &str, text: &str) {
        let raw = self.disk.raw();
        let (dir, name) = self.parts(side, path);
        let _ = raw.remove(&dir, b".draft", false);
        let file = raw.open(&dir, b".draft", true).unwrap();
        raw.write(&file, 0, text.as_bytes()).unwrap();
        raw.place((&dir, b".draft"), (&dir, name), Place::Over).unwrap();
    }

    fn mkdir(&self, side: Side, path: &str) {
        let (dir, name) = self.parts(side, path);
        self.disk.raw().make(&dir, name, Make::Dir).unwrap();
    }

    /// A rename as people make them where case is folded: by way of another name.
    fn rename(&self, side: Side, from: &str, to: &str) {
        let raw = self.disk.raw();
        let ((dir, old), (target, new)) = (self.parts(side, from), self.parts(side, to));
        raw.place((&dir, old), (&dir, b".between"), Place::New).unwrap();
        raw.place((&dir, b".between"), (&target, new), Place::New)
            .unwrap();
    }

    fn remove(&self, side: Side, path: &str) {
        let (dir, name) = self.parts(side, path);
        self.disk.raw().remove(&dir, name, false).unwrap();
    }

    /// Names and contents, without fillers.
    fn look(&self, side: Side) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        self.look_into(&self.dir(side, ""), "", &mut found);
        found
    }

    fn look_into(&self, dir: &SimDir, above: &str, found: &mut BTreeMap<String, String>) {
        let raw = self.disk.raw();
        let mut names = Vec::new();
        raw.list(dir, &mut |one| {
            names.push(one.name);
            true
        })
        .unwrap();
        for name in names {
            let path = format!("{above}{}", String::from_utf8_lossy(&name));
            if path == ".syncline" || path.starts_with("filler-") {
                continue;
            }
            let stat = raw.stat(dir, &name).unwrap();
            if stat.kind == Node::Dir {
                self.look_into(&raw.open_dir(dir, &name).unwrap(), &format!("{path}/"), found);
                found.insert(format!("{path}/"), String::new());
            } else {
                let file = raw.open(dir, &name, false).unwrap();
                let mut bytes = vec![0; stat.size as usize];
                raw.read(&file, 0, &mut bytes).unwrap();
                found.insert(path, String::from_utf8(bytes).unwrap());
            }
        }
    }

    #[track_caller]
    fn assert_looks(&self, side: Side, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        assert_eq!(self.look(side), wanted, "{side:?}");
    }

    fn run(&self, options: &Options) -> (Report, Said) {
        self.disk.advance(Duration::from_secs(5));
        self.clock.advance(Duration::from_secs(5));
        let watch = Watch::default();
        let report = self
            .runtime
            .block_on(self.session.run("sync", options, &watch, &Stop::default()))
            .unwrap();
        self.disk.advance(Duration::from_secs(5));
        (report, watch.0.into_inner().unwrap())
    }

    #[track_caller]
    fn sync(&self, exit: u8) -> Said {
        let (report, said) = self.run(&Options::default());
        assert_eq!(u8::from(report.exit), exit, "{report:?} {:?}", said.problems);
        said
    }

    /// Another run has nothing to do.
    #[track_caller]
    fn assert_settled(&self) {
        let said = self.sync(0);
        assert!(said.steps.is_empty(), "{:?}", said.steps);
    }
}

#[test]
fn s17_two_names_that_are_one_over_there_are_a_problem_each() {
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
fn s17_a_name_that_comes_to_clash_leaves_what_is_there_alone() {
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
fn s17_a_file_and_a_directory_of_names_that_are_one_are_a_problem_each() {
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

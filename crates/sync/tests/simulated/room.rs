//! A side that takes nothing more while a run is under way: what still goes on, what is said, and what the next run does.

use std::time::Duration;

use syncline_model::{Kind, Side};
use syncline_store::Disk;
use syncline_sync::{Event, Options};

use crate::world::{Said, World};
use syncline_model::fold::Folding;

/// Files to come, in a directory of their own each.
const MANY: usize = 60;

fn name(n: usize) -> String {
    format!("dir-{n}/file")
}

fn world() -> World {
    let world = World::new(Folding::default(), Folding::default());
    for old in ["gone", "moves", "edited"] {
        world.write(Side::Left, old, &old.repeat(100));
    }
    world.sync(0);
    for n in 0..MANY {
        world.mkdir(Side::Left, &format!("dir-{n}"));
        world.write(Side::Left, &name(n), &format!("{n:4}").repeat(250));
    }
    world.remove(Side::Left, "gone");
    world.rename(Side::Left, "moves", "moved");
    world.write(Side::Left, "edited", &"again".repeat(300));
    world
}

/// The right side holds so many bytes from now on, and may be written or not.
fn alter(world: &World, room: Option<u64>, read_only: bool) {
    let disk = world.raw(Side::Right);
    let top = disk.top();
    let space = disk.space(&top).unwrap();
    let used = space.total - space.free;
    disk.alter(&top, |fs| {
        fs.capacity = room.map_or(1 << 40, |room| used + room);
        fs.read_only = read_only;
    });
}

#[track_caller]
fn assert_said_once(said: &Said, kind: Kind, words: &[&str]) {
    let [problem] = &said.problems[..] else {
        panic!("{:?}", said.problems);
    };
    assert_eq!((problem.kind, problem.side), (kind, Some(Side::Right)));
    let line = format!(
        "{}; {}",
        problem.message,
        problem.hint.clone().unwrap_or_default()
    );
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in {line:?}");
    }
}

fn arrived(world: &World) -> usize {
    let there = world.look(Side::Right);
    (0..MANY).filter(|&n| there.contains_key(&name(n))).count()
}

#[test]
fn s26_a_full_side_is_said_once_and_the_next_run_goes_on() {
    for jobs in [1, 4] {
        let world = world();
        alter(&world, Some(20 * 4096 + 500), false);
        let options = Options {
            jobs,
            ..Options::default()
        };
        let (report, said) = world.run(&options);
        assert_eq!(u8::from(report.exit), 2, "{report:?}");
        let before = arrived(&world);
        assert!((15..=20).contains(&before), "{before} of {MANY} files arrived");
        let there = world.look(Side::Right);
        // What needs no room went on.
        assert!(!there.contains_key("gone") && !there.contains_key("moves"));
        assert!(there.contains_key("moved"));
        let edited = there["edited"] == "again".repeat(300);
        let waits = MANY - before + usize::from(!edited);
        let wait = format!("{waits} files wait at the right place");
        assert_said_once(&said, Kind::Full, &[&wait, "make room there and run again"]);
        assert_eq!(report.problems, 1);
        // Still full: still said once.
        let (report, said) = world.run(&options);
        assert_eq!(u8::from(report.exit), 2, "{report:?}");
        assert_said_once(&said, Kind::Full, &[&wait]);
        alter(&world, None, false);
        let said = world.sync(0);
        assert!(said.steps.len() >= waits, "{:?}", said.steps);
        assert_eq!(arrived(&world), MANY);
        assert_eq!(world.look(Side::Left), world.look(Side::Right));
        world.assert_settled();
    }
}

#[test]
fn s26_directories_that_do_not_fit_are_no_problem_for_each_file_in_them() {
    let world = world();
    // The first name that is to appear over there meets the end of the room, and so do all that follow.
    world.disks[Side::Right].before_call(|call| match call.verb {
        "place" | "make" if call.path.starts_with(b"dir-") => {
            syncline_testkit::sim_disk::Action::Fail(Kind::Full)
        }
        _ => syncline_testkit::sim_disk::Action::Go,
    });
    world.rename(Side::Left, "moved", "dir-7/moved");
    let (report, said) = world.run(&Options::default());
    assert_eq!(u8::from(report.exit), 2, "{report:?}");
    // 60 files and the edit, 60 directories, and the file that moves into one of them.
    assert_said_once(&said, Kind::Full, &["61 files and 61 other changes wait"]);
    assert!(!world.look(Side::Right).contains_key("gone"));
    world.disks[Side::Right].no_hook();
    world.sync(0);
    assert_eq!(world.look(Side::Left), world.look(Side::Right));
    world.assert_settled();
}

#[test]
fn s26_a_side_that_may_only_be_read_all_at_once_is_said_once() {
    let world = world();
    let before = world.look(Side::Right);
    let (report, said) = world.run_while(&Options::default(), &|event| {
        if matches!(event, Event::Phase("copying")) {
            alter(&world, None, true);
        }
    });
    assert_eq!(u8::from(report.exit), 2, "{report:?}");
    assert_said_once(&said, Kind::Denied, &["61 files and 1 other change wait"]);
    let there = world.look(Side::Right);
    assert!(there.contains_key("gone"), "{:?}", there.keys());
    assert_eq!(there["edited"], before["edited"]);
    alter(&world, None, false);
    world.sync(0);
    assert_eq!(world.look(Side::Left), world.look(Side::Right));
    world.assert_settled();
}

/// A side that is only read keeps what lies in its trash, and of all other runs the logs go as they do elsewhere.
#[test]
fn s19_logs_of_a_session_with_a_side_that_is_only_read_end_too() {
    let mut world = World::new(Folding::default(), Folding::default());
    world.write(Side::Left, "x", "1");
    world.sync(0);
    world.write(Side::Right, "x", "2");
    world.sync(0);
    let displaced_there = world.logs().pop().unwrap();
    let left = world.raw(Side::Left);
    let only_read = |is: bool| left.alter(&left.top(), |fs| fs.read_only = is);
    only_read(true);
    world.reopen();
    for text in ["3", "4", "5", "6"] {
        world.pass(Duration::from_secs(40 * 24 * 60 * 60));
        only_read(false);
        world.write(Side::Left, "x", text);
        only_read(true);
        world.sync(0);
        world.assert_looks(Side::Right, &[("x", text)]);
    }
    let logs = world.logs();
    assert_eq!(logs.len(), 3, "{logs:?}");
    assert_eq!(logs[0], displaced_there);
}

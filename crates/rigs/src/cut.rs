//! Power cuts: two trees and a state on one ext4 image; the power goes at a random moment of a run, or the instant it has ended.
//!
//! Invariant: what was reported done is there after the cut; a path that was under way is old or new. rsync goes through the same
//! cuts beside it: a rig in which it comes out whole proves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::image::{self, Mounted, Mounting};
use crate::program::{Program, end, exit_of};
use crate::tree::{self, OWN};
use crate::{Seeded, bytes_of, workshop};

/// Room of the image.
const IMAGE: u64 = 256 << 20;
/// Files in a directory.
const SPREAD: usize = 50;

/// What is under way when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Everything is new on the right.
    FirstCopy,
    /// Every file on the right is replaced.
    Update,
}

impl Work {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::FirstCopy, Self::Update];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstCopy => "first-copy",
            Self::Update => "update",
        }
    }
}

/// How much is cut, of each work on each mounting.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Cuts of the program.
    pub cuts: u64,
    /// Cuts of rsync beside it.
    pub peer_cuts: u64,
    /// Ends earlier when this has passed.
    pub time: Option<Duration>,
    /// Files in the tree.
    pub files: usize,
    /// Which moments.
    pub seed: u64,
    /// Where the images lie.
    pub place: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Cuts.
    pub cuts: u64,
    /// Of these, while the run was under way.
    pub under_way: u64,
    /// Of these, right after it had said that it was done.
    pub done: u64,
    /// Files that were reported done, or had been there before, and were gone or old.
    pub lost: u64,
    /// Files that were neither old nor new.
    pub torn: u64,
    /// Runs after a cut that did not come to the end that they should.
    pub stuck: u64,
    /// Cuts of rsync, and those after which a file was torn or lost.
    pub peer_cuts: u64,
    /// See `peer_cuts`.
    pub peer_damaged: u64,
    /// Files that rsync tore or lost.
    pub peer_files: u64,
    /// What was wrong, for a person.
    pub violations: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Outcome {
    /// The line that the ledger keeps.
    pub fn line(&self, what: &str) -> String {
        format!(
            "cut-rig {what} cuts={} under_way={} done={} lost={} torn={} stuck={} rsync_cuts={} rsync_damaged={} \
             rsync_files={} seconds={:.1}",
            self.cuts,
            self.under_way,
            self.done,
            self.lost,
            self.torn,
            self.stuck,
            self.peer_cuts,
            self.peer_damaged,
            self.peer_files,
            self.seconds
        )
    }

    /// Adds another outcome.
    pub fn join(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.under_way += other.under_way;
        self.done += other.done;
        self.lost += other.lost;
        self.torn += other.torn;
        self.stuck += other.stuck;
        self.peer_cuts += other.peer_cuts;
        self.peer_damaged += other.peer_damaged;
        self.peer_files += other.peer_files;
        self.violations.extend(other.violations.iter().cloned());
        self.seconds += other.seconds;
    }

    /// Nothing of ours was damaged.
    pub fn whole(&self) -> bool {
        self.lost == 0 && self.torn == 0 && self.stuck == 0
    }

    /// The cuts were worth something: a third under way, and the peer was damaged by the same.
    pub fn proves(&self) -> bool {
        self.cuts > 0 && self.under_way * 3 >= self.cuts && self.done > 0 && self.peer_damaged > 0
    }
}

fn name(n: usize) -> String {
    format!("d{:03}/f{n:05}", n / SPREAD)
}

fn bytes(n: usize, version: u64) -> Vec<u8> {
    let length = 300 + n * 37 % 6000 + version as usize * 11;
    bytes_of(&name(n), version, length)
}

fn fill(root: &Path, files: usize, version: u64) -> Result<()> {
    for n in 0..files {
        let at = root.join(name(n));
        if n % SPREAD == 0 {
            fs::create_dir_all(at.parent().context("a file without a directory")?)?;
        }
        fs::write(at, bytes(n, version))?;
    }
    Ok(())
}

/// The two trees on one image, before each cut the same.
struct Bench<'a> {
    exe: &'a Path,
    extent: &'a Extent,
    mounting: Mounting,
    work: Work,
    image: PathBuf,
    copy: PathBuf,
    at: PathBuf,
}

/// What was found on the right after a cut.
#[derive(Debug, Default)]
struct Found {
    old: u64,
    new: u64,
    absent: u64,
    torn: Vec<String>,
}

/// Cuts one work on one mounting.
pub fn rig(exe: &Path, mounting: Mounting, work: Work, extent: &Extent) -> Result<Outcome> {
    let started = Instant::now();
    let shop = workshop(extent.place.as_deref())?;
    let bench = Bench {
        exe,
        extent,
        mounting,
        work,
        image: shop.path().join("template"),
        copy: shop.path().join("image"),
        at: shop.path().join("disk"),
    };
    bench.prepare()?;
    let mut outcome = Outcome::default();
    let mut random = Seeded(extent.seed);
    let mut time = bench.measure(|program| program.sync())?;
    let over = |part: f64| {
        extent
            .time
            .is_some_and(|most| started.elapsed().as_secs_f64() > most.as_secs_f64() * part)
    };
    for turn in 0..extent.cuts {
        if over(0.8) {
            break;
        }
        // Other work on the machine makes runs longer or shorter than measured: the moments follow.
        time = match bench.one(turn, time, &mut random, &mut outcome)? {
            Early::Ended => time.mul_f64(0.8),
            Early::UnderWay => time.mul_f64(1.05),
            Early::NotAsked => time,
        };
    }
    let time = bench.measure(peer)?;
    for turn in 0..extent.peer_cuts {
        if over(1.0) {
            break;
        }
        bench.one_peer(turn, time, &mut random, &mut outcome)?;
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

fn peer(program: &Program) -> Command {
    let mut command = Command::new("rsync");
    let mut from = program.left.clone().into_os_string();
    from.push("/");
    command
        .args(["-a", "--exclude=/.syncline"])
        .arg(from)
        .arg(&program.right);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// What a run had come to at a moment that was drawn within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Early {
    /// It was cut right behind its end, as it should be.
    NotAsked,
    /// It had ended.
    Ended,
    /// It was under way.
    UnderWay,
}

/// When the power goes.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// After so long; `None`: the instant the run has ended.
    after: Option<Duration>,
    /// A neighbour commits the kernel's log first.
    neighbour: bool,
}

/// One cut in five right behind the end; the others somewhere in the run, and then with a neighbour, since without a commit of the log a
/// cut takes all and proves nothing.
fn moment(random: &mut Seeded, time: Duration) -> Moment {
    if random.below(5) == 0 {
        return Moment {
            after: None,
            neighbour: random.below(2) == 0,
        };
    }
    Moment {
        after: Some(time.mul_f64(random.below(1000) as f64 / 950.0)),
        neighbour: true,
    }
}

impl Bench<'_> {
    fn program(&self) -> Program {
        let mut program = Program::below(self.exe, &self.at);
        program.extra = vec!["--max-delete".into(), "none".into()];
        program
    }

    fn prepare(&self) -> Result<()> {
        image::make(&self.image, IMAGE)?;
        let disk = Mounted::new(&self.image, &self.at, self.mounting)?;
        let program = self.program();
        for dir in [&program.left, &program.right, &program.state] {
            fs::create_dir(dir)?;
        }
        fill(&program.left, self.extent.files, 1)?;
        if self.work == Work::Update {
            let first = end(program.sync())?;
            if first.exit != 0 {
                bail!("the first sync failed: {}", first.told());
            }
            fill(&program.left, self.extent.files, 2)?;
        }
        disk.unmount()
    }

    fn mount(&self) -> Result<Mounted> {
        Mounted::new(&self.copy, &self.at, self.mounting)
    }

    fn fresh(&self) -> Result<Mounted> {
        image::copy(&self.image, &self.copy)?;
        self.mount()
    }

    /// How long an uncut run takes: the median of three.
    fn measure(&self, command: impl Fn(&Program) -> Command) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..3 {
            let disk = self.fresh()?;
            let started = Instant::now();
            let status = command(&self.program()).status()?;
            times.push(started.elapsed());
            if !status.success() {
                let told = end(command(&self.program()))?;
                bail!("an uncut run failed with {}: {}", exit_of(status), told.told());
            }
            disk.unmount()?;
        }
        times.sort();
        Ok(times[1])
    }

    /// Runs `command` and cuts the power; true when it had ended well before.
    fn run_and_cut(&self, disk: &Mounted, command: Command, moment: Moment, turn: u64) -> Result<bool> {
        let mut command = command;
        let mut child = command.spawn().context("starting what is to be cut")?;
        let ended = match moment.after {
            None => Some(child.wait()?),
            Some(time) => {
                wait_for(&child, time)?;
                child.try_wait()?
            }
        };
        if moment.neighbour {
            disk.neighbour(turn)?;
        }
        disk.cut()?;
        let done = match ended {
            Some(status) if status.success() => true,
            Some(status) => bail!("before the cut it ended with {}", exit_of(status)),
            None => {
                let _ = child.kill();
                child.wait()?;
                false
            }
        };
        Ok(done)
    }

    /// Compares every file of a tree with what it was and what it was to be.
    fn look(&self, root: &Path) -> Result<Found> {
        let (old, new) = match self.work {
            Work::FirstCopy => (None, 1),
            Work::Update => (Some(1), 2),
        };
        let mut found = Found::default();
        for n in 0..self.extent.files {
            match fs::read(root.join(name(n))) {
                Ok(held) if held == bytes(n, new) => found.new += 1,
                Ok(held) if old.is_some_and(|old| held == bytes(n, old)) => found.old += 1,
                Ok(held) => found.torn.push(format!("{} ({} bytes)", name(n), held.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => found.absent += 1,
                Err(error) => found.torn.push(format!("{}: {error}", name(n))),
            }
        }
        Ok(found)
    }

    fn one(&self, turn: u64, time: Duration, random: &mut Seeded, outcome: &mut Outcome) -> Result<Early> {
        let moment = moment(random, time);
        let program = self.program();
        let disk = self.fresh()?;
        let done = self.run_and_cut(&disk, program.sync(), moment, turn)?;
        disk.unmount()?;
        let disk = self.mount()?;
        outcome.cuts += 1;
        outcome.done += u64::from(done);
        outcome.under_way += u64::from(!done);
        let files = self.extent.files as u64;
        let mut wrong = Vec::new();
        let right = self.look(&program.right)?;
        let left = self.look(&program.left)?;
        outcome.torn += right.torn.len() as u64;
        wrong.extend(right.torn.iter().take(3).map(|at| format!("torn: right {at}")));
        let mut lost = files - left.new;
        if done {
            lost += files - right.new;
        } else if self.work == Work::Update {
            lost += right.absent;
        }
        if lost > 0 {
            outcome.lost += lost;
            wrong.push(format!(
                "lost {lost}: left {left:?}, right old {} new {} absent {}",
                right.old, right.new, right.absent
            ));
        }
        let stuck = self.heal(&program)?;
        outcome.stuck += u64::from(!stuck.is_empty());
        wrong.extend(stuck);
        disk.unmount()?;
        for wrong in wrong {
            let told = format!(
                "violation mount={} work={} turn={turn} moment={moment:?} done={done}: {wrong}",
                self.mounting.name(),
                self.work.name(),
            );
            eprintln!("{told}");
            outcome.violations.push(told);
        }
        Ok(match (moment.after, done) {
            (None, _) => Early::NotAsked,
            (Some(_), true) => Early::Ended,
            (Some(_), false) => Early::UnderWay,
        })
    }

    /// The run after the cut: it ends well, everything is new on both sides, the old versions are in the trash, nothing is left to do.
    fn heal(&self, program: &Program) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let again = end(program.sync())?;
        if again.exit != 0 {
            wrong.push(format!("the next run does not heal: {}", again.told()));
            return Ok(wrong);
        }
        let files = self.extent.files as u64;
        for (side, root) in [("left", &program.left), ("right", &program.right)] {
            let found = self.look(root)?;
            if found.new != files {
                wrong.push(format!("healed, {side} is not all new: {found:?}"));
            }
            let left_over = tree::names(&root.join(OWN).join("stage"))?;
            if !left_over.is_empty() {
                wrong.push(format!("healed, {side} has {} left-overs", left_over.len()));
            }
        }
        let strangers = tree::differences(&tree::read(&program.left)?, &tree::read(&program.right)?);
        if !strangers.is_empty() {
            let shown: Vec<_> = strangers.iter().take(3).cloned().collect();
            wrong.push(format!(
                "healed, {} paths differ: {}",
                strangers.len(),
                shown.join("; ")
            ));
        }
        if self.work == Work::Update {
            let mut kept = BTreeSet::new();
            for root in [&program.left, &program.right] {
                kept.extend(tree::contents(&root.join(OWN).join("trash"))?);
            }
            let gone = (0..self.extent.files)
                .filter(|n| !kept.contains(blake3::hash(&bytes(*n, 1)).as_bytes()))
                .count();
            if gone > 0 {
                wrong.push(format!("{gone} old versions are not in the trash"));
            }
        }
        let third = end(program.sync())?;
        if third.exit != 0 || third.steps != Some(0) {
            wrong.push(format!("the third run is not quiet: {}", third.told()));
        }
        Ok(wrong)
    }

    fn one_peer(&self, turn: u64, time: Duration, random: &mut Seeded, outcome: &mut Outcome) -> Result<()> {
        let moment = moment(random, time);
        let program = self.program();
        let disk = self.fresh()?;
        let done = self.run_and_cut(&disk, peer(&program), moment, turn)?;
        disk.unmount()?;
        let disk = self.mount()?;
        let right = self.look(&program.right)?;
        let mut damaged = right.torn.len() as u64;
        if done {
            damaged = self.extent.files as u64 - right.new;
        } else if self.work == Work::Update {
            damaged += right.absent;
        }
        outcome.peer_cuts += 1;
        outcome.peer_damaged += u64::from(damaged > 0);
        outcome.peer_files += damaged;
        disk.unmount()
    }
}

/// Waits until the child ends or the time is over, whichever comes first.
fn wait_for(child: &Child, time: Duration) -> Result<()> {
    let pid = libc::pid_t::try_from(child.id())?;
    // SAFETY: takes no memory; the descriptor is closed below.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("watching the run");
    }
    // SAFETY: a descriptor that nobody else holds.
    let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as i32) };
    let started = Instant::now();
    while let Some(left) = time.checked_sub(started.elapsed()) {
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let wait = libc::timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // SAFETY: both live through the call.
        if unsafe { libc::ppoll(&raw mut poll, 1, &raw const wait, std::ptr::null()) } > 0 {
            break;
        }
    }
    Ok(())
}

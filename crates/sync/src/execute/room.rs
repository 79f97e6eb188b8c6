//! A place that takes nothing more (a full disk, a quota, a file system that may only be read), or no devices from us: said once, with
//! how much waits.
//!
//! Invariant: once a place had no room for some bytes, nothing of that size or larger is tried there again in this run, and nothing at all that
//! needs room once something small did not fit. Removals and moves go on. What waits keeps its row in the base, so the next run goes on there.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use syncline_model::{Action, Entry, Fault, Kind, Problem, RelPath, Result, Side, Special, Step, Trouble};

use super::{Execution, Hands};
use crate::api::Event;
use crate::plan::size;

/// Where what is no larger does not fit, nothing does.
const SMALL: u64 = 64 << 10;

/// What one side still takes; shared with the workers.
#[derive(Debug)]
pub struct Room {
    /// Bytes from which on nothing is tried.
    limit: AtomicU64,
    /// Nothing may be changed at all.
    sealed: AtomicBool,
    /// Where it was met first, and what was said there.
    met: Mutex<Option<(RelPath, Trouble)>>,
}

impl Room {
    /// Of a side about which nothing is known yet, or that is known to take nothing.
    pub fn new(sealed: bool) -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            sealed: AtomicBool::new(sealed),
            met: Mutex::new(None),
        }
    }

    /// False when `step` would meet what others met.
    pub fn takes(&self, step: &Step) -> bool {
        !self.sealed.load(Ordering::Relaxed)
            && (!makes(step) || bytes(step) < self.limit.load(Ordering::Relaxed))
    }

    /// Learns from what came of `step`. True: it concerns the place, not that path.
    pub fn learn(&self, step: &Step, fault: &Fault) -> bool {
        if !fault.whole {
            return false;
        }
        let bytes = bytes(step);
        if !fault.is(Kind::Full) {
            self.sealed.store(true, Ordering::Relaxed);
        } else if bytes > SMALL {
            self.limit.fetch_min(bytes, Ordering::Relaxed);
        } else {
            self.limit.store(0, Ordering::Relaxed);
        }
        self.note(&step.change.path, || Trouble::from(fault));
        true
    }

    fn note(&self, path: &RelPath, why: impl FnOnce() -> Trouble) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.get_or_insert_with(|| (path.clone(), why()));
    }
}

/// What waits for room on one side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    files: u64,
    others: u64,
}

impl Waiting {
    /// One more.
    pub fn add(&mut self, step: &Step) {
        let new = step.change.new.as_ref();
        if new.is_some_and(|new| !new.is_dir()) && makes(step) {
            self.files += 1;
        } else if step.action != Action::Times {
            self.others += 1;
        }
    }

    /// Says so, for the reason that was met at a path first.
    pub fn told(self, (path, mut trouble): (RelPath, Trouble), label: &str, side: Side) -> Problem {
        trouble.message = format!("{}: {self} at {label}", trouble.message);
        Problem::new(path, Some(side), trouble)
    }
}

/// Why a side that may only be read takes nothing.
pub fn not_writable() -> Trouble {
    Trouble::new(Kind::Denied, "this place may not be written")
        .hint("let it be written, then run again: it goes on where it stopped")
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { files, others } = *self;
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        match (files, others) {
            (0, others) => write!(f, "{others} change{}", plural(others)),
            (files, 0) => write!(f, "{files} file{}", plural(files)),
            _ => write!(
                f,
                "{files} file{} and {others} other change{}",
                plural(files),
                plural(others)
            ),
        }?;
        f.write_str(if files + others == 1 { " waits" } else { " wait" })
    }
}

/// True for steps that make something, and so need room.
fn makes(step: &Step) -> bool {
    matches!(step.action, Action::Mkdir | Action::Create | Action::Update)
}

/// Bytes that a step writes.
fn bytes(step: &Step) -> u64 {
    if step.source.is_some() && step.change.from.is_none() {
        size(step)
    } else {
        0
    }
}

impl Hands {
    /// The fault of a step that would meet what others met on its side.
    pub(super) fn no_room(&self, step: &Step) -> Result<()> {
        if self.room[step.side].takes(step) {
            return Ok(());
        }
        Err(Fault::new(Kind::Full, "there is no room", &step.change.path))
    }
}

impl Execution<'_> {
    /// True when a step waits because its side takes no more.
    pub(super) fn waits_for_room(&mut self, step: &Step) -> bool {
        let waits = !self.hands.room[step.side].takes(step) || self.below_unmade(step);
        if waits {
            self.put_off(step);
        }
        waits
    }

    /// True when a fault says that a step waits because its side takes no more.
    pub(super) fn met_no_room(&mut self, step: &Step, fault: &Fault) -> bool {
        // A directory that could not be emptied stays.
        let kept =
            fault.is(Kind::Exists) && step.action == Action::Remove && self.waiting[step.side].is_some();
        let met = kept || self.hands.room[step.side].learn(step, fault);
        if met {
            self.put_off(step);
        }
        met
    }

    fn put_off(&mut self, step: &Step) {
        let room = &self.hands.room[step.side];
        room.note(&step.change.path, not_writable);
        self.waiting[step.side].get_or_insert_default().add(step);
        if step.action == Action::Mkdir {
            self.unmade.insert((step.side, step.change.path.clone()));
        }
    }

    /// True for what is to come into a directory that could not be made.
    fn below_unmade(&self, step: &Step) -> bool {
        if self.unmade.is_empty() {
            return false;
        }
        let mut above = step.change.path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            if self.unmade.contains(&(step.side, dir)) {
                return true;
            }
        }
        false
    }

    /// What came of the end of a side's edit: where nothing may be written any more the stage stays for the next run.
    pub(crate) fn ended(&self, side: Side, finished: Result<()>) -> Result<()> {
        match finished {
            Err(fault) if fault.whole && !fault.is(Kind::Full) && self.waiting[side].is_some() => Ok(()),
            finished => finished,
        }
    }

    /// True when a fault says that we may make no devices: only root may, and only those of a directory here.
    pub(super) fn met_no_devices(&mut self, step: &Step, fault: &Fault) -> bool {
        let new = step.change.new.as_ref();
        let device = matches!(
            new,
            Some(Entry::Special(_, Special::Block(..) | Special::Char(..)))
        );
        if !device || !fault.is(Kind::Denied) || fault.whole {
            return false;
        }
        let met = self.devices[step.side].get_or_insert_with(|| (step.change.path.clone(), 0));
        met.1 += 1;
        true
    }

    fn tell_of_devices(&mut self, side: Side) {
        let Some((path, count)) = self.devices[side].take() else {
            return;
        };
        let label = &self.hands.sides[side].profile().label;
        let files = if count == 1 {
            "device file is"
        } else {
            "device files are"
        };
        let what = format!(
            "only root may make devices, and of a bucket nobody: {count} {files} not made at {label}"
        );
        let trouble =
            Trouble::new(Kind::Denied, what).hint("run as root between directories, or exclude them");
        self.problems += 1;
        let problem = Problem::new(path, Some(side), trouble);
        self.monitor.event(Event::Problem(&problem));
    }

    /// Says once for each side what waits there.
    pub(crate) fn tell_what_waits(&mut self) {
        for side in Side::BOTH {
            self.tell_of_devices(side);
            let Some(waiting) = self.waiting[side].take() else {
                continue;
            };
            let met = &self.hands.room[side].met;
            let met = met.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(met) = met else { continue };
            let label = &self.hands.sides[side].profile().label;
            self.problems += 1;
            let problem = waiting.told(met, label, side);
            self.monitor.event(Event::Problem(&problem));
        }
    }
}

/// Directories that could not be made for want of room.
pub(super) type Unmade = HashSet<(Side, RelPath)>;

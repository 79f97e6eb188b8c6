//! Steps that are not decided by a merge (of an undo, of a restore): carried out, or with a dry run only shown.
//!
//! Invariant: what is shown changes nothing, and a step whose place does not hold what it expects is shown as the problem that it would be.

use std::collections::BTreeSet;

use syncline_model::replica::Scope;
use syncline_model::{
    Action, Entry, From, Kind, Observation, Pair, Problem, RelPath, Result, Side, Step, Time, Trouble,
};

use crate::api::{Counts, Event, Exit, Monitor, Options, Report, Stop};
use crate::execute::Execution;
use crate::plan::size;
use crate::session::{Begun, Session};

/// Where the steps go.
pub(crate) enum Deed<'a> {
    /// They are carried out, and the base is not told.
    Done(Box<Execution<'a>>),
    /// They are only shown.
    Shown(Shown<'a>),
}

/// Steps that were only shown.
pub(crate) struct Shown<'a> {
    session: &'a Session,
    monitor: &'a dyn Monitor,
    counts: Pair<Counts>,
    problems: u64,
    ground: Ground,
    /// What would be left alone, and with it each directory that holds it.
    kept: Vec<(Side, RelPath)>,
}

impl<'a> Deed<'a> {
    /// Begins an execution of `what`, unless it is a dry run.
    pub async fn begin(
        session: &'a Session,
        begun: &Begun,
        what: &str,
        options: &'a Options,
        monitor: &'a dyn Monitor,
        stop: &'a Stop,
    ) -> Result<Self> {
        if options.dry_run {
            return Ok(Self::Shown(Shown {
                session,
                monitor,
                counts: Pair::default(),
                problems: 0,
                ground: Ground::default(),
                kept: Vec::new(),
            }));
        }
        let execution = session.detached(begun, what, options, monitor, stop).await?;
        Ok(Self::Done(Box::new(execution)))
    }

    /// Does steps one after another, in the order given.
    pub async fn sequence(&mut self, steps: Vec<Step>) -> Result<()> {
        match self {
            Self::Done(execution) => execution.sequence(steps).await,
            Self::Shown(shown) => {
                for step in &steps {
                    shown.show(step).await?;
                }
                Ok(())
            }
        }
    }

    /// Something that was changed since, and stays.
    pub fn leave(&mut self, side: Side, path: &RelPath) {
        let trouble = Trouble::new(Kind::Changed, "it was changed since: it is left alone");
        match self {
            Self::Done(execution) => execution.told(side, path, trouble),
            Self::Shown(shown) => shown.problem(side, path, trouble),
        }
    }

    /// True when nothing more is to be begun.
    pub fn stopped(&self) -> bool {
        matches!(self, Self::Done(execution) if execution.stopped)
    }

    /// True when all was done, and not only shown.
    pub fn all_done(&self) -> bool {
        matches!(self, Self::Done(execution) if execution.all_done())
    }

    /// Something that cannot be taken back.
    pub fn lost(&mut self, side: Side, path: &RelPath, why: &str) {
        match self {
            Self::Done(execution) => execution.lost(side, path, why),
            Self::Shown(shown) => {
                let trouble = Trouble::new(Kind::NotFound, why);
                shown.problem(
                    side,
                    path,
                    trouble.hint("bring it back from a backup if it is wanted"),
                );
            }
        }
    }

    /// Ends it.
    pub async fn report(self, session: &Session, begun: &Begun, outcome: Result<()>) -> Result<Report> {
        match self {
            Self::Done(execution) => session.report(begun, *execution, outcome).await,
            Self::Shown(shown) => {
                outcome?;
                Ok(Report {
                    run: None,
                    exit: if shown.problems > 0 {
                        Exit::Partial
                    } else {
                        Exit::Done
                    },
                    left: shown.counts.left,
                    right: shown.counts.right,
                    conflicts: 0,
                    problems: shown.problems,
                    reasons: Vec::new(),
                    seconds: session.since(begun),
                })
            }
        }
    }
}

impl Shown<'_> {
    async fn show(&mut self, step: &Step) -> Result<()> {
        let (side, path) = (step.side, &step.change.path);
        let holds = |(other, kept): &(Side, RelPath)| *other == side && kept.is_within(path);
        if step.change.new.is_none() && self.kept.iter().any(holds) {
            self.problem(side, path, Trouble::new(Kind::Exists, "it would not be empty"));
            return Ok(());
        }
        match self.ground.finds(self.session, step).await? {
            Finds::Wanted => return Ok(()),
            Finds::Expected => {}
            Finds::Other => {
                let what = "it was changed since: it would be left alone";
                self.problem(side, path, Trouble::new(Kind::Changed, what));
                return Ok(());
            }
        }
        let travels = step.source.is_some() && step.change.from.is_none();
        self.counts[side].add(step.action, if travels { size(step) } else { 0 });
        self.monitor.event(Event::Step(step));
        Ok(())
    }

    fn problem(&mut self, side: Side, path: &RelPath, trouble: Trouble) {
        self.problems += 1;
        self.kept.push((side, path.clone()));
        let problem = Problem::new(path.clone(), Some(side), trouble);
        self.monitor.event(Event::Problem(&problem));
    }
}

/// What a step that is only shown would find in its place.
pub(crate) enum Finds {
    /// What it expects, there and where its bytes come from.
    Expected,
    /// What it would make: nothing would be done.
    Wanted,
    /// Something else: it would be refused.
    Other,
}

/// What steps that are only shown would find.
#[derive(Default)]
pub(crate) struct Ground {
    /// What the steps so far would change: what would stand there cannot be looked at. By side, each path as the beginning of what lies in it.
    changed: BTreeSet<(Side, Vec<u8>)>,
    /// Directories that the steps so far would make.
    made: BTreeSet<(Side, RelPath)>,
}

impl Ground {
    /// Looks at the place of `step`, and at what it takes its bytes from.
    pub async fn finds(&mut self, session: &Session, step: &Step) -> Result<Finds> {
        let (change, side) = (&step.change, step.side);
        if step.action == Action::Mkdir && !self.made.insert((side, change.path.clone())) {
            return Ok(Finds::Wanted);
        }
        if change.old.is_none()
            && let Some(new) = &change.new
            && !self.reaches(side, &change.path)
            && let Some(found) = session.sides[side].find(&change.path, &Scope::default()).await?
        {
            let left = match &change.from {
                Some(From::Move(from)) => session.sides[side].find(from, &Scope::default()).await?.is_none(),
                _ => true,
            };
            let wanted = left && alike(&found.entry, new);
            return Ok(if wanted { Finds::Wanted } else { Finds::Other });
        }
        let source = step.source.as_ref();
        let looks = [
            Some((side, &change.path, change.old.as_ref())),
            source.map(|source| (source.side, &source.path, Some(&source.seen))),
        ];
        for (side, path, expected) in looks.into_iter().flatten() {
            if self.reaches(side, path) {
                continue;
            }
            let found = session.sides[side].find(path, &Scope::default()).await?;
            if !stands(found.as_ref(), expected) {
                return Ok(Finds::Other);
            }
        }
        self.changed.insert((side, beginning(&change.path)));
        if let Some(From::Move(from) | From::Exchange(from)) = &change.from {
            self.changed.insert((side, beginning(from)));
        }
        Ok(Finds::Expected)
    }

    /// True when an earlier step changes what stands at `path`, above it or below it.
    fn reaches(&self, side: Side, path: &RelPath) -> bool {
        let own = beginning(path);
        let slashes = own.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let above = slashes.map(|(at, _)| (side, own[..=at].to_vec()));
        let below = || self.changed.range((side, own.clone())..).next();
        above.into_iter().any(|prefix| self.changed.contains(&prefix))
            || below().is_some_and(|(other, changed)| *other == side && changed.starts_with(&own))
    }
}

/// What every path within `path` begins with, and its own with a slash.
fn beginning(path: &RelPath) -> Vec<u8> {
    let mut bytes = path.as_bytes().to_vec();
    bytes.push(b'/');
    bytes
}

/// Whether what was found is what a step expects, as far as a look tells.
pub(crate) fn stands(found: Option<&Observation>, expected: Option<&Observation>) -> bool {
    let (found, expected) = match (found, expected) {
        (None, None) => return true,
        (Some(found), Some(expected)) => (found, expected),
        _ => return false,
    };
    if found.entry.is_dir() && expected.entry.is_dir() {
        return true;
    }
    let same_tag = match (found.tag.stamp(), expected.tag.stamp()) {
        (Some(now), Some(then)) => {
            now.inode == then.inode && (then.ctime == Time::NEVER || now.ctime == then.ctime)
        }
        _ => found.tag == expected.tag,
    };
    alike(&found.entry, &expected.entry) && same_tag
}

/// Whether two entries are of one kind, size and time, as far as these are known.
fn alike(one: &Entry, other: &Entry) -> bool {
    let mtime = |entry: &Entry| entry.meta().and_then(|meta| meta.mtime);
    let same_time = mtime(one)
        .zip(mtime(other))
        .is_none_or(|(one, other)| one == other);
    let size = |entry: &Entry| entry.content().map(|content| content.size);
    one.kind() == other.kind() && size(one) == size(other) && (one.is_dir() || same_time)
}

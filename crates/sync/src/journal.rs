//! The log of a run: what it began, what it did, how it ended. `log`, `undo` and `restore` read it.

use serde::{Deserialize, Serialize};
use syncline_model::{Action, Change, From, Observation, Pair, Result, Side, Time, TrashRef};

use crate::api::{Counts, Exit, RunInfo};
use crate::rows::{decode, encode};
use crate::shelf::{Log, Shelf};

/// One record of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// The run began.
    Begin {
        /// What it was asked for.
        what: String,
        /// When, by this host's clock.
        time: Time,
    },
    /// A change that stands.
    Done(Box<Done>),
    /// The run ended.
    End {
        /// How; the number that the program exits with.
        exit: u8,
        /// Done on each side.
        counts: Pair<[u64; 6]>,
    },
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Where.
    pub side: Side,
    /// What.
    pub action: Action,
    /// The change.
    pub change: Change,
    /// What stands there since.
    pub now: Option<Observation>,
    /// Where the trash holds what was displaced.
    pub trashed: Option<TrashRef>,
}

/// The log of the run under way.
pub struct Journal {
    log: Box<dyn Log>,
}

impl Journal {
    /// Begins the log of `run`.
    pub fn begin(shelf: &dyn Shelf, run: &str, what: &str, time: Time) -> Result<Self> {
        let mut journal = Self { log: shelf.log(run)? };
        journal.put(&Record::Begin {
            what: what.into(),
            time,
        })?;
        journal.log.sync()?;
        Ok(journal)
    }

    /// Adds a record; durable after [`Journal::sync`].
    pub fn put(&mut self, record: &Record) -> Result<()> {
        self.log.append(&encode(record)?)
    }

    /// Returns when all records survive a power cut.
    pub fn sync(&mut self) -> Result<()> {
        self.log.sync()
    }

    /// Ends the log.
    pub fn end(&mut self, exit: Exit, counts: &Pair<Counts>) -> Result<()> {
        let counts = Pair::each(|side| flat(&counts[side]));
        self.put(&Record::End {
            exit: exit.into(),
            counts,
        })?;
        self.log.sync()
    }
}

fn flat(counts: &Counts) -> [u64; 6] {
    [
        counts.created,
        counts.updated,
        counts.moved,
        counts.removed,
        counts.metadata,
        counts.bytes,
    ]
}

/// All records of a run.
pub fn read(shelf: &dyn Shelf, run: &str) -> Result<impl Iterator<Item = Result<Record>> + use<>> {
    Ok(shelf.records(run)?.map(|record| decode(&record?)))
}

/// The runs that have a log, oldest first.
pub fn runs(shelf: &dyn Shelf) -> Result<Vec<RunInfo>> {
    shelf.runs()?.into_iter().map(|run| info(shelf, run)).collect()
}

fn info(shelf: &dyn Shelf, run: String) -> Result<RunInfo> {
    let mut info = RunInfo {
        run: run.clone(),
        time: Time { secs: 0, nanos: 0 },
        what: String::new(),
        exit: None,
        left: Counts::default(),
        right: Counts::default(),
    };
    let mut done = Pair::<Counts>::default();
    for record in read(shelf, &run)? {
        match record? {
            Record::Begin { what, time } => (info.what, info.time) = (what, time),
            Record::Done(step) => done[step.side].add(step.action, copied(&step)),
            Record::End { exit, .. } => info.exit = Exit::from_number(exit),
        }
    }
    (info.left, info.right) = (done.left, done.right);
    Ok(info)
}

/// Bytes that came from elsewhere for a change.
fn copied(done: &Done) -> u64 {
    let fresh = matches!(done.action, Action::Create | Action::Update) && done.change.from.is_none();
    if fresh {
        done.change.new.as_ref().map_or(0, syncline_model::Entry::size)
    } else {
        0
    }
}

/// The change that takes `done` back, if it can be: expects what stands there since.
pub fn reverse(done: &Done) -> Option<(Action, Change)> {
    let back = |run: &TrashRef| Some(From::Trash(run.clone()));
    let old = done.change.old.clone();
    let change = match done.action {
        Action::Create | Action::Mkdir => {
            let change = Change {
                path: done.change.path.clone(),
                old: done.now.clone(),
                new: None,
                from: None,
            };
            return Some((Action::Remove, change));
        }
        Action::Update => {
            let new = Some(old?.entry);
            let from = done.trashed.as_ref().and_then(back)?;
            Change {
                path: done.change.path.clone(),
                old: done.now.clone(),
                new,
                from: Some(from),
            }
        }
        Action::Remove => {
            let new = old?.entry;
            let from = if new.is_dir() {
                None
            } else {
                Some(done.trashed.as_ref().and_then(back)?)
            };
            let action = if new.is_dir() {
                Action::Mkdir
            } else {
                Action::Create
            };
            let change = Change {
                path: done.change.path.clone(),
                old: None,
                new: Some(new),
                from,
            };
            return Some((action, change));
        }
        Action::Move => {
            let Some(From::Move(from)) = &done.change.from else {
                return None;
            };
            let new = done.now.clone()?.entry;
            let to = Some(From::Move(done.change.path.clone()));
            Change {
                path: from.clone(),
                old: None,
                new: Some(new),
                from: to,
            }
        }
        Action::Metadata => Change {
            path: done.change.path.clone(),
            old: done.now.clone(),
            new: Some(old?.entry),
            from: None,
        },
        Action::Times => return None,
    };
    Some((done.action, change))
}

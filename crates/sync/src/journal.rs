//! The log of a run: what it began, what it is about to do, what it did, how it ended. `log`, `undo` and `restore` read it.
//!
//! Invariant: nothing is done to a tree before the log says durably that it is about to be done, so whatever a killed run did is in its log or
//! is found by looking at the places that the log names.

use serde::{Deserialize, Serialize};
use syncline_model::{
    Action, Change, Classes, Conflict, From, Observation, Pair, Result, Side, Time, TrashRef,
};

use crate::api::{Counts, Exit, OpenConflict, RunInfo};
use crate::rows::{decode, encode};
use crate::shelf::{Log, Records, Shelf};

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
    /// A change that is about to be made.
    Ahead(Box<Ahead>),
    /// One of the changes announced since the last `Settled` stands.
    Stands(Box<Stands>),
    /// What was announced and does not stand was not made.
    Settled,
    /// A later run has found out what this one, which was killed, had made; its base knows of it.
    Recovered,
    /// The attributes that the run carries: who takes it back sets these and no others.
    Carries(Classes),
    /// A conflict that waits no longer for what the run did, and the run that had found it.
    Resolved(Box<(Conflict, String)>),
    /// What the announced change of this number displaces had not been agreed on.
    Unagreed(u32),
    /// The run ended so, and of what it had announced something is for the next run to find out.
    Open(u8),
}

/// A change that is about to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ahead {
    /// Where.
    pub side: Side,
    /// What.
    pub action: Action,
    /// The change, with all that is known of what comes.
    pub change: Change,
    /// The base is to be told of it: an undo's and a restore's results are edits to it.
    pub told: bool,
}

/// How an announced change came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stands {
    /// Its number among those announced together.
    pub number: u32,
    /// What stands there since.
    pub now: Option<Observation>,
    /// Where the trash holds what was displaced.
    pub trashed: Option<TrashRef>,
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
    /// What was displaced had been agreed on. An edit that lost against another had not, nor had anything before a first run.
    #[serde(skip, default = "agreed")]
    pub agreed: bool,
}

fn agreed() -> bool {
    true
}

/// The log of the run under way.
pub struct Journal {
    log: Box<dyn Log>,
    /// How many changes are announced and not settled.
    ahead: u32,
}

impl Journal {
    /// Begins the log of `run`.
    pub fn begin(shelf: &dyn Shelf, run: &str, what: &str, classes: Classes, time: Time) -> Result<Self> {
        let mut journal = Self {
            log: shelf.log(run)?,
            ahead: 0,
        };
        journal.put(&Record::Begin {
            what: what.into(),
            time,
        })?;
        journal.put(&Record::Carries(classes))?;
        journal.log.sync()?;
        Ok(journal)
    }

    /// Goes on with the log of a killed run.
    pub fn reopen(shelf: &dyn Shelf, run: &str) -> Result<Self> {
        Ok(Self {
            log: shelf.reopen(run)?,
            ahead: 0,
        })
    }

    fn put(&mut self, record: &Record) -> Result<()> {
        self.log.append(&encode(record)?)
    }

    /// Announces changes, each with whether what it displaces had been agreed on; they may be made once this has returned. The number of
    /// the first.
    pub fn announce(&mut self, changes: impl IntoIterator<Item = (Ahead, bool)>) -> Result<u32> {
        let first = self.ahead;
        for (ahead, agreed) in changes {
            self.put(&Record::Ahead(Box::new(ahead)))?;
            if !agreed {
                self.put(&Record::Unagreed(self.ahead))?;
            }
            self.ahead += 1;
        }
        self.log.sync()?;
        Ok(first)
    }

    /// Says which of the announced changes stand; durable after [`Journal::settle`].
    pub fn stands(&mut self, stands: Stands) -> Result<()> {
        self.put(&Record::Stands(Box::new(stands)))
    }

    /// Says which conflict the run has settled.
    pub fn resolved(&mut self, open: &OpenConflict) -> Result<()> {
        let resolved = (open.conflict.clone(), open.run.clone());
        self.put(&Record::Resolved(Box::new(resolved)))
    }

    /// All is said about what was announced.
    pub fn settle(&mut self) -> Result<()> {
        self.ahead = 0;
        self.put(&Record::Settled)?;
        self.log.sync()
    }

    /// Closes the log of a killed run.
    pub fn recovered(&mut self) -> Result<()> {
        self.put(&Record::Settled)?;
        self.put(&Record::Recovered)?;
        self.log.sync()
    }

    /// Ends the log. What came of announced changes and could not be said is for the next run to find out.
    pub fn end(&mut self, exit: Exit, counts: &Pair<Counts>) -> Result<()> {
        let counts = Pair::each(|side| flat(&counts[side]));
        let exit = exit.into();
        self.put(&if self.ahead == 0 {
            Record::End { exit, counts }
        } else {
            Record::Open(exit)
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

/// All records of a run, where each change that was announced and stands is `Done`.
pub fn read(shelf: &dyn Shelf, run: &str) -> Result<Reading> {
    Ok(Reading {
        records: shelf.records(run)?,
        ahead: Vec::new(),
    })
}

/// A log that is being read.
pub struct Reading {
    records: Records,
    /// With whether what they displace had been agreed on.
    ahead: Vec<Option<(Ahead, bool)>>,
}

impl Reading {
    /// The next record as it was written.
    pub fn raw(&mut self) -> Result<Option<Record>> {
        let Some(record) = self.records.next() else {
            return Ok(None);
        };
        let record = decode(&record?)?;
        match &record {
            Record::Ahead(ahead) => self.ahead.push(Some(((**ahead).clone(), true))),
            Record::Unagreed(number) => {
                if let Some(Some((_, agreed))) = self.ahead.get_mut(*number as usize) {
                    *agreed = false;
                }
            }
            Record::Settled => self.ahead.clear(),
            _ => {}
        }
        Ok(Some(record))
    }

    /// What was announced and of which nothing more is known, with its number.
    pub fn unsettled(self) -> impl Iterator<Item = (u32, Ahead)> {
        (0..)
            .zip(self.ahead)
            .filter_map(|(number, ahead)| Some((number, ahead?.0)))
    }

    /// What is announced under a number, and whether what it displaces had been agreed on.
    pub fn announced(&mut self, number: u32) -> Option<(Ahead, bool)> {
        self.ahead.get_mut(number as usize).and_then(Option::take)
    }
}

impl Iterator for Reading {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let stands = match self.raw().transpose()? {
                Ok(Record::Ahead(_) | Record::Unagreed(_) | Record::Settled) => continue,
                Ok(Record::Stands(stands)) => *stands,
                other => return Some(other),
            };
            let Some((
                Ahead {
                    side, action, change, ..
                },
                agreed,
            )) = self.announced(stands.number)
            else {
                continue;
            };
            return Some(Ok(Record::Done(Box::new(Done {
                side,
                action,
                change,
                now: stands.now,
                trashed: stands.trashed,
                agreed,
            }))));
        }
    }
}

/// True when the log and the base say all there is to say of a run: it has ended, or a later one has looked after it.
pub fn is_settled(shelf: &dyn Shelf, run: &str) -> Result<bool> {
    let last = shelf.last(run)?.and_then(|record| decode(&record).ok());
    Ok(matches!(last, Some(Record::End { .. } | Record::Recovered)))
}

/// True when a run has ended, or a later one has looked after it: its base was durable then.
pub fn any_settled(shelf: &dyn Shelf) -> Result<bool> {
    for run in shelf.runs()?.iter().rev() {
        if is_settled(shelf, run)? {
            return Ok(true);
        }
    }
    Ok(false)
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
            Record::End { exit, .. } | Record::Open(exit) => info.exit = Exit::from_number(exit),
            Record::Ahead(_)
            | Record::Stands(_)
            | Record::Settled
            | Record::Recovered
            | Record::Resolved(_)
            | Record::Unagreed(_)
            | Record::Carries(_) => {}
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

/// The changes that take `done` back, in order, if they can be: the first expects what stands there since.
pub fn reverse(done: &Done) -> Option<Vec<(Action, Change)>> {
    let moved_over = matches!(
        (done.action, &done.change.from),
        (Action::Update, Some(From::Move(_)))
    );
    if !moved_over {
        return Some(vec![reverse_one(done)?]);
    }
    // What was moved here goes back before what it displaced does.
    let moved = Done {
        action: Action::Move,
        ..done.clone()
    };
    let removed = Done {
        action: Action::Remove,
        ..done.clone()
    };
    Some(vec![reverse_one(&moved)?, reverse_one(&removed)?])
}

fn reverse_one(done: &Done) -> Option<(Action, Change)> {
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
            let path = done.change.path.clone();
            let (from, to) = match &done.change.from {
                Some(From::Move(from)) => (from, Some(From::Move(path))),
                Some(From::Exchange(with)) => (with, Some(From::Exchange(path))),
                _ => return None,
            };
            let new = done.now.clone()?.entry;
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

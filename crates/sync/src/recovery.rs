//! What a killed run left unsaid: which of the changes that it had announced stand, and under which names.
//!
//! Invariant: the places are looked at, nothing is guessed and nothing there is changed. Afterwards the run's log names every change that
//! it made, and the base has what it moved under the name that it has now.

use std::collections::{BTreeSet, HashMap};

use syncline_model::replica::Scope;
use syncline_model::{
    Action, Change, Entry, Fault, From, Kind, Observation, Pair, RelPath, Result, Sameness, Side, Slot,
    TrashRef,
};

use crate::api::{Event, Monitor};
use crate::journal::{self, Ahead, Journal, Record, Stands};
use crate::session::Session;
use crate::trust::Trust;

/// What recovery looks for in the trash: by inode where there is one, else by path.
#[derive(PartialEq, Eq, Hash)]
enum Mark {
    Inode(u64, u64),
    Path(RelPath),
}

impl Session {
    /// Finishes what a run that was killed could not leave half done, and completes its log and its names in the base. Who only looks
    /// finishes nothing, and is told where that makes a difference.
    pub(crate) async fn recover(&self, only_looks: bool, monitor: &dyn Monitor) -> Result<()> {
        let runs = self.shelf.runs()?;
        for side in Side::BOTH {
            let replica = &self.sides[side];
            if !only_looks {
                if !replica.profile().read_only {
                    replica.recover(&runs).await?;
                }
            } else if replica.unfinished(&runs).await? {
                monitor.event(Event::Note(&format!(
                    "{}: a run was stopped while it moved a directory there; the next run that writes there finishes that first, and what is \
                     shown here may differ from what it then does",
                    replica.profile().label
                )));
                return Ok(());
            }
        }
        let Some(run) = runs.into_iter().next_back() else {
            return Ok(());
        };
        if journal::is_settled(&*self.shelf, &run)? || syncline_model::zoo::on("killed-run-not-looked-at") {
            return Ok(());
        }
        let mut reading = journal::read(&*self.shelf, &run)?;
        // Of each announced change the directory that was to move, as the base knew it until then.
        let mut moving = Vec::new();
        while let Some(record) = reading.raw()? {
            match record {
                Record::Ahead(ahead) => {
                    moving.push(self.moving(&ahead)?);
                    if ahead.told {
                        self.follow(&ahead).await?;
                    }
                }
                Record::Stands(stands) => drop(reading.announced(stands.number)),
                Record::Settled => moving.clear(),
                _ => {}
            }
        }
        let open: Vec<_> = reading.unsettled().collect();
        let displaced = self.displaced(&run, &open).await?;
        let mut journal = Journal::reopen(&*self.shelf, &run)?;
        let mut exchanged = BTreeSet::new();
        for (number, ahead) in open {
            let trashed = mark_of(&ahead.change).and_then(|mark| displaced[ahead.side].get(&mark).cloned());
            let known = moving.get(number as usize).and_then(Option::as_ref);
            let stands = match (known, &ahead.change.from) {
                // The last of a circle is where the exchange before it brought it.
                (Some(_), Some(From::Exchange(hub))) if *hub == ahead.change.path => {
                    let found = self.found(ahead.side, hub).await?;
                    exchanged.contains(&(ahead.side, hub.clone())).then_some(found)
                }
                (Some(known), _) => {
                    let found = self.found(ahead.side, &ahead.change.path).await?;
                    let came = found.as_ref().is_some_and(|found| is_known(Some(known), found));
                    came.then_some(found)
                }
                (None, _) => self.stands(&ahead, trashed.is_some()).await?,
            };
            let Some(now) = stands else { continue };
            if let Some(From::Exchange(hub)) = &ahead.change.from {
                exchanged.insert((ahead.side, hub.clone()));
            }
            journal.stands(Stands { number, now, trashed })?;
        }
        self.base.persist()?;
        journal.recovered()
    }

    /// The directory that a change moves: only its inode tells whether it has come, since another one may have had its new name, and a third
    /// one may have its old name by now.
    fn moving(&self, ahead: &Ahead) -> Result<Option<Observation>> {
        let new_dir = ahead.change.new.as_ref().is_some_and(Entry::is_dir);
        let (Some(From::Move(from) | From::Exchange(from)), true) =
            (&ahead.change.from, ahead.told && new_dir)
        else {
            return Ok(None);
        };
        let row = self.base.row(&Slot::of(from, true))?;
        let known = row.and_then(|row| row[ahead.side].clone());
        Ok(known.filter(|known| inode(known).is_some()))
    }

    /// A move that was made and that the base does not know of: the base follows.
    async fn follow(&self, ahead: &Ahead) -> Result<()> {
        let (Action::Move, Some(new)) = (ahead.action, &ahead.change.new) else {
            return Ok(());
        };
        match &ahead.change.from {
            Some(From::Move(from)) => self.follow_move(ahead, from, new).await,
            Some(From::Exchange(with)) => self.follow_exchange(ahead, with, new).await,
            _ => Ok(()),
        }
    }

    async fn follow_move(&self, ahead: &Ahead, from: &RelPath, new: &Entry) -> Result<()> {
        let (side, to) = (ahead.side, &ahead.change.path);
        let (was, now) = (Slot::of(from, new.is_dir()), Slot::of(to, new.is_dir()));
        let Some(row) = self.base.row(&was)? else {
            return Ok(());
        };
        let Some(found) = self.found(side, to).await? else {
            return Ok(());
        };
        // The next of a chain may stand under its old name by now.
        let known = row[side].as_ref();
        let left = match self.found(side, from).await? {
            None => true,
            Some(there) => is_known(known, &found) && is_another(&there, &found),
        };
        if !left || self.base.row(&now)?.is_some() {
            return Ok(());
        }
        let plain = new.is_file() && found.entry.size() == new.size() && bears(&found.entry, new);
        if is_known(known, &found) || plain || self.is(side, to, &found, new).await? {
            self.base.rename(&was, &now)?;
        }
        Ok(())
    }

    /// Two changed names, and the base knows neither of it: it follows. One of them may have been edited since, so only their inodes tell.
    async fn follow_exchange(&self, ahead: &Ahead, with: &RelPath, new: &Entry) -> Result<()> {
        let (side, to) = (ahead.side, &ahead.change.path);
        let (one, two) = (Slot::of(with, new.is_dir()), Slot::of(to, new.is_dir()));
        let (Some(comes), Some(goes)) = (self.base.row(&one)?, self.base.row(&two)?) else {
            return Ok(());
        };
        let Some(found) = self.found(side, to).await?.filter(|_| one != two) else {
            return Ok(());
        };
        if is_known(comes[side].as_ref(), &found) && !is_known(goes[side].as_ref(), &found) {
            self.base.exchange(&one, &two)?;
        }
        Ok(())
    }

    /// What stands at a path. Where that cannot be told, nothing is known of it.
    async fn found(&self, side: Side, path: &RelPath) -> Result<Option<Observation>> {
        match self.sides[side].find(path, &Scope::default()).await {
            Err(fault) if grave(&fault) => Err(fault),
            found => Ok(found.unwrap_or_default()),
        }
    }

    /// True when what was found is what was to come.
    async fn is(&self, side: Side, path: &RelPath, found: &Observation, wanted: &Entry) -> Result<bool> {
        let (Some(content), true) = (wanted.content(), found.entry.is_file()) else {
            return Ok(!wanted.is_file() && wanted.same_content(&found.entry) == Sameness::Same);
        };
        let by_tag = wanted.same_content(&found.entry);
        if by_tag != Sameness::Unknown {
            return Ok(by_tag == Sameness::Same);
        }
        let time = |entry: &Entry| entry.meta().and_then(|meta| meta.mtime);
        if content.digest.is_none() && content.md5.is_none() {
            return Ok(time(wanted).is_some() && time(wanted) == time(&found.entry));
        }
        let trust = Trust {
            began: Pair::new(self.sides.left.clock().await?, self.sides.right.clock().await?),
        };
        match self.sides[side].digest(path, found).await {
            Err(fault) if grave(&fault) => Err(fault),
            Err(_) => Ok(false),
            Ok(read) => {
                let mut found = found.clone();
                let same = content.same(&read) == Sameness::Same;
                if let Some(content) = found.entry.content_mut() {
                    content.learn(&read);
                }
                // It need not be read again when the run looks, unless it may have changed since without a trace.
                if trust.proof(side, &found).is_some() {
                    self.base
                        .keep_digests(vec![(side, Slot::of(path, false), found)])?;
                }
                Ok(same)
            }
        }
    }

    /// What stands since an announced change was made; `None`: it was not made.
    async fn stands(&self, ahead: &Ahead, displaced: bool) -> Result<Option<Option<Observation>>> {
        let (side, change) = (ahead.side, &ahead.change);
        let found = self.found(side, &change.path).await?;
        let made = match (&change.new, &found) {
            (None, None) => displaced,
            (Some(new), Some(found)) => {
                let as_before = change.old.as_ref().is_some_and(|old| is_as_before(old, found));
                let behind = match &change.from {
                    Some(From::Move(from)) => self.found(side, from).await?,
                    _ => None,
                };
                // The next of a chain may stand under its old name by now.
                let left = behind
                    .as_ref()
                    .is_none_or(|there| new.is_file() && is_another(there, found));
                let comes = match ahead.action {
                    // Of two that may have changed names only their bytes can tell.
                    Action::Move if matches!(change.from, Some(From::Exchange(_))) => {
                        new.is_file() && self.is(side, &change.path, found, new).await?
                    }
                    Action::Metadata => bears(&found.entry, new),
                    Action::Move if behind.is_none() && bears(&found.entry, new) => {
                        found.entry.size() == new.size()
                    }
                    _ => self.is(side, &change.path, found, new).await?,
                };
                !as_before && left && comes
            }
            _ => false,
        };
        Ok(made.then_some(found))
    }

    /// What the trash of each side holds of what was to be displaced.
    async fn displaced(&self, run: &str, open: &[(u32, Ahead)]) -> Result<Pair<HashMap<Mark, TrashRef>>> {
        let mut found = Pair::<HashMap<Mark, TrashRef>>::default();
        for side in Side::BOTH {
            let changes: Vec<_> = open
                .iter()
                .filter(|(_, ahead)| ahead.side == side)
                .map(|(_, ahead)| &ahead.change)
                .collect();
            let wanted: HashMap<Mark, &Observation> = changes
                .iter()
                .filter_map(|change| Some((mark_of(change)?, change.old.as_ref()?)))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let mut runs = BTreeSet::from([run.to_owned()]);
            // What comes back from the trash changes places with what it displaces.
            runs.extend(changes.iter().filter_map(|change| match &change.from {
                Some(From::Trash(at)) => Some(at.run.clone()),
                _ => None,
            }));
            for run in runs {
                self.look_into_trash(side, &run, &wanted, &mut found[side])
                    .await?;
            }
        }
        Ok(found)
    }

    async fn look_into_trash(
        &self,
        side: Side,
        run: &str,
        wanted: &HashMap<Mark, &Observation>,
        found: &mut HashMap<Mark, TrashRef>,
    ) -> Result<()> {
        let mut walk = match self.sides[side].trash_list(run).await {
            Err(fault) if fault.is(Kind::NotFound) => return Ok(()),
            walk => walk?,
        };
        while let Some(batch) = walk.next().await? {
            for seen in batch {
                let path = seen.slot.path();
                let mark = mark(&seen.what, &path);
                if wanted.get(&mark).is_some_and(|old| holds(old, &seen.what)) {
                    let run = run.to_owned();
                    found.insert(mark, TrashRef { run, path });
                }
            }
        }
        Ok(())
    }
}

fn inode(seen: &Observation) -> Option<(u64, u64)> {
    seen.tag.stamp().map(|stamp| (stamp.fs, stamp.inode))
}

/// Whether it is the same thing by its inode, edited perhaps.
fn is_known(known: Option<&Observation>, found: &Observation) -> bool {
    let known = known.and_then(inode);
    known.is_some() && known == inode(found)
}

/// Whether it is another thing by its inode.
fn is_another(one: &Observation, other: &Observation) -> bool {
    inode(one)
        .zip(inode(other))
        .is_some_and(|(one, other)| one != other)
}

/// Whether an entry has the mode and time that another one asks for.
fn bears(found: &Entry, wanted: &Entry) -> bool {
    let (Some(found), Some(wanted)) = (found.meta(), wanted.meta()) else {
        return false;
    };
    let mode = wanted.mode.is_none_or(|mode| found.mode == Some(mode));
    mode && wanted.mtime.is_none_or(|mtime| found.mtime == Some(mtime))
}

/// Faults that leave it open what stands there.
fn grave(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Offline | Kind::Bug | Kind::Cancelled)
}

fn mark(seen: &Observation, path: &RelPath) -> Mark {
    match seen.tag.stamp() {
        // A directory's place in the trash is taken by one made there.
        Some(stamp) if !seen.entry.is_dir() => Mark::Inode(stamp.fs, stamp.inode),
        _ => Mark::Path(path.clone()),
    }
}

fn mark_of(change: &Change) -> Option<Mark> {
    change.old.as_ref().map(|old| mark(old, &change.path))
}

/// Whether what lies in the trash is what was displaced: an inode may be another file's by now.
fn holds(old: &Observation, kept: &Observation) -> bool {
    let time = |seen: &Observation| seen.entry.meta().and_then(|meta| meta.mtime);
    let timed = !old.entry.is_file() || old.tag.stamp().is_none() || time(old) == time(kept);
    timed && old.entry.same_content(&kept.entry) != Sameness::Differs
}

/// Whether nothing was done yet.
fn is_as_before(old: &Observation, found: &Observation) -> bool {
    match (old.tag.stamp(), found.tag.stamp()) {
        (Some(old), Some(found)) => old == found,
        _ => old.tag == found.tag,
    }
}

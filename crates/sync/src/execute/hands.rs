//! Both replicas in the hands of workers: a step's bytes are brought beside the tree, then made visible.
//!
//! Invariant: what a step replaces is what it expects to stand there, or nothing is done; what stands there already exactly as wanted counts as done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::replica::Scope;
use syncline_model::{Classes, Entry, Fault, From, Kind, Pair, Result, Sameness, Side, Source, Step};
use syncline_replica::{Applied, Body, Edit, Replica, Staged};

use super::{Job, Room};
use crate::api::{Event, Monitor};
use crate::merging;
use crate::rows::Base;

/// The two replicas while they are edited; shared with the workers.
pub struct Hands {
    /// The replicas.
    pub sides: Pair<Arc<dyn Replica>>,
    /// Their edits; `None` where a side may not be written.
    pub edits: Pair<Option<Arc<dyn Edit>>>,
    /// What merge commands made lies here.
    pub base: Base,
    /// What each side still takes.
    pub room: Pair<Room>,
    /// Bytes that have passed since somebody looked.
    pub copied: AtomicU64,
    /// Begin nothing new.
    pub halt: AtomicBool,
    /// Drop what is under way.
    pub abort: AtomicBool,
}

/// Brings a step's bytes beside the tree, if it needs any and there is room.
pub(super) async fn stage(hands: &Arc<Hands>, job: &mut Job) -> Result<()> {
    hands.no_room(&job.step)?;
    let staged = bring(hands, job).await;
    if let Err(fault) = &staged {
        hands.room[job.step.side].learn(&job.step, fault);
    }
    staged
}

async fn bring(hands: &Arc<Hands>, job: &mut Job) -> Result<()> {
    let step = &job.step;
    if let Some(body) = merging::made(&hands.base, step)?
        && let Some(new) = &step.change.new
    {
        job.staged = Some(
            edit_of(hands, step.side)?
                .stage(&step.change.path, new, body)
                .await?,
        );
        return Ok(());
    }
    if let (Some(source), Some(From::Link(_))) = (&step.source, &step.change.from) {
        // Its bytes are here already; that it still has them over there is its ground all the same.
        let _ = hands.sides[source.side]
            .read(&source.path, &source.seen, 0)
            .await?;
        return Ok(());
    }
    let (Some(new @ Entry::File(..)), Some(source), None) =
        (&step.change.new, &step.source, &step.change.from)
    else {
        return Ok(());
    };
    may_begin(hands, step)?;
    let edit = edit_of(hands, step.side)?;
    let replica = &hands.sides[source.side];
    let new = &with_attributes(&**replica, source, new).await?;
    let read = replica.read(&source.path, &source.seen, 0).await;
    if read.is_err() {
        job.failed_on = Some(source.side);
    }
    let inner = read?;
    let body = Box::new(Counted {
        inner,
        hands: hands.clone(),
    });
    job.staged = Some(edit.stage(&step.change.path, new, body).await?);
    Ok(())
}

/// Refuses a step once nothing new is to be begun.
pub(super) fn may_begin(hands: &Hands, step: &Step) -> Result<()> {
    if hands.halt.load(Ordering::Relaxed) {
        return Err(Fault::new(
            Kind::Cancelled,
            "stopped before it was begun",
            &step.change.path,
        ));
    }
    Ok(())
}

/// What a listing does not tell of a file: the time and mode that another tool put beside an object.
async fn with_attributes(replica: &dyn Replica, source: &Source, new: &Entry) -> Result<Entry> {
    let mut new = new.clone();
    let untold = new.meta().is_some_and(|meta| meta.mtime.is_none());
    if !untold || !replica.profile().classes.times || replica.profile().stable_ids {
        return Ok(new);
    }
    let found = replica.find(&source.path, &Scope::default()).await?;
    if let (Some(meta), Some(found)) = (new.meta_mut(), found.as_ref().and_then(|seen| seen.entry.meta())) {
        meta.mtime = found.mtime;
        meta.mode = meta.mode.or(found.mode);
        meta.owner = meta.owner.or(found.owner);
    }
    Ok(new)
}

/// What came of a step.
pub(super) struct Came {
    pub applied: Applied,
    /// What was staged for it.
    pub staged: Option<Entry>,
    /// It stood there already: this run did nothing, and taking it back would take away what somebody else made.
    pub found: bool,
}

/// Makes a step visible. What stands there already, exactly as wanted, is what was to come: an earlier run was killed
/// before it could say so, or somebody else was there first.
pub(super) async fn apply(hands: &Hands, step: &Step, staged: Option<Staged>) -> Result<Came> {
    let entry = staged.as_ref().map(|staged| staged.entry.clone());
    let side = &hands.sides[step.side];
    let fault = match edit_of(hands, step.side)?.apply(&step.change, staged).await {
        Ok(applied) => {
            return Ok(Came {
                applied,
                staged: entry,
                found: false,
            });
        }
        Err(fault) => fault,
    };
    if !matches!(fault.kind, Kind::Exists | Kind::Changed) || step.change.old.is_some() {
        return Err(fault);
    }
    let Some(now) = side.find(&step.change.path, &Scope::default()).await? else {
        return Err(fault);
    };
    // A move has two ends: what still stands where it began is left to do.
    if let Some(From::Move(from)) = &step.change.from
        && side.find(from, &Scope::default()).await?.is_some()
    {
        return Err(fault);
    }
    let wanted = entry.as_ref().or(step.change.new.as_ref());
    let same = match (wanted, &now.entry) {
        (Some(wanted @ Entry::File(..)), Entry::File(..)) if wanted.size() == now.entry.size() => {
            let read = side.digest(&step.change.path, &now).await?;
            wanted
                .content()
                .is_some_and(|content| content.same(&read) == Sameness::Same)
        }
        (Some(wanted), now) => !now.is_file() && wanted.same_content(now) == Sameness::Same,
        (None, _) => false,
    };
    // Attributes that differ are two edits that nobody has merged yet: the base must not call them agreed.
    if same && wanted.is_some_and(|wanted| bears(&now.entry, wanted, side.profile().classes)) {
        let applied = Applied {
            now: Some(now),
            ..Applied::default()
        };
        Ok(Came {
            applied,
            staged: entry,
            found: true,
        })
    } else {
        Err(fault)
    }
}

/// True when an entry has the attributes wanted, as far as its side holds them. The time of a directory is set later.
fn bears(now: &Entry, wanted: &Entry, classes: Classes) -> bool {
    let (Some(now), Some(meta)) = (now.meta(), wanted.meta()) else {
        return false;
    };
    fn fits<T: PartialEq>(class: bool, now: Option<&T>, wanted: Option<&T>) -> bool {
        !class || now.zip(wanted).is_none_or(|(now, wanted)| now == wanted)
    }
    fits(classes.mode, now.mode.as_ref(), meta.mode.as_ref())
        && fits(classes.owner, now.owner.as_ref(), meta.owner.as_ref())
        && fits(classes.xattrs, now.xattrs.as_ref(), meta.xattrs.as_ref())
        && fits(
            classes.times && !wanted.is_dir(),
            now.mtime.as_ref(),
            meta.mtime.as_ref(),
        )
}

fn edit_of(hands: &Hands, side: Side) -> Result<&Arc<dyn Edit>> {
    hands.edits[side].as_ref().ok_or_else(|| {
        Fault::new(
            Kind::Denied,
            "this side may not be written",
            &hands.sides[side].profile().label,
        )
    })
}

pub(super) fn tick(hands: &Hands, monitor: &dyn Monitor) {
    let bytes = hands.copied.swap(0, Ordering::Relaxed);
    if bytes > 0 {
        monitor.event(Event::Copied(bytes));
    }
}

/// A body that counts what passes.
struct Counted {
    inner: Box<dyn Body>,
    hands: Arc<Hands>,
}

#[async_trait]
impl Body for Counted {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.hands.abort.load(Ordering::Relaxed) {
            return Err(Fault::new(Kind::Cancelled, "stopped while it was copied", ""));
        }
        let bytes = self.inner.next().await?;
        if let Some(bytes) = &bytes {
            self.hands.copied.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(bytes)
    }
    fn lent(&self) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        self.inner.lent()
    }
    async fn check(&mut self) -> Result<()> {
        self.inner.check().await
    }
}

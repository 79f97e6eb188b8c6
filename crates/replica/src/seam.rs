//! The `Replica` seam: a tree that can be read and edited.
//!
//! Invariant: the tree changes only through [`Edit::apply`], which refuses (`Changed`) unless what the change expects is still there, and
//! which destroys nothing: what it displaces is in the trash before the call returns.
//!
//! Methods of a local replica may block their thread on the disk; the engine gives each worker a thread of its own.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{
    Change, Content, Entry, Identity, Marker, Observation, Profile, RelPath, Result, Scope, Seen, Tag, Time,
    TrashRef,
};

/// A tree as a stream: batches of entries, strictly ascending by slot across batches; the root itself is not in it.
/// An entry that could not be looked into comes as opaque; an error ends the stream and nothing may be concluded.
#[async_trait]
pub trait Walk: Send {
    /// The next batch; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<Seen>>>;
}

/// A file's bytes under way.
#[async_trait]
pub trait Body: Send {
    /// The next bytes, in order, holes as zeros; `None` at the end. `Changed` when the file was changed meanwhile.
    async fn next(&mut self) -> Result<Option<Bytes>>;
    /// The open file itself, when the bytes lie on a local disk: a stager on the same kind of disk may share them,
    /// see its holes, or copy within the kernel. Whoever uses it calls [`Body::check`] afterwards.
    fn lent(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// `Changed` unless the source is still what was expected when the body was opened.
    async fn check(&mut self) -> Result<()>;
}

/// How an edit is made.
#[derive(Debug, Clone)]
pub struct EditOptions {
    /// Name of the run; its stage and its trash bear it.
    pub run: String,
    /// Keep what is displaced.
    pub trash: bool,
    /// Attributes to carry.
    pub classes: syncline_model::Classes,
    /// `batch`: [`Edit::flush`] is one barrier for all; `file`: every apply is durable by itself; `none`: no barrier.
    pub durability: Durability,
}

/// When what was done survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// After each [`Edit::flush`].
    Batch,
    /// After each apply.
    File,
    /// When the system pleases; the report says so.
    None,
}

/// Bytes beside the tree, not yet visible. Dropped without `apply`: cleaned up by `finish` or the next run.
#[derive(Debug)]
pub struct Staged {
    /// What was staged, digests of what really passed by included.
    pub entry: Entry,
    /// The stager's own name for it.
    pub draft: u64,
    /// The bytes lie where they belong: `apply` has only to name them. Else it carries them.
    pub brought: bool,
}

/// What `apply` really did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What stands there now, as the next scan will see it; `None`: nothing.
    pub now: Option<Observation>,
    /// Where the trash holds what was displaced.
    pub trashed: Option<TrashRef>,
    /// The tag that a file bore right before it was moved or got one more name: only who knows it from before knows that
    /// its bytes are still the same.
    pub was: Option<Tag>,
}

/// One run's trash in a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashRun {
    /// The run that filled it.
    pub run: String,
    /// When, by this replica's clock.
    pub time: Time,
}

/// A tree. No verb has a body of its own here: what wraps a tree would lose it without a word. See [`crate::layer::Layer`].
#[async_trait]
pub trait Replica: Send + Sync {
    /// What it is and can hold.
    fn profile(&self) -> &Profile;
    /// Who answers at this root now. `NotFound` when there is no root.
    async fn identity(&self) -> Result<Identity>;
    /// Writes the marker, durably. `Denied` or `Unsupported` where none can be written.
    async fn mark(&self, marker: &Marker) -> Result<()>;
    /// The time by this replica's own clock (a file touched there), for judging which observations are too young to
    /// be trusted; `None` where tags do not depend on time.
    async fn clock(&self) -> Result<Option<Time>>;
    /// Reads the tree.
    async fn scan(&self, scope: &Scope) -> Result<Box<dyn Walk>>;
    /// Asks for one path by name: the last word on whether it is there. `None`: nothing there.
    async fn find(&self, path: &RelPath, scope: &Scope) -> Result<Option<Observation>>;
    /// Reads the file at `path` through and returns what it holds, digests included; `Changed` unless it is `expect`.
    async fn digest(&self, path: &RelPath, expect: &Observation) -> Result<Content>;
    /// Opens the file at `path`, from byte `from` on; `Changed` unless it is `expect`.
    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>>;
    /// False when `was`, which we ourselves had put at `path`, stands there no longer, and nobody is known to have seen it before it went.
    /// Asked only of a place where a write cannot be conditional.
    async fn gave_way(&self, path: &RelPath, was: &Observation) -> Result<bool>;
    /// True when one of these runs, which are over, left something half done that a look would take for somebody's doing.
    async fn unfinished(&self, _runs: &[String]) -> Result<bool> {
        Ok(false)
    }
    /// Finishes that; before a look.
    async fn recover(&self, _runs: &[String]) -> Result<()> {
        Ok(())
    }
    /// Ends our part in a place that others may use: what only we left behind there goes, what tells others of the tree stays. True when
    /// nobody else is known there, and the marker has gone too.
    async fn leave(&self) -> Result<bool>;
    /// Begins to edit. One edit at a time. Clears what dead runs left in the stage.
    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>>;
    /// Runs that have trash here, oldest first.
    async fn trash(&self) -> Result<Vec<TrashRun>>;
    /// What the trash of a run holds, in order; `slot`s are below that run's trash.
    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>>;
    /// Reads a file in the trash.
    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>>;
    /// Forgets the trash of a run for good.
    async fn trash_empty(&self, run: &str) -> Result<()>;
    /// Brings what runs displaced to where it belongs, if that is elsewhere. Called when a run has ended.
    async fn tidy_trash(&self) -> Result<()>;
    /// Bytes in all and bytes free, where it tells.
    async fn space(&self) -> Result<(Option<u64>, Option<u64>)>;
}

/// Editing a tree: the one last mile. Calls may run at once on different paths.
#[async_trait]
pub trait Edit: Send + Sync {
    /// Brings a file's bytes beside the tree. `new` says what it is to become; its digest, when known, must come out.
    /// `upload` may resume what a killed run left for this path.
    async fn stage(&self, path: &RelPath, new: &Entry, body: Box<dyn Body>) -> Result<Staged>;
    /// Makes one change visible if `change.old` still stands there, else `Changed`. Files with new bytes need
    /// `staged`, unless `change.from` names them; directories, links and attributes do not. Displaced things go to the trash
    /// first. Removing a directory wants it empty, else `Exists`.
    async fn apply(&self, change: &Change, staged: Option<Staged>) -> Result<Applied>;
    /// A barrier: what was staged and applied before this call survives a power cut when it returns.
    async fn flush(&self) -> Result<()>;
    /// Ends the edit: the stage is cleared, what was done is durable.
    async fn finish(&self) -> Result<()>;
}

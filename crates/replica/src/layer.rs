//! Layers over a tree: what a layer does not do in its own way goes to the tree below it.
//!
//! Invariant: every verb of [`Replica`] is forwarded here and nowhere else. The seam gives no verb a body, so one that is added there does
//! not compile until it is forwarded here.

use std::sync::Arc;

use async_trait::async_trait;
use syncline_model::{
    Content, Identity, Marker, Observation, Profile, RelPath, Result, Scope, Time, TrashRef,
};

use crate::seam::{Body, Edit, EditOptions, Replica, TrashRun, Walk};

/// A tree over another one. Implement [`Layer::below`] and what is to be other than below; each is the [`Replica`]'s of that name.
#[async_trait]
#[allow(missing_docs, reason = "the seam says what each verb does")]
pub trait Layer: Send + Sync {
    /// The tree below.
    fn below(&self) -> &dyn Replica;

    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>> {
        self.below().read(path, expect, from).await
    }
    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>> {
        self.below().edit(options).await
    }
    async fn trash(&self) -> Result<Vec<TrashRun>> {
        self.below().trash().await
    }
    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        self.below().trash_list(run).await
    }
    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        self.below().trash_read(at).await
    }
    async fn trash_empty(&self, run: &str) -> Result<()> {
        self.below().trash_empty(run).await
    }
    async fn tidy_trash(&self) -> Result<()> {
        self.below().tidy_trash().await
    }
}

#[async_trait]
impl<L: Layer> Replica for L {
    fn profile(&self) -> &Profile {
        self.below().profile()
    }
    async fn identity(&self) -> Result<Identity> {
        self.below().identity().await
    }
    async fn mark(&self, marker: &Marker) -> Result<()> {
        self.below().mark(marker).await
    }
    async fn clock(&self) -> Result<Option<Time>> {
        self.below().clock().await
    }
    async fn scan(&self, scope: &Scope) -> Result<Box<dyn Walk>> {
        self.below().scan(scope).await
    }
    async fn find(&self, path: &RelPath, scope: &Scope) -> Result<Option<Observation>> {
        self.below().find(path, scope).await
    }
    async fn digest(&self, path: &RelPath, expect: &Observation) -> Result<Content> {
        self.below().digest(path, expect).await
    }
    async fn gave_way(&self, path: &RelPath, was: &Observation) -> Result<bool> {
        self.below().gave_way(path, was).await
    }
    async fn unfinished(&self, runs: &[String]) -> Result<bool> {
        self.below().unfinished(runs).await
    }
    async fn recover(&self, runs: &[String]) -> Result<()> {
        self.below().recover(runs).await
    }
    async fn leave(&self) -> Result<bool> {
        self.below().leave().await
    }
    async fn read(&self, path: &RelPath, expect: &Observation, from: u64) -> Result<Box<dyn Body>> {
        Layer::read(self, path, expect, from).await
    }
    async fn edit(&self, options: &EditOptions) -> Result<Arc<dyn Edit>> {
        Layer::edit(self, options).await
    }
    async fn trash(&self) -> Result<Vec<TrashRun>> {
        Layer::trash(self).await
    }
    async fn trash_list(&self, run: &str) -> Result<Box<dyn Walk>> {
        Layer::trash_list(self, run).await
    }
    async fn trash_read(&self, at: &TrashRef) -> Result<Box<dyn Body>> {
        Layer::trash_read(self, at).await
    }
    async fn trash_empty(&self, run: &str) -> Result<()> {
        Layer::trash_empty(self, run).await
    }
    async fn tidy_trash(&self) -> Result<()> {
        Layer::tidy_trash(self).await
    }
    async fn space(&self) -> Result<(Option<u64>, Option<u64>)> {
        self.below().space().await
    }
}

//! The tree of a bucket from one flat listing: entries in the one order, directories made up from the keys below them, attributes from
//! the tables of all writers.
//!
//! Invariant: a scan asks LIST and, for attribute tables that it has not seen, GET; never anything for each object. A key that is no path,
//! or that shares its slot with another, comes as opaque, one for each slot.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use syncline_model::replica::Links;
use syncline_model::{
    Classes, Content, Entry, Fault, Kind, Meta, Observation, RelPath, Result, Scope, Seen, Slot, Tag,
    Trouble, Why, escape,
};
use syncline_store::{Blob, Key, Listed};

use super::blobs::{self, LAST, OWN, is_own};
use super::metadata::{self, Metadata, Stands};
use super::overlay::Listed as Judged;
use super::pile::{Item, Items, Pile};
use super::row::{Row, set_group};
use super::tables::{RowStream, choose};
use super::{Shared, announced, lock};
use crate::seam::Walk;

const BATCH: usize = 1000;
const MARKERS_KEPT: usize = 100_000;
const LOOKS: usize = 32;

/// Reads the tree that `scope` asks for.
pub(super) async fn scan(shared: &Arc<Shared>, scope: &Scope) -> Result<ScanWalk> {
    lock(&shared.overlay).expire(shared.options.clock.elapsed());
    *lock(&shared.trash_runs) = None;
    announced::withdraw(shared).await?;
    let mut pile = Pile::new(shared)?;
    let mut shown = BTreeSet::new();
    if scope.only.is_empty() {
        list_tree(shared, &mut pile, &mut shown).await?;
    }
    let outermost = |path: &&RelPath| {
        !scope
            .only
            .iter()
            .any(|other| other != *path && path.is_within(other))
    };
    for path in scope.only.iter().filter(outermost).collect::<BTreeSet<_>>() {
        if path.is_root() {
            list_tree(shared, &mut pile, &mut shown).await?;
        } else if !blobs::is_own_path(path) {
            let slot = Slot::of(path, false);
            match shared.store.stat(&blobs::key_of(path)?).await {
                Ok(blob) => pile.push(&slot, Item::Object(blob))?,
                Err(fault) if fault.is(Kind::NotFound) => (),
                Err(fault) => return Err(fault),
            }
            list_into(
                shared,
                blobs::dir_key_of(path)?.as_str(),
                None,
                "",
                &mut pile,
                &mut shown,
            )
            .await?;
        }
    }
    ask_for_missing(shared, scope, &mut pile, &shown).await?;
    for dir in lock(&shared.dirs).unshown() {
        if scope.only.is_empty() || scope.only.iter().any(|only| dir.is_within(only)) {
            pile.push(&Slot::of(dir, true), Item::Unshown)?;
        }
    }
    shared.tables.refresh().await?;
    let rows = shared.tables.rows()?;
    ScanWalk::new(Some(shared.clone()), pile, rows, scope.clone())
}

/// The tree of a prefix of ours that holds no rows: a run's trash.
pub(super) async fn scan_below(shared: &Arc<Shared>, prefix: &str) -> Result<ScanWalk> {
    let mut pile = Pile::new(shared)?;
    list_into(shared, prefix, None, prefix, &mut pile, &mut BTreeSet::new()).await?;
    ScanWalk::new(None, pile, RowStream::empty(&shared.tables), Scope::default())
}

/// Lists everything but what is ours, which is stepped over by a second listing that begins behind it.
async fn list_tree(shared: &Shared, pile: &mut Pile, shown: &mut BTreeSet<Slot>) -> Result<()> {
    if !list_into(shared, "", None, "", pile, shown).await? {
        let behind = Key::new(format!("{OWN}{LAST}"))?;
        list_into(shared, "", Some(&behind), "", pile, shown).await?;
    }
    Ok(())
}

/// Lists keys under `under`, whose paths are what follows `cut`. False when it stopped at what is ours.
async fn list_into(
    shared: &Shared,
    under: &str,
    after: Option<&Key>,
    cut: &str,
    pile: &mut Pile,
    shown: &mut BTreeSet<Slot>,
) -> Result<bool> {
    let sorted = shared.store.caps().sorted;
    let mut listing = shared.store.list(under, after).await?;
    while let Some(page) = listing.next().await? {
        let within_own =
            cut.is_empty() && sorted && page.last().is_some_and(|last| is_own(last.key.as_str()));
        for Listed { key, blob } in with_tags(shared, page, cut.is_empty()).await? {
            let Some(name) = key.as_str().strip_prefix(cut).filter(|name| !name.is_empty()) else {
                continue;
            };
            if !(cut.is_empty() && is_own(name)) {
                take(shared, name, blob, cut.is_empty(), pile, shown)?;
            }
        }
        if within_own {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A listing that tells no tags proves nothing: such objects are asked for by name.
async fn with_tags(shared: &Shared, page: Vec<Listed>, wanted: bool) -> Result<Vec<Listed>> {
    let ask = |listed: &Listed| wanted && listed.blob.tag == Tag::None && !is_own(listed.key.as_str());
    if !page.iter().any(ask) {
        return Ok(page);
    }
    let asked: Vec<_> = page
        .into_iter()
        .map(|listed| async move {
            if !ask(&listed) {
                return Ok(Some(listed));
            }
            match shared.store.stat(&listed.key).await {
                Ok(blob) => Ok(Some(Listed {
                    key: listed.key,
                    blob,
                })),
                Err(fault) if fault.is(Kind::NotFound) => Ok(None),
                Err(fault) => Err(fault),
            }
        })
        .collect();
    let found: Vec<Option<Listed>> = stream::iter(asked).buffered(LOOKS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

fn take(
    shared: &Shared,
    name: &str,
    blob: Blob,
    overlaid: bool,
    pile: &mut Pile,
    shown: &mut BTreeSet<Slot>,
) -> Result<()> {
    let (plain, is_dir) = name
        .strip_suffix('/')
        .map_or((name, false), |plain| (plain, true));
    let path = match escape::decode(plain) {
        Ok(path) => path,
        Err(foreign) => {
            return pile.push(
                &Slot::of(&foreign.shown, false),
                Item::Foreign(foreign.why.to_owned()),
            );
        }
    };
    if is_dir && blob.size > 0 {
        let shown = escape::decode(&format!("{plain}//")).unwrap_or_else(|foreign| foreign.shown);
        pile.push(
            &Slot::of(&shown, false),
            Item::Foreign("an object that names a directory holds bytes".to_owned()),
        )?;
    }
    let slot = Slot::of(&path, is_dir);
    if !overlaid || is_dir || syncline_model::zoo::on("stale-listing") {
        return pile.push(&slot, Item::Object(blob));
    }
    let mut overlay = lock(&shared.overlay);
    if overlay.knows(&slot) {
        shown.insert(slot.clone());
    }
    match overlay.listed(&slot, &blob.tag) {
        Judged::Stands => {
            overlay.caught_up(&slot, &blob.tag);
            pile.push(&slot, Item::Object(blob))
        }
        Judged::Replaced(now) => pile.push(&slot, Item::Object(now)),
        Judged::Removed => Ok(()),
    }
}

/// Asks by name for what we wrote a short while ago and the listing does not show.
async fn ask_for_missing(
    shared: &Shared,
    scope: &Scope,
    pile: &mut Pile,
    shown: &BTreeSet<Slot>,
) -> Result<()> {
    let wanted = |path: &RelPath| scope.only.is_empty() || scope.only.iter().any(|only| path.is_within(only));
    let missing: Vec<Slot> = {
        let overlay = lock(&shared.overlay);
        let believed = syncline_model::zoo::on("stale-listing");
        overlay
            .present()
            .filter(|slot| !believed && !shown.contains(*slot) && wanted(&slot.path()))
            .cloned()
            .collect()
    };
    let asked: Vec<(Slot, Result<Blob>)> = stream::iter(missing)
        .map(|slot| async move {
            let key = blobs::key_of(&slot.path())?;
            Ok::<_, Fault>((slot, shared.store.stat(&key).await))
        })
        .buffer_unordered(LOOKS)
        .try_collect()
        .await?;
    for (slot, answer) in asked {
        match answer {
            Ok(blob) => pile.push(&slot, Item::Object(blob))?,
            Err(fault) if fault.is(Kind::NotFound) => (),
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// See the module.
pub(super) struct ScanWalk {
    shared: Option<Arc<Shared>>,
    items: Items,
    rows: RowStream,
    scope: Scope,
    open: Vec<Slot>,
    excluded: Option<Slot>,
    out: Vec<Seen>,
}

impl ScanWalk {
    fn new(shared: Option<Arc<Shared>>, pile: Pile, rows: RowStream, scope: Scope) -> Result<Self> {
        let items = pile.sorted()?;
        Ok(Self {
            shared,
            items,
            rows,
            scope,
            open: Vec::new(),
            excluded: None,
            out: Vec::new(),
        })
    }

    fn within_scope(&self, path: &RelPath) -> bool {
        self.scope.only.is_empty() || self.scope.only.iter().any(|only| path.is_within(only))
    }

    /// Reports the directory `dir` unless it stands open already; false when nothing in it takes part.
    fn enter(&mut self, dir: &Slot) -> Result<bool> {
        if self
            .excluded
            .as_ref()
            .is_some_and(|excluded| excluded == dir || dir.is_below(excluded))
        {
            return Ok(false);
        }
        while self
            .open
            .last()
            .is_some_and(|open| !(open == dir || dir.is_below(open)))
        {
            self.open.pop();
        }
        if self.open.last() == Some(dir) {
            return Ok(true);
        }
        let row = choose(self.rows.take(dir.as_bytes())?, None);
        if self.scope.filter.excludes(dir.path_bytes(), true) {
            self.report(dir.clone(), Entry::Opaque(Why::Excluded), Tag::None);
            self.excluded = Some(dir.clone());
            return Ok(false);
        }
        let mut meta = row.and_then(|row| row.entry.meta().cloned()).unwrap_or_default();
        keep_classes(&mut meta, self.scope.classes);
        self.report(dir.clone(), Entry::Dir(meta), Tag::None);
        self.open.push(dir.clone());
        Ok(true)
    }

    fn report(&mut self, slot: Slot, entry: Entry, tag: Tag) {
        if self.within_scope(&slot.path()) {
            self.out.push(Seen {
                slot,
                what: Observation { entry, tag },
            });
        }
    }

    fn enter_parents(&mut self, slot: &Slot) -> Result<bool> {
        while self.open.last().is_some_and(|open| !slot.is_below(open)) {
            self.open.pop();
        }
        let mut parents = Vec::new();
        let mut at = slot.parent();
        while let Some(parent) = at.filter(|parent| self.open.last() != Some(parent)) {
            at = parent.parent();
            parents.push(parent);
        }
        for parent in parents.into_iter().rev() {
            if !self.enter(&parent)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, slot: Slot, mut items: Vec<Item>) -> Result<()> {
        if !self.enter_parents(&slot)? {
            return Ok(());
        }
        if slot.is_dir() {
            if let (Some(Item::Object(blob)), Some(shared)) = (items.first(), &self.shared) {
                let mut markers = lock(&shared.markers);
                if blob.size == 0 && markers.len() < MARKERS_KEPT {
                    markers.insert(slot.path());
                }
            }
            return self.enter(&slot).map(drop);
        }
        if self.scope.filter.excludes(slot.path_bytes(), false) {
            self.report(slot, Entry::Opaque(Why::Excluded), Tag::None);
            return Ok(());
        }
        let twice = items.len() > 1;
        match items.pop() {
            Some(Item::Object(blob)) if !twice => {
                let rows = self.rows.take(slot.as_bytes())?;
                let md5 = self
                    .shared
                    .as_ref()
                    .and_then(|shared| blobs::md5_of(&*shared.store, &blob));
                let row = choose(rows, Some((&blob, md5)));
                let seen = observe(&blob, md5, row, self.scope.classes);
                let entry = match seen.entry {
                    Entry::Link(..) if self.scope.links == Links::Skip => Entry::Opaque(Why::Excluded),
                    entry => entry,
                };
                self.report(slot, entry, seen.tag);
            }
            Some(Item::Foreign(why)) => self.report(
                slot,
                Entry::Opaque(Why::Name(Trouble::new(Kind::Invalid, why))),
                Tag::None,
            ),
            _ => self.report(
                slot,
                Entry::Opaque(Why::Name(
                    Trouble::new(Kind::Exists, "two objects read as this name")
                        .hint("rename or remove one of them"),
                )),
                Tag::None,
            ),
        }
        Ok(())
    }
}

#[async_trait]
impl Walk for ScanWalk {
    async fn next(&mut self) -> Result<Option<Vec<Seen>>> {
        while self.out.len() < BATCH {
            let Some((slot, items)) = self.items.next()? else {
                break;
            };
            self.take(slot, items)?;
        }
        Ok(Some(std::mem::take(&mut self.out)).filter(|out| !out.is_empty()))
    }
}

/// What an object is, by its row, else by the metadata that stands beside it, if this request told it.
pub(super) fn observe(blob: &Blob, md5: Option<[u8; 16]>, row: Option<Row>, classes: Classes) -> Observation {
    let plain = Metadata::new();
    let beside = blob.metadata.as_ref().unwrap_or(&plain);
    let mut entry = row.map_or_else(|| by_metadata(blob, beside), |row| row.entry);
    if let Some(content) = entry.content_mut() {
        content.md5 = md5.or_else(|| metadata::md5(beside)).or(content.md5);
        content.digest = content.digest.or_else(|| metadata::digest(beside));
    }
    if let Some(meta) = entry.meta_mut() {
        keep_classes(meta, classes);
    }
    if !classes.links {
        set_group(&mut entry, None);
    }
    Observation {
        entry,
        tag: blob.tag.clone(),
    }
}

fn by_metadata(blob: &Blob, beside: &Metadata) -> Entry {
    let meta = metadata::attributes(beside);
    match metadata::stands_for(beside) {
        Stands::File => Entry::File(meta, Content::unread(blob.size), None),
        // The target is read by whoever asked by name.
        Stands::Link => Entry::Link(meta, Box::default()),
        Stands::Special(special) => Entry::Special(meta, special),
    }
}

pub(super) fn keep_classes(meta: &mut Meta, classes: Classes) {
    meta.mode = meta.mode.filter(|_| classes.mode);
    meta.owner = meta.owner.filter(|_| classes.owner);
    meta.mtime = meta.mtime.filter(|_| classes.times);
    if let Some(xattrs) = &mut meta.xattrs {
        xattrs.retain(|(name, _)| {
            if name.starts_with(b"system.posix_acl_") {
                classes.acls
            } else {
                classes.xattrs
            }
        });
    }
    meta.xattrs = meta.xattrs.take().filter(|_| classes.acls || classes.xattrs);
}

//! Conflicts of two edits settled by a command of the user's own (`--conflict merge=CMD`), before the plan is made.
//!
//! The command gets both versions and the one that both sides last agreed on, where that is at hand: with this rule on, the agreed
//! versions of small files are kept in the session's table. What it makes lies there too, by its digest, until the run has ended.
//!
//! Invariant: only what the command calls merged replaces anything, on both sides at once, and what it replaces goes to the trash as
//! ever; in every other case the merge decides as it would without the command.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::diff::edited_on_both;
use syncline_model::merge::attributes;
use syncline_model::{
    Action, Change, Content, Digest, Entry, Fault, Kind, Mode, Observation, Pair, Policy, RelPath, Result,
    Row, Rule, Sameness, Settle, Side, Slot, Step, Tag, Triple,
};
use syncline_replica::{Body, Replica};

use crate::api::{Env, Event, Merged, Merger, Monitor, Versions};
use crate::rows::Base;

/// Longest version that is merged or kept for merging, in bytes.
pub const VERSION_MAX: u64 = 1 << 20;

/// What a planner asks commands with.
pub struct Asker<'a> {
    /// The world.
    pub env: &'a Env,
    /// The replicas.
    pub sides: &'a Pair<Arc<dyn Replica>>,
    /// Where agreed versions lie and merged ones go.
    pub base: &'a Base,
    /// The command.
    pub merger: &'a dyn Merger,
    /// Who is told.
    pub monitor: &'a dyn Monitor,
}

impl Asker<'_> {
    /// Both sides get what the command makes of their versions; `None`: the rule decides.
    pub async fn settle(&self, triple: &Triple, rule: &Rule) -> Result<Option<Settle>> {
        let Some(seen) = versions(triple, rule) else {
            return Ok(None);
        };
        let path = triple.slot.path();
        let Some(left) = bytes_of(&*self.sides.left, &path, seen.left).await? else {
            return Ok(None);
        };
        let Some(right) = bytes_of(&*self.sides.right, &path, seen.right).await? else {
            return Ok(None);
        };
        let agreed = self.agreed(triple)?;
        let versions = Versions {
            path: &path,
            base: agreed.as_deref(),
            left: &left,
            right: &right,
        };
        let made = match self.merger.merge(versions).await? {
            Merged::Clean(bytes) => bytes,
            Merged::Refused(why) => {
                self.monitor
                    .event(Event::Note(&format!("{path}: not merged, both stay: {why}")));
                return Ok(None);
            }
        };
        self.monitor.event(Event::Note(&format!("{path}: merged")));
        Ok(Some(self.both(triple, rule, seen, &made)?))
    }

    /// The version that both last agreed on.
    fn agreed(&self, triple: &Triple) -> Result<Option<Vec<u8>>> {
        let digest = triple.base.as_ref().and_then(|row| {
            let of = |side: Side| row[side].as_ref()?.entry.content()?.digest;
            of(Side::Left).or_else(|| of(Side::Right))
        });
        let kept = self.base.ancestor(&triple.slot)?;
        Ok(kept.filter(|bytes| Some(digest_of(bytes)) == digest))
    }

    fn both(&self, triple: &Triple, rule: &Rule, seen: Pair<&Observation>, made: &[u8]) -> Result<Settle> {
        let digest = digest_of(made);
        self.base.keep_made(&digest, made)?;
        let metas = attributes(rule, triple);
        let now = self.env.clock.now();
        let entry = Pair::each(|side| {
            let mut meta = metas[side].clone();
            // It is new on both sides, and of one time.
            meta.mtime = meta.mtime.map(|_| now);
            let content = Content {
                size: made.len() as u64,
                digest: Some(digest),
                md5: None,
            };
            Entry::File(meta, content, None)
        });
        let steps = Side::BOTH.map(|side| Step {
            side,
            action: Action::Update,
            change: Change {
                path: triple.slot.path(),
                old: Some(seen[side].clone()),
                new: Some(entry[side].clone()),
                from: None,
            },
            source: None,
        });
        let row = Pair::each(|side| {
            Some(Observation {
                entry: entry[side].clone(),
                tag: Tag::None,
            })
        });
        Ok(Settle {
            slot: triple.slot.clone(),
            row: Some(row),
            was: None,
            steps: steps.into(),
        })
    }
}

/// What both sides show, where it is two edits of one small file.
fn versions<'t>(triple: &'t Triple, rule: &Rule) -> Option<Pair<&'t Observation>> {
    let fits = |side: Side| {
        let located = triple.now[side].as_ref().filter(|located| located.at.is_none())?;
        let plain =
            matches!(&located.seen.entry, Entry::File(_, content, None) if content.size <= VERSION_MAX);
        plain.then_some(&located.seen)
    };
    let (left, right) = (fits(Side::Left)?, fits(Side::Right)?);
    let apart = left.entry.same_content(&right.entry) == Sameness::Differs && edited_on_both(triple);
    let ruled = rule.mode == Mode::TwoWay && rule.policy == Policy::KeepBoth && triple.was.is_none();
    (apart && ruled).then(|| Pair::new(left, right))
}

/// A small file's bytes; `None` when it is no longer what was seen.
async fn bytes_of(replica: &dyn Replica, path: &RelPath, seen: &Observation) -> Result<Option<Vec<u8>>> {
    let read = async {
        let mut body = replica.read(path, seen, 0).await?;
        let mut bytes = Vec::new();
        while let Some(more) = body.next().await? {
            bytes.extend_from_slice(&more);
            if bytes.len() as u64 > VERSION_MAX {
                return Err(Fault::new(Kind::Changed, "it grew while it was read", path));
            }
        }
        Ok(bytes)
    };
    match read.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if matches!(fault.kind, Kind::Offline | Kind::Bug | Kind::Cancelled) => Err(fault),
        Err(_) => Ok(None),
    }
}

/// Keeps the agreed versions of these rows for a later merge.
pub async fn keep_agreed(
    sides: &Pair<Arc<dyn Replica>>,
    base: &Base,
    rows: &[(Slot, Option<Row>)],
) -> Result<()> {
    let near = if sides.left.profile().stable_ids {
        Side::Left
    } else {
        Side::Right
    };
    for (slot, row) in rows.iter().filter(|(slot, _)| !slot.is_dir()) {
        let digest = row.as_ref().and_then(|row| {
            let content = row[near].as_ref()?.entry.content()?;
            (row[near.other()].is_some() && content.size <= VERSION_MAX).then_some(content.digest?)
        });
        let kept = base.ancestor(slot)?;
        if kept.as_deref().map(digest_of) == digest {
            continue;
        }
        let mut bytes = None;
        if digest.is_some()
            && let Some(found) = sides[near].find(&slot.path(), &Default::default()).await?
        {
            bytes = bytes_of(&*sides[near], &slot.path(), &found).await?;
        }
        base.keep_ancestor(slot, bytes.filter(|bytes| Some(digest_of(bytes)) == digest))?;
    }
    Ok(())
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// What a step takes that a command made, where it does.
pub fn made(base: &Base, step: &Step) -> Result<Option<Box<dyn Body>>> {
    let change = &step.change;
    let (Action::Update, None, None) = (step.action, &step.source, &change.from) else {
        return Ok(None);
    };
    let Some(content) = change.new.as_ref().and_then(Entry::content) else {
        return Ok(None);
    };
    let bytes = match content.digest {
        Some(digest) => base.made(&digest)?,
        None => None,
    };
    let bytes = bytes.ok_or_else(|| {
        Fault::new(
            Kind::NotFound,
            "what the merge command made is no longer kept",
            &change.path,
        )
    })?;
    Ok(Some(Box::new(MadeBody(Some(bytes.into())))))
}

struct MadeBody(Option<Bytes>);

#[async_trait]
impl Body for MadeBody {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.take().filter(|bytes| !bytes.is_empty()))
    }
    async fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

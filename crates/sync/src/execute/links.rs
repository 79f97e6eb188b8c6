//! Files of several names: one name of each group is copied or stands already, the others join it.
//!
//! Invariant: what is known of the bytes of one name is known of all, and nothing else is.

use syncline_model::{From, Observation, RelPath, Result, Side, Slot, Tag};

use super::{Execution, Job, mtime};
use crate::plan::{Phase, Plan};
use crate::trust::distrust;

/// The name of a group of hard links that others join.
struct Leader {
    side: Side,
    group: u64,
    path: RelPath,
    /// The tag by which the file is known, when its bytes are.
    known: Option<Tag>,
}

impl Execution<'_> {
    /// Files of several names: one name of each group is copied or stands already, the others join it.
    pub(super) async fn links(&mut self, plan: &mut Plan) -> Result<()> {
        let mut leader: Option<Leader> = None;
        let mut group: Vec<(Side, Slot)> = Vec::new();
        while let Some((id, item)) = plan.next_of(Phase::Link)? {
            let path = item.slot.path();
            let side = item.step.as_ref().map(|step| step.side).or(item.member);
            let Some(side) = side else { continue };
            if leader
                .as_ref()
                .is_some_and(|leader| (leader.side, leader.group) != (side, id))
            {
                self.settle_group(&mut group, leader.take()).await?;
            }
            let Some(step) = item.step.clone() else {
                let seen = item
                    .sole
                    .and_then(|(row, _)| row.and_then(|row| row[side].clone()));
                leader.get_or_insert_with(|| Leader {
                    side,
                    group: id,
                    path,
                    known: seen.and_then(|seen| self.trust.proof(side, &seen)),
                });
                group.push((side, item.slot));
                continue;
            };
            let mut job = Job::new(item, step);
            self.stopped |= self.over();
            if self.stopped
                || self.waits_for_room(&job.step)
                || self.waits(&job.step)
                || self.below_unmoved(&job.item.slot)
                || self.is_uncopied(&job.step)
            {
                self.failed.put(job.item.slot.as_bytes(), &())?;
                continue;
            }
            if let Some(leader) = &leader {
                job.step.change.from = Some(From::Link(leader.path.clone()));
                job.known = leader.known.clone();
            }
            let slot = job.item.slot.clone();
            let before = self.counts[side].steps();
            self.at_once(vec![job]).await?;
            if self.counts[side].steps() > before {
                group.push((side, slot));
                let known = self.made.take();
                leader
                    .get_or_insert(Leader {
                        side,
                        group: id,
                        path,
                        known: None,
                    })
                    .known = known;
            }
        }
        self.settle_group(&mut group, leader).await
    }

    /// A new name changes the inode that all names of a group share: their rows are looked at again, and what is known of
    /// the bytes of one is known of all.
    async fn settle_group(&mut self, group: &mut Vec<(Side, Slot)>, leader: Option<Leader>) -> Result<()> {
        let members = std::mem::take(group);
        if members.len() < 2 || self.detached {
            return Ok(());
        }
        let mut rows = Vec::new();
        for (side, slot) in members {
            let Some(mut row) = self.base.row(&slot)? else {
                continue;
            };
            let found = self.hands.sides[side].find(&slot.path(), &self.scope()).await?;
            let (Some(known), Some(found)) = (&row[side], found) else {
                continue;
            };
            if known.entry.size() != found.entry.size()
                || mtime(Some(&known.entry)) != mtime(Some(&found.entry))
            {
                continue;
            }
            let known = relearn(known, found);
            let sure = leader
                .as_ref()
                .is_some_and(|leader| leader.known.as_ref() == Some(&known.tag));
            row[side] = Some(if sure {
                self.trust.judge_own(side, known)
            } else {
                distrust(known)
            });
            rows.push((slot, row));
        }
        let contents = rows.iter().flat_map(|(_, row)| [&row.left, &row.right]).flatten();
        let known = contents
            .filter_map(|seen| seen.entry.content())
            .find(|content| content.digest.is_some())
            .cloned();
        for (_, row) in &mut rows {
            for side in Side::BOTH {
                let content = row[side].as_mut().and_then(|seen| seen.entry.content_mut());
                if let (Some(content), Some(known)) = (content, &known)
                    && content.size == known.size
                {
                    content.learn(known);
                }
            }
        }
        self.base
            .write(rows.into_iter().map(|(slot, row)| (slot, Some(row))).collect())
    }
}

/// What was found again, with the digests that were known of it.
fn relearn(known: &Observation, mut found: Observation) -> Observation {
    if let (Some(content), Some(known)) = (found.entry.content_mut(), known.entry.content())
        && content.size == known.size
    {
        content.learn(known);
    }
    found
}

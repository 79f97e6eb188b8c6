//! Files of several names.
//!
//! Invariant: a name joins only a file that has the bytes that it is to have: one that this run made of the same group, one that the plan
//! found unchanged, or one that is looked at.

use std::collections::HashMap;

use syncline_model::{Entry, From, Observation, RelPath, Result, Sameness, Side, Slot, Step, Tag};

use super::{BATCH_BYTES, BATCH_STEPS, Execution, Job, mtime};
use crate::plan::{Phase, Plan, size};
use crate::trust::distrust;

/// Names that stand on one side, by the group of which the other side tells.
type Standing = HashMap<u64, Vec<Slot>>;

/// The name of a file that others join.
struct Leader {
    path: RelPath,
    /// The tag by which the file is known, when its bytes are.
    known: Option<Tag>,
}

/// A group of names on one side.
#[derive(Default)]
struct Group {
    of: Option<(Side, u64)>,
    leader: Option<Leader>,
    /// The first name that is made, while no second one has come.
    first: Option<Job>,
    /// What is one file there.
    names: Vec<(Side, Slot)>,
}

/// Names that wait for no other.
#[derive(Default)]
struct Apart {
    jobs: Vec<Job>,
    bytes: u64,
}

impl Execution<'_> {
    /// Files of several names: one name of each group is copied or stands already, the others join it. What is the only name of its group
    /// here waits for no other; and where names do not share the bytes none does, and only those that stood already are joined.
    pub(super) async fn links(&mut self, plan: &mut Plan) -> Result<()> {
        let mut now = Group::default();
        let mut apart = Apart::default();
        let mut standing: Option<Standing> = None;
        while let Some((id, item)) = plan.next_of(Phase::Link)? {
            let side = item.step.as_ref().map(|step| step.side).or(item.member);
            let Some(side) = side else { continue };
            if now.of != Some((side, id)) {
                let of = Some((side, id));
                let before = std::mem::replace(
                    &mut now,
                    Group {
                        of,
                        ..Group::default()
                    },
                );
                self.part_with(before, &mut apart).await?;
            }
            let Some(step) = item.step.clone() else {
                let seen = item
                    .sole
                    .and_then(|(row, _)| row.and_then(|row| row[side].clone()));
                let path = item.slot.path();
                now.leader.get_or_insert_with(|| Leader {
                    path,
                    known: seen.and_then(|seen| self.trust.proof(side, &seen)),
                });
                now.names.push((side, item.slot));
                continue;
            };
            let job = Job::new(item, step);
            self.stopped |= self.over();
            if self.stopped
                || self.waits_for_room(&job.step)
                || self.gate.waits(Phase::Link, &job.item.slot, &job.step)
                || self.ousts(&job.step)
            {
                self.failed.put(job.item.slot.as_bytes(), &())?;
                continue;
            }
            if now.leader.is_none() && now.first.is_none() && self.is_told_only(&job.step) {
                let standing = match &mut standing {
                    Some(standing) => standing,
                    None => standing.insert(self.standing(side)?),
                };
                let names = standing.get(&id).map_or(&[][..], Vec::as_slice);
                now.leader = self.leader_of(side, names).await?;
                if now.leader.is_some() {
                    now.names.extend(names.iter().map(|slot| (side, slot.clone())));
                }
            }
            self.join(job, &mut now, &mut apart).await?;
        }
        self.part_with(now, &mut apart).await?;
        self.at_once(apart.jobs).await
    }

    /// Makes a name: of the file that its group is here already, or as the first of it, which waits for a second.
    async fn join(&mut self, mut job: Job, now: &mut Group, apart: &mut Apart) -> Result<()> {
        let shares = self.hands.sides[job.step.side].profile().second_names;
        if now.leader.is_none() && shares {
            match now.first.take() {
                None => {
                    now.first = Some(job);
                    return Ok(());
                }
                Some(first) => self.make(first, now).await?,
            }
        }
        if let Some(leader) = &now.leader {
            job.step.change.from = Some(From::Link(leader.path.clone()));
            job.known = leader.known.clone();
        }
        if shares {
            self.make(job, now).await
        } else {
            self.set_apart(job, apart).await
        }
    }

    /// Makes a name that others are to join.
    async fn make(&mut self, job: Job, now: &mut Group) -> Result<()> {
        let (side, slot) = (job.step.side, job.item.slot.clone());
        let before = self.counts[side].steps();
        self.at_once(vec![job]).await?;
        if self.counts[side].steps() > before {
            let known = self.made.take();
            let path = slot.path();
            let leader = now.leader.get_or_insert(Leader { path, known: None });
            leader.known = known;
            now.names.push((side, slot));
        }
        Ok(())
    }

    /// A name that waits for no other is made together with others of the kind.
    async fn set_apart(&mut self, job: Job, apart: &mut Apart) -> Result<()> {
        apart.bytes += size(&job.step);
        apart.jobs.push(job);
        if apart.jobs.len() >= BATCH_STEPS || apart.bytes >= BATCH_BYTES {
            self.at_once(std::mem::take(apart).jobs).await?;
        }
        Ok(())
    }

    /// No more names of this group come.
    async fn part_with(&mut self, mut group: Group, apart: &mut Apart) -> Result<()> {
        if let Some(only) = group.first.take() {
            self.set_apart(only, apart).await?;
        }
        self.settle_group(&mut group.names, group.leader).await
    }

    /// A new name changes the inode that all names of a group share: their rows are looked at again, and what is known of
    /// the bytes of one is known of all.
    async fn settle_group(&mut self, group: &mut Vec<(Side, Slot)>, leader: Option<Leader>) -> Result<()> {
        let members = std::mem::take(group);
        let shared = |(side, _): &(Side, Slot)| self.hands.sides[*side].profile().second_names;
        if members.len() < 2 || self.detached || !members.iter().all(shared) {
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

    /// True when a step makes a name of a group of which the other side only tells: names that stand there show nothing of a new one, and no
    /// plan speaks of them.
    fn is_told_only(&self, step: &Step) -> bool {
        let shares = |side: Side| self.hands.sides[side].profile().second_names;
        shares(step.side) && !shares(step.side.other())
    }

    /// The names that the base has of each group of which the other side tells.
    fn standing(&self, side: Side) -> Result<Standing> {
        let mut standing = Standing::new();
        for row in self.base.rows() {
            let (slot, row) = row?;
            if let Some(Entry::File(_, _, Some(link))) = row[side.other()].as_ref().map(|seen| &seen.entry) {
                standing.entry(link.0).or_default().push(slot);
            }
        }
        Ok(standing)
    }

    /// The first of these names that is still what the base says.
    async fn leader_of(&self, side: Side, names: &[Slot]) -> Result<Option<Leader>> {
        let replica = &self.hands.sides[side];
        for slot in names {
            let path = slot.path();
            let known = self.base.row(slot)?.and_then(|row| row[side].clone());
            let (Some(known), Some(found)) = (known, replica.find(&path, &self.scope()).await?) else {
                continue;
            };
            let mut stands = known.tag == found.tag;
            if !stands && let Some(content) = known.entry.content() {
                let digest = replica.digest(&path, &found).await;
                stands = digest.is_ok_and(|now| now.same(content) == Sameness::Same);
            }
            if stands {
                let known = self.trust.proof(side, &found);
                return Ok(Some(Leader { path, known }));
            }
        }
        Ok(None)
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

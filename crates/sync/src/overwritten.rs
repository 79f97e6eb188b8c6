//! Versions that vanished on a store without conditional writes and of which nobody is known to have seen them (design D7): they are
//! edits that lost a race, so what took their place is no update of them.
//!
//! Invariant: such a path is decided as if nothing had been agreed on there: both versions stay, and what was removed blindly comes back.

use syncline_model::{Entry, Observation, Result, Sameness, Side, Triple};

use crate::plan::Draft;
use crate::planning::Planner;

impl Planner<'_> {
    /// Forgets what was agreed on at paths where a version of ours vanished without anybody having seen it.
    pub(crate) async fn unseen(&self, chunk: &mut [Triple], draft: &mut Draft<'_>) -> Result<()> {
        for side in Side::BOTH {
            let replica = &self.sides[side];
            if replica.profile().conditional {
                continue;
            }
            for triple in chunk.iter_mut() {
                let Some(was) = vanished(triple, side) else {
                    continue;
                };
                let path = triple.slot.path();
                if replica.gave_way(&path, was).await? {
                    continue;
                }
                triple.base = None;
                if triple.now[side].is_none() {
                    draft.yielded.push((path, side));
                }
            }
        }
        Ok(())
    }
}

/// What both had agreed on, the other side still has, and `side` has no longer.
fn vanished(triple: &Triple, side: Side) -> Option<&Observation> {
    let row = triple.base.as_ref().filter(|_| triple.was.is_none())?;
    let was = row[side].as_ref().filter(|was| !was.entry.is_dir())?;
    let there = &triple.now[side.other()].as_ref()?.seen;
    let agreed = row[side.other()].as_ref()?;
    if there.tag != agreed.tag && there.entry.same_content(&agreed.entry) != Sameness::Same {
        // An edit over there: both stay anyway.
        return None;
    }
    let gone = match &triple.now[side] {
        None => true,
        Some(located) => {
            let now = &located.seen;
            !matches!(now.entry, Entry::Opaque(_))
                && now.tag != was.tag
                && now.entry.same_content(&was.entry) != Sameness::Same
        }
    };
    gone.then_some(was)
}

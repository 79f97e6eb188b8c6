//! Conflicts: listed and settled.

use std::ffi::OsString;

use syncline_model::Result;
use syncline_sync::{Keep, Stop};

use super::{Done, open_known, stopped};
use crate::intent::{Once, Which};
use crate::open::World;
use crate::render::{Face, Item};

/// Lists the conflicts that wait.
pub async fn conflicts(world: &World, which: &Which, face: &dyn Face) -> Result<Done> {
    let open = open_known(world, which, &Once::default(), true, face).await?;
    let mut waiting = 0;
    let hosts = open.session.hosts();
    for conflict in open.session.conflicts() {
        face.item(&Item::Conflict(&conflict?, &hosts));
        waiting += 1;
    }
    if waiting == 0 {
        face.item(&Item::Note("no conflicts"));
    }
    let mut done = Done::well();
    done.ending.report.conflicts = waiting;
    Ok(done)
}

/// Settles conflicts: those at `paths`, or all.
pub async fn resolve(
    world: &World,
    which: &Which,
    paths: Option<&[OsString]>,
    keep: Keep,
    once: Once,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done> {
    let open = open_known(world, which, &once, false, face).await?;
    stopped(stop)?;
    let paths = paths.map(|typed| open.meant.paths(typed)).transpose()?;
    let options = open.options(world, "resolve", &once).await?;
    let report = open
        .session
        .resolve(paths.as_deref(), keep, &options, face, stop)
        .await?;
    Ok(Done::run(report, &open.opened, once.dry_run))
}

//! What was done: runs listed and taken back, the trash listed, emptied and restored from.

use std::ffi::OsString;

use syncline_model::Result;
use syncline_sync::Stop;

use super::{Done, confirmed, open_known, stopped};
use crate::intent::{Once, Which};
use crate::open::World;
use crate::render::{Face, Item, Removed};

/// Lists runs, oldest first.
pub async fn log(world: &World, which: &Which, face: &dyn Face) -> Result<Done> {
    let open = open_known(world, which, &Once::default(), true, face).await?;
    for run in &open.session.log().await? {
        face.item(&Item::Run(run));
    }
    Ok(Done::well())
}

/// Takes a run back.
pub async fn undo(
    world: &World,
    which: &Which,
    name: Option<&str>,
    once: Once,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done> {
    let open = open_known(world, which, &once, false, face).await?;
    stopped(stop)?;
    let options = open.options(world, "undo", &once).await?;
    let report = open.session.undo(name, &options, face, stop).await?;
    Ok(Done::run(report, &open.opened, once.dry_run))
}

/// Lists what was displaced.
pub async fn trash(world: &World, which: &Which, face: &dyn Face) -> Result<Done> {
    let open = open_known(world, which, &Once::default(), true, face).await?;
    let mut trash = open.session.trash().await?;
    while let Some(items) = trash.next().await? {
        for item in &items {
            let removed = Removed {
                side: item.side,
                run: &item.run,
                path: &item.path,
                size: item.entry.size(),
                time: item.time,
            };
            face.item(&Item::Trash(removed));
        }
    }
    Ok(Done::well())
}

/// Forgets what was displaced.
pub async fn trash_empty(world: &World, which: &Which, name: Option<&str>, face: &dyn Face) -> Result<Done> {
    let open = open_known(world, which, &Once::default(), false, face).await?;
    let of = name.map_or("everything".to_string(), |name| {
        format!("what run {name} displaced")
    });
    if !confirmed(
        world,
        face,
        &format!("Remove {of} from the trash of both places for good?"),
    )? {
        face.item(&Item::Note("nothing was removed"));
        return Ok(Done::well());
    }
    let emptied = open.session.trash_empty(name).await?;
    face.item(&Item::Note(&format!("the trash of {emptied} runs was emptied")));
    Ok(Done::well())
}

/// Brings paths back.
pub async fn restore(
    world: &World,
    which: &Which,
    paths: &[OsString],
    from: Option<&str>,
    once: Once,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done> {
    let open = open_known(world, which, &once, false, face).await?;
    stopped(stop)?;
    let paths = open.meant.paths(paths)?;
    let options = open.options(world, "restore", &once).await?;
    let report = open.session.restore(&paths, from, &options, face, stop).await?;
    Ok(Done::run(report, &open.opened, once.dry_run))
}

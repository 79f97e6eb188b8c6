//! `sync`, `push`, `pull` and `status`: one run of the merge.

use syncline_model::{Mode, Pair, Result, Side};
use syncline_sync::{Exit, Stop};

use super::{Done, Open, Show, open, plans, stopped};
use crate::intent::{Once, Run};
use crate::kept::Kept;
use crate::open::{How, Shut, World};
use crate::render::{Ending, Face, Item};
use crate::which::Meant;

/// One run of the merge.
pub async fn run(world: &World, asked: Run, face: &dyn Face, stop: &Stop) -> Result<Done> {
    let Run {
        which,
        what,
        typed,
        mut once,
    } = asked;
    let meant = world.meant(&which, face)?;
    once.dry_run |= what == "status";
    let quiet = once.quiet_if_locked;
    match within(world, meant, what, typed, once, face, stop).await {
        Err(Shut::Held(_)) if quiet => Ok(Done {
            ending: Ending::plain(Exit::Done),
            show: Show::Nothing,
        }),
        done => Ok(done?),
    }
}

/// One run of the merge on a session that was found.
pub async fn within(
    world: &World,
    meant: Meant,
    what: &'static str,
    typed: Kept,
    once: Once,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done, Shut> {
    if let Some(file) = &once.plan {
        plans::check(world, file)?;
    }
    let how = How {
        bandwidth: None,
        look_only: once.dry_run || once.plan.is_some(),
        ..How::default()
    };
    // A mirror or a copy that is asked for with `pull` comes from the place; one that the repository keeps goes to it.
    let from_place = what == "pull" && typed.mode.is_some();
    let open = open(world, meant, typed, how, face).await?;
    let done = begun(world, &open, what, from_place, once, face, stop).await;
    if done
        .as_ref()
        .is_ok_and(|done| done.ending.dry_run && done.show == Show::Summary)
        || done.is_err()
    {
        open.opened.unmake(world)?;
    }
    Ok(done?)
}

async fn begun(
    world: &World,
    open: &Open,
    what: &'static str,
    from_place: bool,
    once: Once,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done> {
    stopped(stop)?;
    let mut options = open.options(world, what, &once).await?;
    options.writes = match what {
        "push" => Pair::new(false, true),
        "pull" => Pair::new(true, false),
        _ => options.writes,
    };
    if from_place {
        options.leader = Side::Right;
    } else if what == "pull" && options.mode != Mode::TwoWay {
        face.item(&Item::Note(
            "this repository is kept as the source of its place, so nothing comes from there; to take the place as it stands: \
             syncline pull --mode mirror",
        ));
    }
    if let Some(file) = &once.plan {
        // A plan names both roots, so what was made for it stays.
        world.begin(&open.opened)?;
        return plans::write(world, open, &options, file, face, stop).await;
    }
    if !once.dry_run {
        world.begin(&open.opened)?;
    }
    let report = open.session.run(what, &options, face, stop).await?;
    Ok(Done::run(report, &open.opened, once.dry_run))
}

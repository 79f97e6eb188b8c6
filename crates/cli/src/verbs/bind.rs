//! `init`, `clone` and `leave`: a directory bound to a place, and the end of a binding.

use std::ffi::OsStr;
use std::path::Path;

use syncline_model::{Fault, Kind, Pair, Result, Scope, Side, replica::OWN_DIR};
use syncline_sync::Stop;

use super::{Done, confirmed, open, run};
use crate::intent::{Once, Which};
use crate::kept::Kept;
use crate::open::{How, Looked, World};
use crate::place::{Place, shown};
use crate::render::{Face, Item};
use crate::repository::Repository;
use crate::roots::Root;
use crate::which::Meant;

/// Makes `dir` a repository bound to `place`; with `first`, pulls.
pub async fn init(
    world: &World,
    place: &OsStr,
    dir: &Path,
    mut kept: Kept,
    first: Option<Once>,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done> {
    kept.name_trash(world)?;
    let (cloning, mode) = (first.is_some(), kept.mode);
    let root = Root::look(&world.files, dir)?;
    let looked = world.look_with(&root, place)?;
    let mut repository = Repository {
        dir: root.path.clone(),
        place: looked.places.right.text.clone(),
        kept,
    };
    if let Some(before) = root
        .there
        .then(|| Repository::at(&world.files, &root.path))
        .transpose()?
        .flatten()
    {
        again(&mut repository, before, cloning, face)?;
    }
    if cloning && !looked.right_is_there() {
        return Err(Fault::new(
            Kind::NotFound,
            "there is nothing to clone",
            looked.places.right.label(),
        ));
    }
    found(world, &looked, &root, cloning, face).await?;
    if first.as_ref().is_some_and(|once| once.dry_run) {
        return Err(Fault::new(
            Kind::Invalid,
            "a clone cannot be shown: there is no repository yet",
            shown(root.path.as_os_str()),
        )
        .hint("make one and look: syncline init PLACE DIR, then syncline -C DIR pull --dry-run"));
    }
    if !root.there {
        world.files.make_last(&root.path, 0o777 & !world.umask)?;
    }
    repository.save(&world.files)?;
    let (dir, place) = (shown(repository.dir.as_os_str()), looked.places.right.label());
    let Some(once) = first else {
        face.item(&Item::Note(&format!(
            "{dir} is bound to {place}; next: syncline sync"
        )));
        return Ok(Done::well());
    };
    face.item(&Item::Note(&format!("{dir} is bound to {place}")));
    let typed = Kept {
        mode,
        ..Kept::default()
    };
    let meant = world.meant(&Which::At(repository.dir), face)?;
    Ok(run::within(world, meant, "pull", typed, once, face, stop).await?)
}

/// `init` in a directory that is a repository already: the same place takes new options, another one is refused.
fn again(repository: &mut Repository, before: Repository, cloning: bool, face: &dyn Face) -> Result<()> {
    if before.place != repository.place {
        let what = format!("it is bound to {} already", shown(&before.place));
        let dir = shown(repository.dir.as_os_str());
        return Err(Fault::new(Kind::Exists, what, &dir).hint(format!("end that with: syncline leave {dir}")));
    }
    if !cloning {
        face.item(&Item::Note(
            "it was bound to this place already; options given now are kept beside the old ones",
        ));
    }
    let given = std::mem::take(&mut repository.kept);
    repository.kept = given.over(before.kept);
    Ok(())
}

/// Says what is there already (scenario B9).
async fn found(world: &World, looked: &Looked, root: &Root, cloning: bool, face: &dyn Face) -> Result<()> {
    let above = root
        .path
        .parent()
        .map(|above| Repository::above(&world.files, above))
        .transpose();
    if let Ok(Some(Some(outer))) = above {
        let outer = shown(outer.dir.as_os_str());
        face.item(&Item::Note(&format!(
            "it lies within the repository {outer}, which syncs it too"
        )));
    }
    let place = &looked.places.right;
    if place.dir().is_some() && !looked.right_is_there() {
        return Ok(());
    }
    let (replica, _) = world.open_one(place).await?;
    let label = place.label();
    let used = replica.identity().await?.marker.is_some();
    let mut walk = replica.scan(&Scope::default()).await?;
    let mut seen = 0;
    let mut more = false;
    while let Some(batch) = walk.next().await? {
        seen += batch.len();
        if seen > 0 {
            more = true;
            break;
        }
    }
    let some = if more {
        format!("at least {seen} entries")
    } else {
        "nothing".to_string()
    };
    let by = if used { ", and was synced before" } else { "" };
    face.item(&Item::Note(&format!("{label} holds {some}{by}")));
    if !cloning && more {
        face.item(&Item::Note(
            "the first sync joins both: what is equal is adopted, nothing is removed",
        ));
    }
    if !replica.profile().conditional {
        face.item(&Item::Note(&format!(
            "{label} has no conditional writes: what is replaced there is copied to its trash first"
        )));
    }
    Ok(())
}

/// Ends a binding.
pub async fn leave(world: &World, which: &Which, empty_trash: bool, face: &dyn Face) -> Result<Done> {
    let meant = world.meant(which, face)?;
    let repository = meant.repository.clone();
    let what = "for good what the trash of both places holds of this session";
    if empty_trash && !confirmed(world, face, &format!("Remove {what}?"))? {
        face.item(&Item::Note("nothing was done"));
        return Ok(Done::well());
    }
    let mut places = Vec::new();
    match world.look(&meant.left, &meant.right) {
        Ok(Looked {
            known: Some(known), ..
        }) => {
            let open = open(world, meant, Kept::default(), How::default(), face).await?;
            let both = &open.opened.places;
            let last = Pair::new(
                last_session(world, &both.left, &known.dir)?,
                last_session(world, &both.right, &known.dir)?,
            );
            let alone = open.session.leave(empty_trash, last).await?;
            places = vec![(both.left.clone(), alone.left), (both.right.clone(), alone.right)];
            drop(open.opened);
            world.files.remove_tree(&known.dir)?;
        }
        Ok(_) if repository.is_some() => {}
        Ok(_) => {
            return Err(
                Fault::new(Kind::Invalid, "no session of these two places has been begun", "")
                    .hint("places are named in the order in which they were synced"),
            );
        }
        // A root is gone for good: what is left of the session is here.
        Err(fault) if fault.is(Kind::Changed) => forget_gone(world, &meant, face)?,
        Err(fault) => return Err(fault),
    }
    if let Some(repository) = repository {
        repository.forget(&world.files)?;
        face.item(&Item::Note(&format!(
            "{} is no repository any more",
            shown(repository.dir.as_os_str())
        )));
    } else {
        face.item(&Item::Note("the session has ended; both places keep their files"));
    }
    for (place, alone) in &places {
        unmark(world, place, *alone, face)?;
    }
    Ok(Done::well())
}

/// True when no other session of this machine knows the place. One whose record cannot be read may know it.
fn last_session(world: &World, place: &Place, but: &Path) -> Result<bool> {
    if !world.states.broken()?.is_empty() {
        return Ok(false);
    }
    let mut sessions = world.states.list()?.into_iter().filter(|known| known.dir != but);
    Ok(!sessions.any(|known| known.left == place.text || known.right == place.text))
}

/// Takes our marker away from a directory that no session of ours knows any more. In a bucket the session has done so where nobody else
/// was known (`alone`).
fn unmark(world: &World, place: &Place, alone: bool, face: &dyn Face) -> Result<()> {
    let Some(dir) = place.dir() else {
        let marker = if alone {
            "has gone"
        } else {
            "stays, others may know it"
        };
        face.item(&Item::Note(&format!(
            "{}: its marker {marker}; files, trash and the tables of their attributes stay",
            place.label()
        )));
        return Ok(());
    };
    if !last_session(world, place, Path::new(""))? {
        return Ok(());
    }
    let own = dir.join(OWN_DIR);
    for (name, is_dir) in [
        ("marker.json", false),
        ("lock.json", false),
        ("lock", false),
        ("stage", true),
        ("trash", true),
        ("", true),
    ] {
        let path = if name.is_empty() {
            own.clone()
        } else {
            own.join(name)
        };
        match world.files.remove(&path, is_dir) {
            // What the trash still holds stays.
            Err(fault) if fault.is(Kind::Exists) => {}
            done => done?,
        }
    }
    Ok(())
}

fn forget_gone(world: &World, meant: &Meant, face: &dyn Face) -> Result<()> {
    let gone: Vec<Place> = [&meant.left, &meant.right]
        .iter()
        .map(|text| world.place(text))
        .collect::<Result<_>>()?;
    let (left, right) = (world.settled(&gone[0]), world.settled(&gone[1]));
    if let Some(known) = world.states.known(&left, &right)? {
        world.files.remove_tree(&known.dir)?;
        for side in Side::BOTH {
            let place = if side == Side::Left { &gone[0] } else { &gone[1] };
            face.item(&Item::Note(&format!(
                "{}: its marker and trash stay",
                place.label()
            )));
        }
    }
    Ok(())
}

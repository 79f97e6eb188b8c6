//! Plans: written down, and carried out as they were written.
//!
//! Invariant: what a plan does not say is not done.

use std::io::{BufRead, Cursor, Read, Write};
use std::path::Path;

use serde::Deserialize;
use syncline_model::{Fault, Kind, Result};
use syncline_sync::{Event, MaxDelete, Monitor, Options, Stop};

use super::{Done, Open, Show, open_with, stopped};
use crate::intent::{Once, Which};
use crate::kept::Kept;
use crate::open::{How, World};
use crate::place::{masked, of_option, shown};
use crate::render::{Ending, Face, Item};
use crate::repository::Repository;
use crate::which::Meant;

/// Longest header of a plan file.
const HEADER_MAX: u64 = 1 << 24;

/// A monitor that says only what is no step: the plan itself tells the steps.
struct Aside<'a>(&'a dyn Face);

impl Monitor for Aside<'_> {
    fn event(&self, event: Event<'_>) {
        if !matches!(event, Event::Step(_) | Event::Waits(_)) {
            self.0.event(event);
        }
    }
}

/// Refuses a file that cannot be written, before anything is looked at.
pub fn check(world: &World, file: &Path) -> Result<()> {
    let above = file.parent().filter(|above| !above.as_os_str().is_empty());
    let Some(above) = above.filter(|_| file.as_os_str() != "-") else {
        return Ok(());
    };
    world
        .files
        .dir(above)
        .map(drop)
        .map_err(|fault| match fault.kind {
            Kind::NotFound | Kind::Changed => Fault::new(
                Kind::Invalid,
                "--plan: there is no directory to write this file in",
                shown(file.as_os_str()),
            )
            .hint("make the directory first, or name another file"),
            _ => of_option("--plan")(fault),
        })
}

/// Writes the plan of a run to `file` and does nothing else.
pub async fn write(
    world: &World,
    open: &Open,
    options: &Options,
    file: &Path,
    face: &dyn Face,
    stop: &Stop,
) -> Result<Done> {
    if let Some(trash) = options.trash_place.as_ref().filter(|text| masked(text) != **text) {
        return Err(
            Fault::new(Kind::Invalid, "a plan carries no credentials", masked(trash))
                .hint("name the trash's place without them: the environment or the config file has them"),
        );
    }
    if file.as_os_str() == "-" {
        let mut out = std::io::stdout();
        let report = open.session.write_plan(options, &Silent, stop, &mut out).await?;
        out.flush()
            .map_err(|error| Fault::new(Kind::Full, format!("write: {error}"), "standard output"))?;
        let ending = Ending {
            report,
            dry_run: true,
            traffic: open.opened.traffic(),
        };
        return Ok(Done {
            ending,
            show: Show::Nothing,
        });
    }
    let mut draft = world.files.draft(file).map_err(of_option("--plan"))?;
    let report = open
        .session
        .write_plan(options, &Aside(face), stop, &mut draft)
        .await?;
    draft.publish()?;
    let at = shown(file.as_os_str());
    face.item(&Item::Note(&format!(
        "the plan is in {at}; carry it out with: syncline apply {at}"
    )));
    let mut done = Done::run(report, &open.opened, true);
    done.show = Show::List;
    Ok(done)
}

struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// What of a plan's header says whose it is, and with which places it is carried out.
#[derive(Deserialize)]
struct Header {
    event: String,
    version: u64,
    left: String,
    right: String,
    #[serde(default)]
    options: Opening,
}

/// What of a plan's options is needed to open its places.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Opening {
    trash_place: Option<String>,
}

/// Carries out a plan.
pub async fn apply(world: &World, file: &Path, once: Once, face: &dyn Face, stop: &Stop) -> Result<Done> {
    let mut plan: Box<dyn BufRead + Send> = if file.as_os_str() == "-" {
        Box::new(std::io::BufReader::new(std::io::stdin()))
    } else {
        world.files.reader(file).map_err(|fault| match fault.kind {
            Kind::NotFound => Fault::new(
                Kind::Invalid,
                "this plan file is not there",
                shown(file.as_os_str()),
            )
            .hint("write one with `syncline sync LEFT RIGHT --plan FILE`"),
            _ => fault,
        })?
    };
    let first = first_line(&mut *plan, file)?;
    let header = header(&first, file)?;
    let which = whose(world, &header, face)?;
    let meant = world.meant(&which, face)?;
    let how = How {
        bandwidth: once.bandwidth.map(|rate| rate.0),
        look_only: once.dry_run,
        ..How::default()
    };
    let kept = Kept {
        trash: header.options.trash_place,
        no_trash: None,
        ..limits(world, &meant)?
    };
    let open = open_with(world, meant, kept, how, face).await?;
    stopped(stop)?;
    // All else is what the plan says.
    let options = Options {
        max_delete: once.max_delete.map_or(MaxDelete::Default, |brake| brake.0),
        jobs: open.copies(&once),
        dry_run: once.dry_run,
        soft_limit: once.soft_limit,
        hard_limit: once.hard_limit,
        ..Options::default()
    };
    let mut whole = Cursor::new(first).chain(plan);
    let report = open.session.apply(&mut whole, &options, face, stop).await?;
    Ok(Done::run(report, &open.opened, once.dry_run))
}

/// What holds for a session whatever is done in it: a repository keeps it, else the config file.
fn limits(world: &World, meant: &Meant) -> Result<Kept> {
    let repository = Repository::at(&world.files, Path::new(&meant.left))
        .ok()
        .flatten();
    let kept = repository
        .filter(|found| found.place == meant.right)
        .map(|found| found.kept);
    let kept = kept.unwrap_or_default();
    meant.kept(
        Kept {
            jobs: kept.jobs,
            bandwidth: kept.bandwidth,
            ..Kept::default()
        },
        world,
    )
}

fn first_line(plan: &mut dyn BufRead, file: &Path) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    plan.take(HEADER_MAX)
        .read_until(b'\n', &mut line)
        .map_err(|error| Fault::new(Kind::Invalid, format!("read: {error}"), shown(file.as_os_str())))?;
    Ok(line)
}

fn header(line: &[u8], file: &Path) -> Result<Header> {
    let wrong = |what: &str| {
        Fault::new(Kind::Invalid, what, shown(file.as_os_str()))
            .hint("plans are written by `syncline sync --plan FILE`")
    };
    let header: Header = serde_json::from_slice(line).map_err(|_| wrong("this is no plan"))?;
    match (header.event.as_str(), header.version) {
        ("plan", syncline_sync::PLAN_VERSION) => Ok(header),
        ("plan", version) => Err(wrong(&format!(
            "a plan of version {version}; this program knows version {}",
            syncline_sync::PLAN_VERSION
        ))),
        _ => Err(wrong("this is no plan")),
    }
}

/// The session whose places bear the labels of a plan.
fn whose(world: &World, header: &Header, face: &dyn Face) -> Result<Which> {
    let label = |text: &std::ffi::OsStr| {
        let shown = shown(text);
        shown.split('?').next().unwrap_or_default().to_string()
    };
    let mut found = Vec::new();
    for known in world.states.list()? {
        let (left, right) = (shown(&known.left), shown(&known.right));
        let exact = left == header.left && right == header.right;
        let short = label(&known.left) == header.left && label(&known.right) == header.right;
        let named = world
            .place(&known.right)
            .is_ok_and(|place| place.label() == header.right);
        if exact || short || (named && left == header.left) {
            found.push(known);
        }
    }
    match found.as_slice() {
        [one] => Ok(Which::Of(one.left.clone(), one.right.clone())),
        [] => Ok(Which::Of(header.left.clone().into(), header.right.clone().into())),
        several => {
            for known in several {
                face.item(&Item::Session {
                    left: &shown(&known.left),
                    right: &shown(&known.right),
                });
            }
            Err(Fault::new(
                Kind::Invalid,
                "several sessions bear the names of this plan's places",
                "",
            )
            .hint("end those that you no longer need with `syncline leave LEFT RIGHT`"))
        }
    }
}

//! What each verb does: finds its session, asks the engine, hands the result to the face.
//!
//! Invariant: nothing is decided here that the engine decides; nothing is printed but through the face.

mod bind;
mod doctor;
mod history;
mod inbox;
mod plans;
mod run;

use syncline_model::{Fault, Kind, RelPath, Result};
use syncline_sync::{Exit, Options, Report, Session, Stop};

use crate::intent::{Act, Once, Which};
use crate::kept::Kept;
use crate::merger::CommandMerger;
use crate::open::{How, Opened, Shut, World};
use crate::place::shown;
use crate::render::{Ending, Face, Item};
use crate::takes_part;
use crate::values::ConflictRule;
use crate::which::Meant;

/// How a command ended, and what of it is shown.
pub struct Done {
    /// How it ended.
    pub ending: Ending,
    /// What is shown.
    pub show: Show,
}

/// What is shown at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// The summary.
    Summary,
    /// The summary in JSON alone: the command has printed its answer.
    List,
    /// Nothing: the standard output is the answer.
    Nothing,
}

impl Done {
    /// A command that is no run and went well.
    fn well() -> Self {
        Self {
            ending: Ending::plain(Exit::Done),
            show: Show::List,
        }
    }

    /// A run.
    fn run(report: Report, opened: &Opened, dry_run: bool) -> Self {
        Self {
            ending: Ending {
                report,
                dry_run,
                traffic: opened.traffic(),
            },
            show: Show::Summary,
        }
    }
}

/// Does what is asked.
pub async fn act(world: &World, act: Act, face: &dyn Face, stop: &Stop) -> Result<Done> {
    match act {
        Act::Run(asked) => run::run(world, asked, face, stop).await,
        Act::Init {
            place,
            dir,
            kept,
            first,
        } => bind::init(world, &place, &dir, kept, first, face, stop).await,
        Act::Leave { which, empty_trash } => bind::leave(world, &which, empty_trash, face).await,
        Act::Apply { file, once } => plans::apply(world, &file, once, face, stop).await,
        Act::Conflicts { which } => inbox::conflicts(world, &which, face).await,
        Act::Resolve {
            which,
            paths,
            keep,
            once,
        } => inbox::resolve(world, &which, paths.as_deref(), keep, once, face, stop).await,
        Act::Log { which } => history::log(world, &which, face).await,
        Act::Undo { which, name, once } => {
            history::undo(world, &which, name.as_deref(), once, face, stop).await
        }
        Act::TrashList { which } => history::trash(world, &which, face).await,
        Act::TrashEmpty { which, name } => history::trash_empty(world, &which, name.as_deref(), face).await,
        Act::Restore {
            which,
            paths,
            from,
            once,
        } => history::restore(world, &which, &paths, from.as_deref(), once, face, stop).await,
        Act::Doctor { places } => doctor::doctor(world, &places, face).await,
        Act::ConfigCheck => config_check(world, face),
        Act::Completions(_) => Err(Fault::new(Kind::Bug, "completions need no world", "")),
    }
}

fn config_check(world: &World, face: &dyn Face) -> Result<Done> {
    let at = world
        .setting
        .config
        .as_ref()
        .map(|(path, _)| shown(path.as_os_str()))
        .unwrap_or_default();
    let count = world.config.store.len();
    face.item(&Item::Note(&format!("{at}: well formed; stores: {count}")));
    Ok(Done::well())
}

/// A session that is open, and who asked for it.
struct Open {
    opened: Opened,
    session: Session,
    meant: Meant,
    kept: Kept,
}

impl Open {
    /// What the engine is asked for, filter included.
    async fn options(&self, world: &World, what: &str, once: &Once) -> Result<Options> {
        let mut options = self.kept.options();
        if let Some(ConflictRule::Merge(command)) = &self.kept.conflict {
            let merger = CommandMerger::new(command, world, &self.opened.state)?;
            options.merger = Some(std::sync::Arc::new(merger));
        }
        let plan = once.plan.as_deref().filter(|file| file.as_os_str() != "-");
        let agreed = self.opened.known && what == "sync";
        let (files, rules) = (&world.files, &self.kept.filter);
        options.filter = takes_part::filter(files, &self.opened, rules, agreed, plan).await?;
        options.only = self.meant.paths(&once.only)?;
        if options.only.iter().any(RelPath::is_root) {
            options.only.clear();
        }
        options.checksum = once.checksum;
        options.accept = once.accept;
        options.dry_run = once.dry_run;
        options.soft_limit = once.soft_limit;
        options.hard_limit = once.hard_limit;
        options.quiet_if_locked = once.quiet_if_locked;
        options.jobs = self.copies(once);
        options.trash_place.clone_from(&self.kept.trash);
        Ok(options)
    }

    /// Copies at once.
    fn copies(&self, once: &Once) -> usize {
        once.jobs
            .or(self.kept.jobs)
            .map_or_else(|| self.jobs(), usize::from)
    }

    /// Copies at once when nobody said: a disk keeps the cores busy and one more; a service is waited for.
    fn jobs(&self) -> usize {
        if [&self.opened.places.left, &self.opened.places.right]
            .iter()
            .any(|place| place.dir().is_none())
        {
            return 16;
        }
        std::thread::available_parallelism().map_or(2, |cores| cores.get().saturating_add(1).min(8))
    }
}

/// Opens the session that `meant` names.
async fn open(world: &World, meant: Meant, typed: Kept, how: How, face: &dyn Face) -> Result<Open, Shut> {
    let kept = meant.kept(typed, world)?;
    open_with(world, meant, kept, how, face).await
}

/// Opens the session that `meant` names, with these options and no others.
async fn open_with(world: &World, meant: Meant, kept: Kept, how: How, face: &dyn Face) -> Result<Open, Shut> {
    let how = How {
        bandwidth: how.bandwidth.or(kept.bandwidth.map(|rate| rate.0)),
        trash: kept.trash.clone(),
        ..how
    };
    let looked = world.look(&meant.left, &meant.right)?;
    let opened = world.open(looked, how).await?;
    let places = syncline_sync::Places {
        sides: opened.sides.clone(),
        state: opened.state.clone(),
    };
    let session = Session::open(places, world.env.clone()).await?;
    for note in &opened.notes {
        face.item(&Item::Note(note));
    }
    Ok(Open {
        opened,
        session,
        meant,
        kept,
    })
}

/// Opens a session that has been begun, for a verb that speaks of what was done in it.
async fn open_known(
    world: &World,
    which: &Which,
    once: &Once,
    look_only: bool,
    face: &dyn Face,
) -> Result<Open> {
    let meant = world.meant(which, face)?;
    let looked = world.look(&meant.left, &meant.right)?;
    if looked.known.is_none() {
        let at = format!("{} {}", looked.places.left.label(), looked.places.right.label());
        return Err(
            Fault::new(Kind::Invalid, "no session of these two places has been begun", at)
                .hint("places are named in the order in which they were synced"),
        );
    }
    let how = How {
        bandwidth: once.bandwidth.map(|rate| rate.0),
        look_only: look_only || once.dry_run,
        finds_trash: true,
        ..How::default()
    };
    let open = open(world, meant, Kept::default(), how, face).await?;
    if let Some(lost) = open.session.lost()? {
        face.item(&Item::Note(&lost));
    }
    Ok(open)
}

/// Waits for the engine; when it was stopped before it began anything, says so.
fn stopped(stop: &Stop) -> Result<()> {
    if stop.soft() {
        return Err(Fault::new(
            Kind::Cancelled,
            "stopped before anything was begun",
            "",
        ));
    }
    Ok(())
}

/// Asks on a terminal; elsewhere `--yes` is wanted.
fn confirmed(world: &World, face: &dyn Face, question: &str) -> Result<bool> {
    use std::io::{BufRead, IsTerminal, Write};
    if world.setting.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || world.setting.json {
        return Err(Fault::new(Kind::Invalid, question, "").hint("this wants an answer: say --yes"));
    }
    let mut answer = String::new();
    face.suspend(&mut || {
        eprint!("{question} [y/N] ");
        let _ = std::io::stderr().flush();
        // No answer is no.
        let _ = std::io::stdin().lock().read_line(&mut answer);
    });
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

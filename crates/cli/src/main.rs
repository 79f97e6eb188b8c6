//! The one binary.
//!
//! Invariant: every way out has a code of `cli.md` "What comes back", and none is 0 after a failure.

#![forbid(unsafe_code)]

mod args;
mod buckets;
mod config;
mod exit;
mod files;
mod intent;
mod kept;
mod merger;
mod open;
mod paced;
mod place;
mod render;
mod repository;
mod roots;
mod signals;
mod state;
mod takes_part;
mod trash_place;
mod values;
mod verbs;
mod which;

use std::process::ExitCode;
use std::sync::Arc;

use clap::CommandFactory;
use syncline_model::{Fault, Kind, Result};
use syncline_store::real::{SystemClock, SystemDice, ThreadSpawn};
use syncline_sync::{Env, Exit};

use files::Files;
use intent::{Act, Intent, Surroundings, Voice};
use open::World;
use render::{Ending, Face, Json, Text};
use state::States;
use verbs::{Done, Show};

fn main() -> ExitCode {
    let umask = umask();
    let (typed, filters) = match args::read(std::env::args_os()) {
        Ok(typed) => typed,
        Err(error) => return usage(&error),
    };
    let (json, voice) = (typed.shared.json, intent::voice(&typed.shared));
    let face: Box<dyn Face> = if json {
        Box::new(Json::new(voice, Box::new(std::io::stdout())))
    } else {
        Box::new(Text::standard(voice))
    };
    let intent = surroundings().and_then(|around| intent::read(typed, filters, &around));
    let done = intent
        .and_then(|intent| run(intent, umask, &*face))
        .unwrap_or_else(|fault| {
            face.fault(&fault);
            Done {
                ending: Ending::plain(exit::of(&fault)),
                show: Show::List,
            }
        });
    if done.show != Show::Nothing {
        face.ending(&done.ending, done.show == Show::List);
    }
    let exit = done.ending.report.exit;
    exit::code(if face.broken() {
        exit.max(Exit::Partial)
    } else {
        exit
    })
}

/// What clap says: help and version are no errors; the rest is a wrong use.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        eprint!("{}", place::masked(&error.to_string()));
        return exit::code(Exit::Usage);
    }
    match error.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => exit::code(Exit::Partial),
    }
}

/// This process's umask, read before there is a second thread.
fn umask() -> u32 {
    use rustix::fs::Mode;
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    umask.as_raw_mode()
}

fn surroundings() -> Result<Surroundings> {
    let current = std::env::current_dir()
        .map_err(|error| Fault::new(Kind::Invalid, format!("the current directory: {error}"), ""))?;
    Ok(Surroundings {
        current,
        var: |name| std::env::var_os(name),
    })
}

fn run(intent: Intent, umask: u32, face: &dyn Face) -> Result<Done> {
    if let Act::Completions(shell) = intent.act {
        clap_complete::generate(
            shell,
            &mut args::Typed::command(),
            "syncline",
            &mut std::io::stdout(),
        );
        return Ok(Done {
            ending: Ending::plain(Exit::Done),
            show: Show::Nothing,
        });
    }
    let failed = |error| Fault::new(Kind::Bug, format!("start the runtime: {error}"), "");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    // It ends with the process: threads that wait for a signal or for a server that does not answer hold nobody up, and a runtime that is
    // shut down under a task which still sleeps makes that panic.
    let runtime = Box::leak(Box::new(runtime));
    runtime.block_on(within(intent, umask, face))
}

async fn within(intent: Intent, umask: u32, face: &dyn Face) -> Result<Done> {
    let Intent { setting, act } = intent;
    let files = Files::new();
    if let Err(fault) = files.dir(&setting.base) {
        return Err(match fault.kind {
            Kind::NotFound | Kind::Changed => {
                Fault::new(Kind::Invalid, "-C: this is no directory", fault.at).hint("name one that is there")
            }
            _ => fault,
        });
    }
    let config = match (&setting.config, &act) {
        (None, Act::ConfigCheck) => {
            return Err(Fault::new(
                Kind::Invalid,
                "there is no config file: HOME is not set",
                "",
            ));
        }
        (None, _) => config::Config::default(),
        (Some((path, asked)), act) => config::read(&files, path, *asked || matches!(act, Act::ConfigCheck))?,
    };
    let env = Env {
        clock: Arc::new(SystemClock),
        dice: Arc::new(SystemDice),
        spawn: Arc::new(ThreadSpawn::new()),
    };
    let signals = signals::listen(&*env.spawn, setting.voice == Voice::Quiet)?;
    let clock = Arc::clone(&env.clock);
    let states = States::new(files.clone(), setting.state.clone());
    let world = World {
        setting,
        config,
        files,
        states,
        env,
        umask,
    };
    tokio::select! {
        done = verbs::act(&world, act, face, &signals.stop) => done,
        () = signals.dropped(&*clock) => Err(Fault::new(Kind::Cancelled, "stopped in the middle", "")
            .hint("run again: it goes on where it was")),
    }
}

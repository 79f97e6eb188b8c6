//! The one binary.
//!
//! Invariant: every way out has a code of `cli.md` "What comes back", and none is 0 after a failure.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "verbs come with the engine")]

mod args;
mod buckets;
mod config;
mod exit;
mod files;
mod intent;
mod kept;
mod open;
mod paced;
mod place;
mod render;
mod repository;
mod roots;
mod signals;
mod state;
mod takes_part;
mod values;
mod verbs;
mod which;

use std::process::ExitCode;

use clap::CommandFactory;
use syncline_model::{Fault, Kind, Result};
use syncline_sync::Exit;

use files::Files;
use intent::{Act, Intent, Surroundings};
use render::{Ending, Face, Json, Text};

fn main() -> ExitCode {
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
    let ending = surroundings()
        .and_then(|around| intent::read(typed, filters, &around))
        .and_then(|i| run(i, &*face));
    let ending = ending.unwrap_or_else(|fault| {
        face.fault(&fault);
        (Ending::plain(exit::of(&fault)), true)
    });
    face.ending(&ending.0, ending.1);
    exit::code(if face.broken() {
        ending.0.report.exit.max(Exit::Partial)
    } else {
        ending.0.report.exit
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

fn surroundings() -> Result<Surroundings> {
    let current = std::env::current_dir()
        .map_err(|error| Fault::new(Kind::Invalid, format!("the current directory: {error}"), ""))?;
    Ok(Surroundings {
        current,
        var: |name| std::env::var_os(name),
    })
}

fn run(intent: Intent, face: &dyn Face) -> Result<(Ending, bool)> {
    match intent.act {
        Act::Completions(shell) => {
            clap_complete::generate(
                shell,
                &mut args::Typed::command(),
                "syncline",
                &mut std::io::stdout(),
            );
        }
        Act::ConfigCheck => {
            let Some((path, asked)) = intent.setting.config else {
                return Err(Fault::new(
                    Kind::Invalid,
                    "there is no config file: HOME is not set",
                    "",
                ));
            };
            let config = config::read(&Files::new(), &path, asked)?;
            let stores = config.store.len();
            let at = place::shown(path.as_os_str());
            face.item(&render::Item::Note(&format!(
                "{at}: well formed, {stores} stores"
            )));
        }
        _ => return Err(Fault::new(Kind::Unsupported, "this build has no engine yet", "")),
    }
    Ok((Ending::plain(Exit::Done), true))
}

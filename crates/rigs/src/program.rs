//! The program as a person starts it: two places, a state directory of its own, `--json`.
//!
//! Invariant: nothing of the caller's surroundings (config, state, passwords) reaches it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The program and the places that it works on.
#[derive(Debug, Clone)]
pub struct Program {
    /// The binary.
    pub exe: PathBuf,
    /// The left place.
    pub left: PathBuf,
    /// The right place.
    pub right: PathBuf,
    /// Its state and its home.
    pub state: PathBuf,
    /// More arguments of `sync`.
    pub extra: Vec<String>,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// Exit code; 128 and the signal when one ended it.
    pub exit: i32,
    /// Steps that the summary counts, both sides together.
    pub steps: Option<u64>,
    /// Name of the run.
    pub run: Option<String>,
    /// All lines that it wrote.
    pub lines: Vec<Value>,
    /// What it said besides.
    pub said: String,
}

impl Ended {
    /// One line for a person.
    pub fn told(&self) -> String {
        let loud = self.lines.iter().filter(|line| {
            matches!(
                line["event"].as_str(),
                Some("problem" | "fault" | "note" | "summary")
            )
        });
        let mut text: Vec<String> = loud.map(Value::to_string).collect();
        text.push(self.said.trim().to_owned());
        format!("exit {}: {}", self.exit, text.join(" "))
    }

    /// Number of lines of this event.
    pub fn count(&self, event: &str) -> usize {
        self.lines.iter().filter(|line| line["event"] == event).count()
    }
}

impl Program {
    /// The program on `left`, `right` and `state` below `root`.
    pub fn below(exe: &Path, root: &Path) -> Self {
        Self {
            exe: exe.into(),
            left: root.join("left"),
            right: root.join("right"),
            state: root.join("state"),
            extra: Vec::new(),
        }
    }

    fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(args).arg("--state").arg(&self.state).arg("--json");
        for name in [
            "SYNCLINE_CONFIG",
            "SYNCLINE_STATE",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
        ] {
            command.env_remove(name);
        }
        command.env("HOME", &self.state);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// `syncline sync LEFT RIGHT`.
    pub fn sync(&self) -> Command {
        let mut command = self.command([OsStr::new("sync"), self.left.as_os_str(), self.right.as_os_str()]);
        command.args(&self.extra);
        command
    }

    /// A verb that speaks of the session of these two places.
    pub fn of(&self, verb: &[&str]) -> Command {
        let mut command = self.command(verb);
        command.arg("--of").arg(&self.left).arg(&self.right);
        command
    }
}

/// Runs it to its end.
pub fn end(mut command: Command) -> Result<Ended> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let mut ended = Ended {
        exit: exit_of(output.status),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
        ..Ended::default()
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match serde_json::from_str(line) {
            Ok(value) => ended.lines.push(value),
            Err(_) => ended.said.push_str(line),
        }
    }
    if let Some(summary) = ended.lines.iter().rfind(|line| line["event"] == "summary") {
        let count = |side: &str| {
            ["created", "updated", "moved", "removed", "metadata"]
                .iter()
                .map(|what| summary[side][what].as_u64())
                .sum::<Option<u64>>()
        };
        ended.steps = count("left")
            .zip(count("right"))
            .map(|(left, right)| left + right);
        ended.run = summary["run"].as_str().map(str::to_owned);
    }
    Ok(ended)
}

/// A shell's view of a status.
pub fn exit_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The binary: `SYNCLINE_BIN`, else the one that was built beside this program; built anew when a source is younger.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("SYNCLINE_BIN") {
        return Ok(named.into());
    }
    let own = std::env::current_exe()?;
    let built = own
        .ancestors()
        .skip(1)
        .find(|dir| dir.file_name() != Some(OsStr::new("deps")))
        .context("this program lies nowhere")?;
    let exe = built.join("syncline");
    if std::env::var_os("CARGO").is_some() && stale(&exe)? {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "syncline-cli", "--bin", "syncline"]);
        if built.ends_with("release") {
            build.arg("--release");
        }
        if !build.current_dir(workspace()?).status()?.success() {
            bail!("syncline could not be built");
        }
    }
    if !exe.exists() {
        bail!("{} is not built: cargo build -p syncline-cli", exe.display());
    }
    Ok(exe)
}

/// The top of the sources.
pub fn workspace() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .context("no workspace above this crate")
}

/// True when a source file is younger than the binary.
fn stale(exe: &Path) -> Result<bool> {
    let Ok(built) = std::fs::metadata(exe).and_then(|meta| meta.modified()) else {
        return Ok(true);
    };
    let mut waiting = vec![workspace()?.join("crates")];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let at = entry.path();
            if entry.file_type()?.is_dir() {
                if !["rigs", "testkit", "tests"].iter().any(|name| at.ends_with(name)) {
                    waiting.push(at);
                }
            } else if at.extension().is_some_and(|kind| kind == "rs" || kind == "toml")
                && entry.metadata()?.modified()? > built
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

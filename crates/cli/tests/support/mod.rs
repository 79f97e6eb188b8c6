//! A person's desk for tests of the real binary: a home, a state directory, folders.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test binary uses a part"
)]

pub mod mounted;
pub mod office;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A directory of one's own, and the environment of a fresh account.
pub struct Desk {
    temp: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// The JSON lines of the standard output.
    pub fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// The lines with that event.
    pub fn events(&self, event: &str) -> Vec<Value> {
        self.lines()
            .into_iter()
            .filter(|line| line["event"] == event)
            .collect()
    }

    /// The last line, which is the summary.
    pub fn summary(&self) -> Value {
        let last = self.lines().pop().expect("a summary");
        assert_eq!(last["event"], "summary", "{}", self.out);
        assert_eq!(last["exit"], self.code, "{}", self.out);
        last
    }
}

impl Desk {
    pub fn new() -> Self {
        let desk = Self {
            temp: tempfile::tempdir().unwrap(),
            variables: BTreeMap::new(),
        };
        desk.dir("home");
        desk
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// What the environment says under that name.
    pub fn variable(&self, name: &str) -> String {
        self.variables[name].clone()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().canonicalize().unwrap().join(name)
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Removes a link, or whatever stands there, without following it.
    pub fn remove_link(&self, name: &str) {
        let path = self.path(name);
        if path.symlink_metadata().unwrap().is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// The command, not yet run: of the program that was built for this test, or of the one named. The zoo names its own, which no build that
    /// goes on beside it replaces by one without bugs.
    pub fn command(&self, words: &[&str]) -> Command {
        let named = std::env::var_os("SYNCLINE_BIN");
        let mut command = Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_syncline").into()));
        command
            .args(words)
            .current_dir(self.temp.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("SYNCLINE_STATE", self.path("state"))
            .envs(std::env::var_os("SYNCLINE_ZOO").map(|bug| ("SYNCLINE_ZOO", bug)))
            .envs(&self.variables)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        Ended::of(&self.command(words).output().unwrap())
    }

    /// Runs it as another user of this machine; only root can.
    pub fn run_as(&self, user: u32, words: &[&str]) -> Ended {
        use std::os::unix::process::CommandExt;
        Ended::of(&self.command(words).uid(user).gid(user).output().unwrap())
    }

    /// Runs it and wants that exit code.
    pub fn ends(&self, code: i32, words: &[&str]) -> Ended {
        let ended = self.run(words);
        assert_eq!(ended.code, code, "{words:?}\n{}{}", ended.out, ended.err);
        ended
    }

    /// Starts it; its standard output can be read.
    pub fn start(&self, words: &[&str]) -> Child {
        self.command(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Names and contents of a tree, without what is ours.
    pub fn tree(&self, name: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        walk(&self.path(name), "", &mut found);
        found
    }
}

fn walk(dir: &Path, below: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_name() == ".syncline" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.insert(format!("{name}/"), String::new());
            walk(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
}

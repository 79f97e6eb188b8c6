//! What a person or a program sees of a run: text or JSON lines.
//!
//! Invariant: nothing from a disk or a network reaches the output unescaped (security rule SX2).

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use syncline_model::{Fault, Pair, RelPath, Side, Time};
use syncline_sync::{Exit, Monitor, OpenConflict, Report, RunInfo};

mod json;
mod text;

pub use json::Json;
pub use text::Text;

/// One way to show what happens.
pub trait Face: Monitor {
    /// A command failed.
    fn fault(&self, fault: &Fault);
    /// One line of a list.
    fn item(&self, item: &Item<'_>);
    /// A question, asked on a terminal only.
    fn suspend(&self, ask: &mut dyn FnMut());
    /// The end: the summary, or for `list` only what JSON wants.
    fn ending(&self, ending: &Ending, list: bool);
    /// True when something could not be written, other than to a reader that went away.
    fn broken(&self) -> bool;
}

/// A line of a list.
#[derive(Debug)]
pub enum Item<'a> {
    /// A run of the log.
    Run(&'a RunInfo),
    /// A conflict that waits.
    Conflict(&'a OpenConflict, &'a Pair<String>),
    /// Something in the trash.
    Trash(Removed<'a>),
    /// What `doctor` found.
    Check(&'a Check),
    /// A session.
    Session {
        /// The two places.
        left: &'a str,
        /// The second one.
        right: &'a str,
    },
    /// Something to know.
    Note(&'a str),
}

/// Something in the trash.
#[derive(Debug)]
pub struct Removed<'a> {
    /// Where.
    pub side: Side,
    /// The run that displaced it.
    pub run: &'a str,
    /// As it was called.
    pub path: &'a RelPath,
    /// Length in bytes.
    pub size: u64,
    /// When.
    pub time: Time,
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// Whether all is well; `None`: for information.
    pub ok: Option<bool>,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// What was done.
    pub report: Report,
    /// Shown, not done.
    pub dry_run: bool,
    /// What went over the network.
    pub traffic: Traffic,
}

impl Ending {
    /// The end of a command that is no run.
    pub fn plain(exit: Exit) -> Self {
        let report = Report {
            run: None,
            exit,
            left: syncline_sync::Counts::default(),
            right: syncline_sync::Counts::default(),
            conflicts: 0,
            problems: 0,
            reasons: Vec::new(),
            seconds: 0.0,
        };
        Self {
            report,
            dry_run: false,
            traffic: Traffic::default(),
        }
    }
}

/// What went over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Requests by kind.
    pub requests: Requests,
}

/// Requests by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Requests {
    /// Uploads, parts and copies.
    pub put: u64,
    /// Downloads.
    pub get: u64,
    /// Listings, a page each.
    pub list: u64,
    /// Questions by name.
    pub head: u64,
    /// Removals.
    pub delete: u64,
}

/// Escapes control and bidirectional characters; unlike [`syncline_model::path::escape`] it leaves backslashes, so that what is escaped
/// already stays as it is.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_risky(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// True for what may move a terminal's cursor or turn its text round.
fn is_risky(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Notes a failed write, unless the reader went away: that is no fault of the run.
fn note_failure(broken: &AtomicBool, result: std::io::Result<()>) {
    if result.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
        broken.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use syncline_model::{
        Action, Change, Clash, Conflict, Content, Entry, From as Origin, Meta, Pair, RelPath, Side, Step,
    };
    use syncline_sync::{Counts, Exit};

    use super::Ending;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    pub fn step(side: Side, action: Action, at: &[u8], from: Option<&[u8]>) -> Step {
        let new = match action {
            Action::Create => Entry::File(Meta::default(), Content::unread(7), None),
            _ => Entry::Dir(Meta::default()),
        };
        let from = from.map(|from| Origin::Move(path(from)));
        Step {
            side,
            action,
            change: Change {
                path: path(at),
                old: None,
                new: Some(new),
                from,
            },
            source: None,
        }
    }

    pub fn conflict(at: &[u8]) -> Conflict {
        let mut other = at.to_vec();
        other.extend_from_slice(b" (conflict)");
        Conflict {
            path: path(at),
            clash: Clash::Edited,
            sides: Pair::default(),
            kept: vec![path(at), path(&other)],
            winner: Some(Side::Left),
        }
    }

    pub fn ending() -> Ending {
        let mut ending = Ending::plain(Exit::Conflict);
        ending.report.run = Some("r1".into());
        ending.report.left = Counts {
            created: 1,
            bytes: 7,
            ..Counts::default()
        };
        ending.report.conflicts = 1;
        ending.report.seconds = 0.5;
        ending
    }
}

//! Faults and reports as exit codes and JSON words: the one place where they are mapped (cli.md "What comes back").
//!
//! Invariant: no fault maps to 0.

use std::process::ExitCode;

use syncline_model::{Fault, Kind};
use syncline_sync::Exit;

/// How a command ends that failed with `fault`.
pub fn of(fault: &Fault) -> Exit {
    match fault.kind {
        Kind::Invalid | Kind::Unsupported | Kind::Exists => Exit::Usage,
        Kind::NotFound | Kind::Offline | Kind::Denied => Exit::Unreachable,
        Kind::Busy => Exit::Busy,
        Kind::Changed => Exit::Refused,
        Kind::Full | Kind::Corrupt => Exit::Partial,
        Kind::Cancelled => Exit::Stopped,
        Kind::Bug => Exit::Bug,
    }
}

/// A fault's kind in one word, for JSON.
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "not_found",
        Kind::Exists => "exists",
        Kind::Changed => "changed",
        Kind::Denied => "denied",
        Kind::Full => "full",
        Kind::Offline => "offline",
        Kind::Busy => "busy",
        Kind::Corrupt => "corrupt",
        Kind::Invalid => "invalid",
        Kind::Unsupported => "unsupported",
        Kind::Cancelled => "cancelled",
        Kind::Bug => "bug",
    }
}

/// The process's exit code.
pub fn code(exit: Exit) -> ExitCode {
    ExitCode::from(u8::from(exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 12] = [
        Kind::NotFound,
        Kind::Exists,
        Kind::Changed,
        Kind::Denied,
        Kind::Full,
        Kind::Offline,
        Kind::Busy,
        Kind::Corrupt,
        Kind::Invalid,
        Kind::Unsupported,
        Kind::Cancelled,
        Kind::Bug,
    ];

    #[test]
    fn no_fault_ends_in_success() {
        for kind in KINDS {
            assert!(of(&Fault::new(kind, "x", "y")) > Exit::Conflict, "{kind:?}");
        }
    }

    #[test]
    fn the_gravest_code_wins() {
        let codes: Vec<u8> = [
            Exit::Done,
            Exit::Conflict,
            Exit::Partial,
            Exit::Stopped,
            Exit::Refused,
            Exit::Busy,
            Exit::Unreachable,
            Exit::Usage,
            Exit::Bug,
        ]
        .into_iter()
        .map(u8::from)
        .collect();
        assert_eq!(codes, [0, 1, 2, 6, 3, 5, 4, 64, 70]);
        assert_eq!(Exit::Refused.max(Exit::Stopped), Exit::Refused);
    }
}

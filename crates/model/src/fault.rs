//! The one error of Syncline: its kind says what the receiver should do.
//!
//! A *problem* concerns one path and the run goes on; a *conflict* is a result of planning; a `Fault` stops the
//! operation that returns it. Each edge maps once: errno where files are touched, exit codes in the command line.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the receiver of a fault should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is not there.
    NotFound,
    /// Something is there already.
    Exists,
    /// What was expected there is no longer there: look again.
    Changed,
    /// Not permitted, or credentials refused.
    Denied,
    /// No room, quota used up.
    Full,
    /// Cannot be reached now.
    Offline,
    /// Somebody else holds it, or asks to slow down.
    Busy,
    /// What was read is not what was written.
    Corrupt,
    /// The request or input is wrong.
    Invalid,
    /// This place cannot do that.
    Unsupported,
    /// Stopped by a person, a signal or a limit.
    Cancelled,
    /// Our own mistake.
    Bug,
}

impl Kind {
    /// What a person can do about one path in trouble of this kind.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Changed | Self::NotFound | Self::Exists => "the next run decides anew",
            Self::Full => "make room there and run again: it goes on where it stopped",
            Self::Denied => "check permissions there and run again",
            Self::Invalid | Self::Unsupported => "rename or exclude it, then run again",
            Self::Corrupt => "look at it there, and restore it from the other side or a backup",
            Self::Offline | Self::Busy | Self::Cancelled | Self::Bug => "run again once the cause is gone",
        }
    }
}

/// An operation that failed: what was tried, where, and what to do next.
pub struct Fault {
    /// What the receiver should do.
    pub kind: Kind,
    /// True when the same request may succeed a little later.
    pub retry: bool,
    /// True when whatever else is written at that place will meet the same: it is full, or may only be read.
    pub whole: bool,
    /// What was tried and what came of it, in words ("rename: permission denied").
    pub what: String,
    /// The path and the store it concerns.
    pub at: String,
    /// What a person should do next.
    pub hint: Option<String>,
    /// What lies below.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault that will not go away by trying again.
    pub fn new(kind: Kind, what: impl Into<String>, at: impl fmt::Display) -> Self {
        let retry = matches!(kind, Kind::Offline | Kind::Busy);
        Self {
            kind,
            retry,
            whole: kind == Kind::Full,
            what: what.into(),
            at: at.to_string(),
            hint: None,
            source: None,
        }
    }

    /// Adds what a person should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what lies below.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says whether the same request may succeed a little later.
    #[must_use]
    pub fn retry(mut self, retry: bool) -> Self {
        self.retry = retry;
        self
    }

    /// Says whether whatever else is written at that place will meet the same.
    #[must_use]
    pub fn whole(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }

    /// Names the place when the one below could not.
    #[must_use]
    pub fn at(mut self, at: impl fmt::Display) -> Self {
        if self.at.is_empty() {
            self.at = at.to_string();
        }
        self
    }

    /// True when `kind` is this fault's.
    pub fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.at, self.what)
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        self.source
            .as_ref()
            .map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}

/// What is kept of a fault that concerns one path: it becomes a problem there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trouble {
    /// What the receiver should do.
    pub kind: Kind,
    /// What happened.
    pub message: String,
    /// What a person should do next.
    pub hint: Option<String>,
}

impl Trouble {
    /// Trouble of this kind, with the advice that goes with it.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: Some(kind.advice().to_owned()),
        }
    }

    /// Says what a person should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&Fault> for Trouble {
    /// The place is named by the path that the problem comes with.
    fn from(fault: &Fault) -> Self {
        let trouble = Self::new(fault.kind, &fault.what);
        match &fault.hint {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        }
    }
}

/// A result whose error is a [`Fault`].
pub type Result<T, E = Fault> = std::result::Result<T, E>;

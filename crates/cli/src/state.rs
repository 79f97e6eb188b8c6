//! Where the state of sessions lies: one directory for each pair of places, with a record of both.
//!
//! Invariant: a directory of state belongs to exactly one pair of places, left and right not exchangeable.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use syncline_model::{Fault, Kind, Result};

use crate::files::Files;
use crate::place::shown;

const RECORD: &str = "session.json";
const VERSION: u32 = 1;

/// The home of all state.
pub struct States {
    files: Files,
    root: PathBuf,
}

/// A session that has been begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its state.
    pub dir: PathBuf,
    /// The first place, as [`crate::place::Place::text`].
    pub left: OsString,
    /// The second place.
    pub right: OsString,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    left: Written,
    right: Written,
}

/// Text of a file: a string, or the bytes of what is none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { bytes: String },
}

impl Written {
    fn of(text: &OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Text(text.to_string()),
            None => Self::Bytes {
                bytes: base64::engine::general_purpose::STANDARD.encode(text.as_bytes()),
            },
        }
    }

    fn text(self) -> Option<OsString> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Bytes { bytes } => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).ok()?;
                Some(OsString::from_vec(bytes))
            }
        }
    }
}

impl States {
    /// State below `root`.
    pub fn new(files: Files, root: PathBuf) -> Self {
        Self { files, root }
    }

    /// The home of all state.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the state of these two places lies or would lie.
    pub fn dir(&self, left: &OsStr, right: &OsStr) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        for text in [left, right] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        self.root.join("sessions").join(&hasher.finalize().to_hex()[..32])
    }

    /// The session of these two places, if it has been begun. Where its record is damaged, the places themselves say what it said.
    pub fn known(&self, left: &OsStr, right: &OsStr) -> Result<Option<Known>> {
        let dir = self.dir(left, right);
        match self.read(dir.clone()) {
            Err(fault) if fault.is(Kind::Corrupt) => Ok(Some(Known {
                dir,
                left: left.into(),
                right: right.into(),
            })),
            read => read,
        }
    }

    /// Makes a directory of the state, and those above it that are missing.
    pub fn make(&self, dir: &Path) -> Result<()> {
        let made = self.files.make_dirs(dir);
        made.map(drop)
            .map_err(|fault| fault.hint("state cannot be kept there; name another place with --state"))
    }

    /// Records that the session of these two places has been begun, and returns it.
    pub fn begin(&self, left: &OsStr, right: &OsStr) -> Result<Known> {
        let dir = self.dir(left, right);
        match self.read(dir.clone()) {
            Err(fault) if fault.is(Kind::Corrupt) => {}
            read => {
                if let Some(known) = read? {
                    return Ok(known);
                }
            }
        }
        self.make(&dir)?;
        let record = Record {
            version: VERSION,
            left: Written::of(left),
            right: Written::of(right),
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| {
            Fault::new(
                Kind::Bug,
                format!("session record: {error}"),
                shown(dir.as_os_str()),
            )
        })?;
        self.files.write(&dir.join(RECORD), &text)?;
        Ok(Known {
            dir,
            left: left.into(),
            right: right.into(),
        })
    }

    /// All sessions that have been begun and whose record can be read.
    pub fn list(&self) -> Result<Vec<Known>> {
        let mut found = Vec::new();
        for read in self.all()? {
            match read {
                Err(fault) if is_of_one(&fault) => {}
                read => found.extend(read?),
            }
        }
        found.sort_by(|a, b| (&a.left, &a.right).cmp(&(&b.left, &b.right)));
        Ok(found)
    }

    /// What is wrong with the records of sessions that cannot be read.
    pub fn broken(&self) -> Result<Vec<Fault>> {
        let broken = |read: Result<Option<Known>>| read.err().filter(is_of_one);
        Ok(self.all()?.into_iter().filter_map(broken).collect())
    }

    fn all(&self) -> Result<Vec<Result<Option<Known>>>> {
        let home = self.root.join("sessions");
        let names = self.files.names(&home)?.into_iter();
        Ok(names
            .map(|name| self.read(home.join(OsStr::from_bytes(&name))))
            .collect())
    }

    fn read(&self, dir: PathBuf) -> Result<Option<Known>> {
        let path = dir.join(RECORD);
        let read = self.files.read(&path).map_err(|fault| match fault.kind {
            // Something else than a directory stands there or above.
            Kind::Changed => Fault::new(
                Kind::Invalid,
                "this is no directory for state",
                shown(self.root.as_os_str()),
            )
            .hint("name a directory with --state DIR or SYNCLINE_STATE; it is made if missing"),
            _ => fault,
        });
        let Some(text) = read? else {
            return Ok(None);
        };
        let broken = |why: &str| {
            Fault::new(Kind::Corrupt, why, shown(path.as_os_str()))
                .hint("the next sync of its two places writes it anew; if they are gone for good, remove this directory of state")
        };
        let record: Record =
            serde_json::from_slice(&text.bytes).map_err(|_| broken("no record of a session"))?;
        if record.version != VERSION {
            return Err(Fault::new(
                Kind::Unsupported,
                format!(
                    "a record of version {}; this program knows {VERSION}",
                    record.version
                ),
                shown(path.as_os_str()),
            ));
        }
        match (record.left.text(), record.right.text()) {
            (Some(left), Some(right)) => Ok(Some(Known { dir, left, right })),
            _ => Err(broken("no record of a session")),
        }
    }

    /// This writer's name at buckets: made once, the same from run to run, unlike any other.
    pub fn device(&self, dice: &dyn syncline_model::Dice) -> Result<String> {
        let path = self.root.join("device");
        if let Some(text) = self.files.read(&path)? {
            let name = String::from_utf8_lossy(&text.bytes).trim().to_string();
            if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok(name);
            }
        }
        let name = format!("{:016x}{:016x}", dice.roll(), dice.roll());
        self.make(&self.root)?;
        self.files.write(&path, name.as_bytes())?;
        Ok(name)
    }
}

/// True when other sessions have nothing to do with it.
fn is_of_one(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Corrupt | Kind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_both_places_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(Files::new(), dir.path().join("state"));
        assert!(states.list().unwrap().is_empty());
        let odd = OsString::from_vec(b"/b\xff".to_vec());
        let made = states.begin("/a".as_ref(), &odd).unwrap();
        assert_eq!(states.begin("/a".as_ref(), &odd).unwrap(), made);
        assert_eq!(states.known("/a".as_ref(), &odd).unwrap(), Some(made.clone()));
        assert_eq!(states.known(&odd, "/a".as_ref()).unwrap(), None);
        assert_ne!(
            states.dir("/ab".as_ref(), "c".as_ref()),
            states.dir("/a".as_ref(), "bc".as_ref())
        );
        assert_eq!(states.list().unwrap(), std::slice::from_ref(&made));
        states.files.remove_tree(&made.dir).unwrap();
        assert!(states.list().unwrap().is_empty());
    }

    #[test]
    fn a_broken_or_newer_record_concerns_its_own_session_alone() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(Files::new(), dir.path().into());
        let made = states.begin("/a".as_ref(), "/b".as_ref()).unwrap();
        for (text, kind) in [
            ("{", Kind::Corrupt),
            (r#"{"version":9,"left":"a","right":"b"}"#, Kind::Unsupported),
        ] {
            states
                .files
                .write(&made.dir.join(RECORD), text.as_bytes())
                .unwrap();
            assert!(states.list().unwrap().is_empty());
            let broken = states.broken().unwrap();
            assert!(broken.len() == 1 && broken[0].is(kind), "{broken:?}");
        }
        assert!(
            states
                .known("/a".as_ref(), "/b".as_ref())
                .unwrap_err()
                .is(Kind::Unsupported)
        );
        states.files.write(&made.dir.join(RECORD), b"{").unwrap();
        assert_eq!(
            states.known("/a".as_ref(), "/b".as_ref()).unwrap(),
            Some(made.clone())
        );
        assert_eq!(states.begin("/a".as_ref(), "/b".as_ref()).unwrap(), made);
        assert_eq!(states.list().unwrap(), [made]);
    }
}

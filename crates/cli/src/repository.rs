//! Repositories: a directory with `.syncline/repository.toml` that names its place and keeps options.
//!
//! Invariant: the nearest repository above counts; a repository within another is its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use syncline_model::{Fault, Kind, Result, replica::OWN_DIR};

use crate::config::read_toml;
use crate::files::Files;
use crate::kept::Kept;
use crate::place::shown;
use crate::values::ConflictRule;

const FILE: &str = "repository.toml";

/// A repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    /// Its directory, without links and `..`.
    pub dir: PathBuf,
    /// What it is kept the same with, as [`crate::place::Place::text`].
    pub place: OsString,
    /// Options that it keeps.
    pub kept: Kept,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    place: String,
    #[serde(default)]
    options: Kept,
}

impl Repository {
    /// The repository at `dir`, if it is one.
    pub fn at(files: &Files, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(OWN_DIR).join(FILE);
        let text = match files.read(&path) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            // A file where a directory should be: no repository either.
            Err(fault) if fault.is(Kind::Changed) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let words = String::from_utf8(text.bytes)
            .map_err(|_| Fault::new(Kind::Invalid, "not UTF-8", shown(path.as_os_str())))?;
        let record: Record = read_toml(&words).map_err(|fault| fault.at(shown(path.as_os_str())))?;
        let (owner, me) = (text.stat.owner.uid, rustix::process::geteuid().as_raw());
        let runs_commands = matches!(record.options.conflict, Some(ConflictRule::Merge(_)));
        if owner != me && owner != 0 && (me != 0 || runs_commands) {
            return Err(Fault::new(
                Kind::Denied,
                "this repository belongs to another user",
                shown(path.as_os_str()),
            )
            .hint(
                "what it keeps would be obeyed in your name: run as its owner, or clone the place yourself",
            ));
        }
        Ok(Some(Self {
            dir: dir.to_path_buf(),
            place: record.place.into(),
            kept: record.options,
        }))
    }

    /// The nearest repository at or above `dir`.
    pub fn above(files: &Files, dir: &Path) -> Result<Option<Self>> {
        let held = files.dir(dir)?;
        let whole = files.canonical(&held)?;
        for dir in whole.ancestors() {
            if let Some(found) = Self::at(files, dir)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Writes it down.
    pub fn save(&self, files: &Files) -> Result<()> {
        let own = self.dir.join(OWN_DIR);
        files.make_last(&own, 0o700)?;
        let place = self.place.to_str().ok_or_else(|| {
            Fault::new(
                Kind::Invalid,
                "the place of a repository is named in UTF-8",
                shown(&self.place),
            )
        })?;
        let record = Record {
            place: place.into(),
            options: self.kept.clone(),
        };
        let text = toml::to_string(&record).map_err(|error| {
            Fault::new(
                Kind::Bug,
                format!("repository record: {error}"),
                shown(own.as_os_str()),
            )
        })?;
        files.write(&own.join(FILE), text.as_bytes())
    }

    /// Makes the directory an ordinary one again. What else of ours lies in it stays.
    pub fn forget(&self, files: &Files) -> Result<()> {
        files.remove(&self.dir.join(OWN_DIR).join(FILE), false)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real disk")]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_repository_above_counts() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::new();
        let outer = temp.path().canonicalize().unwrap();
        let inner = outer.join("a/b");
        files.make_dirs(&inner.join("c")).unwrap();
        assert_eq!(Repository::above(&files, &inner).unwrap(), None);
        let kept: Kept = toml::from_str("mode = \"mirror\"\nfilter = [{exclude = \"*.o\"}]").unwrap();
        for (dir, place) in [(&outer, "s3://outer"), (&inner, "s3://inner")] {
            let made = Repository {
                dir: dir.clone(),
                place: place.into(),
                kept: kept.clone(),
            };
            made.save(&files).unwrap();
            assert_eq!(Repository::at(&files, dir).unwrap().unwrap(), made);
        }
        let found = |dir: &Path| Repository::above(&files, dir).unwrap().unwrap().place;
        assert_eq!(found(&inner.join("c")), "s3://inner");
        assert_eq!(found(&outer.join("a")), "s3://outer");
        Repository::at(&files, &inner)
            .unwrap()
            .unwrap()
            .forget(&files)
            .unwrap();
        assert_eq!(found(&inner), "s3://outer");
    }

    #[test]
    fn sx1_the_command_of_another_user_is_not_obeyed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let files = Files::new();
        let kept: Kept = toml::from_str("conflict = \"merge=evil\"").unwrap();
        let made = Repository {
            dir: temp.path().into(),
            place: "s3://b".into(),
            kept,
        };
        made.save(&files).unwrap();
        assert!(Repository::at(&files, temp.path()).is_ok());
        let file = temp.path().join(OWN_DIR).join(FILE);
        std::os::unix::fs::chown(file, Some(12345), None).unwrap();
        assert!(Repository::at(&files, temp.path()).is_err_and(|fault| fault.is(Kind::Denied)));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::new();
        files.make_dirs(&temp.path().join(OWN_DIR)).unwrap();
        files
            .write(
                &temp.path().join(OWN_DIR).join(FILE),
                b"place = \"x\"\n[options]\nmod = 1\n",
            )
            .unwrap();
        let fault = Repository::at(&files, temp.path()).unwrap_err();
        assert!(
            fault.is(Kind::Invalid) && fault.to_string().contains("line 3"),
            "{fault}"
        );
    }
}

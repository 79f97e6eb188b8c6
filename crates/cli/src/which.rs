//! Which session is meant: named, the repository one stands in, or the only one there is.
//!
//! Invariant: where several could be meant none is taken; they are listed and the command ends with 64.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use syncline_model::{Fault, Kind, Name, RelPath, Result};

use crate::intent::Which;
use crate::kept::Kept;
use crate::open::World;
use crate::place::shown;
use crate::render::{Face, Item};
use crate::repository::Repository;

/// A session that is meant.
pub struct Meant {
    /// The first place.
    pub left: OsString,
    /// The second place.
    pub right: OsString,
    /// The repository that binds them, if one does.
    pub repository: Option<Repository>,
    /// Where one stands within it: typed paths start there.
    pub below: RelPath,
}

impl Meant {
    fn places(left: OsString, right: OsString) -> Self {
        Self {
            left,
            right,
            repository: None,
            below: RelPath::root(),
        }
    }

    fn repository(found: Repository, whole: &Path) -> Result<Self> {
        let below = whole.strip_prefix(&found.dir).unwrap_or(Path::new(""));
        let below = RelPath::new(below.as_os_str().as_bytes())
            .map_err(|error| Fault::new(Kind::Invalid, error.to_string(), shown(whole.as_os_str())))?;
        let (left, right) = (found.dir.clone().into_os_string(), found.place.clone());
        Ok(Self {
            left,
            right,
            repository: Some(found),
            below,
        })
    }

    /// What the command line gives, over what the repository keeps, over the config file's defaults.
    pub fn kept(&self, mut typed: Kept, world: &World) -> Result<Kept> {
        typed.name_trash(world)?;
        let kept = self
            .repository
            .as_ref()
            .map(|found| found.kept.clone())
            .unwrap_or_default();
        Ok(typed.over(kept).over(world.config.defaults.clone()))
    }

    /// Typed paths as paths below the roots. Absolute ones must lie within the left root.
    pub fn paths(&self, typed: &[OsString]) -> Result<Vec<RelPath>> {
        typed
            .iter()
            .map(|text| below(text, Path::new(&self.left), &self.below))
            .collect()
    }
}

/// `typed`, starting from `stand` below `root`, without `.` and `..`. Nothing in it is a pattern (scenario S18).
fn below(typed: &OsStr, root: &Path, stand: &RelPath) -> Result<RelPath> {
    let outside = || {
        Fault::new(Kind::Invalid, "this path lies outside", shown(typed)).hint(
            "a PATH of --only, push, pull, resolve or restore lies below the roots, or within the left one",
        )
    };
    if typed.is_empty() {
        return Err(Fault::new(Kind::Invalid, "an empty PATH", "")
            .hint("name one below the roots; without --only PATH or PATH everything is meant"));
    }
    let path = Path::new(typed);
    let (mut at, rest) = if path.is_absolute() {
        (RelPath::root(), path.strip_prefix(root).map_err(|_| outside())?)
    } else {
        (stand.clone(), path)
    };
    for part in rest.components() {
        at = match part {
            Component::Normal(name) => {
                let name = Name::new(name.as_bytes())
                    .map_err(|error| Fault::new(Kind::Invalid, error.to_string(), shown(typed)))?;
                at.join(&name)
            }
            Component::ParentDir => at.parent().ok_or_else(outside)?,
            Component::CurDir => at,
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        };
    }
    Ok(at)
}

impl World {
    /// Finds the session that is meant.
    pub fn meant(&self, which: &Which, face: &dyn Face) -> Result<Meant> {
        match which {
            Which::Of(left, right) => Ok(Meant::places(left.clone(), right.clone())),
            Which::Here => self.here()?.ok_or_else(|| {
                Fault::new(
                    Kind::Invalid,
                    "this is no repository",
                    shown(self.setting.base.as_os_str()),
                )
                .hint("name two places, or make one with `syncline init PLACE`")
            }),
            Which::At(dir) => self.at(dir)?.ok_or_else(|| {
                Fault::new(Kind::Invalid, "this is no repository", shown(dir.as_os_str()))
                    .hint("name the directory that has .syncline/repository.toml, or LEFT and RIGHT")
            }),
            Which::Any => match self.here()? {
                Some(found) => Ok(found),
                None => self.only(face),
            },
        }
    }

    fn here(&self) -> Result<Option<Meant>> {
        let whole = self.whole(&self.setting.base)?;
        Repository::above(&self.files, &whole)?
            .map(|found| Meant::repository(found, &whole))
            .transpose()
    }

    fn at(&self, dir: &Path) -> Result<Option<Meant>> {
        let whole = self.whole(dir)?;
        Repository::at(&self.files, &whole)?
            .map(|found| Meant::repository(found, &whole))
            .transpose()
    }

    /// A directory's one absolute path.
    pub fn whole(&self, dir: &Path) -> Result<PathBuf> {
        let held = self.files.dir(dir)?;
        self.files.canonical(&held)
    }

    fn only(&self, face: &dyn Face) -> Result<Meant> {
        let (known, broken) = (self.states.list()?, self.states.broken()?);
        if let (1, true, Some(only)) = (known.len(), broken.is_empty(), known.first()) {
            let only = only.clone();
            return Ok(Meant::places(only.left, only.right));
        }
        if known.is_empty() && broken.is_empty() {
            return Err(Fault::new(Kind::Invalid, "no session has been begun", "")
                .hint("begin one with `syncline sync LEFT RIGHT` or `syncline init PLACE`"));
        }
        for known in &known {
            face.item(&Item::Session {
                left: &shown(&known.left),
                right: &shown(&known.right),
            });
        }
        for broken in &broken {
            face.item(&Item::Note(&broken.to_string()));
        }
        let what = format!("{} sessions could be meant", known.len() + broken.len());
        Err(Fault::new(Kind::Invalid, what, "").hint("say --of LEFT RIGHT, or stand in a repository"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(typed: &str, stand: &str) -> Result<String> {
        let stand = RelPath::try_from(stand).unwrap();
        below(typed.as_ref(), Path::new("/r"), &stand)
            .map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn s18_typed_paths_are_exact() {
        assert_eq!(path("a[1]", "").unwrap(), "a[1]");
        assert_eq!(path("*", "d").unwrap(), "d/*");
        assert_eq!(path("./x/../y/", "d").unwrap(), "d/y");
        assert_eq!(path("..", "d").unwrap(), "");
        assert_eq!(path("/r/a/b", "d").unwrap(), "a/b");
        for outside in ["..", "../x", "/etc/passwd", "/rr/x"] {
            assert!(path(outside, "").is_err(), "{outside}");
        }
    }
}

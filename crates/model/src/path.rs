//! Names and paths below a replica's root, as bytes, and the one order of trees.
//!
//! Invariant: a [`Name`] or [`RelPath`] that exists is safe to hand to a system call below a root: no empty,
//! `.`, `..`, NUL or `/` inside a component, ever (security rule SP1). Nothing else builds one.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest component that a file system of ours may hold, in bytes.
pub const NAME_MAX: usize = 255;
/// Deepest path that is accepted, in components (security rule SL3).
pub const DEPTH_MAX: usize = 4096;

/// Why bytes are no name or path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// A component is empty (`//`, leading or trailing `/`).
    #[error("a component is empty")]
    Empty,
    /// A component is `.` or `..`.
    #[error("a component is '.' or '..'")]
    Dots,
    /// A component holds NUL, or a name holds `/`.
    #[error("a component holds NUL or '/'")]
    Byte,
    /// More than [`DEPTH_MAX`] components.
    #[error("more than {DEPTH_MAX} levels deep")]
    Deep,
}

fn check_component(bytes: &[u8]) -> Result<(), BadPath> {
    match bytes {
        b"" => Err(BadPath::Empty),
        b"." | b".." => Err(BadPath::Dots),
        _ if bytes.iter().any(|&b| b == 0 || b == b'/') => Err(BadPath::Byte),
        _ => Ok(()),
    }
}

/// One component of a path: any bytes but `/` and NUL; never empty, `.` or `..`.
///
/// Bytes of a peer become one by its check alone (security rule SP1):
///
/// ```
/// # use syncline_model::Name;
/// assert!(Name::new(*b"plain").is_ok() && Name::new(*b"../up").is_err());
/// ```
/// ```compile_fail,E0423
/// # use syncline_model::Name;
/// let sp1_no_name_without_its_check = Name(Box::from(*b"../up"));
/// ```
/// ```compile_fail,E0277
/// # use syncline_model::Name;
/// let sp1_no_name_by_conversion: Name = b"../up".to_vec().into();
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks and takes `bytes`.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, BadPath> {
        let bytes = bytes.into();
        check_component(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A path below a root: components joined by `/`. The root itself is the empty path.
///
/// Bytes of a peer become one by its check alone (security rule SP1), and nothing is joined to one but a [`Name`]:
///
/// ```compile_fail,E0423
/// # use syncline_model::RelPath;
/// let sp1_no_path_without_its_check = RelPath(Box::from(*b"../up"));
/// ```
/// ```compile_fail,E0308
/// # use syncline_model::RelPath;
/// let sp1_nothing_unchecked_is_joined = RelPath::root().join("../up");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The root of a replica.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks `bytes`: components joined by single `/`, none at either end; empty means the root.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, BadPath> {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            let mut depth = 0;
            for component in bytes.split(|&b| b == b'/') {
                check_component(component)?;
                depth += 1;
            }
            if depth > DEPTH_MAX {
                return Err(BadPath::Deep);
            }
        }
        Ok(Self(bytes))
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// This path with one more component.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        if self.is_root() {
            return Self(name.0.clone());
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        Self(bytes.into())
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<Name> {
        if self.is_root() {
            return None;
        }
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        Some(Name(self.0[start..].into()))
    }

    /// The components from the top.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = Name> + '_ {
        self.0
            .split(|&b| b == b'/')
            .filter(|c| !c.is_empty())
            .map(|c| Name(c.into()))
    }

    /// True when this path is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || (self.0.starts_with(&ancestor.0)
                && (self.0.len() == ancestor.0.len() || self.0[ancestor.0.len()] == b'/'))
    }

    /// This path with its prefix `from` replaced by `to`; `None` when it is not within `from`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let tail: &[u8] = if from.is_root() {
            &self.0
        } else {
            self.0.get(from.0.len() + 1..).unwrap_or(b"")
        };
        let mut bytes = to.0.to_vec();
        if !tail.is_empty() {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(tail);
        }
        Some(Self(bytes.into()))
    }
}

impl From<Name> for RelPath {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

/// A place in the one order of trees: a path, with `/` at its end when it names a directory. Slots sort by
/// their bytes, so parents come before children and subtrees are contiguous, as in a flat bucket listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(Box<[u8]>);

impl Slot {
    /// The slot of `path`, which must not be the root.
    pub fn of(path: &RelPath, is_dir: bool) -> Self {
        if !is_dir {
            return Self(path.0.clone());
        }
        let mut bytes = Vec::with_capacity(path.0.len() + 1);
        bytes.extend_from_slice(&path.0);
        bytes.push(b'/');
        Self(bytes.into())
    }

    /// The slot of `name` in the directory `dir` (`None`: at the top level). Only `name` is looked at, not how deep
    /// `dir` lies: whoever descends counts.
    pub fn child(dir: Option<&Slot>, name: &[u8], is_dir: bool) -> Result<Self, BadPath> {
        check_component(name)?;
        let above = dir.map_or(&b""[..], |dir| dir.path_bytes());
        // Exactly as much as it takes: millions of these are kept.
        let slashes = usize::from(!above.is_empty()) + usize::from(is_dir);
        let mut bytes = Vec::with_capacity(above.len() + name.len() + slashes);
        if !above.is_empty() {
            bytes.extend_from_slice(above);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if is_dir {
            bytes.push(b'/');
        }
        Ok(Self(bytes.into()))
    }

    /// Checks bytes that come from a table or a peer.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, BadPath> {
        let bytes = bytes.into();
        let path = bytes.strip_suffix(b"/").unwrap_or(&bytes);
        if path.is_empty() {
            return Err(BadPath::Empty);
        }
        RelPath::new(path)?;
        Ok(Self(bytes))
    }

    /// True when the slot is a directory's.
    pub fn is_dir(&self) -> bool {
        self.0.last() == Some(&b'/')
    }

    /// The path without the mark of a directory.
    pub fn path(&self) -> RelPath {
        RelPath(self.path_bytes().into())
    }

    /// The bytes of the path without the mark of a directory.
    pub fn path_bytes(&self) -> &[u8] {
        self.0.strip_suffix(b"/").unwrap_or(&self.0)
    }

    /// The bytes that sort.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when this slot lies below the directory slot `dir`.
    pub fn is_below(&self, dir: &Slot) -> bool {
        dir.is_dir() && self.0.len() > dir.0.len() && self.0.starts_with(&dir.0)
    }

    /// The slot of the directory that holds this one; `None` at the top level.
    pub fn parent(&self) -> Option<Slot> {
        let path = self.path_bytes();
        path.iter()
            .rposition(|&b| b == b'/')
            .map(|at| Slot(self.0[..=at].into()))
    }
}

/// Writes bytes so that a terminal is safe: UTF-8 as it is, control and bidirectional characters and stray bytes
/// as `\xNN` or `\u{NNNN}` (security rule SX2).
pub fn escape(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.write_str("\\\\")?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                    write!(out, "\\u{{{:x}}}", c as u32)?;
                }
                c if c.is_control() => {
                    let mut buf = [0; 4];
                    for b in c.encode_utf8(&mut buf).bytes() {
                        write!(out, "\\x{b:02x}")?;
                    }
                }
                c => out.write_char(c)?,
            }
        }
        for b in chunk.invalid() {
            write!(out, "\\x{b:02x}")?;
        }
    }
    Ok(())
}

macro_rules! bytes_type {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                escape(&self.0, f)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{self}\"")
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde_bytes::serialize(&self.0, serializer)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes: serde_bytes::ByteBuf = serde_bytes::deserialize(deserializer)?;
                Self::new(bytes.into_vec()).map_err(serde::de::Error::custom)
            }
        }
        impl TryFrom<&str> for $type {
            type Error = BadPath;
            fn try_from(text: &str) -> Result<Self, BadPath> {
                Self::new(text.as_bytes())
            }
        }
    };
}
bytes_type!(Name);
bytes_type!(RelPath);
bytes_type!(Slot);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sp1_nothing_but_plain_components_becomes_a_path() {
        for bad in ["/", "a/", "/a", "a//b", ".", "..", "a/..", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "\0"] {
            assert!(Name::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(RelPath::new(" -rf\n*?[]\\\u{fe}".as_bytes()).is_ok());
    }

    #[test]
    fn order_puts_parents_first_and_keeps_subtrees_together() {
        let mut slots: Vec<Slot> = ["a/", "a-b", "a", "a/b", "a0", "a/b/"]
            .iter()
            .map(|s| Slot::try_from(*s).unwrap())
            .collect();
        slots.sort();
        let text: Vec<String> = slots.iter().map(Slot::to_string).collect();
        assert_eq!(text, ["a", "a-b", "a/", "a/b", "a/b/", "a0"]);
    }

    #[test]
    fn rebase_moves_a_subtree() {
        let path = |s: &str| RelPath::try_from(s).unwrap();
        assert_eq!(
            path("a/b/c").rebase(&path("a"), &path("x/y")),
            Some(path("x/y/b/c"))
        );
        assert_eq!(path("ab").rebase(&path("a"), &path("x")), None);
        assert_eq!(path("a").rebase(&path("a"), &path("x")), Some(path("x")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
    }
}

//! Places as a person names them: directories, buckets, names of the config file.
//!
//! Invariant: a place holds no credential (SK1), and its `text` names the same place again from any directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use syncline_model::{Fault, Kind, Result, path::escape};

use crate::config::Config;

/// What works in this release, for messages.
const WORKS: &str = "this release knows directories (DIR, file:///dir) and S3 buckets (s3://bucket/prefix)";

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Names the same place again, from any directory.
    pub text: OsString,
    /// Where it lies.
    pub at: At,
}

/// Where a place lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A directory, by its absolute path.
    Local(PathBuf),
    /// A bucket or a part of one, by its URL, and the store of the config file that named it.
    Bucket(String, Option<String>),
}

impl Place {
    /// The place for messages.
    pub fn label(&self) -> String {
        match &self.at {
            At::Local(path) => shown(path.as_os_str()),
            At::Bucket(..) => shown(&self.text),
        }
    }

    /// The directory, of a local place.
    pub fn dir(&self) -> Option<&Path> {
        match &self.at {
            At::Local(path) => Some(path),
            At::Bucket(..) => None,
        }
    }

    /// A directory by its path.
    pub fn local(path: PathBuf) -> Self {
        Self {
            text: path.clone().into_os_string(),
            at: At::Local(path),
        }
    }
}

/// Text as a terminal may see it: escaped, and without what stands before an '@' in a URL's authority.
pub fn shown(text: &OsStr) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = escape(text.as_bytes(), &mut out);
    masked(&out)
}

/// Hides the user part of every URL in `text`, and the values of query parts that sound like secrets.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"');
        let authority = &after[..end.unwrap_or(after.len())];
        match authority.rfind('@') {
            Some(user) => {
                out.push_str("***");
                rest = &after[user..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// Says which option a value came with.
pub fn of_option(option: &str) -> impl Fn(Fault) -> Fault {
    move |mut fault| {
        fault.what = format!("{option}: {}", fault.what);
        fault
    }
}

/// Reads a place. `base` is the directory that relative names start from.
pub fn parse(text: &OsStr, base: &Path, config: &Config) -> Result<Place> {
    if text.is_empty() {
        return Err(invalid("an empty place", text).hint("name a directory or a bucket"));
    }
    let Some(words) = text.to_str() else {
        return local(text, base);
    };
    if let Some((scheme, rest)) = words.split_once("://")
        && is_scheme(scheme)
    {
        return url(words, scheme, rest);
    }
    if let Some(rest) = words.strip_prefix("vol+")
        && rest.contains(':')
    {
        return Err(unsupported("volumes are not in this release", text));
    }
    let name = words.split(['/', ':']).next().unwrap_or_default();
    if !name.is_empty() && name.len() < words.len() && words.as_bytes()[name.len()] == b':' {
        return named(words, name, &words[name.len() + 1..], config);
    }
    local(text, base)
}

fn is_scheme(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(plain)
}

fn url(words: &str, scheme: &str, rest: &str) -> Result<Place> {
    let text = OsStr::new(words);
    if words.chars().any(char::is_control) {
        return Err(invalid("control characters are not accepted in a URL", text));
    }
    match scheme {
        "file" => file(text, rest),
        "s3" => bucket(words, rest, None, OsString::from(words)),
        "ssh" | "sftp" => Err(unsupported("ssh is not in this release", text)),
        scheme if scheme.starts_with("vol+") => Err(unsupported("volumes are not in this release", text)),
        scheme => Err(unsupported(&format!("{scheme}:// is not in this release"), text)),
    }
}

fn file(text: &OsStr, rest: &str) -> Result<Place> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(invalid("file:// names a directory of this machine", text).hint("file:///dir"));
    }
    if path.contains(['?', '#']) {
        return Err(invalid("a file:// URL has no '?' or '#'", text).hint("write them as %3F and %23"));
    }
    let wrong = || invalid("'%' begins a code of two hex digits", text).hint("write a plain '%' as %25");
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let code = after
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(code, 16).map_err(|_| wrong())?);
        rest = &after[2..];
    }
    local(&OsString::from_vec(bytes), Path::new("/"))
}

fn bucket(url: &str, rest: &str, store: Option<&str>, text: OsString) -> Result<Place> {
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    let authority = place.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(invalid("credentials do not belong in a URL", &text)
            .hint("use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws/credentials"));
    }
    if authority.is_empty() {
        return Err(invalid("no bucket is named", &text).hint("s3://bucket/prefix"));
    }
    if place.rsplit('/').next().is_some_and(|last| last.contains('@')) {
        return Err(
            unsupported("snapshots (PLACE@SNAPSHOT) are not in this release", &text)
                .hint("a prefix with a plain '@' is written with %40"),
        );
    }
    Ok(Place {
        text,
        at: At::Bucket(url.to_string(), store.map(str::to_string)),
    })
}

fn named(words: &str, name: &str, path: &str, config: &Config) -> Result<Place> {
    let text = OsStr::new(words);
    if name == "rclone" && path.contains(':') {
        return Err(unsupported("rclone remotes are not in this release", text));
    }
    let Some(store) = config.store.get(name) else {
        let what = format!(
            "'{}' is no store of the config file, and as HOST:DIR it needs ssh",
            shown(name.as_ref())
        );
        return Err(unsupported(&what, text).hint(format!(
            "define [store.{}] in the config file, or write ./{} for a local name with a colon; {WORKS}",
            shown(name.as_ref()),
            shown(text)
        )));
    };
    if words.chars().any(char::is_control) {
        return Err(invalid(
            "control characters are not accepted in a store's path",
            text,
        ));
    }
    let url = store.url_below(path);
    match url.split_once("://") {
        Some(("s3", rest)) => {
            let tail = path.trim_matches('/');
            bucket(&url, rest, Some(name), OsString::from(format!("{name}:{tail}")))
        }
        _ => Err(unsupported(&format!("[store.{name}] is no s3:// store"), text)),
    }
}

fn local(text: &OsStr, base: &Path) -> Result<Place> {
    if text.as_bytes().contains(&0) {
        return Err(invalid("a path holds no NUL", text));
    }
    let typed = Path::new(text);
    let home = || {
        let dir = std::env::var_os("HOME").filter(|dir| !dir.is_empty());
        dir.map(PathBuf::from)
            .ok_or_else(|| invalid("HOME is not set", text))
    };
    let path = match typed.strip_prefix("~") {
        Ok(below) => home()?.join(below),
        Err(_) => base.join(typed),
    };
    Ok(Place::local(plain(&path)))
}

/// Takes out `.` components and doubled slashes. `..` stays: what it means depends on links.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| !matches!(c, Component::CurDir))
        .collect()
}

fn invalid(what: &str, at: &OsStr) -> Fault {
    Fault::new(Kind::Invalid, what, shown(at))
}

fn unsupported(what: &str, at: &OsStr) -> Fault {
    Fault::new(Kind::Unsupported, what, shown(at)).hint(WORKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        crate::config::read_text(
            "[store.team]\nurl = \"s3://files/a b?region=r1\"\nendpoint = \"http://localhost:9000\"\n",
        )
        .unwrap()
    }

    fn place(text: &str) -> Result<Place> {
        parse(OsStr::new(text), Path::new("/base"), &config())
    }

    fn dir(text: &str) -> String {
        match place(text).unwrap().at {
            At::Local(path) => path.to_string_lossy().into_owned(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn directories() {
        assert_eq!(dir("/a/b/"), "/a/b");
        assert_eq!(dir("a"), "/base/a");
        assert_eq!(dir("."), "/base");
        assert_eq!(dir("./x:y"), "/base/x:y");
        assert_eq!(dir("a/x:y"), "/base/a/x:y");
        assert_eq!(dir("../c"), "/base/../c");
        assert_eq!(dir(":x"), "/base/:x");
        assert_eq!(dir("file:///a%20b/%ff").as_bytes()[..5], *b"/a b/");
        assert_eq!(dir("file://localhost/a"), "/a");
        assert_eq!(dir("me@work"), "/base/me@work");
    }

    #[test]
    fn buckets_by_url_and_by_name() {
        let bucket = |text: &str| match place(text).unwrap() {
            Place {
                text,
                at: At::Bucket(url, store),
            } => (text.into_string().unwrap(), url, store),
            other => panic!("{other:?}"),
        };
        let url = "s3://b/p?region=x";
        assert_eq!(bucket(url), (url.into(), url.into(), None));
        let (text, url, store) = bucket("team:docs/x y/");
        assert_eq!((text.as_str(), store.as_deref()), ("team:docs/x y", Some("team")));
        assert_eq!(
            url,
            "s3://files/a b/docs/x%20y?region=r1&endpoint=http://localhost:9000"
        );
        assert_eq!(
            bucket("team:").1,
            "s3://files/a b?region=r1&endpoint=http://localhost:9000"
        );
    }

    #[test]
    fn what_this_release_lacks_says_what_works() {
        for text in [
            "ssh://h/d",
            "sftp://h/d",
            "gs://b",
            "webdav://x/y",
            "rclone:r:p",
            "vol+s3://b",
            "vol+team:",
            "s3://b/p@old",
        ] {
            let fault = place(text).unwrap_err();
            assert_eq!(fault.kind, Kind::Unsupported, "{text}");
            assert!(fault.hint.is_some(), "{text}");
        }
        let fault = place("nas:docs").unwrap_err();
        let said = format!("{fault} {}", fault.hint.as_deref().unwrap());
        for word in ["store", "HOST:DIR", "ssh", "./nas:docs"] {
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn sk1_credentials_in_a_url_are_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:CANARY@b/x",
            "ssh://u:CANARY@h/x",
            "http://u:CANARY@h@b",
        ] {
            let fault = place(text).unwrap_err();
            let said = format!("{fault} {:?}", fault.hint);
            assert!(!said.contains("CANARY"), "{said}");
        }
        assert_eq!(
            masked("a s3://k:s@b/x@y 'http://u@h' end"),
            "a s3://***@b/x@y 'http://***@h' end"
        );
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///x",
            "file://host/x",
            "file:///%zz",
            "s3://b/\n",
            "file:///a?b",
        ] {
            assert_eq!(place(text).unwrap_err().kind, Kind::Invalid, "{text:?}");
        }
    }
}

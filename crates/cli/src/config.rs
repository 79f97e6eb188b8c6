//! The config file: named stores, and defaults for the options of sessions.
//!
//! Invariant: an unknown key is an error with its line, and no message repeats a value (it may be a secret).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use syncline_model::{Fault, Kind, Result};

use crate::files::Files;
use crate::kept::Kept;
use crate::place::shown;

/// What a config file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Options of every session that says nothing else.
    #[serde(default)]
    pub defaults: Kept,
    /// Stores by name: `NAME:path`.
    #[serde(default)]
    pub store: BTreeMap<String, Named>,
}

/// A store of the config file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Named {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// Scheme and authority of the server.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// `path` or `virtual`.
    pub style: Option<String>,
    /// The profile of the AWS files that holds the credentials.
    pub profile: Option<String>,
    /// The id of an access key.
    pub access_key_id: Option<String>,
    /// The access key. A file that holds one must be readable by its owner alone (SK2).
    pub secret_access_key: Option<Secret>,
}

/// Something that is never printed (SK1).
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// For who must know.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Named {
    /// The URL of `path` below this store, with the store's settings as its query.
    pub fn url_below(&self, path: &str) -> String {
        let (place, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let mut url = place.trim_end_matches('/').to_string();
        let path = path.trim_matches('/');
        if !path.is_empty() {
            url.push('/');
            url.push_str(&encoded(path, b"/"));
        }
        let mut parts: Vec<String> = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(str::to_string)
            .collect();
        let settings = [
            ("endpoint", &self.endpoint),
            ("region", &self.region),
            ("style", &self.style),
            ("profile", &self.profile),
        ];
        for (name, value) in settings {
            if let Some(value) = value {
                parts.push(format!("{name}={}", encoded(value, b":/[]")));
            }
        }
        if !parts.is_empty() {
            url.push('?');
            url.push_str(&parts.join("&"));
        }
        url
    }
}

fn encoded(text: &str, keep: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for &b in text.as_bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) || keep.contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// Reads the config file at `path`; without one everything is empty, unless it was `asked` for by name.
pub fn read(files: &Files, path: &Path, asked: bool) -> Result<Config> {
    let at = || shown(path.as_os_str());
    let Some(text) = files.read(path)? else {
        return if asked {
            Err(Fault::new(Kind::Invalid, "this config file is not there", at()))
        } else {
            Ok(Config::default())
        };
    };
    let words = String::from_utf8(text.bytes).map_err(|_| Fault::new(Kind::Invalid, "not UTF-8", at()))?;
    let config = read_text(&words).map_err(|fault| fault.at(at()))?;
    let me = rustix::process::geteuid().as_raw();
    let (owner, mode) = (text.stat.owner.uid, text.stat.mode);
    if owner != me && owner != 0 {
        return Err(Fault::new(
            Kind::Denied,
            "this config file belongs to another user",
            at(),
        ));
    }
    let secret = config
        .store
        .values()
        .any(|store| store.secret_access_key.is_some());
    if secret && (owner != me || mode & 0o077 != 0) {
        return Err(
            Fault::new(Kind::Denied, "it holds a key, and others may read it", at())
                .hint(format!("chmod 600 {}; the file must be your own", at())),
        );
    }
    Ok(config)
}

/// Reads the text of a config file. The fault's `what` begins with the line.
pub fn read_text(text: &str) -> Result<Config> {
    let config: Config = read_toml(text)?;
    for (name, store) in &config.store {
        check_store(name, store)?;
    }
    Ok(config)
}

/// Reads TOML strictly. What a fault says has the line and no value of the file.
pub fn read_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |Range { start, .. }| {
            1 + text[..start.min(text.len())].matches('\n').count()
        });
        Fault::new(
            Kind::Invalid,
            format!("line {line}: {}", without_values(error.message())),
            "",
        )
    })
}

fn check_store(name: &str, store: &Named) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let wrong = |what: &str| Err(Fault::new(Kind::Invalid, format!("[store.{name}]: {what}"), ""));
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Fault::new(
            Kind::Invalid,
            "a store's name has letters, digits, '-', '_' and '.'",
            "",
        ));
    }
    if name.eq_ignore_ascii_case("rclone") {
        return wrong("'rclone' is taken: rclone:REMOTE:path names a remote of rclone");
    }
    let Some(("s3", rest)) = store.url.split_once("://") else {
        return wrong("url must be s3://bucket/prefix in this release");
    };
    if rest
        .split(['/', '?'])
        .next()
        .is_some_and(|authority| authority.contains('@'))
    {
        return wrong("credentials do not belong in a URL; name a profile of ~/.aws/credentials");
    }
    if store.access_key_id.is_some() != store.secret_access_key.is_some() {
        return wrong("access-key-id and secret-access-key come together");
    }
    Ok(())
}

/// What serde says of a wrong value repeats the value: that part is left out.
fn without_values(message: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(kind) {
            let expected = rest.rfind(", expected ").map_or("", |at| &rest[at..]);
            return format!("{}{expected}", kind.trim_end_matches(": "));
        }
    }
    if let Some((before, _)) = message.split_once("unknown variant `") {
        let expected = message.rfind(", expected ").map_or("", |at| &message[at..]);
        return format!("{before}unknown word{expected}");
    }
    message.lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real disk")]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file() {
        let config = read_text(
            "[defaults]\njobs = 8\nconflict = \"hold\"\nno-owner = true\nfilter = [{exclude = \"*.o\"}, {include = \"a.o\"}]\n\
             [store.team]\nurl = \"s3://team\"\nprofile = \"work\"\n",
        )
        .unwrap();
        assert_eq!(config.defaults.jobs, Some(8));
        assert_eq!(config.defaults.filter.len(), 2);
        assert_eq!(
            config.store["team"].url_below("a/b?c"),
            "s3://team/a/b%3Fc?profile=work"
        );
        assert!(read_text("").unwrap().store.is_empty());
    }

    #[test]
    fn what_is_wrong_comes_with_its_line() {
        for (text, line, word) in [
            ("[defaults]\njobs = 8\njbos = 9\n", "line 3", "jbos"),
            ("[defaults]\n\nconflict = \"mine\"\n", "line 3", "keep-both"),
            (
                "[store.x]\nurl = \"s3://b\"\nsecret = \"CANARY\"\n",
                "line 3",
                "secret",
            ),
            ("[store.x]\nurl = 7\n", "line 2", "string"),
            ("a = \n", "line 1", ""),
            ("[store.x]\n", "line 1", "url"),
            ("[stores.x]\n", "line 1", "stores"),
        ] {
            let said = read_text(text).unwrap_err().to_string();
            assert!(said.contains(line) && said.contains(word), "{text:?}: {said}");
        }
    }

    #[test]
    fn sk2_a_file_with_a_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (files, path) = (Files::new(), dir.path().join("config.toml"));
        let plain = "[store.x]\nurl = \"s3://b\"\n";
        let key = "access-key-id = \"I\"\nsecret-access-key = \"CANARY\"\n";
        let set = |text: &str, mode: u32| {
            files.write(&path, text.as_bytes()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&files, &path, true)
        };
        assert!(set(plain, 0o644).is_ok());
        let with_key = format!("{plain}{key}");
        let config = set(&with_key, 0o600).unwrap();
        assert!(!format!("{config:?}").contains("CANARY"));
        for mode in [0o640, 0o604, 0o644, 0o660] {
            let fault = set(&with_key, mode).unwrap_err();
            assert!(fault.is(Kind::Denied) && !format!("{fault:?}{:?}", fault.hint).contains("CANARY"));
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            assert!(read(&files, &path, true).unwrap_err().is(Kind::Denied));
        }
        assert!(
            read(&files, &dir.path().join("none"), false)
                .unwrap()
                .store
                .is_empty()
        );
        assert!(
            read(&files, &dir.path().join("none"), true)
                .unwrap_err()
                .is(Kind::Invalid)
        );
    }

    #[test]
    fn sk1_messages_repeat_no_value() {
        for text in [
            "[store.x]\nurl = \"s3://b\"\nsecret = \"CANARY\"\n",
            "[store.x]\nurl = [\"CANARY\"]\n",
            "defaults = \"CANARY\"\n",
            "[defaults]\nno-owner = \"CANARY\"\n",
            "[defaults]\njobs = \"CANARY\"\n",
            "[defaults]\nmode = \"CANARY\"\n",
            "[store.x]\nurl = \"s3://k:CANARY@b\"\n",
            "[store.x]\nurl = \"CANARY\n",
            "[defaults]\nfilter = [{CANARY = \"x\"}]\n",
        ] {
            let said = format!("{:?}", read_text(text).unwrap_err());
            assert!(!said.contains("CANARY"), "{said}");
        }
    }
}

//! Names as text, for stores whose keys are UTF-8: what is text stands as it is, other bytes as rclone writes them, so that both tools
//! show the same names.
//!
//! A byte that is not UTF-8 becomes U+201B and two upper-case hex digits. A U+201B that would read as the beginning of such an escape
//! gets another before it. Invariant: `decode(encode(path)) == path`, and `decode` answers only for text that `encode` makes; other
//! keys are foreign and come back as [`Foreign`], never as a path that another key has too.

use crate::path::RelPath;

const QUOTE: char = '\u{201b}';
const NUL_SIGN: char = '\u{2400}';
const SLASH_SIGN: char = '\u{ff0f}';

/// A key that is no path of ours, and what a person is shown in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Why it is no path.
    pub why: &'static str,
    /// A path that stands for it in lists: the directories it lies in as far as they are names, then one name that tells the rest.
    pub shown: RelPath,
}

/// The text under which `path` stands in a store.
pub fn encode(path: &RelPath) -> String {
    let mut out = String::with_capacity(path.as_bytes().len());
    for (n, component) in path.components().enumerate() {
        if n > 0 {
            out.push('/');
        }
        encode_name(component.as_bytes(), &mut out);
    }
    out
}

fn encode_name(name: &[u8], out: &mut String) {
    for chunk in name.utf8_chunks() {
        let text = chunk.valid();
        for (at, c) in text.char_indices() {
            let after = &text[at + c.len_utf8()..];
            if c == QUOTE && (reads_as_escape(after) || (after.is_empty() && !chunk.invalid().is_empty())) {
                out.push(QUOTE);
            }
            out.push(c);
        }
        for byte in chunk.invalid() {
            out.push(QUOTE);
            for digit in [byte >> 4, byte & 15] {
                out.extend(char::from_digit(u32::from(digit), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
}

/// True when a U+201B before this text would be read as quoting something.
fn reads_as_escape(after: &str) -> bool {
    let mut digits = after.bytes().map(|b| b.is_ascii_hexdigit());
    after.starts_with(QUOTE) || (digits.next() == Some(true) && digits.next() == Some(true))
}

/// The path that stands under `key`, which must not end in `/`.
pub fn decode(key: &str) -> Result<RelPath, Foreign> {
    let mut path = Vec::with_capacity(key.len());
    let mut names = 0;
    let mut rest = key;
    loop {
        let (name, after) = rest
            .split_once('/')
            .map_or((rest, None), |(name, after)| (name, Some(after)));
        let start = path.len();
        if names > 0 {
            path.push(b'/');
        }
        if let Err(why) = decode_name(name, &mut path) {
            path.truncate(start);
            return Err(foreign(path, rest, why));
        }
        names += 1;
        match after {
            Some(after) => rest = after,
            None => break,
        }
    }
    RelPath::new(path).map_err(|_| foreign(Vec::new(), key, "it is too deep"))
}

fn foreign(mut parents: Vec<u8>, rest: &str, why: &'static str) -> Foreign {
    if !parents.is_empty() {
        parents.push(b'/');
    }
    let mut name = String::new();
    for c in rest.chars() {
        name.push(match c {
            '/' => SLASH_SIGN,
            '\0' => NUL_SIGN,
            c => c,
        });
    }
    match name.as_str() {
        "" => name.push(NUL_SIGN),
        "." | ".." => name = name.replace('.', "\u{ff0e}"),
        _ => (),
    }
    parents.extend_from_slice(name.as_bytes());
    let shown = RelPath::new(parents).unwrap_or_default();
    Foreign { why, shown }
}

fn decode_name(name: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let start = out.len();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != QUOTE || !reads_as_escape(rest) {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else if let Some(after) = rest.strip_prefix(QUOTE) {
            out.extend_from_slice(QUOTE.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            let (digits, after) = rest.split_at(2);
            out.extend(u8::from_str_radix(digits, 16));
            rest = after;
        }
    }
    match &out[start..] {
        b"" => return Err("a component is empty"),
        b"." | b".." => return Err("a component is '.' or '..'"),
        bytes if bytes.iter().any(|&b| b == 0 || b == b'/') => return Err("a component holds NUL or '/'"),
        _ => (),
    }
    let mut again = String::with_capacity(name.len());
    encode_name(&out[start..], &mut again);
    if again == name {
        Ok(())
    } else {
        Err("it is not written as it would be here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    #[test]
    fn s17_plain_names_stand_as_they_are() {
        for name in [
            " lead",
            "trail ",
            "a\nb",
            "*?[]#\\",
            " -> ",
            "-rf",
            "é",
            "e\u{301}",
            "\u{fffd}",
            "\u{ff0e}",
            "a\u{ff0f}b",
            "\u{2400}",
            "\u{201b}",
            "\u{201b}quoted\u{201b}",
        ] {
            assert_eq!(encode(&path(name.as_bytes())), name);
            assert_eq!(decode(name), Ok(path(name.as_bytes())));
        }
    }

    #[test]
    fn s17_other_names_are_written_as_rclone_writes_them() {
        for (name, key) in [
            (&b"caf\xe9"[..], "caf\u{201b}E9"),
            (b"\xff\xfe/x", "\u{201b}FF\u{201b}FE/x"),
            ("\u{201b}41".as_bytes(), "\u{201b}\u{201b}41"),
            ("\u{201b}e9".as_bytes(), "\u{201b}\u{201b}e9"),
            ("\u{201b}\u{201b}".as_bytes(), "\u{201b}\u{201b}\u{201b}"),
            (b"\xe2\x80\x9b\xe9", "\u{201b}\u{201b}\u{201b}E9"),
        ] {
            assert_eq!(encode(&path(name)), key);
            assert_eq!(decode(key), Ok(path(name)));
        }
    }

    #[test]
    fn b7_keys_that_are_no_paths_are_told_apart_from_those_that_are() {
        for (key, shown) in [
            ("a//b", "a/\u{ff0f}b"),
            ("/x", "\u{ff0f}x"),
            ("a/../b", "a/..\u{ff0f}b"),
            ("..", "\u{ff0e}\u{ff0e}"),
            ("a/.", "a/\u{ff0e}"),
            ("\u{201b}e9", "\u{201b}e9"),
            ("\u{201b}41", "\u{201b}41"),
            ("\u{201b}2F", "\u{201b}2F"),
            ("\u{201b}2E", "\u{201b}2E"),
            ("x/\u{201b}C3\u{201b}A9/y", "x/\u{201b}C3\u{201b}A9\u{ff0f}y"),
        ] {
            let found = decode(key);
            assert_eq!(
                found.map_err(|foreign| foreign.shown),
                Err(path(shown.as_bytes())),
                "{key:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_path_comes_back(parts in prop::collection::vec(prop::collection::vec(prop_oneof![
            any::<u8>(), Just(0xe2), Just(0x80), Just(0x9b), Just(b'.'), Just(0xff)], 1..9), 1..5)) {
            if let Ok(path) = RelPath::new(parts.join(&b'/')) {
                prop_assert_eq!(decode(&encode(&path)), Ok(path));
            }
        }

        #[test]
        fn every_key_is_one_path_or_none(key in "[a./\u{201b}\u{201b}\u{2400}\u{ff0e}A-F0-9é]{1,12}") {
            match decode(&key) {
                Ok(path) => prop_assert_eq!(encode(&path), key),
                Err(foreign) => prop_assert!(!foreign.shown.is_root()),
            }
        }
    }
}

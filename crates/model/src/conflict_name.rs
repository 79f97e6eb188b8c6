//! The name under which the losing version of a conflict stays: `name (conflict HOST DIGEST).ext`.
//!
//! Invariant: the name follows from its three inputs alone, so every replica and every rerun makes the same name once; naming a conflict
//! copy again replaces its suffix and never adds a second (scenario S32); the result is at most [`NAME_MAX`] bytes.

use crate::entry::Digest;
use crate::path::{NAME_MAX, Name};

const OPENING: &[u8] = b" (conflict ";
/// How many bytes of the digest the name shows, as two hex digits each.
const DIGEST_SHOWN: usize = 4;
/// A host is cut here, so that the suffix leaves room for the name.
const HOST_MAX: usize = 64;
/// A longer last part is no extension but a sentence with a dot in it.
const EXTENSION_MAX: usize = 32;

/// The name beside `name` for the version edited on `host` whose content has `digest`.
pub fn conflict_name(name: &Name, host: &str, digest: &Digest) -> Name {
    let (stem, extension) = split(name.as_bytes());
    let mut suffix = OPENING.to_vec();
    suffix.extend(plain_host(host).bytes());
    suffix.push(b' ');
    for byte in &digest.0[..DIGEST_SHOWN] {
        suffix.extend(format!("{byte:02x}").bytes());
    }
    suffix.push(b')');
    let room = NAME_MAX - suffix.len() - extension.len();
    let mut bytes = cut(stem, room).to_vec();
    bytes.extend(suffix);
    bytes.extend(extension);
    // A suffix with a blank in it makes no component empty, `.` or `..`, and its parts hold neither NUL nor `/`.
    Name::new(bytes).unwrap_or_else(|_| name.clone())
}

/// True when `name` is one that [`conflict_name`] makes.
pub fn is_conflict_name(name: &Name) -> bool {
    stem_at(name).is_some()
}

/// How many bytes stand before the conflict suffix, when there is one: every name that the copy may be of begins with them.
pub(crate) fn stem_at(name: &Name) -> Option<usize> {
    let bytes = name.as_bytes();
    let with_suffix = |stem: &[u8]| without_suffix(stem).is_some().then(|| stripped(stem).len());
    with_suffix(bytes).or_else(|| extension_at(bytes).and_then(|dot| with_suffix(&bytes[..dot])))
}

/// The name without an older conflict's suffix, as stem and extension; the extension begins with its dot.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    if without_suffix(name).is_some() {
        return (stripped(name), b"");
    }
    let (stem, extension) = name.split_at(extension_at(name).unwrap_or(name.len()));
    (stripped(stem), extension)
}

fn stripped(mut stem: &[u8]) -> &[u8] {
    while let Some(shorter) = without_suffix(stem) {
        stem = shorter;
    }
    stem
}

/// Where the last dot stands that begins an extension. Dotfiles have none for being dotfiles.
fn extension_at(name: &[u8]) -> Option<usize> {
    let dot = name.iter().rposition(|&b| b == b'.')?;
    let (stem, extension) = (&name[..dot], &name[dot + 1..]);
    let sound = !extension.is_empty()
        && extension.len() <= EXTENSION_MAX
        && !extension.iter().any(|b| b.is_ascii_whitespace())
        && stem.iter().any(|&b| b != b'.');
    sound.then_some(dot)
}

/// `stem` without the conflict suffix at its end, when it has one.
fn without_suffix(stem: &[u8]) -> Option<&[u8]> {
    let inner = stem.strip_suffix(b")")?;
    let at = inner
        .windows(OPENING.len())
        .rposition(|window| window == OPENING)?;
    let (host, digest) = {
        let words = &inner[at + OPENING.len()..];
        let blank = words.iter().position(|&b| b == b' ')?;
        (&words[..blank], &words[blank + 1..])
    };
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (!host.is_empty() && digest.len() == 2 * DIGEST_SHOWN && digest.iter().all(hex)).then_some(&stem[..at])
}

/// At most `room` bytes of `stem`; characters stay whole where the stem is UTF-8.
fn cut(stem: &[u8], room: usize) -> &[u8] {
    if stem.len() <= room {
        return stem;
    }
    match std::str::from_utf8(stem) {
        Ok(text) => &stem[..text.floor_char_boundary(room)],
        Err(_) => &stem[..room],
    }
}

/// The host as one plain word: what is neither a letter, a digit nor one of `-_.` becomes `-`.
fn plain_host(host: &str) -> String {
    let word: String = host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .take(HOST_MAX)
        .collect();
    let word = word.trim_matches(['-', '.']);
    if word.is_empty() {
        "unknown".into()
    } else {
        word.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &[u8], host: &str) -> String {
        let digest = Digest([0xab; 32]);
        conflict_name(&Name::new(name).unwrap(), host, &digest).to_string()
    }

    #[test]
    fn the_suffix_stands_before_the_extension() {
        for (name, expected) in [
            ("report.odt", "report (conflict nas abababab).odt"),
            ("report", "report (conflict nas abababab)"),
            (".bashrc", ".bashrc (conflict nas abababab)"),
            (".vimrc.old", ".vimrc (conflict nas abababab).old"),
            ("..x", "..x (conflict nas abababab)"),
            ("a.tar.gz", "a.tar (conflict nas abababab).gz"),
            ("ends.", "ends. (conflict nas abababab)"),
            ("Dear Mr. Smith", "Dear Mr. Smith (conflict nas abababab)"),
        ] {
            assert_eq!(named(name.as_bytes(), "nas"), expected);
        }
    }

    #[test]
    fn s32_a_copy_of_a_copy_has_one_suffix() {
        for (name, expected) in [
            ("a (conflict old 01234567).txt", "a (conflict nas abababab).txt"),
            ("a (conflict o.ld 01234567)", "a (conflict nas abababab)"),
            (
                "a (conflict x 00000000) (conflict y 11111111).txt",
                "a (conflict nas abababab).txt",
            ),
            (
                "a (conflict old 0123).txt",
                "a (conflict old 0123) (conflict nas abababab).txt",
            ),
            (
                "a (conflict of interest).txt",
                "a (conflict of interest) (conflict nas abababab).txt",
            ),
        ] {
            assert_eq!(named(name.as_bytes(), "nas"), expected);
        }
    }

    #[test]
    fn hosts_become_one_plain_word() {
        for (host, word) in [
            ("nas.local", "nas.local"),
            ("../etc", "etc"),
            ("my host)", "my-host"),
            ("", "unknown"),
            ("…", "unknown"),
        ] {
            assert_eq!(named(b"a", host), format!("a (conflict {word} abababab)"));
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let long = Name::new("ä".repeat(127).as_bytes()).unwrap();
        let made = conflict_name(&long, "nas", &Digest([1; 32]));
        assert!(made.as_bytes().len() <= NAME_MAX);
        assert!(std::str::from_utf8(made.as_bytes()).is_ok());
        assert!(made.as_bytes().len() > NAME_MAX - 2);
    }

    fn names() -> impl Strategy<Value = Name> {
        let bytes = proptest::collection::vec(any::<u8>(), 1..=255);
        let words = "[a(). ä]{1,40}( \\(conflict [a.]{1,3} [0-9a-f]{8}\\)){0,2}[.a ]{0,4}";
        prop_oneof![bytes, words.prop_map(String::into_bytes)]
            .prop_filter_map("a name", |bytes| Name::new(bytes).ok())
            .prop_filter("of a file system", |name| name.as_bytes().len() <= NAME_MAX)
    }

    proptest! {
        #[test]
        fn names_fit_are_known_again_and_do_not_nest(
            name in names(), host in ".{0,80}", digest in any::<[u8; 32]>(), again in any::<[u8; 32]>()
        ) {
            let once = conflict_name(&name, &host, &Digest(digest));
            prop_assert!(once.as_bytes().len() <= NAME_MAX);
            prop_assert!(is_conflict_name(&once));
            prop_assert_eq!(&conflict_name(&once, &host, &Digest(digest)), &once);
            let twice = conflict_name(&once, &host, &Digest(again));
            prop_assert_eq!(twice.as_bytes().len(), once.as_bytes().len());
            let suffixes = twice.as_bytes().windows(OPENING.len()).filter(|w| *w == OPENING).count();
            let before = name.as_bytes().windows(OPENING.len()).filter(|w| *w == OPENING).count();
            prop_assert!(suffixes <= before.max(1) + 1);
            if name.as_bytes().len() < 100 && std::str::from_utf8(name.as_bytes()).is_ok() {
                prop_assert!(std::str::from_utf8(once.as_bytes()).is_ok());
            }
        }
    }
}

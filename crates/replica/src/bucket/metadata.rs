//! What is kept beside an object as user metadata, so that it can be read without any table: the names and forms of rclone where it has
//! them (`mtime`, `mode`, `uid`, `gid`, `md5chksum`), ours for the rest.
//!
//! Invariant: metadata that is missing or badly written by others reads as unknown, never as an error or a made-up value.

use std::collections::BTreeMap;

use syncline_model::{Digest, Entry, Meta, Owner, Special, Time};

/// User metadata of an object, names in lower case.
pub type Metadata = BTreeMap<String, String>;

const MTIME: &str = "mtime";
const MODE: &str = "mode";
const UID: &str = "uid";
const GID: &str = "gid";
const KIND: &str = "syncline-kind";
const NOTE: &str = "version";
const DIGEST: &str = "syncline-blake3";
const RCLONE_MD5: &str = "md5chksum";

/// What goes beside the object that stands for `entry`.
pub fn of_entry(entry: &Entry) -> Metadata {
    let mut out = Metadata::new();
    let mut put = |name: &str, value: String| out.insert(name.to_owned(), value);
    if let Some(meta) = entry.meta() {
        if let Some(time) = meta.mtime {
            put(MTIME, write_time(time));
        }
        if let Some(mode) = meta.mode {
            put(MODE, format!("{:o}", mode | type_bits(entry)));
        }
        if let Some(owner) = meta.owner {
            put(UID, owner.uid.to_string());
            put(GID, owner.gid.to_string());
        }
    }
    if let Some(digest) = entry.content().and_then(|content| content.digest) {
        put(DIGEST, digest.to_string());
    }
    let kind = match entry {
        Entry::Link(..) => "symlink".to_owned(),
        Entry::Special(_, Special::Fifo) => "fifo".to_owned(),
        Entry::Special(_, Special::Socket) => "socket".to_owned(),
        Entry::Special(_, Special::Block(major, minor)) => format!("block {major} {minor}"),
        Entry::Special(_, Special::Char(major, minor)) => format!("char {major} {minor}"),
        _ => return out,
    };
    put(KIND, kind);
    out
}

/// What goes beside a note of the trash.
pub fn of_note() -> Metadata {
    Metadata::from([(KIND.to_owned(), NOTE.to_owned())])
}

/// True when an object is a note of the trash.
pub fn is_note(metadata: &Metadata) -> bool {
    metadata.get(KIND).is_some_and(|kind| kind == NOTE)
}

fn type_bits(entry: &Entry) -> u32 {
    match entry {
        Entry::Dir(_) => 0o040_000,
        Entry::File(..) | Entry::Opaque(_) => 0o100_000,
        Entry::Link(..) => 0o120_000,
        Entry::Special(_, Special::Fifo) => 0o010_000,
        Entry::Special(_, Special::Socket) => 0o140_000,
        Entry::Special(_, Special::Block(..)) => 0o060_000,
        Entry::Special(_, Special::Char(..)) => 0o020_000,
    }
}

/// What an object stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// A file.
    File,
    /// A symbolic link; the bytes are its target.
    Link,
    /// A pipe, socket or device.
    Special(Special),
}

/// What the object stands for.
pub fn stands_for(metadata: &Metadata) -> Stands {
    let mut words = metadata.get(KIND).map_or("", String::as_str).split(' ');
    let kind = words.next().unwrap_or("");
    let mut number = || words.next().and_then(|word| word.parse().ok());
    match kind {
        "symlink" => Stands::Link,
        "fifo" => Stands::Special(Special::Fifo),
        "socket" => Stands::Special(Special::Socket),
        "block" | "char" => match (number(), number()) {
            (Some(major), Some(minor)) if kind == "block" => Stands::Special(Special::Block(major, minor)),
            (Some(major), Some(minor)) => Stands::Special(Special::Char(major, minor)),
            _ => Stands::File,
        },
        _ => Stands::File,
    }
}

/// The attributes that stand beside an object.
pub fn attributes(metadata: &Metadata) -> Meta {
    let number = |name: &str| metadata.get(name).and_then(|text| text.parse().ok());
    Meta {
        mode: metadata
            .get(MODE)
            .and_then(|text| u32::from_str_radix(text, 8).ok())
            .map(|mode| mode & 0o7777),
        owner: number(UID).zip(number(GID)).map(|(uid, gid)| Owner { uid, gid }),
        mtime: metadata.get(MTIME).and_then(|text| read_time(text)),
        xattrs: None,
    }
}

/// The BLAKE3 digest that stands beside an object.
pub fn digest(metadata: &Metadata) -> Option<Digest> {
    hex(metadata.get(DIGEST)?.as_bytes()).map(Digest)
}

/// The MD5 that rclone puts beside an object that went up in parts.
pub fn md5(metadata: &Metadata) -> Option<[u8; 16]> {
    let text = metadata.get(RCLONE_MD5)?.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(18);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for (n, &c) in group.iter().enumerate() {
            let digit = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits |= u32::from(digit) << (18 - 6 * n);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out.try_into().ok()
}

/// Exactly `N` bytes in hex.
pub fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// A time as rclone writes it: seconds, and up to nine decimals without trailing zeros.
pub fn write_time(time: Time) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    let (secs, rest) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    let text = format!("{sign}{secs}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads what rclone writes, and more or fewer decimals.
pub fn read_time(text: &str) -> Option<Time> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (secs, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if secs.is_empty() || secs.len() > 18 || !all_digits(secs) || !all_digits(decimals) {
        return None;
    }
    let nine: String = decimals.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos = sign * (secs.parse::<i128>().ok()? * 1_000_000_000 + nine.parse::<i128>().ok()?);
    let (secs, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    Some(Time {
        secs: i64::try_from(secs).ok()?,
        nanos: u32::try_from(nanos).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_times_are_written_as_rclone_writes_them() {
        for (secs, nanos, text) in [
            (1_700_000_000, 123_456_789, "1700000000.123456789"),
            (1_700_000_000, 500_000_000, "1700000000.5"),
            (1_700_000_000, 0, "1700000000"),
            (0, 0, "0"),
            (-2, 500_000_000, "-1.5"),
            (-1, 999_999_999, "-0.000000001"),
        ] {
            let time = Time { secs, nanos };
            assert_eq!(write_time(time), text);
            assert_eq!(read_time(text), Some(time));
        }
        assert_eq!(
            read_time("12.1234567899"),
            Some(Time {
                secs: 12,
                nanos: 123_456_789
            })
        );
        for bad in ["", "-", "1e9", "2020-01-01", ".5", "1.x", "99999999999999999999"] {
            assert_eq!(read_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_stands_beside_an_object_comes_back() {
        let meta = Meta {
            mode: Some(0o4750),
            owner: Some(Owner { uid: 7, gid: 8 }),
            mtime: Some(Time { secs: 5, nanos: 6 }),
            xattrs: None,
        };
        for special in [
            Special::Fifo,
            Special::Socket,
            Special::Block(8, 1),
            Special::Char(1, 3),
        ] {
            let kept = of_entry(&Entry::Special(meta.clone(), special));
            assert_eq!(stands_for(&kept), Stands::Special(special));
            assert_eq!(attributes(&kept), meta);
        }
        assert_eq!(
            stands_for(&of_entry(&Entry::Link(meta, b"x"[..].into()))),
            Stands::Link
        );
        let rubbish = Metadata::from([
            ("mode".into(), "rwx".into()),
            ("syncline-kind".into(), "char x".into()),
        ]);
        assert_eq!(
            (attributes(&rubbish), stands_for(&rubbish)),
            (Meta::default(), Stands::File)
        );
    }

    #[test]
    fn b6_the_md5_that_rclone_puts_beside_parts_is_read() {
        let kept = |text: &str| Metadata::from([("md5chksum".to_owned(), text.to_owned())]);
        let empty = hex::<16>(b"d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5(&kept("1B2M2Y8AsgTpgAmY7PhCfg==")), empty);
        assert_eq!(md5(&kept("1B2M2Y8AsgTpgAmY7PhC")), None);
        assert_eq!(md5(&kept("???")), None);
    }
}

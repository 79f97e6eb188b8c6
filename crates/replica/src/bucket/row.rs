//! Attribute rows and the tables they travel in; the bytes are those of `docs/format/attributes-v1.md`.
//!
//! Invariant: decoding takes any bytes, allocates no more than they hold, and answers only for a table whose digest, order and every
//! length are right.

use syncline_model::{
    Content, Digest, Entry, Fault, Kind, LinkId, Meta, Owner, Result, Slot, Special, Tag, Time,
};
use syncline_store::Blob;

use super::accounts::Names;

const MAGIC: &[u8; 8] = b"SLATTR1\n";
const SUM: usize = 32;
/// Largest table that is read, in bytes.
pub const TABLE_MAX: u64 = 64 << 20;
const SLOT_MAX: usize = 8 << 10;
const TAG_MAX: usize = 4 << 10;
const VALUE_MAX: usize = 1 << 20;

/// What a writer knew of a name when it wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which name.
    pub slot: Slot,
    /// What stood there; never opaque.
    pub entry: Entry,
    /// The object's tag: the row counts only while the object bears it. `None` in rows of directories, and in rows that were written
    /// ahead of their object, which count while the object has this MD5.
    pub tag: Tag,
    /// MD5 of the object's bytes.
    pub md5: Option<[u8; 16]>,
    /// The replica's generation when it was written: of several rows that fit, the greatest counts.
    pub generation: u64,
    /// What the owner is called where it was written.
    pub names: Option<Names>,
}

impl Row {
    /// True when this row speaks of the object `blob`.
    pub fn fits(&self, blob: &Blob, md5: Option<[u8; 16]>) -> bool {
        match &self.tag {
            Tag::None => self.md5.is_some() && self.md5 == md5 && self.size() == blob.size,
            tag => *tag == blob.tag && self.size() == blob.size,
        }
    }

    /// Length of the object that stands for the entry.
    pub fn size(&self) -> u64 {
        match &self.entry {
            Entry::File(_, content, _) => content.size,
            Entry::Link(_, target) => target.len() as u64,
            _ => 0,
        }
    }
}

const MODE: u16 = 1;
const OWNER: u16 = 2;
const MTIME: u16 = 4;
const XATTRS: u16 = 8;
const DIGEST: u16 = 16;
const MD5: u16 = 32;
const OWNER_NAMES: u16 = 64;
const LINK_GROUP: u16 = 128;
const KNOWN: u16 = 255;

fn put_number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn kind_code(entry: &Entry) -> u8 {
    match entry {
        Entry::File(..) | Entry::Opaque(_) => 0,
        Entry::Dir(_) => 1,
        Entry::Link(..) => 2,
        Entry::Special(_, Special::Fifo) => 3,
        Entry::Special(_, Special::Socket) => 4,
        Entry::Special(_, Special::Block(..)) => 5,
        Entry::Special(_, Special::Char(..)) => 6,
    }
}

/// The bytes of a table that holds `rows`, which ascend strictly by slot.
pub fn encode_table(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + rows.len() * 128);
    out.extend_from_slice(MAGIC);
    put_number(&mut out, rows.len() as u64);
    let mut last: &[u8] = b"";
    for row in rows {
        let slot = row.slot.as_bytes();
        let shared = slot.iter().zip(last).take_while(|(a, b)| a == b).count();
        put_number(&mut out, shared as u64);
        put_bytes(&mut out, &slot[shared..]);
        last = slot;
        encode_row(row, &mut out);
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn encode_row(row: &Row, out: &mut Vec<u8>) {
    let none = Meta::default();
    let meta = row.entry.meta().unwrap_or(&none);
    let digest = row.entry.content().and_then(|content| content.digest);
    let flag = |bit: u16, on: bool| if on { bit } else { 0 };
    let flags = flag(MODE, meta.mode.is_some())
        | flag(OWNER, meta.owner.is_some())
        | flag(MTIME, meta.mtime.is_some())
        | flag(XATTRS, meta.xattrs.is_some())
        | flag(DIGEST, digest.is_some())
        | flag(MD5, row.md5.is_some())
        | flag(OWNER_NAMES, row.names.is_some())
        | flag(LINK_GROUP, group(&row.entry).is_some());
    out.push(kind_code(&row.entry));
    out.extend_from_slice(&flags.to_le_bytes());
    put_bytes(out, if let Tag::Store(tag) = &row.tag { tag } else { b"" });
    put_number(out, row.generation);
    match &row.entry {
        Entry::Dir(_) => (),
        Entry::Link(_, target) => put_bytes(out, target),
        Entry::Special(_, Special::Block(major, minor) | Special::Char(major, minor)) => {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
        Entry::Special(..) => (),
        entry => put_number(out, entry.size()),
    }
    if let Some(mode) = meta.mode {
        out.extend_from_slice(&mode.to_le_bytes());
    }
    if let Some(owner) = meta.owner {
        out.extend_from_slice(&owner.uid.to_le_bytes());
        out.extend_from_slice(&owner.gid.to_le_bytes());
    }
    if let Some(time) = meta.mtime {
        out.extend_from_slice(&time.secs.to_le_bytes());
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    if let Some(xattrs) = &meta.xattrs {
        put_number(out, xattrs.len() as u64);
        for (name, value) in xattrs.iter() {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
    out.extend(digest.iter().flat_map(|digest| digest.0));
    out.extend(row.md5.iter().flatten());
    if let Some(names) = &row.names {
        put_bytes(out, &names.user);
        put_bytes(out, &names.group);
    }
    out.extend(group(&row.entry).iter().flat_map(|group| group.0.to_le_bytes()));
}

/// The group of names of one file that an entry belongs to.
pub fn group(entry: &Entry) -> Option<LinkId> {
    match entry {
        Entry::File(_, _, group) => *group,
        _ => None,
    }
}

/// Says which group an entry belongs to.
pub fn set_group(entry: &mut Entry, to: Option<LinkId>) {
    if let Entry::File(_, _, group) = entry {
        *group = to;
    }
}

/// The rows of a table.
pub fn decode_table(bytes: &[u8]) -> Result<Vec<Row>> {
    if !bytes.starts_with(MAGIC) {
        let newer = bytes.starts_with(b"SLATTR");
        return Err(if newer {
            Fault::new(Kind::Unsupported, "an attribute table of a newer Syncline", "")
                .hint("update Syncline on this machine")
        } else {
            damaged("it begins with other bytes")
        });
    }
    let end = bytes
        .len()
        .checked_sub(SUM)
        .filter(|end| *end >= MAGIC.len())
        .ok_or_else(|| damaged("it is too short"))?;
    let (body, sum) = bytes.split_at(end);
    if blake3::hash(body).as_bytes() != sum {
        return Err(damaged("its digest does not match"));
    }
    let mut from = Reader(&body[MAGIC.len()..]);
    let count = from.number()?;
    let mut rows: Vec<Row> = Vec::new();
    let mut last = Vec::new();
    for _ in 0..count {
        let shared = from.length(SLOT_MAX)?;
        let rest = from.bytes(SLOT_MAX)?;
        if shared > last.len() || shared + rest.len() > SLOT_MAX {
            return Err(damaged("a name is too long"));
        }
        let mut name = last[..shared].to_vec();
        name.extend_from_slice(rest);
        if name <= last {
            return Err(damaged("its names do not ascend"));
        }
        let slot = Slot::new(name.as_slice()).map_err(|_| damaged("a name is no path"))?;
        last = name;
        rows.push(decode_row(slot, &mut from)?);
    }
    if from.0.is_empty() {
        Ok(rows)
    } else {
        Err(damaged("bytes follow its last row"))
    }
}

fn decode_row(slot: Slot, from: &mut Reader<'_>) -> Result<Row> {
    let kind = from.array::<1>()?[0];
    let flags = u16::from_le_bytes(from.array()?);
    if flags & !KNOWN != 0 || kind > 6 || (kind == 1) != slot.is_dir() {
        return Err(damaged("a row of an unknown kind"));
    }
    let has = |bit: u16| flags & bit != 0;
    let tag = from.bytes(TAG_MAX)?;
    let tag = if tag.is_empty() {
        Tag::None
    } else {
        Tag::Store(tag.into())
    };
    let generation = from.number()?;
    let (mut size, mut target, mut device) = (0, &b""[..], (0, 0));
    match kind {
        0 => size = from.number()?,
        2 => target = from.bytes(VALUE_MAX)?,
        5 | 6 => {
            device = (
                u32::from_le_bytes(from.array()?),
                u32::from_le_bytes(from.array()?),
            )
        }
        _ => (),
    }
    let mut meta = Meta::default();
    if has(MODE) {
        meta.mode = Some(u32::from_le_bytes(from.array()?) & 0o7777);
    }
    if has(OWNER) {
        meta.owner = Some(Owner {
            uid: u32::from_le_bytes(from.array()?),
            gid: u32::from_le_bytes(from.array()?),
        });
    }
    if has(MTIME) {
        let time = Time {
            secs: i64::from_le_bytes(from.array()?),
            nanos: u32::from_le_bytes(from.array()?),
        };
        meta.mtime = Some(time).filter(|time| time.nanos < 1_000_000_000);
    }
    if has(XATTRS) {
        let mut xattrs = Vec::new();
        for _ in 0..from.length(VALUE_MAX)? {
            xattrs.push((from.bytes(VALUE_MAX)?.to_vec(), from.bytes(VALUE_MAX)?.to_vec()));
        }
        meta.xattrs = Some(Box::new(xattrs));
    }
    let digest = if has(DIGEST) {
        Some(Digest(from.array()?))
    } else {
        None
    };
    let md5 = if has(MD5) { Some(from.array()?) } else { None };
    let names = if has(OWNER_NAMES) {
        Some(Names {
            user: from.bytes(VALUE_MAX)?.into(),
            group: from.bytes(VALUE_MAX)?.into(),
        })
    } else {
        None
    };
    let group = if has(LINK_GROUP) {
        Some(LinkId(u64::from_le_bytes(from.array()?)))
    } else {
        None
    };
    let entry = match kind {
        0 => Entry::File(meta, Content { size, digest, md5 }, group),
        1 => Entry::Dir(meta),
        2 => Entry::Link(meta, target.into()),
        3 => Entry::Special(meta, Special::Fifo),
        4 => Entry::Special(meta, Special::Socket),
        5 => Entry::Special(meta, Special::Block(device.0, device.1)),
        _ => Entry::Special(meta, Special::Char(device.0, device.1)),
    };
    Ok(Row {
        slot,
        entry,
        tag,
        md5,
        generation,
        names,
    })
}

fn damaged(why: &str) -> Fault {
    Fault::new(Kind::Corrupt, format!("a damaged attribute table: {why}"), "")
        .hint("remove that object; what it held is learned again from the objects themselves")
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| damaged("it ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged("it ends early"))
    }

    fn number(&mut self) -> Result<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.array::<1>()?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(damaged("a number is too large"))
    }

    fn length(&mut self, max: usize) -> Result<usize> {
        usize::try_from(self.number()?)
            .ok()
            .filter(|len| *len <= max)
            .ok_or_else(|| damaged("a length is too large"))
    }

    fn bytes(&mut self, max: usize) -> Result<&'a [u8]> {
        let len = self.length(max)?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Row> {
        let slot = |text: &str| Slot::try_from(text).unwrap();
        let meta = Meta {
            mode: Some(0o4755),
            owner: Some(Owner { uid: 1000, gid: 100 }),
            mtime: Some(Time {
                secs: -2,
                nanos: 500_000_000,
            }),
            xattrs: Some(Box::new(vec![(b"user.a".to_vec(), b"\0\xff".to_vec())])),
        };
        let content = Content {
            size: 1 << 40,
            digest: Some(Digest([7; 32])),
            md5: Some([9; 16]),
        };
        let tag = Tag::Store(b"\"0123-4\"".as_slice().into());
        let row = |slot, entry: Entry, tag, generation| {
            let md5 = entry.content().and_then(|content| content.md5);
            Row {
                slot,
                entry,
                tag,
                md5,
                generation,
                names: None,
            }
        };
        let plain = Meta::default();
        let mut early = row(
            slot("a/link"),
            Entry::Link(plain.clone(), b"../x"[..].into()),
            Tag::None,
            0,
        );
        early.md5 = Some([3; 16]);
        vec![
            row(slot("a/"), Entry::Dir(meta.clone()), Tag::None, 300),
            row(
                slot("a/dev"),
                Entry::Special(plain.clone(), Special::Block(8, 1)),
                tag.clone(),
                0,
            ),
            row(slot("a/file"), Entry::File(meta, content, None), tag.clone(), 0),
            early,
            row(
                slot("b"),
                Entry::File(plain.clone(), Content::unread(0), None),
                tag.clone(),
                0,
            ),
            row(slot("pipe"), Entry::Special(plain, Special::Fifo), tag, 0),
        ]
    }

    #[test]
    fn rows_come_back() {
        assert_eq!(decode_table(&encode_table(&sample())).unwrap(), sample());
        assert_eq!(decode_table(&encode_table(&[])).unwrap(), []);
    }

    #[test]
    fn the_format_stands_as_it_was_released() {
        let frozen = include_bytes!("../../../../testdata/attributes-v1.bin");
        assert_eq!(decode_table(frozen).unwrap(), sample());
        assert_eq!(encode_table(&sample()), frozen);
    }

    #[test]
    fn names_of_owners_come_back_and_older_readers_read_over_them() {
        let mut rows = sample();
        rows[2].names = Some(Names {
            user: b"anna"[..].into(),
            group: b""[..].into(),
        });
        assert_eq!(decode_table(&encode_table(&rows)).unwrap(), rows);
    }

    #[test]
    fn damage_is_refused_wherever_it_lies() {
        let whole = encode_table(&sample());
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x41;
            assert!(decode_table(&bad).is_err(), "byte {at}");
            assert!(decode_table(&whole[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn rows_that_lie_with_a_right_digest_are_refused_without_growing() {
        let whole = encode_table(&sample());
        let body = &whole[..whole.len() - SUM];
        let mut seed = 1u64;
        for at in MAGIC.len()..body.len() {
            for _ in 0..20 {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let mut bad = body.to_vec();
                bad[at] = (seed >> 33) as u8;
                let sum = blake3::hash(&bad);
                bad.extend_from_slice(sum.as_bytes());
                if let Ok(rows) = decode_table(&bad) {
                    assert!(rows.is_sorted_by(|a, b| a.slot < b.slot));
                }
            }
        }
        let mut huge = MAGIC.to_vec();
        huge.extend_from_slice(&[0xff; 9]);
        huge.push(1);
        let sum = blake3::hash(&huge);
        huge.extend_from_slice(sum.as_bytes());
        assert!(decode_table(&huge).is_err());
    }
}

//! What the session's table holds, and how it is written.
//!
//! One key space, one byte of prefix each: `a` agreed versions of small files by slot (for merging), `b` base rows by slot, `d` digests made
//! before they could be agreed on, `c` open conflicts by path, `n` spellings by path, `t` bytes of trash by run, `x` what a merge
//! command made, by digest, `w` what a run has too much of for memory, `i` what is remembered of the session itself. Values are postcard;
//! the first byte of `i/version` says which.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use syncline_model::{
    Digest, Fault, Identity, Kind, Observation, Pair, RelPath, Result, Row, Side, Slot, Tag,
};
use syncline_store::{Batch, Rows, Table};

use crate::spill::Spilt;

/// Number of this layout; another one is refused.
pub const VERSION: u8 = 2;

const ANCESTOR: u8 = b'a';
const BASE: u8 = b'b';
const DIGEST: u8 = b'd';
pub(crate) const CONFLICT: u8 = b'c';
const OWN: u8 = b'i';
const MADE: u8 = b'x';
const SPELLING: u8 = b'n';
const TRASH: u8 = b't';
const SPILT: u8 = b'w';

/// Says that what was known is gone, and where it lies if it was damaged.
const LOST: &[u8] = b"/lost";
/// Says that there are digests.
const DIGESTS: &[u8] = b"/digests";
/// Bytes of a usual row.
const ROW: usize = 512;

/// Encodes a value of ours.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    // Most rows fit: growing byte by byte costs more than encoding.
    postcard::to_extend(value, Vec::with_capacity(ROW))
        .map_err(|error| Fault::new(Kind::Bug, "cannot encode a state row", "").because(error))
}

/// Decodes a value of ours; damage is `Corrupt`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|error| {
        Fault::new(Kind::Corrupt, "a state row is damaged", "")
            .because(error)
            .hint("remove the session's state directory: the next run rebuilds it by content")
    })
}

/// A base row as it is kept: both sides mostly have the same entry, which is kept once.
#[derive(Serialize, Deserialize)]
pub(crate) enum Kept<T> {
    /// Each has its own.
    Each(Pair<Option<T>>),
    /// Both have the left one's entry; the tag of the right one.
    Same(T, Tag),
}

impl<'a> Kept<&'a Observation> {
    pub(crate) fn of(row: &'a Row) -> Self {
        match (&row.left, &row.right) {
            (Some(left), Some(right)) if left.entry == right.entry => Self::Same(left, right.tag.clone()),
            (left, right) => Self::Each(Pair::new(left.as_ref(), right.as_ref())),
        }
    }
}

impl From<Kept<Observation>> for Row {
    fn from(kept: Kept<Observation>) -> Self {
        match kept {
            Kept::Each(row) => row,
            Kept::Same(left, tag) => {
                let entry = left.entry.clone();
                Pair::new(Some(left), Some(Observation { entry, tag }))
            }
        }
    }
}

fn encode_row(row: &Row) -> Result<Vec<u8>> {
    encode(&Kept::of(row))
}

fn decode_row(bytes: &[u8]) -> Result<Row> {
    Ok(decode::<Kept<Observation>>(bytes)?.into())
}

pub(crate) fn key(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(prefix);
    key.extend_from_slice(rest);
    key
}

/// What is remembered between runs beside the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Remembered {
    /// Who answered at each side when the last run ended.
    pub identity: Pair<Option<Identity>>,
    /// Deletions that are skipped, as the last run was told.
    pub skip_deletes: Pair<bool>,
}

/// The session's table by name.
#[derive(Clone)]
pub struct Base {
    table: Arc<dyn Table>,
    /// Read as if it had no rows.
    blank: bool,
}

impl Base {
    /// The table itself, for the rooms that keep their own rows in it.
    pub(crate) fn table(&self) -> &dyn Table {
        &*self.table
    }

    /// True when nothing was ever written to this table.
    pub fn is_fresh(table: &dyn Table) -> Result<bool> {
        Ok(table.get(b"i/version")?.is_none())
    }

    /// Notes that what earlier runs agreed on is gone.
    pub fn note_lost(&self, why: &str) -> Result<()> {
        self.table
            .write(vec![(key(OWN, LOST), Some(why.as_bytes().to_vec()))])
    }

    /// Why what earlier runs agreed on is gone, until a run has found it again.
    pub fn lost(&self) -> Result<Option<String>> {
        let why = self.table.get(&key(OWN, LOST))?;
        Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
    }

    /// A run has found again what was gone.
    pub fn found_again(&self) -> Result<()> {
        match self.table.get(&key(OWN, LOST))? {
            Some(_) => self.table.write(vec![(key(OWN, LOST), None)]),
            None => Ok(()),
        }
    }

    /// Opens the table of a session; another layout than ours is refused.
    pub fn open(table: Arc<dyn Table>) -> Result<Self> {
        match table.get(b"i/version")? {
            None => table.write(vec![(b"i/version".to_vec(), Some(vec![VERSION]))])?,
            Some(version) if version == [VERSION] => {}
            Some(version) => {
                let what =
                    format!("the session's state has layout {version:?}, this program knows {VERSION}");
                let newer = version.first().is_some_and(|version| *version > VERSION);
                return Err(Fault::new(Kind::Unsupported, what, "").hint(if newer {
                    "a newer version of this program wrote it: use that one"
                } else {
                    "an older version of this program wrote it: end the session with `syncline leave` of that one"
                }));
            }
        }
        Ok(Self { table, blank: false })
    }

    /// The same, read as if nothing had been agreed on yet.
    #[must_use]
    pub fn blank(&self) -> Self {
        Self {
            blank: true,
            ..self.clone()
        }
    }

    /// What is remembered beside the rows.
    pub fn remembered(&self) -> Result<Remembered> {
        self.table
            .get(b"i/remembered")?
            .map_or(Ok(Remembered::default()), |bytes| decode(&bytes))
    }

    /// Remembers.
    pub fn remember(&self, what: &Remembered) -> Result<()> {
        self.table
            .write(vec![(key(OWN, b"/remembered"), Some(encode(what)?))])
    }

    /// The row at a slot.
    pub fn row(&self, slot: &Slot) -> Result<Option<Row>> {
        if self.blank {
            return Ok(None);
        }
        self.table
            .get(&key(BASE, slot.as_bytes()))?
            .map(|bytes| decode_row(&bytes))
            .transpose()
    }

    /// All rows in order.
    pub fn rows(&self) -> impl Iterator<Item = Result<(Slot, Row)>> + Send + use<> {
        let rows = (!self.blank).then(|| self.table.scan(&[BASE], &[BASE]));
        rows.into_iter().flatten().map(|row| {
            let (key, value) = row?;
            let slot = Slot::new(&key[1..]).map_err(|bad| {
                Fault::new(Kind::Corrupt, "a name in the session's base is damaged", "").because(bad)
            })?;
            Ok((slot, decode_row(&value)?))
        })
    }

    /// Writes rows; `None` removes.
    pub fn write(&self, rows: Vec<(Slot, Option<Row>)>) -> Result<()> {
        let mut batch: Batch = Vec::with_capacity(rows.len());
        for (slot, row) in rows {
            batch.push((
                key(BASE, slot.as_bytes()),
                row.map(|row| encode_row(&row)).transpose()?,
            ));
        }
        if batch.is_empty() {
            Ok(())
        } else {
            self.table.write(batch)
        }
    }

    /// The row at `from`, and all rows below it if it is a directory's, get the name `to`: what both sides have under the new name has no second
    /// one in the base.
    pub fn rename(&self, from: &Slot, to: &Slot) -> Result<()> {
        if to.as_bytes().starts_with(from.as_bytes()) || from.is_dir() != to.is_dir() {
            return Ok(());
        }
        if from.is_dir() {
            return self.carry(from.as_bytes(), to.as_bytes());
        }
        let old = key(BASE, from.as_bytes());
        match self.table.get(&old)? {
            Some(row) => self
                .table
                .write(vec![(old, None), (key(BASE, to.as_bytes()), Some(row))]),
            None => Ok(()),
        }
    }

    /// The rows of two things of one kind change names.
    pub fn exchange(&self, one: &Slot, two: &Slot) -> Result<()> {
        if one.is_dir() {
            let aside = Slot::of(&syncline_model::moves::aside(), true);
            self.rename(two, &aside)?;
            self.rename(one, two)?;
            return self.rename(&aside, one);
        }
        let keys = [one, two].map(|slot| key(BASE, slot.as_bytes()));
        let rows = [self.table.get(&keys[0])?, self.table.get(&keys[1])?];
        let ([first, second], [a, b]) = (keys, rows);
        self.table.write(vec![(first, b), (second, a)])
    }

    fn carry(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let ancestors = self.carried(ANCESTOR, from, to);
        self.table
            .load(Box::new(ancestors.chain(self.carried(BASE, from, to))))
    }

    /// What gives the rows of one kind another name.
    fn carried(
        &self,
        kind: u8,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>)>> + Send + use<> {
        let (old, new) = (key(kind, from), key(kind, to));
        let mut leave = self.table.scan(&old, &old).peekable();
        let mut arrive = self
            .table
            .scan(&old, &old)
            .map(move |row| row.map(|(key, row)| ([&new, &key[old.len()..]].concat(), row)))
            .peekable();
        std::iter::from_fn(move || {
            // A name that one row leaves and another comes to: the last word counts.
            let first = match (leave.peek(), arrive.peek()) {
                (Some(Ok((leaves, _))), Some(Ok((arrives, _)))) => leaves <= arrives,
                (leaves, _) => leaves.is_some(),
            };
            if first {
                leave.next().map(|row| row.map(|(key, _)| (key, None)))
            } else {
                arrive.next().map(|row| row.map(|(key, row)| (key, Some(row))))
            }
        })
    }

    /// Forgets all rows.
    pub fn drop_rows(&self) -> Result<()> {
        self.drop_prefix(&[BASE])
    }

    fn drop_prefix(&self, prefix: &[u8]) -> Result<()> {
        // Where the rows begin that are still to go: a scan from the first would wade through all that are gone.
        let mut next = prefix.to_vec();
        loop {
            let keys: Vec<_> = self
                .table
                .scan(prefix, &next)
                .take(4096)
                .map(|row| row.map(|row| row.0))
                .collect::<Result<_>>()?;
            let Some(last) = keys.last() else { return Ok(()) };
            next.clone_from(last);
            self.table
                .write(keys.into_iter().map(|key| (key, None)).collect())?;
        }
    }

    /// Forgets what an earlier run has spilt and not dropped.
    pub fn begin_spilling(&self, kind: Spilt) -> Result<()> {
        // Looking for rows among all that are gone would take long.
        if self.table.get(&spilling_key(kind))?.is_some() {
            self.end_spilling(kind)?;
        }
        self.table.write(vec![(spilling_key(kind), Some(Vec::new()))])
    }

    /// Forgets what a run has spilt.
    pub fn end_spilling(&self, kind: Spilt) -> Result<()> {
        self.drop_prefix(&[SPILT, kind as u8])?;
        self.table.write(vec![(spilling_key(kind), None)])
    }

    /// What was spilt under a key.
    pub fn spilt(&self, kind: Spilt, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.table.get(&spilt_key(kind, key))
    }

    /// All that was spilt of a kind, by key.
    pub fn all_spilt(&self, kind: Spilt) -> Rows {
        let prefix = spilt_key(kind, &[]);
        let rows = self.table.scan(&prefix, &prefix);
        Box::new(rows.map(move |row| row.map(|(key, value)| (key[prefix.len()..].to_vec(), value))))
    }

    /// Spills; `None` forgets.
    pub fn spill(&self, kind: Spilt, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
        self.table.write(vec![(spilt_key(kind, key), value)])
    }

    /// A digest that an earlier run made and could not use.
    pub fn digest(&self, side: Side, slot: &Slot) -> Result<Option<Observation>> {
        self.table
            .get(&digest_key(side, slot))?
            .map(|bytes| decode(&bytes))
            .transpose()
    }

    /// Keeps digests that were just made: observations with their content known.
    pub fn keep_digests(&self, made: Vec<(Side, Slot, Observation)>) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let mut batch: Batch = Vec::with_capacity(made.len() + 1);
        batch.push((key(OWN, DIGESTS), Some(Vec::new())));
        for (side, slot, seen) in made {
            batch.push((digest_key(side, &slot), Some(encode(&seen)?)));
        }
        self.table.write(batch)
    }

    /// Forgets kept digests: the base has them now.
    pub fn drop_digests(&self) -> Result<()> {
        // Looking for one among all that are gone would take long.
        if self.table.get(&key(OWN, DIGESTS))?.is_none() {
            return Ok(());
        }
        self.drop_prefix(&[DIGEST])?;
        self.table.write(vec![(key(OWN, DIGESTS), None)])
    }

    /// How a side spells the last name of a path, where that is not as the path has it.
    pub fn spelling(&self, side: Side, path: &RelPath) -> Result<Option<Vec<u8>>> {
        self.table.get(&spelling_key(side, path))
    }

    /// Notes how a side spells last names of paths; `None`: as the path has it.
    pub fn note_spellings(&self, side: Side, spelt: Vec<(RelPath, Option<Vec<u8>>)>) -> Result<()> {
        let row = |(path, name): (RelPath, Option<Vec<u8>>)| (spelling_key(side, &path), name);
        let batch: Batch = spelt.into_iter().map(row).collect();
        if batch.is_empty() {
            Ok(())
        } else {
            self.table.write(batch)
        }
    }

    /// The version of a small file that was agreed on, as it was kept for merging.
    pub fn ancestor(&self, slot: &Slot) -> Result<Option<Vec<u8>>> {
        self.table.get(&key(ANCESTOR, slot.as_bytes()))
    }

    /// Keeps an agreed version; `None` forgets it.
    pub fn keep_ancestor(&self, slot: &Slot, bytes: Option<Vec<u8>>) -> Result<()> {
        self.table.write(vec![(key(ANCESTOR, slot.as_bytes()), bytes)])
    }

    /// What a merge command made.
    pub fn made(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.table.get(&key(MADE, &digest.0))
    }

    /// Keeps what a merge command made until it stands on both sides.
    pub fn keep_made(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.table
            .write(vec![(key(MADE, &digest.0), Some(bytes.to_vec()))])
    }

    /// Forgets what merge commands made: it stands on both sides, or will be made again.
    pub fn drop_made(&self) -> Result<()> {
        self.drop_prefix(&[MADE])
    }

    /// Notes how many bytes a run put into each side's trash.
    pub fn note_trash(&self, run: &str, bytes: &Pair<u64>) -> Result<()> {
        let mut batch: Batch = Vec::new();
        for side in Side::BOTH {
            if bytes[side] > 0 {
                batch.push((trash_key(side, run), Some(encode(&bytes[side])?)));
            }
        }
        if batch.is_empty() {
            Ok(())
        } else {
            self.table.write(batch)
        }
    }

    /// Notes how many bytes a side's trash holds of any run.
    pub fn weigh_trash(&self, side: Side, run: &str, bytes: u64) -> Result<()> {
        self.table
            .write(vec![(trash_key(side, run), Some(encode(&bytes)?))])
    }

    /// Bytes that runs put into a side's trash.
    pub fn trash_bytes(&self, side: Side) -> Result<HashMap<String, u64>> {
        let prefix = trash_key(side, "");
        self.table
            .scan(&prefix, &prefix)
            .map(|row| {
                let (key, value) = row?;
                Ok((String::from_utf8_lossy(&key[2..]).into_owned(), decode(&value)?))
            })
            .collect()
    }

    /// That trash is gone.
    pub fn forget_trash(&self, side: Side, run: &str) -> Result<()> {
        self.table.write(vec![(trash_key(side, run), None)])
    }

    /// Returns when all that was written survives a power cut.
    pub fn persist(&self) -> Result<()> {
        self.table.persist()
    }
}

fn spilling_key(kind: Spilt) -> Vec<u8> {
    [&[OWN][..], b"/spilling/", &[kind as u8]].concat()
}

fn spilt_key(kind: Spilt, key: &[u8]) -> Vec<u8> {
    [&[SPILT, kind as u8], key].concat()
}

fn trash_key(side: Side, run: &str) -> Vec<u8> {
    [&[TRASH, side as u8], run.as_bytes()].concat()
}

fn spelling_key(side: Side, path: &RelPath) -> Vec<u8> {
    [&[SPELLING, side as u8], path.as_bytes()].concat()
}

fn digest_key(side: Side, slot: &Slot) -> Vec<u8> {
    let mut key = vec![DIGEST, side as u8];
    key.extend_from_slice(slot.as_bytes());
    key
}

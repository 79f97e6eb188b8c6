//! Triples and pieces of them on their way through a sort, small: an entry that the base and the sides share is written once.
//!
//! Invariant: what is unpacked is what was packed.

use serde::{Deserialize, Serialize};
use syncline_model::moves::Piece;
use syncline_model::{
    Fault, Kind, Located, Observation, Pair, RelPath, Result, Row, Side, Slot, Triple, Was,
};

use crate::rows::{Kept, decode, encode};

/// What a side shows, beside what the base says of it.
#[derive(Serialize, Deserialize)]
enum Shown<L> {
    /// Nothing.
    Nothing,
    /// What the base says, at its slot or elsewhere.
    Agreed(Option<RelPath>),
    /// Something else.
    Other(L),
}

impl<'a> Shown<&'a Located> {
    fn of(located: Option<&'a Located>, row: Option<&Row>, side: Side) -> Self {
        let agreed = row.and_then(|row| row[side].as_ref());
        match located {
            None => Self::Nothing,
            Some(located) if Some(&located.seen) == agreed => Self::Agreed(located.at.clone()),
            Some(located) => Self::Other(located),
        }
    }
}

impl Shown<Located> {
    fn located(self, row: Option<&Row>, side: Side) -> Result<Option<Located>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Agreed(at) => {
                let seen = row.and_then(|row| row[side].clone()).ok_or_else(damaged)?;
                Ok(Some(Located { seen, at }))
            }
            Self::Other(located) => Ok(Some(located)),
        }
    }
}

#[cold]
fn damaged() -> Fault {
    Fault::new(Kind::Corrupt, "a sorted row is damaged", "").hint("run again; nothing was lost")
}

/// A triple without its slot, which is the key that it is sorted by.
#[derive(Serialize, Deserialize)]
struct Packed<O, L> {
    base: Option<Kept<O>>,
    was: Option<Was>,
    now: Pair<Shown<L>>,
}

/// Packs a triple.
pub fn pack(triple: &Triple) -> Result<Vec<u8>> {
    let base = triple.base.as_ref();
    encode(&Packed {
        base: base.map(Kept::of),
        was: triple.was.clone(),
        now: Pair::each(|side| Shown::of(triple.now[side].as_ref(), base, side)),
    })
}

/// The triple that was packed for a slot.
pub fn unpack(slot: Vec<u8>, bytes: &[u8]) -> Result<Triple> {
    let packed: Packed<Observation, Located> = decode(bytes)?;
    let base = packed.base.map(Row::from);
    let Pair { left, right } = packed.now;
    Ok(Triple {
        slot: slot_of(slot)?,
        was: packed.was,
        now: Pair::new(
            left.located(base.as_ref(), Side::Left)?,
            right.located(base.as_ref(), Side::Right)?,
        ),
        base,
    })
}

/// The slot that a sorted row has for its key.
pub fn slot_of(key: Vec<u8>) -> Result<Slot> {
    Slot::new(key).map_err(|bad| damaged().because(bad))
}

#[derive(Serialize, Deserialize)]
enum Part<O, L> {
    Base(Kept<O>, Was),
    Carried(Kept<O>, Was),
    Now(Side, Shown<L>),
}

/// Packs pieces that come to one slot.
pub fn pack_pieces<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Result<Vec<u8>> {
    let mut parts = Vec::with_capacity(2);
    let mut agreed = None;
    for piece in pieces {
        parts.push(match piece {
            Piece::Base(row, was) => {
                agreed = Some(row);
                Part::Base(Kept::of(row), was.clone())
            }
            Piece::Carried(row, was) => {
                agreed = Some(row);
                Part::Carried(Kept::of(row), was.clone())
            }
            Piece::Now(side, located) => Part::Now(*side, Shown::of(Some(located), agreed, *side)),
        });
    }
    encode(&parts)
}

/// The pieces that were packed.
pub fn unpack_pieces(bytes: &[u8]) -> Result<Vec<Piece>> {
    let parts: Vec<Part<Observation, Located>> = decode(bytes)?;
    let mut agreed: Option<Row> = None;
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        pieces.push(match part {
            Part::Base(kept, was) => Piece::Base(agreed.insert(kept.into()).clone(), was),
            Part::Carried(kept, was) => Piece::Carried(agreed.insert(kept.into()).clone(), was),
            Part::Now(side, shown) => {
                let located = shown.located(agreed.as_ref(), side)?.ok_or_else(damaged)?;
                Piece::Now(side, located)
            }
        });
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use syncline_model::{Content, Entry, Meta, Stamp, Tag, Time};

    use super::*;

    fn seen(size: u64, inode: u64) -> Observation {
        Observation {
            entry: Entry::File(Meta::default(), Content::unread(size), None),
            tag: Tag::Stamp(Stamp {
                fs: 1,
                inode,
                ctime: Time { secs: 1, nanos: 1 },
            }),
        }
    }

    fn slot(path: &str) -> Slot {
        Slot::new(path.as_bytes().to_vec()).unwrap()
    }

    fn was() -> Was {
        Was {
            slot: slot("old"),
            reused: true,
            carried: false,
        }
    }

    /// Nothing, what the base says, the same elsewhere, something else.
    fn shown() -> Vec<Option<Located>> {
        let at = |seen: Observation, at: Option<&str>| Located {
            seen,
            at: at.map(|at| RelPath::try_from(at).unwrap()),
        };
        vec![
            None,
            Some(at(seen(1, 1), None)),
            Some(at(seen(1, 2), None)),
            Some(at(seen(1, 1), Some("elsewhere"))),
            Some(at(seen(3, 9), None)),
        ]
    }

    fn rows() -> Vec<Option<Row>> {
        let each = |left: u64, right: u64| Some(Pair::new(Some(seen(left, 1)), Some(seen(right, 2))));
        let one = Some(Pair::new(Some(seen(1, 1)), None));
        vec![None, each(1, 1), each(1, 2), one, Some(Pair::new(None, None))]
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        for base in rows() {
            for left in shown() {
                for right in shown() {
                    let triple = Triple {
                        slot: slot("d/f"),
                        base: base.clone(),
                        was: base.is_some().then(was),
                        now: Pair::new(left.clone(), right.clone()),
                    };
                    let bytes = pack(&triple).unwrap();
                    assert_eq!(unpack(b"d/f".to_vec(), &bytes).unwrap(), triple);

                    let now = [(Side::Left, left.clone()), (Side::Right, right.clone())];
                    let now = now
                        .into_iter()
                        .filter_map(|(side, located)| Some(Piece::Now(side, located?)));
                    for carried in [true, false] {
                        let piece = |row| {
                            if carried {
                                Piece::Carried(row, was())
                            } else {
                                Piece::Base(row, was())
                            }
                        };
                        let pieces: Vec<_> = base.clone().map(piece).into_iter().chain(now.clone()).collect();
                        let bytes = pack_pieces(pieces.iter()).unwrap();
                        assert_eq!(unpack_pieces(&bytes).unwrap(), pieces);
                    }
                }
            }
        }
    }

    #[test]
    fn an_unchanged_file_is_packed_once() {
        let agreed = seen(1 << 40, 1);
        let row = Pair::new(Some(agreed.clone()), Some(agreed.clone()));
        let now = Pair::each(|_| {
            Some(Located {
                seen: agreed.clone(),
                at: None,
            })
        });
        let triple = |base, now| Triple {
            slot: slot("f"),
            base,
            was: None,
            now,
        };
        let alone = pack(&triple(None, Pair::new(now.left.clone(), None)))
            .unwrap()
            .len();
        let whole = pack(&triple(Some(row), now)).unwrap().len();
        let tag = encode(&agreed.tag).unwrap().len();
        assert!(whole <= alone + tag + 6, "{whole} bytes, one side alone {alone}");
    }
}

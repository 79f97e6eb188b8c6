//! Bytes of a file on the simulated disk.

use super::*;

/// Bytes in a block; what lies between blocks is a hole.
pub const BLOCK: u64 = 4096;

/// A file's bytes: blocks that are there, and the length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes {
    pub blocks: BTreeMap<u64, Arc<[u8; BLOCK as usize]>>,
    pub len: u64,
}

impl Bytes {
    pub fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let len = (self.len.saturating_sub(at)).min(into.len() as u64) as usize;
        for (n, byte) in into[..len].iter_mut().enumerate() {
            let place = at + n as u64;
            *byte = self
                .blocks
                .get(&(place / BLOCK))
                .map_or(0, |block| block[(place % BLOCK) as usize]);
        }
        len
    }

    pub fn write(&mut self, at: u64, mut bytes: &[u8]) {
        let mut place = at;
        while !bytes.is_empty() {
            let start = (place % BLOCK) as usize;
            let len = bytes.len().min(BLOCK as usize - start);
            let block = self
                .blocks
                .entry(place / BLOCK)
                .or_insert_with(|| Arc::new([0; BLOCK as usize]));
            Arc::make_mut(block)[start..start + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            place += len as u64;
        }
        self.len = self.len.max(place);
    }

    pub fn set_len(&mut self, len: u64) {
        self.blocks.split_off(&len.div_ceil(BLOCK));
        if len < self.len
            && let Some(last) = self.blocks.get_mut(&(len / BLOCK))
        {
            Arc::make_mut(last)[(len % BLOCK) as usize..].fill(0);
        }
        self.len = len;
    }

    pub fn data(&self, from: u64) -> Option<Range> {
        let mut blocks = self.blocks.range(from / BLOCK..).map(|(n, _)| *n);
        let first = blocks.next()?;
        let mut end = first + 1;
        while blocks.next() == Some(end) {
            end += 1;
        }
        let start = from.max(first * BLOCK);
        let end = (end * BLOCK).min(self.len);
        (start < end).then_some(Range {
            start,
            len: end - start,
        })
    }

    pub fn allocated(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    /// What a power cut may leave of an unsynced write: each block and the length of one or the other.
    pub(super) fn torn(old: &Self, new: &Self, dice: &SeededDice) -> Self {
        let mut mixed = Self {
            blocks: BTreeMap::new(),
            len: if dice.chance(50) { old.len } else { new.len },
        };
        let all: BTreeSet<u64> = old.blocks.keys().chain(new.blocks.keys()).copied().collect();
        for n in all.into_iter().filter(|n| n * BLOCK < mixed.len) {
            let from = if dice.chance(50) { old } else { new };
            if let Some(block) = from.blocks.get(&n) {
                mixed.blocks.insert(n, Arc::clone(block));
            }
        }
        let len = mixed.len;
        mixed.len = u64::MAX;
        mixed.set_len(len);
        mixed
    }
}

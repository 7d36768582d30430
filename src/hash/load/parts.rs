//! Entries in memory, in parts by some bits of their hashes, and sorted a part at a time.
//!
//! ```text
//!   record    0          2             6
//!             | u16      | u32         | key | value
//!               key's      value's
//!               length     length
//! ```
//!
//! An entry is appended to its part, a few hundred places that are written to side by side, and
//! stays there: a part is small enough for the processor's caches, so sorting it and reading it in
//! order wait for no memory.

use crate::{
    Error, Result,
    codec::{prefetch, seeded_hash},
};
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapOptions};

/// How many bits of the hash say which part it belongs to.
pub(super) const PART_BITS: u32 = 8;
/// How many parts there are.
pub(super) const PARTS: usize = 1 << PART_BITS;
/// The length of a record's head.
const HEAD: usize = 6;
/// How long a block of a part is, if no record is longer: short, so that a small load takes little.
const BLOCK_MIN: usize = 512;
const BLOCK_MAX: usize = 4 << 10;
/// So many blocks make a part, at least, when the memory is used up.
const BLOCKS_A_PART: usize = 8;
/// How much memory is asked of the system at once: the more, the more there is.
const ASK_MIN: usize = 16 << 10;
const ASK_MAX: usize = 1 << 20;
/// How far ahead of a walk through a block memory is asked for, and how much at a time.
const AHEAD: usize = 2048;
const LINE: usize = 64;
/// How many entries ahead records are asked for.
const RECORDS_AHEAD: usize = 8;
/// How many bits of an entry's place say where in its block it is: no block is as long.
const WITHIN_BITS: u32 = 40;

/// All parts.
pub(super) struct Parts {
    memory: Memory,
    /// Of each part, in the order in which they came.
    blocks: Vec<Vec<Block>>,
}

/// Some whole records of a part.
enum Block {
    /// The first bytes of a block of the memory.
    Short { number: usize, len: usize },
    /// A record that is longer than a block.
    Long(Vec<u8>),
}

/// Memory in blocks of one length.
struct Memory {
    /// All blocks side by side.
    bytes: MmapMut,
    /// Up to here the system was asked for memory; the rest comes when it is first written to.
    asked: usize,
    block: usize,
    /// Blocks that were used before, and the first that was not.
    free: Vec<usize>,
    fresh: usize,
    /// Bytes in use, those of long records too.
    held: usize,
}

impl Memory {
    fn new(bytes: usize) -> Result<Self> {
        let block = (bytes / PARTS / BLOCKS_A_PART).clamp(BLOCK_MIN, BLOCK_MAX);
        // One block for each part there has to be.
        let bytes = bytes.max(PARTS * block);
        let mapped = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        // Without asking for huge pages: where a virtual machine's host had to find them a load was
        // half as fast, where they were there it was faster by a tenth.
        let bytes = mapped.map_err(|error| Error::io("reserve memory for", "a load", error))?;
        Ok(Self { bytes, asked: 0, block, free: Vec::new(), fresh: 0, held: 0 })
    }

    fn take(&mut self) -> Option<usize> {
        let number = self.free.pop().or_else(|| self.take_fresh())?;
        self.held += self.block;
        Some(number)
    }

    fn take_fresh(&mut self) -> Option<usize> {
        let end = (self.fresh + 1) * self.block;
        if end > self.bytes.len() {
            return None;
        }
        if end > self.asked {
            // Many pages at once, which costs less than to stumble over each of them.
            let more = self.asked.clamp(ASK_MIN, ASK_MAX).min(self.bytes.len() - self.asked);
            #[cfg(target_os = "linux")]
            let _ = self.bytes.advise_range(Advice::PopulateWrite, self.asked, more);
            self.asked += more;
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    fn give(&mut self, number: usize) {
        self.held -= self.block;
        self.free.push(number);
    }

    /// Where a block has room for `len` more bytes. Asks for what will be written next time: a
    /// store that waits for memory holds up whatever needs all stores done, such as counting a
    /// reference to an entry's bytes.
    #[inline]
    fn room(&mut self, number: usize, from: usize, len: usize) -> Option<&mut [u8]> {
        let next = number * self.block + from + len + LINE;
        prefetch(&self.bytes, next);
        prefetch(&self.bytes, next + LINE);
        let block = self.bytes.get_mut(number * self.block..(number + 1) * self.block)?;
        block.get_mut(from..from + len)
    }
}

impl Parts {
    /// With room for about so many bytes.
    pub(super) fn new(memory: usize) -> Result<Self> {
        let blocks = (0..PARTS).map(|_| Vec::new()).collect();
        Ok(Self { memory: Memory::new(memory)?, blocks })
    }

    /// Bytes of memory in use.
    pub(super) fn held(&self) -> usize {
        self.memory.held
    }

    /// Appends an entry, whose key and value are within their limits; `false` if there is no room.
    #[inline]
    pub(super) fn add(&mut self, part: usize, key: &[u8], value: &[u8]) -> bool {
        let need = HEAD + key.len() + value.len();
        let Some(blocks) = self.blocks.get_mut(part) else { return false };
        if let Some(Block::Short { number, len }) = blocks.last_mut()
            && let Some(room) = self.memory.room(*number, *len, need)
        {
            put(room, key, value);
            *len += need;
            return true;
        }
        self.add_block(part, key, value)
    }

    /// [`Self::add`] where the part's last block has no room.
    #[cold]
    fn add_block(&mut self, part: usize, key: &[u8], value: &[u8]) -> bool {
        let need = HEAD + key.len() + value.len();
        let block = if need > self.memory.block {
            let mut bytes = vec![0; need];
            put(&mut bytes, key, value);
            self.memory.held += need;
            Block::Long(bytes)
        } else {
            let Some(number) = self.memory.take() else { return false };
            put(self.memory.room(number, 0, need).unwrap_or_default(), key, value);
            Block::Short { number, len: need }
        };
        if let Some(blocks) = self.blocks.get_mut(part) {
            blocks.push(block);
        }
        true
    }

    /// The blocks of a part, oldest first.
    pub(super) fn of(&self, part: usize) -> impl Iterator<Item = &[u8]> {
        let blocks = self.blocks.get(part).map_or(&[][..], Vec::as_slice);
        blocks.iter().map(|block| self.bytes(block))
    }

    fn bytes<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        match block {
            Block::Long(bytes) => bytes,
            Block::Short { number, len } => {
                let rest = self.memory.bytes.get(number * self.memory.block..);
                rest.and_then(|rest| rest.get(..*len)).unwrap_or_default()
            }
        }
    }

    /// Forgets all entries.
    pub(super) fn clear(&mut self) {
        for block in self.blocks.iter_mut().flat_map(|blocks| blocks.drain(..)) {
            match block {
                Block::Short { number, .. } => self.memory.give(number),
                Block::Long(bytes) => self.memory.held -= bytes.len(),
            }
        }
    }
}

/// Writes a record, as long as its place is.
#[inline]
fn put(to: &mut [u8], key: &[u8], value: &[u8]) {
    let Some((head, rest)) = to.split_first_chunk_mut::<HEAD>() else { return };
    let ([a, b], [c, d, e, f]) =
        ((key.len() as u16).to_le_bytes(), (value.len() as u32).to_le_bytes());
    *head = [a, b, c, d, e, f];
    if let Some((key_at, value_at)) = rest.split_at_mut_checked(key.len()) {
        key_at.copy_from_slice(key);
        value_at.copy_from_slice(value);
    }
}

/// An entry where it lies.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record in a block `at` there.
    #[inline(always)]
    fn read(block: &'a [u8], at: usize) -> Option<Self> {
        let (head, rest) = block.get(at..)?.split_first_chunk::<HEAD>()?;
        let [a, b, c, d, e, f] = *head;
        let (key, rest) = rest.split_at_checked(u16::from_le_bytes([a, b]).into())?;
        let value = rest.get(..u32::from_le_bytes([c, d, e, f]) as usize)?;
        Some(Self { key, value })
    }

    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.len(), 0);
        put(out.get_mut(start..).unwrap_or_default(), self.key, self.value);
    }

    #[inline(always)]
    fn len(&self) -> usize {
        HEAD + self.key.len() + self.value.len()
    }
}

/// All records of a block.
pub(super) fn records(block: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let record = Record::read(block, at)?;
        prefetch(block, at + AHEAD);
        prefetch(block, at + AHEAD + LINE);
        at += record.len();
        Some(record)
    })
}

/// The hash of an entry, and where it is: the number of its block, then where in it.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    hash: u64,
    place: u64,
}

impl Entry {
    /// Asks for its record.
    #[inline(always)]
    fn prefetch(&self, blocks: &[&[u8]]) {
        if let Some(block) = blocks.get((self.place >> WITHIN_BITS) as usize) {
            let at = (self.place & ((1 << WITHIN_BITS) - 1)) as usize;
            prefetch(block, at);
            prefetch(block, at + LINE);
        }
    }

    #[inline(always)]
    fn record<'a>(&self, blocks: &[&'a [u8]]) -> Option<Record<'a>> {
        let block = blocks.get((self.place >> WITHIN_BITS) as usize)?;
        Record::read(block, (self.place & ((1 << WITHIN_BITS) - 1)) as usize)
    }
}

/// Puts the entries of `blocks`, oldest first, in `order`: by hash and key, the last of those with
/// the same key first.
pub(super) fn sort(blocks: &[&[u8]], seed: u64, order: &mut Vec<Entry>) {
    order.clear();
    for (number, block) in (0u64..).zip(blocks) {
        let mut place = number << WITHIN_BITS;
        for record in records(block) {
            order.push(Entry { hash: seeded_hash(record.key, seed), place });
            place += record.len() as u64;
        }
    }
    order.sort_unstable_by_key(|entry| entry.hash);
    let key = |entry: &Entry| entry.record(blocks).map_or(&[][..], |record| record.key);
    for same in order.chunk_by_mut(|a, b| a.hash == b.hash).filter(|same| same.len() > 1) {
        same.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(b.place.cmp(&a.place)));
    }
}

/// Shows of each key the last entry, in the order that [`sort`] made.
#[inline]
pub(super) fn last_of_each<'a>(
    blocks: &[&'a [u8]],
    order: &[Entry],
    mut show: impl FnMut(u64, Record<'a>) -> Result<()>,
) -> Result<()> {
    let mut last: Option<(u64, &[u8])> = None;
    for (i, entry) in order.iter().enumerate() {
        if let Some(ahead) = order.get(i + RECORDS_AHEAD) {
            ahead.prefetch(blocks);
        }
        let Some(record) = entry.record(blocks) else { continue };
        if last != Some((entry.hash, record.key)) {
            show(entry.hash, record)?;
        }
        last = Some((entry.hash, record.key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Pair = (Vec<u8>, Vec<u8>);

    fn pairs() -> impl Strategy<Value = Vec<Pair>> {
        let value = prop_oneof![4 => 0..40usize, 1 => 500..3000usize];
        let pair = (0u16..300, value, any::<u8>());
        let make =
            |(key, len, byte): (u16, usize, u8)| (key.to_string().into_bytes(), vec![byte; len]);
        prop::collection::vec(pair.prop_map(make), 0..400)
    }

    fn held(parts: &Parts) -> usize {
        let of = |block: &Block| match block {
            Block::Short { .. } => parts.memory.block,
            Block::Long(bytes) => bytes.len(),
        };
        parts.blocks.iter().flatten().map(of).sum()
    }

    proptest! {
        #[test]
        fn the_last_of_each_key_comes_in_order(
            pairs in pairs(),
            seed in prop_oneof![any::<u64>(), Just(crate::codec::WEAK_SEED)],
        ) {
            let (mut parts, mut order) = (Parts::new((1 << 20) + 12_345).unwrap(), Vec::new());
            for round in 0..2 {
                for (key, value) in &pairs {
                    let part = (seeded_hash(key, seed) >> 56) as usize;
                    prop_assert!(parts.add(part, key, value));
                }
                prop_assert_eq!(parts.held(), held(&parts));
                let mut shown = Vec::new();
                for part in 0..PARTS {
                    let blocks: Vec<&[u8]> = parts.of(part).collect();
                    sort(&blocks, seed, &mut order);
                    last_of_each(&blocks, &order, |hash, record| {
                        shown.push((hash, record.key.to_vec(), record.value.to_vec()));
                        Ok(())
                    }).unwrap();
                }
                let model: BTreeMap<_, _> = pairs.iter().cloned().collect();
                let hashed = model.into_iter().map(|(k, v)| (seeded_hash(&k, seed), k, v));
                let mut expected: Vec<_> = hashed.collect();
                expected.sort();
                prop_assert_eq!(shown, expected, "round {}", round);
                parts.clear();
                prop_assert_eq!(parts.held(), 0);
            }
        }
    }
}

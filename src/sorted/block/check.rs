//! Checking a block's structure, once, before anything else looks at it.
//!
//! The checksum says that the bytes are those that were written, not that they were written by
//! this code: whoever can write a file can also compute checksums. So everything a search or a
//! cursor will rely on is derived again here: where the parts are, that entries lie inside them,
//! that lengths agree, that keys ascend. One pass, no allocation.

use super::{
    Block, CHILD_BYTES, EntryKind, HEADER, MAX_BLOCK, MIN_BLOCK, VARIES, VARIES_WIDE, read_u16,
};
use crate::sorted::{FAR_BYTES, LENT_BYTES, MAX_KEY};
use std::cmp::Ordering;

/// What is wrong with a block.
type Flaw = &'static str;

impl<'a> Block<'a> {
    /// The block of `level` in `bytes`, or what is wrong with it. Does not look at the checksum.
    pub(crate) fn check(bytes: &'a [u8], level: u8) -> Result<Self, Flaw> {
        if !(MIN_BLOCK..=MAX_BLOCK).contains(&bytes.len()) {
            return Err("a block has an impossible length");
        }
        let block = Block::trusted(bytes);
        if block.shape.level != level {
            return Err("a block is of another level than its parent says");
        }
        block.check_parts()?;
        block.check_lengths()?;
        block.check_heap()?;
        (0..block.count()).try_for_each(|i| block.check_entry(i))?;
        let ascends = |i| block.compare_neighbours(i) == Ordering::Less;
        if !(0..block.count() - 1).all(ascends) {
            return Err("keys of a block do not ascend");
        }
        Ok(block)
    }

    /// The parts follow each other in their one order.
    fn check_parts(&self) -> Result<(), Flaw> {
        let shape = &self.shape;
        if shape.count == 0 {
            return Err("a block has no entries");
        }
        if shape.head_width != 4 && shape.head_width != 8 {
            return Err("a block has heads of an unknown width");
        }
        let heads_at = (HEADER + self.prefix_len()).next_multiple_of(4);
        let mut end = heads_at + self.width() * self.count();
        let mut agree = usize::from(shape.heads_at) == heads_at;
        if shape.offsets_at != 0 {
            agree &= usize::from(shape.offsets_at) == end;
            end += 2 * (self.count() + 1);
        }
        if shape.kinds_at != 0 {
            agree &= usize::from(shape.kinds_at) == end;
            end += self.count();
        }
        agree &= usize::from(shape.heap_at) == end && end <= self.bytes.len();
        agree.then_some(()).ok_or("the parts of a block are not where they belong")
    }

    /// The lengths in the header agree with each other.
    fn check_lengths(&self) -> Result<(), Flaw> {
        let shape = &self.shape;
        let suffix_varies = matches!(shape.suffix_len, VARIES | VARIES_WIDE);
        let fixed = !suffix_varies && shape.value_len != VARIES;
        let rest = usize::from(shape.suffix_len).saturating_sub(self.width());
        let stride = if fixed { rest + usize::from(shape.value_len) } else { 0 };
        if fixed != (shape.offsets_at == 0) || stride != usize::from(shape.stride) {
            return Err("the lengths in a block's header do not agree");
        }
        let children = usize::from(shape.value_len);
        let branch = shape.kinds_at == 0 && (children == 0 || children == CHILD_BYTES);
        if shape.level > 0 && !branch {
            return Err("a branch block holds something else than children");
        }
        Ok(())
    }

    /// The entries lie inside the block, one after the other.
    fn check_heap(&self) -> Result<(), Flaw> {
        let (count, len) = (self.count(), self.bytes.len());
        let (heap_at, at) = (usize::from(self.shape.heap_at), usize::from(self.shape.offsets_at));
        let inside = if at == 0 {
            heap_at + count * usize::from(self.shape.stride) <= len
        } else {
            let offset = |i: usize| read_u16(self.bytes, at + 2 * i);
            let ascend = (0..count).all(|i| offset(i) <= offset(i + 1));
            ascend && offset(0) == heap_at && offset(count) <= len
        };
        inside.then_some(()).ok_or("the entries of a block reach outside it")
    }

    /// Suffix and value fill the entry, and are what the header and the kind allow.
    fn check_entry(&self, i: usize) -> Result<(), Flaw> {
        let shape = &self.shape;
        let (start, end) = self.bounds(i);
        let entry = self.entry(i);
        let length_bytes = match shape.suffix_len {
            VARIES => 1,
            VARIES_WIDE => 2,
            _ => 0,
        };
        let rest = entry.suffix_len.saturating_sub(self.width());
        let value_at = start + length_bytes + rest;
        if value_at > end || self.prefix_len() + entry.suffix_len > MAX_KEY {
            return Err("a key reaches outside its entry");
        }
        if shape.value_len != VARIES && end - value_at != usize::from(shape.value_len) {
            return Err("a value has another length than its block says");
        }
        let padding = 8 * self.width().saturating_sub(entry.suffix_len) as u32;
        if padding > 0 && self.head(i) & (u64::MAX >> (64 - padding)) != 0 {
            return Err("the head of a short key is not padded with zeros");
        }
        self.check_kind(i, end - value_at)
    }

    fn check_kind(&self, i: usize, value_len: usize) -> Result<(), Flaw> {
        if self.shape.kinds_at == 0 {
            return Ok(());
        }
        let id = self.bytes.get(usize::from(self.shape.kinds_at) + i).copied();
        let fits = match id.and_then(EntryKind::from_id) {
            Some(EntryKind::Put) => true,
            Some(EntryKind::Delete) => value_len == 0,
            Some(EntryKind::Far) => [FAR_BYTES, LENT_BYTES].contains(&value_len),
            None => false,
        };
        fits.then_some(()).ok_or("an entry is of an unknown kind")
    }
}

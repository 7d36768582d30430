//! Making blocks from ascending entries.
//!
//! The size of a block under construction is a closed formula of a few sums, so asking whether
//! one more entry fits costs the same however many there are. The prefix never reaches into the
//! last 4 bytes of the shortest key: then every suffix has a whole head, and no key needs padding.

use super::search::head_of_key;
use super::{EntryKind, HEADER, MAX_BLOCK, MIN_BLOCK, Shape, VARIES, VARIES_WIDE, common_prefix};

/// The width of a head that needs no proof that it pays.
pub(super) const HEAD: usize = 4;
/// Heads become 8 bytes wide once more than one in so many ties with its neighbour.
pub(super) const TIES: usize = 16;

/// What the size of a block depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    count: usize,
    /// Bytes that the first and the last key, hence all, share.
    pub(super) shared: usize,
    shortest: usize,
    longest: usize,
    key_bytes: usize,
    /// Key bytes after the first four of each key.
    past_head: usize,
    value_bytes: usize,
    first_value: usize,
    values_differ: bool,
    kinds: bool,
}

impl Sums {
    /// With one more key, of which `shared` bytes are those of the first key.
    #[inline]
    pub(super) fn with(
        mut self,
        key_len: usize,
        shared: usize,
        value_len: usize,
        kind: EntryKind,
    ) -> Self {
        if self.count == 0 {
            self.shortest = key_len;
            self.first_value = value_len;
        }
        self.shared = shared;
        self.shortest = self.shortest.min(key_len);
        self.longest = self.longest.max(key_len);
        self.key_bytes += key_len;
        self.past_head += key_len.saturating_sub(HEAD);
        self.value_bytes += value_len;
        self.values_differ |= value_len != self.first_value;
        self.kinds |= kind != EntryKind::Put;
        self.count += 1;
        self
    }

    #[inline]
    pub(super) fn prefix_len(&self) -> usize {
        self.shared.min(self.shortest.saturating_sub(HEAD))
    }

    fn is_fixed(&self) -> bool {
        self.shortest == self.longest && !self.values_differ
    }

    /// How many bytes say how long each suffix is.
    fn length_bytes(&self) -> usize {
        match self.longest - self.prefix_len() {
            _ if self.shortest == self.longest => 0,
            suffix if suffix <= usize::from(u8::MAX) => 1,
            _ => 2,
        }
    }

    /// The block's length before padding.
    #[inline]
    pub(super) fn size(&self) -> usize {
        let prefix_len = self.prefix_len();
        let rests = if self.shortest >= HEAD {
            self.key_bytes - self.count * (prefix_len + HEAD)
        } else {
            self.past_head
        };
        let offsets = if self.is_fixed() { 0 } else { 2 * (self.count + 1) };
        let kinds = if self.kinds { self.count } else { 0 };
        (HEADER + prefix_len).next_multiple_of(4)
            + (HEAD + self.length_bytes()) * self.count
            + offsets
            + kinds
            + rests
            + self.value_bytes
    }
}

/// One entry waiting in the builder; its key and value end there in `keys` and `values`.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    key_end: u32,
    value_end: u32,
    kind: EntryKind,
}

/// Collects entries and writes them as one block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    entries: Vec<Waiting>,
    sums: Sums,
}

impl BlockBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry if the block then is no longer than `limit`. Keys must ascend.
    #[inline]
    pub(crate) fn try_add(
        &mut self,
        key: &[u8],
        kind: EntryKind,
        value: &[u8],
        limit: usize,
    ) -> bool {
        let first = self.keys.get(..self.sums.shared).unwrap_or_default();
        let shared = if self.is_empty() { key.len() } else { common_prefix(first, key) };
        let sums = self.sums.with(key.len(), shared, value.len(), kind);
        if sums.size() > limit.min(MAX_BLOCK) || sums.count > usize::from(u16::MAX) {
            return false;
        }
        self.sums = sums;
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        let (key_end, value_end) = (self.keys.len() as u32, self.values.len() as u32);
        self.entries.push(Waiting { key_end, value_end, kind });
        true
    }

    /// The first key; empty if there is none.
    pub(crate) fn first_key(&self) -> &[u8] {
        let end = self.entries.first().map_or(0, |entry| entry.key_end);
        self.keys.get(..end as usize).unwrap_or_default()
    }

    /// The last key; empty if there is none.
    pub(crate) fn last_key(&self) -> &[u8] {
        let before = self.entries.iter().rev().nth(1).map_or(0, |entry| entry.key_end);
        self.keys.get(before as usize..).unwrap_or_default()
    }

    /// Whether any value lies apart.
    pub(crate) fn has_far(&self) -> bool {
        self.sums.kinds && self.entries.iter().any(|entry| entry.kind == EntryKind::Far)
    }

    /// Everything added so far.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], EntryKind, &[u8])> {
        let (mut key_at, mut value_at) = (0, 0);
        self.entries.iter().map(move |entry| {
            let (key_end, value_end) = (entry.key_end as usize, entry.value_end as usize);
            let key = self.keys.get(key_at..key_end).unwrap_or_default();
            let value = self.values.get(value_at..value_end).unwrap_or_default();
            (key_at, value_at) = (key_end, value_end);
            (key, entry.kind, value)
        })
    }

    /// Forgets everything added.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
        self.sums = Sums::default();
    }

    /// The length of the block as it is now, before padding.
    pub(crate) fn size(&self) -> usize {
        self.sums.size().max(MIN_BLOCK)
    }

    /// Appends the block to `out`, zeros up to the length `pad` makes of its own, and empties
    /// the builder. The checksum is left to whoever knows the block's place.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, pad: impl FnOnce(usize) -> usize) {
        self.write_level(out, pad, 0, 0);
    }

    pub(super) fn write_level(
        &mut self,
        out: &mut Vec<u8>,
        pad: impl FnOnce(usize) -> usize,
        level: u8,
        first_child: u32,
    ) {
        let start = out.len();
        let len = pad(self.size());
        out.reserve(len);
        let shape = Shape { level, first_child, ..self.plan() };
        out.resize(start + HEADER, 0);
        self.write_arrays(out, start, &shape);
        self.write_heap(out, &shape);
        debug_assert!(out.len() - start <= self.size());
        out.resize(start + len, 0);
        shape.write(out.get_mut(start..).unwrap_or_default());
        self.clear();
    }

    /// The keys without the prefix, in order.
    fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let prefix_len = self.sums.prefix_len();
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let from = start + prefix_len;
            start = entry.key_end as usize;
            self.keys.get(from..start).unwrap_or_default()
        })
    }

    fn head_width(&self) -> usize {
        if self.sums.shortest - self.sums.prefix_len() < 8 {
            return HEAD;
        }
        let (mut ties, mut last) = (0, None);
        for suffix in self.suffixes() {
            let head = suffix.first_chunk::<HEAD>();
            ties += usize::from(last == head);
            last = head;
        }
        if ties * TIES > self.sums.count { 8 } else { HEAD }
    }

    /// Where everything will be.
    fn plan(&self) -> Shape {
        let sums = &self.sums;
        let (prefix_len, width) = (sums.prefix_len(), self.head_width());
        let heads_at = (HEADER + prefix_len).next_multiple_of(4);
        let heads_end = heads_at + width * sums.count;
        let fixed = sums.is_fixed();
        let offsets_end = heads_end + if fixed { 0 } else { 2 * (sums.count + 1) };
        let heap_at = offsets_end + if sums.kinds { sums.count } else { 0 };
        let rest = (sums.longest - prefix_len).saturating_sub(width);
        Shape {
            count: sums.count as u16,
            prefix_len: prefix_len as u16,
            suffix_len: match sums.length_bytes() {
                0 => (sums.longest - prefix_len) as u16,
                1 => VARIES,
                _ => VARIES_WIDE,
            },
            value_len: if sums.values_differ { VARIES } else { sums.first_value as u16 },
            heads_at: heads_at as u16,
            offsets_at: if fixed { 0 } else { heads_end as u16 },
            kinds_at: if sums.kinds { offsets_end as u16 } else { 0 },
            heap_at: heap_at as u16,
            head_width: width as u8,
            stride: if fixed { (rest + sums.first_value) as u16 } else { 0 },
            ..Shape::default()
        }
    }

    /// Prefix, heads, offsets and kinds.
    fn write_arrays(&self, out: &mut Vec<u8>, start: usize, shape: &Shape) {
        out.extend_from_slice(self.keys.get(..self.sums.prefix_len()).unwrap_or_default());
        out.resize(start + usize::from(shape.heads_at), 0);
        if shape.head_width == 4 {
            let heads = self.suffixes().map(|suffix| head_of_key::<4>(suffix) as u32);
            heads.for_each(|head| out.extend_from_slice(&head.to_le_bytes()));
        } else {
            let heads = self.suffixes().map(head_of_key::<8>);
            heads.for_each(|head| out.extend_from_slice(&head.to_le_bytes()));
        }
        if shape.offsets_at != 0 {
            self.write_offsets(out, shape);
        }
        if shape.kinds_at != 0 {
            out.extend(self.entries.iter().map(|entry| entry.kind as u8));
        }
    }

    fn write_offsets(&self, out: &mut Vec<u8>, shape: &Shape) {
        let length_bytes = self.sums.length_bytes();
        let mut at = usize::from(shape.heap_at);
        let mut value_start = 0;
        for (suffix, entry) in self.suffixes().zip(&self.entries) {
            out.extend_from_slice(&(at as u16).to_le_bytes());
            let rest = suffix.len().saturating_sub(usize::from(shape.head_width));
            at += length_bytes + rest + (entry.value_end - value_start) as usize;
            value_start = entry.value_end;
        }
        out.extend_from_slice(&(at as u16).to_le_bytes());
    }

    fn write_heap(&self, out: &mut Vec<u8>, shape: &Shape) {
        let mut value_start = 0;
        for (suffix, entry) in self.suffixes().zip(&self.entries) {
            match shape.suffix_len {
                VARIES => out.push(suffix.len() as u8),
                VARIES_WIDE => out.extend_from_slice(&(suffix.len() as u16).to_le_bytes()),
                _ => {}
            }
            let rest = suffix.get(usize::from(shape.head_width)..).unwrap_or_default();
            out.extend_from_slice(rest);
            let value_end = entry.value_end as usize;
            out.extend_from_slice(self.values.get(value_start..value_end).unwrap_or_default());
            value_start = value_end;
        }
    }
}

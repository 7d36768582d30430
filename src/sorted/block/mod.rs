//! The sorted block: up to 64 KiB of entries in key order, made to be searched where it lies.
//!
//! A search touches the header, a few lines of an array of key *heads* (the 4 or 8 bytes that
//! follow the prefix all keys share, as native integers), and one entry. Heads come from
//! Graefe's "poor man's normalized keys"; unlike there, their bytes are not repeated in the
//! entry, so they cost no space. There are no restart points: every entry is reached by its
//! index, so walking backwards costs what walking forwards does.
//!
//! ```text
//! Format: block
//!
//!   0  u64  checksum of bytes 8.. , seeded with the block's place
//!   8  u16  count              10  u16  prefix length
//!  12  u16  suffix length      65535: varies (u8 before each), 65534: varies (u16 before each)
//!  14  u16  value length       65535: varies
//!  16  u16  heads at           18  u16  offsets at (0: every entry is `stride` long)
//!  20  u16  kinds at (0: all puts)      22  u16  heap at
//!  24  u8   head width: 4 or 8          25  u8   level: 0 leaf, 1.. branch
//!  26  u16  stride             28  u32  first child, in a branch whose values are empty;
//!                                      in a page file the page's birth
//!  32  prefix, zeros up to a multiple of 4
//!      heads    count * width       the bytes after the prefix, most significant first, kept
//!                                   as little-endian integers; zero-padded when there are fewer
//!      offsets  (count + 1) * u16   where entry i begins, from the block's start
//!      kinds    count * u8          0 put, 1 delete, 2 put whose value lies apart
//!      heap     count entries: [suffix length] suffix after the head, value
//!      zeros up to the block's length
//! ```
//!
//! *Suffix* is the key without the block's prefix, head included. In a branch, the key of an
//! entry is a lower bound of its child's keys; children are `first_child + index` (one unit long
//! each) or an explicit pair in the value: `u32` unit, `u32` length in bytes.
//!
//! A block is [checked](Block::check) once, when its bytes are first seen; from then on no
//! access can fail, and none can panic whatever the bytes are: accessors answer with empty
//! slices where a damaged header points outside.

mod branch;
mod builder;
mod check;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use branch::BranchBuilder;
pub(crate) use builder::BlockBuilder;
pub(crate) use search::common_prefix;

use crate::codec::checksum;

/// Where the prefix begins.
pub(crate) const HEADER: usize = 32;
/// The shortest block: one cache line.
pub(crate) const MIN_BLOCK: usize = 64;
/// The longest block: what a `u16` can point to the end of.
pub(crate) const MAX_BLOCK: usize = u16::MAX as usize;

/// Lengths in the header that mean "see each entry".
const VARIES: u16 = u16::MAX;
const VARIES_WIDE: u16 = u16::MAX - 1;

/// What an entry of a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EntryKind {
    /// The value follows the key.
    Put = 0,
    /// The key is gone; the value is empty.
    Delete = 1,
    /// The value lies apart; what follows the key says where.
    Far = 2,
}

impl EntryKind {
    fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Put),
            1 => Some(Self::Delete),
            2 => Some(Self::Far),
            _ => None,
        }
    }
}

/// Where a block lies: its first byte in units of its tree, its length in bytes (or, together,
/// whatever its tree makes of the two).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) unit: u32,
    pub(crate) len: u32,
}

/// How many bytes an explicit child takes in a branch entry.
const CHILD_BYTES: usize = 8;

impl Child {
    fn to_bytes(self) -> [u8; CHILD_BYTES] {
        (u64::from(self.unit) | u64::from(self.len) << 32).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; CHILD_BYTES]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self { unit: both as u32, len: (both >> 32) as u32 }
    }
}

/// The header of a block: everything but bytes. Kept by cursors, which cannot keep the borrow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    count: u16,
    prefix_len: u16,
    suffix_len: u16,
    value_len: u16,
    heads_at: u16,
    offsets_at: u16,
    kinds_at: u16,
    heap_at: u16,
    head_width: u8,
    level: u8,
    stride: u16,
    first_child: u32,
}

impl Shape {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Self {
        let Some(h) = bytes.first_chunk::<HEADER>() else { return Self::default() };
        Self {
            count: u16::from_le_bytes([h[8], h[9]]),
            prefix_len: u16::from_le_bytes([h[10], h[11]]),
            suffix_len: u16::from_le_bytes([h[12], h[13]]),
            value_len: u16::from_le_bytes([h[14], h[15]]),
            heads_at: u16::from_le_bytes([h[16], h[17]]),
            offsets_at: u16::from_le_bytes([h[18], h[19]]),
            kinds_at: u16::from_le_bytes([h[20], h[21]]),
            heap_at: u16::from_le_bytes([h[22], h[23]]),
            head_width: h[24],
            level: h[25],
            stride: u16::from_le_bytes([h[26], h[27]]),
            first_child: u32::from_le_bytes([h[28], h[29], h[30], h[31]]),
        }
    }

    /// Whether there is anything but puts whose values follow their keys.
    #[inline(always)]
    pub(crate) fn has_kinds(&self) -> bool {
        self.kinds_at != 0
    }

    /// Fills in bytes 8..32 of a block.
    fn write(&self, block: &mut [u8]) {
        let Some(h) = block.first_chunk_mut::<HEADER>() else { return };
        let shorts = [
            self.count,
            self.prefix_len,
            self.suffix_len,
            self.value_len,
            self.heads_at,
            self.offsets_at,
            self.kinds_at,
            self.heap_at,
            u16::from_le_bytes([self.head_width, self.level]),
            self.stride,
        ];
        for (field, value) in h[8..28].as_chunks_mut::<2>().0.iter_mut().zip(shorts) {
            *field = value.to_le_bytes();
        }
        h[28..].copy_from_slice(&self.first_child.to_le_bytes());
    }
}

/// A block that has been checked, to be searched and read.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    bytes: &'a [u8],
    shape: Shape,
}

/// One entry, in pieces: the key is the block's prefix, the head, `rest`.
struct Entry<'a> {
    suffix_len: usize,
    rest: &'a [u8],
    /// Where the value begins and ends.
    value: (usize, usize),
}

/// `bytes[from..to]`, or nothing if that is not there.
#[inline(always)]
fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

#[inline(always)]
fn read_u16(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    }
}

/// Puts a key's head, or what the key has of it, and the rest into `suffix`.
#[inline(always)]
fn write_suffix<const W: usize>(head: [u8; W], rest: &[u8], suffix: &mut [u8]) {
    match suffix.split_first_chunk_mut() {
        Some((start, end)) => {
            *start = head;
            copy_short(rest, end);
        }
        None => suffix.iter_mut().zip(head).for_each(|(to, byte)| *to = byte),
    }
}

/// Copies bytes, of which there are mostly few: `memcpy` would spend more time on the call.
#[inline(always)]
fn copy_short(from: &[u8], to: &mut [u8]) {
    fn ends<const N: usize>(from: &[u8], to: &mut [u8]) -> Option<()> {
        let (first, last) = (*from.first_chunk::<N>()?, *from.last_chunk::<N>()?);
        *to.first_chunk_mut()? = first;
        *to.last_chunk_mut()? = last;
        Some(())
    }
    if from.len() != to.len() {
        return;
    }
    let _ = match from.len() {
        0 => None,
        8..=16 => ends::<8>(from, to),
        4..8 => ends::<4>(from, to),
        _ => {
            to.copy_from_slice(from);
            None
        }
    };
}

/// A head as a number: little-endian in the block, so that this is one load.
#[inline(always)]
fn head_of<const W: usize>(head: &[u8; W]) -> u64 {
    let mut wide = [0; 8];
    wide[..W].copy_from_slice(head);
    u64::from_le_bytes(wide)
}

impl<'a> Block<'a> {
    /// The block in `bytes`, which have been checked before.
    #[inline(always)]
    pub(crate) fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes, shape: Shape::read(bytes) }
    }

    /// The block in `bytes`, whose header has been read before.
    #[inline(always)]
    pub(crate) fn with_shape(bytes: &'a [u8], shape: Shape) -> Self {
        Self { bytes, shape }
    }

    #[inline(always)]
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        usize::from(self.shape.count)
    }

    /// What [`stamp`] wrote.
    #[inline(always)]
    pub(crate) fn stamped(&self) -> u32 {
        self.shape.first_child
    }

    /// 0 for a leaf, else how many levels lie below.
    #[inline(always)]
    pub(crate) fn level(&self) -> u8 {
        self.shape.level
    }

    #[inline(always)]
    fn width(&self) -> usize {
        usize::from(self.shape.head_width)
    }

    #[inline(always)]
    fn prefix_len(&self) -> usize {
        usize::from(self.shape.prefix_len)
    }

    /// What all keys begin with.
    #[inline(always)]
    pub(crate) fn prefix(&self) -> &'a [u8] {
        part(self.bytes, HEADER, HEADER + self.prefix_len())
    }

    #[inline(always)]
    fn heads<const W: usize>(&self) -> &'a [[u8; W]] {
        let at = usize::from(self.shape.heads_at);
        part(self.bytes, at, at + W * self.count()).as_chunks().0
    }

    /// The head of entry `i` as a number.
    #[inline(always)]
    fn head(&self, i: usize) -> u64 {
        if self.shape.head_width == 4 {
            self.heads::<4>().get(i).map_or(0, head_of)
        } else {
            self.heads::<8>().get(i).map_or(0, head_of)
        }
    }

    /// Where entry `i` begins and ends.
    #[inline(always)]
    fn bounds(&self, i: usize) -> (usize, usize) {
        let shape = &self.shape;
        if shape.offsets_at == 0 {
            let start = usize::from(shape.heap_at) + i * usize::from(shape.stride);
            (start, start + usize::from(shape.stride))
        } else {
            let at = usize::from(shape.offsets_at) + 2 * i;
            (read_u16(self.bytes, at), read_u16(self.bytes, at + 2))
        }
    }

    #[inline(always)]
    fn entry(&self, i: usize) -> Entry<'a> {
        let (start, end) = self.bounds(i);
        let (suffix_len, at) = match self.shape.suffix_len {
            VARIES => (usize::from(self.bytes.get(start).copied().unwrap_or(0)), start + 1),
            VARIES_WIDE => (read_u16(self.bytes, start), start + 2),
            len => (usize::from(len), start),
        };
        let value_at = at + suffix_len.saturating_sub(self.width());
        Entry { suffix_len, rest: part(self.bytes, at, value_at), value: (value_at, end) }
    }

    /// The value of entry `i`: bytes, nothing, or where they are, as its kind says.
    #[inline(always)]
    pub(crate) fn value(&self, i: usize) -> &'a [u8] {
        let (start, end) = self.entry(i).value;
        part(self.bytes, start, end)
    }

    #[inline(always)]
    pub(crate) fn kind(&self, i: usize) -> EntryKind {
        if self.shape.kinds_at == 0 {
            return EntryKind::Put;
        }
        let id = self.bytes.get(usize::from(self.shape.kinds_at) + i).copied().unwrap_or(0);
        EntryKind::from_id(id).unwrap_or(EntryKind::Put)
    }

    /// Writes the key of entry `i` into `key`, which already begins with this block's prefix;
    /// returns where the entry's value begins and ends.
    #[inline(always)]
    pub(crate) fn read_into(&self, i: usize, key: &mut Vec<u8>) -> (usize, usize) {
        let entry = self.entry(i);
        key.resize(self.prefix_len() + entry.suffix_len, 0);
        let suffix = key.get_mut(self.prefix_len()..).unwrap_or_default();
        if self.shape.head_width == 4 {
            write_suffix((self.head(i) as u32).to_be_bytes(), entry.rest, suffix);
        } else {
            write_suffix(self.head(i).to_be_bytes(), entry.rest, suffix);
        }
        entry.value
    }

    /// Makes `key` this block's prefix, as [`read_into`](Self::read_into) needs it.
    pub(crate) fn start_key(&self, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix());
    }

    /// The child of entry `i`, in a branch. Implicit children are `unit_len` bytes each.
    #[inline(always)]
    pub(crate) fn child(&self, i: usize, unit_len: u32) -> Child {
        if self.shape.value_len == 0 {
            let unit = self.shape.first_child.wrapping_add(i as u32);
            return Child { unit, len: unit_len };
        }
        self.value(i).first_chunk().map_or(Child::default(), |bytes| Child::from_bytes(*bytes))
    }

    /// The index of the child whose keys may include `key`, in a branch.
    #[inline(always)]
    pub(crate) fn child_index(&self, key: &[u8]) -> usize {
        let (i, exact) = self.search(key);
        if exact { i } else { i.saturating_sub(1) }
    }
}

/// The seed that binds a checksum to its place: the same bytes elsewhere do not verify.
#[inline]
pub(crate) fn place(file: u64, offset: u64) -> u64 {
    file.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(offset)
}

/// Writes `mark` where a leaf, and a branch that tells each child, have nothing to say.
pub(crate) fn stamp(block: &mut [u8], mark: u32) {
    if let Some(field) = block.get_mut(28..HEADER) {
        field.copy_from_slice(&mark.to_le_bytes());
    }
}

/// Puts the checksum into the first 8 bytes of `bytes`.
pub(crate) fn seal(bytes: &mut [u8], place: u64) {
    if let Some((sum, rest)) = bytes.split_first_chunk_mut::<8>() {
        *sum = checksum(rest, place).to_le_bytes();
    }
}

/// Whether the first 8 bytes are the checksum of the others.
pub(crate) fn is_sealed(bytes: &[u8], place: u64) -> bool {
    bytes
        .split_first_chunk::<8>()
        .is_some_and(|(sum, rest)| u64::from_le_bytes(*sum) == checksum(rest, place))
}

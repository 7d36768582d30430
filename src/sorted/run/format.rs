//! What a run file looks like, for its writer and its readers.
//!
//! ```text
//! Format: run
//!
//! leaves and far values    blocks in units of the block length, or compressed in units of 64
//! branch blocks            in units of the block length, lowest level first, the root last
//! filter pages             each 4096 bytes: u64 checksum, 56 zeros, 63 lines
//! range deletes            u64 checksum, varint count, spans
//! properties               u64 checksum, the run's meta, without length and digest
//! footer                   128 bytes
//!
//! footer
//!   0  u64  checksum of bytes 8.. , seeded with the footer's place
//!   8  u64  file number        16  u32  version           20  u8  compression
//!  21  u8   height             22  u8   filter probes     23  u8  0
//!  24  u32  block length       28  u32  filter lines
//!  32  u32  root unit          36  u32  root length (0: no entries)
//!  40  u64  branches at        48  u64  branches end
//!  56  u64  filter at          64  u64  range deletes at  72  u64  properties at
//!  80  u64  properties end     88  u64  leaves            96  zeros
//! 120  u64  magic
//!
//! compressed leaf
//!   0  u64  checksum of bytes 8.. , seeded with the block's place
//!   8  u32  length unpacked    12  u8   compression (0: stored as it is)   13  zeros
//!  16  the block
//!
//! far value, in the entry
//!   0  u64  offset              8  u32  length in the file   12  u32  length of the value
//!  16  u64  checksum of its bytes in the file, seeded with their place
//!  24  u64  number of the file, only if that is another one
//! ```
//!
//! A branch block is always named by its unit of the block length; a leaf of a compressed run by
//! its unit of 64 and its length.
//!
//! Between the parts lie zeros up to the next part's unit. Each part has a checksum of its own,
//! so that reading a little checks a little; the digest in the manifest covers every byte.

use crate::{
    codec::{Compression, Reader, put_bytes, put_u32, put_u64, put_varint},
    sorted::{
        FileId, MAX_KEY, RangeSet, Span,
        block::{Child, HEADER, MAX_BLOCK, MIN_BLOCK, place, seal},
        filter::LINE,
        frozen::{FOOTER_BYTES, FrozenKind},
        tree::{HEIGHT_MAX, Root},
    },
};

const MAGIC: u64 = u64::from_le_bytes(*b"tonerun1");
const VERSION: u32 = 1;
/// What the files are recognized by.
pub(super) const KIND: FrozenKind = FrozenKind { name: "run", magic: MAGIC, version: VERSION };
/// A page of the filter, read and checked as a whole.
pub(super) const PAGE: usize = 4096;
/// The first line of a page holds its checksum.
pub(super) const LINES_A_PAGE: usize = PAGE / LINE - 1;
/// What compressed leaves lie in multiples of.
pub(super) const PACKED_UNIT: usize = 64;
pub(super) const PACKED_HEADER: usize = 16;

/// Block lengths that make sense; also what [`RunOptions`](super::RunOptions) are bent to.
pub(super) const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 256..=32 << 10;

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) file: FileId,
    pub(super) compression: Compression,
    pub(super) block_bytes: usize,
    pub(super) root: Option<Root>,
    pub(super) leaves: u64,
    pub(super) branches_at: u64,
    pub(super) branches_end: u64,
    pub(super) filter_at: u64,
    pub(super) filter_lines: u32,
    pub(super) filter_probes: u8,
    pub(super) ranges_at: u64,
    pub(super) properties_at: u64,
    pub(super) properties_end: u64,
}

impl Footer {
    /// The footer of the file as it will lie at `at`.
    pub(super) fn encode(&self, at: u64) -> Vec<u8> {
        let root = self.root.unwrap_or(Root { top: Child::default(), height: 0 });
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        put_u64(&mut out, 0);
        put_u64(&mut out, self.file);
        put_u32(&mut out, VERSION);
        out.extend([self.compression.id(), root.height, self.filter_probes, 0]);
        put_u32(&mut out, self.block_bytes as u32);
        put_u32(&mut out, self.filter_lines);
        put_u32(&mut out, root.top.unit);
        put_u32(&mut out, root.top.len);
        for place in [self.branches_at, self.branches_end, self.filter_at, self.ranges_at] {
            put_u64(&mut out, place);
        }
        put_u64(&mut out, self.properties_at);
        put_u64(&mut out, self.properties_end);
        put_u64(&mut out, self.leaves);
        out.resize(FOOTER_BYTES - 8, 0);
        put_u64(&mut out, MAGIC);
        seal(&mut out, place(self.file, at));
        out
    }

    /// Reads a footer whose checksum is right; `Err` says what is wrong.
    pub(super) fn decode(bytes: &[u8], at: u64) -> Result<Self, &'static str> {
        let footer = Self::read(bytes).ok_or("the footer has fields that cannot be")?;
        footer.check(at).then_some(footer).ok_or("the footer's parts are not in their order")
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(8..)?);
        let file = reader.u64()?;
        if reader.u32()? != VERSION {
            return None;
        }
        let compression = Compression::from_id(reader.u8()?)?;
        let height = reader.u8().filter(|height| *height <= HEIGHT_MAX)?;
        let filter_probes = reader.u8()?;
        reader.u8()?;
        let block_bytes = reader.u32()? as usize;
        let filter_lines = reader.u32()?;
        let top = Child { unit: reader.u32()?, len: reader.u32()? };
        let footer = Self {
            file,
            compression,
            block_bytes,
            root: (top.len > 0).then_some(Root { top, height }),
            branches_at: reader.u64()?,
            branches_end: reader.u64()?,
            filter_at: reader.u64()?,
            filter_lines,
            filter_probes,
            ranges_at: reader.u64()?,
            properties_at: reader.u64()?,
            properties_end: reader.u64()?,
            leaves: reader.u64()?,
        };
        let fits = BLOCK_BYTES.contains(&block_bytes) && block_bytes.is_power_of_two();
        fits.then_some(footer)
    }

    /// Whether the parts follow each other up to the footer `at` there.
    fn check(&self, at: u64) -> bool {
        let unit = self.block_bytes as u64;
        let places = [
            self.branches_at,
            self.branches_end,
            self.filter_at,
            self.ranges_at,
            self.properties_at,
            self.properties_end,
            at,
        ];
        let pages = (self.filter_lines as usize).div_ceil(LINES_A_PAGE) as u64;
        places.is_sorted()
            && self.branches_at.is_multiple_of(unit)
            && self.branches_end.is_multiple_of(unit)
            && self.filter_at.checked_add(pages * PAGE as u64) == Some(self.ranges_at)
            && (self.root.is_some() || self.branches_end == 0)
    }

    /// How many bytes a leaf's unit has.
    pub(super) fn leaf_unit(&self) -> usize {
        if self.is_packed() { PACKED_UNIT } else { self.block_bytes }
    }

    /// How values that lie apart are compressed, and where they end.
    pub(super) fn values(&self) -> (Compression, u64) {
        (self.compression, self.branches_at)
    }

    /// Whether leaves are compressed.
    pub(super) fn is_packed(&self) -> bool {
        self.compression != Compression::None
    }
}

/// A compressed leaf: how, and to how many bytes, the rest is to be unpacked.
pub(super) struct Packed<'a> {
    pub(super) compression: Compression,
    pub(super) len: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Appends the header of a compressed leaf; the block follows.
    pub(super) fn write_header(out: &mut Vec<u8>, compression: Compression, len: usize) {
        put_u64(out, 0);
        put_u32(out, len as u32);
        out.extend([compression.id(), 0, 0, 0]);
    }

    pub(super) fn read(stored: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(stored.get(8..)?);
        let len = reader.u32()? as usize;
        let compression = Compression::from_id(reader.u8()?)?;
        reader.take(3)?;
        let fits = (MIN_BLOCK..=MAX_BLOCK).contains(&len);
        fits.then_some(Self { compression, len, bytes: reader.rest() })
    }
}

/// The longest a compressed leaf can be: it is not stored compressed if that does not help.
pub(super) const PACKED_MAX: usize = PACKED_HEADER + MAX_BLOCK;
const _: () = assert!(PACKED_HEADER < HEADER && PACKED_HEADER + LINE < PAGE);

/// The section of range deletes, its checksum still zero.
pub(super) fn encode_ranges(ranges: &RangeSet) -> Vec<u8> {
    let mut out = vec![0; 8];
    put_varint(&mut out, ranges.spans().len() as u64);
    ranges.spans().iter().for_each(|span| encode_span(span, &mut out));
    out
}

/// The spans of a section whose checksum is right.
pub(super) fn decode_ranges(section: &[u8]) -> Option<RangeSet> {
    let mut reader = Reader::new(section.get(8..)?);
    let count = reader.varint()?;
    let mut spans: Vec<Span> = Vec::new();
    for _ in 0..count {
        let span = decode_span(&mut reader)?;
        let follows =
            spans.last().is_none_or(|last| last.end.as_ref().is_some_and(|end| *end < span.start));
        if span.is_empty() || !follows {
            return None;
        }
        spans.push(span);
    }
    reader.is_empty().then(|| spans.into_iter().collect())
}

/// A span: its start, then 0, or 1 and its end.
pub(super) fn encode_span(span: &Span, out: &mut Vec<u8>) {
    put_bytes(out, &span.start);
    out.push(u8::from(span.end.is_some()));
    if let Some(end) = &span.end {
        put_bytes(out, end);
    }
}

pub(super) fn decode_span(reader: &mut Reader<'_>) -> Option<Span> {
    let start = decode_key(reader)?;
    let end = match reader.u8()? {
        0 => None,
        1 => Some(decode_key(reader)?),
        _ => return None,
    };
    Some(Span::new(start, end))
}

/// A key, or the bound just above one, which is a byte longer.
pub(super) fn decode_key(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    reader.bytes().filter(|key| key.len() <= MAX_KEY + 1).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn footer() -> Footer {
        Footer {
            file: 9,
            compression: Compression::Lz4,
            block_bytes: 4096,
            root: Some(Root { top: Child { unit: 5, len: 4096 }, height: 2 }),
            leaves: 7,
            branches_at: 8192,
            branches_end: 24576,
            filter_at: 24576,
            filter_lines: 64,
            filter_probes: 6,
            ranges_at: 32768,
            properties_at: 32768,
            properties_end: 33000,
        }
    }

    #[test]
    fn footers_round_trip_and_are_in_order() {
        let bytes = footer().encode(33000);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(KIND.recognize(&bytes), Ok(()));
        assert_eq!(Footer::decode(&bytes, 33000), Ok(footer()));
        assert!(Footer::decode(&bytes, 32999).is_err());
        for wrong in [
            Footer { branches_at: 8191, ..footer() },
            Footer { branches_end: 28672, ..footer() },
            Footer { filter_lines: 63, ..footer() },
            Footer { ranges_at: u64::MAX, ..footer() },
            Footer { block_bytes: 4095, ..footer() },
            Footer { root: None, ..footer() },
        ] {
            assert!(Footer::decode(&wrong.encode(33000), 33000).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Footer::decode(&bytes, 1000), KIND.recognize(&bytes), decode_ranges(&bytes));
            let _ = Packed::read(&bytes).map(|p| p.len);
        }

        #[test]
        fn ranges_round_trip(starts in prop::collection::btree_set(0u32..1000, 0..20), open: bool) {
            let mut starts: Vec<_> = starts.into_iter().map(|n| n.to_be_bytes().to_vec()).collect();
            let last = if open { starts.pop() } else { None };
            let pairs = starts.chunks_exact(2);
            let spans = pairs.map(|pair| Span::new(pair[0].clone(), Some(pair[1].clone())));
            let set: RangeSet = spans.chain(last.map(|s| Span::new(s, None::<Vec<u8>>))).collect();
            let section = encode_ranges(&set);
            prop_assert_eq!(decode_ranges(&section), Some(set));
            prop_assert_eq!(decode_ranges(&[section.as_slice(), &[0]].concat()), None);
        }
    }
}

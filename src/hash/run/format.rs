//! What a hash run looks like, for its writer and its readers.
//!
//! ```text
//! Format: hash run
//!
//! record pages and         pages in pieces that the extents list; between them values (and keys)
//! what lies apart          that lie apart, one after the other
//! index pages              one page for every 768 records
//! directories              pages, for lines of more than 64 records
//! extents                  u64 checksum, then for each piece u32 first page, u32 pages
//! properties               u64 checksum, the run's meta, without length and digest
//! footer                   128 bytes
//!
//! record page: 4096 bytes
//!   0  u64  checksum of bytes 8.. , seeded with the page's place
//!   8  records, each at a multiple of 8; zeros
//!
//! record: at most 1016 bytes, by (hash, key)
//!   0  u32  bits 0..12 length of what follows as the key, 12..24 as the value, 24 one,
//!           25 a delete, 26 the key lies apart, 27 the value lies apart, 28..32 zeros
//!   4  key, value; zeros up to a multiple of 8
//!
//! apart, in the place of the key or the value
//!   0  u64  offset              8  u32  length in the file   12  u32  length
//!  16  u64  checksum of its bytes in the file, seeded with their place
//!
//! index page: 4096 bytes
//!   0  u64  checksum of bytes 8.. , seeded with the page's place
//!   8  zeros                   64  63 lines of 64 bytes
//!
//! line
//!   0  u48  unit of 8 bytes, in the row of record pages, at which its first record lies
//!           (without records: the next one's; all ones: there is none)
//!   6  u8   records of the line (255: its first unit is the first page of a directory)
//!   7  u8   records with a tag: 18 at most
//!   8  u16  18 tags: the 16 bits of the hash that follow the line's number; then ffff
//!  44  u8   18 steps: units from each such record to the next one
//!  62  u16  0                   (of a line with a directory: 8 u32 records of it, then zeros)
//!
//! directory page: 4096 bytes
//!   0  u64  checksum of bytes 8.. , seeded with the page's place
//!   8  zeros                   16  255 times u64 hash, u64 unit; zeros
//!
//! footer
//!   0  u64  checksum of bytes 8.. , seeded with the footer's place
//!   8  u64  file number        16  u32  version           20  u8  compression of what lies apart
//!  21  u8   slice's bits       22  u16  0                 24  u64  seed of the hash
//!  32  u32  slice's number     36  u32  index pages       40  u64  index at
//!  48  u64  directories at     56  u64  extents at        64  u64  properties at
//!  72  u64  properties end     80  u64  record pages      88  zeros
//! 120  u64  magic
//! ```
//!
//! The hash of a key is its XXH3-64 under the table's seed. A file holds a *slice* of all hashes:
//! those whose first `bits` bits are the slice's number. What is left of a hash, shifted to the
//! left, times the index pages says in which page its line is; what follows the point, times 63,
//! which line; what follows that point begins with the tag. All three ascend with the hash.
//!
//! Why pages, with the checksum inside: each is read, checked and believed alone, a look-up reads
//! one of them beside the index, and what can be read of a damaged file needs no table of
//! checksums. A record never straddles two, hence its bound: four fit into a page, and the step to
//! the next record fits into a byte even where it leads over a page's end.

use crate::{
    codec::{Compression, Reader, put_u32, put_u64},
    sorted::{FAR_BYTES, FOOTER_BYTES, FileId, FrozenKind, place, seal},
};

const MAGIC: u64 = u64::from_le_bytes(*b"tonehsh1");
const VERSION: u32 = 1;
/// What the files are recognized by.
pub(super) const KIND: FrozenKind = FrozenKind { name: "hash run", magic: MAGIC, version: VERSION };
pub(super) const PAGE: usize = 4096;
/// Where a page's records begin.
pub(super) const PAGE_HEAD: usize = 8;
/// What records lie at multiples of.
pub(super) const UNIT: usize = 8;
pub(super) const UNITS_A_PAGE: u64 = (PAGE / UNIT) as u64;
pub(super) const RECORD_HEAD: usize = 4;
pub(super) const RECORD_MAX: usize = 1016;
pub(super) const LINE: usize = 64;
pub(super) const LINES_A_PAGE: u64 = (PAGE / LINE) as u64 - 1;
/// Makes 12.2 records a line: of 18 tags few are unused, and few lines have more records.
pub(super) const RECORDS_A_PAGE: u64 = 768;
/// The records of a line that are found by their tags.
pub(super) const TAGGED_MAX: usize = 18;
/// The most records of a line without a directory.
pub(super) const WALK_MAX: usize = 64;
/// In the place of a count: the line has a directory.
pub(super) const HAS_DIRECTORY: u8 = 255;
/// In the place of a unit: no record follows.
pub(super) const NOWHERE: u64 = (1 << 48) - 1;
pub(super) const DIRECTORY_HEAD: usize = 16;
pub(super) const DIRECTORY_ENTRY: usize = 16;
pub(super) const ENTRIES_A_PAGE: u64 = ((PAGE - DIRECTORY_HEAD) / DIRECTORY_ENTRY) as u64;
/// The finest slices.
pub(crate) const SLICE_BITS_MAX: u8 = 20;

const _: () = assert!(4 * RECORD_MAX <= PAGE - PAGE_HEAD);
const _: () = assert!((RECORD_MAX + (RECORD_MAX - UNIT) + PAGE_HEAD) / UNIT <= 255);
const _: () = assert!(RECORD_HEAD + 2 * FAR_BYTES <= RECORD_MAX && RECORD_MAX < 1 << 12);

/// The hashes that a file is for: those that begin with `bits` bits of the value `number`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) bits: u8,
    pub(crate) number: u32,
}

impl Slice {
    /// Whether there is such a slice.
    pub(crate) fn is_valid(self) -> bool {
        self.bits <= SLICE_BITS_MAX && u64::from(self.number) < 1 << self.bits
    }

    #[inline]
    pub(crate) fn has(self, hash: u64) -> bool {
        hash.checked_shr(64 - u32::from(self.bits)).unwrap_or(0) == u64::from(self.number)
    }

    /// The least of its hashes.
    pub(crate) fn first(self) -> u64 {
        u64::from(self.number).checked_shl(64 - u32::from(self.bits)).unwrap_or(0)
    }

    /// The greatest of its hashes.
    pub(crate) fn last(self) -> u64 {
        self.first() | u64::MAX >> self.bits
    }
}

/// Where in the index a hash is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) page: u64,
    pub(super) line: usize,
    pub(super) tag: u16,
}

impl Spot {
    #[inline(always)]
    pub(super) fn of(hash: u64, slice: Slice, pages: u64) -> Self {
        let rest = hash << (slice.bits & 63);
        let page = u128::from(rest) * u128::from(pages);
        let line = u128::from(page as u64) * u128::from(LINES_A_PAGE);
        Self {
            page: (page >> 64) as u64,
            line: (line >> 64) as usize,
            tag: (line as u64 >> 48) as u16,
        }
    }

    /// Where the line lies in the index.
    #[inline(always)]
    pub(super) fn offset(&self) -> (u64, usize) {
        (self.page * PAGE as u64, (self.line + 1) * LINE)
    }
}

/// What a record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head(u32);

impl Head {
    const PRESENT: u32 = 1 << 24;
    pub(super) const DELETE: u32 = 1 << 25;
    pub(super) const KEY_APART: u32 = 1 << 26;
    pub(super) const VALUE_APART: u32 = 1 << 27;

    /// The lengths are those that lie in the record: together below `RECORD_MAX`.
    pub(super) fn new(key: usize, value: usize, flags: u32) -> Self {
        Self(key as u32 | (value as u32) << 12 | Self::PRESENT | flags)
    }

    #[inline(always)]
    pub(super) fn key_len(self) -> usize {
        (self.0 & 0xfff) as usize
    }

    #[inline(always)]
    pub(super) fn value_len(self) -> usize {
        (self.0 >> 12 & 0xfff) as usize
    }

    #[inline(always)]
    pub(super) fn is(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// How long the record is, up to the next.
    pub(super) fn record_len(self) -> usize {
        (RECORD_HEAD + self.key_len() + self.value_len()).next_multiple_of(UNIT)
    }

    fn is_valid(self) -> bool {
        let apart = |flag, len| !self.is(flag) || len == FAR_BYTES;
        self.0 >> 28 == 0
            && self.is(Self::PRESENT)
            && apart(Self::KEY_APART, self.key_len())
            && apart(Self::VALUE_APART, self.value_len())
            && !(self.is(Self::DELETE) && self.value_len() > 0)
            && self.record_len() <= RECORD_MAX
    }

    pub(super) fn to_bytes(self) -> [u8; RECORD_HEAD] {
        self.0.to_le_bytes()
    }
}

/// A record where it lies in its page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) head: Head,
    /// The key, or where it lies apart.
    pub(super) key: &'a [u8],
    /// The value, or where it lies apart.
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record in a page `at` there; `None` if there is none, or none that can be.
    #[inline(always)]
    pub(super) fn read(page: &'a [u8], at: usize) -> Option<Self> {
        let rest = page.get(at..)?;
        let (head, rest) = rest.split_first_chunk()?;
        let head = Head(u32::from_le_bytes(*head));
        if !head.is_valid() {
            return None;
        }
        let (key, rest) = rest.split_at_checked(head.key_len())?;
        Some(Self { head, key, value: rest.get(..head.value_len())? })
    }

    /// Where the one after the record `at` there begins.
    #[inline(always)]
    pub(super) fn end(&self, at: usize) -> usize {
        at + self.head.record_len()
    }
}

/// Whether a page's records end before `at`: there follow zeros.
pub(super) fn ends_at(page: &[u8], at: usize) -> bool {
    page.get(at..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0))
}

/// Finds the records of a page; `None` if it does not consist of records and zeros.
pub(super) fn parse_page(page: &[u8], offsets: &mut Vec<u16>) -> Option<()> {
    offsets.clear();
    let mut at = PAGE_HEAD;
    while let Some(record) = Record::read(page, at) {
        offsets.push(at as u16);
        at = record.end(at);
    }
    (!offsets.is_empty() && ends_at(page, at)).then_some(())
}

/// A piece of the row of record pages: so many of the file's pages, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u32,
    pub(super) pages: u32,
}

/// The section of extents, its checksum still zero.
pub(super) fn encode_extents(extents: &[Extent]) -> Vec<u8> {
    let mut out = vec![0; 8];
    for extent in extents {
        put_u32(&mut out, extent.first);
        put_u32(&mut out, extent.pages);
    }
    out
}

/// The extents of a section whose checksum is right: they ascend up to page `end`, and make a row
/// of `pages`.
pub(super) fn decode_extents(section: &[u8], end: u64, pages: u64) -> Option<Vec<Extent>> {
    let mut reader = Reader::new(section.get(8..)?);
    let mut extents = Vec::new();
    let (mut next, mut sum) = (0, 0);
    while !reader.is_empty() {
        let extent = Extent { first: reader.u32()?, pages: reader.u32()? };
        if u64::from(extent.first) < next || extent.pages == 0 {
            return None;
        }
        next = u64::from(extent.first) + u64::from(extent.pages);
        sum += u64::from(extent.pages);
        extents.push(extent);
    }
    (next <= end && sum == pages).then_some(extents)
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) file: FileId,
    pub(super) compression: Compression,
    pub(super) slice: Slice,
    pub(super) seed: u64,
    pub(super) index_pages: u32,
    pub(super) index_at: u64,
    pub(super) directories_at: u64,
    pub(super) extents_at: u64,
    pub(super) properties_at: u64,
    pub(super) properties_end: u64,
    pub(super) record_pages: u64,
}

impl Footer {
    /// The footer of the file as it will lie at `at`.
    pub(super) fn encode(&self, at: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        put_u64(&mut out, 0);
        put_u64(&mut out, self.file);
        put_u32(&mut out, VERSION);
        out.extend([self.compression.id(), self.slice.bits, 0, 0]);
        put_u64(&mut out, self.seed);
        put_u32(&mut out, self.slice.number);
        put_u32(&mut out, self.index_pages);
        let places = [self.index_at, self.directories_at, self.extents_at, self.properties_at];
        places.iter().for_each(|at| put_u64(&mut out, *at));
        put_u64(&mut out, self.properties_end);
        put_u64(&mut out, self.record_pages);
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
        let bits = reader.u8()?;
        reader.take(2)?;
        let seed = reader.u64()?;
        let slice = Slice { bits, number: reader.u32()? };
        slice.is_valid().then_some(())?;
        Some(Self {
            file,
            compression,
            slice,
            seed,
            index_pages: reader.u32()?,
            index_at: reader.u64()?,
            directories_at: reader.u64()?,
            extents_at: reader.u64()?,
            properties_at: reader.u64()?,
            properties_end: reader.u64()?,
            record_pages: reader.u64()?,
        })
    }

    /// Whether the parts follow each other up to the footer `at` there.
    fn check(&self, at: u64) -> bool {
        let page = PAGE as u64;
        let index_bytes = u64::from(self.index_pages) * page;
        let places = [
            self.index_at,
            self.directories_at,
            self.extents_at,
            self.properties_at,
            self.properties_end,
            at,
        ];
        places.is_sorted()
            && self.index_at.is_multiple_of(page)
            && self.extents_at.is_multiple_of(page)
            && self.index_at.checked_add(index_bytes) == Some(self.directories_at)
            && self.record_pages <= self.index_at / page
            && (self.index_pages > 0) == (self.record_pages > 0)
            && self.extents_at / page <= u64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn footer() -> Footer {
        Footer {
            file: 9,
            compression: Compression::Lz4,
            slice: Slice { bits: 3, number: 6 },
            seed: 77,
            index_pages: 2,
            index_at: 40960,
            directories_at: 49152,
            extents_at: 53248,
            properties_at: 53264,
            properties_end: 53300,
            record_pages: 10,
        }
    }

    #[test]
    fn footers_round_trip_and_are_in_order() {
        let bytes = footer().encode(53300);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        assert_eq!(KIND.recognize(&bytes), Ok(()));
        assert_eq!(Footer::decode(&bytes, 53300), Ok(footer()));
        assert!(Footer::decode(&bytes, 53299).is_err());
        for wrong in [
            Footer { index_at: 40952, ..footer() },
            Footer { directories_at: 45056, ..footer() },
            Footer { extents_at: 53247, ..footer() },
            Footer { properties_at: 53247, ..footer() },
            Footer { record_pages: 11, ..footer() },
            Footer { record_pages: 0, ..footer() },
            Footer { slice: Slice { bits: 3, number: 8 }, ..footer() },
            Footer { slice: Slice { bits: 21, number: 8 }, ..footer() },
        ] {
            assert!(Footer::decode(&wrong.encode(53300), 53300).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn slices_hold_their_hashes() {
        assert!(Slice::default().has(0) && Slice::default().has(u64::MAX));
        assert_eq!((Slice::default().first(), Slice::default().last()), (0, u64::MAX));
        let slice = Slice { bits: 2, number: 2 };
        assert_eq!((slice.first(), slice.last()), (1 << 63, (1 << 63) | (u64::MAX >> 2)));
        assert!(slice.has(slice.first()) && slice.has(slice.last()));
        assert!(!slice.has(slice.first() - 1) && !slice.has(slice.last() + 1));
    }

    #[test]
    fn extents_make_a_row() {
        let extents = [Extent { first: 0, pages: 3 }, Extent { first: 5, pages: 1 }];
        let section = encode_extents(&extents);
        assert_eq!(decode_extents(&section, 6, 4).as_deref(), Some(&extents[..]));
        assert_eq!(decode_extents(&section, 5, 4), None);
        assert_eq!(decode_extents(&section, 6, 5), None);
        assert_eq!(decode_extents(&section[..section.len() - 1], 6, 4), None);
        let wrong = encode_extents(&[extents[1], extents[0]]);
        assert_eq!(decode_extents(&wrong, 6, 4), None);
        assert_eq!(decode_extents(&[0; 8], 6, 0), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn spots_ascend_with_the_hash(a: u64, b: u64, pages in 1u64..1 << 32, bits in 0u8..=20) {
            let slice = Slice { bits, number: 0 };
            let spot = |hash: u64| Spot::of(hash >> bits, slice, pages);
            let order = |spot: Spot| (spot.page, spot.line, spot.tag);
            let (low, high) = (spot(a.min(b)), spot(a.max(b)));
            prop_assert!(order(low) <= order(high));
            prop_assert!(high.page < pages && high.line < 63);
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Footer::decode(&bytes, 1000), KIND.recognize(&bytes));
            let _ = (decode_extents(&bytes, 1000, 5), parse_page(&bytes, &mut Vec::new()));
        }
    }
}

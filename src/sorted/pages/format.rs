//! What a page file looks like, and what the manifest says of it.
//!
//! ```text
//! Format: page file
//!
//! page 0                   a header of 64 bytes, zeros
//! pages 1 ..               blocks, values that lie apart, lists of free pages: each begins a page
//!                          and has as many as it needs; what else lies there is free
//!
//! header
//!   0  u64  checksum of bytes 8.. , seeded with the header's place
//!   8  u64  file number        16  u32  version           20  u32  page length
//!  24  zeros
//!  56  u64  magic
//!
//! child, in the entry of a branch block
//!   0  u32  its first page
//!   4  u32  bits 0 to 7: its pages less one; bit 8: values of it lie apart; bits 9 to 31: birth
//!
//! value that lies apart, in the entry
//!   0  u32  its first page      4  u32  birth
//!   8  u32  length             12  u32  0
//!  16  u64  checksum of its bytes, seeded with their place and birth
//! ```
//!
//! Pages are written over once nobody needs what is on them, so a place does not tell what should
//! lie there. Each version of the tree has a number; the lowest 23 bits of the one that wrote a
//! page are the page's *birth*. A block holds its own, under the checksum, and its parent says
//! which one it has to be: a write that never reached the disk is found out.
//!
//! ```text
//! Format: page root
//!
//! version u8 1 | generation varint | pages varint | height u8 (255: no entries) | child 8 bytes
//! entries varint | raw bytes varint | estimated u8 | leaves varint | branches varint
//! pages of values that lie apart varint
//! free u8 0 | bytes extents      or      free u8 1 | a value that lies apart, 24 bytes: extents
//!
//! extents   varint count, then for each: varint pages since the one before, varint pages;
//!           apart with zeros up to a whole number of pages
//! bytes     varint length, so many bytes
//! ```
//!
//! Free are all pages but the header that this version does not reach, its list of free pages
//! included. Entries and raw bytes are estimated if leaves were dropped without reading them.

use super::{Extents, extents::Extent};
use crate::{
    codec::{Reader, checksum, put_bytes, put_u32, put_u64, put_varint},
    sorted::{
        FAR_BYTES, FileId,
        block::{Child, place, seal},
        tree::{HEIGHT_MAX, Root},
    },
};

const MAGIC: u64 = u64::from_le_bytes(*b"tonepag1");
const VERSION: u32 = 1;
const ROOT_VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 64;
/// Page lengths that make sense: two of the longest keys fit into the longest block of each.
pub(crate) const PAGE_BYTES: std::ops::RangeInclusive<usize> = 256..=16 << 10;
/// Most pages that one block or value can be told to have.
const BLOCK_PAGES_MAX: u32 = 256;
/// The bits of a generation that a page keeps.
const BIRTH_MASK: u64 = (1 << 23) - 1;
/// A list of free pages up to this length lies in the manifest.
pub(crate) const FREE_HERE_MAX: usize = 256;

/// What a page keeps of the generation that wrote it.
pub(crate) fn birth_of(generation: u64) -> u32 {
    (generation & BIRTH_MASK) as u32
}

/// The generation that wrote a page of `birth`, as seen from `now`: exact for all but the oldest.
pub(crate) fn generation_of(birth: u32, now: u64) -> u64 {
    now.saturating_sub(now.wrapping_sub(u64::from(birth)) & BIRTH_MASK)
}

/// Where a block of a page file lies, and who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRef {
    pub(crate) page: u32,
    pub(crate) pages: u32,
    /// Whether values of the leaf lie apart.
    pub(crate) far: bool,
    pub(crate) birth: u32,
}

impl PageRef {
    #[inline(always)]
    pub(crate) fn of(child: Child) -> Self {
        Self {
            page: child.unit,
            pages: (child.len & 0xff) + 1,
            far: child.len & 0x100 != 0,
            birth: child.len >> 9,
        }
    }

    /// As a branch block keeps it.
    pub(crate) fn child(self) -> Child {
        debug_assert!((1..=BLOCK_PAGES_MAX).contains(&self.pages));
        let len = (self.pages - 1) & 0xff | u32::from(self.far) << 8 | self.birth << 9;
        Child { unit: self.page, len }
    }

    pub(crate) fn extent(self) -> Extent {
        Extent { page: self.page, pages: self.pages }
    }
}

/// Where a value that does not follow its key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FarPages {
    pub(crate) page: u32,
    pub(crate) birth: u32,
    pub(crate) len: u32,
    pub(crate) checksum: u64,
}

impl FarPages {
    pub(crate) fn new(
        file: FileId,
        page: u32,
        page_bytes: usize,
        birth: u32,
        value: &[u8],
    ) -> Self {
        let far = Self { page, birth, len: value.len() as u32, checksum: 0 };
        Self { checksum: checksum(value, far.seed(file, page_bytes)), ..far }
    }

    fn seed(&self, file: FileId, page_bytes: usize) -> u64 {
        let offset = u64::from(self.page) * page_bytes as u64;
        place(file, offset) ^ u64::from(self.birth) << 40
    }

    /// Whether these are its bytes in the file.
    pub(crate) fn is(&self, bytes: &[u8], file: FileId, page_bytes: usize) -> bool {
        checksum(bytes, self.seed(file, page_bytes)) == self.checksum
    }

    pub(crate) fn extent(&self, page_bytes: usize) -> Extent {
        Extent { page: self.page, pages: (self.len as usize).div_ceil(page_bytes) as u32 }
    }

    pub(crate) fn to_bytes(self) -> [u8; FAR_BYTES] {
        let mut bytes = [0; FAR_BYTES];
        let words = [
            u64::from(self.page) | u64::from(self.birth) << 32,
            u64::from(self.len),
            self.checksum,
        ];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (page, birth) = (reader.u32()?, reader.u32()?);
        let (len, zero) = (reader.u32()?, reader.u32()?);
        let far = Self { page, birth, len, checksum: reader.u64()? };
        (reader.is_empty() && zero == 0 && page > 0 && len > 0).then_some(far)
    }
}

/// The first page of the file.
pub(super) fn encode_header(file: FileId, page_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(page_bytes);
    put_u64(&mut out, 0);
    put_u64(&mut out, file);
    put_u32(&mut out, VERSION);
    put_u32(&mut out, page_bytes as u32);
    out.resize(HEADER_BYTES - 8, 0);
    put_u64(&mut out, MAGIC);
    seal(&mut out, place(file, 0));
    out.resize(page_bytes, 0);
    out
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Unknown,
    Newer(u32),
    Known { file: FileId, page_bytes: usize },
}

/// Reads a header; the checksum is the caller's to look at before anything but `Unknown` counts.
pub(super) fn decode_header(bytes: &[u8]) -> Header {
    let read = || {
        let mut reader = Reader::new(bytes.get(8..HEADER_BYTES)?);
        let (file, version, page_bytes) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let magic = Reader::new(bytes.get(HEADER_BYTES - 8..HEADER_BYTES)?).u64()?;
        Some((magic, version, file, page_bytes as usize))
    };
    match read() {
        Some((MAGIC, version, ..)) if version > VERSION => Header::Newer(version),
        Some((MAGIC, VERSION, file, page_bytes))
            if PAGE_BYTES.contains(&page_bytes) && page_bytes.is_power_of_two() =>
        {
            Header::Known { file, page_bytes }
        }
        _ => Header::Unknown,
    }
}

/// Where the list of free pages is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FreeList {
    Here(Extents),
    Apart(FarPages),
}

/// One version of the tree, as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageRoot {
    /// The number of the version.
    pub(crate) generation: u64,
    /// How long the file is.
    pub(crate) pages: u32,
    pub(crate) root: Option<Root>,
    pub(crate) counts: Counts,
    pub(crate) free: FreeList,
}

/// How much is in a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) entries: u64,
    /// Bytes of keys and values.
    pub(crate) raw_bytes: u64,
    /// Whether the two above are not exact.
    pub(crate) estimated: bool,
    pub(crate) leaves: u64,
    pub(crate) branches: u64,
    pub(crate) far_pages: u64,
}

impl PageRoot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![ROOT_VERSION];
        put_varint(&mut out, self.generation);
        put_varint(&mut out, u64::from(self.pages));
        let top = self.root.map_or(Child::default(), |root| root.top);
        out.push(self.root.map_or(u8::MAX, |root| root.height));
        put_u32(&mut out, top.unit);
        put_u32(&mut out, top.len);
        let counts = &self.counts;
        put_varint(&mut out, counts.entries);
        put_varint(&mut out, counts.raw_bytes);
        out.push(u8::from(counts.estimated));
        for count in [counts.leaves, counts.branches, counts.far_pages] {
            put_varint(&mut out, count);
        }
        match &self.free {
            FreeList::Here(extents) => {
                out.push(0);
                put_bytes(&mut out, &extents.encode());
            }
            FreeList::Apart(far) => {
                out.push(1);
                out.extend_from_slice(&far.to_bytes());
            }
        }
        out
    }

    /// What [`PageRoot::encode`] wrote; `None` if `bytes` are anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != ROOT_VERSION {
            return None;
        }
        let generation = reader.varint()?;
        let pages = u32::try_from(reader.varint()?).ok()?;
        let height = reader.u8()?;
        let top = Child { unit: reader.u32()?, len: reader.u32()? };
        let root = (height != u8::MAX).then_some(Root { top, height });
        let fits = match root {
            Some(root) => root.height <= HEIGHT_MAX && top.unit > 0,
            None => top == Child::default(),
        };
        let counts = Counts {
            entries: reader.varint()?,
            raw_bytes: reader.varint()?,
            estimated: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            leaves: reader.varint()?,
            branches: reader.varint()?,
            far_pages: reader.varint()?,
        };
        let free = match reader.u8()? {
            0 => FreeList::Here(Extents::decode(reader.bytes()?, pages)?),
            1 => FreeList::Apart(FarPages::from_bytes(reader.take(FAR_BYTES)?)?),
            _ => return None,
        };
        (reader.is_empty() && fits).then_some(Self { generation, pages, root, counts, free })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root() -> PageRoot {
        let top = PageRef { page: 9, pages: 1, far: false, birth: 77 }.child();
        let free = Extents::join(vec![Extent { page: 3, pages: 4 }]).unwrap();
        PageRoot {
            generation: 77,
            pages: 1000,
            root: Some(Root { top, height: 2 }),
            counts: Counts {
                entries: 5,
                raw_bytes: 600,
                leaves: 2,
                branches: 1,
                ..Default::default()
            },
            free: FreeList::Here(free),
        }
    }

    #[test]
    fn roots_round_trip() {
        let far = FarPages { page: 12, birth: 77, len: 500, checksum: 1 };
        let empty = PageRoot { root: None, ..root() };
        let estimated = Counts { estimated: true, ..root().counts };
        let apart = PageRoot { free: FreeList::Apart(far), counts: estimated, ..root() };
        for root in [root(), empty, apart] {
            let bytes = root.encode();
            assert_eq!(PageRoot::decode(&bytes), Some(root));
            assert_eq!(PageRoot::decode(&bytes[..bytes.len() - 1]), None);
            assert_eq!(PageRoot::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(PageRoot::decode(&[&[2], &bytes[1..]].concat()), None);
        }
    }

    #[test]
    fn roots_are_written_as_ever() {
        let hex: String = root().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        // Version, generation, pages; height and top; counts; free extents.
        let expected = "01 4d e807 02 09000000 009a0000 05 d804 00 02 01 00 00 03 01 03 04";
        assert_eq!(hex, expected.replace(' ', ""));
    }

    #[test]
    fn headers_are_recognized() {
        let bytes = encode_header(7, 4096);
        assert_eq!(bytes.len(), 4096);
        assert_eq!(decode_header(&bytes), Header::Known { file: 7, page_bytes: 4096 });
        let mut newer = bytes.clone();
        newer[16] = 2;
        assert_eq!(decode_header(&newer), Header::Newer(2));
        assert_eq!(decode_header(&bytes[..60]), Header::Unknown);
        assert_eq!(decode_header(&[0; 64]), Header::Unknown);
    }

    #[test]
    fn births_tell_generations() {
        for now in [1, 5, 1 << 23, (1 << 23) + 5, (1 << 40) + 3] {
            for age in [0, 1, 1000, BIRTH_MASK] {
                if let Some(then) = u64::checked_sub(now, age) {
                    assert_eq!(generation_of(birth_of(then), now), then);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn references_round_trip(
            page: u32,
            pages in 1u32..=256,
            far: bool,
            birth in 0u32..1 << 23,
        ) {
            let at = PageRef { page, pages, far, birth };
            prop_assert_eq!(PageRef::of(at.child()), at);
        }

        #[test]
        fn far_values_round_trip(page in 1u32.., birth: u32, len in 1u32.., checksum: u64) {
            let far = FarPages { page, birth, len, checksum };
            prop_assert_eq!(FarPages::from_bytes(&far.to_bytes()), Some(far));
        }

        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = (decode_header(&bytes), FarPages::from_bytes(&bytes));
            if let Some(root) = PageRoot::decode(&bytes) {
                prop_assert_eq!(root.encode(), bytes);
            }
        }
    }
}

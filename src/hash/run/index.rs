//! The index of a hash run: reading its lines, and making them from the hashes of all records.

use super::format::{
    DIRECTORY_ENTRY, DIRECTORY_HEAD, ENTRIES_A_PAGE, HAS_DIRECTORY, LINE, LINES_A_PAGE, NOWHERE,
    PAGE, RECORDS_A_PAGE, Slice, Spot, TAGGED_MAX, UNIT, WALK_MAX,
};

const COUNT_AT: usize = 6;
const TAGGED_AT: usize = 7;
const TAGS_AT: usize = 8;
const STEPS_AT: usize = TAGS_AT + 2 * TAGGED_MAX;
/// Of a line with a directory.
const LISTED_AT: usize = 8;

const _: () = assert!(STEPS_AT + TAGGED_MAX + 2 == LINE);

/// A line of the index.
#[derive(Clone, Copy)]
pub(super) struct Line<'a>(&'a [u8; LINE]);

impl<'a> Line<'a> {
    /// The line `at` there in its page.
    #[inline(always)]
    pub(super) fn read(page: &'a [u8], at: usize) -> Option<Self> {
        page.get(at..)?.first_chunk().map(Line)
    }

    /// The unit of its first record, of its directory's first page, or [`NOWHERE`].
    #[inline(always)]
    pub(super) fn base(self) -> u64 {
        let [a, b, c, d, e, f, ..] = *self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    #[inline(always)]
    pub(super) fn has_directory(self) -> bool {
        self.0[COUNT_AT] == HAS_DIRECTORY
    }

    /// How many records have no tag.
    #[inline(always)]
    pub(super) fn untagged(self) -> usize {
        usize::from(self.0[COUNT_AT]).saturating_sub(self.tagged())
    }

    #[inline(always)]
    pub(super) fn tagged(self) -> usize {
        usize::from(self.0[TAGGED_AT]).min(TAGGED_MAX)
    }

    /// How many records its directory lists.
    pub(super) fn listed(self) -> u64 {
        self.0[LISTED_AT..].first_chunk().map_or(0, |count| u64::from(u32::from_le_bytes(*count)))
    }

    #[inline(always)]
    fn tags(self) -> [u16; TAGGED_MAX] {
        let tags = &self.0[TAGS_AT..STEPS_AT];
        std::array::from_fn(|i| u16::from_le_bytes([tags[2 * i], tags[2 * i + 1]]))
    }

    /// How many tags are below `tag`, and how many follow that are equal to it. Tags ascend, and
    /// those that are not used are the greatest.
    #[inline(always)]
    pub(super) fn find(self, tag: u16) -> (usize, usize) {
        let tags = self.tags();
        let below: u16 = tags.iter().map(|&other| u16::from(other < tag)).sum();
        let equal: u16 = tags.iter().map(|&other| u16::from(other == tag)).sum();
        let (below, tagged) = (usize::from(below), self.tagged());
        (below.min(tagged), usize::from(equal).min(tagged.saturating_sub(below)))
    }

    /// Bytes from its record `i`, which has a tag, to the next one.
    #[inline(always)]
    pub(super) fn step(self, i: usize) -> usize {
        self.0.get(STEPS_AT + i).map_or(0, |step| usize::from(*step)) * UNIT
    }

    /// The unit of its record `i`, which has a tag or follows one that has.
    #[inline(always)]
    pub(super) fn unit(self, i: usize) -> u64 {
        let steps = &self.0[STEPS_AT..STEPS_AT + TAGGED_MAX];
        let way = |(j, &step): (usize, &u8)| if j < i { u16::from(step) } else { 0 };
        let sum: u16 = steps.iter().enumerate().map(way).sum();
        self.base() + u64::from(sum)
    }
}

/// Entry `i` of a directory's page: a record's hash and unit.
pub(super) fn directory_entry(page: &[u8], i: u64) -> Option<(u64, u64)> {
    let at = DIRECTORY_HEAD + i as usize * DIRECTORY_ENTRY;
    let entry = page.get(at..)?.first_chunk::<DIRECTORY_ENTRY>()?;
    let (hash, unit) = entry.split_at(8);
    let word = |bytes: &[u8]| bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    word(hash).zip(word(unit))
}

/// How many index pages `records` need.
pub(super) fn index_pages(records: u64) -> u64 {
    records.div_ceil(RECORDS_A_PAGE)
}

/// What the index is made from: of each record, in order, its hash and the units to the next one.
#[derive(Default)]
pub(super) struct Row {
    hashes: Vec<u64>,
    steps: Vec<u8>,
    last_unit: u64,
}

impl Row {
    /// The next record: where it lies, and how long it is. At most [`u8::MAX`] units behind the
    /// one before it, else nothing is added.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, unit: u64, bytes: usize) -> Option<()> {
        if let Some(step) = self.steps.last_mut() {
            *step = u8::try_from(unit.checked_sub(self.last_unit)?).ok()?;
        }
        self.last_unit = unit;
        self.hashes.push(hash);
        self.steps.push((bytes / UNIT) as u8);
        Some(())
    }

    pub(super) fn len(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// The pages of the index, and then those of directories, which begin with the file's page
    /// `directories_at`; checksums still zero.
    pub(super) fn index(&self, slice: Slice, directories_at: u64) -> Index<'_> {
        Index {
            row: self,
            slice,
            pages: index_pages(self.len()),
            page: 0,
            next: 0,
            // The first record begins behind the first page's checksum.
            unit: 1,
            directories: Vec::new(),
            directories_at,
        }
    }
}

/// Makes the pages of an index one after the other.
pub(super) struct Index<'a> {
    row: &'a Row,
    slice: Slice,
    pages: u64,
    page: u64,
    /// The next record, and its unit.
    next: usize,
    unit: u64,
    directories: Vec<u8>,
    directories_at: u64,
}

impl Index<'_> {
    /// The next page, appended to `out`; `false` if there is none.
    pub(super) fn write_page(&mut self, out: &mut Vec<u8>) -> bool {
        if self.page == self.pages {
            return false;
        }
        out.resize(out.len() + LINE, 0);
        for line in 0..LINES_A_PAGE as usize {
            let bytes = self.line(line);
            out.extend_from_slice(&bytes);
        }
        self.page += 1;
        true
    }

    /// The pages of all directories.
    pub(super) fn into_directories(self) -> Vec<u8> {
        self.directories
    }

    fn line(&mut self, line: usize) -> [u8; LINE] {
        let start = self.next;
        let hashes = self.row.hashes.get(start..).unwrap_or_default();
        let is_here = |hash: &&u64| {
            let spot = Spot::of(**hash, self.slice, self.pages);
            (spot.page, spot.line) == (self.page, line)
        };
        let count = hashes.iter().take_while(is_here).count();
        if count > WALK_MAX {
            return self.line_with_directory(count);
        }
        let mut bytes = [0; LINE];
        let at = if start < self.row.hashes.len() { self.unit } else { NOWHERE };
        bytes[..6].copy_from_slice(&at.to_le_bytes()[..6]);
        let tagged = count.min(TAGGED_MAX);
        (bytes[COUNT_AT], bytes[TAGGED_AT]) = (count as u8, tagged as u8);
        for i in 0..TAGGED_MAX {
            let hash = hashes.get(i).filter(|_| i < tagged);
            let tag = hash.map_or(u16::MAX, |hash| Spot::of(*hash, self.slice, self.pages).tag);
            bytes[TAGS_AT + 2 * i..][..2].copy_from_slice(&tag.to_le_bytes());
        }
        for i in 0..count {
            let step = self.row.steps.get(start + i).copied().unwrap_or(0);
            self.unit += u64::from(step);
            if i < TAGGED_MAX {
                bytes[STEPS_AT + i] = step;
            }
        }
        self.next += count;
        bytes
    }

    fn line_with_directory(&mut self, count: usize) -> [u8; LINE] {
        let mut bytes = [0; LINE];
        let page = self.directories_at + (self.directories.len() / PAGE) as u64;
        bytes[..6].copy_from_slice(&page.to_le_bytes()[..6]);
        bytes[COUNT_AT] = HAS_DIRECTORY;
        bytes[LISTED_AT..][..4].copy_from_slice(&(count as u32).to_le_bytes());
        for i in 0..count as u64 {
            if i.is_multiple_of(ENTRIES_A_PAGE) {
                let start = self.directories.len().next_multiple_of(PAGE);
                self.directories.resize(start + DIRECTORY_HEAD, 0);
            }
            let hash = self.row.hashes.get(self.next).copied().unwrap_or(0);
            self.directories.extend(hash.to_le_bytes());
            self.directories.extend(self.unit.to_le_bytes());
            self.unit += u64::from(self.row.steps.get(self.next).copied().unwrap_or(0));
            self.next += 1;
        }
        self.directories.resize(self.directories.len().next_multiple_of(PAGE), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages_of(row: &Row, slice: Slice) -> (Vec<u8>, Vec<u8>) {
        let mut index = row.index(slice, 1000);
        let mut pages = Vec::new();
        while index.write_page(&mut pages) {}
        assert_eq!(pages.len() as u64, index_pages(row.len()) * PAGE as u64);
        (pages, index.into_directories())
    }

    proptest! {
        #[test]
        fn every_record_is_found_by_its_tag(
            mut hashes in prop::collection::vec(any::<u64>(), 0..3000),
            bits in 0u8..3,
        ) {
            let slice = Slice { bits, number: (1 << bits) - 1 };
            hashes.iter_mut().for_each(|hash| *hash |= slice.first());
            hashes.sort_unstable();
            let mut row = Row::default();
            let unit_of = |i: usize| 1 + 3 * i as u64 + (i as u64 / 7) * 20;
            for (i, hash) in hashes.iter().enumerate() {
                row.add(*hash, unit_of(i), 24).unwrap();
            }
            let (pages, directories) = pages_of(&row, slice);
            prop_assert!(directories.is_empty());
            for (i, hash) in hashes.iter().enumerate() {
                let spot = Spot::of(*hash, slice, index_pages(row.len()));
                let (page, at) = spot.offset();
                let line = Line::read(&pages[page as usize..], at).unwrap();
                let (below, equal) = line.find(spot.tag);
                let units: Vec<u64> = (below..below + equal).map(|j| line.unit(j)).collect();
                let walked = below + equal == line.tagged() && line.untagged() > 0;
                let tail = line.unit(line.tagged());
                prop_assert!(units.contains(&unit_of(i)) || walked && tail <= unit_of(i));
            }
        }
    }

    #[test]
    fn an_overfull_line_has_a_directory() {
        let mut row = Row::default();
        (0..600).for_each(|i| row.add((5 << 40) | (i / 2), 1 + 3 * i, 24).unwrap());
        row.add(u64::MAX, 1 + 3 * 600, 24).unwrap();
        let (pages, directories) = pages_of(&row, Slice::default());
        assert_eq!((pages.len(), directories.len()), (PAGE, 3 * PAGE));
        let line = Line::read(&pages, LINE).unwrap();
        assert!(line.has_directory());
        assert_eq!((line.base(), line.listed()), (1000, 600));
        for i in 0..600 {
            let page = &directories[(i / ENTRIES_A_PAGE) as usize * PAGE..];
            let entry = directory_entry(page, i % ENTRIES_A_PAGE);
            assert_eq!(entry, Some(((5 << 40) | (i / 2), 1 + 3 * i)));
        }
        let empty = Line::read(&pages, 2 * LINE).unwrap();
        assert_eq!((empty.base(), empty.tagged(), empty.find(7)), (1 + 3 * 600, 0, (0, 0)));
        let last = Line::read(&pages, 63 * LINE).unwrap();
        assert_eq!((last.base(), last.find(u16::MAX)), (1 + 3 * 600, (0, 1)));
    }

    #[test]
    fn steps_that_cannot_be_are_refused() {
        let mut row = Row::default();
        row.add(1, 1, 24).unwrap();
        assert!(row.add(2, 257, 24).is_none());
        assert!(row.add(2, 0, 24).is_none());
    }
}

//! The bytes of one simulated file: sectors that copies share until one of them is written.
//!
//! A crash image differs from its neighbours in a few sectors, so making one copies a list of
//! pointers and nothing else; what is derived from the bytes (each sector's digest, the flat copy
//! that a mapping shows) is kept with them and shared as well.

use std::sync::{Arc, LazyLock, OnceLock};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

/// The longest file the simulation keeps.
pub(super) const MAX_BYTES: u64 = 1 << 32;

#[derive(Clone, Debug)]
struct Sector {
    bytes: [u8; SECTOR],
    digest: OnceLock<u64>,
}

impl Sector {
    /// The bytes, to be changed.
    fn bytes_mut(shared: &mut Arc<Self>) -> &mut [u8; SECTOR] {
        let sector = Arc::make_mut(shared);
        sector.digest.take();
        &mut sector.bytes
    }

    fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| xxh3_64(&self.bytes))
    }
}

static ZEROS: LazyLock<Arc<Sector>> =
    LazyLock::new(|| Arc::new(Sector { bytes: [0; SECTOR], digest: OnceLock::new() }));

/// The bytes of one file.
///
/// Bytes past the length may be stored: a crash can keep a piece of a write and lose the length
/// that made it visible. They show when a later length covers them; [`Content::seal`] drops them.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    /// `None` is a hole: it reads as zeros and takes no space.
    sectors: Vec<Option<Arc<Sector>>>,
    stored: usize,
    flat: OnceLock<Arc<[u8]>>,
    digest: OnceLock<u128>,
}

/// Cuts `len` bytes at `at` where sectors meet: (first byte relative to `at`, bytes) of each.
pub(super) fn pieces(at: u64, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let in_sector = (at + from as u64) as usize % SECTOR;
        let piece = (SECTOR - in_sector).min(len - from);
        let start = from;
        from += piece;
        (piece > 0).then_some((start, piece))
    })
}

fn sectors_of(len: u64) -> usize {
    len.div_ceil(SECTOR as u64) as usize
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The space taken, in bytes.
    pub(super) fn stored_bytes(&self) -> u64 {
        (self.stored * SECTOR) as u64
    }

    fn touch(&mut self) {
        self.flat.take();
        self.digest.take();
    }

    fn extend_to(&mut self, sectors: usize) {
        if self.sectors.len() < sectors {
            self.sectors.resize(sectors, None);
        }
    }

    /// Whether the sector at byte `at` takes no space yet.
    pub(super) fn is_hole(&self, at: u64) -> bool {
        self.sectors.get((at / SECTOR as u64) as usize).is_none_or(Option::is_none)
    }

    /// How many sectors below `len` are holes.
    pub(super) fn holes_below(&self, len: u64) -> usize {
        let sectors = sectors_of(len);
        let known = self.sectors.iter().take(sectors);
        sectors - known.filter(|sector| sector.is_some()).count()
    }

    /// Writes bytes that lie in one sector. The length does not change.
    pub(super) fn write_piece(&mut self, at: u64, bytes: &[u8]) {
        self.touch();
        let (index, start) = ((at / SECTOR as u64) as usize, at as usize % SECTOR);
        self.extend_to(index + 1);
        if self.sectors[index].is_none() {
            self.stored += 1;
        }
        let sector = self.sectors[index].get_or_insert_with(|| Arc::clone(&ZEROS));
        Sector::bytes_mut(sector)[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes the file at least `len` long.
    pub(super) fn grow(&mut self, len: u64) {
        self.touch();
        self.len = self.len.max(len);
    }

    /// Fills the holes below `len`. The length does not change.
    pub(super) fn reserve(&mut self, len: u64) {
        self.touch();
        self.stored += self.holes_below(len);
        self.extend_to(sectors_of(len));
        for sector in self.sectors.iter_mut().take(sectors_of(len)) {
            sector.get_or_insert_with(|| Arc::clone(&ZEROS));
        }
    }

    /// Makes the file exactly `len` long and forgets every byte past it.
    pub(super) fn cut(&mut self, len: u64) {
        self.len = len;
        self.seal();
    }

    /// Forgets every byte past the length.
    pub(super) fn seal(&mut self) {
        self.touch();
        self.sectors.truncate(sectors_of(self.len));
        self.stored = self.sectors.iter().flatten().count();
        let kept = self.len as usize % SECTOR;
        if kept == 0 || self.sectors.len() < sectors_of(self.len) {
            return;
        }
        if let Some(Some(last)) = self.sectors.last_mut()
            && last.bytes[kept..].iter().any(|byte| *byte != 0)
        {
            Sector::bytes_mut(last)[kept..].fill(0);
        }
    }

    /// Copies bytes from `at` on into `buf`; the number is less at the file's end.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> usize {
        let len = (self.len.saturating_sub(at)).min(buf.len() as u64) as usize;
        for (from, bytes) in pieces(at, len) {
            let place = at + from as u64;
            let to = &mut buf[from..from + bytes];
            match self.sectors.get((place / SECTOR as u64) as usize) {
                Some(Some(sector)) => {
                    let start = place as usize % SECTOR;
                    to.copy_from_slice(&sector.bytes[start..start + bytes]);
                }
                _ => to.fill(0),
            }
        }
        len
    }

    /// All bytes in one piece.
    pub(super) fn flat(&self) -> Arc<[u8]> {
        let flat = self.flat.get_or_init(|| {
            let mut bytes = vec![0; self.len as usize];
            self.read(&mut bytes, 0);
            Arc::from(bytes)
        });
        Arc::clone(flat)
    }

    /// A hash of length and bytes; holes and written zeros are the same.
    pub(super) fn digest(&self) -> u128 {
        *self.digest.get_or_init(|| {
            let zeros = ZEROS.digest().to_le_bytes();
            let mut hash = Xxh3::new();
            hash.update(&self.len.to_le_bytes());
            for index in 0..sectors_of(self.len) {
                match self.sectors.get(index) {
                    Some(Some(sector)) => hash.update(&sector.digest().to_le_bytes()),
                    _ => hash.update(&zeros),
                }
            }
            hash.digest128()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Grow(u64),
        Allocate(u64),
        Cut(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = 0..3000u64;
        prop_oneof![
            (len.clone(), prop::collection::vec(any::<u8>(), 0..1500))
                .prop_map(|(at, bytes)| Step::Write(at, bytes)),
            len.clone().prop_map(Step::Grow),
            len.clone().prop_map(Step::Allocate),
            len.prop_map(Step::Cut),
        ]
    }

    fn zeros_to(model: &mut Vec<u8>, len: u64) {
        model.resize(model.len().max(len as usize), 0);
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector(steps in prop::collection::vec(step(), 0..20)) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            for step in steps {
                let before = (content.clone(), content.digest(), model.clone());
                match step {
                    Step::Write(at, bytes) => {
                        let end = at + bytes.len() as u64;
                        content.grow(end);
                        zeros_to(&mut model, end);
                        for (from, len) in pieces(at, bytes.len()) {
                            content.write_piece(at + from as u64, &bytes[from..from + len]);
                        }
                        model[at as usize..end as usize].copy_from_slice(&bytes);
                    }
                    Step::Grow(len) => {
                        content.grow(len);
                        zeros_to(&mut model, len);
                    }
                    Step::Allocate(len) => {
                        content.reserve(len);
                        content.grow(len);
                        zeros_to(&mut model, len);
                        prop_assert_eq!(content.holes_below(len), 0);
                    }
                    Step::Cut(len) => {
                        content.cut(len);
                        model.resize(len as usize, 0);
                    }
                }
                prop_assert_eq!(content.len(), model.len() as u64);
                prop_assert_eq!(&*content.flat(), model.as_slice());
                prop_assert_eq!(content.stored, content.sectors.iter().flatten().count());
                prop_assert_eq!(&*before.0.flat(), before.2.as_slice(), "a copy changed");
                prop_assert_eq!(content.digest() == before.1, model == before.2);
            }
        }
    }

    #[test]
    fn pieces_end_where_sectors_do() {
        assert_eq!(pieces(0, 0).count(), 0);
        assert_eq!(pieces(510, 3).collect::<Vec<_>>(), [(0, 2), (2, 1)]);
        assert_eq!(pieces(512, 1100).collect::<Vec<_>>(), [(0, 512), (512, 512), (1024, 76)]);
    }
}

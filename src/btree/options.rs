//! What a user may choose about one B+tree table, and how the manifest keeps it.

use crate::{
    codec::{Reader, put_varint},
    sorted::{PAGE_BYTES, RunOptions},
};
use bytes::Bytes;

const VERSION: u8 = 1;

/// How a B+tree table lies on disk.
///
/// The defaults suit most tables; each says why it is what it is. Options are chosen when a table
/// is created and kept with it. Values out of range are brought into it.
///
/// ```
/// # use tonearm::BtreeOptions;
/// let scanned = BtreeOptions::default().page_bytes(16 << 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtreeOptions {
    page_bytes: u32,
    spare_percent: u32,
    deltas: u32,
    rewrite_ratio: u32,
}

/// The most deltas there may be; with more, reads would ask them longer than the tree.
const DELTAS_MAX: u32 = 64;
/// From here on whatever changes is worth its leaf: a change of ten bytes to the longest page.
const RATIO_MAX: u32 = 2000;

impl Default for BtreeOptions {
    fn default() -> Self {
        Self { page_bytes: 8 << 10, spare_percent: 50, deltas: 8, rewrite_ratio: 12 }
    }
}

impl BtreeOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of a page, a power of two up to 16 KiB; 8 KiB by default. A page with a change is
    /// written anew as a whole, so smaller ones suit tables that are changed here and there, and
    /// larger ones tables that are scanned. With 8 KiB the branches of a table of a gigabyte fit
    /// into the processor's cache.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u32) -> Self {
        self.page_bytes = bytes;
        self.fitted()
    }

    /// How much of the file may be free before it is made smaller while nobody writes, in
    /// hundredths; 50 by default. A table that is changed all over needs about as much room as it
    /// has data for its next version, and would only grow again.
    #[must_use]
    pub fn spare_percent(mut self, percent: u32) -> Self {
        self.spare_percent = percent;
        self.fitted()
    }

    /// How many deltas may wait, by and large; 8 by default. A delta is a file of changes that lie
    /// too far apart in the tree for their leaves to be worth writing yet: it waits for more, at
    /// least until nobody writes. Each costs a look-up some tens of nanoseconds and a scan a
    /// source to merge. Up to twice as many may come together while they are being merged; then
    /// writers wait. With 0 all changes go into the tree at once, which writes several times as
    /// much when they lie all over a large table, and needs room for a whole version more while an
    /// old one is read for long.
    #[must_use]
    pub fn deltas(mut self, most: u32) -> Self {
        self.deltas = most;
        self.fitted()
    }

    /// Changes go into the tree if that writes no more than so many times their bytes, and wait as
    /// a delta if it would write more; 12 by default: the sixth change to a leaf of seventy entries
    /// is worth writing the leaf. More makes for fewer deltas, less for less writing.
    #[must_use]
    pub fn rewrite_ratio(mut self, ratio: u32) -> Self {
        self.rewrite_ratio = ratio;
        self.fitted()
    }

    fn fitted(mut self) -> Self {
        let (least, most) = (*PAGE_BYTES.start() as u32, *PAGE_BYTES.end() as u32);
        self.page_bytes = self.page_bytes.clamp(least, most).next_power_of_two();
        self.spare_percent = self.spare_percent.clamp(5, 95);
        self.deltas = self.deltas.min(DELTAS_MAX);
        self.rewrite_ratio = self.rewrite_ratio.clamp(1, RATIO_MAX);
        self
    }
}

impl BtreeOptions {
    pub(crate) fn page_len(&self) -> usize {
        self.page_bytes as usize
    }

    /// Whether of a file of `pages` too many are free.
    pub(super) fn is_too_empty(&self, free: u64, pages: u64) -> bool {
        free * 100 > pages * u64::from(self.spare_percent)
    }

    /// How many deltas may wait.
    pub(super) fn most_deltas(&self) -> usize {
        self.deltas as usize
    }

    /// Whether writing so many leaves for the sake of `bytes` of changes is too much for now. A
    /// delta would take those bytes, and a page for itself.
    pub(super) fn is_too_much(&self, leaves: u64, bytes: u64) -> bool {
        let page_bytes = u64::from(self.page_bytes);
        leaves * page_bytes > u64::from(self.rewrite_ratio) * (bytes + page_bytes)
    }

    /// How a delta is written: as what the tree is made of, so that scans are as fast.
    pub(super) fn delta(&self) -> RunOptions {
        RunOptions { block_bytes: self.page_len(), merged_soon: true, ..RunOptions::default() }
    }

    /// As the manifest keeps them: `version u8`, then varints.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.page_bytes.into());
        put_varint(&mut out, self.spare_percent.into());
        put_varint(&mut out, self.deltas.into());
        put_varint(&mut out, self.rewrite_ratio.into());
        out.into()
    }

    /// What [`BtreeOptions::encode`] wrote; `None` if `bytes` are anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let options = Self {
            page_bytes: reader.varint()?.try_into().ok()?,
            spare_percent: reader.varint()?.try_into().ok()?,
            deltas: reader.varint()?.try_into().ok()?,
            rewrite_ratio: reader.varint()?.try_into().ok()?,
        };
        (reader.is_empty() && options.clone().fitted() == options).then_some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn are_written_as_ever() {
        let hex: String =
            BtreeOptions::default().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01804032080c");
    }

    proptest! {
        #[test]
        fn any_choice_is_fitted_and_kept(bytes: u32, percent: u32, deltas: u32, ratio: u32) {
            let options = BtreeOptions::new().page_bytes(bytes).spare_percent(percent);
            let options = options.deltas(deltas).rewrite_ratio(ratio);
            prop_assert_eq!(BtreeOptions::decode(&options.encode()), Some(options));
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes: Vec<u8>) {
            if let Some(options) = BtreeOptions::decode(&bytes) {
                prop_assert_eq!(&options.encode()[..], &bytes[..]);
            }
        }
    }
}

//! What a user may choose about one B+tree table, and how the manifest keeps it.

use crate::{
    codec::{Reader, put_varint},
    sorted::PAGE_BYTES,
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
}

impl Default for BtreeOptions {
    fn default() -> Self {
        Self { page_bytes: 8 << 10, spare_percent: 50 }
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

    fn fitted(mut self) -> Self {
        let (least, most) = (*PAGE_BYTES.start() as u32, *PAGE_BYTES.end() as u32);
        self.page_bytes = self.page_bytes.clamp(least, most).next_power_of_two();
        self.spare_percent = self.spare_percent.clamp(5, 95);
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

    /// As the manifest keeps them: `version u8`, then varints.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.page_bytes.into());
        put_varint(&mut out, self.spare_percent.into());
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
        assert_eq!(hex, "01804032");
    }

    proptest! {
        #[test]
        fn any_choice_is_fitted_and_kept(bytes: u32, percent: u32) {
            let options = BtreeOptions::new().page_bytes(bytes).spare_percent(percent);
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

//! Values that lie apart from their entries: what an entry says of where its value is.
//!
//! The picture is in the format of runs; records of hash tables say it in the same way.

use super::{FAR_BYTES, FileId, LENT_BYTES, block::place};
use crate::codec::{Reader, checksum};

/// Values longer than this are stored as they are, which bounds what unpacking one may take.
pub(crate) const PACKED_VALUE_MAX: usize = 1 << 20;

/// Where a value that does not follow its key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FarValue {
    pub(crate) offset: u64,
    /// Bytes in the file; fewer than `len` if compressed.
    pub(crate) stored: u32,
    pub(crate) len: u32,
    pub(crate) checksum: u64,
}

impl FarValue {
    pub(crate) fn to_bytes(self) -> [u8; FAR_BYTES] {
        let mut bytes = [0; FAR_BYTES];
        let words =
            [self.offset, u64::from(self.stored) | u64::from(self.len) << 32, self.checksum];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    /// The same of a value in another file than the entry is in.
    pub(crate) fn to_lent_bytes(self, file: FileId) -> [u8; LENT_BYTES] {
        let mut bytes = [0; LENT_BYTES];
        let parts = [&self.to_bytes()[..], &file.to_le_bytes()];
        for (to, byte) in bytes.iter_mut().zip(parts.concat()) {
            *to = byte;
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let value = Self {
            offset: reader.u64()?,
            stored: reader.u32()?,
            len: reader.u32()?,
            checksum: reader.u64()?,
        };
        let stored_plain = value.stored == value.len;
        let packed = value.stored < value.len && value.len as usize <= PACKED_VALUE_MAX;
        (reader.is_empty() && (stored_plain || packed)).then_some(value)
    }

    pub(crate) fn is_packed(&self) -> bool {
        self.stored < self.len
    }

    /// Whether these are its bytes in the file.
    pub(crate) fn is(&self, stored: &[u8], file: FileId) -> bool {
        checksum(stored, place(file, self.offset)) == self.checksum
    }
}

/// What an entry says: where its value lies, and in which file if not in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) far: FarValue,
    pub(crate) lender: Option<FileId>,
}

impl Pointer {
    /// The two kinds differ in their length.
    #[inline]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LENT_BYTES {
            return Some(Self { far: FarValue::from_bytes(bytes)?, lender: None });
        }
        let (far, file) = bytes.split_at_checked(FAR_BYTES)?;
        let far = FarValue::from_bytes(far)?;
        Some(Self { far, lender: Some(Reader::new(file).u64()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trip() {
        let far = FarValue { offset: 1 << 40, stored: 7, len: 9, checksum: 3 };
        assert_eq!(FarValue::from_bytes(&far.to_bytes()), Some(far));
        let own = Pointer { far, lender: None };
        assert_eq!(Pointer::from_bytes(&far.to_bytes()), Some(own));
        let lent = Pointer { far, lender: Some(1 << 50) };
        assert_eq!(Pointer::from_bytes(&far.to_lent_bytes(1 << 50)), Some(lent));
        for (stored, len) in [(9, 7), (7, PACKED_VALUE_MAX as u32 + 1)] {
            let wrong = FarValue { stored, len, ..far };
            assert_eq!(FarValue::from_bytes(&wrong.to_bytes()), None);
            assert_eq!(Pointer::from_bytes(&wrong.to_lent_bytes(1)), None);
        }
        assert_eq!(FarValue::from_bytes(&[0; 23]), None);
        assert_eq!(FarValue::from_bytes(&far.to_lent_bytes(1)), None);
    }

    #[test]
    fn are_written_as_ever() {
        let far = FarValue { offset: 0x0102, stored: 3, len: 4, checksum: 5 };
        let hex: String = far.to_lent_bytes(6).iter().map(|byte| format!("{byte:02x}")).collect();
        let own = "0201000000000000 03000000 04000000 0500000000000000";
        assert_eq!(hex, format!("{own} 0600000000000000").replace(' ', ""));
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let pointer = Pointer::from_bytes(&bytes);
            prop_assert!(pointer.is_none() || [FAR_BYTES, LENT_BYTES].contains(&bytes.len()));
        }
    }
}

//! What the manifest knows of a hash run.
//!
//! ```text
//! Format: hash run meta
//!
//! varint file number, varint length, u8 slice's bits, varint slice's number, varint age,
//! varint entries, varint deletes, varint raw bytes, u64 digest
//! ```

use super::format::Slice;
use crate::{
    codec::{Reader, put_u64, put_varint},
    sorted::FileId,
};

/// Facts about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HashRunMeta {
    pub(crate) file: FileId,
    /// The length of the file.
    pub(crate) bytes: u64,
    /// The hashes it is for.
    pub(crate) slice: Slice,
    /// Where it stands among the table's runs: one with a greater number is newer. Files of the
    /// same are one run, slice by slice.
    pub(crate) age: u64,
    pub(crate) entries: u64,
    /// How many of the entries are deletes.
    pub(crate) deletes: u64,
    /// The lengths of all keys and values together.
    pub(crate) raw_bytes: u64,
    /// Of the whole file.
    pub(crate) digest: u64,
}

impl HashRunMeta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.file);
        put_varint(out, self.bytes);
        out.push(self.slice.bits);
        put_varint(out, u64::from(self.slice.number));
        for count in [self.age, self.entries, self.deletes, self.raw_bytes] {
            put_varint(out, count);
        }
        put_u64(out, self.digest);
    }

    /// What [`encode`](Self::encode) wrote; `None` if it cannot have.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let meta = Self {
            file: reader.varint()?,
            bytes: reader.varint()?,
            slice: Slice { bits: reader.u8()?, number: u32::try_from(reader.varint()?).ok()? },
            age: reader.varint()?,
            entries: reader.varint()?,
            deletes: reader.varint()?,
            raw_bytes: reader.varint()?,
            digest: reader.u64()?,
        };
        (meta.slice.is_valid() && meta.deletes <= meta.entries).then_some(meta)
    }

    /// The section of properties, its checksum still zero: what a lost manifest is made from
    /// again.
    pub(super) fn encode_properties(&self) -> Vec<u8> {
        let mut out = vec![0; 8];
        Self { bytes: 0, digest: 0, ..self.clone() }.encode(&mut out);
        out
    }

    /// The meta of a section whose checksum is right, without length and digest.
    pub(super) fn decode_properties(section: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(section.get(8..)?);
        let meta = Self::decode(&mut reader)?;
        reader.is_empty().then_some(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trips_and_refuses_what_cannot_be() {
        let meta = HashRunMeta {
            file: 300,
            bytes: 1 << 40,
            slice: Slice { bits: 10, number: 1023 },
            age: 77,
            entries: 3,
            deletes: 3,
            raw_bytes: 999,
            digest: u64::MAX,
        };
        let encoded = |meta: &HashRunMeta| {
            let mut out = Vec::new();
            meta.encode(&mut out);
            out
        };
        let bytes = encoded(&meta);
        let mut reader = Reader::new(&bytes);
        assert_eq!(HashRunMeta::decode(&mut reader), Some(meta.clone()));
        assert!(reader.is_empty());
        for cut in 0..bytes.len() {
            assert_eq!(HashRunMeta::decode(&mut Reader::new(&bytes[..cut])), None);
        }
        for wrong in [
            HashRunMeta { deletes: 4, ..meta.clone() },
            HashRunMeta { slice: Slice { bits: 10, number: 1024 }, ..meta.clone() },
        ] {
            assert_eq!(HashRunMeta::decode(&mut Reader::new(&encoded(&wrong))), None);
        }
        let properties = HashRunMeta::decode_properties(&meta.encode_properties());
        assert_eq!(properties, Some(HashRunMeta { bytes: 0, digest: 0, ..meta }));
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = HashRunMeta::decode(&mut Reader::new(&bytes));
            let _ = HashRunMeta::decode_properties(&bytes);
        }
    }
}

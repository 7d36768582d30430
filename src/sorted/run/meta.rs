//! What the manifest knows about a run; a copy lies in the run itself, its properties.
//!
//! ```text
//! Format: run meta
//!
//! varint file number, varint length, bytes first key, bytes last key, span,
//! varint entries, varint deletes, varint deletes in stretches, varint range deletes,
//! varint raw bytes, u64 digest
//!
//! bytes   varint length, so many bytes
//! span    bytes start, then u8 0, or u8 1 and bytes end
//! ```

use super::format::{decode_key, decode_span, encode_span};
use crate::{
    codec::{Reader, put_bytes, put_u64, put_varint},
    sorted::{FileId, Span},
};
use bytes::Bytes;

/// All the manifest knows about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunMeta {
    pub(crate) file: FileId,
    /// The length of the file.
    pub(crate) bytes: u64,
    /// The first and the last key with an entry; both empty without entries.
    pub(crate) first: Bytes,
    pub(crate) last: Bytes,
    /// Holds every key with an entry and every range delete.
    pub(crate) span: Span,
    pub(crate) entries: u64,
    /// How many of the entries are deletes.
    pub(crate) deletes: u64,
    /// How many of those lie in [stretches](Stretches) of deletes.
    pub(crate) stretched: u64,
    pub(crate) range_deletes: u64,
    /// The lengths of all keys and values together.
    pub(crate) raw_bytes: u64,
    /// Of the whole file.
    pub(crate) digest: u64,
}

impl RunMeta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.file);
        put_varint(out, self.bytes);
        put_bytes(out, &self.first);
        put_bytes(out, &self.last);
        encode_span(&self.span, out);
        let deletes = [self.deletes, self.stretched, self.range_deletes];
        for count in [self.entries].into_iter().chain(deletes).chain([self.raw_bytes]) {
            put_varint(out, count);
        }
        put_u64(out, self.digest);
    }

    /// What [`encode`](Self::encode) wrote; `None` if it cannot have.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let meta = Self {
            file: reader.varint()?,
            bytes: reader.varint()?,
            first: decode_key(reader)?.into(),
            last: decode_key(reader)?.into(),
            span: decode_span(reader)?,
            entries: reader.varint()?,
            deletes: reader.varint()?,
            stretched: reader.varint()?,
            range_deletes: reader.varint()?,
            raw_bytes: reader.varint()?,
            digest: reader.u64()?,
        };
        let within = meta.entries == 0 || meta.span.covers(&meta.first, &meta.last);
        let counted = meta.stretched <= meta.deletes && meta.deletes <= meta.entries;
        (meta.first <= meta.last && counted && within).then_some(meta)
    }
}

/// Deletes in a row, so many that whoever seeks to the first has to walk for long.
const STRETCH: u64 = if cfg!(test) { 20 } else { 1000 };

/// Counts the deletes that lie in stretches of at least [`STRETCH`].
#[derive(Debug, Default)]
pub(super) struct Stretches {
    row: u64,
    total: u64,
}

impl Stretches {
    pub(super) fn put(&mut self) {
        self.row = 0;
    }

    pub(super) fn delete(&mut self) {
        self.row += 1;
        self.total += match self.row {
            STRETCH => STRETCH,
            row => u64::from(row > STRETCH),
        };
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// The section of properties, its checksum still zero: what a lost manifest is made from again.
pub(super) fn encode_properties(meta: &RunMeta) -> Vec<u8> {
    let mut out = vec![0; 8];
    RunMeta { bytes: 0, digest: 0, ..meta.clone() }.encode(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trips_and_refuses_what_cannot_be() {
        let meta = RunMeta {
            file: 300,
            bytes: 1 << 40,
            first: "b".into(),
            last: "c".into(),
            span: Span::new("a", Some("c\0")),
            entries: 3,
            deletes: 3,
            stretched: 2,
            range_deletes: 1,
            raw_bytes: 999,
            digest: u64::MAX,
        };
        let encoded = |meta: &RunMeta| {
            let mut out = Vec::new();
            meta.encode(&mut out);
            out
        };
        let bytes = encoded(&meta);
        let mut reader = Reader::new(&bytes);
        assert_eq!(RunMeta::decode(&mut reader), Some(meta.clone()));
        assert!(reader.is_empty());
        for cut in 0..bytes.len() {
            assert_eq!(RunMeta::decode(&mut Reader::new(&bytes[..cut])), None);
        }
        for wrong in [
            RunMeta { deletes: 4, ..meta.clone() },
            RunMeta { stretched: 4, ..meta.clone() },
            RunMeta { first: "d".into(), ..meta.clone() },
            RunMeta { span: Span::new("a", Some("c")), ..meta },
        ] {
            assert_eq!(RunMeta::decode(&mut Reader::new(&encoded(&wrong))), None);
        }
    }

    #[test]
    fn only_long_stretches_count() {
        let mut stretches = Stretches::default();
        for row in [STRETCH - 1, STRETCH, 3, STRETCH + 5] {
            (0..row).for_each(|_| stretches.delete());
            stretches.put();
        }
        assert_eq!(stretches.total(), 2 * STRETCH + 5);
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = RunMeta::decode(&mut Reader::new(&bytes));
        }
    }
}

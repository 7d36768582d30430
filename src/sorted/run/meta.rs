//! What the manifest knows about a run; a copy lies in the run itself, its properties.
//!
//! ```text
//! Format: run meta
//!
//! varint file number, varint length, bytes first key, bytes last key, span,
//! varint entries, varint deletes, varint deletes in stretches, varint range deletes,
//! varint raw bytes, u64 digest, then nothing or
//! varint bytes to lend, varint lenders, for each varint file number, varint bytes borrowed
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
    /// Stored bytes of those values in the file that merges need not copy.
    pub(crate) lendable: u64,
    /// The files in which values of its entries lie, ascending, and how many stored bytes.
    pub(crate) borrowed: Vec<(FileId, u64)>,
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
        if self.lendable > 0 || !self.borrowed.is_empty() {
            put_varint(out, self.lendable);
            put_varint(out, self.borrowed.len() as u64);
            for (file, bytes) in &self.borrowed {
                put_varint(out, *file);
                put_varint(out, *bytes);
            }
        }
    }

    /// What [`encode`](Self::encode) wrote; `None` if it cannot have.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut meta = Self {
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
            lendable: 0,
            borrowed: Vec::new(),
        };
        meta.decode_loans(reader)?;
        let within = meta.entries == 0 || meta.span.covers(&meta.first, &meta.last);
        let counted = meta.stretched <= meta.deletes && meta.deletes <= meta.entries;
        (meta.first <= meta.last && counted && within).then_some(meta)
    }

    /// What is lent and borrowed, if there is more to read. Lenders are older than who borrows.
    fn decode_loans(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        if reader.is_empty() {
            return Some(());
        }
        self.lendable = reader.varint()?;
        // The count is not trusted with an allocation: a lie runs out of bytes.
        for _ in 0..reader.varint()? {
            let (file, bytes) = (reader.varint()?, reader.varint()?);
            let ascends = self.borrowed.last().is_none_or(|(last, _)| *last < file);
            if bytes == 0 || !ascends || file >= self.file {
                return None;
            }
            self.borrowed.push((file, bytes));
        }
        (self.lendable > 0 || !self.borrowed.is_empty()).then_some(())
    }

    /// How many stored bytes of its values lie in `file`, another one.
    pub(crate) fn borrowed_from(&self, file: FileId) -> u64 {
        let at = self.borrowed.binary_search_by_key(&file, |(lender, _)| *lender);
        at.ok().and_then(|at| self.borrowed.get(at)).map_or(0, |(_, bytes)| *bytes)
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
            lendable: 0,
            borrowed: Vec::new(),
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
            RunMeta { span: Span::new("a", Some("c")), ..meta.clone() },
        ] {
            assert_eq!(RunMeta::decode(&mut Reader::new(&encoded(&wrong))), None);
        }
        let lending = RunMeta { lendable: 1 << 30, ..meta.clone() };
        let borrowing = RunMeta { borrowed: vec![(7, 1), (299, 1 << 33)], ..meta.clone() };
        for loan in [lending, borrowing.clone()] {
            let more = encoded(&loan);
            assert_eq!(RunMeta::decode(&mut Reader::new(&more)), Some(loan));
            for cut in bytes.len() + 1..more.len() {
                assert_eq!(RunMeta::decode(&mut Reader::new(&more[..cut])), None);
            }
        }
        assert_eq!((borrowing.borrowed_from(299), borrowing.borrowed_from(8)), (1 << 33, 0));
        for wrong in [vec![(7, 0)], vec![(300, 1)], vec![(7, 1), (7, 1)], vec![(8, 1), (7, 1)]] {
            let wrong = encoded(&RunMeta { borrowed: wrong, ..meta.clone() });
            assert_eq!(RunMeta::decode(&mut Reader::new(&wrong)), None);
        }
        let loans = RunMeta { lendable: 300, ..borrowing };
        let is_written = [&bytes[..], &[0xac, 2, 2, 7, 1, 0xab, 2, 0x80, 0x80, 0x80, 0x80, 32]];
        assert_eq!(encoded(&loans), is_written.concat());
        let no_loans = [&bytes[..], &[0, 0]].concat();
        assert_eq!(RunMeta::decode(&mut Reader::new(&no_loans)), None);
        let mut many = [&bytes[..], &[0]].concat();
        put_varint(&mut many, u64::MAX);
        assert_eq!(RunMeta::decode(&mut Reader::new(&many)), None);
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

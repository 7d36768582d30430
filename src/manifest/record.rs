//! How records lie in a manifest file.
//!
//! ```text
//! Format: manifest record
//!
//!  0  checksum u64   of all that follows, padding included; seeded by database and file
//!  8  length u32     of the payload
//! 12  kind u8        1 state, 2 edits
//! 13  zero [u8; 3]
//! 16  number u64     0, 1, 2, ... within the file
//! 24  payload, then zeros up to a multiple of 8
//! ```
//!
//! Record `n + 1` is written only once record `n` is known to be synced. So a record that cannot
//! be read is a torn write only if it is the last: a valid one with a higher number anywhere
//! behind it is a promise that the unreadable one had been durable (the idea of Pebble's
//! `synced offset`, in its simplest form).

use crate::{
    Error, ErrorKind, Result,
    codec::{Reader, checksum, put_u32, put_u64},
};

pub(super) const HEADER: usize = 24;
const ALIGN: usize = 8;
/// Longest manifest file, hence longest record: some millions of files.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// What a record's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The whole state: always and only the first record.
    State = 1,
    /// Edits done as one.
    Edits = 2,
}

/// A record that was read.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) checksum: u64,
    pub(super) payload: &'a [u8],
    /// With header and padding.
    pub(super) len: usize,
}

/// The seed of all checksums in manifest `number` of database `db_id`.
pub(super) fn seed(db_id: u128, number: u64) -> u64 {
    checksum(&db_id.to_le_bytes(), number)
}

/// A whole record; `fill` writes the payload.
pub(super) fn encode(
    seed: u64,
    kind: Kind,
    number: u64,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<Vec<u8>> {
    let mut out = vec![0; HEADER];
    fill(&mut out);
    let len = out.len() - HEADER;
    if len as u64 > MANIFEST_BYTES_MAX / 2 {
        return Err(Error::new(ErrorKind::Limit, "the manifest would grow over its limit"));
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let mut head = Vec::with_capacity(HEADER);
    put_u32(&mut head, len as u32);
    head.extend_from_slice(&[kind as u8, 0, 0, 0]);
    put_u64(&mut head, number);
    out[8..HEADER].copy_from_slice(&head);
    let sum = checksum(&out[8..], seed);
    out[..8].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// The checksum in the header of what [`encode`] made.
pub(super) fn checksum_of(record: &[u8]) -> u64 {
    Reader::new(record).u64().unwrap_or_default()
}

/// Record `number` at the start of `bytes`, if it is there and whole.
pub(super) fn decode(bytes: &[u8], seed: u64, number: u64) -> Option<Record<'_>> {
    let header = Header::decode(bytes)?;
    (header.number == number).then_some(())?;
    header.verify(bytes, seed)
}

/// Where in `bytes` a valid record with a number above `number` lies, if anywhere.
///
/// Hashing is bounded: bytes made to look like very many overlapping headers count as a find, as
/// no torn write of ours looks like that.
pub(super) fn find_later(bytes: &[u8], seed: u64, number: u64) -> Option<usize> {
    let mut budget = 8 * bytes.len() + (1 << 20);
    let highest = number.saturating_add((bytes.len() / HEADER) as u64);
    for at in (0..bytes.len()).step_by(ALIGN) {
        let rest = bytes.get(at..)?;
        let Some(header) = Header::decode(rest) else { continue };
        if header.number <= number || header.number > highest {
            continue;
        }
        let Some(left) = budget.checked_sub(header.total()) else { return Some(at) };
        budget = left;
        if header.verify(rest, seed).is_some() {
            return Some(at);
        }
    }
    None
}

struct Header {
    checksum: u64,
    len: usize,
    kind: Kind,
    number: u64,
}

impl Header {
    /// A header that could be one, of a record that would fit into `bytes`.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let checksum = reader.u64()?;
        let len = usize::try_from(reader.u32()?).ok()?;
        let kind = match reader.take(4)? {
            [1, 0, 0, 0] => Kind::State,
            [2, 0, 0, 0] => Kind::Edits,
            _ => return None,
        };
        let number = reader.u64()?;
        let header = Self { checksum, len, kind, number };
        (len <= bytes.len() && header.total() <= bytes.len()).then_some(header)
    }

    fn total(&self) -> usize {
        HEADER + self.len.next_multiple_of(ALIGN)
    }

    fn verify<'a>(&self, bytes: &'a [u8], seed: u64) -> Option<Record<'a>> {
        let covered = bytes.get(8..self.total())?;
        (checksum(covered, seed) == self.checksum).then_some(())?;
        Some(Record {
            kind: self.kind,
            checksum: self.checksum,
            payload: bytes.get(HEADER..HEADER + self.len)?,
            len: self.total(),
        })
    }
}

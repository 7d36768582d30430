//! The bytes of the log, shared by who writes and who reads them.
//!
//! A segment is a file `{id:010}.log`, at its full size from the start. Integers are little-endian.
//!
//! ```text
//! Format: log
//!
//!   segment   | header 64 | link 40 | record | record | ... | zeros to the end
//!
//!   header    0       8         12     16        32         40       48       56        64
//!             | magic | version | zero | db id   | segment  | start  | bytes  | xxh3    |
//!               "tonelog\n"                        this one   the     of this   of 0..56,
//!                                                             log's   file      seeded by
//!                                                             first             the segment
//!
//!   record    0          4             8     12      16          24       32
//!             | head crc | payload crc | len | count | first seq | synced | payload | 0 to 7 zeros
//!               of 4..32,  of len bytes                            a position
//!               seeded by the record's place
//!
//!   mark      a record with count 0, first seq 0 and a payload of 8 bytes: the position at which
//!             all that was appended before it ends; a link is one
//!   position  segment << 32 | offset, a u64
//! ```
//!
//! - The *place* that seeds a head's checksum is the database's id, the log's first segment, this
//!   segment and the offset. So the bytes of another database, of an abandoned log, of another
//!   segment, or of this one but copied into a value, are never taken for a record.
//! - *synced* says up to where the log was known to be durable when the record was appended. It
//!   is what tells damage from a torn tail (see [`super::replay`]); Pebble keeps such an offset in
//!   its log for the same reason. A head vouches for it whether or not its payload survived.
//! - The first record of a segment is a mark, its *link*: it says where the segment before it
//!   ends, so a lost tail of that one is noticed. A log that is closed ends with a mark of its
//!   own place, whose `synced` vouches for every record before it; nothing follows it.
//! - *bytes* was synced before the segment was used: a shorter file with records has been cut.

use crate::{
    Error, ErrorKind, Result,
    codec::{Crc, Reader, checksum},
};
use std::fmt;

/// The number of a segment. The first is 1; 0 stands for no log at all.
pub(crate) type SegmentId = u64;

/// Segment numbers are below 2^32, so that a position fits 64 bits.
pub(super) const SEGMENT_MAX: SegmentId = u32::MAX as u64;
/// The largest segment.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// The largest payload of one record; it still fits a segment with link and closing mark.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = SEGMENT_BYTES_MAX - 4096;

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const HEAD_BYTES: usize = 32;
pub(super) const ALIGN: usize = 8;
/// A whole record that is a mark.
pub(super) const MARK_BYTES: u64 = HEAD_BYTES as u64 + MARK_PAYLOAD_BYTES as u64;
/// Where the link lies.
pub(super) const LINK_AT: u64 = HEADER_BYTES as u64;
/// Where the first record after the link lies.
pub(super) const FIRST_RECORD_AT: u64 = LINK_AT + MARK_BYTES;

const MARK_PAYLOAD_BYTES: u32 = 8;
const MAGIC: [u8; 8] = *b"tonelog\n";
const VERSION: u32 = 1;
const HEADER_SUMMED: usize = HEADER_BYTES - 8;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN) && HEAD_BYTES.is_multiple_of(ALIGN));
const _: () =
    assert!(FIRST_RECORD_AT + record_bytes(PAYLOAD_BYTES_MAX) + MARK_BYTES <= SEGMENT_BYTES_MAX);

/// A place in the log: a segment and an offset in it. Later places compare greater.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(u64);

impl Position {
    pub(super) const fn new(segment: SegmentId, offset: u64) -> Self {
        debug_assert!(segment <= SEGMENT_MAX && offset <= SEGMENT_BYTES_MAX);
        Self(segment << 32 | offset)
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    pub(crate) const fn segment(self) -> SegmentId {
        self.0 >> 32
    }

    pub(crate) const fn offset(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

/// The name of a segment's file.
pub(crate) fn segment_name(id: SegmentId) -> String {
    format!("{id:010}.log")
}

/// The segment that `name` is the file of, if it is one.
pub(super) fn segment_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|id| (1..=SEGMENT_MAX).contains(id))
}

/// Which log a segment belongs to: one log is what one opening of one database writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) db_id: u128,
    /// The log's first segment.
    pub(super) start: SegmentId,
    key: u64,
}

impl Identity {
    pub(super) fn new(db_id: u128, start: SegmentId) -> Self {
        Self { db_id, start, key: checksum(&db_id.to_le_bytes(), start) }
    }

    /// What seeds the checksum of a head at `place`.
    #[inline]
    fn seed(&self, place: Position) -> u32 {
        let mixed = (self.key ^ place.raw()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32 ^ mixed as u32
    }
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    pub(super) segment: SegmentId,
    pub(super) bytes: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.identity.db_id.to_le_bytes());
        out[32..40].copy_from_slice(&self.segment.to_le_bytes());
        out[40..48].copy_from_slice(&self.identity.start.to_le_bytes());
        out[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        let sum = checksum(&out[..HEADER_SUMMED], self.segment);
        out[HEADER_SUMMED..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The header of segment `segment` of `db_id`; `None` if these bytes are not that.
    pub(super) fn decode(
        bytes: &[u8; HEADER_BYTES],
        db_id: u128,
        segment: SegmentId,
    ) -> Result<Option<Self>> {
        let mut reader = Reader::new(bytes);
        let Some((version, found_id, found_segment, start, size)) = (|| {
            let magic = reader.take(MAGIC.len())?;
            let version = reader.u32()?;
            reader.u32()?;
            let id = u128::from(reader.u64()?) | u128::from(reader.u64()?) << 64;
            let rest = (reader.u64()?, reader.u64()?, reader.u64()?);
            let summed = bytes.get(..HEADER_SUMMED)?;
            let whole = magic == MAGIC && reader.u64()? == checksum(summed, segment);
            whole.then_some((version, id, rest.0, rest.1, rest.2))
        })() else {
            return Ok(None);
        };
        if version != VERSION {
            let what = format!("the log is of format {version}, this build reads {VERSION}");
            return Err(Error::new(ErrorKind::Version, what).in_file(&segment_name(segment)));
        }
        let fits = found_id == db_id
            && found_segment == segment
            && (1..=segment).contains(&start)
            && size <= SEGMENT_BYTES_MAX;
        let identity = Identity::new(db_id, start);
        Ok(fits.then_some(Self { identity, segment, bytes: size }))
    }
}

/// What stands before every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) payload_crc: u32,
    pub(super) len: u32,
    pub(super) count: u32,
    pub(super) first_seq: u64,
    pub(super) synced: Position,
}

impl Head {
    /// The head of a mark, and its payload.
    pub(super) fn mark(before: Position, synced: Position) -> (Self, [u8; 8]) {
        let payload = before.raw().to_le_bytes();
        let payload_crc = payload_crc(&[&payload]);
        (Self { payload_crc, len: MARK_PAYLOAD_BYTES, count: 0, first_seq: 0, synced }, payload)
    }

    pub(super) fn is_mark(&self) -> bool {
        self.count == 0
    }

    /// The last sequence number of the batch; 0 for a mark.
    pub(super) fn last_seq(&self) -> u64 {
        (self.first_seq + u64::from(self.count)).saturating_sub(1)
    }

    #[inline]
    pub(super) fn encode(&self, identity: &Identity, place: Position) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced.raw().to_le_bytes());
        let mut crc = Crc::new(identity.seed(place));
        crc.add(&out[4..]);
        out[..4].copy_from_slice(&crc.finish().to_le_bytes());
        out
    }

    /// The head that was written at `place` of this log; `None` if these bytes are not one.
    ///
    /// The checks that cost least come first, for the search for proofs, which tries every
    /// eighth byte of a segment. They also make 32 zeros no head under any seed.
    pub(super) fn decode(bytes: &[u8], identity: &Identity, place: Position) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(..HEAD_BYTES)?);
        let crc = reader.u32()?;
        let head = Self {
            payload_crc: reader.u32()?,
            len: reader.u32()?,
            count: reader.u32()?,
            first_seq: reader.u64()?,
            synced: Position(reader.u64()?),
        };
        let plausible = head.synced <= place
            && u64::from(head.len) <= PAYLOAD_BYTES_MAX
            && match head.count {
                0 => head.len == MARK_PAYLOAD_BYTES && head.first_seq == 0,
                count => head.first_seq != 0 && head.first_seq.checked_add(count.into()).is_some(),
            };
        if !plausible {
            return None;
        }
        let mut sum = Crc::new(identity.seed(place));
        sum.add(bytes.get(4..HEAD_BYTES)?);
        (sum.finish() == crc).then_some(head)
    }
}

/// The bytes that a record with a payload of `len` takes.
#[inline]
pub(super) const fn record_bytes(len: u64) -> u64 {
    (HEAD_BYTES as u64 + len).next_multiple_of(ALIGN as u64)
}

/// The checksum of a record's payload, computed before taking any lock.
pub(crate) fn payload_crc(parts: &[&[u8]]) -> u32 {
    let mut crc = Crc::new(0);
    for part in parts {
        crc.add(part);
    }
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> Identity {
        Identity::new(0x1234_5678_9abc_def0_0fed_cba9_8765_4321, 3)
    }

    fn head() -> Head {
        let synced = Position::new(4, 1000);
        Head { payload_crc: 7, len: 90, count: 3, first_seq: 40, synced }
    }

    #[test]
    fn names_are_read_back_and_others_are_not_ours() {
        for id in [1, 9, 1_234_567, SEGMENT_MAX] {
            assert_eq!(segment_of(&segment_name(id)), Some(id));
        }
        for name in ["1.log", "0000000000.log", "9999999999.log", "+000000001.log", "a.log", "x"] {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }

    #[test]
    fn headers_round_trip_and_no_flipped_bit_passes() {
        let header = Header { identity: identity(), segment: 5, bytes: 4096 };
        let bytes = header.encode();
        let db_id = header.identity.db_id;
        assert_eq!(Header::decode(&bytes, db_id, 5).unwrap(), Some(header));
        assert_eq!(Header::decode(&bytes, db_id, 6).unwrap(), None);
        assert_eq!(Header::decode(&bytes, db_id + 1, 5).unwrap(), None);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad, db_id, 5).unwrap(), None, "bit {bit}");
        }
    }

    #[test]
    fn headers_and_heads_are_written_as_ever() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let header = Header { identity: identity(), segment: 5, bytes: 4096 };
        assert_eq!(
            hex(&header.encode()),
            "746f6e656c6f670a010000000000000021436587a9cbed0ff0debc9a785634120500000000000000\
             0300000000000000001000000000000067d462edb2bf7ae4"
        );
        assert_eq!(
            hex(&head().encode(&identity(), Position::new(4, 2048))),
            "561edd89070000005a000000030000002800000000000000e803000004000000"
        );
        let (mark, payload) = Head::mark(Position::new(4, 2048), Position::new(4, 1000));
        let place = Position::new(4, 2048);
        assert_eq!(
            hex(&mark.encode(&identity(), place)),
            "6973d4975906afd908000000000000000000000000000000e803000004000000"
        );
        assert_eq!(hex(&payload), "0008000004000000");
    }

    #[test]
    fn a_later_format_is_named() {
        let mut bytes = Header { identity: identity(), segment: 5, bytes: 4096 }.encode();
        bytes[8] = 2;
        let sum = checksum(&bytes[..HEADER_SUMMED], 5);
        bytes[HEADER_SUMMED..].copy_from_slice(&sum.to_le_bytes());
        let error = Header::decode(&bytes, identity().db_id, 5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Version);
    }

    #[test]
    fn heads_are_bound_to_their_place() {
        let place = Position::new(4, 2048);
        let bytes = head().encode(&identity(), place);
        assert_eq!(Head::decode(&bytes, &identity(), place), Some(head()));
        for other in [Position::new(4, 2056), Position::new(5, 2048)] {
            assert_eq!(Head::decode(&bytes, &identity(), other), None);
        }
        for other in [Identity::new(identity().db_id, 4), Identity::new(1, 3)] {
            assert_eq!(Head::decode(&bytes, &other, place), None);
        }
        for bit in 0..HEAD_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bad, &identity(), place), None, "bit {bit}");
        }
        for len in 0..HEAD_BYTES {
            assert_eq!(Head::decode(&bytes[..len], &identity(), place), None);
        }
    }

    #[test]
    fn implausible_heads_are_refused_whatever_their_checksum() {
        let place = Position::new(4, 2048);
        let (mark, payload) = Head::mark(Position::new(3, 80), Position::new(3, 72));
        assert_eq!(payload_crc(&[&payload[..3], &payload[3..]]), mark.payload_crc);
        assert_eq!(mark.last_seq(), 0);
        assert_eq!(Head::decode(&mark.encode(&identity(), place), &identity(), place), Some(mark));
        let bad = [
            Head { synced: Position::new(4, 2056), ..head() },
            Head { len: u32::MAX, ..head() },
            Head { first_seq: 0, ..head() },
            Head { first_seq: u64::MAX - 2, ..head() },
            Head { len: 16, ..mark },
            Head { first_seq: 1, ..mark },
        ];
        for head in bad {
            let bytes = head.encode(&identity(), place);
            assert_eq!(Head::decode(&bytes, &identity(), place), None, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn zeros_are_no_head(db_id: u128, segment in 1..SEGMENT_MAX, offset in 0..1u64 << 30) {
            let place = Position::new(segment, offset);
            let identity = Identity::new(db_id, segment);
            prop_assert_eq!(Head::decode(&[0; HEAD_BYTES], &identity, place), None);
        }
    }
}

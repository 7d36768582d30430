//! Reading a log back, and telling a torn tail from damage.
//!
//! Records are shown in order up to the first place where there is no whole one. What lies there?
//!
//! - **A torn tail**: bytes that were not synced when the power went. Nothing at or after that
//!   place was promised to anybody, so all of it is discarded, whole records behind a hole too:
//!   a log with a hole is not a prefix of what happened.
//! - **Damage**: bytes that were synced, and promised, and are no longer what they were.
//!   Discarding them would lose acknowledged data in silence, so this is an error.
//!
//! It is damage if there is a *proof* that the log was once synced beyond the place. Every head
//! carries such a statement about the time at which it was appended, so the rest of the segment
//! and all later ones are searched for a head that says so. A head proves it even if its own
//! payload is lost, so a search reads each byte once and computes no checksum longer than a
//! head's: it is linear whatever the bytes are. And since a segment is synced, name and all,
//! before it is used, and the next is made only after it:
//!
//! - that a segment exists proves that the one before it once did, whole header and all;
//! - that a segment holds a record proves that its header once was whole, and the file as long as
//!   the header says;
//! - that the manifest names a segment proves the same, so the first must be there.
//!
//! What cannot be told from a torn tail is damage to the last records synced, if nothing was
//! appended after that sync; closing appends a mark for that reason (and because nothing follows a
//! closing mark, nothing is searched after it). Nor can the loss of all that a last segment held,
//! header or file and all, be told from one that was made ahead and never used. So who closes a
//! log writes down elsewhere where it ends, for [`Replayed::check_closed_at`]. The same statements
//! are in Pebble's log (its record format with sync offsets), and that a hole must not be jumped
//! was learnt from RocksDB, which once did.

use super::format::{
    ALIGN, HEAD_BYTES, HEADER_BYTES, Head, Header, Identity, LINK_AT, Position, SegmentId,
    payload_crc, record_bytes, segment_name, segment_of,
};
use crate::{
    Error, Result,
    vfs::{Access, File, Folder, read_exact_at},
};
use std::sync::Arc;

/// How much of a segment is read at once. Twice a page at least; a longer record is read whole.
const CHUNK_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };
/// Zeros are skipped in pieces of this size.
const PIECE_BYTES: usize = if cfg!(test) { 64 } else { 4096 };

/// How often a replay goes on behind a writer that it has caught up with.
const RESUMED_MAX: u32 = 1000;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(PIECE_BYTES));

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The segment to start the next log with: greater than every segment in the folder.
    pub(crate) next_segment: SegmentId,
    pub(crate) records: u64,
    /// What the records take in the log.
    pub(crate) bytes: u64,
    /// The largest sequence number shown; 0 if there is none.
    pub(crate) last_seq: u64,
    /// Where a torn tail was cut off, if there was one.
    pub(crate) torn: Option<(String, u64)>,
    /// Where the records end: behind the closing mark, if the log was closed.
    pub(crate) end: Position,
    pub(crate) is_closed: bool,
}

impl Replayed {
    /// Checks that this is all of a log that was closed at `end`, as somebody knows who was told.
    pub(crate) fn check_closed_at(&self, end: Position) -> Result<()> {
        if self.is_closed && self.end == end {
            return Ok(());
        }
        let what = format!("the log ends here, but it was closed at {end:?}");
        let (segment, offset) = match self.end.segment() < end.segment() {
            // The next one is missing, or as if it had never been used.
            true => (self.end.segment() + 1, 0),
            false => (self.end.segment(), self.end.offset()),
        };
        Err(Error::corrupt(&segment_name(segment), offset, what))
    }
}

/// One batch, as it was appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    pub(crate) payload: &'a [u8],
    /// Of the payload: see [`payload_crc`].
    pub(crate) crc: u32,
    pub(crate) place: Position,
}

impl Record<'_> {
    /// The error that says what is wrong with it.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(&segment_name(self.place.segment()), self.place.offset(), what)
    }
}

/// Shows every record of the log that begins at segment `from`, in order. `from` is what the
/// manifest says; 0 says that there is no log yet. Changes nothing in the folder.
///
/// The log may be one that is being written: then the records are some that were there when this
/// was called, and maybe more. (Who also removes its segments has to expect an error for that.)
pub(crate) fn replay(
    folder: &dyn Folder,
    db_id: u128,
    from: SegmentId,
    visit: &mut dyn FnMut(Record<'_>) -> Result<()>,
) -> Result<Replayed> {
    let mut ids: Vec<SegmentId> = folder
        .list()
        .map_err(|e| Error::io("list the folder", "*.log", e))?
        .iter()
        .filter_map(|name| segment_of(name))
        .collect();
    ids.sort_unstable();
    let next_segment = ids.last().map_or(1, |last| last + 1);
    let mut found = Replayed { next_segment, ..Replayed::default() };
    if from == 0 {
        return Ok(found);
    }
    ids.retain(|id| *id >= from);
    let first = open_first(folder, db_id, from, ids.first() == Some(&from))?;
    let chain = Chain { folder, identity: first.header.identity, ids };
    chain.run(first, visit, &mut found)?;
    Ok(found)
}

fn open_first(folder: &dyn Folder, db_id: u128, from: SegmentId, listed: bool) -> Result<Linked> {
    let name = segment_name(from);
    if !listed {
        return Err(Error::corrupt(&name, 0, "the segment that the log begins with is missing"));
    }
    let mut reader = SegmentReader::open(folder, from)?;
    match reader.header(db_id)? {
        Some(header) => Ok(Linked { reader, header }),
        None => {
            let what =
                "the segment that the log begins with is damaged, cut, or another database's";
            Err(Error::corrupt(&name, 0, what))
        }
    }
}

/// A segment with a whole header.
struct Linked {
    reader: SegmentReader,
    header: Header,
}

/// Why there are no more records in a segment.
enum End {
    /// A closing mark, which ends here: there is nothing in this log after it.
    Closed(Position),
    /// There is no whole record here.
    NoRecord(Position),
}

/// The segments of one log.
struct Chain<'a> {
    folder: &'a dyn Folder,
    identity: Identity,
    /// Those at or after the one it begins with, ascending.
    ids: Vec<SegmentId>,
}

impl Chain<'_> {
    fn run(
        &self,
        first: Linked,
        visit: &mut dyn FnMut(Record<'_>) -> Result<()>,
        found: &mut Replayed,
    ) -> Result<()> {
        let (mut segment, mut from) = (first.reader, LINK_AT);
        let mut resumed = 0;
        loop {
            let end = match self.show(&mut segment, from, visit, found)? {
                End::Closed(end) => {
                    (found.end, found.is_closed) = (end, true);
                    return Ok(());
                }
                End::NoRecord(end) => end,
            };
            found.end = end;
            if let Some(next) = self.successor(end)? {
                (segment, from) = (next, LINK_AT);
                continue;
            }
            let torn = self.judge(segment, end);
            match self.grown(end)? {
                None => {
                    found.torn = torn?;
                    return Ok(());
                }
                Some(_) if resumed == RESUMED_MAX => return Ok(()),
                Some(grown) => (segment, from) = grown,
            }
            resumed += 1;
        }
    }

    /// Where to go on if there is a record at `end` by now. Then somebody is writing this log, and
    /// what was seen of its tail at several moments proves nothing; or it was read wrongly, and
    /// to stop there would be to lose what comes after.
    fn grown(&self, end: Position) -> Result<Option<(SegmentReader, u64)>> {
        let mut reader = SegmentReader::open(self.folder, end.segment())?;
        if reader.record(&self.identity, end.offset())?.is_some() {
            return Ok(Some((reader, end.offset())));
        }
        Ok(self.successor(end)?.map(|next| (next, LINK_AT)))
    }

    /// Shows the records of a segment, from the one at `from` on.
    fn show(
        &self,
        segment: &mut SegmentReader,
        from: u64,
        visit: &mut dyn FnMut(Record<'_>) -> Result<()>,
        found: &mut Replayed,
    ) -> Result<End> {
        let mut at = from;
        loop {
            let place = Position::new(segment.id, at);
            let Some((head, payload)) = segment.record(&self.identity, at)? else {
                return Ok(End::NoRecord(place));
            };
            let bytes = record_bytes(head.len.into());
            match head.is_mark() {
                true if at == LINK_AT => {}
                true => return Ok(End::Closed(Position::new(segment.id, at + bytes))),
                false if head.first_seq <= found.last_seq => {
                    let what = "the record's operations are not numbered after those before it";
                    return Err(Error::corrupt(&segment_name(segment.id), at, what));
                }
                false => {
                    let (first_seq, count, crc) = (head.first_seq, head.count, head.payload_crc);
                    visit(Record { first_seq, count, payload, crc, place })?;
                    found.records += 1;
                    found.bytes += bytes;
                    found.last_seq = found.last_seq.max(head.last_seq());
                }
            }
            at += bytes;
        }
    }

    /// The next segment, if its link says that the one before it ends at `end`.
    fn successor(&self, end: Position) -> Result<Option<SegmentReader>> {
        let id = end.segment() + 1;
        if self.ids.binary_search(&id).is_err() {
            return Ok(None);
        }
        let mut reader = SegmentReader::open(self.folder, id)?;
        let header = reader.header(self.identity.db_id)?;
        if header.is_none_or(|header| header.identity != self.identity) {
            return Ok(None);
        }
        let Some((_, link)) = reader.record(&self.identity, LINK_AT)? else { return Ok(None) };
        match mark_before(link) {
            Some(before) if before < end => {
                let what = format!("the segment before this one should end at {before:?}");
                Err(Error::corrupt(&reader.name, LINK_AT, what))
            }
            before => Ok((before == Some(end)).then_some(reader)),
        }
    }

    /// Decides what it means that there is no record at `end`: nothing, a torn tail, or an error.
    fn judge(&self, mut last: SegmentReader, end: Position) -> Result<Option<(String, u64)>> {
        let name = last.name.clone();
        let mut damage = Error::corrupt(&name, end.offset(), "synced records are damaged");
        let is_proof = |head: &Head| head.synced > end;
        let mut tail = last.search(&self.identity, end.offset(), &is_proof)?;
        if tail.is_proven {
            return Err(damage);
        }
        // The first segment that is missing or was never finished: nothing may come after it.
        let mut unfinished = None;
        for (expected, id) in (end.segment() + 1..).zip(self.after(end.segment())) {
            if expected != id {
                unfinished.get_or_insert((expected, "a segment of the log is missing"));
            }
            let mut reader = SegmentReader::open(self.folder, id)?;
            match reader.header(self.identity.db_id)? {
                Some(header) if header.identity != self.identity => {}
                Some(_) => {
                    if let Some((id, what)) = unfinished {
                        return Err(Error::corrupt(&segment_name(id), 0, what));
                    }
                    if id == end.segment() + 1 && reader.record(&self.identity, LINK_AT)?.is_none()
                    {
                        // Else it says that the one before it goes on.
                        let what = "the link of a used segment is damaged";
                        damage = Error::corrupt(&reader.name, LINK_AT, what);
                    }
                    let later = reader.search(&self.identity, LINK_AT, &is_proof)?;
                    if later.is_proven {
                        return Err(damage);
                    }
                    tail.has_bytes |= later.has_bytes;
                }
                None => {
                    let what = "the header of a used segment is damaged, or its file was cut";
                    if reader.search(&self.identity, LINK_AT, &|_| true)?.is_proven {
                        return Err(Error::corrupt(&reader.name, 0, what));
                    }
                    unfinished.get_or_insert((id, what));
                }
            }
        }
        Ok(tail.has_bytes.then_some((name, end.offset())))
    }

    fn after(&self, segment: SegmentId) -> impl Iterator<Item = SegmentId> {
        self.ids.iter().copied().filter(move |id| *id > segment)
    }
}

/// The position in a mark's payload.
fn mark_before(payload: &[u8]) -> Option<Position> {
    Some(Position::from_raw(u64::from_le_bytes(payload.try_into().ok()?)))
}

/// What is in a part of a segment that holds no records any more.
#[derive(Clone, Copy)]
struct Tail {
    /// There is a head that proves damage.
    is_proven: bool,
    /// There is anything but zeros.
    has_bytes: bool,
}

/// Reads a segment through a buffer.
struct SegmentReader {
    id: SegmentId,
    name: String,
    file: Arc<dyn File>,
    size: u64,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    buffer_at: u64,
}

impl SegmentReader {
    fn open(folder: &dyn Folder, id: SegmentId) -> Result<Self> {
        let name = segment_name(id);
        let opened = folder.open(&name, Access::Read).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|e| Error::io("open a log segment", &name, e))?;
        let size = size.min(super::format::SEGMENT_BYTES_MAX);
        Ok(Self { id, name, file, size, buffer: Vec::new(), buffer_at: 0 })
    }

    /// The `len` bytes at `at`, if the file is that long.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>> {
        let Some(end) = at.checked_add(len as u64).filter(|end| *end <= self.size) else {
            return Ok(None);
        };
        if at < self.buffer_at || end > self.buffer_at + self.buffer.len() as u64 {
            let want = (len.max(CHUNK_BYTES) as u64).min(self.size - at);
            self.buffer.clear();
            self.buffer.resize(want as usize, 0);
            self.buffer_at = at;
            if let Err(e) = read_exact_at(&*self.file, &mut self.buffer, at) {
                self.buffer.clear();
                return Err(Error::io("read a log segment", &self.name, e));
            }
        }
        let from = (at - self.buffer_at) as usize;
        Ok(self.buffer.get(from..from + len))
    }

    /// The header, if this segment was ever ready for use and is still as long as then.
    fn header(&mut self, db_id: u128) -> Result<Option<Header>> {
        let id = self.id;
        let Some(bytes) = self.bytes(0, HEADER_BYTES)? else { return Ok(None) };
        let Some(bytes) = bytes.first_chunk() else { return Ok(None) };
        let header = Header::decode(bytes, db_id, id)?;
        Ok(header.filter(|header| header.bytes <= self.size))
    }

    /// The record at `at`, if there is a whole one, and one that may be there: a segment begins
    /// with its link, and other marks name their own place.
    fn record(&mut self, identity: &Identity, at: u64) -> Result<Option<(Head, &[u8])>> {
        let place = Position::new(self.id, at);
        let Some(bytes) = self.bytes(at, HEAD_BYTES)? else { return Ok(None) };
        let Some(head) = Head::decode(bytes, identity, place) else { return Ok(None) };
        let padded = record_bytes(head.len.into()) as usize;
        let Some(bytes) = self.bytes(at, padded)? else { return Ok(None) };
        let Some((payload, padding)) =
            bytes.get(HEAD_BYTES..).and_then(|rest| rest.split_at_checked(head.len as usize))
        else {
            return Ok(None);
        };
        let whole = payload_crc(&[payload]) == head.payload_crc
            && is_zero(padding)
            && match at == LINK_AT {
                true => head.is_mark(),
                false => !head.is_mark() || mark_before(payload) == Some(place),
            };
        Ok(whole.then_some((head, payload)))
    }

    /// Looks for a head that `is_proof` at or after `from`, in time linear in the segment.
    fn search(
        &mut self,
        identity: &Identity,
        from: u64,
        is_proof: &dyn Fn(&Head) -> bool,
    ) -> Result<Tail> {
        let mut tail = Tail { is_proven: false, has_bytes: false };
        let (id, size) = (self.id, self.size);
        let mut at = from;
        while at < size {
            // Heads may lie across the ends of pieces, so each is read with what follows it.
            let len = (PIECE_BYTES + HEAD_BYTES - ALIGN).min((size - at) as usize);
            let Some(piece) = self.bytes(at, len)? else { break };
            if !is_zero(piece) {
                tail.has_bytes = true;
                for offset in (0..PIECE_BYTES.min(len)).step_by(ALIGN) {
                    let place = Position::new(id, at + offset as u64);
                    let head = piece.get(offset..).and_then(|b| Head::decode(b, identity, place));
                    if head.is_some_and(|head| is_proof(&head)) {
                        tail.is_proven = true;
                        return Ok(tail);
                    }
                }
            }
            at += PIECE_BYTES as u64;
        }
        Ok(tail)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

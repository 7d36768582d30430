//! Appending: the half of the log that only the one writer has.

use super::{
    format::{
        FIRST_RECORD_AT, Head, LINK_AT, MARK_BYTES, PAYLOAD_BYTES_MAX, Position, SegmentId,
        record_bytes,
    },
    segment::Segment,
    shared::{Log, LogOptions, Sealed},
};
use crate::{Error, ErrorKind, Result, vfs::Folder};
use std::sync::Arc;

/// Appends records; lives inside the database's commit lock.
#[derive(Debug)]
pub(crate) struct Appender {
    log: Arc<Log>,
    segment: Segment,
    /// Where the next record goes. What is behind it is whole, whatever failed since.
    at: u64,
    /// The largest sequence number in this segment; 0 if there is none.
    last_seq: u64,
    is_closed: bool,
    scratch: Vec<u8>,
}

impl Log {
    /// Starts a new log in segment `first`, which must be [`super::Replayed::next_segment`].
    ///
    /// It is a log of its own: a replay from an older segment never reads it. What was replayed
    /// has to be appended to it (or settled) and synced; then the manifest says that the log
    /// begins at `first`, and only then may the database be written to. The segment and its name
    /// are durable when this returns.
    pub(crate) fn start(
        folder: Arc<dyn Folder>,
        db_id: u128,
        first: SegmentId,
        options: LogOptions,
    ) -> Result<(Arc<Log>, Appender)> {
        let (log, segment) = Log::new(folder, db_id, first, options)?;
        let log = Arc::new(log);
        let appender = Appender::begin(Arc::clone(&log), segment)?;
        Ok((log, appender))
    }
}

impl Appender {
    /// Begins the log's first segment.
    fn begin(log: Arc<Log>, segment: Segment) -> Result<Self> {
        let mut appender =
            Self { log, segment, at: LINK_AT, last_seq: 0, is_closed: false, scratch: Vec::new() };
        let (link, payload) = Head::mark(Position::default(), appender.end());
        appender.write(link, &[&payload])?;
        appender.log.train.publish(appender.end());
        Ok(appender)
    }

    /// Where the log ends.
    pub(crate) fn end(&self) -> Position {
        Position::new(self.segment.id, self.at)
    }

    /// Appends one batch of `count` operations, the first of which is `first_seq`; `crc` is the
    /// [`super::payload_crc`] of `parts`. Returns where the record ends, for [`Log::sync_to`].
    ///
    /// If the disk is too full for the next segment, nothing is appended and the same call works
    /// again when there is space. Any other failure of a write poisons the log.
    pub(crate) fn append(
        &mut self,
        first_seq: u64,
        count: u32,
        crc: u32,
        parts: &[&[u8]],
    ) -> Result<Position> {
        debug_assert!(first_seq > 0 && count > 0);
        if self.is_closed {
            return Err(Error::new(ErrorKind::Misuse, "the log is closed"));
        }
        if let Some(error) = self.log.poisoned() {
            return Err(error);
        }
        let bytes = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let len = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_BYTES_MAX);
        let Some(len) = len else {
            let text = format!("a batch of {bytes} bytes; the most is {PAYLOAD_BYTES_MAX}");
            return Err(Error::new(ErrorKind::Limit, text));
        };
        self.make_room(record_bytes(bytes))?;
        let synced = self.log.synced();
        let head = Head { payload_crc: crc, len, count, first_seq, synced };
        self.write(head, parts)?;
        self.last_seq = self.last_seq.max(head.last_seq());
        self.log.published(self.end(), bytes);
        Ok(self.end())
    }

    /// Syncs the log and ends it with a mark that says so: from then on damage to any record
    /// before the mark is told from a torn tail. Nothing can be appended any more.
    pub(crate) fn close(&mut self) -> Result<()> {
        let end = self.end();
        self.log.sync_to(end)?;
        if self.is_closed {
            return Ok(());
        }
        let (mark, payload) = Head::mark(end, self.log.synced());
        self.write(mark, &[&payload])?;
        self.is_closed = true;
        self.log.train.publish(self.end());
        self.log.sync_to(self.end())
    }

    /// Whether a record with `payload` bytes still goes into this segment.
    #[inline]
    pub(crate) fn has_room(&self, payload: usize) -> bool {
        self.at + record_bytes(payload as u64) + MARK_BYTES <= self.segment.bytes
    }

    /// Goes on to the next segment unless `record` bytes, and a closing mark after them, fit.
    /// (Twice, if the segment that was made ahead is too small for this record.)
    fn make_room(&mut self, record: u64) -> Result<()> {
        let need = record + MARK_BYTES;
        while self.at + need > self.segment.bytes {
            self.go_on(FIRST_RECORD_AT + need)?;
        }
        Ok(())
    }

    /// Leaves this segment to the train and links the next one to it.
    fn go_on(&mut self, bytes: u64) -> Result<()> {
        let before = self.end();
        let next = self.log.take_segment(bytes)?;
        let full = std::mem::replace(&mut self.segment, next);
        let full_at = std::mem::replace(&mut self.at, LINK_AT);
        let (link, payload) = Head::mark(before, self.log.synced());
        if let Err(error) = self.write(link, &[&payload]) {
            let next = std::mem::replace(&mut self.segment, full);
            self.at = full_at;
            self.log.return_segment(next);
            return Err(error);
        }
        let sealed =
            Sealed { id: full.id, bytes: full.bytes, last_seq: std::mem::take(&mut self.last_seq) };
        self.log.seal(sealed, full.map, &self.segment);
        self.log.train.publish(self.end());
        Ok(())
    }

    /// Writes a record, which fits, at the end.
    #[inline]
    fn write(&mut self, head: Head, parts: &[&[u8]]) -> Result<()> {
        let head_bytes = head.encode(&self.log.identity, self.end());
        let padded = record_bytes(head.len.into());
        let scratch = &mut self.scratch;
        match self.segment.write(self.at, &head_bytes, parts, padded, scratch) {
            Ok(()) => {
                self.at += padded;
                Ok(())
            }
            Err(e) => Err(self.failed(Error::io("write the log", &self.segment.name, e))),
        }
    }

    /// A full disk is survived if what was written of the record is gone for certain.
    #[cold]
    fn failed(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Full && self.segment.erase(self.at).is_ok() {
            return error;
        }
        self.log.train.poison(&error)
    }
}

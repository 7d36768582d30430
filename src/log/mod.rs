//! The write-ahead log: every batch of every table becomes one record here before anything else.

use crate::{Error, Result, vfs::Folder};
use std::sync::Arc;

mod format;

pub(crate) use format::{Position, SegmentId};

/// How big segments are and how they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// The size that segments grow to.
    pub segment_bytes: u64,
    /// The size of the first; each next is four times as large, up to `segment_bytes`.
    pub first_segment_bytes: u64,
    /// Whether to append by storing into a mapping, where the folder can map.
    pub mapped: bool,
}

/// What the log has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStats {
    pub appended_bytes: u64,
    pub records: u64,
    pub syncs: u64,
    /// Calls of [`Log::sync_to`] that another call's sync had covered.
    pub rides: u64,
}

/// The half of the log that all threads share.
#[derive(Debug)]
pub(crate) struct Log {}

/// The half of the log that only the one writer has.
#[derive(Debug)]
pub(crate) struct Appender {}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Greater than the number of every segment in the folder.
    pub next_segment: SegmentId,
    pub records: u64,
    pub bytes: u64,
    pub last_seq: u64,
    /// Where unsynced records were cut off, if there were any.
    pub torn: Option<(String, u64)>,
}

/// One batch, as replayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub first_seq: u64,
    pub count: u32,
    pub payload: &'a [u8],
}

fn unfinished<T>() -> Result<T> {
    Err(Error::new(crate::ErrorKind::Misuse, "the log is not written yet"))
}

/// The checksum of a record's payload, computed before taking any lock.
pub(crate) fn payload_crc(parts: &[&[u8]]) -> u32 {
    let mut crc = crate::codec::Crc::new(0);
    parts.iter().for_each(|part| crc.add(part));
    crc.finish()
}

/// Reads the log that begins at segment `from` (0: there is none yet) and shows each record.
pub(crate) fn replay(
    _folder: &dyn Folder,
    _db_id: u128,
    _from: SegmentId,
    _visit: &mut dyn FnMut(Record<'_>) -> Result<()>,
) -> Result<Replayed> {
    unfinished()
}

impl Log {
    pub(crate) fn start(
        _folder: Arc<dyn Folder>,
        _db_id: u128,
        _first: SegmentId,
        _options: LogOptions,
    ) -> Result<(Arc<Log>, Appender)> {
        unfinished()
    }
    pub(crate) fn sync_to(&self, _upto: Position) -> Result<()> {
        unfinished()
    }
    pub(crate) fn synced(&self) -> Position {
        Position::default()
    }
    pub(crate) fn poisoned(&self) -> Option<Error> {
        None
    }
    pub(crate) fn needs_spare(&self) -> bool {
        false
    }
    pub(crate) fn prepare_spare(&self) -> Result<()> {
        unfinished()
    }
    pub(crate) fn bytes(&self) -> u64 {
        0
    }
    pub(crate) fn first_needed(&self, _seq: u64) -> SegmentId {
        0
    }
    pub(crate) fn remove_below(&self, _segment: SegmentId) -> Result<()> {
        unfinished()
    }
    pub(crate) fn stats(&self) -> LogStats {
        LogStats::default()
    }
}

impl Appender {
    pub(crate) fn append(
        &mut self,
        _first_seq: u64,
        _count: u32,
        _crc: u32,
        _parts: &[&[u8]],
    ) -> Result<Position> {
        unfinished()
    }
    pub(crate) fn end(&self) -> Position {
        Position::default()
    }
    pub(crate) fn close(&mut self) -> Result<()> {
        unfinished()
    }
}

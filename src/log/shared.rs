//! The half of the log that all threads share: syncing, making segments ahead, removing old ones.

use super::{
    format::{
        FIRST_RECORD_AT, HEADER_BYTES, Identity, MARK_BYTES, Position, SEGMENT_BYTES_MAX,
        SEGMENT_MAX, SegmentId, segment_name, segment_of,
    },
    segment::Segment,
    train::Train,
};
use crate::{
    Error, ErrorKind, Result,
    vfs::{Folder, MapMut, Pages},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Each segment is this many times as large as the one before, until they are full size.
const GROWTH: u64 = 4;
/// No segment is smaller.
const SEGMENT_BYTES_MIN: u64 = 512;
/// A sync of so much lets go of its pages first.
const RELEASE_BYTES: u64 = 1 << 20;
/// Where so much is appended without a sync, pages are made ready ahead of the writer: much more
/// than is made ready, since the next sync writes that too.
const BUSY_BYTES: u64 = 8 << 20;
const READY_BYTES: u64 = 4 << 20;
/// So many at once, so that the writer need not wait for all of them.
const READY_STEP: usize = 256 << 10;
/// No system has larger pages.
const PAGE_BYTES: u64 = 64 << 10;

/// How big segments are and how they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// The size that segments grow to, at most 1 GiB. A larger record gets a segment of its own
    /// size.
    pub(crate) segment_bytes: u64,
    /// The size of the first; each next is four times as large, up to `segment_bytes`.
    pub(crate) first_segment_bytes: u64,
    /// Whether to append by storing into a mapping, where the folder can map.
    pub(crate) mapped: bool,
}

/// What the log has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStats {
    /// Bytes of payload.
    pub(crate) appended_bytes: u64,
    pub(crate) records: u64,
    pub(crate) syncs: u64,
    /// Calls of [`Log::sync_to`] that another call's sync had covered.
    pub(crate) rides: u64,
}

/// A log being written.
#[derive(Debug)]
pub(crate) struct Log {
    folder: Arc<dyn Folder>,
    options: LogOptions,
    pub(super) identity: Identity,
    pub(super) train: Train,
    ahead: Mutex<Ahead>,
    in_use: Mutex<InUse>,
    mapped: Mutex<Option<Mapped>>,
    /// Past here a segment should be made ahead; never, while there is one.
    spare_from: AtomicU64,
    /// All segments' sizes.
    bytes: AtomicU64,
    appended_bytes: AtomicU64,
    records: AtomicU64,
}

/// The next segment. Locked while one is being made, which only a writer that needs it at that
/// moment waits for.
#[derive(Debug)]
struct Ahead {
    id: SegmentId,
    bytes: u64,
    ready: Option<Segment>,
    /// The mapping of a full segment: unmapping takes long, so the writer leaves it to whoever
    /// makes the next segment.
    unmap: Option<(SegmentId, Box<dyn MapMut>)>,
}

/// The mapping of the segment being written.
#[derive(Debug)]
struct Mapped {
    segment: SegmentId,
    pages: Arc<dyn Pages>,
    /// Up to here it has let go of them.
    released: u64,
    /// Up to here they were made ready.
    readied: u64,
}

impl Mapped {
    fn of(segment: &Segment) -> Option<Self> {
        let pages = segment.map.as_ref()?.pages()?;
        Some(Self { segment: segment.id, pages, released: 0, readied: 0 })
    }
}

#[derive(Debug)]
struct InUse {
    /// Oldest first.
    sealed: VecDeque<Sealed>,
    active: SegmentId,
}

/// A segment that is full.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) id: SegmentId,
    pub(super) bytes: u64,
    /// The largest sequence number in it; 0 if there is none.
    pub(super) last_seq: u64,
}

impl Log {
    /// A log that will begin in segment `first`, and that segment, durable with its name.
    pub(super) fn new(
        folder: Arc<dyn Folder>,
        db_id: u128,
        first: SegmentId,
        options: LogOptions,
    ) -> Result<(Self, Segment)> {
        check_id(first)?;
        let identity = Identity::new(db_id, first);
        let bytes = size_of_segment(options.first_segment_bytes);
        let segment = Segment::create(&*folder, identity, first, bytes, options.mapped)?;
        folder.sync().map_err(|e| Error::io("sync the folder", &segment.name, e))?;
        let synced = Position::new(first, HEADER_BYTES as u64);
        let ahead =
            Ahead { id: first + 1, bytes: next_size(bytes, &options), ready: None, unmap: None };
        let log = Self {
            folder,
            options,
            identity,
            train: Train::new(synced, segment.handles.clone()),
            ahead: Mutex::new(ahead),
            in_use: Mutex::new(InUse { sealed: VecDeque::new(), active: first }),
            mapped: Mutex::new(Mapped::of(&segment)),
            spare_from: AtomicU64::new(spare_from(&segment).raw()),
            bytes: AtomicU64::new(bytes),
            appended_bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
        };
        Ok((log, segment))
    }

    /// Returns when all up to `upto`, which `Appender::append` returned, survives a power cut.
    /// Rides the sync under way or drives the next one. Hold no lock that appending needs.
    pub(crate) fn sync_to(&self, upto: Position) -> Result<()> {
        self.release(upto);
        self.train.sync_to(upto)
    }

    /// Lets go of the pages mapped for writing that a sync up to `upto` would meet, if they are
    /// many: the background sync of a busy log took a seventh of a processor before, and kept
    /// interrupting the writer.
    #[inline]
    fn release(&self, upto: Position) {
        // Positions in one segment differ as their offsets do.
        if upto.raw().saturating_sub(self.synced().raw()) >= RELEASE_BYTES {
            self.release_pages();
        }
    }

    #[cold]
    fn release_pages(&self) {
        let written = self.train.appended();
        self.unmap_full(written.segment());
        let upto = written.offset() / PAGE_BYTES * PAGE_BYTES;
        let mut mapped = self.mapped.lock();
        let Some(active) = mapped.as_mut().filter(|active| active.segment == written.segment())
        else {
            return;
        };
        let end = upto.max(std::mem::take(&mut active.readied));
        let (pages, range) = (active.pages.clone(), active.released as usize..end as usize);
        active.released = upto.max(active.released);
        drop(mapped);
        if !range.is_empty() {
            pages.release(range);
        }
    }

    /// Whether it pays off to have [`Log::ready_pages`] called now: it does for a writer that does
    /// not wait for syncs, when half of what was made ready is used up.
    pub(crate) fn wants_pages(&self) -> bool {
        let at = self.train.appended();
        // Positions in different segments are further apart.
        if at.raw().saturating_sub(self.synced().raw()) < BUSY_BYTES {
            return false;
        }
        let mapped = self.mapped.lock();
        let active = mapped.as_ref().filter(|active| active.segment == at.segment());
        active.is_some_and(|active| at.offset() + READY_BYTES / 2 > active.readied)
    }

    /// Makes pages ready that the writer will store to next, which costs it 2 to 3 us for each of
    /// them otherwise, and often more.
    pub(crate) fn ready_pages(&self) {
        let at = self.train.appended();
        let mut mapped = self.mapped.lock();
        let Some(active) = mapped.as_mut().filter(|active| active.segment == at.segment()) else {
            return;
        };
        let next = at.offset() / PAGE_BYTES * PAGE_BYTES;
        let from = next.max(active.readied);
        active.readied = from.max(next + READY_BYTES);
        let (pages, range) = (active.pages.clone(), from as usize..active.readied as usize);
        drop(mapped);
        for start in range.clone().step_by(READY_STEP) {
            pages.ready(start..range.end.min(start + READY_STEP));
        }
    }

    /// [`Log::sync_to`] for who has time: it leaves the segment being written alone if it can.
    ///
    /// Syncing pages that are mapped for writing interrupts the writer once for each of them; so
    /// a full segment is unmapped first, and it pays to ask for no more than full ones.
    pub(crate) fn sync_at_leisure(&self, upto: Position) -> Result<()> {
        if upto > self.synced() {
            self.unmap_full(upto.segment());
        }
        self.train.sync_only_to(upto)
    }

    fn unmap_full(&self, upto: SegmentId) {
        let mut ahead = self.ahead.lock();
        let full = ahead.unmap.take_if(|(id, _)| *id <= upto);
        drop(ahead);
        drop(full);
    }

    /// Up to where the log is durable.
    pub(crate) fn synced(&self) -> Position {
        self.train.synced()
    }

    /// The error that every write gets since one of them, or a sync, failed.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.train.poisoned()
    }

    /// Whether it is time for [`Log::prepare_spare`].
    pub(crate) fn needs_spare(&self) -> bool {
        self.train.appended().raw() >= self.spare_from.load(Ordering::Relaxed)
            && self.poisoned().is_none()
    }

    /// Makes the next segment, so that the writer need not. On a full disk it returns that error
    /// and may be called again when there is space.
    pub(crate) fn prepare_spare(&self) -> Result<()> {
        if let Some(error) = self.poisoned() {
            return Err(error);
        }
        let mut ahead = self.ahead.lock();
        ahead.unmap = None;
        if ahead.ready.is_none() {
            let segment = self.create(&mut ahead, 0)?;
            segment.map.iter().for_each(|map| map.load());
            ahead.ready = Some(segment);
        }
        self.spare_from.store(u64::MAX, Ordering::Relaxed);
        Ok(())
    }

    /// The bytes that the log's segments take on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The oldest segment with an operation numbered `seq` or later; if there is none, the one
    /// being written. The segments before it hold nothing that is needed once every operation
    /// before `seq` is settled.
    pub(crate) fn first_needed(&self, seq: u64) -> SegmentId {
        let in_use = self.in_use.lock();
        in_use.sealed.iter().find(|s| s.last_seq >= seq).map_or(in_use.active, |s| s.id)
    }

    /// Removes all segments before `segment`, those of earlier logs included; never the one being
    /// written. The manifest must say durably that the log begins no earlier.
    pub(crate) fn remove_below(&self, segment: SegmentId) -> Result<()> {
        let below = segment.min(self.in_use.lock().active);
        self.train.forget(below);
        let names = self.folder.list().map_err(|e| Error::io("list the folder", "*.log", e))?;
        for name in names.iter().filter(|n| segment_of(n).is_some_and(|id| id < below)) {
            match self.folder.remove(name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove a log segment", name, e));
                }
                _ => {}
            }
        }
        let mut in_use = self.in_use.lock();
        while in_use.sealed.front().is_some_and(|s| s.id < below) {
            if let Some(gone) = in_use.sealed.pop_front() {
                self.bytes.fetch_sub(gone.bytes, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> LogStats {
        let (syncs, rides) = self.train.counts();
        LogStats {
            appended_bytes: self.appended_bytes.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            syncs,
            rides,
        }
    }

    /// The writer has appended a record of `bytes` up to `end`.
    #[inline]
    pub(super) fn published(&self, end: Position, bytes: u64) {
        // Only the one writer changes the counts.
        let add = |count: &AtomicU64, n| {
            count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        };
        add(&self.appended_bytes, bytes);
        add(&self.records, 1);
        self.train.publish(end);
    }

    /// The segment after the one being written: what was made ahead, whatever its size, else a
    /// new one of at least `bytes`.
    pub(super) fn take_segment(&self, bytes: u64) -> Result<Segment> {
        let mut ahead = self.ahead.lock();
        match ahead.ready.take() {
            Some(segment) => Ok(segment),
            None => self.create(&mut ahead, bytes),
        }
    }

    /// Gives back a segment that nothing could be written to.
    pub(super) fn return_segment(&self, segment: Segment) {
        self.ahead.lock().ready = Some(segment);
    }

    /// The writer has gone on from `full` to `next`.
    pub(super) fn seal(&self, full: Sealed, map: Option<Box<dyn MapMut>>, next: &Segment) {
        self.train.add(next.id, next.handles.clone());
        let id = full.id;
        *self.mapped.lock() = Mapped::of(next);
        {
            let mut in_use = self.in_use.lock();
            in_use.sealed.push_back(full);
            in_use.active = next.id;
        }
        self.ahead.lock().unmap = map.map(|map| (id, map));
        self.spare_from.store(spare_from(next).raw(), Ordering::Relaxed);
    }

    /// Makes the next segment, its name included, durable. A failed sync of the folder poisons
    /// the log: nothing would prove that a later one made the name durable.
    fn create(&self, ahead: &mut Ahead, at_least: u64) -> Result<Segment> {
        check_id(ahead.id)?;
        let bytes = ahead.bytes.max(at_least.next_multiple_of(SEGMENT_BYTES_MIN));
        let bytes = bytes.min(SEGMENT_BYTES_MAX);
        let mapped = self.options.mapped;
        let segment = Segment::create(&*self.folder, self.identity, ahead.id, bytes, mapped)?;
        if let Err(e) = self.folder.sync() {
            let error = Error::io("sync the folder", &segment.name, e);
            return Err(self.train.poison(&error));
        }
        ahead.id += 1;
        ahead.bytes = next_size(ahead.bytes, &self.options);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(segment)
    }
}

fn check_id(id: SegmentId) -> Result<()> {
    if (1..=SEGMENT_MAX).contains(&id) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Limit, format!("{} is no log segment", segment_name(id))))
}

fn size_of_segment(bytes: u64) -> u64 {
    const { assert!(FIRST_RECORD_AT + MARK_BYTES < SEGMENT_BYTES_MIN) };
    bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(8)
}

fn next_size(bytes: u64, options: &LogOptions) -> u64 {
    size_of_segment(bytes.saturating_mul(GROWTH).min(options.segment_bytes))
}

/// Half way through `segment`.
fn spare_from(segment: &Segment) -> Position {
    Position::new(segment.id, segment.bytes / 2)
}

//! The log as a whole, against a model and on a disk that misbehaves.

mod crashes;
mod damage;
mod disk;
mod faults;
mod threads;

use super::*;
use crate::{Error, ErrorKind, Result, vfs::Folder};
use disk::Disk;
use proptest::prelude::*;
use std::sync::Arc;

const DB: u128 = 0x0123_4567_89ab_cdef_1122_3344_5566_7788;

fn options(mapped: bool) -> LogOptions {
    LogOptions { segment_bytes: 4096, first_segment_bytes: 1024, mapped }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    first_seq: u64,
    count: u32,
    payload: Vec<u8>,
}

fn read(disk: &dyn Folder, from: SegmentId) -> Result<(Vec<Batch>, Replayed)> {
    let mut batches = Vec::new();
    let found = replay(disk, DB, from, &mut |record: Record<'_>| {
        let payload = record.payload.to_vec();
        batches.push(Batch { first_seq: record.first_seq, count: record.count, payload });
        Ok(())
    })?;
    assert_eq!(found.records, batches.len() as u64);
    let last = batches.last().map_or(0, |b| b.first_seq + u64::from(b.count) - 1);
    assert_eq!(found.last_seq, last);
    Ok((batches, found))
}

/// A log and what was appended to it.
struct Written {
    disk: Disk,
    log: Arc<Log>,
    appender: Appender,
    batches: Vec<Batch>,
    ends: Vec<Position>,
}

impl Written {
    fn start(disk: &Disk, first: SegmentId) -> Self {
        let (log, appender) = Log::start(disk.folder(), DB, first, options(true)).unwrap();
        Self { disk: disk.clone(), log, appender, batches: Vec::new(), ends: Vec::new() }
    }

    /// Appends a batch of `len` bytes that no other batch has.
    fn append(&mut self, len: usize) -> Result<Position> {
        let first_seq =
            self.batches.last().map_or(1, |last| last.first_seq + u64::from(last.count));
        let count = len as u32 % 3 + 1;
        let payload: Vec<u8> = (0..len as u64).map(|i| (first_seq * 31 + i) as u8).collect();
        let (a, b) = payload.split_at(len / 3);
        let crc = payload_crc(&[&payload]);
        let end = self.appender.append(first_seq, count, crc, &[a, &[], b])?;
        assert_eq!(end, self.appender.end());
        self.batches.push(Batch { first_seq, count, payload });
        self.ends.push(end);
        Ok(end)
    }

    fn sync(&self) -> Result<()> {
        self.log.sync_to(self.appender.end())
    }
}

#[test]
fn batches_come_back_whichever_way_they_were_written() {
    for maps in [false, true] {
        let disk = Disk::mapped(maps);
        let mut written = Written::start(&disk, 1);
        for len in [0, 1, 7, 8, 9, 300, 2000, 0, 5000, 17, 40_000, 3] {
            written.append(len).unwrap();
        }
        let (batches, found) = read(&disk, 1).unwrap();
        assert_eq!(batches, written.batches);
        assert_eq!(found.torn, None);
        assert_eq!(found.next_segment, written.appender.end().segment() + 1);
        let stats = written.log.stats();
        assert_eq!((stats.records, stats.appended_bytes), (12, 47_345));

        written.appender.close().unwrap();
        written.appender.close().unwrap();
        assert_eq!(read(&disk, 1).unwrap().0, written.batches);
        assert_eq!(written.append(1).unwrap_err().kind(), ErrorKind::Misuse);
    }
}

#[test]
fn the_empty_log_and_no_log_at_all() {
    let disk = Disk::default();
    assert_eq!(read(&disk, 0).unwrap().1, Replayed { next_segment: 1, ..Replayed::default() });
    assert!(read(&disk, 1).unwrap_err().is_corrupt(), "the manifest names a segment: it was there");

    let written = Written::start(&disk, 1);
    let (batches, found) = read(&disk, 1).unwrap();
    assert_eq!((batches.len(), found.next_segment, found.torn), (0, 2, None));
    drop(written);
    let after = disk.power_cut(&mut || false);
    assert_eq!(read(&after, 1).unwrap().0, [], "its first segment is durable from the start");
}

#[test]
fn records_over_the_limit_are_refused() {
    let disk = Disk::mapped(true);
    let mut written = Written::start(&disk, 1);
    let piece = vec![0; 1 << 20];
    let parts = vec![piece.as_slice(); 1 << 10];
    let error = written.appender.append(1, 1, 0, &parts).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    written.append(10).unwrap();
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);
}

#[test]
fn a_new_log_is_not_read_before_the_manifest_names_it() {
    let disk = Disk::default();
    let mut old = Written::start(&disk, 1);
    for _ in 0..30 {
        old.append(100).unwrap();
    }
    let next = read(&disk, 1).unwrap().1.next_segment;

    let mut new = Written::start(&disk, next);
    for _ in 0..30 {
        new.append(50).unwrap();
    }
    new.sync().unwrap();
    let (batches, found) = read(&disk, 1).unwrap();
    assert_eq!((batches, found.torn), (old.batches, None));
    assert_eq!(found.next_segment, new.appender.end().segment() + 1);
    assert_eq!(read(&disk, next).unwrap().0, new.batches);

    new.log.remove_below(next).unwrap();
    assert!(disk.list_segments().into_iter().all(|id| id >= next));
    assert_eq!(read(&disk, next).unwrap().0, new.batches);
}

impl Disk {
    fn list_segments(&self) -> Vec<SegmentId> {
        self.list().unwrap().iter().filter_map(|name| format::segment_of(name)).collect()
    }
}

#[test]
fn segments_are_removed_when_nothing_in_them_is_needed() {
    let disk = Disk::default();
    let mut written = Written::start(&disk, 1);
    while written.appender.end().segment() < 6 {
        written.append(200).unwrap();
    }
    let all = written.log.bytes();
    assert_eq!(all, disk.list_segments().iter().map(|id| size(&disk, *id)).sum::<u64>());
    for (batch, end) in written.batches.iter().zip(&written.ends) {
        assert_eq!(written.log.first_needed(batch.first_seq), end.segment());
    }
    assert_eq!(written.log.first_needed(u64::MAX), 6);
    assert_eq!(written.log.first_needed(0), 1);

    written.log.remove_below(4).unwrap();
    assert_eq!(disk.list_segments(), [4, 5, 6]);
    assert_eq!(written.log.bytes(), (4..7).map(|id| size(&disk, id)).sum::<u64>());
    let kept: Vec<Batch> = written
        .batches
        .iter()
        .zip(&written.ends)
        .filter(|(_, end)| end.segment() >= 4)
        .map(|(batch, _)| batch.clone())
        .collect();
    assert_eq!(read(&disk, 4).unwrap().0, kept);

    written.log.remove_below(u64::MAX).unwrap();
    assert_eq!(disk.list_segments(), [6], "the segment being written stays");
}

fn size(disk: &Disk, id: SegmentId) -> u64 {
    disk.bytes(&segment_name(id)).len() as u64
}

#[test]
fn segments_grow_and_are_made_ahead() {
    let disk = Disk::default();
    let mut written = Written::start(&disk, 1);
    assert!(!written.log.needs_spare());
    while !written.log.needs_spare() {
        written.append(40).unwrap();
    }
    assert!(written.appender.end().offset() >= 512);
    written.log.prepare_spare().unwrap();
    assert!(!written.log.needs_spare());
    assert_eq!(disk.list_segments(), [1, 2]);
    assert_eq!(written.log.bytes(), 1024 + 4096);
    assert!(disk.is_durable(&segment_name(2), 4096));
    let syncs = disk.faults().syncs.load(std::sync::atomic::Ordering::SeqCst);
    while written.appender.end().segment() < 2 {
        written.append(40).unwrap();
    }
    assert_eq!(syncs, disk.faults().syncs.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(disk.list_segments(), [1, 2]);

    written.log.prepare_spare().unwrap();
    written.append(20_000).unwrap();
    assert_eq!(written.appender.end().segment(), 4, "the spare is too small and stays empty");
    written.append(4).unwrap();
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);
}

proptest! {
    #[test]
    fn any_batches_come_back(
        lens in prop::collection::vec(0..900usize, 0..60),
        big in prop::option::of(0..9000usize),
        maps: bool,
        close: bool,
    ) {
        let disk = Disk::mapped(maps);
        let mut written = Written::start(&disk, 7);
        for (i, len) in lens.into_iter().chain(big).enumerate() {
            written.append(len).unwrap();
            if i % 5 == 0 {
                written.sync().unwrap();
            }
            if written.log.needs_spare() && i % 2 == 0 {
                written.log.prepare_spare().unwrap();
            }
        }
        if close {
            written.appender.close().unwrap();
        }
        let (batches, found) = read(&disk, 7).unwrap();
        prop_assert_eq!(batches, written.batches);
        prop_assert_eq!(found.torn, None);
    }
}

/// A cheap source of choices for one case of a test.
fn choices(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 27
    }
}

/// What a replay may say of a log whose first `acked` batches are durable.
fn check_prefix(result: Result<(Vec<Batch>, Replayed)>, all: &[Batch], acked: usize) -> Result<()> {
    let (batches, _) = result?;
    assert!(batches.len() >= acked, "{} of {acked} acknowledged batches", batches.len());
    assert!(all.starts_with(&batches), "not what was appended");
    Ok(())
}

fn is_corrupt(result: &Result<(Vec<Batch>, Replayed)>) -> bool {
    result.as_ref().is_err_and(Error::is_corrupt)
}

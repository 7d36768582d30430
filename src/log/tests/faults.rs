//! Full disks pass, failed writes and syncs poison.

use super::*;
use std::sync::atomic::Ordering::SeqCst;

fn fill(written: &mut Written) -> Error {
    (0..10_000).find_map(|_| written.append(100).err()).expect("the disk is never full")
}

#[test]
fn a_full_disk_passes_when_there_is_space() {
    for (maps, thin) in [(true, false), (false, false), (false, true)] {
        let disk = Disk::mapped(maps);
        disk.faults().thin.store(thin, SeqCst);
        disk.faults().space.store(12_000, SeqCst);
        let mut written = Written::start(&disk, 1);
        let error = fill(&mut written);
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(written.log.poisoned().is_none());
        assert_eq!(written.append(5000).unwrap_err().kind(), ErrorKind::Full);
        if !thin {
            assert_eq!(written.log.prepare_spare().unwrap_err().kind(), ErrorKind::Full);
        }
        written.sync().unwrap();
        assert_eq!(read(&disk, 1).unwrap().0, written.batches);
        let after = disk.power_cut(&mut || true);
        assert_eq!(read(&after, 1).unwrap().0, written.batches);

        disk.faults().space.store(i64::MAX / 2, SeqCst);
        for _ in 0..100 {
            written.append(100).unwrap();
        }
        written.appender.close().unwrap();
        assert_eq!(read(&disk, 1).unwrap().0, written.batches);
        let after = disk.power_cut(&mut || false);
        assert_eq!(read(&after, 1).unwrap().0, written.batches);
    }
}

#[test]
fn a_full_log_can_still_be_closed() {
    let disk = Disk::default();
    disk.faults().space.store(12_000, SeqCst);
    let mut written = Written::start(&disk, 1);
    fill(&mut written);
    written.appender.close().unwrap();
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);
}

#[test]
fn a_full_disk_in_the_middle_of_going_on_passes() {
    let disk = Disk::default();
    disk.faults().space.store(8000, SeqCst);
    let mut written = Written::start(&disk, 1);
    written.append(10).unwrap();
    written.log.prepare_spare().unwrap();
    assert_eq!(written.append(5000).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(written.appender.end().segment(), 2, "linked, and then the record did not fit");
    written.appender.close().unwrap();
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);
}

/// Where space is taken only by writing, at whatever byte it ends.
#[test]
fn what_did_not_fit_is_never_replayed() {
    for space in 1100..1500 {
        // Zeros: what is missing of them on a full disk looks like what is there.
        fill_thin_disk(space, &[0; 90]);
        fill_thin_disk(space, &[7; 90]);
    }
}

fn fill_thin_disk(space: i64, payload: &[u8]) {
    let disk = Disk::default();
    disk.faults().thin.store(true, SeqCst);
    disk.faults().space.store(space, SeqCst);
    let mut written = Written::start(&disk, 1);
    let error = loop {
        let first_seq = written.batches.len() as u64 + 1;
        match written.appender.append(first_seq, 1, payload_crc(&[payload]), &[payload]) {
            Ok(_) => {
                written.batches.push(Batch { first_seq, count: 1, payload: payload.to_vec() });
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{space}");
    assert_eq!(read(&disk, 1).unwrap().0, written.batches, "{space}");
    // That the head was there and is gone must be durable: the disk may have written it already.
    let end = written.appender.end();
    let name = segment_name(end.segment());
    let bytes = disk.bytes(&name);
    let was_written = bytes[end.offset() as usize..].iter().any(|byte| *byte != 0);
    assert!(!was_written || disk.is_durable(&name, bytes.len()), "{space}");

    disk.faults().space.store(i64::MAX / 2, SeqCst);
    written.append(30).unwrap();
    assert_eq!(read(&disk, 1).unwrap().0, written.batches, "{space}");
}

#[test]
fn a_failed_sync_poisons_for_ever() {
    let disk = Disk::default();
    let mut written = Written::start(&disk, 1);
    let durable = written.append(10).unwrap();
    written.sync().unwrap();
    written.append(10).unwrap();
    disk.faults().fail_syncs.store(true, SeqCst);
    let error = written.sync().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert!(error.to_string().contains("0000000001.log"), "{error}");
    disk.faults().fail_syncs.store(false, SeqCst);

    let syncs = disk.faults().syncs.load(SeqCst);
    assert_eq!(written.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(written.append(10).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(written.appender.close().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(written.log.prepare_spare().unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(!written.log.needs_spare());
    assert_eq!(disk.faults().syncs.load(SeqCst), syncs, "no sync is tried again");
    assert_eq!(written.log.poisoned().unwrap().to_string(), error.to_string());
    assert_eq!(written.log.synced(), durable);
    written.log.sync_to(durable).unwrap();
    let after = disk.power_cut(&mut || false);
    check_prefix(read(&after, 1), &written.batches, 1).unwrap();
}

#[test]
fn a_failed_write_poisons() {
    let disk = Disk::default();
    let mut written = Written::start(&disk, 1);
    written.append(10).unwrap();
    disk.faults().fail_writes.store(true, SeqCst);
    assert_eq!(written.append(10).unwrap_err().kind(), ErrorKind::Poisoned);
    disk.faults().fail_writes.store(false, SeqCst);
    assert_eq!(written.append(10).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(written.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);
}

#[test]
fn a_segment_that_cannot_be_made_is_tried_again() {
    let disk = Disk::default();
    let mut written = Written::start(&disk, 1);
    disk.faults().fail_syncs.store(true, SeqCst);
    disk.faults().fail_removes.store(true, SeqCst);
    assert_eq!(written.log.prepare_spare().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(disk.list_segments(), [1, 2], "what the failed attempt left behind");
    assert_eq!(read(&disk, 1).unwrap().1.torn, None);
    disk.faults().fail_syncs.store(false, SeqCst);
    assert_eq!(written.log.prepare_spare().unwrap_err().kind(), ErrorKind::Io);
    disk.faults().fail_removes.store(false, SeqCst);
    written.log.prepare_spare().unwrap();
    for _ in 0..20 {
        written.append(100).unwrap();
    }
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);

    disk.faults().fail_folder_syncs.store(true, SeqCst);
    assert_eq!(written.log.prepare_spare().unwrap_err().kind(), ErrorKind::Poisoned);
    disk.faults().fail_folder_syncs.store(false, SeqCst);
    assert_eq!(written.append(10).unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn a_log_never_starts_over_an_old_segment() {
    let disk = Disk::default();
    let mut written = Written::start(&disk, 1);
    written.append(10).unwrap();
    let error = Log::start(disk.folder(), DB, 1, options(false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(read(&disk, 1).unwrap().0, written.batches);
    for first in [0, 1 << 32] {
        let error = Log::start(disk.folder(), DB, first, options(false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
}

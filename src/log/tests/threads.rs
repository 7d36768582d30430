//! Many writers: what a sync promises is durable when it returns.

use super::*;
use crate::vfs::{Access, os::OsFolder};
use parking_lot::Mutex;
use std::result::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const THREADS: u64 = 8;
const ROUNDS: u64 = 120;

#[test]
fn every_sync_covers_what_it_promised() {
    for maps in [false, true] {
        let disk = Disk::mapped(maps);
        let (log, appender) = Log::start(disk.folder(), DB, 1, options(true)).unwrap();
        let appender = Mutex::new((appender, 1));
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(SeqCst) {
                    if log.needs_spare() {
                        log.prepare_spare().unwrap();
                    }
                    std::thread::yield_now();
                }
            });
            let writers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (appender, log, disk) = (&appender, &log, &disk);
                    scope.spawn(move || write_rounds(appender, log, disk, thread))
                })
                .collect();
            let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            is_done.store(true, SeqCst);
            assert!(ends.iter().all(Result::is_ok));
        });
        let stats = log.stats();
        assert_eq!(stats.records, THREADS * ROUNDS);
        assert_eq!(log.synced(), appender.lock().0.end());
        assert!(stats.syncs + stats.rides >= THREADS * ROUNDS, "{stats:?}");
        let after = disk.power_cut(&mut || false);
        let (batches, _) = read(&after, 1).unwrap();
        assert_eq!(batches.len() as u64, THREADS * ROUNDS);
        for (i, batch) in batches.iter().enumerate() {
            assert_eq!(batch.first_seq, i as u64 + 1);
        }
    }
}

fn write_rounds(appender: &Mutex<(Appender, u64)>, log: &Log, disk: &Disk, thread: u64) {
    for round in 0..ROUNDS {
        let payload = vec![thread as u8; (round % 90) as usize];
        let crc = payload_crc(&[&payload]);
        let end = {
            let mut locked = appender.lock();
            let seq = locked.1;
            locked.1 += 1;
            locked.0.append(seq, 1, crc, &[&payload]).unwrap()
        };
        log.sync_to(end).unwrap();
        assert!(log.synced() >= end);
        for segment in 1..end.segment() {
            assert!(disk.is_durable(&segment_name(segment), 512));
        }
        let name = segment_name(end.segment());
        assert!(disk.is_durable(&name, end.offset() as usize), "{end:?}");
    }
}

/// On a real disk, where there are pages: what is stored stays, whoever readies, lets go of or
/// syncs them, and the writer goes on from one segment to the next meanwhile.
#[test]
fn pages_are_made_ready_beside_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Folder> = Arc::new(OsFolder::create(dir.path().join("log")).unwrap());
    let options =
        LogOptions { segment_bytes: 2 << 20, first_segment_bytes: 64 << 10, mapped: true };
    let (log, mut appender) = Log::start(folder.clone(), DB, 1, options).unwrap();
    let is_done = AtomicBool::new(false);
    let mut payloads = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(SeqCst) {
                log.ready_pages();
                std::thread::yield_now();
            }
        });
        assert!(!log.wants_pages(), "nothing waits for a sync");
        for seq in 1..60_000u64 {
            let payload: Vec<u8> = (0..seq % 900).map(|i| (seq * 31 + i) as u8).collect();
            appender.append(seq, 1, payload_crc(&[&payload]), &[&payload]).unwrap();
            payloads.push(payload);
            if seq % 25_000 == 0 {
                log.sync_to(appender.end()).unwrap();
                assert!(!log.wants_pages());
            }
        }
        is_done.store(true, SeqCst);
    });
    let long = vec![7; 9 << 20];
    appender.append(60_000, 1, payload_crc(&[&long]), &[&long]).unwrap();
    payloads.push(long);
    let probe = folder.open("probe", Access::CreateNew).unwrap();
    probe.allocate(4096).unwrap();
    let has_pages = probe.map_mut(4096).unwrap().is_some_and(|map| map.pages().is_some());
    assert_eq!(log.wants_pages(), has_pages);
    log.ready_pages();
    assert!(!log.wants_pages());
    let (batches, found) = read(&*folder, 1).unwrap();
    assert_eq!(found.torn, None);
    assert!(batches.iter().map(|batch| &batch.payload).eq(&payloads));
}

#[test]
fn a_failing_sync_reaches_every_waiting_thread() {
    let disk = Disk::default();
    let (log, appender) = Log::start(disk.folder(), DB, 1, options(false)).unwrap();
    let appender = Mutex::new((appender, 1));
    let (acked, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let mut locked = appender.lock();
                    let seq = locked.1;
                    let Ok(end) = locked.0.append(seq, 1, payload_crc(&[b"x"]), &[b"x"]) else {
                        break;
                    };
                    locked.1 += 1;
                    drop(locked);
                    if log.sync_to(end).is_err() {
                        break;
                    }
                    if acked.fetch_max(seq, SeqCst) > 300 {
                        disk.faults().fail_syncs.store(true, SeqCst);
                    }
                }
                failed.fetch_add(1, SeqCst);
            });
        }
    });
    assert_eq!(failed.load(SeqCst), THREADS);
    assert_eq!(log.poisoned().unwrap().kind(), ErrorKind::Poisoned);
    let after = disk.power_cut(&mut || false);
    assert!(read(&after, 1).unwrap().1.last_seq >= acked.load(SeqCst));
}

#[test]
fn a_log_being_written_is_read_as_a_prefix() {
    for maps in [false, true] {
        let disk = Disk::mapped(maps);
        let mut written = Written::start(&disk, 1);
        let synced = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for _ in 0..30 {
                    let acknowledged = synced.load(SeqCst);
                    let (batches, found) = read(&disk, 1).unwrap();
                    assert!(found.records >= acknowledged);
                    for pair in batches.windows(2) {
                        assert_eq!(pair[0].first_seq + u64::from(pair[0].count), pair[1].first_seq);
                    }
                }
            });
            while !reader.is_finished() {
                // Not so much that reading takes long.
                if written.batches.len() < 800 {
                    written.append(written.batches.len() % 90).unwrap();
                    written.sync().unwrap();
                    synced.store(written.batches.len() as u64, SeqCst);
                }
                std::thread::yield_now();
            }
        });
    }
}

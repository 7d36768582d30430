//! The log: it stays within its budget, whatever is idle, and is replayed with any memtable size.

use super::{kind, quiet};
use std::sync::Arc;
use tonearm::{
    Builder, Db, Durability, ErrorKind, OrderedTable, Table,
    vfs::{
        Folder,
        mem::MemFolder,
        sim::{Fault, OpKind, SimDisk},
    },
};

fn small(threads: usize) -> Builder {
    Db::builder()
        .threads(threads)
        .memory(1 << 20)
        .memtable_bytes(64 << 10)
        .segment_bytes(64 << 10)
        .log_bytes(256 << 10)
}

/// Tables that are written once and never again do not hold on to the log.
#[test]
fn idle_tables_do_not_pin_the_log() {
    for threads in [0, 1, 2] {
        let db = small(threads).open_in_memory().unwrap();
        let idle: Vec<_> = (0..3).map(|i| db.lsm(&format!("idle {i}")).unwrap()).collect();
        idle.iter().for_each(|table| table.insert(b"k", b"v").unwrap());
        let busy = db.lsm("busy").unwrap();
        let mut most = 0;
        for key in 0..40_000u32 {
            busy.insert(&key.to_be_bytes(), &[7; 100]).unwrap();
            most = most.max(db.stats().log_bytes);
        }
        // Its budget, and what is written while the background looks elsewhere.
        assert!(most < 2 << 20, "{threads} threads: {most} bytes of log");
        for table in &idle {
            assert_eq!(table.get(b"k").unwrap().unwrap(), b"v");
        }
        assert_eq!(busy.iter().count(), 40_000);
    }
}

/// Memtables of many tables together stay within the budget.
#[test]
fn many_tables_share_the_memory() {
    for threads in [0, 2] {
        let db = small(threads).log_bytes(64 << 20).open_in_memory().unwrap();
        let tables: Vec<_> = (0..40).map(|i| db.lsm(&format!("table {i}")).unwrap()).collect();
        let mut most = 0;
        for key in 0..1000u32 {
            for table in &tables {
                table.insert(&key.to_be_bytes(), &[7; 100]).unwrap();
            }
            most = most.max(db.stats().memtable_bytes);
        }
        assert!(most < 3 << 20, "{threads} threads: {most} bytes of memtables");
    }
}

/// A log that holds many memtables' worth is replayed through small ones, and nothing is given up
/// before it has been reached.
#[test]
fn a_long_log_is_replayed_through_small_memtables() {
    let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let large = quiet().memory(64 << 20).segment_bytes(16 << 10);
    let db = large.open_in(folder.clone()).unwrap();
    let tables = ["a", "b", "c"].map(|name| db.lsm(name).unwrap());
    for key in 0..3000u32 {
        let mut batch = db.batch();
        for table in &tables {
            batch.insert(table, key.to_be_bytes(), [7; 60]);
        }
        batch.commit_default().unwrap();
    }
    drop((tables, db));
    let tiny = quiet().memtable_bytes(4 << 10).segment_bytes(16 << 10);
    for _ in 0..2 {
        let db = tiny.clone().open_in(folder.clone()).unwrap();
        for name in ["a", "b", "c"] {
            let table = db.lsm(name).unwrap();
            assert_eq!(table.iter().count(), 3000, "{name}");
            assert!(table.stats().work.flushes > 0 || table.stats().file_bytes > 0);
        }
        db.verify().unwrap();
    }
}

/// After a failed sync, reads go on and writes do not; opening again finds what is durable.
#[test]
fn a_failed_sync_poisons_writes_only() {
    let disk = SimDisk::new(1);
    let open = || quiet().open_in(Arc::new(disk.clone())).unwrap();
    let db = open();
    let table = db.lsm("table").unwrap();
    table.insert_with(b"durable", b"1", Durability::PowerLoss).unwrap();
    disk.inject(Fault::nth(1).of(OpKind::SyncData).named(".log"));
    let failed = table.insert_with(b"unknown", b"2", Durability::PowerLoss);
    assert!(matches!(kind(failed), Some(ErrorKind::Io | ErrorKind::Poisoned)));
    assert_eq!(kind(table.insert(b"k", b"v")), Some(ErrorKind::Poisoned));
    assert_eq!(kind(db.sync()), Some(ErrorKind::Poisoned));
    assert_eq!(kind(table.flush()), Some(ErrorKind::Poisoned));
    assert_eq!(table.get(b"durable").unwrap().unwrap(), b"1");
    assert!(table.first().unwrap().is_some());
    drop((table, db));
    let db = open();
    let table = db.lsm("table").unwrap();
    assert_eq!(table.get(b"durable").unwrap().unwrap(), b"1");
    table.insert(b"k", b"v").unwrap();
}

/// A sync of more than a MiB lets go of the mapped pages it covers: they hold what they held, and
/// what is written later goes on behind.
#[test]
fn large_syncs_of_a_mapped_log_lose_nothing() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let db = Db::builder().threads(0).open(dir.path()).unwrap();
    let table = db.lsm("table").unwrap();
    let value = |i: u32| [&i.to_be_bytes()[..], &[7; 300]].concat();
    for round in 0..4u32 {
        for i in round * 6_000..(round + 1) * 6_000 {
            table.insert(&i.to_be_bytes(), &value(i)).unwrap();
        }
        db.sync().unwrap();
    }
    assert!(db.stats().log_appended > 4 << 20);
    // As a killed process would leave it.
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let copied = Db::open(copy.path()).unwrap().lsm("table").unwrap();
    for i in 0..24_000u32 {
        assert_eq!(copied.get(&i.to_be_bytes()).unwrap().unwrap(), value(i));
    }
}

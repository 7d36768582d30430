//! Tables: the catalogue, range deletes, ingests, statistics, backups.

use super::{filled, kind, quiet};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonearm::{
    Db, Engine, ErrorKind, LsmOptions, OrderedTable, Side, Table,
    vfs::{Folder, mem::MemFolder},
};

#[test]
fn dropped_tables_are_not_found_and_leave_nothing() {
    let (folder, db, table) = filled(quiet(), 1000);
    let runs = || folder.list().unwrap().iter().filter(|name| name.ends_with(".run")).count();
    assert!(runs() > 0);
    let (then, entries, clone) = (db.snapshot(), table.iter(), table.clone());
    let at = table.at(&then);
    db.drop_table("table").unwrap();
    let not_found = Some(ErrorKind::NotFound);
    let mut batch = db.batch();
    batch.insert(&table, "k", "v");
    assert_eq!(kind(batch.commit_default()), not_found);
    assert_eq!(kind(table.get(b"k")), not_found);
    assert_eq!(kind(clone.contains(b"k")), not_found);
    assert_eq!(kind(table.get_many(&[b"k"])), not_found);
    assert_eq!(kind(table.insert(b"k", b"v")), not_found);
    assert_eq!(kind(table.remove(b"k")), not_found);
    assert_eq!(kind(table.delete_range("a".."b")), not_found);
    assert_eq!(kind(table.delete_range("b".."a")), not_found);
    assert_eq!(kind(table.delete_prefix(b"a")), not_found);
    assert_eq!(kind(table.iter().next().unwrap()), not_found);
    assert_eq!(kind(table.first()), not_found);
    assert_eq!(kind(table.last()), not_found);
    assert_eq!(kind(table.nearest(b"k", Side::After)), not_found);
    assert_eq!(kind(table.flush()), not_found);
    assert_eq!(kind(table.verify()), not_found);
    assert_eq!(kind(table.ingest(&mut std::iter::empty())), not_found);
    // What was pinned before goes on, and its space is free once it is gone.
    assert_eq!(entries.count(), 1000);
    assert_eq!(at.iter().count(), 1000);
    db.maintain().unwrap();
    assert!(runs() > 0);
    // The name is free at once.
    assert_eq!(db.lsm("table").unwrap().iter().count(), 0);
    drop((then, at, table, clone));
    db.maintain().unwrap();
    assert_eq!(runs(), 0);
}

#[test]
fn the_catalogue_is_sorted_and_keeps_its_options() {
    let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let db = quiet().open_in(folder.clone()).unwrap();
    let options = LsmOptions::new().block_bytes(256);
    for name in ["b", "c", "a"] {
        db.lsm_with(name, &options).unwrap();
    }
    db.lsm("b").unwrap().insert(b"k", b"v").unwrap();
    assert_eq!(kind(db.rename_table("b", "c")), Some(ErrorKind::Misuse));
    db.rename_table("b", "z").unwrap();
    db.rename_table("z", "z").unwrap();
    db.drop_table("c").unwrap();
    let names = |db: &Db| db.tables().into_iter().map(|(name, _)| name.to_string()).collect();
    let expected: Vec<String> = vec!["a".into(), "z".into()];
    assert_eq!(names(&db), expected);
    assert!(db.tables().iter().all(|(_, engine)| *engine == Engine::Lsm));
    drop(db);
    let db = quiet().open_in(folder).unwrap();
    let found: Vec<String> = names(&db);
    assert_eq!(found, expected);
    assert_eq!(db.lsm("z").unwrap().get(b"k").unwrap().unwrap(), b"v");
}

#[test]
fn snapshots_are_of_all_tables_and_later_ones_are_empty() {
    let db = Db::in_memory().unwrap();
    let a = db.lsm("a").unwrap();
    a.insert(b"k", b"1").unwrap();
    let then = db.snapshot();
    let b = db.lsm("b").unwrap();
    b.insert(b"k", b"2").unwrap();
    a.remove(b"k").unwrap();
    assert_eq!(a.at(&then).get(b"k").unwrap().unwrap(), b"1");
    assert_eq!(b.at(&then).get(b"k").unwrap(), None);
    assert_eq!(b.at(&then).iter().count(), 0);
    assert!(db.snapshot().sequence() >= then.sequence() + 2);
}

/// A range delete is one small write, however much it deletes, and hides it at once.
#[test]
fn deleting_a_range_is_one_small_write() {
    let (_, db, table) = filled(quiet(), 100_000);
    let before = db.stats();
    table.delete_range(&10u32.to_be_bytes()[..]..&99_990u32.to_be_bytes()[..]).unwrap();
    let after = db.stats();
    assert_eq!(after.log_records - before.log_records, 1);
    assert!(after.log_appended - before.log_appended < 100);
    assert_eq!(table.iter().count(), 20);
    assert_eq!(table.get(&500u32.to_be_bytes()).unwrap(), None);
    let next = table.nearest(&10u32.to_be_bytes(), Side::AtOrAfter).unwrap().unwrap();
    assert_eq!(next.0, 99_990u32.to_be_bytes());
    table.insert(&500u32.to_be_bytes(), b"again").unwrap();
    table.flush().unwrap();
    assert_eq!(table.iter().count(), 21);
    db.maintain().unwrap();
    assert_eq!(table.iter().count(), 21);
}

/// Files that a range delete covers as a whole are gone without being read.
#[test]
fn deleting_a_range_drops_whole_files() {
    let db = quiet().memtable_bytes(64 << 10).open_in_memory().unwrap();
    let table = db.lsm_with("table", &LsmOptions::new().file_bytes(64 << 10)).unwrap();
    for key in 0..20_000u32 {
        table.insert(&key.to_be_bytes(), &[7; 100]).unwrap();
    }
    table.flush().unwrap();
    db.maintain().unwrap();
    let before = table.stats();
    table.delete_range(&10u32.to_be_bytes()[..]..&19_990u32.to_be_bytes()[..]).unwrap();
    table.flush().unwrap();
    db.maintain().unwrap();
    let after = table.stats();
    assert!(after.file_bytes < before.file_bytes / 5, "{before:?} {after:?}");
    assert!(after.work.drops > 0 && after.work.bytes_read < before.file_bytes / 5, "{after:?}");
    assert_eq!(table.iter().count(), 20);
}

#[test]
fn ingests_are_all_or_nothing() {
    let (_, db, table) = filled(quiet(), 10);
    let entry = |key: u32| Ok((Bytes::copy_from_slice(&key.to_be_bytes()), Bytes::from("in")));
    let records = db.stats().log_records;
    table.insert(&5u32.to_be_bytes(), b"before").unwrap();
    assert_eq!(table.ingest(&mut (5..5000).map(entry)).unwrap(), 4995);
    assert_eq!(table.get(&5u32.to_be_bytes()).unwrap().unwrap(), b"in");
    assert_eq!(table.iter().count(), 5000);
    assert_eq!(db.stats().log_records, records + 1, "an ingest writes no log");
    for keys in [[1, 2, 2], [9, 8, 10]] {
        assert_eq!(kind(table.ingest(&mut keys.into_iter().map(entry))), Some(ErrorKind::Misuse));
    }
    let failed = Db::builder().create(false).open("no/such/folder").map(drop).unwrap_err();
    let mut failing = [entry(6000), Err(failed)].into_iter();
    assert_eq!(kind(table.ingest(&mut failing)), Some(ErrorKind::NotFound));
    assert_eq!(table.ingest(&mut std::iter::empty()).unwrap(), 0);
    assert_eq!(table.iter().count(), 5000);
    table.insert(&5u32.to_be_bytes(), b"after").unwrap();
    assert_eq!(table.get(&5u32.to_be_bytes()).unwrap().unwrap(), b"after");
    db.verify().unwrap();
}

/// Loading in order writes each byte once.
#[test]
fn statistics_make_sense() {
    let builder = quiet().memory(16 << 20).memtable_bytes(1 << 20);
    let folder = MemFolder::default();
    let db = builder.open_in(Arc::new(folder)).unwrap();
    let options = LsmOptions::new().file_bytes(1 << 20).base_bytes(4 << 20).merge_at(4);
    let table = db.lsm_with("table", &options).unwrap();
    let entries = 100_000u32;
    for key in 0..entries {
        table.insert(&key.to_be_bytes(), &[7; 100]).unwrap();
    }
    let waiting = table.stats();
    assert!(waiting.memtable_entries > 0 && waiting.memtable_bytes > 0, "{waiting:?}");
    let mut reports = Vec::new();
    db.maintain_with(|progress| reports.push(progress)).unwrap();
    db.flush().unwrap();
    assert!(reports.last().unwrap().flushes > 0, "{reports:?}");
    let stats = table.stats();
    assert_eq!((stats.memtable_entries, stats.memtables_waiting), (0, 0));
    assert_eq!((stats.entries, stats.deletes), (u64::from(entries), 0));
    assert_eq!(stats.raw_bytes, u64::from(entries) * 104);
    let amplification = stats.write_amplification();
    assert!((0.9..1.3).contains(&amplification), "{amplification} {stats:?}");
    assert!((0.9..1.3).contains(&stats.space_amplification()), "{stats:?}");
    assert_eq!(stats.work.merges, 0, "{stats:?}");
    let levels = stats.levels.iter();
    assert_eq!(levels.clone().map(|level| level.bytes).sum::<u64>(), stats.file_bytes);
    assert_eq!(levels.map(|level| level.entries).sum::<u64>(), stats.entries);
    let all = db.stats();
    assert_eq!((all.sequence, all.log_records), (entries.into(), entries.into()));
    assert_eq!(all.file_bytes, stats.file_bytes);
    assert!(all.log_appended > u64::from(entries) * 104 && all.log_bytes > 0, "{all:?}");
    assert!(all.background_error.is_none());
    assert!(stats.read_amplification() >= 1);
}

/// Long values are not copied by merges, unless the table is not to.
#[test]
fn long_values_stay_where_they_were_written() {
    let db = quiet().memory(64 << 20).open_in_memory().unwrap();
    let never = LsmOptions::new().separate_values(u32::MAX);
    let tables = [db.lsm("lends").unwrap(), db.lsm_with("copies", &never).unwrap()];
    for table in &tables {
        for round in 0..9u8 {
            for number in 0..40u8 {
                table.insert(&[number, number ^ round], &[number ^ round; 16 << 10]).unwrap();
            }
            table.flush().unwrap();
        }
        db.maintain().unwrap();
        for key in table.iter().map(|entry| entry.unwrap().0) {
            assert_eq!(table.get(&key).unwrap().unwrap(), [key[1]; 16 << 10]);
        }
        table.verify().unwrap();
    }
    let [lends, copies] = tables.map(|table| table.stats());
    assert!(lends.lenders.files >= 8 && lends.lenders.bytes < lends.file_bytes, "{lends:?}");
    assert!(lends.lenders.needed_bytes * 100 > lends.lenders.bytes * 95, "{lends:?}");
    assert!(lends.write_amplification() < 1.1 && copies.write_amplification() > 1.8, "{copies:?}");
    assert_eq!(copies.lenders.files, 0);
    assert_eq!(lends.raw_bytes, copies.raw_bytes);
}

#[test]
fn caches_are_counted_and_bounded() {
    let cached = quiet().memory(1 << 20).read_path(tonearm::ReadPath::Cached);
    let (_, db, table) = filled(cached, 20_000);
    let before = db.stats();
    for round in 0..2 {
        for key in 0..100u32 {
            assert!(table.get(&key.to_be_bytes()).unwrap().is_some(), "{round}");
        }
    }
    let after = db.stats();
    assert!(after.cache_hits > before.cache_hits && after.cache_misses > before.cache_misses);
    for key in 0..20_000u32 {
        assert!(table.contains(&key.to_be_bytes()).unwrap());
    }
    let bytes = db.stats().cache_bytes;
    assert!(bytes > 0 && bytes <= 512 << 10, "{bytes}");
}

/// Without threads, nothing happens but in `maintain` and in writers that find no room.
#[test]
fn maintenance_is_all_there_is_without_threads() {
    let (_, db, table) = filled(quiet().memtable_bytes(16 << 10), 5000);
    let flushes = table.stats().work.flushes;
    assert!(flushes > 1, "a writer that finds no room makes some");
    db.maintain().unwrap();
    let settled = table.stats();
    assert!(settled.levels.iter().all(|level| level.level > 0 || level.files == 0), "{settled:?}");
    db.maintain().unwrap();
    assert_eq!(table.stats().work, settled.work, "nothing is left to gain");
}

#[cfg(unix)]
#[test]
fn backups_share_files() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let db = quiet().open(dir.path().join("db")).unwrap();
    let table = db.lsm("table").unwrap();
    table.insert(b"settled", &[1; 1000]).unwrap();
    table.flush().unwrap();
    table.insert(b"recent", &[2; 1000]).unwrap();
    let copy = dir.path().join("copy");
    let mut reports = Vec::new();
    db.backup_with(&copy, |progress| reports.push(progress)).unwrap();
    assert_eq!(reports.len() as u64, reports[0].files_total);
    assert!(reports[0].bytes > 1000);
    let linked = |path: &std::path::Path| {
        let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        files.filter(|file| file.metadata().unwrap().nlink() == 2).count()
    };
    assert_eq!((linked(&copy), linked(&dir.path().join("db"))), (1, 1));
    // The two go their own ways.
    table.insert(b"settled", b"changed").unwrap();
    db.maintain().unwrap();
    drop((table, db));
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    let again = Db::open(&copy).unwrap();
    let table = again.lsm("table").unwrap();
    assert_eq!(table.get(b"settled").unwrap().unwrap(), [1; 1000]);
    assert_eq!(table.get(b"recent").unwrap().unwrap(), [2; 1000]);
    assert_eq!(kind(again.backup(&copy)), Some(ErrorKind::Misuse));
    again.verify().unwrap();
}

/// Who deletes very many keys one by one, and lets maintenance run, leaves nothing behind that
/// readers would have to walk over.
#[test]
fn many_deletes_are_gone_after_maintenance() {
    let (_, db, table) = filled(quiet(), 100_000);
    let delete = |keys: std::ops::Range<u32>| {
        keys.for_each(|key| table.remove(&key.to_be_bytes()).unwrap());
    };
    delete(0..90_000);
    assert_eq!(table.first().unwrap().unwrap().0, 90_000u32.to_be_bytes()[..]);
    db.maintain().unwrap();
    let stats = table.stats();
    assert_eq!((stats.memtable_entries, stats.deletes, stats.entries), (0, 0, 10_000));
    assert_eq!(table.first().unwrap().unwrap().0, 90_000u32.to_be_bytes()[..]);
    assert_eq!(table.iter().count(), 10_000);

    // A few are no hurry: a memtable is not written out for them.
    delete(90_000..90_100);
    db.maintain().unwrap();
    assert_eq!(table.stats().memtable_entries, 100);
}

/// The same in the background, once nobody writes.
#[test]
fn many_deletes_are_gone_when_idle() {
    let (_, _db, table) = filled(Db::builder(), 100_000);
    (0..90_000u32).for_each(|key| table.remove(&key.to_be_bytes()).unwrap());
    let due = Instant::now() + Duration::from_secs(60);
    while Instant::now() < due {
        let stats = table.stats();
        if (stats.memtable_entries, stats.deletes) == (0, 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = table.stats();
    assert_eq!((stats.memtable_entries, stats.deletes, stats.entries), (0, 0, 10_000));
    assert_eq!(table.iter().count(), 10_000);
}

/// A part of a file that a range delete covers is freed by maintenance.
#[test]
fn deleted_ranges_are_freed_by_maintenance() {
    let (_, db, table) = filled(quiet(), 100_000);
    let before = table.stats().file_bytes;
    table.delete_range(20_000u32.to_be_bytes()..90_000u32.to_be_bytes()).unwrap();
    table.flush().unwrap();
    db.maintain().unwrap();
    let stats = table.stats();
    assert_eq!(stats.entries, 30_000);
    assert!(stats.file_bytes < before / 3, "{} of {before}", stats.file_bytes);
}

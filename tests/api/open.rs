//! Opening and closing: locks, readers beside a writer, databases in memory, one table alone.

use super::{filled, kind, quiet};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use tonearm::{
    Db, Durability, Error, ErrorKind, Lsm, OrderedTable, Table,
    vfs::{Folder, mem::MemFolder},
};

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn readers_see_what_was_committed_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = quiet().open(dir.path()).unwrap();
    let table = db.lsm("table").unwrap();
    table.insert(b"settled", b"1").unwrap();
    table.flush().unwrap();
    table.insert(b"recent", b"2").unwrap();
    let before = contents(dir.path()).len();
    let reader = Db::builder().open_read_only(dir.path()).unwrap();
    let read = reader.lsm("table").unwrap();
    table.insert(b"later", b"3").unwrap();
    assert_eq!(read.iter().count(), 2);
    assert_eq!(read.get(b"recent").unwrap().unwrap(), b"2");
    assert_eq!(read.at(&reader.snapshot()).iter().count(), 2);
    read.verify().unwrap();
    let again = Db::builder().open_read_only(dir.path()).unwrap();
    assert_eq!(again.lsm("table").unwrap().iter().count(), 3);
    drop((read, reader, again));
    table.remove(b"later").unwrap();
    drop((table, db));
    let closed = contents(dir.path());
    assert_eq!(closed.len(), before);
    drop(Db::builder().open_read_only(dir.path()).unwrap());
    assert!(contents(dir.path()) == closed, "a reader wrote something");
}

#[test]
fn readers_cannot_write() {
    let (folder, db, table) = filled(quiet(), 10);
    let reader = quiet().open_read_only_in(Arc::new(folder)).unwrap();
    drop((db, table));
    let read = reader.lsm("table").unwrap();
    let mut batch = reader.batch();
    batch.insert(&read, "k", "v");
    let target: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let refusals = [
        read.insert(b"k", b"v"),
        read.remove(b"k"),
        read.delete_range("a".."b"),
        read.delete_prefix(b""),
        read.ingest(&mut std::iter::empty()).map(drop),
        read.flush(),
        batch.commit(Durability::Process),
        reader.lsm("new").map(drop),
        reader.rename_table("table", "new"),
        reader.drop_table("table"),
        reader.flush(),
        reader.maintain(),
        reader.sync(),
        reader.backup_in(&target),
    ];
    for (number, refused) in refusals.into_iter().enumerate() {
        assert_eq!(kind(refused), Some(ErrorKind::Misuse), "{number}");
    }
    assert_eq!(read.iter().count(), 10);
    drop(read);
    reader.close().unwrap();
}

#[test]
fn what_is_not_there_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let not_found = Some(ErrorKind::NotFound);
    assert_eq!(kind(quiet().create(false).open(&absent)), not_found);
    assert_eq!(kind(quiet().open_read_only(&absent)), not_found);
    assert!(!absent.exists());
    assert_eq!(kind(quiet().create(false).open(dir.path())), not_found);
    assert_eq!(kind(quiet().open_read_only(dir.path())), not_found);
    let db = Db::open(dir.path().join("deep/down")).unwrap();
    assert_eq!(kind(db.table("absent").map(drop)), not_found);
    assert_eq!(kind(db.drop_table("absent")), not_found);
    assert_eq!(kind(db.rename_table("absent", "x")), not_found);
}

#[test]
fn closing_waits_for_the_last_handle() {
    let db = quiet().open_in_memory().unwrap();
    let table = db.lsm("table").unwrap();
    let closed: Error = db.clone().close().unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Misuse);
    // Nothing has changed: it is still open.
    table.insert(b"k", b"v").unwrap();
    let batch = db.batch();
    drop(table);
    assert_eq!(kind(db.clone().close()), Some(ErrorKind::Misuse));
    drop(batch);
    let (then, entries) = (db.snapshot(), db.lsm("table").unwrap().iter());
    db.close().unwrap();
    // Snapshots and iterators do not hold it open, and go on.
    assert_eq!(entries.count(), 1);
    assert_eq!(then.sequence(), 1);
}

#[test]
fn in_memory_is_a_database_of_its_own() {
    let (a, b) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    a.lsm("table").unwrap().insert(b"k", b"v").unwrap();
    assert!(b.tables().is_empty());
    a.flush().unwrap();
    a.maintain().unwrap();
    assert_eq!(a.lsm("table").unwrap().get(b"k").unwrap().unwrap(), b"v");
    a.verify().unwrap();
    a.sync().unwrap();
}

#[test]
fn one_table_alone() {
    let dir = tempfile::tempdir().unwrap();
    let table = Lsm::open(dir.path()).unwrap();
    table.insert_with(b"k", b"v", Durability::PowerLoss).unwrap();
    assert_eq!(kind(Lsm::open(dir.path())), Some(ErrorKind::Locked));
    drop(table);
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.lsm("main").unwrap().first().unwrap().unwrap().1, b"v");
}

//! What the documentation of the public interface promises, sentence by sentence.

mod btree;
mod hash;
mod limits;
mod log;
mod open;
mod seek;
mod tables;

use std::sync::Arc;
use tonearm::{
    Batch, Builder, Db, DbStats, Durability, Engine, Entries, Error, ErrorKind, Lsm, LsmOptions,
    OrderedTable, Result, Side, Snapshot, Table, TableAt, Value,
    vfs::{Access, Folder, mem::MemFolder},
};

/// Without threads, so that nothing happens unless asked for.
fn quiet() -> Builder {
    Db::builder().threads(0).sync_interval(None)
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// A quiet database in memory with `entries` settled entries of 100 bytes in table `table`.
fn filled(builder: Builder, entries: u32) -> (MemFolder, Db, Lsm) {
    let folder = MemFolder::default();
    let db = builder.open_in(Arc::new(folder.clone())).unwrap();
    let table = db.lsm_with("table", &LsmOptions::new().block_bytes(1024)).unwrap();
    for key in 0..entries {
        table.insert(&key.to_be_bytes(), &[key as u8; 100]).unwrap();
    }
    table.flush().unwrap();
    (folder, db, table)
}

#[test]
fn handles_go_anywhere() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Db>();
    shared::<Lsm>();
    shared::<Snapshot>();
    shared::<TableAt>();
    shared::<Value>();
    shared::<Error>();
    shared::<Builder>();
    shared::<LsmOptions>();
    shared::<DbStats>();
    sent::<Batch>();
    sent::<Entries>();
    shared::<Box<dyn Table>>();
    shared::<Arc<dyn OrderedTable>>();
    fn clones<T: Clone>() {}
    clones::<Db>();
    clones::<Lsm>();
    clones::<Snapshot>();
}

#[test]
fn tables_are_objects() {
    let db = Db::in_memory().unwrap();
    let lsm = db.lsm("plays").unwrap();
    let table: Box<dyn Table> = db.table("plays").unwrap();
    let ordered: &dyn OrderedTable = &lsm;
    table.insert(b"a", b"1").unwrap();
    ordered.insert_with(b"b", b"2", Durability::PowerLoss).unwrap();
    let mut batch = db.batch();
    batch.insert(&*table, "c", "3").insert(ordered, "d", "4").delete_range(ordered, "x", None);
    batch.commit(Durability::Process).unwrap();
    assert_eq!(table.get_with(b"c", <[u8]>::to_vec).unwrap().as_deref(), Some(&b"3"[..]));
    assert!(table.read(b"d", &mut |value| assert_eq!(value, b"4")).unwrap());
    assert!(!table.read(b"e", &mut |_| unreachable!()).unwrap());
    assert_eq!(table.iter().count(), 4);
    assert_eq!(ordered.range("b".."d").map(|entry| entry.unwrap().1[0]).collect::<Vec<_>>(), b"23");
    assert_eq!(ordered.nearest(b"bb", Side::After).unwrap().unwrap().0, b"c");
    ordered.delete_range("b"..="c").unwrap();
    assert_eq!(table.at(&db.snapshot()).iter().count(), 2);
    assert_eq!((&*table.name(), table.engine()), ("plays", Engine::Lsm));
    assert_eq!(table.engine().to_string(), "lsm");
}

#[test]
fn values_outlive_what_they_were_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let value = {
        let db = Db::open(dir.path()).unwrap();
        let table = db.lsm("table").unwrap();
        table.insert(b"key", &[7; 5000]).unwrap();
        table.flush().unwrap();
        let value = table.get(b"key").unwrap().unwrap();
        drop(table);
        db.drop_table("table").unwrap();
        value
    };
    drop(dir);
    assert_eq!(value, [7; 5000]);
}

#[test]
fn batches_are_all_or_nothing_and_later_wins() {
    let db = Db::in_memory().unwrap();
    let (a, b) = (db.lsm("a").unwrap(), db.lsm("b").unwrap());
    let mut batch = db.batch();
    assert!(batch.is_empty());
    batch.insert(&a, "k", "old").insert(&b, "k", "x").remove(&b, "k").insert(&a, "k", "new");
    assert_eq!(batch.len(), 4);
    assert!(batch.bytes() > 12);
    assert_eq!((a.get(b"k").unwrap(), b.get(b"k").unwrap()), (None, None));
    let before = db.stats();
    batch.commit_default().unwrap();
    assert_eq!(a.get(b"k").unwrap().unwrap(), b"new");
    assert!(!b.contains(b"k").unwrap());
    let after = db.stats();
    assert_eq!(after.log_records - before.log_records, 1);
    assert_eq!(after.sequence - before.sequence, 4);
    // An empty one is fine, and writes nothing.
    db.batch().commit(Durability::PowerLoss).unwrap();
    assert_eq!(db.stats().log_records, after.log_records);
}

#[test]
fn batches_and_snapshots_belong_to_one_database() {
    let (db, other) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    let (own, foreign) = (db.lsm("table").unwrap(), other.lsm("table").unwrap());
    let mut batch = db.batch();
    batch.insert(&own, "k", "v").insert(&foreign, "k", "v");
    assert_eq!(kind(batch.commit_default()), Some(ErrorKind::Misuse));
    assert!(!own.contains(b"k").unwrap() && !foreign.contains(b"k").unwrap());

    // Also if the other database's table is gone, whose number is the same as that of our own.
    other.drop_table("table").unwrap();
    let mut batch = db.batch();
    batch.insert(&foreign, "k", "v");
    assert_eq!(kind(batch.commit_default()), Some(ErrorKind::Misuse));
    assert!(!own.contains(b"k").unwrap());

    let then = other.snapshot();
    let at = own.at(&then);
    let misuse = Some(ErrorKind::Misuse);
    assert_eq!(kind(at.get(b"k")), misuse);
    assert_eq!(kind(at.get_with(b"k", |_| ())), misuse);
    assert_eq!(kind(at.get_many(&[b"k"])), misuse);
    assert_eq!(kind(at.contains(b"k")), misuse);
    assert_eq!(kind(at.first()), misuse);
    assert_eq!(kind(at.last()), misuse);
    assert_eq!(kind(at.nearest(b"k", Side::Before)), misuse);
    assert_eq!(kind(at.range("a".."b").next().unwrap()), misuse);
    assert_eq!(kind(at.prefix(b"").next_back().unwrap()), misuse);
}

#[test]
fn iterators_go_on_failing() {
    let cached = quiet().memory(64 << 10).read_path(tonearm::ReadPath::Cached);
    let (folder, _db, table) = filled(cached, 5000);
    let mut entries = [table.iter(), table.iter()];
    let mut references = table.iter();
    entries[0].next().unwrap().unwrap();
    entries[1].next_back().unwrap().unwrap();
    references.next_ref().unwrap().unwrap();
    let name = folder.list().unwrap().into_iter().find(|name| name.ends_with(".run")).unwrap();
    let file = folder.open(&name, Access::Write).unwrap();
    let middle = file.size().unwrap() / 2;
    file.write_at(&[0xa5; 4096], middle).unwrap();
    let [forward, back] = &mut entries;
    let first = forward.find_map(Result::err).unwrap();
    assert!(first.is_corrupt() && first.file() == Some(&*name) && first.offset().is_some());
    for _ in 0..3 {
        assert_eq!(forward.next().unwrap().unwrap_err().offset(), first.offset());
        assert_eq!(forward.next_back().unwrap().unwrap_err().offset(), first.offset());
        assert!(forward.next_ref().unwrap().unwrap_err().is_corrupt());
    }
    assert!(back.rev().find_map(Result::err).unwrap().is_corrupt());
    while references.next_ref().unwrap().is_ok() {}
    assert!(references.next_ref().unwrap().unwrap_err().is_corrupt());
    assert!((0..5000u32).any(|key| kind(table.get(&key.to_be_bytes())).is_some()));
    assert!(table.verify().unwrap_err().is_corrupt());
    // Undamaged places, and writes, go on.
    assert!(table.get(&0u32.to_be_bytes()).unwrap().is_some());
    table.insert(b"new", b"value").unwrap();
    assert_eq!(table.get(b"new").unwrap().unwrap(), b"value");
}

//! Hash tables through the database: what is different about them, and what is not.

use super::{kind, quiet};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use tonearm::{
    Compression, Db, Durability, Engine, ErrorKind, Hash, HashOptions, ReadPath, Side, Table,
    vfs::{Folder, mem::MemFolder},
};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn read(entries: tonearm::Entries) -> Model {
    let mut model = Model::new();
    for entry in entries {
        let (key, value) = entry.unwrap();
        assert!(model.insert(key.to_vec(), value.to_vec()).is_none(), "a key comes twice");
    }
    model
}

fn key(i: u32) -> Vec<u8> {
    format!("card {i}").into_bytes()
}

#[test]
fn a_hash_table_is_a_table() {
    for read_path in [ReadPath::Mapped, ReadPath::Cached] {
        let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
        let open = || quiet().read_path(read_path).memtable_bytes(64 << 10).open_in(folder.clone());
        let db = open().unwrap();
        let cards = db.hash("cards").unwrap();
        assert_eq!((cards.engine(), &*cards.name()), (Engine::Hash, "cards"));
        let mut model = Model::new();
        for i in 0..10_000u32 {
            let (key, value) = (key(i * 7 % 6_000), vec![i as u8; i as usize % 90]);
            cards.insert(&key, &value).unwrap();
            model.insert(key, value);
        }
        for i in 0..1_000 {
            cards.remove(&key(i)).unwrap();
            model.remove(&key(i));
        }
        assert_eq!(read(cards.iter()), model);
        let mut backwards: Vec<_> = cards.iter().rev().map(|entry| entry.unwrap().0).collect();
        backwards.reverse();
        let forwards: Vec<_> = cards.iter().map(|entry| entry.unwrap().0).collect();
        assert_eq!(forwards, backwards);
        let then = db.snapshot();
        let mut batch = db.batch();
        batch.insert(&cards, key(5_000), "new").remove(&cards, key(5_001));
        batch.commit(Durability::PowerLoss).unwrap();
        db.maintain().unwrap();
        assert_eq!(read(cards.at(&then).iter()), model);
        assert_eq!(
            cards.at(&then).get(&key(5_001)).unwrap().as_deref(),
            model.get(&key(5_001)).map(|v| &v[..])
        );
        drop(then);
        model.insert(key(5_000), b"new".to_vec());
        model.remove(&key(5_001));
        drop((cards, db));
        let db = open().unwrap();
        let cards = db.hash("cards").unwrap();
        assert_eq!(read(cards.iter()), model);
        let keys: Vec<Vec<u8>> = (0..6_100).map(key).collect();
        let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let values = cards.get_many(&asked).unwrap();
        for (key, value) in keys.iter().zip(values) {
            assert_eq!(value.as_deref(), model.get(key).map(|value| &value[..]));
            assert_eq!(cards.contains(key).unwrap(), model.contains_key(key));
            let read = cards.get_with(key, |value| value.to_vec()).unwrap();
            assert_eq!(read.as_ref(), model.get(key));
        }
        db.verify().unwrap();
    }
}

#[test]
fn batches_and_snapshots_span_engines() {
    let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let db = quiet().open_in(folder.clone()).unwrap();
    let (events, cards) = (db.lsm("events").unwrap(), db.hash("cards").unwrap());
    let mut batch = db.batch();
    batch.insert(&events, "k", "1").insert(&cards, "k", "1");
    batch.commit(Durability::PowerLoss).unwrap();
    let then = db.snapshot();
    let mut batch = db.batch();
    batch.insert(&events, "k", "2").insert(&cards, "k", "2");
    batch.commit(Durability::PowerLoss).unwrap();
    let tables: [&dyn Table; 2] = [&events, &cards];
    for table in tables {
        assert_eq!(table.at(&then).get(b"k").unwrap().unwrap(), b"1");
        assert_eq!(table.get(b"k").unwrap().unwrap(), b"2");
    }
    let copy: Arc<dyn Folder> = Arc::new(MemFolder::default());
    cards.flush().unwrap();
    cards.insert(b"in memory", b"3").unwrap();
    db.backup_in(&copy).unwrap();
    drop((events, cards, db));
    for folder in [folder, copy] {
        let db = quiet().open_in(folder).unwrap();
        let engines: Vec<_> = db.tables().into_iter().map(|(_, engine)| engine).collect();
        assert_eq!(engines, [Engine::Hash, Engine::Lsm]);
        assert_eq!(db.table("cards").unwrap().get(b"k").unwrap().unwrap(), b"2");
        assert_eq!(db.table("cards").unwrap().get(b"in memory").unwrap().unwrap(), b"3");
        assert_eq!(kind(db.lsm("cards")), Some(ErrorKind::Misuse));
        assert_eq!(kind(db.hash("events")), Some(ErrorKind::Misuse));
    }
}

#[test]
fn transactions_see_their_own_writes_in_it() {
    let db = Db::in_memory().unwrap();
    let cards = db.hash("cards").unwrap();
    let mut model = Model::new();
    for i in 0..500 {
        cards.insert(&key(i), b"old").unwrap();
        model.insert(key(i), b"old".to_vec());
    }
    cards.flush().unwrap();
    let mut tx = db.transaction();
    for i in (0..700).step_by(7) {
        tx.insert(&cards, key(i), "new").unwrap();
        model.insert(key(i), b"new".to_vec());
        tx.remove(&cards, key(i + 1)).unwrap();
        model.remove(&key(i + 1));
    }
    assert_eq!(read(tx.iter(&cards)), model);
    assert_eq!(read(tx.untracked(&cards).iter()), model);
    assert_eq!(tx.iter(&cards).rev().count(), model.len());
    assert_eq!(kind(tx.untracked(&cards).first()), Some(ErrorKind::Misuse));
    // A step of an iterator may have passed over any key.
    let mut other = db.transaction();
    other.iter(&cards).next().unwrap().unwrap();
    other.insert(&cards, b"other", b"").unwrap();
    tx.commit(Durability::Process).unwrap();
    assert_eq!(kind(other.commit(Durability::Process)), Some(ErrorKind::Conflict));
    assert_eq!(read(cards.iter()), model);
}

/// There is no order of keys, and who asks for it is told.
#[test]
fn what_needs_an_order_is_misuse() {
    let db = Db::in_memory().unwrap();
    let cards = db.hash("cards").unwrap();
    cards.insert(b"k", b"v").unwrap();
    let then = db.snapshot();
    let at = cards.at(&then);
    let misuse = Some(ErrorKind::Misuse);
    assert_eq!(kind(at.first()), misuse);
    assert_eq!(kind(at.last()), misuse);
    assert_eq!(kind(at.nearest(b"k", Side::After)), misuse);
    assert_eq!(kind(at.range("a".."z").next().unwrap()), misuse);
    assert_eq!(kind(at.prefix(b"k").next_back().unwrap()), misuse);
    assert_eq!(at.iter().count(), 1);
}

/// Unlike an ordered table's, in any order; the last of equal keys counts.
#[test]
fn ingests_come_in_any_order() {
    let db = Db::in_memory().unwrap();
    let options = HashOptions::new().compression(Compression::Lz4).file_bytes(1 << 20);
    let cards = db.hash_with("cards", &options).unwrap();
    cards.insert(&key(1), b"old").unwrap();
    cards.insert(&key(1_000_000), b"kept").unwrap();
    let entry = |i: u32| (key(i * 7919 % 30_000), vec![i as u8; 100 + i as usize % 1_500]);
    let mut entries = (0..31_000).map(entry).map(|(key, value)| Ok((key.into(), value.into())));
    assert_eq!(cards.ingest(&mut entries).unwrap(), 30_000);
    let mut model: Model = (0..31_000).map(entry).collect();
    model.insert(key(1_000_000), b"kept".to_vec());
    assert_eq!(read(cards.iter()), model);
    cards.verify().unwrap();
    let too_long = Ok((Bytes::from(vec![0; 20_000]), Bytes::new()));
    assert_eq!(kind(cards.ingest(&mut [too_long].into_iter())), Some(ErrorKind::Limit));
    assert_eq!(read(cards.iter()), model);
}

#[test]
fn dropped_hash_tables_leave_nothing() {
    let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let db = quiet().open_in(folder.clone()).unwrap();
    let cards = db.hash("cards").unwrap();
    cards.insert(b"k", b"v").unwrap();
    cards.flush().unwrap();
    let files = || folder.list().unwrap().iter().filter(|name| name.ends_with(".hash")).count();
    assert_eq!(files(), 1);
    db.drop_table("cards").unwrap();
    assert_eq!(kind(cards.get(b"k")), Some(ErrorKind::NotFound));
    drop(cards);
    db.maintain().unwrap();
    assert_eq!(files(), 0);
}

#[test]
fn a_table_of_its_own_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    Hash::open(dir.path()).unwrap().insert(b"k", b"v").unwrap();
    assert_eq!(Hash::open(dir.path()).unwrap().get(b"k").unwrap().unwrap(), b"v");
}

/// "With 4 more than this writers are slowed, and with twice as many they wait (with fewer than 6:
/// with 6 more), so there are never many more."
#[test]
fn runs_stay_few_however_fast_somebody_writes() {
    const KEYS: u32 = 40_000;
    for (runs, most) in [(8, 16), (2, 8)] {
        let builder = Db::builder().threads(1).sync_interval(None).memtable_bytes(32 << 10);
        let db = builder.open_in(Arc::new(MemFolder::default())).unwrap();
        let options = HashOptions::new().runs(runs).file_bytes(256 << 10);
        let table = db.hash_with("table", &options).unwrap();
        let mut seen = 0;
        for i in 0..3 * KEYS {
            table.insert(&(i % KEYS).to_be_bytes(), &i.to_be_bytes().repeat(25)).unwrap();
            match i % 5000 {
                17 => table.flush().unwrap(),
                3000 => {
                    let entry = |key: u32| {
                        let key = Bytes::copy_from_slice(&key.to_be_bytes());
                        Ok((key, Bytes::from_static(b"loaded")))
                    };
                    table.ingest(&mut (KEYS + i..KEYS + i + 10).map(entry)).unwrap();
                }
                _ => {}
            }
            if i % 100 == 0 {
                seen = seen.max(table.stats().levels.len());
            }
        }
        // Two memtables may have been full when writers began to wait, and a load may have been
        // under way.
        assert!(seen > runs as usize && seen <= most + 3, "{seen} runs of {runs}");
        for i in 0..KEYS {
            let value = table.get(&i.to_be_bytes()).unwrap().unwrap();
            assert_eq!(&value[..4], (i + 2 * KEYS).to_be_bytes());
        }
        db.maintain().unwrap();
        assert!(table.stats().levels.len() <= runs as usize);
    }
}

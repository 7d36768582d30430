//! B+trees through the database: what the documentation says of them.

use super::{kind, quiet};
use bytes::Bytes;
use std::{ops::Bound, sync::Arc};
use tonearm::{
    Btree, BtreeOptions, Db, Durability, Engine, ErrorKind, OrderedTable, ReadPath, Table,
    vfs::{Folder, mem::MemFolder},
};

fn key(i: u32) -> Vec<u8> {
    format!("song {i:06}").into_bytes()
}

#[test]
fn a_tree_is_an_ordered_table() {
    for read_path in [ReadPath::Mapped, ReadPath::Cached] {
        let dir = tempfile::tempdir().unwrap();
        let open = || quiet().read_path(read_path).memtable_bytes(64 << 10).open(dir.path());
        let db = open().unwrap();
        let songs = db.btree("songs").unwrap();
        assert_eq!((songs.engine(), &*songs.name()), (Engine::Btree, "songs"));
        assert_eq!(kind(db.lsm("songs").map(drop)), Some(ErrorKind::Misuse));
        for i in 0..5_000 {
            songs.insert(&key(i * 7 % 5_000), &[i as u8; 50]).unwrap();
        }
        let then = db.snapshot();
        songs.delete_range(key(1_000)..key(2_000)).unwrap();
        let mut batch = db.batch();
        batch.insert(&songs, key(9_999), "new").insert(&db.lsm("log").unwrap(), "new", "song");
        batch.commit(Durability::PowerLoss).unwrap();
        db.flush().unwrap();
        assert_eq!(songs.iter().count(), 4_001);
        assert_eq!(songs.at(&then).iter().count(), 5_000);
        assert_eq!(songs.last().unwrap().unwrap().1, b"new"[..]);
        let first = songs.range_between(Bound::Excluded(&key(999)), Bound::Unbounded).next();
        assert_eq!(first.unwrap().unwrap().0, key(2_000)[..]);
        let wanted = [key(5), key(1_500), key(2_500)];
        let wanted: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
        let found = songs.get_many(&wanted).unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        db.verify().unwrap();
        let tree = songs.stats().tree.unwrap();
        assert!(tree.height >= 2 && tree.leaves > 10 && tree.pages_written > tree.leaves);
        drop((then, songs));
        db.close().unwrap();
        let db = open().unwrap();
        assert_eq!(db.btree("songs").unwrap().iter().count(), 4_001);
    }
}

#[test]
fn a_tree_opens_alone() {
    let dir = tempfile::tempdir().unwrap();
    let songs = Btree::open(dir.path()).unwrap();
    let sorted = (0..3_000).map(|i| Ok((Bytes::from(key(i)), Bytes::from_static(b"text"))));
    assert_eq!(songs.ingest(&mut sorted.into_iter()).unwrap(), 3_000);
    assert_eq!(songs.iter().rev().count(), 3_000);
    drop(songs);
    assert!(Btree::open(dir.path()).unwrap().contains(&key(17)).unwrap());
}

/// Pages that a snapshot needs stay as they are after its database is closed and opened again.
#[test]
fn snapshots_outlive_their_database() {
    let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let open = || quiet().open_in(folder.clone()).unwrap();
    let db = open();
    let options = BtreeOptions::new().page_bytes(256);
    let table = db.btree_with("table", &options).unwrap();
    (0..500).for_each(|i| table.insert(&key(i), b"old").unwrap());
    table.flush().unwrap();
    let old = table.at(&db.snapshot());
    drop(table);
    db.close().unwrap();
    let db: Db = open();
    let table = db.btree("table").unwrap();
    for round in 0..5u8 {
        (0..500).for_each(|i| table.insert(&key(i), &[round; 9]).unwrap());
        table.flush().unwrap();
    }
    assert!(old.iter().all(|entry| entry.unwrap().1 == b"old"[..]));
    drop(old);
    db.verify().unwrap();
}

/// Who reads beside the writer keeps reading what it opened.
#[test]
fn readers_beside_a_writer_see_what_they_opened() {
    let dir = tempfile::tempdir().unwrap();
    let db = quiet().open(dir.path()).unwrap();
    let table = db.btree_with("table", &BtreeOptions::new().page_bytes(512)).unwrap();
    (0..2_000).for_each(|i| table.insert(&key(i), b"old").unwrap());
    table.flush().unwrap();
    let reader = Db::builder().open_read_only(dir.path()).unwrap();
    for round in 0..5u8 {
        (0..2_000).for_each(|i| table.insert(&key(i), &[round; 9]).unwrap());
        table.flush().unwrap();
    }
    let read = reader.btree("table").unwrap();
    assert!(read.iter().all(|entry| entry.unwrap().1 == b"old"[..]));
    reader.verify().unwrap();
    drop((read, reader));
    db.verify().unwrap();
}

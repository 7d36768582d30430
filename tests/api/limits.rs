//! Limits: each is an error of its own kind, and nothing is lost or half done.

use super::{kind, quiet};
use bytes::Bytes;
use std::ops::Bound;
use tonearm::{Db, ErrorKind, OrderedTable, Side, Table};

const MAX_KEY: usize = 16 << 10;
const MAX_VALUE: usize = 256 << 20;
const LIMIT: Option<ErrorKind> = Some(ErrorKind::Limit);

#[test]
fn keys() {
    let db = quiet().open_in_memory().unwrap();
    let table = db.lsm("table").unwrap();
    let longest = vec![0xff; MAX_KEY];
    let over = vec![0xff; MAX_KEY + 1];
    table.insert(&longest, b"longest").unwrap();
    table.insert(b"", b"empty").unwrap();
    let check = || {
        assert_eq!(table.get(&longest).unwrap().unwrap(), b"longest");
        assert_eq!(table.get(b"").unwrap().unwrap(), b"empty");
        assert_eq!(table.iter().count(), 2);
        // Keys that no table can hold may be asked for.
        assert_eq!(table.get(&over).unwrap(), None);
        assert_eq!(table.nearest(&over, Side::AtOrBefore).unwrap().unwrap().0, longest);
        assert_eq!(table.nearest(&longest, Side::After).unwrap(), None);
        assert_eq!(table.range(over.clone()..).count(), 0);
        assert_eq!(table.prefix(&over).count(), 0);
    };
    check();
    assert_eq!(kind(table.insert(&over, b"")), LIMIT);
    assert_eq!(kind(table.remove(&over)), LIMIT);
    let mut batch = db.batch();
    batch.insert(&table, "lost", "lost").insert(&table, &over, "").insert(&table, "lost", "again");
    assert_eq!(kind(batch.commit_default()), LIMIT);
    let mut entries = [Ok((Bytes::from(over.clone()), Bytes::new()))].into_iter();
    assert_eq!(kind(table.ingest(&mut entries)), LIMIT);
    check();
    table.flush().unwrap();
    check();
    // A range may begin just above the longest key.
    table.delete_between(Bound::Excluded(&longest), Bound::Unbounded).unwrap();
    table.delete_between(Bound::Unbounded, Bound::Excluded(b"")).unwrap();
    table.flush().unwrap();
    check();
    table.delete_between(Bound::Included(&longest), Bound::Included(&longest)).unwrap();
    table.flush().unwrap();
    assert_eq!(table.iter().count(), 1);
}

#[test]
fn values_and_batches() {
    let db = quiet().open_in_memory().unwrap();
    let table = db.lsm("table").unwrap();
    let over = vec![0; MAX_VALUE + 1];
    assert_eq!(kind(table.insert(b"k", &over)), LIMIT);
    let mut batch = db.batch();
    batch.insert(&table, "first", "1").insert(&table, "k", &over);
    assert_eq!(kind(batch.commit_default()), LIMIT);
    // The second longest value is one too many for a batch, and then nothing is written.
    let mut batch = db.batch();
    batch.insert(&table, "first", &over[1..]).insert(&table, "second", &over[1..]);
    assert_eq!(kind(batch.commit_default()), LIMIT);
    assert!(table.iter().next().is_none());
    table.insert(b"k", b"fits").unwrap();
    assert_eq!(db.stats().sequence, 1);
}

#[test]
fn names() {
    let db = Db::in_memory().unwrap();
    let longest = "\u{e9}".repeat(127) + "x";
    db.lsm(&longest).unwrap();
    assert_eq!(kind(db.lsm(&(longest.clone() + "y"))), LIMIT);
    assert_eq!(kind(db.lsm("")), LIMIT);
    assert_eq!(kind(db.rename_table(&longest, "")), LIMIT);
    assert_eq!(db.tables().len(), 1);
    assert_eq!(&*db.tables()[0].0, longest);
}

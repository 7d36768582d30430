//! What one transaction sees and does.

use crate::{keys, still, tens};
use std::ops::Bound;
use tonearm::{Db, Durability, ErrorKind, OrderedTable, Side, Table, Transaction};

#[test]
fn it_sees_one_snapshot_and_its_own_writes() {
    let db = still();
    let (a, b) = (tens(&db, "a"), tens(&db, "b"));
    let mut tx = db.transaction();
    a.insert(&[10], b"later").unwrap();
    b.insert(&[11], b"later").unwrap();
    assert_eq!(tx.get(&a, [10]).unwrap().unwrap(), [10]);
    assert!(!tx.contains(&b, [11]).unwrap());
    tx.insert(&a, [20], b"own").unwrap();
    tx.remove(&a, [30]).unwrap();
    assert_eq!(tx.get(&a, [20]).unwrap().unwrap(), b"own");
    assert_eq!(tx.get_with(&a, [20], <[u8]>::len).unwrap(), Some(3));
    assert_eq!(tx.get(&a, [30]).unwrap(), None);
    let many = tx.get_many(&a, &[&[10], &[20], &[30], &[35], &[40]]).unwrap();
    let many: Vec<_> = many.iter().map(|value| value.as_deref()).collect();
    assert_eq!(many, [Some(&[10][..]), Some(b"own"), None, None, Some(&[40])]);
    assert_eq!(a.get(&[20]).unwrap().unwrap(), [20], "others see what is committed");
    drop(tx);
    assert_eq!(a.get(&[20]).unwrap().unwrap(), [20], "it never happened");
}

#[test]
fn iterators_merge_pending_writes() {
    let db = still();
    let a = tens(&db, "a");
    let mut tx = db.transaction();
    tx.insert(&a, [25], b"new").unwrap();
    tx.remove(&a, [40]).unwrap();
    tx.delete_range(&a, [60]..[80]).unwrap();
    tx.insert(&a, [65], b"in the hole").unwrap();
    let left = [10, 20, 25, 30, 50, 65, 80, 90];
    assert_eq!(keys(tx.iter(&a)), left);
    assert!(tx.iter(&a).rev().map(|entry| entry.unwrap().0[0]).eq(left.into_iter().rev()));
    assert_eq!(keys(tx.range(&a, [25]..=[65])), [25, 30, 50, 65]);
    let between = tx.range_between(&a, Bound::Excluded(&[25]), Bound::Unbounded);
    assert_eq!(keys(between), left[3..]);
    assert_eq!(keys(tx.prefix(&a, [65])), [65]);
    let key = |found: tonearm::Result<Option<(tonearm::Value, tonearm::Value)>>| {
        found.unwrap().map(|(key, _)| key[0])
    };
    assert_eq!(key(tx.first(&a)), Some(10));
    assert_eq!(key(tx.last(&a)), Some(90));
    assert_eq!(key(tx.nearest(&a, [40], Side::AtOrAfter)), Some(50));
    assert_eq!(key(tx.nearest(&a, [40], Side::AtOrBefore)), Some(30));
    assert_eq!(key(tx.nearest(&a, [80], Side::Before)), Some(65));
    assert_eq!(key(tx.nearest(&a, [90], Side::After)), None);
    assert_eq!(keys(tx.untracked(&a).iter()), left);
    tx.delete_prefix(&a, b"").unwrap();
    assert_eq!(keys(tx.iter(&a)), [0; 0]);
    assert_eq!(keys(a.iter()).len(), 9);
    tx.insert(&a, [1], b"one").unwrap();
    tx.commit(Durability::Process).unwrap();
    assert_eq!(keys(a.iter()), [1]);
}

#[test]
fn a_loop_over_a_range_may_write() {
    let db = still();
    let a = tens(&db, "a");
    db.transact(|tx| {
        for entry in tx.range::<_, &[u8]>(&a, ..) {
            let (key, _) = entry?;
            tx.insert(&a, [key[0] + 1], b"next")?;
            if key[0] % 20 == 0 {
                tx.remove(&a, key)?;
            }
        }
        Ok(())
    })
    .unwrap();
    let left = [10, 11, 21, 30, 31, 41, 50, 51, 61, 70, 71, 81, 90, 91];
    assert_eq!(keys(a.iter()), left, "the loop saw none of its own writes");
}

#[test]
fn iterators_outlive_their_transaction() {
    let db = still();
    let a = tens(&db, "a");
    let mut tx = db.transaction();
    tx.insert(&a, [15], b"own").unwrap();
    let mut entries = tx.iter(&a);
    assert_eq!(entries.next().unwrap().unwrap().0[0], 10);
    tx.commit_default().unwrap();
    a.insert(&[16], b"later").unwrap();
    assert_eq!(keys(entries), [15, 20, 30, 40, 50, 60, 70, 80, 90]);
}

#[test]
fn transactions_can_be_sent_and_shared() {
    fn is_send_and_sync<T: Send + Sync + 'static>() {}
    is_send_and_sync::<Transaction>();
}

#[test]
fn tables_behind_traits_will_do() {
    let db = still();
    let a = tens(&db, "a");
    let (table, ordered): (&dyn Table, &dyn OrderedTable) = (&a, &a);
    let mut tx = db.transaction();
    tx.insert(table, [15], b"own").unwrap();
    tx.remove(ordered, [10]).unwrap();
    assert_eq!(keys(tx.iter(table))[..2], [15, 20]);
    assert_eq!(keys(tx.range(ordered, [20]..[40])), [20, 30]);
    assert!(tx.contains(table, [15]).unwrap());
    tx.commit_default().unwrap();
    assert_eq!(a.first().unwrap().unwrap().0[0], 15);
}

#[test]
fn commits_are_durable_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder().threads(0).open(dir.path()).unwrap();
    let a = db.lsm("a").unwrap();
    let before = db.stats().log_syncs;
    let mut tx = db.transaction();
    tx.insert(&a, b"key", b"value").unwrap();
    tx.commit(Durability::Process).unwrap();
    assert_eq!(db.stats().log_syncs, before);
    let mut tx = db.transaction();
    tx.insert(&a, b"other", b"value").unwrap();
    tx.commit(Durability::PowerLoss).unwrap();
    assert_eq!(db.stats().log_syncs, before + 1);
    drop((a, db));
    let db = Db::builder().threads(0).open(dir.path()).unwrap();
    assert_eq!(db.lsm("a").unwrap().iter().count(), 2);
}

#[test]
fn a_commit_is_one_record() {
    let db = still();
    let (a, b) = (tens(&db, "a"), tens(&db, "b"));
    let records = db.stats().log_records;
    let sequence = db.stats().sequence;
    let mut tx = db.transaction();
    assert_eq!(tx.sequence(), sequence);
    for round in 0..5 {
        tx.insert(&a, [1], [round]).unwrap();
        tx.insert(&b, [1], [round]).unwrap();
    }
    tx.commit_default().unwrap();
    assert_eq!(db.stats().log_records, records + 1);
    assert_eq!(db.stats().sequence, sequence + 2, "what it overwrote itself is not written");
}

#[test]
fn savepoints_undo_what_came_after() {
    let db = still();
    let (a, b) = (tens(&db, "a"), tens(&db, "b"));
    let mut tx = db.transaction();
    tx.insert(&a, [1], b"first").unwrap();
    let one = tx.savepoint();
    tx.insert(&a, [1], b"second").unwrap();
    tx.delete_range(&a, [1]..[50]).unwrap();
    tx.insert(&b, [1], b"b").unwrap();
    let two = tx.savepoint();
    tx.insert(&a, [10], b"again").unwrap();
    tx.remove(&b, [10]).unwrap();
    tx.delete_range(&a, [60]..).unwrap();
    assert_eq!(keys(tx.iter(&a)), [10, 50]);
    tx.rollback_to(&two).unwrap();
    assert_eq!(keys(tx.iter(&a)), [50, 60, 70, 80, 90]);
    assert_eq!(keys(tx.iter(&b))[..2], [1, 10]);
    tx.remove(&a, [50]).unwrap();
    tx.rollback_to(&two).unwrap();
    assert_eq!(tx.first(&a).unwrap().unwrap().0[0], 50);
    tx.rollback_to(&one).unwrap();
    assert_eq!(tx.get(&a, [1]).unwrap().unwrap(), b"first");
    assert_eq!(keys(tx.iter(&b)).len(), 9);
    let refused = tx.rollback_to(&two).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misuse);
    let mut other = db.transaction();
    assert_eq!(other.rollback_to(&one).unwrap_err().kind(), ErrorKind::Misuse);
    let own = other.savepoint();
    assert_ne!(own, one);
    tx.commit_default().unwrap();
    assert_eq!(keys(a.iter())[..3], [1, 10, 20]);
    assert_eq!(keys(b.iter())[..2], [10, 20]);
}

#[test]
fn rolled_back_to_nothing_is_nothing() {
    let db = still();
    let a = tens(&db, "a");
    let sequence = db.stats().sequence;
    let mut tx = db.transaction();
    let start = tx.savepoint();
    tx.insert(&a, [1], b"one").unwrap();
    let entries = tx.iter(&a);
    tx.rollback_to(&start).unwrap();
    assert_eq!(keys(entries)[0], 1, "an iterator keeps what it saw");
    tx.commit_default().unwrap();
    assert_eq!(db.stats().sequence, sequence);
}

#[test]
fn misuse_is_told() {
    let (db, other) = (still(), still());
    let (a, foreign) = (tens(&db, "a"), tens(&other, "a"));
    let mut tx = db.transaction();
    let misuse = |error: tonearm::Error| assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    misuse(tx.get(&foreign, [10]).unwrap_err());
    misuse(tx.insert(&foreign, [10], b"").unwrap_err());
    misuse(tx.iter(&foreign).next().unwrap().unwrap_err());
    misuse(tx.untracked(&foreign).get(&[10]).unwrap_err());
    let long = vec![0; 20 << 10];
    assert_eq!(tx.insert(&a, &long, b"").unwrap_err().kind(), ErrorKind::Limit);
    tx.insert(&a, [1], b"goes on").unwrap();
    tx.commit_default().unwrap();
    assert!(a.contains(&[1]).unwrap());
}

#[test]
fn dropped_tables_are_not_there() {
    let db = still();
    let (a, b, c) = (tens(&db, "a"), tens(&db, "b"), tens(&db, "c"));
    let (mut reader, mut writer, mut neither) =
        (db.transaction(), db.transaction(), db.transaction());
    reader.get(&a, [10]).unwrap();
    reader.insert(&b, [1], b"").unwrap();
    writer.insert(&a, [1], b"").unwrap();
    neither.insert(&c, [1], b"").unwrap();
    db.drop_table("a").unwrap();
    assert_eq!(neither.get(&a, [10]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(neither.insert(&a, [10], b"").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(reader.commit_default().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(writer.commit_default().unwrap_err().kind(), ErrorKind::NotFound);
    neither.commit_default().unwrap();
    assert!(!b.contains(&[1]).unwrap());
}

#[test]
fn tables_made_meanwhile_are_empty_and_watched() {
    let db = still();
    let tx = db.transaction();
    let mut other = db.transaction();
    let a = tens(&db, "a");
    assert_eq!(keys(tx.iter(&a)), [0; 0]);
    assert_eq!(other.get(&a, [10]).unwrap(), None);
    other.insert(&a, [1], b"").unwrap();
    crate::conflicts(other);
    crate::commits(tx);
}

#[test]
fn a_read_only_database_can_only_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder().threads(0).open(dir.path()).unwrap();
    tens(&db, "a");
    db.sync().unwrap();
    let reader = Db::builder().open_read_only(dir.path()).unwrap();
    let a = reader.lsm("a").unwrap();
    let mut tx = reader.transaction();
    assert_eq!(tx.get(&a, [10]).unwrap().unwrap(), [10]);
    tx.insert(&a, [1], b"").unwrap();
    let refused = tx.commit_default().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misuse);
    assert!(refused.to_string().contains("reading only"), "{refused}");
    reader.transact(|tx| tx.get(&a, [10])).unwrap().unwrap();
}

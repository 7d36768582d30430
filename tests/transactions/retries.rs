//! `transact`: again after a conflict, and only then.

use crate::{still, tens};
use std::{cell::Cell, thread};
use tonearm::{Db, Durability, Error, ErrorKind, Table, TransactOptions, Transaction};

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Adds one to a counter, which somebody else changes meanwhile the first `times` times.
fn disturbed(db: &Db, options: &TransactOptions, times: u32) -> (tonearm::Result<u32>, u32) {
    let table = db.lsm("counters").unwrap();
    let tries = Cell::new(0);
    let result = db.transact_with(options, |tx: &mut Transaction| {
        tries.set(tries.get() + 1);
        tx.get(&table, b"counter")?;
        if tries.get() <= times {
            table.insert(b"counter", &tries.get().to_le_bytes())?;
        }
        tx.insert(&table, b"done", b"")?;
        Ok(tries.get())
    });
    (result, tries.get())
}

#[test]
fn conflicts_are_retried_up_to_a_bound() {
    let options = TransactOptions::new().retries(3);
    for times in 0..=3 {
        let (result, tries) = disturbed(&still(), &options, times);
        assert_eq!((result.unwrap(), tries), (times + 1, times + 1));
    }
    let db = still();
    let (result, tries) = disturbed(&db, &options, 4);
    assert_eq!((result.unwrap_err().kind(), tries), (ErrorKind::Conflict, 4));
    assert!(!db.lsm("counters").unwrap().contains(b"done").unwrap());
    let (result, tries) = disturbed(&db, &TransactOptions::new().retries(0), 1);
    assert_eq!((result.unwrap_err().kind(), tries), (ErrorKind::Conflict, 1));
}

#[test]
fn an_error_of_the_closure_ends_it() {
    let db = still();
    let table = tens(&db, "table");
    let tries = Cell::new(0);
    let result: Result<(), Error> = db.transact(|tx| {
        tries.set(tries.get() + 1);
        tx.insert(&table, [1], b"")?;
        tx.insert(&table, vec![0; 100_000], b"")
    });
    assert_eq!((result.unwrap_err().kind(), tries.get()), (ErrorKind::Limit, 1));
    assert!(!table.contains(&[1]).unwrap());
    assert_eq!(db.stats().transactions, 0);
}

#[test]
fn the_durability_is_the_callers() {
    let db = still();
    let table = tens(&db, "table");
    let syncs = db.stats().log_syncs;
    db.transact(|tx| tx.insert(&table, [1], b"")).unwrap();
    assert_eq!(db.stats().log_syncs, syncs);
    let options = TransactOptions::new().durability(Durability::PowerLoss);
    db.transact_with(&options, |tx| tx.insert(&table, [1], b"")).unwrap();
    assert_eq!(db.stats().log_syncs, syncs + 1);
}

#[test]
fn no_count_is_lost() {
    let db = Db::in_memory().unwrap();
    let counters = db.lsm("counters").unwrap();
    let options = TransactOptions::new().retries(10_000);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let add = |tx: &mut Transaction| {
                        let old = tx.get_with(&counters, b"plays", number)?.unwrap_or(0);
                        tx.insert(&counters, b"plays", (old + 1).to_le_bytes())
                    };
                    db.transact_with(&options, add).unwrap();
                }
            });
        }
    });
    assert_eq!(counters.get_with(b"plays", number).unwrap(), Some(1200));
}

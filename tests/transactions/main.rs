//! Transactions: what they see, what they may not overlook, and that whatever runs at the same time
//! might have run one after the other.

mod basics;
mod beside;
mod conflicts;
mod retries;

use tonearm::{Db, Entries, ErrorKind, Lsm, LsmOptions, Transaction};

/// A database in memory that does background work only when told to.
fn still() -> Db {
    Db::builder().threads(0).open_in_memory().unwrap()
}

/// A database in memory whose memtables are full at once.
fn tiny() -> tonearm::Builder {
    Db::builder().threads(0).memory(1 << 20).memtable_bytes(16 << 10)
}

fn tiny_options() -> LsmOptions {
    LsmOptions::new().block_bytes(512).file_bytes(16 << 10).base_bytes(32 << 10).growth(3)
}

/// A table with keys 10, 20 .. 90, each its own value, half of them in files.
fn tens(db: &Db, name: &str) -> Lsm {
    use tonearm::Table;
    let table = db.lsm(name).unwrap();
    for ten in 1..10_u8 {
        table.insert(&[ten * 10], &[ten * 10]).unwrap();
        if ten == 5 {
            table.flush().unwrap();
        }
    }
    table
}

/// The first bytes of an iterator's keys.
fn keys(entries: Entries) -> Vec<u8> {
    entries.map(|entry| entry.unwrap().0[0]).collect()
}

#[track_caller]
fn conflicts(tx: Transaction) {
    let error = tx.commit_default().expect_err("a conflict was overlooked");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.is_retryable());
}

#[track_caller]
fn commits(tx: Transaction) {
    tx.commit_default().expect("there is no conflict");
}

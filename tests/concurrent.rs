//! Many threads on real files: a snapshot is one instant, a batch is one step, whoever writes,
//! reads, flushes, merges, creates and drops meanwhile.
//!
//! The invariant is that of a bank: batches move amounts between accounts of tables of all engines,
//! so the sum over all never changes. Whoever sees half a batch sees another sum.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tonearm::{
    BtreeOptions, Db, Durability, Entries, ErrorKind, HashOptions, LsmOptions, OrderedTable, Table,
    Value,
};

const ACCOUNTS: u64 = 200;
const OPENING: u64 = 1000;

fn seconds() -> Duration {
    match std::env::var("TONEARM_EFFORT").as_deref() {
        Ok("ci") => Duration::from_secs(20),
        _ => Duration::from_secs(2),
    }
}

/// Small memtables and files, so that there is much to do in the background.
fn busy_builder() -> tonearm::Builder {
    Db::builder().threads(2).memory(1 << 20).memtable_bytes(32 << 10).log_bytes(256 << 10)
}

fn busy_options() -> LsmOptions {
    LsmOptions::new().block_bytes(512).file_bytes(16 << 10).base_bytes(32 << 10).growth(3)
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn sum(entries: Entries) -> u64 {
    entries.map(|entry| number(&entry.unwrap().1)).sum()
}

/// Tables of all engines.
const TABLES: [&str; 4] = ["left", "right", "tree", "cards"];

/// Tables whose balances add up to the same for ever.
#[derive(Clone)]
struct Bank {
    db: Db,
    tables: Vec<Arc<dyn Table>>,
    /// One mover at a time, as a program without transactions has to.
    turn: Arc<std::sync::Mutex<()>>,
}

fn table_of(db: &Db, name: &str) -> Arc<dyn Table> {
    match name {
        "tree" => Arc::new(
            db.btree_with(name, &BtreeOptions::new().page_bytes(512).rewrite_ratio(2)).unwrap(),
        ),
        "cards" => {
            let options = HashOptions::new().runs(3).file_bytes(16 << 10);
            Arc::new(db.hash_with(name, &options).unwrap())
        }
        _ => Arc::new(db.lsm_with(name, &busy_options()).unwrap()),
    }
}

impl Bank {
    fn open(path: &std::path::Path) -> Self {
        let db = busy_builder().open(path).unwrap();
        let tables = TABLES.iter().map(|name| table_of(&db, name)).collect();
        let bank = Bank { db, tables, turn: Arc::default() };
        let mut batch = bank.db.batch();
        for account in 0..ACCOUNTS {
            batch.insert(bank.table(account), account.to_be_bytes(), OPENING.to_le_bytes());
        }
        batch.commit(Durability::PowerLoss).unwrap();
        bank
    }

    fn table(&self, account: u64) -> &dyn Table {
        &*self.tables[account as usize % TABLES.len()]
    }

    /// Moves some amount between two accounts, mostly of different tables.
    fn transfer(&self, chance: &mut u64) {
        let (from, to) = (next(chance) % ACCOUNTS, next(chance) % ACCOUNTS);
        if from == to {
            return;
        }
        let _turn = self.turn.lock().unwrap();
        let balance = |account: u64| {
            let found = self.table(account).get_with(&account.to_be_bytes(), number);
            found.unwrap().unwrap()
        };
        let amount = balance(from).min(next(chance) % 50);
        let padding = vec![0; next(chance) as usize % 100];
        let value = |balance: u64| [&balance.to_le_bytes()[..], &padding].concat();
        let mut batch = self.db.batch();
        batch.remove(self.table(from), from.to_be_bytes());
        batch.insert(self.table(from), from.to_be_bytes(), value(balance(from) - amount));
        batch.insert(self.table(to), to.to_be_bytes(), value(balance(to) + amount));
        batch.commit_default().unwrap();
    }

    /// Everything adds up, read in any way.
    fn audit(&self, chance: &mut u64) {
        let then = self.db.snapshot();
        let tables: Vec<_> = self.tables.iter().map(|table| table.at(&then)).collect();
        if next(chance).is_multiple_of(2) {
            thread::yield_now();
        }
        let total: u64 = tables.iter().map(|table| sum(table.iter())).sum();
        assert_eq!(total, ACCOUNTS * OPENING, "at {}", then.sequence());
        let by_key = |account: u64| {
            let table = &tables[account as usize % TABLES.len()];
            table.get_with(&account.to_be_bytes(), number).unwrap().unwrap()
        };
        assert_eq!((0..ACCOUNTS).map(by_key).sum::<u64>(), total, "by key at {}", then.sequence());
        let back: u64 = tables.iter().map(|table| table.iter().rev().count() as u64).sum();
        assert_eq!(back, ACCOUNTS);
    }
}

/// What all accounts hold together.
fn total(db: &Db) -> u64 {
    TABLES.iter().map(|name| sum(db.table(name).unwrap().iter())).sum()
}

#[test]
fn snapshots_are_one_instant() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(dir.path());
    let end = Instant::now() + seconds();
    let audits = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..3 {
            let bank = &bank;
            scope.spawn(move || {
                let mut chance = seed;
                while Instant::now() < end {
                    bank.transfer(&mut chance);
                }
            });
        }
        for seed in 10..13 {
            let (bank, audits) = (&bank, &audits);
            scope.spawn(move || {
                let mut chance = seed;
                while Instant::now() < end {
                    bank.audit(&mut chance);
                    audits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < end {
                bank.db.flush().unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
    });
    println!("{} transfers' operations, {audits:?} audits", bank.db.stats().sequence);
    assert!(audits.into_inner() > 0);
    bank.db.verify().unwrap();
    drop(bank);
    let again = busy_builder().open(dir.path()).unwrap();
    assert_eq!(total(&again), ACCOUNTS * OPENING);
}

/// A backup is a snapshot too, and writers are not held up by it.
#[test]
fn backups_and_readers_are_one_instant() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::open(&dir.path().join("bank"));
    let end = Instant::now() + seconds() / 2;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = 1;
            while Instant::now() < end {
                bank.transfer(&mut chance);
            }
        });
        scope.spawn(|| {
            for number in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let path = dir.path().join(format!("copy {number}"));
                bank.db.backup(&path).unwrap();
                let copy = busy_builder().threads(0).open(&path).unwrap();
                assert_eq!(total(&copy), ACCOUNTS * OPENING);
                copy.verify().unwrap();
            }
        });
        scope.spawn(|| {
            while Instant::now() < end {
                match Db::builder().open_read_only(dir.path().join("bank")) {
                    Ok(reader) => assert_eq!(total(&reader), ACCOUNTS * OPENING),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
                }
            }
        });
        scope.spawn(|| {
            while Instant::now() < end {
                match bank.db.verify() {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
                }
            }
        });
    });
}

/// Iterators made before a write never show it, however long they take.
#[test]
fn iterators_stay_in_their_moment() {
    let dir = tempfile::tempdir().unwrap();
    let db = busy_builder().open(dir.path()).unwrap();
    let table = db.lsm_with("table", &busy_options()).unwrap();
    let end = Instant::now() + seconds() / 2;
    let stop = AtomicBool::new(false);
    let write = |round: u64| {
        let mut batch = db.batch();
        for key in 0..100u64 {
            batch.insert(&table, key.to_be_bytes(), round.to_le_bytes());
        }
        batch.commit_default().unwrap();
    };
    write(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 1;
            while !stop.load(Ordering::Relaxed) {
                write(round);
                round += 1;
            }
        });
        while Instant::now() < end {
            let mut entries = table.iter();
            let first = number(&entries.next().unwrap().unwrap().1);
            let mut seen = 1;
            while let Some(entry) = if seen % 2 == 0 { entries.next() } else { entries.next_back() }
            {
                assert_eq!(number(&entry.unwrap().1), first, "entry {seen}");
                seen += 1;
            }
            assert_eq!(seen, 100);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Durable commits of many threads share syncs, and all of them are there after a new opening.
#[test]
fn durable_commits_share_syncs() {
    for threads in [8, 16] {
        let dir = tempfile::tempdir().unwrap();
        let db = busy_builder().open(dir.path()).unwrap();
        let table = db.lsm("table").unwrap();
        let commits = if seconds().as_secs() > 5 { 2000 } else { 100 };
        thread::scope(|scope| {
            for thread in 0..threads {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..commits {
                        let key = [thread, number].map(u32::to_be_bytes).concat();
                        table.insert_with(&key, &key, Durability::PowerLoss).unwrap();
                        assert!(table.contains(&key).unwrap());
                    }
                });
            }
        });
        let stats = db.stats();
        let all = u64::from(threads * commits);
        assert!(stats.log_records >= all && stats.log_syncs <= all, "{stats:?}");
        println!("{threads} threads: {all} commits, {} syncs", stats.log_syncs);
        drop((table, db));
        let again = Db::open(dir.path()).unwrap();
        assert_eq!(again.lsm("table").unwrap().iter().count() as u64, all);
    }
}

/// Tables come and go while others are written to; a dropped one says so.
#[test]
fn tables_come_and_go_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let db = busy_builder().open(dir.path()).unwrap();
    let end = Instant::now() + seconds() / 2;
    thread::scope(|scope| {
        for thread in 0..3u64 {
            let db = &db;
            scope.spawn(move || {
                let name = format!("mine {thread}");
                let mut written = 0u64;
                let mut rounds = 0u64;
                while Instant::now() < end {
                    let table = db.lsm_with(&name, &busy_options()).unwrap();
                    assert!(table.first().unwrap().is_none(), "a new table is empty");
                    for key in 0..500u64 {
                        table.insert(&key.to_be_bytes(), &[7; 100]).unwrap();
                        written += 1;
                    }
                    assert_eq!(table.iter().count(), 500);
                    let renamed = format!("renamed {thread}");
                    db.rename_table(&name, &renamed).unwrap();
                    let then = db.snapshot();
                    let scan = table.iter();
                    db.drop_table(&renamed).unwrap();
                    assert_eq!(table.insert(b"x", b"").unwrap_err().kind(), ErrorKind::NotFound);
                    assert_eq!(scan.count(), 500, "an iterator outlives its table");
                    assert_eq!(table.at(&then).iter().count(), 500, "and so does a snapshot");
                    rounds += 1;
                }
                println!("thread {thread}: {written} writes, {rounds} tables");
            });
        }
        scope.spawn(|| {
            let shared = db.lsm("shared").unwrap();
            let mut key = 0u64;
            while Instant::now() < end {
                shared.insert(&key.to_be_bytes(), &key.to_le_bytes()).unwrap();
                key += 1;
            }
            assert_eq!(shared.iter().count() as u64, key);
        });
    });
    assert_eq!(db.tables().len(), 1);
    db.verify().unwrap();
}

/// Closing waits for background work and loses nothing; iterators and snapshots go on.
#[test]
fn closes_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0u64;
    let end = Instant::now() + seconds() / 2;
    while Instant::now() < end {
        let db = busy_builder().open(dir.path()).unwrap();
        let table = db.lsm_with("table", &busy_options()).unwrap();
        assert_eq!(table.iter().count() as u64, expected);
        let scan = table.iter();
        thread::scope(|scope| {
            for thread in 0..4 {
                let table = table.clone();
                let first = expected + thread * 300;
                scope.spawn(move || {
                    for key in first..first + 300 {
                        table.insert(&key.to_be_bytes(), &[1; 200]).unwrap();
                    }
                });
            }
        });
        drop(table);
        db.close().unwrap();
        assert_eq!(scan.count() as u64, expected);
        expected += 1200;
    }
    println!("{expected} keys");
}

/// Ingested entries appear all at once, in tables of every engine.
#[test]
fn ingests_appear_at_once() {
    for name in &TABLES[1..] {
        let dir = tempfile::tempdir().unwrap();
        let db = busy_builder().open(dir.path()).unwrap();
        ingest_beside_others(&*table_of(&db, name));
    }
}

fn ingest_beside_others(table: &dyn Table) {
    let ingested = || {
        let is_ingested = |entry: tonearm::Result<(Value, Value)>| entry.unwrap().0[..2] == *b"in";
        table.iter().map(is_ingested).filter(|is_ingested| *is_ingested).count()
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let count = ingested();
                assert!(count.is_multiple_of(1000), "{count} of an ingest");
            }
        });
        scope.spawn(|| {
            let mut key = 0u64;
            while !stop.load(Ordering::Relaxed) {
                table.insert(&[b"other", &key.to_be_bytes()[..]].concat(), &[0; 50]).unwrap();
                key += 1;
            }
        });
        for round in 0..10u32 {
            let key = |i: u32| [&b"in"[..], &round.to_be_bytes(), &i.to_be_bytes()].concat();
            let mut entries = (0..1000).map(|i| Ok((key(i).into(), bytes::Bytes::from("value"))));
            assert_eq!(table.ingest(&mut entries).unwrap(), 1000);
            assert_eq!(ingested() as u32, 1000 * (round + 1));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

//! A writing process is killed, again and again, on a real disk.
//!
//! Goal: what was acknowledged survives a killed process, with nothing but the default durability,
//! in tables of every engine; batches, transactions and bulk loads are whole, also across engines,
//! and order is kept. Method: this program starts itself as a child that writes from several
//! threads, each in its own way, and says of every write when it is done; after some milliseconds
//! the child is killed, and this process opens the database and compares. The same folder goes
//! through all rounds, so that recovery builds upon recovery.
//!
//! `TONEARM_EFFORT=ci` kills a hundred times instead of ten.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{chance::Chance, is_thorough, tell};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tonearm::{BtreeOptions, Db, Durability, HashOptions, Table, lsm::LsmOptions};

/// Tells the child where to write, and how much each writer has written.
const FOLDER: &str = "TONEARM_KILL_FOLDER";
const WRITTEN: &str = "TONEARM_KILL_WRITTEN";
/// How many keys a writer uses: few, so that most writes replace something, and a prime number, so
/// that each key meets each kind of write.
const KEYS: u64 = 293;
/// Entries of a bulk load.
const LOADED: u64 = 150;
const TABLES: u64 = 4;

/// The threads that write, each to keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// A batch over all tables.
    Batches,
    /// A transaction over all tables.
    Transactions,
    /// One put or removal in one table after the other.
    Singles,
    /// A bulk load into one table after the other.
    Loads,
}

const WRITERS: [Writer; 4] =
    [Writer::Batches, Writer::Transactions, Writer::Singles, Writer::Loads];
/// How many writes each has made.
type Counts = [u64; WRITERS.len()];

/// Small enough that a fraction of a second has flushes, merges, and new segments.
fn open(folder: &Path) -> Db {
    let options = Db::builder().memory(1 << 20).memtable_bytes(48 << 10).segment_bytes(64 << 10);
    options.sync_interval(Duration::from_millis(5)).log_bytes(256 << 10).open(folder).unwrap()
}

/// Tables of all engines, with small files, and small pages, which are soon used again.
fn tables(db: &Db) -> [Arc<dyn Table>; TABLES as usize] {
    let lsm = LsmOptions::default().block_bytes(1024).file_bytes(64 << 10);
    let lsm = lsm.base_bytes(64 << 10).merge_at(3);
    let tree = BtreeOptions::default().page_bytes(1024).deltas(2).rewrite_ratio(3);
    let hash = HashOptions::default().runs(3).file_bytes(16 << 10);
    let lending = lsm.clone().block_bytes(256).filter_bits(0).separate_values(64);
    [
        Arc::new(db.lsm_with("left", &lsm).unwrap()),
        Arc::new(db.lsm_with("right", &lending).unwrap()),
        Arc::new(db.btree_with("tree", &tree).unwrap()),
        Arc::new(db.hash_with("cards", &hash).unwrap()),
    ]
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
/// What a writer puts, and removes.
type Change = (Vec<u8>, Option<Vec<u8>>);

fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + (number % 13 * 40) as usize, number as u8);
    value
}

impl Writer {
    fn key(self, number: u64) -> Vec<u8> {
        [&[self as u8][..], &number.to_be_bytes()].concat()
    }

    /// Which tables write `number` goes to.
    fn is_to(self, table: usize, number: u64) -> bool {
        match self {
            Writer::Batches | Writer::Transactions => true,
            Writer::Singles | Writer::Loads => number % TABLES == table as u64,
        }
    }

    /// What write `number` does to each table it goes to: mostly, it puts one key and removes
    /// another.
    fn changes(self, number: u64) -> Vec<Change> {
        let put = |key: u64| (self.key(key), Some(value(number)));
        let at = |number: u64| number * 7 % KEYS;
        match self {
            Writer::Batches | Writer::Transactions => {
                vec![put(at(number)), (self.key(at(number + KEYS / 2)), None)]
            }
            Writer::Singles => {
                let turn = number / TABLES;
                let removed = (self.key(at(turn + KEYS / 2)), None);
                vec![if turn % 3 == 2 { removed } else { put(at(turn)) }]
            }
            Writer::Loads => (0..LOADED).map(put).collect(),
        }
    }

    /// What `table` holds of it after `count` writes.
    fn expected(self, table: usize, count: u64) -> Rows {
        // After so many each key has been written again.
        let window = if self == Writer::Loads { TABLES } else { 3 * TABLES * KEYS };
        let mut rows = Rows::new();
        for number in (count.saturating_sub(window)..count).filter(|n| self.is_to(table, *n)) {
            for (key, value) in self.changes(number) {
                match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
        }
        rows
    }

    /// Makes write `number`.
    fn write(self, db: &Db, tables: &[Arc<dyn Table>], number: u64) {
        let durable = number % 64 == 63;
        let durability = if durable { Durability::PowerLoss } else { Durability::Process };
        let changes = self.changes(number);
        let to = tables.iter().enumerate().filter(|(at, _)| self.is_to(*at, number));
        let to: Vec<&dyn Table> = to.map(|(_, table)| &**table).collect();
        match self {
            Writer::Batches => {
                let mut batch = db.batch();
                for table in &to {
                    for (key, value) in &changes {
                        match value {
                            Some(value) => batch.insert(*table, key, value),
                            None => batch.remove(*table, key),
                        };
                    }
                }
                batch.commit(durability).unwrap();
            }
            // A bulk load of a hash table is a conflict to whoever reads in it: it is tried again.
            Writer::Transactions => db.transact(|tx| transact(tx, &to, &changes)).unwrap(),
            Writer::Singles => match &changes[0] {
                (key, Some(value)) => to[0].insert_with(key, value, durability).unwrap(),
                (key, None) => to[0].remove(key).unwrap(),
            },
            Writer::Loads => {
                let entries = changes.into_iter().map(|(key, value)| {
                    Ok((Bytes::from(key), Bytes::from(value.unwrap_or_default())))
                });
                assert_eq!(to[0].ingest(&mut entries.into_iter()).unwrap(), LOADED);
            }
        }
    }

    /// What it does from time to time, so that homes and background work have their share.
    fn after(self, tables: &[Arc<dyn Table>], number: u64) {
        match self {
            Writer::Batches if number % 150 == 149 => {
                tables[number as usize / 150 % tables.len()].flush().unwrap();
            }
            Writer::Loads => std::thread::sleep(Duration::from_millis(3)),
            _ => {}
        }
    }
}

fn transact(
    tx: &mut tonearm::Transaction,
    to: &[&dyn Table],
    changes: &[Change],
) -> tonearm::Result<()> {
    for table in to {
        for (key, value) in changes {
            tx.get(*table, key)?;
            match value {
                Some(value) => tx.insert(*table, key, value)?,
                None => tx.remove(*table, key)?,
            }
        }
    }
    Ok(())
}

/// Not a test by itself: what the child does until it is killed.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let written = std::env::var(WRITTEN).unwrap();
    let db = open(Path::new(&folder));
    std::thread::scope(|scope| {
        for (writer, written) in WRITERS.into_iter().zip(written.split(',')) {
            let (db, first) = (db.clone(), written.parse::<u64>().unwrap());
            scope.spawn(move || write(&db, writer, first));
        }
    });
}

fn write(db: &Db, writer: Writer, first: u64) {
    let tables = tables(db);
    let mut out = std::io::stdout();
    for number in first.. {
        writer.write(db, &tables, number);
        // One call, so that no line is ever in parts.
        out.write_all(format!("ack {} {}\n", writer as u8, number + 1).as_bytes()).unwrap();
        out.flush().unwrap();
        writer.after(&tables, number);
    }
}

/// Starts a child, kills it after `life`, and says how many writes were acknowledged by then.
fn run_and_kill(folder: &Path, written: &Counts, life: Duration) -> Counts {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(WRITTEN, written.map(|count| count.to_string()).join(","))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let mut acknowledged = *written;
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let Ok(line) = line else { break };
            let mut words = line.split(' ').skip_while(|word| !word.ends_with("ack")).skip(1);
            let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
            if let (Some(writer), Some(count)) = (number(words.next()), number(words.next())) {
                acknowledged[writer as usize] = count;
            }
        }
        acknowledged
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

/// What a table holds of each writer.
fn rows(table: &dyn Table) -> [Rows; WRITERS.len()] {
    let mut rows = [const { Rows::new() }; WRITERS.len()];
    for entry in table.iter() {
        let (key, value) = entry.unwrap();
        let before = rows[usize::from(key[0])].insert(key.to_vec(), value.to_vec());
        assert!(before.is_none(), "{} shows a key twice", table.name());
    }
    rows
}

/// How many writes of `writer` there are in all tables: those that were acknowledged, or one more.
fn count(writer: Writer, found: &[Rows], acknowledged: u64, round: u64) -> u64 {
    let fits = |count: u64| -> Vec<bool> {
        let tables = found.iter().enumerate();
        tables.map(|(at, rows)| *rows == writer.expected(at, count)).collect()
    };
    let mut counts = acknowledged..=acknowledged + 1;
    counts.find(|count| !fits(*count).contains(&false)).unwrap_or_else(|| {
        let (now, next) = (fits(acknowledged), fits(acknowledged + 1));
        panic!(
            "round {round}, {writer:?}: {acknowledged} acknowledged; tables that hold those: \
             {now:?}, and one more: {next:?}"
        )
    })
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let start = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let rounds = if is_thorough() { 100 } else { 10 };
    let mut chance = Chance(11);
    let (mut known, mut lenders) = (Counts::default(), 0);
    for round in 0..rounds {
        let life = Duration::from_millis(20 + chance.below(200) as u64);
        let acknowledged = run_and_kill(folder.path(), &known, life);
        let db = open(folder.path());
        let found = tables(&db).map(|table| rows(&*table));
        lenders += tables(&db).iter().map(|table| table.stats().lenders.files).sum::<u64>();
        for (at, writer) in WRITERS.into_iter().enumerate() {
            let found: Vec<Rows> = found.iter().map(|rows| rows[at].clone()).collect();
            known[at] = count(writer, &found, acknowledged[at], round);
        }
        db.verify().unwrap();
        db.close().unwrap();
    }
    let took = start.elapsed().as_secs_f64();
    let each: Vec<_> = WRITERS.into_iter().zip(known).collect();
    tell(&format!("kill: {rounds} kills survived, {each:?}, {lenders} lenders, {took:.1} s"));
    assert!(known.iter().sum::<u64>() > rounds * 20, "the child hardly wrote: {each:?}");
    assert!(lenders > 0, "no value lies in another file than its entry");
    // A load is several syncs, which take their time on a busy disk.
    assert!(known.iter().all(|count| *count > 0), "a writer wrote nothing: {each:?}");
}

//! A writing process is killed, again and again, on a real disk.
//!
//! Goal: what was committed survives a killed process, with nothing but the default durability;
//! batches are whole, and order is kept. Method: this program starts itself as a child that writes
//! from two threads and says of every commit when it is done; after some milliseconds the child
//! is killed, and this process opens the database and compares. The same folder goes through all
//! rounds, so that recovery builds upon recovery.
//!
//! `TONEARM_EFFORT=ci` kills a hundred times instead of ten.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{chance::Chance, is_thorough, tell};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tonearm::{Btree, BtreeOptions, Db, Durability, OrderedTable, Table, lsm::LsmOptions};

/// Tells the child where to write.
const FOLDER: &str = "TONEARM_KILL_FOLDER";
/// The threads that write, each to keys of its own.
const WRITERS: u8 = 2;
/// How many keys a writer uses: few, so that most commits replace something.
const KEYS: u64 = 300;

/// Small enough that a fraction of a second has flushes, merges, and new segments.
fn open(folder: &Path) -> Db {
    let options = Db::builder().memory(1 << 20).memtable_bytes(48 << 10).segment_bytes(64 << 10);
    options.sync_interval(Duration::from_millis(5)).log_bytes(256 << 10).open(folder).unwrap()
}

fn options() -> LsmOptions {
    LsmOptions::default().block_bytes(1024).file_bytes(64 << 10).base_bytes(64 << 10).merge_at(3)
}

/// A B+tree with small pages, which are soon used again.
fn tree(db: &Db) -> Btree {
    db.btree_with("tree", &BtreeOptions::default().page_bytes(1024)).unwrap()
}

/// Commit `number` of `writer` puts the same under one key into three tables, and removes another
/// key from all.
fn keys(writer: u8, number: u64) -> (Vec<u8>, Vec<u8>) {
    let key = |number: u64| [&[writer][..], &(number * 7 % KEYS).to_be_bytes()].concat();
    (key(number), key(number + KEYS / 2))
}

fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + (number % 13 * 17) as usize, number as u8);
    value
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What `writer` has made of its keys after its commits below `count`.
fn expected(writer: u8, count: u64) -> Rows {
    let mut rows = Rows::new();
    for number in count.saturating_sub(2 * KEYS)..count {
        let (put, removed) = keys(writer, number);
        rows.insert(put, value(number));
        rows.remove(&removed);
    }
    rows
}

fn rows(db: &Db, table: &str, writer: u8) -> Rows {
    let entries = match table {
        "tree" => tree(db).prefix(&[writer]),
        _ => db.lsm_with(table, &options()).unwrap().prefix(&[writer]),
    };
    let entries = entries.map(|entry| entry.unwrap());
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// The key under which a writer counts its commits, in the same batch.
fn count_key(writer: u8) -> [u8; 2] {
    [0xff, writer]
}

fn count(db: &Db, writer: u8) -> u64 {
    let table = db.lsm_with("left", &options()).unwrap();
    let count = table.get(&count_key(writer)).unwrap();
    count.map_or(0, |count| u64::from_be_bytes(count[..].try_into().unwrap()))
}

/// Not a test by itself: what the child does until it is killed.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let db = open(Path::new(&folder));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = db.clone();
            scope.spawn(move || write(&db, writer));
        }
    });
}

fn write(db: &Db, writer: u8) {
    let left = db.lsm_with("left", &options()).unwrap();
    let right = db.lsm_with("right", &options()).unwrap();
    let tree = tree(db);
    let mut out = std::io::stdout();
    for number in count(db, writer).. {
        let (put, removed) = keys(writer, number);
        let mut batch = db.batch();
        batch.insert(&left, &put, value(number)).remove(&left, &removed);
        batch.insert(&left, count_key(writer), (number + 1).to_be_bytes());
        batch.insert(&right, &put, value(number)).remove(&right, &removed);
        batch.insert(&tree, &put, value(number)).remove(&tree, &removed);
        let durable = number % 64 == 63;
        let durability = if durable { Durability::PowerLoss } else { Durability::Process };
        batch.commit(durability).unwrap();
        // One call, so that no line is ever in parts.
        out.write_all(format!("ack {writer} {}\n", number + 1).as_bytes()).unwrap();
        out.flush().unwrap();
        if number % 500 == 499 {
            left.flush().unwrap();
        }
        if number % 150 == 149 {
            tree.flush().unwrap();
        }
    }
}

/// Starts a child, kills it after `life`, and says how many commits each writer acknowledged.
fn run_and_kill(folder: &Path, life: Duration) -> [u64; WRITERS as usize] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = [0; WRITERS as usize];
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

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let start = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let rounds = if is_thorough() { 100 } else { 10 };
    let mut chance = Chance(11);
    let mut known = [0; WRITERS as usize];
    for round in 0..rounds {
        let life = Duration::from_millis(20 + chance.below(200) as u64);
        let acknowledged = run_and_kill(folder.path(), life);
        let db = open(folder.path());
        for writer in 0..WRITERS {
            let slot = usize::from(writer);
            known[slot] = known[slot].max(acknowledged[slot]);
            let count = count(&db, writer);
            let place = format!("round {round}, writer {writer}");
            assert!(count >= known[slot], "{place}: {} acknowledged, {count} found", known[slot]);
            assert!(count <= known[slot] + 1, "{place}: {count} found, {} asked", known[slot]);
            for table in ["left", "right", "tree"] {
                let found = rows(&db, table, writer);
                assert!(found == expected(writer, count), "{place}, {table} after {count}");
            }
            known[slot] = count;
        }
        db.verify().unwrap();
        db.close().unwrap();
    }
    let commits: u64 = known.iter().sum();
    let took = start.elapsed().as_secs_f64();
    tell(&format!("kill: {rounds} kills survived, {commits} commits, {took:.1} s"));
    assert!(commits > rounds * 20, "the child hardly wrote: {commits} commits");
}

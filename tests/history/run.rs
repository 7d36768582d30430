//! Threads that make random transactions and write down what they saw.

use crate::checker::{Key, Moment, Number, Transaction};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, RwLock,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::Duration,
};
use tonearm::{Db, Entries, ErrorKind, Hash, Lsm, LsmOptions, OrderedTable, Side, Table};

/// Tables in key order: an LSM tree, a B+tree. The third is a hash table.
const ORDERED: u8 = 2;
const TABLES: u8 = 3;

/// Whether threads also load in bulk. What is committed while a load runs wins over it where both
/// write a key, so a load that meets such commits has no one place in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loads {
    None,
    /// While nobody commits.
    Between,
    /// While others commit, but to the upper half of the keys, which nobody else writes.
    Beside,
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) threads: u64,
    pub(crate) transactions: u64,
    /// Keys in each table.
    pub(crate) keys: u16,
    /// Bytes of a value, more or less.
    pub(crate) padding: usize,
    /// Some transactions sleep.
    pub(crate) slow: bool,
    /// While some transactions are open so much is written to another table that what they have to
    /// be checked against is found in memtables only.
    pub(crate) flood: bool,
    pub(crate) loads: Loads,
    pub(crate) memory: usize,
    pub(crate) workers: usize,
    pub(crate) checked: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            threads: 4,
            transactions: 200,
            keys: 12,
            padding: 20,
            slow: false,
            flood: false,
            loads: Loads::None,
            memory: 4 << 20,
            workers: 2,
            checked: true,
        }
    }
}

/// A database and the threads' instructions.
pub(crate) struct Run {
    pub(crate) db: Db,
    pub(crate) ordered: [Box<dyn OrderedTable>; ORDERED as usize],
    pub(crate) hash: Hash,
    flooded: Lsm,
    setup: Setup,
    seed: u64,
    numbers: AtomicU64,
    refused: AtomicUsize,
    history: Mutex<Vec<Transaction>>,
    /// Held by the one that loads, and, if they may not meet, by those that commit.
    loading: RwLock<()>,
    loads_begun: AtomicU64,
    loads_done: AtomicU64,
}

fn key_bytes(number: u16) -> [u8; 2] {
    number.to_be_bytes()
}

pub(crate) fn key_number(key: &[u8]) -> u16 {
    u16::from_be_bytes(key.try_into().unwrap())
}

/// The transaction that wrote a value.
pub(crate) fn version(value: &[u8]) -> Number {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

impl Run {
    pub(crate) fn new(setup: &Setup, seed: u64) -> Self {
        let builder = Db::builder().threads(setup.workers).memory(setup.memory);
        let builder = builder.memtable_bytes(16 << 10);
        let builder = if setup.checked { builder } else { builder.unchecked_transactions() };
        let db = builder.open_in_memory().unwrap();
        let options = LsmOptions::new().block_bytes(512).file_bytes(16 << 10).base_bytes(32 << 10);
        let lsm = |name: &str| db.lsm_with(name, &options).unwrap();
        Self {
            ordered: [Box::new(lsm("lsm")), Box::new(db.btree("btree").unwrap())],
            hash: db.hash("hash").unwrap(),
            flooded: lsm("flooded"),
            db,
            setup: *setup,
            seed,
            numbers: AtomicU64::new(1),
            refused: AtomicUsize::new(0),
            history: Mutex::default(),
            loading: RwLock::default(),
            loads_begun: AtomicU64::new(0),
            loads_done: AtomicU64::new(0),
        }
    }

    /// Runs all threads to their end: what was committed, and how many transactions were not.
    pub(crate) fn all(&self) -> (Vec<Transaction>, usize) {
        thread::scope(|scope| {
            for number in 0..self.setup.threads {
                scope.spawn(move || self.one_thread(self.seed * 1000 + number));
            }
        });
        (std::mem::take(&mut *self.history.lock().unwrap()), self.refused.load(Relaxed))
    }

    /// More than a mebibyte of keys.
    fn flood(&self) {
        let mut batch = self.db.batch();
        for number in 0..72_u64 {
            batch.insert(&self.flooded, [&number.to_be_bytes()[..], &[7; 16_000]].concat(), b"");
        }
        batch.commit_default().unwrap();
    }

    fn one_thread(&self, seed: u64) {
        let mut chance = Chance(seed);
        for _ in 0..self.setup.transactions {
            let number = self.numbers.fetch_add(1, Relaxed);
            if self.setup.loads != Loads::None && chance.below(8) == 0 {
                self.load(number, &mut chance);
                continue;
            }
            let mut one = One::begin(self, number, &mut chance);
            for _ in 0..1 + one.chance.below(6) {
                one.step();
            }
            let (tx, mut done) = one.end();
            if chance.below(10) == 0 {
                continue;
            }
            let apart = (self.setup.loads == Loads::Between).then(|| self.loading.read().unwrap());
            let committed = tx.commit_numbered();
            drop(apart);
            match committed {
                Ok(operation) => {
                    done.commit = Moment { operation, load: 0 };
                    self.history.lock().unwrap().push(done);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    self.refused.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

impl Run {
    /// The table of that number, if it is in key order, and in any case.
    fn table(&self, table: u8) -> (Option<&dyn OrderedTable>, &dyn Table) {
        match self.ordered.get(usize::from(table)) {
            Some(table) => (Some(&**table), &**table),
            None => (None, &self.hash),
        }
    }

    /// The keys below this one are those that transactions write.
    fn written_keys(&self) -> u16 {
        if self.setup.loads == Loads::Beside { self.setup.keys / 2 } else { self.setup.keys }
    }

    /// Loads a few keys of one table.
    fn load(&self, number: Number, chance: &mut Chance) {
        let table = chance.below(u64::from(TABLES)) as u8;
        let first = if self.setup.loads == Loads::Beside { self.written_keys() } else { 0 };
        let key =
            |chance: &mut Chance| first + chance.below(u64::from(self.setup.keys - first)) as u16;
        let keys: BTreeSet<u16> = (0..1 + chance.below(4)).map(|_| key(chance)).collect();
        let value = self.value(number, chance);
        let mut entries: Vec<_> = keys.iter().map(|key| (key_bytes(*key), value.clone())).collect();
        let (ordered, to) = self.table(table);
        if ordered.is_none() {
            entries.reverse();
        }
        let mut entries = entries
            .into_iter()
            .map(|(key, value)| Ok((Bytes::copy_from_slice(&key), Bytes::from(value))));
        let _alone = self.loading.write().unwrap();
        let load = self.loads_begun.fetch_add(1, SeqCst) + 1;
        let operation = self.db.transaction().sequence();
        to.ingest(&mut entries).unwrap();
        self.loads_done.store(load, SeqCst);
        let commit = Moment { operation, load };
        let writes = keys.into_iter().map(|key| ((table, key), true)).collect();
        let done = Transaction { number, commit, writes, ..Transaction::default() };
        self.history.lock().unwrap().push(done);
    }

    /// A value that says who wrote it.
    fn value(&self, number: Number, chance: &mut Chance) -> Vec<u8> {
        let padding = chance.below(1 + 2 * self.setup.padding as u64) as usize;
        [&number.to_le_bytes()[..], &vec![7; padding]].concat()
    }
}

/// One transaction that is being made.
struct One<'a> {
    run: &'a Run,
    tx: tonearm::Transaction,
    done: Transaction,
    chance: &'a mut Chance,
    /// To go back to, with the writes until then.
    savepoint: Option<(tonearm::Savepoint, BTreeMap<Key, bool>)>,
}

impl<'a> One<'a> {
    fn begin(run: &'a Run, number: Number, chance: &'a mut Chance) -> Self {
        let load = run.loads_done.load(SeqCst);
        let tx = run.db.transaction();
        let loads_meanwhile = run.loads_begun.load(SeqCst) - load;
        let snapshot = Moment { operation: tx.sequence(), load };
        let done = Transaction { number, snapshot, loads_meanwhile, ..Transaction::default() };
        Self { run, tx, done, chance, savepoint: None }
    }

    fn end(self) -> (tonearm::Transaction, Transaction) {
        (self.tx, self.done)
    }

    fn key(&mut self) -> Key {
        let key = self.chance.below(u64::from(self.run.setup.keys)) as u16;
        (self.chance.below(u64::from(TABLES)) as u8, key)
    }

    fn table(&self, (table, _): Key) -> &'a dyn Table {
        self.run.table(table).1
    }

    /// A key to write.
    fn key_to_write(&mut self) -> Key {
        let (table, key) = self.key();
        (table, key % self.run.written_keys())
    }

    /// A key of a table in key order, and that.
    fn ordered(&mut self) -> (Key, &'a dyn OrderedTable) {
        let key = self.chance.below(u64::from(self.run.setup.keys)) as u16;
        let table = self.chance.below(u64::from(ORDERED)) as u8;
        ((table, key), &*self.run.ordered[usize::from(table)])
    }

    fn step(&mut self) {
        match self.chance.below(16) {
            0..4 => self.get(),
            4 => self.get_many(),
            5 if self.chance.below(4) == 0 => self.whole(),
            5 | 6 => self.range(),
            7 => self.neighbour(),
            8..11 => self.put(),
            11 => self.count_on(),
            12 => self.remove(),
            13 => self.delete_range(),
            14 => self.save_or_go_back(),
            _ => self.wait(),
        }
    }

    /// Notes what was found of a key, if it was not written by itself.
    fn note(&mut self, key: Key, found: Option<Number>) {
        match self.done.writes.get(&key) {
            None => self.done.reads.push((key, found)),
            Some(true) => assert_eq!(found, Some(self.done.number), "its own write of {key:?}"),
            Some(false) => assert_eq!(found, None, "its own removal of {key:?}"),
        }
    }

    fn get(&mut self) {
        let key = self.key();
        let table = self.table(key);
        let found = self.tx.get_with(table, key_bytes(key.1), version).unwrap();
        self.note(key, found);
    }

    fn get_many(&mut self) {
        let (first, second) = (self.key(), self.key());
        let second = (first.0, second.1);
        let table = self.table(first);
        let keys = [key_bytes(first.1), key_bytes(second.1)];
        let found = self.tx.get_many(table, &[&keys[0], &keys[1]]).unwrap();
        for (key, found) in [first, second].into_iter().zip(found) {
            self.note(key, found.map(|value| version(&value)));
        }
    }

    /// Walks over a part of a range, from one end.
    fn range(&mut self) {
        let ((from, table), len) = (self.ordered(), self.chance.below(8) as u16);
        let to = (from.1 + len).min(self.run.setup.keys);
        let entries = self.tx.range(table, key_bytes(from.1)..key_bytes(to));
        let (most, back) = (self.chance.below(6) as usize, self.chance.below(2) == 0);
        self.walk(entries, most, back, (from.0, from.1, to));
    }

    /// Takes up to `most` steps, and notes all keys up to where that led.
    fn walk(
        &mut self,
        mut entries: Entries,
        most: usize,
        back: bool,
        (table, from, to): (u8, u16, u16),
    ) {
        let (mut low, mut high) = if back { (to, to) } else { (from, from) };
        let mut found = BTreeMap::new();
        for _ in 0..most {
            let next = if back { entries.next_back() } else { entries.next() };
            let Some((key, value)) = next.transpose().unwrap() else {
                (low, high) = (from, to);
                break;
            };
            let key = key_number(&key);
            found.insert(key, version(&value));
            if back { low = key } else { high = key + 1 }
        }
        for key in low..high {
            self.note((table, key), found.get(&key).copied());
        }
    }

    /// All of a table.
    fn whole(&mut self) {
        let key = self.key();
        let entries = self.tx.iter(self.table(key)).map(|entry| entry.unwrap());
        let found: BTreeMap<u16, Number> =
            entries.map(|(key, value)| (key_number(&key), version(&value))).collect();
        for at in 0..self.run.setup.keys {
            self.note((key.0, at), found.get(&at).copied());
        }
    }

    fn neighbour(&mut self) {
        let (key, table) = self.ordered();
        let (at, keys) = (key_bytes(key.1), self.run.setup.keys);
        let (found, from, to, upwards) = match self.chance.below(4) {
            0 => (self.tx.first(table), 0, keys, true),
            1 => (self.tx.last(table), 0, keys, false),
            2 => (self.tx.nearest(table, at, Side::AtOrAfter), key.1, keys, true),
            _ => (self.tx.nearest(table, at, Side::Before), 0, key.1, false),
        };
        let found = found.unwrap().map(|(key, value)| (key_number(&key), version(&value)));
        let range = match found {
            None => from..to,
            Some((near, _)) if upwards => from..near + 1,
            Some((near, _)) => near..to,
        };
        for at in range {
            let version = found.filter(|(near, _)| *near == at).map(|(_, version)| version);
            self.note((key.0, at), version);
        }
    }

    fn put(&mut self) {
        let key = self.key_to_write();
        self.write(key);
    }

    fn write(&mut self, key: Key) {
        let value = self.run.value(self.done.number, self.chance);
        self.tx.insert(self.table(key), key_bytes(key.1), value).unwrap();
        self.done.writes.insert(key, true);
    }

    /// Reads a key and writes it.
    fn count_on(&mut self) {
        let key = self.key_to_write();
        let found = self.tx.get_with(self.table(key), key_bytes(key.1), version).unwrap();
        self.note(key, found);
        self.write(key);
    }

    fn remove(&mut self) {
        let key = self.key_to_write();
        self.tx.remove(self.table(key), key_bytes(key.1)).unwrap();
        self.done.writes.insert(key, false);
    }

    fn delete_range(&mut self) {
        let (mut from, table) = self.ordered();
        let keys = self.run.written_keys();
        from.1 %= keys;
        let to = (from.1 + self.chance.below(4) as u16).min(keys);
        self.tx.delete_range(table, key_bytes(from.1)..key_bytes(to)).unwrap();
        for key in from.1..to {
            self.done.writes.insert((from.0, key), false);
        }
    }

    fn save_or_go_back(&mut self) {
        match self.savepoint.take() {
            None => self.savepoint = Some((self.tx.savepoint(), self.done.writes.clone())),
            Some((savepoint, writes)) => {
                self.tx.rollback_to(&savepoint).unwrap();
                self.done.writes = writes;
            }
        }
    }

    fn wait(&mut self) {
        if self.run.setup.slow && self.chance.below(4) == 0 {
            thread::sleep(Duration::from_millis(self.chance.below(20)));
        } else if self.run.setup.flood && self.chance.below(4) == 0 {
            self.run.flood();
        } else {
            thread::yield_now();
        }
    }
}

/// SplitMix64 (Steele et al. 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

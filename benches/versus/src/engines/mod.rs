//! The engines that can take part, and the one place that lists them.

use crate::{
    engine::{Engine, Result},
    measure::Phase,
    task::Task,
    workloads,
};

#[cfg(feature = "canopydb")]
mod canopydb;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sparkey")]
mod sparkey;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "surrealkv")]
mod surrealkv;
mod tonearm;

use self::tonearm::Tonearm;
use ::tonearm::{Btree, Hash, Lsm};

/// An engine as the command line knows it.
pub struct Entry {
    pub name: &'static str,
    pub about: &'static str,
    run: fn(&Task) -> Result<Vec<Phase>>,
}

impl Entry {
    const fn new<E: Engine>(name: &'static str, about: &'static str) -> Self {
        Self { name, about, run: workloads::run::<E> }
    }

    /// Runs one step of a workload in this process.
    pub fn run(&self, task: &Task) -> Result<Vec<Phase>> {
        (self.run)(task)
    }
}

/// All engines this program was built with.
pub const ENGINES: &[Entry] = &[
    Entry::new::<Tonearm<Lsm, false>>("tonearm", "Tonearm's LSM table, files mapped"),
    Entry::new::<Tonearm<Lsm, true>>("tonearm-cached", "the same, files read into a cache"),
    Entry::new::<Tonearm<Btree, false>>("tonearm-btree", "Tonearm's B+tree, file mapped"),
    Entry::new::<Tonearm<Btree, true>>("tonearm-btree-cached", "the same, read into a cache"),
    Entry::new::<Tonearm<Hash, false>>("tonearm-hash", "Tonearm's hash table, files mapped"),
    #[cfg(feature = "rocksdb")]
    Entry::new::<rocksdb::RocksDb<false>>("rocksdb", "RocksDB, files read into its block cache"),
    #[cfg(feature = "rocksdb")]
    Entry::new::<rocksdb::RocksDb<true>>("rocksdb-mapped", "the same, files mapped"),
    #[cfg(feature = "fjall")]
    Entry::new::<fjall::Fjall>("fjall", "Fjall, files read into its block cache"),
    #[cfg(feature = "surrealkv")]
    Entry::new::<surrealkv::Surreal>("surrealkv", "SurrealKV, files read into its block cache"),
    #[cfg(feature = "lmdb")]
    Entry::new::<lmdb::Lmdb<false>>("lmdb", "LMDB, read through its map"),
    #[cfg(feature = "lmdb")]
    Entry::new::<lmdb::Lmdb<true>>("lmdb-writemap", "the same, and written through its map"),
    #[cfg(feature = "redb")]
    Entry::new::<redb::Redb>("redb", "redb, pages read into its cache"),
    #[cfg(feature = "canopydb")]
    Entry::new::<canopydb::Canopy>("canopydb", "Canopydb, pages read into its cache"),
    #[cfg(feature = "sparkey")]
    Entry::new::<sparkey::Sparkey>("sparkey", "Sparkey, written once, files mapped"),
    #[cfg(feature = "sqlite")]
    Entry::new::<sqlite::Sqlite>("sqlite", "SQLite with a write-ahead log, file mapped"),
];

/// The engine of that name.
pub fn find(name: &str) -> Result<&'static Entry> {
    let known = ENGINES.iter().find(|entry| entry.name == name);
    known.ok_or_else(|| format!("no engine {name}: is its feature on? See `list`").into())
}

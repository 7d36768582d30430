//! The engines that can take part, and the one place that lists them.

use crate::{
    engine::{Engine, Result},
    measure::Phase,
    task::Task,
    workloads,
};

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod tonearm;

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
    Entry::new::<tonearm::Tonearm<false>>("tonearm", "Tonearm's LSM table, files mapped"),
    Entry::new::<tonearm::Tonearm<true>>("tonearm-cached", "the same, files read into a cache"),
    #[cfg(feature = "rocksdb")]
    Entry::new::<rocksdb::RocksDb<false>>("rocksdb", "RocksDB, files read into its block cache"),
    #[cfg(feature = "rocksdb")]
    Entry::new::<rocksdb::RocksDb<true>>("rocksdb-mapped", "the same, files mapped"),
    #[cfg(feature = "fjall")]
    Entry::new::<fjall::Fjall>("fjall", "Fjall, files read into its block cache"),
];

/// The engine of that name.
pub fn find(name: &str) -> Result<&'static Entry> {
    let known = ENGINES.iter().find(|entry| entry.name == name);
    known.ok_or_else(|| format!("no engine {name}: is its feature on? See `list`").into())
}

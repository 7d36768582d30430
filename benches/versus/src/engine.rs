//! What an engine has to do to take part. One implementation a file, in [`crate::engines`].

use crate::data::{Key, Pairs};
use std::path::Path;

/// Any engine's error; the harness only prints it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// A result with any engine's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How an engine is to be opened: the same for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Bytes for caches and write buffers together.
    pub memory: usize,
    /// Whether values are of 64 KiB: engines that can keep large values apart do.
    #[allow(dead_code, reason = "only some engines ask")]
    pub big_values: bool,
}

impl Setup {
    /// Bytes of one write buffer: a quarter of the memory, at most 64 MiB, as Tonearm has it.
    #[allow(dead_code, reason = "only some engines ask")]
    pub fn write_buffer(&self) -> usize {
        (self.memory / 4).min(64 << 20)
    }
}

/// An open database with one table of 16-byte keys.
///
/// Writes are to survive the death of the process, but not a power cut, unless they are durable.
/// All of it is compiled for each engine on its own, so closures are free.
pub trait Engine: Sized + Sync {
    /// What a thread reads with.
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Whether scans are in the order of keys.
    const ORDERED: bool = true;

    /// Opens the database in `dir`, which exists and is empty at first.
    fn open(dir: &Path, setup: &Setup) -> Result<Self>;

    /// Sets `key` to `value`.
    fn put(&self, key: &Key, value: &[u8]) -> Result<()>;

    /// [`Engine::put`], to survive a power cut.
    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()>;

    /// Sets all of `pairs` at once.
    fn put_batch(&self, pairs: &Pairs) -> Result<()>;

    /// [`Engine::put_batch`], to survive a power cut.
    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()>;

    /// Removes `key`.
    fn delete(&self, key: &Key) -> Result<()>;

    /// Lets `work` read the table as of now; whether it sees later writes is the engine's choice.
    /// Called once a thread where nothing is written, else for every operation.
    fn read<R>(&self, work: impl FnOnce(&mut Self::Reader<'_>) -> Result<R>) -> Result<R>;

    /// Writes out what is in memory and waits until the engine has nothing left to do by itself.
    fn settle(&self) -> Result<()>;

    /// Merges or compacts all there is, as far as the engine can be asked to.
    fn compact(&mut self) -> Result<()> {
        self.settle()
    }

    /// Opens a database of `count` tables in `dir`, made if they are not there.
    fn open_tables(_dir: &Path, _setup: &Setup, _count: usize) -> Result<Self> {
        Err("this engine does not take part in workloads of many tables".into())
    }

    /// [`Engine::put`] into table `table` of [`Engine::open_tables`].
    fn put_to(&self, _table: usize, _key: &Key, _value: &[u8]) -> Result<()> {
        Err("this engine does not take part in workloads of many tables".into())
    }

    /// Calls `found` with the value of `key` in table `table`.
    fn get_from(&self, _table: usize, _key: &Key, _found: impl FnOnce(&[u8])) -> Result<()> {
        Err("this engine does not take part in workloads of many tables".into())
    }

    /// Adds entries to the empty table in whatever way the engine has for many at once. `next`
    /// gives them, some at a time and in ascending order, until it says that there are no more.
    /// They survive a power cut when this returns, and the engine has nothing left to do.
    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        let mut pairs = Pairs::default();
        while next(&mut pairs) {
            self.put_batch(&pairs)?;
        }
        self.settle()
    }

    /// Does `work` while a snapshot is held that was taken before.
    fn hold<R>(&self, _work: impl FnOnce() -> Result<R>) -> Result<R> {
        Err("this engine does not take part in workloads with a snapshot held".into())
    }

    /// Closes the database cleanly.
    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// Reads a table, in the cheapest way that its engine's documentation knows.
pub trait Reader {
    /// Calls `found` with the value of `key`, if there is one.
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()>;

    /// Calls `found` with the index and the value of every key that has one.
    fn get_many(&mut self, keys: &[Key], mut found: impl FnMut(usize, &[u8])) -> Result<()> {
        keys.iter().enumerate().try_for_each(|(i, key)| self.get(key, |value| found(i, value)))
    }

    /// Calls `each` with up to `limit` entries in ascending order, from the first not below `from`.
    fn scan(&mut self, from: &Key, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()>;

    /// Calls `each` with up to `limit` entries in descending order, from the last.
    fn scan_back(&mut self, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()>;
}

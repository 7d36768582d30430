//! Tonearm's hash table, with its defaults but for the memory.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use std::path::Path;
use tonearm::{Db, Durability, Hash, Table};

pub struct TonearmHash {
    db: Db,
    table: Hash,
}

impl Engine for TonearmHash {
    type Reader<'a> = Reader<'a>;

    /// Scans are of all entries, in the order of hashes.
    const ORDERED: bool = false;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        // No peer syncs its log by itself.
        let db = Db::builder().memory(setup.memory).sync_interval(None).open(dir)?;
        let table = db.hash("main")?;
        Ok(Self { db, table })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table.insert(key, value)?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table.insert_with(key, value, Durability::PowerLoss)?)
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in pairs.iter() {
            batch.insert(&self.table, key, value);
        }
        Ok(batch.commit(Durability::Process)?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.table.remove(key)?)
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        work(&mut Reader(&self.table))
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.maintain()?)
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.db.snapshot();
        work()
    }

    fn close(self) -> Result<()> {
        drop(self.table);
        Ok(self.db.close()?)
    }
}

pub struct Reader<'a>(&'a Hash);

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        self.0.get_with(key, found)?;
        Ok(())
    }

    fn get_many(&mut self, keys: &[Key], mut found: impl FnMut(usize, &[u8])) -> Result<()> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        Ok(self.0.read_many(&keys, &mut found)?)
    }

    fn scan(&mut self, _: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.iter();
        for _ in 0..limit {
            let Some(entry) = entries.next_ref() else { break };
            let (key, value) = entry?;
            each(key, value);
        }
        Ok(())
    }

    fn scan_back(&mut self, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.iter();
        for _ in 0..limit {
            let Some(entry) = entries.next_back_ref() else { break };
            let (key, value) = entry?;
            each(key, value);
        }
        Ok(())
    }
}

//! Tonearm's B+tree, with its defaults but for the memory.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use std::path::Path;
use tonearm::{Btree, Db, Durability, ReadPath, Table};

/// Reads files mapped, as by default where they fit in the machine's memory, or into a cache of
/// blocks that the memory bounds.
pub struct Tonearm<const CACHED: bool> {
    db: Db,
    table: Btree,
    /// Of a database with many of them.
    tables: Vec<Btree>,
}

impl<const CACHED: bool> Tonearm<CACHED> {
    fn open_db(dir: &Path, setup: &Setup) -> Result<Db> {
        let path = if CACHED { ReadPath::Cached } else { ReadPath::Auto };
        // No peer syncs its log by itself.
        let options = Db::builder().memory(setup.memory).read_path(path).sync_interval(None);
        Ok(options.open(dir)?)
    }
}

impl<const CACHED: bool> Engine for Tonearm<CACHED> {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let db = Self::open_db(dir, setup)?;
        let table = db.btree("main")?;
        Ok(Self { db, table, tables: Vec::new() })
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

    fn open_tables(dir: &Path, setup: &Setup, count: usize) -> Result<Self> {
        let db = Self::open_db(dir, setup)?;
        let tables =
            (0..count).map(|i| db.btree(&format!("table {i}"))).collect::<Result<_, _>>()?;
        let table = db.btree("main")?;
        Ok(Self { db, table, tables })
    }

    fn put_to(&self, table: usize, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.tables[table].insert(key, value)?)
    }

    fn get_from(&self, table: usize, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        self.tables[table].get_with(key, found)?;
        Ok(())
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.db.snapshot();
        work()
    }

    fn close(self) -> Result<()> {
        drop((self.table, self.tables));
        Ok(self.db.close()?)
    }
}

pub struct Reader<'a>(&'a Btree);

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        self.0.get_with(key, found)?;
        Ok(())
    }

    fn get_many(&mut self, keys: &[Key], mut found: impl FnMut(usize, &[u8])) -> Result<()> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        for (i, value) in self.0.get_many(&keys)?.into_iter().enumerate() {
            if let Some(value) = value {
                found(i, &value);
            }
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.range(*from..);
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

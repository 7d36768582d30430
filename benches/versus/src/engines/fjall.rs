//! Fjall, with its defaults but for the memory and the threads; its `lz4` feature is off.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
    config::CompressionPolicy,
};
use std::{path::Path, thread, time::Duration};

pub struct Fjall {
    db: Database,
    table: Keyspace,
    /// Of a database with many of them.
    tables: Vec<Keyspace>,
}

impl Fjall {
    fn open_db(dir: &Path, setup: &Setup) -> Result<Database> {
        let cache = setup.memory.saturating_sub(2 * setup.write_buffer());
        Ok(Database::builder(dir).cache_size(cache as u64).worker_threads(2).open()?)
    }

    fn commit(&self, pairs: &Pairs, durability: Option<PersistMode>) -> Result<()> {
        let mut batch = self.db.batch().durability(durability);
        pairs.iter().for_each(|(key, value)| batch.insert(&self.table, *key, value));
        Ok(batch.commit()?)
    }

    fn options(setup: &Setup) -> KeyspaceCreateOptions {
        KeyspaceCreateOptions::default()
            .data_block_compression_policy(CompressionPolicy::disabled())
            .max_memtable_size(setup.write_buffer() as u64)
            .with_kv_separation(
                setup.big_values.then(|| {
                    KvSeparationOptions::default().compression(fjall::CompressionType::None)
                }),
            )
    }
}

impl Engine for Fjall {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let db = Self::open_db(dir, setup)?;
        let table = db.keyspace("main", || Self::options(setup))?;
        Ok(Self { db, table, tables: Vec::new() })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table.insert(*key, value)?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.table, *key, value);
        Ok(batch.commit()?)
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        self.commit(pairs, None)
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        self.commit(pairs, Some(PersistMode::SyncData))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.table.remove(*key)?)
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        work(&mut Reader(&self.table))
    }

    /// Past the log and the memtable.
    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        let mut ingestion = self.table.start_ingestion()?;
        let mut pairs = Pairs::default();
        while next(&mut pairs) {
            pairs.iter().try_for_each(|(key, value)| ingestion.write(*key, value))?;
        }
        ingestion.finish()?;
        self.settle()
    }

    fn settle(&self) -> Result<()> {
        self.table.rotate_memtable_and_wait()?;
        // Nothing says that no compaction will follow: a twentieth of a second without one does.
        let mut quiet = 0;
        let mut done = self.db.compactions_completed();
        while quiet < 10 {
            thread::sleep(Duration::from_millis(5));
            let now = self.db.compactions_completed();
            let idle = self.db.outstanding_flushes() == 0 && self.db.active_compactions() == 0;
            quiet = if idle && now == done { quiet + 1 } else { 0 };
            done = now;
        }
        Ok(())
    }

    fn open_tables(dir: &Path, setup: &Setup, count: usize) -> Result<Self> {
        let db = Self::open_db(dir, setup)?;
        let open = |i| db.keyspace(&format!("table-{i}"), || Self::options(setup));
        let tables = (0..count).map(open).collect::<Result<_, _>>()?;
        let table = db.keyspace("main", || Self::options(setup))?;
        Ok(Self { db, table, tables })
    }

    fn put_to(&self, table: usize, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.tables[table].insert(*key, value)?)
    }

    fn get_from(&self, table: usize, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.tables[table].get(key)? {
            found(&value);
        }
        Ok(())
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.db.snapshot();
        work()
    }

    fn compact(&mut self) -> Result<()> {
        self.settle()?;
        self.table.major_compact()?;
        self.settle()
    }
}

pub struct Reader<'a>(&'a Keyspace);

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.0.get(key)? {
            found(&value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        visit(self.0.range(*from..), limit, each)
    }

    fn scan_back(&mut self, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        visit(self.0.iter().rev(), limit, each)
    }
}

fn visit(
    entries: impl Iterator<Item = Guard>,
    limit: usize,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<()> {
    for entry in entries.take(limit) {
        let (key, value) = entry.into_inner()?;
        each(&key, &value);
    }
    Ok(())
}

//! redb: a copy-on-write B-tree. It has no commit that survives the process but not a power cut:
//! commits are kept in memory, and every so many of them one is durable.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use redb::{
    AccessGuard, Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, WriteTransaction,
};
use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

type Table = TableDefinition<'static, &'static Key, &'static [u8]>;
const TABLE: Table = TableDefinition::new("main");

/// Commits from one that is durable to the next.
const COMMITS: u64 = 10_000;

pub struct Redb {
    db: Database,
    commits: AtomicU64,
}

impl Redb {
    fn write(&self, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        let commits = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        let durable = commits.is_multiple_of(COMMITS);
        self.commit(if durable { Durability::Immediate } else { Durability::None }, work)
    }

    fn commit(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(durability)?;
        work(&txn)?;
        Ok(txn.commit()?)
    }
}

fn insert(txn: &WriteTransaction, key: &Key, value: &[u8]) -> Result<()> {
    txn.open_table(TABLE)?.insert(key, value)?;
    Ok(())
}

fn insert_all(txn: &WriteTransaction, pairs: &Pairs) -> Result<()> {
    let mut table = txn.open_table(TABLE)?;
    for (key, value) in pairs.iter() {
        table.insert(key, value)?;
    }
    Ok(())
}

impl Engine for Redb {
    type Reader<'a> = Reader;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let db = Builder::new().set_cache_size(setup.memory).create(dir.join("main.redb"))?;
        let engine = Self { db, commits: AtomicU64::new(0) };
        engine.commit(Durability::Immediate, |txn| {
            txn.open_table(TABLE)?;
            Ok(())
        })?;
        Ok(engine)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(|txn| insert(txn, key, value))
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(Durability::Immediate, |txn| insert(txn, key, value))
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        // A batch counts as all its puts.
        self.commits.fetch_add(pairs.iter().count() as u64 - 1, Ordering::Relaxed);
        self.write(|txn| insert_all(txn, pairs))
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        self.commit(Durability::Immediate, |txn| insert_all(txn, pairs))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(|txn| {
            txn.open_table(TABLE)?.remove(key)?;
            Ok(())
        })
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader) -> Result<R>) -> Result<R> {
        work(&mut Reader(self.db.begin_read()?.open_table(TABLE)?))
    }

    /// In one transaction.
    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        self.commit(Durability::Immediate, |txn| {
            let mut table = txn.open_table(TABLE)?;
            let mut pairs = Pairs::default();
            while next(&mut pairs) {
                for (key, value) in pairs.iter() {
                    table.insert(key, value)?;
                }
            }
            Ok(())
        })
    }

    fn settle(&self) -> Result<()> {
        self.commit(Durability::Immediate, |_| Ok(()))
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.db.begin_read()?;
        work()
    }

    fn compact(&mut self) -> Result<()> {
        while self.db.compact()? {}
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.settle()?;
        Ok(self.db.close()?)
    }
}

pub struct Reader(ReadOnlyTable<&'static Key, &'static [u8]>);

impl engine::Reader for Reader {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.0.get(key)? {
            found(value.value());
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        visit(self.0.range::<&Key>(from..)?, limit, each)
    }

    fn scan_back(&mut self, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        visit(self.0.iter()?.rev(), limit, each)
    }
}

type Pair<'a> = (AccessGuard<'a, &'static Key>, AccessGuard<'a, &'static [u8]>);

fn visit<'a>(
    entries: impl Iterator<Item = Result<Pair<'a>, StorageError>>,
    limit: usize,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<()> {
    for entry in entries.take(limit) {
        let (key, value) = entry?;
        each(key.value(), value.value());
    }
    Ok(())
}

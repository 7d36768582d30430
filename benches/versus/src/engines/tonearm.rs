//! Tonearm's tables, with their defaults but for the memory.

use crate::{
    data::{FIRST, Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use std::path::Path;
use tonearm::{Btree, Db, Durability, Entries, Feed, Hash, Lsm, ReadPath, Table};

/// One of Tonearm's kinds of tables.
pub trait Layout: Table + Clone + Sized {
    /// Whether its entries are in the order of keys.
    const ORDERED: bool;

    /// Opens the table of that name, made if it is not there.
    fn open(db: &Db, name: &str) -> tonearm::Result<Self>;

    /// Calls `found` with the value of `key`.
    fn look_up(&self, key: &Key, found: impl FnOnce(&[u8])) -> tonearm::Result<Option<()>>;

    /// Entries from `key` on; all of them where they are in no order.
    fn entries(&self, key: &Key) -> Entries;
}

macro_rules! layout {
    ($table:ty, $open:ident, $ordered:expr, |$self:ident, $key:ident| $entries:expr) => {
        impl Layout for $table {
            const ORDERED: bool = $ordered;

            fn open(db: &Db, name: &str) -> tonearm::Result<Self> {
                db.$open(name)
            }

            fn look_up(&self, key: &Key, found: impl FnOnce(&[u8])) -> tonearm::Result<Option<()>> {
                self.get_with(key, found)
            }

            fn entries(&$self, $key: &Key) -> Entries {
                $entries
            }
        }
    };
}

layout!(Lsm, lsm, true, |self, key| self.range(*key..));
layout!(Btree, btree, true, |self, key| self.range(*key..));
layout!(Hash, hash, false, |self, _key| self.iter());

/// Reads files mapped, as by default where they fit in the machine's memory, or into a cache of
/// blocks that the memory bounds.
pub struct Tonearm<T, const CACHED: bool> {
    db: Db,
    table: T,
    /// Of a database with many of them.
    tables: Vec<T>,
}

impl<T: Layout, const CACHED: bool> Tonearm<T, CACHED> {
    fn open_db(dir: &Path, setup: &Setup) -> Result<Db> {
        let path = if CACHED { ReadPath::Cached } else { ReadPath::Auto };
        // No peer syncs its log by itself.
        let options = Db::builder().memory(setup.memory).read_path(path).sync_interval(None);
        Ok(options.open(dir)?)
    }

    fn commit(&self, pairs: &Pairs, durability: Durability) -> Result<()> {
        let mut batch = self.db.batch();
        for (key, value) in pairs.iter() {
            batch.insert(&self.table, key, value);
        }
        Ok(batch.commit(durability)?)
    }
}

impl<T: Layout, const CACHED: bool> Engine for Tonearm<T, CACHED> {
    type Reader<'a>
        = Reader<'a, T>
    where
        T: 'a;

    const ORDERED: bool = T::ORDERED;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let db = Self::open_db(dir, setup)?;
        let table = T::open(&db, "main")?;
        Ok(Self { db, table, tables: Vec::new() })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table.insert(key, value)?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.table.insert_with(key, value, Durability::PowerLoss)?)
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        self.commit(pairs, Durability::Process)
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        self.commit(pairs, Durability::PowerLoss)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.table.remove(key)?)
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_, T>) -> Result<R>) -> Result<R> {
        work(&mut Reader { table: &self.table, seeker: None })
    }

    fn settle(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.db.maintain()?)
    }

    fn open_tables(dir: &Path, setup: &Setup, count: usize) -> Result<Self> {
        let db = Self::open_db(dir, setup)?;
        let tables =
            (0..count).map(|i| T::open(&db, &format!("table {i}"))).collect::<Result<_, _>>()?;
        let table = T::open(&db, "main")?;
        Ok(Self { db, table, tables })
    }

    fn put_to(&self, table: usize, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.tables[table].insert(key, value)?)
    }

    fn get_from(&self, table: usize, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        self.tables[table].look_up(key, found)?;
        Ok(())
    }

    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        self.table.ingest_from(&mut Parts { next, pairs: Pairs::default(), at: 0 })?;
        self.settle()
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

/// Pairs as they come, lent to an ingest.
struct Parts<'a> {
    next: &'a mut dyn FnMut(&mut Pairs) -> bool,
    pairs: Pairs,
    at: usize,
}

impl Feed for Parts<'_> {
    fn next_ref(&mut self) -> Option<tonearm::Result<(&[u8], &[u8])>> {
        while self.at == self.pairs.len() {
            if !(self.next)(&mut self.pairs) {
                return None;
            }
            self.at = 0;
        }
        self.at += 1;
        let (key, value) = self.pairs.get(self.at - 1)?;
        Some(Ok((key, value)))
    }
}

pub struct Reader<'a, T> {
    table: &'a T,
    /// For short scans.
    seeker: Option<Entries>,
}

impl<T: Layout> engine::Reader for Reader<'_, T> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        self.table.look_up(key, found)?;
        Ok(())
    }

    fn get_many(&mut self, keys: &[Key], mut found: impl FnMut(usize, &[u8])) -> Result<()> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        Ok(self.table.read_many(&keys, &mut found)?)
    }

    fn scan(&mut self, from: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut long;
        let entries = if limit == usize::MAX || !T::ORDERED {
            long = self.table.entries(from);
            &mut long
        } else {
            let seeker = self.seeker.get_or_insert_with(|| self.table.entries(&FIRST));
            seeker.seek(from);
            seeker
        };
        for _ in 0..limit {
            let Some(entry) = entries.next_ref() else { break };
            let (key, value) = entry?;
            each(key, value);
        }
        Ok(())
    }

    fn scan_back(&mut self, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.table.iter();
        for _ in 0..limit {
            let Some(entry) = entries.next_back_ref() else { break };
            let (key, value) = entry?;
            each(key, value);
        }
        Ok(())
    }
}

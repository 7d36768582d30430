//! LMDB through heed: files mapped, one read transaction a thread.
#![allow(unsafe_code)]

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, PutFlags, RoTxn,
    types::Bytes,
};
use std::{ops::Bound, path::Path, sync::OnceLock};

/// Address space for the map, larger than any database here.
const MAP: usize = 1 << 40;

type Table = Database<'static, Bytes, Bytes>;

/// Writes its file with system calls, or through its map.
pub struct Lmdb<const WRITE_MAP: bool> {
    env: Env,
    table: Table,
    durable: OnceLock<()>,
}

impl<const WRITE_MAP: bool> Lmdb<WRITE_MAP> {
    /// From now on every commit is synced, as LMDB's order of writes asks for.
    fn make_durable(&self) {
        self.durable.get_or_init(|| {
            // SAFETY: only one thread gets here, and syncing is the safe way to run.
            let _ = unsafe { self.env.set_flags(EnvFlags::NO_SYNC, FlagSetMode::Disable) };
        });
    }
}

impl<const WRITE_MAP: bool> Engine for Lmdb<WRITE_MAP> {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, _: &Setup) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP).max_readers(64);
        let map = if WRITE_MAP { EnvFlags::WRITE_MAP } else { EnvFlags::empty() };
        // SAFETY: nobody else has the folder, and a database torn by a power cut is not read.
        let env = unsafe { options.flags(EnvFlags::NO_SYNC | map).open(dir)? };
        let create = env.create_databases_and_commit(env.write_txn()?, |open, txn| {
            open.create_database::<Bytes, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
        });
        let table = create?.commit().ok_or("no table was created")?;
        Ok(Self { env, table, durable: OnceLock::new() })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.table.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.make_durable();
        self.put(key, value)
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in pairs.iter() {
            self.table.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        self.make_durable();
        self.put_batch(pairs)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.table.delete(&mut txn, key)?;
        Ok(txn.commit()?)
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        let txn = self.env.read_txn()?;
        work(&mut Reader { txn: &txn, table: self.table })
    }

    /// In one transaction, behind the last entry.
    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        let mut pairs = Pairs::default();
        let mut txn = self.env.write_txn()?;
        while next(&mut pairs) {
            for (key, value) in pairs.iter() {
                self.table.put_with_flags(&mut txn, PutFlags::APPEND, key, value)?;
            }
        }
        txn.commit()?;
        self.settle()
    }

    fn settle(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.env.read_txn()?;
        work()
    }
}

pub struct Reader<'a> {
    txn: &'a RoTxn<'a>,
    table: Table,
}

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.table.get(self.txn, key)? {
            found(value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let range = (Bound::Included(&from[..]), Bound::Unbounded);
        visit(self.table.range(self.txn, &range)?, limit, each)
    }

    fn scan_back(&mut self, limit: usize, each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        visit(self.table.rev_iter(self.txn)?, limit, each)
    }
}

fn visit<'a>(
    entries: impl Iterator<Item = heed::Result<(&'a [u8], &'a [u8])>>,
    limit: usize,
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<()> {
    for entry in entries.take(limit) {
        let (key, value) = entry?;
        each(key, value);
    }
    Ok(())
}

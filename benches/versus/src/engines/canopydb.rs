//! Canopydb: a copy-on-write B-tree behind a log, written out by checkpoints.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use canopydb::{Database, DbOptions, EnvOptions, Tree, TreeOptions, WriteTransaction};
use std::path::Path;

const TABLE: &[u8] = b"main";

pub struct Canopy(Database);

impl Canopy {
    fn write(&self, sync: bool, work: impl FnOnce(&mut Tree<'_>) -> Result<()>) -> Result<()> {
        let txn = self.0.begin_write()?;
        let mut tree = tree(&txn)?;
        work(&mut tree)?;
        drop(tree);
        txn.commit_with(sync)?;
        Ok(())
    }
}

fn tree(txn: &WriteTransaction) -> Result<Tree<'_>> {
    let mut options = TreeOptions::new();
    options.compress_overflow_values = None;
    Ok(txn.get_or_create_tree_with(TABLE, options)?)
}

impl Engine for Canopy {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let dirty = 2 * setup.write_buffer();
        let mut env = EnvOptions::new(dir);
        env.page_cache_size = setup.memory.saturating_sub(dirty);
        let mut options = DbOptions::new();
        options.checkpoint_target_size = setup.write_buffer();
        options.throttle_memory_limit = dirty;
        options.stall_memory_limit = dirty;
        let db = Database::with_options(env, options)?;
        let engine = Self(db);
        engine.write(false, |_| Ok(()))?;
        Ok(engine)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(false, |tree| Ok(tree.insert(key, value)?))
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(true, |tree| Ok(tree.insert(key, value)?))
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        self.write(false, |tree| {
            pairs.iter().try_for_each(|(key, value)| Ok(tree.insert(key, value)?))
        })
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        self.write(true, |tree| {
            pairs.iter().try_for_each(|(key, value)| Ok(tree.insert(key, value)?))
        })
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(false, |tree| {
            tree.delete(key)?;
            Ok(())
        })
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        let txn = self.0.begin_read()?;
        let tree = txn.get_tree(TABLE)?.ok_or("the tree is gone")?;
        work(&mut Reader(tree))
    }

    fn settle(&self) -> Result<()> {
        Ok(self.0.checkpoint()?)
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.0.begin_read()?;
        work()
    }

    fn compact(&mut self) -> Result<()> {
        Ok(self.0.compact()?)
    }

    fn close(self) -> Result<()> {
        Ok(self.0.checkpoint()?)
    }
}

pub struct Reader<'a>(Tree<'a>);

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.0.get(key)? {
            found(&value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.0.range(&from[..]..)?.take(limit) {
            let (key, value) = entry?;
            each(&key, &value);
        }
        Ok(())
    }

    fn scan_back(&mut self, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        for entry in self.0.iter()?.rev().take(limit) {
            let (key, value) = entry?;
            each(&key, &value);
        }
        Ok(())
    }
}

//! SurrealKV: an LSM tree whose commits are asynchronous; here each is waited for.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
    measure,
};
use std::path::Path;
use surrealkv::{
    CompactRangeOptions, Durability, LSMIterator, Mode, Transaction, Tree, TreeBuilder,
};
use tokio::runtime::{Builder, Runtime};

pub struct Surreal {
    tree: Tree,
    runtime: Runtime,
}

impl Surreal {
    fn write(
        &self,
        durability: Durability,
        work: impl FnOnce(&mut Transaction) -> Result<()>,
    ) -> Result<()> {
        let mut txn = self.tree.begin_with_mode(Mode::WriteOnly)?;
        txn.set_durability(durability);
        work(&mut txn)?;
        Ok(self.runtime.block_on(txn.commit())?)
    }
}

impl Engine for Surreal {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let cache = setup.memory.saturating_sub(2 * setup.write_buffer());
        let builder = TreeBuilder::new()
            .with_path(dir.to_owned())
            .without_compression()
            .with_max_memtable_size(setup.write_buffer())
            .with_block_cache_capacity(cache as u64)
            .with_enable_vlog(setup.big_values);
        let tree = {
            let _inside = runtime.enter();
            builder.build()?
        };
        Ok(Self { tree, runtime })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(Durability::Eventual, |txn| Ok(txn.set(key, value)?))
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(Durability::Immediate, |txn| Ok(txn.set(key, value)?))
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        self.write(Durability::Eventual, |txn| {
            pairs.iter().try_for_each(|(key, value)| Ok(txn.set(key, value)?))
        })
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        self.write(Durability::Immediate, |txn| {
            pairs.iter().try_for_each(|(key, value)| Ok(txn.set(key, value)?))
        })
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.write(Durability::Eventual, |txn| Ok(txn.delete(key)?))
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        let txn = self.tree.begin_with_mode(Mode::ReadOnly)?;
        work(&mut Reader(&txn))
    }

    fn settle(&self) -> Result<()> {
        let _inside = self.runtime.enter();
        // Only a flush, and then whatever its background tasks find to do.
        let flush = CompactRangeOptions {
            flush_memtable: true,
            target_level: Some(0),
            rewrite_bottommost: false,
        };
        self.tree.compact_range(None, None, &flush)?;
        measure::wait_until_idle();
        Ok(())
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.tree.begin_with_mode(Mode::ReadOnly)?;
        work()
    }

    fn compact(&mut self) -> Result<()> {
        let _inside = self.runtime.enter();
        self.tree.compact_range(None, None, &CompactRangeOptions::default())?;
        measure::wait_until_idle();
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}

pub struct Reader<'a>(&'a Transaction);

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.0.get(key)? {
            found(&value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.scan(from..)?;
        let mut going = entries.seek_first()?;
        let mut left = limit;
        while going {
            each(entries.key().user_key(), &entries.value_ref()?);
            left -= 1;
            going = left > 0 && entries.next()?;
        }
        Ok(())
    }

    fn scan_back(&mut self, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.0.scan(..)?;
        let mut going = entries.seek_last()?;
        let mut left = limit;
        while going {
            each(entries.key().user_key(), &entries.value_ref()?);
            left -= 1;
            going = left > 0 && entries.prev()?;
        }
        Ok(())
    }
}

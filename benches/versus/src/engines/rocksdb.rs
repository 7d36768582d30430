//! RocksDB, tuned as its wiki advises ("Setup Options and Basic Tuning"), without compression.

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType,
    DBRawIterator, IngestExternalFileOptions, Options, ReadOptions, SstFileWriter,
    WaitForCompactOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use std::path::Path;

/// Bytes read ahead by a scan that is not known to be short.
const READAHEAD: usize = 2 << 20;

/// About how long a file of a bulk load is: as long as those that the database makes.
const LOADED_FILE: u64 = 64 << 20;

/// Reads through its block cache, or with its files mapped (and then without verifying them, since
/// it would verify a block at every read).
pub struct RocksDb<const MAPPED: bool> {
    db: DB,
    setup: Setup,
    write: WriteOptions,
    durable: WriteOptions,
    read: ReadOptions,
}

impl<const MAPPED: bool> RocksDb<MAPPED> {
    fn options(setup: &Setup) -> Options {
        let cache = Cache::new_hyper_clock_cache(setup.memory, 0);
        let buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(0, false, cache.clone());
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_max_background_jobs(2);
        options.set_write_buffer_size(setup.write_buffer());
        options.set_max_write_buffer_number(3);
        options.set_write_buffer_manager(&buffers);
        options.set_bytes_per_sync(1 << 20);
        // Files where half of some thousand entries are deletes are merged soon.
        options.add_compact_on_deletion_collector_factory(1000, 500, 0.5);
        options.set_block_based_table_factory(&Self::tables(&cache));
        options.set_allow_mmap_reads(MAPPED);
        if setup.big_values {
            if !MAPPED {
                options.set_blob_cache(&cache);
            }
            options.set_enable_blob_files(true);
            options.set_min_blob_size(4 << 10);
            options.set_enable_blob_gc(true);
        }
        options
    }

    fn tables(cache: &Cache) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(cache);
        tables.set_bloom_filter(10.0, false);
        tables
    }

    fn read_options() -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(!MAPPED);
        options
    }
}

fn batch(pairs: &Pairs) -> WriteBatch {
    let mut batch = WriteBatch::default();
    pairs.iter().for_each(|(key, value)| batch.put(key, value));
    batch
}

impl<const MAPPED: bool> Engine for RocksDb<MAPPED> {
    type Reader<'a> = Reader<'a>;

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let options = Self::options(setup);
        // The family gets its options here: `DB::open_cf` would give it the defaults.
        let db = DB::open_cf_with_opts(&options, dir, [("default", options.clone())])?;
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let (setup, write, read) = (*setup, WriteOptions::default(), Self::read_options());
        Ok(Self { db, setup, write, durable, read })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.durable)?)
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        Ok(self.db.write_opt(batch(pairs), &self.write)?)
    }

    fn put_batch_durable(&self, pairs: &Pairs) -> Result<()> {
        Ok(self.db.write_opt(batch(pairs), &self.durable)?)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader<'_>) -> Result<R>) -> Result<R> {
        let options = Self::read_options;
        work(&mut Reader { db: &self.db, read: &self.read, options, seeker: None })
    }

    /// As files made beside the database, which it then takes over.
    fn load(&self, next: &mut dyn FnMut(&mut Pairs) -> bool) -> Result<()> {
        let options = Self::options(&self.setup);
        let (mut pairs, mut paths) = (Pairs::default(), Vec::new());
        let mut is_more = next(&mut pairs);
        while is_more {
            let path = self.db.path().join(format!("load-{}.sst", paths.len()));
            let mut file = SstFileWriter::create(&options);
            file.open(&path)?;
            while is_more && file.file_size() < LOADED_FILE {
                pairs.iter().try_for_each(|(key, value)| file.put(key, value))?;
                is_more = next(&mut pairs);
            }
            file.finish()?;
            paths.push(path);
        }
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        self.db.ingest_external_file_opts(&how, paths)?;
        self.settle()
    }

    fn settle(&self) -> Result<()> {
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        Ok(self.db.wait_for_compact(&wait)?)
    }

    fn compact(&mut self) -> Result<()> {
        self.settle()?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        self.settle()
    }

    fn open_tables(dir: &Path, setup: &Setup, count: usize) -> Result<Self> {
        let mut options = Self::options(setup);
        options.create_missing_column_families(true);
        // As Tonearm bounds the memtables of all tables together: by half of the memory.
        options.set_db_write_buffer_size(setup.memory / 2);
        let named = |name: String| (name, options.clone());
        let families = (0..count).map(|i| named(format!("table {i}")));
        let families = families.chain([named("default".to_owned())]);
        let db = DB::open_cf_with_opts(&options, dir, families)?;
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let (setup, write, read) = (*setup, WriteOptions::default(), Self::read_options());
        Ok(Self { db, setup, write, durable, read })
    }

    fn put_to(&self, table: usize, key: &Key, value: &[u8]) -> Result<()> {
        let family = self.db.cf_handle(&format!("table {table}")).ok_or("no such family")?;
        Ok(self.db.put_cf_opt(family, key, value, &self.write)?)
    }

    fn get_from(&self, table: usize, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        let family = self.db.cf_handle(&format!("table {table}")).ok_or("no such family")?;
        if let Some(value) = self.db.get_pinned_cf_opt(family, key, &self.read)? {
            found(&value);
        }
        Ok(())
    }

    fn hold<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let _held = self.db.snapshot();
        work()
    }

    fn close(self) -> Result<()> {
        // Dropping a database closes it, and reports nothing.
        self.db.flush_wal(false)?;
        Ok(())
    }
}

pub struct Reader<'a> {
    db: &'a DB,
    read: &'a ReadOptions,
    /// Makes options of an iterator's own.
    options: fn() -> ReadOptions,
    /// Kept for the next short scan: making an iterator costs more than seeking with it.
    seeker: Option<DBRawIterator<'a>>,
}

impl<'a> Reader<'a> {
    fn long_scan(&self) -> DBRawIterator<'a> {
        let mut options = (self.options)();
        options.set_readahead_size(READAHEAD);
        self.db.raw_iterator_opt(options)
    }
}

impl engine::Reader for Reader<'_> {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(value) = self.db.get_pinned_opt(key, self.read)? {
            found(&value);
        }
        Ok(())
    }

    fn get_many(&mut self, keys: &[Key], mut found: impl FnMut(usize, &[u8])) -> Result<()> {
        let family = self.db.cf_handle("default").ok_or("there is no default family")?;
        let values = self.db.batched_multi_get_cf_opt(family, keys, false, self.read);
        for (i, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
                found(i, &value);
            }
        }
        Ok(())
    }

    fn scan(&mut self, from: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut long;
        let entries = if limit == usize::MAX {
            long = self.long_scan();
            &mut long
        } else {
            self.seeker.get_or_insert_with(|| self.db.raw_iterator_opt((self.options)()))
        };
        entries.seek(from);
        let mut left = limit;
        while let Some((key, value)) = entries.item() {
            each(key, value);
            left -= 1;
            if left == 0 {
                return Ok(());
            }
            entries.next();
        }
        Ok(entries.status()?)
    }

    fn scan_back(&mut self, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut entries = self.long_scan();
        entries.seek_to_last();
        let mut left = limit;
        while let Some((key, value)) = entries.item() {
            each(key, value);
            left -= 1;
            if left == 0 {
                return Ok(());
            }
            entries.prev();
        }
        Ok(entries.status()?)
    }
}

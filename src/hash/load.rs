//! Loading entries in bulk, in any order and in bounded memory.
//!
//! Entries are collected until they fill a batch, sorted by hash, and written as a run that nobody
//! ever sees; at the end these runs are merged into one. A load that fits into a batch is written
//! once. Of entries with the same key the last one counts.

use super::{
    layer::{Layer, LayerCursor},
    output::{Output, bits_for, pour},
    run::{HashRun, hash_run_name},
    runs::Table,
};
use crate::{
    Result,
    codec::{prefetch, seeded_hash},
    sorted::{Cursor, Deletes, Kind, Merge},
    table::{Op, Shop},
};
use bytes::Bytes;
use std::{ops::Range, sync::Arc};

/// Bytes of keys and values in a batch.
const BATCH_BYTES: usize = if cfg!(test) { 16 << 10 } else { 64 << 20 };
/// How many entries ahead memory is asked for, and how much of it at a time.
const AHEAD: usize = 16;
const LINE: usize = 64;
/// So many runs are merged at once.
const RUNS_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// Writes entries as files of one run of `age`; says how many bytes of keys and values they are.
pub(super) fn load(
    entries: &mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
    shop: &Shop,
    table: &Table,
    age: u64,
) -> Result<(Vec<Arc<HashRun>>, u64)> {
    let mut batch = Batch::default();
    let mut runs = Hidden { shop, layers: Vec::new() };
    let mut read = 0;
    for entry in entries {
        let (key, value) = entry?;
        Op::Put { key: &key, value: &value }.check()?;
        read += (key.len() + value.len()) as u64;
        batch.add(&key, &value, table.seed);
        if batch.bytes.len() >= BATCH_BYTES {
            runs.add(batch.write(shop, table, age)?)?;
            shop.breathe()?;
            if runs.layers.len() == RUNS_MAX {
                let merged = runs.merge(table, age)?;
                runs.replace(merged)?;
            }
        }
    }
    let last = batch.write(shop, table, age)?;
    if runs.layers.is_empty() {
        return Ok((last, read));
    }
    runs.add(last)?;
    let merged = runs.merge(table, age)?;
    runs.replace(Vec::new())?;
    Ok((merged, read))
}

/// Entries that wait to be sorted.
#[derive(Default)]
struct Batch {
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where an entry lies in its batch.
#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    start: u64,
    key_len: u32,
    value_len: u32,
}

impl Entry {
    fn key(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.key_len as usize
    }

    fn value(&self) -> Range<usize> {
        let start = self.key().end;
        start..start + self.value_len as usize
    }
}

impl Batch {
    /// Key and value are within their limits.
    fn add(&mut self, key: &[u8], value: &[u8], seed: u64) {
        self.entries.push(Entry {
            hash: seeded_hash(key, seed),
            start: self.bytes.len() as u64,
            key_len: key.len() as u32,
            value_len: value.len() as u32,
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// Sorts; of entries with the same key the last one comes first.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |entry: &Entry| bytes.get(entry.key()).unwrap_or_default();
        self.entries.sort_unstable_by_key(|entry| entry.hash);
        for run in self.entries.chunk_by_mut(|a, b| a.hash == b.hash).filter(|run| run.len() > 1) {
            run.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(b.start.cmp(&a.start)));
        }
    }

    /// Writes all entries and forgets them.
    fn write(&mut self, shop: &Shop, table: &Table, age: u64) -> Result<Vec<Arc<HashRun>>> {
        self.sort();
        let bits = bits_for(table, self.bytes.len() as u64, self.entries.len() as u64);
        let mut output = Output::new(shop, table, age, bits);
        let mut last: Option<Entry> = None;
        let part = |range: Range<usize>| self.bytes.get(range).unwrap_or_default();
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(ahead) = self.entries.get(i + AHEAD) {
                prefetch(&self.bytes, ahead.start as usize);
                prefetch(&self.bytes, ahead.start as usize + LINE);
            }
            let key = part(entry.key());
            let is_again =
                last.is_some_and(|last| last.hash == entry.hash && part(last.key()) == key);
            if !is_again {
                output.add(entry.hash, key, Kind::Put, part(entry.value()))?;
            }
            last = Some(*entry);
        }
        let written = output.finish()?;
        self.entries.clear();
        self.bytes.clear();
        Ok(written)
    }
}

/// Runs that are not part of any table. Their files go when they do.
struct Hidden<'a> {
    shop: &'a Shop,
    /// Newest first.
    layers: Vec<Arc<Layer>>,
}

impl Hidden<'_> {
    fn add(&mut self, files: Vec<Arc<HashRun>>) -> Result<()> {
        if !files.is_empty() {
            self.layers.insert(0, Arc::new(Layer::new(0, files)?));
        }
        Ok(())
    }

    /// Merges all of them.
    fn merge(&self, table: &Table, age: u64) -> Result<Vec<Arc<HashRun>>> {
        let bytes = self.layers.iter().map(|layer| layer.raw_bytes()).sum();
        let entries = self.layers.iter().map(|layer| layer.entries()).sum();
        let cursors = self.layers.iter().map(|layer| LayerCursor::new(layer.clone()));
        let mut input = Merge::new(cursors.collect(), Deletes::Hide);
        input.seek_first()?;
        let bits = bits_for(table, bytes, entries);
        let mut output = Output::new(self.shop, table, age, bits);
        pour(&mut input, u64::MAX, &mut output, true)?;
        output.finish()
    }

    /// Puts one run in the place of all.
    fn replace(&mut self, files: Vec<Arc<HashRun>>) -> Result<()> {
        self.forget();
        self.add(files)
    }

    fn forget(&mut self) {
        for run in self.layers.drain(..).flat_map(|layer| layer.files().to_vec()) {
            // What cannot be removed is an orphan that the next open removes.
            let _ = self.shop.folder.remove(&hash_run_name(run.meta().file));
        }
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

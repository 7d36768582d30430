//! One immutable version of the home: its runs, newest first, and look-ups in all of them.
//!
//! A look-up asks for the index lines of all runs at once and then looks at them one by one: the
//! wait for memory is paid once, not once a run. Measured with eight runs this answers look-ups in
//! a loop two to three times as slowly as one run does, without any filter.

use super::{
    HashOptions,
    layer::{Layer, LayerCursor},
    run::{Candidate, HashRun, hash_run_name},
};
use crate::{
    Result,
    codec::seeded_hash,
    sorted::{FileId, Found, Graveyard, Lookup, Span},
    table::{HomeFile, HomeStats, LevelStats, Order, Settled, Source, Work},
};
use bytes::Bytes;
use std::sync::Arc;

/// How many look-ups of a batch go on at once: enough to hide memory behind memory, few enough
/// that what was asked for is still there when its turn comes.
const TOGETHER: usize = 16;

/// What does not change from version to version.
pub(super) struct Table {
    pub(super) options: HashOptions,
    pub(super) seed: u64,
    pub(super) work: Work,
}

/// The runs of a table, newest first.
#[derive(Clone)]
pub(super) struct Runs {
    table: Arc<Table>,
    layers: Vec<Arc<Layer>>,
}

impl Runs {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Self { table, layers: Vec::new() }
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(super) fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The age of the newest run; 0 if there is none.
    pub(super) fn newest_age(&self) -> u64 {
        self.layers.first().map_or(0, |layer| layer.age())
    }

    /// The next version: without the files `removed`, and with `added` ones of an age.
    pub(super) fn edited(
        &self,
        removed: &[FileId],
        age: u64,
        added: &[Arc<HashRun>],
    ) -> Result<Self> {
        let is_kept = |run: &&Arc<HashRun>| !removed.contains(&run.meta().file);
        let mut layers = Vec::new();
        let mut added = added.to_vec();
        for layer in &self.layers {
            let untouched = layer.files().iter().all(|run| is_kept(&run));
            if untouched && (layer.age() != age || added.is_empty()) {
                layers.push(layer.clone());
                continue;
            }
            let mut files: Vec<_> = layer.files().iter().filter(is_kept).cloned().collect();
            if layer.age() == age {
                files.append(&mut added);
            }
            if !files.is_empty() {
                layers.push(Arc::new(Layer::new(layer.age(), files)?));
            }
        }
        if !added.is_empty() {
            let at = layers.partition_point(|layer: &Arc<Layer>| layer.age() > age);
            layers.insert(at, Arc::new(Layer::new(age, added)?));
        }
        Ok(Self { table: self.table.clone(), layers })
    }

    /// The file numbered so, and its run's age.
    pub(super) fn find(&self, file: FileId) -> Option<HashFile> {
        self.hash_files().find(|found| found.run.meta().file == file)
    }

    fn hash_files(&self) -> impl Iterator<Item = HashFile> {
        self.layers.iter().flat_map(|layer| {
            let of = |run: &Arc<HashRun>| HashFile { run: run.clone(), age: layer.age() };
            layer.files().iter().map(of)
        })
    }

    /// Looks `key` up in the runs from number `from` on.
    #[inline]
    fn get_from(
        &self,
        from: usize,
        key: &[u8],
        hash: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        for layer in self.layers.get(from..).unwrap_or_default() {
            let Some(run) = layer.file(hash) else { continue };
            match run.get(key, hash, found)? {
                Lookup::Missing => {}
                known => return Ok(known),
            }
        }
        Ok(Lookup::Missing)
    }

    /// The first run that may have a hash, by its index alone, and what that says.
    #[inline]
    fn first_candidate(&self, hash: u64) -> Result<(usize, Candidate)> {
        for (i, layer) in self.layers.iter().enumerate() {
            let Some(run) = layer.file(hash) else { continue };
            match run.candidate(hash)? {
                Candidate::Absent => {}
                candidate => return Ok((i, candidate)),
            }
        }
        Ok((self.layers.len(), Candidate::Absent))
    }

    /// Looks up a key of which the first candidate is known.
    #[inline]
    fn resolve(
        &self,
        (at, candidate): (usize, Candidate),
        key: &[u8],
        hash: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        let run = self.layers.get(at).and_then(|layer| layer.file(hash));
        if let (Candidate::At(place), Some(run)) = (candidate, run)
            && let Some(lookup) = run.get_at(place, key, found)?
        {
            return Ok(lookup);
        }
        self.get_from(at, key, hash, found)
    }
}

impl Settled for Runs {
    #[inline]
    fn get(&self, key: &[u8], _hash: u64, found: &mut dyn FnMut(Found<'_>)) -> Result<Lookup<()>> {
        let hash = seeded_hash(key, self.table.seed);
        if let [_, _, ..] = *self.layers {
            let runs = self.layers.iter().filter_map(|layer| layer.file(hash));
            runs.for_each(|run| run.prefetch(hash));
        }
        self.get_from(0, key, hash, found)
    }

    fn get_many(
        &self,
        keys: &[(&[u8], u64)],
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()> {
        for (i, batch) in keys.chunks(TOGETHER).enumerate() {
            let mut hashes = [0; TOGETHER];
            for (hash, (key, _)) in hashes.iter_mut().zip(batch) {
                *hash = seeded_hash(key, self.table.seed);
                let runs = self.layers.iter().filter_map(|layer| layer.file(*hash));
                runs.for_each(|run| run.prefetch(*hash));
            }
            let mut candidates = [(0, Candidate::Absent); TOGETHER];
            for (candidate, hash) in candidates.iter_mut().zip(hashes).take(batch.len()) {
                *candidate = self.first_candidate(hash)?;
            }
            for (j, (key, _)) in batch.iter().enumerate() {
                let (Some(first), Some(hash)) = (candidates.get(j), hashes.get(j)) else {
                    continue;
                };
                let index = i * TOGETHER + j;
                let lookup = self.resolve(*first, key, *hash, &mut |found| {
                    answer(index, Lookup::Found(found))
                })?;
                if let Lookup::Deleted = lookup {
                    answer(index, Lookup::Deleted);
                }
            }
        }
        Ok(())
    }

    fn sources(&self, _span: &Span, out: &mut Vec<Source>) {
        for layer in &self.layers {
            out.push(match layer.files() {
                [run] => Source::Other(Box::new(run.cursor())),
                _ => Source::Other(Box::new(LayerCursor::new(layer.clone()))),
            });
        }
    }

    fn order(&self) -> Order {
        Order::Hashes(self.table.seed)
    }

    fn files(&self) -> Vec<(u8, Arc<dyn HomeFile>)> {
        self.hash_files().map(|file| (0, Arc::new(file) as Arc<dyn HomeFile>)).collect()
    }

    fn stats(&self) -> HomeStats {
        let mut stats = HomeStats { work: self.table.work.stats(), ..HomeStats::default() };
        for (level, layer) in (1..).zip(&self.layers) {
            let mut row = LevelStats { level, ..LevelStats::default() };
            for meta in layer.files().iter().map(|run| run.meta()) {
                row.files += 1;
                row.bytes += meta.bytes;
                row.entries += meta.entries;
                row.deletes += meta.deletes;
                stats.raw_bytes += meta.raw_bytes;
            }
            stats.entries += row.entries;
            stats.deletes += row.deletes;
            stats.file_bytes += row.bytes;
            stats.levels.push(row);
        }
        stats
    }
}

/// A file as the manifest lists it: with the age that it got when it was published.
pub(super) struct HashFile {
    pub(super) run: Arc<HashRun>,
    pub(super) age: u64,
}

impl HomeFile for HashFile {
    fn file(&self) -> FileId {
        self.run.meta().file
    }

    fn name(&self) -> String {
        hash_run_name(self.file())
    }

    fn bytes(&self) -> u64 {
        self.run.meta().bytes
    }

    fn meta(&self) -> Bytes {
        let mut meta = self.run.meta().clone();
        meta.age = self.age;
        let mut out = Vec::new();
        meta.encode(&mut out);
        out.into()
    }

    fn verify(&self) -> Result<()> {
        self.run.verify()
    }

    fn retire(&self, to: &Arc<Graveyard>) {
        self.run.retire(to);
    }
}

//! Tests of the whole tree, driven the way the database drives it, against an ordered map.

mod lend;
mod model;
mod tier;
mod work;

use super::{LsmHome, LsmOptions, levels::Levels};
use crate::{
    Result,
    cache::BlockCache,
    codec::{Reader, key_hash},
    memtable::{Memory, Memtable},
    sorted::{
        Cursor, Deletes, Graveyard, Kind, Lookup, Merge, Run, RunAccess, RunMeta, Span, run_name,
    },
    table::{Change, FileIds, Given, Home, Input, Intake, Job, Room, Settled, Shop},
    vfs::{Folder, mem::MemFolder},
};
use std::{any::Any, collections::BTreeMap, sync::Arc};

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
}

/// A database of one table, without log and manifest.
struct Host {
    folder: MemFolder,
    shop: Shop,
    graveyard: Arc<Graveyard>,
    options: LsmOptions,
    home: Arc<LsmHome>,
    /// What the manifest would say: files in the order in which they were added.
    files: Vec<(u8, RunMeta)>,
    model: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Host {
    fn new(options: &LsmOptions) -> Self {
        let folder = MemFolder::default();
        let shop = Shop {
            folder: Arc::new(folder.clone()),
            files: Arc::new(FileIds::starting_at(1)),
            access: RunAccess::Mapped(Arc::new(BlockCache::new(1 << 20))),
            breathe: Arc::new(|| Ok(())),
            room: Room::default(),
        };
        let home = Arc::new(LsmHome::open(options.clone(), Vec::new()).unwrap());
        let (files, model) = (Vec::new(), BTreeMap::new());
        Self {
            folder,
            shop,
            graveyard: Graveyard::new(),
            options: options.clone(),
            home,
            files,
            model,
        }
    }

    fn levels(&self) -> Arc<Levels> {
        let settled: Arc<dyn Any + Send + Sync> = self.home.current();
        settled.downcast().ok().unwrap()
    }

    /// Applies writes to the model and, through a memtable, to the home.
    fn write(&mut self, writes: &[Write]) {
        let change = self.absorb(writes);
        self.publish(change);
    }

    /// Applies writes to the model, and writes the files that hold them.
    fn absorb(&mut self, writes: &[Write]) -> Change {
        let (memtable, mut writer) = Memtable::new(8 << 20, Memory::Own);
        for (seq, write) in (1..).zip(writes) {
            match write {
                Write::Put(key, value) => {
                    writer.insert(key, key_hash(key), seq, Kind::Put, value);
                    self.model.insert(key.clone(), value.clone());
                }
                Write::Delete(key) => {
                    writer.insert(key, key_hash(key), seq, Kind::Delete, &[]);
                    self.model.remove(key);
                }
                Write::DeleteRange(start, end) => {
                    let span = Span::new(start.clone(), end.clone());
                    self.model.retain(|key, _| !span.contains(key));
                    writer.delete_range(span, seq);
                }
            }
        }
        self.home.absorb(&Input::new(vec![memtable]), &self.shop).unwrap()
    }

    fn ingest(&mut self, entries: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let mut owned = entries.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
        let change = self
            .home
            .ingest(&mut Intake::new(&mut Given::new(&mut owned), true), &self.shop)
            .unwrap();
        self.publish(change);
        self.model.extend(entries.iter().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// Stages, writes down and adopts a change, as the database does.
    fn publish(&mut self, change: Change) {
        self.publish_slowly(change, || ());
    }

    /// The same; `meanwhile` happens while the manifest is written.
    fn publish_slowly(&mut self, change: Change, meanwhile: impl FnOnce()) {
        let staged = self.home.stage(change);
        meanwhile();
        self.files.retain(|(_, meta)| !staged.removed.contains(&meta.file));
        for (level, run) in &staged.added {
            assert!(!self.files.iter().any(|(_, meta)| meta.file == run.file()));
            let meta = RunMeta::decode(&mut Reader::new(&run.meta())).unwrap();
            self.files.push((*level, meta));
        }
        self.home.adopt(&staged);
        staged.retired.iter().for_each(|run| run.retire(&self.graveyard));
        drop(staged);
        self.bury();
        let levels = self.levels();
        levels.check().unwrap();
        let shown: Vec<_> = levels.files().iter().map(|(l, run)| (run.file(), *l)).collect();
        let mut noted: Vec<_> = self.files.iter().map(|(l, meta)| (meta.file, *l)).collect();
        noted.sort_unstable();
        let mut shown = shown;
        shown.sort_unstable();
        assert_eq!(shown, noted, "the manifest and the tree disagree");
    }

    fn bury(&self) {
        for file in self.graveyard.take() {
            self.folder.remove(&file.name).unwrap();
        }
    }

    fn run(&mut self, mut job: Box<dyn Job>) {
        let change = job.run(&self.shop).unwrap();
        self.publish(change);
    }

    /// Works until there is nothing left to do; returns the number of jobs.
    fn settle(&mut self, idle: bool) -> usize {
        for count in 0..10_000 {
            let Some(job) = self.home.next_job(idle) else { return count };
            self.run(job);
        }
        panic!("background work does not end: {:?}", self.shape());
    }

    /// Forgets all but the files, and opens them.
    fn reopen(&mut self) {
        let open = |(level, meta): &(u8, RunMeta)| {
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            let meta = RunMeta::decode(&mut crate::codec::Reader::new(&bytes)).unwrap();
            (*level, Run::open(&self.folder, meta, &self.shop.access).unwrap())
        };
        let runs = self.files.iter().map(open).collect();
        self.home = Arc::new(LsmHome::open(self.options.clone(), runs).unwrap());
        self.bury();
    }

    /// Files of each level.
    fn shape(&self) -> Vec<usize> {
        let runs = self.levels().runs();
        (0..7).map(|level| runs.iter().filter(|(at, _)| *at == level).count()).collect()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = None;
        let found = self.home.current().get(key, key_hash(key), &mut |found| {
            assert!(value.replace(found.bytes().to_vec()).is_none());
        });
        match found.unwrap() {
            Lookup::Found(()) => Some(value.unwrap()),
            _ => {
                assert_eq!(value, None);
                None
            }
        }
    }

    fn scan(&self, span: &Span) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut sources = Vec::new();
        self.home.current().sources(span, &mut sources);
        let mut merge = Merge::new(sources, Deletes::Hide);
        merge.seek(&span.start)?;
        let mut entries = Vec::new();
        while merge.valid() && span.ends_after(merge.key()) {
            let key = merge.key().to_vec();
            entries.push((key, merge.value()?.to_vec()));
            merge.next()?;
        }
        Ok(entries)
    }

    /// Compares all that can be read with the model.
    fn check(&self) {
        let all = Span::new("", None::<&str>);
        let expected: Vec<_> = self.model.clone().into_iter().collect();
        assert_eq!(self.scan(&all).unwrap(), expected);
        for (key, value) in &self.model {
            assert_eq!(self.get(key).as_ref(), Some(value), "{}", key.escape_ascii());
        }
        self.levels().files().iter().for_each(|(_, file)| file.verify().unwrap());
        let names: Vec<_> = self.files.iter().map(|(_, meta)| run_name(meta.file)).collect();
        for name in &names {
            assert!(self.folder.list().unwrap().contains(name), "{name} was removed too early");
        }
    }
}

/// Options with which a few kilobytes fill every level.
fn tiny() -> LsmOptions {
    LsmOptions::new()
        .block_bytes(256)
        .filter_bits(8)
        .last_filter_bits(0)
        .file_bytes(4 << 10)
        .base_bytes(4 << 10)
        .growth(2)
        .merge_at(3)
}

/// The same, with most values long enough to stay where they are.
fn lending() -> LsmOptions {
    tiny().filter_bits(0).separate_values(100)
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

/// A small generator of numbers (splitmix64), so that tests repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end)) as u32
    }
}

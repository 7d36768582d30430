//! Tests of the whole home, driven the way the database drives it, against a map.

use super::{HashHome, HashOptions, HashRun, HashRunMeta, change::Edited};
use crate::{
    Result,
    cache::BlockCache,
    codec::{Reader, WEAK_SEED, key_hash},
    memtable::{Memory, Memtable},
    sorted::{Cursor, Deletes, Graveyard, Kind, Lookup, Merge, RunAccess, Span},
    table::{Change, FileIds, Given, HASH_BYTES, Home, Input, Intake, Room, Settled, Shop},
    vfs::{Folder, mem::MemFolder},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

type Key = Vec<u8>;

/// A database of one table, without log and manifest.
struct Host {
    folder: MemFolder,
    shop: Shop,
    graveyard: Arc<Graveyard>,
    options: HashOptions,
    home: Arc<HashHome>,
    /// What the manifest would say.
    files: Vec<HashRunMeta>,
    model: BTreeMap<Key, Vec<u8>>,
}

impl Host {
    fn new(options: HashOptions) -> Self {
        let folder = MemFolder::default();
        let shop = Shop {
            folder: Arc::new(folder.clone()),
            files: Arc::new(FileIds::starting_at(1)),
            access: RunAccess::Mapped(Arc::new(BlockCache::new(1 << 20))),
            breathe: Arc::new(|| Ok(())),
            // Little memory, so that loads do not fit in.
            room: Room { memory: Arc::new(|| 24 << 10), threads: 2 },
        };
        // Always the same one: how much fits into a file, and so what is merged, depends on it.
        let options = match options.seed_or_zero() {
            0 => options.seed(0x0bad_cafe),
            _ => options,
        };
        let home = Arc::new(HashHome::open(options.clone(), Vec::new()).unwrap());
        let (graveyard, files) = (Graveyard::new(), Vec::new());
        Self { folder, shop, graveyard, options, home, files, model: BTreeMap::new() }
    }

    /// Applies writes to the model, and writes the files that hold them.
    fn absorb(&mut self, writes: &[(Key, Option<Vec<u8>>)]) -> Change {
        // Two memtables, as when one waits.
        let (old, new) = writes.split_at(writes.len() / 2);
        let mut memtables = Vec::new();
        for (first, writes) in [(1, old), (1 + old.len() as u64, new)] {
            let (memtable, mut writer) = Memtable::new(8 << 20, Memory::Own);
            for (seq, (key, value)) in (first..).zip(writes) {
                let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                let bytes = value.as_deref().unwrap_or_default();
                writer.insert(key, key_hash(key), seq, kind, bytes);
                match value {
                    Some(value) => self.model.insert(key.clone(), value.clone()),
                    None => self.model.remove(key),
                };
            }
            memtables.insert(0, memtable);
        }
        self.home.absorb(&Input::new(memtables), &self.shop).unwrap()
    }

    fn write(&mut self, writes: &[(Key, Option<Vec<u8>>)]) {
        let change = self.absorb(writes);
        self.publish(change);
    }

    fn ingest(&mut self, entries: &[(Key, Vec<u8>)]) {
        let mut owned = entries.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
        let change = self
            .home
            .ingest(&mut Intake::new(&mut Given::new(&mut owned), false), &self.shop)
            .unwrap();
        let distinct: BTreeMap<_, _> = entries.iter().cloned().collect();
        assert_eq!(change.entries, distinct.len() as u64);
        self.publish(change);
        self.model.extend(distinct);
    }

    /// Stages, writes down and adopts a change, as the database does.
    fn publish(&mut self, change: Change) {
        let staged = self.home.stage(change);
        self.files.retain(|meta| !staged.removed.contains(&meta.file));
        for (_, file) in &staged.added {
            assert!(!self.files.iter().any(|meta| meta.file == file.file()));
            let meta = file.meta();
            self.files.push(HashRunMeta::decode(&mut Reader::new(&meta)).unwrap());
        }
        self.home.adopt(&staged);
        staged.retired.iter().for_each(|file| file.retire(&self.graveyard));
        drop(staged);
        self.bury();
    }

    fn bury(&self) {
        for dead in self.graveyard.take() {
            self.folder.remove(&dead.name).unwrap();
        }
    }

    /// Takes one step of background work, if there is any.
    fn step(&mut self, idle: bool) -> bool {
        let Some(mut job) = self.home.next_job(idle) else { return false };
        let change = job.run(&self.shop).unwrap();
        self.publish(change);
        drop(job);
        self.bury();
        true
    }

    fn reopen(&mut self) {
        let open = |meta: &HashRunMeta| {
            let seed = self.options.seed_or_zero();
            HashRun::open(&self.folder, meta.clone(), seed, &self.shop.access).unwrap()
        };
        let files = self.files.iter().map(open).collect();
        self.home = Arc::new(HashHome::open(self.options.clone(), files).unwrap());
    }

    fn runs(&self) -> usize {
        self.home.current().stats().levels.len()
    }

    fn check(&self) {
        check(&*self.home.current(), &self.model);
        for (_, file) in self.home.current().files() {
            file.verify().unwrap();
        }
        let mut names = self.folder.list().unwrap();
        let mut listed: Vec<_> = self.home.current().files().iter().map(|f| f.1.name()).collect();
        names.sort();
        listed.sort();
        assert_eq!(names, listed, "no file is left over, none is missing");
        let stats = self.home.current().stats();
        let bytes = self.files.iter().map(|meta| meta.bytes).sum::<u64>();
        assert_eq!((stats.file_bytes, stats.levels.len()), (bytes, self.runs()));
    }
}

fn check(settled: &dyn Settled, model: &BTreeMap<Key, Vec<u8>>) {
    let absent = (0..60u32).map(|i| format!("absent {i}").into_bytes());
    let keys: Vec<Key> = model.keys().cloned().chain(absent).collect();
    for key in &keys {
        let mut value = None;
        let mut found = |found: crate::sorted::Found<'_>| value = Some(found.to_value().to_vec());
        let lookup = settled.get(key, 0, &mut found).unwrap();
        assert_eq!(value.as_ref(), model.get(key));
        assert_eq!(matches!(lookup, Lookup::Found(())), value.is_some());
    }
    let asked: Vec<_> = keys.iter().map(|key| (key.as_slice(), 0)).collect();
    let mut values = vec![None; keys.len()];
    settled
        .get_many(&asked, &mut |i, lookup| {
            assert!(values[i].is_none(), "answered twice");
            if let Lookup::Found(found) = lookup {
                values[i] = Some(found.bytes().to_vec());
            }
        })
        .unwrap();
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(value.as_ref(), model.get(key));
    }
    let mut sources = Vec::new();
    settled.sources(&Span::new("", None::<Vec<u8>>), &mut sources);
    let mut merge = Merge::new(sources, Deletes::Hide);
    let mut read = BTreeMap::new();
    let mut moved = merge.seek_first();
    while moved.is_ok() && merge.valid() {
        let (key, value) = merge.entry().unwrap();
        let was = read.insert(key[HASH_BYTES..].to_vec(), value.to_vec());
        assert!(was.is_none(), "a key comes twice");
        moved = merge.next();
    }
    assert_eq!(&read, model);
    let mut count = 0;
    merge.seek_last().unwrap();
    while merge.valid() {
        count += 1;
        merge.prev().unwrap();
    }
    assert_eq!(count, model.len());
}

fn key(i: u32) -> Key {
    format!("key {i}").into_bytes()
}

fn puts(range: std::ops::Range<u32>, len: usize) -> Vec<(Key, Option<Vec<u8>>)> {
    range.map(|i| (key(i), Some(vec![i as u8; len]))).collect()
}

#[test]
fn runs_are_merged_when_there_are_too_many_and_when_idle() {
    let mut host = Host::new(HashOptions::default().runs(4));
    for round in 0..40 {
        host.write(&puts(round * 100..round * 100 + 150, 20));
        while host.step(false) {}
        assert!(host.runs() <= 4);
    }
    host.check();
    while host.step(true) {}
    assert_eq!(host.runs(), 1);
    host.check();
    assert!(!host.step(true));
}

#[test]
fn deletes_go_away_with_the_oldest_run() {
    let mut host = Host::new(HashOptions::default());
    host.write(&puts(0..500, 20));
    let deletes: Vec<_> = (0..400).map(|i| (key(i), None)).collect();
    host.write(&deletes);
    assert_eq!(host.home.current().stats().deletes, 400);
    host.check();
    while host.step(true) {}
    assert_eq!(host.home.current().stats().deletes, 0);
    host.check();
    let deletes: Vec<_> = (400..500).map(|i| (key(i), None)).collect();
    host.write(&deletes);
    while host.step(true) {}
    host.check();
    assert_eq!(host.files.len(), 0, "an empty table has no file");
    host.write(&deletes);
    assert_eq!(host.files.len(), 0, "nor have deletes of nothing");
}

#[test]
fn large_runs_are_cut_and_merged_in_steps() {
    let mut host = Host::new(HashOptions::default().file_bytes(32 << 10));
    host.ingest(&(0..5_000).map(|i| (key(i), vec![1; 60])).collect::<Vec<_>>());
    let files = host.files.len();
    assert!(files >= 8, "{files} files");
    host.check();
    host.write(&puts(2_500..6_000, 60));
    let deletes: Vec<_> = (0..1_000).map(|i| (key(i), None)).collect();
    host.write(&deletes);
    let mut steps = 0;
    // Between steps everything else goes on: reads, flushes, loads, and reopenings.
    while host.step(true) {
        steps += 1;
        host.check();
        match steps {
            2 => host.write(&puts(100..300, 10)),
            3 => host.ingest(&[(key(7), vec![7]), (key(8), vec![8]), (key(7), vec![9])]),
            5 => host.reopen(),
            _ => {}
        }
        assert!(steps < 200);
    }
    assert!(steps > files);
    host.check();
    assert_eq!(host.runs(), 1);
    let (before, model) = (host.home.current(), host.model.clone());
    host.write(&deletes);
    while host.step(true) {}
    check(&*before, &model);
    drop(before);
    host.bury();
    host.reopen();
    host.check();
}

/// Where a run has holes, a merge takes few steps over them.
#[test]
fn holes_are_stepped_over() {
    let mut host = Host::new(HashOptions::default().file_bytes(4 << 10));
    host.ingest(&(0..6_000).map(|i| (key(i), vec![1; 60])).collect::<Vec<_>>());
    let files = host.files.len();
    let last = host.files.last().unwrap().slice;
    let seed = host.options.seed_or_zero();
    let in_last = |i: &u32| last.has(crate::codec::seeded_hash(&key(*i), seed));
    let deletes: Vec<_> = (0..6_000).filter(|i| !in_last(i)).map(|i| (key(i), None)).collect();
    host.write(&deletes);
    while host.step(true) {}
    host.check();
    assert_eq!(host.files.len(), 1);
    host.write(&puts(0..3_000, 20));
    let mut steps = 0;
    while host.step(true) {
        steps += 1;
    }
    host.check();
    assert!(files >= 64 && steps <= 20, "{steps} steps of {files} files");
}

#[test]
fn what_comes_during_a_long_merge_is_kept_to_few_runs() {
    let mut host = Host::new(HashOptions::default().runs(4).file_bytes(16 << 10));
    let mut most = 0;
    for round in 0..300 {
        host.write(&puts(round * 17..round * 17 + 100, 30));
        for _ in 0..4 {
            host.step(false);
        }
        most = most.max(host.runs());
    }
    assert!((5..=12).contains(&most), "{most} runs");
    while host.step(true) {}
    host.check();
}

#[test]
fn where_runs_are_too_many_new_entries_join_the_newest() {
    let mut host = Host::new(HashOptions::default().runs(2).file_bytes(8 << 10));
    for round in 0..40 {
        host.write(&puts(round * 50..round * 50 + 100, 30));
    }
    // Nothing was merged in the background.
    assert!((4..=16).contains(&host.runs()), "{} runs", host.runs());
    host.check();
    // One that is being absorbed into is in no merge, whoever comes first.
    let waits = host.absorb(&puts(0..100, 40));
    assert!(waits.detail.downcast_ref::<Edited>().unwrap().is_absorbed());
    let runs = host.runs();
    let before = host.model.clone();
    let mut job = host.home.next_job(true).unwrap();
    let step = job.run(&host.shop).unwrap();
    host.publish(step);
    drop(job);
    host.publish(waits);
    assert!(host.runs() <= runs);
    assert_eq!(host.model, before);
    host.check();
    let deletes: Vec<_> = (0..2_000).map(|i| (key(i), None)).collect();
    host.write(&deletes);
    host.check();
    while host.step(true) {}
    host.check();
    assert_eq!(host.runs(), 1);
}

/// What could not be published leaves the run it was to replace to merges.
#[test]
fn a_run_that_was_absorbed_into_in_vain_is_merged() {
    for is_staged in [false, true] {
        let mut host = Host::new(HashOptions::default().runs(2));
        host.write(&puts(0..2_000, 100));
        host.write(&puts(0..300, 50));
        host.write(&puts(0..100, 50));
        assert_eq!(host.runs(), 3);
        let before = host.model.clone();
        let in_vain = host.absorb(&puts(0..100, 40));
        let fresh = in_vain.fresh.clone();
        if is_staged {
            let staged = host.home.stage(in_vain);
            host.home.withdraw(staged);
            fresh.iter().for_each(|file| file.retire(&host.graveyard));
        } else {
            host.home.discard(in_vain, &host.graveyard);
        }
        drop(fresh);
        host.bury();
        host.model = before;
        host.check();
        while host.step(true) {}
        assert_eq!(host.runs(), 1);
        host.check();
    }
}

#[test]
fn a_failed_step_changes_nothing() {
    let mut host = Host::new(HashOptions::default().file_bytes(64 << 10));
    host.ingest(&(0..2_000).map(|i| (key(i), vec![1; 60])).collect::<Vec<_>>());
    host.write(&puts(500..1_500, 40));
    let fails = Shop { breathe: Arc::new(fails), ..host.shop.clone() };
    let mut large = host.home.next_job(true).unwrap();
    assert!(large.run(&fails).is_err());
    assert!(host.home.next_job(true).is_none(), "one at a time");
    drop(large);
    host.check();
    while host.step(true) {}
    host.check();
    let mut entries = (0..40_000u32).map(|i| Ok((key(i).into(), vec![1; 60].into())));
    assert!(
        host.home.ingest(&mut Intake::new(&mut Given::new(&mut entries), false), &fails).is_err()
    );
    host.check();
}

fn fails() -> Result<()> {
    Err(crate::Error::new(crate::ErrorKind::Busy, "no time"))
}

#[test]
fn loads_of_any_size_and_order() {
    for count in [0, 1, 700, 20_000] {
        let mut host = Host::new(HashOptions::default());
        let mut entries: Vec<_> =
            (0..count).map(|i| (key(i * 7 % count), vec![i as u8; 9])).collect();
        entries.extend((0..count / 10).map(|i| (key(i), vec![0])));
        host.ingest(&entries);
        assert_eq!(host.runs(), usize::from(count > 0));
        host.check();
    }
}

#[test]
fn loads_larger_than_memory() {
    let many: Vec<_> = (0..6_000).map(|i| (key(i * 7 % 5_000), vec![i as u8; 40])).collect();
    let hot: Vec<_> = (0..9_000).map(|i| (key(i % 3), vec![i as u8; 30])).collect();
    let long: Vec<_> = (0..40).map(|i| (key(i % 30), vec![i as u8; 9_000])).collect();
    for entries in [many, hot, long] {
        for (seed, memory, threads) in [(7, 6 << 10, 1), (7, 40 << 10, 3), (WEAK_SEED, 80 << 10, 2)]
        {
            let mut host = Host::new(HashOptions::default().seed(seed));
            host.shop.room = Room { memory: Arc::new(move || memory), threads };
            host.ingest(&entries);
            host.check();
        }
    }
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let entries: Vec<_> = (0..4_000).map(|i| (key(i), vec![1; 60])).collect();
    let mut host = Host::new(HashOptions::default());
    host.ingest(&entries[..100]);
    for pauses in [0, 3, 40, 400] {
        let left = std::sync::atomic::AtomicIsize::new(pauses);
        let breathe = move || match left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => fails(),
        };
        let shop = Shop { breathe: Arc::new(breathe), ..host.shop.clone() };
        let mut owned = entries.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
        assert!(
            host.home.ingest(&mut Intake::new(&mut Given::new(&mut owned), false), &shop).is_err(),
            "after {pauses} pauses"
        );
        host.check();
    }
    let mut broken = entries.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
    let mut broken = broken.by_ref().take(3_000).chain([fails().map(|()| Default::default())]);
    assert!(
        host.home
            .ingest(&mut Intake::new(&mut Given::new(&mut broken), false), &host.shop)
            .is_err()
    );
    host.check();
    host.ingest(&entries);
    host.check();
}

#[test]
fn other_homes_files_are_refused() {
    let mut host = Host::new(HashOptions::default());
    host.write(&puts(0..100, 20));
    let seed = host.options.seed_or_zero();
    let run = |_| HashRun::open(&host.folder, host.files[0].clone(), seed, &host.shop.access);
    let twice = (0..2).map(run).collect::<Result<Vec<_>>>().unwrap();
    let error = HashHome::open(host.options.clone(), twice).map(drop).unwrap_err();
    assert!(error.is_corrupt(), "two files of one run overlap");
}

#[derive(Clone, Debug)]
enum Act {
    Write(Vec<(u8, Option<u8>)>),
    Ingest(Vec<(u8, u8)>),
    Step(bool),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(any::<(u8, Option<u8>)>(), 0..60).prop_map(Act::Write),
        1 => prop::collection::vec(any::<(u8, u8)>(), 0..60).prop_map(Act::Ingest),
        4 => any::<bool>().prop_map(Act::Step),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn is_as_a_map(
        acts in prop::collection::vec(act(), 1..40),
        runs in 2u32..6,
        seed in prop_oneof![any::<u64>(), Just(WEAK_SEED)],
    ) {
        let options = HashOptions::default().runs(runs).file_bytes(4096).seed(seed);
        let mut host = Host::new(options);
        let value = |byte: u8| vec![byte; usize::from(byte) * 8];
        for act in acts {
            match act {
                Act::Write(writes) => {
                    let own = |(key, byte): (u8, Option<u8>)| (vec![key], byte.map(value));
                    host.write(&writes.into_iter().map(own).collect::<Vec<_>>());
                }
                Act::Ingest(entries) => {
                    let own = |(key, byte): (u8, u8)| (vec![key], value(byte));
                    host.ingest(&entries.into_iter().map(own).collect::<Vec<_>>());
                }
                Act::Step(idle) => {
                    host.step(idle);
                }
                Act::Reopen => host.reopen(),
            }
            check(&*host.home.current(), &host.model);
        }
        host.check();
    }
}

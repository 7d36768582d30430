//! Tests of the whole tree, driven the way the database drives it, against an ordered map.
//!
//! Goal: whatever happens in whatever order, every version that is still read answers as an ordered
//! map did when it was made, and every page is in use once or free. Method: random operations on
//! trees of tiny pages, mapped in a real folder and cached in memory; versions are pinned at random
//! and read in full while pages around them are used again.

use super::{
    BtreeHome, BtreeOptions,
    delta::{DELTA_LEVEL, TREE_LEVEL},
    version::Version,
};
use crate::{
    Result,
    cache::BlockCache,
    codec::{Reader, key_hash},
    memtable::{Memory, Memtable},
    sorted::{
        Cursor, Deletes, FileId, FreeList, Graveyard, Kind, Lookup, Merge, PageRoot, Run,
        RunAccess, RunMeta, Span,
    },
    table::{Change, FileIds, Given, Home, HomeFile, Input, Intake, Room, Settled, Shop},
    vfs::{Folder, mem::MemFolder, os::OsFolder},
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use std::{any::Any, collections::BTreeMap, sync::Arc};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// One write.
#[derive(Clone, Debug)]
enum Write {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
}

/// A database of one table, without log and manifest.
struct Host {
    _dir: Option<tempfile::TempDir>,
    shop: Shop,
    graveyard: Arc<Graveyard>,
    options: BtreeOptions,
    home: BtreeHome,
    /// What the manifest would say: the files with their levels, in the order they were listed.
    files: Vec<(u8, Arc<dyn HomeFile>)>,
    root: Bytes,
    model: Model,
    pinned: Vec<(Arc<Version>, Model)>,
}

impl Host {
    fn new(page_bytes: u32, mapped: bool) -> Self {
        Self::with(BtreeOptions::default().page_bytes(page_bytes), mapped)
    }

    fn with(options: BtreeOptions, mapped: bool) -> Self {
        let cache = Arc::new(BlockCache::new(64 << 10));
        let dir = mapped.then(|| tempfile::tempdir().unwrap());
        let (folder, access): (Arc<dyn Folder>, _) = match &dir {
            Some(dir) => (Arc::new(OsFolder::open(dir.path()).unwrap()), RunAccess::Mapped(cache)),
            None => (Arc::new(MemFolder::default()), RunAccess::Cached(cache)),
        };
        let files = Arc::new(FileIds::starting_at(1));
        Self {
            _dir: dir,
            shop: Shop {
                folder,
                files,
                access,
                breathe: Arc::new(|| Ok(())),
                room: Room::default(),
            },
            graveyard: Graveyard::new(),
            home: BtreeHome::new(options.clone()),
            options,
            files: Vec::new(),
            root: Bytes::new(),
            model: Model::new(),
            pinned: Vec::new(),
        }
    }

    fn version(&self) -> Arc<Version> {
        let settled: Arc<dyn Any + Send + Sync> = self.home.current();
        settled.downcast().ok().unwrap()
    }

    fn memtable(writes: &[Write], model: &mut Model) -> Arc<Memtable> {
        let (memtable, mut writer) = Memtable::new(8 << 20, Memory::Own);
        for (seq, write) in (1..).zip(writes) {
            match write {
                Write::Put(key, value) => {
                    writer.insert(key, key_hash(key), seq, Kind::Put, value);
                    model.insert(key.clone(), value.clone());
                }
                Write::Delete(key) => {
                    writer.insert(key, key_hash(key), seq, Kind::Delete, &[]);
                    model.remove(key);
                }
                Write::DeleteRange(start, end) => {
                    let span = Span::new(start.clone(), end.clone());
                    model.retain(|key, _| !span.contains(key));
                    writer.delete_range(span, seq);
                }
            }
        }
        memtable
    }

    fn write(&mut self, writes: &[Write]) {
        let memtable = Self::memtable(writes, &mut self.model);
        let change = self.home.absorb(&Input::new(vec![memtable]), &self.shop).unwrap();
        self.publish(change);
    }

    /// Writes that come to nothing: the change is discarded, or its edits are not written.
    fn fail(&mut self, writes: &[Write], staged: bool) {
        let memtable = Self::memtable(writes, &mut self.model.clone());
        let change = self.home.absorb(&Input::new(vec![memtable]), &self.shop).unwrap();
        if staged {
            let fresh = change.fresh.clone();
            let staged = self.home.stage(change);
            self.home.withdraw(staged);
            fresh.iter().for_each(|file| file.retire(&self.graveyard));
        } else {
            self.home.discard(change, &self.graveyard);
        }
        self.bury();
    }

    fn ingest(&mut self, entries: &Model, meanwhile: &[Write]) {
        let mut owned = entries.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
        let mut change = self
            .home
            .ingest(&mut Intake::new(&mut Given::new(&mut owned), true), &self.shop)
            .unwrap();
        if !meanwhile.is_empty() {
            self.write(meanwhile);
        }
        self.home.join(&mut change, &self.shop).unwrap();
        self.publish(change);
        self.model.extend(entries.iter().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// Stages, writes down and adopts a change, as the database does.
    fn publish(&mut self, change: Change) {
        let staged = self.home.stage(change);
        let listed = |file| self.files.iter().any(|(_, listed)| listed.file() == file);
        assert!(staged.removed.iter().all(|file| listed(*file)));
        self.files.retain(|(_, file)| !staged.removed.contains(&file.file()));
        self.files.extend(staged.added.iter().cloned());
        self.root = staged.root.clone().unwrap_or(self.root.clone());
        self.home.adopt(&staged);
        staged.retired.iter().for_each(|file| file.retire(&self.graveyard));
        drop(staged);
        self.bury();
    }

    fn bury(&self) {
        self.graveyard.take().iter().for_each(|dead| self.shop.folder.remove(&dead.name).unwrap());
    }

    /// Works until there is nothing left to do.
    fn settle(&mut self, idle: bool) {
        for _ in 0..1000 {
            let Some(mut job) = self.home.next_job(idle) else { return };
            let change = job.run(&self.shop).unwrap();
            drop(job);
            self.publish(change);
        }
        panic!("background work does not end");
    }

    /// A piece of background work that ends while `writes` come in.
    fn work_beside(&mut self, writes: &[Write], idle: bool) -> bool {
        // Without deltas writes would wait for the end of it, and that for this thread.
        if self.options.most_deltas() == 0 {
            return false;
        }
        let Some(mut job) = self.home.next_job(idle) else { return false };
        let change = job.run(&self.shop).unwrap();
        drop(job);
        self.write(writes);
        self.publish(change);
        true
    }

    /// What is pinned goes on.
    fn reopen(&mut self) {
        if !self.files.is_empty() {
            self.home = BtreeHome::new(self.options.clone());
            self.home = self.open_again();
        }
    }

    /// The table as another process would open it.
    fn open_again(&self) -> BtreeHome {
        let (options, folder, access) =
            (self.options.clone(), &self.shop.folder, &self.shop.access);
        let deltas = self.files.iter().filter(|(level, _)| *level == DELTA_LEVEL);
        let open = |(_, file): &(u8, Arc<dyn HomeFile>)| {
            let meta = RunMeta::decode(&mut Reader::new(&file.meta())).unwrap();
            Run::open(&**folder, meta, access).unwrap()
        };
        let deltas = deltas.rev().map(open).collect();
        BtreeHome::open(options, folder, self.page_file(), &self.root, deltas, access).unwrap()
    }

    fn page_file(&self) -> FileId {
        let tree = self.files.iter().find(|(level, _)| *level == TREE_LEVEL);
        tree.unwrap().1.file()
    }

    fn deltas(&self) -> usize {
        self.version().deltas.len()
    }

    fn pin(&mut self) {
        self.pinned.push((self.version(), self.model.clone()));
    }

    fn check(&self) {
        check(&self.version(), &self.model);
        self.pinned.iter().for_each(|(version, model)| check(version, model));
    }
}

/// Reads everything there is to read in a version.
fn check(version: &Arc<Version>, model: &Model) {
    let Some(tree) = version.tree() else {
        assert!(model.is_empty());
        return;
    };
    tree.verify().unwrap();
    version.deltas.iter().for_each(|delta| delta.verify().unwrap());
    let counts = tree.counts();
    if !counts.estimated && version.deltas.is_empty() {
        assert_eq!(counts.entries, model.len() as u64);
    }
    let mut sources = Vec::new();
    version.sources(&Span { start: Bytes::new(), end: None }, &mut sources);
    let mut cursor = Merge::new(sources, Deletes::Hide);
    cursor.seek_first().unwrap();
    for (key, value) in model {
        assert!(cursor.valid(), "{key:?} is missing");
        assert_eq!((cursor.key(), cursor.kind()), (&key[..], Kind::Put));
        assert_eq!(cursor.value().unwrap(), &value[..]);
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    cursor.seek_last().unwrap();
    for (key, value) in model.iter().rev() {
        assert_eq!(cursor.entry().unwrap(), (&key[..], &value[..]));
        cursor.prev().unwrap();
    }
    assert!(!cursor.valid());
    let keys: Vec<Vec<u8>> =
        model.keys().flat_map(|key| [key.clone(), [key, &b"x"[..]].concat()]).collect();
    let asked: Vec<(&[u8], u64)> = keys.iter().map(|key| (&key[..], key_hash(key))).collect();
    let mut many = vec![None; keys.len()];
    version
        .get_many(&asked, &mut |i, lookup| {
            if let Lookup::Found(found) = lookup {
                many[i] = Some(found.to_value());
            }
        })
        .unwrap();
    for ((key, hash), many) in asked.iter().zip(many) {
        let mut one = None;
        version.get(key, *hash, &mut |found| one = Some(found.bytes().to_vec())).unwrap();
        assert_eq!(one.as_ref(), model.get(*key));
        assert_eq!(many.as_deref(), one.as_deref());
        cursor.seek(key).unwrap();
        let next = model.range(key.to_vec()..).next();
        assert_eq!(cursor.valid().then(|| cursor.key().to_vec()).as_ref(), next.map(|(k, _)| k));
        cursor.seek_before(key).unwrap();
        let before = model.range(..key.to_vec()).next_back();
        assert_eq!(cursor.valid().then(|| cursor.key().to_vec()).as_ref(), before.map(|(k, _)| k));
    }
}

fn key(n: u32) -> Vec<u8> {
    format!("key{n:05}").into_bytes()
}

fn puts(numbers: impl IntoIterator<Item = u32>, len: usize) -> Vec<Write> {
    numbers.into_iter().map(|n| Write::Put(key(n), vec![n as u8; len])).collect()
}

const KEYS: u32 = 600;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    Fail(Vec<Write>, bool),
    Ingest(u32, u32, u8, Vec<Write>),
    Settle(bool),
    WorkBeside(Vec<Write>, bool),
    Pin,
    Unpin(usize),
    Reopen,
}

fn any_write() -> impl Strategy<Value = Write> {
    let len = prop_oneof![20 => 0..60usize, 3 => 60..400usize, 1 => 400..3000usize];
    let long = (0..KEYS, 0..900usize);
    let put = (0..KEYS, len, any::<u8>());
    prop_oneof![
        80 => put.prop_map(|(k, len, fill)| Write::Put(key(k), vec![fill; len])),
        3 => long.prop_map(|(k, len)| Write::Put([key(k), vec![b'l'; len]].concat(), vec![1; 9])),
        20 => (0..KEYS).prop_map(|k| Write::Delete(key(k))),
        4 => (0..KEYS, 1..KEYS / 2).prop_map(|(k, n)| Write::DeleteRange(key(k), Some(key(k + n)))),
        1 => (0..KEYS).prop_map(|k| Write::DeleteRange(key(k), None)),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let near = (0..KEYS, vec((0..40u32, 0..60usize), 1..60)).prop_map(|(start, puts)| {
        puts.into_iter().map(|(k, len)| Write::Put(key(start + k), vec![7; len])).collect()
    });
    let many = (0..KEYS, 1..300u32).prop_map(|(start, n)| puts(start..start + n, 30));
    let all = (0..2u32).prop_map(|start| puts((start..KEYS).step_by(3), 40));
    prop_oneof![
        8 => vec(any_write(), 1..60).prop_map(Step::Write),
        4 => near.prop_map(Step::Write),
        2 => many.prop_map(Step::Write),
        2 => all.prop_map(Step::Write),
        2 => (vec(any_write(), 1..60), any::<bool>()).prop_map(|(w, staged)| Step::Fail(w, staged)),
        2 => (0..KEYS, 1..200u32, any::<u8>(), vec(any_write(), 0..3))
            .prop_map(|(at, n, fill, meanwhile)| Step::Ingest(at, n, fill, meanwhile)),
        3 => any::<bool>().prop_map(Step::Settle),
        3 => (vec(any_write(), 1..60), any::<bool>())
            .prop_map(|(writes, idle)| Step::WorkBeside(writes, idle)),
        3 => Just(Step::Pin),
        3 => (0..4usize).prop_map(Step::Unpin),
        1 => Just(Step::Reopen),
    ]
}

/// How the keys of [`Step`]s are spelled.
type Spelling = fn(Vec<u8>) -> Vec<u8>;

/// Every digit becomes a syllable: keys of all lengths, that share long beginnings or none.
fn words(key: Vec<u8>) -> Vec<u8> {
    const SYLLABLES: [(&str, usize); 10] = [
        ("a", 1),
        ("ab", 1),
        ("ab", 9),
        ("b", 1),
        ("ba", 1),
        ("b", 90),
        ("c", 1),
        ("ca", 20),
        ("c", 300),
        ("d", 1),
    ];
    let (digits, rest) = key.split_at(key.len().min(8));
    let number: u32 = std::str::from_utf8(&digits[3..]).unwrap().parse().unwrap();
    let syllable = |digit: u8| {
        let (syllable, times) = SYLLABLES[usize::from(digit - b'0')];
        syllable.repeat(times)
    };
    let word: String = number.to_string().bytes().map(syllable).collect();
    [word.as_bytes(), rest].concat()
}

fn spelled(writes: Vec<Write>, spell: Spelling) -> Vec<Write> {
    let spelled = |write| match write {
        Write::Put(key, value) => Write::Put(spell(key), value),
        Write::Delete(key) => Write::Delete(spell(key)),
        Write::DeleteRange(start, end) => {
            let (start, end) = (spell(start), end.map(spell));
            let end = end.map(|end| end.max(start.clone()));
            Write::DeleteRange(start, end)
        }
    };
    writes.into_iter().map(spelled).collect()
}

fn play(options: BtreeOptions, mapped: bool, spell: Spelling, steps: Vec<Step>) {
    let mut host = Host::with(options, mapped);
    for step in steps {
        match step {
            Step::Write(writes) => host.write(&spelled(writes, spell)),
            Step::Fail(writes, staged) => host.fail(&spelled(writes, spell), staged),
            Step::Ingest(at, n, fill, meanwhile) => {
                let entries = (at..at + n).map(|n| (spell(key(n)), vec![fill; (n % 50) as usize]));
                host.ingest(&entries.collect(), &spelled(meanwhile, spell));
            }
            Step::Settle(idle) => host.settle(idle),
            Step::WorkBeside(writes, idle) => {
                host.work_beside(&spelled(writes, spell), idle);
            }
            Step::Pin => host.pin(),
            Step::Unpin(i) if i < host.pinned.len() => drop(host.pinned.remove(i)),
            Step::Unpin(_) => {}
            Step::Reopen => host.reopen(),
        }
        if let Some(tree) = host.version().tree() {
            tree.verify().unwrap();
        }
    }
    host.check();
    host.reopen();
    host.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_as_a_map_does(
        page_bits in 8u32..12,
        deltas in 0u32..4,
        ratio in 1u32..20,
        mapped: bool,
        worded: bool,
        steps in vec(any_step(), 1..30),
    ) {
        let options = BtreeOptions::default().page_bytes(1 << page_bits);
        let spell = if worded { words } else { |key| key };
        play(options.deltas(deltas).rewrite_ratio(ratio), mapped, spell, steps);
    }
}

#[test]
fn pages_are_used_again() {
    for mapped in [false, true] {
        let mut host = Host::new(512, mapped);
        host.write(&puts(0..2000, 50));
        let fresh = host.version().stats().file_bytes;
        for round in 0..20 {
            host.write(&puts((round % 3..2000).step_by(3), 50));
        }
        let stats = host.version().stats();
        assert!(stats.file_bytes < 3 * fresh, "{} of {fresh}", stats.file_bytes);
        host.check();
    }
}

/// A version that is read for long holds up its own pages, not those that came and went since; and
/// beside it and the newest there is no third while everything changes.
#[test]
fn a_reader_who_stays_costs_one_copy() {
    let mut host = Host::new(512, true);
    host.write(&puts(0..20_000, 50));
    let fresh = host.version().stats().file_bytes;
    host.pin();
    for _ in 0..10 {
        host.write(&puts(0..20_000, 50));
        host.settle(false);
        assert_eq!(host.deltas(), 0);
    }
    let stats = host.version().stats();
    assert!(2 * stats.file_bytes < 5 * fresh, "{} of {fresh}", stats.file_bytes);
    host.check();
    // Whoever leaves is in nobody's way.
    host.pinned.clear();
    host.write(&puts(0..20_000, 50));
    assert_eq!(host.deltas(), 0);
    host.check();
}

/// Little changes go into the tree at once, whatever is kept.
#[test]
fn a_reader_who_stays_does_not_put_off_small_changes() {
    let mut host = Host::new(512, false);
    host.write(&puts(0..5000, 50));
    host.pin();
    host.write(&puts(0..5000, 50));
    for start in 0..20 {
        host.write(&puts(100 * start..100 * start + 200, 50));
        assert_eq!(host.deltas(), 0);
    }
    host.check();
}

#[test]
fn a_reader_elsewhere_holds_up_all_pages() {
    let mut host = Host::new(512, true);
    host.write(&puts(0..500, 50));
    let reader = host.shop.folder.share().unwrap();
    let other = host.open_again();
    let model = host.model.clone();
    for _ in 0..5 {
        host.write(&puts(0..500, 60));
        // Slices would save nothing.
        assert_eq!(host.deltas(), 0);
    }
    let settled: Arc<dyn Any + Send + Sync> = other.current();
    check(&settled.downcast().ok().unwrap(), &model);
    host.reopen();
    host.write(&puts(0..500, 70));
    let settled: Arc<dyn Any + Send + Sync> = other.current();
    check(&settled.downcast().ok().unwrap(), &model);
    let long = host.version().stats().file_bytes;
    drop(reader);
    for _ in 0..5 {
        host.write(&puts(0..500, 70));
    }
    assert!(host.version().stats().file_bytes <= long);
    host.check();
}

#[test]
fn an_emptied_file_is_made_smaller() {
    for mapped in [false, true] {
        let mut host = Host::new(512, mapped);
        host.write(&puts(0..5000, 60));
        let full = host.version().stats().file_bytes;
        host.write(&[Write::DeleteRange(key(300), Some(key(4700)))]);
        host.settle(false);
        assert_eq!(host.version().stats().file_bytes, full);
        host.settle(true);
        let left = host.version().stats();
        assert!(left.file_bytes < full / 3, "{} of {full}", left.file_bytes);
        let name = crate::sorted::pages_name(host.page_file());
        let file = host.shop.folder.open(&name, crate::vfs::Access::Read).unwrap();
        assert_eq!(file.size().unwrap(), left.file_bytes);
        host.check();
    }
}

/// Leaves that nothing is said of are neither read nor written.
#[test]
fn a_small_change_writes_little() {
    let mut host = Host::new(512, false);
    host.write(&puts(0..5000, 50));
    let written = |host: &Host| host.version().stats().tree.unwrap().pages_written;
    let before = written(&host);
    host.write(&puts([2500], 50));
    assert!(written(&host) - before < 8, "{}", written(&host) - before);
    let before = written(&host);
    host.write(&puts(5000..5100, 50));
    assert!(written(&host) - before < 40, "{}", written(&host) - before);
    host.check();
}

/// Keys all over the tree, another set for each `start`.
fn scattered(start: u32) -> Vec<Write> {
    puts((start..5000).step_by(25), 50)
}

#[test]
fn scattered_changes_wait_for_more() {
    for mapped in [false, true] {
        let mut host = Host::with(BtreeOptions::default().page_bytes(512).rewrite_ratio(8), mapped);
        host.write(&puts(0..5000, 50));
        let written = |host: &Host| host.version().stats().tree.unwrap().pages_written;
        let before = written(&host);
        host.write(&scattered(0));
        host.write(&[Write::Delete(key(50)), Write::DeleteRange(key(1010), Some(key(1020)))]);
        host.pin();
        assert_eq!((host.deltas(), written(&host)), (2, before));
        host.check();
        host.reopen();
        host.check();
        // Enough of them are worth their leaves. (Work is counted from opening on.)
        let before = written(&host);
        for start in 1..4 {
            host.write(&scattered(start));
            host.settle(false);
        }
        assert_eq!(host.deltas(), 0);
        assert!(written(&host) > before);
        host.write(&scattered(7));
        assert_eq!(host.deltas(), 1);
        host.settle(true);
        assert_eq!(host.deltas(), 0);
        host.check();
    }
}

#[test]
fn what_is_written_while_deltas_are_merged_stays_newer() {
    for (most, ratio, left) in [(8, 8, 1), (2, 1, 2)] {
        let options = BtreeOptions::default().page_bytes(512).deltas(most).rewrite_ratio(ratio);
        let mut host = Host::with(options, false);
        host.write(&puts(0..5000, 50));
        (0..4).for_each(|start| host.write(&scattered(start)));
        let newer = puts((0..5000).step_by(50), 33);
        // Merged into the tree in the first case, folded in the second.
        assert!(host.work_beside(&newer, false));
        host.check();
        host.pin();
        host.settle(false);
        assert_eq!(host.deltas(), left);
        host.check();
        host.reopen();
        host.check();
        host.settle(true);
        assert_eq!(host.deltas(), 0);
        host.check();
    }
}

/// A merge goes on where it was, whatever is written between its slices, and begins anew after a
/// crash.
#[test]
fn merges_are_sliced() {
    for crashes in [false, true] {
        let mut host = Host::with(BtreeOptions::default().page_bytes(512).rewrite_ratio(8), false);
        host.write(&puts(0..5000, 50));
        (0..4).for_each(|start| host.write(&scattered(start)));
        host.write(&[Write::DeleteRange(key(700), Some(key(2900))), Write::Delete(key(3000))]);
        let mut slices = 0;
        while host.work_beside(&puts([slices, 5000 - slices * 31], 20), false) {
            slices += 1;
            host.check();
            host.pin();
            if crashes && slices == 3 {
                host.reopen();
            }
            if host.version().begun.is_none() && slices > 3 {
                break;
            }
        }
        assert!(slices > 4, "{slices}");
        host.settle(true);
        assert_eq!(host.deltas(), 0);
        host.check();
    }
}

/// While somebody reads an old version, the file has room for that, the newest, and a slice of the
/// next, however much is written.
#[test]
fn a_merge_needs_room_for_a_slice() {
    let mut host = Host::with(BtreeOptions::default().page_bytes(512).rewrite_ratio(8), true);
    host.write(&puts(0..20_000, 50));
    let fresh = host.version().stats().file_bytes;
    host.pin();
    for round in 0..250 {
        host.write(&puts((round % 25..20_000).step_by(25), 50));
        host.settle(false);
    }
    host.settle(true);
    let stats = host.version().stats();
    assert!(2 * stats.file_bytes < 5 * fresh, "{} of {fresh}", stats.file_bytes);
    host.check();
}

#[test]
fn writers_wait_for_too_many_deltas() {
    let options = BtreeOptions::default().page_bytes(512).deltas(2).rewrite_ratio(1);
    let mut host = Host::with(options, false);
    host.write(&puts(0..5000, 50));
    let mut pressures = Vec::new();
    for start in 0..5 {
        pressures.push(host.home.pressure());
        host.write(&scattered(start));
    }
    assert_eq!(pressures, [0.0, 0.0, 0.0, 0.5, 1.0]);
    host.settle(false);
    assert_eq!(host.home.pressure(), 0.0);
    host.check();
}

/// Without deltas everything goes into the tree at once.
#[test]
fn there_may_be_no_deltas() {
    let mut host = Host::with(BtreeOptions::default().page_bytes(512).deltas(0), false);
    host.write(&puts(0..5000, 50));
    host.write(&scattered(0));
    assert_eq!(host.deltas(), 0);
    host.check();
}

/// What a range delete covers is not read: it may be damaged.
#[test]
fn range_deletes_do_not_read_leaves() {
    let mut host = Host::new(512, false);
    host.write(&puts(0..3000, 50));
    let name = crate::sorted::pages_name(host.page_file());
    let file = host.shop.folder.open(&name, crate::vfs::Access::Write).unwrap();
    let tree = host.version().tree().cloned().unwrap();
    // Pages of leaves in the middle, none of a branch.
    let mut cursor = tree.cursor();
    cursor.seek(&key(1500)).unwrap();
    let before = host.version().stats();
    let leaf_page = 60;
    file.write_at(&[0xff; 512], leaf_page * 512).unwrap();
    let damaged = tree.verify();
    assert!(damaged.is_err());
    host.write(&[Write::DeleteRange(key(20), Some(key(2900)))]);
    assert!(before.entries > host.version().stats().entries);
    host.check();
}

#[test]
fn loads_fill_leaves() {
    let mut host = Host::new(4096, true);
    let entries: Model = (0..20_000).map(|n| (key(n), vec![n as u8; 100])).collect();
    host.ingest(&entries, &[]);
    let stats = host.version().stats();
    let tree = stats.tree.unwrap();
    let fill = stats.raw_bytes as f64 / (tree.leaves * tree.page_bytes) as f64;
    assert!(fill > 0.94, "{fill}");
    host.check();
    let more: Model = (20_000..21_000).map(|n| (key(n), vec![n as u8; 100])).collect();
    host.ingest(&more, &puts([20_500], 3));
    host.check();
}

#[test]
fn roots_are_checked_when_opened() {
    let mut host = Host::new(512, false);
    host.write(&puts(0..500, 50));
    let open = |root: &[u8]| -> Result<()> {
        let (options, access) = (host.options.clone(), &host.shop.access);
        BtreeHome::open(options, &host.shop.folder, 1, root, Vec::new(), access).map(drop)
    };
    open(&host.root).unwrap();
    let root = PageRoot::decode(&host.root).unwrap();
    let longer = PageRoot { pages: root.pages + 100, ..root };
    assert!(open(&longer.encode()).unwrap_err().is_corrupt());
    assert!(open(b"").unwrap_err().is_corrupt());
    let other = host.options.clone().page_bytes(1024);
    let (folder, access) = (&host.shop.folder, &host.shop.access);
    let opened = BtreeHome::open(other, folder, 1, &host.root, Vec::new(), access).map(drop);
    assert!(opened.unwrap_err().is_corrupt());
}

/// Versions that are published while a load goes on give up pages that were in use when it began,
/// that of the list of free pages too.
#[test]
fn a_load_goes_on_beside_other_work() {
    let mut host = Host::with(BtreeOptions::default().page_bytes(256).deltas(0), false);
    host.write(&puts(0..20_000, 50));
    for round in 0..12 {
        host.write(&puts((round * 7 % 45..20_000).step_by(45), 50));
    }
    let tree = host.version().tree().cloned().unwrap();
    assert!(matches!(tree.described().free, FreeList::Apart(_)), "the list of free pages is short");
    drop(tree);
    let loaded: Model = (30_000..31_000).map(|n| (key(n), vec![7; 20])).collect();
    let writes: Vec<Vec<Write>> =
        (0..4).map(|i| puts((i * 11 % 45..20_000).step_by(45), 50)).collect();
    let mut model = host.model.clone();
    let mut entries = loaded.iter().enumerate().map(|(i, (key, value))| {
        if i % 300 == 0 {
            let memtable = Host::memtable(&writes[i / 300], &mut model);
            let change = host.home.absorb(&Input::new(vec![memtable]), &host.shop).unwrap();
            let staged = host.home.stage(change);
            host.home.adopt(&staged);
        }
        Ok((key.clone().into(), value.clone().into()))
    });
    let mut change = host
        .home
        .ingest(&mut Intake::new(&mut Given::new(&mut entries), true), &host.shop)
        .unwrap();
    host.model = model;
    host.model.extend(loaded);
    host.home.join(&mut change, &host.shop).unwrap();
    host.publish(change);
    host.check();
}

/// A tree with everything that the format has: two levels, a free list, values that lie apart.
fn pinned_host() -> Host {
    let mut host = Host::new(256, false);
    host.write(&puts(0..60, 20));
    host.write(&[Write::Put(key(7), vec![b'x'; 700]), Write::Delete(key(9))]);
    host.write(&[Write::DeleteRange(key(20), Some(key(40))), Write::Put(key(30), b"new".to_vec())]);
    host
}

fn file_bytes(host: &Host) -> Vec<u8> {
    let file = host.shop.folder.open("0000000001.pages", crate::vfs::Access::Read).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    crate::vfs::read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

const PAGES: &[u8] = include_bytes!("../../tests/fixtures/v1/btree/0000000001.pages");
const ROOT: &[u8] = include_bytes!("../../tests/fixtures/v1/btree/root");

#[test]
fn page_files_are_read_and_written_as_ever() {
    let host = pinned_host();
    assert!(file_bytes(&host) == PAGES, "the page file is written differently");
    assert_eq!(&host.root[..], ROOT);
    let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
    let file = folder.open("0000000001.pages", crate::vfs::Access::CreateNew).unwrap();
    crate::vfs::write_all_at(&*file, PAGES, 0).unwrap();
    let (options, access) = (host.options.clone(), &host.shop.access);
    let home = BtreeHome::open(options, &folder, 1, ROOT, Vec::new(), access).unwrap();
    let settled: Arc<dyn Any + Send + Sync> = home.current();
    check(&settled.downcast().ok().unwrap(), &host.model);
}

/// Writes the fixture; for a new version of the format only.
#[test]
#[ignore = "writes the fixture"]
fn write_the_fixture() {
    let host = pinned_host();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1/btree");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(format!("{folder}/0000000001.pages"), file_bytes(&host)).unwrap();
    std::fs::write(format!("{folder}/root"), &host.root).unwrap();
}

//! Hash runs as a whole: written, opened in every way, read in every way, damaged.

use super::*;
use crate::{
    Compression,
    codec::{WEAK_SEED, seeded_hash},
    sorted::{Cursor, Kind, Lookup},
    vfs::{Access, mem::MemFolder, write_all_at},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const FILE: FileId = 7;

type Model = BTreeMap<(u64, Vec<u8>), Option<Vec<u8>>>;

fn model(seed: u64, entries: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Model {
    entries.into_iter().map(|(key, value)| ((seeded_hash(&key, seed), key), value)).collect()
}

fn options(seed: u64) -> HashRunOptions {
    HashRunOptions { seed, compression: Compression::None, slice: Slice::default(), age: 3 }
}

fn write(folder: &MemFolder, options: HashRunOptions, model: &Model) -> HashRunMeta {
    let mut writer = HashRunWriter::create(folder, FILE, options).unwrap();
    for ((hash, key), value) in model {
        let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
        writer.add(*hash, key, kind, value.as_deref().unwrap_or_default()).unwrap();
    }
    writer.finish().unwrap()
}

fn ways() -> [RunAccess; 3] {
    let cache = |bytes| Arc::new(BlockCache::new(bytes));
    [
        RunAccess::Mapped(cache(1 << 20)),
        RunAccess::Cached(cache(1 << 20)),
        RunAccess::Cached(cache(0)),
    ]
}

fn get(run: &Arc<HashRun>, key: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut value = None;
    let hash = run.hash(key);
    let lookup = run.get(key, hash, &mut |found| {
        assert_eq!(found.to_value(), found.bytes());
        value = Some(found.bytes().to_vec());
    });
    let by_candidate = match run.candidate(hash).unwrap() {
        Candidate::At(place) => run.get_at(place, key, &mut |_| ()).unwrap(),
        Candidate::Absent => Some(Lookup::Missing),
        Candidate::Unclear => None,
    };
    match lookup.unwrap() {
        Lookup::Found(()) => {
            assert!(matches!(by_candidate, None | Some(Lookup::Found(()))));
            Some(Some(value.unwrap()))
        }
        Lookup::Deleted => {
            assert!(matches!(by_candidate, None | Some(Lookup::Deleted)));
            Some(None)
        }
        Lookup::Missing => {
            assert!(value.is_none() && matches!(by_candidate, None | Some(Lookup::Missing)));
            None
        }
    }
}

fn entry(cursor: &mut HashRunCursor) -> ((u64, Vec<u8>), Option<Vec<u8>>) {
    let (hash, key) = cursor.key().split_first_chunk().unwrap();
    let key = (u64::from_be_bytes(*hash), key.to_vec());
    let pinned = cursor.pinned_value().unwrap();
    let value = cursor.value().unwrap().to_vec();
    assert_eq!(pinned, value);
    (key, (cursor.kind() == Kind::Put).then_some(value))
}

fn check(run: &Arc<HashRun>, model: &Model) {
    let mut cursor = run.cursor();
    cursor.seek_first().unwrap();
    for (key, value) in model {
        assert_eq!(get(run, &key.1).as_ref(), Some(value));
        assert!(cursor.valid());
        assert_eq!(entry(&mut cursor), (key.clone(), value.clone()));
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    cursor.seek_last().unwrap();
    for (key, value) in model.iter().rev() {
        assert_eq!(entry(&mut cursor), (key.clone(), value.clone()));
        cursor.prev().unwrap();
    }
    assert!(!cursor.valid());
    for i in 0..200u64 {
        let key = format!("absent {i}").into_bytes();
        if !model.contains_key(&(run.hash(&key), key.clone())) {
            assert_eq!(get(run, &key), None);
        }
    }
}

fn check_seeks(run: &Arc<HashRun>, model: &Model, targets: impl Iterator<Item = (u64, Vec<u8>)>) {
    let mut cursor = run.cursor();
    for target in targets {
        let key = [&target.0.to_be_bytes()[..], &target.1].concat();
        cursor.seek(&key).unwrap();
        let after = model.range(target.clone()..).next();
        assert_eq!(cursor.valid().then(|| entry(&mut cursor).0).as_ref(), after.map(|e| e.0));
        if cursor.valid() {
            cursor.prev().unwrap();
            let before = model.range(..after.unwrap().0.clone()).next_back();
            assert_eq!(cursor.valid().then(|| entry(&mut cursor).0).as_ref(), before.map(|e| e.0));
        }
        cursor.seek_before(&key).unwrap();
        let before = model.range(..target).next_back();
        assert_eq!(cursor.valid().then(|| entry(&mut cursor).0).as_ref(), before.map(|e| e.0));
    }
}

/// Keys and values of all lengths that are stored in different ways.
fn mixed(count: u32) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    (0..count).map(|i| {
        let long = match i % 50 {
            7 => 1_000,
            8 => 3_000,
            _ => i as usize % 30,
        };
        let key = [&i.to_be_bytes()[..], &vec![b'k'; long]].concat();
        let len = match i % 40 {
            3 => 900,
            4 => 1_012 - key.len().min(1_000),
            5 => 2_000,
            6 => 30_000,
            _ => i as usize % 200,
        };
        (key, (i % 11 != 0).then(|| vec![i as u8; len]))
    })
}

#[test]
fn reads_back_what_was_written() {
    for (count, seed) in [(0, 1), (1, 2), (2, 3), (60, 4), (800, 5), (5_000, 6)] {
        let model = model(seed, mixed(count));
        let folder = MemFolder::default();
        for compression in [Compression::None, Compression::Lz4] {
            let meta = write(&folder, HashRunOptions { compression, ..options(seed) }, &model);
            assert_eq!(meta.entries, u64::from(count));
            for access in ways() {
                let run = HashRun::open(&folder, meta.clone(), seed, &access).unwrap();
                check(&run, &model);
                let targets = model.keys().step_by(17).flat_map(|(hash, key)| {
                    let longer = [key.as_slice(), b"x"].concat();
                    [(*hash, key.clone()), (*hash, longer), (hash + 1, Vec::new())]
                });
                let ends = [(0, Vec::new()), (u64::MAX, vec![255; 3])];
                check_seeks(&run, &model, targets.chain(ends));
                run.verify().unwrap();
            }
            folder.remove(&hash_run_name(FILE)).unwrap();
        }
    }
}

#[test]
fn slices_are_like_whole_runs() {
    let (seed, bits) = (9, 2);
    let all = model(seed, mixed(4_000));
    for number in 0..1 << bits {
        let slice = Slice { bits, number };
        let mut model = all.clone();
        model.retain(|(hash, _), _| slice.has(*hash));
        let folder = MemFolder::default();
        let meta = write(&folder, HashRunOptions { slice, ..options(seed) }, &model);
        for access in ways() {
            let run = HashRun::open(&folder, meta.clone(), seed, &access).unwrap();
            check(&run, &model);
            check_seeks(&run, &model, all.keys().step_by(13).cloned());
            run.verify().unwrap();
        }
        let mut writer =
            HashRunWriter::create(&folder, 8, HashRunOptions { slice, ..options(seed) }).unwrap();
        assert!(writer.add(slice.first() ^ 1 << 63, b"k", Kind::Put, b"").is_err());
    }
}

/// Keys that somebody chose so that they fall together cost a few steps more, not a walk over all
/// of them.
#[test]
fn chosen_keys_are_still_found() {
    let keys = (0..3_000u32).map(|i| (i.to_be_bytes().to_vec(), Some(vec![i as u8; 20])));
    let equal = model(WEAK_SEED, keys);
    let one_line = |(key, _): &(Vec<u8>, _)| seeded_hash(key, 5) >> 50 == 77;
    let close = model(5, mixed(1_500_000).filter(one_line));
    assert!(close.len() > 70);
    for (seed, model) in [(WEAK_SEED, equal), (5, close)] {
        let folder = MemFolder::default();
        let meta = write(&folder, options(seed), &model);
        for access in ways() {
            let run = HashRun::open(&folder, meta.clone(), seed, &access).unwrap();
            check(&run, &model);
            check_seeks(&run, &model, model.keys().step_by(29).cloned());
            run.verify().unwrap();
        }
    }
}

#[test]
fn an_index_takes_little() {
    let model = model(1, (0..60_000u32).map(|i| (i.to_be_bytes().to_vec(), Some(vec![1; 8]))));
    let folder = MemFolder::default();
    let meta = write(&folder, options(1), &model);
    let run = HashRun::open(&folder, meta, 1, &ways()[0]).unwrap();
    let index = (run.footer.extents_at - run.footer.index_at) as f64 / 60_000.0;
    assert!(index <= 5.5, "{index} bytes a key");
}

#[test]
fn what_does_not_ascend_is_refused() {
    let folder = MemFolder::default();
    let mut writer = HashRunWriter::create(&folder, FILE, options(1)).unwrap();
    writer.add(5, b"b", Kind::Put, b"").unwrap();
    for (hash, key) in [(4, b"c"), (5, b"a"), (5, b"b")] {
        let error = writer.add(hash, key, Kind::Put, b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
    }
    drop(writer);
    assert!(folder.list().unwrap().is_empty(), "an unfinished file goes away");
}

#[test]
fn other_tables_files_are_refused() {
    let folder = MemFolder::default();
    let model = model(1, mixed(100));
    let meta = write(&folder, options(1), &model);
    let access = &ways()[0];
    assert!(HashRun::open(&folder, meta.clone(), 2, access).unwrap_err().is_corrupt());
    for wrong in [
        HashRunMeta { bytes: meta.bytes + 1, ..meta.clone() },
        HashRunMeta { slice: Slice { bits: 1, number: 0 }, ..meta.clone() },
        HashRunMeta { entries: 5_000, ..meta.clone() },
    ] {
        assert!(HashRun::open(&folder, wrong, 1, access).unwrap_err().is_corrupt());
    }
    let wrong = HashRunMeta { entries: 101, ..meta.clone() };
    let run = HashRun::open(&folder, wrong, 1, access).unwrap();
    assert!(run.verify().unwrap_err().is_corrupt());
    let wrong = HashRunMeta { digest: 1, ..meta };
    assert!(HashRun::open(&folder, wrong, 1, access).unwrap().verify().unwrap_err().is_corrupt());
}

/// Flips one bit at a time: whatever it is, verifying finds it, and reading gives errors, never
/// other entries.
#[test]
fn every_flipped_bit_is_found() {
    let folder = MemFolder::default();
    let model = model(1, mixed(90));
    let meta = write(&folder, options(1), &model);
    let file = folder.open(&hash_run_name(FILE), Access::Write).unwrap();
    let mut bytes = vec![0; meta.bytes as usize];
    crate::vfs::read_exact_at(&*file, &mut bytes, 0).unwrap();
    for at in (0..bytes.len()).step_by(41).chain(bytes.len() - 400..bytes.len()) {
        let flipped = bytes[at] ^ 1 << (at % 8);
        write_all_at(&*file, &[flipped], at as u64).unwrap();
        for access in &ways()[..2] {
            let Ok(run) = HashRun::open(&folder, meta.clone(), 1, access) else { continue };
            let error = run.verify().unwrap_err();
            assert!(error.is_corrupt(), "byte {at}: {error}");
            for ((hash, key), value) in &model {
                let mut read = None;
                let found = run.get(key, *hash, &mut |found| read = Some(found.bytes().to_vec()));
                match found {
                    Ok(Lookup::Found(())) => assert_eq!(read.as_ref(), value.as_ref()),
                    Ok(Lookup::Deleted) => assert!(value.is_none()),
                    Ok(Lookup::Missing) => panic!("byte {at} hides a key"),
                    Err(error) => assert!(error.is_corrupt()),
                }
            }
        }
        write_all_at(&*file, &bytes[at..=at], at as u64).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn reads_as_a_map(
        entries in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 0..6),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            0..600,
        ),
        seed in prop_oneof![any::<u64>(), Just(WEAK_SEED)],
        targets in prop::collection::vec(any::<(u64, Vec<u8>)>(), 0..20),
    ) {
        let model = model(seed, entries);
        let folder = MemFolder::default();
        let meta = write(&folder, options(seed), &model);
        for access in ways() {
            let run = HashRun::open(&folder, meta.clone(), seed, &access).unwrap();
            check(&run, &model);
            check_seeks(&run, &model, targets.iter().cloned());
            run.verify().unwrap();
        }
    }
}

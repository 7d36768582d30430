//! Long values that merges leave where they are.

use super::*;
use crate::{Compression, table::HomeStats};

/// Bytes that cannot be compressed, another value for each seed.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut random = Random(seed.into());
    (0..len).map(|_| random.next() as u8).collect()
}

/// Values of 500 bytes.
fn long(keys: impl IntoIterator<Item = u32>, round: u32) -> Vec<Write> {
    let value = |k: u32| noise(k << 8 | round, 500);
    keys.into_iter().map(|k| Write::Put(key(k), value(k))).collect()
}

fn stats(host: &Host) -> HomeStats {
    host.levels().stats()
}

/// Bytes of all keys and values that are there.
fn live(host: &Host) -> u64 {
    host.model.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

/// Options with files of some hundred values.
fn roomy() -> LsmOptions {
    let sizes = LsmOptions::new().block_bytes(512).file_bytes(64 << 10).base_bytes(64 << 10);
    sizes.filter_bits(0).last_filter_bits(0).separate_values(300)
}

#[test]
fn merges_write_little() {
    let mut host = Host::new(&roomy());
    let mut copying = Host::new(&roomy().separate_values(u32::MAX));
    let mut random = Random(1);
    for round in 0..40 {
        let writes = long((0..100).map(|_| random.below(100_000)), round);
        for host in [&mut host, &mut copying] {
            host.write(&writes);
            host.settle(false);
        }
    }
    host.check();
    copying.check();
    let (stats, copied) = (stats(&host), stats(&copying));
    assert!(stats.work.merges >= 4, "{stats:?}");
    let flushed = stats.work.bytes_absorbed;
    let merged = stats.work.bytes_written - flushed;
    assert!(merged * 3 < flushed, "{merged} bytes merged of {flushed}");
    assert!(copied.work.bytes_written > 2 * stats.work.bytes_written, "{copied:?}");
    assert!(copied.work.bytes_read > 4 * stats.work.bytes_read, "{copied:?}");
    assert_eq!(copied.lenders, crate::LenderStats::default());
    assert!(stats.lenders.files > 10 && stats.lenders.needed_bytes < stats.lenders.bytes);
    assert!(stats.file_bytes as f64 <= 1.3 * live(&host) as f64, "{stats:?}");
    assert!(stats.raw_bytes >= live(&host));
}

#[test]
fn space_stays_bounded_while_values_are_overwritten() {
    for compression in [Compression::None, Compression::Lz4] {
        let options = roomy().compression(compression).hot_compression(compression);
        let mut host = Host::new(&options);
        let mut random = Random(2);
        let mut lenders = 0;
        for round in 0..150 {
            host.write(&long((0..100).map(|_| random.below(1500)), round));
            host.settle(false);
            let stats = stats(&host);
            let bytes = stats.file_bytes;
            // Nine flushes may wait to be merged.
            let most = 2.5 * live(&host) as f64 + 9.0 * 60_000.0;
            assert!(bytes as f64 <= most, "round {round}: {bytes}, {:?}", stats.lenders);
            assert!(stats.lenders.bytes <= 2 * stats.lenders.needed_bytes, "{:?}", stats.lenders);
            lenders = lenders.max(stats.lenders.files);
            if round % 40 == 39 {
                host.reopen();
                host.check();
            }
        }
        assert!(lenders > 10, "{lenders}");
        host.settle(true);
        host.check();
        let stats = stats(&host);
        assert!(stats.file_bytes as f64 <= 2.3 * live(&host) as f64, "{stats:?}");
        // A tenth is overwritten between merges: without lending the table is written again for
        // nearly each flush.
        let amplification = stats.work.bytes_written as f64 / stats.work.bytes_absorbed as f64;
        assert!(amplification < 4.0, "{amplification}");
    }
}

#[test]
fn lenders_go_when_nobody_needs_them() {
    let mut host = Host::new(&roomy());
    let mut random = Random(3);
    for round in 0..20 {
        host.write(&long((0..100).map(|_| random.below(5000)), round));
        host.settle(true);
    }
    let lenders = stats(&host).lenders.files;
    assert!(lenders > 5, "{lenders}");
    let all: Vec<u32> = (0..5000).collect();
    for part in all.chunks(500) {
        let short = part.iter().map(|k| Write::Put(key(*k), b"short".to_vec()));
        host.write(&short.collect::<Vec<_>>());
    }
    host.settle(true);
    host.check();
    let stats = stats(&host);
    assert!(stats.lenders.files == 0 && stats.file_bytes < 1_000_000, "{stats:?}");

    for round in 0..12 {
        host.write(&long((0..100).map(|_| random.below(5000)), round));
        host.settle(true);
    }
    assert!(host.levels().stats().lenders.files > 0);
    host.write(&[Write::DeleteRange(key(0), None)]);
    host.settle(true);
    host.check();
    host.bury();
    assert_eq!(host.folder.list().unwrap(), [""; 0]);
}

/// A reader of an old version finds its values when all of them are overwritten, and when it has
/// nothing but a value left.
#[test]
fn old_versions_keep_their_lenders() {
    for cached in [false, true] {
        let mut host = Host::new(&roomy());
        if cached {
            host.shop.access = RunAccess::Cached(Arc::new(BlockCache::new(1 << 20)));
        }
        let mut random = Random(4);
        for round in 0..10 {
            host.write(&long((0..100).map(|_| random.below(1000)), round));
        }
        host.settle(true);
        assert!(stats(&host).lenders.files > 3);
        let (snapshot, then) = (host.home.current(), host.model.clone());
        let mut sources = Vec::new();
        snapshot.sources(&Span::new("", None::<&str>), &mut sources);
        for round in 10..40 {
            host.write(&long((0..100).map(|_| random.below(1000)), round));
            host.settle(true);
        }
        for (key, value) in &then {
            let found = &mut |found: crate::sorted::Found<'_>| assert_eq!(found.bytes(), value);
            let answer = snapshot.get(key, key_hash(key), found).unwrap();
            assert!(matches!(answer, Lookup::Found(())));
        }
        drop(snapshot);
        let files = |host: &Host| host.folder.list().unwrap().len();
        let mut merge = Merge::new(sources, Deletes::Hide);
        merge.seek_first().unwrap();
        let mut pinned = Vec::new();
        for (key, value) in &then {
            assert_eq!(merge.key(), key);
            pinned.push((merge.pinned_value().unwrap(), value.clone()));
            merge.next().unwrap();
        }
        drop(merge);
        assert!(pinned.iter().all(|(pinned, value)| *pinned == **value));
        drop(pinned);
        host.bury();
        assert_eq!(files(&host), host.levels().files().len());
    }
}

/// Runs are lenders while they are merged in slices, and are read as well.
#[test]
fn slices_lend_from_runs_that_stay() {
    let mut host = Host::new(&lending().growth(1000).merge_at(3));
    for at in 0..60 {
        host.write(&long(at * 20..(at + 1) * 20, 0));
    }
    for round in 1..4 {
        host.write(&long((0..150).map(|k| k * 8 + round), round));
        host.write(&[Write::DeleteRange(key(300), Some(key(500))), Write::Delete(key(7))]);
        host.write(&long([310, 400, 490], round));
    }
    let mut slices = 0;
    let mut both = false;
    while let Some(job) = host.home.next_job(false) {
        host.run(job);
        host.check();
        slices += 1;
        let levels = host.levels();
        both |= levels.fresh().iter().any(|run| levels.lenders().is_needed(run.meta().file));
        if slices == 3 {
            host.reopen();
            host.check();
        }
    }
    assert!(slices > 5 && both, "{slices} slices, {both}");
    host.settle(true);
    host.check();
    assert!(stats(&host).lenders.files > 0);
    host.reopen();
    host.check();
}

/// Values are copied where they are to be compressed in another way, and lent from then on.
#[test]
fn another_compression_copies_values_once() {
    let mut host = Host::new(&roomy().compression(Compression::Lz4));
    let mut random = Random(5);
    for round in 0..30 {
        let half_noise = |k: u32| [noise(k << 8 | round, 500), vec![k as u8; 1500]].concat();
        let keys = (0..30).map(|_| random.below(2000));
        host.write(&keys.map(|k| Write::Put(key(k), half_noise(k))).collect::<Vec<_>>());
        host.settle(true);
    }
    host.check();
    let stats = stats(&host);
    assert!(stats.lenders.files > 3 && stats.file_bytes * 2 < live(&host), "{stats:?}");
}

/// Runs with few long values among other things do not lend them.
#[test]
fn mixed_runs_are_copied() {
    let mut host = Host::new(&roomy());
    let mut random = Random(6);
    for round in 0..30 {
        let mut writes = long((0..20).map(|_| random.below(3000)), round);
        let short = (0..100).map(|_| Write::Put(key(random.below(3000)), vec![7; 120]));
        writes.extend(short);
        host.write(&writes);
        host.settle(false);
    }
    host.check();
    assert_eq!(stats(&host).lenders, crate::LenderStats::default());
}

#[test]
fn a_lender_that_is_missing_is_found_when_opening() {
    let mut host = Host::new(&roomy());
    for round in 0..10 {
        host.write(&long((0..100).map(|k| k * 10 + round), round));
    }
    host.settle(true);
    let lender = host.files.iter().find(|(level, _)| *level == 7).unwrap().1.file;
    let open = |(level, meta): &(u8, RunMeta)| {
        (*level, Run::open(&host.folder, meta.clone(), &host.shop.access).unwrap())
    };
    let runs = host.files.iter().filter(|(_, meta)| meta.file != lender).map(open).collect();
    let error = LsmHome::open(host.options.clone(), runs).err().unwrap();
    assert!(error.is_corrupt() && error.to_string().contains(&run_name(lender)), "{error}");
}

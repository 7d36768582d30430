//! What background work costs, and that it ends.

use super::*;
use crate::Compression;

fn puts(keys: impl IntoIterator<Item = u32>, fill: u8) -> Vec<Write> {
    keys.into_iter().map(|k| Write::Put(key(k), vec![fill; 100])).collect()
}

fn deletes(keys: impl IntoIterator<Item = u32>) -> Vec<Write> {
    keys.into_iter().map(|k| Write::Delete(key(k))).collect()
}

fn amplification(host: &Host) -> f64 {
    let work = host.levels().stats().work;
    work.bytes_written as f64 / work.bytes_absorbed as f64
}

/// Like the defaults, a thousand times smaller.
fn small() -> LsmOptions {
    LsmOptions::new().block_bytes(512).file_bytes(64 << 10).base_bytes(256 << 10)
}

#[test]
fn loading_in_order_writes_each_byte_once() {
    let mut host = Host::new(&small());
    for at in 0..200 {
        host.write(&puts(at * 500..(at + 1) * 500, at as u8));
        host.settle(false);
    }
    host.settle(true);
    let stats = host.levels().stats();
    assert_eq!((stats.work.merges, host.shape()[..6].iter().sum::<usize>()), (0, 0));
    assert_eq!(stats.work.bytes_written, stats.file_bytes);
    assert_eq!(stats.work.bytes_absorbed, stats.raw_bytes);
    host.check();
}

#[test]
fn overwriting_converges_and_costs_little() {
    let mut host = Host::new(&small());
    let mut random = Random(1);
    for at in 0..150 {
        host.write(&puts((0..500).map(|_| random.below(20_000)), at as u8));
        host.settle(false);
    }
    assert!(amplification(&host) < 12.0, "{}", amplification(&host));
    host.settle(true);
    host.check();
    let stats = host.levels().stats();
    let live: u64 = host.model.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum();
    assert!(stats.raw_bytes as f64 <= 1.3 * live as f64, "{} for {live}", stats.raw_bytes);
    assert_eq!(host.shape()[0], 0);
}

#[test]
fn flushed_files_wait_for_each_other() {
    let mut host = Host::new(&small());
    for at in 0..7 {
        host.write(&puts((0..500).map(|k| k * 7 + at), 1));
        assert_eq!(host.settle(false), 0, "merged too early");
    }
    assert_eq!(host.shape(), [6, 0, 0, 0, 0, 0, 1]);
    host.write(&puts((0..500).map(|k| k * 7), 2));
    host.write(&puts((0..500).map(|k| k * 7), 3));
    assert!(host.settle(false) > 0);
    assert_eq!(host.shape()[0], 0);
    host.check();
}

#[test]
fn deletes_vanish_when_idle() {
    let mut host = Host::new(&small());
    for at in 0..20 {
        host.write(&puts(at * 500..(at + 1) * 500, 1));
    }
    host.write(&deletes((0..10_000).filter(|k| k % 10 != 0)));
    host.write(&[Write::DeleteRange(key(3), Some(key(5000)))]);
    host.settle(true);
    host.check();
    let stats = host.levels().stats();
    assert_eq!((stats.deletes, stats.entries), (0, host.model.len() as u64));
    assert!(host.levels().runs().iter().all(|(_, run)| run.range_deletes().is_empty()));
    host.write(&[Write::DeleteRange(key(0), None)]);
    host.settle(true);
    assert_eq!(host.shape().iter().sum::<usize>(), 0, "{:?}", host.shape());
    host.check();
    host.bury();
    assert_eq!(host.folder.list().unwrap().len(), 0);
}

#[test]
fn deletes_of_nothing_are_not_written() {
    let mut host = Host::new(&small());
    host.write(&deletes(0..1000));
    host.write(&[Write::DeleteRange(key(0), None)]);
    assert_eq!(host.shape().iter().sum::<usize>(), 0);
    host.write(&puts(0..100, 1));
    host.write(&deletes(1000..2000));
    assert_eq!(host.shape().iter().sum::<usize>(), 1);
    host.check();
}

#[test]
fn covered_files_go_away_unread() {
    let mut host = Host::new(&small());
    for at in 0..100 {
        host.write(&puts(at * 500..(at + 1) * 500, 1));
    }
    let files = host.shape()[6];
    host.write(&[Write::DeleteRange(key(700), Some(key(49_000)))]);
    let job = host.home.next_job(false).unwrap();
    host.run(job);
    let work = host.levels().stats().work;
    assert!(work.drops as usize >= files - 5, "{} of {files}", work.drops);
    assert_eq!((work.bytes_read, work.merges), (0, 0));
    host.check();
    host.settle(true);
    host.check();
    assert_eq!(host.levels().stats().entries, 1700);
}

#[test]
fn files_of_mostly_deletes_are_merged_down() {
    let mut host = Host::new(&small().base_bytes(8 << 10).growth(4));
    let mut random = Random(5);
    for _ in 0..60 {
        host.write(&puts((0..500).map(|_| random.below(30_000)), 1));
        host.settle(false);
    }
    host.write(&deletes(10_000..20_000));
    assert_eq!(host.levels().stats().deletes, 10_000);
    host.settle(false);
    let dense = |level: &crate::LevelStats| level.deletes * 2 > level.entries;
    assert!(!host.levels().stats().levels.iter().any(dense), "{:?}", host.levels().stats());
    host.check();
}

/// One large file, as the loads of a small table leave it.
fn one_large_file(entries: u32) -> Host {
    let mut host = Host::new(&LsmOptions::new().block_bytes(512));
    host.write(&puts(0..entries, 1));
    assert_eq!(host.shape(), [0, 0, 0, 0, 0, 0, 1]);
    host
}

/// Deletes are a hundredth of the bytes that they hide, and still worth it.
#[test]
fn stretches_of_deletes_are_merged_with_what_they_hide() {
    let mut host = one_large_file(40_000);
    for at in 0..4 {
        host.write(&deletes(at * 2500..(at + 1) * 2500));
    }
    assert_eq!(host.shape(), [4, 0, 0, 0, 0, 0, 1]);
    assert_eq!(host.settle(false), 1, "all of them at once");
    let stats = host.levels().stats();
    assert_eq!((stats.deletes, stats.entries), (0, 30_000));
    host.check();

    // Few of them wait for leisure, very few for more.
    host.write(&deletes(10_000..12_000));
    assert_eq!(host.settle(false), 0);
    assert_eq!(host.settle(true), 1);
    host.write(&deletes(12_000..12_100));
    assert_eq!(host.settle(true), 0);
    assert_eq!(host.levels().stats().deletes, 100);
    host.check();
}

#[test]
fn deletes_between_puts_are_no_stretch() {
    let mut host = one_large_file(40_000);
    let mixed = (0..20_000).map(|k| match k % 10 {
        0 => Write::Put(key(k), vec![2; 10]),
        _ => Write::Delete(key(k)),
    });
    host.write(&mixed.collect::<Vec<_>>());
    assert_eq!(host.settle(false), 0);
    host.check();
}

/// A lone range delete over a part of a file, which cannot be dropped as a whole.
#[test]
fn a_range_delete_over_much_of_a_file_frees_it() {
    for (from, to, when_busy) in [(5000, 30_000, true), (5000, 8000, false)] {
        let mut host = one_large_file(40_000);
        let before = host.levels().stats().file_bytes;
        host.write(&[Write::DeleteRange(key(from), Some(key(to)))]);
        assert_eq!(host.settle(false), usize::from(when_busy));
        assert_eq!(host.settle(true), usize::from(!when_busy));
        let stats = host.levels().stats();
        assert_eq!(stats.entries, u64::from(40_000 - (to - from)));
        assert!(stats.file_bytes < before * u64::from(41_000 - (to - from)) / 40_000);
        assert!(host.levels().runs().iter().all(|(_, run)| run.range_deletes().is_empty()));
        host.check();
    }
    let mut host = one_large_file(40_000);
    host.write(&[Write::DeleteRange(key(5000), Some(key(5100)))]);
    assert_eq!(host.settle(true), 0, "a file is not rewritten for a hundred entries");
    host.check();
}

/// The estimate that decides it.
#[test]
fn entries_of_a_span_are_counted_roughly() {
    for compression in [Compression::None, Compression::Lz4] {
        let mut host = Host::new(&LsmOptions::new().block_bytes(512).compression(compression));
        host.write(&puts((0..40_000).map(|k| k * 2), 1));
        let run = host.levels().runs()[0].1.clone();
        for (from, to) in [(0, 80_000), (0, 0), (0, 40_000), (777, 33_333), (79_000, 99_000)] {
            let span = Span::new(key(from), Some(key(to)));
            let truth = i64::from((to.min(80_000) - from).div_ceil(2));
            let counted = run.entries_in(&span).unwrap() as i64;
            assert!((truth - counted).abs() < 400, "{from}..{to}: {truth}, not {counted}");
        }
        assert_eq!(run.entries_in(&Span::new("a", Some("b"))).unwrap(), 0);
        assert_eq!(run.entries_in(&Span::new("x", None::<&str>)).unwrap(), 0);
        assert_eq!(run.entries_in(&Span::new("", None::<&str>)).unwrap(), 40_000);
    }
}

#[test]
fn a_large_merge_is_done_in_slices() {
    let mut host = Host::new(&tiny().growth(1000).merge_at(4));
    let mut random = Random(3);
    for at in 0..30 {
        host.write(&puts(at * 100..(at + 1) * 100, 0));
    }
    let files = host.shape()[6];
    assert!(files > 50);
    let mut round = 0;
    while host.home.next_job(false).is_none() {
        round += 1;
        let scattered = puts((0..100).map(|_| random.below(3000)), round);
        host.write(&scattered);
        host.write(&deletes((0..10).map(|_| random.below(3000))));
    }
    let piled = host.shape()[0];
    let mut slices = 0;
    while host.shape()[0] >= piled {
        drop(host.home.next_job(false).unwrap());
        let job = host.home.next_job(false).unwrap();
        assert!(host.home.next_job(false).is_none(), "two jobs at the same files");
        let before = host.levels().stats().work.bytes_written;
        host.run(job);
        let written = host.levels().stats().work.bytes_written - before;
        assert!(written < 40 * 4096, "one job wrote {written} bytes");
        slices += 1;
        host.check();
        host.write(&puts((0..3).map(|_| random.below(3000)), 99));
    }
    assert!(slices > 2, "{slices}");
    host.reopen();
    host.check();
}

#[test]
fn reopening_between_slices_loses_nothing() {
    let mut host = Host::new(&tiny().growth(1000).merge_at(3));
    for at in 0..30 {
        host.write(&puts(at * 100..(at + 1) * 100, 0));
    }
    for fill in 1..4 {
        host.write(&puts((0..300).map(|k| k * 10 + u32::from(fill)), fill));
        host.write(&[Write::DeleteRange(key(500), Some(key(1500))), Write::Delete(key(7))]);
        host.write(&puts([600, 800, 1000], fill));
    }
    for slices in 1..3 {
        for _ in 0..slices {
            let job = host.home.next_job(false).unwrap();
            host.run(job);
            host.check();
        }
        assert!(host.shape()[0] > 0);
        host.reopen();
        host.check();
    }
    host.settle(true);
    host.check();
}

#[test]
fn a_job_that_fails_leaves_no_files() {
    let mut host = Host::new(&small().file_bytes(1 << 20));
    for fill in 0..8 {
        host.write(&puts((0..3000).map(|k| k * 8 + u32::from(fill)), fill));
    }
    let files = host.folder.list().unwrap();
    let shop = Shop {
        breathe: Arc::new(|| Err(crate::Error::new(crate::ErrorKind::Misuse, "closing"))),
        ..host.shop.clone()
    };
    let mut failed = 0;
    for _ in 0..5 {
        let mut job = host.home.next_job(true).unwrap();
        failed += usize::from(job.run(&shop).is_err());
        assert!(host.folder.list().unwrap() == files, "files were left");
    }
    assert_eq!(failed, 5);
    host.check();
    host.settle(true);
    host.check();
}

#[test]
fn entries_to_ingest_must_ascend() {
    let host = Host::new(&small());
    for keys in [[1, 1], [2, 1]] {
        let mut entries = keys.into_iter().map(|k| Ok((key(k).into(), "v".into())));
        let error = host
            .home
            .ingest(&mut Intake::new(&mut Given::new(&mut entries), true), &host.shop)
            .err()
            .unwrap();
        assert_eq!(error.kind(), crate::ErrorKind::Misuse);
    }
    assert_eq!(host.folder.list().unwrap().len(), 0);
}

#[test]
fn overlapping_files_of_a_level_are_found_when_opened() {
    let mut host = Host::new(&small());
    host.write(&puts(0..10, 1));
    host.write(&puts(5..15, 1));
    let runs: Vec<_> = host.levels().runs().into_iter().map(|(_, run)| (6, run)).collect();
    let error = LsmHome::open(small(), runs.clone()).err().unwrap();
    assert!(error.is_corrupt(), "{error}");
    let (_, run) = runs[0].clone();
    assert!(LsmHome::open(small(), vec![(8, run)]).err().unwrap().is_corrupt());
}

#[test]
fn pressure_rises_with_files_and_falls_with_merging() {
    let mut host = Host::new(&small().merge_at(2).slow_at(6).stop_at(10));
    let mut last = 0.0;
    for fill in 0..12 {
        host.write(&puts(0..10, fill));
        assert!(host.home.pressure() >= last);
        last = host.home.pressure();
    }
    assert!(last >= 1.0, "{last}");
    host.settle(true);
    assert!(host.home.pressure() < 0.1);
}

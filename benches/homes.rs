//! The cost of each operation of B+tree and hash tables, through the public API, on real files.
//!
//! `cargo bench --bench homes`; with `-- --quick` for a first look. 16-byte keys, 100-byte values.
//! `TONEARM_BENCH_ENTRIES` sets how many entries a table has (default: one million). For LSM tables
//! see `engine.rs`.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tempfile::TempDir;
use tonearm::{Btree, Db, Hash, Table};

const VALUE: [u8; 100] = [0x5a; 100];
/// Keys of one `get_many`.
const MANY: usize = 16;

/// A bijection of 64 bits (splitmix64's finalizer): number `i`'s key, in no order.
fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(i).to_be_bytes());
    key[8..].copy_from_slice(&mix(!i).to_be_bytes());
    key
}

fn entries() -> u64 {
    let set = std::env::var("TONEARM_BENCH_ENTRIES").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

/// All entries, as an ingest takes them.
fn sorted() -> Vec<(Bytes, Bytes)> {
    let mut keys: Vec<_> = (0..entries()).map(key).collect();
    keys.sort_unstable();
    let value = Bytes::from_static(&VALUE);
    keys.into_iter().map(|key| (Bytes::copy_from_slice(&key), value.clone())).collect()
}

/// A table with all entries in its files.
fn loaded<T: Table>(open: impl Fn(&Db) -> T) -> (TempDir, Db, T) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    let table = open(&db);
    table.ingest(&mut sorted().into_iter().map(Ok)).unwrap();
    db.maintain().unwrap();
    (dir, db, table)
}

fn btree(db: &Db) -> Btree {
    db.btree("bench").unwrap()
}

fn hash(db: &Db) -> Hash {
    db.hash("bench").unwrap()
}

/// Look-ups, which all tables have.
fn gets(c: &mut Criterion, name: &str, table: &dyn Table) {
    let mut group = c.benchmark_group(format!("{name} get"));
    let mut i = 0;
    let mut next = move || {
        i += 1;
        mix(i) % entries()
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("settled", |b| {
        b.iter(|| table.get_with(&key(next()), |value| value[0]).unwrap().unwrap());
    });
    group.bench_function("missing", |b| {
        b.iter(|| assert!(!table.contains(&key(entries() + next())).unwrap()));
    });
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("16 at once", |b| {
        b.iter(|| {
            let keys: [_; MANY] = std::array::from_fn(|_| key(next()));
            table.get_many(&keys.each_ref().map(|key| &key[..])).unwrap()
        });
    });
    group.finish();
}

fn reads(c: &mut Criterion) {
    let (_dir, _db, tree) = loaded(btree);
    gets(c, "btree", &tree);
    let (_dir, _db, table) = loaded(hash);
    gets(c, "hash", &table);
    let mut group = c.benchmark_group("btree scan");
    let mut i = 0;
    group.bench_function("seek and 10", |b| {
        b.iter(|| {
            i += 1;
            let start = key(mix(i) % entries());
            tree.range(start..).take(10).map(|entry| entry.unwrap().1.len()).sum::<usize>()
        });
    });
    group.throughput(Throughput::Elements(entries())).sample_size(10);
    group.bench_function("forward", |b| {
        b.iter(|| {
            let (mut all, mut sum) = (tree.iter(), 0u64);
            while let Some(entry) = all.next_ref() {
                sum += u64::from(entry.unwrap().1[0]);
            }
            black_box(sum)
        });
    });
    group.finish();
}

/// Writing 200,000 entries of a memtable into a table that has all of them, and bulk loads.
fn writes<T: Table>(c: &mut Criterion, name: &str, open: impl Fn(&Db) -> T + Copy) {
    const ABSORBED: u64 = 200_000;
    let mut group = c.benchmark_group(name);
    group.sample_size(10).throughput(Throughput::Elements(ABSORBED));
    group.bench_function("absorb 200,000", |b| {
        let filled = || {
            let (dir, db, table) = loaded(open);
            for i in 0..ABSORBED {
                table.insert(&key(mix(i) % (2 * entries())), &VALUE).unwrap();
            }
            (dir, db, table)
        };
        b.iter_batched(
            filled,
            |(dir, db, table)| {
                table.flush().unwrap();
                (dir, db, table)
            },
            BatchSize::PerIteration,
        );
    });
    let all = sorted();
    group.throughput(Throughput::Elements(entries()));
    group.bench_function("ingest all", |b| {
        let empty = || {
            let dir = tempfile::tempdir().unwrap();
            let db = Db::open(dir.path().join("db")).unwrap();
            let table = open(&db);
            (dir, db, table)
        };
        b.iter_batched(
            empty,
            |(dir, db, table)| {
                table.ingest(&mut all.iter().cloned().map(Ok)).unwrap();
                (dir, db, table)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn all_writes(c: &mut Criterion) {
    writes(c, "btree", btree);
    writes(c, "hash", hash);
}

criterion_group!(benches, reads, all_writes);
criterion_main!(benches);

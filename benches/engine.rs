//! The cost of each operation of an LSM table, through the public API, on real files.
//!
//! `cargo bench --bench engine`; with `-- --quick` for a first look. 16-byte keys, 100-byte values.
//! `TONEARM_BENCH_ENTRIES` sets how many entries the settled table has (default: one million).

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tonearm::{Builder, Db, Durability, Lsm, Table};

const VALUE: [u8; 100] = [0x5a; 100];

/// A bijection of 64 bits (splitmix64's finalizer): number `i`'s key, in no order.
fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random_key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(i).to_be_bytes());
    key[8..].copy_from_slice(&mix(!i).to_be_bytes());
    key
}

fn sequential_key(i: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[8..].copy_from_slice(&i.to_be_bytes());
    key
}

fn entries() -> u64 {
    let set = std::env::var("TONEARM_BENCH_ENTRIES").ok();
    set.and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

fn open(options: Builder) -> (TempDir, Db, Lsm) {
    let dir = tempfile::tempdir().unwrap();
    let db = options.open(dir.path().join("db")).unwrap();
    let table = db.lsm("bench").unwrap();
    (dir, db, table)
}

/// A table with all entries in its files, merged.
fn settled() -> (TempDir, Db, Lsm) {
    let (dir, db, table) = open(Db::builder());
    for i in 0..entries() {
        table.insert(&random_key(i), &VALUE).unwrap();
    }
    db.flush().unwrap();
    db.maintain().unwrap();
    (dir, db, table)
}

fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(1));
    for (name, key) in
        [("random", random_key as fn(u64) -> [u8; 16]), ("sequential", sequential_key)]
    {
        let (_dir, _db, table) = open(Db::builder());
        let mut i = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                i += 1;
                table.insert(&key(i), &VALUE).unwrap();
            });
        });
    }
    let (_dir, db, table) = open(Db::builder());
    let mut i = 0;
    group.throughput(Throughput::Elements(1000));
    group.bench_function("batch of 1000", |b| {
        b.iter(|| {
            let mut batch = db.batch();
            for _ in 0..1000 {
                i += 1;
                batch.insert(&table, random_key(i), VALUE);
            }
            batch.commit(Durability::Process).unwrap();
        });
    });
    group.finish();
}

/// `threads` threads commit durably at once; the time for `commits` of them in all.
fn durable(table: &Lsm, threads: u64, commits: u64, next: &AtomicU64) -> Duration {
    let barrier = Arc::new(Barrier::new(threads as usize + 1));
    let each = commits.div_ceil(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let barrier = barrier.clone();
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..each {
                    let key = random_key(next.fetch_add(1, Ordering::Relaxed));
                    table.insert_with(&key, &VALUE, Durability::PowerLoss).unwrap();
                }
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}

fn durable_puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("durable put");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let next = AtomicU64::new(0);
    for threads in [1, 16] {
        let (_dir, _db, table) = open(Db::builder());
        group.bench_function(format!("{threads} threads"), |b| {
            b.iter_custom(|commits| durable(&table, threads, commits, &next));
        });
    }
    group.finish();
}

fn gets(c: &mut Criterion) {
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    let (_dir, _db, table) = settled();
    let mut i = 0;
    let mut next = move || {
        i += 1;
        mix(i) % entries()
    };
    group.bench_function("settled", |b| {
        b.iter(|| table.get_with(&random_key(next()), |value| value[0]).unwrap().unwrap());
    });
    group.bench_function("missing", |b| {
        b.iter(|| table.contains(&random_key(next() | 1 << 40)).unwrap());
    });
    let (_dir, _db, recent) = open(Db::builder());
    let count = entries().min(300_000);
    for i in 0..count {
        recent.insert(&random_key(i), &VALUE).unwrap();
    }
    group.bench_function("memtable", |b| {
        b.iter(|| recent.get_with(&random_key(next() % count), |value| value[0]).unwrap().unwrap());
    });
    group.finish();
}

fn scans(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    let (_dir, _db, table) = settled();
    let mut i = 0;
    group.bench_function("seek and 10", |b| {
        b.iter(|| {
            i += 1;
            let start = random_key(mix(i) % entries());
            table.range(start..).take(10).map(|entry| entry.unwrap().1.len()).sum::<usize>()
        });
    });
    group.throughput(Throughput::Elements(entries())).sample_size(10);
    group.bench_function("forward", |b| {
        b.iter(|| {
            let (mut all, mut sum) = (table.iter(), 0u64);
            while let Some(entry) = all.next_ref() {
                sum += u64::from(entry.unwrap().1[0]);
            }
            black_box(sum)
        });
    });
    group.bench_function("backward", |b| {
        b.iter(|| {
            let (mut all, mut sum) = (table.iter(), 0u64);
            while let Some(entry) = all.next_back_ref() {
                sum += u64::from(entry.unwrap().1[0]);
            }
            black_box(sum)
        });
    });
    group.finish();
}

/// What a transaction costs beside a batch that does the same without being sure.
fn transactions(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    group.throughput(Throughput::Elements(1));
    let (_dir, db, table) = open(Db::builder());
    let count = entries().min(100_000);
    (0..count).for_each(|i| table.insert(&random_key(i), &VALUE).unwrap());
    let mut i = 0;
    let mut next = || {
        i += 1;
        [mix(2 * i), mix(2 * i + 1)].map(|i| random_key(i % count))
    };
    group.bench_function("batch of 2 puts", |b| {
        b.iter(|| {
            let mut batch = db.batch();
            for key in &next() {
                batch.insert(&table, key, VALUE);
            }
            batch.commit(Durability::Process).unwrap();
        });
    });
    group.bench_function("2 gets, batch of 2 puts", |b| {
        b.iter(|| {
            let keys = next();
            let mut batch = db.batch();
            for key in &keys {
                let first = table.get_with(key, |value| value[0]).unwrap();
                batch.insert(&table, key, [first.unwrap(); 100]);
            }
            batch.commit(Durability::Process).unwrap();
        });
    });
    group.bench_function("transaction of 2 gets and 2 puts", |b| {
        b.iter(|| {
            let keys = next();
            let mut tx = db.transaction();
            for key in &keys {
                let first = tx.get_with(&table, key, |value| value[0]).unwrap();
                tx.insert(&table, key, [first.unwrap(); 100]).unwrap();
            }
            tx.commit(Durability::Process).unwrap();
        });
    });
    group.bench_function("transaction of 2 gets", |b| {
        b.iter(|| {
            let tx = db.transaction();
            for key in &next() {
                tx.get_with(&table, key, |value| value[0]).unwrap();
            }
            tx.commit(Durability::Process).unwrap();
        });
    });
    group.finish();
}

/// A table without threads, so that flush and merge happen when the bench says so.
fn by_hand(flushes: u64, each: u64) -> (TempDir, Db, Lsm) {
    let options = Db::builder().threads(0).memory(1 << 30).log_bytes(1 << 30);
    let (dir, db, table) = open(options);
    for flush in 0..flushes {
        for i in 0..each {
            table.insert(&random_key(flush * each + i), &VALUE).unwrap();
        }
        if flushes > 1 {
            table.flush().unwrap();
        }
    }
    (dir, db, table)
}

fn background(c: &mut Criterion) {
    let mut group = c.benchmark_group("background");
    group.throughput(Throughput::Elements(200_000)).sample_size(10);
    group.bench_function("flush of 200,000", |b| {
        b.iter_batched(
            || by_hand(1, 200_000),
            |(dir, db, table)| {
                table.flush().unwrap();
                (dir, db, table)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("merge of 4 runs, 200,000 in all", |b| {
        b.iter_batched(
            || by_hand(4, 50_000),
            |(dir, db, table)| {
                db.maintain().unwrap();
                (dir, db, table)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn opens(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let (dir, db, table) = settled();
    drop((db, table));
    group.bench_function("after a clean close", |b| {
        b.iter(|| Db::open(dir.path().join("db")).unwrap());
    });
    group.finish();
}

criterion_group!(benches, puts, durable_puts, gets, scans, transactions, background, opens);
criterion_main!(benches);

//! What the operations cost, printed: `cargo test --release -- --ignored --nocapture figures`.
//!
//! 64 MiB of keys and values; one thread; its processor time, the least of three rounds. Each
//! round also checks that it found what it should, so that no figure is of doing nothing.

use super::*;
use crate::{codec::key_hash, sorted::Cursor};
use std::{hint::black_box, time::Instant};

const BYTES: usize = 64 << 20;
const GETS: u64 = 300_000;

struct Pattern {
    name: &'static str,
    key: fn(u64) -> Vec<u8>,
    value: usize,
    versions: u64,
}

fn mixed(i: u64) -> u64 {
    let i = (i ^ i >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (i ^ i >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

fn random(i: u64) -> Vec<u8> {
    [mixed(i).to_be_bytes(), i.to_be_bytes()].concat()
}

fn sequential(i: u64) -> Vec<u8> {
    [0_u64.to_be_bytes(), i.to_be_bytes()].concat()
}

fn listens(i: u64) -> Vec<u8> {
    format!("user/{:08}/listen/2026-11-21/{i:010}", mixed(i) % 5000).into_bytes()
}

/// Keys of one length, in a row, so that reading them costs next to nothing.
struct Keys {
    bytes: Vec<u8>,
    each: usize,
}

impl Keys {
    fn new(keys: impl Iterator<Item = Vec<u8>>) -> Self {
        let (mut bytes, mut each) = (Vec::new(), 1);
        for key in keys {
            each = key.len();
            bytes.extend(key);
        }
        Self { bytes, each }
    }

    fn iter(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact(self.each)
    }

    /// Some of them, in any order, each with `more` behind it.
    fn sample(&self, count: u64, more: &[u8]) -> Self {
        let keys = self.bytes.len() / self.each;
        let at = |i| (mixed(i) % keys as u64) as usize * self.each;
        Self::new((0..count).map(|i| [&self.bytes[at(i)..][..self.each], more].concat()))
    }
}

/// Nanoseconds that this thread ran, where the system tells.
fn cpu_nanos(since: Instant) -> u64 {
    // Lets the system bring its books up to date.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.unwrap_or_else(|| since.elapsed().as_nanos() as u64)
}

/// The figures of one round, in order.
struct Round(Vec<(&'static str, f64)>, Instant);

impl Round {
    fn time<R>(&mut self, name: &'static str, count: u64, run: impl FnOnce() -> R) -> R {
        let start = cpu_nanos(self.1);
        let result = run();
        self.0.push((name, (cpu_nanos(self.1) - start) as f64 / count as f64));
        result
    }
}

fn round(pattern: &Pattern, keys: &Keys) -> Round {
    let mut round = Round(Vec::new(), Instant::now());
    let distinct = keys.iter().len() as u64;
    let count = distinct * pattern.versions;
    let (memtable, mut writer) = Memtable::new(2 * BYTES, Memory::Own);
    let value = vec![7; pattern.value];
    round.time("put", count, || {
        let rounds = (0..pattern.versions).flat_map(|_| keys.iter());
        for (seq, key) in (1..).zip(rounds) {
            writer.insert(key, key_hash(key), seq, Kind::Put, &value);
        }
    });
    let (before, raw) = (memtable.bytes(), count as usize * (keys.each + pattern.value));
    gets(&mut round, &memtable, keys, count);
    let mut cursor = memtable.cursor(count);
    round.time("first", distinct, || cursor.seek_first().unwrap());
    scans(&mut round, &mut cursor, keys);
    round.0.push(("bytes", (before - raw) as f64 / count as f64));
    round.0.push(("+tree", (memtable.bytes() - before) as f64 / count as f64));
    mix(&mut round, &memtable, &mut writer, pattern, count);
    round
}

fn gets(round: &mut Round, memtable: &Memtable, keys: &Keys, seq: u64) {
    let some = keys.sample(GETS, b"");
    round.time("hit", GETS, || {
        for key in some.iter() {
            let found = memtable.get(key, key_hash(key), seq);
            assert!(matches!(black_box(found), Lookup::Found(_)));
        }
    });
    let others = keys.sample(GETS, b"!");
    round.time("miss", GETS, || {
        for key in others.iter() {
            assert!(matches!(memtable.get(key, key_hash(key), seq), Lookup::Missing));
        }
    });
}

fn scans(round: &mut Round, cursor: &mut MemtableCursor, keys: &Keys) {
    let distinct = keys.iter().len() as u64;
    let some = keys.sample(100_000, b"");
    let read = |cursor: &mut MemtableCursor| {
        black_box((cursor.key().first(), cursor.bytes().last()));
    };
    let walked = round.time("iterate", distinct, || {
        let mut walked = 0;
        while cursor.valid() {
            read(cursor);
            walked += 1;
            cursor.next().unwrap();
        }
        walked
    });
    assert_eq!(walked, distinct);
    let walked = round.time("reverse", distinct, || {
        let mut walked = 0;
        cursor.seek_last().unwrap();
        while cursor.valid() {
            read(cursor);
            walked += 1;
            cursor.prev().unwrap();
        }
        walked
    });
    assert_eq!(walked, distinct);
    round.time("seek+10", 100_000, || {
        for key in some.iter() {
            cursor.seek(key).unwrap();
            for _ in 0..10 {
                if cursor.valid() {
                    read(cursor);
                    cursor.next().unwrap();
                }
            }
        }
    });
    let mut block = Vec::with_capacity(64 << 10);
    round.time("flush", distinct, || {
        cursor.seek_first().unwrap();
        while cursor.valid() {
            if block.len() > 32 << 10 {
                black_box(&block);
                block.clear();
            }
            block.extend_from_slice(cursor.key());
            block.extend_from_slice(cursor.bytes());
            cursor.next().unwrap();
        }
    });
}

/// 95 % seeks with 50 steps, 5 % puts of new keys.
fn mix(
    round: &mut Round,
    memtable: &Arc<Memtable>,
    writer: &mut MemtableWriter,
    pattern: &Pattern,
    count: u64,
) {
    let value = vec![9; pattern.value];
    let new = Keys::new((0..20_000).map(|i| (pattern.key)((1 << 31) + i)));
    round.time("mix", 20_000, || {
        for (i, key) in (1..).zip(new.iter()) {
            if i % 20 == 0 {
                writer.insert(key, key_hash(key), count + i, Kind::Put, &value);
                continue;
            }
            let mut cursor = memtable.cursor(count + i);
            cursor.seek(key).unwrap();
            for _ in 0..50 {
                if cursor.valid() {
                    black_box((cursor.key().first(), cursor.bytes().last()));
                    cursor.next().unwrap();
                }
            }
        }
    });
}

#[test]
#[ignore = "measures, for a minute"]
fn figures() {
    let patterns = [
        Pattern { name: "random", key: random, value: 100, versions: 1 },
        Pattern { name: "sequential", key: sequential, value: 100, versions: 1 },
        Pattern { name: "listens", key: listens, value: 100, versions: 1 },
        Pattern { name: "4 versions", key: random, value: 100, versions: 4 },
        Pattern { name: "random, 1 KiB", key: random, value: 1024, versions: 1 },
    ];
    for pattern in patterns {
        let each = (pattern.key)(0).len() + pattern.value;
        let count = (BYTES / each) as u64 / pattern.versions;
        let keys = Keys::new((0..count).map(pattern.key));
        let rounds: Vec<Round> = (0..3).map(|_| round(&pattern, &keys)).collect();
        print!("{:14}", pattern.name);
        for (i, (name, _)) in rounds[0].0.iter().enumerate() {
            let least = rounds.iter().map(|round| round.0[i].1).fold(f64::MAX, f64::min);
            print!(" {name} {least:.1} ");
        }
        println!();
    }
}

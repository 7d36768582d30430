//! One writer, three readers: at any published sequence number, all entries up to it and no other.
//!
//! Entry `i` of a pattern is put with sequence number `i + 1`, some keys twice, so a reader knows
//! what it must find. The same test is meant to be run under ThreadSanitizer, which then checks
//! every SAFETY comment about sharing in `arena` and `memory`.

use super::*;
use crate::{codec::key_hash, sorted::Cursor};
use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

/// The key of the `i`th put, for several orders of arrival.
fn key(pattern: usize, i: u64) -> Vec<u8> {
    let mixed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match pattern % 5 {
        0 => mixed.to_be_bytes().to_vec(),
        1 => i.to_be_bytes().to_vec(),
        2 => (u64::MAX - i).to_be_bytes().to_vec(),
        3 => format!("user/{:04}/listen/{i:010}", mixed % 50).into_bytes(),
        // Every fourth put overwrites one of long ago.
        _ if i % 4 == 3 => key(0, i / 8 * 4),
        _ => mixed.to_be_bytes().to_vec(),
    }
}

/// How many distinct keys the first `seq` puts have.
fn distinct(pattern: usize, seq: u64) -> u64 {
    if pattern % 5 == 4 { seq - seq / 4 } else { seq }
}

struct Shared {
    memtable: Arc<Memtable>,
    pattern: usize,
    visible: AtomicU64,
    done: AtomicBool,
}

impl Shared {
    /// Puts until the deadline or until the memtable is full, with range deletes here and there of
    /// a key that nobody puts. How many operations it was.
    fn write(&self, mut writer: MemtableWriter, until: Instant) -> u64 {
        let (mut seq, mut deletes) = (0, 0);
        while writer.has_room(1, 64) && (seq % 256 > 0 || Instant::now() < until) {
            let key = key(self.pattern, seq);
            seq += 1;
            writer.insert(&key, key_hash(&key), seq, Kind::Put, &seq.to_le_bytes());
            if seq % 4096 == 17 {
                writer.delete_range(Span::new(&b""[..], Some(&b"\0"[..])), seq);
                deletes += 1;
            }
            self.visible.store(seq, Release);
        }
        self.done.store(true, Release);
        seq + deletes
    }

    /// Gets and scans at what is visible until the writer is done, and once more.
    fn read(&self, mut random: u64) -> u64 {
        let mut rounds = 0;
        loop {
            let done = self.done.load(Acquire);
            let seq = self.visible.load(Acquire);
            for _ in 0..50 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                self.check_get((random >> 33) % (seq + 2), seq);
            }
            match rounds % 4 {
                0 => self.check_forward(seq),
                1 => self.check_backward(seq),
                _ => self.check_seeks(seq, random >> 33),
            }
            rounds += 1;
            if done {
                return rounds;
            }
        }
    }

    fn check_get(&self, i: u64, seq: u64) {
        let key = key(self.pattern, i);
        match self.memtable.get(&key, key_hash(&key), seq) {
            Lookup::Found(value) => {
                let own = u64::from_le_bytes(value.try_into().unwrap());
                assert!(own <= seq && self::key(self.pattern, own - 1) == key);
            }
            other => assert!(i >= seq, "put {i} is not there at {seq}: {other:?}"),
        }
    }

    fn check_entry(&self, cursor: &MemtableCursor, seq: u64) {
        let own = u64::from_le_bytes(cursor.bytes().try_into().unwrap());
        assert!(own <= seq && own == cursor.seq());
        assert_eq!(cursor.key(), key(self.pattern, own - 1));
    }

    fn check_forward(&self, seq: u64) {
        let mut cursor = self.memtable.cursor(seq);
        let (mut count, mut last) = (0, Vec::new());
        cursor.seek_first().unwrap();
        while cursor.valid() {
            self.check_entry(&cursor, seq);
            assert!(count == 0 || last.as_slice() < cursor.key());
            last = cursor.key().to_vec();
            count += 1;
            cursor.next().unwrap();
        }
        assert_eq!(count, distinct(self.pattern, seq), "pattern {}", self.pattern);
        assert_eq!(cursor.range_deletes().is_empty(), seq < 17);
    }

    fn check_backward(&self, seq: u64) {
        let mut cursor = self.memtable.cursor(seq);
        let (mut count, mut last) = (0, Vec::new());
        cursor.seek_last().unwrap();
        while cursor.valid() {
            self.check_entry(&cursor, seq);
            assert!(count == 0 || last.as_slice() > cursor.key());
            last = cursor.key().to_vec();
            count += 1;
            cursor.prev().unwrap();
        }
        assert_eq!(count, distinct(self.pattern, seq), "pattern {}", self.pattern);
    }

    /// Every key that is there is found by a seek, and its neighbours lie beside it.
    fn check_seeks(&self, seq: u64, random: u64) {
        let mut cursor = self.memtable.cursor(seq);
        for i in (0..seq).map(|i| (i + random) % seq).take(50) {
            let key = key(self.pattern, i);
            cursor.seek(&key).unwrap();
            assert!(cursor.valid() && cursor.key() == key, "put {i} is not there at {seq}");
            cursor.next().unwrap();
            if cursor.valid() {
                assert!(cursor.key() > key.as_slice());
                cursor.prev().unwrap();
                assert_eq!(cursor.key(), key);
            }
            cursor.seek_before(&key).unwrap();
            if cursor.valid() {
                assert!(cursor.key() < key.as_slice());
                cursor.next().unwrap();
                assert_eq!(cursor.key(), key);
            }
        }
    }
}

fn stress(pattern: usize, millis: u64, capacity: usize) {
    let (memtable, writer) = Memtable::new(capacity, Memory::Own);
    let shared =
        Shared { memtable, pattern, visible: AtomicU64::new(0), done: AtomicBool::new(false) };
    let until = Instant::now() + Duration::from_millis(millis);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|i| {
                scope.spawn({
                    let shared = &shared;
                    move || shared.read(i)
                })
            })
            .collect();
        let operations = shared.write(writer, until);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
        assert_eq!(shared.memtable.entries() as u64, operations);
    });
}

#[test]
fn readers_see_every_published_entry() {
    for pattern in 0..5 {
        stress(pattern, 300, 32 << 20);
    }
}

/// Many short lives: the first fills, the first splits, the first growth of the hash.
#[test]
fn readers_of_young_memtables() {
    for round in 0..200 {
        stress(round, 1, 1 << 20);
    }
}

/// For hours of it: `TONEARM_STRESS_SECONDS=3600 cargo test --release -- --ignored long_stress`.
#[test]
#[ignore = "takes as long as it is told to"]
fn long_stress() {
    let seconds = std::env::var("TONEARM_STRESS_SECONDS").ok().and_then(|s| s.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(10));
    let mut round = 0;
    while Instant::now() < until {
        stress(round, 20 << (round % 6), 16 << 20);
        round += 1;
    }
}

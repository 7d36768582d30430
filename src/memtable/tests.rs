//! A memtable against a sorted map of (key, newest first), one thread.

use super::*;
use crate::{codec::key_hash, sorted::Cursor};
use proptest::prelude::*;
use std::{cmp::Reverse, collections::BTreeMap};

/// What a memtable should be.
#[derive(Default)]
struct Model {
    versions: BTreeMap<(Vec<u8>, Reverse<u64>), (Kind, Vec<u8>)>,
    deletes: Vec<(Span, u64)>,
}

impl Model {
    fn deleted(&self, key: &[u8], seq: u64) -> Option<u64> {
        let seen = self.deletes.iter().filter(|(span, own)| *own <= seq && span.contains(key));
        seen.map(|(_, own)| *own).max()
    }

    fn get(&self, key: &[u8], seq: u64) -> Option<(Kind, &[u8])> {
        let range = (key.to_vec(), Reverse(seq))..=(key.to_vec(), Reverse(0));
        let version = self.versions.range(range).next();
        let deleted = self.deleted(key, seq);
        match version {
            Some(((_, Reverse(own)), (kind, value))) if deleted.is_none_or(|d| d < *own) => {
                Some((*kind, value))
            }
            _ => deleted.map(|_| (Kind::Delete, &[][..])),
        }
    }

    fn is_written_in(&self, span: &Span, after: u64) -> bool {
        let mut versions = self.versions.keys();
        let mut deletes = self.deletes.iter();
        versions.any(|(key, Reverse(seq))| *seq > after && span.contains(key))
            || deletes.any(|(deleted, seq)| *seq > after && deleted.clip(span).is_some())
    }

    /// What a cursor at `seq` shows.
    fn entries(&self, seq: u64) -> Vec<(&[u8], Kind, &[u8])> {
        let mut entries: Vec<(&[u8], Kind, &[u8])> = Vec::new();
        for ((key, Reverse(own)), (kind, value)) in &self.versions {
            let old = entries.last().is_some_and(|(last, ..)| last == key);
            if *own <= seq && !old && self.deleted(key, seq).is_none_or(|d| d < *own) {
                entries.push((key, *kind, value));
            }
        }
        entries
    }
}

/// A memtable and its model, written to together.
struct Both {
    memtable: Arc<Memtable>,
    writer: MemtableWriter,
    model: Model,
    seq: u64,
}

impl Both {
    fn new(capacity: usize) -> Self {
        let (memtable, writer) = Memtable::new(capacity, Memory::Own);
        Self { memtable, writer, model: Model::default(), seq: 0 }
    }

    fn write(&mut self, key: &[u8], kind: Kind, value: &[u8]) {
        assert!(self.writer.has_room(1, key.len() + value.len()));
        self.seq += 1;
        self.writer.insert(key, key_hash(key), self.seq, kind, value);
        let key = (key.to_vec(), Reverse(self.seq));
        self.model.versions.insert(key, (kind, value.to_vec()));
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.write(key, Kind::Put, value);
    }

    fn delete_range(&mut self, span: Span) {
        self.seq += 1;
        self.writer.delete_range(span.clone(), self.seq);
        if !span.is_empty() {
            self.model.deletes.push((span, self.seq));
        }
    }

    fn check_get(&self, key: &[u8], seq: u64) {
        let found = match self.memtable.get(key, key_hash(key), seq) {
            Lookup::Missing => None,
            Lookup::Deleted => Some((Kind::Delete, &[][..])),
            Lookup::Found(value) => Some((Kind::Put, value)),
        };
        assert_eq!(found, self.model.get(key, seq), "get {key:?} at {seq}");
    }

    /// Both ways through, and a seek to each side of every key.
    fn check_scans(&self, seq: u64) {
        let expected = self.model.entries(seq);
        let mut cursor = self.memtable.cursor(seq);
        assert!(!cursor.valid());
        cursor.seek_first().unwrap();
        for entry in &expected {
            assert_eq!(shown(&mut cursor), Some(*entry));
            cursor.next().unwrap();
        }
        assert!(!cursor.valid());
        cursor.seek_last().unwrap();
        for entry in expected.iter().rev() {
            assert_eq!(shown(&mut cursor), Some(*entry));
            cursor.prev().unwrap();
        }
        assert!(!cursor.valid());
        for (rank, (key, ..)) in expected.iter().enumerate() {
            cursor.seek(key).unwrap();
            assert_eq!(shown(&mut cursor), Some(expected[rank]));
            cursor.seek_before(key).unwrap();
            assert_eq!(shown(&mut cursor), rank.checked_sub(1).map(|rank| expected[rank]));
        }
    }
}

fn shown(cursor: &mut MemtableCursor) -> Option<(&[u8], Kind, &[u8])> {
    if !cursor.valid() {
        return None;
    }
    let (kind, pinned) = (cursor.kind(), cursor.pinned_value().unwrap());
    assert_eq!(pinned, *cursor.value().unwrap());
    Some((cursor.key(), kind, cursor.bytes()))
}

/// What is done to both, and asked of both.
#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
    Get(Vec<u8>, prop::sample::Index),
    Scan(prop::sample::Index),
    Walk(prop::sample::Index, Vec<u8>, Vec<bool>),
    Written(Vec<u8>, Option<Vec<u8>>, prop::sample::Index),
}

/// Keys that meet often, share prefixes, are prefixes of each other, hold zeroes and 0xff.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop::sample::select(vec![0, 1, b'a', b'b', 0xff]);
    let short = prop::collection::vec(byte.clone(), 0..5);
    let long = prop::collection::vec(byte, 0..4)
        .prop_map(|tail| [b"a-long-shared-prefix/", &tail[..]].concat());
    prop_oneof![short, long]
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop::collection::vec(any::<u8>(), 0..50);
    let seq = any::<prop::sample::Index>;
    prop_oneof![
        20 => (key(), value).prop_map(|(key, value)| Op::Put(key, value)),
        5 => key().prop_map(Op::Delete),
        1 => (key(), prop::option::of(key())).prop_map(|(start, end)| Op::DeleteRange(start, end)),
        8 => (key(), seq()).prop_map(|(key, seq)| Op::Get(key, seq)),
        1 => seq().prop_map(Op::Scan),
        3 => (key(), prop::option::of(key()), seq())
            .prop_map(|(start, end, seq)| Op::Written(start, end, seq)),
        3 => (seq(), key(), prop::collection::vec(any::<bool>(), 0..20))
            .prop_map(|(seq, key, steps)| Op::Walk(seq, key, steps)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn behaves_as_its_model(ops in prop::collection::vec(op(), 0..400)) {
        let mut both = Both::new(1 << 20);
        // Cursors opened along the way must not see what came after.
        let mut open: Vec<(MemtableCursor, u64)> = Vec::new();
        for op in ops {
            let now = both.seq as usize + 2;
            match op {
                Op::Put(key, value) => both.put(&key, &value),
                Op::Delete(key) => both.write(&key, Kind::Delete, b""),
                Op::DeleteRange(start, end) => both.delete_range(Span::new(start, end)),
                Op::Get(key, seq) => both.check_get(&key, seq.index(now) as u64),
                Op::Scan(seq) => both.check_scans(seq.index(now) as u64),
                Op::Written(start, end, seq) => {
                    let (span, after) = (Span::new(start, end), seq.index(now) as u64);
                    if !span.is_empty() {
                        let written = both.model.is_written_in(&span, after);
                        prop_assert_eq!(both.memtable.is_written_in(&span, after), written);
                    }
                }
                Op::Walk(seq, key, steps) => {
                    let seq = (seq.index(now) as u64).min(both.seq);
                    open.push((both.memtable.cursor(seq), seq));
                    let at = steps.len() % open.len();
                    let (cursor, seq) = &mut open[at];
                    walk(cursor, &both.model.entries(*seq), &key, &steps);
                }
            }
        }
        both.check_scans(u64::MAX);
        for (mut cursor, seq) in open {
            walk(&mut cursor, &both.model.entries(seq), b"", &[true; 400]);
        }
        prop_assert_eq!(both.memtable.entries() as u64, both.seq);
        prop_assert_eq!(both.memtable.last_seq(), Some(both.seq).filter(|seq| *seq > 0));
        prop_assert_eq!(both.memtable.first_seq(), both.memtable.last_seq().map(|_| 1));
    }
}

/// Seeks `key` and steps to and fro, as far as there are entries.
fn walk(cursor: &mut MemtableCursor, entries: &[(&[u8], Kind, &[u8])], key: &[u8], steps: &[bool]) {
    let mut at = entries.partition_point(|(own, ..)| *own < key);
    cursor.seek(key).unwrap();
    for forward in steps {
        assert_eq!(shown(cursor), entries.get(at).copied());
        match (forward, at < entries.len()) {
            (_, false) => return,
            (true, _) => {
                cursor.next().unwrap();
                at += 1;
            }
            (false, _) => {
                cursor.prev().unwrap();
                at = at.checked_sub(1).unwrap_or(entries.len());
            }
        }
    }
}

/// Orders of arrival that take different ways through the tree.
fn patterns(count: u32) -> Vec<Vec<Vec<u8>>> {
    let mixed = |i: u32| (i.wrapping_mul(0x9E37_79B1) ^ 0x5bd1_e995).to_be_bytes().to_vec();
    let user = |i: u32| format!("user/{:05}/listen/{:08}", i * 7919 % 97, i).into_bytes();
    vec![
        (0..count).map(mixed).collect(),
        (0..count).map(|i| i.to_be_bytes().to_vec()).collect(),
        (0..count).rev().map(|i| i.to_be_bytes().to_vec()).collect(),
        (0..count).map(user).collect(),
        (0..count).map(|i| vec![b'x'; i as usize % 300]).collect(),
        (0..count).map(|i| vec![0; i as usize % 40]).collect(),
        (0..count).map(|i| [&vec![0xff; 3000][..], &mixed(i)].concat()).collect(),
        (0..count).map(|i| [&mixed(i % 7)[..], &mixed(i)].concat()).collect(),
    ]
}

#[test]
fn every_pattern_every_fill() {
    for keys in patterns(700) {
        for batch in [1, 3, 50, 699, 700] {
            let mut both = Both::new(8 << 20);
            for (i, key) in keys.iter().enumerate() {
                both.put(key, &(i as u64).to_le_bytes()[..i % 8]);
                if (i + 1) % batch == 0 {
                    let mut cursor = both.memtable.cursor(both.seq);
                    cursor.seek(key).unwrap();
                    assert_eq!(cursor.key(), key);
                    assert_eq!(cursor.seq(), both.seq);
                }
            }
            both.check_scans(both.seq);
            both.check_scans(both.seq / 2);
            keys.iter().for_each(|key| both.check_get(key, both.seq / 3));
        }
    }
}

#[test]
fn many_keys_in_few_and_many_fills() {
    for keys in patterns(30_000).into_iter().take(4) {
        for batch in [100, 20_000] {
            let (memtable, mut writer) = Memtable::new(16 << 20, Memory::Own);
            for (i, key) in keys.iter().enumerate() {
                writer.insert(key, key_hash(key), i as u64 + 1, Kind::Put, b"");
                if i % batch == 0 {
                    memtable.cursor(u64::MAX).seek_first().unwrap();
                }
            }
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            let mut cursor = memtable.cursor(u64::MAX);
            cursor.seek_first().unwrap();
            for key in &sorted {
                assert_eq!(cursor.key(), key);
                cursor.next().unwrap();
            }
            assert!(!cursor.valid());
            cursor.seek_last().unwrap();
            for key in sorted.iter().rev() {
                assert_eq!(cursor.key(), key);
                cursor.prev().unwrap();
            }
            assert!(!cursor.valid());
        }
    }
}

/// What is sorted ahead of a scan is what the scan shows.
#[test]
fn deletes_are_counted_and_sorted_ahead() {
    let mut both = Both::new(16 << 20);
    assert!(!both.memtable.sort(), "there is nothing to sort");
    both.write(b"kept", Kind::Put, b"value");
    for i in 0..40_000u32 {
        assert_eq!(both.memtable.has_many_deletes(), i >= DELETES_MANY as u32);
        let key = (i.wrapping_mul(2_654_435_761) % 50_000).to_be_bytes();
        both.write(&key, Kind::Delete, &[]);
        if i % 1000 == 0 {
            both.memtable.sort();
        }
    }
    assert!(both.memtable.is_mostly_deletes());
    let store = both.memtable.store.get().unwrap();
    assert!(store.unsorted() < SORTED_AHEAD && store.order().filled() > 0);
    let (entries, mut cursor) = (both.model.entries(both.seq), both.memtable.cursor(both.seq));
    cursor.seek_first().unwrap();
    for (key, kind, _) in entries {
        assert_eq!((cursor.key(), cursor.kind()), (key, kind));
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    (0..40_000u32).for_each(|i| both.write(&i.to_le_bytes(), Kind::Put, b"x"));
    assert!(both.memtable.has_many_deletes() && !both.memtable.is_mostly_deletes());
}

#[test]
fn many_versions_of_a_key() {
    let mut both = Both::new(1 << 20);
    for i in 0..5_000_u32 {
        both.put(&[(i % 3) as u8], &i.to_le_bytes());
    }
    for seq in [0, 1, 2, 3, 100, 4_999, 5_000, u64::MAX] {
        (0..4).for_each(|key| both.check_get(&[key], seq));
        both.check_scans(seq);
    }
    assert_eq!(both.memtable.newest_of(&[0], key_hash(&[0])), Some(4_999));
    assert_eq!(both.memtable.newest_of(&[9], key_hash(&[9])), None);
    both.delete_range(Span::new(&b"\x09"[..], None::<Vec<u8>>));
    assert_eq!(both.memtable.newest_of(&[9], key_hash(&[9])), Some(5_001));
}

#[test]
fn takes_what_it_said_it_would() {
    for (entries, key_len, value_len) in
        [(1, 0, 0), (1, 16 << 10, 5 << 20), (1000, 3, 1), (77, 9, 41)]
    {
        let capacity = Memtable::capacity_for(entries, entries * (key_len + value_len)).unwrap();
        let (memtable, mut writer) = Memtable::new(capacity, Memory::Own);
        assert!(writer.has_room(entries, entries * (key_len + value_len)));
        assert!(!writer.has_room(entries, entries * (key_len + value_len) + 1));
        for i in 0..entries {
            let mut key = vec![7; key_len];
            key.iter_mut().zip((i as u32).to_le_bytes()).for_each(|(to, from)| *to = from);
            assert!(writer.has_room(1, key_len + value_len));
            writer.insert(&key, key_hash(&key), 1 + i as u64, Kind::Put, &vec![1; value_len]);
        }
        assert_eq!(memtable.entries(), entries);
        let mut cursor = memtable.cursor(u64::MAX);
        cursor.seek_last().unwrap();
        assert_eq!(cursor.value().unwrap().len(), value_len);
    }
    assert_eq!(Memtable::capacity_for(1, u32::MAX as usize), None);
    assert_eq!(Memtable::capacity_for(usize::MAX, 1), None);
    assert!(!Memtable::new(usize::MAX, Memory::Own).1.has_room(1, u32::MAX as usize));
}

#[test]
fn fills_to_the_last_byte() {
    let (memtable, mut writer) = Memtable::new(100_000, Memory::Own);
    let mut seq = 0_u64;
    while writer.has_room(1, 11) {
        seq += 1;
        let key = seq.to_be_bytes();
        writer.insert(&key, key_hash(&key), seq, Kind::Put, b"abc");
        if seq.is_multiple_of(5) {
            memtable.cursor(seq).seek_first().unwrap();
        }
    }
    assert!(seq > 100_000 / 60);
    assert_eq!(memtable.entries() as u64, seq);
}

#[test]
#[should_panic(expected = "past its room")]
fn refuses_to_be_overfilled() {
    let (_memtable, mut writer) = Memtable::new(1000, Memory::Own);
    writer.insert(b"k", key_hash(b"k"), 1, Kind::Put, &[0; 1000]);
}

#[test]
fn the_first_write_is_cheap() {
    let (memtable, mut writer) = Memtable::new(64 << 20, Memory::Own);
    assert_eq!((memtable.bytes(), memtable.is_empty()), (0, true));
    assert!(matches!(memtable.get(b"k", key_hash(b"k"), 9), Lookup::Missing));
    let mut cursor = memtable.cursor(9);
    cursor.seek_first().unwrap();
    assert!(!cursor.valid());
    writer.insert(b"k", key_hash(b"k"), 1, Kind::Put, b"v");
    assert!(memtable.bytes() < 4096);
    memtable.cursor(1).seek_first().unwrap();
    assert!(memtable.bytes() < 4096);
}

#[test]
fn too_many_range_deletes_fill_it() {
    let (memtable, mut writer) = Memtable::new(1 << 20, Memory::Own);
    for seq in 1..=RANGE_DELETES_MAX as u64 {
        assert!(writer.has_room(1, 10));
        writer.delete_range(Span::new(seq.to_be_bytes().to_vec(), Some(vec![9])), seq);
    }
    assert!(!writer.has_room(1, 10));
    assert_eq!(memtable.range_deletes(u64::MAX).spans().len(), 1);
    assert!(memtable.range_deletes(0).is_empty());
    assert_eq!(memtable.first_seq(), Some(1));
}

#[test]
fn pinned_values_outlive_the_memtable() {
    let (memtable, mut writer) = Memtable::new(1 << 20, Memory::Own);
    let long: Vec<u8> = (0..COPIED_MAX + 1).map(|i| i as u8).collect();
    for (key, value) in [(b"a", &long[..]), (b"b", &long[..50]), (b"c", b"")] {
        writer.insert(key, key_hash(key), 1, Kind::Put, value);
    }
    let value = |key: &[u8]| match memtable.get(key, key_hash(key), 1) {
        Lookup::Found(value) => memtable.value(value),
        other => panic!("{other:?}"),
    };
    let values = [value(b"a"), value(b"b"), value(b"c"), memtable.value(&long)];
    let mut cursor = memtable.cursor(1);
    cursor.seek_first().unwrap();
    let pinned = cursor.pinned_value().unwrap();
    drop((cursor, memtable, writer));
    assert_eq!(values[0], long);
    assert_eq!(values[1], long[..50]);
    assert_eq!(values[2], b"");
    assert_eq!(values[3], long);
    assert_eq!(pinned, long);
}

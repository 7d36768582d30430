//! Runs against maps: every block length, every way of access, every kind of damage.

use super::*;
use crate::{
    ErrorKind, Value,
    codec::key_hash,
    sorted::{Cursor, Kind, Lookup, Span},
    vfs::{mem::MemFolder, read_whole, write_all_at},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
};

/// What a run should say: `None` is a delete.
type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Mapped,
    Cached,
    NoCache,
}
const ALL: [How; 3] = [How::Mapped, How::Cached, How::NoCache];

impl How {
    fn access(self) -> RunAccess {
        match self {
            How::Mapped => RunAccess::Mapped(Arc::new(BlockCache::new(1 << 20))),
            How::Cached => RunAccess::Cached(Arc::new(BlockCache::new(200_000))),
            How::NoCache => RunAccess::Cached(Arc::new(BlockCache::new(0))),
        }
    }
}

fn options(block_bytes: usize, compression: Compression) -> RunOptions {
    RunOptions { block_bytes, compression, filter_bits: 10 }
}

fn write(folder: &MemFolder, model: &Model, spans: &[Span], options: RunOptions) -> RunMeta {
    let mut writer = RunWriter::create(folder, 7, options).unwrap();
    for (key, value) in model {
        let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
        writer.add(key, kind, value.as_deref().unwrap_or_default()).unwrap();
    }
    spans.iter().for_each(|span| writer.delete_range(span.clone()));
    assert_eq!(writer.entries(), model.len() as u64);
    let before = writer.bytes_written();
    let meta = writer.finish().unwrap();
    assert!(before <= meta.bytes);
    meta
}

/// The answer of `run` for `key`: outer `None` for missing, inner for deleted.
fn get(run: &Arc<Run>, key: &[u8]) -> Result<Option<Option<Value>>> {
    let mut value = None;
    let answer = run.get(key, key_hash(key), &mut |found| {
        assert_eq!(found.to_value(), found.bytes());
        value = Some(found.to_value());
    })?;
    Ok(match answer {
        Lookup::Missing => None,
        Lookup::Deleted => Some(None),
        Lookup::Found(()) => Some(Some(value.expect("found was called"))),
    })
}

fn entry(cursor: &mut impl Cursor) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>> {
    if !cursor.valid() {
        return Ok(None);
    }
    let key = cursor.key().to_vec();
    let value = cursor.value()?.to_vec();
    assert_eq!(cursor.pinned_value()?, value);
    Ok(Some((key, (cursor.kind() == Kind::Put).then_some(value))))
}

/// All entries forward, and backward the other way round.
fn scan(cursor: &mut impl Cursor) -> Result<(Model, Model)> {
    let (mut forward, mut backward) = (Model::new(), Model::new());
    let mut last = None;
    cursor.seek_first()?;
    while let Some((key, value)) = entry(cursor)? {
        assert!(last.as_ref() < Some(&key), "keys ascend");
        last = Some(key.clone());
        forward.insert(key, value);
        cursor.next()?;
    }
    cursor.seek_last()?;
    while let Some((key, value)) = entry(cursor)? {
        assert!(last.as_ref().is_none_or(|last| *last >= key), "keys descend");
        last = Some(key.clone());
        backward.insert(key, value);
        cursor.prev()?;
    }
    Ok((forward, backward))
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    let letters =
        |range| prop::collection::vec(prop_oneof![Just(0u8), 97u8..104, Just(255)], range);
    prop_oneof![
        6 => (0usize..14, letters(0..8)).prop_map(|(n, tail)| {
            [&b"user/0001/year"[..n], &tail].concat()
        }),
        6 => any::<u16>().prop_map(|n| u64::from(n).to_be_bytes().to_vec()),
        2 => letters(0..4),
        1 => (letters(0..3), 200usize..700).prop_map(|(tail, n)| [vec![b'k'; n], tail].concat()),
    ]
}

fn values() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        10 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Some),
        2 => (any::<u8>(), 60usize..5000).prop_map(|(fill, n)| Some(vec![fill; n])),
        2 => Just(None),
    ]
}

fn models() -> impl Strategy<Value = Model> {
    prop::collection::btree_map(keys(), values(), 0..250)
}

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>),
    Before(Vec<u8>),
    Next,
    Prev,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        4 => keys().prop_map(Move::Seek),
        4 => keys().prop_map(Move::Before),
        12 => Just(Move::Next),
        12 => Just(Move::Prev),
    ];
    prop::collection::vec(one, 0..120)
}

/// Does the same with a cursor and a map and compares after every move.
fn walk(cursor: &mut impl Cursor, model: &Model, moves: &[Move]) {
    let mut at: Option<Vec<u8>> = None;
    for step in moves {
        let found = match (step, &at) {
            (Move::First, _) => model.iter().next(),
            (Move::Last, _) => model.iter().next_back(),
            (Move::Seek(key), _) => model.range(key.clone()..).next(),
            (Move::Before(key), _) => model.range(..key.clone()).next_back(),
            (Move::Next | Move::Prev, None) => continue,
            (Move::Next, Some(at)) => model.range((Excluded(at.clone()), Unbounded)).next(),
            (Move::Prev, Some(at)) => model.range(..at.clone()).next_back(),
        };
        match step {
            Move::First => cursor.seek_first().unwrap(),
            Move::Last => cursor.seek_last().unwrap(),
            Move::Seek(key) => cursor.seek(key).unwrap(),
            Move::Before(key) => cursor.seek_before(key).unwrap(),
            Move::Next => cursor.next().unwrap(),
            Move::Prev => cursor.prev().unwrap(),
        }
        let found = found.map(|(key, value)| (key.clone(), value.clone()));
        assert_eq!(entry(cursor).unwrap(), found, "after {step:?}");
        at = found.map(|(key, _)| key);
    }
}

fn shapes() -> impl Strategy<Value = RunOptions> {
    let block_bytes = prop_oneof![Just(256usize), Just(512), Just(1024), Just(4096), Just(8192)];
    let compression =
        prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)];
    (block_bytes, compression, prop_oneof![Just(0u8), Just(10)]).prop_map(
        |(block_bytes, compression, filter_bits)| RunOptions {
            block_bytes,
            compression,
            filter_bits,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn answers_as_a_map_does(
        model in models(),
        options in shapes(),
        probes in prop::collection::vec(keys(), 30),
        moves in moves(),
    ) {
        let folder = MemFolder::default();
        let meta = write(&folder, &model, &[], options);
        prop_assert_eq!(meta.entries, model.len() as u64);
        prop_assert_eq!(meta.deletes, model.values().filter(|v| v.is_none()).count() as u64);
        for how in ALL {
            let run = Run::open(&folder, meta.clone(), &how.access()).unwrap();
            for key in model.keys().chain(&probes) {
                let answer = get(&run, key).unwrap();
                let answer = answer.map(|value| value.map(|value| value.to_vec()));
                prop_assert_eq!(answer.as_ref(), model.get(key), "{:?} {:?}", how, key);
            }
            let (forward, backward) = scan(&mut run.cursor()).unwrap();
            prop_assert!(forward == model && backward == model);
            walk(&mut run.cursor(), &model, &moves);
            run.verify().unwrap();
        }
    }

    #[test]
    fn a_level_is_one_sequence(
        model in models(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        empty in any::<bool>(),
        moves in moves(),
    ) {
        let folder = MemFolder::default();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(model.len() + 1)).collect();
        cuts.extend([0, model.len()]);
        cuts.sort_unstable();
        let entries: Vec<_> = model.iter().collect();
        let mut runs = Vec::new();
        for (file, ends) in cuts.windows(2).enumerate() {
            let mut writer =
                RunWriter::create(&folder, file as u64, options(512, Compression::None)).unwrap();
            for (key, value) in &entries[ends[0]..ends[1]] {
                let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                writer.add(key, kind, value.as_deref().unwrap_or_default()).unwrap();
            }
            if empty && ends[0] == ends[1] && ends[0] > 0 && runs.len() % 2 == 0 {
                // Nothing but a range delete, between two keys.
                let start = [entries[ends[0] - 1].0.as_slice(), &[0]].concat();
                let end = [start.as_slice(), &[0]].concat();
                let next = entries.get(ends[0]).map(|(key, _)| key.as_slice());
                if next.is_none_or(|next| next >= end.as_slice()) {
                    writer.delete_range(Span::new(start, Some(end)));
                }
            }
            let meta = writer.finish().unwrap();
            if meta.entries + meta.range_deletes > 0 {
                runs.push(Run::open(&folder, meta, &How::Mapped.access()).unwrap());
            }
        }
        runs.sort_by(|a, b| a.meta().span.start.cmp(&b.meta().span.start));
        runs.dedup_by(|a, b| a.meta().span == b.meta().span);
        let mut cursor = LevelCursor::new(runs.into());
        let (forward, backward) = scan(&mut cursor).unwrap();
        prop_assert!(forward == model && backward == model);
        walk(&mut cursor, &model, &moves);
    }
}

//! Runs against maps: every block length, every way of access, every kind of damage.

mod lent;

use super::*;
use crate::{
    ErrorKind, Value,
    codec::key_hash,
    sorted::{Cursor, Kind, Lookup, Span},
    vfs::{Access, mem::MemFolder, read_whole, write_all_at},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
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
    RunOptions { block_bytes, compression, filter_bits: 10, ..RunOptions::default() }
}

fn write(folder: &MemFolder, model: &Model, spans: &[Span], options: RunOptions) -> RunMeta {
    let mut writer = RunWriter::create(folder, 7, options).unwrap();
    for (key, value) in model {
        let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
        writer.add(key, kind, value.as_deref().unwrap_or_default()).unwrap();
    }
    spans.iter().for_each(|span| writer.delete_range(span.clone()));
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
            ..RunOptions::default()
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
            let all: Vec<_> = model.keys().chain(&probes).collect();
            let asked: Vec<_> = all.iter().map(|key| (key.as_slice(), key_hash(key))).collect();
            let mut answers = vec![None; all.len()];
            run.get_many(&asked, &mut |i, lookup| {
                assert!(answers[i].is_none(), "each is answered once");
                answers[i] = Some(match lookup {
                    Lookup::Missing => None,
                    Lookup::Deleted => Some(None),
                    Lookup::Found(found) => Some(Some(found.to_value().to_vec())),
                });
            }).unwrap();
            for (key, answer) in all.into_iter().zip(answers) {
                let answer = answer.unwrap();
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

fn small_model() -> Model {
    let mut model: Model = (0..60u32)
        .map(|n| (format!("user/{:04}", n * 7).into_bytes(), Some(vec![n as u8; n as usize])))
        .collect();
    model.insert(b"user/0100".to_vec(), None);
    model.insert(b"a long value".to_vec(), Some((0..700u32).map(|n| n as u8).collect()));
    model.insert(b"zeros".to_vec(), Some(vec![0; 900]));
    model.insert([b"k".repeat(300)].concat(), Some(b"oversize".to_vec()));
    model
}

fn small_spans() -> Vec<Span> {
    vec![Span::new("user/0200x", Some("user/0206")), Span::new("v", Some("w"))]
}

/// Asks a run everything; answers must be those of the model, or say that data are corrupt.
fn is_right_or_corrupt(run: &Arc<Run>, model: &Model) {
    let corrupt = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert_eq!(error.file(), Some("0000000007.run"), "{error:?}");
        assert!(error.offset().is_some_and(|at| at <= run.meta().bytes), "{error:?}");
    };
    for (key, value) in model {
        match get(run, key) {
            Ok(answer) => {
                let answer = answer.map(|value| value.map(|value| value.to_vec()));
                assert_eq!(answer.as_ref(), Some(value));
            }
            Err(error) => corrupt(error),
        }
    }
    for absent in [&b"user/00071"[..], b"", b"zzz"] {
        get(run, absent).map_or_else(corrupt, |answer| assert_eq!(answer, None));
    }
    get(run, b"user/0205").map_or_else(corrupt, |answer| assert_eq!(answer, Some(None)));
    match scan(&mut run.cursor()) {
        Ok((forward, backward)) => assert!(forward == *model && backward == *model),
        Err(error) => corrupt(error),
    }
}

fn rewritten(meta: &RunMeta, bytes: &[u8]) -> MemFolder {
    let folder = MemFolder::default();
    let file = folder.open(&run_name(meta.file), Access::CreateNew).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    folder
}

fn bytes_of(folder: &MemFolder) -> Vec<u8> {
    read_whole(&*folder.open(&run_name(7), Access::Read).unwrap()).unwrap()
}

/// Flips one bit at a time, of those that `chosen` says, and asks everything each time.
fn flip_bits(compression: Compression, chosen: impl Fn(usize) -> bool) {
    let (folder, model) = (MemFolder::default(), small_model());
    let meta = write(&folder, &model, &small_spans(), options(256, compression));
    let bytes = bytes_of(&folder);
    for bit in (0..8 * bytes.len()).filter(|bit| chosen(*bit)) {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let folder = rewritten(&meta, &bytes);
        match Run::open(&folder, meta.clone(), &ALL[bit % 3].access()) {
            Ok(run) => {
                is_right_or_corrupt(&run, &model);
                let error = run.verify().expect_err("verify finds every flipped bit");
                assert!(error.is_corrupt());
            }
            Err(error) => {
                assert!(error.is_corrupt(), "{error:?}");
                assert_eq!(error.file(), Some("0000000007.run"));
            }
        }
    }
}

#[test]
fn flipped_bits_are_harmless_and_found() {
    flip_bits(Compression::None, |bit| bit % 89 == 0);
    flip_bits(Compression::Lz4, |bit| bit % 97 == 0);
}

#[test]
#[ignore = "takes minutes"]
fn every_flipped_bit_is_harmless_and_found() {
    flip_bits(Compression::None, |_| true);
    flip_bits(Compression::Lz4, |_| true);
}

#[test]
fn verify_reads_the_file_again() {
    let (folder, model) = (MemFolder::default(), small_model());
    let meta = write(&folder, &model, &small_spans(), options(256, Compression::None));
    for how in ALL {
        let bytes = bytes_of(&folder);
        let copy = rewritten(&meta, &bytes);
        let run = Run::open(&copy, meta.clone(), &how.access()).unwrap();
        is_right_or_corrupt(&run, &model);
        run.verify().unwrap();
        let file = copy.open(&run_name(7), Access::Write).unwrap();
        for at in [10, bytes.len() - 3] {
            write_all_at(&*file, &[bytes[at] ^ 1], at as u64).unwrap();
            assert!(run.verify().unwrap_err().is_corrupt());
            write_all_at(&*file, &[bytes[at]], at as u64).unwrap();
        }
        file.set_len(meta.bytes - 1).unwrap();
        assert!(run.verify().unwrap_err().is_corrupt());
    }
}

#[test]
fn other_lengths_are_refused() {
    let folder = MemFolder::default();
    let meta = write(&folder, &small_model(), &[], options(256, Compression::None));
    let bytes = bytes_of(&folder);
    let mut longer = bytes.clone();
    longer.push(0);
    let cuts = (0..bytes.len()).step_by(97).map(|len| &bytes[..len]).chain([longer.as_slice()]);
    for cut in cuts {
        for meta in [meta.clone(), RunMeta { bytes: cut.len() as u64, ..meta.clone() }] {
            let error = Run::open(&rewritten(&meta, cut), meta, &How::Mapped.access());
            assert!(error.unwrap_err().is_corrupt());
        }
    }
    let missing = RunMeta { file: 8, ..meta };
    let error = Run::open(&folder, missing, &How::Mapped.access()).unwrap_err();
    assert!(error.is_corrupt() && error.file() == Some("0000000008.run"), "{error:?}");
}

/// Puts right checksums on all that was edited: what somebody does who means harm.
fn reseal(bytes: &mut [u8], footer: &Footer) {
    let at = bytes.len() - FOOTER_BYTES;
    let unit = footer.block_bytes;
    let (branches, end) = (footer.branches_at as usize, footer.branches_end as usize);
    if footer.is_packed() {
        return crate::sorted::block::seal(&mut bytes[at..], place(7, at as u64));
    }
    for (i, block) in bytes[..end].chunks_mut(unit).enumerate() {
        // Far values and oversize blocks are not resealed; the model has none.
        crate::sorted::block::seal(block, place(7, (i * unit) as u64));
    }
    assert!(branches <= end);
    crate::sorted::block::seal(&mut bytes[at..], place(7, at as u64));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_runs_do_no_harm(
        edits in
            prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, any::<u8>()), 1..8),
        footer_edit in prop::option::of((8usize..120, any::<u8>())),
        how in 0usize..3,
    ) {
        let model: Model = (0..400u32)
            .map(|n| (n.to_be_bytes().to_vec(), (n % 9 > 0).then(|| vec![7; (n % 50) as usize])))
            .collect();
        let folder = MemFolder::default();
        let meta = write(&folder, &model, &[], options(256, Compression::None));
        let mut bytes = bytes_of(&folder);
        let end = &bytes[bytes.len() - FOOTER_BYTES..];
        let footer = Footer::decode(end, meta.bytes - 128).unwrap();
        let blocks = footer.branches_end as usize / 256;
        for (block, at, byte) in edits {
            // Headers and branches are where damage leads elsewhere.
            let block = block.index(blocks * 2).min(blocks - 1);
            bytes[block * 256 + at] = byte;
        }
        if let Some((at, byte)) = footer_edit {
            let at = bytes.len() - FOOTER_BYTES + at;
            bytes[at] = byte;
        }
        reseal(&mut bytes, &footer);
        let unchanged = bytes == bytes_of(&folder);
        let folder = rewritten(&meta, &bytes);
        let Ok(run) = Run::open(&folder, meta.clone(), &ALL[how].access()) else { return Ok(()) };
        // Whatever it answers, it answers, and a walk ends.
        for key in model.keys() {
            let _ = get(&run, key);
        }
        let mut cursor = run.cursor();
        for forward in [true, false] {
            let start = if forward { cursor.seek_first() } else { cursor.seek_last() };
            let mut steps = 0;
            let mut moved = start;
            while moved.is_ok() && cursor.valid() {
                let _ = cursor.value().map(<[u8]>::len);
                steps += 1;
                prop_assert!(steps <= 256 * blocks);
                if !cursor.valid() {
                    break;
                }
                moved = if forward { cursor.next() } else { cursor.prev() };
            }
        }
        prop_assert_eq!(run.verify().is_ok(), unchanged, "verify passes what was written only");
    }
}

#[test]
fn range_deletes_hide_what_is_older_only() {
    let folder = MemFolder::default();
    let model: Model = [(b"b".to_vec(), Some(b"1".to_vec())), (b"d".to_vec(), None)].into();
    let spans = [Span::new("a", Some("c")), Span::new("x", None::<&str>)];
    let meta = write(&folder, &model, &spans, RunOptions::default());
    assert_eq!(meta.span, Span::new("a", None::<&str>));
    assert_eq!((&meta.first[..], &meta.last[..]), (&b"b"[..], &b"d"[..]));
    assert_eq!((meta.entries, meta.deletes, meta.range_deletes), (2, 1, 2));
    assert_eq!(meta.raw_bytes, 3);
    let run = Run::open(&folder, meta, &How::Mapped.access()).unwrap();
    assert_eq!(run.range_deletes().spans(), spans);
    assert_eq!(run.cursor().range_deletes().spans(), spans);
    assert!(matches!(get(&run, b"b"), Ok(Some(Some(value))) if value == b"1"));
    for (key, answer) in [("aa", Some(None)), ("d", Some(None)), ("e", None), ("y", Some(None))] {
        assert_eq!(get(&run, key.as_bytes()).unwrap(), answer, "{key}");
    }
    run.verify().unwrap();
}

#[test]
fn runs_without_entries_open() {
    for spans in [vec![], vec![Span::new("a", Some("b"))]] {
        let folder = MemFolder::default();
        let meta = write(&folder, &Model::new(), &spans, RunOptions::default());
        assert!(meta.first.is_empty() && meta.last.is_empty());
        let span = spans.first().cloned().unwrap_or(Span::new("", Some("")));
        assert_eq!(meta.span, span);
        for how in ALL {
            let run = Run::open(&folder, meta.clone(), &how.access()).unwrap();
            let answer = get(&run, b"aa").unwrap();
            assert_eq!(answer, (!spans.is_empty()).then_some(None));
            assert_eq!(scan(&mut run.cursor()).unwrap(), Default::default());
            run.verify().unwrap();
        }
    }
}

#[test]
fn long_keys_and_values_fit_any_block() {
    let mut model = Model::new();
    let longest = crate::sorted::MAX_KEY;
    for (n, len) in [longest, longest - 1, 5000, longest, 3, longest].into_iter().enumerate() {
        // Long keys that differ only at their ends make long separators.
        let mut key = vec![b'a' + n as u8 / 2; len];
        key.pop();
        key.push(n as u8);
        model.insert(key, Some(vec![n as u8; [10, 100_000, 3_000_000][n % 3]]));
    }
    model.insert(vec![], Some(vec![]));
    for block_bytes in [1, 256, 8192, 32 << 10, 1 << 20] {
        for compression in [Compression::None, Compression::Zstd] {
            let folder = MemFolder::default();
            let meta = write(&folder, &model, &[], options(block_bytes, compression));
            let raw = model.iter().map(|(k, v)| k.len() + v.as_ref().unwrap().len()).sum::<usize>();
            assert_eq!(meta.raw_bytes, raw as u64);
            for how in ALL {
                let run = Run::open(&folder, meta.clone(), &how.access()).unwrap();
                run.verify().unwrap();
                let (forward, backward) = scan(&mut run.cursor()).unwrap();
                assert!(forward == model && backward == model);
                for (key, value) in &model {
                    let answer = get(&run, key).unwrap().unwrap().unwrap();
                    assert_eq!(Some(answer.to_vec()), *value);
                }
            }
        }
    }
}

#[test]
fn refuses_what_is_no_run() {
    let folder = MemFolder::default();
    let mut writer = RunWriter::create(&folder, 1, RunOptions::default()).unwrap();
    let too_long = vec![0; crate::sorted::MAX_KEY + 1];
    let kind = |result: Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(writer.add(&too_long, Kind::Put, b"")), ErrorKind::Limit);
    writer.add(b"b", Kind::Put, b"").unwrap();
    assert_eq!(kind(writer.add(b"b", Kind::Put, b"")), ErrorKind::Corrupt);
    assert_eq!(kind(writer.add(b"a", Kind::Delete, b"")), ErrorKind::Corrupt);
    writer.add(b"c", Kind::Delete, b"ignored").unwrap();
    let meta = writer.finish().unwrap();
    assert_eq!((meta.entries, meta.raw_bytes), (2, 2));
    let again = RunWriter::create(&folder, 1, RunOptions::default());
    assert_eq!(again.err().unwrap().kind(), ErrorKind::Io);
}

#[test]
fn a_run_that_is_not_finished_leaves_no_file() {
    use crate::vfs::sim::{Effect, Fault, OpKind, SimDisk};
    let disk = SimDisk::new(1);
    let write = || {
        let mut writer = RunWriter::create(&disk, 7, RunOptions::default()).unwrap();
        for (key, _) in small_model() {
            writer.add(&key, Kind::Put, &[7; 3000]).unwrap();
        }
        assert_eq!(disk.list().unwrap(), [run_name(7)]);
        writer
    };
    drop(write());
    assert_eq!(disk.list().unwrap(), [""; 0]);
    for kind in [OpKind::Write, OpKind::SyncFull] {
        disk.inject(Fault::nth(1).of(kind).effect(Effect::Fail));
        assert_eq!(write().finish().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(disk.list().unwrap(), [""; 0]);
        disk.clear_faults();
    }
    write().finish().unwrap();
    assert_eq!(disk.list().unwrap(), [run_name(7)]);
}

#[test]
fn retired_runs_are_buried_when_nobody_reads_them() {
    let folder = MemFolder::default();
    let meta = write(&folder, &small_model(), &[], RunOptions::default());
    let graveyard = Graveyard::new();
    let kept = Run::open(&folder, meta.clone(), &How::Mapped.access()).unwrap();
    drop(kept);
    let run = Run::open(&folder, meta, &How::Mapped.access()).unwrap();
    let mut cursor = run.cursor();
    cursor.seek_first().unwrap();
    let value = cursor.pinned_value().unwrap();
    run.retire(&graveyard);
    drop(run);
    assert!(graveyard.take().is_empty());
    drop(cursor);
    assert!(graveyard.take().is_empty(), "a value pins the run it lies in");
    assert_eq!(value.len(), 700);
    drop(value);
    let dead = graveyard.take();
    assert_eq!((dead.len(), dead[0].file, &*dead[0].name), (1, 7, &*run_name(7)));
    assert!(graveyard.take().is_empty());
}

#[test]
fn scans_of_files_read_ahead_past_the_cache() {
    let model: Model =
        (0..20_000u32).map(|n| (n.to_be_bytes().to_vec(), Some(vec![1; 40]))).collect();
    for compression in [Compression::None, Compression::Lz4] {
        let folder = MemFolder::default();
        let meta = write(&folder, &model, &[], options(1024, compression));
        let cache = Arc::new(BlockCache::new(1 << 20));
        let run = Run::open(&folder, meta, &RunAccess::Cached(cache.clone())).unwrap();
        let mut cursor = run.cursor();
        cursor.seek_first().unwrap();
        for (key, value) in &model {
            assert_eq!(entry(&mut cursor).unwrap(), Some((key.clone(), value.clone())));
            cursor.next().unwrap();
        }
        assert!(!cursor.valid());
        assert!(cache.stats().misses <= 4, "{:?}", cache.stats());
        get(&run, &5000u32.to_be_bytes()).unwrap();
        let before = cache.stats();
        get(&run, &5000u32.to_be_bytes()).unwrap();
        assert_eq!(cache.stats().misses, before.misses);
        assert!(cache.stats().hits > before.hits);
    }
}

#[test]
fn threads_share_a_run() {
    let model: Model =
        (0..3000u32).map(|n| (n.to_be_bytes().to_vec(), Some(vec![n as u8; 50]))).collect();
    for compression in [Compression::None, Compression::Lz4] {
        for how in ALL {
            let folder = MemFolder::default();
            let meta = write(&folder, &model, &[], options(512, compression));
            let run = Run::open(&folder, meta, &how.access()).unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4u32 {
                    let (run, model) = (&run, &model);
                    scope.spawn(move || {
                        for n in (0..3000u32).map(|n| (n * 7 + thread * 750) % 3000) {
                            let value = get(run, &n.to_be_bytes()).unwrap().unwrap().unwrap();
                            assert_eq!(Some(value.to_vec()), model[n.to_be_bytes().as_slice()]);
                        }
                    });
                }
            });
        }
    }
}

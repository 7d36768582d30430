//! Against a model: for each key the newest source that says something about it counts.

use super::*;
use crate::{Error, ErrorKind, sorted::Span};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

type Entries = Vec<(Vec<u8>, Kind, Vec<u8>)>;

/// A cursor over a sorted vector, that can be told to fail.
#[derive(Clone, Debug, Default)]
struct VecCursor {
    entries: Arc<Entries>,
    at: Option<usize>,
    ranges: RangeSet,
    moves_left: Option<u32>,
}

impl VecCursor {
    fn place(&mut self, at: Option<usize>) -> Result<()> {
        self.at = None;
        if let Some(moves) = &mut self.moves_left {
            *moves = moves
                .checked_sub(1)
                .ok_or_else(|| Error::new(ErrorKind::Io, "the source failed"))?;
        }
        self.at = at.filter(|at| *at < self.entries.len());
        Ok(())
    }

    fn lower(&self, key: &[u8]) -> usize {
        self.entries.partition_point(|entry| entry.0.as_slice() < key)
    }
}

impl Cursor for VecCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.place(Some(0))
    }
    fn seek_last(&mut self) -> Result<()> {
        self.place(self.entries.len().checked_sub(1))
    }
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.place(Some(self.lower(key)))
    }
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.place(self.lower(key).checked_sub(1))
    }
    fn next(&mut self) -> Result<()> {
        self.place(Some(self.at.unwrap() + 1))
    }
    fn prev(&mut self) -> Result<()> {
        self.place(self.at.unwrap().checked_sub(1))
    }
    fn valid(&self) -> bool {
        self.at.is_some()
    }
    fn key(&self) -> &[u8] {
        &self.entries[self.at.unwrap()].0
    }
    fn kind(&self) -> Kind {
        self.entries[self.at.unwrap()].1
    }
    fn fetched(&self) -> &[u8] {
        &self.entries[self.at.unwrap()].2
    }
    fn range_deletes(&self) -> &RangeSet {
        &self.ranges
    }
}

type Model = BTreeMap<Vec<u8>, (Kind, Vec<u8>)>;

fn model(sources: &[VecCursor], deletes: Deletes) -> Model {
    let mut model = Model::new();
    for (i, source) in sources.iter().enumerate() {
        for (key, kind, value) in source.entries.iter() {
            let newer = &sources[..i];
            if !newer.iter().any(|newer| newer.ranges.covering(key).is_some()) {
                model.entry(key.clone()).or_insert((*kind, value.clone()));
            }
        }
    }
    model.retain(|_, (kind, _)| deletes == Deletes::Keep || *kind == Kind::Put);
    model
}

/// Keys with short, long and no common beginnings, and the extreme ones.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let tail = || prop::collection::vec(prop_oneof![Just(0u8), 1u8..6, Just(255)], 0..4);
    let front = prop_oneof![
        3 => Just(&b""[..]),
        3 => Just(&b"user:00000001"[..]),
        2 => Just(&b"user:00000002:"[..]),
        1 => Just(&[255; 9][..]),
    ];
    (front, tail()).prop_map(|(front, tail)| [front, &tail].concat())
}

fn source() -> impl Strategy<Value = VecCursor> {
    let entries = prop::collection::btree_map(key(), (any::<bool>(), any::<u8>()), 0..40);
    let span =
        (key(), prop::option::weighted(0.9, key())).prop_map(|(start, end)| Span::new(start, end));
    let spans = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(span, 1..4)];
    (entries, spans).prop_map(|(entries, spans)| {
        let entries = entries.into_iter().map(|(key, (put, value))| match put {
            true => (key, Kind::Put, vec![value; 3]),
            false => (key, Kind::Delete, Vec::new()),
        });
        let ranges = spans.into_iter().collect();
        VecCursor { entries: Arc::new(entries.collect()), ranges, ..VecCursor::default() }
    })
}

/// Keys in stretches: absent, put, deleted.
fn stretches() -> impl Strategy<Value = VecCursor> {
    let front = prop_oneof![Just(""), Just("user:00000001:")];
    let stretches = prop::collection::vec((0u8..3, 1usize..40), 1..8);
    (front, stretches).prop_map(|(front, stretches)| {
        let whats = stretches.iter().flat_map(|(what, len)| std::iter::repeat_n(*what, *len));
        let entries = whats.enumerate().filter_map(|(number, what)| {
            let key = format!("{front}{number:03}").into_bytes();
            match what {
                0 => None,
                1 => Some((key, Kind::Put, vec![number as u8])),
                _ => Some((key, Kind::Delete, Vec::new())),
            }
        });
        VecCursor { entries: Arc::new(entries.collect()), ..VecCursor::default() }
    })
}

#[derive(Clone, Debug)]
enum Step {
    First,
    Last,
    Seek(Vec<u8>),
    SeekBefore(Vec<u8>),
    Next(u8),
    Prev(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        2 => key().prop_map(Step::Seek),
        2 => key().prop_map(Step::SeekBefore),
        4 => (1u8..20).prop_map(Step::Next),
        4 => (1u8..20).prop_map(Step::Prev),
    ]
}

/// Where the merge is must be where the model is.
fn assert_at(merge: &mut Merge<VecCursor>, expected: Option<(&Vec<u8>, &(Kind, Vec<u8>))>) {
    assert_eq!(merge.valid(), expected.is_some());
    let Some((key, (kind, value))) = expected else { return };
    assert_eq!((merge.key(), merge.kind()), (key.as_slice(), *kind));
    assert_eq!(merge.value().unwrap(), value);
    assert_eq!(merge.pinned_value().unwrap(), *value);
}

fn next<'a>(model: &'a Model, key: &[u8]) -> Option<(&'a Vec<u8>, &'a (Kind, Vec<u8>))> {
    model.range::<[u8], _>((Excluded(key), Unbounded)).next()
}

fn prev<'a>(model: &'a Model, key: &[u8]) -> Option<(&'a Vec<u8>, &'a (Kind, Vec<u8>))> {
    model.range::<[u8], _>((Unbounded, Excluded(key))).next_back()
}

fn take_step(merge: &mut Merge<VecCursor>, model: &Model, step: &Step) {
    match step {
        Step::First => {
            merge.seek_first().unwrap();
            assert_at(merge, model.first_key_value());
        }
        Step::Last => {
            merge.seek_last().unwrap();
            assert_at(merge, model.last_key_value());
        }
        Step::Seek(key) => {
            merge.seek(key).unwrap();
            assert_at(merge, model.range::<[u8], _>((Included(key.as_slice()), Unbounded)).next());
        }
        Step::SeekBefore(key) => {
            merge.seek_before(key).unwrap();
            assert_at(merge, prev(model, key));
        }
        Step::Next(times) => {
            for _ in 0..*times {
                if merge.valid() {
                    let from = merge.key().to_vec();
                    merge.next().unwrap();
                    assert_at(merge, next(model, &from));
                }
            }
        }
        Step::Prev(times) => {
            for _ in 0..*times {
                if merge.valid() {
                    let from = merge.key().to_vec();
                    merge.prev().unwrap();
                    assert_at(merge, prev(model, &from));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn moves_as_the_model_does(
        sources in prop::collection::vec(source(), 0..12),
        hide: bool,
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let deletes = if hide { Deletes::Hide } else { Deletes::Keep };
        let model = model(&sources, deletes);
        let mut merge = Merge::new(sources.clone(), deletes);
        prop_assert!(!merge.valid());
        steps.iter().for_each(|step| take_step(&mut merge, &model, step));

        let union: RangeSet =
            sources.iter().flat_map(|source| source.ranges.spans().to_vec()).collect();
        let expected = if hide { RangeSet::default() } else { union };
        prop_assert_eq!(merge.range_deletes(), &expected);
    }

    #[test]
    fn deletes_in_a_row_hide_what_they_should(
        sources in prop::collection::vec(stretches(), 1..5),
        steps in prop::collection::vec(step(), 0..10),
    ) {
        let model = model(&sources, Deletes::Hide);
        let mut merge = Merge::new(sources, Deletes::Hide);
        steps.iter().for_each(|step| take_step(&mut merge, &model, step));
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        merge.seek_first().unwrap();
        while merge.valid() {
            forward.push(merge.key().to_vec());
            merge.next().unwrap();
        }
        merge.seek_last().unwrap();
        while merge.valid() {
            backward.push(merge.key().to_vec());
            merge.prev().unwrap();
        }
        prop_assert!(forward.iter().eq(model.keys()));
        prop_assert!(backward.iter().eq(model.keys().rev()));
    }

    #[test]
    fn scans_all_both_ways(sources in prop::collection::vec(source(), 0..12)) {
        let model = model(&sources, Deletes::Keep);
        let mut merge = Merge::new(sources, Deletes::Keep);
        let mut seen = Vec::new();
        merge.seek_first().unwrap();
        while merge.valid() {
            seen.push(merge.key().to_vec());
            merge.next().unwrap();
        }
        prop_assert!(seen.iter().eq(model.keys()));
        seen.clear();
        merge.seek_last().unwrap();
        while merge.valid() {
            seen.push(merge.key().to_vec());
            merge.prev().unwrap();
        }
        prop_assert!(seen.iter().eq(model.keys().rev()));
    }

    #[test]
    fn an_error_of_a_source_ends_it(
        mut sources in prop::collection::vec(source(), 1..6),
        failing: prop::sample::Index,
        moves in 0u32..20,
    ) {
        let failing = failing.index(sources.len());
        sources[failing].moves_left = Some(moves);
        let model = model(&sources, Deletes::Hide);
        let mut merge = Merge::new(sources, Deletes::Hide);
        let mut keys = model.keys();
        let mut result = merge.seek_first();
        while result.is_ok() && merge.valid() {
            prop_assert_eq!(Some(merge.key()), keys.next().map(Vec::as_slice));
            result = merge.next();
        }
        match result {
            Ok(()) => prop_assert_eq!(keys.next(), None),
            Err(e) => {
                prop_assert_eq!(e.kind(), ErrorKind::Io);
                prop_assert!(!merge.valid());
            }
        }
    }
}

fn cursor(keys: impl IntoIterator<Item = String>) -> VecCursor {
    let entries = keys.into_iter().map(|key| (key.into_bytes(), Kind::Put, Vec::new()));
    VecCursor { entries: Arc::new(entries.collect()), ..VecCursor::default() }
}

/// Keys that share a long beginning, then another: the prefix must follow.
#[test]
fn prefixes_grow_and_shrink() {
    let keys = |source: usize| {
        let user = move |i: usize| format!("a-rather-long-prefix/{:03}/{:05}", i / 700, i);
        (0..5000).filter(move |i| i * 7919 % 4 == source).map(user)
    };
    let sources: Vec<_> =
        (0..4).map(|s| cursor(["Before".into()].into_iter().chain(keys(s)))).collect();
    let all = model(&sources, Deletes::Keep);
    let mut merge = Merge::new(sources, Deletes::Keep);
    merge.seek_first().unwrap();
    assert!(merge.heads.prefix.starts_with(b"Befo"));
    let mut longest = 0;
    for key in all.keys() {
        assert_eq!(merge.key(), key);
        merge.next().unwrap();
        longest = longest.max(merge.heads.prefix.len());
    }
    assert!(!merge.valid());
    assert!(longest >= "a-rather-long-prefix/".len());
}

/// A wide deleted range costs a seek a source, not a step an entry.
#[test]
fn deleted_ranges_are_skipped_by_seeks() {
    let mut sources: Vec<_> = (0..3)
        .map(|s| cursor((0..9000).filter(move |i| i % 3 == s).map(|i| format!("{i:05}"))))
        .collect();
    let mut newest = cursor(["04500".to_owned()]);
    newest.ranges.add(Span::new("00010", Some("08990")));
    sources.insert(0, newest);
    sources.iter_mut().for_each(|source| source.moves_left = Some(40));
    let mut merge = Merge::new(sources, Deletes::Hide);
    let mut keys = 0;
    merge.seek_first().unwrap();
    while merge.valid() {
        keys += 1;
        merge.next().unwrap();
    }
    assert_eq!(keys, 10 + 1 + 10);
    merge.seek_last().unwrap();
    for _ in 0..15 {
        merge.prev().unwrap();
    }
    assert_eq!(merge.key(), b"00005");
}

//! Range deletes, each with its sequence number.
//!
//! Kept apart from the keys, as pieces: disjoint spans, each with the numbers of all the deletes
//! that cover it. A look-up is two binary searches. A delete copies the pieces and swaps them in,
//! so readers hold a set for as long as they like; until there is one, all it costs a reader is
//! the load of a flag.

use crate::sorted::{RangeSet, Span};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// All range deletes of a memtable.
#[derive(Default)]
pub(super) struct RangeDeletes {
    any: AtomicBool,
    deletes: ArcSwapOption<Deletes>,
}

/// The range deletes up to one moment.
pub(super) struct Deletes {
    pieces: Vec<Piece>,
    /// All spans, whatever their sequence numbers.
    union: RangeSet,
    count: usize,
    bytes: usize,
    newest: u64,
}

/// The keys of a span were deleted at these sequence numbers, the last being the newest.
#[derive(Clone)]
struct Piece {
    span: Span,
    seqs: Arc<[u64]>,
}

impl RangeDeletes {
    /// What there is now. Holds every delete whose sequence number was published before.
    pub(super) fn now(&self) -> Option<Arc<Deletes>> {
        // The flag is set before a sequence number that matters to the caller is published.
        if self.any.load(Relaxed) { self.deletes.load_full() } else { None }
    }

    /// The newest delete at or below `seq` that covers `key`.
    #[inline]
    pub(super) fn newest_over(&self, key: &[u8], seq: u64) -> Option<u64> {
        if !self.any.load(Relaxed) {
            return None;
        }
        self.deletes.load().as_ref()?.newest_over(key, seq)
    }

    pub(super) fn count(&self) -> usize {
        self.now().map_or(0, |deletes| deletes.count)
    }

    /// Bytes of memory in use, about.
    pub(super) fn bytes(&self) -> usize {
        self.now().map_or(0, |deletes| deletes.bytes)
    }

    /// Adds a delete newer than, or as new as, all so far. Only one thread may.
    pub(super) fn add(&self, span: Span, seq: u64) {
        let old = self.deletes.load_full();
        self.deletes.store(Some(Arc::new(Deletes::with(old.as_deref(), span, seq))));
        self.any.store(true, Relaxed);
    }
}

impl Deletes {
    fn with(old: Option<&Deletes>, span: Span, seq: u64) -> Self {
        let mut union = old.map(|old| old.union.clone()).unwrap_or_default();
        union.add(span.clone());
        let keys = span.start.len() + span.end.as_ref().map_or(0, Bytes::len);
        Self {
            bytes: old.map_or(0, |old| old.bytes) + 2 * size_of::<Piece>() + keys,
            pieces: with(old.map_or(&[], |old| &old.pieces), span, seq),
            union,
            count: old.map_or(0, |old| old.count) + 1,
            newest: seq,
        }
    }

    #[inline]
    pub(super) fn newest_over(&self, key: &[u8], seq: u64) -> Option<u64> {
        let after = self.pieces.partition_point(|piece| piece.span.starts_by(key));
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        piece.newest_at(seq).filter(|_| piece.span.ends_after(key))
    }

    /// Whether a delete newer than `after` covers a part of `span`.
    pub(super) fn meets(&self, span: &Span, after: u64) -> bool {
        let newer = |piece: &Piece| piece.seqs.last().is_some_and(|newest| *newest > after);
        self.newest > after
            && self.pieces.iter().any(|piece| newer(piece) && piece.span.clip(span).is_some())
    }

    /// What the deletes at or below `seq` delete.
    pub(super) fn at(&self, seq: u64) -> RangeSet {
        if seq >= self.newest {
            return self.union.clone();
        }
        let mut spans: Vec<Span> = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.newest_at(seq).is_some()) {
            match spans.last_mut() {
                Some(last) if last.end.as_ref() == Some(&piece.span.start) => {
                    last.end.clone_from(&piece.span.end);
                }
                _ => spans.push(piece.span.clone()),
            }
        }
        spans.into_iter().collect()
    }
}

impl Piece {
    fn newest_at(&self, seq: u64) -> Option<u64> {
        let after = self.seqs.partition_point(|own| *own <= seq);
        self.seqs.get(after.checked_sub(1)?).copied()
    }

    /// The same deletes, of a part of the span.
    fn part(&self, span: Option<Span>) -> Option<Piece> {
        span.map(|span| Piece { span, seqs: self.seqs.clone() })
    }

    fn deleted_at(&self, seq: u64) -> Arc<[u64]> {
        self.seqs.iter().copied().chain([seq]).collect()
    }
}

/// `old` with one more delete: pieces are cut at its ends, and gaps filled.
fn with(old: &[Piece], span: Span, seq: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(old.len() + 3);
    let mut rest = Some(span.clone());
    for piece in old {
        pieces.extend(piece.part(piece.span.clip(&below(&span.start))));
        if let Some(cut) = piece.span.clip(&span) {
            let gap = rest.as_ref().and_then(|rest| rest.clip(&below(&cut.start)));
            pieces.extend(gap.map(|span| Piece { span, seqs: [seq].into() }));
            rest = rest.and_then(|rest| rest.clip(&from(cut.end.as_ref()?)));
            pieces.push(Piece { span: cut, seqs: piece.deleted_at(seq) });
        }
        pieces.extend(piece.part(span.end.as_ref().and_then(|end| piece.span.clip(&from(end)))));
    }
    pieces.extend(rest.map(|span| Piece { span, seqs: [seq].into() }));
    pieces.sort_unstable_by(|a, b| a.span.start.cmp(&b.span.start));
    pieces
}

fn below(end: &Bytes) -> Span {
    Span::new(Bytes::new(), Some(end.clone()))
}

fn from(start: &Bytes) -> Span {
    Span::new(start.clone(), None::<Bytes>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: u8, end: u8) -> Span {
        Span::new(vec![start], (end < 16).then(|| vec![end]))
    }

    proptest! {
        #[test]
        fn finds_the_newest_delete(ranges in prop::collection::vec((0..16_u8, 0..=16_u8), 0..12)) {
            let deletes = RangeDeletes::default();
            let mut model = Vec::new();
            for (i, (start, end)) in ranges.into_iter().enumerate() {
                let (span, seq) = (span(start, end), i as u64 * 2 + 1);
                if !span.is_empty() {
                    deletes.add(span.clone(), seq);
                    model.push((span, seq));
                }
                prop_assert_eq!(deletes.count(), model.len());
            }
            for seq in 0..=26 {
                let set = deletes.now().map(|deletes| deletes.at(seq)).unwrap_or_default();
                let seen = || model.iter().filter(|(_, own)| *own <= seq);
                prop_assert_eq!(&set, &seen().map(|(span, _)| span.clone()).collect());
                for key in (0..18_u8).map(|key| [key]) {
                    let over = seen().filter(|(span, _)| span.contains(&key));
                    let newest = over.map(|(_, own)| *own).max();
                    prop_assert_eq!(deletes.newest_over(&key, seq), newest);
                }
            }
        }
    }
}

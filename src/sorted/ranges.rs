//! Sets of key ranges: what `delete_range` leaves behind.
//!
//! Neighbouring and overlapping ranges are joined, so the spans are disjoint, sorted, and a
//! look-up is one binary search. Sets are small and copied on write.

use crate::codec::compare;
use bytes::Bytes;
use std::sync::Arc;

/// The keys `start <= key < end`; without an end, all keys from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Bytes,
    pub(crate) end: Option<Bytes>,
}

impl Span {
    pub(crate) fn new(start: impl Into<Bytes>, end: Option<impl Into<Bytes>>) -> Self {
        Self { start: start.into(), end: end.map(Into::into) }
    }

    /// Whether no key is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.starts_by(key) && self.ends_after(key)
    }

    /// Whether `key` is not below the start.
    #[inline]
    pub(crate) fn starts_by(&self, key: &[u8]) -> bool {
        compare(&self.start, key).is_le()
    }

    /// Whether `key` is below the end.
    #[inline]
    pub(crate) fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| compare(key, end).is_lt())
    }

    /// Whether every key of `first..=last` is in it.
    pub(crate) fn covers(&self, first: &[u8], last: &[u8]) -> bool {
        self.starts_by(first) && self.ends_after(last)
    }

    /// What of it lies in `within`; `None` if nothing does.
    pub(crate) fn clip(&self, within: &Span) -> Option<Span> {
        let start = self.start.clone().max(within.start.clone());
        let end = match (&self.end, &within.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (a, b) => a.as_ref().or(b.as_ref()).cloned(),
        };
        let span = Span { start, end };
        (!span.is_empty()).then_some(span)
    }

    /// Whether the two overlap or touch, so that one span can say both.
    fn joins(&self, other: &Span) -> bool {
        let reaches = |a: &Span, b: &Span| a.end.as_ref().is_none_or(|end| end >= &b.start);
        reaches(self, other) && reaches(other, self)
    }

    fn join(&self, other: &Span) -> Span {
        Span {
            start: self.start.clone().min(other.start.clone()),
            end: match (&self.end, &other.end) {
                (Some(a), Some(b)) => Some(a.max(b).clone()),
                _ => None,
            },
        }
    }
}

/// A set of disjoint spans, sorted. Cloning is one reference count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Option<Arc<[Span]>>);

impl RangeSet {
    /// The set of nothing.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The spans, in order.
    pub(crate) fn spans(&self) -> &[Span] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The span that holds `key`. One binary search.
    #[inline]
    pub(crate) fn covering(&self, key: &[u8]) -> Option<&Span> {
        let spans = self.0.as_deref()?;
        let after = spans.partition_point(|span| span.starts_by(key));
        spans.get(after.checked_sub(1)?).filter(|span| span.ends_after(key))
    }

    /// Whether a key from `start` to before `end` is in the set. One binary search.
    pub(crate) fn meets(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        let spans = self.spans();
        let before = spans.partition_point(|span| !span.ends_after(start));
        spans.get(before).is_some_and(|span| end.is_none_or(|end| span.start < end))
    }

    /// Adds a span, joining what it touches. Linear in the size of the set.
    pub(crate) fn add(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let mut joined = span;
        let mut spans: Vec<Span> = Vec::with_capacity(self.spans().len() + 1);
        for old in self.spans() {
            if old.joins(&joined) {
                joined = joined.join(old);
            } else {
                spans.push(old.clone());
            }
        }
        let at = spans.partition_point(|old| old.start < joined.start);
        spans.insert(at, joined);
        self.0 = Some(spans.into());
    }

    /// Adds all of `other`'s spans. Linear in the size of both.
    pub(crate) fn add_all(&mut self, other: &RangeSet) {
        if self.is_empty() || other.is_empty() {
            if self.is_empty() {
                self.clone_from(other);
            }
            return;
        }
        *self = self.spans().iter().chain(other.spans()).cloned().collect();
    }

    /// What of the set lies in `within`.
    pub(crate) fn clip(&self, within: &Span) -> RangeSet {
        self.spans().iter().filter_map(|span| span.clip(within)).collect()
    }
}

impl FromIterator<Span> for RangeSet {
    /// Any spans, in any order; linear if they are sorted.
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut all: Vec<Span> = spans.into_iter().filter(|span| !span.is_empty()).collect();
        all.sort_by(|a, b| a.start.cmp(&b.start));
        let mut joined: Vec<Span> = Vec::with_capacity(all.len());
        for span in all {
            match joined.last_mut() {
                Some(last) if last.joins(&span) => *last = last.join(&span),
                _ => joined.push(span),
            }
        }
        Self((!joined.is_empty()).then(|| joined.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &'static str, end: &'static str) -> Span {
        Span::new(start, (end != "*").then_some(end))
    }

    #[test]
    fn joins_what_touches() {
        let mut set: RangeSet =
            [span("d", "f"), span("a", "b"), span("x", "*")].into_iter().collect();
        assert_eq!(set.spans().len(), 3);
        set.add(span("b", "d"));
        assert_eq!(set.spans(), [span("a", "f"), span("x", "*")]);
        set.add(span("e", "z"));
        assert_eq!(set.spans(), [span("a", "*")]);
        set.add(span("q", "q"));
        assert_eq!(set.spans().len(), 1);
    }

    #[test]
    fn adding_a_set_adds_each_of_its_spans() {
        let sets: Vec<RangeSet> = [
            vec![],
            vec![span("b", "d"), span("f", "h"), span("m", "n")],
            vec![span("a", "b"), span("d", "e"), span("g", "k")],
            vec![span("c", "m")],
            vec![span("n", "*")],
        ]
        .into_iter()
        .map(|spans| spans.into_iter().collect())
        .collect();
        for a in &sets {
            for b in &sets {
                let (mut whole, mut single) = (a.clone(), a.clone());
                whole.add_all(b);
                b.spans().iter().for_each(|span| single.add(span.clone()));
                assert_eq!(whole, single);
            }
        }
    }

    #[test]
    fn meets_what_overlaps() {
        let set: RangeSet = [span("b", "d"), span("x", "*")].into_iter().collect();
        let meets = |start: &str, end: &str| {
            let end = (end != "*").then_some(end.as_bytes());
            set.meets(start.as_bytes(), end)
        };
        for (start, end) in [("a", "b"), ("d", "x"), ("", "a"), ("e", "f")] {
            assert!(!meets(start, end), "{start} {end}");
        }
        for (start, end) in
            [("a", "b0"), ("c", "c0"), ("a", "*"), ("c9", "z"), ("y", "*"), ("d", "y")]
        {
            assert!(meets(start, end), "{start} {end}");
        }
        assert!(!RangeSet::none().meets(b"", None));
    }

    #[test]
    fn finds_the_covering_span() {
        let set: RangeSet = [span("b", "d"), span("x", "*")].into_iter().collect();
        for (key, hit) in [("a", false), ("b", true), ("c9", true), ("d", false), ("zz", true)] {
            assert_eq!(set.covering(key.as_bytes()).is_some(), hit, "{key}");
        }
        assert_eq!(set.clip(&span("c", "y")).spans(), [span("c", "d"), span("x", "y")]);
    }
}

//! What a transaction has read, so that its commit can tell whether that still holds.
//!
//! Keys that were looked up, found or not, and stretches of keys that were walked over: from where
//! an iterator began to where it stands, with all the keys that are *not* there in between. So a
//! key that appears in a range somebody looked at (a phantom) is noticed, and one past the place
//! where they stopped is none of their business.

use super::{Op, TableId, TableState};
use crate::{
    Value,
    codec::key_hash,
    memtable::Memtable,
    sorted::{RangeSet, Span},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    mem::take,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

/// The reads of a transaction that goes on; shared with its iterators.
#[derive(Default)]
pub(crate) struct Reads(Mutex<Vec<Tracked>>);

struct Tracked {
    table: Arc<TableState>,
    keys: BTreeSet<Value>,
    walks: Vec<Walked>,
}

/// How far an iterator has come, from either end of its span.
struct Walked {
    span: Span,
    front: Option<Vec<u8>>,
    back: Option<Vec<u8>>,
    /// All of the span was seen.
    whole: bool,
}

/// Tells how far one iterator has come.
pub(crate) struct Walk {
    reads: Arc<Reads>,
    table: TableId,
    number: usize,
    /// Keys come in no order: one step may have passed over any of them.
    is_unordered: bool,
}

impl Reads {
    /// Somebody looked `key` up.
    pub(crate) fn note_key(&self, table: &Arc<TableState>, key: &[u8]) {
        let mut all = self.0.lock();
        let tracked = tracked(&mut all, table);
        if !tracked.keys.contains(key) {
            tracked.keys.insert(Value::copied(key));
        }
    }

    /// Somebody is about to walk over `span`.
    pub(crate) fn walk(self: &Arc<Self>, table: &Arc<TableState>, span: &Span) -> Walk {
        let is_unordered = !table.engine().is_ordered();
        let mut all = self.0.lock();
        let walks = &mut tracked(&mut all, table).walks;
        walks.push(Walked { span: span.clone(), front: None, back: None, whole: false });
        let (table, number) = (table.id(), walks.len() - 1);
        Walk { reads: self.clone(), table, number, is_unordered }
    }

    /// All that was read until now. What iterators read later is not noted any more.
    pub(crate) fn finish(&self) -> ReadSet {
        ReadSet { tables: take(&mut *self.0.lock()).into_iter().map(Tracked::finish).collect() }
    }
}

/// The reads of `table`: of few, so they are looked through.
fn tracked<'a>(all: &'a mut Vec<Tracked>, table: &Arc<TableState>) -> &'a mut Tracked {
    let at = all.iter().position(|tracked| Arc::ptr_eq(&tracked.table, table));
    let at = at.unwrap_or_else(|| {
        let table = table.clone();
        all.push(Tracked { table, keys: BTreeSet::new(), walks: Vec::new() });
        all.len() - 1
    });
    &mut all[at]
}

impl Tracked {
    fn finish(self) -> TableReads {
        let spans = self.walks.into_iter().flat_map(Walked::spans).collect();
        TableReads { table: self.table, keys: self.keys, spans }
    }
}

impl Walked {
    fn spans(self) -> impl Iterator<Item = Span> {
        let Self { span, front, back, whole } = self;
        let (start, end) = (span.start.clone(), span.end.clone());
        let front = front.filter(|_| !whole).map(|mut last| {
            last.push(0);
            Span { start, end: Some(last.into()) }
        });
        let back = back.filter(|_| !whole).map(|first| Span { start: first.into(), end });
        whole.then_some(span).into_iter().chain(front).chain(back)
    }
}

impl Walk {
    /// The front came to `key`; without one, there is nothing left before the back.
    #[inline]
    pub(crate) fn front_at(&self, key: Option<&[u8]>) {
        self.note(key, |walked| &mut walked.front);
    }

    /// The back came to `key`; without one, there is nothing left after the front.
    #[inline]
    pub(crate) fn back_at(&self, key: Option<&[u8]>) {
        self.note(key, |walked| &mut walked.back);
    }

    /// The front goes to `key`: what lies between is not walked over.
    pub(crate) fn go_to(&mut self, key: &[u8]) {
        let mut all = self.reads.0.lock();
        let tracked = all.iter_mut().find(|tracked| tracked.table.id() == self.table);
        let Some(walks) = tracked.map(|tracked| &mut tracked.walks) else { return };
        let Some(walked) = walks.get(self.number) else { return };
        let span = Span { start: key.to_vec().into(), end: walked.span.end.clone() };
        self.number = walks.len();
        walks.push(Walked { span, front: None, back: None, whole: false });
    }

    fn note(&self, key: Option<&[u8]>, end: impl FnOnce(&mut Walked) -> &mut Option<Vec<u8>>) {
        let mut all = self.reads.0.lock();
        let tracked = all.iter_mut().find(|tracked| tracked.table.id() == self.table);
        let Some(walked) = tracked.and_then(|tracked| tracked.walks.get_mut(self.number)) else {
            // The transaction has ended; the iterator may go on.
            return;
        };
        match key.filter(|_| !self.is_unordered) {
            None => walked.whole = true,
            Some(key) => {
                let reached = end(walked).get_or_insert_default();
                reached.clear();
                reached.extend_from_slice(key);
            }
        }
    }
}

/// All that a transaction has read.
pub(crate) struct ReadSet {
    tables: Vec<TableReads>,
}

/// What of one table it has read.
pub(crate) struct TableReads {
    table: Arc<TableState>,
    keys: BTreeSet<Value>,
    spans: RangeSet,
}

impl ReadSet {
    pub(crate) fn tables(&self) -> &[TableReads] {
        &self.tables
    }

    /// What of the table was read, if anything.
    pub(crate) fn of(&self, table: TableId) -> Option<&TableReads> {
        self.tables.iter().find(|reads| reads.table.id() == table)
    }
}

impl TableReads {
    pub(crate) fn table(&self) -> &Arc<TableState> {
        &self.table
    }

    /// Whether `op` changes something that was read.
    pub(crate) fn is_changed_by(&self, op: Op<'_>) -> bool {
        match op {
            Op::Put { key, .. } | Op::Delete { key } => {
                self.keys.contains(key) || self.spans.covering(key).is_some()
            }
            Op::DeleteRange { start, end } => self.meets(start, end),
        }
    }

    /// Whether anything from `start` to before `end` was read.
    pub(crate) fn meets(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        if end.is_some_and(|end| end <= start) {
            return false;
        }
        let bounds = (Included(start), end.map_or(Unbounded, Excluded));
        self.keys.range::<[u8], _>(bounds).next().is_some() || self.spans.meets(start, end)
    }

    /// Whether `memtable` has a write of something that was read, newer than `after`.
    pub(crate) fn is_changed_in(&self, memtable: &Arc<Memtable>, after: u64) -> bool {
        if memtable.last_seq().is_none_or(|last| last <= after) {
            return false;
        }
        let newest = |key: &Value| memtable.newest_of(key, key_hash(key));
        self.keys.iter().any(|key| newest(key).is_some_and(|seq| seq > after))
            || self.spans.spans().iter().any(|span| memtable.is_written_in(span, after))
    }
}

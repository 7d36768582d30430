//! The newest operations of all tables, for transactions that are about to commit.
//!
//! To look at memtables again under the commit lock would cost a transaction's whole read set while
//! everybody waits. So while a transaction is open each operation is written down here too, without
//! its value and as the log has it, and a commit looks through what is newer than what it has been
//! checked against: usually the few operations that other threads got in since it began.
//!
//! ```text
//!   full chunks, shared              one being filled
//!   [op op op ..] [op op op op ..]   [op op ..        ]
//!    ^ from                                    next ^
//! ```
//!
//! Chunks that are full are looked through without the lock; under it there is never more than one
//! to do. When there are too many the oldest goes, and who would have needed it looks at the
//! memtables instead.

use crate::table::{History, Op, ReadSet, TableId, TableReads, put_op, read_ops};
use std::{collections::VecDeque, sync::Arc};

/// A chunk is full from this many bytes on: a few hundred operations, some ten microseconds.
const CHUNK_BYTES: usize = if cfg!(test) { 64 } else { 16 << 10 };
/// Full chunks that are kept: a mebibyte.
const CHUNKS_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// The newest operations, by sequence number without a gap.
pub(super) struct Tail {
    history: Arc<History>,
    /// The first that is here, or would be.
    from: u64,
    full: VecDeque<Arc<Chunk>>,
    filling: Chunk,
}

/// Some operations in a row.
#[derive(Default)]
pub(super) struct Chunk {
    first: u64,
    count: u64,
    ops: Vec<u8>,
}

/// What came after some sequence number.
pub(super) enum Newer {
    /// Some of it is no longer here.
    Unknown,
    /// Full chunks of it.
    Chunks(Vec<Arc<Chunk>>),
    /// Nothing that is in a full chunk.
    Few,
}

impl Tail {
    pub(super) fn new(history: Arc<History>) -> Self {
        Self { history, from: 0, full: VecDeque::new(), filling: Chunk::default() }
    }

    /// Notes operation `seq`, which is the next one.
    #[inline]
    pub(super) fn note(&mut self, table: TableId, op: Op<'_>, seq: u64) {
        if self.history.is_watched() {
            self.add(table, op, seq);
        } else {
            self.from = seq + 1;
            if self.filling.count > 0 || !self.full.is_empty() {
                self.clear();
            }
        }
    }

    #[cold]
    fn clear(&mut self) {
        self.full.clear();
        self.filling = Chunk::default();
    }

    fn add(&mut self, table: TableId, op: Op<'_>, seq: u64) {
        let chunk = &mut self.filling;
        if chunk.count == 0 {
            chunk.first = seq;
        }
        debug_assert_eq!(chunk.first + chunk.count, seq, "an operation was left out");
        put_op(&mut chunk.ops, table, op.without_value());
        chunk.count += 1;
        if chunk.ops.len() >= CHUNK_BYTES {
            let ops = Vec::with_capacity(chunk.ops.len());
            let next = Chunk { first: seq + 1, count: 0, ops };
            self.full.push_back(Arc::new(std::mem::replace(chunk, next)));
        }
        if self.full.len() > CHUNKS_MAX
            && let Some(oldest) = self.full.pop_front()
        {
            self.from = oldest.next();
        }
    }

    /// What came after `seq`.
    pub(super) fn after(&self, seq: u64) -> Newer {
        if seq + 1 < self.from {
            return Newer::Unknown;
        }
        let newer = self.full.iter().rev().take_while(|chunk| chunk.next() > seq + 1);
        let mut chunks: Vec<_> = newer.cloned().collect();
        chunks.reverse();
        if chunks.is_empty() { Newer::Few } else { Newer::Chunks(chunks) }
    }

    /// The reads that an operation after `seq` changed, of those in the chunk that is not full.
    pub(super) fn changed<'r>(&self, reads: &'r ReadSet, seq: u64) -> Option<&'r TableReads> {
        self.filling.changed(reads, seq)
    }
}

impl Chunk {
    /// The number of the operation after the last.
    pub(super) fn next(&self) -> u64 {
        self.first + self.count
    }

    /// The reads that one of the operations after `seq` changed.
    pub(super) fn changed<'r>(&self, reads: &'r ReadSet, seq: u64) -> Option<&'r TableReads> {
        if self.count == 0 || self.next() <= seq + 1 {
            return None;
        }
        let known = (seq + 1).saturating_sub(self.first) as usize;
        read_ops(&self.ops)
            .skip(known)
            .flatten()
            .find_map(|(table, op)| reads.of(table).filter(|reads| reads.is_changed_by(op)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8]) -> Op<'_> {
        Op::Put { key, value: b"a value that is left out" }
    }

    fn add(tail: &mut Tail, seqs: std::ops::RangeInclusive<u64>) {
        seqs.for_each(|seq| tail.note(1, put(&seq.to_be_bytes()), seq));
    }

    /// The numbers after `seq`, read back from the keys.
    fn after(tail: &Tail, seq: u64) -> Option<Vec<u64>> {
        let mut chunks = match tail.after(seq) {
            Newer::Unknown => return None,
            Newer::Chunks(chunks) => chunks,
            Newer::Few => Vec::new(),
        };
        assert!(chunks.iter().all(|chunk| chunk.next() > seq + 1), "an old chunk is no use");
        let filling = Chunk { ops: tail.filling.ops.clone(), ..tail.filling };
        chunks.push(Arc::new(filling));
        let ops = chunks.iter().flat_map(|chunk| read_ops(&chunk.ops)).flatten();
        let seqs = ops.map(|(_, op)| match op {
            Op::Put { key, value: [] } => u64::from_be_bytes(key.try_into().unwrap()),
            other => panic!("{other:?} was never put"),
        });
        Some(seqs.filter(|own| *own > seq).collect())
    }

    #[test]
    fn remembers_while_a_transaction_is_open() {
        let history = History::new(0);
        let mut tail = Tail::new(history.clone());
        assert_eq!(after(&tail, 41), Some(vec![]));
        add(&mut tail, 42..=50);
        assert_eq!(after(&tail, 49), None);
        assert_eq!(after(&tail, 50), Some(vec![]));
        let begun = history.begin(|| 50);
        add(&mut tail, 51..=60);
        for seq in 50..=60 {
            assert_eq!(after(&tail, seq), Some((seq + 1..=60).collect()), "after {seq}");
        }
        assert_eq!(after(&tail, 49), None);
        drop(begun);
        add(&mut tail, 61..=61);
        assert_eq!((after(&tail, 60), after(&tail, 61)), (None, Some(vec![])));
        assert!(tail.full.is_empty() && tail.filling.ops.is_empty());
    }

    #[test]
    fn lets_the_oldest_go() {
        let history = History::new(0);
        let _begun = history.begin(|| 0);
        let mut tail = Tail::new(history);
        add(&mut tail, 1..=1000);
        assert_eq!(tail.full.len(), CHUNKS_MAX);
        assert!(after(&tail, 900).is_none() && tail.from > 900);
        let first = tail.from;
        assert_eq!(after(&tail, first - 1), Some((first..=1000).collect()));
        assert_eq!(after(&tail, first - 2), None);
    }
}

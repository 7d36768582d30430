//! Recent writes of one table: sorted, many versions of a key, readable while they are written.
//!
//! (Signatures first; the arena, the hash and the tree behind them follow.)

use crate::{
    Result, Value,
    sorted::{Cursor, Kind, Lookup, RangeSet, Span},
};
use std::sync::Arc;

/// The shared half: what readers see.
#[derive(Debug)]
pub(crate) struct Memtable {}

/// The one writer's half. Not `Clone`: whoever holds it is the only writer.
#[derive(Debug)]
pub(crate) struct MemtableWriter {
    memtable: Arc<Memtable>,
}

#[allow(unused_variables)]
impl Memtable {
    /// An empty memtable that can take `capacity` bytes of records, and its writer. Cheap: memory
    /// is allocated at the first insert.
    pub(crate) fn new(capacity: usize) -> (Arc<Memtable>, MemtableWriter) {
        let memtable = Arc::new(Memtable {});
        (memtable.clone(), MemtableWriter { memtable })
    }

    /// The capacity a new memtable needs to have room for `entries` of together `bytes` of keys
    /// and values; `None` if none is large enough (4 GiB).
    pub(crate) fn capacity_for(entries: usize, bytes: usize) -> Option<usize> {
        unimplemented!()
    }

    /// The newest version of `key` at or below `seq`. `hash` is [`crate::codec::key_hash`].
    pub(crate) fn get(&self, key: &[u8], hash: u64, seq: u64) -> Lookup<&[u8]> {
        unimplemented!()
    }

    /// Asks for what [`Self::get`] will read first.
    pub(crate) fn prefetch(&self, hash: u64) {}

    /// `found`, which [`Self::get`] returned, as a value that outlives the borrow: short values
    /// are copied, long ones pin this memtable.
    pub(crate) fn value(self: &Arc<Self>, found: &[u8]) -> Value {
        unimplemented!()
    }

    /// The newest version at or below `seq` of each key, in order.
    pub(crate) fn cursor(self: &Arc<Self>, seq: u64) -> MemtableCursor {
        unimplemented!()
    }

    /// What range deletes at or below `seq` delete from older sources.
    pub(crate) fn range_deletes(&self, seq: u64) -> RangeSet {
        unimplemented!()
    }

    /// The sequence number of the newest version of `key`, range deletes included.
    pub(crate) fn newest_of(&self, key: &[u8], hash: u64) -> Option<u64> {
        unimplemented!()
    }

    /// The sequence number of the oldest operation in it.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        unimplemented!()
    }

    /// The sequence number of the newest operation in it.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        unimplemented!()
    }

    /// How many operations it holds: versions and range deletes.
    pub(crate) fn entries(&self) -> usize {
        unimplemented!()
    }

    /// Bytes of memory in use.
    pub(crate) fn bytes(&self) -> usize {
        unimplemented!()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries() == 0
    }
}

#[allow(unused_variables)]
impl MemtableWriter {
    /// Adds a version. Sequence numbers never go down. Only after [`Self::has_room`] said yes.
    pub(crate) fn insert(&mut self, key: &[u8], hash: u64, seq: u64, kind: Kind, value: &[u8]) {
        unimplemented!()
    }

    /// Deletes every key in `span` older than `seq`.
    pub(crate) fn delete_range(&mut self, span: Span, seq: u64) {
        unimplemented!()
    }

    /// Whether `entries` more operations of together `bytes` of keys and values surely fit.
    pub(crate) fn has_room(&self, entries: usize, bytes: usize) -> bool {
        unimplemented!()
    }

    pub(crate) fn memtable(&self) -> &Arc<Memtable> {
        &self.memtable
    }
}

/// A position among the newest versions at or below one sequence number.
#[derive(Debug)]
pub(crate) struct MemtableCursor {}

#[allow(unused_variables)]
impl MemtableCursor {
    /// The sequence number of the entry.
    pub(crate) fn seq(&self) -> u64 {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Cursor for MemtableCursor {
    fn seek_first(&mut self) -> Result<()> {
        unimplemented!()
    }
    fn seek_last(&mut self) -> Result<()> {
        unimplemented!()
    }
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        unimplemented!()
    }
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        unimplemented!()
    }
    fn next(&mut self) -> Result<()> {
        unimplemented!()
    }
    fn prev(&mut self) -> Result<()> {
        unimplemented!()
    }
    fn valid(&self) -> bool {
        unimplemented!()
    }
    fn key(&self) -> &[u8] {
        unimplemented!()
    }
    fn kind(&self) -> Kind {
        unimplemented!()
    }
    fn value(&mut self) -> Result<&[u8]> {
        unimplemented!()
    }
    fn range_deletes(&self) -> &RangeSet {
        unimplemented!()
    }
}

//! Recent writes of one table: many versions of a key, readable while they are written.
//!
//! One writer appends; any number of readers, each at a sequence number it was given, see exactly
//! the entries at or below it, and neither lock nor wait for the writer.
//!
//! ```text
//!   put:   arena (append the record) -> hash (enter a new key)
//!   get:   hash -> record -> newest version at or below the reader's sequence number
//!   scan:  sort what arrived since the last scan into the tree -> leaves -> records
//! ```
//!
//! The parts, from below: [`memory`] that grows in place, and the [`pool`] that hands it on; the
//! [`arena`] of records; the [`hash`] that answers gets; the [`tree`] of [`node`]s that keeps
//! [`order`], filled only when somebody scans; range [`deletes`]; the [`cursor`].
//!
//! Why so: a hash and an append cost a put one cache miss, where the best ordered structure we
//! measured, this same tree kept up to date put by put, costs three times as much and a skip list
//! ten times. Most memtables are never scanned before they are flushed, and sorting once is far
//! cheaper than keeping in order.
//!
//! An empty memtable is a few words; the first insert allocates a page or two.

mod arena;
mod cursor;
mod deletes;
mod hash;
mod hashed;
mod memory;
mod node;
mod order;
mod pool;
mod tree;

#[cfg(test)]
mod figures;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;

pub(crate) use cursor::MemtableCursor;
pub(crate) use hashed::HashedCursor;
pub(crate) use pool::Pool;

#[cfg(test)]
use crate::sorted::RangeSet;
use crate::{
    Value,
    sorted::{Kind, Lookup, Span},
};
use arena::{ARENA_MAX, ARENA_OVERHEAD, Appender, Arena, RECORD_OVERHEAD};
use deletes::RangeDeletes;
use hash::{Hash, HashWriter, Place};
use order::Order;
use pool::Lease;
use std::sync::{
    Arc, OnceLock,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use tree::Tree;

/// Values up to this length are copied rather than keep a whole memtable alive.
const COPIED_MAX: usize = 4 << 10;

/// Walking over so many deletes takes half a millisecond.
const DELETES_MANY: usize = 16 << 10;

/// Sorting fewer bytes ahead of a scan is not worth it.
const SORTED_AHEAD: usize = 1 << 20;

/// With this many range deletes a memtable is full: each one copies those before it.
const RANGE_DELETES_MAX: usize = 1024;

/// What readers share.
pub(crate) struct Memtable {
    capacity: usize,
    store: OnceLock<Store>,
    deletes: RangeDeletes,
    progress: Progress,
}

/// What the first insert allocates.
struct Store {
    arena: Arc<Arena>,
    hash: Hash,
    /// What the first scan allocates.
    order: OnceLock<Order>,
}

/// What the writer tells of itself; on a line of its own, since it changes with every insert.
#[derive(Default)]
#[repr(align(64))]
struct Progress {
    first_seq: AtomicU64,
    last_seq: AtomicU64,
    entries: AtomicUsize,
    deletes: AtomicUsize,
}

/// The one writer's half. Not `Clone`: whoever has it is the only writer.
pub(crate) struct MemtableWriter {
    memtable: Arc<Memtable>,
    memory: Memory,
    store: Option<StoreWriter>,
}

/// Where a memtable's arena comes from.
pub(crate) enum Memory {
    /// From the system, and back to it.
    Own,
    /// From the system; later the pool may hand it on.
    New(Arc<Pool>),
    /// From the pool: for a memtable that will soon be full, as the one before it was.
    Pooled(Arc<Pool>),
}

struct StoreWriter {
    appender: Appender,
    hash: HashWriter,
}

impl Memtable {
    /// An empty memtable that can take `capacity` bytes of records (less than 4 GiB), and its
    /// writer. Cheap: memory is allocated by the first insert.
    pub(crate) fn new(capacity: usize, memory: Memory) -> (Arc<Memtable>, MemtableWriter) {
        let memtable = Arc::new(Memtable {
            capacity: capacity.clamp(ARENA_OVERHEAD, ARENA_MAX),
            store: OnceLock::new(),
            deletes: RangeDeletes::default(),
            progress: Progress::default(),
        });
        (memtable.clone(), MemtableWriter { memtable, memory, store: None })
    }

    /// The capacity with which a new memtable has room for `entries` of together `bytes` of keys
    /// and values; `None` if no memtable is that large.
    pub(crate) fn capacity_for(entries: usize, bytes: usize) -> Option<usize> {
        let overhead = entries.checked_mul(RECORD_OVERHEAD)?;
        let capacity = bytes.checked_add(overhead)?.checked_add(ARENA_OVERHEAD)?;
        (capacity <= ARENA_MAX).then_some(capacity)
    }

    /// The newest version of `key` at or below `seq`. `hash` is [`crate::codec::key_hash`] of it.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64, seq: u64) -> Lookup<&[u8]> {
        let version = self.store.get().and_then(|store| {
            let node = store.hash.find(&store.arena, key, hash)?;
            Some((&store.arena, store.arena.newest_at(node, seq)?))
        });
        let deleted = self.deletes.newest_over(key, seq);
        match version {
            Some((arena, version)) if deleted.is_none_or(|d| d <= arena.seq(version)) => {
                match arena.kind(version) {
                    Kind::Put => Lookup::Found(arena.value(version)),
                    Kind::Delete => Lookup::Deleted,
                }
            }
            _ if deleted.is_some() => Lookup::Deleted,
            _ => Lookup::Missing,
        }
    }

    /// Asks for the memory that [`Self::get`] reads first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(store) = self.store.get() {
            store.hash.prefetch(hash);
        }
    }

    /// `found`, which [`Self::get`] returned, as a value that outlives the borrow: long ones pin
    /// this memtable's records, others are copied.
    pub(crate) fn value(&self, found: &[u8]) -> Value {
        let arena = self.store.get().map(|store| &store.arena);
        match arena.filter(|_| found.len() > COPIED_MAX).and_then(|arena| arena.pin(found)) {
            Some(pin) => Value::pinned(&Arc::new(pin), found),
            None => Value::copied(found),
        }
    }

    /// The newest version at or below `seq` of each key, in order. Deletes are shown; what range
    /// deletes of this memtable hide is not.
    pub(crate) fn cursor(self: &Arc<Self>, seq: u64) -> MemtableCursor {
        MemtableCursor::new(self.clone(), seq)
    }

    /// The same in the order of the keys' hashes under `seed`. For tables without range deletes.
    pub(crate) fn hashed(self: &Arc<Self>, seq: u64, seed: u64) -> HashedCursor {
        HashedCursor::new(self.clone(), seq, seed)
    }

    /// What range deletes at or below `seq` delete.
    #[cfg(test)]
    pub(crate) fn range_deletes(&self, seq: u64) -> RangeSet {
        self.deletes.now().map(|deletes| deletes.at(seq)).unwrap_or_default()
    }

    /// The sequence number of the newest operation on `key`, range deletes included.
    pub(crate) fn newest_of(&self, key: &[u8], hash: u64) -> Option<u64> {
        let version = self.store.get().and_then(|store| {
            let node = store.hash.find(&store.arena, key, hash)?;
            Some(store.arena.seq(store.arena.newest(node)))
        });
        version.max(self.deletes.newest_over(key, u64::MAX))
    }

    /// Whether a key of `span` was written, or a part of it deleted, after sequence number `after`.
    ///
    /// Costs a step for each key of the span, and puts in order what arrived since the last scan.
    pub(crate) fn is_written_in(self: &Arc<Self>, span: &Span, after: u64) -> bool {
        // In this order: what the cursor does not show was deleted before the look at the deletes.
        let mut cursor = self.cursor(u64::MAX);
        self.deletes.now().is_some_and(|deletes| deletes.meets(span, after))
            || cursor.is_newer_in(span, after)
    }

    /// The sequence number of the oldest operation in it.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        Some(self.progress.first_seq.load(Acquire)).filter(|seq| *seq > 0)
    }

    /// The sequence number of the newest operation in it.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        Some(self.progress.last_seq.load(Acquire)).filter(|seq| *seq > 0)
    }

    /// How many operations it holds: versions and range deletes.
    pub(crate) fn entries(&self) -> usize {
        self.progress.entries.load(Relaxed)
    }

    /// Whether so many of them are deletes of a key that a reader is held up by walking over them.
    pub(crate) fn has_many_deletes(&self) -> bool {
        self.progress.deletes.load(Relaxed) >= DELETES_MANY
    }

    /// The same, where most operations are.
    pub(crate) fn is_mostly_deletes(&self) -> bool {
        let deletes = self.progress.deletes.load(Relaxed);
        deletes >= DELETES_MANY && deletes > self.entries() / 2
    }

    /// Does now what the next scan would have to do first, if that is much: puts what arrived in
    /// order. Says whether it did.
    pub(crate) fn sort(&self) -> bool {
        let store = self.store.get().filter(|store| store.unsorted() >= SORTED_AHEAD);
        store.map(|store| store.tree_at(u64::MAX)).is_some()
    }

    /// Whether it holds no operation.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    /// Bytes of memory in use: records, hash and tree, range deletes.
    pub(crate) fn bytes(&self) -> usize {
        self.store.get().map_or(0, Store::bytes) + self.deletes.bytes()
    }
}

impl Memory {
    fn lease(&self, len: usize) -> Lease {
        match self {
            Self::Own => Lease::fresh(len, None),
            Self::New(pool) => Lease::fresh(len, Some(pool.clone())),
            Self::Pooled(pool) => Lease::used(len, pool),
        }
    }
}

impl Store {
    fn new(arena: Arc<Arena>) -> Self {
        Self { arena, hash: Hash::new(), order: OnceLock::new() }
    }

    #[inline]
    fn order(&self) -> &Order {
        self.order.get_or_init(|| Order::new(self.arena.clone()))
    }

    /// The tree as it is.
    #[inline]
    fn tree(&self) -> &Tree {
        self.order().tree()
    }

    /// The tree, with every key in it that has a version at or below `seq`.
    fn tree_at(&self, seq: u64) -> &Tree {
        self.order().tree_at(&self.arena, seq)
    }

    /// Bytes of records that are not in order yet.
    fn unsorted(&self) -> usize {
        let sorted = self.order.get().map_or(0, Order::filled);
        self.arena.used().saturating_sub(sorted) as usize
    }

    fn bytes(&self) -> usize {
        let order = self.order.get().map_or(0, Order::bytes);
        self.arena.used() as usize + self.hash.bytes() + order
    }
}

impl MemtableWriter {
    /// Adds a version of `key`. Sequence numbers never go down. Only after [`Self::has_room`]
    /// said there is.
    #[inline]
    pub(crate) fn insert(&mut self, key: &[u8], hash: u64, seq: u64, kind: Kind, value: &[u8]) {
        debug_assert!(kind == Kind::Put || value.is_empty());
        let (store, writer) = self.store();
        let arena = &*store.arena;
        match writer.hash.place(&store.hash, arena, key, hash) {
            Place::Taken(node) => writer.appender.add_version(node, seq, kind, value),
            Place::Free(free) => {
                let node = writer.appender.add_node(key, seq, kind, value);
                writer.hash.add(&store.hash, arena, node, hash, free);
            }
        }
        writer.appender.publish(seq);
        self.count(seq);
        if kind == Kind::Delete {
            let deletes = &self.memtable.progress.deletes;
            deletes.store(deletes.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Asks for the memory that [`Self::insert`] of a key with this hash looks at first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.memtable.prefetch(hash);
    }

    /// Deletes every key of `span` from here and from older sources.
    pub(crate) fn delete_range(&mut self, span: Span, seq: u64) {
        if !span.is_empty() {
            self.memtable.deletes.add(span, seq);
        }
        self.count(seq);
    }

    /// Whether `entries` more operations of together `bytes` of keys and values surely fit.
    pub(crate) fn has_room(&self, entries: usize, bytes: usize) -> bool {
        let capacity = self.memtable.capacity;
        let room = self.store.as_ref().map_or(capacity - ARENA_OVERHEAD, |s| s.appender.room());
        let needed = entries.saturating_mul(RECORD_OVERHEAD).saturating_add(bytes);
        needed <= room && self.memtable.deletes.count() < RANGE_DELETES_MAX
    }

    #[inline]
    fn store(&mut self) -> (&Store, &mut StoreWriter) {
        let Self { memtable, memory, store } = self;
        let writer = store.get_or_insert_with(|| StoreWriter {
            appender: Appender::new(memory.lease(memtable.capacity)),
            hash: HashWriter::default(),
        });
        let arena = writer.appender.arena();
        (memtable.store.get_or_init(|| Store::new(arena.clone())), writer)
    }

    fn count(&mut self, seq: u64) {
        let progress = &self.memtable.progress;
        debug_assert!(seq > 0 && progress.last_seq.load(Relaxed) <= seq);
        let entries = progress.entries.load(Relaxed);
        if entries == 0 {
            progress.first_seq.store(seq, Release);
        }
        progress.entries.store(entries + 1, Relaxed);
        progress.last_seq.store(seq, Release);
    }
}

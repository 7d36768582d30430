//! The order of the keys, found when somebody asks for it.
//!
//! A put only appends its record and enters the hash. Keys that arrived since the last scan are
//! found by walking the arena from there, sorted, and added to the tree in order, all at once: for
//! tables that are written and flushed this is several times cheaper than keeping the tree up to
//! date put by put, and a flush is the first scan.
//!
//! One scanner fills while others that need the same wait for it; none ever waits for the writer
//! of the memtable, and one whose entries are all in the tree waits for nobody.

use super::{
    arena::{Arena, Node},
    tree::{Tree, TreeWriter, shared},
};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{
        AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Keys that tie in 8 bytes are sorted by comparing them whole, if they are this few.
const COMPARED_MAX: usize = 12;

/// How often ties are broken by 8 more bytes before keys are compared whole.
const TIES_MAX: usize = 32;

/// How many records ahead are asked for.
const AHEAD: usize = 12;

/// The tree, and how far it has been filled.
pub(super) struct Order {
    tree: Tree,
    /// All keys whose records end at or below this offset are in the tree.
    filled: AtomicU32,
    /// All keys with a version below this sequence number are in the tree.
    filled_before: AtomicU64,
    bytes: AtomicUsize,
    filler: Mutex<TreeWriter>,
}

impl Order {
    pub(super) fn new(arena: Arc<Arena>) -> Self {
        let (tree, filler) = Tree::new(arena);
        Self {
            tree,
            filled: AtomicU32::new(0),
            filled_before: AtomicU64::new(0),
            bytes: AtomicUsize::new(filler.bytes()),
            filler: Mutex::new(filler),
        }
    }

    /// The tree, with every key in it that has a version at or below `seq`.
    pub(super) fn tree_at(&self, arena: &Arena, seq: u64) -> &Tree {
        let full =
            seq < self.filled_before.load(Acquire) || self.filled.load(Acquire) >= arena.used();
        if !full {
            self.fill(arena);
        }
        &self.tree
    }

    /// The tree as it is.
    #[inline]
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// All keys whose records end at or below this offset are in the tree.
    pub(super) fn filled(&self) -> u32 {
        self.filled.load(Relaxed)
    }

    /// Bytes of the tree.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    fn fill(&self, arena: &Arena) {
        let mut filler = self.filler.lock();
        // In this order: every record with a smaller sequence number lies below `used`.
        let last_seq = arena.last_seq();
        let used = arena.used();
        let filled = self.filled.load(Relaxed);
        if filled < used {
            filler.add_sorted(&self.tree, &sorted(arena, filled, used));
        }
        self.bytes.store(filler.bytes(), Relaxed);
        self.filled.store(used, Release);
        self.filled_before.store(last_seq, Release);
    }
}

/// The 8 bytes of a key after some prefix, as a big-endian number, and the key.
type Entry = (u64, Node);

fn head(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => rest.iter().zip(1..).fold(0, |head, (b, i)| head | u64::from(*b) << (64 - 8 * i)),
    }
}

/// The nodes between two ends of records, by key.
fn sorted(arena: &Arena, from: u32, to: u32) -> Vec<Node> {
    let (mut entries, skip) = arrivals(arena, from, to);
    entries.sort_unstable_by_key(|(head, _)| *head);
    untie(arena, &mut entries, skip, TIES_MAX);
    entries.into_iter().map(|(_, node)| node).collect()
}

/// The nodes in the order of their arrival, with the heads after the prefix that all keys share;
/// and the length of that.
fn arrivals(arena: &Arena, from: u32, to: u32) -> (Vec<Entry>, usize) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut prefix: Option<&[u8]> = None;
    let mut stale = 0;
    arena.walk(from, to, |node| {
        let key = arena.key(node);
        let common = prefix.get_or_insert(key);
        if !key.starts_with(common) {
            *common = common.get(..shared(common, key)).unwrap_or_default();
            stale = entries.len();
        }
        entries.push((head(key, common.len()), node));
    });
    let skip = prefix.map_or(0, <[u8]>::len);
    // The prefix usually shrinks for the last time among the first few keys.
    set_heads(arena, entries.get_mut(..stale).unwrap_or_default(), skip);
    (entries, skip)
}

fn set_heads(arena: &Arena, entries: &mut [Entry], skip: usize) {
    for i in 0..entries.len() {
        if let Some((_, ahead)) = entries.get(i + AHEAD) {
            arena.prefetch_key(*ahead);
        }
        entries[i].0 = head(arena.key(entries[i].1), skip);
    }
}

/// Sorts what ties: `entries` agree in `skip` bytes and are sorted by the heads after those. Runs
/// of equal heads are sorted by their next 8 bytes, and so on down to `depth` times.
fn untie(arena: &Arena, entries: &mut [Entry], skip: usize, depth: usize) {
    for run in entries.chunk_by_mut(|(a, _), (b, _)| a == b).filter(|run| run.len() > 1) {
        let long = run.len() > COMPARED_MAX && depth > 0;
        match long.then(|| common(arena, run)).filter(|common| *common >= skip + size_of::<u64>()) {
            Some(deeper) => {
                set_heads(arena, run, deeper);
                run.sort_unstable_by_key(|(head, _)| *head);
                untie(arena, run, deeper, depth - 1);
            }
            // Few, or one of them ends within the head, where zeroes stand for its missing bytes.
            None => run.sort_unstable_by(|(_, a), (_, b)| arena.key(*a).cmp(arena.key(*b))),
        }
    }
}

/// How many first bytes all the keys share.
fn common(arena: &Arena, entries: &[Entry]) -> usize {
    let Some((_, first)) = entries.first() else { return 0 };
    let first = arena.key(*first);
    entries
        .iter()
        .fold(first.len(), |common, (_, node)| common.min(shared(first, arena.key(*node))))
}

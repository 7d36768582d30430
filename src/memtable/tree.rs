//! The keys in order: a B+tree that one thread grows while any number read it without waiting.
//!
//! What makes that work, after the layout of [`super::node`]:
//!
//! 1. Records and nodes are written before anything leads to them; every lead is a Release store,
//!    every step along one an Acquire load.
//! 2. A slot that the permutation does not list is invisible, and a listed one never changes,
//!    but for the child of an inner node.
//! 3. A full node is not changed but replaced by two copies; readers inside it go on. The copies
//!    are linked to each other before the neighbours are linked to them, and those before
//!    the parent. The parent first lists the right copy, then swaps the left one in.
//! 4. So a reader of an inner node loads the permutation, the child, and the permutation again: had
//!    it seen the swapped child under the old permutation, the right copy would be missed.
//! 5. A reader wants only entries that were in the tree when it set out. A leaf it reaches was live
//!    then or later, hence has all of those in its range; if replaced meanwhile, it is frozen
//!    with them. The same holds for the leaves beside it.
//!
//! A reader's retry in (4) means that the writer got on: nobody waits for a thread that sleeps.

use super::{
    arena::{Arena, NODE_MIN, Node},
    memory::{Slab, prefetch},
    node::{INNER_SLOTS, Inner, LEAF_SLOTS, Leaf, Perm},
};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

/// How full leaves and inner nodes are made from sorted entries: 70 %, since the first entry
/// put into a full one costs a split.
const LEAF_FILL: usize = 9;
const INNER_FILL: usize = 10;

/// How many records ahead are asked for.
const AHEAD: usize = 8;

/// Trees from this many leaves on are worth huge pages.
const HUGE_LEAVES: usize = (4 << 20) / size_of::<Leaf>();

/// Leads to a node: its height above the leaves and its number.
#[derive(Clone, Copy)]
struct Root {
    height: u32,
    id: u32,
}

/// The readers' half.
pub(super) struct Tree {
    arena: Arc<Arena>,
    leaves: Slab<Leaf>,
    inners: Slab<Inner>,
    /// `height << 32 | id`
    root: AtomicU64,
}

/// The writer's half.
pub(super) struct TreeWriter {
    leaves: u32,
    inners: u32,
    huge: bool,
    /// From the root down: inner node, rank of the child taken.
    path: Vec<(u32, usize)>,
    /// The leaf of the last insert, if the path still leads to it, and where its range ends.
    finger: Option<(u32, Option<Node>)>,
}

impl Tree {
    /// An empty tree with room for all the keys `arena` may ever hold.
    pub(super) fn new(arena: Arc<Arena>) -> (Self, TreeWriter) {
        // A leaf in use was made with 6 keys or more, but for one in each pair made by an append;
        // a split makes two, and one more in use. Inner nodes: the same over leaves.
        let keys = arena.len() / NODE_MIN;
        let leaves = Slab::new(keys / 3 + 16);
        let inners = Slab::new(keys / 18 + 16);
        let tree = Self { arena, leaves, inners, root: AtomicU64::new(0) };
        let mut writer =
            TreeWriter { leaves: 1, inners: 0, huge: false, path: Vec::new(), finger: None };
        let first = writer.take_leaf();
        tree.set_root(Root { height: 0, id: first });
        (tree, writer)
    }

    pub(super) fn leaf(&self, id: u32) -> &Leaf {
        &self.leaves[id as usize]
    }

    fn inner(&self, id: u32) -> &Inner {
        &self.inners[id as usize]
    }

    fn root(&self) -> Root {
        let word = self.root.load(Acquire);
        Root { height: (word >> 32) as u32, id: word as u32 }
    }

    fn set_root(&self, root: Root) {
        self.root.store(u64::from(root.height) << 32 | u64::from(root.id), Release);
    }

    fn key(&self, node: Node) -> &[u8] {
        self.arena.key(node)
    }

    /// The leaf whose range holds `key`.
    #[inline]
    pub(super) fn leaf_for(&self, key: &[u8]) -> u32 {
        self.descend(|inner, perm| inner.rank(perm, key, |node| self.key(node)))
    }

    pub(super) fn first_leaf(&self) -> u32 {
        self.descend(|_, _| 0)
    }

    pub(super) fn last_leaf(&self) -> u32 {
        self.descend(|_, perm| perm.count().saturating_sub(1))
    }

    #[inline(always)]
    fn descend(&self, choose: impl Fn(&Inner, Perm) -> usize) -> u32 {
        let Root { height, mut id } = self.root();
        for above in (0..height).rev() {
            let inner = self.inner(id);
            let mut perm = inner.perm.get();
            id = loop {
                let child = inner.children[perm.slot(choose(inner, perm))].get();
                let again = inner.perm.get();
                if again == perm {
                    break child;
                }
                perm = again;
            };
            self.prefetch(above, id);
        }
        id
    }

    /// Asks for all of a node but its first line, which the caller needs at once.
    #[inline(always)]
    fn prefetch(&self, height: u32, id: u32) {
        if height == 0 {
            let leaf = std::ptr::from_ref(self.leaf(id)).cast::<u8>();
            prefetch(leaf.wrapping_add(64));
        } else {
            let inner = std::ptr::from_ref(self.inner(id)).cast::<u8>();
            prefetch(inner.wrapping_add(64));
            prefetch(inner.wrapping_add(128));
        }
    }

    /// Asks for a leaf.
    #[inline(always)]
    pub(super) fn prefetch_leaf(&self, id: u32) {
        let leaf = std::ptr::from_ref(self.leaf(id)).cast::<u8>();
        prefetch(leaf);
        prefetch(leaf.wrapping_add(64));
    }

    /// The record in a leaf with `rank` smaller ones; leaf 0 has none.
    #[inline(always)]
    pub(super) fn record_from_first(&self, id: u32, rank: usize) -> Option<Node> {
        let leaf = self.leaf(id);
        let perm = leaf.perm.get();
        if rank < perm.count() { leaf.record(perm.slot(rank)) } else { None }
    }

    /// The record in a leaf with `rank` larger ones; leaf 0 has none.
    #[inline(always)]
    pub(super) fn record_from_last(&self, id: u32, rank: usize) -> Option<Node> {
        let leaf = self.leaf(id);
        let perm = leaf.perm.get();
        let rank = perm.count().checked_sub(rank + 1)?;
        leaf.record(perm.slot(rank))
    }

    /// The rank in a leaf of `key`, or the rank it would have.
    #[inline]
    pub(super) fn rank(&self, leaf: &Leaf, perm: Perm, key: &[u8]) -> Result<usize, usize> {
        self.rank_among(leaf, perm, leaf.ties(perm, key), key)
    }

    /// The same, given the ranks whose heads tie with that of `key`.
    #[inline]
    pub(super) fn rank_among(
        &self,
        leaf: &Leaf,
        perm: Perm,
        ties: Range<usize>,
        key: &[u8],
    ) -> Result<usize, usize> {
        leaf.rank(perm, ties, key, |node| self.key(node))
    }

    /// The first bytes that all keys from `low` up to `high` share.
    fn shared(&self, low: Option<Node>, high: Option<Node>) -> usize {
        match (low, high) {
            (Some(low), Some(high)) => shared(self.key(low), self.key(high)),
            _ => 0,
        }
    }

    /// Where the range of a leaf ends.
    fn high(&self, leaf: &Leaf) -> Option<Node> {
        match leaf.next.get() {
            0 => None,
            next => self.leaf(next).low.get(),
        }
    }
}

/// How many first bytes two keys share.
pub(super) fn shared(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    let chunks = a.chunks_exact(8).zip(b.chunks_exact(8));
    len += 8 * chunks.take_while(|(a, b)| a == b).count();
    let rest = a.iter().zip(b).skip(len);
    len + rest.take_while(|(a, b)| a == b).count()
}

impl TreeWriter {
    /// Bytes of all nodes so far.
    pub(super) fn bytes(&self) -> usize {
        self.leaves as usize * size_of::<Leaf>() + self.inners as usize * size_of::<Inner>()
    }

    /// Adds keys in ascending order, none of which is in the tree.
    pub(super) fn add_sorted(&mut self, tree: &Tree, nodes: &[Node]) {
        if !self.huge && self.leaves as usize + nodes.len() / LEAF_FILL > HUGE_LEAVES {
            self.huge = true;
            tree.leaves.advise_huge();
        }
        if self.is_empty(tree) {
            return self.build(tree, nodes);
        }
        self.finger = None;
        for (i, node) in nodes.iter().enumerate() {
            if let Some(ahead) = nodes.get(i + AHEAD) {
                tree.arena.prefetch_key(*ahead);
            }
            self.add(tree, *node);
        }
    }

    fn is_empty(&self, tree: &Tree) -> bool {
        let root = tree.root();
        root.height == 0 && tree.leaf(root.id).perm.get().count() == 0
    }

    fn take_leaf(&mut self) -> u32 {
        self.leaves += 1;
        self.leaves - 1
    }

    fn take_inner(&mut self) -> u32 {
        self.inners += 1;
        self.inners - 1
    }

    fn add(&mut self, tree: &Tree, node: Node) {
        let key = tree.key(node);
        let id = self.leaf_for(tree, key);
        let leaf = tree.leaf(id);
        let perm = leaf.perm.get();
        let Err(rank) = tree.rank(leaf, perm, key) else {
            debug_assert!(false, "a key has two nodes");
            return;
        };
        if perm.count() < LEAF_SLOTS {
            leaf.fill(perm.count(), key, node);
            leaf.perm.set(perm.with(rank));
        } else {
            self.split(tree, id, rank, node);
        }
    }

    /// The leaf for `key`, with the path to it.
    fn leaf_for(&mut self, tree: &Tree, key: &[u8]) -> u32 {
        if let Some((leaf, high)) = self.finger
            && high.is_none_or(|high| key < tree.key(high))
        {
            return leaf;
        }
        self.path.clear();
        let Root { height, mut id } = tree.root();
        for above in (0..height).rev() {
            let inner = tree.inner(id);
            let perm = inner.perm.get();
            let rank = inner.rank(perm, key, |node| tree.key(node));
            self.path.push((id, rank));
            id = inner.children[perm.slot(rank)].get();
            tree.prefetch(above, id);
        }
        self.finger = Some((id, tree.high(tree.leaf(id))));
        id
    }

    /// Writes a leaf for the range from `low` up to `high`; the caller links it.
    fn write_leaf(
        &mut self,
        tree: &Tree,
        nodes: impl IntoIterator<Item = Node>,
        (low, high): (Option<Node>, Option<Node>),
    ) -> u32 {
        let id = self.take_leaf();
        let leaf = tree.leaf(id);
        leaf.low.set(low);
        leaf.set_skip(tree.shared(low, high));
        let mut count = 0;
        for node in nodes {
            leaf.fill(count, tree.key(node), node);
            count += 1;
        }
        leaf.perm.set(Perm::ordered(count));
        id
    }

    /// Writes an inner node for the range from the first separator up to `high`.
    fn write_inner(
        &mut self,
        tree: &Tree,
        children: &[(Option<Node>, u32)],
        high: Option<Node>,
    ) -> u32 {
        let id = self.take_inner();
        let inner = tree.inner(id);
        let low = children.first().and_then(|(low, _)| *low);
        inner.set_skip(tree.shared(low, high));
        for (slot, (separator, child)) in children.iter().enumerate() {
            inner.fill(slot, separator.map(|node| (tree.key(node), node)), *child);
        }
        inner.perm.set(Perm::ordered(children.len()));
        id
    }

    /// Replaces the full leaf `old` by two, with `node` at `rank`.
    fn split(&mut self, tree: &Tree, old: u32, rank: usize, node: Node) {
        let leaf = tree.leaf(old);
        let perm = leaf.perm.get();
        let mut nodes: Vec<Node> =
            (0..perm.count()).filter_map(|r| leaf.record(perm.slot(r))).collect();
        nodes.insert(rank, node);
        // Keys that came in order will go on so: leave the left leaf full.
        let appended = rank == LEAF_SLOTS && perm.is_ordered();
        let middle = if appended { LEAF_SLOTS } else { nodes.len() / 2 };
        let (lows, highs) = nodes.split_at(middle);
        let (low, border, high) = (leaf.low.get(), highs.first().copied(), tree.high(leaf));
        let keep = appended && tree.shared(low, border) <= leaf.skip();

        let left = match keep {
            true => old,
            false => self.write_leaf(tree, lows.iter().copied(), (low, border)),
        };
        let right = self.write_leaf(tree, highs.iter().copied(), (border, high));
        link(tree, old, left, right);
        self.finger = None;
        self.raise(tree, old, left, right, border);
    }

    /// Tells the ancestors that `left` and `right` took the place of `old`.
    fn raise(
        &mut self,
        tree: &Tree,
        mut old: u32,
        mut left: u32,
        mut right: u32,
        mut border: Option<Node>,
    ) {
        while let Some((id, rank)) = self.path.pop() {
            let inner = tree.inner(id);
            let perm = inner.perm.get();
            if perm.count() < INNER_SLOTS {
                let separator = border.map(|node| (tree.key(node), node));
                inner.fill(perm.count(), separator, right);
                inner.perm.set(perm.with(rank + 1));
                if left != old {
                    inner.children[perm.slot(rank)].set(left);
                }
                return;
            }
            (left, right, border) = self.split_inner(tree, id, rank, left, (border, right));
            old = id;
        }
        let height = tree.root().height + 1;
        let id = self.write_inner(tree, &[(None, left), (border, right)], None);
        tree.set_root(Root { height, id });
    }

    /// Copies a full inner node into two, with `left` at `rank` and `right` after it.
    fn split_inner(
        &mut self,
        tree: &Tree,
        id: u32,
        rank: usize,
        left: u32,
        right: (Option<Node>, u32),
    ) -> (u32, u32, Option<Node>) {
        let inner = tree.inner(id);
        let perm = inner.perm.get();
        let mut children: Vec<(Option<Node>, u32)> = (0..perm.count())
            .map(|rank| perm.slot(rank))
            .map(|slot| (inner.separators[slot].get(), inner.children[slot].get()))
            .collect();
        children[rank].1 = left;
        children.insert(rank + 1, right);
        let appended = rank + 1 == INNER_SLOTS && perm.is_ordered();
        let middle = if appended { INNER_SLOTS } else { children.len() / 2 };
        let (lows, highs) = children.split_at(middle);
        let border = highs[0].0;
        let left = self.write_inner(tree, lows, border);
        let right = self.write_inner(tree, highs, self.high_of_path(tree));
        (left, right, border)
    }

    /// Where the range of the node that the path leads to ends: at the next separator of its
    /// nearest ancestor that has one.
    fn high_of_path(&self, tree: &Tree) -> Option<Node> {
        self.path.iter().rev().find_map(|(id, rank)| {
            let inner = tree.inner(*id);
            let perm = inner.perm.get();
            (rank + 1 < perm.count()).then(|| inner.separators[perm.slot(rank + 1)].get())?
        })
    }

    /// Fills an empty tree from the leaves up.
    fn build(&mut self, tree: &Tree, nodes: &[Node]) {
        let mut level = self.build_leaves(tree, nodes);
        let mut height = 0;
        while level.len() > 1 {
            height += 1;
            level = self.build_inners(tree, &level);
        }
        if let Some((_, id)) = level.first() {
            tree.set_root(Root { height, id: *id });
        }
    }

    fn build_leaves(&mut self, tree: &Tree, nodes: &[Node]) -> Vec<(Option<Node>, u32)> {
        let mut level = Vec::with_capacity(nodes.len() / LEAF_FILL + 1);
        let mut low = None;
        for (i, chunk) in nodes.chunks(LEAF_FILL).enumerate() {
            let rest = nodes.get((i + 1) * LEAF_FILL..).unwrap_or_default();
            rest.iter().take(LEAF_FILL + 1).for_each(|node| tree.arena.prefetch_key(*node));
            let high = rest.first().copied();
            let id = self.write_leaf(tree, chunk.iter().copied(), (low, high));
            if let Some((_, prev)) = level.last() {
                tree.leaf(id).prev.set(*prev);
                tree.leaf(*prev).next.set(id);
            }
            level.push((low, id));
            low = high;
        }
        level
    }

    fn build_inners(
        &mut self,
        tree: &Tree,
        level: &[(Option<Node>, u32)],
    ) -> Vec<(Option<Node>, u32)> {
        let highs = level.chunks(INNER_FILL).skip(1).map(|chunk| chunk[0].0).chain([None]);
        let chunks = level.chunks(INNER_FILL).zip(highs);
        chunks.map(|(chunk, high)| (chunk[0].0, self.write_inner(tree, chunk, high))).collect()
    }
}

/// Puts `left` and `right` in the place of the leaf `old` in the chain of leaves. `left` may be
/// `old` itself.
fn link(tree: &Tree, old: u32, left: u32, right: u32) {
    let (prev, next) = (tree.leaf(old).prev.get(), tree.leaf(old).next.get());
    tree.leaf(right).prev.set(left);
    tree.leaf(right).next.set(next);
    if left != old {
        tree.leaf(left).prev.set(prev);
        tree.leaf(left).next.set(right);
    }
    if next != 0 {
        tree.leaf(next).prev.set(right);
    }
    if left == old {
        tree.leaf(left).next.set(right);
    } else if prev != 0 {
        tree.leaf(prev).next.set(left);
    }
}

//! Making branch blocks.
//!
//! A separator needs only be long enough to tell two neighbours apart (Bayer and Unterauer's
//! prefix B-trees), but is kept as long as prefix and head together: then all separators are of
//! one length, all of it in the heads, and the block has no heap. How long that is depends on the
//! prefix, which shrinks as children come, so full keys wait here until the block is written.

use super::builder::{HEAD, Sums, TIES};
use super::{BlockBuilder, CHILD_BYTES, Child, EntryKind, MAX_BLOCK, MIN_BLOCK, common_prefix};

/// The head width that helps where 4 bytes tie.
const WIDE: usize = 8;

/// One child, whose full key ends at `key_end`.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    key_end: usize,
    key_len: usize,
    /// So many bytes of the key set it apart from all keys of the child before.
    enough: usize,
    child: Child,
}

impl Waiting {
    /// How much of the key is kept under a prefix of `prefix_len` and heads of `width`.
    fn kept(&self, prefix_len: usize, width: usize) -> usize {
        self.enough.max(prefix_len + width).min(self.key_len)
    }
}

/// Collects children and writes them as one branch block.
#[derive(Debug)]
pub(crate) struct BranchBuilder {
    keys: Vec<u8>,
    children: Vec<Waiting>,
    sums: Sums,
    /// Of the full keys.
    shortest: usize,
    /// The length of a child that need not be told; 0 if every child's is to be told.
    unit_len: u32,
    explicit: bool,
    /// The head width to plan with: what the block before turned out to need.
    width: usize,
    block: BlockBuilder,
}

impl BranchBuilder {
    pub(crate) fn new(unit_len: u32) -> Self {
        Self {
            keys: Vec::new(),
            children: Vec::new(),
            sums: Sums::default(),
            shortest: usize::MAX,
            unit_len,
            explicit: unit_len == 0,
            width: HEAD,
            block: BlockBuilder::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.children.len()
    }

    /// The full key of the first child, and how much of it sets it apart from what is before.
    pub(crate) fn first(&self) -> (&[u8], usize) {
        let first = self.children.first();
        let (end, enough) = first.map_or((0, 0), |child| (child.key_end, child.enough));
        (self.keys.get(..end).unwrap_or_default(), enough)
    }

    /// Every child with its full key and how much of that sets it apart.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&[u8], usize, Child)> {
        self.keyed().map(|(waiting, key)| (key, waiting.enough, waiting.child))
    }

    /// The length of the block as it is now, before padding.
    pub(crate) fn size(&self) -> usize {
        block_size(&self.sums, self.explicit, self.len())
    }

    /// The child, if there is just one.
    pub(crate) fn only_child(&self) -> Option<Child> {
        match self.children.as_slice() {
            [only] => Some(only.child),
            _ => None,
        }
    }

    /// Adds a child if the block then is no longer than `limit`. `key` is the child's first key,
    /// of which `enough` bytes set it apart from the last key of the child before.
    pub(crate) fn try_add(
        &mut self,
        key: &[u8],
        enough: usize,
        child: Child,
        limit: usize,
    ) -> bool {
        let explicit = self.explicit || !self.follows(child);
        let shortest = self.shortest.min(key.len());
        let first = self.keys.get(..self.sums.shared).unwrap_or_default();
        let shared = if self.len() == 0 { key.len() } else { common_prefix(first, key) };
        let key_end = self.keys.len() + key.len();
        let waiting = Waiting { key_end, key_len: key.len(), enough, child };

        let prefix_len = shared.min(shortest.saturating_sub(HEAD));
        let sums = if self.len() > 0 && prefix_len == self.sums.prefix_len() {
            self.sums
        } else {
            self.count_again(prefix_len, self.width, shared)
        };
        let kept = waiting.kept(prefix_len, self.width);
        let sums = sums.with(kept, shared, 0, EntryKind::Put);
        let count = self.len() + 1;
        if block_size(&sums, explicit, count) > limit.min(MAX_BLOCK)
            || count > usize::from(u16::MAX)
        {
            return false;
        }
        (self.sums, self.explicit, self.shortest) = (sums, explicit, shortest);
        self.keys.extend_from_slice(key);
        self.children.push(waiting);
        true
    }

    /// Whether `child` lies where the one before it ends, so that a counter finds it.
    fn follows(&self, child: Child) -> bool {
        let next = self.children.last().map(|last| last.child.unit.checked_add(1));
        child.len == self.unit_len && next.is_none_or(|next| next == Some(child.unit))
    }

    /// The sums of all children so far under another prefix or width.
    fn count_again(&self, prefix_len: usize, width: usize, shared: usize) -> Sums {
        self.children.iter().fold(Sums::default(), |sums, child| {
            sums.with(child.kept(prefix_len, width), shared, 0, EntryKind::Put)
        })
    }

    /// Every child with its full key.
    fn keyed(&self) -> impl Iterator<Item = (&Waiting, &[u8])> {
        let mut start = 0;
        self.children.iter().map(move |child| {
            let key = self.keys.get(start..child.key_end).unwrap_or_default();
            start = child.key_end;
            (child, key)
        })
    }

    /// The head width this block should have.
    fn best_width(&self) -> usize {
        let prefix_len = self.sums.prefix_len();
        let (mut ties, mut last) = (0, None);
        for (child, key) in self.keyed() {
            let head = key.get(prefix_len..child.kept(prefix_len, HEAD).min(prefix_len + HEAD));
            ties += usize::from(last == head);
            last = head;
        }
        let size = |width| self.count_again(prefix_len, width, self.sums.shared).size();
        if ties * TIES > self.len() || size(WIDE) < size(HEAD) { WIDE } else { HEAD }
    }

    /// Appends the block, of `level`, to `out`, zeros up to the length `pad` makes of its own,
    /// and empties the builder. Heads of the best width are taken if they fit into `limit`.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        level: u8,
        limit: usize,
        pad: impl FnOnce(usize) -> usize,
    ) {
        let prefix_len = self.sums.prefix_len();
        let best = self.best_width();
        let sums = self.count_again(prefix_len, best, self.sums.shared);
        let fits = block_size(&sums, self.explicit, self.len()) <= limit;
        let width = if fits { best } else { self.width };

        let mut block = std::mem::take(&mut self.block);
        for (child, key) in self.keyed() {
            let kept = key.get(..child.kept(prefix_len, width)).unwrap_or_default();
            let bytes = child.child.to_bytes();
            let value = if self.explicit { bytes.as_slice() } else { &[] };
            let added = block.try_add(kept, EntryKind::Put, value, MAX_BLOCK);
            debug_assert!(added, "the size was computed from the same sums");
        }
        let first = self.children.first().map_or(0, |first| first.child.unit);
        block.write_level(out, pad, level, if self.explicit { 0 } else { first });
        self.block = block;
        self.width = best;
        self.keys.clear();
        self.children.clear();
        self.sums = Sums::default();
        self.shortest = usize::MAX;
        self.explicit = self.unit_len == 0;
    }
}

/// The length of a block of `count` children.
fn block_size(sums: &Sums, explicit: bool, count: usize) -> usize {
    (sums.size() + if explicit { CHILD_BYTES * count } else { 0 }).max(MIN_BLOCK)
}

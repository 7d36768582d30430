//! Looking one key up in a run, and many at once.

use super::{Run, access::Held};
use crate::{
    Result, Value,
    sorted::{
        Found, Keeper, Lookup, Span,
        block::{Block, Child, EntryKind},
        tree::{Tree, descend},
    },
};
use std::sync::Arc;

/// What a value found in a run lies in.
struct InRun<'a> {
    run: &'a Arc<Run>,
    held: &'a Held,
}

impl Keeper for InRun<'_> {
    fn keep(&self, bytes: &[u8]) -> Value {
        self.run.pin(self.held, bytes)
    }
}

impl Run {
    /// Looks `key` up; `hash` is its [`key_hash`](crate::codec::key_hash). Calls `found` once
    /// if the answer is `Found`, and not otherwise.
    #[inline]
    pub(crate) fn get(
        self: &Arc<Self>,
        key: &[u8],
        hash: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        let Some(root) = self.root() else { return Ok(self.missing(key)) };
        if !self.may_contain(hash)? {
            return Ok(self.missing(key));
        }
        let at = descend(&**self, root, key)?;
        let mut answer = Lookup::Missing;
        self.find(key, at, &mut |lookup| match lookup {
            Lookup::Missing => {}
            Lookup::Deleted => answer = Lookup::Deleted,
            Lookup::Found(value) => {
                answer = Lookup::Found(());
                found(value);
            }
        })?;
        Ok(answer)
    }

    /// Looks for `key` in the leaf at `at`.
    #[inline(always)]
    fn find(
        self: &Arc<Self>,
        key: &[u8],
        at: Child,
        answer: &mut impl FnMut(Lookup<Found<'_>>),
    ) -> Result<()> {
        let held = self.held_leaf(at)?;
        let block = Block::trusted(self.bytes(&held));
        let (index, exact) = block.search(key);
        if !exact {
            answer(self.missing(key));
            return Ok(());
        }
        match block.kind(index) {
            EntryKind::Put => {
                let keeper = InRun { run: self, held: &held };
                answer(Lookup::Found(Found::new(block.value(index), &keeper)));
            }
            EntryKind::Delete => answer(Lookup::Deleted),
            EntryKind::Far => {
                let far = self.far(block.value(index))?;
                let keeper = InRun { run: self, held: &far };
                answer(Lookup::Found(Found::new(self.bytes(&far), &keeper)));
            }
        }
        Ok(())
    }

    /// The answer for a key without an entry.
    #[inline]
    fn missing<T>(&self, key: &[u8]) -> Lookup<T> {
        match self.range_deletes().covering(key) {
            Some(_) => Lookup::Deleted,
            None => Lookup::Missing,
        }
    }
}

impl Run {
    /// How many entries lie in `span`, roughly: by the share of the file's leaves that it takes.
    pub(crate) fn entries_in(&self, span: &Span) -> Result<u64> {
        let meta = self.meta();
        if meta.entries == 0 || span.covers(&meta.first, &meta.last) {
            return Ok(meta.entries);
        }
        let Some(root) = self.root() else { return Ok(0) };
        if span.start > meta.last || !span.ends_after(&meta.first) {
            return Ok(0);
        }
        let place = |key: &[u8]| -> Result<u64> {
            let leaf = descend(self, root, key)?;
            let (at, _) = self.leaf_place(leaf).ok_or_else(|| self.no_leaf(leaf))?;
            Ok(at)
        };
        let from = if span.start <= meta.first { 0 } else { place(&span.start)? };
        let to = match span.end.as_ref().filter(|end| **end <= meta.last) {
            Some(end) => place(end)?,
            None => self.leaves_end(),
        };
        let share = to.saturating_sub(from) as f64 / self.leaves_end().max(1) as f64;
        Ok((meta.entries as f64 * share.min(1.0)) as u64)
    }
}

/// How many look-ups of a batch go on at once: enough to hide memory behind memory, few enough
/// that what was asked for is still there when its turn comes.
const TOGETHER: usize = 16;

/// Where a key of a batch is on its way down.
#[derive(Clone, Copy, Default)]
struct Way {
    /// Which of the keys.
    index: usize,
    at: Child,
}

impl Run {
    /// Looks up many keys, each with its hash, and tells each one's answer with its index, in no
    /// order. Where the run is mapped, the keys go down the tree side by side, each step asking
    /// for the memory of the next, so that a key costs a fraction of what it does alone.
    pub(crate) fn get_many(
        self: &Arc<Self>,
        keys: &[(&[u8], u64)],
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()> {
        for (i, batch) in keys.chunks(TOGETHER).enumerate() {
            let first = i * TOGETHER;
            batch.iter().for_each(|(_, hash)| self.prefetch(*hash));
            let mut ways = [Way::default(); TOGETHER];
            let mut count = 0;
            for (j, (key, hash)) in batch.iter().enumerate() {
                if self.root().is_none() || !self.may_contain(*hash)? {
                    answer(first + j, self.missing(key));
                } else if let Some(way) = ways.get_mut(count) {
                    way.index = j;
                    count += 1;
                }
            }
            let ways = ways.get_mut(..count).unwrap_or_default();
            self.descend_together(batch, ways)?;
            for way in ways {
                let Some((key, _)) = batch.get(way.index) else { continue };
                self.find(key, way.at, &mut |lookup| answer(first + way.index, lookup))?;
            }
        }
        Ok(())
    }

    /// Takes every key to its leaf, and asks for the leaf's entry.
    fn descend_together(&self, keys: &[(&[u8], u64)], ways: &mut [Way]) -> Result<()> {
        let Some(root) = self.root() else { return Ok(()) };
        ways.iter_mut().for_each(|way| way.at = root.top);
        for level in (1..=root.height).rev() {
            for way in ways.iter_mut() {
                let block = self.branch(way.at, level)?;
                let key = keys.get(way.index).map_or(&[][..], |(key, _)| key);
                way.at = block.child(block.child_index(key), self.child_len());
                self.prefetch_block(way.at, level - 1);
            }
        }
        let Some(map) = self.plain_map() else { return Ok(()) };
        for way in ways {
            let Some((offset, len)) = self.leaf_place(way.at) else { continue };
            let start = offset as usize;
            let leaf = map.get(start..start + len).unwrap_or_default();
            let key = keys.get(way.index).map_or(&[][..], |(key, _)| key);
            Block::trusted(leaf).prefetch_entry(key);
        }
        Ok(())
    }
}

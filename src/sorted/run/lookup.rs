//! Looking one key up in a run, and many at once.

use super::Run;
use crate::{
    Result,
    sorted::{
        Found, Lookup, Span,
        block::Child,
        tree::{Asked, TOGETHER, Tree, Way, descend, descend_together, find},
    },
};
use std::sync::Arc;

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
        find(self, key, at, &mut |lookup| match lookup {
            Lookup::Missing => answer(self.missing(key)),
            known => answer(known),
        })
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

impl Run {
    /// Looks up many keys, each with its hash, and tells each one's answer with its index, in no
    /// order. Where the run is mapped, the keys go down the tree side by side, each step asking
    /// for the memory of the next, so that a key costs a fraction of what it does alone.
    pub(crate) fn get_many(
        self: &Arc<Self>,
        keys: &[Asked<'_>],
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
            if let Some(root) = self.root() {
                descend_together(&**self, root, batch, ways)?;
            }
            for way in ways {
                let Some((key, _)) = batch.get(way.index) else { continue };
                self.find(key, way.at, &mut |lookup| answer(first + way.index, lookup))?;
            }
        }
        Ok(())
    }
}

//! Looking one key up in a run, and many at once.

use super::{Run, access::Held};
use crate::{
    Result, Value,
    sorted::{
        Lookup,
        block::{Block, EntryKind},
        tree::{Tree, descend},
    },
};
use std::sync::Arc;

/// A value found in a run, where it lies.
pub(crate) struct Found<'a> {
    run: &'a Arc<Run>,
    held: &'a Held,
    bytes: &'a [u8],
}

impl Found<'_> {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// With a pin on what it lies in; short values are copied.
    #[inline]
    pub(crate) fn to_value(&self) -> Value {
        self.run.pin(self.held, self.bytes)
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
        let held = self.held_leaf(at)?;
        let block = Block::trusted(self.bytes(&held));
        let (index, exact) = block.search(key);
        if !exact {
            return Ok(self.missing(key));
        }
        match block.kind(index) {
            EntryKind::Put => found(Found { run: self, held: &held, bytes: block.value(index) }),
            EntryKind::Delete => return Ok(Lookup::Deleted),
            EntryKind::Far => {
                let far = self.far(block.value(index))?;
                found(Found { run: self, held: &far, bytes: self.bytes(&far) });
            }
        }
        Ok(Lookup::Found(()))
    }

    /// The answer for a key without an entry.
    #[inline]
    fn missing(&self, key: &[u8]) -> Lookup<()> {
        match self.range_deletes().covering(key) {
            Some(_) => Lookup::Deleted,
            None => Lookup::Missing,
        }
    }
}

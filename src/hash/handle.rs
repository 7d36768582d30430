//! The handle of a hash table.

use crate::table::{Core, SealedTable, Table, closures};

/// A table kept as a hash table: for data looked up by whole keys, such as cards, profiles and
/// sessions.
///
/// It is not ordered: iterators go through it in the order of the keys' hashes, which is another
/// one in every table. [`ingest`](Table::ingest) takes entries in any order.
///
/// Cheap to clone; see [`Table`] for what it can do.
#[derive(Clone, Debug)]
pub struct Hash(Core);

impl Hash {
    pub(crate) fn new(core: Core) -> Self {
        Self(core)
    }
}

impl SealedTable for Hash {
    fn core(&self) -> &Core {
        &self.0
    }
}

impl Table for Hash {}

closures!(Hash);

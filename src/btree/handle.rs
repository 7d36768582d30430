//! The handle of a B+tree table.

use crate::table::{Core, OrderedTable, SealedTable, Table, ordered_closures};

/// A table kept as one B+tree: for data read often, by key and in order, such as catalogues and
/// indexes.
///
/// Cheap to clone; see [`Table`] and [`OrderedTable`] for what it can do.
#[derive(Clone, Debug)]
pub struct Btree(Core);

impl Btree {
    pub(crate) fn new(core: Core) -> Self {
        Self(core)
    }
}

impl SealedTable for Btree {
    fn core(&self) -> &Core {
        &self.0
    }
}

impl Table for Btree {}

impl OrderedTable for Btree {}

ordered_closures!(Btree);

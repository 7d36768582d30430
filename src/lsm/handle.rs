//! The handle of an LSM table.

use crate::table::{Core, OrderedTable, SealedTable, Table, ordered_closures};

/// A table kept as a log-structured merge tree: for data written often, such as events, counters
/// and queues.
///
/// Cheap to clone; see [`Table`] and [`OrderedTable`] for what it can do.
#[derive(Clone, Debug)]
pub struct Lsm(Core);

impl Lsm {
    pub(crate) fn new(core: Core) -> Self {
        Self(core)
    }
}

impl SealedTable for Lsm {
    fn core(&self) -> &Core {
        &self.0
    }
}

impl Table for Lsm {}

impl OrderedTable for Lsm {}

ordered_closures!(Lsm);

//! Sorted bytes at rest: blocks, trees of blocks, runs, merges and filters.

mod cursor;
mod ranges;

pub(crate) use cursor::{Cursor, Kind, Lookup};
pub(crate) use ranges::RangeSet;

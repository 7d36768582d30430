//! The B+tree: a home that keeps settled entries in one tree of pages and merges memtables into
//! it.
//!
//! ```text
//!   memtable   b d f      sorted, many at once
//!                | merged as one stream (edit), woven into a new version (weave)
//!   version 8  [root]     shares with version 7 all that did not change
//!              /  |  \
//!           [a b][c d][e f]    pages of one file; none is written while anybody reads it (space)
//! ```
//!
//! - A look-up goes down one tree: a block a level, nothing to merge.
//! - A memtable is absorbed as a whole, each leaf that changes written once, in long stretches: the
//!   tree stays in order on disk, and pages stay full (`edit`, and `docs/design.md`).
//! - Versions are copies on write, published by one edit of the manifest. What a version no longer
//!   reaches is used again once nobody reads an older one.
//! - Changes that lie all over a large tree wait beside it until there are enough of them
//!   (`delta`, `spread`, `merging`). While there are any, a look-up asks their filters first.
//! - A file that became too large for its data is made smaller while nobody writes (`shrink`).
//!
//! The idea of shadowing with a logical log in front is Canopydb's and, before, of ARIES' many
//! descendants; absorbing sorted batches is that of the bulk updates of Graefe's survey (Modern
//! B-Tree Techniques, 2011).

mod claim;
mod core;
mod delta;
mod edit;
mod handle;
mod home;
mod merging;
mod options;
mod shrink;
mod space;
mod spread;
#[cfg(test)]
mod tests;
mod version;
mod weave;
mod writer;

pub(crate) use delta::{DELTA_LEVEL, TREE_LEVEL};
pub use handle::Btree;
pub(crate) use home::BtreeHome;
pub use options::BtreeOptions;

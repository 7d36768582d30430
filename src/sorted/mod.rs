//! Sorted bytes at rest, written once and used by every home that keeps entries in key order.
//!
//! - a [`block`] holds entries so that they can be searched where they lie;
//! - a [`tree`] of blocks is built bottom-up, searched, and walked with a cursor;
//! - a [`run`] is a tree, a [`filter`] and a footer in one immutable file;
//! - a [`pages`] file holds a tree that is edited, every version of it beside those before;
//! - a [`merge`] walks several sources as one.
//!
//! All of them are a [`Cursor`]'s to walk. What is settled here has one version of each key and no
//! sequence numbers, so that a scan pays nothing for versions; a delete is an entry, or a
//! [`Span`] of keys that hides whatever is older than its source.

mod block;
mod cursor;
mod far;
mod filter;
mod frozen;
mod graveyard;
mod merge;
mod pages;
mod ranges;
mod run;
mod tree;

pub(crate) use block::{
    Block, BlockBuilder, BranchBuilder, Child, EntryKind, MAX_BLOCK, common_prefix, is_sealed,
    place, seal, stamp,
};
pub(crate) use cursor::{Cursor, Found, Keeper, Kind, Lookup};
pub(crate) use far::{FarValue, PACKED_VALUE_MAX, Pointer};
#[cfg(fuzzing)]
pub(crate) use filter::{FilterBuilder, LINE, line_may_contain, line_of};
pub(crate) use frozen::{FOOTER_BYTES, FrozenKind, check_digest, not_opened, open_whole, read};
pub(crate) use graveyard::{Grave, Graveyard};
pub(crate) use merge::{Deletes, Merge};
pub(crate) use pages::{
    Counts, Extent, Extents, FREE_HERE_MAX, FarPages, FreeList, PAGE_BYTES, PageCursor, PageFile,
    PageRef, PageRoot, PageTree, PagesAhead, birth_of, generation_of, pages_name,
};
pub(crate) use ranges::{RangeSet, Span};
pub(crate) use run::{
    Checked, Lent, LevelCursor, Lost, Output, Run, RunAccess, RunCursor, RunFile, RunMeta,
    RunOptions, RunWriter, out_of_order, run_name,
};
pub(crate) use tree::{Root, Step, Tree, TreeCursor};

/// The number of a file; names are made of it, blocks are bound to it.
pub(crate) type FileId = u64;

/// The longest key: a quarter of the longest block.
pub(crate) const MAX_KEY: usize = 16 << 10;

/// How long is what says where a value that lies apart is.
pub(crate) const FAR_BYTES: usize = 24;
/// The same of a value in another file.
pub(crate) const LENT_BYTES: usize = FAR_BYTES + 8;

//! The manifest: which files are the database.
//!
//! A file counts only once an edit that adds it is durable here, and goes only after an edit that
//! removes it is. So an absorb, a merge of runs, a drop of a table happen at one instant, and a
//! crash at any moment leaves the state before or the state after. The scheme is that of LevelDB
//! and its heirs (`MANIFEST` and `CURRENT`), with their known gaps closed: the first record is
//! vouched for by `current`, a damaged record is told from a torn one, and nothing is ever
//! appended behind a write that failed.
//!
//! ```text
//! current  ->  manifest-0000000007:  state | edits | edits | ... | zeros, allocated ahead
//! ```
//!
//! - [`State`] is what a manifest says, [`Edit`] a step from one state to the next.
//! - A commit appends one record and syncs it: one data sync, as the space is allocated ahead.
//! - The first commit after opening, growing long, and closing *roll*: a new file begins with the
//!   whole state, is synced, then `current` is replaced (write, sync, rename, sync the folder),
//!   then the old file is removed. So of a closed database every byte is vouched for.
//! - After a failed write or sync nothing is known about the end of the file. The state in memory
//!   stays what it was, and the next commit rolls.

mod apply;
mod commit;
mod current;
mod edit;
mod load;
mod record;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use commit::Manifest;
pub(crate) use edit::Edit;
pub(crate) use state::{FileRecord, State, TABLE_NAME_MAX, TableRecord};

use crate::sorted::FileId;

/// Names a table; never reused.
pub(crate) type TableId = u32;
/// Names a log segment; ascending.
pub(crate) type SegmentId = u64;

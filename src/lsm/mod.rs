//! The log-structured merge tree: a home that writes whole memtables as sorted runs and merges runs
//! into larger ones later.
//!
//! ```text
//!   level 0   [a----z] [b---y] [a--x]     flushed memtables, may overlap, newest first
//!   (empty levels)
//!   base      [a-c] [d-k] [l-z]           disjoint runs; at least `base_bytes` when full
//!   ...       each level `growth` times the one above
//!   level 6   [a][b][c]...[z]             the last level: nine tenths of the data
//! ```
//!
//! For every key, what lies higher is newer. A run's range deletes hide all that lies below it.
//! Everything follows from these two sentences; `Levels::check` is them as code.
//!
//! - Levels grow from the last one up (`shape`), so that a small table has one level, and space
//!   taken by old versions stays near a tenth (dynamic level sizes, RocksDB).
//! - Level 0 is lazy: runs pile up while writing goes on and are merged when it pauses (lazy
//!   leveling, Dayan and Idreos 2018).
//! - A flushed run goes to the deepest level it fits, and runs with nothing below move down
//!   without being rewritten (LevelDB): loading keys in order writes each byte once.
//! - Merges are bounded in bytes (`slices`): space in flight is one job, not the table again.
//!
//! - Long values are not copied by merges (`lenders`): the new run says where they lie, and the run
//!   that has them stays on as a lender, whose entries nobody reads, until half of it is not needed
//!   any more (WiscKey, Lu et al. 2016, but values begin in the runs they are flushed into).
//!
//! Reading: `tier` finds the one run of a level, `levels` asks them in order. Working: `pick`
//! chooses, `claims` keeps jobs apart, `merging` and `output`
//! do it, `home` publishes.

mod change;
mod claims;
mod handle;
mod home;
mod job;
mod lenders;
mod levels;
mod merging;
mod older;
mod options;
mod output;
mod pick;
mod shape;
mod slices;
#[cfg(test)]
mod tests;
mod tier;

pub use handle::Lsm;
pub(crate) use home::LsmHome;
pub use options::LsmOptions;

/// The deepest level.
const LAST: u8 = 6;
/// How many levels there are.
const LEVELS: usize = 7;
/// The level that [`lenders`] have in the manifest.
pub(crate) const LENDERS: u8 = 7;

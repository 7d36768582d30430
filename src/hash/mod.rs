//! The hash engine: entries in the order of their keys' hashes, found without a search tree.
//!
//! The home of a hash table is a handful of runs, newest first. A run's hashes are spread
//! evenly, so a multiplication says where a hash lies (PaCHash, Kurpicz et al. 2023): at a line of
//! 64 bytes with the tags of a dozen records, so that one look finds the record or its absence.
//! There is no filter, since the line is one, and nothing is kept in memory that is not in files.
//!
//! ```text
//!   memtables --absorb: sort by hash--> a new run, the newest
//!   more runs than wanted, or nobody writes: the newest ones are merged into one
//! ```
//!
//! The parts, from below: a `run` is one file, for all hashes or a slice of them; a `layer`
//! is one run of the table, cut into files; `runs` are one version of the table, and its
//! look-ups. The `policy` says what to merge, `merging` does it step by step, `output` cuts
//! what is written into files, `load` takes entries in any order.

mod change;
mod handle;
mod home;
mod layer;
mod load;
mod merging;
mod options;
mod output;
mod policy;
mod run;
mod runs;
#[cfg(test)]
mod tests;

pub use handle::Hash;
pub(crate) use home::HashHome;
pub use options::HashOptions;
#[cfg(fuzzing)]
pub(crate) use run::{Candidate, HashRunOptions, HashRunWriter, Slice};
pub(crate) use run::{HashRun, HashRunMeta, hash_run_name};

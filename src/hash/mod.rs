//! The hash engine: entries in the order of their keys' hashes, found without a search tree.
//!
//! The home of a hash table is a handful of [runs](run), newest first. A run's hashes are spread
//! evenly, so a multiplication says where a hash lies (PaCHash, Kurpicz et al. 2023; here with an
//! index line of tags before each dozen of records, so that one look at 64 bytes finds the record
//! or its absence).

#[allow(unused_imports)]
mod run;

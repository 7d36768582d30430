//! Deltas: changes that wait in files of their own, beside the tree, until there are enough of
//! them.
//!
//! ```text
//!   memtable
//!      |  changes close together              changes all over a large tree
//!      |  go into the tree at once            become a delta: a sorted run with a filter
//!      v                                          v
//!   tree [aabb][ccdd]..[yyzz]  <---- merge ---- [b  f   k], [a   h   q], ..
//!                                                newest
//! ```
//!
//! A leaf with one change is written as a whole, seventy times the bytes of that change. So changes
//! that meet few others in their leaves are put off: written once as a run, and merged with what
//! comes after them, until the leaves they meet are worth writing. Reads ask the deltas first,
//! which costs a look into a filter for each, and scans merge them in.
//!
//! Changes that are worth their leaves go this way too while old versions keep much of the file:
//! deltas are merged slice by slice, which needs less room than a whole version more.
//!
//! It is the differential file of Severance and Lohman (1976), and a tree above which lie a few
//! runs of an LSM tree.

use super::{BtreeOptions, spread::Spread};
use crate::{
    Result,
    sorted::{Cursor, Deletes, Kind, Merge, PageTree, Run, RunOptions, RunWriter, run_name},
    table::{Shop, Source},
};
use std::sync::Arc;

/// The level of deltas, and that of the tree.
pub(crate) const DELTA_LEVEL: u8 = 0;
pub(crate) const TREE_LEVEL: u8 = 1;

/// What leaves are worth while nobody writes, as a ratio and in bytes: later reads are the better
/// for it.
const WORTH_IDLE: u64 = 128;
const FEW_IDLE: u64 = 64 << 20;
/// A delta is merged with newer ones that have at least half of its bytes together.
const FOLD: u64 = 2;
/// Bytes written between two pauses of background work.
pub(super) const BREATH_BYTES: u64 = 1 << 20;

/// Whether changes that lie like this go into the tree at once.
pub(super) fn is_dense(spread: Spread, options: &BtreeOptions) -> bool {
    !options.is_too_much(spread.leaves, spread.bytes)
}

/// What is to be done with deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// All of them go into the tree.
    Merge,
    /// So many of the newest become one.
    Fold(usize),
}

/// What is to be done with `deltas`, newest first.
pub(super) fn due(
    deltas: &[Arc<Run>],
    tree: &PageTree,
    options: &BtreeOptions,
    idle: bool,
) -> Option<Due> {
    if deltas.is_empty() {
        return None;
    }
    let sum = |of: fn(&Run) -> u64| deltas.iter().map(|delta| of(delta)).sum::<u64>();
    let (entries, bytes) = (sum(|delta| delta.meta().entries), sum(|delta| delta.meta().raw_bytes));
    // At most: as if all changes lay in leaves of their own.
    let leaves = tree.counts().leaves.min(entries);
    let is_cheap = leaves * options.page_len() as u64 <= FEW_IDLE.max(WORTH_IDLE * bytes);
    if !options.is_too_much(leaves, bytes) || (idle && is_cheap) {
        return Some(Due::Merge);
    }
    let most = if idle { 1 } else { options.most_deltas() };
    if deltas.len() <= most {
        return None;
    }
    match foldable(deltas) {
        // Each is much larger than the next, and still there are too many.
        1 => (!idle).then_some(Due::Merge),
        count => Some(Due::Fold(count)),
    }
}

/// How many of the newest deltas are of about one size, counted together.
fn foldable(deltas: &[Arc<Run>]) -> usize {
    let mut sum = 0;
    let fits = |delta: &&Arc<Run>| {
        let bytes = delta.meta().raw_bytes;
        let fits = sum == 0 || bytes <= FOLD * sum;
        sum += bytes;
        fits
    };
    deltas.iter().take_while(fits).count()
}

/// Writes a run of all that `entries` have, from the first one on.
pub(super) fn write<C: Cursor>(
    entries: &mut C,
    options: RunOptions,
    shop: &Shop,
) -> Result<Arc<Run>> {
    let file = shop.files.take();
    let mut writer = RunWriter::create(&*shop.folder, file, options)?;
    for deleted in entries.range_deletes().spans() {
        writer.delete_range(deleted.clone());
    }
    let mut pause_at = BREATH_BYTES;
    while entries.valid() {
        match entries.kind() {
            Kind::Put => {
                let (key, value) = entries.entry()?;
                writer.add(key, Kind::Put, value)?;
            }
            Kind::Delete => writer.add(entries.key(), Kind::Delete, &[])?,
        }
        entries.next()?;
        if writer.bytes_written() >= pause_at {
            pause_at += BREATH_BYTES;
            shop.breathe()?;
        }
    }
    let meta = writer.finish()?;
    Run::open(&*shop.folder, meta, &shop.access).inspect_err(|_| {
        // What cannot be removed is an orphan that the next open removes.
        let _ = shop.folder.remove(&run_name(file));
    })
}

/// The newest version of each key in `newest` and `deltas`, which come newest first; deletes kept.
pub(super) fn merged(newest: Option<Source>, deltas: &[Arc<Run>]) -> Result<Merge<Source>> {
    let deltas = deltas.iter().map(|delta| Source::Run(delta.cursor()));
    let mut merged = Merge::new(newest.into_iter().chain(deltas).collect(), Deletes::Keep);
    merged.seek_first()?;
    Ok(merged)
}

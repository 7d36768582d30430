//! What an engine must do to be the home of a table's settled entries.
//!
//! Everything above the home is the same for every engine: the log, the memtables, batches,
//! snapshots, iterators. An engine is only an answer to "how do settled entries lie on disk":
//!
//! ```text
//!   memtables --absorb--> Change --stage--> manifest edit --adopt--> next Settled
//!                         (files)           (durable)                (readers see it)
//! ```
//!
//! A [`Settled`] is one immutable version of the home. Readers pin it with the memtables that were
//! current beside it; files that no version needs any more are retired and unlinked later.

use super::{HomeStats, Source};
use crate::{
    Result,
    sorted::{Cursor, FileId, Found, Lookup, Run, RunAccess, Span},
    vfs::Folder,
};
use bytes::Bytes;
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// One immutable version of a home.
pub(crate) trait Settled: Any + Send + Sync {
    /// Looks `key` up; `found` is called with its value, borrowed from where it lies.
    fn get(&self, key: &[u8], hash: u64, found: &mut dyn FnMut(Found<'_>)) -> Result<Lookup<()>>;

    /// Looks many keys up at once, each with its hash: tells the answers that are known, each with
    /// its key's index, in no order. What is not told is missing.
    fn get_many(
        &self,
        keys: &[(&[u8], u64)],
        answer: &mut dyn FnMut(usize, Lookup<Found<'_>>),
    ) -> Result<()>;

    /// Appends cursors over everything that may hold keys of `span`, newest first.
    fn sources(&self, span: &Span, out: &mut Vec<Source>);

    /// Every file, for verification and backups.
    fn runs(&self) -> Vec<(u8, Arc<Run>)>;

    /// Sizes and shape.
    fn stats(&self) -> HomeStats;
}

/// The home of one table: its current version, and the work that makes the next one.
pub(crate) trait Home: Send + Sync {
    /// The current version.
    fn current(&self) -> Arc<dyn Settled>;

    /// Writes `input` (entries of one or more sealed memtables, newest version of each key, deletes
    /// and range deletes kept) as new files. Nothing is published: a crash leaves orphans.
    fn absorb(&self, input: &mut dyn Cursor, shop: &Shop) -> Result<Change>;

    /// Writes entries that come sorted and bypass the log. Their keys must be strictly ascending.
    fn ingest(
        &self,
        entries: &mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
        shop: &Shop,
    ) -> Result<Change>;

    /// The most useful background work, if any is worth doing: with `idle`, also work that only
    /// makes later reads cheaper. The job claims its inputs until it is dropped.
    fn next_job(&self, idle: bool) -> Option<Box<dyn Job>>;

    /// Decides how `change` fits the current version and what the manifest has to say. Called with
    /// the publication lock held, so that no other change comes between this and [`Home::adopt`].
    fn stage(&self, change: Change) -> Staged;

    /// Makes a staged version the current one, after its edits are durable.
    fn adopt(&self, staged: &Staged);

    /// How far the home lags behind, from 0 (not at all) to 1 (writers must wait).
    fn pressure(&self) -> f64;
}

/// Work in the background: reads some of the home, writes new files.
pub(crate) trait Job: Send {
    /// Does the work. May take long: calls [`Shop::breathe`] every MiB or so.
    fn run(&mut self, shop: &Shop) -> Result<Change>;
}

/// Files that a piece of work made and files it made superfluous; not published yet.
#[derive(Default)]
pub(crate) struct Change {
    /// New runs and the level each is for; 0 for new entries, which the home places when staged.
    pub(crate) added: Vec<(u8, Arc<Run>)>,
    /// Files no longer needed once this is published.
    pub(crate) removed: Vec<FileId>,
    /// Runs that only change level: the file and its new level.
    pub(crate) moved: Vec<(FileId, u8)>,
}

impl Change {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.moved.is_empty()
    }
}

/// A change that fits the current version: what to write into the manifest, and what to show.
pub(crate) struct Staged {
    pub(crate) added: Vec<(u8, Arc<Run>)>,
    pub(crate) removed: Vec<FileId>,
    pub(crate) next: Arc<dyn Settled>,
    /// Runs that no later version needs: retired once this one is published.
    pub(crate) retired: Vec<Arc<Run>>,
}

/// What work in the background works with.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) files: Arc<FileIds>,
    pub(crate) access: RunAccess,
    /// Called between pieces of long work: lets more urgent work go first, and stops the job with
    /// an error when the database closes.
    pub(crate) breathe: Arc<dyn Fn() -> Result<()> + Send + Sync>,
}

impl Shop {
    /// A pause between pieces of long work.
    pub(crate) fn breathe(&self) -> Result<()> {
        (self.breathe)()
    }
}

/// Hands out file numbers.
#[derive(Debug)]
pub(crate) struct FileIds(AtomicU64);

impl FileIds {
    pub(crate) fn starting_at(first: FileId) -> Self {
        Self(AtomicU64::new(first))
    }

    /// A number nobody has had.
    pub(crate) fn take(&self) -> FileId {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that [`FileIds::take`] gives next.
    pub(crate) fn next(&self) -> FileId {
        self.0.load(Ordering::Relaxed)
    }
}

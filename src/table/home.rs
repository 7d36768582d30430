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
//!
//! What a change consists of is the engine's own business. The database above only has to know
//! which files are new (their names have to be made durable, and they have to go if the change
//! does not come to be) and what the manifest has to say.

use super::{HomeStats, Intake, Source};
use crate::{
    Result,
    memtable::{Memtable, MemtableCursor},
    sorted::{Deletes, FileId, Found, Graveyard, Lookup, Merge, Run, RunAccess, Span, run_name},
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

/// The order of a table's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Of their keys.
    Keys,
    /// Of their keys' hashes under this seed: what cursors show as keys has
    /// [`HASH_BYTES`] of hash in front.
    Hashes(u64),
}

/// How many bytes of hash, the most significant first, go before a key.
pub(crate) const HASH_BYTES: usize = 8;

impl Order {
    /// How many bytes cursors show before the key.
    pub(crate) fn extra(self) -> usize {
        match self {
            Order::Keys => 0,
            Order::Hashes(_) => HASH_BYTES,
        }
    }
}

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

    /// The order in which all cursors of the table go.
    fn order(&self) -> Order {
        Order::Keys
    }

    /// Every file with its level, newest first: for verification and backups.
    fn files(&self) -> Vec<(u8, Arc<dyn HomeFile>)>;

    /// What the manifest says of the table beside its files: the engine's own.
    fn root(&self) -> Bytes {
        Bytes::new()
    }

    /// Sizes and shape.
    fn stats(&self) -> HomeStats;
}

/// The suffixes of homes' files: what has one of them and is in no manifest is a leftover.
pub(crate) const FILE_SUFFIXES: [&str; 3] = [".run", ".pages", ".hash"];

/// One file of a home, as the manifest lists it.
pub(crate) trait HomeFile: Send + Sync {
    fn file(&self) -> FileId;

    /// Its name in the folder: the number and one of the [`FILE_SUFFIXES`].
    fn name(&self) -> String;

    /// Its length, as the manifest says it.
    fn bytes(&self) -> u64;

    /// What else the manifest says of it: the engine's own.
    fn meta(&self) -> Bytes;

    /// Whether it is never written again, so that a backup may link it.
    fn is_frozen(&self) -> bool {
        true
    }

    /// Reads every byte and checks it.
    fn verify(&self) -> Result<()>;

    /// Once nobody has it open any more, it goes `to` there.
    fn retire(&self, to: &Arc<Graveyard>);
}

impl HomeFile for Run {
    fn file(&self) -> FileId {
        self.meta().file
    }

    fn name(&self) -> String {
        run_name(self.meta().file)
    }

    fn bytes(&self) -> u64 {
        self.meta().bytes
    }

    fn meta(&self) -> Bytes {
        let mut encoded = Vec::new();
        Run::meta(self).encode(&mut encoded);
        encoded.into()
    }

    fn verify(&self) -> Result<()> {
        Run::verify(self)
    }

    fn retire(&self, to: &Arc<Graveyard>) {
        Run::retire(self, to);
    }
}

/// Full memtables of one table, newest first, to be turned into files.
pub(crate) struct Input {
    memtables: Vec<Arc<Memtable>>,
}

impl Input {
    pub(crate) fn new(memtables: Vec<Arc<Memtable>>) -> Self {
        Self { memtables }
    }

    /// Newest first.
    pub(crate) fn memtables(&self) -> &[Arc<Memtable>] {
        &self.memtables
    }

    /// The newest version of each key, in key order; deletes and range deletes kept.
    pub(crate) fn merged(&self) -> Merge<MemtableCursor> {
        let cursors = self.memtables.iter().map(|memtable| memtable.cursor(u64::MAX)).collect();
        Merge::new(cursors, Deletes::Keep)
    }
}

/// The home of one table: its current version, and the work that makes the next one.
pub(crate) trait Home: Send + Sync {
    /// The current version.
    fn current(&self) -> Arc<dyn Settled>;

    /// Writes what `input` holds into files, and syncs them. Nothing is published: a crash leaves
    /// orphans.
    fn absorb(&self, input: &Input, shop: &Shop) -> Result<Change>;

    /// Writes entries that bypass the log.
    fn ingest(&self, entries: &mut Intake<'_>, shop: &Shop) -> Result<Change>;

    /// Fits what [`Home::ingest`] made to the current version. Called when all that is older has
    /// been absorbed, and before anything newer is.
    fn join(&self, _change: &mut Change, _shop: &Shop) -> Result<()> {
        Ok(())
    }

    /// The most useful background work, if any is worth doing: with `idle`, also work that only
    /// makes later reads cheaper. The job claims its inputs until it is dropped.
    fn next_job(&self, idle: bool) -> Option<Box<dyn Job>>;

    /// Decides how `change` fits the current version and what the manifest has to say. Called with
    /// the publication lock held, so that no other change comes between this and [`Home::adopt`].
    fn stage(&self, change: Change) -> Staged;

    /// Makes a staged version the current one, after its edits are durable.
    fn adopt(&self, staged: &Staged);

    /// Takes back a change that will not be published.
    fn discard(&self, change: Change, graveyard: &Arc<Graveyard>) {
        change.fresh.iter().for_each(|file| file.retire(graveyard));
    }

    /// Takes back a staged change whose edits were not written. Nothing of it may be on disk.
    fn withdraw(&self, _staged: Staged) {}

    /// How far the home lags behind, from 0 (not at all) to 1 (writers must wait).
    fn pressure(&self) -> f64;
}

/// Work in the background: reads some of the home, writes new files.
pub(crate) trait Job: Send {
    /// Does the work. May take long: calls [`Shop::breathe`] every MiB or so.
    fn run(&mut self, shop: &Shop) -> Result<Change>;
}

/// What a piece of work made, and what it made superfluous; not published yet.
pub(crate) struct Change {
    /// New files, synced: their names have to be made durable before they are published.
    pub(crate) fresh: Vec<Arc<dyn HomeFile>>,
    /// New entries, of an ingest.
    pub(crate) entries: u64,
    /// The change, as the engine sees it.
    pub(crate) detail: Box<dyn Any + Send>,
}

/// A change that fits the current version: what to write into the manifest, and what to show.
pub(crate) struct Staged {
    /// Files that the manifest lists from now on.
    pub(crate) added: Vec<(u8, Arc<dyn HomeFile>)>,
    /// Files that it does not list any more, or lists anew.
    pub(crate) removed: Vec<FileId>,
    /// What it says of the table beside, if that changes.
    pub(crate) root: Option<Bytes>,
    pub(crate) next: Arc<dyn Settled>,
    /// Files that no later version needs: retired once this one is published.
    pub(crate) retired: Vec<Arc<dyn HomeFile>>,
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
    pub(crate) room: Room,
}

/// What a bulk load may use.
#[derive(Clone)]
pub(crate) struct Room {
    /// How many bytes of memory, as of now.
    pub(crate) memory: Arc<dyn Fn() -> usize + Send + Sync>,
    /// How many threads, the caller's own among them.
    pub(crate) threads: usize,
}

impl Default for Room {
    /// Little: for work that is no bulk load.
    fn default() -> Self {
        Self { memory: Arc::new(|| 1 << 20), threads: 1 }
    }
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

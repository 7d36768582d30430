//! What all parts of an open database share.

use super::{Builder, ReadPath, pace::Pace, signals::Signals, tail::Tail};
use crate::{
    Error, ErrorKind, Result,
    cache::BlockCache,
    log::{Appender, Log},
    manifest::Manifest,
    memtable::{MemtableWriter, Pool},
    sorted::{Graveyard, RunAccess},
    table::{FileIds, History, Room, Shop, TableId, TableState, Visible},
    vfs::{Folder, Lock},
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The tables by number.
pub(super) type Tables = BTreeMap<TableId, Arc<TableState>>;

/// An open database, without its background threads.
///
/// Locks are taken in this order: `catalogue`, a table's `absorbing`, `commit`, `manifest`, the
/// hold on arrivals (see `history`), `tables`, `views`, the history's own. Nothing that touches the
/// disk happens under `commit` but the append to the log, and under `views` nothing at all.
pub(super) struct Shared {
    /// Tells snapshots of this database from those of others in the same process.
    pub(super) id: u64,
    pub(super) options: Builder,
    pub(super) folder: Arc<dyn Folder>,
    pub(super) visible: Arc<Visible>,
    pub(super) views: Arc<Mutex<()>>,
    pub(super) tables: RwLock<Tables>,
    pub(super) files: Arc<FileIds>,
    /// The open transactions, and what is kept for them.
    pub(super) history: Arc<History>,
    pub(super) graveyard: Arc<Graveyard>,
    pub(super) cache: Arc<BlockCache>,
    /// Bulk loads that go on.
    pub(super) loads: Arc<()>,
    /// Bytes of memory that this process may fill, as found when the database was opened.
    pub(super) memory: u64,
    pub(super) signals: Signals,
    pub(super) pace: Pace,
    /// Memory of memtables that were absorbed, for the next.
    pub(super) pool: Arc<Pool>,
    /// Set when the last handle is gone: background work stops at its next breath.
    pub(super) closing: AtomicBool,
    /// Held while tables are created, renamed and dropped.
    pub(super) catalogue: Mutex<()>,
    /// Missing in a read-only database.
    pub(super) writing: Option<Writing>,
    /// Of a read-only database: tells the writer that somebody looks at what it rewrites.
    pub(super) _reading: Option<Box<dyn Lock>>,
}

/// What only a database that is open for writing has.
pub(super) struct Writing {
    pub(super) commit: Mutex<Commit>,
    pub(super) manifest: Mutex<Manifest>,
    pub(super) log: Arc<Log>,
    pub(super) _lock: Box<dyn Lock>,
}

/// The one writer's state: whoever holds its lock is the writer.
pub(super) struct Commit {
    /// The last sequence number given out.
    pub(super) seq: u64,
    pub(super) appender: Appender,
    /// The memtables' writing halves.
    pub(super) writers: Writers,
    /// The newest operations, for transactions.
    pub(super) tail: Tail,
    /// Bytes written since budgets were last looked at.
    pub(super) unaudited: usize,
}

/// Memtable writers by table number: numbers are small and dense.
#[derive(Default)]
pub(super) struct Writers(Vec<Option<MemtableWriter>>);

impl Writers {
    #[inline]
    pub(super) fn get(&mut self, table: TableId) -> Option<&mut MemtableWriter> {
        self.0.get_mut(table as usize)?.as_mut()
    }

    pub(super) fn set(&mut self, table: TableId, writer: MemtableWriter) {
        let index = table as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(writer);
        }
    }

    pub(super) fn remove(&mut self, table: TableId) {
        if let Some(slot) = self.0.get_mut(table as usize) {
            *slot = None;
        }
    }
}

impl Shared {
    /// The writing half, or an error that says there is none.
    #[inline]
    pub(super) fn writing(&self) -> Result<&Writing> {
        self.writing.as_ref().ok_or_else(|| {
            let message = "the database is open for reading only: use Builder::open to write";
            Error::new(ErrorKind::Misuse, message)
        })
    }

    pub(super) fn table_list(&self) -> Vec<Arc<TableState>> {
        self.tables.read().values().cloned().collect()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What a piece of background work works with.
    pub(super) fn shop(&self, breathe: Arc<dyn Fn() -> Result<()> + Send + Sync>) -> Shop {
        let settled = |table: &Arc<TableState>| table.view().settled.stats().file_bytes;
        let file_bytes = self.tables.read().values().map(settled).sum();
        Shop {
            folder: self.folder.clone(),
            files: self.files.clone(),
            access: access(self.options.read_path, file_bytes, self.memory, &self.cache),
            breathe,
            room: Room::default(),
        }
    }

    /// What a bulk load may use: of the memory what nobody else has taken, at least a quarter; its
    /// share of that, if others go on beside it.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        let (shared, load) = (Arc::downgrade(self), self.loads.clone());
        let memory = move || {
            let Some(shared) = shared.upgrade() else { return 0 };
            let all = shared.options.memory;
            let free = all.saturating_sub(shared.memory_taken()).max(all / 4);
            free / (Arc::strong_count(&load) - 1).max(1)
        };
        Room { memory: Arc::new(memory), threads: self.options.threads.max(1) }
    }

    /// Bytes of the memory's budget that are in use.
    fn memory_taken(&self) -> usize {
        let views = self.tables.read();
        let memtables = views.values().map(|table| {
            let view = table.view();
            let sealed = view.sealed.iter().map(|sealed| sealed.memtable.bytes());
            view.active.bytes() + sealed.sum::<usize>()
        });
        let (_, kept) = self.history.figures();
        memtables.sum::<usize>() + self.pool.bytes() + kept + self.cache.stats().bytes as usize
    }
}

/// How files are read when all of them together have `file_bytes`, and the process `memory`.
pub(super) fn access(
    path: ReadPath,
    file_bytes: u64,
    memory: u64,
    cache: &Arc<BlockCache>,
) -> RunAccess {
    let mapped = match path {
        ReadPath::Mapped => true,
        ReadPath::Cached => false,
        ReadPath::Auto => cfg!(target_pointer_width = "64") && file_bytes < memory / 2,
    };
    if mapped { RunAccess::Mapped(cache.clone()) } else { RunAccess::Cached(cache.clone()) }
}

/// A number that no other database opened by this process has.
pub(super) fn instance_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//! How a database is opened.

use super::Db;
use crate::{
    Error, Result,
    table::Durability,
    vfs::{Folder, mem::MemFolder, os::OsFolder},
};
use std::{path::Path, sync::Arc, time::Duration};

/// How settled files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadPath {
    /// Mapped while all files together take less than half of the memory that the machine has, or
    /// that the process's control group (its container) is allowed; cached beyond.
    #[default]
    Auto,
    /// Memory-mapped: the fastest while files fit in memory, since a look-up takes no lock and
    /// copies nothing. Beyond it the kernel decides what stays in memory, and each page fault reads
    /// as much ahead as the disk is set to, which may be megabytes for one value.
    Mapped,
    /// Read into a cache of blocks whose size [`Builder::memory`] bounds.
    Cached,
}

/// Chooses how a database is opened; [`Db::open`] takes the defaults.
///
/// ```
/// # fn main() -> tonearm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("music");
/// use tonearm::{Db, Durability};
///
/// let db = Db::builder()
///     .memory(64 << 20)
///     .durability(Durability::PowerLoss)
///     .open(&path)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) memory: usize,
    pub(super) threads: usize,
    pub(super) durability: Durability,
    pub(super) sync_interval: Option<Duration>,
    pub(super) read_path: ReadPath,
    pub(super) log_bytes: u64,
    pub(super) mapped_log: bool,
    pub(super) create: bool,
    pub(super) memtable_bytes: Option<usize>,
    pub(super) segment_bytes: u64,
    #[cfg(feature = "testing")]
    pub(super) unchecked_transactions: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            threads: 2,
            durability: Durability::Process,
            sync_interval: Some(Duration::from_secs(1)),
            read_path: ReadPath::Auto,
            log_bytes: 256 << 20,
            mapped_log: true,
            create: true,
            memtable_bytes: None,
            segment_bytes: 64 << 20,
            #[cfg(feature = "testing")]
            unchecked_transactions: false,
        }
    }
}

impl Builder {
    /// One budget in bytes for memtables and caches, at least 64 KiB. Memory-mapped files are the
    /// kernel's and not counted.
    ///
    /// Default: 256 MiB, which takes in a second of writes at full speed and leaves a laptop
    /// alone. Half of it is for three memtables of the busiest table (up to 64 MiB each): one being
    /// written, one that waits, one being flushed. A quarter is the block cache's, and a quarter is
    /// for what open [transactions](crate::Transaction) have to be checked against. A bulk load
    /// into a hash table takes what of all that is free while it runs.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes.max(64 << 10);
        self
    }

    /// How many threads work in the background: one writes out memtables, the others merge files.
    ///
    /// Default: 2, so that a long merge never holds up a flush. With 0 there are none: the work is
    /// done inside [`Db::maintain`], or by a writer that finds no room. Else two more threads,
    /// which sleep most of the time, sync the log and prepare its pages.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// What commits survive unless they say otherwise.
    ///
    /// Default: [`Durability::Process`], for its speed; what must survive a power cut says so
    /// where it is committed.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How often the log is synced in the background, which bounds what a power cut can take of
    /// commits that did not ask for more; `None`: never.
    ///
    /// Default: every second.
    pub fn sync_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.sync_interval = interval.into();
        self
    }

    /// How settled files are read. Default: [`ReadPath::Auto`].
    pub fn read_path(mut self, read_path: ReadPath) -> Self {
        self.read_path = read_path;
        self
    }

    /// How many bytes of log are kept before the oldest memtable is written out to release some:
    /// bounds the time to open after a crash.
    ///
    /// Default: 256 MiB, about a second of replay.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Whether the log is appended to through a memory mapping, where the folder allows it.
    ///
    /// Default: yes; a commit is then a copy instead of a system call.
    pub fn mapped_log(mut self, mapped: bool) -> Self {
        self.mapped_log = mapped;
        self
    }

    /// Whether a database is created where there is none. Default: yes.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// The size of one memtable in bytes. Default: a quarter of [`Builder::memory`], up to 64 MiB,
    /// where larger ones stop paying.
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.memtable_bytes = Some(bytes);
        self
    }

    /// The size that segments of the log grow to, from 1 MiB for a small database. Default: 64 MiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.max(4096);
        self
    }

    /// Opens the database in the directory `path`, creating both if need be.
    ///
    /// # Errors
    /// `Locked` if it is open already, `Corrupt`, `Version`, `Io`; `NotFound` if there is none and
    /// [`Builder::create`] is off.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let folder = if self.create {
            OsFolder::create(path).map_err(|e| Error::io("create the folder", &shown, e))?
        } else {
            open_folder(path)?
        };
        self.open_in(Arc::new(folder))
    }

    /// Opens a database in any folder: in memory, on a simulated disk, or your own.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open_in(self, folder: Arc<dyn Folder>) -> Result<Db> {
        Db::open_writer(self, folder)
    }

    /// Opens the database in `path` for reading, whether or not another process has it open: it
    /// reads what had been committed at this moment. It writes nothing, and takes no lock but one:
    /// if there are B+tree tables, a lock on the file `readers` that all readers share, so that the
    /// writer reuses no pages that they may be looking at. As long as such a reader is there, these
    /// tables' files grow by what is rewritten.
    ///
    /// # Errors
    /// As [`Builder::open`], but for `Locked`.
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Db> {
        self.open_read_only_in(Arc::new(open_folder(path.as_ref())?))
    }

    /// [`Builder::open_read_only`] in any folder.
    ///
    /// # Errors
    /// As [`Builder::open_read_only`].
    pub fn open_read_only_in(self, folder: Arc<dyn Folder>) -> Result<Db> {
        Db::open_reader(self, folder)
    }

    /// Opens an empty database in memory, which is gone when its last handle is.
    ///
    /// # Errors
    /// None that is expected.
    pub fn open_in_memory(self) -> Result<Db> {
        self.open_in(Arc::new(MemFolder::default()))
    }

    /// Bytes of one memtable: three of them have half of the memory.
    pub(super) fn memtable_capacity(&self) -> usize {
        self.memtable_bytes.unwrap_or((self.memory / 6).min(64 << 20)).max(4096)
    }

    /// Lets transactions commit whatever others wrote: to see that tests would notice.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn unchecked_transactions(mut self) -> Self {
        self.unchecked_transactions = true;
        self
    }

    /// Whether transactions are checked before they commit.
    pub(super) fn checks_transactions(&self) -> bool {
        #[cfg(feature = "testing")]
        return !self.unchecked_transactions;
        #[cfg(not(feature = "testing"))]
        true
    }

    /// Bytes of memtables kept for open transactions.
    pub(super) fn history_bytes(&self) -> usize {
        self.memory / 4
    }

    /// Bytes of the block cache.
    pub(super) fn cache_bytes(&self) -> usize {
        self.memory / 4
    }
}

fn open_folder(path: &Path) -> Result<OsFolder> {
    OsFolder::open(path).map_err(|error| {
        let shown = path.display().to_string();
        if error.kind() == std::io::ErrorKind::NotFound {
            let message = format!("there is no database in {shown}: the folder does not exist");
            return Error::new(crate::ErrorKind::NotFound, message);
        }
        Error::io("open the folder", &shown, error)
    })
}

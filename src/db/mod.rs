//! The database: one folder, one log, one lock, any number of tables.
//!
//! ```text
//!   commit.rs     a batch into the log and the memtables
//!   transact.rs   whether a transaction's reads still hold; trying again
//!   tail.rs       the newest operations, for that
//!   settle.rs     memtables into files, files into the manifest
//!   open.rs       manifest and log back into memory
//!   workers.rs    who does the work in the background, and when
//!   pace.rs       how writers are slowed when the work lags behind
//!   catalogue.rs  creating, renaming, dropping tables
//!   backup.rs     a snapshot written out
//! ```

mod backup;
mod catalogue;
mod commit;
mod machine;
mod open;
mod options;
mod pace;
mod settle;
mod shared;
mod signals;
mod stats;
mod tail;
mod transact;
mod workers;

pub(crate) use open::read_log;
pub use options::{Builder, ReadPath};
pub use stats::DbStats;
pub use transact::TransactOptions;
pub use workers::Progress;

use crate::{
    Error, ErrorKind, Result,
    btree::{Btree, BtreeOptions},
    hash::{Hash, HashOptions},
    lsm::{Lsm, LsmOptions},
    manifest::Manifest,
    table::{
        Batch, Begun, Checked, Core, Durability, Engine, Feed, Host, Op, Snapshot, Table,
        TableState, TableStats,
    },
    vfs::{Folder, os::OsFolder},
};
use shared::Shared;
use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use workers::Workers;

/// How often the log is read to verify it, if it is written meanwhile.
const VERIFY_TRIES: usize = 100;

/// An open database: a folder of tables that share one log.
///
/// Clones are handles to the same database, which closes when the last of them and the last table
/// handle is dropped: the log is then synced, so a clean exit loses nothing.
///
/// ```
/// # fn main() -> tonearm::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("music");
/// use tonearm::{Db, Durability, OrderedTable, Table, key};
///
/// let db = Db::open(&path)?;
/// let listens = db.lsm("listens")?;
/// let counts = db.lsm("counts")?;
///
/// let mut batch = db.batch();                       // atomic over tables
/// batch.insert(&listens, key::encode(&(7u32, 1_700_000_000u32)), "So What");
/// batch.insert(&counts, key::encode(&7u32), 1u64.to_le_bytes());
/// batch.commit(Durability::PowerLoss)?;             // Ok: survives a pulled plug
///
/// let then = db.snapshot();                         // every table at one instant
/// listens.insert(&key::encode(&(7u32, 1_700_000_180u32)), b"Blue in Green")?;
/// assert_eq!(listens.prefix(&key::encode(&7u32)).count(), 2);
/// assert_eq!(listens.at(&then).prefix(&key::encode(&7u32)).count(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
}

/// What keeps a database open: shared by `Db`s, tables and batches.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    workers: Workers,
}

impl Db {
    /// Opens the database in the directory `path`, creating both if need be, with the defaults of
    /// [`Builder`].
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Builder::default().open(path)
    }

    /// Opens an empty database in memory, which is gone when its last handle is.
    ///
    /// # Errors
    /// None that is expected.
    pub fn in_memory() -> Result<Db> {
        Builder::default().open_in_memory()
    }

    /// Chooses how to open a database.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(shared: Arc<Shared>) -> Db {
        let workers = Workers::start(&shared);
        Db { handle: Arc::new(Handle { shared, workers }) }
    }

    /// Opens the LSM table `name`, creating it with default options if there is none.
    ///
    /// # Errors
    /// `Misuse` if the table has another engine, or if there is none and the database is read-only.
    pub fn lsm(&self, name: &str) -> Result<Lsm> {
        self.handle.lsm(name, &LsmOptions::default())
    }

    /// Opens the LSM table `name`, creating it with `options` if there is none; an existing table
    /// keeps the options it was created with.
    ///
    /// # Errors
    /// As [`Db::lsm`].
    pub fn lsm_with(&self, name: &str, options: &LsmOptions) -> Result<Lsm> {
        self.handle.lsm(name, options)
    }

    /// Opens the B+tree table `name`, creating it with default options if there is none.
    ///
    /// # Errors
    /// As [`Db::lsm`].
    pub fn btree(&self, name: &str) -> Result<Btree> {
        self.handle.btree(name, &BtreeOptions::default())
    }

    /// Opens the B+tree table `name`, creating it with `options` if there is none; an existing
    /// table keeps the options it was created with.
    ///
    /// # Errors
    /// As [`Db::lsm`].
    pub fn btree_with(&self, name: &str, options: &BtreeOptions) -> Result<Btree> {
        self.handle.btree(name, options)
    }

    /// Opens the hash table `name`, creating it with default options if there is none.
    ///
    /// # Errors
    /// As [`Db::lsm`].
    pub fn hash(&self, name: &str) -> Result<Hash> {
        self.handle.hash(name, &HashOptions::default())
    }

    /// Opens the hash table `name`, creating it with `options` if there is none; an existing table
    /// keeps the options it was created with.
    ///
    /// # Errors
    /// As [`Db::lsm`].
    pub fn hash_with(&self, name: &str, options: &HashOptions) -> Result<Hash> {
        self.handle.hash(name, options)
    }

    /// Opens an existing table, whatever its engine.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub fn table(&self, name: &str) -> Result<Box<dyn Table>> {
        let table = self.handle.table(name)?;
        match table.engine() {
            Engine::Lsm => Ok(Box::new(Lsm::new(Core::new(table, self.handle.clone())))),
            Engine::Btree => Ok(Box::new(Btree::new(Core::new(table, self.handle.clone())))),
            Engine::Hash => Ok(Box::new(Hash::new(Core::new(table, self.handle.clone())))),
        }
    }

    /// Names and engines of all tables, sorted by name.
    pub fn tables(&self) -> Vec<(Arc<str>, Engine)> {
        self.handle.tables()
    }

    /// Gives a table another name. Open handles stay valid.
    ///
    /// # Errors
    /// `NotFound` if there is none named `from`, `Misuse` if there is one named `to`.
    pub fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        self.handle.rename_table(from, to)
    }

    /// Drops a table and all its data. Snapshots and iterators that read it go on; handles then
    /// return `NotFound`. Its space is free once they are gone.
    ///
    /// # Errors
    /// `NotFound` if there is none of that name.
    pub fn drop_table(&self, name: &str) -> Result<()> {
        self.handle.drop_table(name)
    }

    /// An empty batch of writes for any tables of this database.
    pub fn batch(&self) -> Batch {
        Batch::new(self.handle.clone())
    }

    /// Every table as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.handle.snapshot()
    }

    /// Makes every commit so far survive a power cut: one sync.
    ///
    /// # Errors
    /// `Io` or `Poisoned`: it is then unknown which of the commits that did not ask for it survive.
    pub fn sync(&self) -> Result<()> {
        self.handle.shared.sync()
    }

    /// Writes everything in memory into files, table by table.
    ///
    /// # Errors
    /// As [`Table::flush`].
    pub fn flush(&self) -> Result<()> {
        let shared = &self.handle.shared;
        shared.table_list().iter().try_for_each(|table| shared.flush(table))
    }

    /// Does all background work there is, now and in this thread: writes out memtables that are
    /// full or have many deletes, merges files until nothing is left to gain. For databases
    /// without threads, or before measuring.
    ///
    /// # Errors
    /// What stopped the work: `Full`, `Io`, `Corrupt`. Nothing is lost; it can be called again.
    pub fn maintain(&self) -> Result<()> {
        self.handle.shared.maintain(&mut |_| ())
    }

    /// [`Db::maintain`] with a report after each piece of work.
    ///
    /// # Errors
    /// As [`Db::maintain`].
    pub fn maintain_with(&self, mut report: impl FnMut(Progress)) -> Result<()> {
        self.handle.shared.maintain(&mut report)
    }

    /// Copies the database as of now into the directory `path`, which is created and must be empty.
    /// Files are hard-linked where that is possible, so a backup on the same file system costs
    /// little space and time. Writers are not held up. The copy opens as a database.
    ///
    /// # Errors
    /// `Misuse` if the directory is not empty or this database was opened for reading only, `Full`,
    /// `Io`. What was copied until then stays behind, and is no database.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<()> {
        self.backup_with(path, |_| ())
    }

    /// [`Db::backup`] with a report after each file.
    ///
    /// # Errors
    /// As [`Db::backup`].
    pub fn backup_with(
        &self,
        path: impl AsRef<Path>,
        mut report: impl FnMut(Progress),
    ) -> Result<()> {
        let path = path.as_ref();
        let folder = OsFolder::create(path)
            .map_err(|e| Error::io("create the folder", &path.display().to_string(), e))?;
        let folder: Arc<dyn Folder> = Arc::new(folder);
        self.handle.backup(&folder, &mut report)
    }

    /// [`Db::backup`] into any folder.
    ///
    /// # Errors
    /// As [`Db::backup`].
    pub fn backup_in(&self, folder: &Arc<dyn Folder>) -> Result<()> {
        self.handle.backup(folder, &mut |_| ())
    }

    /// Reads every byte of every file and checks it.
    ///
    /// # Errors
    /// `Corrupt` names the first damaged place; `Busy` if the log is written faster than it is
    /// read.
    pub fn verify(&self) -> Result<()> {
        self.verify_with(|_| ())
    }

    /// [`Db::verify`] with a report after each file.
    ///
    /// # Errors
    /// As [`Db::verify`].
    pub fn verify_with(&self, mut report: impl FnMut(Progress)) -> Result<()> {
        self.handle.shared.verify(&mut report)
    }

    /// What the database uses and what it waits for.
    pub fn stats(&self) -> DbStats {
        self.handle.shared.stats()
    }

    /// Closes the database and says whether all went well; dropping the last handle does the same
    /// in silence.
    ///
    /// # Errors
    /// `Misuse` if tables, batches or clones of this database are still around; `Io` or `Poisoned`
    /// if the log could not be synced.
    pub fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.handle) {
            Ok(mut handle) => handle.close(),
            Err(_) => {
                let message = "the database cannot be closed while its tables are in use";
                Err(Error::new(ErrorKind::Misuse, message))
            }
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.handle.shared.folder.path();
        f.debug_struct("Db").field("path", &path).field("tables", &self.tables()).finish()
    }
}

impl Handle {
    fn snapshot(&self) -> Snapshot {
        self.snapshot_with(|| self.shared.visible.get())
    }

    /// A snapshot up to the number that `seq` says while no view changes.
    fn snapshot_with(&self, seq: impl FnOnce() -> u64) -> Snapshot {
        let shared = &self.shared;
        let tables = shared.tables.read();
        // No view changes while this is held, so all of them belong to the same number.
        let _still = shared.views.lock();
        let views = tables.iter().map(|(id, table)| (*id, table.view().clone())).collect();
        Snapshot::new(shared.id, seq(), views)
    }

    fn close(&mut self) -> Result<()> {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.signals.ask();
        self.shared.signals.ask_for_pages();
        self.workers.join();
        self.shared.bury();
        let Ok(writing) = self.shared.writing() else { return Ok(()) };
        let mut commit = writing.commit.lock();
        commit.appender.close()?;
        let (log_end, last_seq) = (commit.appender.end(), commit.seq);
        drop(commit);
        writing.manifest.lock().close(log_end.raw(), last_seq)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.shared.is_closing() {
            // Nobody is left to be told; the next open finds out.
            let _ = self.close();
        }
    }
}

impl Host for Handle {
    fn owns(&self, table: &Arc<TableState>) -> bool {
        table.counts_by(&self.shared.visible)
    }

    fn write_one(
        &self,
        table: &Arc<TableState>,
        op: Op<'_>,
        durability: Option<Durability>,
    ) -> Result<()> {
        self.shared.write_one(table, op, durability)
    }

    fn write_batch(&self, batch: &Batch, durability: Option<Durability>) -> Result<()> {
        self.shared.write_batch(batch, None, durability).map(drop)
    }

    fn begin(&self) -> (Snapshot, Begun) {
        self.begin()
    }

    fn write_transaction(
        &self,
        batch: &Batch,
        checked: &Checked<'_>,
        durability: Option<Durability>,
    ) -> Result<u64> {
        self.shared.write_batch(batch, Some(checked), durability)
    }

    fn ingest(&self, table: &Arc<TableState>, entries: &mut dyn Feed) -> Result<u64> {
        self.shared.ingest(table, entries)
    }

    fn flush(&self, table: &Arc<TableState>) -> Result<()> {
        self.shared.flush(table)
    }

    fn stats(&self, table: &Arc<TableState>) -> TableStats {
        self.shared.table_stats(table)
    }

    fn verify(&self, table: &Arc<TableState>) -> Result<()> {
        table.view().settled.files().iter().try_for_each(|(_, file)| file.verify())
    }

    fn snapshot_id(&self) -> u64 {
        self.shared.id
    }
}

impl Shared {
    fn verify(&self, report: &mut dyn FnMut(Progress)) -> Result<()> {
        self.verify_log()?;
        let views: Vec<_> = self.table_list().iter().map(|table| table.view().clone()).collect();
        let files: Vec<_> = views.iter().flat_map(|view| view.settled.files()).collect();
        let mut progress = Progress { files_total: files.len() as u64, ..Progress::default() };
        for (_, file) in files {
            file.verify()?;
            progress.files += 1;
            progress.bytes += file.bytes();
            report(progress);
        }
        Ok(())
    }

    /// Reads manifest and log, which may be written meanwhile: damage stays where it is, while a
    /// record that is half written, or a segment that goes away, is another one at the next look.
    fn verify_log(&self) -> Result<()> {
        let place = |error: &Error| (error.file().map(str::to_owned), error.offset());
        let mut before = None;
        for _ in 0..VERIFY_TRIES {
            let state = Manifest::load(&*self.folder)?;
            let Err(error) = read_log(&*self.folder, &state, &mut |_| Ok(())) else {
                return Ok(());
            };
            if before.replace(place(&error)) == Some(place(&error)) {
                return Err(error);
            }
        }
        let message = "the log changed each time it was read: verify while less is written";
        Err(Error::new(ErrorKind::Busy, message))
    }
}

impl Lsm {
    /// Opens the LSM table of a database of its own in the directory `path`, creating both if need
    /// be: for programs that need one table and no more. [`Db`] opens it as table `main`.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Lsm> {
        Db::open(path)?.lsm("main")
    }
}

impl Btree {
    /// Opens the B+tree table of a database of its own in the directory `path`, creating both if
    /// need be: for programs that need one table and no more. [`Db`] opens it as table `main`.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Btree> {
        Db::open(path)?.btree("main")
    }
}

impl Hash {
    /// Opens the hash table of a database of its own in the directory `path`, creating both if need
    /// be: for programs that need one table and no more. [`Db`] opens it as table `main`.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Hash> {
        Db::open(path)?.hash("main")
    }
}

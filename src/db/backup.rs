//! Copies of a live database.
//!
//! A backup is a snapshot written out: the files of every table's home at that instant (linked
//! where the two folders allow it, copied otherwise), what their memtables held as a log, and a
//! manifest that says so. The manifest comes last, so a backup that was interrupted is
//! no database. Writers are not held up.

use super::{Handle, Progress, settle::add_file};
use crate::{
    Error, ErrorKind, Result,
    log::{Appender, Log, LogOptions, Position, payload_crc},
    manifest::{Edit, Manifest, TableRecord},
    sorted::{Cursor, Deletes, Kind, Merge},
    table::{HomeFile, Op, Snapshot, TableId, View, put_op},
    vfs::{Access, Folder, SyncKind, read_exact_at, write_all_at},
};
use std::sync::Arc;

/// How many bytes are copied at a time.
const COPY_BYTES: usize = 2 << 20;

/// What is in memory is copied as log records of about this size.
const RECORD_BYTES: usize = 256 << 10;
/// How long a segment of that log is.
const SEGMENT_BYTES: u64 = 16 << 20;
const FIRST_SEGMENT_ID: u64 = 1;

impl Handle {
    /// Writes everything as of now into `to`, which must not hold a database.
    pub(super) fn backup(
        &self,
        to: &Arc<dyn Folder>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let _lock = lock_target(to)?;
        let (snapshot, tables) = self.snapshot_and_tables()?;
        let files = |view: &Arc<View>| view.settled.files().len() as u64;
        let files_total = snapshot.views().map(files).sum();
        let progress = Progress { files_total, ..Progress::default() };
        let (ids, edits): (Vec<_>, Vec<_>) = tables.into_iter().unzip();
        let mut copy = Copy { handle: self, to, snapshot: &snapshot, progress, report, edits };
        for id in &ids {
            if let Some(view) = snapshot.view(*id) {
                copy.table(*id, view)?;
            }
        }
        let db_id = super::open::random_id();
        let log = copy.log(db_id, &ids)?;
        let mut edits = copy.edits;
        let last_seq = log.map_or(snapshot.sequence(), |(_, last_seq)| last_seq);
        edits.push(Edit::SetNextFile(self.shared.files.next()));
        edits.push(Edit::SetLastSeq(last_seq));
        edits.extend(log.map(|_| Edit::SetLogStart(FIRST_SEGMENT_ID)));
        to.sync().map_err(|e| Error::io("sync the folder", "", e))?;
        let end = log.map_or(0, |(end, _)| end.raw());
        Manifest::create_with(to, db_id, &edits, end).map(drop)
    }

    /// A snapshot, and the edits that create its tables; none is created, renamed or dropped in
    /// between.
    fn snapshot_and_tables(&self) -> Result<(Snapshot, Vec<(TableId, Edit)>)> {
        let _catalogue = self.shared.catalogue.lock();
        let manifest = self.shared.writing()?.manifest.lock();
        let create = |table: &TableRecord| {
            let (name, options) = (table.name.clone(), table.options.clone());
            (table.id, Edit::CreateTable { id: table.id, name, engine: table.engine, options })
        };
        let tables = manifest.state().tables.values().map(create).collect();
        drop(manifest);
        Ok((self.snapshot(), tables))
    }
}

/// The target's lock, once it is known to hold no database.
fn lock_target(to: &Arc<dyn Folder>) -> Result<Box<dyn crate::vfs::Lock>> {
    let taken = |what: &str| {
        Err(Error::new(ErrorKind::Misuse, format!("{what}: back up into an empty folder")))
    };
    let Some(lock) = to.lock().map_err(|e| Error::io("lock the folder", "lock", e))? else {
        return taken("the folder holds a database that is open");
    };
    let names = to.list().map_err(|e| Error::io("list the folder", "", e))?;
    if names.iter().any(|name| name != "lock") {
        return taken("the folder is not empty");
    }
    Ok(lock)
}

/// A backup while it is made.
struct Copy<'a> {
    handle: &'a Handle,
    to: &'a Arc<dyn Folder>,
    snapshot: &'a Snapshot,
    progress: Progress,
    report: &'a mut dyn FnMut(Progress),
    edits: Vec<Edit>,
}

impl Copy<'_> {
    /// Copies what of a table is in files.
    fn table(&mut self, id: TableId, view: &View) -> Result<()> {
        // Oldest first within a level, as the manifest lists them.
        for (level, file) in view.settled.files().iter().rev() {
            self.file(&**file)?;
            self.edits.push(add_file(id, *level, &**file));
        }
        let root = view.settled.root();
        if !root.is_empty() {
            self.edits.push(Edit::SetRoot { table: id, root });
        }
        self.edits.push(Edit::SetSettled { table: id, seq: self.snapshot.sequence() });
        Ok(())
    }

    fn file(&mut self, file: &dyn HomeFile) -> Result<()> {
        let name = file.name();
        let from = &self.handle.shared.folder;
        let link =
            || from.link(&name, &**self.to).map_err(|e| Error::io("link the file", &name, e));
        let linked = file.is_frozen() && link()?;
        if !linked {
            copy_file(&**from, &**self.to, &name, file.bytes())?;
        }
        self.progress.files += 1;
        self.progress.bytes += file.bytes();
        (self.report)(self.progress);
        Ok(())
    }

    /// Writes what the memtables of all tables hold as a log; `None` if that is nothing.
    fn log(&self, db_id: u128, tables: &[TableId]) -> Result<Option<(Position, u64)>> {
        let mut log = CopiedLog::new(self.to, db_id, self.snapshot.sequence());
        for id in tables {
            let Some(view) = self.snapshot.view(*id) else { continue };
            log.table(*id, view, self.snapshot.sequence())?;
        }
        log.finish()
    }
}

/// The log of a backup: one version of each key, numbered anew from the snapshot on.
struct CopiedLog<'a> {
    to: &'a Arc<dyn Folder>,
    db_id: u128,
    last_seq: u64,
    /// Operations to be appended next.
    payload: Vec<u8>,
    count: u32,
    appender: Option<Appender>,
}

impl<'a> CopiedLog<'a> {
    fn new(to: &'a Arc<dyn Folder>, db_id: u128, last_seq: u64) -> Self {
        Self { to, db_id, last_seq, payload: Vec::new(), count: 0, appender: None }
    }

    /// Range deletes first: what their memtable has of those keys is newer.
    fn table(&mut self, id: TableId, view: &View, seq: u64) -> Result<()> {
        let sealed = view.sealed.iter().map(|sealed| &sealed.memtable);
        let memtables = std::iter::once(&view.active).chain(sealed);
        let cursors: Vec<_> = memtables.map(|memtable| memtable.cursor(seq)).collect();
        let mut input = Merge::new(cursors, Deletes::Keep);
        for span in input.range_deletes().spans().to_vec() {
            self.add(id, Op::DeleteRange { start: &span.start, end: span.end.as_deref() })?;
        }
        input.seek_first()?;
        while input.valid() {
            let kind = input.kind();
            let (key, value) = input.entry()?;
            self.add(
                id,
                if kind == Kind::Put { Op::Put { key, value } } else { Op::Delete { key } },
            )?;
            input.next()?;
        }
        Ok(())
    }

    fn add(&mut self, table: TableId, op: Op<'_>) -> Result<()> {
        put_op(&mut self.payload, table, op);
        self.count += 1;
        if self.payload.len() >= RECORD_BYTES { self.append() } else { Ok(()) }
    }

    fn append(&mut self) -> Result<()> {
        let appender = match &mut self.appender {
            Some(appender) => appender,
            None => {
                let (segment_bytes, mapped) = (SEGMENT_BYTES, false);
                let first_segment_bytes = 2 * RECORD_BYTES as u64;
                let options = LogOptions { segment_bytes, first_segment_bytes, mapped };
                let (_, appender) =
                    Log::start(self.to.clone(), self.db_id, FIRST_SEGMENT_ID, options)?;
                self.appender.insert(appender)
            }
        };
        let parts = [&self.payload[..]];
        appender.append(self.last_seq + 1, self.count, payload_crc(&parts), &parts)?;
        self.last_seq += u64::from(self.count);
        self.count = 0;
        self.payload.clear();
        Ok(())
    }

    /// Ends the log for good; says where, and its last sequence number.
    fn finish(mut self) -> Result<Option<(Position, u64)>> {
        if self.count > 0 {
            self.append()?;
        }
        let Some(mut appender) = self.appender else { return Ok(None) };
        appender.close()?;
        Ok(Some((appender.end(), self.last_seq)))
    }
}

/// Copies the first `size` bytes, which are all: a file that goes on being written may be longer,
/// or become shorter meanwhile, but never than that.
fn copy_file(from: &dyn Folder, to: &dyn Folder, name: &str, size: u64) -> Result<()> {
    let failed = |e| Error::io("copy the file", name, e);
    let source = from.open(name, Access::Read).map_err(failed)?;
    let target = to.open(name, Access::CreateNew).map_err(failed)?;
    let mut buffer = vec![0; COPY_BYTES.min(size.try_into().unwrap_or(COPY_BYTES))];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(piece) = buffer.get_mut(..len) else { break };
        read_exact_at(&*source, piece, at).map_err(failed)?;
        write_all_at(&*target, piece, at).map_err(failed)?;
        at += len as u64;
    }
    target.sync(SyncKind::Full).map_err(failed)
}

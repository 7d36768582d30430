//! Copies of a live database.
//!
//! A backup is a snapshot written out: the files of every table's home at that instant (linked
//! where the two folders allow it, copied otherwise), what its memtables held as one more run a
//! table, and a manifest that says so. The manifest comes last, so a backup that was interrupted is
//! no database. Writers are not held up.

use super::{Handle, Progress};
use crate::{
    Error, ErrorKind, Result,
    manifest::{Edit, Manifest, TableRecord},
    sorted::{Cursor, Deletes, FileId, Merge, Run, RunMeta, RunOptions, RunWriter, run_name},
    table::{Snapshot, TableId, View},
    vfs::{Access, Folder, SyncKind, read_exact_at, write_all_at},
};
use std::sync::Arc;

/// How many bytes are copied at a time.
const COPY_BYTES: usize = 2 << 20;

/// What is in memory is written out as runs of this shape.
const MEMTABLE_RUN: RunOptions = RunOptions {
    block_bytes: 8 << 10,
    compression: crate::codec::Compression::None,
    filter_bits: 10,
};

impl Handle {
    /// Writes everything as of now into `to`, which must not hold a database.
    pub(super) fn backup(
        &self,
        to: &Arc<dyn Folder>,
        report: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let _lock = lock_target(to)?;
        let (snapshot, tables) = self.snapshot_and_tables()?;
        let files = |view: &Arc<View>| view.settled.runs().len() as u64;
        let mut progress = Progress {
            files_total: snapshot.views().values().map(files).sum(),
            ..Progress::default()
        };
        let mut edits = Vec::new();
        for (id, create) in tables {
            if let Some(view) = snapshot.views().get(&id) {
                edits.push(create);
                let mut copy = TableCopy { handle: self, to, progress: &mut progress, report };
                copy.run(id, view, &snapshot, &mut edits)?;
            }
        }
        edits.push(Edit::SetNextFile(self.shared.files.next()));
        edits.push(Edit::SetLastSeq(snapshot.sequence()));
        to.sync().map_err(|e| Error::io("sync the folder", "", e))?;
        Manifest::create_with(to, super::open::random_id(), &edits).map(drop)
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

/// Copies one table.
struct TableCopy<'a> {
    handle: &'a Handle,
    to: &'a Arc<dyn Folder>,
    progress: &'a mut Progress,
    report: &'a mut dyn FnMut(Progress),
}

impl TableCopy<'_> {
    fn run(
        &mut self,
        id: TableId,
        view: &Arc<View>,
        snapshot: &Snapshot,
        edits: &mut Vec<Edit>,
    ) -> Result<()> {
        // Oldest first within a level, as the manifest lists them.
        for (level, run) in view.settled.runs().iter().rev() {
            self.copy_run(run)?;
            edits.push(add_file(id, *level, run.meta()));
        }
        if let Some(meta) = self.write_memtables(view, snapshot.sequence())? {
            edits.push(add_file(id, 0, &meta));
        }
        edits.push(Edit::SetSettled { table: id, seq: snapshot.sequence() });
        Ok(())
    }

    fn copy_run(&mut self, run: &Arc<Run>) -> Result<()> {
        let name = run_name(run.meta().file);
        let from = &self.handle.shared.folder;
        let linked =
            from.link(&name, &**self.to).map_err(|e| Error::io("link the file", &name, e))?;
        if !linked {
            copy_file(&**from, &**self.to, &name)?;
        }
        self.progress.files += 1;
        self.progress.bytes += run.meta().bytes;
        (self.report)(*self.progress);
        Ok(())
    }

    /// Writes what the view's memtables hold up to `seq` as one run, if anything.
    fn write_memtables(&self, view: &View, seq: u64) -> Result<Option<RunMeta>> {
        let sealed = view.sealed.iter().map(|sealed| &sealed.memtable);
        let memtables = std::iter::once(&view.active).chain(sealed);
        let cursors: Vec<_> = memtables.map(|memtable| memtable.cursor(seq)).collect();
        let mut input = Merge::new(cursors, Deletes::Keep);
        input.seek_first()?;
        if !input.valid() && input.range_deletes().is_empty() {
            return Ok(None);
        }
        let file: FileId = self.handle.shared.files.take();
        let mut writer = RunWriter::create(&**self.to, file, MEMTABLE_RUN)?;
        for span in input.range_deletes().spans() {
            writer.delete_range(span.clone());
        }
        while input.valid() {
            let kind = input.kind();
            let key = input.key().to_vec();
            writer.add(&key, kind, input.value()?)?;
            input.next()?;
        }
        writer.finish().map(Some)
    }
}

fn add_file(table: u32, level: u8, meta: &RunMeta) -> Edit {
    let mut encoded = Vec::new();
    meta.encode(&mut encoded);
    Edit::AddFile { table, level, file: meta.file, bytes: meta.bytes, meta: encoded.into() }
}

fn copy_file(from: &dyn Folder, to: &dyn Folder, name: &str) -> Result<()> {
    let failed = |e| Error::io("copy the file", name, e);
    let source = from.open(name, Access::Read).map_err(failed)?;
    let target = to.open(name, Access::CreateNew).map_err(failed)?;
    let size = source.size().map_err(failed)?;
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

//! A listing of a folder for people.

use super::{files_in, hash_files, meta_of, oldest_first, open_folder, tree_of};
use crate::{
    Error, Result,
    btree::DELTA_LEVEL,
    db::read_log,
    hash::{HashRun, HashRunMeta, hash_run_name},
    log::Position,
    lsm::LENDERS,
    manifest::{FileRecord, Manifest, State, TableRecord},
    sorted::{PageTree, Run, RunMeta, Span, Tree, pages_name, run_name},
    table::{Engine, Op, read_ops},
    vfs::Folder,
};
use std::{io::Write, path::Path};

/// Writes to `out` what the manifest in the directory `path` says, what runs there are, at which
/// levels and over which keys, and what records the log has. What is damaged is listed as such.
///
/// # Errors
/// `Io` if the folder cannot be read, or `out` not written to.
pub fn dump(path: impl AsRef<Path>, out: &mut dyn Write) -> Result<()> {
    dump_in(&open_folder(path.as_ref())?, out)
}

/// [`dump`] of any folder.
///
/// # Errors
/// As [`dump`].
pub fn dump_in(folder: &dyn Folder, out: &mut dyn Write) -> Result<()> {
    let mut listing = Listing { folder, out };
    let state = match Manifest::remains(folder) {
        Ok((state, damage)) => {
            damage.iter().try_for_each(|damage| listing.line(&format!("damage: {damage}")))?;
            listing.state(&state)?;
            state.tables.values().try_for_each(|table| listing.table(table))?;
            Some(state)
        }
        Err(error) => {
            listing.line(&format!("damage: {error}"))?;
            None
        }
    };
    let is_stray = |file: &u64| !state.as_ref().is_some_and(|state| state.is_live(*file));
    let runs = files_in(folder, ".run")?.into_iter().filter(is_stray).map(run_name);
    let hash_runs = files_in(folder, ".hash")?.into_iter().filter(is_stray).map(hash_run_name);
    let trees = files_in(folder, ".pages")?.into_iter().filter(is_stray).map(pages_name);
    for name in runs.chain(hash_runs).chain(trees) {
        listing.line(&format!("{name}: part of no table"))?;
    }
    state.map_or(Ok(()), |state| listing.log(&state))
}

/// What errors of writing it are about.
const LISTING: &str = "the listing";

struct Listing<'a> {
    folder: &'a dyn Folder,
    out: &'a mut dyn Write,
}

impl Listing<'_> {
    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|e| Error::io("write", LISTING, e))
    }

    fn state(&mut self, state: &State) -> Result<()> {
        let State { db_id, next_file, log_start, last_seq, .. } = state;
        self.line(&format!("database {db_id:032x}"))?;
        self.line(&format!("  next file {next_file}, last sequence number {last_seq}"))?;
        let end = match state.log_end {
            0 => "it was not closed".to_owned(),
            end => format!("closed at {:?}", Position::from_raw(end)),
        };
        self.line(&format!("  the log begins with segment {log_start}; {end}"))
    }

    fn table(&mut self, table: &TableRecord) -> Result<()> {
        let TableRecord { id, name, settled, .. } = table;
        let engine = match Engine::from_id(table.engine) {
            Some(engine) => engine.to_string(),
            None => format!("engine {}", table.engine),
        };
        let files = table.runs.len();
        self.line(&format!("table {id} {name:?}: {engine}, {files} files, settled to {settled}"))?;
        if Engine::from_id(table.engine) == Some(Engine::Btree) {
            return self.tree_table(table);
        }
        if Engine::from_id(table.engine) == Some(Engine::Hash) {
            return self.hash_table(table);
        }
        for file in oldest_first(table).into_iter().rev() {
            match file.level {
                LENDERS => self.run(file, "lender")?,
                level => self.run(file, &format!("level {level}"))?,
            }
        }
        Ok(())
    }

    fn run(&mut self, file: &FileRecord, place: &str) -> Result<()> {
        let what = match meta_of(file) {
            Ok(meta) => self.described(&meta),
            Err(error) => format!("damage: {error}"),
        };
        self.line(&format!("  {place} {}: {what}", run_name(file.file)))
    }

    fn tree_table(&mut self, table: &TableRecord) -> Result<()> {
        for file in oldest_first(table).into_iter().rev() {
            if file.level == DELTA_LEVEL {
                self.run(file, "delta")?;
                continue;
            }
            let described = match tree_of(self.folder, table, file) {
                Ok((tree, lost)) => described_tree(&tree, lost.first().map(|lost| &lost.error)),
                Err(error) => format!("damage: {error}"),
            };
            self.line(&format!("  {}: {described}", pages_name(file.file)))?;
        }
        Ok(())
    }

    fn hash_table(&mut self, table: &TableRecord) -> Result<()> {
        for meta in hash_files(table).into_iter().rev() {
            match meta {
                Ok(meta) => {
                    let described = self.described_hash(&meta);
                    self.line(&format!("  {}: {described}", hash_run_name(meta.file)))?;
                }
                Err(error) => self.line(&format!("  damage: {error}"))?,
            }
        }
        Ok(())
    }

    fn described_hash(&self, meta: &HashRunMeta) -> String {
        let HashRunMeta { bytes, entries, deletes, slice, age, .. } = meta;
        let damage = match HashRun::open_damaged(self.folder, meta.clone()) {
            Ok((_, errors)) => errors.into_iter().next(),
            Err(error) => Some(error),
        };
        let damage = damage.map_or(String::new(), |error| format!("; damage: {error}"));
        format!(
            "age {age}, {bytes} bytes, {entries} entries, of which {deletes} deletes, \
             hashes from {:016x} to {:016x}{damage}",
            slice.first(),
            slice.last()
        )
    }

    fn described(&self, meta: &RunMeta) -> String {
        let RunMeta { bytes, entries, deletes, range_deletes, span, borrowed, .. } = meta;
        let damage = match Run::open_damaged(self.folder, meta.clone(), None) {
            Ok((_, lost)) => lost.first().map(|lost| lost.error.clone()),
            Err(error) => Some(error),
        };
        let damage = damage.map_or(String::new(), |error| format!("; damage: {error}"));
        let away = borrowed.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        let away = match borrowed.len() {
            0 => String::new(),
            files => format!(", {away} bytes of values in {files} other files"),
        };
        format!(
            "{bytes} bytes, {entries} entries, of which {deletes} deletes, \
             {range_deletes} range deletes{away}, keys {}{damage}",
            shown(span)
        )
    }

    fn log(&mut self, state: &State) -> Result<()> {
        self.line("log")?;
        let folder = self.folder;
        let read = read_log(folder, state, &mut |record| {
            let last = record.first_seq + u64::from(record.count).saturating_sub(1);
            let (place, bytes) = (record.place, record.payload.len());
            let first = record.first_seq;
            self.line(&format!("  {place:?} operations {first} to {last}, {bytes} bytes"))?;
            for op in read_ops(record.payload) {
                match op {
                    Some((table, op)) => self.line(&format!("    table {table}: {}", told(op)))?,
                    None => self.line("    damage: an operation does not decode")?,
                }
            }
            Ok(())
        });
        match read {
            Ok(found) => self.line(&format!("  the log ends at {:?}", found.end)),
            Err(error) if error.file() == Some(LISTING) => Err(error),
            Err(error) => self.line(&format!("  damage: {error}")),
        }
    }
}

fn described_tree(tree: &PageTree, damage: Option<&Error>) -> String {
    let (said, counts) = (tree.described(), tree.counts());
    let height = tree.root().map_or(0, |root| root.height + 1);
    let damage = damage.map_or(String::new(), |error| format!("; damage: {error}"));
    format!(
        "version {}, {} pages of {} bytes, {} entries in {} leaves, height {height}{damage}",
        said.generation,
        said.pages,
        tree.file().page_bytes(),
        counts.entries,
        counts.leaves
    )
}

fn told(op: Op<'_>) -> String {
    match op {
        Op::Put { key, value } => format!("put {}, {} bytes", quoted(key), value.len()),
        Op::Delete { key } => format!("delete {}", quoted(key)),
        Op::DeleteRange { start, end } => {
            let end = end.map_or("the end".to_owned(), quoted);
            format!("delete from {} up to {end}", quoted(start))
        }
    }
}

/// Keys from .. up to ..
pub(super) fn shown(span: &Span) -> String {
    let end = span.end.as_deref().map_or("the end".to_owned(), quoted);
    format!("from {} up to {end}", quoted(&span.start))
}

/// The beginning of a key, readable.
fn quoted(key: &[u8]) -> String {
    const MOST: usize = 40;
    let more = if key.len() > MOST { ".." } else { "" };
    format!("\"{}\"{more}", key.get(..MOST).unwrap_or(key).escape_ascii())
}

//! When something is wrong with a database: a look at what is in its folder, and a rescue of what
//! can still be read.
//!
//! A database that is damaged does not open, or its tables return
//! [`Corrupt`](crate::ErrorKind::Corrupt) where they are. [`Db::verify`](crate::Db::verify) finds
//! all damage, [`dump`] shows what is there, and [`salvage`] copies what is readable into a new
//! database. Neither takes a lock or changes the folder that it reads, which nobody should write
//! meanwhile.
//!
//! ```
//! # fn main() -> tonearm::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let (broken, rescued) = (dir.path().join("broken"), dir.path().join("rescued"));
//! use tonearm::{Db, OrderedTable, Table, check};
//!
//! # let db = Db::open(&broken)?;
//! # let listens = db.lsm("listens")?;
//! # listens.insert(b"9 pm", b"So What")?;
//! # listens.flush()?;
//! # listens.insert(b"10 pm", b"Naima")?;
//! # drop(listens);
//! # db.close()?;
//! # let run = std::fs::read_dir(&broken).unwrap().map(|entry| entry.unwrap().path());
//! # let run = run.into_iter().find(|path| path.extension().is_some_and(|e| e == "run")).unwrap();
//! # let mut bytes = std::fs::read(&run).unwrap();
//! # let end = bytes.len() - 60;
//! # bytes[end] ^= 1;
//! # std::fs::write(&run, bytes).unwrap();
//! assert!(Db::open(&broken).is_err());
//!
//! check::dump(&broken, &mut std::io::stdout())?;
//! let report = check::salvage(&broken, &rescued)?;
//! println!("{report}");
//!
//! assert_eq!((report.entries, report.missing, report.damage.len()), (2, 0, 1));
//! assert_eq!(Db::open(&rescued)?.lsm("listens")?.iter().count(), 2);
//! # Ok(()) }
//! ```

mod dump;
mod salvage;

pub use dump::{dump, dump_in};
pub use salvage::{Damage, Report, salvage, salvage_in};

use crate::{
    BtreeOptions, Error, Result,
    codec::Reader,
    hash::{HashRunMeta, hash_run_name},
    manifest::{FileRecord, TableRecord},
    sorted::{FileId, Lost, PageRoot, PageTree, RunMeta, pages_name, run_name},
    vfs::{Folder, os::OsFolder},
};
use std::{cmp::Reverse, path::Path, sync::Arc};

fn open_folder(path: &Path) -> Result<OsFolder> {
    OsFolder::open(path).map_err(|e| Error::io("open the folder", &path.display().to_string(), e))
}

/// The files of a table, oldest first: deep levels, then level 0 in the order of its flushes.
fn oldest_first(table: &TableRecord) -> Vec<&FileRecord> {
    let mut files: Vec<_> = table.runs.iter().collect();
    files.sort_by_key(|file| Reverse(file.level));
    files
}

/// What the manifest says of a run.
fn meta_of(file: &FileRecord) -> Result<RunMeta> {
    let meta = RunMeta::decode(&mut Reader::new(&file.meta));
    let meta = meta.filter(|meta| meta.file == file.file && meta.bytes == file.bytes);
    let what = "the manifest's description of it does not decode";
    meta.ok_or_else(|| Error::corrupt(&run_name(file.file), 0, what))
}

/// What the manifest says of the files of a hash table, oldest first; or what is wrong with it.
fn hash_files(table: &TableRecord) -> Vec<Result<HashRunMeta>> {
    let meta = |file: &FileRecord| {
        let meta = HashRunMeta::decode(&mut Reader::new(&file.meta));
        let meta = meta.filter(|meta| meta.file == file.file && meta.bytes == file.bytes);
        let what = "the manifest's description of it does not decode";
        meta.ok_or_else(|| Error::corrupt(&hash_run_name(file.file), 0, what))
    };
    let mut files: Vec<_> = table.runs.iter().map(meta).collect();
    files.sort_by_key(|meta| meta.as_ref().map_or(0, |meta| meta.age));
    files
}

/// The tree of a B+tree table, as far as it can be opened, and what cannot.
fn tree_of(
    folder: &dyn Folder,
    table: &TableRecord,
    file: &FileRecord,
) -> Result<(Arc<PageTree>, Vec<Lost>)> {
    let name = pages_name(file.file);
    let corrupt = |what: &str| Error::corrupt(&name, 0, what);
    let options = BtreeOptions::decode(&table.options);
    let options = options.ok_or_else(|| corrupt("the table's options do not decode"))?;
    let root = PageRoot::decode(&table.root);
    let root = root.ok_or_else(|| corrupt("the manifest's description of it does not decode"))?;
    PageTree::open_damaged(folder, file.file, options.page_len(), root)
}

/// The numbers of all files with this suffix in the folder, ascending.
fn files_in(folder: &dyn Folder, suffix: &str) -> Result<Vec<FileId>> {
    let names = folder.list().map_err(|e| Error::io("list the folder", "", e))?;
    let number = |name: &String| name.strip_suffix(suffix)?.parse().ok();
    let mut runs: Vec<FileId> = names.iter().filter_map(number).collect();
    runs.sort_unstable();
    Ok(runs)
}

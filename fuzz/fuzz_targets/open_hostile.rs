//! A whole folder of files that somebody has tampered with: opened, read, written to, verified.
//! Errors are fine; panics, hangs and huge allocations are not.
#![no_main]

use std::sync::{Arc, LazyLock};
use tonearm::{
    Compression, Db, LsmOptions, OrderedTable, ReadPath, Result, Table, fuzzing,
    vfs::{Access, Folder, mem::MemFolder},
};

type Files = Vec<(String, Vec<u8>)>;

/// Databases by whether checksums are real, and by kind.
static TEMPLATES: LazyLock<Vec<[Files; 4]>> = LazyLock::new(|| {
    [false, true]
        .map(|blind| {
            fuzzing::blind(blind);
            [0, 1, 2, 3].map(|kind| template(kind).unwrap())
        })
        .into()
});

fn builder() -> tonearm::Builder {
    Db::builder()
        .threads(0)
        .memory(64 << 10)
        .memtable_bytes(4 << 10)
        .segment_bytes(4096)
        .sync_interval(None)
}

/// Runs of two levels, range deletes, and a log with and without an end.
fn template(kind: u8) -> Result<Files> {
    let folder = MemFolder::default();
    let db = builder().open_in(Arc::new(folder.clone()))?;
    let options = LsmOptions::new().block_bytes(256).file_bytes(4096).base_bytes(4096).merge_at(2);
    let compression = if kind & 1 == 1 { Compression::Lz4 } else { Compression::None };
    let options = options.compression(compression).hot_compression(compression);
    let tables = [db.lsm_with("a", &options)?, db.lsm_with("b", &options)?];
    for i in 0..150u32 {
        let table = &tables[i as usize % 2];
        table.insert(&(i * 7 % 61).to_be_bytes(), &vec![i as u8; i as usize % 90])?;
        if i % 29 == 0 {
            table.delete_range(&i.to_be_bytes()[..]..&(i + 3).to_be_bytes()[..])?;
            table.flush()?;
        }
        if i == 100 {
            db.maintain()?;
        }
    }
    let open = kind & 2 == 2;
    let files = if open { Some(copy(&folder)) } else { None };
    drop((tables, db));
    Ok(files.unwrap_or_else(|| copy(&folder)))
}

fn copy(folder: &MemFolder) -> Files {
    let read = |name: String| {
        let file = folder.open(&name, Access::Read).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    folder.list().unwrap().into_iter().map(read).collect()
}

fn put(folder: &MemFolder, files: &Files) {
    for (name, bytes) in files {
        let file = folder.open(name, Access::CreateNew).unwrap();
        file.write_at(bytes, 0).unwrap();
    }
}

/// Each mutation is a file, a length, and that many bytes of changes to it.
fn tamper(folder: &MemFolder, mut changes: &[u8]) {
    while let Some(([file, len], rest)) = changes.split_first_chunk() {
        let names = folder.list().unwrap();
        let Some(name) = names.get(usize::from(*file) % names.len().max(1)) else { return };
        let len = usize::from(*len % 16) * 4;
        let (these, rest) = rest.split_at(len.min(rest.len()));
        match len {
            0 if *file > 200 => folder.remove(name).unwrap(),
            0 if *file > 150 => folder.rename(name, &names[0]).unwrap(),
            _ => fuzzing::mutate(folder, name, these),
        }
        changes = rest;
    }
}

fn use_it(db: &Db, write: bool) -> Result<()> {
    let _ = (db.stats(), db.verify());
    for (name, _) in db.tables() {
        let table = db.lsm(&name)?;
        let scans = [table.iter().take(5000).count(), table.iter().rev().take(5000).count()];
        let _ = (scans, table.stats(), table.first(), table.last(), table.verify());
        for key in 0..61u32 {
            let _ = table.get(&key.to_be_bytes());
        }
        if write {
            table.insert(b"new", b"value")?;
            assert_eq!(table.get(b"new")?.as_deref(), Some(&b"value"[..]));
            table.delete_range(&b"x"[..]..&b"y"[..])?;
            table.flush()?;
        }
    }
    if write { db.maintain() } else { Ok(()) }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(([kind], changes)) = data.split_first_chunk() else { return };
    let templates = &*TEMPLATES;
    let blind = kind & 4 == 4;
    fuzzing::blind(blind);
    let folder = MemFolder::default();
    put(&folder, &templates[usize::from(blind)][usize::from(kind & 3)]);
    tamper(&folder, changes);
    let path = if kind & 8 == 8 { ReadPath::Cached } else { ReadPath::Mapped };
    let shared: Arc<dyn Folder> = Arc::new(folder);
    if let Ok(reader) = builder().read_path(path).open_read_only_in(shared.clone()) {
        let _ = use_it(&reader, false);
    }
    if let Ok(db) = builder().read_path(path).open_in(shared) {
        let _ = use_it(&db, true);
        let _ = db.close();
    }
    fuzzing::blind(false);
});

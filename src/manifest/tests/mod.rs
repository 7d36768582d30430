//! Goal: whatever happens to a manifest, it opens as a state that was committed, or refuses.

mod crashes;
mod damage;
mod edits;
mod faults;

use super::{Edit, Manifest, State, TableId, load::manifest_number};
use crate::vfs::{Access, Folder, mem::MemFolder, read_whole, write_all_at};
use bytes::Bytes;
use std::sync::Arc;

const DB_ID: u128 = 0x0123_4567_89ab_cdef_1122_3344_5566_7788;

fn create_table(id: TableId, name: &str) -> Edit {
    Edit::CreateTable { id, name: name.into(), engine: 1, options: Bytes::from_static(b"options") }
}

fn add_file(table: TableId, file: u64) -> Edit {
    Edit::AddFile { table, level: 0, file, bytes: 4096, meta: Bytes::from(vec![file as u8; 20]) }
}

/// A few commits that depend on each other.
fn history() -> Vec<Vec<Edit>> {
    vec![
        vec![create_table(1, "listens")],
        vec![add_file(1, 1), Edit::SetSettled { table: 1, seq: 10 }, Edit::SetLogStart(2)],
        vec![create_table(2, "cards"), Edit::SetRoot { table: 2, root: Bytes::from_static(b"r") }],
        vec![Edit::RemoveFile { table: 1, file: 1 }, add_file(1, 2), add_file(1, 3)],
        vec![Edit::RenameTable { id: 2, name: "songs".into() }, Edit::SetLastSeq(99)],
        vec![add_file(2, 7), Edit::SetNextFile(20)],
    ]
}

/// The states before the first, and after each of the commits.
fn states(history: &[Vec<Edit>]) -> Vec<State> {
    let mut state = State::new(DB_ID);
    let mut states = vec![state.clone()];
    for edits in history {
        state.apply_all(edits).unwrap();
        states.push(state.clone());
    }
    states
}

fn mem() -> Arc<dyn Folder> {
    Arc::new(MemFolder::default())
}

fn bytes_of(folder: &dyn Folder, name: &str) -> Vec<u8> {
    read_whole(&*folder.open(name, Access::Read).unwrap()).unwrap()
}

fn put_file(folder: &dyn Folder, name: &str, bytes: &[u8]) {
    let _ = folder.remove(name);
    write_all_at(&*folder.open(name, Access::CreateNew).unwrap(), bytes, 0).unwrap();
}

/// The names of all manifest files.
fn manifests(folder: &dyn Folder) -> Vec<String> {
    let names = folder.list().unwrap();
    names.into_iter().filter(|name| manifest_number(name).is_some()).collect()
}

//! What every kind of folder must do, as one test that each of them runs.

use super::{Access, Folder, SyncKind, read_exact_at, read_whole, write_all_at};
use std::io::ErrorKind;

/// Runs the whole contract in an empty folder.
pub(crate) fn check(folder: &dyn Folder) {
    bytes(folder);
    lengths(folder);
    names(folder);
    handles_outlive_names(folder);
    mappings(folder);
    locks(folder);
    readers(folder);
    assert_eq!(folder.list().unwrap(), Vec::<String>::new());
}

fn bytes(folder: &dyn Folder) {
    let file = folder.open("bytes", Access::CreateNew).unwrap();
    write_all_at(&*file, b"hello", 1000).unwrap();
    write_all_at(&*file, b"HE", 1000).unwrap();
    file.sync(SyncKind::Data).unwrap();
    file.start_writeback(0, 1000);
    assert_eq!(file.write_at(b"", 5000).unwrap(), 0);
    assert_eq!(file.size().unwrap(), 1005);
    let mut all = vec![0; 1000];
    all.extend_from_slice(b"HEllo");
    assert_eq!(read_whole(&*file).unwrap(), all);
    assert_eq!(file.read_at(&mut [1; 4], 1005).unwrap(), 0);
    assert_eq!(file.read_at(&mut [1; 4], 9999).unwrap(), 0);
    let past = read_exact_at(&*file, &mut [0; 6], 1000).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::UnexpectedEof);
    let again = folder.open("bytes", Access::Read).unwrap();
    assert_eq!(read_whole(&*again).unwrap(), all);
    folder.remove("bytes").unwrap();
}

fn lengths(folder: &dyn Folder) {
    let file = folder.open("lengths", Access::CreateNew).unwrap();
    write_all_at(&*file, &[7; 1500], 0).unwrap();
    file.set_len(700).unwrap();
    file.set_len(1600).unwrap();
    let mut expected = vec![7; 700];
    expected.resize(1600, 0);
    assert_eq!(read_whole(&*file).unwrap(), expected);
    file.allocate(10).unwrap();
    assert_eq!(file.size().unwrap(), 1600);
    file.allocate(5000).unwrap();
    expected.resize(5000, 0);
    assert_eq!(read_whole(&*file).unwrap(), expected);
    file.sync(SyncKind::Full).unwrap();
    folder.remove("lengths").unwrap();
}

fn names(folder: &dyn Folder) {
    for bad in ["", ".hidden", "a/b", "..", "A", "a b", "lock", &"x".repeat(65)] {
        let invalid = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        };
        invalid(folder.open(bad, Access::CreateNew).map(drop));
        invalid(folder.open(bad, Access::Read).map(drop));
        invalid(folder.remove(bad));
        invalid(folder.rename(bad, "b"));
        invalid(folder.rename("b", bad));
    }
    let missing = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
    };
    missing(folder.open("a", Access::Read).map(drop));
    missing(folder.open("a", Access::Write).map(drop));
    missing(folder.remove("a"));
    missing(folder.rename("a", "b"));
    for name in ["b.run", "a.log", "c-1_2"] {
        let file = folder.open(name, Access::CreateNew).unwrap();
        write_all_at(&*file, name.as_bytes(), 0).unwrap();
    }
    let exists = folder.open("a.log", Access::CreateNew).unwrap_err();
    assert_eq!(exists.kind(), ErrorKind::AlreadyExists);
    assert_eq!(folder.list().unwrap(), ["a.log", "b.run", "c-1_2"]);
    folder.rename("b.run", "a.log").unwrap();
    folder.rename("c-1_2", "c-1_2").unwrap();
    folder.sync().unwrap();
    assert_eq!(folder.list().unwrap(), ["a.log", "c-1_2"]);
    assert_eq!(read_whole(&*folder.open("a.log", Access::Read).unwrap()).unwrap(), b"b.run");
    folder.remove("a.log").unwrap();
    folder.remove("c-1_2").unwrap();
}

fn handles_outlive_names(folder: &dyn Folder) {
    let file = folder.open("old", Access::CreateNew).unwrap();
    write_all_at(&*file, b"old", 0).unwrap();
    folder.remove("old").unwrap();
    let new = folder.open("old", Access::CreateNew).unwrap();
    write_all_at(&*new, b"new", 0).unwrap();
    assert_eq!(read_whole(&*file).unwrap(), b"old");
    assert_eq!(read_whole(&*new).unwrap(), b"new");
    folder.remove("old").unwrap();
}

fn mappings(folder: &dyn Folder) {
    let file = folder.open("map", Access::CreateNew).unwrap();
    let empty = file.map().unwrap();
    assert!(empty.is_none_or(|map| map.is_empty()));
    write_all_at(&*file, b"mapped", 0).unwrap();
    let map = file.map().unwrap();
    folder.remove("map").unwrap();
    drop(file);
    assert!(map.is_none_or(|map| *map == *b"mapped"));
}

fn locks(folder: &dyn Folder) {
    let lock = folder.lock().unwrap();
    assert!(lock.is_some());
    assert!(folder.lock().unwrap().is_none());
    drop(lock);
    assert!(folder.lock().unwrap().is_some());
}

fn readers(folder: &dyn Folder) {
    assert!(!folder.is_shared().unwrap());
    let (first, second) = (folder.share().unwrap(), folder.share().unwrap());
    assert!(first.is_some() && second.is_some() && folder.is_shared().unwrap());
    drop(first);
    assert!(folder.is_shared().unwrap());
    drop(second);
    assert!(!folder.is_shared().unwrap());
}

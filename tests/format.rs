//! Files of version 1 are read for ever, and written as they always were.
//!
//! Goal: no change of format lands unnoticed. Method: `tests/fixtures/v1` holds a small database
//! twice, as a killed process left it and as a closed one did, made of everything that the format
//! has. Both are read and compared with a map that the same steps make; and the files that these
//! steps write today are compared, byte for byte, with those. What depends on chance (the database
//! draws its id) or on another crate (how a block is compressed) is only read; unit tests pin the
//! bytes of the log and of the manifest.
//!
//! A new version of the format gets a folder of its own, written by
//! `cargo test --test format -- --ignored`, after `VERSION` here is raised; the old one stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};
use tonearm::{
    Builder, Compression, Db, HashOptions, Lsm, LsmOptions, Table, key,
    vfs::{Access, Folder, mem::MemFolder},
};

const VERSION: u32 = 1;
/// How the two databases were left.
const WAYS: [&str; 2] = ["killed", "closed"];

type Files = BTreeMap<String, Vec<u8>>;
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn quiet() -> Builder {
    let small = Db::builder().memory(64 << 10).segment_bytes(4096);
    small.threads(0).sync_interval(None).mapped_log(false)
}

/// The tables and how they are written: small blocks, the compressed ones without filters.
fn tables() -> [(&'static str, LsmOptions); 4] {
    let small = LsmOptions::new().block_bytes(256);
    let packed = |how| {
        let packed = small.clone().compression(how).hot_compression(how);
        packed.filter_bits(0).expect_hits(true)
    };
    [
        ("plain", small.clone()),
        ("lz4", packed(Compression::Lz4)),
        ("zstd", packed(Compression::Zstd)),
        ("in the log", small),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
    Flush,
}

/// What is done to each table; the last one is not flushed.
fn steps(flushed: bool) -> Vec<Step> {
    let song = |number: u32| key::encode(&(number / 8, format!("song {number}").as_str()));
    let (song, mut steps) = (|number| song(number).to_vec(), Vec::new());
    for number in 0..32 {
        let text = format!("{number} plays by number {}, ", number * 7 % 5);
        let times = match number {
            // Nothing, values that lie apart, and short ones.
            4 => 0,
            8 | 9 => 12,
            _ => 1 + number as usize % 2,
        };
        steps.push(Step::Put(song(number), text.repeat(times).into_bytes()));
    }
    steps.push(Step::Put(Vec::new(), b"the empty key".to_vec()));
    steps.push(Step::Put(vec![0xff; 40], b"a high key".to_vec()));
    steps.push(Step::Flush);
    steps.extend((12..18).map(|number| Step::Delete(song(number))));
    steps.push(Step::DeleteRange(song(20), Some(song(28))));
    steps.push(Step::Put(song(24), b"put after the range was deleted".to_vec()));
    steps.push(Step::Flush);
    steps.push(Step::DeleteRange(vec![0xfe], None));
    steps.push(Step::Put(song(1), b"in the log".to_vec()));
    steps.push(Step::Delete(song(2)));
    steps.retain(|step| flushed || !matches!(step, Step::Flush));
    steps
}

fn play(table: &Lsm, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Put(key, value) => table.insert(key, value),
            Step::Delete(key) => table.remove(key),
            Step::DeleteRange(from, Some(to)) => table.delete_range(&from[..]..&to[..]),
            Step::DeleteRange(from, None) => table.delete_range(&from[..]..),
            Step::Flush => table.flush(),
        }
        .unwrap();
    }
}

/// What the steps leave.
fn expected(steps: &[Step]) -> Entries {
    let mut entries = Entries::new();
    for step in steps {
        match step {
            Step::Put(key, value) => drop(entries.insert(key.clone(), value.clone())),
            Step::Delete(key) => drop(entries.remove(key)),
            Step::DeleteRange(from, to) => {
                entries.retain(|key, _| key < from || to.as_ref().is_some_and(|to| key >= to));
            }
            Step::Flush => {}
        }
    }
    entries
}

/// The files as they are before and after closing.
fn written_now() -> [Files; 2] {
    let folder = MemFolder::default();
    let db = quiet().open_in(Arc::new(folder.clone())).unwrap();
    db.lsm("dropped").unwrap().insert(b"k", b"v").unwrap();
    db.drop_table("dropped").unwrap();
    for (name, options) in tables() {
        let table = db.lsm_with("before renaming", &options).unwrap();
        play(&table, &steps(name != "in the log"));
        db.rename_table("before renaming", name).unwrap();
    }
    let mut batch = db.batch();
    for (name, _) in tables() {
        batch.insert(&db.lsm(name).unwrap(), b"batch", b"of all tables");
    }
    batch.commit_default().unwrap();
    let killed = files(&folder);
    db.close().unwrap();
    [killed, files(&folder)]
}

/// Hash tables have a folder of their own, since they came later: one of two runs, with values
/// that lie apart, and one of several slices.
const HASH: &str = "hash";

fn hash_tables() -> [(&'static str, HashOptions); 2] {
    let plain = HashOptions::new().seed(1).runs(3);
    [("plain", plain.clone()), ("cut", plain.file_bytes(4096).seed(2))]
}

fn hash_written_now() -> Files {
    let folder = MemFolder::default();
    let db = quiet().open_in(Arc::new(folder.clone())).unwrap();
    for (name, options) in hash_tables() {
        let table = db.hash_with(name, &options).unwrap();
        for step in steps(name == "plain") {
            match step {
                Step::Put(key, value) => table.insert(&key, &value.repeat(1 + value.len() / 300)),
                Step::Delete(key) => table.remove(&key),
                Step::Flush => table.flush(),
                Step::DeleteRange(..) => Ok(()),
            }
            .unwrap();
        }
        table.insert(&vec![b'l'; 1500], b"under a long key").unwrap();
        if name == "cut" {
            let entry = |n: u32| (key::encode(&n).to_vec().into(), vec![n as u8; 40].into());
            table.ingest(&mut (0..300).rev().map(|n| Ok(entry(n)))).unwrap();
        }
    }
    db.close().unwrap();
    files(&folder)
}

fn check_hash(db: &Db) {
    db.verify().unwrap();
    for (name, _) in hash_tables() {
        let table = db.hash(name).unwrap();
        let steps: Vec<_> = steps(true);
        let steps: Vec<_> =
            steps.into_iter().filter(|step| !matches!(step, Step::DeleteRange(..))).collect();
        let mut expected = expected(&steps);
        let lengthen = |value: &mut Vec<u8>| *value = value.repeat(1 + value.len() / 300);
        expected.values_mut().for_each(lengthen);
        expected.insert(vec![b'l'; 1500], b"under a long key".to_vec());
        if name == "cut" {
            expected.extend((0..300u32).map(|n| (key::encode(&n).to_vec(), vec![n as u8; 40])));
        }
        let entries = table.iter().map(Result::unwrap);
        let found: Entries = entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(found, expected, "{name}");
        for (key, value) in &expected {
            assert_eq!(table.get(key).unwrap().unwrap(), value[..], "{name}");
        }
        assert!(!table.contains(b"none").unwrap(), "{name}");
    }
}

#[test]
fn hash_tables_are_read_and_written_as_ever() {
    let kept = kept(1, HASH);
    let folder: Arc<dyn Folder> = Arc::new(folder_of(&kept));
    check_hash(&quiet().open_read_only_in(folder.clone()).unwrap());
    for _ in 0..2 {
        let db = quiet().open_in(folder.clone()).unwrap();
        check_hash(&db);
        db.flush().unwrap();
        db.maintain().unwrap();
        check_hash(&db);
    }
    let now = hash_written_now();
    let runs = |files: &Files| -> Files {
        let runs = files.iter().filter(|(name, _)| name.ends_with(".hash"));
        runs.map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    };
    assert!(runs(&kept).len() > 5);
    assert!(runs(&now) == runs(&kept), "hash runs are written in another way");
}

fn files(folder: &MemFolder) -> Files {
    let read = |name: String| {
        let file = folder.open(&name, Access::Read).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        if name.starts_with("manifest-") {
            // Space made ahead is no part of it.
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() / 8 * 8 + 8);
        }
        (name, bytes)
    };
    folder.list().unwrap().into_iter().map(read).collect()
}

fn place(version: u32, way: &str) -> PathBuf {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(format!("v{version}")).join(way)
}

fn kept(version: u32, way: &str) -> Files {
    let entries = fs::read_dir(place(version, way)).unwrap().map(Result::unwrap);
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
}

fn folder_of(files: &Files) -> MemFolder {
    let folder = MemFolder::default();
    for (name, bytes) in files {
        let file = folder.open(name, Access::CreateNew).unwrap();
        assert_eq!(file.write_at(bytes, 0).unwrap(), bytes.len());
    }
    folder
}

/// Compares all that can be read with what was put in.
fn check(db: &Db) {
    db.verify().unwrap();
    let mut names: Vec<_> = tables().iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert!(db.tables().iter().map(|(name, _)| &**name).eq(names.iter().map(String::as_str)));
    for (name, _) in tables() {
        let table = db.lsm(name).unwrap();
        let mut expected = expected(&steps(true));
        expected.insert(b"batch".to_vec(), b"of all tables".to_vec());
        let entries = table.iter().map(Result::unwrap);
        let found: Entries = entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(found, expected, "{name}");
        for (key, value) in &expected {
            assert_eq!(table.get(key).unwrap().unwrap(), value[..], "{name}");
        }
        for key in [&b"none"[..], &[0xff; 40]] {
            assert!(!table.contains(key).unwrap(), "{name}");
        }
    }
}

#[test]
fn every_version_is_read() {
    for version in 1..=VERSION {
        for way in WAYS {
            let folder: Arc<dyn Folder> = Arc::new(folder_of(&kept(version, way)));
            check(&quiet().open_read_only_in(folder.clone()).unwrap());
            for _ in 0..2 {
                let db = quiet().open_in(folder.clone()).unwrap();
                check(&db);
                db.flush().unwrap();
                db.maintain().unwrap();
                check(&db);
            }
        }
    }
}

#[test]
fn runs_are_written_as_ever() {
    for (now, way) in written_now().iter().zip(WAYS) {
        let kept = kept(VERSION, way);
        assert!(now.keys().eq(kept.keys()), "{:?}", now.keys());
        let mut compared = 0;
        for (name, bytes) in kept.iter().filter(|(name, _)| name.ends_with(".run")) {
            let compression = bytes[bytes.len() - 128 + 20];
            if compression == 0 {
                assert!(*bytes == now[name], "{name} is written in another way");
                compared += 1;
            }
        }
        assert!(compared > 1, "only {compared} files");
    }
}

#[test]
fn keys_are_written_as_ever() {
    fn is<T: key::Encode + ?Sized>(value: &T, expected: &str) {
        let hex: String = key::encode(value).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""));
    }
    is(&(7u8, 258u16, 757u32, 1u64 << 40), "07 0102 000002f5 0000010000000000");
    is(&(-7i8, -258i16, -757i32, i64::MIN), "79 7efe 7ffffd0b 0000000000000000");
    is(&(1u128, -1i128), "00000000000000000000000000000001 7fffffffffffffffffffffffffffffff");
    is(&(1.5f32, -1.5f32, 0.0f64, -0.0f64), "bfc00000 403fffff 8000000000000000 7fffffffffffffff");
    is(&(false, true, 'a', ()), "00 01 00000061");
    is("a\0b", "61 00ff 62 0000");
    is(&(&b"\xff\0"[..], *b"ab"), "ff 00ff 0000 6162");
    is(&(None::<u8>, Some(7u8), Some("x")), "00 0107 01 78 0000");
    is(&(key::Desc(7u16), key::Desc("x")), "fff8 87 ffff");
}

#[test]
#[ignore = "writes the files that the others read: for a new version of the format"]
fn write_the_fixtures_anew() {
    let [killed, closed] = written_now();
    for (files, way) in [(killed, WAYS[0]), (closed, WAYS[1]), (hash_written_now(), HASH)] {
        let place = place(VERSION, way);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(place.join(name), bytes).unwrap());
    }
}

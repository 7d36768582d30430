//! One trait, several engines: the same operations give the same bytes in all of them.

use std::{collections::BTreeMap, sync::Arc};
use tonearm::{Db, Durability, Snapshot, Table, vfs::mem::MemFolder};

/// Small memtables, and no threads: homes change often, and always at the same moments.
fn open(folder: &MemFolder) -> Db {
    Db::builder()
        .threads(0)
        .memory(64 << 10)
        .memtable_bytes(8 << 10)
        .segment_bytes(16 << 10)
        .sync_interval(None)
        .open_in(Arc::new(folder.clone()))
        .unwrap()
}

/// The same table in every engine.
fn tables(db: &Db) -> Vec<Box<dyn Table>> {
    vec![
        Box::new(db.lsm("lsm").unwrap()),
        Box::new(db.btree("btree").unwrap()),
        Box::new(db.hash("hash").unwrap()),
    ]
}

/// Splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn key(chance: &mut Chance) -> Vec<u8> {
    let number = chance.below(300);
    format!("{:0>len$}", number, len = 3 + number as usize % 40).into_bytes()
}

fn value(chance: &mut Chance, step: u64) -> Vec<u8> {
    let len = match chance.below(20) {
        0 => 3000 + chance.below(4000),
        1 => 0,
        _ => chance.below(120),
    };
    (0..len).map(|i| (i ^ step) as u8).collect()
}

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// All that a table says it holds, at `then` or now.
fn content(table: &dyn Table, then: Option<&Snapshot>) -> Content {
    let entries = match then {
        Some(snapshot) => table.at(snapshot).iter(),
        None => table.iter(),
    };
    let mut content = Content::new();
    for entry in entries {
        let (key, value) = entry.unwrap();
        let before = content.insert(key.to_vec(), value.to_vec());
        assert_eq!(before, None, "{} shows a key twice", table.name());
    }
    content
}

fn agree(tables: &[Box<dyn Table>], then: Option<&Snapshot>, model: &Content, step: u64) {
    for table in tables {
        assert_eq!(content(&**table, then), *model, "{} at step {step}", table.name());
    }
}

fn gets_agree(tables: &[Box<dyn Table>], model: &Content, chance: &mut Chance) {
    let keys: Vec<Vec<u8>> = (0..20).map(|_| key(chance)).collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for table in tables {
        let many = table.get_many(&asked).unwrap();
        for (key, found) in keys.iter().zip(many) {
            let expected = model.get(key).map(Vec::as_slice);
            assert_eq!(found.as_deref(), expected);
            assert_eq!(table.get(key).unwrap().as_deref(), expected);
            assert_eq!(table.contains(key).unwrap(), expected.is_some());
        }
    }
}

#[test]
fn the_same_operations_give_the_same_bytes() {
    for seed in 0..4 {
        let folder = MemFolder::default();
        let mut chance = Chance(seed);
        let mut model = Content::new();
        let (mut db, mut held) = (open(&folder), None);
        let mut handles = tables(&db);
        for step in 0..1500 {
            match chance.below(100) {
                0..=1 => handles.iter().for_each(|table| table.flush().unwrap()),
                2 => db.maintain().unwrap(),
                3 => {
                    held = None;
                    handles.clear();
                    db.close().unwrap();
                    db = open(&folder);
                    handles = tables(&db);
                }
                4..=5 => {
                    if let Some((snapshot, then)) = held.take() {
                        agree(&handles, Some(&snapshot), &then, step);
                    }
                    held = Some((db.snapshot(), model.clone()));
                }
                6..=9 => agree(&handles, None, &model, step),
                10..=19 => gets_agree(&handles, &model, &mut chance),
                20..=39 => {
                    let key = key(&mut chance);
                    handles.iter().for_each(|table| table.remove(&key).unwrap());
                    model.remove(&key);
                }
                40..=49 => {
                    let mut batch = db.batch();
                    for _ in 0..chance.below(30) {
                        let (key, value) = (key(&mut chance), value(&mut chance, step));
                        for table in &handles {
                            batch.insert(&**table, &key, &value);
                        }
                        model.insert(key, value);
                    }
                    batch.commit(Durability::Process).unwrap();
                }
                _ => {
                    let (key, value) = (key(&mut chance), value(&mut chance, step));
                    handles.iter().for_each(|table| table.insert(&key, &value).unwrap());
                    model.insert(key, value);
                }
            }
        }
        agree(&handles, None, &model, u64::MAX);
        handles.iter().for_each(|table| table.verify().unwrap());
        assert!(model.len() > 100, "the model has hardly anything in it");
    }
}

#[test]
fn a_batch_over_all_engines_is_one_sync() {
    let folder = MemFolder::default();
    let db = open(&folder);
    let handles = tables(&db);
    for round in 0..10u8 {
        let before = db.stats().log_syncs;
        let mut batch = db.batch();
        for table in &handles {
            batch.insert(&**table, [round], b"value");
        }
        batch.commit(Durability::PowerLoss).unwrap();
        assert_eq!(db.stats().log_syncs - before, 1);
    }
}

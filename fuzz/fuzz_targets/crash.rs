//! Operations on a simulated disk that loses power somewhere, keeping some of what was not synced:
//! what comes back is what was there after one of the commits, and none that was durable is lost.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use std::{collections::BTreeMap, sync::Arc};
use tonearm::{
    Builder, Db, Durability, Lsm, LsmOptions, Table,
    vfs::{
        Folder,
        sim::{Choice, SimDisk},
    },
};

#[derive(Arbitrary, Debug)]
enum Step {
    Insert { table: bool, key: u8, len: u16, durable: bool },
    Remove { table: bool, key: u8 },
    Batch { keys: [u8; 4], len: u8, durable: bool },
    DeleteRange { table: bool, from: u8, to: u8 },
    Flush { table: bool },
    Maintain,
    Sync,
    Reopen,
}

#[derive(Arbitrary, Debug)]
struct Crash {
    mappable: bool,
    loose: bool,
    point: u16,
    keep: u64,
    how: u8,
}

type Tables = [BTreeMap<u8, Vec<u8>>; 2];

/// The state after each commit, and which of them is known to be durable.
struct Run {
    disk: SimDisk,
    db: Option<(Db, [Lsm; 2])>,
    states: Vec<Tables>,
}

fn builder() -> Builder {
    Db::builder()
        .threads(0)
        .memory(64 << 10)
        .memtable_bytes(4 << 10)
        .segment_bytes(8 << 10)
        .log_bytes(16 << 10)
        .sync_interval(None)
}

fn open(disk: &SimDisk) -> (Db, [Lsm; 2]) {
    let folder: Arc<dyn Folder> = Arc::new(disk.clone());
    let db = builder().open_in(folder).unwrap();
    let options =
        LsmOptions::new().block_bytes(256).file_bytes(4096).base_bytes(4096).merge_at(2).growth(2);
    let tables = ["a", "b"].map(|name| db.lsm_with(name, &options).unwrap());
    (db, tables)
}

impl Run {
    fn db(&self) -> &(Db, [Lsm; 2]) {
        self.db.as_ref().unwrap()
    }

    /// A commit is issued; the mark says how many states there may be from here on.
    fn next(&mut self, change: impl FnOnce(&mut Tables)) -> usize {
        let mut tables = self.states.last().unwrap().clone();
        change(&mut tables);
        self.states.push(tables);
        self.disk.mark(issued(self.states.len() - 1));
        self.states.len() - 1
    }

    fn durable(&self, state: usize) {
        self.disk.mark(acknowledged(state));
    }

    fn step(&mut self, step: &Step) {
        let last = self.states.len() - 1;
        match step {
            Step::Insert { table, key, len, durable } => {
                let value = vec![last as u8; usize::from(*len % 1500)];
                let at = usize::from(*table);
                let state = self.next(|tables| drop(tables[at].insert(*key, value.clone())));
                let durability = durability(*durable);
                self.db().1[at].insert_with(&[*key], &value, durability).unwrap();
                if *durable {
                    self.durable(state);
                }
            }
            Step::Remove { table, key } => {
                let at = usize::from(*table);
                self.next(|tables| drop(tables[at].remove(key)));
                self.db().1[at].remove(&[*key]).unwrap();
            }
            Step::Batch { keys, len, durable } => {
                let value = vec![last as u8; usize::from(*len)];
                let state = self.next(|tables| {
                    for (i, key) in keys.iter().enumerate() {
                        tables[i % 2].insert(*key, value.clone());
                    }
                });
                let (db, tables) = self.db();
                let mut batch = db.batch();
                for (i, key) in keys.iter().enumerate() {
                    batch.insert(&tables[i % 2], [*key], &value);
                }
                batch.commit(durability(*durable)).unwrap();
                if *durable {
                    self.durable(state);
                }
            }
            Step::DeleteRange { table, from, to } => {
                let at = usize::from(*table);
                self.next(|tables| tables[at].retain(|key, _| key < from || key >= to));
                self.db().1[at].delete_range([*from]..[*to]).unwrap();
            }
            Step::Flush { table } => self.db().1[usize::from(*table)].flush().unwrap(),
            Step::Maintain => self.db().0.maintain().unwrap(),
            Step::Sync => {
                self.db().0.sync().unwrap();
                self.durable(last);
            }
            Step::Reopen => {
                let (db, tables) = self.db.take().unwrap();
                drop(tables);
                db.close().unwrap();
                self.durable(last);
                self.db = Some(open(&self.disk));
            }
        }
    }
}

fn durability(durable: bool) -> Durability {
    if durable { Durability::PowerLoss } else { Durability::Process }
}

fn issued(state: usize) -> u64 {
    state as u64 * 2
}

fn acknowledged(state: usize) -> u64 {
    state as u64 * 2 + 1
}

fn choice(crash: &Crash) -> Choice {
    let n = crash.keep as usize;
    match crash.how % 10 {
        0 => Choice::None,
        1 => Choice::All,
        2 => Choice::Prefix(n % 64),
        3 => Choice::DropOne(n % 64),
        4 => Choice::KeepOne(n % 64),
        5 => Choice::Torn { bytes: n % 5000 },
        6 => Choice::TornGarbage(crash.keep),
        7 => Choice::MetadataOnly,
        8 => Choice::DataOnly,
        _ => Choice::Subset(crash.keep),
    }
}

fn read(tables: &[Lsm; 2]) -> Tables {
    [0, 1].map(|at: usize| {
        let entries = tables[at].iter().map(|entry| entry.unwrap());
        entries.map(|(key, value)| (key[0], value.to_vec())).collect()
    })
}

fn check(run: &Run, crash: &Crash, begun: usize) {
    let history = run.disk.history();
    let point = begun + usize::from(crash.point) % (history.len() - begun + 1);
    let marks: Vec<u64> = history.marks_at(point).collect();
    let durable = marks.iter().rev().find(|mark| *mark % 2 == 1).map_or(0, |mark| mark / 2);
    let issued = marks.iter().rev().find(|mark| *mark % 2 == 0).map_or(0, |mark| mark / 2);
    let choice = choice(crash);
    let least = if choice == Choice::All { issued.saturating_sub(1) } else { durable };
    let possible = &run.states[least as usize..=issued as usize];
    let disk = history.image(point, &choice);
    for round in 0..2 {
        let (db, tables) = open(&disk);
        let found = read(&tables);
        assert!(possible.contains(&found), "round {round}: {found:?}, {least}..={issued}");
        db.verify().unwrap();
        drop(tables);
        db.close().unwrap();
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(crash) = Crash::arbitrary(&mut input) else { return };
    let disk = SimDisk::new(crash.keep);
    disk.set_mappable(crash.mappable);
    disk.set_loose_renames(crash.loose);
    let db = Some(open(&disk));
    let begun = disk.op_count();
    let mut run = Run { disk, db, states: vec![Tables::default()] };
    for _ in 0..60 {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        run.step(&step);
    }
    check(&run, &crash, begun);
});

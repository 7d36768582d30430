//! A look at what is left on a disk: is it a database, does it hold what was promised, does it
//! work on, and is there nothing on the disk that should not be?

use super::{
    model::{Entries, Model, State},
    player::{Manner, table_options},
};
use std::{collections::BTreeMap, fmt, ops::RangeInclusive, sync::Arc};
use tonearm::{
    Db, Durability, Engine, Result,
    vfs::{Folder, sim::SimDisk},
};

/// The table that is made to see whether anything still can be.
const AFTER: &str = "after";

/// All entries of all tables, read forwards, and backwards, and one key in four by itself.
pub(crate) fn read(db: &Db) -> Result<State> {
    let snapshot = db.snapshot();
    let mut state = State::new();
    for (name, _) in db.tables() {
        let table = db.table(&name)?;
        let mut entries = Entries::new();
        let mut forwards = Vec::new();
        for entry in table.at(&snapshot).iter() {
            let (key, value) = entry?;
            forwards.push(key.to_vec());
            entries.insert(key.to_vec(), value.to_vec());
        }
        assert_eq!(forwards.len(), entries.len(), "{name}: a key comes twice");
        let mut backwards = Vec::new();
        for entry in table.at(&snapshot).iter().rev() {
            backwards.push(entry?.0.to_vec());
        }
        assert!(backwards.iter().eq(forwards.iter().rev()), "{name}: backwards is another table");
        let is_ordered = table.engine() != Engine::Hash;
        assert!(!is_ordered || forwards.is_sorted(), "{name}: not in order");
        for (key, value) in entries.iter().step_by(4) {
            let found = table.get(key)?;
            assert!(found.is_some_and(|found| found == value[..]), "{name}: get({key:?}) differs");
        }
        assert!(table.get(b"no key of any suite")?.is_none());
        state.insert(name.to_string(), Arc::new(entries));
    }
    Ok(state)
}

/// What recovery of a disk may find.
#[derive(Clone, Debug)]
pub(crate) struct Promise<'a> {
    pub(crate) model: &'a Model,
    pub(crate) window: RangeInclusive<usize>,
}

impl Promise<'_> {
    /// Opens the disk and finds a state that was promised.
    pub(crate) fn open(&self, manner: Manner, disk: &SimDisk) -> Result<(Db, State), String> {
        let db = manner.open(disk).map_err(because("opening"))?;
        let found = read(&db).map_err(because("reading"))?;
        match self.model.place(&self.window, &found) {
            Some(_) => Ok((db, found)),
            None => Err(format!("none of the states {:?}: {}", self.window, Brief(&found))),
        }
    }

    /// Opens the disk, finds a state that was promised, works on, and leaves it tidy.
    pub(crate) fn survives(&self, manner: Manner, disk: &SimDisk) -> Result<(), String> {
        let (db, mut expected) = self.open(manner, disk)?;
        work_on(&db, &mut expected).map_err(because("working on"))?;
        db.verify().map_err(because("verifying"))?;
        let found = read(&db).map_err(because("reading again"))?;
        same("after more work", &expected, &found)?;
        db.close().map_err(because("closing"))?;
        let db = manner.open(disk).map_err(because("opening again"))?;
        let found = read(&db).map_err(because("reading after reopening"))?;
        same("after a clean reopen", &expected, &found)?;
        let runs = live_runs(&db);
        db.close().map_err(because("closing again"))?;
        tidy(disk, runs)
    }
}

fn because<E: fmt::Display>(doing: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{doing}: {error}")
}

/// Writes to every table and to a new one, and lets maintenance run.
fn work_on(db: &Db, expected: &mut State) -> Result<()> {
    db.lsm_with(AFTER, &table_options())?;
    expected.entry(AFTER.to_owned()).or_default();
    let mut batch = db.batch();
    for (name, entries) in expected {
        let table = db.table(name)?;
        batch.insert(&*table, b"k new", b"new").remove(&*table, b"k00");
        let entries = Arc::make_mut(entries);
        entries.insert(b"k new".to_vec(), b"new".to_vec());
        entries.remove(&b"k00"[..]);
    }
    batch.commit(Durability::PowerLoss)?;
    db.flush()?;
    db.maintain()
}

fn same(when: &str, expected: &State, found: &State) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{when}: expected {}, found {}", Brief(expected), Brief(found)))
}

/// How many files all tables have, in levels and as lenders.
fn live_runs(db: &Db) -> u64 {
    let files = |name: &str| {
        let stats = db.table(name).map(|table| table.stats()).unwrap_or_default();
        stats.levels.iter().map(|level| level.files).sum::<u64>() + stats.lenders.files
    };
    db.tables().iter().map(|(name, _)| files(name)).sum()
}

/// Nothing is left but one manifest, what names it, one segment of log, and `runs` files.
fn tidy(disk: &SimDisk, runs: u64) -> Result<(), String> {
    let names = disk.list().map_err(because("listing"))?;
    let mut counts = BTreeMap::new();
    for name in &names {
        let kind = match name.as_str() {
            "current" => "current",
            name if name.starts_with("manifest-") => "manifest",
            name if name.ends_with(".hash") || name.ends_with(".pages") => "run",
            name => name.split_once('.').map_or(name, |(_, kind)| kind),
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    let mut expected = BTreeMap::from([("current", 1), ("manifest", 1), ("log", 1)]);
    if runs > 0 {
        expected.insert("run", runs);
    }
    if counts == expected {
        return Ok(());
    }
    Err(format!("files leaked or lost: {runs} runs are in use, but there are {names:?}"))
}

/// A state in one line.
pub(crate) struct Brief<'a>(pub(crate) &'a State);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, entries) in self.0 {
            write!(f, "{name} {{")?;
            for (key, value) in entries.iter() {
                let shown = &value[..value.len().min(12)];
                write!(f, " {}={}", key.escape_ascii(), shown.escape_ascii())?;
            }
            write!(f, " }} ")?;
        }
        Ok(())
    }
}

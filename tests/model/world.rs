//! A database and what it should hold, and operations that change both.

use crate::{
    choices::Choices,
    oracle::{Entry, Handle, Oracle, Then},
    setups::{On, Setup},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tempfile::TempDir;
use tonearm::{
    Builder, Db, Engine, Entries, Result, Snapshot,
    vfs::{Folder, mem::MemFolder, sim::SimDisk},
};

/// Where the database lies.
pub(crate) enum Place {
    Memory(MemFolder),
    Files(TempDir),
    Disk(SimDisk),
}

impl Place {
    fn new(on: On, seed: u64) -> Self {
        match on {
            On::Memory => Place::Memory(MemFolder::default()),
            On::Files => Place::Files(tempfile::tempdir().unwrap()),
            On::Disk { mappable, troubled } => {
                let disk = SimDisk::new(seed);
                disk.set_mappable(mappable);
                if troubled {
                    disk.set_short(100);
                    disk.set_interrupts(50);
                }
                Place::Disk(disk)
            }
        }
    }

    fn folder(&self) -> Option<Arc<dyn Folder>> {
        match self {
            Place::Memory(folder) => Some(Arc::new(folder.clone())),
            Place::Disk(disk) => Some(Arc::new(disk.clone())),
            Place::Files(_) => None,
        }
    }

    pub(crate) fn open(&self, builder: Builder) -> Result<Db> {
        match (self, self.folder()) {
            (Place::Files(dir), _) => builder.open(dir.path().join("db")),
            (_, folder) => builder.open_in(folder.unwrap()),
        }
    }

    pub(crate) fn open_read_only(&self, builder: Builder) -> Result<Db> {
        match (self, self.folder()) {
            (Place::Files(dir), _) => builder.open_read_only(dir.path().join("db")),
            (_, folder) => builder.open_read_only_in(folder.unwrap()),
        }
    }
}

/// A table and what it should hold.
pub(crate) struct Slot {
    /// Never the same for two tables.
    pub(crate) serial: u64,
    pub(crate) name: String,
    pub(crate) table: Handle,
    pub(crate) oracle: Oracle,
}

/// A snapshot and what it should show.
pub(crate) struct Past {
    pub(crate) snapshot: Snapshot,
    /// Of which opening of the database.
    pub(crate) opening: u64,
    pub(crate) tables: Vec<(u64, Then, Oracle)>,
}

/// An open iterator and what it has still to yield.
pub(crate) struct Walk {
    pub(crate) entries: Entries,
    pub(crate) expected: VecDeque<Entry>,
}

pub(crate) struct World<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) choices: Choices<'a>,
    pub(crate) place: Place,
    pub(crate) db: Option<Db>,
    pub(crate) tables: Vec<Slot>,
    pub(crate) pasts: Vec<Past>,
    pub(crate) walks: Vec<Walk>,
    /// Counts openings.
    pub(crate) opening: u64,
    serials: u64,
    writes: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(setup: &'a Setup, seed: u64, choices: Choices<'a>) -> Self {
        let place = Place::new(setup.on, seed);
        let db = place.open(setup.builder.clone()).unwrap();
        let mut world = World {
            setup,
            choices,
            place,
            db: Some(db),
            tables: Vec::new(),
            pasts: Vec::new(),
            walks: Vec::new(),
            opening: 0,
            serials: 0,
            writes: 0,
        };
        for name in ["first", "second", "third"].iter().take(setup.engines.len().max(2)) {
            world.create(name);
        }
        world
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    pub(crate) fn create(&mut self, name: &str) {
        self.serials += 1;
        let (setup, db) = (self.setup, self.db());
        let table = match setup.engines[self.serials as usize % setup.engines.len()] {
            Engine::Hash => {
                Handle::Hash(Arc::new(db.hash_with(name, &setup.hash_options).unwrap()))
            }
            Engine::Btree => {
                Handle::Ordered(Arc::new(db.btree_with(name, &setup.tree_options).unwrap()))
            }
            _ => Handle::Ordered(Arc::new(db.lsm_with(name, &setup.options).unwrap())),
        };
        let (serial, name) = (self.serials, name.to_owned());
        self.tables.push(Slot { serial, name, table, oracle: Oracle::new() });
    }

    /// Some table.
    pub(crate) fn slot(&mut self) -> &mut Slot {
        let index = self.choices.below(self.tables.len());
        &mut self.tables[index]
    }

    pub(crate) fn key(&mut self) -> Vec<u8> {
        self.setup.content.key(&mut self.choices)
    }

    pub(crate) fn value(&mut self) -> Arc<[u8]> {
        self.writes += 1;
        self.setup.content.value(&mut self.choices, self.writes)
    }

    /// Up to `most` entries with keys that ascend, some of them neighbours.
    pub(crate) fn sorted(&mut self, most: usize) -> BTreeMap<Vec<u8>, Arc<[u8]>> {
        let count = self.choices.below(most);
        (0..count).map(|_| (self.key(), self.value())).collect()
    }

    /// Closes the database and opens it again. Iterators and tables at snapshots go on.
    pub(crate) fn reopen(&mut self) {
        let names: Vec<_> = self.tables.iter().map(|slot| slot.table.name()).collect();
        let slots: Vec<_> = self.tables.drain(..).map(|s| (s.serial, s.name, s.oracle)).collect();
        // The tables are gone, so this was the last handle.
        self.db.take().unwrap().close().unwrap();
        self.opening += 1;
        let db = self.place.open(self.setup.builder.clone()).unwrap();
        for ((serial, name, oracle), old) in slots.into_iter().zip(names) {
            assert_eq!(name, *old);
            let table = Handle::open(&db, &name).unwrap();
            self.tables.push(Slot { serial, name, table, oracle });
        }
        let mut names: Vec<_> = self.tables.iter().map(|slot| slot.name.clone()).collect();
        names.sort();
        let found: Vec<_> = db.tables().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(found, names, "tables after opening again");
        self.db = Some(db);
    }
}

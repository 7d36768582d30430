//! Transactions, as one operation of a walk: what they see while they are made, what comes of them.

use crate::{
    oracle::{Handle, Oracle, Ranges, Reads, Then, between, borrowed},
    steps::look,
    world::World,
};
use std::ops::Bound;
use tonearm::{
    Durability, Entries, ErrorKind, OrderedTable, Result, Savepoint, Side, Table, Transaction,
    Value,
};

/// A table inside a transaction.
struct Inside<'a>(&'a Transaction, &'a dyn Table, Option<InOrder<'a>>);

impl<'a> Inside<'a> {
    fn new(tx: &'a Transaction, table: &'a Handle) -> Self {
        Inside(tx, &**table, table.ordered().map(|table| InOrder(tx, table)))
    }
}

impl Reads for Inside<'_> {
    fn value_of(&self, key: &[u8]) -> Result<Option<Value>> {
        self.0.get(self.1, key)
    }
    fn copy_of(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.get_with(self.1, key, <[u8]>::to_vec)
    }
    fn values_of(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.0.get_many(self.1, keys)
    }
    fn has(&self, key: &[u8]) -> Result<bool> {
        self.0.contains(self.1, key)
    }
    fn all(&self) -> Entries {
        self.0.iter(self.1)
    }
    fn ranges(&self) -> Option<&dyn Ranges> {
        self.2.as_ref().map(|ranges| ranges as &dyn Ranges)
    }
}

/// The same of a table in key order.
struct InOrder<'a>(&'a Transaction, &'a dyn OrderedTable);

impl Ranges for InOrder<'_> {
    fn within(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries {
        self.0.range_between(self.1, start, end)
    }
    fn starting(&self, prefix: &[u8]) -> Entries {
        self.0.prefix(self.1, prefix)
    }
    fn smallest(&self) -> Result<Option<(Value, Value)>> {
        self.0.first(self.1)
    }
    fn greatest(&self) -> Result<Option<(Value, Value)>> {
        self.0.last(self.1)
    }
    fn next_to(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>> {
        self.0.nearest(self.1, key, side)
    }
}

/// One that is being made, and what the tables hold in its eyes.
struct Making {
    tx: Transaction,
    tables: Vec<(Handle, Oracle)>,
    savepoint: Option<(Savepoint, Vec<Oracle>)>,
}

/// Reads and writes in any order; then it is dropped, or committed, or meets a conflict.
pub(crate) fn transaction(world: &mut World<'_>) {
    let tables = world.tables.iter().map(|slot| (slot.table.clone(), slot.oracle.clone()));
    let (tables, tx) = (tables.collect(), world.db().transaction());
    let mut making = Making { tx, tables, savepoint: None };
    let disturbed = world.choices.one_in(4).then(|| world.key());
    if let Some(key) = &disturbed {
        making.tx.get(&*making.tables[0].0, key).unwrap();
    }
    for _ in 0..world.choices.below(14) {
        step(world, &mut making);
    }
    let before: Vec<Oracle> = world.tables.iter().map(|slot| slot.oracle.clone()).collect();
    if let Some(key) = &disturbed {
        let value = world.value();
        world.tables[0].table.insert(key, &value).unwrap();
        world.tables[0].oracle.insert(key.clone().into(), value);
    }
    let after = making.tables.into_iter().map(|(_, oracle)| oracle);
    let durability = match world.choices.below(8) {
        0 => return,
        1 => Durability::PowerLoss,
        _ => Durability::Process,
    };
    match making.tx.commit(durability) {
        Ok(()) if disturbed.is_some() => {
            assert!(after.eq(before), "a conflict was overlooked");
        }
        Ok(()) => world.tables.iter_mut().zip(after).for_each(|(slot, after)| slot.oracle = after),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert!(disturbed.is_some(), "there was no conflict");
        }
    }
}

fn step(world: &mut World<'_>, making: &mut Making) {
    let at = world.choices.below(making.tables.len());
    let (table, oracle) = making.tables[at].clone();
    match world.choices.below(12) {
        0..4 => look(world, &Inside::new(&making.tx, &table), &oracle, "a table in a transaction"),
        4 => {
            let (at, is_ordered) = (making.tx.untracked(&*table), table.ordered().is_some());
            look(world, &Then { at, is_ordered }, &oracle, "an untracked table");
        }
        5 => save_or_go_back(making),
        _ => write(world, &mut making.tx, &table, &mut making.tables[at].1),
    }
}

fn save_or_go_back(making: &mut Making) {
    match making.savepoint.take() {
        None => {
            let oracles = making.tables.iter().map(|(_, oracle)| oracle.clone()).collect();
            making.savepoint = Some((making.tx.savepoint(), oracles));
        }
        Some((savepoint, oracles)) => {
            making.tx.rollback_to(&savepoint).unwrap();
            making.tables.iter_mut().zip(oracles).for_each(|(table, oracle)| table.1 = oracle);
        }
    }
}

fn write(world: &mut World<'_>, tx: &mut Transaction, table: &Handle, oracle: &mut Oracle) {
    let key = world.key();
    match (world.choices.below(8), table.ordered()) {
        (0, Some(table)) => {
            let content = world.setup.content;
            let bounds = [content.bound(&mut world.choices), content.bound(&mut world.choices)];
            let (start, end) = (borrowed(&bounds[0]), borrowed(&bounds[1]));
            tx.delete_between(table, start, end).unwrap();
            for (key, _) in between(oracle, start, end) {
                oracle.remove(&key);
            }
        }
        (0..3, _) => {
            tx.remove(&**table, &key).unwrap();
            oracle.remove(&*key);
        }
        _ => {
            let value = world.value();
            tx.insert(&**table, &key, &value).unwrap();
            oracle.insert(key.into(), value);
        }
    }
}

//! The operations of a walk.

use crate::{
    oracle::{
        self, Handle, Oracle, Ranges, Reads, all_same, all_same_back, between, borrowed, in_order,
        prefixed, same,
    },
    setups::On,
    transactions,
    world::{Past, Place, Slot, Walk, World},
};
use bytes::Bytes;
use std::{collections::VecDeque, ops::Bound, sync::Arc};
use tonearm::{
    Batch, Db, Durability, Entries, ErrorKind, Feed, OrderedTable, Result, Side, Value,
    vfs::{Folder, mem::MemFolder},
};

/// One kind of operation.
pub(crate) type Step = fn(&mut World<'_>);

/// How often each operation is chosen, its name, and itself.
pub(crate) const STEPS: &[(usize, &str, Step)] = &[
    (24, "insert", insert),
    (8, "remove", remove),
    (10, "batch", batch),
    (8, "transaction", transactions::transaction),
    (3, "delete range", delete_range),
    (1, "delete prefix", delete_prefix),
    (2, "ingest", ingest),
    (1, "refused writes", refused),
    (3, "flush", flush),
    (2, "maintain", maintain),
    (1, "sync", sync),
    (1, "reopen", |world| world.reopen()),
    (3, "snapshot", snapshot),
    (5, "read the past", read_past),
    (4, "open an iterator", open_walk),
    (14, "step an iterator", step_walk),
    (12, "read", read),
    (4, "range", range),
    (2, "prefix", prefix),
    (1, "scan", scan),
    (1, "create, rename, drop", catalogue),
    (1, "back up", backup),
    (1, "read only", read_only),
    (1, "verify", verify),
];

/// Any operation, by weight.
pub(crate) fn any(world: &mut World<'_>) -> (&'static str, Step) {
    let total: usize = STEPS.iter().map(|step| step.0).sum();
    let mut at = world.choices.below(total);
    for (weight, name, step) in STEPS {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return (name, *step),
        }
    }
    unreachable!("the weights add up")
}

fn insert(world: &mut World<'_>) {
    for _ in 0..1 + world.choices.below(4) {
        let (key, value) = (world.key(), world.value());
        let slot = world.slot();
        slot.table.insert(&key, &value).unwrap();
        slot.oracle.insert(key.into(), value);
    }
}

fn remove(world: &mut World<'_>) {
    let key = world.key();
    let slot = world.slot();
    slot.table.remove(&key).unwrap();
    slot.oracle.remove(&*key);
}

fn batch(world: &mut World<'_>) {
    let mut batch = world.db().batch();
    let mut after: Vec<Oracle> = world.tables.iter().map(|slot| slot.oracle.clone()).collect();
    for _ in 0..world.choices.below(12) {
        let at = world.choices.below(world.tables.len());
        let (table, oracle) = (world.tables[at].table.clone(), &mut after[at]);
        add(world, &mut batch, &table, oracle);
    }
    match world.choices.below(8) {
        0 => drop(batch),
        kind => {
            let durable = kind == 1;
            let durability = if durable { Durability::PowerLoss } else { Durability::Process };
            batch.commit(durability).unwrap();
            world.tables.iter_mut().zip(after).for_each(|(slot, oracle)| slot.oracle = oracle);
        }
    }
}

/// Adds one write to a batch, and to what the table should hold after it.
fn add(world: &mut World<'_>, batch: &mut Batch, table: &Handle, oracle: &mut Oracle) {
    let key = world.key();
    match (world.choices.below(8), table.ordered()) {
        (0, Some(table)) => {
            let end = if world.choices.one_in(6) { None } else { Some(world.key()) };
            batch.delete_range(table, &key, end.as_deref());
            oracle.retain(|k, _| **k < *key || end.as_ref().is_some_and(|end| **k >= **end));
        }
        (0..3, _) => {
            batch.remove(&**table, &key);
            oracle.remove(&*key);
        }
        _ => {
            let value = world.value();
            batch.insert(&**table, &key, &value);
            oracle.insert(key.into(), value);
        }
    }
}

/// Some table in key order, unless a hash table was chosen.
fn ordered_slot<'w>(world: &'w mut World<'_>) -> Option<(Arc<dyn OrderedTable>, &'w mut Slot)> {
    let slot = world.slot();
    match &slot.table {
        Handle::Ordered(table) => Some((table.clone(), slot)),
        Handle::Hash(_) => None,
    }
}

fn delete_range(world: &mut World<'_>) {
    let content = world.setup.content;
    let (start, mut end) = (content.bound(&mut world.choices), content.bound(&mut world.choices));
    if let (Bound::Unbounded, Bound::Unbounded) = (&start, &end) {
        end = Bound::Included(world.key());
    }
    let Some((table, slot)) = ordered_slot(world) else { return };
    table.delete_between(borrowed(&start), borrowed(&end)).unwrap();
    for (key, _) in between(&slot.oracle, borrowed(&start), borrowed(&end)) {
        slot.oracle.remove(&key);
    }
}

fn delete_prefix(world: &mut World<'_>) {
    let prefix = world.setup.content.prefix(&mut world.choices);
    let Some((table, slot)) = ordered_slot(world) else { return };
    table.delete_prefix(&prefix).unwrap();
    slot.oracle.retain(|key, _| !key.starts_with(&prefix));
}

fn ingest(world: &mut World<'_>) {
    let entries = world.sorted(60);
    let is_lent = world.choices.one_in(2);
    let slot = world.slot();
    let mut input: Vec<_> = entries
        .iter()
        .map(|(key, value)| (Bytes::from(key.clone()), Bytes::copy_from_slice(value)))
        .collect();
    if slot.table.ordered().is_none() {
        // In any order, and of those with the same key the last one counts.
        let old = input.iter().step_by(5).map(|(key, _)| (key.clone(), Bytes::from_static(b"old")));
        input = old.chain(input.clone().into_iter().rev()).collect();
    }
    let count = match is_lent {
        true => slot.table.ingest_from(&mut Lent(input.iter())),
        false => slot.table.ingest(&mut input.into_iter().map(Ok)),
    };
    assert_eq!(count.unwrap(), entries.len() as u64);
    slot.oracle.extend(entries.into_iter().map(|(key, value)| (Arc::from(key), value)));
}

/// Entries for an ingest that keeps none of them.
struct Lent<'a>(std::slice::Iter<'a, (Bytes, Bytes)>);

impl Feed for Lent<'_> {
    fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        self.0.next().map(|(key, value)| Ok((&**key, &**value)))
    }
}

/// Writes that fail change nothing.
fn refused(world: &mut World<'_>) {
    let long = vec![7; crate::content::MAX_KEY + 1];
    let key = world.key();
    let mut batch = world.db().batch();
    let table = world.slot().table.clone();
    batch.insert(&*table, &key, "lost").remove(&*table, &long).insert(&*table, b"x", "lost");
    let entry = |key: &[u8]| Ok((Bytes::copy_from_slice(key), Bytes::from_static(b"lost")));
    // A hash table takes a key twice.
    let is_hash = table.ordered().is_none();
    let twice = [entry(b"a"), entry(if is_hash { &long } else { b"b" }), entry(b"b")];
    let misordered = if is_hash { ErrorKind::Limit } else { ErrorKind::Misuse };
    let absent = Db::builder().create(false).open("no/such/folder").map(drop).unwrap_err();
    let failing = [entry(b"a"), Err(absent)];
    let refusals = [
        (table.insert(&long, b"lost"), ErrorKind::Limit),
        (table.remove(&long), ErrorKind::Limit),
        (batch.commit(Durability::Process), ErrorKind::Limit),
        (table.ingest(&mut twice.into_iter()).map(drop), misordered),
        (table.ingest(&mut [entry(&long)].into_iter()).map(drop), ErrorKind::Limit),
        (table.ingest(&mut failing.into_iter()).map(drop), ErrorKind::NotFound),
    ];
    for (number, (result, kind)) in refusals.into_iter().enumerate() {
        assert_eq!(result.map_err(|error| error.kind()), Err(kind), "refusal {number}");
    }
}

fn flush(world: &mut World<'_>) {
    if world.choices.one_in(3) {
        world.db().flush().unwrap();
    } else {
        world.slot().table.flush().unwrap();
    }
}

fn maintain(world: &mut World<'_>) {
    world.db().maintain().unwrap();
}

fn sync(world: &mut World<'_>) {
    world.db().sync().unwrap();
}

fn verify(world: &mut World<'_>) {
    world.db().verify().unwrap();
}

fn snapshot(world: &mut World<'_>) {
    if world.pasts.len() >= 4 {
        let index = world.choices.below(world.pasts.len());
        world.pasts.swap_remove(index);
    }
    let snapshot = world.db().snapshot();
    let at = |slot: &Slot| (slot.serial, slot.table.then(&snapshot), slot.oracle.clone());
    let tables = world.tables.iter().map(at).collect();
    let opening = world.opening;
    world.pasts.push(Past { snapshot, opening, tables });
}

fn read_past(world: &mut World<'_>) {
    let Some(index) = (!world.pasts.is_empty()).then(|| world.choices.below(world.pasts.len()))
    else {
        return;
    };
    let past = world.pasts.swap_remove(index);
    let (serial, at, oracle) = world.choices.of(&past.tables);
    look(world, at, oracle, "a table at a snapshot");
    // The same through the handle, unless it was of another opening.
    for slot in &world.tables {
        let again = slot.table.then(&past.snapshot);
        if past.opening != world.opening {
            assert_eq!(again.at.get(b"").unwrap_err().kind(), ErrorKind::Misuse);
        } else if slot.serial == *serial {
            all_same(again.all(), &in_order(at, oracle, "the past"), "again");
        } else if past.tables.iter().all(|(serial, ..)| *serial != slot.serial) {
            assert!(again.all().next().is_none(), "a table from after the snapshot is empty");
        }
    }
    world.pasts.push(past);
}

fn read(world: &mut World<'_>) {
    let (table, oracle) = some_table(world);
    look(world, &table, &oracle, "a table");
}

fn some_table(world: &mut World<'_>) -> (Handle, Oracle) {
    let slot = world.slot();
    (slot.table.clone(), slot.oracle.clone())
}

/// One read of some kind.
pub(crate) fn look(
    world: &mut World<'_>,
    table: &(impl Reads + ?Sized),
    oracle: &Oracle,
    what: &str,
) {
    let key = world.key();
    let value = oracle.get(&*key).map(|value| &**value);
    match (world.choices.below(9), table.ranges()) {
        (0 | 1, _) => {
            assert!(table.value_of(&key).unwrap().as_deref() == value, "get of {what}: {key:?}")
        }
        (2, _) => {
            assert!(table.copy_of(&key).unwrap().as_deref() == value, "get_with of {what}")
        }
        (3, _) => assert_eq!(table.has(&key).unwrap(), value.is_some(), "contains of {what}"),
        (4, _) => {
            let keys: Vec<_> = (0..world.choices.below(20)).map(|_| world.key()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let found = table.values_of(&keys).unwrap();
            assert_eq!(found.len(), keys.len());
            for (key, found) in keys.iter().zip(found) {
                assert!(found.as_deref() == oracle.get(*key).map(|v| &**v), "get_many of {what}");
            }
        }
        (5, Some(ranges)) => look_at_ends(ranges, oracle),
        (6, Some(ranges)) => look_beside(ranges, &key, oracle),
        (5..8, _) => {
            let all = in_order(table, oracle, what);
            all_same(table.all(), &all, what);
        }
        _ => {
            let (entries, expected) = some_entries(world, table, oracle);
            all_same_back(entries, &expected, what);
        }
    }
}

fn fits(entry: Option<(Value, Value)>, expected: Option<(&[u8], &[u8])>, what: &str) {
    same(entry.as_ref().map(|(key, value)| (&**key, &**value)), expected, what);
}

fn look_at_ends(table: &dyn Ranges, oracle: &Oracle) {
    let expected = oracle.first_key_value().map(|(k, v)| (&**k, &**v));
    fits(table.smallest().unwrap(), expected, "first");
    let expected = oracle.last_key_value().map(|(k, v)| (&**k, &**v));
    fits(table.greatest().unwrap(), expected, "last");
}

fn look_beside(table: &dyn Ranges, key: &[u8], oracle: &Oracle) {
    for side in [Side::Before, Side::AtOrBefore, Side::AtOrAfter, Side::After] {
        let expected = oracle::nearest(oracle, key, side);
        fits(table.next_to(key, side).unwrap(), expected, &format!("nearest {side:?}"));
    }
}

/// An iterator of some kind and what it should yield.
fn some_entries(
    world: &mut World<'_>,
    table: &(impl Reads + ?Sized),
    oracle: &Oracle,
) -> (Entries, VecDeque<oracle::Entry>) {
    let content = world.setup.content;
    match (world.choices.below(6), table.ranges()) {
        (1, Some(ranges)) => {
            let prefix = content.prefix(&mut world.choices);
            (ranges.starting(&prefix), prefixed(oracle, &prefix))
        }
        (2.., Some(ranges)) => {
            let start = content.bound(&mut world.choices);
            let end = content.bound(&mut world.choices);
            let (start, end) = (borrowed(&start), borrowed(&end));
            (ranges.within(start, end), between(oracle, start, end))
        }
        // The iterator first, so that it is made of what no other has put in order.
        _ => (table.all(), in_order(table, oracle, "all")),
    }
}

fn range(world: &mut World<'_>) {
    let (table, oracle) = some_table(world);
    let Some(table) = table.ordered() else { return };
    let (from, to) = (world.key(), world.key());
    let (start, end) = (Bound::Included(&*from), Bound::Excluded(&*to));
    all_same(table.range(&*from..&*to), &between(&oracle, start, end), "from..to");
    let (start, end) = (Bound::Included(&*from), Bound::Included(&*to));
    all_same_back(table.range(&*from..=&*to), &between(&oracle, start, end), "from..=to");
}

fn prefix(world: &mut World<'_>) {
    let (table, oracle) = some_table(world);
    let Some(table) = table.ordered() else { return };
    let prefix = world.setup.content.prefix(&mut world.choices);
    all_same(table.prefix(&prefix), &prefixed(&oracle, &prefix), "prefix");
    all_same_back(table.prefix(&prefix), &prefixed(&oracle, &prefix), "prefix, backwards");
}

/// Everything, both ways.
pub(crate) fn scan(world: &mut World<'_>) {
    for slot in &world.tables {
        check(&slot.table, &slot.oracle, "scan");
    }
}

fn check(table: &(impl Reads + ?Sized), oracle: &Oracle, what: &str) {
    let all = in_order(table, oracle, what);
    all_same(table.all(), &all, what);
    all_same_back(table.all(), &all, what);
    for (key, value) in oracle {
        assert!(table.value_of(key).unwrap().as_deref() == Some(value), "{what}: get");
    }
}

fn open_walk(world: &mut World<'_>) {
    if world.walks.len() >= 6 {
        let index = world.choices.below(world.walks.len());
        world.walks.swap_remove(index);
    }
    let (table, oracle) = some_table(world);
    let (entries, expected) = some_entries(world, &table, &oracle);
    world.walks.push(Walk { entries, expected });
}

fn step_walk(world: &mut World<'_>) {
    if world.walks.is_empty() {
        return;
    }
    let index = world.choices.below(world.walks.len());
    for _ in 0..1 + world.choices.below(8) {
        let way = world.choices.below(4);
        let Walk { entries, expected } = &mut world.walks[index];
        let next = if way < 2 { expected.pop_front() } else { expected.pop_back() };
        let next = next.as_ref().map(|(key, value)| (&**key, &**value));
        let owned;
        let found = match way {
            0 | 2 => {
                let item = if way == 0 { entries.next() } else { entries.next_back() };
                owned = item.transpose().unwrap();
                owned.as_ref().map(|(key, value)| (&**key, &**value))
            }
            1 => entries.next_ref().transpose().unwrap(),
            _ => entries.next_back_ref().transpose().unwrap(),
        };
        same(found, next, ["next", "next_ref", "next_back", "next_back_ref"][way]);
    }
}

fn catalogue(world: &mut World<'_>) {
    match world.choices.below(3) {
        0 if world.tables.len() < 5 => {
            let name = format!("table {}", world.tables.last().map_or(0, |slot| slot.serial));
            world.create(&name);
        }
        1 => {
            let db = world.db().clone();
            let slot = world.slot();
            let name = format!("renamed {}", slot.serial);
            let same = slot.name == name;
            db.rename_table(&slot.name, &name).unwrap();
            assert_eq!(*slot.table.name(), name);
            if !same {
                assert_eq!(db.table(&slot.name).unwrap_err().kind(), ErrorKind::NotFound);
            }
            slot.name = name;
        }
        _ if world.tables.len() > 2 => {
            let index = world.choices.below(world.tables.len());
            let slot = world.tables.remove(index);
            world.db().drop_table(&slot.name).unwrap();
            assert_eq!(slot.table.get(b"").unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(slot.table.insert(b"", b"").unwrap_err().kind(), ErrorKind::NotFound);
        }
        _ => {}
    }
}

/// A backup holds the same, and can be written to.
fn backup(world: &mut World<'_>) {
    let builder = world.setup.builder.clone();
    let copy;
    let dir;
    if let Place::Files(_) = &world.place {
        dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        world.db().backup(&path).unwrap();
        assert_eq!(world.db().backup(&path).unwrap_err().kind(), ErrorKind::Misuse);
        copy = builder.open(&path).unwrap();
    } else {
        let folder: Arc<dyn Folder> = Arc::new(MemFolder::default());
        world.db().backup_in(&folder).unwrap();
        copy = builder.open_in(folder).unwrap();
    }
    same_tables(world, &copy, "the copy");
    copy.verify().unwrap();
    for slot in &world.tables {
        let table = Handle::open(&copy, &slot.name).unwrap();
        table.insert(b"only in the copy", b"1").unwrap();
        assert!(slot.table.get(b"only in the copy").unwrap().is_none());
    }
}

fn same_tables(world: &World<'_>, db: &Db, what: &str) {
    assert_eq!(db.tables().len(), world.tables.len(), "{what}");
    for slot in &world.tables {
        check(&Handle::open(db, &slot.name).unwrap(), &slot.oracle, what);
    }
}

/// Whoever reads beside the writer sees all that was committed.
fn read_only(world: &mut World<'_>) {
    let reader = match world.place.open_read_only(world.setup.builder.clone()) {
        // Background work may go on faster than it is read.
        Err(error) if error.kind() == ErrorKind::Busy => return,
        opened => opened.unwrap(),
    };
    same_tables(world, &reader, "a reader");
    let table = Handle::open(&reader, &world.tables[0].name).unwrap();
    assert_eq!(table.insert(b"", b"").unwrap_err().kind(), ErrorKind::Misuse);
    if world.setup.on == On::Memory {
        reader.verify().unwrap();
    }
}

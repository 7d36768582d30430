//! What a commit must not overlook, and what is none of its business.

use crate::{commits, conflicts, keys, still, tens, tiny, tiny_options};
use bytes::Bytes;
use std::ops::Bound::{Excluded, Included, Unbounded};
use tonearm::{Db, Engine, Hash, Lsm, OrderedTable, Side, Table, Transaction};

/// A transaction that makes `read`, and writes somewhere, so that it is checked.
fn after(db: &Db, read: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut tx = db.transaction();
    read(&mut tx);
    tx.insert(&db.lsm("results").unwrap(), b"result", b"").unwrap();
    tx
}

/// Whether a transaction that makes `read` notices that `write` came in between.
fn notices(read: impl FnOnce(&mut Transaction, &Lsm), write: impl FnOnce(&Db, &Lsm)) -> bool {
    let db = still();
    db.lsm("results").unwrap();
    let table = tens(&db, "table");
    let tx = after(&db, |tx| read(tx, &table));
    write(&db, &table);
    match tx.commit_default() {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), tonearm::ErrorKind::Conflict, "{error}");
            true
        }
    }
}

fn put(key: u8) -> impl FnOnce(&Db, &Lsm) {
    move |_, table| table.insert(&[key], b"new").unwrap()
}

#[test]
fn a_key_that_was_read_and_written() {
    let get = |tx: &mut Transaction, table: &Lsm| drop(tx.get(table, [30]).unwrap());
    assert!(notices(get, put(30)));
    assert!(notices(get, |_, table| table.remove(&[30]).unwrap()));
    assert!(notices(get, |_, table| table.delete_range([20]..[40]).unwrap()));
    assert!(notices(get, |_, table| table.delete_prefix(b"").unwrap()));
    assert!(!notices(get, put(31)));
    assert!(!notices(get, |_, table| table.delete_range([20]..[30]).unwrap()));
    assert!(!notices(get, |db, _| tens(db, "other").insert(&[30], b"").unwrap()));
    let missing = |tx: &mut Transaction, table: &Lsm| drop(tx.get(table, [31]).unwrap());
    assert!(notices(missing, put(31)), "that there was none is a read too");
    assert!(!notices(missing, put(30)));
    let many = |tx: &mut Transaction, table: &Lsm| {
        tx.get_many(table, &[&[10], &[11]]).unwrap();
    };
    assert!(notices(many, put(11)));
    assert!(!notices(many, put(12)));
}

#[test]
fn writes_alone_are_no_reads() {
    let blind = |tx: &mut Transaction, table: &Lsm| {
        tx.insert(table, [30], b"mine").unwrap();
        tx.remove(table, [40]).unwrap();
        tx.delete_range(table, [50]..[70]).unwrap();
        assert_eq!(tx.get(table, [30]).unwrap().unwrap(), b"mine");
        assert_eq!(tx.get(table, [40]).unwrap(), None);
        assert_eq!(tx.get(table, [60]).unwrap(), None);
    };
    for key in [30, 40, 50, 60] {
        assert!(!notices(blind, put(key)), "{key}: it read what it wrote itself");
    }
}

#[test]
fn the_later_of_two_blind_writers_wins() {
    let db = still();
    let table = tens(&db, "table");
    let (mut first, mut second) = (db.transaction(), db.transaction());
    second.insert(&table, [10], b"second").unwrap();
    first.insert(&table, [10], b"first").unwrap();
    commits(first);
    commits(second);
    assert_eq!(table.get(&[10]).unwrap().unwrap(), b"second");
}

#[test]
fn a_phantom_in_a_range() {
    let all = |tx: &mut Transaction, table: &Lsm| drop(keys(tx.range(table, [20]..[50])));
    for key in [20, 21, 40, 45, 49] {
        assert!(notices(all, put(key)), "{key}");
    }
    for key in [19, 50, 51] {
        assert!(!notices(all, put(key)), "{key}");
    }
    assert!(notices(all, |_, table| table.delete_range([0]..[21]).unwrap()));
    assert!(notices(all, |_, table| table.delete_range([41]..[42]).unwrap()), "of nothing");
    assert!(!notices(all, |_, table| table.delete_range([50]..[60]).unwrap()));
    let none = |tx: &mut Transaction, table: &Lsm| drop(keys(tx.range(table, [41]..[45])));
    assert!(notices(none, put(43)));
    assert!(!notices(none, put(45)));
    let whole = |tx: &mut Transaction, table: &Lsm| drop(keys(tx.iter(table)));
    assert!(notices(whole, put(255)));
}

#[test]
fn an_iterator_has_read_as_far_as_it_came() {
    let two = |tx: &mut Transaction, table: &Lsm| {
        let mut entries = tx.range(table, [15]..);
        entries.next().unwrap().unwrap();
        assert_eq!(entries.next().unwrap().unwrap().0[0], 30);
    };
    for (key, seen) in [(14, false), (15, true), (25, true), (30, true), (31, false), (90, false)] {
        assert_eq!(notices(two, put(key)), seen, "{key}");
    }
    let sought = |tx: &mut Transaction, table: &Lsm| {
        let mut entries = tx.range(table, [15]..);
        assert_eq!(entries.next().unwrap().unwrap().0[0], 20);
        entries.seek([55]);
        assert_eq!(entries.next().unwrap().unwrap().0[0], 60);
    };
    for (key, seen) in [(15, true), (20, true), (21, false), (54, false), (55, true), (60, true)] {
        assert_eq!(notices(sought, put(key)), seen, "{key}");
    }
    let back = |tx: &mut Transaction, table: &Lsm| {
        let mut entries = tx.range(table, ..[55]);
        assert_eq!(entries.next_back_ref().unwrap().unwrap().0, [50]);
        assert_eq!(entries.next_back_ref().unwrap().unwrap().0, [40]);
    };
    for (key, seen) in [(10, false), (39, false), (40, true), (54, true), (55, false)] {
        assert_eq!(notices(back, put(key)), seen, "{key}");
    }
    let both = |tx: &mut Transaction, table: &Lsm| {
        let mut entries = tx.iter(table);
        entries.next().unwrap().unwrap();
        entries.next_back().unwrap().unwrap();
    };
    for (key, seen) in [(0, true), (10, true), (11, false), (89, false), (90, true), (91, true)] {
        assert_eq!(notices(both, put(key)), seen, "{key}");
    }
    let met = |tx: &mut Transaction, table: &Lsm| {
        let mut entries = tx.range(table, [10]..=[30]);
        entries.next().unwrap().unwrap();
        entries.next_back().unwrap().unwrap();
        entries.next().unwrap().unwrap();
        assert!(entries.next().is_none());
    };
    assert!(notices(met, put(25)));
    let unmoved = |tx: &mut Transaction, table: &Lsm| drop(tx.iter(table));
    assert!(!notices(unmoved, put(10)), "it read nothing");
}

#[test]
fn an_iterator_that_still_goes_on_counts() {
    let db = still();
    db.lsm("results").unwrap();
    let table = tens(&db, "table");
    let mut entries = None;
    let tx = after(&db, |tx| entries = Some(tx.iter(&table)));
    entries.as_mut().unwrap().next().unwrap().unwrap();
    table.insert(&[5], b"").unwrap();
    conflicts(tx);
    assert_eq!(entries.unwrap().count(), 8);
}

#[test]
fn neighbours_and_ends() {
    let first = |tx: &mut Transaction, table: &Lsm| drop(tx.first(table).unwrap());
    assert!(notices(first, put(5)));
    assert!(!notices(first, put(11)));
    let last = |tx: &mut Transaction, table: &Lsm| drop(tx.last(table).unwrap());
    assert!(notices(last, put(95)));
    assert!(!notices(last, put(89)));
    let next = |tx: &mut Transaction, table: &Lsm| {
        tx.nearest(table, [31], Side::AtOrAfter).unwrap().unwrap();
    };
    for (key, seen) in [(30, false), (31, true), (40, true), (41, false)] {
        assert_eq!(notices(next, put(key)), seen, "{key}");
    }
    let before = |tx: &mut Transaction, table: &Lsm| {
        tx.nearest(table, [31], Side::Before).unwrap().unwrap();
    };
    for (key, seen) in [(29, false), (30, true), (31, false)] {
        assert_eq!(notices(before, put(key)), seen, "{key}");
    }
    let bounds = |tx: &mut Transaction, table: &Lsm| {
        drop(keys(tx.range_between(table, Excluded(&[30]), Included(&[40]))));
    };
    for (key, seen) in [(30, false), (31, true), (40, true), (41, false)] {
        assert_eq!(notices(bounds, put(key)), seen, "{key}");
    }
    let open = |tx: &mut Transaction, table: &Lsm| {
        drop(keys(tx.range_between(table, Unbounded, Excluded(&[20]))));
    };
    assert!(notices(open, put(0)) && !notices(open, put(20)));
}

#[test]
fn untracked_reads_do_not_count() {
    let untracked = |tx: &mut Transaction, table: &Lsm| {
        tx.insert(table, [12], b"own").unwrap();
        let table = tx.untracked(table);
        assert!(table.contains(&[10]).unwrap() && table.contains(&[12]).unwrap());
        assert_eq!(keys(table.range([10]..[30])), [10, 12, 20]);
    };
    assert!(!notices(untracked, put(10)));
}

#[test]
fn bulk_loads_are_writes_of_their_range() {
    let load = |keys: &'static [u8]| {
        move |_: &Db, table: &Lsm| {
            let entries = keys.iter().map(|key| (Bytes::from(vec![*key]), Bytes::new()));
            table.ingest(&mut entries.map(Ok)).unwrap();
        }
    };
    let get = |tx: &mut Transaction, table: &Lsm| drop(tx.get(table, [31]).unwrap());
    assert!(notices(get, load(&[31])));
    assert!(notices(get, load(&[30, 40])), "only its range is known");
    assert!(!notices(get, load(&[10, 20, 30])));
    assert!(!notices(get, load(&[])));
    let range = |tx: &mut Transaction, table: &Lsm| drop(keys(tx.range(table, [35]..[45])));
    assert!(notices(range, load(&[40])));
    assert!(!notices(range, load(&[45])));
    let db = still();
    let table = tens(&db, "table");
    load(&[31])(&db, &table);
    let mut later = db.transaction();
    later.get(&table, [31]).unwrap().unwrap();
    later.insert(&table, [1], b"").unwrap();
    commits(later);
}

fn load(table: &dyn Table, keys: &[u8]) {
    let entries = keys.iter().map(|key| (Bytes::from(vec![*key]), Bytes::from_static(b"loaded")));
    assert_eq!(table.ingest(&mut entries.map(Ok)).unwrap(), keys.len() as u64);
}

/// A table of that engine, with entries of one byte, in files and in memory, or with none.
fn table_of(db: &Db, engine: Engine, filled: bool) -> Box<dyn Table> {
    let table: Box<dyn Table> = match engine {
        Engine::Btree => Box::new(db.btree("table").unwrap()),
        Engine::Hash => Box::new(db.hash("table").unwrap()),
        _ => Box::new(db.lsm("table").unwrap()),
    };
    for ten in 1..10 * u8::from(filled) {
        table.insert(&[ten * 10], &[ten * 10]).unwrap();
        if ten == 5 {
            table.flush().unwrap();
        }
    }
    table
}

/// Whatever the table held before, and whatever happens to it between the load and the commit.
#[test]
fn bulk_loads_count_in_every_engine() {
    let cases = [Engine::Lsm, Engine::Btree, Engine::Hash].into_iter();
    let cases = cases.flat_map(|engine| [(engine, false), (engine, true)]);
    for ((engine, filled), then) in cases.flat_map(|case| (0..4).map(move |then| (case, then))) {
        let place = format!("{engine}, filled: {filled}, then {then}");
        let db = still();
        db.lsm("results").unwrap();
        let table = table_of(&db, engine, filled);
        let read = |key: u8| after(&db, |tx| drop(tx.get(&*table, [key]).unwrap()));
        let (hit, missed, nothing) = (read(31), read(77), after(&db, |_| ()));
        let looks = db.transaction();
        load(&*table, &[30, 32]);
        match then {
            0 => {}
            1 => load(&*table, &[1, 2]),
            2 => table.insert(&[99], b"later").and_then(|()| table.flush()).unwrap(),
            _ => db.maintain().unwrap(),
        }
        assert!(looks.get(&*table, [32]).unwrap().is_none(), "{place}: it is from before");
        conflicts(hit);
        // Nobody knows the order in which a hash table's loads come.
        if engine == Engine::Hash {
            conflicts(missed)
        } else {
            commits(missed)
        }
        commits(nothing);
        commits(looks);
        commits(read(31));
        assert_eq!(table.get(&[32]).unwrap().unwrap(), b"loaded", "{place}");
    }
}

/// A transaction that did not read what was loaded is no conflict, and comes after it.
#[test]
fn blind_writes_are_written_over_bulk_loads() {
    for engine in [Engine::Lsm, Engine::Btree, Engine::Hash] {
        for filled in [false, true] {
            let db = still();
            let table = table_of(&db, engine, filled);
            let mut tx = db.transaction();
            tx.insert(&*table, [30], b"mine").unwrap();
            tx.remove(&*table, [40]).unwrap();
            load(&*table, &[30, 40, 50]);
            assert_eq!(tx.get(&*table, [30]).unwrap().unwrap(), b"mine");
            assert_eq!(tx.get(&*table, [40]).unwrap(), None);
            commits(tx);
            assert_eq!(table.get(&[30]).unwrap().unwrap(), b"mine");
            assert_eq!(table.get(&[40]).unwrap(), None);
            assert_eq!(table.get(&[50]).unwrap().unwrap(), b"loaded");
        }
    }
}

/// A hash table has no order in which a reader could have stopped.
#[test]
fn any_look_around_a_hash_table_is_a_look_at_all_of_it() {
    let read_one: fn(&mut Transaction, &Hash) =
        |tx, table| drop(tx.iter(table).next().unwrap().unwrap());
    let get: fn(&mut Transaction, &Hash) = |tx, table| drop(tx.get(table, [30]).unwrap());
    let put: fn(&Hash) = |table| table.insert(&[77], b"new").unwrap();
    let overwrite: fn(&Hash) = |table| table.insert(&[30], b"new").unwrap();
    let load: fn(&Hash) = |table| {
        let entries = [[200], [77]].map(|key| Ok((Bytes::copy_from_slice(&key), Bytes::new())));
        table.ingest(&mut entries.into_iter()).unwrap();
    };
    for (read, write, is_conflict) in [
        (read_one, put, true),
        (read_one, overwrite, true),
        (get, put, false),
        (get, overwrite, true),
        (read_one, load, true),
        (get, load, true),
    ] {
        let db = still();
        db.lsm("results").unwrap();
        let table = db.hash("table").unwrap();
        for ten in 1..10_u8 {
            table.insert(&[ten * 10], &[ten * 10]).unwrap();
            if ten == 5 {
                table.flush().unwrap();
            }
        }
        let tx = after(&db, |tx| read(tx, &table));
        write(&table);
        if is_conflict { conflicts(tx) } else { commits(tx) }
    }
}

#[test]
fn a_hash_table_shows_pending_writes() {
    let db = still();
    let table = db.hash("table").unwrap();
    for key in 0..100_u8 {
        table.insert(&[key], &[key]).unwrap();
        if key == 50 {
            table.flush().unwrap();
        }
    }
    let mut tx = db.transaction();
    tx.insert(&table, [7], b"new").unwrap();
    tx.insert(&table, [200], b"new").unwrap();
    tx.remove(&table, [8]).unwrap();
    let mut found = keys(tx.iter(&table));
    found.sort_unstable();
    let expected = (0..100).filter(|key| *key != 8).chain([200]);
    assert!(found.into_iter().eq(expected));
    assert_eq!(tx.get(&table, [7]).unwrap().unwrap(), b"new");
    tx.insert(&db.lsm("results").unwrap(), b"both engines", b"").unwrap();
    commits(tx);
    assert_eq!(table.iter().count(), 100);
    let before = db.transaction();
    let later = db.hash("later").unwrap();
    assert!(before.iter(&later).next().is_none());
}

#[test]
fn one_that_wrote_nothing_always_commits() {
    let db = still();
    let table = tens(&db, "table");
    let tx = db.transaction();
    assert_eq!(keys(tx.iter(&table)).len(), 9);
    table.delete_prefix(b"").unwrap();
    assert_eq!(tx.get(&table, [10]).unwrap().unwrap(), [10]);
    commits(tx);
}

#[test]
fn a_batch_of_many_counts_as_all_of_them() {
    let get = |tx: &mut Transaction, table: &Lsm| drop(tx.get(table, b"key 77777").unwrap());
    let many = |skip: usize| {
        move |db: &Db, table: &Lsm| {
            let mut batch = db.batch();
            for number in (0..100_000).filter(|number| *number != skip) {
                batch.insert(table, format!("key {number}"), b"");
            }
            batch.commit_default().unwrap();
        }
    };
    assert!(notices(get, many(0)), "past what is kept of the newest operations");
    assert!(!notices(get, many(77_777)));
}

/// What is checked may lie anywhere: in the newest operations, in memtables that are written,
/// full, or files by now.
#[test]
fn nothing_is_missed_wherever_it_lies() {
    for volume in [0, 50, 500, 2000, 20_000] {
        for hit in [false, true] {
            let db = tiny().memory(64 << 20).open_in_memory().unwrap();
            let table = db.lsm_with("table", &tiny_options()).unwrap();
            let results = db.lsm("results").unwrap();
            table.insert(b"a read", b"").unwrap();
            let mut by_key = db.transaction();
            by_key.get(&table, b"a read").unwrap();
            by_key.insert(&results, b"by key", b"").unwrap();
            let mut by_range = db.transaction();
            by_range.range(&table, &b"a"[..]..b"b").for_each(drop);
            by_range.insert(&results, b"by range", b"").unwrap();
            if hit {
                table.insert(b"a read", b"again").unwrap();
            }
            for number in 0..volume {
                // Long, so that the newest operations are soon not all of them.
                table.insert(format!("filler {number:0200}").as_bytes(), b"some value").unwrap();
            }
            if volume > 500 {
                assert!(table.stats().work.flushes > 1);
                assert!(db.stats().transaction_bytes > 0);
            }
            for tx in [by_key, by_range] {
                if hit { conflicts(tx) } else { commits(tx) }
            }
            assert_eq!((db.stats().transactions, db.stats().transaction_bytes), (0, 0));
        }
    }
}

/// A transaction that is older than what memory holds is refused, and says why; memory is bounded.
#[test]
fn too_old_is_a_conflict_that_says_so() {
    let db = tiny().open_in_memory().unwrap();
    let table = db.lsm_with("table", &tiny_options()).unwrap();
    let quiet = db.lsm("quiet").unwrap();
    table.insert(b"read", b"").unwrap();
    let mut tx = db.transaction();
    tx.get(&table, b"read").unwrap();
    tx.insert(&table, b"result", b"").unwrap();
    let mut other = db.transaction();
    other.get(&quiet, b"read").unwrap();
    other.insert(&table, b"other", b"").unwrap();
    let mut most = 0;
    for number in 0..100_000 {
        table.insert(format!("filler {number}").as_bytes(), &[7; 100]).unwrap();
        most = most.max(db.stats().transaction_bytes);
    }
    assert!((1..=256 << 10).contains(&most), "{most}");
    let refused = tx.commit_default().unwrap_err();
    assert_eq!(refused.kind(), tonearm::ErrorKind::Conflict);
    assert!(refused.to_string().contains("open for so long"), "{refused}");
    commits(other);
    assert_eq!(db.stats().transaction_bytes, 0);
    db.transact(|tx| {
        tx.get(&table, b"read")?;
        tx.insert(&table, b"result", b"")
    })
    .unwrap();
}

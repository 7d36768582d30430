//! Random transactions of many threads over tables of all engines, written down, and a proof for
//! each run that they might have run one after the other.
//!
//! Every value names the transaction that wrote it, and every commit says after which operation it
//! came, so the order of versions is known; see [`checker`] for what follows from it. With checks
//! switched off the same runs must be found out. Bulk loads take part as transactions that only
//! write.
//!
//! `TONEARM_SEED=7 cargo test --test history` runs one seed; `TONEARM_EFFORT=ci` more and longer.

mod checker;
mod run;

use checker::{Transaction, check_order, check_snapshots, last_state, settle};
use run::{Loads, Run, Setup};
use std::collections::BTreeMap;
use tonearm::{Entries, Table};

fn seeds() -> Vec<u64> {
    match (std::env::var("TONEARM_SEED"), std::env::var("TONEARM_EFFORT").as_deref()) {
        (Ok(seed), _) => vec![seed.parse().unwrap()],
        (_, Ok("ci")) => (0..200).collect(),
        _ => (0..12).collect(),
    }
}

/// What is in the tables in the end.
fn found(run: &Run) -> BTreeMap<checker::Key, u64> {
    let of = |(table, entries): (u8, Entries)| {
        entries.map(move |entry| {
            let (key, value) = entry.unwrap();
            ((table, run::key_number(&key)), run::version(&value))
        })
    };
    let tables = run.ordered.iter().map(|table| table.iter()).chain([run.hash.iter()]);
    (0..).zip(tables).flat_map(of).collect()
}

/// Fails unless the history of a run is in order.
fn check(setup: &Setup, seed: u64) -> (usize, usize) {
    let run = Run::new(setup, seed);
    let (mut history, refused) = run.all();
    settle(&mut history);
    let place = format!("{setup:?}, TONEARM_SEED={seed}");
    check_snapshots(&history).unwrap_or_else(|anomaly| panic!("{anomaly}\n{place}"));
    check_order(&history).unwrap_or_else(|anomaly| panic!("{anomaly}\n{place}"));
    assert_eq!(found(&run), last_state(&history), "{place}");
    let stats = run.db.stats();
    assert_eq!((stats.transactions, stats.transaction_bytes), (0, 0), "{place}");
    run.db.verify().unwrap();
    (history.len(), refused)
}

fn check_all(setup: &Setup) {
    let all = seeds().into_iter().map(|seed| check(setup, seed));
    let (committed, refused) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{setup:?}: {committed} commits, {refused} conflicts");
    assert!(committed > refused / 10 && refused > 0, "{committed} commits, {refused} conflicts");
}

#[test]
fn transactions_are_serializable() {
    check_all(&Setup { threads: 4, keys: 16, ..Setup::default() });
}

#[test]
fn so_are_many_on_few_keys() {
    check_all(&Setup { threads: 8, keys: 4, transactions: 150, ..Setup::default() });
}

#[test]
fn so_are_slow_ones_while_memtables_become_files() {
    check_all(&Setup { keys: 300, padding: 300, slow: true, ..Setup::default() });
}

#[test]
fn so_are_they_without_background_threads() {
    check_all(&Setup { workers: 0, padding: 300, keys: 40, ..Setup::default() });
}

#[test]
fn so_are_they_amid_a_flood() {
    let setup = Setup { flood: true, transactions: 20, keys: 6, padding: 300, ..Setup::default() };
    check_all(&Setup { memory: 128 << 20, ..setup });
}

/// Bulk loads come while no transaction commits, but while some begin, read, and are open: a load
/// has one place in the order of commits, and may overwrite what they wrote.
#[test]
fn so_are_they_between_bulk_loads() {
    check_all(&Setup { loads: Loads::Between, keys: 16, ..Setup::default() });
}

#[test]
fn so_are_they_between_bulk_loads_without_background_threads() {
    let setup = Setup { loads: Loads::Between, workers: 0, padding: 300, ..Setup::default() };
    check_all(&Setup { keys: 40, ..setup });
}

/// Bulk loads come at any time, to keys that nobody else writes.
#[test]
fn so_are_they_beside_bulk_loads() {
    check_all(&Setup { loads: Loads::Beside, keys: 16, ..Setup::default() });
}

#[test]
fn so_are_slow_ones_beside_bulk_loads() {
    let setup = Setup { loads: Loads::Beside, keys: 200, padding: 300, ..Setup::default() };
    check_all(&Setup { slow: true, ..setup });
}

/// What they would have to be checked against does not fit: they are refused, not let through.
#[test]
fn so_are_they_in_little_memory() {
    let setup = Setup { flood: true, transactions: 20, keys: 6, padding: 300, ..Setup::default() };
    check_all(&Setup { memory: 1 << 20, ..setup });
}

/// The runs are wild enough, and the checker sharp enough, that what goes wrong would be seen.
#[test]
fn without_checks_anomalies_are_found() {
    let setup = |loads| Setup { checked: false, loads, ..Setup::default() };
    let is_found = |seed: u64| {
        let loads = if seed.is_multiple_of(2) { Loads::None } else { Loads::Between };
        let run = Run::new(&setup(loads), seed);
        let (mut history, refused): (Vec<Transaction>, usize) = run.all();
        settle(&mut history);
        assert_eq!(refused, 0);
        check_snapshots(&history).unwrap();
        check_order(&history).is_err()
    };
    let (found, all) = (seeds().into_iter().filter(|seed| is_found(*seed)).count(), seeds().len());
    println!("anomalies in {found} of {all} runs");
    assert!(found * 2 > all, "anomalies in {found} of {all} runs");
}

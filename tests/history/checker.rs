//! Whether what some transactions saw can be explained by an order in which they ran one after the
//! other.
//!
//! The order of the versions of each key is known, so this is the direct serialization graph of
//! Adya (Weak consistency: a generalized theory and optimistic implementations, 1999): an arrow
//! leads from a transaction to one that must have come later, because it read what the first wrote,
//! overwrote it, or overwrote what the first had read. There is an order exactly if there is no
//! circle. A read of a range is a read of every key in it, also of those that were not there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

/// A key of some table.
pub(crate) type Key = (u8, u16);
/// The number of a transaction; what it wrote to a key is the version of this number.
pub(crate) type Number = u64;

/// A place in the order of all writes: after that operation, and after that bulk load. Loads have
/// no place among operations but the one between those before and after, and are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) operation: u64,
    pub(crate) load: u64,
}

impl Moment {
    const END: Moment = Moment { operation: u64::MAX, load: u64::MAX };

    fn sees(self, write: Moment) -> bool {
        write.operation <= self.operation && write.load <= self.load
    }
}

/// What one committed transaction did, or one bulk load, which only writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) number: Number,
    /// When its snapshot was taken.
    pub(crate) snapshot: Moment,
    /// So many loads more may be in the snapshot, which became visible at about the same time.
    pub(crate) loads_meanwhile: u64,
    /// When it was committed; its snapshot if it wrote nothing.
    pub(crate) commit: Moment,
    /// What it found of keys it had not written itself: a version, or nothing.
    pub(crate) reads: Vec<(Key, Option<Number>)>,
    /// Whether it left a value or removed the key.
    pub(crate) writes: BTreeMap<Key, bool>,
}

/// Why one transaction must have come after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It overwrote what the other wrote.
    Overwrote(Key),
    /// It read what the other wrote.
    Read(Key),
    /// It overwrote what the other had read.
    Changed(Key),
}

/// What cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Anomaly {
    /// A version that no committed transaction wrote, or not to this key.
    NotCommitted { reader: Number, key: Key, version: Number },
    /// Not what was there when the snapshot was taken.
    NotTheSnapshot { reader: Number, key: Key, found: Option<Number>, expected: Option<Number> },
    /// Each of these must have come after the one before it, and the first after the last.
    Circle(Vec<(Number, Why)>),
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anomaly::Circle(steps) => {
                writeln!(f, "no order explains this:")?;
                for (number, why) in steps {
                    writeln!(f, "  then {number}, which {why:?}")?;
                }
                Ok(())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// The versions of a key in their order: who made each, after which operation, and whether there
/// is a value.
type Versions = BTreeMap<Key, Vec<(Moment, Number, bool)>>;

/// The first circle, if there is one, or else the first read of what was not committed.
pub(crate) fn check_order(all: &[Transaction]) -> Result<(), Anomaly> {
    let versions = versions(all);
    let mut arrows: HashMap<Number, BTreeSet<(Number, Why)>> = HashMap::new();
    let mut arrow = |from: Number, to: Number, why| {
        if from != to && from != 0 {
            arrows.entry(from).or_default().insert((to, why));
        }
    };
    for (key, versions) in &versions {
        for pair in versions.windows(2) {
            arrow(pair[0].1, pair[1].1, Why::Overwrote(*key));
        }
    }
    for reader in all {
        for (key, found) in &reader.reads {
            let none = Vec::new();
            let versions = versions.get(key).unwrap_or(&none);
            let place =
                place_of(versions, *found, reader.snapshot).ok_or(Anomaly::NotCommitted {
                    reader: reader.number,
                    key: *key,
                    version: found.unwrap_or(0),
                })?;
            if let Some(before) = place.checked_sub(1) {
                arrow(versions[before].1, reader.number, Why::Read(*key));
            }
            if let Some((_, writer, _)) = versions.get(place) {
                arrow(reader.number, *writer, Why::Changed(*key));
            }
        }
    }
    circle(&arrows).map_or(Ok(()), |circle| Err(Anomaly::Circle(circle)))
}

/// Whether a load was in a snapshot that was taken while it became visible is not known: if one
/// answer explains all that was read, it is that.
pub(crate) fn settle(all: &mut [Transaction]) {
    let versions = versions(all);
    for reader in all.iter_mut().filter(|reader| reader.loads_meanwhile > 0) {
        let explains = |snapshot: &Moment| {
            let seen = |key| seen(versions.get(key).map_or(&[], Vec::as_slice), *snapshot);
            reader.reads.iter().all(|(key, found)| *found == seen(key))
        };
        let loads = reader.snapshot.load..=reader.snapshot.load + reader.loads_meanwhile;
        let mut snapshots = loads.map(|load| Moment { load, ..reader.snapshot });
        if let Some(snapshot) = snapshots.find(explains) {
            reader.snapshot = snapshot;
        }
    }
}

/// Whether each read found what was there at its transaction's snapshot.
pub(crate) fn check_snapshots(all: &[Transaction]) -> Result<(), Anomaly> {
    let versions = versions(all);
    for reader in all {
        for (key, found) in &reader.reads {
            let expected = seen(versions.get(key).map_or(&[], Vec::as_slice), reader.snapshot);
            if *found != expected {
                let (reader, key, found) = (reader.number, *key, *found);
                return Err(Anomaly::NotTheSnapshot { reader, key, found, expected });
            }
        }
    }
    Ok(())
}

/// What is there in the end.
pub(crate) fn last_state(all: &[Transaction]) -> BTreeMap<Key, Number> {
    let versions = versions(all);
    let last = |versions: &[(Moment, Number, bool)]| seen(versions, Moment::END);
    versions.iter().filter_map(|(key, versions)| Some((*key, last(versions)?))).collect()
}

fn versions(all: &[Transaction]) -> Versions {
    let mut versions = Versions::new();
    for tx in all {
        for (key, is_there) in &tx.writes {
            versions.entry(*key).or_default().push((tx.commit, tx.number, *is_there));
        }
    }
    versions.values_mut().for_each(|versions| versions.sort_unstable());
    versions
}

fn seen(versions: &[(Moment, Number, bool)], at: Moment) -> Option<Number> {
    let newest = versions.iter().rev().find(|(commit, ..)| at.sees(*commit))?;
    newest.2.then_some(newest.1)
}

/// How many versions were made up to the one that was found. Nothing at all is found before the
/// first, and after each removal: then the newest of those before the snapshot is meant.
fn place_of(
    versions: &[(Moment, Number, bool)],
    found: Option<Number>,
    snapshot: Moment,
) -> Option<usize> {
    let is_it = |(commit, number, is_there): &(Moment, Number, bool)| match found {
        Some(found) => *number == found && *is_there,
        None => !is_there && snapshot.sees(*commit),
    };
    match versions.iter().rposition(is_it) {
        Some(at) => Some(at + 1),
        None => found.is_none().then_some(0),
    }
}

/// A circle in the graph: a walk in depth that comes back to where it has been on its way.
fn circle(arrows: &HashMap<Number, BTreeSet<(Number, Why)>>) -> Option<Vec<(Number, Why)>> {
    let mut done = BTreeSet::new();
    let mut starts: Vec<Number> = arrows.keys().copied().collect();
    starts.sort_unstable();
    for start in starts {
        // The way here: each with the reason it came by, and what is left to try.
        let mut way: Vec<(Number, Option<Why>, Vec<(Number, Why)>)> = Vec::new();
        let enter = |number: Number, why| {
            let left = arrows.get(&number).into_iter().flatten().copied().collect();
            (number, why, left)
        };
        if !done.contains(&start) {
            way.push(enter(start, None));
        }
        while let Some((number, _, left)) = way.last_mut() {
            let Some((next, why)) = left.pop() else {
                done.insert(*number);
                way.pop();
                continue;
            };
            if let Some(at) = way.iter().position(|(number, ..)| *number == next) {
                let inside = way[at + 1..].iter().filter_map(|(n, why, _)| Some((*n, (*why)?)));
                return Some(inside.chain([(next, why)]).collect());
            }
            if !done.contains(&next) {
                way.push(enter(next, Some(why)));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Key = (0, 1);
    const B: Key = (1, 1);

    /// A transaction with a snapshot, reads, a commit, and writes of values.
    fn tx(
        number: Number,
        snapshot: u64,
        reads: &[(Key, Option<Number>)],
        commit: u64,
        writes: &[Key],
    ) -> Transaction {
        let writes = writes.iter().map(|key| (*key, true)).collect();
        let at = |operation| Moment { operation, load: 0 };
        let (snapshot, commit, reads) = (at(snapshot), at(commit), reads.to_vec());
        Transaction { number, snapshot, loads_meanwhile: 0, commit, reads, writes }
    }

    fn setting() -> Transaction {
        tx(1, 0, &[], 1, &[A, B])
    }

    #[track_caller]
    fn has_a_circle_of(all: &[Transaction], mut numbers: Vec<Number>) {
        match check_order(all) {
            Err(Anomaly::Circle(steps)) => {
                let mut found: Vec<Number> = steps.iter().map(|(number, _)| *number).collect();
                found.sort_unstable();
                numbers.sort_unstable();
                assert_eq!(found, numbers, "{steps:?}");
            }
            other => panic!("no circle was found: {other:?}"),
        }
    }

    #[test]
    fn serial_histories_pass() {
        let one = tx(2, 1, &[(A, Some(1)), ((0, 9), None)], 2, &[A]);
        let two = tx(3, 2, &[(A, Some(2)), (B, Some(1))], 4, &[B, (0, 9)]);
        let look = tx(4, 4, &[(A, Some(2)), (B, Some(3)), ((0, 9), Some(3))], 4, &[]);
        let mut gone = tx(5, 4, &[(A, Some(2))], 5, &[]);
        gone.writes.insert(A, false);
        let missing = tx(6, 5, &[(A, None)], 5, &[]);
        let blind = [tx(7, 1, &[], 6, &[A]), tx(8, 1, &[], 7, &[A])];
        let mut all = vec![setting(), one, two, look, gone, missing];
        all.extend(blind);
        check_order(&all).unwrap();
        check_snapshots(&all).unwrap();
        assert_eq!(last_state(&all), [((0, 1), 8), ((0, 9), 3), ((1, 1), 3)].into());
    }

    #[test]
    fn a_lost_update_is_found() {
        let both = |number, commit| tx(number, 1, &[(A, Some(1))], commit, &[A]);
        has_a_circle_of(&[setting(), both(2, 2), both(3, 3)], vec![2, 3]);
    }

    #[test]
    fn write_skew_is_found() {
        let reads = [(A, Some(1)), (B, Some(1))];
        let (one, two) = (tx(2, 1, &reads, 2, &[A]), tx(3, 1, &reads, 3, &[B]));
        has_a_circle_of(&[setting(), one, two], vec![2, 3]);
    }

    #[test]
    fn a_phantom_is_found() {
        let range = |found: Option<Number>| [((0, 5), found), ((0, 6), None)];
        let one = tx(2, 1, &range(None), 2, &[(0, 5)]);
        let two = tx(3, 1, &range(None), 3, &[(0, 6)]);
        has_a_circle_of(&[setting(), one.clone(), two], vec![2, 3]);
        let after = tx(3, 2, &range(Some(2)), 3, &[(0, 6)]);
        check_order(&[setting(), one, after]).unwrap();
    }

    #[test]
    fn read_skew_is_found() {
        let moved = tx(2, 1, &[], 3, &[A, B]);
        let torn = tx(3, 1, &[(A, Some(1)), (B, Some(2))], 1, &[]);
        let all = [setting(), moved, torn];
        has_a_circle_of(&all, vec![2, 3]);
        assert!(matches!(check_snapshots(&all), Err(Anomaly::NotTheSnapshot { reader: 3, .. })));
    }

    #[test]
    fn the_anomaly_of_a_reader_that_only_reads_is_found() {
        // Fekete, O'Neil, O'Neil: A read-only transaction anomaly under snapshot isolation, 2004.
        let deposit = tx(2, 1, &[(B, Some(1))], 2, &[B]);
        let look = tx(3, 2, &[(A, Some(1)), (B, Some(2))], 2, &[]);
        let withdraw = tx(4, 1, &[(A, Some(1)), (B, Some(1))], 3, &[A]);
        has_a_circle_of(&[setting(), deposit, look, withdraw], vec![2, 3, 4]);
    }

    #[test]
    fn a_long_circle_is_found() {
        let keys: Vec<Key> = (0..10).map(|n| (2, n)).collect();
        let ring =
            |n: usize| tx(n as u64 + 2, 1, &[(keys[n], None)], n as u64 + 2, &[keys[(n + 1) % 10]]);
        let all: Vec<Transaction> = (0..10).map(ring).collect();
        has_a_circle_of(&all, (2..12).collect());
        check_order(&all[1..]).unwrap();
    }

    #[test]
    fn loads_have_their_place() {
        let mut load = tx(2, 0, &[], 1, &[A, B]);
        load.commit.load = 1;
        let mut before = tx(3, 1, &[(A, Some(1))], 1, &[]);
        before.loads_meanwhile = 1;
        let mut after = Transaction { reads: vec![(A, Some(2))], number: 4, ..before.clone() };
        let over = tx(5, 1, &[], 2, &[A]);
        let mut all = vec![setting(), load.clone(), before, after.clone(), over];
        assert!(check_snapshots(&all).is_err(), "the snapshots are not settled");
        settle(&mut all);
        check_snapshots(&all).unwrap();
        check_order(&all).unwrap();
        assert_eq!(last_state(&all), [(A, 5), (B, 2)].into());
        after.reads.push((B, Some(1)));
        let mut torn = vec![setting(), load.clone(), after];
        settle(&mut torn);
        assert!(check_snapshots(&torn).is_err(), "half of a load");
        let overlooked = tx(6, 1, &[(A, Some(1))], 2, &[A]);
        has_a_circle_of(&[setting(), load, overlooked], vec![2, 6]);
    }

    #[test]
    fn reads_of_what_was_never_committed_are_found() {
        let dirty = tx(2, 1, &[(A, Some(77))], 1, &[]);
        assert!(matches!(
            check_order(&[setting(), dirty]),
            Err(Anomaly::NotCommitted { reader: 2, version: 77, .. })
        ));
    }
}

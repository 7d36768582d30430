//! Iterators that seek, against an ordered map.

use super::{kind, quiet};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included},
    sync::Arc,
};
use tonearm::{Entries, ErrorKind, OrderedTable, Table, vfs::mem::MemFolder};

const KEYS: u8 = 60;

#[derive(Clone, Copy, Debug)]
enum Step {
    Next,
    NextBack,
    Seek(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Next),
        2 => Just(Step::NextBack),
        3 => (0..=KEYS).prop_map(Step::Seek),
    ]
}

/// An iterator over stored keys as one would write it for a set.
struct Expected {
    keys: BTreeSet<u8>,
    /// The front yields keys from here on, the back keys below.
    from: u8,
    to: u8,
    start: u8,
}

impl Expected {
    fn next(&mut self) -> Option<u8> {
        let key = *self.keys.range(self.from..self.to.max(self.from)).next()?;
        self.from = key + 1;
        Some(key)
    }

    fn next_back(&mut self) -> Option<u8> {
        let key = *self.keys.range(self.from..self.to.max(self.from)).next_back()?;
        self.to = key;
        Some(key)
    }
}

fn compare(mut entries: Entries, mut expected: Expected, steps: &[Step]) {
    // An iterator that came to its end stays there, but for a seek.
    let mut is_done = false;
    for step in steps {
        let (found, wanted) = match step {
            Step::Next => (entries.next(), if is_done { None } else { expected.next() }),
            Step::NextBack => {
                (entries.next_back(), if is_done { None } else { expected.next_back() })
            }
            Step::Seek(key) => {
                entries.seek([*key]);
                expected.from = expected.start.max(*key);
                is_done = false;
                continue;
            }
        };
        is_done |= wanted.is_none();
        assert_eq!(found.map(|entry| entry.unwrap().0[0]), wanted, "{step:?} of {steps:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn seeks_go_anywhere_in_the_range(
        settled in vec(0..KEYS, 0..40),
        deleted in vec(0..KEYS, 0..10),
        fresh in vec(0..KEYS, 0..10),
        start in 0..KEYS / 2,
        end in KEYS / 2..KEYS,
        steps in vec(any_step(), 1..40),
    ) {
        let db = quiet().open_in(Arc::new(MemFolder::default())).unwrap();
        let tables: [Box<dyn OrderedTable>; 2] =
            [Box::new(db.lsm("lsm").unwrap()), Box::new(db.btree("btree").unwrap())];
        for table in tables {
            settled.iter().for_each(|key| table.insert(&[*key], b"settled").unwrap());
            table.flush().unwrap();
            deleted.iter().for_each(|key| table.remove(&[*key]).unwrap());
            fresh.iter().for_each(|key| table.insert(&[*key], b"fresh").unwrap());
            let mut keys: BTreeSet<u8> = settled.iter().copied().collect();
            keys.retain(|key| !deleted.contains(key));
            keys.extend(&fresh);
            let expected = Expected { keys, from: start, to: end, start };
            let entries = table.range_between(Included(&[start]), Excluded(&[end]));
            compare(entries, expected, &steps);
        }
    }
}

#[test]
fn hash_tables_have_no_order_to_seek_in() {
    let db = quiet().open_in(Arc::new(MemFolder::default())).unwrap();
    let cards = db.hash("cards").unwrap();
    cards.insert(b"a", b"1").unwrap();
    let mut entries = cards.iter();
    entries.seek("a");
    for _ in 0..2 {
        assert_eq!(entries.next().and_then(kind), Some(ErrorKind::Misuse));
    }
}

#[test]
fn an_iterator_of_nothing_may_seek() {
    let db = quiet().open_in(Arc::new(MemFolder::default())).unwrap();
    let before = db.snapshot();
    let table = db.lsm("table").unwrap();
    table.insert(b"b", b"1").unwrap();
    let mut none = table.at(&before).iter();
    none.seek("a");
    assert!(none.next().is_none());
    let mut empty = table.range("c".."a");
    empty.seek("a");
    assert!(empty.next().is_none());
}

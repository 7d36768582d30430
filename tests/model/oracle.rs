//! What a table should hold, and whether it does.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};
use tonearm::{Entries, OrderedTable, Result, Side, Table, TableAt, Value};

/// What a table should hold. Cheap enough to keep a copy for each snapshot.
pub(crate) type Oracle = BTreeMap<Arc<[u8]>, Arc<[u8]>>;
/// An entry of an [`Oracle`].
pub(crate) type Entry = (Arc<[u8]>, Arc<[u8]>);

/// What tables and tables at a snapshot have in common.
pub(crate) trait Reads {
    fn value_of(&self, key: &[u8]) -> Result<Option<Value>>;
    fn copy_of(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    fn values_of(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>>;
    fn has(&self, key: &[u8]) -> Result<bool>;
    fn all(&self) -> Entries;
    fn within(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries;
    fn starting(&self, prefix: &[u8]) -> Entries;
    fn smallest(&self) -> Result<Option<(Value, Value)>>;
    fn greatest(&self) -> Result<Option<(Value, Value)>>;
    fn next_to(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>>;
}

macro_rules! reads {
    ($type:ty, $all:ident, $ordered:ident) => {
        impl Reads for $type {
            fn value_of(&self, key: &[u8]) -> Result<Option<Value>> {
                $all::get(self, key)
            }
            fn copy_of(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
                self.get_with(key, <[u8]>::to_vec)
            }
            fn values_of(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
                $all::get_many(self, keys)
            }
            fn has(&self, key: &[u8]) -> Result<bool> {
                $all::contains(self, key)
            }
            fn all(&self) -> Entries {
                $all::iter(self)
            }
            fn within(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries {
                $ordered::range_between(self, start, end)
            }
            fn starting(&self, prefix: &[u8]) -> Entries {
                $ordered::prefix(self, prefix)
            }
            fn smallest(&self) -> Result<Option<(Value, Value)>> {
                $ordered::first(self)
            }
            fn greatest(&self) -> Result<Option<(Value, Value)>> {
                $ordered::last(self)
            }
            fn next_to(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>> {
                $ordered::nearest(self, key, side)
            }
        }
    };
}

reads!(dyn OrderedTable, Table, OrderedTable);
reads!(TableAt, TableAt, TableAt);

/// Entries between two bounds, which may be the wrong way round.
pub(crate) fn between(oracle: &Oracle, start: Bound<&[u8]>, end: Bound<&[u8]>) -> VecDeque<Entry> {
    let above = |key: &[u8]| match start {
        Bound::Included(bound) => key >= bound,
        Bound::Excluded(bound) => key > bound,
        Bound::Unbounded => true,
    };
    let below = |key: &[u8]| match end {
        Bound::Included(bound) => key <= bound,
        Bound::Excluded(bound) => key < bound,
        Bound::Unbounded => true,
    };
    let inside = oracle.iter().filter(|(key, _)| above(key) && below(key));
    inside.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Entries whose keys start with `prefix`.
pub(crate) fn prefixed(oracle: &Oracle, prefix: &[u8]) -> VecDeque<Entry> {
    let inside = oracle.iter().filter(|(key, _)| key.starts_with(prefix));
    inside.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The entry next to `key`.
pub(crate) fn nearest<'a>(
    oracle: &'a Oracle,
    key: &[u8],
    side: Side,
) -> Option<(&'a [u8], &'a [u8])> {
    use Bound::{Excluded, Included, Unbounded};
    let range = |start, end| oracle.range::<[u8], _>((start, end));
    let found = match side {
        Side::Before => range(Unbounded, Excluded(key)).next_back(),
        Side::AtOrBefore => range(Unbounded, Included(key)).next_back(),
        Side::AtOrAfter => range(Included(key), Unbounded).next(),
        Side::After => range(Excluded(key), Unbounded).next(),
    };
    found.map(|(key, value)| (&**key, &**value))
}

/// The bounds as the library takes them.
pub(crate) fn borrowed(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Fails unless the entry is the one expected.
#[track_caller]
pub(crate) fn same(found: Option<(&[u8], &[u8])>, expected: Option<(&[u8], &[u8])>, what: &str) {
    if found != expected {
        panic!("{what}: found {}, expected {}", shown(found), shown(expected));
    }
}

fn shown(entry: Option<(&[u8], &[u8])>) -> String {
    let short = |bytes: &[u8]| {
        let head = &bytes[..bytes.len().min(20)];
        format!("\"{}\" ({} bytes)", head.escape_ascii(), bytes.len())
    };
    entry.map_or("nothing".into(), |(key, value)| format!("{} = {}", short(key), short(value)))
}

/// Fails unless the iterator yields exactly what is expected.
#[track_caller]
pub(crate) fn all_same(entries: Entries, expected: &VecDeque<Entry>, what: &str) {
    let mut entries = entries;
    for (key, value) in expected {
        let entry = entries.next().transpose().unwrap();
        same(entry.as_ref().map(|(k, v)| (&**k, &**v)), Some((key, value)), what);
    }
    let rest = entries.next().transpose().unwrap();
    same(rest.as_ref().map(|(k, v)| (&**k, &**v)), None, what);
}

/// The same, from the back, without copies.
#[track_caller]
pub(crate) fn all_same_back(mut entries: Entries, expected: &VecDeque<Entry>, what: &str) {
    for (key, value) in expected.iter().rev() {
        same(entries.next_back_ref().transpose().unwrap(), Some((key, value)), what);
    }
    same(entries.next_back_ref().transpose().unwrap(), None, what);
}

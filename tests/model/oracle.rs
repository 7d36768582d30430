//! What a table should hold, and whether it does.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Bound, Deref},
    sync::Arc,
};
use tonearm::{Db, Engine, Entries, OrderedTable, Result, Side, Snapshot, Table, TableAt, Value};

/// What a table should hold. Cheap enough to keep a copy for each snapshot.
pub(crate) type Oracle = BTreeMap<Arc<[u8]>, Arc<[u8]>>;
/// An entry of an [`Oracle`].
pub(crate) type Entry = (Arc<[u8]>, Arc<[u8]>);

/// A table of any engine.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Ordered(Arc<dyn OrderedTable>),
    Hash(Arc<dyn Table>),
}

impl Handle {
    /// The table of that name.
    pub(crate) fn open(db: &Db, name: &str) -> Result<Self> {
        Ok(match db.table(name)?.engine() {
            Engine::Hash => Handle::Hash(Arc::new(db.hash(name)?)),
            Engine::Btree => Handle::Ordered(Arc::new(db.btree(name)?)),
            _ => Handle::Ordered(Arc::new(db.lsm(name)?)),
        })
    }

    /// The same, if it is in key order.
    pub(crate) fn ordered(&self) -> Option<&dyn OrderedTable> {
        match self {
            Handle::Ordered(table) => Some(&**table),
            Handle::Hash(_) => None,
        }
    }

    /// The table as it was.
    pub(crate) fn then(&self, snapshot: &Snapshot) -> Then {
        Then { at: self.at(snapshot), is_ordered: self.ordered().is_some() }
    }
}

impl Deref for Handle {
    type Target = dyn Table;

    fn deref(&self) -> &(dyn Table + 'static) {
        match self {
            Handle::Ordered(table) => &**table,
            Handle::Hash(table) => &**table,
        }
    }
}

/// A table at a snapshot.
pub(crate) struct Then {
    pub(crate) at: TableAt,
    pub(crate) is_ordered: bool,
}

/// What tables and tables at a snapshot have in common.
pub(crate) trait Reads {
    fn value_of(&self, key: &[u8]) -> Result<Option<Value>>;
    fn copy_of(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    fn values_of(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>>;
    fn has(&self, key: &[u8]) -> Result<bool>;
    fn all(&self) -> Entries;
    /// The same, if it is in key order.
    fn ranges(&self) -> Option<&dyn Ranges>;
}

/// The same of tables in key order.
pub(crate) trait Ranges {
    fn within(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries;
    fn starting(&self, prefix: &[u8]) -> Entries;
    fn smallest(&self) -> Result<Option<(Value, Value)>>;
    fn greatest(&self) -> Result<Option<(Value, Value)>>;
    fn next_to(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>>;
}

macro_rules! reads {
    ($type:ty, $self:ident, $at:expr, $ranges:expr) => {
        impl Reads for $type {
            fn value_of(&$self, key: &[u8]) -> Result<Option<Value>> {
                $at.get(key)
            }
            fn copy_of(&$self, key: &[u8]) -> Result<Option<Vec<u8>>> {
                $at.get_with(key, <[u8]>::to_vec)
            }
            fn values_of(&$self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
                $at.get_many(keys)
            }
            fn has(&$self, key: &[u8]) -> Result<bool> {
                $at.contains(key)
            }
            fn all(&$self) -> Entries {
                $at.iter()
            }
            fn ranges(&$self) -> Option<&dyn Ranges> {
                $ranges
            }
        }
    };
}

reads!(
    Handle,
    self,
    self,
    match self {
        Handle::Ordered(table) => Some(table),
        Handle::Hash(_) => None,
    }
);
reads!(Then, self, self.at, self.is_ordered.then_some(&self.at));

macro_rules! ranges {
    ($type:ty) => {
        impl Ranges for $type {
            fn within(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Entries {
                self.range_between(start, end)
            }
            fn starting(&self, prefix: &[u8]) -> Entries {
                self.prefix(prefix)
            }
            fn smallest(&self) -> Result<Option<(Value, Value)>> {
                self.first()
            }
            fn greatest(&self) -> Result<Option<(Value, Value)>> {
                self.last()
            }
            fn next_to(&self, key: &[u8], side: Side) -> Result<Option<(Value, Value)>> {
                self.nearest(key, side)
            }
        }
    };
}

ranges!(Arc<dyn OrderedTable>);
ranges!(TableAt);

/// All entries in the order in which the table has them: that of the keys, or, if it is a hash
/// table, the one it shows them in, which has to be all of them, each once.
#[track_caller]
pub(crate) fn in_order(
    table: &(impl Reads + ?Sized),
    oracle: &Oracle,
    what: &str,
) -> VecDeque<Entry> {
    if table.ranges().is_some() {
        return between(oracle, Bound::Unbounded, Bound::Unbounded);
    }
    let mut left = oracle.clone();
    let mut shown = VecDeque::with_capacity(left.len());
    for entry in table.all() {
        let (key, value) = entry.unwrap();
        let expected = left.remove_entry(&*key);
        same(Some((&key, &value)), expected.as_ref().map(|(k, v)| (&**k, &**v)), what);
        shown.extend(expected);
    }
    same(None, left.first_key_value().map(|(key, value)| (&**key, &**value)), what);
    shown
}

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

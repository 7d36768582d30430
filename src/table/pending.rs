//! The writes of a transaction that is not committed: what it alone sees, above all else.
//!
//! Kept as their net effect: keys with their newest value (or none), over ranges that are deleted.
//! A range delete takes away the keys it covers, so a key that is there is newer than all ranges,
//! as [`Cursor`] wants it of every source.
//!
//! Shared with iterators and copied when it is written to while one of them is around. An iterator
//! therefore sees the writes that came before it, and a loop over one may write.

use crate::{
    Result, Value,
    codec::seeded_hash,
    sorted::{Cursor, Kind, Lookup, RangeSet, Span},
};
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

/// A key's value, or `None` where the transaction removed it.
type Write = Option<Value>;

/// The writes to one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    writes: BTreeMap<Value, Write>,
    deleted: RangeSet,
}

/// What takes one write back.
#[derive(Debug)]
pub(crate) enum Undo {
    Key { key: Value, before: Option<Write> },
    Range { deleted: RangeSet, taken: Vec<(Value, Write)> },
}

impl Pending {
    /// What the transaction itself did to `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Lookup<&Value> {
        match self.writes.get(key) {
            Some(Some(value)) => Lookup::Found(value),
            Some(None) => Lookup::Deleted,
            None if self.deleted.covering(key).is_some() => Lookup::Deleted,
            None => Lookup::Missing,
        }
    }

    pub(crate) fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> Undo {
        let key = Value::copied(key);
        let before = self.writes.insert(key.clone(), value.map(Value::copied));
        Undo::Key { key, before }
    }

    /// Deletes the keys of `span`, which is not empty.
    pub(crate) fn delete_range(&mut self, span: Span) -> Undo {
        let end = span.end.clone().map_or(Unbounded, |end| Excluded(end.into()));
        let range = (Included(Value::from(span.start.clone())), end);
        let taken = self.writes.extract_if(range, |_, _| true).collect();
        let deleted = self.deleted.clone();
        self.deleted.add(span);
        Undo::Range { deleted, taken }
    }

    /// Takes the newest write back.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Key { key, before: Some(before) } => {
                self.writes.insert(key, before);
            }
            Undo::Key { key, before: None } => {
                self.writes.remove(&key);
            }
            Undo::Range { deleted, taken } => {
                self.deleted = deleted;
                self.writes.extend(taken);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.deleted.is_empty()
    }

    /// The ranges that are deleted; they come before [`Self::writes`].
    pub(crate) fn deleted(&self) -> &RangeSet {
        &self.deleted
    }

    /// The same for a table in the order of hashes: each key behind its hash. Such tables know no
    /// range deletes.
    pub(crate) fn hashed(&self, seed: u64) -> Self {
        let hashed = |key: &Value| [&seeded_hash(key, seed).to_be_bytes(), &**key].concat();
        let writes = self.writes.iter().map(|(key, write)| (hashed(key).into(), write.clone()));
        Self { writes: writes.collect(), deleted: RangeSet::none() }
    }

    /// Keys with their values, or none for those removed.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&Value, Option<&Value>)> {
        self.writes.iter().map(|(key, write)| (key, write.as_ref()))
    }
}

/// A position among the writes to one table.
pub(crate) struct PendingCursor {
    pending: Arc<Pending>,
    at: Option<(Value, Write)>,
}

impl PendingCursor {
    pub(crate) fn new(pending: Arc<Pending>) -> Self {
        Self { pending, at: None }
    }

    fn go(&mut self, found: impl FnOnce(&BTreeMap<Value, Write>) -> Option<(&Value, &Write)>) {
        let found = found(&self.pending.writes);
        self.at = found.map(|(key, write)| (key.clone(), write.clone()));
    }
}

impl Cursor for PendingCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.go(BTreeMap::first_key_value);
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.go(BTreeMap::last_key_value);
        Ok(())
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.go(|writes| writes.range::<[u8], _>((Included(key), Unbounded)).next());
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.go(|writes| writes.range::<[u8], _>((Unbounded, Excluded(key))).next_back());
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        if let Some((key, _)) = self.at.take() {
            self.go(|writes| writes.range::<[u8], _>((Excluded(&*key), Unbounded)).next());
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if let Some((key, _)) = self.at.take() {
            self.seek_before(&key)?;
        }
        Ok(())
    }

    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn key(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(key, _)| key)
    }

    fn kind(&self) -> Kind {
        match &self.at {
            Some((_, Some(_))) => Kind::Put,
            _ => Kind::Delete,
        }
    }

    fn fetched(&self) -> &[u8] {
        self.at.as_ref().and_then(|(_, write)| write.as_deref()).unwrap_or_default()
    }

    fn pinned_value(&mut self) -> Result<Value> {
        let value = self.at.as_ref().and_then(|(_, write)| write.clone());
        Ok(value.unwrap_or_else(|| Value::copied(&[])))
    }

    fn range_deletes(&self) -> &RangeSet {
        &self.pending.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Remove(u8),
        Delete(u8, u8),
        Undo(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let key = || 0..12_u8;
        prop_oneof![
            (key(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            key().prop_map(Step::Remove),
            (key(), key()).prop_map(|(a, b)| Step::Delete(a.min(b), a.max(b) + 1)),
            (1..4_usize).prop_map(Step::Undo),
        ]
    }

    fn apply(pending: &mut Pending, step: &Step) -> Undo {
        match *step {
            Step::Put(key, value) => pending.write(&[key], Some(&[value])),
            Step::Remove(key) => pending.write(&[key], None),
            Step::Delete(a, b) => pending.delete_range(Span::new(vec![a], Some(vec![b]))),
            Step::Undo(_) => unreachable!("not a write"),
        }
    }

    /// What the newest of `steps` on `key` did to it.
    fn expected(steps: &[Step], key: u8) -> Lookup<u8> {
        let newest = steps.iter().rev().find_map(|step| match *step {
            Step::Put(own, value) if own == key => Some(Lookup::Found(value)),
            Step::Remove(own) if own == key => Some(Lookup::Deleted),
            Step::Delete(a, b) if (a..b).contains(&key) => Some(Lookup::Deleted),
            _ => None,
        });
        newest.unwrap_or(Lookup::Missing)
    }

    proptest! {
        #[test]
        fn answers_as_the_newest_write_that_was_not_undone(steps in vec(any_step(), 0..40)) {
            let (mut pending, mut undos, mut kept) = (Pending::default(), Vec::new(), Vec::new());
            for step in steps {
                if let Step::Undo(count) = step {
                    for _ in 0..count.min(undos.len()) {
                        kept.pop();
                        pending.undo(undos.pop().unwrap());
                    }
                } else {
                    undos.push(apply(&mut pending, &step));
                    kept.push(step);
                }
                for key in 0..14 {
                    let found = match pending.get(&[key]) {
                        Lookup::Found(value) => Lookup::Found(value[0]),
                        Lookup::Deleted => Lookup::Deleted,
                        Lookup::Missing => Lookup::Missing,
                    };
                    prop_assert_eq!(format!("{found:?}"), format!("{:?}", expected(&kept, key)));
                }
                prop_assert_eq!(pending.is_empty(), kept.is_empty());
            }
        }
    }

    #[test]
    fn a_cursor_goes_both_ways() {
        let mut pending = Pending::default();
        for key in [1, 3, 5] {
            pending.write(&[key], (key != 3).then_some(&[key]));
        }
        let mut cursor = PendingCursor::new(Arc::new(pending));
        assert!(!cursor.valid());
        cursor.seek(&[2]).unwrap();
        assert_eq!((cursor.key(), cursor.kind()), (&[3][..], Kind::Delete));
        cursor.next().unwrap();
        assert_eq!(cursor.entry().unwrap(), (&[5][..], &[5][..]));
        cursor.next().unwrap();
        assert!(!cursor.valid());
        cursor.seek_last().unwrap();
        cursor.prev().unwrap();
        cursor.prev().unwrap();
        assert_eq!(cursor.key(), [1]);
        assert_eq!(cursor.pinned_value().unwrap(), [1]);
        cursor.prev().unwrap();
        assert!(!cursor.valid());
        cursor.seek_before(&[1]).unwrap();
        assert!(!cursor.valid());
        cursor.seek_first().unwrap();
        assert_eq!(cursor.key(), [1]);
    }
}

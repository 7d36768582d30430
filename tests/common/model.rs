//! The model: what a database may hold, as sorted maps, after each change that was asked for.
//!
//! After a crash all tables together must be one state of this history: not older than the last
//! change whose durability was acknowledged, not newer than the last one asked for, and never a
//! mixture. A change that failed without anybody knowing whether it happened forks the history:
//! each step of it is a list of possible states.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type State = BTreeMap<String, Arc<Entries>>;
pub(crate) type Name = &'static str;

/// One write to one key or range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Put(Name, Vec<u8>, Vec<u8>),
    Delete(Name, Vec<u8>),
    /// From the first key to before the second, or to the end.
    DeleteRange(Name, Vec<u8>, Option<Vec<u8>>),
}

/// A change that happens as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create(Name),
    Drop(Name),
    Rename(Name, Name),
    Batch(Vec<Write>),
    Transaction(Vec<Write>),
    Ingest(Name, Vec<(Vec<u8>, Vec<u8>)>),
}

impl Write {
    pub(crate) fn table(&self) -> Name {
        match self {
            Write::Put(table, ..) | Write::Delete(table, _) | Write::DeleteRange(table, ..) => {
                table
            }
        }
    }

    /// Writes to a table that is not there are lost with it.
    fn apply(&self, state: &mut State) {
        let Some(entries) = state.get_mut(self.table()).map(Arc::make_mut) else { return };
        match self {
            Write::Put(_, key, value) => drop(entries.insert(key.clone(), value.clone())),
            Write::Delete(_, key) => drop(entries.remove(key)),
            Write::DeleteRange(_, from, to) => {
                let inside = |key: &Vec<u8>| key >= from && to.as_ref().is_none_or(|to| key < to);
                entries.retain(|key, _| !inside(key));
            }
        }
    }
}

impl Change {
    /// Whether it is a transaction that has nothing to commit.
    pub(crate) fn is_nothing(&self) -> bool {
        let is_nothing =
            |write: &Write| matches!(write, Write::DeleteRange(_, from, Some(to)) if to <= from);
        matches!(self, Change::Transaction(writes) if writes.iter().all(is_nothing))
    }

    pub(crate) fn apply(&self, state: &mut State) {
        match self {
            Change::Create(table) => drop(state.entry((*table).to_owned()).or_default()),
            Change::Drop(table) => drop(state.remove(*table)),
            Change::Rename(from, to) => {
                if let Some(entries) = state.remove(*from) {
                    state.insert((*to).to_owned(), entries);
                }
            }
            Change::Batch(writes) | Change::Transaction(writes) => {
                writes.iter().for_each(|write| write.apply(state));
            }
            Change::Ingest(table, added) => {
                if let Some(entries) = state.get_mut(*table).map(Arc::make_mut) {
                    entries.extend(added.iter().cloned());
                }
            }
        }
    }
}

/// The states after each change, and what was promised about them.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    history: Vec<Vec<State>>,
    /// The last state that was acknowledged to survive a power cut, and to survive a kill.
    durable: usize,
    acknowledged: usize,
}

impl Model {
    /// A folder without a database.
    pub(crate) fn new() -> Self {
        Self { history: vec![vec![State::new()]], durable: 0, acknowledged: 0 }
    }

    /// A change is asked for.
    pub(crate) fn issue(&mut self, change: &Change) {
        let mut states = self.now().to_vec();
        states.iter_mut().for_each(|state| change.apply(state));
        self.history.push(states);
    }

    /// All changes so far were acknowledged.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = self.last();
    }

    /// All changes so far were acknowledged, and will survive a power cut.
    pub(crate) fn make_durable(&mut self) {
        self.acknowledge();
        self.durable = self.acknowledged;
    }

    /// The last change failed and certainly did not happen.
    pub(crate) fn refuse(&mut self) {
        self.history.pop();
    }

    /// The last change failed, and may have happened or not.
    pub(crate) fn doubt(&mut self) {
        let before = self.history[self.history.len() - 2].clone();
        if let Some(now) = self.history.last_mut() {
            now.extend(before);
            now.sort();
            now.dedup();
        }
    }

    /// The states that may be visible now: one, unless changes failed.
    pub(crate) fn now(&self) -> &[State] {
        self.history.last().map_or(&[], Vec::as_slice)
    }

    /// The states after every change, all that are possible.
    pub(crate) fn all(&self) -> impl Iterator<Item = &State> {
        self.history.iter().flatten()
    }

    /// The number of changes.
    pub(crate) fn last(&self) -> usize {
        self.history.len() - 1
    }

    /// What is promised now, as one number: see [`Model::window`].
    pub(crate) fn mark(&self) -> u64 {
        (self.durable as u64) << 32 | self.acknowledged as u64
    }

    /// The changes that may be the last one found, when `mark` was the last mark before a crash:
    /// of the machine, or of the process only.
    pub(crate) fn window(&self, mark: Option<u64>, killed: bool) -> RangeInclusive<usize> {
        let (durable, acknowledged) = (mark.unwrap_or(0) >> 32, mark.unwrap_or(0) & 0xffff_ffff);
        let first = if killed { acknowledged } else { durable };
        first as usize..=(acknowledged as usize + 1).min(self.last())
    }

    /// The changes that may be the last one found from now on, after a crash of the machine or of
    /// the process only.
    pub(crate) fn promised(&self, killed: bool) -> RangeInclusive<usize> {
        let first = if killed { self.acknowledged } else { self.durable };
        first..=self.last()
    }

    /// The last change in `found`, if that is a state of the window.
    pub(crate) fn place(&self, window: &RangeInclusive<usize>, found: &State) -> Option<usize> {
        window.clone().rev().find(|at| self.history[*at].contains(found))
    }
}

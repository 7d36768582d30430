//! What a piece of work changes in a hash table's home.

use super::{run::HashRun, runs::HashFile};
use crate::{
    sorted::FileId,
    table::{Change, HomeFile},
};
use std::sync::Arc;

/// A change to the runs, not published yet.
#[derive(Default)]
pub(super) struct Edited {
    /// New files: of one run.
    pub(super) added: Vec<Arc<HashRun>>,
    /// Files no longer needed once this is published.
    pub(super) removed: Vec<FileId>,
    /// The age of that run, if there is one already; `None` for new entries that become the newest
    /// run when published.
    pub(super) age: Option<u64>,
    /// How many entries are new to the table.
    pub(super) entries: u64,
    /// Whether it is a step of a merge.
    pub(super) is_step: bool,
}

impl Edited {
    /// Whether new entries went into a run that was there.
    pub(super) fn is_absorbed(&self) -> bool {
        self.age.is_some() && !self.is_step
    }

    /// What `change` consists of: a hash table's home made it.
    pub(super) fn of(change: Change) -> Self {
        change.detail.downcast().map(|edited| *edited).unwrap_or_default()
    }
}

impl From<Edited> for Change {
    fn from(edited: Edited) -> Self {
        let age = edited.age.unwrap_or(0);
        let file = |run: &Arc<HashRun>| Arc::new(HashFile { run: run.clone(), age });
        let fresh = edited.added.iter().map(|run| file(run) as Arc<dyn HomeFile>).collect();
        Change { fresh, entries: edited.entries, detail: Box::new(edited) }
    }
}

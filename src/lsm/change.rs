//! What changes in an LSM home.

use crate::{
    sorted::{FileId, Run},
    table::{Change, HomeFile},
};
use std::sync::Arc;

/// Runs that a piece of work made, and runs it made superfluous.
#[derive(Default)]
pub(super) struct Edited {
    /// New runs and the level each is for; 0 for new entries, which are placed when staged.
    pub(super) added: Vec<(u8, Arc<Run>)>,
    /// Runs no longer needed.
    pub(super) removed: Vec<FileId>,
    /// Runs that only change level: the file and its new level.
    pub(super) moved: Vec<(FileId, u8)>,
}

impl From<Edited> for Change {
    fn from(edited: Edited) -> Self {
        let runs = || edited.added.iter().map(|(_, run)| run);
        Change {
            fresh: runs().map(|run| run.clone() as Arc<dyn HomeFile>).collect(),
            entries: runs().map(|run| run.meta().entries).sum(),
            detail: Box::new(edited),
        }
    }
}

impl Edited {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.moved.is_empty()
    }

    pub(super) fn of(change: Change) -> Self {
        change.detail.downcast().map(|edited| *edited).unwrap_or_default()
    }
}

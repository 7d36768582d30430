//! The home itself: opening, taking in what memtables held, and publishing changes.

use super::{
    LAST, LsmOptions,
    levels::{Levels, Tree},
    tier::Tier,
    work::Work,
};
use crate::{
    Error, ErrorKind, Result,
    sorted::{Cursor, Run, run_name},
    table::{Change, Home, Job, Settled, Shop, Staged},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::{any::Any, sync::Arc};

/// The home of an LSM table.
pub(crate) struct LsmHome {
    current: ArcSwap<Levels>,
}

impl LsmHome {
    /// A home of these runs, each with its level, in the order in which they were added.
    pub(crate) fn open(options: LsmOptions, runs: Vec<(u8, Arc<Run>)>) -> Result<Self> {
        if let Some((level, run)) = runs.iter().find(|(level, _)| *level > LAST) {
            let what = format!("level {level} of the run does not exist");
            return Err(Error::corrupt(&run_name(run.meta().file), 0, what));
        }
        let tree = Arc::new(Tree { options, work: Work::default() });
        let empty = Levels::new(tree, Vec::new(), std::array::from_fn(|_| Tier::new(Vec::new())));
        let levels = empty.edited(&[], &runs);
        levels.check()?;
        Ok(Self { current: ArcSwap::from_pointee(levels) })
    }
}

impl Home for LsmHome {
    fn current(&self) -> Arc<dyn Settled> {
        self.current.load_full()
    }

    fn absorb(&self, _input: &mut dyn Cursor, _shop: &Shop) -> Result<Change> {
        Err(Error::new(ErrorKind::Misuse, "not yet"))
    }

    fn ingest(
        &self,
        _entries: &mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
        _shop: &Shop,
    ) -> Result<Change> {
        Err(Error::new(ErrorKind::Misuse, "not yet"))
    }

    fn next_job(&self, _idle: bool) -> Option<Box<dyn Job>> {
        None
    }

    fn stage(&self, change: Change) -> Staged {
        let current = self.current.load_full();
        let next = Arc::new(current.edited(&change.removed, &change.added));
        Staged { added: change.added, removed: change.removed, next, retired: Vec::new() }
    }

    fn adopt(&self, staged: &Staged) {
        let next: Arc<dyn Any + Send + Sync> = staged.next.clone();
        if let Ok(levels) = next.downcast::<Levels>() {
            self.current.store(levels);
        }
    }

    fn pressure(&self) -> f64 {
        let levels = self.current.load();
        levels.tree().options.pressure(levels.depth(), levels.debt())
    }
}

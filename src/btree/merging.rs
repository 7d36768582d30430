//! Work on deltas: merging them into the tree, or several into one.

use super::{
    claim::Claimed,
    core::{Core, Made},
    delta::{BREATH_BYTES, Due, due, merged, write},
    edit::Incoming,
};
use crate::{
    Result,
    sorted::{Cursor, Kind, Merge, Run},
    table::{Change, Job, Shop, Source},
};
use std::sync::Arc;

/// The next piece of work on deltas, if one is worth doing.
pub(super) fn next_job(core: &Arc<Core>, idle: bool) -> Option<Box<dyn Job>> {
    let due = || {
        let current = core.current.load_full();
        let due = due(&current.deltas, current.tree()?, &core.options, idle)?;
        let count = if let Due::Fold(count) = due { count } else { current.deltas.len() };
        Some((due, current.deltas.iter().take(count).cloned().collect()))
    };
    due()?;
    let claimed = Some(core.claims.try_claim()?);
    let (due, deltas) = due()?;
    Some(Box::new(DeltaJob { core: core.clone(), claimed, deltas, due }))
}

/// Work on deltas.
struct DeltaJob {
    core: Arc<Core>,
    claimed: Option<Claimed>,
    /// Those it is about, newest first.
    deltas: Vec<Arc<Run>>,
    due: Due,
}

impl Job for DeltaJob {
    fn run(&mut self, shop: &Shop) -> Result<Change> {
        let work = &self.core.work;
        work.bytes_read.add(self.deltas.iter().map(|delta| delta.meta().bytes).sum());
        work.merges.add(1);
        match self.due {
            Due::Merge => self.merge(shop),
            Due::Fold(_) => self.fold(shop),
        }
    }
}

impl DeltaJob {
    /// Merges them into the tree.
    fn merge(&mut self, shop: &Shop) -> Result<Change> {
        let base = self.core.base(shop)?;
        let entries = merged(None, &self.deltas)?;
        let deleted = entries.range_deletes().clone();
        let mut entries = Unhurried { entries, bytes: 0, shop };
        let mut woven = self.core.weave(&base, &mut entries, &deleted, None, shop)?;
        woven.claimed = self.claimed.take();
        woven.merged = std::mem::take(&mut self.deltas);
        Ok(base.change(woven, 0))
    }

    /// Makes them one.
    fn fold(&mut self, shop: &Shop) -> Result<Change> {
        let mut entries = merged(None, &self.deltas)?;
        let delta = write(&mut entries, self.core.options.delta(), shop)?;
        self.core.work.bytes_written.add(delta.meta().bytes);
        let (folded, claimed) = (std::mem::take(&mut self.deltas), self.claimed.take());
        Ok(Made::Folded { delta, folded, claimed }.into())
    }
}

/// Entries between which more urgent work may go first.
struct Unhurried<'a> {
    entries: Merge<Source>,
    /// Since the last pause.
    bytes: u64,
    shop: &'a Shop,
}

impl Incoming for Unhurried<'_> {
    fn valid(&self) -> bool {
        Cursor::valid(&self.entries)
    }

    fn key(&self) -> &[u8] {
        Cursor::key(&self.entries)
    }

    fn kind(&self) -> Kind {
        Cursor::kind(&self.entries)
    }

    fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        let (key, value) = Cursor::entry(&mut self.entries)?;
        self.bytes += (key.len() + value.len()) as u64;
        Ok((key, value))
    }

    fn next(&mut self) -> Result<()> {
        if self.bytes >= BREATH_BYTES {
            self.bytes = 0;
            self.shop.breathe()?;
        }
        Cursor::next(&mut self.entries)
    }
}

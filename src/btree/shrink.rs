//! Making the file smaller while nobody writes, step by step.
//!
//! ```text
//!   1  what lies in the last pages of the file moves to free pages before them
//!   2  a version that is shorter is published, once nobody reads those pages any more
//!   3  the file is cut, once nobody reads a version that is longer
//! ```
//!
//! Each step is bounded, and other work goes on between them.

use super::{
    claim::Claimed,
    core::{Base, Core, Made},
    space::Space,
};
use crate::{
    Error, Result,
    sorted::{Cursor, Deletes, Merge, PageCursor, RangeSet},
    table::{Change, Job, Shop},
};
use std::sync::{Arc, atomic::Ordering};

/// A step empties this part of the file, but no more than so many stretches.
const STEP: u32 = 8;
const STEP_MAX: u32 = 32;
/// A file up to this length, in pages, is left alone.
const SMALL: u32 = 64;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// The pages from this one on are to be left.
    Leave(u32),
    /// The end of the file is free.
    Shorten,
    /// The file is longer than any version that is read.
    Cut(u32),
}

/// One step.
struct Step {
    core: Arc<Core>,
    claimed: Option<Claimed>,
    task: Task,
}

/// The next step, if one is worth doing.
pub(super) fn next_step(core: &Arc<Core>, idle: bool) -> Option<Box<dyn Job>> {
    let space = {
        let current = core.current.load();
        let (pages, _) = current.tree.as_ref()?;
        pages.space.lock().clone()?
    };
    // To ask who reads costs system calls, and this is called whenever a worker has time.
    let may_be_worth = (idle && space.has_pending()) || task(core, &space, idle).is_some();
    if !may_be_worth {
        return None;
    }
    let claimed = core.claims.try_claim()?;
    // What cannot be asked now is asked again by the next piece of work.
    if core.folder.get()?.is_shared().unwrap_or(true) {
        return None;
    }
    space.reclaim(false);
    let task = task(core, &space, idle)?;
    Some(Box::new(Step { core: core.clone(), claimed: Some(claimed), task }))
}

fn task(core: &Core, space: &Space, idle: bool) -> Option<Task> {
    if let Some(pages) = space.cut_at() {
        return Some(Task::Cut(pages));
    }
    let (pages, free) = space.sizes();
    let gave_up = core.gave_up.load(Ordering::Relaxed) == core.current.load().generation();
    if !idle || gave_up || pages <= SMALL || !core.options.is_too_empty(free, u64::from(pages)) {
        return None;
    }
    let step = (pages / STEP).min(STEP_MAX * space.stretch());
    if space.tail() >= step {
        return Some(Task::Shorten);
    }
    // What lies in the last pages has to fit into the holes before them.
    let limit = pages - step;
    let used = space.in_use_from(limit);
    (used > 0 && space.free_below(limit) >= used).then_some(Task::Leave(limit))
}

impl Step {
    /// The next version, without what lies in the pages from `leave` on.
    fn weave(&mut self, base: &Base, leave: u32, shop: &Shop) -> Result<Change> {
        let mut none: Merge<PageCursor> = Merge::new(Vec::new(), Deletes::Keep);
        none.seek_first()?;
        let mut woven = self.core.weave(base, &mut none, &RangeSet::none(), Some(leave), shop)?;
        woven.claimed = self.claimed.take();
        if woven.held.end() > leave {
            // Something does not fit into the holes: not before the next change.
            self.core.gave_up.store(woven.tree.described().generation, Ordering::Relaxed);
        }
        self.core.work.merges.add(1);
        Ok(base.change(woven, 0))
    }
}

impl Job for Step {
    fn run(&mut self, shop: &Shop) -> Result<Change> {
        let base = self.core.base(shop)?;
        match self.task {
            Task::Leave(limit) => self.weave(&base, limit, shop),
            Task::Shorten => match base.space.shorten() {
                0 => Ok(Made::Nothing.into()),
                _ => self.weave(&base, base.space.sizes().0, shop),
            },
            Task::Cut(pages) => {
                let failed = |e| Error::io("look for readers of the folder", "", e);
                if base.space.cut_at() == Some(pages) && !shop.folder.is_shared().map_err(failed)? {
                    base.pages.file.cut(&*shop.folder, pages)?;
                    base.space.was_cut(pages);
                }
                Ok(Made::Nothing.into())
            }
        }
    }
}

//! The home itself: opening, taking in what memtables held, and publishing changes.

use super::{
    LAST, LsmOptions,
    change::Edited,
    claims::{Claim, Claims},
    job::{EditJob, MergeJob, SliceJob},
    levels::{Levels, Tree},
    older::Older,
    output::{Plan, Poured, fill, pour},
    pick::{Pick, Picker},
    slices::Slices,
    tier::{Tier, span},
};
use crate::{
    Error, ErrorKind, Result,
    sorted::{Cursor, FileId, Run, RunOptions, Span, run_name},
    table::{Change, Home, HomeFile, Input, Job, Op, Settled, Shop, Staged, Work},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{any::Any, collections::HashMap, sync::Arc};

/// Most bytes of a job, in files: a job over it is done in slices.
const JOB_FILES: u64 = 25;

/// The home of an LSM table.
pub(crate) struct LsmHome {
    current: ArcSwap<Levels>,
    claims: Claims,
    /// A merge that is done slice by slice.
    slices: Mutex<Option<Arc<Slices>>>,
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
        Ok(Self {
            current: ArcSwap::from_pointee(levels),
            claims: Claims::default(),
            slices: Mutex::default(),
        })
    }

    /// What was just written, as a change.
    fn settled(&self, levels: &Levels, poured: Poured) -> Change {
        let work = &levels.tree().work;
        work.bytes_absorbed.add(poured.read);
        work.bytes_written.add(poured.runs.iter().map(|run| run.meta().bytes).sum());
        let added = poured.runs.into_iter().map(|run| (0, run)).collect();
        Edited { added, ..Edited::default() }.into()
    }

    /// How to write a run of new entries: as those of the level it will go to, as far as can be
    /// told now.
    fn options_of_new(levels: &Levels, start: &[u8], end: Option<&Bytes>) -> RunOptions {
        let span = Span { start: Bytes::copy_from_slice(start), end: end.cloned() };
        levels.tree().options.run(levels.deepest_fit(&span, |_| false) == LAST)
    }

    /// The next slice of a merge that was begun.
    fn next_slice(&self) -> Option<Box<dyn Job>> {
        let slice = self.slices.lock().as_ref()?.next()?;
        Some(Box::new(SliceJob { levels: self.current.load_full(), slice }))
    }

    /// Puts new runs, the newest there are, where they fit.
    fn place(&self, levels: &Levels, added: Vec<(u8, Arc<Run>)>) -> Vec<(u8, Arc<Run>)> {
        self.claims.place(|taken| {
            let mut claims = Vec::new();
            let placed = added.into_iter().map(|(meant_for, run)| {
                if meant_for > 0 {
                    return (meant_for, run);
                }
                let claim = |level| Claim::new(level, level, span(&run).clone());
                let level = levels.deepest_fit(span(&run), |level| !taken.is_free(&claim(level)));
                claims.extend((level > 0).then(|| claim(level)));
                (level, run)
            });
            let placed = placed.collect();
            (claims, placed)
        })
    }
}

/// Refuses entries that do not ascend, or are over a limit.
fn check_entry(last: Option<&Bytes>, key: &Bytes, value: &Bytes) -> Result<()> {
    if last.is_some_and(|last| last >= key) {
        let message = "entries to ingest must come with strictly ascending keys: sort them first";
        return Err(Error::new(ErrorKind::Misuse, message));
    }
    Op::Put { key, value }.check()
}

impl Home for LsmHome {
    fn current(&self) -> Arc<dyn Settled> {
        self.current.load_full()
    }

    fn absorb(&self, input: &Input, shop: &Shop) -> Result<Change> {
        let levels = self.current.load_full();
        let within = Span { start: Bytes::new(), end: None };
        let mut input = input.merged();
        input.seek_last()?;
        let mut end = Vec::new();
        if input.valid() {
            end.extend_from_slice(input.key());
            end.push(0);
        }
        let end = Bytes::from(end);
        let plan = Plan {
            shop,
            within: within.clone(),
            options: &|first| Self::options_of_new(&levels, first, Some(&end)),
            file_bytes: levels.tree().options.file_limit(),
            grandparents: None,
            grandparent_bytes: 0,
        };
        let poured = pour(&mut input, Older::new(levels.tiers(), &within), plan, false)?;
        levels.tree().work.flushes.add(1);
        Ok(self.settled(&levels, poured))
    }

    fn ingest(
        &self,
        entries: &mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
        shop: &Shop,
    ) -> Result<Change> {
        let levels = self.current.load_full();
        let after = |first: &[u8]| Some(Bytes::from([first, &[0]].concat()));
        let plan = Plan {
            shop,
            within: Span { start: Bytes::new(), end: None },
            options: &|first| Self::options_of_new(&levels, first, after(first).as_ref()),
            file_bytes: levels.tree().options.file_limit(),
            grandparents: None,
            grandparent_bytes: 0,
        };
        let poured = fill(entries, check_entry, plan)?;
        Ok(self.settled(&levels, poured))
    }

    fn next_job(&self, idle: bool) -> Option<Box<dyn Job>> {
        if let Some(slice) = self.next_slice() {
            return Some(slice);
        }
        let (claimed, (levels, pick)) = self.claims.choose(|taken| {
            let levels = self.current.load_full();
            let (claims, pick) = Picker { levels: &levels, taken }.pick(idle)?;
            Some((claims, (levels, pick)))
        })?;
        let merging = match pick {
            Pick::Merge(merging) => merging,
            Pick::Move(file, level) => {
                let moved = vec![(file, level)];
                return Some(Box::new(EditJob {
                    levels,
                    moved,
                    removed: Vec::new(),
                    _claimed: claimed,
                }));
            }
            Pick::Drop(removed) => {
                return Some(Box::new(EditJob {
                    levels,
                    moved: Vec::new(),
                    removed,
                    _claimed: claimed,
                }));
            }
        };
        let job_bytes = JOB_FILES * levels.tree().options.file_limit();
        let mut begun = self.slices.lock();
        let cut = match *begun {
            None => Slices::cut(&merging, job_bytes, claimed),
            Some(_) => Err(claimed),
        };
        match cut {
            Ok(slices) => {
                let slice = begun.insert(Arc::new(slices)).next()?;
                Some(Box::new(SliceJob { levels, slice }))
            }
            Err(claimed) => Some(Box::new(MergeJob { levels, merging, _claimed: claimed })),
        }
    }

    fn stage(&self, change: Change) -> Staged {
        let current = self.current.load_full();
        let edited = Edited::of(change);
        let runs = current.runs().into_iter().map(|(_, run)| (run.meta().file, run));
        let runs: HashMap<FileId, Arc<Run>> = runs.collect();
        let find = |file: FileId| runs.get(&file);
        let moved = edited.moved.iter();
        let moved = moved.filter_map(|(file, level)| Some((*level, find(*file)?.clone())));
        let moved: Vec<(u8, Arc<Run>)> = moved.collect();
        let find_file = |file| Some(find(file)?.clone() as Arc<dyn HomeFile>);
        let retired = edited.removed.iter().filter_map(|file| find_file(*file)).collect();
        let mut removed = edited.removed;
        removed.extend(moved.iter().map(|(_, run)| run.meta().file));
        let kept = current.edited(&removed, &moved);
        let placed = self.place(&kept, edited.added);
        let next = Arc::new(kept.edited(&[], &placed));
        debug_assert!(next.check().is_ok());
        let added = moved.into_iter().chain(placed);
        let added = added.map(|(level, run)| (level, run as Arc<dyn HomeFile>)).collect();
        Staged { added, removed, root: None, next, retired }
    }

    fn adopt(&self, staged: &Staged) {
        let next: Arc<dyn Any + Send + Sync> = staged.next.clone();
        if let Ok(levels) = next.downcast::<Levels>() {
            self.current.store(levels);
        }
        self.claims.adopted();
        self.slices.lock().take_if(|slices| slices.published(staged));
    }

    fn pressure(&self) -> f64 {
        let levels = self.current.load();
        levels.tree().options.pressure(levels.depth(), levels.debt())
    }
}

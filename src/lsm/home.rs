//! The home itself: opening, taking in what memtables held, and publishing changes.

use super::{
    LAST, LENDERS, LsmOptions,
    change::Edited,
    claims::{Claim, Claims},
    job::{EditJob, MergeJob, SliceJob},
    levels::{Levels, Tree},
    merging::JOB_FILES,
    older::Older,
    output::{Plan, Poured, fill, pour},
    pick::{Pick, Picker},
    slices::Slices,
    tier::span,
};
use crate::{
    Error, Result,
    sorted::{Cursor, FileId, Run, RunFile, RunOptions, Span, run_name},
    table::{Change, Home, HomeFile, Input, Intake, Job, Settled, Shop, Staged, Work},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{any::Any, collections::HashMap, sync::Arc};

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
        if let Some((level, run)) = runs.iter().find(|(level, _)| *level > LENDERS) {
            let what = format!("level {level} of the run does not exist");
            return Err(Error::corrupt(&run_name(run.meta().file), 0, what));
        }
        let files = runs.iter().map(|(_, run)| (run.meta().file, run.file().clone()));
        let files: HashMap<FileId, Arc<RunFile>> = files.collect();
        let (lenders, runs): (Vec<_>, Vec<_>) =
            runs.into_iter().partition(|(level, _)| *level == LENDERS);
        runs.iter().try_for_each(|(_, run)| run.attach(|file| files.get(&file).cloned()))?;
        let tree = Arc::new(Tree { options, work: Work::default() });
        let levels = Levels::empty(tree).edited(&[], &runs);
        let levels = levels.with_lenders(|_| lenders.into_iter().map(|(_, run)| run).collect());
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

/// A version whose lenders are those that are needed.
struct Lends {
    next: Levels,
    /// Runs that have become lenders.
    turned: Vec<(u8, Arc<Run>)>,
    /// Runs that nobody needs, lenders that were and others.
    retired: Vec<Arc<Run>>,
}

/// Of the lenders until now and the runs that are `gone` from the levels, keeps what `next` needs.
fn lend(next: Levels, gone: Vec<Arc<Run>>) -> Lends {
    let (mut turned, mut retired) = (Vec::new(), Vec::new());
    let until_now = next.lenders().runs().to_vec();
    let next = next.with_lenders(|needs| {
        let is_needed = |run: &Arc<Run>| needs.is_needed(run.meta().file);
        let (mut lenders, unneeded): (Vec<_>, Vec<_>) = until_now.into_iter().partition(is_needed);
        retired.extend(unneeded);
        let (turning, unneeded): (Vec<_>, Vec<_>) = gone.into_iter().partition(is_needed);
        retired.extend(unneeded);
        turned.extend(turning.iter().map(|run| (LENDERS, run.detached())));
        lenders.extend(turned.iter().map(|(_, run)| run.clone()));
        lenders
    });
    Lends { next, turned, retired }
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
            lending: None,
        };
        let poured = pour(&mut input, Older::new(levels.tiers(), &within), plan, false)?;
        levels.tree().work.flushes.add(1);
        Ok(self.settled(&levels, poured))
    }

    fn ingest(&self, entries: &mut Intake<'_>, shop: &Shop) -> Result<Change> {
        let levels = self.current.load_full();
        let after = |first: &[u8]| Some(Bytes::from([first, &[0]].concat()));
        let plan = Plan {
            shop,
            within: Span { start: Bytes::new(), end: None },
            options: &|first| Self::options_of_new(&levels, first, after(first).as_ref()),
            file_bytes: levels.tree().options.file_limit(),
            grandparents: None,
            grandparent_bytes: 0,
            lending: None,
        };
        let poured = fill(entries, plan)?;
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
        let gone: Vec<_> = edited.removed.iter().filter_map(|file| find(*file)).cloned().collect();
        let mut removed = edited.removed;
        removed.extend(moved.iter().map(|(_, run)| run.meta().file));
        let kept = current.edited(&removed, &moved);
        let placed = self.place(&kept, edited.added);
        let next = kept.edited(&[], &placed);
        let Lends { next, turned, retired } = lend(next, gone);
        let ended = retired.iter().map(|run| run.meta().file);
        let ended: Vec<_> = ended.filter(|file| !runs.contains_key(file)).collect();
        removed.extend(ended);
        debug_assert!(next.check().is_ok());
        let added = moved.into_iter().chain(placed).chain(turned);
        let added = added.map(|(level, run)| (level, run as Arc<dyn HomeFile>)).collect();
        let retired = retired.into_iter().map(|run| run as Arc<dyn HomeFile>).collect();
        Staged { added, removed, root: None, next: Arc::new(next), retired }
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

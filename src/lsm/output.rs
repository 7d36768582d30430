//! Writing entries as runs of bounded size.

use super::{
    lenders::Lending,
    older::Older,
    tier::{Tier, span},
};
use crate::{
    Result,
    sorted::{
        Cursor, FileId, Kind, Lent, RangeSet, Run, RunFile, RunOptions, RunWriter, Span,
        out_of_order, run_name,
    },
    table::{Intake, Shop},
};
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

/// Entries written between two pauses of background work, in bytes.
const BREATH_BYTES: u64 = 1 << 20;

/// Where and how runs are written.
pub(super) struct Plan<'a> {
    pub(super) shop: &'a Shop,
    /// The stretch of keys to be written.
    pub(super) within: Span,
    /// How to write the run that starts at a key.
    pub(super) options: &'a dyn Fn(&[u8]) -> RunOptions,
    /// Bytes after which a run ends.
    pub(super) file_bytes: u64,
    /// The level below the output: a run ends when it overlaps too much of it, else merging it
    /// further down would be too large a job.
    pub(super) grandparents: Option<Tier>,
    /// What must not be overlapped by one run, in bytes.
    pub(super) grandparent_bytes: u64,
    /// Which values are not to be copied; without it all are.
    pub(super) lending: Option<&'a Lending>,
}

/// Writes ascending entries into runs that do not overlap, range deletes included: each run has
/// those from its first key up to the next run's. Unless finished, removes what it wrote.
pub(super) struct Output<'a> {
    plan: Plan<'a>,
    range_deletes: RangeSet,
    /// Where the stretch of the run being written starts.
    start: Bytes,
    writer: Option<RunWriter<'a>>,
    /// The files that the run being written points to.
    lenders: HashMap<FileId, Arc<RunFile>>,
    overlap: Overlap,
    made: Vec<Arc<Run>>,
    /// Files finished, to be removed again on failure.
    files: Vec<FileId>,
}

/// How much of the level below the output the run being written overlaps.
#[derive(Default)]
struct Overlap {
    next: usize,
    bytes: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(plan: Plan<'a>, range_deletes: &RangeSet) -> Self {
        let range_deletes = range_deletes.clip(&plan.within);
        let start = plan.within.start.clone();
        let next =
            plan.grandparents.as_ref().map_or(0, |tier| tier.range_overlapping(&plan.within).start);
        let overlap = Overlap { next, bytes: 0 };
        let (lenders, made, files) = (HashMap::new(), Vec::new(), Vec::new());
        Self { plan, range_deletes, start, writer: None, lenders, overlap, made, files }
    }

    /// The next entry.
    fn add(&mut self, key: &[u8], kind: Kind, value: &[u8]) -> Result<()> {
        self.writer_for(key)?.add(key, kind, value)
    }

    /// The next entry, with a value that stays where it is.
    fn lend(&mut self, key: &[u8], value: &Lent) -> Result<()> {
        self.writer_for(key)?.add_lent(key, value)?;
        self.lenders.entry(value.lender.id()).or_insert_with(|| value.lender.clone());
        Ok(())
    }

    /// The value at which `input` is, if it is not to be copied.
    fn lent<C: Cursor + ?Sized>(&self, input: &C) -> Option<Lent> {
        let lending = self.plan.lending?;
        input.lent().filter(|value| lending.suits(value))
    }

    /// The run that an entry of `key` belongs in.
    fn writer_for(&mut self, key: &[u8]) -> Result<&mut RunWriter<'a>> {
        let passed = self.pass_grandparents(key);
        if let Some(writer) = &self.writer
            && (passed || writer.bytes_written() >= self.plan.file_bytes)
        {
            self.cut(Some(Bytes::copy_from_slice(key)))?;
        }
        match self.writer {
            Some(ref mut writer) => Ok(writer),
            None => self.begin(key),
        }
    }

    /// Counts what lies below up to `key`; says whether that is too much for one run.
    fn pass_grandparents(&mut self, key: &[u8]) -> bool {
        let Some(tier) = &self.plan.grandparents else { return false };
        while let Some(run) = tier.runs().get(self.overlap.next)
            && span(run).starts_by(key)
        {
            self.overlap.next += 1;
            self.overlap.bytes += run.meta().bytes;
        }
        self.overlap.bytes > self.plan.grandparent_bytes
    }

    fn begin(&mut self, key: &[u8]) -> Result<&mut RunWriter<'a>> {
        let before = self.made.last().map(|run| &run.meta().last);
        if before.is_some_and(|last| **last >= *key) || *key < *self.plan.within.start {
            return Err(out_of_order());
        }
        let file = self.plan.shop.files.take();
        let options = (self.plan.options)(key);
        let writer = RunWriter::create(&*self.plan.shop.folder, file, options)?;
        self.overlap.bytes = 0;
        Ok(self.writer.insert(writer))
    }

    /// Ends the run being written; its range deletes reach up to `end`.
    fn cut(&mut self, end: Option<Bytes>) -> Result<()> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let end = end.or_else(|| self.plan.within.end.clone());
        let stretch = Span { start: std::mem::take(&mut self.start), end };
        for deleted in self.range_deletes.clip(&stretch).spans() {
            writer.delete_range(deleted.clone());
        }
        self.start = stretch.end.unwrap_or_default();
        let meta = writer.finish()?;
        self.files.push(meta.file);
        let run = Run::open(&*self.plan.shop.folder, meta, &self.plan.shop.access)?;
        run.attach(|file| self.lenders.get(&file).cloned())?;
        self.lenders.clear();
        self.made.push(run);
        Ok(())
    }

    /// The runs written, in key order.
    fn finish(mut self) -> Result<Vec<Arc<Run>>> {
        if self.made.is_empty() && self.writer.is_none() && !self.range_deletes.is_empty() {
            let start = self.start.clone();
            self.begin(&start)?;
        }
        self.cut(None)?;
        self.files.clear();
        Ok(std::mem::take(&mut self.made))
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.writer = None;
        self.made.clear();
        for &file in &self.files {
            // What cannot be removed is an orphan that the next open removes.
            let _ = self.plan.shop.folder.remove(&run_name(file));
        }
    }
}

/// What was written, and how many bytes of keys and values were read for it.
pub(super) struct Poured {
    pub(super) runs: Vec<Arc<Run>>,
    pub(super) read: u64,
}

/// Writes what `input` has in the plan's stretch, without deletes that have nothing `older` to
/// delete. With `breathe`, pauses now and then.
pub(super) fn pour<C: Cursor + ?Sized>(
    input: &mut C,
    mut older: Older,
    plan: Plan<'_>,
    breathe: bool,
) -> Result<Poured> {
    let (shop, within) = (plan.shop, plan.within.clone());
    let mut output = Output::new(plan, &older.clip(input.range_deletes()));
    let mut key = Vec::new();
    let (mut read, mut pause_at) = (0, BREATH_BYTES);
    input.seek(&within.start)?;
    while input.valid() && within.ends_after(input.key()) {
        key.clear();
        key.extend_from_slice(input.key());
        let kind = input.kind();
        read += key.len() as u64;
        if let Some(value) = output.lent(input) {
            output.lend(&key, &value)?;
        } else {
            let value = if kind == Kind::Delete { &[][..] } else { input.value()? };
            read += value.len() as u64;
            if kind == Kind::Put || older.may_hold(&key) {
                output.add(&key, kind, value)?;
            }
        }
        if breathe && read >= pause_at {
            pause_at = read + BREATH_BYTES;
            shop.breathe()?;
        }
        input.next()?;
    }
    Ok(Poured { runs: output.finish()?, read })
}

/// Writes entries that come ready, strictly ascending.
pub(super) fn fill(entries: &mut Intake<'_>, plan: Plan<'_>) -> Result<Poured> {
    let mut output = Output::new(plan, &RangeSet::none());
    while let Some((key, value)) = entries.next()? {
        output.add(key, Kind::Put, value)?;
    }
    Ok(Poured { runs: output.finish()?, read: entries.bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ErrorKind,
        cache::BlockCache,
        sorted::RunAccess,
        table::{FileIds, Given, Room},
        vfs::mem::MemFolder,
    };

    /// What a run yields whose checksums fit, and whose order does not.
    #[test]
    fn runs_that_would_overlap_are_not_made() {
        let folder: Arc<dyn crate::vfs::Folder> = Arc::new(MemFolder::default());
        let shop = Shop {
            folder: folder.clone(),
            files: Arc::new(FileIds::starting_at(1)),
            access: RunAccess::Cached(Arc::new(BlockCache::new(0))),
            breathe: Arc::new(|| Ok(())),
            room: Room::default(),
        };
        for (start, second) in [("", "b"), ("", "a"), ("c", "d")] {
            let plan = Plan {
                shop: &shop,
                within: Span::new(start, None::<&str>),
                options: &|_| RunOptions::default(),
                file_bytes: 0,
                grandparents: None,
                grandparent_bytes: 0,
                lending: None,
            };
            let entry = |key: &str| Ok((Bytes::copy_from_slice(key.as_bytes()), Bytes::new()));
            let mut entries = [entry("b"), entry(second)].into_iter();
            let error = fill(&mut Intake::new(&mut Given::new(&mut entries), false), plan).err();
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Corrupt));
            assert_eq!(folder.list().unwrap(), [""; 0]);
        }
    }
}

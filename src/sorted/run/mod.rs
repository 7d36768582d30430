//! Runs: immutable sorted files, made once and only read until nobody needs them.
//!
//! A run is a tree of blocks, a filter in front of it and a footer behind (`format` has the
//! picture). It is read in one of two ways. *Mapped*, a look-up takes no lock, allocates nothing
//! and counts no references: each block is checked before its first use, which a bitmap remembers.
//! *Cached*, branch blocks stay with the run once read, leaves and filter pages go through the
//! [block cache](crate::cache). Leaves of a compressed run always do.
//!
//! A long value lies apart from its block, in the run's own file or, *lent*, in that of an older
//! run, the *lender*: who merges runs then writes where a value is and not the value again
//! (WiscKey, Lu et al., FAST 2016). An entry names the file that has the bytes, never one that
//! has only an entry. A run has its lenders open from when it is attached to them.

mod access;
mod file;
mod format;
mod level;
mod lookup;
mod meta;
mod output;
mod remains;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub(crate) use access::{Checked, Held};
pub(crate) use file::{Lent, RunFile};
pub(crate) use level::LevelCursor;
pub(crate) use meta::RunMeta;
pub(crate) use output::Output;
pub(crate) use remains::Lost;
pub(crate) use writer::{RunWriter, out_of_order};

use crate::{
    Result,
    cache::{BlockCache, Frame},
    codec::Compression,
    error::{Error, ErrorKind},
    sorted::{
        FOOTER_BYTES, FileId, Graveyard, RangeSet, TreeCursor,
        block::{is_sealed, place},
        open_whole, read,
    },
    vfs::{File, Folder, Map},
};
use format::{Footer, KIND, PAGE, decode_ranges};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// How a run is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunOptions {
    /// The length of a block: a power of two from 256 bytes to 32 KiB.
    pub(crate) block_bytes: usize,
    pub(crate) compression: Compression,
    /// Bits of filter a key; 0 for no filter.
    pub(crate) filter_bits: u8,
    /// Values stored in so many bytes are counted as such that a merge need not copy.
    pub(crate) lend_from: u32,
    /// Whether it is likely to be merged soon: then it is not read for long.
    pub(crate) merged_soon: bool,
}

impl Default for RunOptions {
    /// 8 KiB blocks: 4 KiB ones answer gets up to a tenth faster but double the branches.
    fn default() -> Self {
        let (compression, lend_from) = (Compression::None, u32::MAX);
        Self { block_bytes: 8 << 10, compression, filter_bits: 10, lend_from, merged_soon: false }
    }
}

/// How a run's bytes are reached. Compressed leaves go through the cache either way, and a
/// folder that cannot map makes `Mapped` mean `Cached`.
#[derive(Clone, Debug)]
pub(crate) enum RunAccess {
    Mapped(Arc<BlockCache>),
    Cached(Arc<BlockCache>),
}

/// The name of the run numbered `file`.
pub(crate) fn run_name(file: FileId) -> String {
    format!("{file:010}.run")
}

/// An open run.
pub(crate) struct Run {
    meta: RunMeta,
    footer: Footer,
    range_deletes: RangeSet,
    file: Arc<RunFile>,
    /// The file's mapping once more, where every look-up needs it.
    map: Option<Map>,
    /// Which parts of the mapping have been checked.
    checked: Checked,
    /// The branch blocks by their unit, once read, if not mapped.
    branches: Box<[OnceLock<Arc<Frame>>]>,
    /// The files that its entries point to, by their numbers, once it is attached to them.
    lenders: OnceLock<Box<[Arc<RunFile>]>>,
}

/// A cursor over one run.
pub(crate) type RunCursor = TreeCursor<Run>;

impl Run {
    /// Opens the run that `meta` describes. Reads its end; blocks are checked when first used.
    /// Values that are lent are there only once it is [attached](Self::attach).
    pub(crate) fn open(folder: &dyn Folder, meta: RunMeta, access: &RunAccess) -> Result<Arc<Run>> {
        let name = run_name(meta.file);
        let file = open_whole(folder, &name, meta.bytes)?;
        let footer = read_footer(&*file, &name, &meta)?;
        let range_deletes = read_ranges(&*file, &name, &meta, &footer)?;
        let file = RunFile::new(meta.file, file, meta.bytes, footer.values(), access)?;
        Ok(Arc::new(Run::assemble(meta, footer, range_deletes, file)))
    }

    fn assemble(meta: RunMeta, footer: Footer, range_deletes: RangeSet, file: Arc<RunFile>) -> Run {
        let map = file.map.clone();
        let unit = footer.block_bytes as u64;
        let slots =
            if map.is_some() { 0 } else { (footer.branches_end - footer.branches_at) / unit };
        Run {
            checked: Checked::new(map.as_ref().map_or(0, |_| footer.ranges_at), footer.block_bytes),
            branches: (0..slots).map(|_| OnceLock::new()).collect(),
            footer,
            range_deletes,
            meta,
            file,
            map,
            lenders: OnceLock::new(),
        }
    }

    /// Opens the way to the values that are lent, in files that `find` knows; once for all.
    pub(crate) fn attach(&self, find: impl Fn(FileId) -> Option<Arc<RunFile>>) -> Result<()> {
        let lender = |(file, _): &(FileId, u64)| find(*file).ok_or_else(|| self.no_lender(*file));
        let lenders = self.meta.borrowed.iter().map(lender).collect::<Result<_>>()?;
        self.lenders.get_or_init(|| lenders);
        Ok(())
    }

    /// The same run, attached to nothing, for who needs the values in its file only: it keeps no
    /// other file.
    pub(crate) fn detached(&self) -> Arc<Run> {
        let (meta, footer) = (self.meta.clone(), self.footer.clone());
        Arc::new(Run::assemble(meta, footer, self.range_deletes.clone(), self.file.clone()))
    }

    /// Its file, for other runs to be attached to.
    pub(crate) fn file(&self) -> &Arc<RunFile> {
        &self.file
    }

    fn no_lender(&self, file: FileId) -> Error {
        let what = format!("the file {} that its values lie in is missing", run_name(file));
        self.corrupt_at(0, what)
    }

    pub(crate) fn meta(&self) -> &RunMeta {
        &self.meta
    }

    pub(crate) fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }

    pub(crate) fn cursor(self: &Arc<Self>) -> RunCursor {
        TreeCursor::new(self.clone())
    }

    /// Once nobody has the run any more, its number goes `to` there.
    pub(crate) fn retire(&self, to: &Arc<Graveyard>) {
        self.file.grave().retire(to);
    }

    fn name(&self) -> &str {
        self.file.grave().name()
    }

    /// `len` bytes of the file at `at`, which have been found to lie inside it.
    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        self.file.read(at, len)
    }

    fn corrupt_at(&self, at: u64, what: impl Into<String>) -> Error {
        Error::corrupt(self.name(), at, what)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({}, {} entries)", self.name(), self.meta.entries)
    }
}

/// The footer, if it is one and describes the file that `meta` does.
fn read_footer(file: &dyn File, name: &str, meta: &RunMeta) -> Result<Footer> {
    let (at, bytes) = KIND.footer(file, name, meta.file, meta.bytes)?;
    let footer = Footer::decode(&bytes, at).map_err(|what| Error::corrupt(name, at, what))?;
    if footer.file != meta.file || footer.root.is_some() != (meta.entries > 0) {
        return Err(Error::corrupt(name, at, "the footer is of another run"));
    }
    if !footer.compression.is_available() {
        let what = "blocks are compressed in a way that this build lacks the feature for";
        return Err(Error::new(ErrorKind::Misuse, what).in_file(name));
    }
    Ok(footer)
}

fn read_ranges(file: &dyn File, name: &str, meta: &RunMeta, footer: &Footer) -> Result<RangeSet> {
    let at = footer.ranges_at;
    let corrupt = |what| Error::corrupt(name, at, what);
    let len = footer.properties_at - at;
    let ranges = if len == 0 {
        RangeSet::default()
    } else {
        let len = usize::try_from(len).map_err(|_| corrupt("range deletes fill the memory"))?;
        let section = read(file, name, at, len)?;
        if !is_sealed(&section, place(meta.file, at)) {
            return Err(corrupt("the range deletes' checksum does not match"));
        }
        decode_ranges(&section).ok_or_else(|| corrupt("range deletes that cannot be"))?
    };
    if ranges.spans().len() as u64 != meta.range_deletes {
        return Err(corrupt("the number of range deletes is another than it was"));
    }
    Ok(ranges)
}

const _: () = assert!(FOOTER_BYTES < PAGE);

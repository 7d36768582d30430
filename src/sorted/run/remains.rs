//! What can still be read of a damaged run.
//!
//! The tree leads to the leaves. Where a branch block is lost, or the end of the file, the leaves
//! behind it are found by trying every place at which one may begin: a checksum that fits the
//! bytes, the place and the file is proof enough. Only of a compressed run nobody but the tree
//! knows where leaves begin and how long they are.

use super::{
    Footer, KIND, Run, RunAccess, RunFile, RunMeta, format::BLOCK_BYTES, read_footer, read_ranges,
    run_name,
};
use crate::{
    Result,
    cache::{BlockCache, Frame},
    codec::{Compression, Reader},
    error::Error,
    sorted::{
        FOOTER_BYTES, FileId, Kind, RangeSet, Span,
        block::{Block, Child, EntryKind, MAX_BLOCK, is_sealed, place},
        read,
        tree::{Tree, padded},
    },
    vfs::{Access, Folder},
};
use bytes::Bytes;
use std::sync::Arc;

/// A place that cannot be read, and whose keys it may have held.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) error: Error,
    pub(crate) keys: Span,
}

/// What is done with each entry found.
type Rescue<'a> = dyn FnMut(&[u8], Kind, &[u8]) -> Result<()> + 'a;

impl Run {
    /// Opens a run as far as that is possible, and says what is not. Without its end, a run that
    /// is not compressed and has blocks of `block_bytes` is still read.
    pub(crate) fn open_damaged(
        folder: &dyn Folder,
        meta: RunMeta,
        block_bytes: Option<usize>,
    ) -> Result<(Arc<Run>, Vec<Lost>)> {
        let name = run_name(meta.file);
        let failed = |e| Error::io("open", &name, e);
        let file = folder.open(&name, Access::Read).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        let mut errors = Vec::new();
        let footer = match read_footer(&*file, &name, &RunMeta { bytes: size, ..meta.clone() }) {
            Ok(footer) => footer,
            Err(error) => {
                let block_bytes = block_bytes.filter(|len| BLOCK_BYTES.contains(len));
                let footer = block_bytes.map(|len| Footer::unknown(meta.file, len, size));
                errors.push(error.clone());
                footer.ok_or(error)?
            }
        };
        let range_deletes = match errors.is_empty() {
            true => read_ranges(&*file, &name, &meta, &footer),
            false => Ok(RangeSet::none()),
        };
        let range_deletes = range_deletes.unwrap_or_else(|error| {
            errors.push(error);
            RangeSet::none()
        });
        let access = RunAccess::Cached(Arc::new(BlockCache::new(0)));
        let keys = meta.span.clone();
        let file = RunFile::new(meta.file, file, size, footer.values(), &access)?;
        let run = Run::assemble(meta, footer, range_deletes, file);
        run.attach_to_remains(folder, &access);
        let lost = errors.into_iter().map(|error| Lost { error, keys: keys.clone() });
        Ok((Arc::new(run), lost.collect()))
    }

    /// Attaches it to what there is of its lenders.
    fn attach_to_remains(&self, folder: &dyn Folder, access: &RunAccess) {
        // Without its end a lender is read as one that is compressed like this run.
        let unknown = self.footer.compression;
        let open = |file| RunFile::remains(folder, file, unknown, access).ok();
        let lenders = self.meta.borrowed.iter().filter_map(|(file, _)| open(*file)).collect();
        self.lenders.get_or_init(|| lenders);
    }

    /// What the run says of itself: for a database without a manifest.
    pub(crate) fn meta_of(folder: &dyn Folder, file: FileId) -> Result<RunMeta> {
        let name = run_name(file);
        let failed = |e| Error::io("open", &name, e);
        let opened = folder.open(&name, Access::Read).map_err(failed)?;
        let size = opened.size().map_err(failed)?;
        let at = size.saturating_sub(FOOTER_BYTES as u64);
        let bytes = read(&*opened, &name, at, FOOTER_BYTES)?;
        let corrupt = |at, what: &str| Error::corrupt(&name, at, what);
        if !is_sealed(&bytes, place(file, at)) {
            return Err(corrupt(at, "the footer's checksum does not match"));
        }
        let footer = Footer::decode(&bytes, at).map_err(|what| corrupt(at, what))?;
        let (from, to) = (footer.properties_at, footer.properties_end);
        let properties = read(&*opened, &name, from, (to - from) as usize)?;
        let decode = || {
            let mut reader = Reader::new(properties.get(8..)?);
            let meta = RunMeta::decode(&mut reader)?;
            (is_sealed(&properties, place(file, from)) && meta.file == file).then_some(meta)
        };
        let meta = decode().ok_or_else(|| corrupt(from, "the properties are damaged"))?;
        Ok(RunMeta { bytes: size, ..meta })
    }

    /// Shows every entry that can be read, and returns what cannot. Of a run whose branches are
    /// whole, keys ascend.
    pub(crate) fn rescue(&self, rescue: &mut Rescue<'_>) -> Result<Vec<Lost>> {
        let everything = self.meta.span.clone();
        let (lost, gaps) = (Vec::new(), Vec::new());
        let mut walk = Walk { run: self, rescue, lost, end: 0, in_gap: false, gaps };
        match self.root() {
            Some(root) => walk.visit(root.top, root.height, &everything)?,
            None => walk.in_gap = self.meta.entries > 0,
        }
        walk.close_gap(self.leaves_end());
        if !self.footer.is_packed() {
            for (from, to) in std::mem::take(&mut walk.gaps) {
                walk.scan(from, to)?;
            }
        }
        Ok(walk.lost)
    }
}

impl RunFile {
    /// Opens a file for the values in it, damaged or not.
    fn remains(
        folder: &dyn Folder,
        id: FileId,
        unknown: Compression,
        access: &RunAccess,
    ) -> Result<Arc<Self>> {
        let name = run_name(id);
        let failed = |e| Error::io("open", &name, e);
        let handle = folder.open(&name, Access::Read).map_err(failed)?;
        let size = handle.size().map_err(failed)?;
        let footer = KIND.footer(&*handle, &name, id, size).ok();
        let footer = footer.and_then(|(at, bytes)| Footer::decode(&bytes, at).ok());
        let values = footer.map_or((unknown, size), |footer| footer.values());
        Self::new(id, handle, size, values, access)
    }
}

/// A walk over what can be reached from the root.
struct Walk<'a, 'b> {
    run: &'a Run,
    rescue: &'a mut Rescue<'b>,
    lost: Vec<Lost>,
    /// Where the last leaf ended.
    end: u64,
    /// Whether there may be leaves behind it that no branch names any more.
    in_gap: bool,
    gaps: Vec<(u64, u64)>,
}

impl Walk<'_, '_> {
    /// Rescues all below the block at `at`, whose keys lie in `keys`.
    fn visit(&mut self, at: Child, level: u8, keys: &Span) -> Result<()> {
        if level == 0 {
            return self.visit_leaf(at, keys);
        }
        let run = self.run;
        let block = match run.branch(at, level) {
            Ok(block) => block,
            Err(error) => {
                self.in_gap = true;
                self.lose(error, keys);
                return Ok(());
            }
        };
        let mut key = Vec::new();
        let mut starts = Vec::new();
        block.start_key(&mut key);
        for i in 0..block.count() {
            block.read_into(i, &mut key);
            starts.push(Bytes::copy_from_slice(&key));
        }
        for i in 0..block.count() {
            if self.is_endless() {
                break;
            }
            let start = starts.get(i).filter(|_| i > 0).unwrap_or(&keys.start).clone();
            let end = starts.get(i + 1).or(keys.end.as_ref()).cloned();
            self.visit(block.child(i, run.child_len()), level - 1, &Span { start, end })?;
        }
        Ok(())
    }

    fn visit_leaf(&mut self, at: Child, keys: &Span) -> Result<()> {
        let run = self.run;
        let Some((offset, len)) = run.leaf_place(at).filter(|(offset, _)| *offset >= self.end)
        else {
            self.lose(run.no_leaf(at), keys);
            return Ok(());
        };
        let leaf = run.read_leaf(offset, len);
        self.close_gap(offset);
        self.end = offset + len as u64;
        match leaf {
            Ok(leaf) => self.rescue_leaf(&Block::trusted(leaf.bytes()))?,
            Err(error) => self.lose(error, keys),
        }
        Ok(())
    }

    fn rescue_leaf(&mut self, leaf: &Block<'_>) -> Result<()> {
        let mut key = Vec::new();
        leaf.start_key(&mut key);
        for i in 0..leaf.count() {
            leaf.read_into(i, &mut key);
            match leaf.kind(i) {
                EntryKind::Put => (self.rescue)(&key, Kind::Put, leaf.value(i))?,
                EntryKind::Delete => (self.rescue)(&key, Kind::Delete, &[])?,
                EntryKind::Far => match self.run.far(leaf.value(i)) {
                    Ok(value) => (self.rescue)(&key, Kind::Put, self.run.bytes(&value))?,
                    Err(error) => {
                        let after = [key.as_slice(), &[0]].concat();
                        self.lose(error, &Span::new(key.clone(), Some(after)));
                    }
                },
            }
        }
        Ok(())
    }

    /// Notes what is lost.
    fn lose(&mut self, error: Error, keys: &Span) {
        self.lost.push(Lost { error, keys: keys.clone() });
    }

    /// Whether more is lost than there can be: branches whose checksums were made to fit may lead
    /// to the same leaves for ever.
    fn is_endless(&self) -> bool {
        self.lost.len() as u64 > self.run.meta.bytes / 32
    }

    fn close_gap(&mut self, at: u64) {
        if std::mem::take(&mut self.in_gap) {
            self.gaps.push((self.end, at));
        }
    }

    /// Rescues the leaves that begin at `from` or after it, and end by `to`.
    fn scan(&mut self, from: u64, to: u64) -> Result<()> {
        let unit = self.run.footer.block_bytes as u64;
        let mut at = from.next_multiple_of(unit);
        while at < to {
            at += match self.leaf_at(at, to) {
                Some(leaf) => {
                    self.rescue_leaf(&Block::trusted(leaf.bytes()))?;
                    (leaf.bytes().len() as u64).next_multiple_of(unit)
                }
                None => unit,
            };
        }
        Ok(())
    }

    /// The leaf that begins at `at`, if one does. Its length is tried.
    fn leaf_at(&self, at: u64, to: u64) -> Option<Arc<Frame>> {
        let most = usize::try_from(to - at).map_or(MAX_BLOCK, |left| left.min(MAX_BLOCK));
        let bytes = self.run.read(at, most).ok()?;
        let mut len = self.run.footer.block_bytes;
        while len <= most {
            let leaf = bytes.get(..len)?;
            let place = place(self.run.meta.file, at);
            if is_sealed(leaf, place) && Block::check(leaf, 0).is_ok() {
                return Some(Frame::new(leaf.to_vec()));
            }
            len = padded(len + 1, self.run.footer.block_bytes);
        }
        None
    }
}

impl Footer {
    /// For a file of which nothing is known but the length of its blocks.
    fn unknown(file: FileId, block_bytes: usize, size: u64) -> Self {
        Self {
            file,
            compression: Compression::None,
            block_bytes,
            root: None,
            leaves: 0,
            branches_at: size,
            branches_end: size,
            filter_at: size,
            filter_lines: 0,
            filter_probes: 0,
            ranges_at: size,
            properties_at: size,
            properties_end: size,
        }
    }
}

//! Writing a run.

use super::{
    Lent, RunMeta, RunOptions,
    format::{BLOCK_BYTES, Footer, LINES_A_PAGE, PACKED_UNIT, PAGE, Packed, encode_ranges},
    meta::{Stretches, encode_properties},
    output::Output,
    run_name,
};
use crate::{
    Result,
    codec::{Compression, checksum, compress, key_hash},
    error::{Error, ErrorKind},
    sorted::{
        FAR_BYTES, FarValue, FileId, Kind, MAX_KEY, PACKED_VALUE_MAX, RangeSet, Span,
        block::{BlockBuilder, Child, EntryKind, place, seal},
        filter::{Filter, FilterBuilder, LINE},
        tree::{Root, Sink, TreeBuilder, padded},
    },
    vfs::Folder,
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Writes one run: entries in order, range deletes whenever, then [`finish`](Self::finish).
///
/// A writer that is dropped before removes its file.
pub(crate) struct RunWriter<'a> {
    tree: TreeBuilder,
    blocks: Blocks<'a>,
    filter: Option<FilterBuilder>,
    range_deletes: Vec<Span>,
    first: Bytes,
    entries: u64,
    deletes: u64,
    stretches: Stretches,
    raw_bytes: u64,
    lendable: u64,
    /// How many stored bytes of values lie in which other file.
    borrowed: BTreeMap<FileId, u64>,
}

/// Where the blocks go: into the file, one after the other.
struct Blocks<'a> {
    output: Output<'a>,
    options: RunOptions,
    /// A leaf on its way to being compressed.
    plain: Vec<u8>,
}

impl<'a> RunWriter<'a> {
    /// Starts a new file in `folder`. `block_bytes` is rounded to a power of two within limits.
    pub(crate) fn create(
        folder: &'a dyn Folder,
        file: FileId,
        options: RunOptions,
    ) -> Result<Self> {
        let block_bytes =
            options.block_bytes.clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end()).next_power_of_two();
        let options = RunOptions { block_bytes, ..options };
        if !options.compression.is_available() {
            let what = "this build lacks the feature that compresses as the table's options say";
            return Err(Error::new(ErrorKind::Misuse, what));
        }
        let mut output = Output::create(folder, file, run_name(file))?;
        if options.merged_soon {
            output.write_small_pieces();
        }
        Ok(Self {
            tree: TreeBuilder::new(block_bytes, options.compression == Compression::None),
            blocks: Blocks { output, options, plain: Vec::new() },
            filter: (options.filter_bits > 0).then(|| FilterBuilder::new(options.filter_bits)),
            range_deletes: Vec::new(),
            first: Bytes::new(),
            entries: 0,
            deletes: 0,
            stretches: Stretches::default(),
            raw_bytes: 0,
            lendable: 0,
            borrowed: BTreeMap::new(),
        })
    }

    /// The next entry; keys strictly ascending. A delete's value is ignored.
    pub(crate) fn add(&mut self, key: &[u8], kind: Kind, value: &[u8]) -> Result<()> {
        self.check_next(key)?;
        match kind {
            Kind::Delete => {
                self.tree.add(key, EntryKind::Delete, &[], &mut self.blocks)?;
                self.deletes += 1;
                self.stretches.delete();
            }
            Kind::Put => {
                self.put(key, value)?;
                self.stretches.put();
                self.raw_bytes += value.len() as u64;
            }
        }
        self.count(key);
        Ok(())
    }

    /// The same for a value that stays where it is.
    pub(crate) fn add_lent(&mut self, key: &[u8], value: &Lent) -> Result<()> {
        self.check_next(key)?;
        let (file, far) = (value.lender.id(), value.far);
        self.tree.add(key, EntryKind::Far, &far.to_lent_bytes(file), &mut self.blocks)?;
        *self.borrowed.entry(file).or_default() += u64::from(far.stored);
        self.stretches.put();
        self.raw_bytes += u64::from(far.len);
        self.count(key);
        Ok(())
    }

    /// Whether an entry of `key` may be the next.
    fn check_next(&mut self, key: &[u8]) -> Result<()> {
        if key.len() > MAX_KEY {
            return Err(Error::new(ErrorKind::Limit, "a key is longer than 16 KiB"));
        }
        match self.tree.last_key() {
            Some(last) if last >= key => return Err(out_of_order()),
            Some(_) => {}
            None => self.first = Bytes::copy_from_slice(key),
        }
        Ok(())
    }

    fn count(&mut self, key: &[u8]) {
        if let Some(filter) = &mut self.filter {
            filter.add(key_hash(key));
        }
        self.entries += 1;
        self.raw_bytes += key.len() as u64;
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if value.len() <= (self.blocks.options.block_bytes / 4).max(FAR_BYTES) {
            return self.tree.add(key, EntryKind::Put, value, &mut self.blocks);
        }
        let far = self.blocks.write_apart(value)?;
        if far.stored >= self.blocks.options.lend_from {
            self.lendable += u64::from(far.stored);
        }
        self.tree.add(key, EntryKind::Far, &far.to_bytes(), &mut self.blocks)
    }

    /// Adds a range delete, which hides what is older than this run, not its own entries.
    pub(crate) fn delete_range(&mut self, span: Span) {
        self.range_deletes.push(span);
    }

    /// How long the file is by now, not counting what waits in memory.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.blocks.output.len()
    }

    /// Writes the rest and syncs the file. The caller syncs the folder.
    pub(crate) fn finish(self) -> Result<RunMeta> {
        let last = self.tree.last_key().map(Bytes::copy_from_slice).unwrap_or_default();
        let Self { tree, mut blocks, filter, .. } = self;
        let range_deletes: RangeSet = self.range_deletes.into_iter().collect();
        let mut meta = RunMeta {
            file: blocks.output.id(),
            bytes: 0,
            span: span_of(&self.first, &last, self.entries, &range_deletes),
            first: self.first,
            last,
            entries: self.entries,
            deletes: self.deletes,
            stretched: self.stretches.total(),
            range_deletes: range_deletes.spans().len() as u64,
            raw_bytes: self.raw_bytes,
            digest: 0,
            lendable: self.lendable,
            borrowed: self.borrowed.into_iter().collect(),
        };
        let written = blocks.write_tree(tree)?;
        let filter = filter.filter(|_| meta.entries > 0).map(FilterBuilder::finish);
        let footer = blocks.write_parts(written, filter, &range_deletes, &meta)?;
        let at = blocks.output.len();
        blocks.output.append(&footer.encode(at))?;
        (meta.bytes, meta.digest) = blocks.output.finish()?;
        Ok(meta)
    }
}

/// What holds `first..=last` and all of `ranges`.
fn span_of(first: &Bytes, last: &Bytes, entries: u64, ranges: &RangeSet) -> Span {
    let mut end = last.to_vec();
    end.push(0);
    let points = (entries > 0).then(|| Span::new(first.clone(), Some(end)));
    let mut all = points.into_iter().chain(ranges.spans().iter().cloned());
    let Some(mut span) = all.next() else { return Span::new("", Some("")) };
    for other in all {
        span.start = span.start.min(other.start);
        span.end = match (span.end, other.end) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }
    span
}

/// Where the tree ended up.
struct WrittenTree {
    root: Option<Root>,
    leaves: u64,
    branches_at: u64,
    branches_end: u64,
}

impl Blocks<'_> {
    fn is_packed(&self) -> bool {
        self.options.compression != Compression::None
    }

    /// The number of the unit that begins at the end of the file.
    fn unit(&self, unit_bytes: usize) -> Result<u32> {
        u32::try_from(self.output.len() / unit_bytes as u64)
            .map_err(|_| Error::new(ErrorKind::Limit, "a run has more blocks than can be numbered"))
    }

    /// Writes a value that is too long for a block.
    fn write_apart(&mut self, value: &[u8]) -> Result<FarValue> {
        let len = u32::try_from(value.len())
            .ok()
            .filter(|len| *len < u32::MAX)
            .ok_or_else(|| Error::new(ErrorKind::Limit, "a value is longer than 4 GiB"))?;
        let small = value.len() <= PACKED_VALUE_MAX;
        let how = if small { self.options.compression } else { Compression::None };
        let packed = compress(how, value);
        let stored = packed.as_deref().unwrap_or(value);
        let offset = self.output.len();
        let far = FarValue {
            offset,
            stored: stored.len() as u32,
            len,
            checksum: checksum(stored, place(self.output.id(), offset)),
        };
        self.output.append(stored)?;
        Ok(far)
    }

    /// Writes the leaves that wait and the branches.
    fn write_tree(&mut self, tree: TreeBuilder) -> Result<WrittenTree> {
        let mut sink = Finishing { blocks: self, branches_at: None };
        let leaves = tree.leaves();
        let root = tree.finish(&mut sink)?;
        let branches_at = sink.branches_at;
        if root.is_none() {
            return Ok(WrittenTree { root, leaves, branches_at: 0, branches_end: 0 });
        }
        self.output.align(self.options.block_bytes)?;
        let branches_end = self.output.len();
        let branches_at = branches_at.unwrap_or(branches_end);
        Ok(WrittenTree { root, leaves, branches_at, branches_end })
    }

    /// Writes what follows the tree; the footer that says where all is.
    fn write_parts(
        &mut self,
        tree: WrittenTree,
        filter: Option<Filter>,
        range_deletes: &RangeSet,
        meta: &RunMeta,
    ) -> Result<Footer> {
        if filter.is_some() {
            self.output.align(PAGE)?;
        }
        let filter_at = self.output.len();
        let (filter_lines, filter_probes) =
            filter.as_ref().map_or((0, 0), |filter| (filter.lines.len(), filter.probes));
        filter.map_or(Ok(()), |filter| self.write_filter(&filter))?;
        let ranges_at = self.output.len();
        if !range_deletes.is_empty() {
            self.write_section(encode_ranges(range_deletes))?;
        }
        let properties_at = self.output.len();
        self.write_section(encode_properties(meta))?;
        Ok(Footer {
            file: meta.file,
            compression: self.options.compression,
            block_bytes: self.options.block_bytes,
            root: tree.root,
            leaves: tree.leaves,
            branches_at: tree.branches_at,
            branches_end: tree.branches_end,
            filter_at,
            filter_lines: u32::try_from(filter_lines)
                .map_err(|_| Error::new(ErrorKind::Limit, "a run's filter is too large"))?,
            filter_probes,
            ranges_at,
            properties_at,
            properties_end: self.output.len(),
        })
    }

    fn write_filter(&mut self, filter: &Filter) -> Result<()> {
        for lines in filter.lines.chunks(LINES_A_PAGE) {
            let place = place(self.output.id(), self.output.len());
            let write = |out: &mut Vec<u8>| {
                let start = out.len();
                out.resize(start + LINE, 0);
                lines.iter().for_each(|line| out.extend_from_slice(line));
                out.resize(start + PAGE, 0);
            };
            self.output.append_with(write, |page| seal(page, place))?;
        }
        Ok(())
    }

    fn write_section(&mut self, mut section: Vec<u8>) -> Result<()> {
        seal(&mut section, place(self.output.id(), self.output.len()));
        self.output.append(&section)
    }

    /// Writes a leaf compressed, in as many 64-byte units as it takes.
    fn pack(&mut self, leaf: &mut BlockBuilder) -> Result<Child> {
        self.output.align(PACKED_UNIT)?;
        let unit = self.unit(PACKED_UNIT)?;
        let place = place(self.output.id(), self.output.len());
        self.plain.clear();
        leaf.write(&mut self.plain, |len| len);
        let plain = &self.plain;
        let packed = compress(self.options.compression, plain);
        let how = if packed.is_some() { self.options.compression } else { Compression::None };
        let write = |out: &mut Vec<u8>| {
            Packed::write_header(out, how, plain.len());
            out.extend_from_slice(packed.as_deref().unwrap_or(plain));
        };
        let len = self.output.append_with(write, |stored| seal(stored, place))?;
        Ok(Child { unit, len: len as u32 })
    }
}

impl Sink for Blocks<'_> {
    fn leaf(&mut self, leaf: &mut BlockBuilder) -> Result<Child> {
        if self.is_packed() {
            return self.pack(leaf);
        }
        let block_bytes = self.options.block_bytes;
        self.output.align(block_bytes)?;
        let unit = self.unit(block_bytes)?;
        let place = place(self.output.id(), self.output.len());
        let write = |out: &mut Vec<u8>| leaf.write(out, |len| padded(len, block_bytes));
        let len = self.output.append_with(write, |block| seal(block, place))?;
        Ok(Child { unit, len: len as u32 })
    }

    fn branch(&mut self, block: &mut [u8]) -> Result<Child> {
        self.output.align(self.options.block_bytes)?;
        let unit = self.unit(self.options.block_bytes)?;
        seal(block, place(self.output.id(), self.output.len()));
        self.output.append(block)?;
        Ok(Child { unit, len: block.len() as u32 })
    }
}

/// Notes where the branches begin.
struct Finishing<'a, 'b> {
    blocks: &'a mut Blocks<'b>,
    branches_at: Option<u64>,
}

impl Sink for Finishing<'_, '_> {
    fn leaf(&mut self, leaf: &mut BlockBuilder) -> Result<Child> {
        self.blocks.leaf(leaf)
    }

    fn branch(&mut self, block: &mut [u8]) -> Result<Child> {
        let child = self.blocks.branch(block)?;
        let unit = self.blocks.options.block_bytes as u64;
        self.branches_at.get_or_insert(u64::from(child.unit) * unit);
        Ok(child)
    }
}

/// What is written comes in order: from a memtable always, from an ingest after a check, and from
/// runs unless one of them is damaged in a way that its checksums do not show.
pub(crate) fn out_of_order() -> Error {
    let message = "keys that are merged do not ascend: a file is damaged; verify() finds which";
    Error::new(ErrorKind::Corrupt, message)
}

//! Verifying a run: every byte read from the file again, and all that must hold checked.
//!
//! The walk names the place of what is wrong; the digest at the end catches whatever no checksum
//! covers (the zeros between the parts) and a file that was replaced as a whole.

use super::{
    Run, RunFile,
    format::{LINES_A_PAGE, PAGE},
    meta::{Stretches, encode_properties},
    read_footer, read_ranges,
};
use crate::{
    Result,
    codec::key_hash,
    error::Error,
    sorted::{
        FarValue, FileId, Pointer, Span,
        block::{Block, Child, EntryKind, MAX_BLOCK, is_sealed, place},
        check_digest,
        filter::{LINE, line_may_contain, line_of},
        tree::Tree,
    },
};
use std::collections::BTreeMap;

impl Run {
    /// Reads every byte from the file, whatever is mapped or cached, and checks every checksum,
    /// the order of keys, the bounds in branches, the filter, the counts and the digest.
    pub(crate) fn verify(&self) -> Result<()> {
        self.verify_end()?;
        let mut walk = Walk::new(self)?;
        if let Some(root) = self.root() {
            walk.visit(root.top, root.height, None, None)?;
        }
        walk.finish()?;
        check_digest(&*self.file.handle, self.name(), self.meta.bytes, self.meta.digest)
    }

    /// Footer, range deletes and properties.
    fn verify_end(&self) -> Result<()> {
        let at = self.footer.properties_end;
        let file = &*self.file.handle;
        let size = file.size().map_err(|e| Error::io("read the length of", self.name(), e))?;
        if size != self.meta.bytes {
            return Err(self.corrupt_at(size, "the file has another length than it had"));
        }
        let footer = read_footer(file, self.name(), &self.meta)?;
        let ranges = read_ranges(file, self.name(), &self.meta, &footer)?;
        if footer != self.footer || ranges != self.range_deletes {
            return Err(self.corrupt_at(at, "the footer changed since the run was opened"));
        }
        let (from, to) = (self.footer.properties_at, self.footer.properties_end);
        let properties = self.read(from, (to - from) as usize)?;
        if !is_sealed(&properties, place(self.meta.file, from)) {
            return Err(self.corrupt_at(from, "the properties' checksum does not match"));
        }
        if properties.get(8..) != encode_properties(&self.meta).get(8..) {
            return Err(self.corrupt_at(from, "the properties are not those in the manifest"));
        }
        Ok(())
    }
}

/// A walk over all blocks in order, and what it has counted.
struct Walk<'a> {
    run: &'a Run,
    filter: Vec<u8>,
    last_leaf: Option<Child>,
    first_key: Option<Vec<u8>>,
    last_key: Option<Vec<u8>>,
    leaves: u64,
    entries: u64,
    deletes: u64,
    stretches: Stretches,
    raw_bytes: u64,
    /// Stored bytes of values that lie apart in the run's own file, and in others.
    apart: u64,
    borrowed: BTreeMap<FileId, u64>,
}

impl<'a> Walk<'a> {
    fn new(run: &'a Run) -> Result<Self> {
        let (from, to) = (run.footer.filter_at, run.footer.ranges_at);
        let filter = run.read(from, (to - from) as usize)?;
        for (i, page) in filter.chunks(PAGE).enumerate() {
            run.check_page(page, from + (i * PAGE) as u64)?;
        }
        Ok(Self {
            run,
            filter,
            last_leaf: None,
            first_key: None,
            last_key: None,
            leaves: 0,
            entries: 0,
            deletes: 0,
            stretches: Stretches::default(),
            raw_bytes: 0,
            apart: 0,
            borrowed: BTreeMap::new(),
        })
    }

    /// Checks the block at `at`, of `level`, and all below it. Its keys lie in `low..high`.
    fn visit(
        &mut self,
        at: Child,
        level: u8,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
    ) -> Result<()> {
        if level == 0 {
            return self.visit_leaf(at, low, high);
        }
        let run = self.run;
        let offset = u64::from(at.unit) * run.footer.block_bytes as u64;
        let len = at.len as usize;
        let ends = offset.checked_add(u64::from(at.len));
        let (from, to) = (run.footer.branches_at, run.footer.branches_end);
        if offset < from || ends.is_none_or(|end| end > to) || len > MAX_BLOCK {
            return Err(run.corrupt_at(offset, "a branch block lies outside the branches"));
        }
        let bytes = run.read(offset, len)?;
        let block = run.check(&bytes, offset, level)?;
        let (mut key, mut next_key) = (Vec::new(), Vec::new());
        for i in 0..block.count() {
            block.start_key(&mut key);
            block.read_into(i, &mut key);
            // The first bound may be cut shorter here than in the block above.
            let bound = if i == 0 { low.unwrap_or_default().max(&key) } else { &key };
            if low.is_some_and(|low| low > bound) || high.is_some_and(|high| bound >= high) {
                return Err(run.corrupt_at(offset, "a branch's keys are not within its bounds"));
            }
            let above = if i + 1 < block.count() {
                block.start_key(&mut next_key);
                block.read_into(i + 1, &mut next_key);
                Some(next_key.as_slice())
            } else {
                high
            };
            self.visit(block.child(i, run.child_len()), level - 1, Some(bound), above)?;
        }
        Ok(())
    }

    fn visit_leaf(&mut self, at: Child, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<()> {
        let run = self.run;
        let (offset, len) = run.leaf_place(at).ok_or_else(|| run.no_leaf(at))?;
        if self.last_leaf.is_some_and(|last| !run.may_follow(last, at)) {
            return Err(run.corrupt_at(offset, "a leaf does not lie behind the one before"));
        }
        self.last_leaf = Some(at);
        self.leaves += 1;
        let frame = run.read_leaf(offset, len)?;
        let block = Block::trusted(frame.bytes());
        let mut key = Vec::new();
        block.start_key(&mut key);
        for i in 0..block.count() {
            block.read_into(i, &mut key);
            let below = self.last_key.as_ref().is_none_or(|last| *last < key);
            let above_low = low.is_none_or(|low| low <= key.as_slice());
            if !below || !above_low || high.is_some_and(|high| key.as_slice() >= high) {
                return Err(run.corrupt_at(offset, "a leaf's keys are not within its bounds"));
            }
            self.visit_entry(&key, block.kind(i), block.value(i), offset)?;
            self.last_key.get_or_insert_default().clone_from(&key);
        }
        Ok(())
    }

    fn visit_entry(&mut self, key: &[u8], kind: EntryKind, value: &[u8], at: u64) -> Result<()> {
        if self.first_key.is_none() {
            self.first_key = Some(key.to_vec());
        }
        self.entries += 1;
        self.raw_bytes += key.len() as u64;
        match kind {
            EntryKind::Delete => self.stretches.delete(),
            EntryKind::Put | EntryKind::Far => self.stretches.put(),
        }
        match kind {
            EntryKind::Put => self.raw_bytes += value.len() as u64,
            EntryKind::Delete => self.deletes += 1,
            EntryKind::Far => self.raw_bytes += self.visit_far(value, at)?,
        }
        let lines = self.run.footer.filter_lines as usize;
        if lines > 0 {
            let hash = key_hash(key);
            let line = line_of(hash, lines);
            let place = line / LINES_A_PAGE * PAGE + (line % LINES_A_PAGE + 1) * LINE;
            let bytes = self.filter.get(place..).unwrap_or_default();
            if !line_may_contain(bytes, hash, self.run.footer.filter_probes) {
                return Err(self.run.corrupt_at(at, "the filter denies a key that is there"));
            }
        }
        Ok(())
    }

    /// Checks the value that lies apart; its length. What is lent is read if the run is attached
    /// to its lenders. One that is itself kept as a lender only is not: nobody reads its entries,
    /// and what they point to may be gone.
    fn visit_far(&mut self, pointer: &[u8], at: u64) -> Result<u64> {
        let run = self.run;
        let pointer = Pointer::from_bytes(pointer)
            .ok_or_else(|| run.corrupt_at(at, "an entry says in no way where its value is"))?;
        let (far, stored) = (pointer.far, u64::from(pointer.far.stored));
        match pointer.lender {
            Some(lender) => *self.borrowed.entry(lender).or_default() += stored,
            None => self.apart += stored,
        }
        if pointer.lender.is_none() || run.lenders.get().is_some() {
            run.lender(pointer.lender)?.verify_value(&far)?;
        }
        Ok(u64::from(far.len))
    }

    /// Whether the counts are those in the manifest.
    fn finish(self) -> Result<()> {
        let meta = &self.run.meta;
        let deletes = (self.deletes, self.stretches.total());
        let counted = (self.leaves, self.entries, deletes, self.raw_bytes);
        let deletes = (meta.deletes, meta.stretched);
        let known = (self.run.footer.leaves, meta.entries, deletes, meta.raw_bytes);
        let ends = (self.first_key.unwrap_or_default(), self.last_key.unwrap_or_default());
        if counted != known || meta.first != ends.0 || meta.last != ends.1 {
            let what = "entries are not those that the manifest counts";
            return Err(self.run.corrupt_at(0, what));
        }
        if !self.borrowed.into_iter().eq(meta.borrowed.iter().copied()) {
            let what = "values do not lie in those other files that the manifest says";
            return Err(self.run.corrupt_at(0, what));
        }
        if meta.lendable > self.apart {
            let what = "there are fewer long values than the manifest says";
            return Err(self.run.corrupt_at(0, what));
        }
        let mut ranges = self.run.range_deletes.spans().iter();
        let inside = |span: &Span| span.clip(&meta.span).as_ref() == Some(span);
        if ranges.all(inside) {
            return Ok(());
        }
        Err(self.run.corrupt_at(self.run.footer.ranges_at, "a range delete is out of bounds"))
    }
}

impl RunFile {
    /// Reads the value at `far` from the file and checks it.
    fn verify_value(&self, far: &FarValue) -> Result<()> {
        if !self.holds_value(far) {
            return Err(self.corrupt_at(far.offset, "a value lies outside the file"));
        }
        let stored = self.read(far.offset, far.stored as usize)?;
        match far.is_packed() {
            true => self.unpack_value(far, &stored).map(drop),
            false => self.check_value(far, &stored),
        }
    }
}

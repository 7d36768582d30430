//! Verifying a hash run: every byte read from the file again, and all that must hold checked.
//!
//! The index is made once more from the records and compared, so it agrees with them to the byte.
//! The digest at the end catches whatever no checksum covers (the zeros between the parts) and a
//! file that was replaced as a whole.

use super::{
    HashRun, HashRunMeta,
    access::Piece,
    format::{Head, PAGE, PAGE_HEAD, Record, UNIT, UNITS_A_PAGE, ends_at},
    index::Row,
    read_extents, read_footer,
};
use crate::{
    Result,
    codec::decompress,
    error::Error,
    sorted::{FarValue, check_digest, is_sealed, place},
};

impl HashRun {
    /// Reads every byte from the file, whatever is mapped or cached, and checks every checksum,
    /// the order of records, the index, the counts and the digest.
    pub(crate) fn verify(&self) -> Result<()> {
        self.verify_end()?;
        let mut walk = Walk::new(self);
        for page in 0..self.footer.record_pages {
            walk.visit(page)?;
        }
        walk.finish()?;
        check_digest(&*self.file, self.name(), self.meta.bytes, self.meta.digest)
    }

    /// Footer, extents and properties.
    fn verify_end(&self) -> Result<()> {
        let at = self.footer.properties_end;
        let size = self.file.size().map_err(|e| Error::io("read the length of", self.name(), e))?;
        if size != self.meta.bytes {
            return Err(self.corrupt_at(size, "the file has another length than it had"));
        }
        let footer = read_footer(&*self.file, self.name(), &self.meta)?;
        let extents = read_extents(&*self.file, self.name(), &footer)?;
        if footer != self.footer || Piece::all_of(extents) != self.pieces {
            return Err(self.corrupt_at(at, "the footer changed since the run was opened"));
        }
        let (from, to) = (self.footer.properties_at, self.footer.properties_end);
        let properties = self.read(from, (to - from) as usize)?;
        if !is_sealed(&properties, place(self.meta.file, from)) {
            return Err(self.corrupt_at(from, "the properties' checksum does not match"));
        }
        // A run may have become younger or older than it was when it was written.
        let written = HashRunMeta::decode_properties(&properties);
        let (bytes, digest, age) = (self.meta.bytes, self.meta.digest, self.meta.age);
        let written = written.map(|written| HashRunMeta { bytes, digest, age, ..written });
        if written.as_ref() != Some(&self.meta) {
            return Err(self.corrupt_at(from, "the properties are not those in the manifest"));
        }
        Ok(())
    }

    /// What lies apart where the record on the page `at` there says, read from the file.
    pub(super) fn read_apart(&self, pointer: &[u8], at: u64) -> Result<Vec<u8>> {
        let far = FarValue::from_bytes(pointer)
            .filter(|far| self.holds(far))
            .ok_or_else(|| self.corrupt_at(at, "a value lies outside the file"))?;
        let stored = self.read(far.offset, far.stored as usize)?;
        self.check_apart(&far, &stored)?;
        if !far.is_packed() {
            return Ok(stored);
        }
        decompress(self.footer.compression, &stored, far.len as usize)
            .ok_or_else(|| self.corrupt_at(far.offset, "a value cannot be unpacked"))
    }
}

/// A walk over all records in order, and what it has counted.
struct Walk<'a> {
    run: &'a HashRun,
    row: Row,
    last: Option<(u64, Vec<u8>)>,
    deletes: u64,
    raw_bytes: u64,
}

impl<'a> Walk<'a> {
    fn new(run: &'a HashRun) -> Self {
        Self { run, row: Row::default(), last: None, deletes: 0, raw_bytes: 0 }
    }

    fn visit(&mut self, number: u64) -> Result<()> {
        let (at, _) = self.run.page_place(number).ok_or_else(|| self.run.no_page())?;
        let page = self.run.read(at, PAGE)?;
        self.run.check_page(&page, at)?;
        let mut within = PAGE_HEAD;
        while let Some(record) = Record::read(&page, within) {
            let unit = number * UNITS_A_PAGE + (within / UNIT) as u64;
            self.visit_record(&record, unit, at)?;
            within = record.end(within);
        }
        if within == PAGE_HEAD || !ends_at(&page, within) {
            return Err(self.run.corrupt_at(at, "a page does not consist of records"));
        }
        Ok(())
    }

    fn visit_record(&mut self, record: &Record<'_>, unit: u64, at: u64) -> Result<()> {
        let key = match record.head.is(Head::KEY_APART) {
            true => self.run.read_apart(record.key, at)?,
            false => record.key.to_vec(),
        };
        let value = match record.head.is(Head::VALUE_APART) {
            true => self.run.read_apart(record.value, at)?.len(),
            false => record.value.len(),
        };
        let hash = self.run.hash(&key);
        self.raw_bytes += (key.len() + value) as u64;
        self.deletes += u64::from(record.head.is(Head::DELETE));
        let entry = (hash, key);
        if self.last.as_ref().is_some_and(|last| *last >= entry) || !self.run.meta.slice.has(hash) {
            return Err(self.run.corrupt_at(at, "records are not in the order of their hashes"));
        }
        self.last = Some(entry);
        let added = self.row.add(hash, unit, record.head.record_len());
        added.ok_or_else(|| self.run.corrupt_at(at, "records lie too far from each other"))
    }

    /// Whether index and counts are those of the records.
    fn finish(self) -> Result<()> {
        let run = self.run;
        let (meta, footer) = (&run.meta, &run.footer);
        let counted = (self.row.len(), self.deletes, self.raw_bytes);
        if counted != (meta.entries, meta.deletes, meta.raw_bytes) {
            return Err(run.corrupt_at(0, "entries are not those that the manifest counts"));
        }
        let mut index = self.row.index(meta.slice, footer.directories_at / PAGE as u64);
        let mut at = footer.index_at;
        let mut page = Vec::with_capacity(PAGE);
        while index.write_page(&mut page) {
            self.compare(&page, at)?;
            at += PAGE as u64;
            page.clear();
        }
        let directories = index.into_directories();
        if directories.len() as u64 != footer.extents_at - footer.directories_at {
            return Err(run.corrupt_at(footer.directories_at, "the directories are others"));
        }
        for page in directories.chunks(PAGE) {
            self.compare(page, at)?;
            at += PAGE as u64;
        }
        Ok(())
    }

    /// Whether the page in the file `at` there is this one.
    fn compare(&self, page: &[u8], at: u64) -> Result<()> {
        let stored = self.run.read(at, PAGE)?;
        self.run.check_page(&stored, at)?;
        if stored.get(PAGE_HEAD..) != page.get(PAGE_HEAD..) {
            return Err(self.run.corrupt_at(at, "the index does not lead to the records"));
        }
        Ok(())
    }
}

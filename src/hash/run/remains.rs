//! What can still be read of a damaged hash run.
//!
//! Each page of records stands alone, so a damaged place costs the page it lies in. Which pages
//! are records the extents say; without them every page of the file is tried: a checksum that fits
//! the bytes, the place and the file is proof enough, and pages of the index hold no record.

use super::{
    HashRun, HashRunMeta,
    format::{Footer, Head, PAGE, PAGE_HEAD, Record, Slice},
    hash_run_name, read_extents, read_footer,
};
use crate::{
    Result,
    cache::BlockCache,
    codec::Compression,
    error::Error,
    sorted::{FOOTER_BYTES, FileId, Kind, RunAccess, is_sealed, place, read},
    vfs::{Access, Folder},
};
use std::sync::Arc;

/// What is done with each entry found.
type Rescue<'a> = dyn FnMut(&[u8], Kind, &[u8]) -> Result<()> + 'a;

impl HashRun {
    /// Opens a run as far as that is possible, and says what is not.
    pub(crate) fn open_damaged(
        folder: &dyn Folder,
        meta: HashRunMeta,
    ) -> Result<(HashRun, Vec<Error>)> {
        let name = hash_run_name(meta.file);
        let failed = |e| Error::io("open", &name, e);
        let file = folder.open(&name, Access::Read).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        let meta = HashRunMeta { bytes: size, ..meta };
        let mut errors = Vec::new();
        let footer = read_footer(&*file, &name, &meta);
        let known = footer.and_then(|footer| {
            let extents = read_extents(&*file, &name, &footer);
            extents.map(|extents| (footer, extents))
        });
        let (footer, extents) = known.unwrap_or_else(|error| {
            errors.push(error);
            (Footer::unknown(meta.file, size), Vec::new())
        });
        let access = RunAccess::Cached(Arc::new(BlockCache::new(0)));
        let run = HashRun::assemble(meta, footer, extents, file, &access)?;
        Ok((run, errors))
    }

    /// What the run says of itself: for a database without a manifest.
    pub(crate) fn meta_of(folder: &dyn Folder, file: FileId) -> Result<HashRunMeta> {
        let name = hash_run_name(file);
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
        let meta = HashRunMeta::decode_properties(&properties)
            .filter(|meta| is_sealed(&properties, place(file, from)) && meta.file == file)
            .ok_or_else(|| corrupt(from, "the properties are damaged"))?;
        Ok(HashRunMeta { bytes: size, ..meta })
    }

    /// Shows every entry that can be read, and returns what cannot.
    pub(crate) fn rescue(&self, rescue: &mut Rescue<'_>) -> Result<Vec<Error>> {
        let mut lost = Vec::new();
        let is_known = !self.pieces.is_empty();
        let pages = if is_known { self.footer.record_pages } else { self.meta.bytes / PAGE as u64 };
        for number in 0..pages {
            let at = match self.page_place(number) {
                Some((at, _)) => at,
                None => number * PAGE as u64,
            };
            let page = self.read(at, PAGE);
            match page.and_then(|page| self.check_page(&page, at).map(|()| page)) {
                Ok(page) => self.rescue_page(&page, at, rescue, &mut lost)?,
                Err(error) if is_known => lost.push(error),
                // Whatever it is, nobody says that it was records.
                Err(_) => {}
            }
        }
        Ok(lost)
    }

    fn rescue_page(
        &self,
        page: &[u8],
        at: u64,
        rescue: &mut Rescue<'_>,
        lost: &mut Vec<Error>,
    ) -> Result<()> {
        let mut within = PAGE_HEAD;
        while let Some(record) = Record::read(page, within) {
            within = record.end(within);
            match self.whole(&record, at) {
                Ok((key, value)) if record.head.is(Head::DELETE) => {
                    debug_assert!(value.is_empty());
                    rescue(&key, Kind::Delete, &[])?;
                }
                Ok((key, value)) => rescue(&key, Kind::Put, &value)?,
                Err(error) => lost.push(error),
            }
        }
        Ok(())
    }

    /// Key and value of a record, wherever they lie.
    fn whole(&self, record: &Record<'_>, at: u64) -> Result<(Vec<u8>, Vec<u8>)> {
        let part = |bytes: &[u8], apart| match record.head.is(apart) {
            true => self.read_apart(bytes, at),
            false => Ok(bytes.to_vec()),
        };
        Ok((part(record.key, Head::KEY_APART)?, part(record.value, Head::VALUE_APART)?))
    }
}

impl Footer {
    /// For a file of which nothing is known.
    fn unknown(file: FileId, size: u64) -> Self {
        Self {
            file,
            compression: Compression::None,
            slice: Slice::default(),
            seed: 0,
            index_pages: 0,
            index_at: size,
            directories_at: size,
            extents_at: size,
            properties_at: size,
            properties_end: size,
            record_pages: 0,
        }
    }
}

//! Hash runs: immutable files of entries by the hash of their keys, made once and only read until
//! nobody needs them.
//!
//! A look-up reads one line of the [index](index) and one page of records ([`format`](self::format)
//! has the picture). It is read in one of two ways. *Mapped*, it takes no lock, allocates nothing
//! and counts no references: each page is checked before its first use, which a bitmap remembers.
//! *Cached*, pages go through the [block cache](crate::cache).

mod access;
mod cursor;
mod format;
mod index;
mod lookup;
mod meta;
mod remains;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub(crate) use cursor::HashRunCursor;
pub(crate) use format::Slice;
pub(crate) use lookup::Candidate;
pub(crate) use meta::HashRunMeta;
pub(crate) use writer::{HashRunOptions, HashRunWriter};

use crate::{
    Result,
    cache::BlockCache,
    codec::seeded_hash,
    error::{Error, ErrorKind},
    sorted::{
        Checked, FOOTER_BYTES, FileId, Grave, Graveyard, RunAccess, is_sealed, open_whole, place,
        read,
    },
    vfs::{File, Folder, Map},
};
use access::Piece;
use format::{Extent, Footer, KIND, PAGE, decode_extents};
use index::index_pages;
use std::{fmt, sync::Arc};

/// The name of the hash run numbered `file`.
pub(crate) fn hash_run_name(file: FileId) -> String {
    format!("{file:010}.hash")
}

/// An open hash run.
pub(crate) struct HashRun {
    meta: HashRunMeta,
    footer: Footer,
    pieces: Box<[Piece]>,
    grave: Grave,
    file: Arc<dyn File>,
    /// The whole file, if mapped.
    map: Option<Map>,
    /// Which pages of the mapping have been checked.
    checked: Checked,
    cache: Arc<BlockCache>,
}

impl HashRun {
    /// Opens the run that `meta` describes, of a table with this seed. Reads its end; pages are
    /// checked when first used.
    pub(crate) fn open(
        folder: &dyn Folder,
        meta: HashRunMeta,
        seed: u64,
        access: &RunAccess,
    ) -> Result<Arc<HashRun>> {
        let name = hash_run_name(meta.file);
        let file = open_whole(folder, &name, meta.bytes)?;
        let footer = read_footer(&*file, &name, &meta)?;
        if footer.seed != seed {
            let at = meta.bytes - FOOTER_BYTES as u64;
            return Err(Error::corrupt(&name, at, "the file is hashed with another seed"));
        }
        let extents = read_extents(&*file, &name, &footer)?;
        HashRun::assemble(meta, footer, extents, file, access).map(Arc::new)
    }

    fn assemble(
        meta: HashRunMeta,
        footer: Footer,
        extents: Vec<Extent>,
        file: Arc<dyn File>,
        access: &RunAccess,
    ) -> Result<HashRun> {
        let name = hash_run_name(meta.file);
        let (map, cache) = match access {
            RunAccess::Mapped(cache) => {
                (file.map().map_err(|e| Error::io("map", &name, e))?, cache)
            }
            RunAccess::Cached(cache) => (None, cache),
        };
        let map = map.filter(|map| map.len() as u64 == meta.bytes);
        map.iter().for_each(Map::expect_random);
        Ok(HashRun {
            checked: Checked::new(map.as_ref().map_or(0, |_| footer.extents_at), PAGE),
            footer,
            pieces: Piece::all_of(extents),
            grave: Grave::new(meta.file, name),
            meta,
            file,
            map,
            cache: cache.clone(),
        })
    }

    pub(crate) fn meta(&self) -> &HashRunMeta {
        &self.meta
    }

    /// The hash by which the file is ordered.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        seeded_hash(key, self.footer.seed)
    }

    pub(crate) fn cursor(self: &Arc<Self>) -> HashRunCursor {
        HashRunCursor::new(self.clone())
    }

    /// Once nobody has the run any more, its number goes `to` there.
    pub(crate) fn retire(&self, to: &Arc<Graveyard>) {
        self.grave.retire(to);
    }

    pub(crate) fn name(&self) -> &str {
        self.grave.name()
    }

    /// `len` bytes of the file at `at`, which have been found to lie inside it.
    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        read(&*self.file, self.name(), at, len)
    }

    fn corrupt_at(&self, at: u64, what: impl Into<String>) -> Error {
        Error::corrupt(self.name(), at, what)
    }
}

impl fmt::Debug for HashRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashRun({}, {} entries)", self.name(), self.meta.entries)
    }
}

/// The footer, if it is one and describes the file that `meta` does.
fn read_footer(file: &dyn File, name: &str, meta: &HashRunMeta) -> Result<Footer> {
    let (at, bytes) = KIND.footer(file, name, meta.file, meta.bytes)?;
    let footer = Footer::decode(&bytes, at).map_err(|what| Error::corrupt(name, at, what))?;
    let is_same = footer.file == meta.file
        && footer.slice == meta.slice
        && u64::from(footer.index_pages) == index_pages(meta.entries);
    if !is_same {
        return Err(Error::corrupt(name, at, "the footer is of another hash run"));
    }
    if !footer.compression.is_available() {
        let what = "values are compressed in a way that this build lacks the feature for";
        return Err(Error::new(ErrorKind::Misuse, what).in_file(name));
    }
    Ok(footer)
}

fn read_extents(file: &dyn File, name: &str, footer: &Footer) -> Result<Vec<Extent>> {
    let at = footer.extents_at;
    let corrupt = |what| Error::corrupt(name, at, what);
    let len = usize::try_from(footer.properties_at - at);
    let section = read(file, name, at, len.map_err(|_| corrupt("extents fill the memory"))?)?;
    if !is_sealed(&section, place(footer.file, at)) {
        return Err(corrupt("the extents' checksum does not match"));
    }
    decode_extents(&section, footer.index_at / PAGE as u64, footer.record_pages)
        .ok_or_else(|| corrupt("extents that cannot be"))
}

//! What of a bulk load does not fit in memory: a file that nobody ever sees, without form.
//!
//! Each time the memory is full it takes in all parts, one behind the other; of each it remembers
//! where its piece lies. It need not survive anything, so it is never synced: a small one may be
//! gone before the system has written it to the disk. A crash leaves an orphan, which the next open
//! removes.

use super::parts::PARTS;
use crate::{
    Error, Result,
    codec::Digest,
    hash::run::hash_run_name,
    table::Shop,
    vfs::{Access, File, read_exact_at, write_all_at},
};
use std::sync::Arc;

/// How much is written at once, at multiples of that: so the system keeps it in large pages.
const CHUNK: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// A file of parts. Dropping it removes it.
pub(super) struct Spill<'a> {
    shop: &'a Shop,
    name: String,
    file: Arc<dyn File>,
    written: u64,
    /// What is written next: always less than a chunk between calls.
    buffer: Vec<u8>,
    /// Of each part, oldest first.
    pieces: Vec<Vec<Piece>>,
}

/// Entries of one part that came together.
pub(super) struct Piece {
    at: u64,
    len: usize,
    digest: u64,
}

impl<'a> Spill<'a> {
    pub(super) fn create(shop: &'a Shop) -> Result<Self> {
        let name = hash_run_name(shop.files.take());
        let opened = shop.folder.open(&name, Access::CreateNew);
        let file = opened.map_err(|error| Error::io("create", &name, error))?;
        let pieces = (0..PARTS).map(|_| Vec::new()).collect();
        Ok(Self { shop, name, file, written: 0, buffer: Vec::new(), pieces })
    }

    /// Takes in entries of a part, which are these blocks. [`Self::finish`] has to follow before
    /// they can be read.
    pub(super) fn add<'b>(
        &mut self,
        part: usize,
        blocks: impl Iterator<Item = &'b [u8]>,
    ) -> Result<()> {
        let (at, mut digest) = (self.len(), Digest::default());
        for block in blocks {
            digest.add(block);
            self.buffer.extend_from_slice(block);
            while let Some((chunk, _)) = self.buffer.split_at_checked(CHUNK) {
                write(&*self.file, &self.name, chunk, self.written)?;
                self.written += CHUNK as u64;
                self.buffer.drain(..CHUNK);
            }
        }
        let len = (self.len() - at) as usize;
        if let Some(pieces) = self.pieces.get_mut(part).filter(|_| len > 0) {
            pieces.push(Piece { at, len, digest: digest.finish() });
        }
        Ok(())
    }

    /// How much it has taken in.
    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self) -> Result<()> {
        write(&*self.file, &self.name, &self.buffer, self.written)?;
        self.written = self.len();
        self.buffer = Vec::new();
        Ok(())
    }

    /// The pieces of a part, oldest first.
    pub(super) fn of(&self, part: usize) -> &[Piece] {
        self.pieces.get(part).map_or(&[], Vec::as_slice)
    }

    /// Reads a piece, and appends it to `out`.
    pub(super) fn read(&self, piece: &Piece, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + piece.len, 0);
        let part = out.get_mut(start..).unwrap_or_default();
        read_exact_at(&*self.file, part, piece.at)
            .map_err(|error| Error::io("read", &self.name, error))?;
        let mut digest = Digest::default();
        digest.add(part);
        if digest.finish() == piece.digest {
            return Ok(());
        }
        Err(Error::corrupt(&self.name, piece.at, "what was written a moment ago has changed"))
    }
}

fn write(file: &dyn File, name: &str, bytes: &[u8], at: u64) -> Result<()> {
    write_all_at(file, bytes, at).map_err(|error| Error::io("write", name, error))
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Spill<'_> {
    fn drop(&mut self) {
        // What cannot be removed is an orphan that the next open removes.
        let _ = self.shop.folder.remove(&self.name);
    }
}

//! The file under construction: a buffer written in large aligned pieces.
//!
//! Writes are of 2 MiB at multiples of that, because then Linux keeps the file in 2 MiB pages of
//! its cache and maps them as such, which makes every later read of the mapping cheaper.

use crate::{
    Result,
    codec::Digest,
    error::Error,
    sorted::FileId,
    vfs::{Access, File, Folder, SyncKind, write_all_at},
};
use std::sync::Arc;

/// How much is written at once.
const CHUNK: usize = 2 << 20;

/// A file that is only appended to. Dropped before it is finished, it takes the file with it.
pub(crate) struct Output<'a> {
    folder: &'a dyn Folder,
    name: String,
    file: Arc<dyn File>,
    id: FileId,
    /// What is written so far.
    written: u64,
    /// What comes next; always less than a chunk between calls.
    buffer: Vec<u8>,
    digest: Digest,
    is_finished: bool,
}

impl<'a> Output<'a> {
    pub(crate) fn create(folder: &'a dyn Folder, id: FileId, name: String) -> Result<Self> {
        let file = folder
            .open(&name, Access::CreateNew)
            .map_err(|error| Error::io("create", &name, error))?;
        let digest = Digest::default();
        let (written, buffer) = (0, Vec::new());
        Ok(Self { folder, name, file, id, written, buffer, digest, is_finished: false })
    }

    /// The number of the file.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Where the next byte will lie.
    pub(crate) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends zeros up to a multiple of `unit`, at most a chunk.
    pub(crate) fn align(&mut self, unit: usize) -> Result<()> {
        let len = self.len();
        let zeros = (len.next_multiple_of(unit as u64) - len) as usize;
        self.buffer.resize(self.buffer.len() + zeros, 0);
        self.write_chunks()
    }

    /// Appends what `write` appends to the buffer, and hands it that part once more to be sealed.
    pub(crate) fn append_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        seal: impl FnOnce(&mut [u8]),
    ) -> Result<u64> {
        let start = self.buffer.len();
        write(&mut self.buffer);
        let part = self.buffer.get_mut(start..).unwrap_or_default();
        let len = part.len() as u64;
        seal(part);
        self.write_chunks()?;
        Ok(len)
    }

    /// Appends `bytes`, of any length, without holding them twice.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.buffer.is_empty()
                && let Some((chunk, later)) = bytes.split_at_checked(CHUNK)
            {
                self.write(chunk)?;
                bytes = later;
                continue;
            }
            let room = CHUNK - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            self.write_chunks()?;
            bytes = later;
        }
        Ok(())
    }

    fn write_chunks(&mut self) -> Result<()> {
        while self.buffer.len() >= CHUNK {
            self.write_first(CHUNK)?;
        }
        Ok(())
    }

    /// Writes the first `len` bytes of the buffer.
    fn write_first(&mut self, len: usize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(buffer.get(..len).unwrap_or_default());
        buffer.drain(..len);
        self.buffer = buffer;
        written
    }

    /// Writes `chunk` behind what is written.
    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        write_all_at(&*self.file, chunk, self.written)
            .map_err(|error| Error::io("write", &self.name, error))?;
        self.digest.add(chunk);
        self.file.start_writeback(self.written, chunk.len() as u64);
        self.written += chunk.len() as u64;
        Ok(())
    }

    /// Writes the rest and makes the file durable; its length and digest.
    pub(crate) fn finish(mut self) -> Result<(u64, u64)> {
        self.write_first(self.buffer.len())?;
        self.file.sync(SyncKind::Full).map_err(|error| Error::io("sync", &self.name, error))?;
        self.is_finished = true;
        Ok((self.written, std::mem::take(&mut self.digest).finish()))
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed is an orphan that the next open removes.
            let _ = self.folder.remove(&self.name);
        }
    }
}

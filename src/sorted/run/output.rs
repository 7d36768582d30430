//! The file under construction: a buffer written in aligned pieces.
//!
//! Writes are of 2 MiB at multiples of that, because then Linux keeps the file in 2 MiB pages of
//! its cache and maps them as such, which makes every later read of the mapping cheaper. Such pages
//! are dear to find while much is written: what gains little from them, long values and files that
//! are merged soon, is written in smaller pieces.

use crate::{
    Result,
    codec::Digest,
    error::Error,
    sorted::FileId,
    vfs::{Access, File, Folder, SyncKind, write_all_at},
};
use std::sync::Arc;

/// How much is written at once, up to a multiple of it, of what is read for long.
const LARGE: usize = 2 << 20;
/// The same of what is not, and of long values.
const SMALL: usize = 256 << 10;
/// A long value.
const LONG: usize = 16 << 10;

/// A file that is only appended to. Dropped before it is finished, it takes the file with it.
pub(crate) struct Output<'a> {
    folder: &'a dyn Folder,
    name: String,
    file: Arc<dyn File>,
    id: FileId,
    /// What is written so far.
    written: u64,
    /// How much is written at once.
    unit: usize,
    /// What comes next; always less than a unit between calls.
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
        Ok(Self {
            folder,
            name,
            file,
            id,
            written,
            unit: LARGE,
            buffer,
            digest,
            is_finished: false,
        })
    }

    /// From now on: nobody will read it for long.
    pub(crate) fn write_small_pieces(&mut self) {
        self.unit = SMALL;
    }

    /// The number of the file.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Where the next byte will lie.
    pub(crate) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Appends zeros up to a multiple of `of`, which is at most what is written at once.
    pub(crate) fn align(&mut self, of: usize) -> Result<()> {
        let len = self.len();
        let zeros = (len.next_multiple_of(of as u64) - len) as usize;
        self.buffer.resize(self.buffer.len() + zeros, 0);
        self.write_units(self.unit)
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
        self.write_units(self.unit)?;
        Ok(len)
    }

    /// Appends `bytes`, of any length, without holding them twice.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        let unit = if bytes.len() >= LONG { SMALL } else { self.unit };
        while !bytes.is_empty() {
            let room = self.room(unit);
            if self.buffer.is_empty()
                && let Some((piece, later)) = bytes.split_at_checked(room)
            {
                self.write(piece)?;
                bytes = later;
                continue;
            }
            let (now, later) =
                bytes.split_at(room.saturating_sub(self.buffer.len()).min(bytes.len()));
            self.buffer.extend_from_slice(now);
            self.write_units(unit)?;
            bytes = later;
        }
        Ok(())
    }

    /// How much more than what is written is a multiple of `unit`.
    fn room(&self, unit: usize) -> usize {
        unit - (self.written % unit as u64) as usize
    }

    /// Writes what waits, up to a multiple of `unit`.
    fn write_units(&mut self, unit: usize) -> Result<()> {
        while self.buffer.len() >= self.room(unit) {
            self.write_first(self.room(unit))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{mem::MemFolder, read_exact_at};
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Short parts, long values, and some longer than all that is written at once.
        #[test]
        fn what_is_appended_is_written_in_order(
            small in any::<bool>(),
            parts in vec(
                (prop_oneof![0..9usize, 4000..9000usize, 0..3 * LARGE], any::<bool>()),
                0..40,
            ),
        ) {
            let folder = MemFolder::default();
            let mut output = Output::create(&folder, 1, "file".into()).unwrap();
            if small {
                output.write_small_pieces();
            }
            let (mut all, mut digest) = (Vec::new(), Digest::default());
            let unit = if small { SMALL } else { LARGE };
            for (number, (len, aligned)) in parts.into_iter().enumerate() {
                let part: Vec<u8> = (0..len).map(|i| (i / 251 + 7 * number + i) as u8).collect();
                if aligned {
                    output.align(4096).unwrap();
                    all.resize(all.len().next_multiple_of(4096), 0);
                    output.append_with(|out| out.extend_from_slice(&part), |_| {}).unwrap();
                } else {
                    output.append(&part).unwrap();
                }
                all.extend_from_slice(&part);
                prop_assert_eq!(output.len(), all.len() as u64);
                prop_assert!(output.buffer.len() < unit);
            }
            digest.add(&all);
            prop_assert_eq!(output.finish().unwrap(), (all.len() as u64, digest.finish()));
            let mut written = vec![0; all.len()];
            let file = folder.open("file", Access::Read).unwrap();
            read_exact_at(&*file, &mut written, 0).unwrap();
            prop_assert!(written == all, "the file holds something else");
        }
    }
}

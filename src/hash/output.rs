//! Writing entries in the order of hashes as files of bounded size: a slice of all hashes each.

use super::{
    run::{HashRun, HashRunOptions, HashRunWriter, Slice, hash_run_name},
    runs::Table,
};
use crate::{
    Error, ErrorKind, Result,
    sorted::{Cursor, FileId, Kind},
    table::{HASH_BYTES, Shop},
};
use std::sync::Arc;

/// Entries written between two pauses of background work, in bytes.
const BREATH_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 1 << 20 };
/// About so many entries a file: while one is written, nine bytes of each are kept in memory.
const FILE_ENTRIES: u64 = 4 << 20;
/// No more files than this for a run.
const BITS_MAX: u8 = 16;

/// How many bits of the hash to cut slices by, for files of the size that the table's are.
pub(super) fn bits_for(table: &Table, bytes: u64, entries: u64) -> u8 {
    let files = bytes.div_ceil(table.options.file_limit()).max(entries.div_ceil(FILE_ENTRIES));
    let bits = u64::BITS - files.saturating_sub(1).leading_zeros();
    (bits as u8).min(BITS_MAX)
}

/// Writes ascending entries into files, one a slice. Unless finished, removes what it wrote.
pub(super) struct Output<'a> {
    shop: &'a Shop,
    table: &'a Table,
    age: u64,
    bits: u8,
    writer: Option<(Slice, HashRunWriter<'a>)>,
    made: Vec<Arc<HashRun>>,
    /// Files finished, to be removed again on failure.
    files: Vec<FileId>,
}

impl<'a> Output<'a> {
    pub(super) fn new(shop: &'a Shop, table: &'a Table, age: u64, bits: u8) -> Self {
        let (made, files) = (Vec::new(), Vec::new());
        Self { shop, table, age, bits, writer: None, made, files }
    }

    /// The next entry.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, key: &[u8], kind: Kind, value: &[u8]) -> Result<()> {
        if let Some((slice, writer)) = &mut self.writer
            && slice.has(hash)
        {
            return writer.add(hash, key, kind, value);
        }
        self.begin(hash)?.add(hash, key, kind, value)
    }

    #[cold]
    fn begin(&mut self, hash: u64) -> Result<&mut HashRunWriter<'a>> {
        self.end_file()?;
        let bits = self.bits;
        let number = hash.checked_shr(64 - u32::from(bits)).unwrap_or(0) as u32;
        let slice = Slice { bits, number };
        if self.made.last().is_some_and(|made| made.meta().slice.last() >= slice.first()) {
            return Err(Error::new(ErrorKind::Misuse, "entries of a hash run do not ascend"));
        }
        let options = HashRunOptions {
            seed: self.table.seed,
            compression: self.table.options.how_compressed(),
            slice,
            age: self.age,
        };
        let file = self.shop.files.take();
        let writer = HashRunWriter::create(&*self.shop.folder, file, options)?;
        let (_, writer) = self.writer.insert((slice, writer));
        Ok(writer)
    }

    fn end_file(&mut self) -> Result<()> {
        let Some((_, writer)) = self.writer.take() else { return Ok(()) };
        let meta = writer.finish()?;
        self.files.push(meta.file);
        let (folder, access) = (&*self.shop.folder, &self.shop.access);
        self.made.push(HashRun::open(folder, meta, self.table.seed, access)?);
        Ok(())
    }

    /// The files written.
    pub(super) fn finish(mut self) -> Result<Vec<Arc<HashRun>>> {
        self.end_file()?;
        self.files.clear();
        let made = std::mem::take(&mut self.made);
        self.table.work.bytes_written.add(made.iter().map(|run| run.meta().bytes).sum());
        Ok(made)
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.writer = None;
        self.made.clear();
        for &file in &self.files {
            // What cannot be removed is an orphan that the next open removes.
            let _ = self.shop.folder.remove(&hash_run_name(file));
        }
    }
}

/// Writes what `input` has from where it is up to the hash `last`; says how many bytes of keys and
/// values that was. With `breathe`, pauses now and then.
pub(super) fn pour<C: Cursor + ?Sized>(
    input: &mut C,
    last: u64,
    output: &mut Output<'_>,
    breathe: bool,
) -> Result<u64> {
    let (mut read, mut pause_at) = (0, BREATH_BYTES);
    while input.valid() {
        let kind = input.kind();
        let (hashed, value) = input.entry()?;
        let Some((hash, key)) = hashed.split_first_chunk::<HASH_BYTES>() else { break };
        let hash = u64::from_be_bytes(*hash);
        if hash > last {
            break;
        }
        output.add(hash, key, kind, value)?;
        read += (key.len() + value.len()) as u64;
        if breathe && read >= pause_at {
            pause_at = read + BREATH_BYTES;
            output.shop.breathe()?;
        }
        input.next()?;
    }
    Ok(read)
}

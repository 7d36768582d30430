//! Writing a hash run.

use super::{
    HashRunMeta,
    format::{
        Extent, Footer, Head, PAGE, PAGE_HEAD, RECORD_HEAD, RECORD_MAX, Slice, UNIT, UNITS_A_PAGE,
        encode_extents,
    },
    hash_run_name,
    index::{Row, index_pages},
};
use crate::{
    Result,
    codec::{Compression, checksum, compress},
    error::{Error, ErrorKind},
    sorted::{FAR_BYTES, FarValue, FileId, Kind, MAX_KEY, Output, PACKED_VALUE_MAX, place, seal},
    vfs::Folder,
};

/// Record pages that are written at once: between two such pieces may lie what lies apart. As many
/// as the file is written in, so that they are not copied once more.
const PIECE_PAGES: usize = if cfg!(test) { 3 } else { 512 };

/// How a hash run is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashRunOptions {
    /// Of the table.
    pub(crate) seed: u64,
    /// Of values that lie apart.
    pub(crate) compression: Compression,
    pub(crate) slice: Slice,
    /// See [`HashRunMeta::age`].
    pub(crate) age: u64,
}

/// Writes one file: entries in the order of (hash, key), then [`finish`](Self::finish).
///
/// Keeps nine bytes an entry, of which the index is made at the end, when their number is known.
/// A writer that is dropped before removes its file.
pub(crate) struct HashRunWriter<'a> {
    output: Output<'a>,
    options: HashRunOptions,
    /// Pages on their way to the file; the last is not full yet.
    piece: Vec<u8>,
    /// Pages before them.
    pages: u64,
    extents: Vec<Extent>,
    row: Row,
    last: Option<(u64, Vec<u8>)>,
    deletes: u64,
    raw_bytes: u64,
}

impl<'a> HashRunWriter<'a> {
    /// Starts a new file in `folder`.
    pub(crate) fn create(
        folder: &'a dyn Folder,
        file: FileId,
        options: HashRunOptions,
    ) -> Result<Self> {
        if !options.compression.is_available() {
            let what = "this build lacks the feature that compresses as the table's options say";
            return Err(Error::new(ErrorKind::Misuse, what));
        }
        Ok(Self {
            output: Output::create(folder, file, hash_run_name(file))?,
            options,
            piece: Vec::new(),
            pages: 0,
            extents: Vec::new(),
            row: Row::default(),
            last: None,
            deletes: 0,
            raw_bytes: 0,
        })
    }

    /// The next entry, with its key's hash. A delete's value is ignored.
    pub(crate) fn add(&mut self, hash: u64, key: &[u8], kind: Kind, value: &[u8]) -> Result<()> {
        self.check(hash, key)?;
        let value = if kind == Kind::Delete { &[][..] } else { value };
        self.deletes += u64::from(kind == Kind::Delete);
        self.raw_bytes += (key.len() + value.len()) as u64;
        let delete = if kind == Kind::Delete { Head::DELETE } else { 0 };
        if RECORD_HEAD + key.len() + value.len() <= RECORD_MAX {
            let head = Head::new(key.len(), value.len(), delete);
            return self.put(hash, head, key, value);
        }
        self.add_large(hash, key, value, delete)
    }

    /// Whether the entry follows the one before it and belongs into this file.
    #[inline]
    fn check(&mut self, hash: u64, key: &[u8]) -> Result<()> {
        if key.len() > MAX_KEY {
            return Err(Error::new(ErrorKind::Limit, "a key is longer than 16 KiB"));
        }
        let Some((last, last_key)) = &mut self.last else {
            self.last = Some((hash, key.to_vec()));
            return self.check_slice(hash);
        };
        if (*last, last_key.as_slice()) >= (hash, key) {
            return Err(Error::new(ErrorKind::Misuse, "entries of a hash run do not ascend"));
        }
        *last = hash;
        last_key.clear();
        last_key.extend_from_slice(key);
        self.check_slice(hash)
    }

    #[inline]
    fn check_slice(&self, hash: u64) -> Result<()> {
        if self.options.slice.has(hash) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Misuse, "an entry of a hash run is of another slice"))
    }

    /// Adds an entry that is too large for a record: of value and key, first the value lies apart.
    #[cold]
    fn add_large(&mut self, hash: u64, key: &[u8], value: &[u8], mut flags: u32) -> Result<()> {
        let (far_key, far_value);
        let mut near = (key, value);
        if value.len() > FAR_BYTES {
            far_value = self.write_apart(value)?.to_bytes();
            near.1 = &far_value;
            flags |= Head::VALUE_APART;
        }
        if RECORD_HEAD + key.len() + near.1.len() > RECORD_MAX {
            far_key = self.write_apart(key)?.to_bytes();
            near.0 = &far_key;
            flags |= Head::KEY_APART;
        }
        self.put(hash, Head::new(near.0.len(), near.1.len(), flags), near.0, near.1)
    }

    fn write_apart(&mut self, bytes: &[u8]) -> Result<FarValue> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| Error::new(ErrorKind::Limit, "a value is longer than 4 GiB"))?;
        let small = bytes.len() <= PACKED_VALUE_MAX;
        let how = if small { self.options.compression } else { Compression::None };
        let packed = compress(how, bytes);
        let stored = packed.as_deref().unwrap_or(bytes);
        let offset = self.output.len();
        self.output.append(stored)?;
        let checksum = checksum(stored, place(self.output.id(), offset));
        Ok(FarValue { offset, stored: stored.len() as u32, len, checksum })
    }

    /// Appends a record to the row of pages.
    #[inline]
    fn put(&mut self, hash: u64, head: Head, key: &[u8], value: &[u8]) -> Result<()> {
        let len = head.record_len();
        if self.piece.len() % PAGE + len > PAGE || self.piece.len().is_multiple_of(PAGE) {
            self.next_page()?;
        }
        let start = self.piece.len();
        let unit = self.pages * UNITS_A_PAGE + (start / UNIT) as u64;
        self.piece.extend_from_slice(&head.to_bytes());
        self.piece.extend_from_slice(key);
        self.piece.extend_from_slice(value);
        self.piece.resize(start + len, 0);
        let too_far = || Error::new(ErrorKind::Misuse, "records lie too far from each other");
        self.row.add(hash, unit, len).ok_or_else(too_far)
    }

    /// Fills the page that has no room, and begins a new one.
    fn next_page(&mut self) -> Result<()> {
        self.piece.resize(self.piece.len().next_multiple_of(PAGE), 0);
        if self.piece.len() >= PIECE_PAGES * PAGE {
            self.write_piece()?;
        }
        self.piece.resize(self.piece.len() + PAGE_HEAD, 0);
        Ok(())
    }

    fn write_piece(&mut self) -> Result<()> {
        self.piece.resize(self.piece.len().next_multiple_of(PAGE), 0);
        let count = self.piece.len() / PAGE;
        if count == 0 {
            return Ok(());
        }
        self.output.align(PAGE)?;
        let first = page_number(self.output.len())?;
        write_pages(&mut self.output, &mut self.piece)?;
        self.piece.clear();
        self.pages += count as u64;
        match self.extents.last_mut() {
            Some(last) if last.first + last.pages == first => last.pages += count as u32,
            _ => self.extents.push(Extent { first, pages: count as u32 }),
        }
        Ok(())
    }

    /// Writes the rest and syncs the file. The caller syncs the folder.
    pub(crate) fn finish(mut self) -> Result<HashRunMeta> {
        self.write_piece()?;
        self.output.align(PAGE)?;
        let (index_at, directories_at) = self.write_index()?;
        let Self { mut output, options, .. } = self;
        let extents_at = output.len();
        write_section(&mut output, encode_extents(&self.extents))?;
        let mut meta = HashRunMeta {
            file: output.id(),
            bytes: 0,
            slice: options.slice,
            age: options.age,
            entries: self.row.len(),
            deletes: self.deletes,
            raw_bytes: self.raw_bytes,
            digest: 0,
        };
        let properties_at = output.len();
        write_section(&mut output, meta.encode_properties())?;
        let footer = Footer {
            file: meta.file,
            compression: options.compression,
            slice: options.slice,
            seed: options.seed,
            index_pages: index_pages(meta.entries) as u32,
            index_at,
            directories_at,
            extents_at,
            properties_at,
            properties_end: output.len(),
            record_pages: self.pages,
        };
        let at = output.len();
        output.append(&footer.encode(at))?;
        (meta.bytes, meta.digest) = output.finish()?;
        Ok(meta)
    }

    /// Writes index and directories; says where they begin.
    fn write_index(&mut self) -> Result<(u64, u64)> {
        let index_at = self.output.len();
        let directories_at = index_at + index_pages(self.row.len()) * PAGE as u64;
        // All pages have to be numbered.
        page_number(directories_at)?;
        let mut index = self.row.index(self.options.slice, directories_at / PAGE as u64);
        let mut page = Vec::with_capacity(PAGE);
        while index.write_page(&mut page) {
            write_pages(&mut self.output, &mut page)?;
            page.clear();
        }
        write_pages(&mut self.output, &mut index.into_directories())?;
        Ok((index_at, directories_at))
    }
}

/// The number of the page that begins `at` there.
fn page_number(at: u64) -> Result<u32> {
    u32::try_from(at / PAGE as u64)
        .map_err(|_| Error::new(ErrorKind::Limit, "a file has more pages than can be numbered"))
}

/// Appends pages, each sealed with its place.
fn write_pages(output: &mut Output<'_>, pages: &mut [u8]) -> Result<()> {
    let (file, start) = (output.id(), output.len());
    for (i, page) in (0u64..).zip(pages.chunks_mut(PAGE)) {
        seal(page, place(file, start + i * PAGE as u64));
    }
    output.append(pages)
}

fn write_section(output: &mut Output<'_>, mut section: Vec<u8>) -> Result<()> {
    seal(&mut section, place(output.id(), output.len()));
    output.append(&section)
}

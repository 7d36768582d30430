//! Page files: trees of blocks that are edited without ever writing over a page that is in use.
//!
//! A [`PageFile`] is one file of pages of equal length. A [`PageTree`] is one version of the tree
//! in it: what a [`PageRoot`] reaches. A new version is written to free pages and shares all that
//! did not change with the one before (copy on write; Rodeh's shadowing). Which pages are free is
//! the writer's business: it sees to it that no page is written as long as any version of the tree
//! that reaches it can be read.
//!
//! As with runs, a *mapped* tree is read in place, without a lock or a reference count, and each
//! page is checked before its first use, which a bitmap remembers until the page is written anew.
//! A *cached* tree goes through the block cache, whose frames are named by page and birth, so that
//! what is written anew is another frame.

mod extents;
mod format;
mod kept;
mod remains;
mod tree;
mod verify;

pub(crate) use extents::{Extent, Extents};
pub(crate) use format::{
    Counts, FREE_HERE_MAX, FarPages, FreeList, PAGE_BYTES, PageRef, PageRoot, birth_of,
    generation_of,
};
pub(crate) use tree::{PageTree, PagesAhead};

use super::{
    FileId, Grave, Graveyard, TreeCursor, block::is_sealed, block::place, not_opened, run::Checked,
};
use crate::{
    Result,
    cache::BlockCache,
    error::{Error, ErrorKind},
    sorted::RunAccess,
    vfs::{Access, File, Folder, LiveMap, Lock, SyncKind, read_exact_at, write_all_at},
};
use arc_swap::ArcSwapOption;
use format::{HEADER_BYTES, Header, decode_header, encode_header};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// A cursor over one version of a tree.
pub(crate) type PageCursor = TreeCursor<PageTree>;

/// Address space that is mapped at least, so that a file that grows is seldom mapped anew.
const ROOM_MIN: u64 = 1 << 30;

/// The name of the page file numbered `file`.
pub(crate) fn pages_name(file: FileId) -> String {
    format!("{file:010}.pages")
}

/// The file in memory, and which of its pages have been checked.
pub(super) struct Mapping {
    map: LiveMap,
    checked: Checked,
}

/// An open page file.
pub(crate) struct PageFile {
    id: FileId,
    page_bytes: usize,
    file: Arc<dyn File>,
    /// The same file, opened for writing by the first who does.
    writable: OnceLock<Arc<dyn File>>,
    /// If it is mapped: what versions from now on read.
    mapping: ArcSwapOption<Mapping>,
    cache: Arc<BlockCache>,
    grave: Grave,
    /// Held as long as anybody reads the file after its database was closed.
    reading: OnceLock<Box<dyn Lock>>,
}

impl PageFile {
    /// Makes a new file with nothing but its header. The caller syncs it, and the folder.
    pub(crate) fn create(
        folder: &dyn Folder,
        id: FileId,
        page_bytes: usize,
        access: &RunAccess,
    ) -> Result<Arc<Self>> {
        let name = pages_name(id);
        let file =
            folder.open(&name, Access::CreateNew).map_err(|e| Error::io("create", &name, e))?;
        let made = write_all_at(&*file, &encode_header(id, page_bytes), 0)
            .map_err(|e| Error::io("write", &name, e))
            .and_then(|()| Self::assemble(id, page_bytes, file.clone(), access));
        match made {
            Ok(made) => {
                made.writable.get_or_init(|| file);
                Ok(Arc::new(made))
            }
            Err(error) => {
                // What cannot be removed is an orphan that the next open removes.
                let _ = folder.remove(&name);
                Err(error)
            }
        }
    }

    /// Opens the file numbered `id`, which must be at least `pages` pages of `page_bytes` long.
    pub(crate) fn open(
        folder: &dyn Folder,
        id: FileId,
        page_bytes: usize,
        pages: u32,
        access: &RunAccess,
    ) -> Result<Arc<Self>> {
        let name = pages_name(id);
        let file = folder.open(&name, Access::Read).map_err(|error| not_opened(&name, error))?;
        let size = file.size().map_err(|e| Error::io("read the length of", &name, e))?;
        let least = u64::from(pages) * page_bytes as u64;
        if size < least {
            let what = format!("the file is {size} bytes long, not {least} or more");
            return Err(Error::corrupt(&name, size, what));
        }
        check_header(&*file, &name, id, page_bytes)?;
        Self::assemble(id, page_bytes, file, access).map(Arc::new)
    }

    fn assemble(
        id: FileId,
        page_bytes: usize,
        file: Arc<dyn File>,
        access: &RunAccess,
    ) -> Result<Self> {
        let (is_mapped, cache) = match access {
            RunAccess::Mapped(cache) => (true, cache),
            RunAccess::Cached(cache) => (false, cache),
        };
        let made = Self {
            id,
            page_bytes,
            file,
            writable: OnceLock::new(),
            mapping: ArcSwapOption::empty(),
            cache: cache.clone(),
            grave: Grave::new(id, pages_name(id)),
            reading: OnceLock::new(),
        };
        if is_mapped {
            let size = made.file.size().map_err(|e| made.failed("read the length of", e))?;
            made.mapping.store(made.map(size)?.map(Arc::new));
        }
        Ok(made)
    }

    /// Maps the file and address space to grow into, if the folder can.
    fn map(&self, len: u64) -> Result<Option<Mapping>> {
        let room = len.saturating_mul(2).max(ROOM_MIN);
        let map = self.file.map_live(room).map_err(|e| self.failed("map", e))?;
        Ok(map.map(|map| Mapping { checked: Checked::new(map.room(), self.page_bytes), map }))
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        self.grave.name()
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Once nobody has the file open any more, its number goes `to` there.
    pub(crate) fn retire(&self, to: &Arc<Graveyard>) {
        self.grave.retire(to);
    }

    /// Keeps `lock` as long as any version of a tree in the file is there.
    pub(crate) fn keep(&self, lock: Box<dyn Lock>) {
        self.reading.get_or_init(|| lock);
    }

    pub(crate) fn offset(&self, page: u32) -> u64 {
        u64::from(page) * self.page_bytes as u64
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match read_exact_at(&*self.file, &mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt(at, "the file ends early"))
            }
            Err(error) => Err(self.failed("read", error)),
        }
    }

    pub(crate) fn corrupt(&self, at: u64, what: impl Into<String>) -> Error {
        Error::corrupt(self.name(), at, what)
    }

    fn failed(&self, doing: &str, error: std::io::Error) -> Error {
        Error::io(doing, self.name(), error)
    }
}

/// What the one writer does.
impl PageFile {
    fn writable(&self, folder: &dyn Folder) -> Result<&Arc<dyn File>> {
        if let Some(file) = self.writable.get() {
            return Ok(file);
        }
        let file = folder.open(self.name(), Access::Write).map_err(|e| self.failed("open", e))?;
        Ok(self.writable.get_or_init(|| file))
    }

    /// Makes the file `pages` long, with the space reserved, if it is shorter.
    pub(crate) fn grow(&self, folder: &dyn Folder, pages: u32) -> Result<()> {
        let len = self.offset(pages);
        let file = self.writable(folder)?;
        file.allocate(len).map_err(|e| self.failed("extend", e))?;
        let Some(mapping) = self.mapping.load_full() else { return Ok(()) };
        if mapping.map.room() >= len {
            mapping.map.grown_to(len);
        } else if let Some(larger) = self.map(len)? {
            larger.checked.copy_from(&mapping.checked);
            larger.map.grown_to(len);
            self.mapping.store(Some(Arc::new(larger)));
        } else {
            self.mapping.store(None);
        }
        Ok(())
    }

    /// Writes whole pages, which no version that can be read reaches.
    pub(crate) fn write(&self, folder: &dyn Folder, page: u32, bytes: &[u8]) -> Result<()> {
        let (at, file) = (self.offset(page), self.writable(folder)?);
        write_all_at(&**file, bytes, at).map_err(|e| self.failed("write", e))?;
        file.start_writeback(at, bytes.len() as u64);
        if let Some(mapping) = &*self.mapping.load() {
            mapping.checked.clear(at as usize, bytes.len().next_multiple_of(self.page_bytes));
        }
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&self, folder: &dyn Folder) -> Result<()> {
        let file = self.writable(folder)?;
        file.sync(SyncKind::Data).map_err(|e| self.failed("sync", e))
    }

    /// Cuts the file to `pages`: no version that can be read reaches any beyond.
    pub(crate) fn cut(&self, folder: &dyn Folder, pages: u32) -> Result<()> {
        let (len, file) = (self.offset(pages), self.writable(folder)?);
        if let Some(mapping) = &*self.mapping.load() {
            mapping.map.cut_to(len);
        }
        file.set_len(len).map_err(|e| self.failed("cut", e))
    }
}

impl fmt::Debug for PageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageFile({}, pages of {})", self.name(), self.page_bytes)
    }
}

/// Refuses a file that is not the page file it should be.
fn check_header(file: &dyn File, name: &str, id: FileId, page_bytes: usize) -> Result<()> {
    if read_header(file, name, id)? == page_bytes {
        return Ok(());
    }
    Err(Error::corrupt(name, 0, "the pages have another length than the table's options say"))
}

fn read_header(file: &dyn File, name: &str, id: FileId) -> Result<usize> {
    let mut header = [0; HEADER_BYTES];
    match read_exact_at(file, &mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(Error::corrupt(name, 0, "the file is too short to be a page file"));
        }
        Err(error) => return Err(Error::io("read", name, error)),
    }
    let header_says = decode_header(&header);
    if header_says == Header::Unknown {
        return Err(Error::corrupt(name, 0, "not a page file's header"));
    }
    // Checked first in every version, so that a damaged number is not taken for a newer one.
    if !is_sealed(&header, place(id, 0)) {
        return Err(Error::corrupt(name, 0, "the header's checksum does not match"));
    }
    match header_says {
        Header::Known { file, page_bytes } if file == id => Ok(page_bytes),
        Header::Newer(version) => {
            let what =
                format!("version {version} of page files is newer than this program can read");
            Err(Error::new(ErrorKind::Version, what).in_file(name))
        }
        _ => Err(Error::corrupt(name, 0, "the header is of another file")),
    }
}

//! A folder that is a directory of the operating system.
//!
//! Two things here are less plain than they look:
//!
//! - **Allocation.** Syncing a log costs least when its bytes are allocated ahead, and *how*
//!   matters: `fallocate`, or zeros in page-sized writes. Zeroing in large writes leaves large
//!   folios in the page cache, and a later sync of one small record then writes a whole folio.
//! - **Writable mappings.** A store into a mapping cannot return an error: where the file system
//!   finds no block for it, the process is killed. So [`File::map_mut`] answers `None` except on
//!   file systems known to write allocated blocks in place; those that copy on write (btrfs, zfs)
//!   may need a new block at any store.
//!
//! Mapping is the only unsafe code but for one system call: another process that truncates or
//! alters a mapped file breaks what Rust assumes of a slice. The folder's lock keeps other *writers
//! of this crate* away; the files of an open database are to be left alone by everybody else, as
//! with every mapped store.
#![allow(unsafe_code)]

use super::{
    Access, File, Folder, LOCK_NAME, Lock, Map, MapMut, Pages, READERS_NAME, SyncKind, check_name,
};
use std::{
    fmt,
    fs::{self, OpenOptions, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// One directory of the operating system.
#[derive(Debug)]
pub struct OsFolder {
    path: PathBuf,
    #[cfg(unix)]
    directory: fs::File,
}

impl OsFolder {
    /// Opens a directory that exists.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self {
            #[cfg(unix)]
            directory: fs::File::open(&path)?,
            path,
        })
    }

    /// Opens a directory, after creating it and its parents where they are missing. Their names
    /// survive a power cut.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|step| !step.as_os_str().is_empty() && !step.exists())
            .collect();
        fs::create_dir_all(path)?;
        for created in missing.into_iter().rev() {
            sync_parent(created)?;
        }
        Self::open(path)
    }

    fn place(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.path.join(name))
    }

    /// The file that readers lock together, made if need be.
    fn readers(&self) -> io::Result<fs::File> {
        let mut options = options();
        options.write(true).create(true).truncate(false).open(self.path.join(READERS_NAME))
    }
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(parent)?.sync_all()
}

#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Options that never follow a symbolic link in place of the file: a folder from a stranger must
/// not make us write elsewhere.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.read(true);
    options
}

impl Folder for OsFolder {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = options();
        match access {
            Access::Read => {}
            Access::Write => drop(options.write(true)),
            Access::CreateNew => drop(options.write(true).create_new(true)),
        }
        Ok(Arc::new(OsFile(options.open(self.place(name)?)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.place(from)?, self.place(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.place(name)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if check_name(&name).is_ok() && entry.file_type()?.is_file() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    #[cfg(unix)]
    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    /// The system makes names durable by itself, in order.
    #[cfg(not(unix))]
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
        let file =
            options().write(true).create(true).truncate(false).open(self.path.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(OsLock(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn share(&self) -> io::Result<Option<Box<dyn Lock>>> {
        let file = match options().open(self.path.join(READERS_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.readers() {
                Ok(file) => file,
                // Nobody can write here, so nobody rewrites what is read.
                Err(error) if is_read_only(&error) => return Ok(None),
                Err(error) => return Err(error),
            },
            opened => opened?,
        };
        file.lock_shared()?;
        Ok(Some(Box::new(OsLock(file))))
    }

    fn is_shared(&self) -> io::Result<bool> {
        match self.readers()?.try_lock() {
            // Closing the file gives the lock back at once.
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn link(&self, name: &str, to: &dyn Folder) -> io::Result<bool> {
        let Some(folder) = to.path() else { return Ok(false) };
        match fs::hard_link(self.place(name)?, folder.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if cannot_link(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a file cannot be made here by anybody like us.
fn is_read_only(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Whether a hard link failed because of where the two folders are, so that a copy may succeed.
fn cannot_link(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | Unsupported | TooManyLinks | PermissionDenied)
}

/// Unlocks by closing the file.
#[derive(Debug)]
struct OsLock(#[expect(dead_code, reason = "held for its lock")] fs::File);

impl Lock for OsLock {}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, at)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buf, at)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, buf, at)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, buf, at)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let before = self.size()?;
        let result = match reserve(&self.0, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                write_zeros(self, before, len)
            }
            result => result,
        };
        if result.is_err() && self.size()? > before {
            // Gives back what was reserved before the disk was full.
            self.0.set_len(before)?;
        }
        result
    }

    fn sync(&self, kind: SyncKind) -> io::Result<()> {
        match kind {
            SyncKind::Data => self.0.sync_data(),
            SyncKind::Full => self.0.sync_all(),
        }
    }

    #[cfg(target_os = "linux")]
    fn start_writeback(&self, at: u64, len: u64) {
        use std::os::fd::AsRawFd;
        let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else { return };
        // SAFETY: a system call on an open file; it touches no memory of ours. What it returns is
        // of no use: it is a hint.
        unsafe {
            libc::sync_file_range(self.0.as_raw_fd(), at, len, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    fn map(&self) -> io::Result<Option<Map>> {
        let size = self.size()?;
        if size == 0 {
            return Ok(Some(Map::heap(Arc::from([]))));
        }
        if usize::try_from(size).is_err() {
            return Ok(None);
        }
        // SAFETY: callers map only finished files, which this crate never writes or cuts again
        // (the contract of `File::map`); other programs must leave them alone (module text).
        let map = unsafe { memmap2::Mmap::map(&self.0)? };
        Ok(Some(Map::os(map)))
    }

    fn map_live(&self, room: u64) -> io::Result<Option<LiveMap>> {
        LiveMap::new(&self.0, room)
    }

    fn map_mut(&self, len: u64) -> io::Result<Option<Box<dyn MapMut>>> {
        let Ok(bytes) = usize::try_from(len) else { return Ok(None) };
        if bytes == 0 || self.size()? < len || !writes_in_place(&self.0)? {
            return Ok(None);
        }
        let map = memmap2::MmapOptions::new().len(bytes).map_raw(&self.0)?;
        Ok(Some(Box::new(OsMapMut(Arc::new(OsPages(map))))))
    }
}

/// A range of a file that is allocated, so that stores do not fault. Its one writer stores through
/// this handle; nobody in this process borrows the file's bytes (`read_at` copies them out in the
/// kernel).
#[derive(Debug)]
struct OsMapMut(Arc<OsPages>);

#[derive(Debug)]
struct OsPages(memmap2::MmapRaw);

impl MapMut for OsMapMut {
    #[inline]
    fn store(&mut self, at: usize, bytes: &[u8]) {
        let map = &self.0.0;
        let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= map.len());
        debug_assert!(fits, "a store past the end of the mapping");
        if fits {
            // SAFETY: the range lies in the mapping, which `map` keeps alive, and `bytes` lies
            // outside of it, since nobody borrows from it. Only this handle, borrowed mutably,
            // stores or loads; all that other holders do is have the kernel map or unmap pages.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    bytes.as_ptr(),
                    map.as_mut_ptr().add(at),
                    bytes.len(),
                );
            }
        }
    }

    fn load(&self) {
        // Reading leaves the pages clean: a sync has nothing to write but what is stored later.
        #[cfg(target_os = "linux")]
        let _ = self.0.0.advise(memmap2::Advice::PopulateRead);
    }

    fn pages(&self) -> Option<Arc<dyn Pages>> {
        cfg!(target_os = "linux").then(|| self.0.clone() as Arc<dyn Pages>)
    }
}

impl Pages for OsPages {
    fn release(&self, range: Range<usize>) {
        let end = range.end.min(self.0.len());
        #[cfg(target_os = "linux")]
        if range.start < end {
            let (advice, len) = (memmap2::UncheckedAdvice::DontNeed, end - range.start);
            // SAFETY: the mapping is a shared one of a file, so its bytes are those of the page
            // cache: without these pages they are the same.
            let _ = unsafe { self.0.unchecked_advise_range(advice, range.start, len) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = end;
    }

    fn ready(&self, range: Range<usize>) {
        let end = range.end.min(self.0.len());
        #[cfg(target_os = "linux")]
        if range.start < end {
            let len = end - range.start;
            let _ = self.0.advise_range(memmap2::Advice::PopulateWrite, range.start, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = end;
    }
}

/// A read-only view of a file that grows and is rewritten meanwhile, piece by piece.
///
/// It never borrows the file as a whole: `LiveMap::get` lends the bytes that are asked for, and who
/// asks has to know that nobody writes to *those* meanwhile.
pub struct LiveMap {
    map: memmap2::MmapRaw,
    /// So many bytes are known to lie in the file; touching any beyond would kill the process.
    len: AtomicU64,
}

impl LiveMap {
    /// Maps `file` and address space for it to grow to `room` bytes, where the system allows to
    /// map what is not there yet.
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn new(file: &fs::File, room: u64) -> io::Result<Option<Self>> {
        let len = file.metadata()?.len();
        let Ok(bytes) = usize::try_from(room.max(len).max(1)) else { return Ok(None) };
        let map = memmap2::MmapOptions::new().len(bytes).map_raw_read_only(file)?;
        Ok(Some(Self { map, len: AtomicU64::new(len) }))
    }

    /// Elsewhere files that grow are read without mapping them.
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    fn new(_file: &fs::File, _room: u64) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// The `len` bytes at `at`, if they lie in the file.
    ///
    /// # Safety
    /// The caller is, or has an understanding with, the file's one writer: these bytes are not
    /// written and not cut off before the last use of the slice.
    #[inline(always)]
    pub(crate) unsafe fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let end = at.checked_add(len as u64)?;
        if end > self.len.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: the range lies in the mapping, as `len` never exceeds its length (`grown_to`),
        // and in the file, which is not cut before `cut_to` has said so; the caller sees to it
        // that nobody writes there meanwhile (contract above). The slice cannot outlive the map.
        Some(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at as usize), len) })
    }

    /// How many bytes it can show when the file has grown.
    pub(crate) fn room(&self) -> u64 {
        self.map.len() as u64
    }

    /// The file is at least `len` bytes long now.
    pub(crate) fn grown_to(&self, len: u64) {
        self.len.fetch_max(len.min(self.room()), Ordering::Release);
    }

    /// The file is about to be cut to `len` bytes; nobody borrows any beyond.
    pub(crate) fn cut_to(&self, len: u64) {
        self.len.fetch_min(len, Ordering::Release);
    }
}

impl fmt::Debug for LiveMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveMap({} of {} bytes)", self.len.load(Ordering::Relaxed), self.room())
    }
}

/// Asks the file system for blocks; `Unsupported` where it cannot reserve any.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};
    if len == 0 {
        return Ok(());
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Err(io::ErrorKind::Unsupported.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_file: &fs::File, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Extends with written zeros, in small pieces on purpose (see the module's text).
fn write_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    const PIECE: [u8; 4096] = [0; 4096];
    let mut at = from;
    while at < to {
        let len = (PIECE.len() as u64 - at % PIECE.len() as u64).min(to - at);
        let piece = PIECE.get(..len as usize).unwrap_or_default();
        super::write_all_at(file, piece, at)?;
        at += len;
    }
    Ok(())
}

/// Whether a store to an allocated block never needs another block.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn writes_in_place(file: &fs::File) -> io::Result<bool> {
    const EXT: u32 = 0xef53;
    const XFS: u32 = 0x5846_5342;
    const TMPFS: u32 = 0x0102_1994;
    let kind = rustix::fs::fstatfs(file)?.f_type as u32;
    Ok(matches!(kind, EXT | XFS | TMPFS))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn writes_in_place(_file: &fs::File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{read_whole, write_all_at};

    fn folder() -> (tempfile::TempDir, OsFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = OsFolder::create(dir.path().join("a/b/c")).unwrap();
        (dir, folder)
    }

    #[test]
    fn keeps_the_contract() {
        crate::vfs::contract::check(&folder().1);
    }

    #[test]
    fn open_wants_a_directory_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let missing = OsFolder::open(dir.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::write(dir.path().join("file"), b"x").unwrap();
        let file = OsFolder::open(dir.path().join("file")).unwrap_err();
        assert_eq!(file.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    #[cfg(unix)]
    fn never_follows_symbolic_links() {
        let (dir, folder) = folder();
        let victim = dir.path().join("victim");
        fs::write(&victim, b"precious").unwrap();
        for name in ["link", LOCK_NAME] {
            std::os::unix::fs::symlink(&victim, folder.path.join(name)).unwrap();
        }
        for access in [Access::Read, Access::Write, Access::CreateNew] {
            assert!(folder.open("link", access).is_err());
        }
        assert!(folder.lock().is_err());
        assert_eq!(folder.list().unwrap(), Vec::<String>::new());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_live_map_shows_what_is_written_later() {
        let (_dir, folder) = folder();
        let file = folder.open("pages", Access::CreateNew).unwrap();
        write_all_at(&*file, b"first", 0).unwrap();
        let Some(map) = file.map_live(1 << 20).unwrap() else { return };
        // SAFETY: only this thread writes, and never while it looks.
        let get = |at, len| unsafe { map.get(at, len) }.map(<[u8]>::to_vec);
        assert_eq!(get(0, 5).as_deref(), Some(&b"first"[..]));
        assert_eq!((get(1, 5), get(u64::MAX, 2)), (None, None));
        write_all_at(&*file, b"more", 9000).unwrap();
        assert_eq!(get(9000, 4), None);
        map.grown_to(9004);
        assert_eq!(get(9000, 4).as_deref(), Some(&b"more"[..]));
        write_all_at(&*file, b"again", 0).unwrap();
        assert_eq!(get(0, 5).as_deref(), Some(&b"again"[..]));
        map.grown_to(u64::MAX);
        assert_eq!(get(1 << 20, 1), None);
        map.cut_to(5);
        assert_eq!(get(5, 1), None);
    }

    /// What was stored stays when its pages are let go of or made ready, whoever looks, and more
    /// may be stored.
    #[test]
    fn pages_keep_their_bytes() {
        const LEN: usize = 256 << 10;
        let (_dir, folder) = folder();
        let file = folder.open("x", Access::CreateNew).unwrap();
        file.allocate(LEN as u64).unwrap();
        let Some(mut map) = file.map_mut(LEN as u64).unwrap() else { return };
        let bytes: Vec<u8> = (0..LEN).map(|i| ((i * 31) >> 3) as u8).collect();
        map.store(0, &bytes);
        let Some(pages) = map.pages() else { return };
        pages.release(0..LEN / 2);
        pages.release(LEN / 2..2 * LEN);
        pages.ready(LEN / 4..LEN / 2);
        pages.ready(LEN - 1..2 * LEN);
        pages.ready(2 * LEN..3 * LEN);
        assert_eq!(read_whole(&*file).unwrap(), bytes);
        map.store(70_000, b"again");
        file.sync(SyncKind::Data).unwrap();
        drop(map);
        pages.release(0..LEN);
        let found = read_whole(&*file).unwrap();
        assert_eq!(found[70_000..70_005], *b"again");
        assert_eq!((&found[..70_000], &found[70_005..]), (&bytes[..70_000], &bytes[70_005..]));
    }

    #[test]
    fn stores_through_a_mapping_are_read_back() {
        let (_dir, folder) = folder();
        let file = folder.open("log", Access::CreateNew).unwrap();
        file.allocate(10_000).unwrap();
        assert!(file.map_mut(10_001).unwrap().is_none());
        let Some(mut map) = file.map_mut(10_000).unwrap() else { return };
        map.store(9_997, b"end");
        drop(map);
        let bytes = read_whole(&*file).unwrap();
        assert_eq!(bytes.len(), 10_000);
        assert_eq!(&bytes[9_990..], b"\0\0\0\0\0\0\0end");
    }

    #[test]
    fn zeros_are_written_where_space_cannot_be_reserved() {
        let (_dir, folder) = folder();
        let file = folder.open("log", Access::CreateNew).unwrap();
        write_all_at(&*file, b"abc", 0).unwrap();
        write_zeros(&*file, 3, 9000).unwrap();
        let mut expected = b"abc".to_vec();
        expected.resize(9000, 0);
        assert_eq!(read_whole(&*file).unwrap(), expected);
    }

    #[test]
    fn links_share_bytes_between_directories_only() {
        let (dir, folder) = folder();
        let other = OsFolder::create(dir.path().join("other")).unwrap();
        let file = folder.open("run", Access::CreateNew).unwrap();
        write_all_at(&*file, b"abc", 0).unwrap();
        assert!(folder.link("run", &other).unwrap());
        let linked = other.open("run", Access::Read).unwrap();
        assert_eq!(read_whole(&*linked).unwrap(), b"abc");
        assert!(!folder.link("run", &crate::vfs::mem::MemFolder::default()).unwrap());
        assert_eq!(folder.link("run", &other).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}

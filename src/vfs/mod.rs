//! Folders and files: the only door between this crate and the operating system.
//!
//! A [`Folder`] is one directory of flat, plain-named files. Three kinds exist: [`os`] (a real
//! directory), [`mem`] (nothing on disk), and [`sim`] (a simulated disk that loses power, tears
//! writes, fills up and fails on demand; feature `testing`).
//!
//! What a caller may rely on, and nothing more:
//!
//! - bytes written are seen by later reads of the same process, and survive a killed process;
//! - they survive a power cut only after [`File::sync`] returned `Ok`;
//! - a file's *name* (created, renamed, removed) survives a power cut only after
//!   [`Folder::sync`] returned `Ok`;
//! - after a failed `sync` nothing is known about unsynced bytes, and syncing again proves nothing.

use bytes::Bytes;
use std::{
    fmt, io,
    ops::{Deref, Range},
    path::Path,
    sync::Arc,
};

#[cfg(test)]
mod contract;
mod exact;
pub mod mem;
pub mod os;
#[cfg(feature = "testing")]
pub mod sim;

pub(crate) use exact::{read_exact_at, read_whole, write_all_at};
pub use os::LiveMap;

/// What to open a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    Write,
    /// Reading and writing; the file must not exist.
    CreateNew,
}

/// How much of a file a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// The bytes, and the length if it is needed to read them (`fdatasync`).
    Data,
    /// Everything about the file (`fsync`).
    Full,
}

/// One directory of files. Names are those that [`is_valid_name`] admits.
pub trait Folder: fmt::Debug + Send + Sync + 'static {
    /// Opens or creates a file.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;
    /// Gives `from` the name `to`, replacing what had it, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name. Open handles and mappings of the file stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files whose names are valid; others are not ours and are left alone.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes the names durable: files created, renamed and removed before this call.
    fn sync(&self) -> io::Result<()>;
    /// Takes the folder's one writer's lock, kept until the returned guard is dropped; `None` if
    /// somebody else has it.
    fn lock(&self) -> io::Result<Option<Box<dyn Lock>>>;
    /// Announces a reader that looks at files which the writer rewrites, until the returned guard
    /// is dropped: any number of readers share it. `None` where readers cannot announce themselves,
    /// because the folder is not shared between processes or cannot be written to.
    fn share(&self) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(None)
    }
    /// Whether any reader that announced itself by [`Folder::share`] is still there. The writer
    /// asks before it reuses what such a reader may be looking at.
    fn is_shared(&self) -> io::Result<bool> {
        Ok(false)
    }
    /// Where the folder is, if it is a directory of the operating system.
    fn path(&self) -> Option<&Path> {
        None
    }
    /// Makes `name` of this folder appear in `to` as well, without copying bytes (a hard link);
    /// `false` if that is not possible between these two. The file must not be written any more.
    fn link(&self, _name: &str, _to: &dyn Folder) -> io::Result<bool> {
        Ok(false)
    }
}

/// A held lock; dropping it unlocks.
pub trait Lock: fmt::Debug + Send + Sync {}

/// One open file. All calls take offsets; there is no cursor. Closed when dropped.
pub trait File: fmt::Debug + Send + Sync {
    /// Reads some bytes at `at`: fewer than asked for is legal, 0 means end of file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes some bytes at `at`, growing the file if need be: fewer than given is legal.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize>;
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends to at least `len` bytes and reserves the space, so that writing below `len` needs
    /// no new blocks and changes no metadata. A full disk is reported here.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes written bytes durable.
    fn sync(&self, kind: SyncKind) -> io::Result<()>;
    /// Starts writing the range to the device without waiting; a hint that evens out I/O.
    fn start_writeback(&self, _at: u64, _len: u64) {}
    /// Maps the whole file, which must not shrink while mapped; `None` where mapping is not
    /// possible or would not be coherent.
    fn map(&self) -> io::Result<Option<Map>> {
        Ok(None)
    }
    /// Maps the file with room to grow to `room` bytes; the file goes on being written, but never
    /// where the map's bytes are borrowed. `None` where that is not possible or would not be
    /// coherent.
    fn map_live(&self, _room: u64) -> io::Result<Option<LiveMap>> {
        Ok(None)
    }
    /// Maps the first `len` bytes for writing by the one caller; the range must be allocated.
    /// `None` where mapping is not possible or storing to it could fault.
    fn map_mut(&self, _len: u64) -> io::Result<Option<Box<dyn MapMut>>> {
        Ok(None)
    }
}

/// A read-only view of a whole file, valid for as long as it or a clone of it lives.
#[derive(Clone)]
pub struct Map {
    bytes: Bytes,
    /// The mapping, if the bytes are one.
    os: Option<Arc<memmap2::Mmap>>,
}

/// A mapping as something that bytes can be taken from.
struct Mapped(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    pub(crate) fn os(map: memmap2::Mmap) -> Self {
        let map = Arc::new(map);
        Self { bytes: Bytes::from_owner(Mapped(map.clone())), os: Some(map) }
    }

    /// Tells the system that it is read here and there: pages beside those asked for are not read
    /// along.
    pub(crate) fn expect_random(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.os {
            // Advice: what does not help does no harm.
            let _ = map.advise(memmap2::Advice::Random);
        }
    }

    /// Tells the system that `len` bytes at `at` are read soon.
    pub(crate) fn expect(&self, at: usize, len: usize) {
        #[cfg(unix)]
        if let Some(map) = &self.os {
            let len = len.min(map.len().saturating_sub(at));
            let _ = map.advise_range(memmap2::Advice::WillNeed, at, len);
        }
        #[cfg(not(unix))]
        let _ = (&self.os, at, len);
    }

    /// A view of bytes on the heap, for folders in memory.
    pub fn heap(bytes: Arc<[u8]>) -> Self {
        Self { bytes: Bytes::from_owner(bytes), os: None }
    }
}

impl Deref for Map {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

/// A writable view of a file's first bytes. A store into it is as durable as [`File::write_at`]:
/// it survives a killed process at once and a power cut after [`File::sync`].
pub trait MapMut: fmt::Debug + Send + Sync {
    /// Copies `bytes` to `at`. Bytes past the mapped length are not written: the caller has
    /// checked, and a debug build asserts it.
    fn store(&mut self, at: usize, bytes: &[u8]);

    /// Brings its pages into memory, so that the first store to each costs less. Advice: it may
    /// do nothing.
    fn load(&self) {}

    /// A handle to its pages for another thread, where there are any.
    fn pages(&self) -> Option<Arc<dyn Pages>> {
        None
    }
}

/// The pages of a writable mapping.
///
/// A sync makes pages that are mapped read-only, one by one, and interrupts the processors for
/// each of them. So who is about to sync much lets go of it first; and who is not, has pages made
/// ready that are stored to next.
pub trait Pages: fmt::Debug + Send + Sync {
    /// Lets go of the pages of `range`, a multiple of 64 KiB at both ends: what was stored there
    /// stays, and what is stored later costs a page fault. Advice: it may do nothing.
    fn release(&self, range: Range<usize>);

    /// Makes the pages of `range` ready to be stored to: else the first store to each costs a page
    /// fault. A sync undoes it, and writes them. Advice: it may do nothing.
    fn ready(&self, _range: Range<usize>) {}
}

/// Whether `name` may name a file of ours: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, not starting
/// with a dot. No separators, so a hostile manifest cannot name a file outside the folder.
pub fn is_valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// The name of the file that real folders lock; no caller may use it.
pub(crate) const LOCK_NAME: &str = "lock";
/// The name of the file that readers of a real folder lock together; no caller may use it.
pub(crate) const READERS_NAME: &str = "readers";

/// Refuses names that no file of ours has.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    if is_valid_name(name) && name != LOCK_NAME && name != READERS_NAME {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

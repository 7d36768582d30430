//! A disk for the log's tests: it knows what is durable, can lose power, and fails on demand.

use crate::vfs::{Access, File, Folder, Lock, MapMut, SyncKind};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
};

pub(super) const SECTOR: usize = 512;

/// A folder on that disk. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: Mutex<BTreeMap<String, Arc<DiskFile>>>,
    durable_names: Mutex<BTreeMap<String, Arc<DiskFile>>>,
    faults: Arc<Faults>,
}

/// What goes wrong.
#[derive(Debug)]
pub(super) struct Faults {
    /// Bytes left on the disk.
    pub(super) space: AtomicI64,
    /// Space is taken when it is written, not when it is allocated.
    pub(super) thin: AtomicBool,
    pub(super) maps: AtomicBool,
    pub(super) fail_writes: AtomicBool,
    pub(super) fail_syncs: AtomicBool,
    pub(super) fail_folder_syncs: AtomicBool,
    pub(super) fail_removes: AtomicBool,
    pub(super) syncs: AtomicU64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            space: AtomicI64::new(i64::MAX),
            thin: AtomicBool::new(false),
            maps: AtomicBool::new(false),
            fail_writes: AtomicBool::new(false),
            fail_syncs: AtomicBool::new(false),
            fail_folder_syncs: AtomicBool::new(false),
            fail_removes: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        }
    }
}

impl Faults {
    fn check(flag: &AtomicBool) -> io::Result<()> {
        if flag.load(SeqCst) { Err(io::Error::other("on purpose")) } else { Ok(()) }
    }

    /// Takes up to `want` bytes; returns how many.
    fn take(&self, want: usize) -> usize {
        let have = usize::try_from(self.space.load(SeqCst)).unwrap_or(0);
        let taken = want.min(have);
        self.space.fetch_sub(taken as i64, SeqCst);
        taken
    }
}

impl Disk {
    pub(super) fn mapped(maps: bool) -> Self {
        let disk = Self::default();
        disk.faults().maps.store(maps, SeqCst);
        disk
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(super) fn folder(&self) -> Arc<dyn Folder> {
        Arc::new(self.clone())
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.files.lock()[name].0.lock().live.clone()
    }

    /// Puts a file there, durably.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let (live, durable) = (bytes.to_vec(), bytes.to_vec());
        let content = Content { live, durable, ..Content::default() };
        let file = Arc::new(DiskFile(Arc::new(Mutex::new(content)), Arc::clone(&self.0.faults)));
        self.0.files.lock().insert(name.to_owned(), Arc::clone(&file));
        self.0.durable_names.lock().insert(name.to_owned(), file);
    }

    /// Changes a file in place, durably.
    pub(super) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(name);
        edit(&mut bytes);
        self.put(name, &bytes);
    }

    /// A disk with the same bytes that nothing done to this one changes.
    pub(super) fn copy(&self) -> Self {
        let copy = Self::default();
        for (name, file) in &*self.0.files.lock() {
            copy.put(name, &file.0.lock().live);
        }
        copy
    }

    /// What is there after a power cut: what was synced, and of every sector that was written
    /// since, whatever `survives` says.
    pub(super) fn power_cut(&self, survives: &mut dyn FnMut() -> bool) -> Self {
        let after = Self::default();
        for (name, file) in &*self.0.durable_names.lock() {
            let content = file.0.lock();
            let mut bytes = content.durable.clone();
            bytes.resize(content.live.len(), 0);
            let sectors = bytes.chunks_mut(SECTOR).zip(content.live.chunks(SECTOR));
            for (old, new) in sectors.filter(|(old, new)| old != new) {
                if survives() {
                    old.copy_from_slice(new);
                }
            }
            after.put(name, &bytes);
        }
        after
    }

    /// Whether the first `len` bytes of a file would survive a power cut.
    pub(super) fn is_durable(&self, name: &str, len: usize) -> bool {
        let names = self.0.durable_names.lock();
        names.get(name).is_some_and(|file| {
            let content = file.0.lock();
            content.durable.get(..len) == content.live.get(..len)
        })
    }
}

impl Folder for Disk {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let mut files = self.0.files.lock();
        match (files.get(name), access) {
            (Some(_), Access::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(Arc::clone(file) as _),
            (None, Access::CreateNew) => {
                let content = Arc::default();
                let file = Arc::new(DiskFile(content, Arc::clone(&self.0.faults)));
                files.insert(name.to_owned(), Arc::clone(&file));
                Ok(file)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Faults::check(&self.faults().fail_removes)?;
        let removed = self.0.files.lock().remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.faults().space.fetch_add(removed.0.lock().taken as i64, SeqCst);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.files.lock().keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        Faults::check(&self.faults().fail_folder_syncs)?;
        *self.0.durable_names.lock() = self.0.files.lock().clone();
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(None)
    }
}

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Syncs begun, and the last of them that has ended.
    syncs: u64,
    durable_by: u64,
    /// Bytes of the disk's space.
    taken: usize,
}

#[derive(Clone, Debug)]
struct DiskFile(Arc<Mutex<Content>>, Arc<Faults>);

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let content = self.0.lock();
        let rest = content.live.get(at as usize..).unwrap_or_default();
        // Short reads are legal, so there are some.
        let len = rest.len().min(buf.len()).min(700);
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        Faults::check(&self.1.fail_writes)?;
        let mut content = self.0.lock();
        let mut len = buf.len();
        let end = at as usize + len;
        if end > content.taken {
            let have = content.taken + self.1.take(end - content.taken);
            content.taken = have;
            len = have.saturating_sub(at as usize).min(len);
        }
        if len == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let end = at as usize + len;
        if content.live.len() < end {
            content.live.resize(end, 0);
        }
        content.live[at as usize..end].copy_from_slice(&buf[..len]);
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().live.resize(len as usize, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        if !self.1.thin.load(SeqCst) {
            let more = (len as usize).saturating_sub(content.taken);
            let taken = self.1.take(more);
            content.taken += taken;
            if taken < more {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let len = content.live.len().max(len as usize);
        content.live.resize(len, 0);
        Ok(())
    }

    fn sync(&self, _: SyncKind) -> io::Result<()> {
        self.1.syncs.fetch_add(1, SeqCst);
        Faults::check(&self.1.fail_syncs)?;
        // Only what was written before the sync began need be durable after it.
        let (now, number) = {
            let mut content = self.0.lock();
            content.syncs += 1;
            (content.live.clone(), content.syncs)
        };
        std::thread::yield_now();
        let mut content = self.0.lock();
        if content.durable_by < number {
            (content.durable, content.durable_by) = (now, number);
        }
        Ok(())
    }

    fn map_mut(&self, len: u64) -> io::Result<Option<Box<dyn MapMut>>> {
        if !self.1.maps.load(SeqCst) {
            return Ok(None);
        }
        assert!(self.0.lock().taken as u64 >= len, "only what is allocated may be mapped");
        Ok(Some(Box::new(DiskMap(self.clone()))))
    }
}

#[derive(Debug)]
struct DiskMap(DiskFile);

impl MapMut for DiskMap {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.0.0.lock().live[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

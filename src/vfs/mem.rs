//! A folder in memory: nothing on disk, gone with the last handle.
//!
//! For data that need not outlive the program, and for tests. Clones share the files.

use super::{Access, File, Folder, Lock, Map, SyncKind, check_name};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// A folder of files in memory. Clones are handles to the same folder.
#[derive(Clone, Debug, Default)]
pub struct MemFolder {
    files: Arc<Mutex<BTreeMap<String, Arc<MemFile>>>>,
    locked: Arc<AtomicBool>,
    readers: Arc<()>,
}

impl Folder for MemFolder {
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        check_name(name)?;
        let mut files = self.files.lock();
        match (files.get(name), access) {
            (Some(_), Access::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(Arc::clone(file) as _),
            (None, Access::CreateNew) => {
                let file = Arc::new(MemFile::default());
                files.insert(name.to_owned(), Arc::clone(&file));
                Ok(file)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.files.lock().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
        if self.locked.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemLock(Arc::clone(&self.locked)))))
    }

    fn share(&self) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(MemShare { _counted: Arc::downgrade(&self.readers) })))
    }

    fn is_shared(&self) -> io::Result<bool> {
        Ok(Arc::weak_count(&self.readers) > 0)
    }
}

/// A reader, counted as long as it is there.
#[derive(Debug)]
struct MemShare {
    _counted: Weak<()>,
}

impl Lock for MemShare {}

#[derive(Debug)]
struct MemLock(Arc<AtomicBool>);

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Debug, Default)]
struct MemFile(RwLock<Vec<u8>>);

/// Makes `bytes` exactly `len` long, or reports that memory does not suffice.
fn resize(bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    if let Some(more) = len.checked_sub(bytes.len()) {
        bytes.try_reserve(more).map_err(|_| io::ErrorKind::StorageFull)?;
    }
    bytes.resize(len, 0);
    Ok(())
}

fn in_memory(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.0.read();
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let len = buf.len().min(rest.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let at = in_memory(at)?;
        let end = at.checked_add(buf.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut bytes = self.0.write();
        if bytes.len() < end {
            resize(&mut bytes, end)?;
        }
        if let Some(range) = bytes.get_mut(at..end) {
            range.copy_from_slice(buf);
        }
        Ok(buf.len())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.read().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        resize(&mut self.0.write(), in_memory(len)?)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = in_memory(len)?;
        let mut bytes = self.0.write();
        if bytes.len() < len {
            resize(&mut bytes, len)?;
        }
        Ok(())
    }

    fn sync(&self, _kind: SyncKind) -> io::Result<()> {
        Ok(())
    }

    /// A copy: a file that is mapped is not written any more.
    fn map(&self) -> io::Result<Option<Map>> {
        Ok(Some(Map::heap(Arc::from(self.0.read().as_slice()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        crate::vfs::contract::check(&MemFolder::default());
    }

    #[test]
    fn clones_share_files_and_lock() {
        let folder = MemFolder::default();
        let clone = folder.clone();
        folder.open("a", Access::CreateNew).unwrap();
        assert_eq!(clone.list().unwrap(), ["a"]);
        let lock = folder.lock().unwrap();
        assert!(lock.is_some() && clone.lock().unwrap().is_none());
    }

    #[test]
    fn sizes_beyond_memory_are_errors() {
        let folder = MemFolder::default();
        let file = folder.open("a", Access::CreateNew).unwrap();
        for result in [
            file.set_len(u64::MAX),
            file.allocate(u64::MAX),
            file.write_at(b"x", u64::MAX).map(drop),
            file.write_at(b"x", u64::MAX / 2).map(drop),
        ] {
            assert!(result.is_err());
        }
        assert_eq!(file.size().unwrap(), 0);
        assert_eq!(file.read_at(&mut [0], u64::MAX).unwrap(), 0);
    }
}

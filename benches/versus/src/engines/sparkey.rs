//! Sparkey through its C interface: a log, and a hash table of it that is made once, when all is
//! written. Both files are mapped. What is written may be read once it is settled.
#![allow(unsafe_code)]

use crate::{
    data::{Key, Pairs},
    engine::{self, Engine, Result, Setup},
};
use sparkey_sys as sys;
use std::{
    ffi::{CStr, CString},
    fs::File,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr::null_mut,
    slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub struct Sparkey {
    log: PathBuf,
    index: PathBuf,
    open: Mutex<Open>,
}

/// One of the two is open at a time.
enum Open {
    Writer(Writer),
    Table(Table),
}

struct Writer(*mut sys::logwriter);

// SAFETY: a writer may be used by any thread, one at a time; a mutex sees to that.
unsafe impl Send for Writer {}

/// Open for reading.
struct Table {
    hash: *mut sys::hashreader,
    log: *mut sys::logreader,
}

// SAFETY: reading changes only the iterator, of which each reader has one of its own.
unsafe impl Send for Table {}

fn check(code: sys::returncode) -> Result<()> {
    if matches!(code, sys::returncode::SUCCESS) {
        return Ok(());
    }
    // SAFETY: the message is a constant.
    let message = unsafe { CStr::from_ptr(sys::errstring(code)) };
    Err(message.to_string_lossy().into())
}

fn c_path(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

impl Writer {
    fn create(log: &Path) -> Result<Self> {
        let (mut writer, log) = (null_mut(), c_path(log)?);
        let none = sys::compression_type::COMPRESSION_NONE;
        // SAFETY: both pointers are good for the call.
        check(unsafe { sys::logwriter_create(&raw mut writer, log.as_ptr(), none, 0) })?;
        Ok(Self(writer))
    }

    fn append(log: &Path) -> Result<Self> {
        let (mut writer, log) = (null_mut(), c_path(log)?);
        // SAFETY: both pointers are good for the call.
        check(unsafe { sys::logwriter_append(&raw mut writer, log.as_ptr()) })?;
        Ok(Self(writer))
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        let (key_len, value_len) = (key.len() as u64, value.len() as u64);
        let (key, value) = (key.as_ptr(), value.as_ptr());
        // SAFETY: the writer is open, and the lengths are those of the slices.
        check(unsafe { sys::logwriter_put(self.0, key_len, key, value_len, value) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: it is open, and not used after this.
        unsafe { sys::logwriter_close(&raw mut self.0) };
    }
}

impl Table {
    fn open(index: &Path, log: &Path) -> Result<Self> {
        let (mut hash, index, log) = (null_mut(), c_path(index)?, c_path(log)?);
        // SAFETY: all pointers are good for the call.
        check(unsafe { sys::hash_open(&raw mut hash, index.as_ptr(), log.as_ptr()) })?;
        // SAFETY: it was opened just now.
        Ok(Self { hash, log: unsafe { sys::hash_getreader(hash) } })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: it is open, and not used after this.
        unsafe { sys::hash_close(&raw mut self.hash) };
    }
}

impl Sparkey {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, work: impl FnOnce(&Writer) -> Result<()>) -> Result<()> {
        let mut open = self.lock();
        if let Open::Table(_) = *open {
            *open = Open::Writer(Writer::append(&self.log)?);
        }
        match &*open {
            Open::Writer(writer) => work(writer),
            Open::Table(_) => Err("it is open for reading".into()),
        }
    }
}

impl Engine for Sparkey {
    type Reader<'a> = Reader;
    const ORDERED: bool = false;

    fn open(dir: &Path, _: &Setup) -> Result<Self> {
        let (log, index) = (dir.join("table.spl"), dir.join("table.spi"));
        let open = match index.exists() {
            true => Open::Table(Table::open(&index, &log)?),
            false => Open::Writer(Writer::create(&log)?),
        };
        Ok(Self { log, index, open: Mutex::new(open) })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.write(|writer| writer.put(key, value))
    }

    fn put_durable(&self, _: &Key, _: &[u8]) -> Result<()> {
        Err("Sparkey syncs nothing".into())
    }

    fn put_batch(&self, pairs: &Pairs) -> Result<()> {
        self.write(|writer| pairs.iter().try_for_each(|(key, value)| writer.put(key, value)))
    }

    fn put_batch_durable(&self, _: &Pairs) -> Result<()> {
        Err("Sparkey syncs nothing".into())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        // SAFETY: the writer is open, and the length is that of the key.
        let delete = |writer: &Writer| unsafe {
            check(sys::logwriter_delete(writer.0, key.len() as u64, key.as_ptr()))
        };
        self.write(delete)
    }

    fn read<R>(&self, work: impl FnOnce(&mut Reader) -> Result<R>) -> Result<R> {
        let (hash, log) = match &*self.lock() {
            Open::Table(table) => (table.hash, table.log),
            Open::Writer(_) => return Err("it is open for writing".into()),
        };
        work(&mut Reader::new(hash, log)?)
    }

    /// Makes the hash table, and syncs both files, which Sparkey does not.
    fn settle(&self) -> Result<()> {
        let mut open = self.lock();
        if let Open::Table(_) = *open {
            return Ok(());
        }
        if let Open::Writer(writer) = &*open {
            // SAFETY: the writer is open.
            check(unsafe { sys::logwriter_flush(writer.0) })?;
        }
        let (index, log) = (c_path(&self.index)?, c_path(&self.log)?);
        // SAFETY: both pointers are good for the call.
        check(unsafe { sys::hash_write(index.as_ptr(), log.as_ptr(), 0) })?;
        File::open(&self.log)?.sync_all()?;
        File::open(&self.index)?.sync_all()?;
        *open = Open::Table(Table::open(&self.index, &self.log)?);
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.settle()
    }
}

pub struct Reader {
    hash: *mut sys::hashreader,
    log: *mut sys::logreader,
    entry: *mut sys::logiter,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: it is open, and not used after this.
        unsafe { sys::logiter_close(&raw mut self.entry) };
    }
}

impl Reader {
    /// Of an open table, before its first entry.
    fn new(hash: *mut sys::hashreader, log: *mut sys::logreader) -> Result<Self> {
        let mut entry = null_mut();
        // SAFETY: the log is open.
        check(unsafe { sys::logiter_create(&raw mut entry, log) })?;
        Ok(Self { hash, log, entry })
    }

    fn is_at_entry(&self) -> bool {
        // SAFETY: the iterator is open.
        let state = unsafe { sys::logiter_state(self.entry) };
        matches!(state, sys::iter_state::ITER_ACTIVE)
    }

    /// The current entry's value, or its key: in one piece, since nothing is compressed.
    fn bytes(&mut self, of: Part) -> Result<&[u8]> {
        let (mut at, mut len) = (null_mut(), 0);
        // SAFETY: the iterator is at an entry, and everything it points to is mapped while the
        // table is open, which is longer than this reader is.
        unsafe {
            check(of(self.entry, self.log, u64::MAX >> 1, &raw mut at, &raw mut len))?;
            Ok(slice::from_raw_parts(at, len as usize))
        }
    }
}

type Part = unsafe extern "C" fn(
    *mut sys::logiter,
    *mut sys::logreader,
    u64,
    *mut *mut u8,
    *mut u64,
) -> sys::returncode;

impl engine::Reader for Reader {
    fn get(&mut self, key: &Key, found: impl FnOnce(&[u8])) -> Result<()> {
        // SAFETY: table and iterator are open, and the length is that of the key.
        check(unsafe { sys::hash_get(self.hash, key.as_ptr(), key.len() as u64, self.entry) })?;
        if self.is_at_entry() {
            found(self.bytes(sys::logiter_valuechunk)?);
        }
        Ok(())
    }

    /// In the order in which they were written; `from` is not looked at.
    fn scan(&mut self, _: &Key, limit: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        *self = Self::new(self.hash, self.log)?;
        for _ in 0..limit {
            // SAFETY: table and iterator are open.
            check(unsafe { sys::logiter_hashnext(self.entry, self.hash) })?;
            if !self.is_at_entry() {
                break;
            }
            let key = self.bytes(sys::logiter_keychunk)?.to_vec();
            each(&key, self.bytes(sys::logiter_valuechunk)?);
        }
        Ok(())
    }

    fn scan_back(&mut self, _: usize, _: impl FnMut(&[u8], &[u8])) -> Result<()> {
        Err("Sparkey goes one way only".into())
    }
}

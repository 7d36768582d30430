//! Open files of a simulated disk.

use super::{
    Shared,
    atoms::FileNo,
    faults::{Effect, OpKind},
    state::{State, Struck},
};
use crate::vfs::{File, Map, MapMut, SyncKind};
use std::{fmt, io, sync::Arc};

/// What keeps a file's bytes while somebody uses them.
struct Handle {
    disk: Shared,
    file: FileNo,
    name: Arc<str>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.lock().close(self.file);
    }
}

impl Handle {
    /// Begins an operation and, unless a fault forbids it, does it.
    fn run<T>(
        &self,
        (kind, at, len): (OpKind, u64, u64),
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.disk.lock();
        state.begin(kind, &self.name, at, len).check()?;
        act(&mut state)
    }
}

#[derive(Clone)]
pub(super) struct SimFile {
    handle: Arc<Handle>,
    writable: bool,
}

impl SimFile {
    /// Takes over a file that `State::open` counted as open.
    pub(super) fn new(disk: &Shared, file: FileNo, name: Arc<str>, writable: bool) -> Self {
        Self { handle: Arc::new(Handle { disk: Arc::clone(disk), file, name }), writable }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"))
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.handle.name).finish()
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.handle.run((OpKind::Read, at, buf.len() as u64), |state| {
            if state.trouble.interrupts() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let asked = state.trouble.shorten(buf.len());
            let node = state.node(self.handle.file)?;
            let len = node.content.read(&mut buf[..asked], at);
            node.rot(&mut buf[..len], at);
            state.trouble.rot(&mut buf[..len]);
            Ok(len)
        })
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<usize> {
        self.check_writable()?;
        let mut state = self.handle.disk.lock();
        let hit = state.begin(OpKind::Write, &self.handle.name, at, buf.len() as u64);
        if let Struck(Some(effect)) = hit {
            return Err(fail_write(&mut state, self.handle.file, buf, at, effect));
        }
        if state.trouble.interrupts() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let asked = state.trouble.shorten(buf.len());
        state.write(self.handle.file, &buf[..asked], at)
    }

    fn size(&self) -> io::Result<u64> {
        let size = |state: &mut State| Ok(state.node(self.handle.file)?.content.len());
        self.handle.run((OpKind::Size, 0, 0), size)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.handle.run((OpKind::SetLen, 0, len), |state| state.set_len(self.handle.file, len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.handle.run((OpKind::Allocate, 0, len), |state| state.allocate(self.handle.file, len))
    }

    fn sync(&self, kind: SyncKind) -> io::Result<()> {
        let (op, data) = match kind {
            SyncKind::Data => (OpKind::SyncData, true),
            SyncKind::Full => (OpKind::SyncFull, false),
        };
        let mut state = self.handle.disk.lock();
        let hit = state.begin(op, &self.handle.name, 0, 0);
        state.sync_file(self.handle.file, data, hit)
    }

    /// A copy: a file that is mapped is not written any more.
    fn map(&self) -> io::Result<Option<Map>> {
        self.handle.run((OpKind::Map, 0, 0), |state| {
            let node = state.node(self.handle.file)?;
            let mut bytes = node.content.flat();
            if node.is_rotten() {
                let mut rotten = bytes.to_vec();
                node.rot(&mut rotten, 0);
                bytes = Arc::from(rotten);
            }
            Ok(Some(Map::heap(bytes)))
        })
    }

    fn map_mut(&self, len: u64) -> io::Result<Option<Box<dyn MapMut>>> {
        self.check_writable()?;
        self.handle.run((OpKind::Map, 0, len), |state| {
            let content = &state.node(self.handle.file)?.content;
            let safe = len > 0 && len <= content.len() && content.holes_below(len) == 0;
            if !safe || !state.manner.mappable {
                return Ok(None);
            }
            Ok(Some(Box::new(SimMap { handle: Arc::clone(&self.handle), len }) as _))
        })
    }
}

/// A failing write leaves a part of its bytes, or none.
fn fail_write(state: &mut State, file: FileNo, buf: &[u8], at: u64, effect: Effect) -> io::Error {
    let part = state.trouble.part_of_failed_write(buf.len());
    match state.write(file, &buf[..part], at) {
        Ok(_) => effect.error(),
        Err(error) => error,
    }
}

struct SimMap {
    handle: Arc<Handle>,
    len: u64,
}

impl fmt::Debug for SimMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimMap({}, {} bytes)", self.handle.name, self.len)
    }
}

impl MapMut for SimMap {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        let end = (at as u64).saturating_add(bytes.len() as u64);
        debug_assert!(end <= self.len, "a store past the end of the mapping");
        if end > self.len || bytes.is_empty() {
            return;
        }
        // No fault hits a store, and the range is allocated: this cannot fail.
        let store = |state: &mut State| state.write(self.handle.file, bytes, at as u64);
        let _ = self.handle.run((OpKind::Store, at as u64, bytes.len() as u64), store);
    }
}

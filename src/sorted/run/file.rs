//! The file of an open run: where values that lie apart are read, and what keeps them there.
//!
//! It is apart from the run because other runs may point to its values: they keep the file, not
//! the run with all that it points to in turn.

use super::run_name;
use crate::{
    Result,
    cache::{BlockCache, Frame},
    codec::{Compression, decompress},
    error::Error,
    sorted::{FarValue, FileId, Grave, RunAccess, read},
    value::Owner,
    vfs::{File, Map},
};
use std::{fmt, sync::Arc};

/// An open file of a run.
pub(crate) struct RunFile {
    id: FileId,
    grave: Grave,
    pub(super) handle: Arc<dyn File>,
    /// The whole file, if mapped.
    pub(super) map: Option<Map>,
    pub(super) cache: Arc<BlockCache>,
    compression: Compression,
    /// Where leaves and values end.
    values_end: u64,
}

impl RunFile {
    /// Of a file of `bytes` bytes that is open.
    pub(super) fn new(
        id: FileId,
        handle: Arc<dyn File>,
        bytes: u64,
        (compression, values_end): (Compression, u64),
        access: &RunAccess,
    ) -> Result<Arc<Self>> {
        let name = run_name(id);
        let (map, cache) = match access {
            RunAccess::Mapped(cache) => {
                (handle.map().map_err(|e| Error::io("map", &name, e))?, cache)
            }
            RunAccess::Cached(cache) => (None, cache),
        };
        let map = map.filter(|map| map.len() as u64 == bytes);
        let (grave, cache) = (Grave::new(id, name), cache.clone());
        Ok(Arc::new(Self { id, grave, handle, map, cache, compression, values_end }))
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// How values in it are compressed.
    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    pub(super) fn grave(&self) -> &Grave {
        &self.grave
    }

    /// `len` bytes of the file at `at`, which have been found to lie inside it.
    pub(super) fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        read(&*self.handle, self.grave.name(), at, len)
    }

    pub(super) fn corrupt_at(&self, at: u64, what: impl Into<String>) -> Error {
        Error::corrupt(self.grave.name(), at, what)
    }

    /// Whether the value can be where it says.
    pub(super) fn holds_value(&self, far: &FarValue) -> bool {
        let end = far.offset.checked_add(u64::from(far.stored));
        end.is_some_and(|end| end <= self.values_end)
    }

    pub(super) fn check_value(&self, far: &FarValue, stored: &[u8]) -> Result<()> {
        if far.is(stored, self.id) {
            return Ok(());
        }
        Err(self.corrupt_at(far.offset, "a value's checksum does not match"))
    }

    pub(super) fn unpack_value(&self, far: &FarValue, stored: &[u8]) -> Result<Arc<Frame>> {
        self.check_value(far, stored)?;
        decompress(self.compression, stored, far.len as usize)
            .map(Frame::new)
            .ok_or_else(|| self.corrupt_at(far.offset, "a value cannot be unpacked"))
    }
}

impl Owner for RunFile {
    /// The whole mapping.
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for RunFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunFile({})", self.grave.name())
    }
}

/// A value where it lies, for another run to point to.
#[derive(Clone, Debug)]
pub(crate) struct Lent {
    pub(crate) lender: Arc<RunFile>,
    pub(crate) far: FarValue,
}

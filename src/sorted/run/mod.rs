//! Runs: immutable sorted files.

use crate::{
    Result, Value,
    cache::BlockCache,
    codec::{Compression, Reader},
    error::{Error, ErrorKind},
    sorted::{Cursor, FileId, Kind, Lookup, RangeSet, Span},
    vfs::Folder,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{marker::PhantomData, sync::Arc};

/// How a run is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunOptions {
    pub(crate) block_bytes: usize,
    pub(crate) compression: Compression,
    /// Bits of filter a key; 0 for no filter.
    pub(crate) filter_bits: u8,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { block_bytes: 8 << 10, compression: Compression::None, filter_bits: 10 }
    }
}

/// How a run's bytes are reached. Compressed blocks go through the cache either way, and a
/// folder that cannot map makes `Mapped` mean `Cached`.
#[derive(Clone)]
pub(crate) enum RunAccess {
    Mapped(Arc<BlockCache>),
    Cached(Arc<BlockCache>),
}

/// All the manifest knows about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunMeta {
    pub(crate) file: FileId,
    pub(crate) bytes: u64,
    pub(crate) first: Bytes,
    pub(crate) last: Bytes,
    /// Holds every point key and every range delete.
    pub(crate) span: Span,
    pub(crate) entries: u64,
    pub(crate) deletes: u64,
    pub(crate) range_deletes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) digest: u64,
}

impl RunMeta {
    pub(crate) fn encode(&self, _out: &mut Vec<u8>) {}

    pub(crate) fn decode(_reader: &mut Reader<'_>) -> Option<Self> {
        None
    }
}

/// The name of the run numbered `file`.
pub(crate) fn run_name(file: FileId) -> String {
    format!("{file:010}.run")
}

fn later<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Misuse, "runs are not written yet"))
}

/// Writes one run.
pub(crate) struct RunWriter {}

impl RunWriter {
    pub(crate) fn create(
        _folder: &dyn Folder,
        _file: FileId,
        _options: RunOptions,
    ) -> Result<Self> {
        later()
    }

    /// The next entry; keys strictly ascending.
    pub(crate) fn add(&mut self, _key: &[u8], _kind: Kind, _value: &[u8]) -> Result<()> {
        later()
    }

    pub(crate) fn delete_range(&mut self, _span: Span) {}

    pub(crate) fn bytes_written(&self) -> u64 {
        0
    }

    pub(crate) fn entries(&self) -> u64 {
        0
    }

    pub(crate) fn finish(self) -> Result<RunMeta> {
        later()
    }
}

/// A value found in a run, where it lies.
pub(crate) struct Found<'a> {
    bytes: &'a [u8],
}

impl Found<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// With a pin on what it lies in; short values are copied.
    pub(crate) fn to_value(&self) -> Value {
        Value::copied(self.bytes)
    }
}

/// Files nobody reads any more, to be unlinked.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    ids: Mutex<Vec<FileId>>,
}

impl Graveyard {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The files that came since the last call.
    pub(crate) fn take(&self) -> Vec<FileId> {
        std::mem::take(&mut self.ids.lock())
    }
}

/// An open run.
pub(crate) struct Run {
    meta: RunMeta,
    range_deletes: RangeSet,
}

impl Run {
    pub(crate) fn open(
        _folder: &dyn Folder,
        _meta: RunMeta,
        _access: &RunAccess,
    ) -> Result<Arc<Run>> {
        later()
    }

    pub(crate) fn meta(&self) -> &RunMeta {
        &self.meta
    }

    pub(crate) fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }

    /// Looks `key` up; `hash` is its [`key_hash`](crate::codec::key_hash). Calls `found` once
    /// if the answer is `Found`.
    pub(crate) fn get(
        self: &Arc<Self>,
        _key: &[u8],
        _hash: u64,
        _found: &mut dyn FnMut(Found<'_>),
    ) -> Result<Lookup<()>> {
        later()
    }

    /// Loads the filter line of `hash` into the processor's cache, ahead of a `get`.
    pub(crate) fn prefetch(&self, _hash: u64) {}

    pub(crate) fn cursor(self: &Arc<Self>) -> RunCursor {
        RunCursor(self.clone())
    }

    /// Reads every byte of the file and checks all there is to check.
    pub(crate) fn verify(&self) -> Result<()> {
        later()
    }

    /// Once nobody has the run any more, its number goes `to` there.
    pub(crate) fn retire(&self, _to: &Arc<Graveyard>) {}
}

/// A cursor over one run.
pub(crate) struct RunCursor(Arc<Run>);

/// A cursor over disjoint runs in key order, each opened when reached.
pub(crate) struct LevelCursor(PhantomData<Arc<[Arc<Run>]>>);

impl LevelCursor {
    pub(crate) fn new(_runs: Arc<[Arc<Run>]>) -> Self {
        Self(PhantomData)
    }
}

macro_rules! stub {
    ($cursor:ty) => {
        impl Cursor for $cursor {
            fn seek_first(&mut self) -> Result<()> {
                later()
            }
            fn seek_last(&mut self) -> Result<()> {
                later()
            }
            fn seek(&mut self, _key: &[u8]) -> Result<()> {
                later()
            }
            fn seek_before(&mut self, _key: &[u8]) -> Result<()> {
                later()
            }
            fn next(&mut self) -> Result<()> {
                later()
            }
            fn prev(&mut self) -> Result<()> {
                later()
            }
            fn valid(&self) -> bool {
                false
            }
            fn key(&self) -> &[u8] {
                &[]
            }
            fn kind(&self) -> Kind {
                Kind::Put
            }
            fn value(&mut self) -> Result<&[u8]> {
                later()
            }
            fn range_deletes(&self) -> &RangeSet {
                const NONE: &RangeSet = &RangeSet::none();
                NONE
            }
        }
    };
}
stub!(RunCursor);
stub!(LevelCursor);

//! One segment being written: a file made ready before its first record.

use super::{
    format::{FIRST_RECORD_AT, HEAD_BYTES, Header, Identity, SegmentId, segment_name},
    train::{Handles, LANES},
};
use crate::{
    Error, Result,
    vfs::{Access, File, Folder, MapMut, SyncKind, read_exact_at, write_all_at},
};
use std::{io, sync::Arc};

/// A scratch buffer that one huge record has grown is cut back to this.
const SCRATCH_BYTES: usize = 1 << 20;

/// A segment that is allocated, has its header, and may be appended to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
    /// To sync it with.
    pub(super) handles: Handles,
    pub(super) map: Option<Box<dyn MapMut>>,
    pub(super) bytes: u64,
}

impl Segment {
    /// Makes a segment of `bytes` and syncs it, so that syncing a record later writes nothing but
    /// the record. Its name is not durable before the folder is synced. After an error there is
    /// no such file (or, if even that failed, one that the next call replaces).
    pub(super) fn create(
        folder: &dyn Folder,
        identity: Identity,
        id: SegmentId,
        bytes: u64,
        mapped: bool,
    ) -> Result<Self> {
        debug_assert!(bytes > FIRST_RECORD_AT);
        let name = segment_name(id);
        let file = open_new(folder, &name, id != identity.start)
            .map_err(|e| Error::io("create a log segment", &name, e))?;
        let header = Header { identity, segment: id, bytes }.encode();
        let prepared = prepare(&*file, bytes, &header, mapped);
        match prepared.and_then(|map| Ok((map, handles(folder, &name, &file)?))) {
            Ok((map, handles)) => Ok(Self { id, name, file, handles, map, bytes }),
            Err(e) => {
                // The file is of no use; that it could not be removed would be no news.
                let _ = folder.remove(&name);
                Err(Error::io("prepare a log segment", &name, e))
            }
        }
    }

    /// Writes a record at `at`, where the caller has made sure that it fits.
    ///
    /// Into a mapping the head goes last: a process killed between the two leaves no head.
    #[inline]
    pub(super) fn write(
        &mut self,
        at: u64,
        head: &[u8; HEAD_BYTES],
        parts: &[&[u8]],
        padded: u64,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        debug_assert!(at + padded <= self.bytes);
        let Some(map) = &mut self.map else {
            return write_gathered(&*self.file, at, head, parts, padded, scratch);
        };
        let at = at as usize;
        let mut to = at + HEAD_BYTES;
        for part in parts {
            map.store(to, part);
            to += part.len();
        }
        map.store(at, head);
        Ok(())
    }

    /// Makes sure that the record whose write at `at` failed is never replayed, now or after a
    /// power cut. An error means that nobody knows.
    pub(super) fn erase(&self, at: u64) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES];
        match read_exact_at(&*self.file, &mut head, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
            Ok(()) => {}
        }
        // No more than was written: on a full disk there may be no space for the next byte.
        let written = head.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if written == 0 {
            return Ok(());
        }
        write_all_at(&*self.file, &vec![0; written], at)?;
        self.file.sync(SyncKind::Data)
    }
}

/// Creates the file. Segments after a log's first may find what a failed attempt left behind,
/// and replace it; the first replaces nothing.
fn open_new(folder: &dyn Folder, name: &str, replace: bool) -> io::Result<Arc<dyn File>> {
    match folder.open(name, Access::CreateNew) {
        Err(e) if replace && e.kind() == io::ErrorKind::AlreadyExists => {
            folder.remove(name)?;
            folder.open(name, Access::CreateNew)
        }
        result => result,
    }
}

fn prepare(
    file: &dyn File,
    bytes: u64,
    header: &[u8],
    mapped: bool,
) -> io::Result<Option<Box<dyn MapMut>>> {
    file.allocate(bytes)?;
    write_all_at(file, header, 0)?;
    file.sync(SyncKind::Full)?;
    // A mapping only saves time: where there is none, records are written.
    Ok(if mapped { file.map_mut(bytes).ok().flatten() } else { None })
}

/// A handle for each lane of the train.
fn handles(folder: &dyn Folder, name: &str, file: &Arc<dyn File>) -> io::Result<Handles> {
    let mut handles = [(); LANES].map(|()| file.clone());
    for handle in handles.iter_mut().skip(1) {
        *handle = folder.open(name, Access::Write)?;
    }
    Ok(handles)
}

/// Writes head, parts and padding with one call.
fn write_gathered(
    file: &dyn File,
    at: u64,
    head: &[u8; HEAD_BYTES],
    parts: &[&[u8]],
    padded: u64,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    scratch.clear();
    scratch.extend_from_slice(head);
    for part in parts {
        scratch.extend_from_slice(part);
    }
    scratch.resize(padded as usize, 0);
    let result = write_all_at(file, scratch, at);
    scratch.clear();
    scratch.shrink_to(SCRATCH_BYTES);
    result
}

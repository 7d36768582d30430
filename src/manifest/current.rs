//! The file `current`: which manifest file counts.
//!
//! ```text
//! Format: current
//!
//!  0  magic [u8; 8]   "tonearm" and a newline
//!  8  checksum u64    of all that follows
//! 16  version u32     of all files of the database
//! 20  zero u32
//! 24  db_id u128
//! 40  number u64      of the manifest file
//! 48  length u64      of that file's first record, header and padding included
//! 56  checksum u64    of that file's first record
//! ```
//!
//! Magic, checksum and version stay where they are in every version to come, so that an older
//! program can tell a newer database from a damaged one.

use crate::{
    Error, ErrorKind, Result,
    codec::{Reader, checksum, put_u32, put_u64},
    vfs::{Access, Folder, SyncKind, read_whole, write_all_at},
};
use std::{io, sync::Arc};

pub(super) const CURRENT: &str = "current";
/// The next `current`, until it is renamed.
pub(super) const CURRENT_NEW: &str = "current.new";

const MAGIC: &[u8; 8] = b"tonearm\n";
/// The version of all formats that this program reads and writes.
const VERSION: u32 = 1;
const CHECKED_FROM: usize = 16;
/// No version's `current` is longer.
const BYTES_MAX: u64 = 4096;

/// What `current` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) db_id: u128,
    pub(super) number: u64,
    pub(super) first_len: u64,
    pub(super) first_checksum: u64,
}

impl Current {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        put_u32(&mut rest, VERSION);
        put_u32(&mut rest, 0);
        rest.extend_from_slice(&self.db_id.to_le_bytes());
        put_u64(&mut rest, self.number);
        put_u64(&mut rest, self.first_len);
        put_u64(&mut rest, self.first_checksum);
        let mut out = MAGIC.to_vec();
        put_u64(&mut out, checksum(&rest, 0));
        out.extend_from_slice(&rest);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |at, what: &str| Error::corrupt(CURRENT, at, what);
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(corrupt(0, "it does not begin as a database of this program does"));
        }
        let sum = reader.u64().ok_or_else(|| corrupt(8, "it is too short"))?;
        if sum != checksum(reader.rest(), 0) {
            return Err(corrupt(CHECKED_FROM as u64, "checksum does not match"));
        }
        let version = reader.u32().ok_or_else(|| corrupt(16, "it is too short"))?;
        if version != VERSION {
            return Err(newer(version));
        }
        Self::decode_rest(reader).ok_or_else(|| corrupt(20, "it is not what version 1 writes"))
    }

    fn decode_rest(mut reader: Reader<'_>) -> Option<Self> {
        let zero = reader.u32()?;
        let current = Self {
            db_id: u128::from_le_bytes(reader.take(16)?.try_into().ok()?),
            number: reader.u64()?,
            first_len: reader.u64()?,
            first_checksum: reader.u64()?,
        };
        (zero == 0 && reader.is_empty()).then_some(current)
    }

    /// What `current` of the folder says; `None` if there is none.
    pub(super) fn read(folder: &dyn Folder) -> Result<Option<Self>> {
        let failed = |e| Error::io("read", CURRENT, e);
        let file = match folder.open(CURRENT, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if file.size().map_err(failed)? > BYTES_MAX {
            return Err(Error::corrupt(CURRENT, BYTES_MAX, "it is too long"));
        }
        Self::decode(&read_whole(&*file).map_err(failed)?).map(Some)
    }

    /// Writes and syncs what [`publish`] will make `current`.
    pub(super) fn stage(&self, folder: &Arc<dyn Folder>) -> Result<()> {
        let write = || {
            remove_if_there(&**folder, CURRENT_NEW)?;
            let file = folder.open(CURRENT_NEW, Access::CreateNew)?;
            write_all_at(&*file, &self.encode(), 0)?;
            file.sync(SyncKind::Full)
        };
        write().map_err(|e| Error::io("write", CURRENT_NEW, e))
    }
}

/// Replaces `current` by what was staged; durable once it returns `Ok`, unknown if it fails.
pub(super) fn publish(folder: &dyn Folder) -> Result<()> {
    folder.rename(CURRENT_NEW, CURRENT).map_err(|e| Error::io("replace", CURRENT, e))?;
    folder.sync().map_err(|e| Error::io("sync the folder of", CURRENT, e))
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(folder: &dyn Folder, name: &str) -> io::Result<()> {
    match folder.remove(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn newer(version: u32) -> Error {
    let message = format!(
        "the database is of format version {version}, this program reads version {VERSION}: \
         open it with the program that wrote it"
    );
    Error::new(ErrorKind::Version, message).in_file(CURRENT)
}

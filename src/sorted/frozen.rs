//! What all files have in common that are written once and then only read: the length and the
//! digest that the manifest says, and a sealed footer at the end.
//!
//! ```text
//!   footer   0         8       16             120
//!            | u64     | u64   | u32     ...  | u64
//!              checksum  file    version        magic
//! ```

use super::{
    FileId,
    block::{is_sealed, place},
};
use crate::{
    Result,
    codec::{Digest, Reader},
    error::{Error, ErrorKind},
    vfs::{Access, File, Folder, read_exact_at},
};
use std::sync::Arc;

/// How long a footer is.
pub(crate) const FOOTER_BYTES: usize = 128;
const VERSION_AT: usize = 16;

/// Bytes read at a time to check a digest.
const CHUNK: usize = 1 << 20;

/// A kind of such files.
pub(crate) struct FrozenKind {
    /// What one of them is called.
    pub(crate) name: &'static str,
    pub(crate) magic: u64,
    /// The newest version known here; there is none older.
    pub(crate) version: u32,
}

/// Why a file is not one of its kind to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    Newer(u32),
    Unknown,
}

impl FrozenKind {
    /// Checks what only a footer of this kind has, and its version.
    pub(crate) fn recognize(&self, footer: &[u8]) -> Result<(), Stranger> {
        let magic = footer.last_chunk().map(|magic| u64::from_le_bytes(*magic));
        let version = Reader::new(footer.get(VERSION_AT..).unwrap_or_default()).u32();
        match version.filter(|_| magic == Some(self.magic)) {
            Some(version) if version == self.version => Ok(()),
            Some(version) if version > self.version => Err(Stranger::Newer(version)),
            _ => Err(Stranger::Unknown),
        }
    }

    /// The footer of the file numbered `id`, which is `bytes` long, and where it lies.
    pub(crate) fn footer(
        &self,
        file: &dyn File,
        name: &str,
        id: FileId,
        bytes: u64,
    ) -> Result<(u64, Vec<u8>)> {
        let kind = self.name;
        let at = bytes.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| {
            Error::corrupt(name, 0, format!("the file is too short to be a {kind}"))
        })?;
        let footer = read(file, name, at, FOOTER_BYTES)?;
        let recognized = self.recognize(&footer);
        if recognized == Err(Stranger::Unknown) {
            return Err(Error::corrupt(name, at, format!("not a {kind}'s footer")));
        }
        // Checked first in every version, so that a damaged number is not taken for a newer one.
        if !is_sealed(&footer, place(id, at)) {
            return Err(Error::corrupt(name, at, "the footer's checksum does not match"));
        }
        if let Err(Stranger::Newer(version)) = recognized {
            let what = format!("version {version} of {kind}s is newer than this program can read");
            return Err(Error::new(ErrorKind::Version, what).in_file(name));
        }
        Ok((at, footer))
    }
}

/// Opens a file that has to be there, with `bytes` bytes.
pub(crate) fn open_whole(folder: &dyn Folder, name: &str, bytes: u64) -> Result<Arc<dyn File>> {
    let file = folder.open(name, Access::Read).map_err(|e| not_opened(name, e))?;
    let size = file.size().map_err(|e| Error::io("read the length of", name, e))?;
    if size != bytes {
        let what = format!("the file is {size} bytes long, not {bytes}");
        return Err(Error::corrupt(name, size.min(bytes), what));
    }
    Ok(file)
}

/// Why a file that has to be there could not be opened.
pub(crate) fn not_opened(name: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::corrupt(name, 0, "the file is missing");
    }
    Error::io("open", name, error)
}

/// `len` bytes at `at`.
pub(crate) fn read(file: &dyn File, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    match read_exact_at(file, &mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::corrupt(name, at, "the file ends early"))
        }
        Err(error) => Err(Error::io("read", name, error)),
    }
}

/// Reads all `bytes` bytes and compares their digest.
pub(crate) fn check_digest(file: &dyn File, name: &str, bytes: u64, digest: u64) -> Result<()> {
    let (mut sum, mut at) = (Digest::default(), 0);
    while at < bytes {
        let len = (bytes - at).min(CHUNK as u64);
        sum.add(&read(file, name, at, len as usize)?);
        at += len;
    }
    if sum.finish() == digest {
        return Ok(());
    }
    Err(Error::corrupt(name, 0, "the digest of the whole file does not match"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_versions_are_told_apart() {
        let kind = FrozenKind { name: "run", magic: 7, version: 2 };
        let footer = |magic: u64, version: u32| {
            let mut bytes = vec![0; FOOTER_BYTES];
            bytes[VERSION_AT..][..4].copy_from_slice(&version.to_le_bytes());
            bytes[FOOTER_BYTES - 8..].copy_from_slice(&magic.to_le_bytes());
            bytes
        };
        assert_eq!(kind.recognize(&footer(7, 2)), Ok(()));
        assert_eq!(kind.recognize(&footer(7, 3)), Err(Stranger::Newer(3)));
        assert_eq!(kind.recognize(&footer(7, 1)), Err(Stranger::Unknown));
        assert_eq!(kind.recognize(&footer(8, 3)), Err(Stranger::Unknown));
        assert_eq!(kind.recognize(&footer(7, 2)[1..]), Err(Stranger::Unknown));
        assert_eq!(kind.recognize(&footer(7, 2)[..FOOTER_BYTES - 1]), Err(Stranger::Unknown));
        assert_eq!(kind.recognize(&[]), Err(Stranger::Unknown));
    }
}

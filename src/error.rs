//! One error for the whole crate.
//!
//! An [`Error`] is one word wide and cheap to clone (every thread that waits for the same failed
//! sync gets the same error). Ask [`Error::kind`] what to do about it; print it to tell a person.

use std::{fmt, io, sync::Arc};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and what the caller can do about it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    file: Option<String>,
    offset: Option<u64>,
    source: Option<io::Error>,
}

/// The classes of errors a program may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bytes on disk are not what was written there. [`Error::file`] and [`Error::offset`] say
    /// where; nothing was changed, not even by opening. Restore a backup, or
    /// [salvage](crate::check::salvage) what is readable.
    Corrupt,
    /// The operating system refused a read or a write.
    Io,
    /// An earlier write or sync failed, so the log's tail is unknown: reads go on, writes do not.
    /// Open the database again to find out what survived.
    Poisoned,
    /// Another process (or another handle in this one) has the database open for writing.
    Locked,
    /// The disk is full. Nothing acknowledged is lost; writing goes on once there is space.
    Full,
    /// A key, value, batch or name is over its limit.
    Limit,
    /// The files were written by a version of this crate that this one cannot read.
    Version,
    /// The call does not fit the state of the database: a table opened as another engine, a batch
    /// of another database, a write to a read-only database.
    Misuse,
    /// The table, or the database, is not there.
    NotFound,
    /// Writes outran the disk for longer than the caller was willing to wait.
    Busy,
    /// Something a transaction read was changed by another one before it could commit. Retry it.
    Conflict,
}

impl Error {
    /// An error of `kind` with a sentence that says what happened and what to do.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            file: None,
            offset: None,
            source: None,
        }))
    }

    /// Bytes of `file` at `offset` are not what was written there.
    pub(crate) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Corrupt,
            message: what.into(),
            file: Some(file.to_owned()),
            offset: Some(offset),
            source: None,
        }))
    }

    /// The operating system failed to `doing` on `file`. A full disk becomes [`ErrorKind::Full`].
    pub(crate) fn io(doing: &str, file: &str, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Io,
        };
        Self(Arc::new(Inner {
            kind,
            message: format!("could not {doing}"),
            file: Some(file.to_owned()),
            offset: None,
            source: Some(source),
        }))
    }

    /// For who gives a load its entries, as an iterator or a [`Feed`](crate::Feed): they could not
    /// be read. What is not the operating system's doing can be an [`io::Error`] as well, such as
    /// one of [`io::ErrorKind::InvalidData`].
    pub fn from_io(source: io::Error) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Io,
            message: "could not read what was given".into(),
            file: None,
            offset: None,
            source: Some(source),
        }))
    }

    /// The same error with `file` named, if none is yet.
    pub(crate) fn in_file(self, file: &str) -> Self {
        if self.0.file.is_some() {
            return self;
        }
        let inner = &self.0;
        Self(Arc::new(Inner {
            kind: inner.kind,
            message: inner.message.clone(),
            file: Some(file.to_owned()),
            offset: inner.offset,
            source: inner.source.as_ref().map(copy_io),
        }))
    }

    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, without the place.
    pub(crate) fn what(&self) -> String {
        let Inner { message, source, .. } = &*self.0;
        source.as_ref().map_or_else(|| message.clone(), |source| format!("{message}: {source}"))
    }

    /// The name of the file it is about, within the database's folder, if it is about one.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// The place in that file, in bytes from its start, if known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Whether the bytes on disk are damaged.
    pub fn is_corrupt(&self) -> bool {
        self.kind() == ErrorKind::Corrupt
    }

    /// Whether the same call may succeed later without anybody repairing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Full | ErrorKind::Busy | ErrorKind::Conflict)
    }
}

/// `io::Error` is not `Clone`; kind, code and message are what a reader needs of it.
fn copy_io(e: &io::Error) -> io::Error {
    match e.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(e.kind(), e.to_string()),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        if inner.kind == ErrorKind::Corrupt {
            write!(f, "corrupt data")?;
            if let Some(file) = &inner.file {
                write!(f, " in {file}")?;
            }
            if let Some(offset) = inner.offset {
                write!(f, " at byte {offset}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", inner.message)?;
        if inner.kind != ErrorKind::Corrupt
            && let Some(file) = &inner.file
        {
            write!(f, " ({file})")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_word_and_says_where() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        let e = Error::corrupt("0000000001.run", 4096, "block checksum does not match");
        assert_eq!(
            e.to_string(),
            "corrupt data in 0000000001.run at byte 4096: block checksum does not match"
        );
        assert_eq!((e.file(), e.offset()), (Some("0000000001.run"), Some(4096)));
    }

    #[test]
    fn full_disk_has_its_own_kind() {
        let e = Error::io("write", "a.log", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(e.kind(), ErrorKind::Full);
        assert!(e.is_retryable());
    }
}

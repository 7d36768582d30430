//! What a bulk load is given: entries lent one after the other.

use super::{Entries, Op};
use crate::{Error, ErrorKind, Result, sorted::Span};
use bytes::Bytes;

/// Entries that are lent one after the other: what [`Table::ingest_from`] takes.
///
/// For data that lies somewhere already, such as a buffer, a mapped file or another table: nothing
/// is allocated for an entry. [`Entries`] is a feed.
///
/// [`Table::ingest_from`]: crate::Table::ingest_from
///
/// ```
/// use std::io::ErrorKind::InvalidData;
/// use tonearm::{Db, Error, Feed, Result, Table};
///
/// /// Lines of the form `key=value`.
/// struct Lines<'a>(std::str::Lines<'a>);
///
/// impl Feed for Lines<'_> {
///     fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
///         let line = self.0.next()?;
///         let entry = line.split_once('=').map(|(key, value)| (key.as_bytes(), value.as_bytes()));
///         Some(entry.ok_or_else(|| Error::from_io(std::io::Error::new(InvalidData, line))))
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let db = Db::open(dir.path())?;
/// let colours = db.btree("colours")?;
/// assert_eq!(colours.ingest_from(&mut Lines("apple=red\nplum=blue".lines()))?, 2);
/// assert!(colours.ingest_from(&mut Lines("quince=yellow\nsloe".lines())).is_err());
///
/// // One table's entries, as of now, into another.
/// let copy = db.lsm("copy")?;
/// assert_eq!(copy.ingest_from(&mut colours.iter())?, 2);
/// assert_eq!(copy.get(b"plum")?.as_deref(), Some(&b"blue"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Feed {
    /// The next entry's key and value, borrowed until the following call. Not called again after
    /// `None`, nor after an error, with which the load fails (see [`Error::from_io`]).
    fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>>;
}

impl Feed for Entries {
    fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        Self::next_ref(self)
    }
}

/// Entries of an iterator, which gives them away.
pub(crate) struct Given<'a> {
    entries: &'a mut dyn Iterator<Item = Result<(Bytes, Bytes)>>,
    at: (Bytes, Bytes),
}

impl<'a> Given<'a> {
    pub(crate) fn new(entries: &'a mut dyn Iterator<Item = Result<(Bytes, Bytes)>>) -> Self {
        Self { entries, at: (Bytes::new(), Bytes::new()) }
    }
}

impl Feed for Given<'_> {
    fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        match self.entries.next()? {
            Ok(entry) => self.at = entry,
            Err(error) => return Some(Err(error)),
        }
        Some(Ok((&self.at.0, &self.at.1)))
    }
}

/// Entries on their way into a table, checked.
pub(crate) struct Intake<'a> {
    feed: &'a mut dyn Feed,
    is_ordered: bool,
    count: u64,
    /// Bytes of keys and values.
    bytes: u64,
    /// The first key and the last until now, where keys are in order.
    first: Bytes,
    last: Vec<u8>,
}

impl<'a> Intake<'a> {
    /// With `is_ordered`, keys have to ascend.
    pub(crate) fn new(feed: &'a mut dyn Feed, is_ordered: bool) -> Self {
        let (first, last) = (Bytes::new(), Vec::new());
        Self { feed, is_ordered, count: 0, bytes: 0, first, last }
    }

    /// The next entry, which is within the limits.
    pub(crate) fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let Some((key, value)) = self.feed.next_ref().transpose()? else { return Ok(None) };
        Op::Put { key, value }.check()?;
        if self.is_ordered {
            if self.count == 0 {
                self.first = Bytes::copy_from_slice(key);
            } else if *self.last >= *key {
                let message =
                    "entries to ingest must come with strictly ascending keys: sort them first";
                return Err(Error::new(ErrorKind::Misuse, message));
            }
            self.last.clear();
            self.last.extend_from_slice(key);
        }
        self.count += 1;
        self.bytes += (key.len() + value.len()) as u64;
        Ok(Some((key, value)))
    }

    /// How many entries there were until now.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many bytes of keys and values they had.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last key until now, where keys are in order.
    pub(crate) fn last(&self) -> &[u8] {
        &self.last
    }

    /// What the keys that there were until now lie in: where they are in no order, all keys.
    pub(crate) fn span(&self) -> Option<Span> {
        let end = self.is_ordered.then(|| Bytes::from([&*self.last, &[0]].concat()));
        (self.count > 0).then(|| Span { start: self.first.clone(), end })
    }
}

//! One cursor for everything sorted: memtables, runs, levels, merges of them.

use crate::{
    Result, Value,
    sorted::{Lent, RangeSet},
};

/// What an entry says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The key has a value.
    Put = 0,
    /// The key is gone; older sources that have it are out of date.
    Delete = 1,
}

/// A position in a sorted sequence of entries with distinct keys.
///
/// A cursor starts nowhere (`valid` is false) until one of the four seeks places it. Walking off
/// either end makes it invalid again; only a seek brings it back. After an error the cursor is
/// invalid and the caller stops.
pub(crate) trait Cursor: Send {
    /// To the first entry, if any.
    fn seek_first(&mut self) -> Result<()>;
    /// To the last entry, if any.
    fn seek_last(&mut self) -> Result<()>;
    /// To the first entry whose key is `>= key`.
    fn seek(&mut self, key: &[u8]) -> Result<()>;
    /// To the last entry whose key is `< key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<()>;
    /// To the following entry. Only called while valid.
    fn next(&mut self) -> Result<()>;
    /// To the preceding entry. Only called while valid.
    fn prev(&mut self) -> Result<()>;
    /// Whether the cursor is at an entry; only then may the following be called.
    fn valid(&self) -> bool;
    /// The whole key of the entry; valid until the cursor moves.
    fn key(&self) -> &[u8];
    /// What the entry says.
    fn kind(&self) -> Kind;
    /// Fetches the entry's value, and checks it, if it is stored apart.
    fn fetch(&mut self) -> Result<()> {
        Ok(())
    }
    /// The entry's value (empty for [`Kind::Delete`]), which has been fetched. A call of its own:
    /// what is returned together with a key or an error goes through memory.
    fn fetched(&self) -> &[u8];
    /// The entry's value.
    #[inline(always)]
    fn value(&mut self) -> Result<&[u8]> {
        self.fetch()?;
        Ok(self.fetched())
    }
    /// The entry's key and value together.
    #[inline(always)]
    fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        self.fetch()?;
        Ok((self.key(), self.fetched()))
    }
    /// The value with a pin on what it lies in, so that it outlives the cursor's next move.
    fn pinned_value(&mut self) -> Result<Value> {
        Ok(Value::copied(self.value()?))
    }
    /// Where the entry's value lies, unread, if it is one that runs to be written may point to.
    fn lent(&self) -> Option<Lent> {
        None
    }
    /// Ranges of keys that this source deletes from every *older* source. Its own entries are
    /// newer than these (or have been filtered by them).
    fn range_deletes(&self) -> &RangeSet;
}

/// What a look-up of one key in one source found.
#[derive(Debug)]
pub(crate) enum Lookup<T> {
    /// Nothing about this key here: ask the next older source.
    Missing,
    /// The key was deleted here: do not ask further.
    Deleted,
    /// The key's value.
    Found(T),
}

/// Something that can keep the bytes which it lends.
pub(crate) trait Keeper {
    /// `bytes`, which it lent, for longer than that: pinned where they lie, or copied.
    fn keep(&self, bytes: &[u8]) -> Value;
}

/// A value found in a file, where it lies.
pub(crate) struct Found<'a> {
    bytes: &'a [u8],
    keeper: &'a dyn Keeper,
}

impl<'a> Found<'a> {
    #[inline(always)]
    pub(crate) fn new(bytes: &'a [u8], keeper: &'a dyn Keeper) -> Self {
        Self { bytes, keeper }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// With a pin on what it lies in; short values are copied.
    #[inline]
    pub(crate) fn to_value(&self) -> Value {
        self.keeper.keep(self.bytes)
    }
}

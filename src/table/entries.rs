//! The iterator over a table's entries.

use super::{Order, Pending, PendingCursor, Source, View, Walk};
use crate::{
    Error, ErrorKind, Result, Value,
    sorted::{Cursor, Deletes, Merge, Span},
};
use std::{fmt, ops::Bound, sync::Arc};

/// An owned iterator over entries, from both ends: in key order, or in the order of the keys'
/// hashes where the table is a hash table.
///
/// It reads the table as it was when the iterator was made, whatever is written meanwhile, and
/// blocks nobody. It keeps the files and memtables of that moment alive: drop it when done.
///
/// After an error it yields the same error for ever, so a loop that ignores errors does not mistake
/// a damaged table for a short one.
pub struct Entries {
    view: Option<Arc<View>>,
    seq: u64,
    span: Span,
    order: Order,
    front: Option<Merge<Source>>,
    back: Option<Merge<Source>>,
    /// The front is at an entry that it has not yielded, because it was sent there.
    is_sought: bool,
    /// The back is at an entry that it has not yielded, because the front was there before.
    has_overshot: bool,
    state: State,
    inside: Inside,
}

/// What an iterator has from the transaction it was made in; nothing outside of one.
#[derive(Default)]
pub(crate) struct Inside {
    /// Writes that only the transaction sees.
    pub(crate) pending: Option<Arc<Pending>>,
    /// Notes how far the iterator comes.
    pub(crate) walk: Option<Walk>,
}

enum State {
    Going,
    Done,
    Failed(Error),
}

impl Entries {
    /// Entries of `view` in `span` as of `seq`; without a view, none.
    pub(crate) fn new(view: Option<Arc<View>>, seq: u64, span: Span) -> Self {
        let state = if view.is_none() || span.is_empty() { State::Done } else { State::Going };
        Self::made(view, seq, span, state, Inside::default())
    }

    /// The same, inside a transaction.
    pub(crate) fn inside(view: Option<Arc<View>>, seq: u64, span: Span, inside: Inside) -> Self {
        let state = if span.is_empty() { State::Done } else { State::Going };
        Self::made(view, seq, span, state, inside)
    }

    fn made(view: Option<Arc<View>>, seq: u64, span: Span, state: State, inside: Inside) -> Self {
        let order = view.as_ref().map_or(Order::Keys, |view| view.settled.order());
        let (front, back) = (None, None);
        let (is_sought, has_overshot) = (false, false);
        Self { view, seq, span, order, front, back, is_sought, has_overshot, state, inside }
    }

    /// An iterator that only says why there is nothing to read.
    pub(crate) fn failed(error: Error) -> Self {
        let span = Span { start: bytes::Bytes::new(), end: None };
        Self { state: State::Failed(error), ..Self::new(None, 0, span) }
    }

    /// The next entry, borrowed until the following call: no copy of the key, no reference count.
    /// For scans that look at every entry and keep few.
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn next_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        match self.advance() {
            Ok(true) => self.lend(false),
            Ok(false) => None,
            Err(error) => Some(Err(self.fail(error))),
        }
    }

    /// Like [`Entries::next_ref`], from the back.
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn next_back_ref(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        match self.retreat() {
            Ok(true) => self.lend(true),
            Ok(false) => None,
            Err(error) => Some(Err(self.fail(error))),
        }
    }

    /// Has the front go on at the first entry whose key is `key` or greater, or at the start of the
    /// iterator's range if that comes later; forwards or backwards, and also after the end. Where
    /// the back has been is not yielded again.
    ///
    /// One iterator that seeks costs less than many: it keeps its cursors and what they know.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = tonearm::Db::open(dir.path())?;
    /// # use tonearm::{OrderedTable, Table};
    /// let songs = db.btree("songs")?;
    /// for song in ["abba/fernando", "abba/waterloo", "blur/song 2", "cher/believe"] {
    ///     songs.insert(song.as_bytes(), b"")?;
    /// }
    /// // The first song of each artist.
    /// let (mut songs, mut firsts) = (songs.iter(), Vec::new());
    /// while let Some(entry) = songs.next() {
    ///     let song = String::from_utf8_lossy(&entry?.0).into_owned();
    ///     let artist = song.split('/').next().unwrap_or_default();
    ///     songs.seek(format!("{artist}0")); // what comes after the slash
    ///     firsts.push(song);
    /// }
    /// assert_eq!(firsts, ["abba/fernando", "blur/song 2", "cher/believe"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What goes wrong is what the iterator yields next, and for ever. `Misuse` if the entries come
    /// in no order of keys (hash tables).
    pub fn seek(&mut self, key: impl AsRef<[u8]>) {
        if let Err(error) = self.try_seek(key.as_ref()) {
            self.fail(error);
        }
    }

    fn try_seek(&mut self, key: &[u8]) -> Result<()> {
        if self.order != Order::Keys {
            let message = "entries of a hash table are in no order in which to seek a key";
            return Err(Error::new(ErrorKind::Misuse, message));
        }
        if self.span.is_empty() || matches!(self.state, State::Failed(_)) {
            return Ok(());
        }
        let mut front = match self.front.take() {
            Some(front) => front,
            None => self.merge()?,
        };
        let key = if self.span.starts_by(key) { key } else { &self.span.start };
        front.seek(key)?;
        if let Some(walk) = &mut self.inside.walk {
            walk.go_to(key);
        }
        (self.front, self.is_sought, self.state) = (Some(front), true, State::Going);
        Ok(())
    }

    /// The entry under the front or the back.
    #[inline]
    fn lend(&mut self, back: bool) -> Option<Result<(&[u8], &[u8])>> {
        let Self { front, back: last, state, order, .. } = self;
        let merge = if back { last } else { front }.as_mut()?;
        if let Err(error) = merge.fetch() {
            *state = State::Failed(error.clone());
            return Some(Err(error));
        }
        let key = merge.key().get(order.extra()..).unwrap_or_default();
        Some(Ok((key, merge.fetched())))
    }

    fn merge(&self) -> Result<Merge<Source>> {
        let pending = self.inside.pending.iter().map(|pending| match self.order {
            Order::Keys => pending.clone(),
            Order::Hashes(seed) => Arc::new(pending.hashed(seed)),
        });
        let mut sources: Vec<Source> =
            pending.map(|pending| Source::Pending(PendingCursor::new(pending))).collect();
        if let Some(view) = &self.view {
            view.sources(&self.span, self.seq, &mut sources);
        }
        Ok(Merge::new(sources, Deletes::Hide))
    }

    /// Moves the front to the next entry: `false` if there is none, or the back has yielded it.
    fn advance(&mut self) -> Result<bool> {
        if let Some(ended) = self.ended() {
            return ended;
        }
        match &mut self.front {
            Some(_) if std::mem::take(&mut self.is_sought) => {}
            Some(front) => front.next()?,
            None => {
                let mut merge = self.merge()?;
                merge.seek(&self.span.start)?;
                self.front = Some(merge);
            }
        }
        let Some(front) = &self.front else { return Ok(false) };
        let met = |back: &Merge<Source>| {
            !back.valid()
                || back.key() < front.key()
                || (back.key() == front.key() && !self.has_overshot)
        };
        let inside = front.valid()
            && self.span.ends_after(front.key())
            && !self.back.as_ref().is_some_and(met);
        if let Some(walk) = &self.inside.walk {
            walk.front_at(inside.then(|| front.key()));
        }
        Ok(self.going_on(inside))
    }

    /// Moves the back to the previous entry.
    fn retreat(&mut self) -> Result<bool> {
        if let Some(ended) = self.ended() {
            return ended;
        }
        match &mut self.back {
            Some(_) if std::mem::take(&mut self.has_overshot) => {}
            Some(back) => back.prev()?,
            None => {
                let mut merge = self.merge()?;
                match &self.span.end {
                    Some(end) => merge.seek_before(end)?,
                    None => merge.seek_last()?,
                }
                self.back = Some(merge);
            }
        }
        let Some(back) = &self.back else { return Ok(false) };
        let met = |front: &Merge<Source>| {
            !front.valid()
                || front.key() > back.key()
                || (front.key() == back.key() && !self.is_sought)
        };
        let inside = back.valid()
            && self.span.starts_by(back.key())
            && !self.front.as_ref().is_some_and(met);
        if let Some(walk) = &self.inside.walk {
            walk.back_at(inside.then(|| back.key()));
        }
        self.has_overshot = !inside;
        Ok(self.going_on(inside))
    }

    fn ended(&self) -> Option<Result<bool>> {
        match &self.state {
            State::Going => None,
            State::Done => Some(Ok(false)),
            State::Failed(error) => Some(Err(error.clone())),
        }
    }

    fn going_on(&mut self, inside: bool) -> bool {
        if !inside {
            self.state = State::Done;
        }
        inside
    }

    fn fail(&mut self, error: Error) -> Error {
        self.state = State::Failed(error.clone());
        error
    }

    fn item(&mut self, moved: Result<bool>, back: bool) -> Option<Result<(Value, Value)>> {
        let merge = if back { &mut self.back } else { &mut self.front };
        let entry = match (moved, merge) {
            (Ok(false), _) | (Ok(true), None) => return None,
            (Ok(true), Some(merge)) => {
                let value = merge.pinned_value();
                let key = merge.key().get(self.order.extra()..).unwrap_or_default();
                value.map(|value| (Value::copied(key), value))
            }
            (Err(error), _) => Err(error),
        };
        Some(entry.map_err(|error| self.fail(error)))
    }
}

impl Iterator for Entries {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let moved = self.advance();
        self.item(moved, false)
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        let moved = self.retreat();
        self.item(moved, true)
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("span", &self.span).finish_non_exhaustive()
    }
}

/// The span of keys between two bounds.
pub(crate) fn span_between(start: Bound<&[u8]>, end: Bound<&[u8]>) -> Span {
    let after = |key: &[u8]| [key, &[0]].concat();
    let start = match start {
        Bound::Included(key) => key.to_vec(),
        Bound::Excluded(key) => after(key),
        Bound::Unbounded => Vec::new(),
    };
    let end = match end {
        Bound::Included(key) => Some(after(key)),
        Bound::Excluded(key) => Some(key.to_vec()),
        Bound::Unbounded => None,
    };
    Span::new(start, end)
}

/// The span of keys that start with `prefix`.
pub(crate) fn span_of_prefix(prefix: &[u8]) -> Span {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1);
    let end = prefix.get(..kept).filter(|head| !head.is_empty()).map(|head| {
        let mut end = head.to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    });
    Span::new(prefix.to_vec(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_they_should() {
        let end = |prefix: &[u8]| span_of_prefix(prefix).end.map(|end| end.to_vec());
        assert_eq!(end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end(b"\xff"), None);
        assert_eq!(end(b""), None);
    }

    #[test]
    fn bounds_become_half_open() {
        let span = span_between(Bound::Excluded(b"a"), Bound::Included(b"b"));
        assert_eq!((&span.start[..], span.end.as_deref()), (&b"a\0"[..], Some(&b"b\0"[..])));
        assert!(span_between(Bound::Included(b"b"), Bound::Excluded(b"a")).is_empty());
    }
}

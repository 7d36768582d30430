//! Merging sorted sources: one cursor over several, the newest first.
//!
//! Of entries with equal keys the newest source's counts. A tournament ([`losers`]) finds the
//! next entry by comparing *heads*: eight bytes of the key as a number, taken behind the prefix
//! which the keys of all sources have in common just now. Only equal heads cost a look at keys.
//! Four more things make it cheap:
//!
//! - A source that won twice in a row likely goes on winning (runs of neighbouring keys): then it
//!   is compared with the runner-up alone.
//! - Where two keys are found equal, the older one is marked; it is skipped later without a
//!   comparison with what went before.
//! - A range deleted by newer sources is left by one seek, not entry by entry.
//! - Deletes in a row are walked over along with the entries they hide, two sources in lockstep,
//!   without a match for each.
//!
//! The prefix adapts: it shrinks when the merge leaves it and grows when heads tie too often. A
//! head is monotone in the key whatever the prefix is, so this is a matter of speed alone.

mod losers;
#[cfg(test)]
mod tests;

use super::{Cursor, Kind, Lent, RangeSet};
use crate::{Result, Value};
use losers::{Contender, LAST, Losers};
use std::cmp::Ordering;

/// Whether a merge shows delete entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    /// For readers: a deleted key is not there.
    Hide,
    /// For compaction: a delete may still hide something in older files.
    Keep,
}

/// This many ties of heads, and the prefix is looked at again. Few in tests, which are short.
const PATIENCE: u32 = if cfg!(test) { 4 } else { 64 };
const PATIENCE_MAX: u32 = 1 << 20;
/// After this many deletes in a row the next ones are expected to be as many.
const DEAD_STREAK: u32 = if cfg!(test) { 2 } else { 16 };
/// A prefix is compared in steps of so many bytes, and has a whole number of them: five bytes of
/// a head at least are then worth something.
const PREFIX_STEP: usize = 4;

/// One cursor over several, newest first.
#[derive(Debug)]
pub(crate) struct Merge<C> {
    sources: Vec<C>,
    losers: Losers,
    heads: Heads,
    /// Below this head the winner stays the winner; 0 while that is not known.
    runner_up: u64,
    deletes: Deletes,
    valid: bool,
    /// Deletes in a row that the merge has just walked over.
    dead: u32,
    /// For each source what newer ones deleted; empty if nobody deleted ranges.
    deleted: Vec<RangeSet>,
    range_deletes: RangeSet,
    /// The key at which the direction changes.
    turn: Vec<u8>,
}

/// How keys become heads.
#[derive(Debug)]
struct Heads {
    prefix: Vec<u8>,
    /// Whether larger keys come first.
    reverse: bool,
    /// Ties since the prefix was chosen, and how many of them to bear.
    ties: u32,
    patience: u32,
}

impl<C: Cursor> Merge<C> {
    /// `sources`, the newest first.
    pub(crate) fn new(sources: Vec<C>, deletes: Deletes) -> Self {
        let (deleted, all) = deleted_by_newer(&sources);
        Self {
            sources,
            losers: Losers::default(),
            heads: Heads { prefix: Vec::new(), reverse: false, ties: 0, patience: PATIENCE },
            runner_up: 0,
            deletes,
            valid: false,
            dead: 0,
            deleted,
            range_deletes: if deletes == Deletes::Keep { all } else { RangeSet::default() },
            turn: Vec::new(),
        }
    }

    /// Places every source by `seek`, and the merge at the first entry that counts.
    fn start(&mut self, reverse: bool, seek: impl FnMut(&mut C) -> Result<()>) -> Result<()> {
        self.valid = false;
        self.sources.iter_mut().try_for_each(seek)?;
        if self.sources.is_empty() {
            return Ok(());
        }
        let Self { sources, losers, heads, .. } = self;
        (heads.reverse, heads.ties, heads.patience) = (reverse, 0, PATIENCE);
        let keys = sources.iter().filter(|source| source.valid()).map(C::key);
        // A single source needs no heads, so the cheapest will do.
        heads.set_prefix(if sources.len() > 1 { common(keys) } else { &[] });
        losers.set((0..).zip(sources.iter()).map(|(i, source)| heads.contender(i, source)));
        losers.play(|a, b| heads.settle_tie(sources, a, b));
        self.runner_up = 0;
        self.settle()
    }

    /// From the present winner on, to the first entry that counts.
    fn settle(&mut self) -> Result<()> {
        loop {
            let winner = self.losers.winner();
            if winner.head == LAST {
                if winner.is_end() {
                    self.valid = false;
                    return Ok(());
                }
                self.shrink_prefix();
            }
            let source = winner.source();
            if winner.is_shadowed() {
                self.step(source)?;
            } else if self.is_deleted(source) {
                self.leave_deleted(source)?;
            } else if self.deletes == Deletes::Hide && self.sources[source].kind() == Kind::Delete {
                self.dead = self.dead.saturating_add(1);
                if self.dead > DEAD_STREAK { self.leave_dead(source) } else { self.step(source) }?;
            } else {
                self.dead = 0;
                self.valid = true;
                return Ok(());
            }
        }
    }

    /// Moves the winner by one entry.
    #[inline]
    fn step(&mut self, source: usize) -> Result<()> {
        let cursor = &mut self.sources[source];
        if self.heads.reverse { cursor.prev() } else { cursor.next() }?;
        let moved = self.heads.contender(source, cursor);
        self.replay(moved);
        Ok(())
    }

    /// The winner moved: finds the next.
    #[inline]
    fn replay(&mut self, moved: Contender) {
        if moved.head < self.runner_up {
            self.losers.stay(moved);
            return;
        }
        let Self { sources, losers, heads, .. } = self;
        losers.replay(moved, |a, b| heads.settle_tie(sources, a, b));
        let again = losers.winner().source() == moved.source();
        self.runner_up = if again { losers.runner_up() } else { 0 };
        if self.heads.ties >= self.heads.patience {
            self.grow_prefix();
        }
    }

    /// Whether a newer source deleted the range in which `source` is.
    #[inline]
    fn is_deleted(&self, source: usize) -> bool {
        self.deleted
            .get(source)
            .is_some_and(|deleted| deleted.covering(self.sources[source].key()).is_some())
    }

    /// Moves the winner, which is in a deleted range, out of it. A short range may be left by one
    /// step, which costs much less than a seek.
    fn leave_deleted(&mut self, source: usize) -> Result<()> {
        let cursor = &mut self.sources[source];
        let Some(span) = self.deleted[source].covering(cursor.key()) else { return Ok(()) };
        if self.heads.reverse {
            cursor.prev()?;
            if cursor.valid() && span.starts_by(cursor.key()) {
                cursor.seek_before(&span.start)?;
            }
        } else {
            cursor.next()?;
            match &span.end {
                Some(end) if cursor.valid() && cursor.key() < end => cursor.seek(end)?,
                Some(_) => {}
                None => {
                    self.replay(Contender::end(source));
                    return Ok(());
                }
            }
        }
        let moved = self.heads.contender(source, cursor);
        self.replay(moved);
        Ok(())
    }

    /// Moves the winner, one of many deletes in a row, and the only source that has what they
    /// hide past all that the two have in common.
    #[cold]
    fn leave_dead(&mut self, source: usize) -> Result<()> {
        let head = self.losers.winner().head;
        let contenders = self.losers.contenders().iter().copied();
        let others = contenders.filter(|other| other.source() != source);
        let hidden = others.clone().find(|other| other.is_shadowed() && other.head == head);
        let Some(hidden) = hidden.filter(|_| self.deleted.is_empty()) else {
            return self.step(source);
        };
        // Where the others are: not here, as they may be at the same key.
        let others = others.filter(|other| other.source() != hidden.source());
        let rest = others.map(|other| other.head).min();
        if rest.is_some_and(|rest| rest <= head) {
            return self.step(source);
        }
        let Self { sources, losers, heads, .. } = self;
        if let Ok([newer, older]) = sources.get_disjoint_mut([source, hidden.source()]) {
            loop {
                for cursor in [&mut *newer, &mut *older] {
                    if heads.reverse { cursor.prev() } else { cursor.next() }?;
                }
                let ended = !newer.valid() || !older.valid() || newer.kind() != Kind::Delete;
                if ended || newer.key() != older.key() {
                    break;
                }
                if rest.is_some_and(|rest| heads.head(newer.key()) >= rest) {
                    break;
                }
            }
        }
        losers.set((0..).zip(sources.iter()).map(|(i, source)| heads.contender(i, source)));
        losers.play(|a, b| heads.settle_tie(sources, a, b));
        self.runner_up = 0;
        Ok(())
    }

    /// Goes on in the other direction from the present key.
    fn turn(&mut self, reverse: bool) -> Result<()> {
        let mut turn = std::mem::take(&mut self.turn);
        turn.clear();
        turn.extend_from_slice(self.key());
        let turned = self.start(reverse, |source| {
            if reverse {
                return source.seek_before(&turn);
            }
            source.seek(&turn)?;
            if source.valid() && source.key() == turn { source.next() } else { Ok(()) }
        });
        self.turn = turn;
        turned
    }

    #[inline(always)]
    fn go_on(&mut self) -> Result<()> {
        if self.sources.len() == 1 {
            return self.walk();
        }
        self.step(self.losers.winner().source())?;
        self.settle()
    }

    /// Moves a single source, which has nobody to be compared with and nothing newer above it.
    #[inline(always)]
    fn walk(&mut self) -> Result<()> {
        self.valid = false;
        let Some(source) = self.sources.first_mut() else { return Ok(()) };
        loop {
            if self.heads.reverse { source.prev() } else { source.next() }?;
            if !source.valid() {
                return Ok(());
            }
            if self.deletes == Deletes::Keep || source.kind() != Kind::Delete {
                self.valid = true;
                return Ok(());
            }
        }
    }

    /// The winner may have left the prefix, and then all others have.
    #[cold]
    fn shrink_prefix(&mut self) {
        let key = self.sources[self.losers.winner().source()].key();
        let common = common([self.heads.prefix.as_slice(), key].into_iter()).len();
        if common < self.heads.prefix.len() {
            self.heads.prefix.truncate(common);
            self.rehead();
        }
    }

    /// Heads tied often: perhaps the keys have more in common than was known.
    #[cold]
    fn grow_prefix(&mut self) {
        let Self { sources, losers, heads, .. } = self;
        let live = losers.contenders().iter().filter(|one| !one.is_end());
        let prefix = common(live.map(|one| sources[one.source()].key()));
        heads.ties = 0;
        if prefix.len() > heads.prefix.len() {
            heads.set_prefix(prefix);
            heads.patience = PATIENCE;
            self.rehead();
        } else {
            heads.patience = (heads.patience * 2).min(PATIENCE_MAX);
        }
    }

    fn rehead(&mut self) {
        let Self { sources, losers, heads, .. } = self;
        losers.rehead(|one| match one.is_end() {
            true => LAST,
            false => heads.head(sources[one.source()].key()),
        });
        losers.play(|a, b| heads.settle_tie(sources, a, b));
        self.runner_up = 0;
    }
}

impl Heads {
    fn set_prefix(&mut self, prefix: &[u8]) {
        self.prefix.clear();
        self.prefix.extend_from_slice(prefix);
    }

    #[inline]
    fn contender<C: Cursor>(&self, source: usize, cursor: &C) -> Contender {
        if !cursor.valid() {
            return Contender::end(source);
        }
        Contender::at(self.head(cursor.key()), source)
    }

    /// A number that is smaller only for a key that comes earlier.
    #[inline]
    fn head(&self, key: &[u8]) -> u64 {
        let head = match strip_prefix(key, &self.prefix) {
            Some(rest) => first_eight(rest),
            None if key < self.prefix.as_slice() => 0,
            None => u64::MAX,
        };
        if self.reverse { !head } else { head }
    }

    /// Which of two with equal heads goes first. If their keys are equal too, the newer does, and
    /// the older is marked.
    #[cold]
    fn settle_tie<C: Cursor>(
        &mut self,
        sources: &[C],
        a: Contender,
        b: Contender,
    ) -> (Contender, Contender) {
        if a.is_end() {
            return (b, a);
        }
        if b.is_end() {
            return (a, b);
        }
        self.ties += 1;
        match sources[a.source()].key().cmp(sources[b.source()].key()) {
            Ordering::Less if self.reverse => (b, a),
            Ordering::Less => (a, b),
            Ordering::Greater if self.reverse => (a, b),
            Ordering::Greater => (b, a),
            Ordering::Equal if a.source() < b.source() => (a, b.shadowed()),
            Ordering::Equal => (b, a.shadowed()),
        }
    }
}

/// For each source the ranges that newer ones deleted (nothing at all if none did), and those of
/// all sources.
fn deleted_by_newer<C: Cursor>(sources: &[C]) -> (Vec<RangeSet>, RangeSet) {
    let mut all = RangeSet::default();
    let mut by_newer = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        if !all.is_empty() {
            by_newer.resize(i, RangeSet::default());
            by_newer.push(all.clone());
        }
        all.add_all(source.range_deletes());
    }
    (by_newer, all)
}

/// The first eight bytes as a number that orders as they do; zeros where there are none.
#[inline]
fn first_eight(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => first_few(bytes),
    }
}

fn first_few(bytes: &[u8]) -> u64 {
    let shifts = (0..64).step_by(8).rev();
    bytes.iter().zip(shifts).fold(0, |head, (byte, shift)| head | u64::from(*byte) << shift)
}

/// As that of slices, but inline: for a few bytes the call of `memcmp` would cost most.
#[inline]
fn strip_prefix<'a>(mut key: &'a [u8], mut prefix: &[u8]) -> Option<&'a [u8]> {
    while let Some((front, rest)) = prefix.split_first_chunk::<PREFIX_STEP>() {
        let (key_front, key_rest) = key.split_first_chunk()?;
        if key_front != front {
            return None;
        }
        (key, prefix) = (key_rest, rest);
    }
    Some(key)
}

/// What all keys begin with, in whole steps.
fn common<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> &'a [u8] {
    let first = keys.next().unwrap_or_default();
    let len = keys.fold(first.len(), |len, key| common_len(&first[..len], key));
    &first[..len - len % PREFIX_STEP]
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<C: Cursor> Cursor for Merge<C> {
    fn seek_first(&mut self) -> Result<()> {
        self.start(false, C::seek_first)
    }

    fn seek_last(&mut self) -> Result<()> {
        self.start(true, C::seek_last)
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.start(false, |source| source.seek(key))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.start(true, |source| source.seek_before(key))
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        let moved = if self.heads.reverse { self.turn(false) } else { self.go_on() };
        moved.inspect_err(|_| self.valid = false)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let moved = if self.heads.reverse { self.go_on() } else { self.turn(true) };
        moved.inspect_err(|_| self.valid = false)
    }

    #[inline(always)]
    fn valid(&self) -> bool {
        self.valid
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.sources[self.losers.winner().source()].key()
    }

    #[inline(always)]
    fn kind(&self) -> Kind {
        self.sources[self.losers.winner().source()].kind()
    }

    #[inline(always)]
    fn fetch(&mut self) -> Result<()> {
        self.sources[self.losers.winner().source()].fetch()
    }

    #[inline(always)]
    fn fetched(&self) -> &[u8] {
        self.sources[self.losers.winner().source()].fetched()
    }

    fn pinned_value(&mut self) -> Result<Value> {
        self.sources[self.losers.winner().source()].pinned_value()
    }

    fn lent(&self) -> Option<Lent> {
        self.sources[self.losers.winner().source()].lent()
    }

    fn range_deletes(&self) -> &RangeSet {
        &self.range_deletes
    }
}

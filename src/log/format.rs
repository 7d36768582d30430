//! Positions in the log.

/// The number of a segment; the first is 1, and 0 means that there is no log yet.
pub(crate) type SegmentId = u64;

/// A place in the log: a segment and an offset in it. Later places compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(u64);

//! The write-ahead log: every batch of every table becomes one record here before anything else.
//!
//! One log serves all tables of all engines, which is what makes a batch atomic over them and a
//! durable commit one sync. It comes in two halves: the [`Appender`] belongs to the one writer
//! and lives inside the database's commit lock, where it does nothing but copy bytes; the [`Log`]
//! is shared by all threads and does what takes long: syncing, making segments, removing them.
//!
//! ```text
//! append ->  | segment 7: full | segment 8: full | segment 9: active ....... | 10: spare |
//!            ^                             ^                     ^
//!            first_needed(seq)             synced                appended
//! ```
//!
//! - **Segments are made ahead** ([`segment`]): allocated, with a header, synced, so that a
//!   durable commit is one data sync of what was appended. They start small, because most
//!   databases are, and quadruple up to full size.
//! - **Appending is a copy** into a mapping of the segment where the folder can map, one write
//!   elsewhere ([`appender`]).
//! - **Syncs are shared** by all who wait ([`train`]).
//! - **Replay** shows records in order and tells a torn tail from damage ([`replay()`]).
//! - **Failures**: a full disk while making a segment is an error that passes; a failed write or
//!   sync of records poisons the log, and only opening again can tell what survived.
//!
//! How to open: [`replay()`] from where the manifest says, [`Log::start`] at
//! [`Replayed::next_segment`], append or settle what was replayed, sync, let the manifest say
//! durably that the log begins there, [`Log::remove_below`], and then accept writes.

mod appender;
mod format;
mod replay;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod train;

pub(crate) use appender::Appender;
#[cfg(test)]
use format::SegmentId;
pub(crate) use format::{Position, payload_crc, segment_name};
pub(crate) use replay::{Record, Replayed, replay};
pub(crate) use shared::{Log, LogOptions};

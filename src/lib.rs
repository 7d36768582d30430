//! Tonearm is an embeddable storage engine: open a folder, and each table in it chooses how it lies
//! on disk. All tables share one log, so batches and snapshots span them.
//!
//! ```
//! # fn main() -> tonearm::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("music");
//! use tonearm::{Db, Durability, OrderedTable, Table, key};
//!
//! let db = Db::open(&path)?;
//! let listens = db.lsm("listens")?;
//!
//! let (user, nine_pm, ten_pm) = (7u32, 1_752_354_000u32, 1_752_357_600u32);
//! listens.insert(&key::encode(&(user, nine_pm + 60)), b"So What")?;
//! listens.insert(&key::encode(&(user, ten_pm + 60)), b"Naima")?;
//!
//! let evening = key::encode(&(user, nine_pm))..key::encode(&(user, ten_pm));
//! for entry in listens.range(evening) {
//!     let (key, song) = entry?;
//!     let (_, when): (u32, u32) = key::decode(&key)?;
//!     assert_eq!((when, &song[..]), (nine_pm + 60, &b"So What"[..]));
//! }
//! # Ok(()) }
//! ```
//!
//! # Which engine when
//!
//! | engine | for | reads | writes |
//! | --- | --- | --- | --- |
//! | [`lsm`] | events, counters, queues | a filter and one block a level | sequential, merged later |
//! | [`btree`] | catalogues, indexes | one block a level, in order | merged in where they are dense |
//! | [`hash`] | cards, profiles, sessions | whole keys: an index line and a page | as `lsm` |
//!
//! A hash table ([`Db::hash`]) keeps no order: it is a [`Table`] and no [`OrderedTable`], and its
//! iterators go in the order of the keys' hashes. It answers look-ups several times as fast as an
//! ordered table, above all [`Table::get_many`], and takes [`Table::ingest`] in any order.
//!
//! A B+tree ([`Db::btree`]) is one tree that takes in whole memtables: look-ups and scans have one
//! place to look in, and its file stays in the order of the keys. Its cost is that of the pages
//! that change; changes that would cost too many pages wait beside the tree, in a few files that
//! reads ask first, until there are more of them or nobody writes
//! ([`BtreeOptions::rewrite_ratio`]). So it suits tables that are read more than written. Whatever
//! reads an old version of it for long (a [`Snapshot`], an iterator, a
//! [`Value`] of over a kilobyte) keeps the pages of that version from being used again.
//!
//! Large columnar pages are being built on the same log; the traits [`Table`] and
//! [`OrderedTable`] are what they have in common.
//!
//! # What a commit survives
//!
//! - [`Durability::Process`]: the death of the process, however sudden. No system call in the
//!   common case.
//! - [`Durability::PowerLoss`]: a power cut too. One sync of the log, shared by all threads that
//!   wait for one at that moment.
//!
//! Commits survive in order: if one is there after a crash, all before it are. A batch is there
//! whole or not at all, across tables. In the background the log is synced every second
//! ([`Builder::sync_interval`]), which bounds what a power cut takes of the first kind.
//!
//! When a sync of the log fails, nothing is known about what reached the disk, and syncing again
//! would prove nothing ([Rebello et al., 2020]). Reads then go on and writes return
//! [`ErrorKind::Poisoned`] until the database is opened again.
//!
//! [Rebello et al., 2020]: https://www.usenix.org/conference/atc20/presentation/rebello
//!
//! # Transactions
//!
//! A [`Batch`] commits writes together; a [`Transaction`] also knows what they follow from. It
//! reads one snapshot and its own writes, over all tables, whatever their engine, and its commit
//! fails with [`ErrorKind::Conflict`] if somebody else wrote what it had read. So all transactions
//! and batches happen as if one after the other: they are serializable. Nothing is locked, nobody
//! waits.
//!
//! ```
//! # fn main() -> tonearm::Result<()> {
//! # let db = tonearm::Db::in_memory()?;
//! use tonearm::{OrderedTable, Table, key};
//!
//! let queue = db.lsm("queue")?;
//! let playing = db.lsm("playing")?;
//! queue.insert(&key::encode(&1u64), b"So What")?;
//!
//! // Run again, from the start, if another thread took the same song at the same time.
//! let song = db.transact(|tx| {
//!     let Some((key, song)) = tx.first(&queue)? else { return Ok(None) };
//!     tx.remove(&queue, key)?;
//!     tx.insert(&playing, b"now", &song)?;
//!     Ok(Some(song))
//! })?;
//! assert_eq!(song.unwrap(), b"So What");
//! assert!(queue.first()?.is_none());
//! # Ok(()) }
//! ```
//!
//! - What counts as read is what was looked at: keys, there or not, and ranges as far as an
//!   iterator came, gaps included. [`Transaction::untracked`] reads do not count.
//! - Writes that follow from no read conflict with nothing; of two, the later wins.
//! - [`Db::transact`] tries again after a conflict, up to a bound ([`TransactOptions::retries`]).
//!   Keys that everybody reads and writes, such as one counter for all, are better written in
//!   turns.
//! - [`Transaction::savepoint`] marks a place to go back to.
//! - A transaction that wrote nothing saw one instant, and needs no check.
//! - Keep them short: what others write is kept in memory meanwhile, up to a quarter of
//!   [`Builder::memory`]. One that is open for longer has to be made again.
//!
//! # Threads
//!
//! Handles ([`Db`], tables, [`Snapshot`]) are `Send + Sync`, cheap to clone, and without lifetimes.
//! Readers take no lock. Writers take turns under one short lock. A [`Snapshot`] or an iterator
//! ([`Entries`]) sees one instant, whatever is written meanwhile, and holds nobody up; it keeps the
//! files of that instant on disk until it is dropped.
//!
//! Flushes and merges run in background threads ([`Builder::threads`]); with 0 of them, inside
//! [`Db::maintain`] and in writers that find no room. When writers outrun the disk they are slowed
//! smoothly, and [`Db::stats`] says so.
//!
//! # Limits
//!
//! | what | limit |
//! | --- | --- |
//! | key | 16 KiB |
//! | value | 256 MiB |
//! | batch | 512 MiB, 16,777,216 operations |
//! | name of a table | 255 bytes |
//! | commits not yet in files | [`Builder::memory`] and [`Builder::log_bytes`] |
//!
//! # When something is wrong
//!
//! There is one [`Error`]; its [`kind`](Error::kind) says what to do, its message says it in a
//! sentence, with file and offset where they apply. Every byte on disk is covered by a checksum
//! that is verified before the byte is used: damage is an error, never a wrong answer, and
//! [`Db::verify`] finds all of it. A torn end of the log, which a power cut may leave, is no
//! damage. [`check`] shows what is in a folder, and salvages what is readable of a damaged one.
//!
//! # Features
//!
//! - `lz4` (default), `zstd`: compression of blocks, see [`LsmOptions`] and [`Compression`].
//! - `testing`: `vfs::sim`, a simulated disk on which to crash your own program.
#![deny(missing_docs, missing_debug_implementations)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod btree;
mod cache;
pub mod check;
mod codec;
mod db;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod hash;
pub mod key;
mod log;
pub mod lsm;
mod manifest;
mod memtable;
mod sorted;
mod table;
mod value;
pub mod vfs;

pub use btree::{Btree, BtreeOptions};
pub use codec::Compression;
pub use db::{Builder, Db, DbStats, Progress, ReadPath, TransactOptions};
pub use error::{Error, ErrorKind, Result};
pub use hash::{Hash, HashOptions};
pub use lsm::{Lsm, LsmOptions};
pub use table::{
    Batch, Durability, Engine, Entries, Feed, LenderStats, LevelStats, OrderedTable, Savepoint,
    Side, Snapshot, Table, TableAt, TableStats, Transaction, TreeStats, WorkStats,
};
pub use value::Value;

/// Pages about the crate as a whole.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/design.md")]
    pub mod design {}
    #[doc = include_str!("../docs/format.md")]
    pub mod format {}
    #[doc = include_str!("../docs/performance.md")]
    pub mod performance {}
    #[doc = include_str!("../docs/testing.md")]
    pub mod testing {}
}

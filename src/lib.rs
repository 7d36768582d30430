//! Tonearm is an embeddable storage engine.
#![deny(missing_docs)]

mod cache;
mod codec;
mod db;
mod error;
pub mod key;
mod log;
pub mod lsm;
mod manifest;
mod memtable;
mod sorted;
mod table;
mod value;
pub mod vfs;

pub use codec::Compression;
pub use db::{Builder, Db, DbStats, Progress, ReadPath};
pub use error::{Error, ErrorKind, Result};
pub use lsm::{Lsm, LsmOptions};
pub use table::{
    Batch, Durability, Engine, Entries, LevelStats, OrderedTable, Side, Snapshot, Table, TableAt,
    TableStats, WorkStats,
};
pub use value::Value;

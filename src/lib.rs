//! Tonearm is an embeddable storage engine.
#![deny(missing_docs)]

mod cache;
mod codec;
mod error;
pub mod key;
mod log;
mod lsm;
mod manifest;
mod memtable;
mod sorted;
mod table;
mod value;
pub mod vfs;

pub use codec::Compression;
pub use error::{Error, ErrorKind, Result};
pub use lsm::{Lsm, LsmOptions};
pub use value::Value;

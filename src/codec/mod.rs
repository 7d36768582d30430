//! How integers, checksums and compressed bytes are written, and keys compared, in one place.
//!
//! All integers on disk are little-endian and of fixed width, or LEB128 varints. Everything read
//! back goes through [`Reader`], which never reads past its slice.

mod checksum;
mod compress;
mod order;
mod prefetch;
mod reader;

#[cfg(test)]
pub(crate) use checksum::WEAK_SEED;
#[cfg(fuzzing)]
pub(crate) use checksum::blindness;
pub(crate) use checksum::{Crc, Digest, checksum, key_hash, seeded_hash};
pub use compress::Compression;
pub(crate) use compress::{compress, decompress};
pub(crate) use order::{compare, load};
pub(crate) use prefetch::prefetch;
pub(crate) use reader::{Reader, put_bytes, put_u32, put_u64, put_varint};

//! The bytes of one key, without an allocation while they are few.

use smallvec::SmallVec;
use std::{borrow::Borrow, fmt, ops::Deref};

/// The bytes of a key, as [`encode`](super::encode) made them.
///
/// Dereferences to `[u8]` and compares as bytes do. Up to 32 bytes lie in the `Key` itself.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmallVec<[u8; 32]>);

impl Key {
    /// A key of no bytes: the first of all keys.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Appends one byte. The order of keys is in the hands of the caller.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Appends `bytes` as they are. The order of keys is in the hands of the caller: variable
    /// lengths need an end mark, which encoding a `[u8]` writes.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Removes all bytes and keeps the memory.
    #[inline]
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Flips every bit from byte `start` on, which turns the order of these bytes around.
    #[inline]
    pub(super) fn flip_from(&mut self, start: usize) {
        for byte in self.0.iter_mut().skip(start) {
            *byte = !*byte;
        }
    }
}

impl Deref for Key {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    #[inline]
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(SmallVec::from_vec(bytes))
    }
}

impl From<Key> for Vec<u8> {
    fn from(key: Key) -> Self {
        key.0.into_vec()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

//! Bytes read from a table: short ones inline, long ones borrowed from the block they lie in.

use bytes::Bytes;
use std::{borrow::Borrow, cmp::Ordering, fmt, hash, ops::Deref, sync::Arc};

/// Longest value that is copied into the [`Value`] itself instead of holding on to its block.
const INLINE_MAX: usize = 38;

/// Something that keeps bytes alive: a memory mapping, a cached block, a memtable.
pub(crate) trait Owner: Send + Sync {
    /// All the bytes it keeps alive; the same address and contents for its whole life.
    fn bytes(&self) -> &[u8];
}

/// A key or a value read from a table.
///
/// Dereferences to `[u8]`. Up to 38 bytes lie in the `Value` itself; a longer one holds a
/// reference-counted pin on the block (or mapping, or memtable) it was found in, so keeping very
/// many values alive for long keeps their blocks alive too: copy with `to_vec` for that.
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Pinned { owner: Arc<dyn Owner>, start: usize, end: usize },
    Shared(Bytes),
}

impl Value {
    /// `bytes`, which lie inside `owner.bytes()`, without copying unless they are short.
    ///
    /// Bytes from elsewhere are copied: the call is safe with any argument.
    pub(crate) fn pinned<O: Owner + 'static>(owner: &Arc<O>, bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_MAX {
            return Self::copied(bytes);
        }
        let all = owner.bytes();
        let start = (bytes.as_ptr() as usize).wrapping_sub(all.as_ptr() as usize);
        match start.checked_add(bytes.len()) {
            Some(end) if end <= all.len() => {
                let owner: Arc<dyn Owner> = owner.clone();
                Self(Repr::Pinned { owner, start, end })
            }
            _ => Self::copied(bytes),
        }
    }

    /// A copy of `bytes`.
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_MAX {
            let mut inline = [0; INLINE_MAX];
            if let Some(head) = inline.get_mut(..bytes.len()) {
                head.copy_from_slice(bytes);
            }
            Self(Repr::Inline { len: bytes.len() as u8, bytes: inline })
        } else {
            Self(Repr::Shared(Bytes::copy_from_slice(bytes)))
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Pinned { owner, start, end } => {
                owner.bytes().get(*start..*end).unwrap_or_default()
            }
            Repr::Shared(bytes) => bytes,
        }
    }
}

impl Deref for Value {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Value {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Shared(bytes.into()))
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Shared(bytes))
    }
}

impl From<Value> for Bytes {
    /// Without a copy, unless the value lies inline.
    fn from(value: Value) -> Self {
        match value.0 {
            Repr::Shared(bytes) => bytes,
            Repr::Inline { .. } => Bytes::copy_from_slice(&value),
            Repr::Pinned { .. } => Bytes::from_owner(value),
        }
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.as_slice().to_vec()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.as_slice().escape_ascii())
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        self.as_slice() == other.as_ref()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl hash::Hash for Value {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Buffer(Vec<u8>);
    impl Owner for Buffer {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn pins_long_values_and_copies_short_ones() {
        let buffer = Arc::new(Buffer((0..100).collect()));
        let long = Value::pinned(&buffer, &buffer.0[10..90]);
        assert_eq!(Arc::strong_count(&buffer), 2);
        assert_eq!(long, buffer.0[10..90]);
        let short = Value::pinned(&buffer, &buffer.0[10..20]);
        assert_eq!(Arc::strong_count(&buffer), 2);
        assert_eq!(short, buffer.0[10..20]);
        assert_eq!(Bytes::from(long), buffer.0[10..90]);
    }

    #[test]
    fn foreign_bytes_are_copied() {
        let buffer = Arc::new(Buffer(vec![1; 8]));
        let elsewhere = vec![7; 64];
        assert_eq!(Value::pinned(&buffer, &elsewhere), elsewhere);
        assert_eq!(Arc::strong_count(&buffer), 1);
    }
}

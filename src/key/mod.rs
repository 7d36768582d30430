//! Typed keys whose bytes sort as their values do.
//!
//! Tables order keys by their bytes and nothing else. [`encode`] turns integers, floats, strings,
//! options and tuples of them into bytes that sort the same way, and [`decode`] turns them back:
//!
//! ```
//! use tonearm::key;
//!
//! let key = key::encode(&(757_u32, 1_500_000_000_u64));
//! assert_eq!(key.len(), 12);
//! assert!(key < key::encode(&(757_u32, 1_500_000_001_u64)));
//! assert_eq!(key::decode::<(u32, u64)>(&key)?, (757, 1_500_000_000));
//! # Ok::<(), tonearm::Error>(())
//! ```
//!
//! # The format
//!
//! Bytes do not say which type they hold, as a column of a table need not: decode them as the type
//! that was encoded (`&str` as `String`, `&[u8]` as `Vec<u8>`).
//!
//! ```text
//! Format: key
//!
//!   u8 .. u128     big-endian, as wide as the type
//!   i8 .. i128     the same, with the sign bit flipped
//!   f32, f64       big-endian bits; positive: sign bit flipped; negative: all bits flipped
//!   bool           00 | 01
//!   char           its scalar value, as a u32
//!   [u8; N]        its N bytes
//!   str, [u8]      its bytes, each 00 followed by ff; then 00 00
//!   Option<T>      00  |  01 T
//!   ()             nothing
//!   (A, B, ..)     A B ..
//!   Desc<T>        T with every bit flipped
//! ```
//!
//! Integers have a fixed width so that keys of equal types have equal lengths, which is what
//! blocks of sorted keys compress and search best. The escapes of strings are those of
//! FoundationDB's tuple layer, with an end mark of two bytes instead of one so that a string is
//! told apart from what follows without looking at it.
//!
//! One example of each, in hex:
//!
//! ```
//! use tonearm::key::{self, Desc, Encode};
//!
//! fn hex<T: Encode + ?Sized>(value: &T) -> String {
//!     key::encode(value).iter().map(|byte| format!("{byte:02x}")).collect()
//! }
//! assert_eq!(hex(&7_u8), "07");
//! assert_eq!(hex(&258_u16), "0102");
//! assert_eq!(hex(&757_u32), "000002f5");
//! assert_eq!(hex(&1_500_000_000_u64), "0000000059682f00");
//! assert_eq!(hex(&1_u128), "00000000000000000000000000000001");
//! assert_eq!(hex(&-1_i8), "7f");
//! assert_eq!(hex(&0_i16), "8000");
//! assert_eq!(hex(&-2_i32), "7ffffffe");
//! assert_eq!(hex(&5_i64), "8000000000000005");
//! assert_eq!(hex(&i128::MIN), "00000000000000000000000000000000");
//! assert_eq!(hex(&1.5_f32), "bfc00000");
//! assert_eq!(hex(&-1.5_f32), "403fffff");
//! assert_eq!(hex(&0.0_f64), "8000000000000000");
//! assert_eq!(hex(&-0.0_f64), "7fffffffffffffff");
//! assert_eq!(hex(&false), "00");
//! assert_eq!(hex(&'a'), "00000061");
//! assert_eq!(hex(b"ab"), "6162"); // a [u8; 2]
//! assert_eq!(hex(&b"ab"[..]), "61620000"); // a [u8]
//! assert_eq!(hex("a\0b"), "6100ff620000");
//! assert_eq!(hex(&None::<u16>), "00");
//! assert_eq!(hex(&Some(258_u16)), "010102");
//! assert_eq!(hex(&()), "");
//! assert_eq!(hex(&("ab", 7_u8)), "6162000007");
//! assert_eq!(hex(&(7_u8, ("ab", true))), "076162000001");
//! assert_eq!(hex(&Desc(258_u16)), "fefd");
//! assert_eq!(hex(&Desc("a")), "9effff");
//! ```
//!
//! # Floats
//!
//! Their order is that of [`f64::total_cmp`], in which every bit pattern has a place of its own:
//! negative NaN, negative infinity, .., `-0.0`, `0.0`, .., infinity, NaN. So NaN can be stored and
//! found again, and `-0.0` is a key of its own just before `0.0`. A program that wants them to be
//! the same key encodes `x + 0.0`, which is `0.0` for both.
//!
//! # Why the order holds
//!
//! The claim is a little stronger than order. For every type `T`, and `a < b` of that type:
//!
//! > (*) the encodings of `a` and `b` agree up to some byte which both of them have, and there
//! > the byte of `a` is the smaller.
//!
//! From (*) follows that keys sort as values, that no key is a prefix of another of its type, and
//! that different values have different keys. It holds for
//!
//! - *integers, floats, `bool`, `char`, `[u8; N]`*: two different encodings of one width differ
//!   at some byte of both. At the first such byte unsigned big-endian order decides; flipping the
//!   sign bit puts negative integers before the others without changing the order among either,
//!   and flipping all bits of a negative float turns around the order of magnitudes.
//! - *strings and bytes*: if `a` and `b` differ first at byte `i` of both, the encodings agree
//!   before it and differ at it; a `00` there needs no look at its escape, as the other byte is
//!   larger. If `a` is a proper prefix of `b`, the end mark `00 00` of `a` meets either a byte
//!   above `00`, or the pair `00 ff`: larger at its first byte or at its second.
//! - *`Option`*: the tag decides, or is the same and (*) of `T` applies.
//! - *`()`*: there is no `a < b`.
//! - *tuples*: parts before the first different one are equal and so are their bytes; for that
//!   one (*) holds, and no byte after the one that decides matters.
//! - *`Desc<T>`*: `a < b` means that the inner values are the other way around; flipping all bits
//!   leaves the deciding byte where it is and turns its order around. A plain order of bytes would
//!   not do here: of two strings of which one is a prefix of the other, the shorter sorts first
//!   with or without flipped bits.
//!
//! # Decoding
//!
//! [`decode`] takes any bytes: it never panics, and allocates no more than they are long. It is
//! canonical: where `decode(bytes)` is `Ok(value)`, `encode(&value)` is `bytes`. A key is refused
//! that is cut short, goes on after its last part, has an escape other than `00 ff`, a tag other
//! than `00` or `01`, text that is not UTF-8, or a `char` that is none.
//!
//! # Keys of your own types
//!
//! ```
//! use tonearm::{Result, key::{self, Decode, Encode, Key, Parts}};
//!
//! #[derive(Debug, PartialEq)]
//! struct User(u32);
//!
//! impl Encode for User {
//!     fn encode(&self, key: &mut Key) {
//!         self.0.encode(key);
//!     }
//! }
//! impl Decode for User {
//!     fn decode(parts: &mut Parts<'_>) -> Result<Self> {
//!         u32::decode(parts).map(User)
//!     }
//! }
//! let key = key::encode(&(User(757), "pop"));
//! assert_eq!(key::decode::<(User, String)>(&key)?, (User(757), "pop".to_owned()));
//! # Ok::<(), tonearm::Error>(())
//! ```

mod buffer;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use buffer::Key;
pub use decode::{Decode, Parts};
pub use encode::Encode;
pub use std::cmp::Reverse as Desc;

use crate::error::Result;
use std::ops::Bound;

/// The key of `value`: bytes that sort as the values of its type do.
///
/// Up to 32 bytes lie in the [`Key`] itself, so encoding a short key allocates nothing.
///
/// ```
/// use tonearm::key::{self, Desc};
///
/// // A user's newest listens first.
/// assert!(key::encode(&(757_u32, Desc(20_u64))) < key::encode(&(757_u32, Desc(10_u64))));
/// ```
#[inline]
pub fn encode<T: Encode + ?Sized>(value: &T) -> Key {
    let mut key = Key::new();
    value.encode(&mut key);
    key
}

/// Appends the key of `value` to `out`, for callers that reuse a buffer or build longer keys.
#[inline]
pub fn encode_into<T: Encode + ?Sized>(out: &mut Vec<u8>, value: &T) {
    out.extend_from_slice(&encode(value));
}

/// The value of which `bytes` are the key.
///
/// # Errors
///
/// [`Misuse`](crate::ErrorKind::Misuse) if `bytes` are not a key of type `T`, most often because
/// they were encoded as another type. The message names the type and the byte that does not fit.
///
/// ```
/// use tonearm::key;
///
/// let error = key::decode::<(u32, bool)>(&[0, 0, 2, 0xf5, 9]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "a key of 5 bytes is not a (u32, bool): byte 4 is 0x09 where 0x00 or 0x01 was expected"
/// );
/// ```
#[inline]
pub fn decode<T: Decode>(bytes: &[u8]) -> Result<T> {
    let mut parts = Parts::new::<T>(bytes);
    let value = T::decode(&mut parts)?;
    parts.finish()?;
    Ok(value)
}

/// The range of all keys that start with the key of `value`, for the `range` calls of tables.
///
/// ```
/// use std::ops::RangeBounds;
/// use tonearm::key;
///
/// let all_of_757 = key::prefix(&757_u32);
/// assert!(all_of_757.contains(&key::encode(&(757_u32, 0_u64))));
/// assert!(all_of_757.contains(&key::encode(&(757_u32, u64::MAX))));
/// assert!(!all_of_757.contains(&key::encode(&(758_u32, 0_u64))));
/// ```
pub fn prefix<T: Encode + ?Sized>(value: &T) -> (Bound<Key>, Bound<Key>) {
    let start = encode(value);
    let end = after_prefix(&start);
    (Bound::Included(start), end)
}

/// The range of all keys that start with `bytes`.
///
/// For strings that start with some text, cut the end mark off its key:
///
/// ```
/// use std::ops::RangeBounds;
/// use tonearm::key;
///
/// let text = key::encode(&(757_u32, "Rad"));
/// let range = key::prefix_range(&text[..text.len() - 2]);
/// assert!(range.contains(&key::encode(&(757_u32, "Radiohead"))));
/// assert!(!range.contains(&key::encode(&(757_u32, "Ramones"))));
/// ```
pub fn prefix_range(bytes: &[u8]) -> (Bound<Key>, Bound<Key>) {
    (Bound::Included(Key::from(bytes)), after_prefix(bytes))
}

/// Just after the last key that starts with `bytes`: the least bytes above all of them, if any.
fn after_prefix(bytes: &[u8]) -> Bound<Key> {
    let kept = bytes.iter().rposition(|byte| *byte != 0xff);
    let Some((last, head)) = kept.and_then(|last| bytes.get(..=last)?.split_last()) else {
        return Bound::Unbounded;
    };
    let mut end = Key::from(head);
    end.push(last + 1);
    Bound::Excluded(end)
}

//! From bytes back to values: accepts what [`Encode`](super::Encode) wrote and nothing else.

use super::Desc;
use crate::error::{Error, ErrorKind, Result};

/// A type whose values can be read back from keys.
///
/// An implementation for a type of your own calls those of its parts, in the order in which
/// [`Encode`](super::Encode) wrote them.
pub trait Decode: Sized {
    /// Takes the bytes of one value off the front of `parts`.
    ///
    /// # Errors
    ///
    /// If they are not what [`Encode`](super::Encode) writes for a value of this type.
    fn decode(parts: &mut Parts<'_>) -> Result<Self>;
}

/// The bytes of a key that are not decoded yet.
#[derive(Debug)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What to flip in each byte: all ones inside an odd number of [`Desc`], else zero.
    flip: u8,
    /// The whole type being decoded, for the message of an error.
    wanted: fn() -> &'static str,
}

impl<'a> Parts<'a> {
    #[inline]
    pub(super) fn new<T>(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, flip: 0, wanted: std::any::type_name::<T> }
    }

    /// Takes the next byte.
    ///
    /// # Errors
    ///
    /// If there is none.
    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Takes the next `N` bytes.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.at += N;
                Ok(chunk.map(|byte| byte ^ self.flip))
            }
            None => Err(self.ends_early()),
        }
    }

    /// An error that says `what` is wrong with the bytes taken last.
    #[cold]
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        let (len, wanted) = (self.bytes.len(), (self.wanted)());
        let message = format!("a key of {len} bytes is not a {wanted}: {what}");
        Error::new(ErrorKind::Misuse, message)
    }

    /// Nothing may follow the last part.
    #[inline]
    pub(super) fn finish(self) -> Result<()> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(self.error(format_args!("it goes on after byte {}", self.at)))
    }

    #[cold]
    fn ends_early(&self) -> Error {
        self.error("it ends too early")
    }

    /// The byte taken last is none of those that may stand there.
    #[cold]
    fn unexpected(&self, byte: u8, expected: &str) -> Error {
        let (at, byte) = (self.at - 1, byte ^ self.flip);
        self.error(format_args!("byte {at} is {byte:#04x} where {expected} was expected"))
    }

    /// Takes a string of bytes up to and including its end mark.
    fn escaped(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| *byte == self.flip);
            let plain = plain.ok_or_else(|| self.ends_early())?;
            out.extend(rest.iter().take(plain).map(|byte| byte ^ self.flip));
            self.at += plain + 1;
            match self.byte()? {
                0x00 => return Ok(out),
                0xff => out.push(0),
                other if self.flip == 0 => return Err(self.unexpected(other, "0x00 or 0xff")),
                other => return Err(self.unexpected(other, "0xff or 0x00")),
            }
        }
    }

    /// Takes a byte that is 0 or 1.
    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other if self.flip == 0 => Err(self.unexpected(other, "0x00 or 0x01")),
            other => Err(self.unexpected(other, "0xff or 0xfe")),
        }
    }
}

macro_rules! unsigned {
    ($($int:ty),*) => {$(
        impl Decode for $int {
            #[inline]
            fn decode(parts: &mut Parts<'_>) -> Result<Self> {
                parts.array().map(<$int>::from_be_bytes)
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64, u128);

macro_rules! signed {
    ($($int:ty as $bits:ty),*) => {$(
        impl Decode for $int {
            #[inline]
            fn decode(parts: &mut Parts<'_>) -> Result<Self> {
                let bits = <$bits>::decode(parts)?;
                Ok((bits ^ (1 << (<$bits>::BITS - 1))).cast_signed())
            }
        }
    )*};
}
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

macro_rules! float {
    ($($float:ty as $bits:ty),*) => {$(
        impl Decode for $float {
            #[inline]
            fn decode(parts: &mut Parts<'_>) -> Result<Self> {
                let sorted = <$bits>::decode(parts)?;
                let sign = 1 << (<$bits>::BITS - 1);
                let bits = if sorted & sign == 0 { !sorted } else { sorted ^ sign };
                Ok(<$float>::from_bits(bits))
            }
        }
    )*};
}
float!(f32 as u32, f64 as u64);

impl Decode for bool {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        parts.flag()
    }
}

impl Decode for char {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        let scalar = u32::decode(parts)?;
        Self::from_u32(scalar)
            .ok_or_else(|| parts.error(format_args!("{scalar:#x} is not a Unicode scalar value")))
    }
}

impl<const N: usize> Decode for [u8; N] {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        parts.array()
    }
}

impl Decode for Vec<u8> {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        parts.escaped()
    }
}

impl Decode for String {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        let bytes = parts.escaped()?;
        Self::from_utf8(bytes).map_err(|e| parts.error(format_args!("its text is not UTF-8: {e}")))
    }
}

impl<T: Decode> Decode for Option<T> {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        if parts.flag()? { T::decode(parts).map(Some) } else { Ok(None) }
    }
}

impl<T: Decode> Decode for Desc<T> {
    #[inline]
    fn decode(parts: &mut Parts<'_>) -> Result<Self> {
        parts.flip = !parts.flip;
        let value = T::decode(parts)?;
        parts.flip = !parts.flip;
        Ok(Self(value))
    }
}

impl Decode for () {
    #[inline]
    fn decode(_: &mut Parts<'_>) -> Result<Self> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($part:ident)+) => {
        impl<$($part: Decode),+> Decode for ($($part,)+) {
            #[inline]
            fn decode(parts: &mut Parts<'_>) -> Result<Self> {
                Ok(($($part::decode(parts)?,)+))
            }
        }
    };
}
tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
tuple!(A B C D E F G);
tuple!(A B C D E F G H);
tuple!(A B C D E F G H I);
tuple!(A B C D E F G H I J);
tuple!(A B C D E F G H I J K);
tuple!(A B C D E F G H I J K L);

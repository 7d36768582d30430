//! From values to bytes: the left column of the table in [the module's docs](super#the-format).

use super::{Desc, Key};

/// A type whose values can be keys.
///
/// An implementation for a type of your own calls those of its parts, in the order in which they
/// decide. Then keys sort as tuples of these parts do.
pub trait Encode {
    /// Appends the bytes of `self` to `key`.
    ///
    /// For `a < b` the two encodings must agree up to a byte that both have and in which `a` has
    /// the smaller one: see [why the order holds](super#why-the-order-holds).
    fn encode(&self, key: &mut Key);
}

impl<T: Encode + ?Sized> Encode for &T {
    #[inline]
    fn encode(&self, key: &mut Key) {
        (**self).encode(key);
    }
}

macro_rules! unsigned {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            #[inline]
            fn encode(&self, key: &mut Key) {
                key.extend(&self.to_be_bytes());
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64, u128);

macro_rules! signed {
    ($($int:ty as $bits:ty),*) => {$(
        impl Encode for $int {
            #[inline]
            fn encode(&self, key: &mut Key) {
                (self.cast_unsigned() ^ (1 << (<$bits>::BITS - 1))).encode(key);
            }
        }
    )*};
}
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

macro_rules! float {
    ($($float:ty as $bits:ty),*) => {$(
        impl Encode for $float {
            #[inline]
            fn encode(&self, key: &mut Key) {
                let bits = self.to_bits();
                let sign = 1 << (<$bits>::BITS - 1);
                let sorted = if bits & sign == 0 { bits ^ sign } else { !bits };
                sorted.encode(key);
            }
        }
    )*};
}
float!(f32 as u32, f64 as u64);

impl Encode for bool {
    #[inline]
    fn encode(&self, key: &mut Key) {
        key.push(u8::from(*self));
    }
}

impl Encode for char {
    #[inline]
    fn encode(&self, key: &mut Key) {
        u32::from(*self).encode(key);
    }
}

impl<const N: usize> Encode for [u8; N] {
    #[inline]
    fn encode(&self, key: &mut Key) {
        key.extend(self);
    }
}

impl Encode for [u8] {
    #[inline]
    fn encode(&self, key: &mut Key) {
        for piece in self.split_inclusive(|byte| *byte == 0) {
            key.extend(piece);
            if piece.last() == Some(&0) {
                key.push(0xff);
            }
        }
        key.extend(&[0, 0]);
    }
}

impl Encode for Vec<u8> {
    #[inline]
    fn encode(&self, key: &mut Key) {
        self.as_slice().encode(key);
    }
}

impl Encode for str {
    #[inline]
    fn encode(&self, key: &mut Key) {
        self.as_bytes().encode(key);
    }
}

impl Encode for String {
    #[inline]
    fn encode(&self, key: &mut Key) {
        self.as_bytes().encode(key);
    }
}

impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, key: &mut Key) {
        key.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(key);
        }
    }
}

impl<T: Encode> Encode for Desc<T> {
    #[inline]
    fn encode(&self, key: &mut Key) {
        let start = key.len();
        self.0.encode(key);
        key.flip_from(start);
    }
}

impl Encode for () {
    #[inline]
    fn encode(&self, _: &mut Key) {}
}

macro_rules! tuple {
    ($($part:ident)+) => {
        impl<$($part: Encode),+> Encode for ($($part,)+) {
            #[inline]
            fn encode(&self, key: &mut Key) {
                #[allow(non_snake_case)]
                let ($($part,)+) = self;
                $($part.encode(key);)+
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

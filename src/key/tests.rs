//! Order, round trip and canonical decoding, for every type and for nests of them.
//!
//! Order is checked in its strong form, (*) of the module's docs: a byte that both keys have
//! decides. Values are drawn from small alphabets of awkward bytes, so that equal parts, prefixes
//! and escapes are frequent.

use super::*;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{cmp::Ordering, fmt::Debug, ops::RangeBounds};

/// Compares keys and demands that, unless equal, a byte of both decides.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => a.cmp(b),
        None => panic!("one key is a prefix of the other: {a:02x?} and {b:02x?}"),
    }
}

fn check_by<T: Encode + Decode + Debug>(a: &T, b: &T, order: Ordering) {
    let (key_a, key_b) = (encode(a), encode(b));
    assert_eq!(compare(&key_a, &key_b), order, "{a:?} and {b:?}: {key_a:?} and {key_b:?}");
    let back = decode::<T>(&key_a).unwrap();
    assert_eq!(encode(&back), key_a, "{a:?} came back as {back:?}");
}

fn check<T: Encode + Decode + Debug + Ord>(a: &T, b: &T) {
    check_by(a, b, a.cmp(b));
    assert_eq!(&decode::<T>(&encode(a)).unwrap(), a);
}

/// Cut anywhere, `bytes` decode only to a value of which they are the key, and at one cut at most.
fn check_canonical<T: Encode + Decode + Debug>(bytes: &[u8]) {
    let mut keys = 0;
    for end in 0..=bytes.len() {
        let cut = &bytes[..end];
        if let Ok(value) = decode::<T>(cut) {
            assert_eq!(encode(&value).as_slice(), cut, "decoded as {value:?}");
            keys += 1;
        }
    }
    assert!(keys <= 1, "a key is a prefix of another: {bytes:02x?}");
}

fn awkward() -> impl Strategy<Value = Vec<u8>> {
    vec(select(vec![0_u8, 1, 2, b'a', 0x7f, 0x80, 0xfe, 0xff]), 0..6)
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..24), awkward()]
}

fn text() -> impl Strategy<Value = String> {
    vec(select(vec!['\0', '\u{1}', 'a', 'b', '\u{7f}', '\u{e4}', '\u{10ffff}']), 0..5)
        .prop_map(|chars| chars.into_iter().collect())
}

fn f64_bits() -> impl Strategy<Value = f64> {
    let special = vec![0.0, -0.0, 1.0, -1.0, f64::MIN_POSITIVE, 5e-324, -5e-324, f64::MAX];
    let odd = vec![f64::MIN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN];
    prop_oneof![select([special, odd].concat()), any::<u64>().prop_map(f64::from_bits)]
}

/// A nest as a table might really use it: descending parts within descending parts.
type Nest = (Option<String>, Desc<(Vec<u8>, Desc<Option<String>>)>, (i16, ()), Desc<[u8; 2]>);

/// The longest tuple there is.
type Wide = (u8, i8, u16, i16, u32, i32, u64, i64, bool, String, Vec<u8>, u128);

fn nest() -> impl Strategy<Value = Nest> {
    let inner = (awkward(), proptest::option::of(text()).prop_map(Desc)).prop_map(Desc);
    let small = (-2_i16..2).prop_map(|n| (n, ()));
    (proptest::option::of(text()), inner, small, select(vec![[0_u8; 2], [0, 255]]).prop_map(Desc))
}

macro_rules! keep_order {
    ($($name:ident: $type:ty),* $(,)?) => {$(
        proptest! {
            #[test]
            fn $name(a: $type, b: $type) {
                check(&a, &b);
                check(&Desc(a), &Desc(b));
                check(&Some(a), &None);
                check(&(a, b), &(a, a));
            }
        }
    )*};
}
keep_order!(
    u8_keeps_order: u8, u16_keeps_order: u16, u32_keeps_order: u32, u64_keeps_order: u64,
    u128_keeps_order: u128, i8_keeps_order: i8, i16_keeps_order: i16, i32_keeps_order: i32,
    i64_keeps_order: i64, i128_keeps_order: i128, bool_keeps_order: bool, char_keeps_order: char,
    array_keeps_order: [u8; 3], unit_keeps_order: (),
);

proptest! {
    #[test]
    fn floats_keep_total_order(a in f64_bits(), b in f64_bits()) {
        check_by(&a, &b, a.total_cmp(&b));
        check_by(&Desc(a), &Desc(b), b.total_cmp(&a));
        prop_assert_eq!(decode::<f64>(&encode(&a)).unwrap().to_bits(), a.to_bits());
    }

    #[test]
    fn small_floats_keep_total_order(a: u32, b: u32) {
        let (a, b) = (f32::from_bits(a), f32::from_bits(b));
        check_by(&a, &b, a.total_cmp(&b));
        prop_assert_eq!(decode::<f32>(&encode(&a)).unwrap().to_bits(), a.to_bits());
    }

    #[test]
    fn bytes_keep_order(a in awkward(), b in awkward()) {
        check(&a, &b);
        check(&Desc(a), &Desc(b));
    }

    #[test]
    fn text_keeps_order(a in text(), b in text()) {
        check(&a, &b);
        prop_assert_eq!(encode(a.as_str()), encode(&a));
        check(&Desc(a), &Desc(b));
    }

    #[test]
    fn text_before_more_parts_keeps_order(a in (text(), awkward(), 0_u8..3),
                                          b in (text(), awkward(), 0_u8..3)) {
        check(&a, &b);
        check(&((a.0.clone(), a.1.clone()), a.2), &((b.0.clone(), b.1.clone()), b.2));
        check(&(Desc(a.0), a.1, Desc(a.2)), &(Desc(b.0), b.1, Desc(b.2)));
    }

    #[test]
    fn options_keep_order(a in proptest::option::of(text()), b in proptest::option::of(text())) {
        check(&a, &b);
        check(&Some(a.clone()), &Some(b.clone()));
        check(&Some(a), &None);
    }

    #[test]
    fn nests_keep_order(a in nest(), b in nest()) {
        check(&a, &b);
        check(&Desc(Some(a)), &Desc(Some(b)));
    }

    #[test]
    fn wide_tuples_keep_order(a in vec(0_u8..2, 12), b in vec(0_u8..2, 12)) {
        fn wide(v: &[u8]) -> Wide {
            let text = String::from_utf8(vec![v[9]; usize::from(v[9])]).unwrap();
            (v[0], v[1] as i8, v[2].into(), v[3].into(), v[4].into(), v[5].into(), v[6].into(),
             v[7].into(), v[8] == 1, text, vec![v[10]], v[11].into())
        }
        check(&wide(&a), &wide(&b));
    }

    #[test]
    fn arbitrary_bytes_decode_canonically(bytes in any_bytes()) {
        check_canonical::<(u8, bool)>(&bytes);
        check_canonical::<i64>(&bytes);
        check_canonical::<f32>(&bytes);
        check_canonical::<char>(&bytes);
        check_canonical::<String>(&bytes);
        check_canonical::<(Vec<u8>, Vec<u8>)>(&bytes);
        check_canonical::<Desc<(Vec<u8>, Option<bool>)>>(&bytes);
        check_canonical::<Option<Option<[u8; 1]>>>(&bytes);
        check_canonical::<Nest>(&bytes);
    }

    #[test]
    fn damaged_keys_decode_canonically(a in nest(), at: prop::sample::Index, to: u8) {
        let mut bytes = Vec::from(encode(&a));
        let at = at.index(bytes.len());
        bytes[at] = to;
        check_canonical::<Nest>(&bytes);
    }

    #[test]
    fn prefix_ranges_hold_what_starts_with_them(prefix in awkward(), key in awkward()) {
        let range = prefix_range(&prefix);
        prop_assert_eq!(range.contains(&Key::from(&key[..])), key.starts_with(&prefix));
        let longer = Key::from([&prefix[..], &key].concat());
        prop_assert!(range.contains(&longer));
    }
}

#[test]
fn prefix_ends_just_after_its_last_key() {
    let end = |bytes: &[u8]| prefix_range(bytes).1;
    assert_eq!(end(&[1, 2]), Bound::Excluded(Key::from(&[1, 3][..])));
    assert_eq!(end(&[1, 0xff, 0xff]), Bound::Excluded(Key::from(&[2][..])));
    assert_eq!(end(&[0xff, 0xff]), Bound::Unbounded);
    assert_eq!(end(&[]), Bound::Unbounded);
}

#[test]
fn only_the_two_escapes_and_tags_are_taken() {
    for byte in 0..=255_u8 {
        assert_eq!(decode::<Vec<u8>>(&[0, byte, 0, 0]).is_ok(), byte == 0xff, "{byte:#x}");
        assert_eq!(decode::<Vec<u8>>(&[0, byte]).is_ok(), byte == 0x00, "{byte:#x}");
        assert_eq!(decode::<bool>(&[byte]).is_ok(), byte < 2, "{byte:#x}");
        assert_eq!(decode::<Option<()>>(&[byte]).is_ok(), byte < 2, "{byte:#x}");
    }
}

#[test]
fn encode_into_appends() {
    let mut out = vec![9];
    encode_into(&mut out, &(1_u8, "a"));
    assert_eq!(out, [9, 1, b'a', 0, 0]);
}

#[test]
fn short_keys_stay_inline() {
    let key = encode(&(757_u32, 1_500_000_000_u64, 3_u32, "ten letter"));
    let own = std::ptr::from_ref(&key) as usize;
    let bytes = key.as_ptr() as usize;
    assert!((own..own + size_of::<Key>()).contains(&bytes), "{} bytes", key.len());
}

#[test]
fn errors_say_what_does_not_fit() {
    let message = |result: Result<()>| result.unwrap_err().to_string();
    let short = message(decode::<u32>(&[1, 2]).map(drop));
    assert_eq!(short, "a key of 2 bytes is not a u32: it ends too early");
    let long = message(decode::<u8>(&[1, 2]).map(drop));
    assert_eq!(long, "a key of 2 bytes is not a u8: it goes on after byte 1");
    let flipped = message(decode::<Desc<bool>>(&[0]).map(drop));
    assert!(flipped.ends_with("byte 0 is 0x00 where 0xff or 0xfe was expected"), "{flipped}");
    let escape = message(decode::<Vec<u8>>(&[b'a', 0, 7]).map(drop));
    assert!(escape.ends_with("byte 2 is 0x07 where 0x00 or 0xff was expected"), "{escape}");
    let text = message(decode::<String>(&[0xe4, 0, 0]).map(drop));
    assert!(text.contains("its text is not UTF-8"), "{text}");
    let scalar = message(decode::<char>(&[0, 0, 0xd8, 0]).map(drop));
    assert!(scalar.ends_with("0xd800 is not a Unicode scalar value"), "{scalar}");
    let kind = decode::<u8>(&[]).unwrap_err().kind();
    assert_eq!(kind, crate::ErrorKind::Misuse);
}

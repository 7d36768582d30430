//! Ordered keys: what decodes is the only encoding of what it decodes to, and sorts as it does.
#![no_main]

use tonearm::key::{self, Decode, Desc, Encode};

fn one<T: Decode + Encode>(data: &[u8]) {
    if let Ok(value) = key::decode::<T>(data) {
        assert_eq!(&*key::encode(&value), data);
    }
}

fn order<T: Decode + PartialOrd>(data: &[u8]) {
    let (a, b) = data.split_at(data.len() / 2);
    if let (Ok(x), Ok(y)) = (key::decode::<T>(a), key::decode::<T>(b)) {
        assert!(x.partial_cmp(&y).is_none_or(|order| order == a.cmp(b)));
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    one::<u8>(data);
    one::<i64>(data);
    one::<String>(data);
    one::<Vec<u8>>(data);
    one::<(u32, String, Option<i16>)>(data);
    one::<(Vec<u8>, bool, Desc<u64>)>(data);
    one::<(Option<String>, Desc<String>)>(data);
    order::<i64>(data);
    order::<String>(data);
    order::<(Option<Vec<u8>>, u16)>(data);
    order::<(String, Desc<String>)>(data);
    let _ = key::decode::<f64>(data);
    let _ = key::decode::<(f32, f64)>(data);
});

//! Blocks against sorted vectors, and against whoever edits them.

use super::*;
use crate::sorted::{FAR_BYTES, MAX_KEY};
use proptest::{collection::btree_map, prelude::*, sample::Index};
use std::collections::BTreeMap;

type Entries = BTreeMap<Vec<u8>, (EntryKind, Vec<u8>)>;

fn build(entries: &Entries) -> (Vec<u8>, usize) {
    let mut builder = BlockBuilder::default();
    let mut count = 0;
    for (key, (kind, value)) in entries {
        if !builder.try_add(key, *kind, value, MAX_BLOCK) {
            break;
        }
        count += 1;
        assert_eq!(builder.last_key(), key);
    }
    assert_eq!(builder.first_key(), entries.keys().next().unwrap());
    let size = builder.size();
    let mut bytes = vec![7; 3];
    builder.write(&mut bytes, |len| len);
    let bytes = bytes.split_off(3);
    assert_eq!(bytes.len(), size, "the size is known before the block is written");
    assert!(builder.is_empty());
    (bytes, count)
}

/// Keys that share prefixes, tie in their heads, are short, empty or long.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let letters =
        |range| prop::collection::vec(prop_oneof![Just(0u8), 97u8..100, Just(255)], range);
    let shared = prop_oneof![Just(0usize), Just(3), Just(5), Just(8), Just(13)];
    prop_oneof![
        4 => (shared, letters(0..6)).prop_map(|(n, tail)| {
            [&b"user/0001/year"[..n], &tail].concat()
        }),
        2 => letters(0..4),
        1 => letters(10..40),
        1 => (0usize..3, letters(1..3)).prop_map(|(n, tail)| {
            [vec![b'k'; [200, 300, MAX_KEY - 8][n]], tail].concat()
        }),
        2 => any::<u32>().prop_map(|n| u64::from(n % 2000).to_be_bytes().to_vec()),
    ]
}

fn values() -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..30).prop_map(|value| (EntryKind::Put, value)),
        1 => (0usize..3000).prop_map(|n| (EntryKind::Put, vec![1; n])),
        1 => Just((EntryKind::Delete, vec![])),
        1 => any::<[u8; FAR_BYTES]>().prop_map(|far| (EntryKind::Far, far.to_vec())),
    ]
}

fn entries() -> impl Strategy<Value = Entries> {
    let fixed = (prop_oneof![Just(0usize), Just(8)], any::<bool>()).prop_map(|(n, put)| {
        if put { (EntryKind::Put, vec![9; n]) } else { (EntryKind::Delete, vec![]) }
    });
    let numbers = any::<u16>().prop_map(|n| (u64::from(n) << 8).to_be_bytes().to_vec());
    prop_oneof![
        3 => btree_map(keys(), values(), 1..120),
        1 => (btree_map(numbers, Just(()), 1..300), fixed).prop_map(|(keys, value)| {
            keys.into_keys().map(|key| (key, value.clone())).collect()
        }),
    ]
}

/// Everything there is to ask of a block, for damaged ones: must end, must not panic.
fn use_up(block: &Block<'_>) -> usize {
    let mut key = Vec::new();
    block.start_key(&mut key);
    let mut sum = 0;
    for i in 0..=block.count() {
        block.read_into(i, &mut key);
        sum += block.value(i).len() + block.child(i, 64).len as usize;
        sum += block.search(&key).0 + block.child_index(&key) + block.kind(i) as usize;
        assert!(key.len() <= MAX_BLOCK + usize::from(u16::MAX));
    }
    sum + block.search(&[]).0 + block.search(&[255; 40]).0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn holds_what_was_added(entries in entries(), probes in prop::collection::vec(keys(), 20)) {
        let (bytes, count) = build(&entries);
        let block = Block::check(&bytes, 0).map_err(TestCaseError::fail)?;
        prop_assert_eq!(block.count(), count);
        let kept: Vec<_> = entries.iter().take(count).collect();
        let mut key = Vec::new();
        block.start_key(&mut key);
        for (i, (k, (kind, value))) in kept.iter().enumerate() {
            let (start, end) = block.read_into(i, &mut key);
            prop_assert_eq!(&bytes[start..end], value.as_slice());
            prop_assert_eq!(block.value(i), value.as_slice());
            prop_assert_eq!(&&key, k);
            prop_assert_eq!(block.kind(i), *kind);
            prop_assert_eq!(block.search(k), (i, true));
        }
        let near = kept.iter().flat_map(|(k, _)| {
            let shorter = k[..k.len().saturating_sub(1)].to_vec();
            [[k.as_slice(), &[0]].concat(), [k.as_slice(), &[255; 9]].concat(), shorter]
        });
        for probe in probes.into_iter().chain(near) {
            let at = kept.partition_point(|(k, _)| **k < probe);
            let exact = kept.get(at).is_some_and(|(k, _)| **k == probe);
            prop_assert_eq!(block.search(&probe), (at, exact), "{:?}", probe);
        }
    }

    #[test]
    fn branches_find_the_child(
        keys in prop::collection::btree_set(keys(), 1..200),
        unit_len in prop_oneof![Just(0u32), Just(256)],
        jump in any::<Index>(),
        probes in prop::collection::vec(keys(), 20),
    ) {
        let keys: Vec<_> = keys.into_iter().collect();
        let mut builder = BranchBuilder::new(unit_len);
        let mut children = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let enough = if i == 0 { 0 } else { common_prefix(&keys[i - 1], key) + 1 };
            let far = if i > jump.index(300) { 100 } else { 0 };
            let child = Child { unit: i as u32 + far, len: 256 };
            if !builder.try_add(key, enough, child, 40_000) {
                break;
            }
            children.push(child);
        }
        prop_assert_eq!(builder.first().0, keys[0].as_slice());
        let mut bytes = Vec::new();
        builder.write(&mut bytes, 3, 40_000, |len| len.next_multiple_of(64));
        let block = Block::check(&bytes, 3).map_err(TestCaseError::fail)?;
        prop_assert!(Block::check(&bytes, 2).is_err());
        let kept = &keys[..children.len()];
        for probe in kept.iter().chain(&probes) {
            let i = block.child_index(probe);
            prop_assert_eq!(block.child(i, 256), children[i]);
            // A probe between two keys may go either way; a key goes to its own child.
            let at = kept.partition_point(|key| key <= probe).saturating_sub(1);
            prop_assert!(i == at || i == at + 1 && kept[at] != *probe, "{} {}", i, at);
        }
    }

    #[test]
    fn edited_blocks_do_no_harm(
        entries in entries(),
        edits in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::of(any::<Index>()),
    ) {
        let (mut bytes, _) = build(&entries);
        for (at, byte, header) in edits {
            let at = at.index(if header { 40.min(bytes.len()) } else { bytes.len() });
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // Passed or not, nothing may panic, over-read or run on.
        use_up(&Block::trusted(&bytes));
        for level in [0, 1] {
            if let Ok(block) = Block::check(&bytes, level) {
                use_up(&block);
                let mut key = Vec::new();
                let mut last: Option<Vec<u8>> = None;
                block.start_key(&mut key);
                for i in 0..block.count() {
                    block.read_into(i, &mut key);
                    prop_assert!(last.as_ref().is_none_or(|last| *last < key));
                    prop_assert_eq!(block.search(&key), (i, true));
                    last = Some(key.clone());
                }
            }
        }
    }

    #[test]
    fn any_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..600), small: bool) {
        if small {
            bytes.iter_mut().for_each(|byte| *byte %= 70);
        }
        use_up(&Block::trusted(&bytes));
        if let Ok(block) = Block::check(&bytes, 0) {
            use_up(&block);
        }
    }
}

#[test]
fn layouts_are_the_smallest_that_do() {
    let shape = |entries: &Entries| Block::check(&build(entries).0, 0).unwrap().shape();
    let numbers = |count: u64, value: usize| -> Entries {
        (0..count).map(|n| (n.to_be_bytes().to_vec(), (EntryKind::Put, vec![1; value]))).collect()
    };
    let fixed = shape(&numbers(300, 8));
    assert_eq!((fixed.prefix_len, fixed.head_width, fixed.offsets_at), (4, 4, 0));
    assert_eq!((fixed.stride, fixed.suffix_len, fixed.kinds_at), (8, 4, 0));

    let ties: Entries = (0..200u32)
        .map(|n| (format!("a{}same-{n:08}", n / 100).into_bytes(), (EntryKind::Put, vec![])))
        .collect();
    assert_eq!(shape(&ties).head_width, 8);

    let mut mixed = numbers(20, 8);
    mixed.insert(vec![0; 9], (EntryKind::Delete, vec![]));
    let mixed = shape(&mixed);
    assert_eq!((mixed.suffix_len, mixed.value_len), (VARIES, VARIES));
    assert!(mixed.kinds_at > 0 && mixed.offsets_at > 0);

    let one = shape(&numbers(1, 0));
    assert_eq!((one.prefix_len, one.stride, one.count), (4, 0, 1));
}

#[test]
fn a_block_verifies_only_in_its_place() {
    let entries: Entries = [(b"key".to_vec(), (EntryKind::Put, b"value".to_vec()))].into();
    let (mut bytes, _) = build(&entries);
    seal(&mut bytes, place(7, 4096));
    assert!(is_sealed(&bytes, place(7, 4096)));
    for elsewhere in [place(7, 0), place(8, 4096), place(0, 4096), place(7, 4097)] {
        assert!(!is_sealed(&bytes, elsewhere));
    }
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_sealed(&bytes, place(7, 4096)), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let mut builder = BlockBuilder::default();
    assert!(builder.try_add(b"a", EntryKind::Put, &[0; 150], 256));
    assert!(!builder.try_add(b"b", EntryKind::Put, &[0; 150], 256));
    assert!(builder.try_add(b"b", EntryKind::Put, &[0; 20], 256));
    assert!(!builder.try_add(b"c", EntryKind::Put, &[0; MAX_BLOCK], usize::MAX));
    let mut bytes = Vec::new();
    builder.write(&mut bytes, |len| len.next_multiple_of(256));
    assert_eq!(bytes.len(), 256);
    assert_eq!(Block::check(&bytes, 0).unwrap().count(), 2);
}

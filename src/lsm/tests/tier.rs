//! Finding the run of a key, for keys that are hard to tell apart.

use super::{
    super::tier::{Tier, pile, span},
    *,
};
use crate::sorted::{RunOptions, RunWriter};
use proptest::{collection, prelude::*};

/// Keys that agree in more than eight bytes, or end within them.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let tail = collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(0xff)], 0..12);
    (0..2usize, tail).prop_map(|(front, tail)| [&b"0123456789"[..front * 10], &tail].concat())
}

/// A run from the first key to the last.
fn run_of(host: &Host, first: &[u8], last: &[u8]) -> Arc<Run> {
    let options = RunOptions { filter_bits: 0, ..RunOptions::default() };
    let mut writer = RunWriter::create(&host.folder, host.shop.files.take(), options).unwrap();
    writer.add(first, Kind::Put, b"").unwrap();
    if last > first {
        writer.add(last, Kind::Put, b"").unwrap();
    }
    Run::open(&host.folder, writer.finish().unwrap(), &host.shop.access).unwrap()
}

proptest! {
    #[test]
    fn finds_what_a_walk_finds(
        mut keys in collection::btree_set(any_key(), 0..24),
        probes in collection::vec(any_key(), 40),
        shared in any::<bool>(),
    ) {
        if shared {
            keys.retain(|key| key.starts_with(b"01234"));
        }
        let host = Host::new(&tiny());
        let keys: Vec<_> = keys.into_iter().collect();
        let runs = keys.chunks(2).map(|pair| run_of(&host, &pair[0], pair.last().unwrap()));
        let tier = Tier::new(runs.rev().collect());
        prop_assert!(tier.first_overlap().is_none());
        for key in probes.iter().chain(&keys) {
            let walked = tier.runs().iter().find(|run| span(run).contains(key));
            let found = tier.find(key);
            prop_assert_eq!(found.map(|r| r.meta().file), walked.map(|r| r.meta().file));
        }
        for pair in probes.windows(2) {
            let wanted = Span::new(pair[0].clone(), Some(pair[1].clone()));
            if !wanted.is_empty() {
                let walked = tier.runs().iter().filter(|run| span(run).clip(&wanted).is_some());
                prop_assert_eq!(tier.overlapping(&wanted).len(), walked.count());
            }
        }
    }

    #[test]
    fn piles_keep_the_order_of_what_overlaps(
        ends in collection::vec((any_key(), any_key()), 0..16),
    ) {
        let host = Host::new(&tiny());
        let ends = ends.iter().map(|(a, b)| (a.min(b), a.max(b)));
        let newest_first: Vec<_> = ends.map(|(a, b)| run_of(&host, a, b)).collect();
        let piles = pile(&newest_first);
        let place = |run: &Arc<Run>| {
            let has = |tier: &Tier| tier.runs().iter().any(|other| Arc::ptr_eq(other, run));
            piles.iter().position(has).unwrap()
        };
        prop_assert_eq!(piles.iter().map(|p| p.runs().len()).sum::<usize>(), newest_first.len());
        prop_assert!(piles.iter().all(|pile| pile.first_overlap().is_none()));
        for (age, newer) in newest_first.iter().enumerate() {
            for older in &newest_first[age + 1..] {
                let apart = span(newer).clip(span(older)).is_none();
                prop_assert!(apart || place(newer) < place(older));
            }
        }
    }
}

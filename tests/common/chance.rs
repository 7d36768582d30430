//! A seeded source of numbers (SplitMix64): what a suite tries is the same on every machine.

/// The numbers to come.
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Keeps `most` of `items`, in their order.
    pub(crate) fn sample<T>(&mut self, items: Vec<T>, most: usize) -> Vec<T> {
        let (mut left, mut wanted) = (items.len(), most);
        let keep = |_: &T| {
            let kept = self.below(left) < wanted;
            left -= 1;
            wanted -= usize::from(kept);
            kept
        };
        items.into_iter().filter(keep).collect()
    }
}

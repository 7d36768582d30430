//! Where a random walk's choices come from: a seed, or the bytes a fuzzer made up.

/// A source of choices.
#[allow(dead_code)] // Fuzzing takes the bytes.
pub(crate) enum Choices<'a> {
    /// Never runs out.
    Seed(u64),
    /// One choice after the other, until there are no more bytes.
    Bytes(&'a [u8]),
}

impl Choices<'_> {
    /// Whether a fuzzer's bytes are used up.
    #[allow(dead_code)]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Choices::Bytes(bytes) if bytes.is_empty())
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        match self {
            Choices::Seed(state) => (next(state) % end as u64) as usize,
            Choices::Bytes(bytes) => {
                let wide = if end > 256 { 2 } else { 1 }.min(bytes.len());
                let (head, rest) = bytes.split_at(wide);
                *bytes = rest;
                head.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)) % end
            }
        }
    }

    /// Whether something that happens once in `n` times happens now.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of `all`.
    pub(crate) fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// SplitMix64 (Steele et al. 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

//! How large each level should be: sizes follow from the last level's, upwards.
//!
//! With fixed sizes from the top a table's last level is rarely full, and levels above it may hold
//! as much as it does: twice the space. Sized from the bottom, they hold a tenth (Dong et al.,
//! "Optimizing Space Amplification in RocksDB", CIDR 2017). Levels that would be smaller than
//! `base_bytes` are left out: level 0 is then merged past them.

use super::{LAST, LEVELS, LsmOptions};

/// The levels in use and their targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The level that level 0 is merged into: the uppermost in use.
    pub(super) base: u8,
    /// Bytes above which a level is merged down; 0 for levels that should be empty. Unused for
    /// level 0 and the last level.
    pub(super) targets: [u64; LEVELS],
}

impl Shape {
    /// The shape for levels of these sizes.
    pub(super) fn of(options: &LsmOptions, bytes: &[u64; LEVELS]) -> Self {
        let mut targets = [0; LEVELS];
        let mut ideal = LAST;
        let mut target = bytes[usize::from(LAST)];
        while ideal > 1 && target / options.times() >= options.base_limit() {
            ideal -= 1;
            target /= options.times();
            targets[usize::from(ideal)] = target;
        }
        let used = (1..LAST).find(|&level| bytes[usize::from(level)] > 0);
        Self { base: used.map_or(ideal, |used| used.min(ideal)), targets }
    }

    pub(super) fn target(&self, level: u8) -> u64 {
        self.targets.get(usize::from(level)).copied().unwrap_or(0)
    }

    /// How urgently a level should be merged down: 1 when it is at its target.
    pub(super) fn score(&self, level: u8, bytes: u64) -> f64 {
        match self.target(level) {
            _ if bytes == 0 || level == 0 || level >= LAST => 0.0,
            // Left over from when the table was larger: to be emptied, without haste.
            0 => 1.0,
            target => bytes as f64 / target as f64,
        }
    }

    /// Bytes to be read and merged until every level is below its target, roughly: what is too
    /// much in a level is merged with its share of the next, and is then too much there.
    pub(super) fn debt(&self, bytes: &[u64; LEVELS], level0_due: bool) -> u64 {
        let mut coming = if level0_due { bytes[0] } else { 0 };
        let mut debt = if coming > 0 { coming + bytes[usize::from(self.base)] } else { 0 };
        for level in self.base..LAST {
            let size = bytes[usize::from(level)] + coming;
            coming = size.saturating_sub(self.target(level));
            let below = bytes[usize::from(level) + 1];
            debt += coming + (below as f64 * (coming as f64 / size.max(1) as f64)) as u64;
        }
        debt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;
    const GB: u64 = 1 << 30;

    fn shape(bytes: [u64; LEVELS]) -> Shape {
        Shape::of(&LsmOptions::default(), &bytes)
    }

    #[test]
    fn levels_are_added_from_the_bottom() {
        assert_eq!(shape([0; 7]).base, 6);
        assert_eq!(shape([0, 0, 0, 0, 0, 0, 2 * GB]).base, 6);
        let three = shape([0, 0, 0, 0, 0, 0, 3 * GB]);
        assert_eq!((three.base, three.target(5)), (5, 3 * GB / 10));
        let large = shape([0, 0, 0, 0, 0, 0, 300 * GB]);
        assert_eq!((large.base, large.target(5), large.target(3)), (3, 30 * GB, 3 * GB / 10));
        assert_eq!(shape([0, 0, 0, 0, 0, 0, u64::MAX]).base, 1);
    }

    #[test]
    fn levels_that_became_too_small_are_emptied() {
        let shrunk = shape([0, 0, 0, 0, 100 * MB, 0, GB]);
        assert_eq!((shrunk.base, shrunk.target(4)), (4, 0));
        assert!(shrunk.score(4, 100 * MB) >= 1.0);
        assert_eq!(shrunk.score(6, GB), 0.0);
    }

    #[test]
    fn debt_counts_what_has_to_be_rewritten() {
        let sizes = [0, 0, 0, 0, 0, GB, 10 * GB];
        assert_eq!(shape(sizes).debt(&sizes, false), 0);
        let sizes = [512 * MB, 0, 0, 0, 0, GB, 10 * GB];
        assert_eq!(shape(sizes).debt(&sizes, false), 0);
        let debt = shape(sizes).debt(&sizes, true);
        assert!((5 * GB..6 * GB).contains(&debt), "{debt}");
    }
}

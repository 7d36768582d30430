//! Which runs to merge.
//!
//! Simulated (growth to 50 million entries, uniform overwrites, 2000 flushes) this rule writes each
//! entry about four times and keeps five runs on average and eight at most: "when there are more
//! than M runs, merge the longest newest stretch of them in which each run is at most q times as
//! large as all that is newer" (if there is none, see `cheapest`). Leveling writes two and a half
//! times as much for half the runs. With few runs and very many flushes the rule would merge tiny
//! stretches for ever, so q grows such that (1 + q)^M stays above twice the number of flushes that
//! the table has in it.

/// While nobody writes, runs up to so many times as large as all newer ones are merged with them:
/// small ones cost look-ups as much as large ones.
const IDLE_RATIO: f64 = 16.0;
/// And runs up to this size in any case.
const IDLE_BYTES: u64 = 64 << 20;

/// How many of the newest runs to merge, if any. `sizes` are all runs', newest first; `flushed` is
/// about the size that a run of new entries has.
pub(super) fn pick(sizes: &[u64], runs_max: usize, flushed: u64, idle: bool) -> Option<usize> {
    if sizes.len() > runs_max {
        let ratio = ratio(sizes, runs_max, flushed);
        let runs = stretch(sizes, |size, newer| size as f64 <= ratio * newer as f64);
        return Some(if runs > 1 { runs } else { cheapest(sizes, ratio) });
    }
    let fits =
        |size: u64, newer: u64| size as f64 <= IDLE_RATIO * newer as f64 || size <= IDLE_BYTES;
    Some(stretch(sizes, fits)).filter(|runs| idle && *runs > 1)
}

fn ratio(sizes: &[u64], runs_max: usize, flushed: u64) -> f64 {
    let flushes = sizes.iter().sum::<u64>() as f64 / flushed.max(1) as f64;
    ((2.0 * flushes).powf(1.0 / runs_max as f64) - 1.0).max(2.0)
}

/// Where not even the second run fits the first: up to the last run that fits all newer ones, or
/// else the one that fits them best. To merge the first two in spite would grow the second for
/// ever, one small run at a time.
fn cheapest(sizes: &[u64], ratio: f64) -> usize {
    let (mut newer, mut best) = (0, (f64::INFINITY, 2));
    for (runs, &size) in (1..).zip(sizes) {
        let worth = (size as f64 / newer.max(1) as f64).max(ratio);
        if runs > 1 && worth <= best.0 {
            best = (worth, runs);
        }
        newer += size;
    }
    best.1
}

/// How many of the newest runs each fit those newer than themselves.
fn stretch(sizes: &[u64], fits: impl Fn(u64, u64) -> bool) -> usize {
    let mut newer = 0;
    let fits = |&size: &u64| {
        let fits = newer == 0 || fits(size, newer);
        newer += size;
        fits
    };
    sizes.iter().copied().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flushes of one size: what is written in all for each flush, and the most runs there were.
    fn grow(flushes: u64, runs_max: usize) -> (f64, usize) {
        let (mut sizes, mut written, mut most) = (Vec::new(), 0, 0);
        for _ in 0..flushes {
            sizes.insert(0, 1_000);
            written += 1_000;
            while let Some(runs) = pick(&sizes, runs_max, 1_000, false) {
                let merged: u64 = sizes.drain(..runs).sum();
                written += merged;
                sizes.insert(0, merged);
            }
            most = most.max(sizes.len());
        }
        (written as f64 / (flushes * 1_000) as f64, most)
    }

    #[test]
    fn growth_writes_each_entry_a_few_times() {
        for (flushes, amplification) in [(200, 4.0), (2_000, 6.5), (20_000, 10.5)] {
            let (written, most) = grow(flushes, 8);
            assert!(written < amplification, "{flushes} flushes: {written}");
            assert!(most <= 8);
        }
        assert!(grow(2_000, 3).0 < 30.0, "few runs do not make it collapse");
    }

    #[test]
    fn an_idle_table_comes_to_one_run() {
        assert_eq!(pick(&[1, 1, 1], 8, 1, false), None);
        assert_eq!(pick(&[1, 1, 1], 8, 1, true), Some(3));
        assert_eq!(pick(&[5], 8, 1, true), None);
        assert_eq!(pick(&[], 8, 1, true), None);
        let (small, large) = (1 << 20, 100 << 30);
        assert_eq!(pick(&[small, large], 8, small, true), None, "much work for little");
        assert_eq!(pick(&[small, small, large], 8, small, true), Some(2));
        assert_eq!(pick(&[large / 10, large], 8, small, true), Some(2));
    }
}

//! Slowing writers down smoothly when they outrun the disk.
//!
//! Each home says how far its merges lag behind, from 0 to 1, and full memtables that wait say the
//! same of flushes. Below [`EASY`] writers are not slowed. From there to 1 they get a rate that
//! falls from well above to well below what background work has lately absorbed, so that the lag
//! settles between the two instead of writers running into a wall.

use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Up to this pressure nobody is slowed.
const EASY: f64 = 0.6;
/// The rate at [`EASY`] and the one just before writers have to wait, for the rate at which flushes
/// go. Merges of a table that has grown go at a small part of that, so it has to fall far: where it
/// fell to a quarter only, writers came to the wall and waited for seconds.
const RATE_MOST: f64 = 2.0;
const RATE_LEAST: f64 = 0.02;
/// Bytes a second that are assumed until background work has been measured.
const FIRST_RATE: f64 = 64e6;
/// A writer sleeps when it is this far ahead of its rate: shorter sleeps are not kept precisely,
/// and more of them would be in more writers' way.
const NAP: Duration = Duration::from_millis(1);
/// The longest single sleep, so that a fall in pressure is noticed.
const NAP_MAX: Duration = Duration::from_millis(2);

/// The writers' pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// How far merges lag behind, in thousandths.
    merging: AtomicU32,
    /// How far flushes lag behind, in thousandths; less than a whole.
    flushing: AtomicU32,
    state: Mutex<State>,
    delays: Tally,
    flush_waits: Tally,
    merge_waits: Tally,
}

#[derive(Debug)]
struct State {
    /// Bytes a second that background work absorbs, as a moving average.
    rate: f64,
    /// When the bytes let through so far will have been absorbed at the rate allowed.
    free_at: Option<Instant>,
}

/// How often something took time, and how much.
#[derive(Debug, Default)]
struct Tally {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Tally {
    fn note(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    fn total(&self) -> (u64, Duration) {
        let ns = self.ns.load(Ordering::Relaxed);
        (self.count.load(Ordering::Relaxed), Duration::from_nanos(ns))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            merging: AtomicU32::new(0),
            flushing: AtomicU32::new(0),
            state: Mutex::new(State { rate: FIRST_RATE, free_at: None }),
            delays: Tally::default(),
            flush_waits: Tally::default(),
            merge_waits: Tally::default(),
        }
    }
}

impl Pace {
    /// The current pressure, from 0 to 1 and beyond.
    #[inline]
    pub(super) fn pressure(&self) -> f64 {
        f64::from(self.thousandths()) / 1000.0
    }

    #[inline]
    fn thousandths(&self) -> u32 {
        self.merging.load(Ordering::Relaxed).max(self.flushing.load(Ordering::Relaxed))
    }

    pub(super) fn set_pressure(&self, pressure: f64) {
        self.merging.store((pressure.clamp(0.0, 4.0) * 1000.0) as u32, Ordering::Relaxed);
    }

    /// `filled` memtables of a table wait to be absorbed, the one being written included as far as
    /// it is full; with `most` of them writers stop. They are slowed from half of that on.
    pub(super) fn set_backlog(&self, filled: f64, most: f64) {
        let over = (filled / most * 2.0 - 1.0).clamp(-1.0, 1.0);
        let pressure = (EASY + (1.0 - EASY) * over).min(0.999);
        self.flushing.store((pressure * 1000.0) as u32, Ordering::Relaxed);
    }

    /// Background work took `took` for `bytes`.
    pub(super) fn absorbed(&self, bytes: u64, took: Duration) {
        let seconds = took.as_secs_f64();
        if bytes > 0 && seconds > 0.0 {
            let mut state = self.state.lock();
            state.rate = 0.7 * state.rate + 0.3 * (bytes as f64 / seconds).max(1e6);
        }
    }

    /// Whether writers are not slowed at all: one load, on every write.
    #[inline]
    pub(super) fn is_easy(&self) -> bool {
        self.thousandths() < (EASY * 1000.0) as u32
    }

    /// How long the writer of `bytes` has to wait now; nothing while it keeps to its rate.
    pub(super) fn delay(&self, bytes: usize, now: Instant) -> Option<Duration> {
        let ease = ((1.0 - self.pressure()) / (1.0 - EASY)).clamp(0.0, 1.0);
        let mut state = self.state.lock();
        let rate = state.rate * RATE_MOST * (RATE_LEAST / RATE_MOST).powf(1.0 - ease);
        let start = state.free_at.map_or(now, |at| at.max(now));
        let free_at = start + Duration::from_secs_f64(bytes as f64 / rate);
        state.free_at = Some(free_at);
        let ahead = free_at.saturating_duration_since(now);
        (ahead >= NAP).then(|| ahead.min(NAP_MAX))
    }

    /// A write was slowed by this much.
    pub(super) fn note_delay(&self, took: Duration) {
        self.delays.note(took);
    }

    /// A write waited this long for a memtable to be written out.
    pub(super) fn note_flush_wait(&self, took: Duration) {
        self.flush_waits.note(took);
    }

    /// A write waited this long for files to be merged.
    pub(super) fn note_merge_wait(&self, took: Duration) {
        self.merge_waits.note(took);
    }

    /// How many writes were slowed, and for how long in all.
    pub(super) fn delays(&self) -> (u64, Duration) {
        self.delays.total()
    }

    /// How many writes waited for a memtable to be written out, and for how long in all.
    pub(super) fn flush_waits(&self) -> (u64, Duration) {
        self.flush_waits.total()
    }

    /// How many writes waited for files to be merged, and for how long in all.
    pub(super) fn merge_waits(&self) -> (u64, Duration) {
        self.merge_waits.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes let through in a simulated second at a constant pressure.
    fn throughput(pressure: f64) -> f64 {
        let pace = Pace::default();
        pace.set_pressure(pressure);
        let start = Instant::now();
        let (mut now, mut bytes) = (start, 0.0);
        while now - start < Duration::from_secs(1) {
            bytes += 1_000.0;
            now += pace.delay(1_000, now).unwrap_or(Duration::from_micros(1));
        }
        bytes
    }

    #[test]
    fn rate_falls_as_pressure_rises() {
        let rates: Vec<f64> = [0.6, 0.7, 0.8, 0.9, 1.0].into_iter().map(throughput).collect();
        assert!(rates.windows(2).all(|pair| pair[0] > pair[1]), "{rates:?}");
        assert!(rates[0] > FIRST_RATE && rates[4] < FIRST_RATE / 2.0, "{rates:?}");
    }

    #[test]
    fn a_backlog_slows_but_never_stops() {
        let pace = Pace::default();
        pace.set_backlog(1.4, 3.0);
        assert!(pace.is_easy());
        let pressures = [1.5, 2.0, 2.5, 3.0, 9.0].map(|filled| {
            pace.set_backlog(filled, 3.0);
            pace.pressure()
        });
        assert!(!pace.is_easy() && pressures.is_sorted() && pressures[3] < 1.0, "{pressures:?}");
        pace.set_pressure(1.0);
        pace.set_backlog(0.0, 3.0);
        assert!(pace.pressure() >= 1.0, "merges lag behind all the same");
    }

    #[test]
    fn no_delay_below_the_rate() {
        let pace = Pace::default();
        pace.set_pressure(0.8);
        let start = Instant::now();
        let late = (1..1000).any(|i| pace.delay(100, start + Duration::from_millis(i)).is_some());
        assert!(!late);
    }
}

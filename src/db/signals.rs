//! Who wakes whom: workers sleep until there is work, writers until there is room, and who readies
//! pages of the log until some are wanted.

use crate::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Failures in a row before a waiting writer is told instead of waiting on.
const PATIENCE: u32 = 3;

/// What background work has come to.
#[derive(Debug, Default)]
struct Progress {
    /// Counts requests for work.
    asked: u64,
    /// Counts pieces of work that finished, whether well or not.
    finished: u64,
    /// Failures since the last success, and the last of them.
    failures: u32,
    error: Option<Error>,
    /// Pages of the log are wanted.
    wants_pages: bool,
}

/// Wakes workers and waiting writers.
#[derive(Debug, Default)]
pub(super) struct Signals {
    progress: Mutex<Progress>,
    work: Condvar,
    room: Condvar,
    pages: Condvar,
}

impl Signals {
    /// There may be something to do.
    pub(super) fn ask(&self) {
        self.progress.lock().asked += 1;
        self.work.notify_all();
    }

    /// How often work was asked for so far.
    pub(super) fn asked(&self) -> u64 {
        self.progress.lock().asked
    }

    /// Sleeps until work is asked for more often than `seen` times, or `at_most` so long. Says
    /// whether it was asked for.
    pub(super) fn wait_for_work(&self, seen: u64, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut progress = self.progress.lock();
        while progress.asked == seen {
            if self.work.wait_until(&mut progress, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// The log is busy: its next pages should be made ready.
    pub(super) fn ask_for_pages(&self) {
        self.progress.lock().wants_pages = true;
        self.pages.notify_one();
    }

    /// Sleeps until that was asked for, or `at_most` so long. Says whether it was.
    pub(super) fn wait_for_pages(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut progress = self.progress.lock();
        while !progress.wants_pages {
            if self.pages.wait_until(&mut progress, deadline).timed_out() {
                return false;
            }
        }
        std::mem::take(&mut progress.wants_pages)
    }

    /// A piece of work finished well.
    pub(super) fn succeeded(&self) {
        let mut progress = self.progress.lock();
        progress.finished += 1;
        progress.failures = 0;
        progress.error = None;
        drop(progress);
        self.room.notify_all();
    }

    /// A piece of work failed and will be tried again: says how long to wait before that.
    pub(super) fn failed(&self, error: Error) -> Duration {
        let mut progress = self.progress.lock();
        progress.finished += 1;
        progress.failures = progress.failures.saturating_add(1);
        progress.error = Some(error);
        let wait = Duration::from_millis(10 << progress.failures.min(6));
        drop(progress);
        self.room.notify_all();
        wait
    }

    /// The last failure, if work has not succeeded since.
    pub(super) fn last_error(&self) -> Option<Error> {
        self.progress.lock().error.clone()
    }

    /// How many pieces of work have finished so far.
    pub(super) fn finished(&self) -> u64 {
        self.progress.lock().finished
    }

    /// Sleeps until more than `seen` pieces of work have finished, or `at_most` so long.
    ///
    /// # Errors
    /// The last failure, if work keeps failing.
    pub(super) fn wait_for_room(&self, seen: u64, at_most: Duration) -> Result<()> {
        let deadline = Instant::now() + at_most;
        let mut progress = self.progress.lock();
        while progress.finished == seen {
            if self.room.wait_until(&mut progress, deadline).timed_out() {
                break;
            }
        }
        match &progress.error {
            Some(error) if progress.failures >= PATIENCE => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_pages_is_heard_once() {
        let signals = Signals::default();
        let short = Duration::from_millis(1);
        assert!(!signals.wait_for_pages(short));
        signals.ask_for_pages();
        signals.ask_for_pages();
        assert!(signals.wait_for_pages(short), "asked before it waits");
        assert!(!signals.wait_for_pages(short));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| signals.wait_for_pages(Duration::from_secs(600)));
            signals.ask_for_pages();
            assert!(waiting.join().unwrap(), "asked before or while it waits");
        });
    }
}

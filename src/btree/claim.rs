//! One piece of work at a time: each makes the version that the next begins with.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// Whether anybody is at work on a table.
#[derive(Default)]
pub(super) struct Claims {
    taken: Mutex<bool>,
    free: Condvar,
}

/// Held by the work until it is published or given up.
pub(super) struct Claimed(Arc<Claims>);

impl Claims {
    /// Waits for those before: a bounded piece of work and its publication.
    pub(super) fn wait(self: &Arc<Self>) -> Claimed {
        let mut taken = self.taken.lock();
        while std::mem::replace(&mut *taken, true) {
            self.free.wait(&mut taken);
        }
        Claimed(self.clone())
    }

    /// Unless somebody is at work.
    pub(super) fn try_claim(self: &Arc<Self>) -> Option<Claimed> {
        let was_taken = std::mem::replace(&mut *self.taken.lock(), true);
        (!was_taken).then(|| Claimed(self.clone()))
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.free.notify_one();
    }
}

//! What running jobs are at, so that no two touch the same files and nothing new is put in the way
//! of what they are about to write.
//!
//! A claim is a rectangle: some levels and a span of keys. A job claims the levels from its upper
//! input to its output, over the span around all its inputs; two jobs may run at once if their
//! claims do not meet. New runs go no deeper than where they would enter a claim. (The span of a
//! merge is always covered by runs, so new runs in it would be kept above anyway; but that should
//! not hang on how jobs are chosen.)

use super::tier::meets;
use crate::sorted::Span;
use parking_lot::Mutex;
use std::sync::Arc;

/// Some levels over a span of keys.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) top: u8,
    pub(super) bottom: u8,
    pub(super) span: Span,
}

impl Claim {
    pub(super) fn new(top: u8, bottom: u8, span: Span) -> Self {
        Self { top, bottom, span }
    }

    fn meets(&self, other: &Claim) -> bool {
        self.top <= other.bottom && other.top <= self.bottom && meets(&self.span, &other.span)
    }
}

/// All claims of one table.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<Taken>>);

/// What is claimed, seen while nobody can claim more.
#[derive(Default)]
pub(super) struct Taken {
    next: u64,
    jobs: Vec<(u64, Vec<Claim>)>,
    /// Where runs of the change that is being published were put: no version has them yet.
    placed: Vec<Claim>,
}

impl Taken {
    pub(super) fn is_free(&self, claim: &Claim) -> bool {
        let jobs = self.jobs.iter().flat_map(|(_, claims)| claims);
        !jobs.chain(&self.placed).any(|other| other.meets(claim))
    }
}

impl Claims {
    /// Lets `choose` see what is taken and claim more, in one step. It must look at the current
    /// version within, not before: what was published in between is then either seen or taken.
    pub(super) fn choose<T>(
        &self,
        choose: impl FnOnce(&Taken) -> Option<(Vec<Claim>, T)>,
    ) -> Option<(Claimed, T)> {
        let mut taken = self.0.lock();
        let (claims, choice) = choose(&taken)?;
        let id = taken.next;
        taken.next += 1;
        taken.jobs.push((id, claims));
        Some((Claimed { id, claims: self.clone() }, choice))
    }

    /// Lets `place` put new runs where nothing is taken. Only one change is staged at a time; if it
    /// was not adopted, the next one's places take over.
    pub(super) fn place<T>(&self, place: impl FnOnce(&Taken) -> (Vec<Claim>, T)) -> T {
        let mut taken = self.0.lock();
        taken.placed.clear();
        let (claims, placed) = place(&taken);
        taken.placed = claims;
        placed
    }

    /// The placed runs are in the current version now.
    pub(super) fn adopted(&self) {
        self.0.lock().placed.clear();
    }
}

/// A job's claims, given up when it is dropped.
pub(super) struct Claimed {
    id: u64,
    claims: Claims,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.claims.0.lock().jobs.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(top: u8, bottom: u8, start: &'static str, end: &'static str) -> Claim {
        Claim::new(top, bottom, Span::new(start, Some(end)))
    }

    #[test]
    fn jobs_keep_apart_until_they_are_dropped() {
        let claims = Claims::default();
        let take = |claim: Claim| {
            claims.choose(|taken| taken.is_free(&claim).then(|| (vec![claim.clone()], ())))
        };
        let (first, ()) = take(claim(0, 3, "d", "m")).unwrap();
        for taken in [claim(3, 4, "a", "e"), claim(0, 0, "l", "z"), claim(2, 2, "e", "f")] {
            assert!(take(taken).is_none());
        }
        let (_beside, ()) = take(claim(0, 6, "m", "z")).unwrap();
        let (_below, ()) = take(claim(4, 5, "a", "m")).unwrap();
        drop(first);
        assert!(take(claim(0, 3, "d", "m")).is_some());
        assert!(take(claim(0, 3, "d", "n")).is_none());
    }

    #[test]
    fn places_count_until_they_are_in_a_version() {
        let claims = Claims::default();
        let is_free = |wanted: Claim| {
            claims.choose(|taken| taken.is_free(&wanted).then(|| (Vec::new(), ()))).is_some()
        };
        claims.place(|_| (vec![claim(6, 6, "d", "m")], ()));
        assert!(!is_free(claim(5, 6, "e", "f")));
        claims.adopted();
        assert!(is_free(claim(5, 6, "e", "f")));
        claims.place(|_| (vec![claim(6, 6, "d", "m")], ()));
        claims.place(|taken| {
            assert!(taken.is_free(&claim(6, 6, "d", "m")), "of a change that was never adopted");
            (Vec::new(), ())
        });
        assert!(is_free(claim(5, 6, "e", "f")));
    }
}

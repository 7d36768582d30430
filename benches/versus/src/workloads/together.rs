//! Threads that begin at the same moment.

use crate::{
    engine::Result,
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::{sync::Barrier, thread};

/// Runs `act` on `threads` threads at once, each with what it has prepared before, and measures all
/// of them together. Threads are numbered.
pub fn together<P, T: Send>(
    threads: u64,
    prepare: impl Fn(u64) -> Result<P> + Sync,
    act: impl Fn(u64, P) -> Result<T> + Sync,
) -> Result<(Phase, Vec<T>)> {
    let ready = Barrier::new(threads as usize + 1);
    let go = Barrier::new(threads as usize + 1);
    let work = |i| {
        let prepared = prepare(i);
        ready.wait();
        go.wait();
        act(i, prepared?)
    };
    thread::scope(|scope| {
        let work = &work;
        let spawned: Vec<_> = (0..threads).map(|i| scope.spawn(move || work(i))).collect();
        ready.wait();
        let meter = Meter::start();
        go.wait();
        let done: Vec<_> = spawned.into_iter().map(|thread| thread.join()).collect();
        let phase = meter?.phase("", 0)?;
        let done = done.into_iter().map(|done| done.map_err(|_| "a thread panicked")?);
        Ok((phase, done.collect::<Result<_>>()?))
    })
}

/// One phase of what all threads did.
pub fn joined(task: &Task, name: &str, phase: Phase, laps: &[Laps]) -> Result<Phase> {
    let mut all = Laps::start(task.cap())?;
    laps.iter().for_each(|laps| all.join(laps));
    Ok(Phase { phase: name.to_owned(), ops: all.count(), ..phase }.with(&all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn nobody_acts_before_all_are_prepared() {
        let prepared = AtomicU64::new(0);
        let prepare = |i| {
            prepared.fetch_add(1, Ordering::SeqCst);
            Ok(i * 10)
        };
        let act = |i, p| Ok((i, p, prepared.load(Ordering::SeqCst)));
        let (_, done) = together(4, prepare, act).unwrap();
        assert_eq!(done, [(0, 0, 4), (1, 10, 4), (2, 20, 4), (3, 30, 4)]);
    }

    #[test]
    fn a_failed_thread_fails_all_and_blocks_none() {
        let prepare = |i| if i == 1 { Err("no".into()) } else { Ok(()) };
        assert!(together(2, prepare, |_, ()| Ok(())).is_err());
    }
}

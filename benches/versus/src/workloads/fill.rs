//! Loads: single puts, batches, durable puts, and the load that read workloads start from.

use super::check;
use crate::{
    data::{Key, Pairs},
    engine::{Engine, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Entries of a batch.
const BATCH: u64 = 1000;

/// One put after the other.
pub fn single<E: Engine>(task: &Task, key: impl Fn(u64) -> Key) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let values = task.values();
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let mut value = Vec::new();
    for key in (0..task.ops(task.count())).map(key) {
        values.fill(&key, 0, &mut value);
        engine.put(&key, &value)?;
        if !laps.lap() {
            break;
        }
    }
    finish(task, engine, &meter, &laps, laps.count())
}

/// One batch after the other: a latency is that of a batch.
pub fn batches<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let puts = put_batches(task, &engine, &mut laps)?;
    finish(task, engine, &meter, &laps, puts)
}

fn put_batches<E: Engine>(task: &Task, engine: &E, laps: &mut Laps) -> Result<u64> {
    let (values, count) = (task.values(), task.ops(task.count()));
    let batch = if task.big { 16 } else { BATCH };
    let mut pairs = Pairs::default();
    let mut puts = 0;
    while puts < count {
        let end = count.min(puts + batch);
        pairs.clear();
        (puts..end).for_each(|i| pairs.push(task.key(i), &values, 0));
        engine.put_batch(&pairs)?;
        puts = end;
        if !laps.lap() {
            break;
        }
    }
    Ok(puts)
}

/// How fast the load was, and how fast it was until the engine had nothing left to do: what it can
/// sustain.
fn finish<E: Engine>(
    task: &Task,
    engine: E,
    meter: &Meter,
    laps: &Laps,
    puts: u64,
) -> Result<Vec<Phase>> {
    let bytes = puts * task.entry_bytes();
    let load = meter.phase("load", puts)?.with(laps).wrote(bytes);
    engine.settle()?;
    let settled = meter.phase("sustained", puts)?.wrote(bytes).stored(&task.dir, bytes)?;
    check::holds(task, &engine, puts)?;
    engine.close()?;
    Ok(vec![load, settled])
}

/// Loads the database that read workloads share.
pub fn load<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let task = &Task { ops: None, seconds: f64::from(u32::MAX), ..task.clone() };
    let engine: E = task.open()?;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let puts = put_batches(task, &engine, &mut laps)?;
    let bytes = puts * task.entry_bytes();
    if task.compact {
        engine.compact()?;
    } else {
        engine.settle()?;
    }
    let phase = meter.phase("sustained", puts)?.with(&laps).wrote(bytes);
    let phase = phase.stored(&task.dir, bytes)?;
    engine.close()?;
    Ok(vec![phase])
}

/// Durable puts by several threads at once.
pub fn durable<E: Engine>(task: &Task, threads: u64, default: u64) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let count = task.ops(default);
    let next = AtomicU64::new(0);
    let barrier = Barrier::new(threads as usize + 1);
    let (meter, mut laps, others) = thread::scope(|scope| -> Result<_> {
        let work = || {
            barrier.wait();
            put_durably(task, &engine, count, &next)
        };
        let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let meter = Meter::start()?;
        let laps = Laps::start(task.cap())?;
        let others = spawned.into_iter().map(|thread| match thread.join() {
            Ok(laps) => laps,
            Err(_) => Err("a thread panicked".into()),
        });
        Ok((meter, laps, others.collect::<Result<Vec<Laps>>>()?))
    })?;
    let phase = meter.phase("durable", 0)?;
    others.iter().for_each(|other| laps.join(other));
    let puts = laps.count();
    let phase = Phase { ops: puts, ..phase }.with(&laps).wrote(puts * task.entry_bytes());
    check::holds(task, &engine, puts)?;
    engine.close()?;
    Ok(vec![phase])
}

fn put_durably<E: Engine>(task: &Task, engine: &E, count: u64, next: &AtomicU64) -> Result<Laps> {
    let values = task.values();
    let mut value = Vec::new();
    let mut laps = Laps::start(task.cap())?;
    loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= count {
            return Ok(laps);
        }
        let key = task.key(i);
        values.fill(&key, 0, &mut value);
        engine.put_durable(&key, &value)?;
        if !laps.lap() {
            return Ok(laps);
        }
    }
}

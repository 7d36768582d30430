//! Loads: single puts, batches, durable puts, overwrites, and the load that reads start from.

use super::{
    check,
    together::{joined, together},
};
use crate::{
    data::{Key, Pairs, Random},
    engine::{Engine, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of a batch.
const BATCH: u64 = 1000;
/// Large values of a batch.
const BIG_BATCH: u64 = 16;

/// One put after the other.
pub fn single<E: Engine>(task: &Task, key: impl Fn(u64) -> Key) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let keys = (0..task.ops(task.count())).map(key);
    let (meter, laps) = puts(task, &engine, keys, 0)?;
    finish(task, engine, &meter, &laps, [laps.count(); 2])
}

/// Puts over stored keys, all alike.
pub fn overwrite<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let count = task.count();
    let mut random = Random::new(1);
    let keys = (0..task.ops(count)).map(|_| task.key(random.below(count)));
    let (meter, laps) = puts(task, &engine, keys, 1)?;
    finish(task, engine, &meter, &laps, [laps.count(), count])
}

fn puts<E: Engine>(
    task: &Task,
    engine: &E,
    keys: impl Iterator<Item = Key>,
    generation: u64,
) -> Result<(Meter, Laps)> {
    let values = task.values();
    let mut value = Vec::new();
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for key in keys {
        values.fill(&key, generation, &mut value);
        engine.put(&key, &value)?;
        if !laps.lap() {
            break;
        }
    }
    Ok((meter, laps))
}

/// One batch after the other, by `put`: a latency is that of a batch.
pub fn batches<E: Engine>(
    task: &Task,
    put: impl Fn(&E, &Pairs) -> Result<()>,
) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let puts = put_batches(task, &mut laps, |pairs| put(&engine, pairs))?;
    finish(task, engine, &meter, &laps, [puts; 2])
}

fn put_batches(task: &Task, laps: &mut Laps, put: impl Fn(&Pairs) -> Result<()>) -> Result<u64> {
    let (values, count) = (task.values(), task.ops(task.count()));
    let batch = if task.big { BIG_BATCH } else { BATCH };
    let mut pairs = Pairs::default();
    let mut puts = 0;
    while puts < count {
        let end = count.min(puts + batch);
        pairs.clear();
        (puts..end).for_each(|i| pairs.push(task.key(i), &values, 0));
        put(&pairs)?;
        puts = end;
        if !laps.lap() {
            break;
        }
    }
    Ok(puts)
}

/// All entries at once, keys ascending, in the way that the engine has for it.
pub fn bulk<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let (values, count) = (task.values(), task.ops(task.count()));
    let mut done = 0;
    let mut next = |pairs: &mut Pairs| {
        let end = count.min(done + BATCH);
        pairs.clear();
        (done..end).for_each(|i| pairs.push(task.keys.ascending(i), &values, 0));
        let is_more = done < end;
        done = end;
        is_more
    };
    let meter = Meter::start()?;
    engine.load(&mut next)?;
    let bytes = count * task.entry_bytes();
    let phase = meter.phase("load", count)?.wrote(bytes).stored(&task.dir, bytes)?;
    check::holds(task, &engine, count)?;
    engine.close()?;
    Ok(vec![phase])
}

/// How fast the load was, and how fast it was until the engine had nothing left to do: what it can
/// sustain.
fn finish<E: Engine>(
    task: &Task,
    engine: E,
    meter: &Meter,
    laps: &Laps,
    [puts, held]: [u64; 2],
) -> Result<Vec<Phase>> {
    let bytes = puts * task.entry_bytes();
    let load = meter.phase("load", puts)?.with(laps).wrote(bytes);
    engine.settle()?;
    let settled = meter.phase("sustained", puts)?.wrote(bytes);
    let settled = settled.stored(&task.dir, held * task.entry_bytes())?;
    check::holds(task, &engine, held)?;
    engine.close()?;
    Ok(vec![load, settled])
}

/// Loads the database that read workloads share.
pub fn load<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let task = &Task { asked_ops: None, cap_seconds: f64::from(u32::MAX), ..task.clone() };
    let mut engine: E = task.open()?;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let puts = put_batches(task, &mut laps, |pairs| engine.put_batch(pairs))?;
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
    let put = |_, ()| put_durably(task, &engine, count, &next);
    let (phase, laps) = together(threads, |_| Ok(()), put)?;
    let phase = joined(task, "durable", phase, &laps)?;
    let puts = phase.ops;
    check::holds(task, &engine, puts)?;
    engine.close()?;
    Ok(vec![phase.wrote(puts * task.entry_bytes())])
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

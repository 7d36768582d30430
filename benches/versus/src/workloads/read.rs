//! Gets from a loaded database: one at a time, many at once, by several threads.

use super::check::{self, fail_if};
use crate::{
    data::{ABSENT, Key, Random, Values, Zipf},
    engine::{Engine, Reader, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::{sync::Barrier, thread};

/// Keys of a multiget.
const MANY: usize = 16;

/// Which keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    Uniform,
    Zipf,
    Missing,
}

/// The numbers that are read, one after the other.
enum Draws {
    Uniform(Random, u64),
    Missing(Random, u64),
    /// Drawn beforehand: a zipfian draw costs as much as some gets.
    Listed(std::vec::IntoIter<u32>),
}

impl Draws {
    fn new(pick: Pick, seed: u64, count: u64, ops: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        Ok(match pick {
            Pick::Uniform => Draws::Uniform(random, count),
            Pick::Missing => Draws::Missing(random, count),
            Pick::Zipf => {
                let zipf = Zipf::new(count);
                let mut listed = Vec::with_capacity(ops as usize);
                for _ in 0..ops {
                    listed.push(u32::try_from(zipf.scattered(&mut random))?);
                }
                Draws::Listed(listed.into_iter())
            }
        })
    }
}

impl Iterator for Draws {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Draws::Uniform(random, count) => Some(random.below(*count)),
            Draws::Missing(random, count) => Some(ABSENT + random.below(*count)),
            Draws::Listed(listed) => listed.next().map(u64::from),
        }
    }
}

/// How many gets are made unless asked otherwise.
fn default_ops(task: &Task) -> u64 {
    task.ops(task.count().min(4_000_000))
}

/// One get after the other, on `threads` threads.
pub fn gets<E: Engine>(task: &Task, threads: usize, pick: Pick) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let ops = default_ops(task).div_ceil(threads as u64);
    let (ready, go) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let phase = thread::scope(|scope| -> Result<Phase> {
        let work = |seed| {
            let draws = Draws::new(pick, seed, task.count(), ops);
            ready.wait();
            go.wait();
            get_each(task, &engine, draws?, ops, pick != Pick::Missing)
        };
        let spawned: Vec<_> =
            (0..threads as u64).map(|seed| scope.spawn(move || work(seed + 1))).collect();
        ready.wait();
        let meter = Meter::start();
        go.wait();
        let mut laps = Laps::start(task.cap())?;
        let mut others = Vec::new();
        for thread in spawned {
            others.push(thread.join().map_err(|_| "a thread panicked")??);
        }
        let phase = meter?.phase("gets", 0)?;
        others.iter().for_each(|other| laps.join(other));
        Ok(Phase { ops: laps.count(), ..phase }.with(&laps))
    })?;
    engine.close()?;
    Ok(vec![phase])
}

/// Gets `ops` keys, all of them stored or none.
fn get_each<E: Engine>(
    task: &Task,
    engine: &E,
    draws: Draws,
    ops: u64,
    stored: bool,
) -> Result<Laps> {
    let values = task.values();
    let mut reader = engine.reader()?;
    let mut laps = Laps::start(task.cap())?;
    let mut right = 0;
    for i in draws.take(ops as usize) {
        let key = task.key(i);
        reader.get(&key, |value| right += u64::from(values.fits(&key, value)))?;
        if !laps.lap() {
            break;
        }
    }
    let wrong = if stored { laps.count() - right } else { right };
    fail_if(wrong, "gets had the wrong result")?;
    Ok(laps)
}

/// 16 gets at once: a latency is that of all 16.
pub fn many<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let (values, count) = (task.values(), task.count());
    let mut random = Random::new(1);
    let mut reader = engine.reader()?;
    let mut keys = [Key::default(); MANY];
    let mut right = 0;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for _ in 0..default_ops(task).div_ceil(MANY as u64) {
        keys = keys.map(|_| task.key(random.below(count)));
        right += get_many(&mut reader, &keys, &values)?;
        if !laps.lap() {
            break;
        }
    }
    let gets = laps.count() * MANY as u64;
    let phase = meter.phase("gets", gets)?.with(&laps);
    fail_if(gets - right, "gets had the wrong result")?;
    drop(reader);
    engine.close()?;
    Ok(vec![phase])
}

fn get_many(reader: &mut impl Reader, keys: &[Key], values: &Values) -> Result<u64> {
    let mut right = 0;
    reader.get_many(keys, |i, value| {
        right += u64::from(keys.get(i).is_some_and(|key| values.fits(key, value)));
    })?;
    Ok(right)
}

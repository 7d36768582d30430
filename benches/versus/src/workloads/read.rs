//! Gets from a loaded database: one at a time, many at once, by several threads.

use super::{
    check::{self, fail_if},
    together::{joined, together},
};
use crate::{
    data::{ABSENT, Key, Random, Zipf, word_sum},
    engine::{Engine, Reader, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::hint::black_box;

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
    let count = task.count();
    task.ops(if task.big { 4 * count } else { count.min(4_000_000) })
}

/// One get after the other, on `threads` threads.
pub fn gets<E: Engine>(task: &Task, threads: usize, pick: Pick) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let threads = threads as u64;
    let ops = default_ops(task).div_ceil(threads);
    let draw = |thread| Draws::new(pick, thread + 1, task.count(), ops);
    let get = |_, draws| get_each(task, &engine, draws, ops, pick != Pick::Missing);
    let (phase, laps) = together(threads, draw, get)?;
    engine.close()?;
    Ok(vec![joined(task, "gets", phase, &laps)?])
}

/// Gets `ops` keys, all of them stored or none. Every byte of a large value is read, and the first
/// ones of others.
fn get_each<E: Engine>(
    task: &Task,
    engine: &E,
    draws: Draws,
    ops: u64,
    stored: bool,
) -> Result<Laps> {
    let values = task.values();
    let mut right = 0;
    let laps = engine.read(|reader| {
        let mut laps = Laps::start(task.cap())?;
        for i in draws.take(ops as usize) {
            let key = task.key(i);
            reader.get(&key, |value| {
                right += u64::from(values.fits(&key, value));
                if task.big {
                    black_box(word_sum(value));
                }
            })?;
            if !laps.lap() {
                break;
            }
        }
        Ok(laps)
    })?;
    let wrong = if stored { laps.count() - right } else { right };
    fail_if(wrong, "gets had the wrong result")?;
    Ok(laps)
}

/// 16 gets at once: a latency is that of all 16.
pub fn many<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let phase = engine.read(|reader| get_all(task, reader))?;
    engine.close()?;
    Ok(vec![phase])
}

fn get_all(task: &Task, reader: &mut impl Reader) -> Result<Phase> {
    let (values, count) = (task.values(), task.count());
    let mut random = Random::new(1);
    let mut keys = [Key::default(); MANY];
    let mut right = 0;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for _ in 0..default_ops(task).div_ceil(MANY as u64) {
        keys = keys.map(|_| task.key(random.below(count)));
        reader.get_many(&keys, |i, value| right += u64::from(values.fits(&keys[i], value)))?;
        if !laps.lap() {
            break;
        }
    }
    let gets = laps.count() * MANY as u64;
    let phase = meter.phase("gets", gets)?.with(&laps);
    fail_if(gets - right, "gets had the wrong result")?;
    Ok(phase)
}

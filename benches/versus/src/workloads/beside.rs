//! One thread reads while another writes over what is stored.

use super::{
    check::{self, fail_if},
    together::together,
};
use crate::{
    data::Random,
    engine::{Engine, Reader, Result},
    measure::{Laps, Phase},
    task::Task,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long both go on unless the cap is shorter, or the reads are counted.
const TIME: Duration = Duration::from_secs(20);

/// Reads and writes, both as fast as they can or writes at `pace` a second.
pub fn run<E: Engine>(task: &Task, pace: Option<u64>) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let done = AtomicBool::new(false);
    let act = |thread, ()| match thread {
        0 => {
            let laps = reads(task, &engine);
            done.store(true, Ordering::Release);
            laps
        }
        _ => writes(task, &engine, pace, &done),
    };
    let (phase, laps) = together(2, |_| Ok(()), act)?;
    check::holds(task, &engine, task.count())?;
    engine.close()?;
    let side = |name: &str, laps: &Laps| {
        let phase = Phase { phase: name.to_owned(), ops: laps.count(), ..phase.clone() };
        Phase { capped: false, ..phase.with(laps) }
    };
    let [reads, writes] = laps.as_slice() else { return Err("two threads".into()) };
    let bytes = writes.count() * task.entry_bytes();
    Ok(vec![side("reads", reads), side("writes", writes).wrote(bytes)])
}

fn reads<E: Engine>(task: &Task, engine: &E) -> Result<Laps> {
    let (values, count) = (task.values(), task.count());
    let mut random = Random::new(1);
    let mut right = 0;
    let mut laps = Laps::start(task.cap().min(TIME))?;
    for _ in 0..task.ops(u64::MAX) {
        let key = task.key(random.below(count));
        let found = |value: &[u8]| right += u64::from(values.fits(&key, value));
        engine.read(|reader| reader.get(&key, found))?;
        if !laps.lap() {
            break;
        }
    }
    fail_if(laps.count() - right, "gets had the wrong result")?;
    Ok(laps)
}

fn writes<E: Engine>(
    task: &Task,
    engine: &E,
    pace: Option<u64>,
    done: &AtomicBool,
) -> Result<Laps> {
    let (values, count) = (task.values(), task.count());
    let mut random = Random::new(2);
    let mut value = Vec::new();
    let start = Instant::now();
    let mut laps = Laps::start(task.cap())?;
    while laps.count() == 0 || !done.load(Ordering::Acquire) {
        if let Some(pace) = pace {
            let due = start.elapsed().as_secs_f64() * pace as f64;
            if laps.count() as f64 >= due {
                thread::sleep(Duration::from_micros(500));
                laps.skip();
                continue;
            }
        }
        let key = task.key(random.below(count));
        values.fill(&key, laps.count() + 1, &mut value);
        engine.put(&key, &value)?;
        laps.lap();
    }
    Ok(laps)
}

//! Scans of a loaded database, whole and short.

use super::check::{self, Total, fail_if};
use crate::{
    data::{FIRST, Random},
    engine::{Engine, Reader, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::{hint::black_box, time::Duration};

/// Entries of a short scan.
const SHORT: usize = 10;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forward,
    Backward,
}

/// Scans everything, up to five times or two seconds, and touches every byte of every value. A
/// latency is that of a whole scan.
pub fn all<E: Engine>(task: &Task, way: Way) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let (phase, totals) = engine.read(|reader| scans(task, reader, way))?;
    let expected = Total::expected(task);
    let wrong = totals.iter().filter(|&&total| total != expected).count();
    fail_if(wrong as u64, "scans did not add up to what was stored")?;
    engine.close()?;
    Ok(vec![phase])
}

fn scans(task: &Task, reader: &mut impl Reader, way: Way) -> Result<(Phase, Vec<Total>)> {
    let mut totals = Vec::new();
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap().min(Duration::from_secs(2)))?;
    for _ in 0..5 {
        let mut total = Total::default();
        let add = |key: &[u8], value: &[u8]| total.add(key, value);
        match way {
            Way::Forward => reader.scan(&FIRST, usize::MAX, add)?,
            Way::Backward => reader.scan_back(usize::MAX, add)?,
        }
        totals.push(total);
        if !laps.lap() {
            break;
        }
    }
    let rows = totals.iter().map(|total| total.rows).sum();
    let phase = meter.phase("entries", rows)?.with(&laps);
    Ok((Phase { capped: false, ..phase }, totals))
}

/// Seeks a stored key and reads ten entries from there on.
pub fn seeks<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    check::warm(task, &engine)?;
    let phase = engine.read(|reader| seek_each(task, reader))?;
    engine.close()?;
    Ok(vec![phase])
}

fn seek_each(task: &Task, reader: &mut impl Reader) -> Result<Phase> {
    let (values, count) = (task.values(), task.count());
    let mut random = Random::new(1);
    let mut wrong = 0;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for _ in 0..task.ops(count.min(1_000_000)) {
        let sought = task.key(random.below(count));
        let mut total = Total::default();
        let mut right = false;
        reader.scan(&sought, SHORT, |key, value| {
            right |= total.rows == 0 && check::is(key, &sought) && values.fits(&sought, value);
            total.add(key, value);
        })?;
        wrong += u64::from(!right || black_box(total).rows > SHORT as u64);
        if !laps.lap() {
            break;
        }
    }
    let phase = meter.phase("seeks", laps.count())?.with(&laps);
    fail_if(wrong, "short scans had a wrong result")?;
    Ok(phase)
}

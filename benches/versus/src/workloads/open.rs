//! How long it takes to open a database, after it was closed and after its process was killed.

use super::check;
use crate::{
    engine::{Engine, Reader, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use rustix::process::{Signal, getpid, kill_process};
use std::{fs, path::PathBuf};

/// Opens the loaded database and gets an entry.
pub fn clean<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let (engine, phase, found) = timed::<E>(task)?;
    check::fail_if(u64::from(!found), "gets had the wrong result")?;
    check::holds(task, &engine, task.count())?;
    engine.close()?;
    Ok(vec![phase])
}

/// Writes, and dies of it.
pub fn crash<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let values = task.values();
    let mut value = Vec::new();
    let mut laps = Laps::start(task.cap())?;
    for key in (0..task.count()).map(|i| task.key(i)) {
        values.fill(&key, 0, &mut value);
        engine.put(&key, &value)?;
        if !laps.lap() {
            break;
        }
    }
    fs::write(note(task), laps.count().to_string())?;
    kill_process(getpid(), Signal::KILL)?;
    Err("killed and still there".into())
}

/// Opens what [`crash`] left behind, and counts what is there of what was acknowledged.
pub fn killed<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let written: u64 = fs::read_to_string(note(task))?.parse()?;
    let (engine, mut phase, _) = timed::<E>(task)?;
    let rows = check::everything(task, &engine)?;
    phase.lost = Some(written.saturating_sub(rows));
    engine.close()?;
    Ok(vec![phase])
}

/// Where the number of acknowledged puts is kept: beside the database.
fn note(task: &Task) -> PathBuf {
    task.dir.with_extension("acknowledged")
}

/// Also says whether the entry was there.
fn timed<E: Engine>(task: &Task) -> Result<(E, Phase, bool)> {
    let (key, values) = (task.key(0), task.values());
    let mut found = false;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let engine: E = task.open()?;
    engine.read(|reader| reader.get(&key, |value| found = values.fits(&key, value)))?;
    laps.lap();
    let phase = meter.phase("open and get", 1)?.with(&laps);
    Ok((engine, phase, found))
}

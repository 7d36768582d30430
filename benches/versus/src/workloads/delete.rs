//! Nine tenths of the keys deleted in front of what is left, as in a queue: then to find the first
//! entry is to get past all that was deleted.

use super::check::{self, fail_if};
use crate::{
    data::{FIRST, Key},
    engine::{Engine, Reader, Result},
    measure::{Laps, Meter, Phase},
    task::Task,
};
use std::time::Duration;

/// How often, and how long at most, the first entry is sought.
const SEEKS: u64 = 200;
const SEEK_TIME: Duration = Duration::from_secs(5);

/// Deletes, seeks at once, lets the engine finish its work, and seeks again.
pub fn front<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let boundary = task.keys.boundary(0.9);
    let mut left = Left { count: task.count(), first: [u8::MAX; 16] };
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for key in (0..task.count()).map(|i| task.key(i)) {
        if key >= boundary || laps.ended() {
            left.first = left.first.min(key);
            continue;
        }
        engine.delete(&key)?;
        left.count -= 1;
        laps.lap();
    }
    let deleted = laps.count();
    let bytes = deleted * size_of::<Key>() as u64;
    let delete = meter.phase("delete", deleted)?.with(&laps).wrote(bytes);
    let at_once = seek_first(&engine, "first at once", &left)?;
    let meter = Meter::start()?;
    engine.settle()?;
    let drain = meter.phase("drain", 1)?.stored(&task.dir, left.count * task.entry_bytes())?;
    let drained = seek_first(&engine, "first when drained", &left)?;
    check::holds(task, &engine, left.count)?;
    engine.close()?;
    Ok(vec![delete, at_once, drain, drained])
}

/// What was not deleted.
struct Left {
    count: u64,
    first: Key,
}

fn seek_first<E: Engine>(engine: &E, name: &str, left: &Left) -> Result<Phase> {
    let mut wrong = 0;
    let meter = Meter::start()?;
    let mut laps = Laps::start(SEEK_TIME)?;
    for _ in 0..SEEKS {
        let mut right = left.count == 0;
        let found = |key: &[u8], _: &[u8]| right = check::is(key, &left.first);
        engine.read(|reader| reader.scan(&FIRST, 1, found))?;
        wrong += u64::from(!right);
        if !laps.lap() {
            break;
        }
    }
    let phase = Phase { capped: false, ..meter.phase(name, laps.count())?.with(&laps) };
    fail_if(wrong, "seeks found another entry than the first")?;
    Ok(phase)
}

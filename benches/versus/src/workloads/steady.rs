//! What a database is like to live with: a steady load for minutes, a snapshot that is held, a
//! thousand tables.

use super::check;
use crate::{
    data::Random,
    engine::{Engine, Result},
    measure::{DiskWatch, Laps, Meter, Phase},
    task::Task,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The share of what an engine can do at most that it is then asked for.
const SHARE: f64 = 0.8;
/// How much of the time goes into finding out what it can do at most, and the longest that takes.
const PEAK_SHARE: u32 = 5;
const PEAK_MAX: Duration = Duration::from_secs(60);
/// How long the writer sleeps at a time when it is ahead. It does not spin: on two cores that would
/// take half of the processor from the engine's own work.
const TICK: Duration = Duration::from_micros(50);
/// Tables of the workload of many.
const TABLES: usize = 1000;

/// Overwrites as fast as the engine takes them, then at 80 % of that rate, or at a rate asked for.
/// Latencies are counted from when a put was due, so that a stall counts for every put it held up.
pub fn overwrite<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let peak_time = (task.cap() / PEAK_SHARE).min(PEAK_MAX);
    let (watch, meter) = (DiskWatch::start(&task.dir), Meter::start()?);
    let mut writer = Writer::new(task, &engine);
    // What flows into empty buffers is no rate that lasts: the first half does not count.
    let mut laps = Laps::start(peak_time / 2)?;
    writer.flat_out(&mut laps)?;
    let mut laps = Laps::start(peak_time / 2)?;
    let start = Instant::now();
    writer.flat_out(&mut laps)?;
    let rate = laps.count() as f64 / start.elapsed().as_secs_f64();
    let peak =
        meter.phase("peak", writer.puts)?.with(&laps).wrote(task.entry_bytes() * writer.puts);
    let peak = Phase { ops: laps.count(), seconds: start.elapsed().as_secs_f64(), ..peak };
    let peak = watch.ended(peak.stored(&task.dir, task.count() * task.entry_bytes())?);

    let (watch, meter) = (DiskWatch::start(&task.dir), Meter::start()?);
    let before = writer.puts;
    let mut laps = Laps::start(task.cap())?;
    writer.paced(task.asked_rate.unwrap_or(rate * SHARE), &mut laps)?;
    let puts = writer.puts - before;
    let steady = meter.phase("steady", puts)?.with(&laps).wrote(puts * task.entry_bytes());
    let steady = Phase { capped: false, ..steady };
    let steady = watch.ended(steady.stored(&task.dir, task.count() * task.entry_bytes())?);
    engine.settle()?;
    check::holds(task, &engine, task.count())?;
    engine.close()?;
    Ok(vec![peak, steady])
}

/// Overwrites stored keys drawn at random.
struct Writer<'a, E> {
    task: &'a Task,
    engine: &'a E,
    random: Random,
    value: Vec<u8>,
    puts: u64,
}

impl<'a, E: Engine> Writer<'a, E> {
    fn new(task: &'a Task, engine: &'a E) -> Self {
        Self { task, engine, random: Random::new(3), value: Vec::new(), puts: 0 }
    }

    fn put(&mut self) -> Result<()> {
        self.puts += 1;
        let key = self.task.key(self.random.below(self.task.count()));
        self.task.values().fill(&key, self.puts, &mut self.value);
        self.engine.put(&key, &self.value)
    }

    fn flat_out(&mut self, laps: &mut Laps) -> Result<()> {
        loop {
            self.put()?;
            if !laps.lap() {
                return Ok(());
            }
        }
    }

    /// `count` puts as fast as the engine takes them, unless the time ends before.
    fn at_most(&mut self, count: u64, laps: &mut Laps) -> Result<()> {
        for _ in 0..count {
            self.put()?;
            if !laps.lap() {
                break;
            }
        }
        Ok(())
    }

    fn paced(&mut self, rate: f64, laps: &mut Laps) -> Result<()> {
        let start = Instant::now();
        for i in 0u64.. {
            let due = start + Duration::from_secs_f64(i as f64 / rate);
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                thread::sleep(early + TICK);
            }
            self.put()?;
            if !laps.lap_since(due) {
                break;
            }
        }
        Ok(())
    }
}

/// Overwrites everything some `times`, or at the rate asked for until the time ends, while a
/// snapshot is held that was taken before, and lets go of it.
pub fn held<E: Engine>(task: &Task, name: &str, times: u64) -> Result<Vec<Phase>> {
    let engine: E = task.open()?;
    let live = task.count() * task.entry_bytes();
    let (held, mut writer) = engine.hold(|| {
        let (watch, meter) = (DiskWatch::start(&task.dir), Meter::start()?);
        let mut laps = Laps::start(task.cap())?;
        let mut writer = Writer::new(task, &engine);
        match task.asked_rate {
            Some(rate) => writer.paced(rate, &mut laps)?,
            None => writer.at_most(task.ops(times * task.count()), &mut laps)?,
        }
        engine.settle()?;
        let phase = meter.phase(name, writer.puts)?.with(&laps);
        let phase = Phase { capped: phase.capped && task.asked_rate.is_none(), ..phase };
        let phase = phase.wrote(writer.puts * task.entry_bytes()).stored(&task.dir, live)?;
        Ok((watch.ended(phase), writer))
    })?;
    // Whoever collects what the snapshot held does so when there is something to do.
    let (watch, meter) = (DiskWatch::start(&task.dir), Meter::start()?);
    let before = writer.puts;
    let mut laps = Laps::start(task.cap())?;
    writer.at_most(task.ops(task.count()), &mut laps)?;
    engine.settle()?;
    let puts = writer.puts - before;
    let phase = meter.phase("released", puts)?.with(&laps);
    let phase = phase.wrote(puts * task.entry_bytes()).stored(&task.dir, live)?;
    let released = watch.ended(phase);
    check::holds(task, &engine, task.count())?;
    engine.close()?;
    Ok(vec![held, released])
}

/// A thousand tables: made, written to in turn, opened again, read from.
pub fn tables<E: Engine>(task: &Task) -> Result<Vec<Phase>> {
    let setup = task.setup();
    let values = task.values();
    let meter = Meter::start()?;
    let engine = E::open_tables(&task.dir, &setup, TABLES)?;
    let made = meter.phase("made", TABLES as u64)?;
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    let mut value = Vec::new();
    for i in 0..task.ops(task.count()) {
        let key = task.key(i);
        values.fill(&key, 0, &mut value);
        engine.put_to(i as usize % TABLES, &key, &value)?;
        if !laps.lap() {
            break;
        }
    }
    let puts = laps.count();
    let filled = meter.phase("filled", puts)?.with(&laps).wrote(puts * task.entry_bytes());
    engine.close()?;
    let meter = Meter::start()?;
    let engine = E::open_tables(&task.dir, &setup, TABLES)?;
    let opened = meter.phase("opened", TABLES as u64)?;
    let mut random = Random::new(5);
    let mut right = 0;
    let gets = (puts / 4).max(1);
    let meter = Meter::start()?;
    let mut laps = Laps::start(task.cap())?;
    for _ in 0..gets {
        let i = random.below(puts);
        let key = task.key(i);
        let found = |value: &[u8]| right += u64::from(values.fits(&key, value));
        engine.get_from(i as usize % TABLES, &key, found)?;
        if !laps.lap() {
            break;
        }
    }
    check::fail_if(laps.count() - right, "gets had the wrong result")?;
    let read = meter.phase("read", laps.count())?.with(&laps);
    let read = read.stored(&task.dir, puts * task.entry_bytes())?;
    engine.close()?;
    Ok(vec![made, filled, opened, read])
}
